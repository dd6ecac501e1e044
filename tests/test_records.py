"""The store: atomic writes, invalid records refused by name, old records upgraded."""

from __future__ import annotations

import errno
import json
import os
from copy import deepcopy
from pathlib import Path

import pytest
from record_factory import make_record, make_unfinished

from bench.records.files import StorageError, atomic_write
from bench.records.store import RECORD, RecordError, read_record, read_records, run_folder, write_record
from bench.records.upgrade import ADDED, upgraded_record, upgraded_settings


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


def test_damaged_records_are_refused_by_name(tmp_path: Path) -> None:
    write_record(tmp_path, make_record())
    path = tmp_path / RECORD
    text = path.read_text()
    seed = '"seed": 0'
    for damaged, message in (
        (text[: len(text) // 2], "expected a record in JSON"),
        ("[]", "expected schema version 1, found None"),
        (text.replace('"schema_version": 1', '"schema_version": 99'), "found 99"),
        (text.replace(seed, '"seed": "zero"'), "seed: "),
        (text.replace(seed, f'{seed}, "extra": 1'), "extra: "),
        (text.replace('"settings": {', '"settings": 3, "unused": {'), "settings: "),
    ):
        path.write_text(damaged)
        with pytest.raises(RecordError) as error:
            read_record(path)
        assert all(part in str(error.value) for part in (message, str(path), "run it again")), message


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_record(tmp_path, make_record())
    before = (tmp_path / RECORD).read_text()

    def half(path: Path) -> None:
        path.write_text(before[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match="no space left on device; free some space there"):
        atomic_write(tmp_path / RECORD, half)
    assert (tmp_path / RECORD).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_nothing_is_formatted(tmp_path: Path) -> None:
    write_record(tmp_path, make_record(test={"plain": {"accuracy": 1 / 3}}))
    assert json.loads((tmp_path / RECORD).read_text())["test"]["plain"]["accuracy"] == 1 / 3


def test_settings_added_later_are_what_the_code_did_before() -> None:
    # Written out, so that neither a new default nor an edit of the table changes what an old record says.
    first = {
        "train": {"epochs": 12, "cosines_every": 5},
        "data": {"image_size": None, "split_seed": 0},
        "backbone": {"name": "small_dense", "weights": "none"},
        "heads": {"name": "conv", "rule": "published"},
        "arch": {"solver": "euler"},
        "weighting": {"c": 0.4},
    }
    before = deepcopy(first)
    assert upgraded_settings(first, "normal", "cagrad") == {
        "train": {"epochs": 12, "cosines_every": 5, "accumulate": 1, "clip_norm": 0.0},
        "data": {
            "image_size": None,
            "split_seed": 0,
            "split_per_seed": False,
            "splits": "",
            "protocol": "heldout",
            "augment": False,
            "metrics_batch": 0,
        },
        "backbone": {"name": "small_dense", "weights": "none", "bottleneck": False},
        "heads": {"name": "conv", "rule": "published"},
        "arch": {"solver": "euler", "tolerance": 1e-5, "position_optimizer": "plain", "updates": "joint"},
        "weighting": {"c": 0.4, "every": 1, "momentum": 0.0, "grad_space": "shared", "variant": "paper"},
        "compute": {
            "precision": "fp32",
            "channels_last": False,
            "compile": False,
            "tf32": False,
            "backward": "looped",
        },
    }
    assert first == before
    assert upgraded_settings({"arch": {}}, "hps", "ew")["arch"] == {}


def test_old_values_that_depend_on_other_settings() -> None:
    assert upgraded_settings({"arch": {"solver": "dopri5"}}, "normal", "ew")["arch"]["tolerance"] == 1e-7
    assert upgraded_settings({}, "hps", "ew", device="cuda: a GPU")["compute"]["tf32"] is True
    solved_each_step, rarely = (
        upgraded_settings({"weighting": {"update_every": k}}, "hps", "nash_mtl")["weighting"] for k in (1, 5)
    )
    assert solved_each_step == {"every": 1, "momentum": 0.0, "grad_space": "shared"}
    assert rarely == {**solved_each_step, "update_every": 5}


def test_old_options_that_became_variants() -> None:
    def weighting(key: str, **old: str) -> dict[str, object]:
        upgraded = upgraded_settings({"weighting": old}, "hps", key)["weighting"]
        return {name: value for name, value in upgraded.items() if name not in ADDED["weighting"]}

    assert weighting("graddrop") == {"variant": "paper"}
    assert weighting("stch", objective="log") == {"variant": "released"}
    assert weighting("stch", objective="plain") == {"variant": "paper"}
    assert weighting("moco", normalisation="none", simplex="projection") == {"variant": "paper"}
    mixed = {"normalisation": "loss", "simplex": "projection"}
    assert weighting("moco", **mixed) == {"variant": "paper", **mixed}  # no run of today


def test_old_wording_of_the_selection_rule() -> None:
    old = "highest mean log gain over the constant answer on validation"
    raw = {"selected": {"epoch": 3, "rule": old, "score": 0.5}, "settings": {}}
    assert upgraded_record(raw)["selected"]["rule"] == "highest mean log gain over the dummy baseline on validation"
    assert raw["selected"]["rule"] == old
    for damaged in ({}, {"settings": [], "selected": [], "environment": 1}, {"settings": {"train": 1}}):
        assert upgraded_record(damaged) == damaged


@pytest.mark.parametrize("status", ["done", "diverged"])
def test_a_finished_record_is_not_replaced_by_a_failed_one(tmp_path: Path, status: str) -> None:
    failed = make_record(status="failed", reason="killed")
    write_record(tmp_path, failed)
    finished = make_record(status=status)
    assert write_record(tmp_path, finished) == finished
    assert write_record(tmp_path, failed) == finished == read_record(tmp_path / RECORD)
    other = failed.model_copy(update={"settings": {**failed.settings, "train": {"epochs": 77}}})
    assert write_record(tmp_path, other) == other
    assert read_record(tmp_path / RECORD).status == "failed"
