"""Made-up runs, and calls of bench.runs, for the tests of what is merged, checked and exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from record_factory import make_record
from record_factory import write_runs as write_made_runs

from bench import runs
from bench.records.record import Record
from bench.records.store import CURVE, run_folder

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


def write_runs(results: Path, records: Sequence[Record]) -> None:
    """The records in their folders, with curves that have their scores on validation."""
    write_made_runs(results, records)
    for record in records:
        path = run_folder(results, *record.key) / CURVE
        head, *rows = [line.split(",") for line in path.read_text().splitlines()]
        scores = {
            f"validation/{task.key}/{metric.key}": record.validation.get(task.key, {}).get(metric.key)
            for task in record.tasks
            for metric in task.metrics
        }
        if record.selected is not None:
            rows[record.selected.epoch - 1][head.index("score")] = repr(record.selected.score)
        lines = [
            [*head, *scores],
            *([*row, *("" if one is None else repr(one) for one in scores.values())] for row in rows),
        ]
        path.write_text("".join(f"{','.join(line)}\n" for line in lines))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert runs.main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert runs.main([str(word) for word in words]) == 0
    return capsys.readouterr().out
