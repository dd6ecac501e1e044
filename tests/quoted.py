"""Tables of the README and the docs that are copied from reports.

A page has each between two comments, the first with the path of the report:

    <!-- table: reports/reference/trust/problems.md -->
    <!-- end of table -->

With RENEW_DOCS=1 in the environment, tests/test_readme.py copies them again.
"""

from __future__ import annotations

import re

from bench import ROOT

RENEW = "RENEW_DOCS=1 python -m pytest tests/test_readme.py"
_BLOCK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def renewed(page: str) -> str:
    """The page with today's tables, without the marks of their notes."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{table_of(found[2])}\n{found[3]}", page)


def table_of(path: str) -> str:
    """The lines of the table in a report."""
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    return "".join(f"{re.sub(r'<sup>.*?</sup>', '', line)}\n" for line in lines if line.startswith("|"))
