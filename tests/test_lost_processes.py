"""Workers that die, are taken over or find their run finished: no run is lost, trained twice or stops the others."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing import Pipe
from multiprocessing.context import ForkServerProcess
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from data_trees import write_digits

from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.recording import failed_record
from bench.launch.config import LaunchConfig
from bench.launch.local import WorkersUnavailable, run_locally
from bench.launch.messages import Event
from bench.launch.run_queue import RunQueue, clear_finished
from bench.launch.worker import _send
from bench.records.claim import CLAIM, Claim, Holder, holder_of, release, take
from bench.records.items import ITEMS
from bench.records.record import Record
from bench.records.store import CHECKPOINT, CURVE, RECORD, read_record, write_record
from bench.spec.request import PlanError
from bench.spec.resolve import RunSpec, resolve

OnEvent = Callable[[Event], None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data"))


@pytest.fixture
def config(data: Path, tmp_path: Path) -> LaunchConfig:
    return LaunchConfig({"digits": data}, tmp_path, "cpu", 1, expiry=5)


def specs(*methods: str, epochs: int = 2, seeds: Sequence[int] = (0,)) -> list[RunSpec]:
    quick = {"train.epochs": epochs, "train.batch_size": 8}
    return [resolve("digits", method, seed=seed, assignments=quick) for seed in seeds for method in methods]


def launch(runs: Sequence[RunSpec], config: LaunchConfig, act: OnEvent = lambda event: None) -> list[Event]:
    events: list[Event] = []

    def follow(event: Event) -> None:
        events.append(event)
        act(event)

    run_locally(runs, config, 1, follow)
    failed = {event.spec.key for event in events if event.record and event.record.status == "failed"}
    for run in runs:
        left = {path.name for path in config.folder(run).iterdir()}
        kept = {CHECKPOINT} if run.key in failed else set()  # the next command goes on with it
        assert left <= {RECORD, CURVE, ITEMS, "positions.csv", "error.txt", *kept}, left
    return events


def worker_of(event: Event, config: LaunchConfig) -> int:
    holder = holder_of(config.folder(event.spec))
    assert holder is not None
    return holder.process


def ends(events: Sequence[Event]) -> list[tuple[str, str, bool]]:
    return [(e.spec.method, e.record.status, e.found) for e in events if e.kind == "end" and e.record]


def fresh(spec: RunSpec, config: LaunchConfig, folder: Path) -> Record:
    context = RunContext(config.data["digits"], folder, torch.device("cpu"), 1)
    return train(spec, context, lambda epochs: None)


def test_a_killed_worker_costs_an_attempt_and_not_the_result(config: LaunchConfig, tmp_path: Path) -> None:
    def kill(event: Event) -> None:
        if (event.kind, event.epochs, event.spec.method) == ("epoch", 1, "uw"):
            os.kill(worker_of(event, config), signal.SIGKILL)
            kill.done = True  # type: ignore[attr-defined]

    def once(event: Event) -> None:
        if not hasattr(kill, "done"):
            kill(event)

    runs = specs("uw", "ew", epochs=3)
    events = launch(runs, config, once)
    assert ends(events) == [("ew", "done", False), ("uw", "done", False)]
    (note,) = [event.note for event in events if event.kind == "note"]
    killed = "killed by SIGKILL, which the system sends when memory runs out"
    assert note == f"its process was lost after epoch 1 ({killed}); it is tried again, from its checkpoint"
    record = read_record(config.folder(runs[0]) / RECORD)
    assert record.lost == [f"after epoch 1: {killed}"]
    whole = fresh(runs[0], config, tmp_path / "fresh")
    assert (record.test, record.validation, record.selected) == (whole.test, whole.validation, whole.selected)


def test_a_run_whose_process_always_dies_fails_and_the_others_go_on(config: LaunchConfig) -> None:
    def kill(event: Event) -> None:
        if event.kind == "epoch" and event.spec.method == "uw":
            os.kill(worker_of(event, config), signal.SIGTERM)

    runs = specs("uw", "ew")
    events = launch(runs, config, kill)
    assert ends(events) == [("ew", "done", False), ("uw", "failed", False)]
    record = read_record(config.folder(runs[0]) / RECORD)
    assert len(record.lost) == 3
    assert record.reason.startswith("its process was lost 3 times, the last time after epoch")


def test_a_run_that_failed_before_gets_all_its_attempts(config: LaunchConfig) -> None:
    """The old record of the failed run doesn't end it."""
    (ew,) = specs("ew")
    write_record(config.folder(ew), failed_record(ew, "yesterday"))
    killed: list[int] = []

    def kill(event: Event) -> None:
        if event.kind == "epoch" and not killed:
            killed.append(worker_of(event, config))
            os.kill(killed[0], signal.SIGKILL)

    events = launch([ew], config, kill)
    assert ends(events) == [("ew", "done", False)]


def test_a_run_that_was_finished_after_it_was_planned_is_not_trained_again(config: LaunchConfig) -> None:
    """Another command has ended it before this one starts its workers."""
    (ew,) = specs("ew")
    record = fresh(ew, config, config.folder(ew))
    assert ends(launch([ew], config)) == [("ew", "done", True)]
    assert read_record(config.folder(ew) / RECORD) == record


def test_a_record_with_other_settings_that_appears_meanwhile_ends_the_command_without_a_claim(
    config: LaunchConfig, tmp_path: Path
) -> None:
    (ew,), (other,) = specs("ew"), specs("ew", epochs=3)
    record = fresh(ew, config, tmp_path / "elsewhere")
    write_record(config.folder(ew), record.model_copy(update={"settings": other.settings.as_dict(), "epochs": 3}))
    with pytest.raises(PlanError, match="made with other settings"):
        launch([ew], config)
    assert not (config.folder(ew) / CLAIM).exists()


def test_a_server_of_workers_that_dies_is_started_again(config: LaunchConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []

    def dies_once(process: BaseProcess) -> None:
        started.append(process)
        if len(started) == 1:
            raise EOFError("unexpected EOF")  # as multiprocessing does
        start(process)

    start = ForkServerProcess.start
    monkeypatch.setattr(ForkServerProcess, "start", dies_once)
    assert ends(launch(specs("ew"), config)) == [("ew", "done", False)]
    monkeypatch.setattr("bench.launch.local._PAUSES", (0.0, 0.0))
    monkeypatch.setattr(ForkServerProcess, "start", lambda process: dies_once(started.clear() or process))  # type: ignore[func-returns-value]
    with pytest.raises(WorkersUnavailable, match=r"found that they can't \(unexpected EOF\); check the memory"):
        run_locally(specs("uw"), config, 1, lambda event: None)


def test_held_runs_are_looked_at_once_a_second(config: LaunchConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after each event: hundreds of them would keep the launcher busy."""
    (ew,) = specs("ew")
    assert isinstance(take(config.folder(ew), os.getpid(), 60), Claim)
    queue = RunQueue([ew], config, lambda event: None)
    looks: list[Path] = []

    def look(folder: Path, *arguments: Any) -> Claim | Holder:
        looks.append(folder)
        return take(folder, *arguments)

    monkeypatch.setattr("bench.launch.run_queue.take", look)
    assert [queue.next(os.getpid()) for _ in range(5)] == [None] * 5 and len(looks) == 1
    later = time.monotonic() + 2
    monkeypatch.setattr("bench.launch.run_queue.time.monotonic", lambda: later)
    queue.next(os.getpid())
    assert len(looks) == 2


def test_a_worker_does_not_wait_for_a_command_that_is_stopped() -> None:
    """Its run ends, for all other commands to see, though nobody reads what it sends."""
    (ew,) = specs("ew")
    ours, theirs = Pipe()
    sender = threading.Thread(target=lambda: [_send(theirs, Event("epoch", ew, n)) for n in range(2000)], daemon=True)
    sender.start()
    sender.join(30)
    assert not sender.is_alive()
    assert ours.recv().epochs == 0


@pytest.mark.slow
def test_a_worker_that_dies_between_two_runs_costs_nothing(config: LaunchConfig) -> None:
    workers: list[int] = []

    def kill(event: Event) -> None:
        if event.kind == "epoch" and event.epochs == 0:
            workers.append(worker_of(event, config))
        if event.kind == "end" and len(workers) < 3:
            os.kill(workers[-1], signal.SIGKILL)
            while Path(f"/proc/{workers[-1]}/stat").exists():
                pass

    events = launch(specs("ew", seeds=range(4)), config, kill)
    assert ends(events) == [("ew", "done", False)] * 4
    assert len(set(workers)) == 3 and not [event for event in events if event.kind == "note"]


def test_a_run_of_another_process_is_left_to_it(config: LaunchConfig, tmp_path: Path) -> None:
    uw, ew = specs("uw", "ew")
    claim = take(config.folder(uw), os.getpid(), 60)
    assert isinstance(claim, Claim)

    def finish(event: Event) -> None:
        if event.kind == "end" and event.spec == ew:
            write_record(claim.folder, fresh(uw, config, tmp_path / "elsewhere"), claim.guard)
            release(claim)

    events = launch([uw, ew], config, finish)
    assert ends(events) == [("ew", "done", False), ("uw", "done", True)]
    (note,) = [event.note for event in events if event.kind == "note"]
    assert f"process {os.getpid()} on " in note and note.endswith(
        "trains this run; this command trains other runs and then waits for it"
    )


def test_a_run_whose_process_has_been_silent_is_taken_over(config: LaunchConfig) -> None:
    """And the process that was stopped for so long can't write a file of the run any more."""
    (ew,) = specs("ew")
    former = take(config.folder(ew), os.getpid(), 1)
    events = launch([ew], config)
    assert ends(events) == [("ew", "done", False)]
    assert isinstance(former, Claim)
    with pytest.raises(Exception, match="has taken over this run"), former.guard():
        pass


def test_a_worker_leaves_a_run_that_was_taken_over(config: LaunchConfig, tmp_path: Path) -> None:
    (ew,) = specs("ew", epochs=3)
    folder = config.folder(ew)

    def take_over(event: Event) -> None:
        if event.kind == "epoch" and event.epochs == 1:
            claim = take(folder, os.getpid(), 60, holder_of(folder))
            assert isinstance(claim, Claim)
            (folder / CHECKPOINT).unlink()
            write_record(folder, fresh(ew, config, tmp_path / "elsewhere"), claim.guard)
            release(claim)

    events = launch([ew], config, take_over)
    assert ends(events) == [("ew", "done", True)]
    assert [event.kind for event in events if event.kind not in ("epoch", "end")] == ["taken"]


def test_what_killed_processes_leave_is_cleared(config: LaunchConfig) -> None:
    (ew,) = specs("ew")
    folder = config.folder(ew)
    folder.mkdir(parents=True)
    for name in (".record.json.5.tmp", ".checkpoint.pt.0123456789abcdef.tmp", CLAIM):
        (folder / name).write_text("{")
    launch([ew], config)
    for name in (".record.json.5.tmp", CHECKPOINT, CLAIM):  # of a process that was killed at its very end
        (folder / name).write_text("{")
    clear_finished([ew], config)
    assert {path.name for path in folder.iterdir()} == {RECORD, CURVE, ITEMS}
