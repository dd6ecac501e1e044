"""The store: whole files or none, and records that can't be trusted are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from record_factory import make_record, make_unfinished

from bench.records.store import RECORD, RecordError, atomic_write, read_record, read_records, run_folder, write_record


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    for seed, record in enumerate([make_record(), make_record(test={"plain": {"accuracy": 0.1 + 0.2}})]):
        write_record(tmp_path / str(seed), record)
        assert read_record(tmp_path / str(seed) / RECORD) == record


def test_infinite_and_missing_numbers_survive(tmp_path: Path) -> None:
    write_record(tmp_path, make_unfinished("diverged", "loss of task plain is inf", seconds=float("inf")))
    assert read_record(tmp_path / RECORD).seconds == float("inf")


def test_all_records_below_a_folder_in_the_order_of_the_tables(tmp_path: Path) -> None:
    records = [make_record(method=method, seed=seed) for method in ("NORMAL", "EW", "CAGrad") for seed in (1, 0)]
    for record in records:
        write_record(run_folder(tmp_path, record.data, record.variant, record.seed), record)
    found = [(record.method, record.seed) for record in read_records(tmp_path)]
    assert found == [("ew", 0), ("ew", 1), ("cagrad", 0), ("cagrad", 1), ("normal", 0), ("normal", 1)]
    assert read_records(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "expected a record in JSON"),
        (lambda text: "[]", "expected schema version 1, found None"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 99'), "found 99"),
        (lambda text: text.replace('"seed": 0', '"seed": "zero"'), "seed: "),
        (lambda text: text.replace('"seed": 0', '"seed": 0, "extra": 1'), "extra: "),
    ],
)
def test_damaged_records_are_refused_by_name(damage, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write_record(tmp_path, make_record())
    path = tmp_path / RECORD
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError) as fault:
        read_record(path)
    assert message in str(fault.value) and str(path) in str(fault.value) and "run it again" in str(fault.value)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_record(tmp_path, make_record())
    before = (tmp_path / RECORD).read_text()

    def half(path: Path) -> None:
        path.write_text(before[:10])
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        atomic_write(tmp_path / RECORD, half)
    assert (tmp_path / RECORD).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_nothing_is_formatted(tmp_path: Path) -> None:
    write_record(tmp_path, make_record(test={"plain": {"accuracy": 1 / 3}}))
    assert json.loads((tmp_path / RECORD).read_text())["test"]["plain"]["accuracy"] == 1 / 3
