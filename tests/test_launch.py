"""What a person sees of a run that fails: what is wrong, in which line of which file, and where the traceback is."""

from __future__ import annotations

import io
import os
import re
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench import run
from bench.cli import training
from bench.cli.progress import RunProgress
from bench.launch.config import LaunchConfig
from bench.launch.messages import Assignment, Event
from bench.launch.worker import ERROR_LOG, attempt
from bench.records.claim import CLAIM, Claim, take
from bench.spec.resolve import resolve
from datasets import find
from methods import WEIGHTINGS
from methods.contract import Signal, State, Update, WeightingInfo
from methods.weightings.ew import EW


@dataclass(frozen=True)
class Raises(EW):
    """A weighting with an error in its step."""

    def step(self, signal: Signal, state: State) -> Update:
        return Update(signal.losses / {}["missing"], state)


@dataclass(frozen=True)
class WrongShape(EW):
    """A weighting with one weight too many."""

    def step(self, signal: Signal, state: State) -> Update:
        return Update(torch.ones(len(signal.losses) + 1, dtype=torch.float64), state)


@pytest.mark.parametrize(("weighting", "expected"), [(Raises, "KeyError"), (WrongShape, r"shape \(4,\).*shape \(5,\)")])
def test_a_faulty_weighting_is_named_with_its_line_and_traceback(
    weighting: type, expected: str, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WEIGHTINGS, "faulty", WeightingInfo("Faulty", weighting, "no paper"))
    spec = resolve("digits", weighting="faulty", assignments={"train.epochs": 1})
    source = find("digits", data_root)
    assert source is not None
    config = LaunchConfig({"digits": source}, tmp_path, "cpu", 1)
    folder = config.folder(spec)
    claim = take(folder, os.getpid(), config.expiry)
    assert isinstance(claim, Claim)
    ours, theirs = Pipe()
    event = attempt(Assignment(spec, claim), config, torch.device("cpu"), theirs)
    ours.close()
    assert not (folder / CLAIM).exists()
    assert event.record is not None and event.record.status == "failed"
    line = weighting.step.__code__.co_firstlineno
    assert re.search(rf"test_launch\.py:{line}\b|test_launch\.py:{line + 1}\b", event.record.reason)
    assert re.search(expected, event.record.reason)

    text = io.StringIO()
    with RunProgress(Console(file=text, width=300), [spec], tmp_path) as progress:
        progress(Event("end", spec, record=event.record))
    assert f"the traceback is in {folder / ERROR_LOG}" in text.getvalue()
    assert "Traceback" in (folder / ERROR_LOG).read_text(encoding="utf-8")


def test_checkpoints_in_the_middle_of_an_epoch_are_progress(data_root: Path, tmp_path: Path) -> None:
    spec = resolve("digits", "ew", assignments={"train.epochs": 1, "train.batch_size": 256})
    source = find("digits", data_root)
    assert source is not None
    config = LaunchConfig({"digits": source}, tmp_path, "cpu", 1, checkpoint_every=0)
    claim = take(config.folder(spec), os.getpid(), config.expiry)
    assert isinstance(claim, Claim)
    ours, theirs = Pipe()
    record = attempt(Assignment(spec, claim), config, torch.device("cpu"), theirs).record
    events: list[Event] = []
    while ours.poll():
        events.append(ours.recv())
    assert record is not None and record.status == "done" and record.steps > 1
    steps = range(1, record.steps + 1)
    assert [(event.kind, event.epochs, event.share) for event in events] == [
        ("epoch", 0, 0.0),
        *(("part", 0, step / record.steps) for step in steps),
        ("epoch", 1, 0.0),
    ]
    with RunProgress(Console(file=io.StringIO()), [spec], tmp_path) as progress:
        for event in events[:2]:
            progress(event)
        assert progress.bars.tasks[0].completed == pytest.approx(1 / record.steps)


def test_the_interval_of_checkpoints_is_that_of_the_command(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    monkeypatch.setattr(training, "run_locally", lambda specs, config, *_: seen.append(config.checkpoint_every))
    words = ["--method", "ew", "--data", "digits", "--seeds", "0", "--device", "cpu", "--data-root", str(data_root)]
    for interval in ([], ["--checkpoint-every", "0"], ["--checkpoint-every", "600"]):
        assert run.main([*words, "--results", str(tmp_path), *interval]) == 0
    assert seen == [120, 0, 600]
    with pytest.raises(SystemExit):
        run.main([*words, "--checkpoint-every", "-1"])
