"""The store: atomic writes, invalid records refused by name, old records upgraded."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from record_factory import even_scores, make_record, make_unfinished

from bench.records.all_records import read_records
from bench.records.environment import describe_environment
from bench.records.files import StorageError, atomic_write
from bench.records.reading import LARGEST
from bench.records.record import Record
from bench.records.store import (
    RECORD,
    BadRecord,
    RecordError,
    read_record,
    read_run,
    run_folder,
    set_aside,
    write_record,
)
from bench.records.upgrade import ADDED, upgraded_record, upgraded_settings


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    for seed, record in enumerate([make_record(), make_record(test=even_scores("digits", 1 / 3))]):
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


def changed(**parts: Any) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw.update(parts)


def scored(value: object) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw["test"]["plain"].update(accuracy=value)


def selected(score: object) -> Callable[[dict[str, Any]], None]:
    return lambda raw: raw["selected"].update(score=score)


def by_task(**parts: object) -> Callable[[dict[str, Any]], None]:
    """The same selected epoch for each task, but for these parts."""

    def change(raw: dict[str, Any]) -> None:
        raw["selected_by_task"] = {task["key"]: {**raw["selected"], **parts} for task in raw["tasks"]}

    return change


def apart(raw: dict[str, Any]) -> None:
    """Scores of tasks whose mean is right, but two of which are not the accuracies."""
    by_task()(raw)
    for task, selected in raw["selected_by_task"].items():
        selected["score"] = raw["validation"][task]["accuracy"] + {"plain": 0.01, "colour": -0.01}.get(task, 0)


FAULTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "seed": (changed(seed="zero"), "seed: input should be a valid integer"),
    "extra": (changed(extra=1), "extra: "),
    "settings": (changed(settings=3), "settings: "),
    "accuracy": (scored(7.5), "test.plain.accuracy: expected a share, 0.93 for 93 %, found 7.5"),
    "below": (scored(-0.1), "test.plain.accuracy: expected a share"),
    "infinite": (scored("Infinity"), "test.plain.accuracy: expected a share"),
    "no_scores": (changed(test={}), "test.plain: expected a score for accuracy, since the run is done, found none"),
    "no_epoch": (changed(selected=None), "selected: expected the selected epoch of a run that is done, found none"),
    "epoch": (changed(epochs=3), "selected.epoch: expected one of the 3 epochs, found 8"),
    "epochs": (changed(epochs=-1), "epochs: "),
    "more": (changed(epochs=12), "epochs: expected 10, as settings.train.epochs says, found 12 of a run that is done"),
    "fewer": (changed(epochs=9), "epochs: expected 10, as settings.train.epochs says, found 9 of a run that is done"),
    "last": (by_task(epoch=7), "selected.epoch: expected 7, the last of selected_by_task, found 8"),
    "mean": (by_task(score=0.1), "selected.score: expected 0.100000, the mean of selected_by_task, found "),
    "apart": (apart, "selected_by_task.plain.score: expected "),
    "selected": (selected(0.99), "selected.score: expected "),
    "best": (selected("Infinity"), "selected.score: expected a number, found inf"),
    "seconds": (changed(seconds="NaN"), "seconds: "),
    "no_tasks": (changed(tasks=[]), "tasks: "),
    "twice": (lambda raw: raw["tasks"].append(raw["tasks"][0]), "tasks: expected each key once, found 'plain' 2 times"),
    "no_task": (changed(validation={"x": {}}), "validation.x: expected a task of the record, found another"),
    "no_metric": (changed(last_test={"plain": {"x": 1}}), "last_test.plain.x: expected a task and a metric"),
    "position": (changed(positions={"x": 1}), "positions: expected tasks of the record, found 'x'"),
    "digest": (changed(splits={"digest": []}), "splits.digest: expected a text, found []"),
    "rule": (changed(selected={"epoch": 1, "rule": [], "score": 1}), "selected.rule: "),
    "data": (changed(data="../../../esc"), "data: expected a name of at most"),
    "variant": (changed(variant=".."), "variant: expected a name of at most"),
    "long": (changed(variant="x" * 150), "variant: "),
    "task": (lambda raw: raw["tasks"][0].update(key="a/b"), "tasks.0.key: expected a name of at most"),
    "metric": (lambda raw: raw["tasks"][0]["metrics"][0].update(key="/x"), "tasks.0.metrics.0.key: expected a name"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_record_that_contradicts_itself_is_refused(name: str, tmp_path: Path) -> None:
    change, message = FAULTS[name]
    raw = make_record().model_dump(mode="json")
    change(raw)
    (tmp_path / RECORD).write_text(json.dumps(raw))
    assert message in refusal(tmp_path / RECORD)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version": 1, "status"', "expected JSON, found "),
        (b"[]", "expected a record, found JSON without a schema version"),
        (b'{"seed": NaN}', "expected numbers in JSON, found NaN"),
        (b'{"seed": -Infinity}', "expected numbers in JSON, found -Infinity"),
        (b'{"seed": 1, "seed": 2}', "expected each key once, found 'seed' again"),
        (b'{"seed": ' + b"9" * 5_000 + b"}", "expected integers of at most 20 digits, found one of 5,000"),
        (b'{"seed": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "expected at most 20 objects and lists within each"),
        (b'{"seed": ' + b"[" * 50 + b"]" * 50 + b"}", "expected at most 20 objects and lists within each other"),
        (b"\xff{}", "expected text in UTF-8, found other bytes (invalid start byte)"),
        (b'{"reason": "\\ud800"}', "expected text, found half of a surrogate pair"),
        (b" " * (LARGEST + 1), "expected at most 16,777,216 bytes, found more"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_damaged_json_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / RECORD).write_bytes(content)
    assert message in refusal(tmp_path / RECORD)


def test_what_is_no_file_is_refused_at_once(tmp_path: Path) -> None:
    for name, make, message in (
        ("folder", Path.mkdir, "expected a file, found a folder"),
        ("pipe", os.mkfifo, "expected a file, found a pipe or a device"),
        ("loop", lambda path: path.symlink_to(path), "expected a file, found a link that leads nowhere"),
        ("lost", lambda path: path.symlink_to("nowhere"), "expected a file, found a link that leads nowhere"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        make(folder / RECORD)
        with pytest.raises(BadRecord, match=message):
            read_run(folder)


def refusal(path: Path) -> str:
    """Why a record is refused: one line, which names the file and what happens to it."""
    with pytest.raises(BadRecord) as error:
        read_record(path)
    line = str(error.value)
    assert "\n" not in line and line.startswith(f"{path}: ") and "trains this run again" in line and len(line) < 500
    return line


def test_a_record_of_another_version_is_not_bad(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"schema_version": 99}')
    with pytest.raises(RecordError, match="expected schema version 1, found 99; read it with the version") as error:
        read_record(tmp_path / RECORD)
    assert not isinstance(error.value, BadRecord)


def test_a_record_is_of_the_run_that_its_folder_names(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "digits", "ew", 0)
    assert read_run(folder) is None
    for other in ({"seed": 5}, {"variant": "ew@1"}, {"data": "rooms"}):
        write_record(folder, make_record(**{"data": "digits", **other}))
        with pytest.raises(BadRecord, match="expected the run that its folder names, found "):
            read_run(folder)
    write_record(folder, make_record())
    assert read_run(folder) == make_record()


def test_every_bad_record_and_every_unreadable_folder_is_named(tmp_path: Path) -> None:
    for seed in range(4):
        write_record(run_folder(tmp_path, "digits", "ew", seed), make_record(seed=seed))
    (run_folder(tmp_path, "digits", "ew", 1) / RECORD).write_text("{")
    write_record(run_folder(tmp_path, "digits", "ew", 2), make_record(seed=5))
    loops = [tmp_path / "digits" / "ew" / "seed-9", tmp_path / "digits" / "uw", tmp_path / "rooms"]
    for loop in loops:
        loop.symlink_to(loop)
    (tmp_path / "digits" / "ew" / "seed-7").write_text("")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(RecordError) as error:
        read_records(tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 6
    for path in (*loops, *(tmp_path / "digits" / "ew" / f"seed-{seed}" for seed in (1, 2, 7))):
        assert len([line for line in lines if str(path) in line]) == 1, path
    with pytest.raises(RecordError, match="expected a folder"):
        read_records(tmp_path / "notes.txt")


def test_a_bad_record_is_moved_aside_and_never_lost(tmp_path: Path) -> None:
    folder = run_folder(tmp_path, "digits", "ew", 0)
    write_record(folder, make_record())
    assert set_aside(folder) is None and read_run(folder) == make_record()
    for number, text in enumerate(("{", "[", "")):
        (folder / RECORD).write_text(text)
        assert set_aside(folder) == folder / f"{RECORD}.bad{number or ''}"
        assert set_aside(folder) is None
    assert [(folder / f"{RECORD}.bad{number}").read_text() for number in ("", 1, 2)] == ["{", "[", ""]
    (folder / RECORD).write_text('{"schema_version": 2}')
    with pytest.raises(RecordError):
        set_aside(folder)


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    write_record(tmp_path, make_record())
    before = (tmp_path / RECORD).read_text()

    def half(path: Path) -> None:
        path.write_text(before[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(StorageError, match=r"expected free space, found .* make room there"):
        atomic_write(tmp_path / RECORD, half)
    assert (tmp_path / RECORD).read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]


def test_nothing_is_formatted(tmp_path: Path) -> None:
    write_record(tmp_path, make_record(test=even_scores("digits", 1 / 3)))
    assert json.loads((tmp_path / RECORD).read_text())["test"]["plain"]["accuracy"] == 0.9 * (1 / 3)


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
            "tasks": [],
            "train_share": 1.0,
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
            "cudnn_benchmark": False,
            "cuda_graphs": False,
            "backward": "looped",
            "processes": 1,
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


def test_the_commit_says_whether_the_code_was_changed(tmp_path: Path) -> None:
    """Not whether the records and reports were that a run writes."""

    def git(*words: str) -> None:
        author = ["-c", "user.name=A", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=tmp_path, check=True, capture_output=True)

    def commit() -> str:
        describe_environment.cache_clear()
        return describe_environment(tmp_path)["commit"]

    assert commit() == ""
    paths = [tmp_path / name for name in ("code.py", "results/record.json", "reports/README.md")]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_text("first")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    clean = commit()
    assert len(clean) == 40
    paths[1].write_text("second")
    paths[2].unlink()
    assert commit() == clean
    paths[0].write_text("second")
    assert commit() == f"{clean}+changes"


WRONG_NUMBERS = [
    ("seed", False), ("seed", 0.0), ("seed", "0"), ("seed", -1), ("seed", 2**32), ("epochs", "10"), ("steps", 100.0),
    ("versions", {"engine": True}), ("versions", {"engine": "1"}), ("versions", {"engine": 1.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG_NUMBERS)
def test_whole_numbers_are_whole_numbers(name: str, value: object) -> None:
    with pytest.raises(ValidationError, match=name):
        Record.model_validate({**make_record().model_dump(), name: value})
