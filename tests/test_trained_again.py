"""Runs that are trained again: the old record stays until the new one is whole, and only the right ones are trained."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from data_trees import write_digits

from bench import run
from bench.cli import training
from bench.inventory.states import find_runs, look_at
from bench.launch.config import LaunchConfig
from bench.launch.local import run_locally
from bench.launch.messages import Event
from bench.launch.run_queue import clear_finished
from bench.records.again import AGAIN, has_ended_again, replace_old
from bench.records.all_records import read_records
from bench.records.claim import holder_of
from bench.records.items import ITEMS, read_items
from bench.records.record import Record
from bench.records.store import CHECKPOINT, CURVE, RECORD, RecordError, read_record, read_run, run_folder, write_record
from bench.spec.resolve import RunSpec, resolve

QUICK = {"train.epochs": 2, "train.batch_size": 8}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results with EW and UW, two seeds each, which no test may change."""
    results = tmp_path_factory.mktemp("trained")
    run_locally([spec(method, seed) for method in ("ew", "uw") for seed in (0, 1)], config(data, results), 1, _ignore)
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    for source in trained.rglob("*"):
        target = tmp_path / source.relative_to(trained)
        if source.is_dir():
            target.mkdir(exist_ok=True)
        else:
            target.write_bytes(source.read_bytes())
    return tmp_path


def _ignore(event: Event) -> None:
    del event


def spec(method: str, seed: int = 0) -> RunSpec:
    return resolve("digits", method, seed=seed, assignments=QUICK)


def config(data: Path, results: Path, again: Sequence[RunSpec] = (), retries: int = 2) -> LaunchConfig:
    keys = frozenset(one.key for one in again)
    return LaunchConfig({"digits": data}, results, "cpu", 1, expiry=5, again=keys, retries=retries)


def folder(results: Path, method: str, seed: int = 0) -> Path:
    return run_folder(results, *spec(method, seed).key)


def stamps(results: Path) -> dict[str, int]:
    """When each record was written, by method and seed."""
    return {
        f"{method} {seed}": (folder(results, method, seed) / RECORD).stat().st_mtime_ns
        for method in ("ew", "uw")
        for seed in (0, 1)
    }


def command(results: Path, data: Path, *options: str) -> int:
    words = ["--method", "ew", "uw", "--data", "digits", "--seeds", "0", "1", "--epochs", "2"]
    where = ["--results", str(results), "--data-root", str(data.parent), "--device", "cpu", "--jobs", "1"]
    return run.main([*words, "--set", "train.batch_size=8", *where, *options])


def changed(before: dict[str, int], results: Path) -> set[str]:
    return {name for name, stamp in stamps(results).items() if stamp != before[name]}


def of_older_engine(place: Path) -> None:
    """Changes the record as if an older version of the engine had made it."""
    record = read_record(place / RECORD)
    write_record(place, record.model_copy(update={"versions": {**record.versions, "engine": 0}}))


def test_stale_trains_exactly_the_runs_of_other_versions(
    results: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_older_engine(folder(results, "uw", 1))
    before = stamps(results)
    assert command(results, data, "--dry-run") == 0
    assert "made with version 0 of the engine (today 1). Train again with --stale." in capsys.readouterr().out
    assert command(results, data, "--stale", "--dry-run") == 0
    assert "1 runs to train (1 of them again), 3 already kept." in capsys.readouterr().out
    assert not changed(before, results)
    old = read_record(folder(results, "uw", 1) / RECORD)
    assert command(results, data, "--stale") == 0
    assert changed(before, results) == {"uw 1"}
    new = read_run(folder(results, "uw", 1))
    assert new is not None and new.versions["engine"] == 1 and new.test == old.test
    assert {path.name for path in folder(results, "uw", 1).iterdir()} == {RECORD, CURVE, ITEMS}
    capsys.readouterr()
    assert command(results, data, "--stale") == 0
    assert "nothing to train" in capsys.readouterr().out


@pytest.mark.slow
def test_force_goes_on_where_it_was_and_then_everything_is_kept(
    results: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(results)
    monkeypatch.setattr(training, "run_locally", interrupted_after(1))
    assert command(results, data, "--force") == 130
    first = changed(before, results)
    assert len(first) == 1
    partly = [name for name in ("ew", "uw") for seed in (0, 1) if (folder(results, name, seed) / AGAIN).is_dir()]
    assert len(partly) == 1 and all(read_run(folder(results, *_parts(name))) for name in before)
    capsys.readouterr()
    assert command(results, data, "--dry-run") == 0  # a plain call keeps all
    assert "1 kept run is partly trained again; --force goes on with that." in capsys.readouterr().out
    monkeypatch.undo()
    middle = stamps(results)
    assert command(results, data, "--force") == 0
    said = capsys.readouterr().out
    assert "--force goes on: 1 runs were trained again before it was interrupted." in said
    assert "3 runs to train (3 of them again), 1 already kept" in said
    assert changed(middle, results) == set(before) - first
    assert not list(results.glob(".force-*")) and not list(results.rglob(AGAIN))
    assert command(results, data) == 0
    assert "nothing to train" in capsys.readouterr().out
    # The numbers are the same, with or without an interruption.
    assert command(results, data, "--force") == 0
    assert changed(middle, results) == set(before)


def _parts(name: str) -> tuple[str, int]:
    method, seed = name.split()
    return method, int(seed)


def interrupted_after(count: int) -> Callable[..., None]:
    """`run_locally`, until so many runs have ended and the next has finished an epoch; then as Ctrl-C ends it."""

    def launch(specs: Sequence[RunSpec], launched: LaunchConfig, jobs: int, follow: Callable[[Event], None]) -> None:
        ended: list[Event] = []

        def act(event: Event) -> None:
            follow(event)
            ended.extend([event] if event.kind == "end" else [])
            if len(ended) == count and event.kind == "epoch" and event.epochs == 1:
                raise KeyboardInterrupt

        run_locally(specs, launched, jobs, act)

    return launch


def test_a_kill_in_the_middle_leaves_the_old_record_and_its_files(results: Path, data: Path) -> None:
    place = folder(results, "ew")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    seen: list[str] = []

    def kill(event: Event) -> None:
        if event.kind == "epoch" and event.epochs == 1:
            holder = holder_of(place)
            assert holder is not None and holder.progress is not None
            found = look_at(place)
            assert found is not None and found.state == "running" and found.record is not None
            seen.append(found.note)
            os.kill(holder.process, signal.SIGKILL)

    events: list[Event] = []

    def act(event: Event) -> None:
        events.append(event)
        kill(event)

    run_locally([spec("ew")], config(data, results, [spec("ew")], retries=0), 1, act)
    assert seen and "epoch 1 of 2" in seen[0] and seen[0].endswith("its record stays until then")
    assert [event.record.status for event in events if event.record] == ["failed"]
    assert {name: (place / name).read_bytes() for name in before} == before
    assert read_run(place) and read_items(place) and (place / AGAIN / CHECKPOINT).is_file()
    found = look_at(place)
    assert found is not None and found.state == "done" and "partly trained again, after epoch 1 of 2" in found.note
    # Then it goes on from its checkpoint, and replaces the old files.
    epochs: list[int] = []
    run_locally(
        [spec("ew")],
        config(data, results, [spec("ew")]),
        1,
        lambda event: epochs.append(event.epochs) if event.kind == "epoch" else None,
    )
    assert epochs[0] == 1
    assert not (place / AGAIN).exists() and {path.name for path in place.iterdir()} == set(before)
    new = read_run(place)
    assert new is not None and new.status == "done" and new.test == as_record(before[RECORD]).test
    assert (place / RECORD).read_bytes() != before[RECORD] and read_items(place, new)


def as_record(content: bytes) -> Record:
    return Record.model_validate(json.loads(content))


def test_a_run_that_fails_when_it_is_trained_again_keeps_its_record(results: Path, data: Path, tmp_path: Path) -> None:
    place, events = folder(results, "uw"), list[Event]()
    before = (place / RECORD).read_bytes()
    nowhere = replace(config(data, results, [spec("uw")]), data={"digits": tmp_path / "absent"})
    run_locally([spec("uw")], nowhere, 1, events.append)
    assert [event.record.status for event in events if event.record] == ["failed"]
    assert (place / RECORD).read_bytes() == before and (place / AGAIN / "error.txt").is_file()


@pytest.mark.parametrize("moved", [[], [ITEMS], [ITEMS, CURVE]])
def test_a_process_killed_while_files_replace_old_ones_leaves_the_rest_to_the_next_command(
    moved: Sequence[str], results: Path, data: Path
) -> None:
    place, other = folder(results, "ew"), folder(results, "ew", 1)
    again = place / AGAIN
    again.mkdir()
    for name in (RECORD, CURVE, ITEMS):
        (again / name).write_bytes((place / name).read_bytes())
    record = read_record(again / RECORD).model_copy(update={"seconds": 12345.0})
    write_record(again, record)
    for name in moved:
        (again / name).rename(place / name)
    assert has_ended_again(place) and not has_ended_again(other)
    with pytest.raises(RecordError) as error:  # some files may be those of the new run: no report reads them
        read_records(results)
    assert str(error.value).startswith(f"{place}: expected the files of one run, found some in again")
    errors: list[str] = []
    assert [run.state for run in find_runs(results, errors) if run.folder == place] == ["damaged"]
    assert errors == [str(error.value)]
    clear_finished([spec("ew"), spec("ew", 1)], config(data, results))
    assert read_run(place) == record and read_items(place, record)
    assert record in read_records(results)
    assert {path.name for path in place.iterdir()} == {RECORD, CURVE, ITEMS}


def test_files_that_the_new_run_lacks_do_not_stay(results: Path) -> None:
    place = folder(results, "ew")
    (place / AGAIN).mkdir()
    (place / "error.txt").write_text("old")
    record = read_record(place / RECORD)
    none = {"validation": {}, "test": {}, "last_test": {}, "selected": None, "items": ""}
    write_record(place / AGAIN, record.model_copy(update={"status": "diverged", "reason": "loss is nan", **none}))
    (place / AGAIN / CURVE).write_text("epoch\n1\n")
    replace_old(place)
    assert {path.name for path in place.iterdir()} == {RECORD, CURVE}
    found = read_run(place)
    assert found is not None and found.status == "diverged"


def test_force_replaces_a_record_of_other_settings(
    results: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder(results, "ew")
    record = read_record(place / RECORD)
    settings = {**record.settings, "train": {**record.settings["train"], "lr": 0.5}}
    write_record(place, record.model_copy(update={"settings": settings}))
    assert command(results, data, "--dry-run") == 2
    assert "made with other settings" in capsys.readouterr().err
    assert command(results, data, "--force") == 0
    assert read_record(place / RECORD).settings == record.settings
