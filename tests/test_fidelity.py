"""docs/fidelity.md has a section for every method, in the order of the registry and with the same rows."""

from __future__ import annotations

import re

from bench import ROOT
from methods import METHODS

TEXT = (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8")
ROWS = ["gradients", "heads", "scale and clipping", "settings", "interval"]


def sections() -> dict[str, str]:
    """Text by key of the method."""
    of_methods = TEXT.partition("\n## ")[0]
    parts = re.split(r"^### `(\w+)`: ", of_methods, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_every_method_has_a_section_in_the_order_of_the_registry() -> None:
    assert list(sections()) == list(METHODS)


def test_every_section_compares_paper_released_code_and_ours() -> None:
    for key, text in sections().items():
        assert text.splitlines()[0] == METHODS[key].label, key
        lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
        assert lines[0] == ["", "paper", "released code", "here"], key
        assert [line[0] for line in lines if line[0] in ROWS] == ROWS, key  # others may stand between them
        assert all(len(line) == 4 for line in lines), key
