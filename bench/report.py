"""Makes tables and figures from the records of runs: python -m bench.report"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console

from bench import ROOT
from bench.lookup import UnknownName
from bench.records.store import RecordError
from bench.reporting.choose import chosen_records
from bench.reporting.write import write_reports


def main(argv: Sequence[str] | None = None) -> int:
    """Writes the reports and says where they are; 2 where there is nothing to report or a record is unreadable."""
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the records (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "reports", help="folder for the reports (%(default)s)")
    parser.add_argument("--spread", action="store_true", help="print the standard deviation over seeds beside means")
    parser.add_argument("--data", nargs="+", default=[], metavar="NAME", help="only these data sets")
    options = parser.parse_args(argv)
    try:
        records = chosen_records(options.results, options.data)
        files = write_reports(options.results, records, options.out, options.spread)
    except (RecordError, UnknownName) as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(str(error), style="red")
        return 2
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(str(files[0]), style="bold")
    for folder, inside in groupby(files[1:], key=lambda path: path.parent):
        console.print(f"{folder}: {', '.join(path.name for path in inside)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
