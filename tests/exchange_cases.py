"""Made-up runs, and calls of bench.runs, for the tests of what is merged, checked and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record

from bench import runs
from bench.records.record import Record

MARKS = {"train": "a", "validation": "b", "test": "c", "whole": "d"}
VERSIONS = {"engine": 1, "weighting": 1, "architecture": 1, "problem": 4, "maker": 2}
HERE = {"torch": "2.14", "device": "cpu", "cpu": "one", "threads": 1, "commit": "0123abc", "python": "3.11"}


def made(method: str = "EW", seed: int = 0, **fields: Any) -> Record:
    epochs = fields.get("epochs", 10)
    return make_record(
        "digits",
        method,
        seed,
        **{"fingerprint": MARKS, "versions": VERSIONS, "environment": HERE, "steps": 10 * epochs} | fields,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert runs.main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert runs.main([str(word) for word in words]) == 0
    return capsys.readouterr().out
