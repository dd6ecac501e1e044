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
