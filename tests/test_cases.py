"""Cases in one test: all run, and the one that fails is named."""

from __future__ import annotations

import re

import pytest
from cases import for_every


def test_all_cases_run_and_a_failure_names_its_own() -> None:
    seen: list[tuple[str, int]] = []

    @for_every("letter", "ab")
    @for_every("number, square", [(2, 4), (3, 9), (4, 15)])
    def check(letter: str, number: int, square: int) -> None:
        seen.append((letter, number))
        assert number**2 == square, "no square"

    with pytest.raises(AssertionError, match=re.escape("{'letter': 'a'}: {'number': 4, 'square': 15}: no square")):
        check()
    assert seen == [("a", 2), ("a", 3), ("a", 4)]
