"""Runs that are interrupted in the middle of an epoch: they go on as if nothing had happened, to the last bit."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from interrupted import CPU, crashed_at_every_step, give_random_images, numbers, spec_of, whole
from pretend.device import DEVICE, available

from bench.engine import epoch
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.signals import Stopped, stopped_by
from bench.engine.step import StepResult, train_step
from bench.engine.train_state import TrainState
from bench.records.store import CHECKPOINT
from bench.spec.resolve import RunSpec
from methods import METHODS

DROPOUT = {"backbone.bottleneck": True}
AUGMENTED = {"data.augment": True}
COSINES = {"train.cosines_every": 2}
# Together: all problems, streams, kinds of weightings and architectures.
FEW = [
    pytest.param("ew", "digits", {**DROPOUT, **AUGMENTED}, id="dropout"),
    pytest.param("normal", "rooms", {**AUGMENTED, **COSINES, "arch.updates": "alternating"}, id="positions"),
    pytest.param("nash_mtl", "digits", {"weighting.every": 2}, id="cached weights"),
    pytest.param("rlw", "digits", {"weighting.momentum": 0.9}, id="random weights"),
    pytest.param("modo", "digits", {**DROPOUT, **AUGMENTED}, id="several batches"),
    pytest.param("stl", "digits", DROPOUT, id="single tasks"),
]
WEIGHTINGS = ("ew", "uw", "gradnorm", "mgda", "pcgrad", "nash_mtl", "graddrop", "rlw", "imtl", "cagrad", "normal")
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "noisy": {**DROPOUT, **AUGMENTED, **COSINES},
    "in parts": {"train.accumulate": 2, "train.clip_norm": 1.0},
}
PRODUCT = [
    *((method, data, name) for method in METHODS for data in ("digits",) for name in SETTINGS),
    *((method, data, "noisy") for method in (*WEIGHTINGS, "modo", "stl") for data in ("rooms", "faces")),
]


def assert_equal_after_crashes(spec: RunSpec, folder: Path, device: torch.device = CPU) -> None:
    expected = whole(spec, folder / "whole", device)
    found, places = crashed_at_every_step(spec, folder / "crashed", device)
    assert expected.status == "done" and len(places) == expected.steps
    assert numbers(found, folder / "crashed") == numbers(expected, folder / "whole")


@pytest.mark.parametrize("method, data, settings", FEW)
def test_a_run_that_crashes_after_every_step_ends_with_the_same_bits(
    method: str, data: str, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_random_images(monkeypatch, data)
    assert_equal_after_crashes(spec_of(method, data, **settings), tmp_path)


def test_an_accelerator_goes_on_with_its_random_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its steps are read and checked at every checkpoint, not at the end of the epoch."""
    give_random_images(monkeypatch, "digits")
    with available():
        spec = spec_of("uw", **DROPOUT, **AUGMENTED, **{"train.batch_size": 12, "train.epochs": 1})
        assert_equal_after_crashes(spec, tmp_path, DEVICE)


def test_a_run_that_diverges_after_crashes_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_random_images(monkeypatch, "digits")

    def spoiled(state: TrainState, batch: Any, step: int, *args: Any, **options: Any) -> StepResult:
        if step == 2:
            state.shared_parameters[0].data.fill_(torch.nan)
        return train_step(state, batch, step, *args, **options)

    monkeypatch.setattr(epoch, "train_step", spoiled)
    spec = spec_of("gradnorm", **DROPOUT)
    expected = whole(spec, tmp_path / "whole")
    found, places = crashed_at_every_step(spec, tmp_path / "crashed")
    assert (expected.status, expected.steps, len(places)) == ("diverged", 2, 2)
    assert numbers(found, tmp_path / "crashed") == numbers(expected, tmp_path / "whole")


@pytest.mark.parametrize("validation", [True, False], ids=["", "without validation"])
@pytest.mark.parametrize("during", ["step", "validation"])
def test_a_signal_leaves_the_checkpoint_of_the_last_step(
    during: str, validation: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a step, it waits for its end; validation ends at once. No checkpoint was due."""
    give_random_images(monkeypatch, "digits", validation)
    spec = spec_of("ew", **DROPOUT, **({} if validation else {"data.protocol": "published"}))
    expected = whole(spec, tmp_path / "whole")
    calls: list[int] = []

    def signalled(name: str) -> None:
        real = getattr(epoch, name)

        def spy(*arguments: Any, **options: Any) -> Any:
            calls.append(1)
            if len(calls) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments, **options)

        monkeypatch.setattr(epoch, name, spy)

    signalled({"step": "train_step", "validation": "evaluate"}[during])
    context = RunContext(tmp_path / "stopped", tmp_path / "stopped", CPU, 1)
    with pytest.raises(Stopped), stopped_by(signal.SIGTERM):
        train(spec, context, lambda epochs: None)
    per_epoch = expected.steps // 2
    history = torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True)["history"]
    reached = (0, 2) if during == "step" else (1, per_epoch)
    assert (history["epochs"], history["partial"]["steps"]) == reached
    found = train(spec, context, lambda epochs: None)
    assert numbers(found, tmp_path / "stopped") == numbers(expected, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("method, data, name", PRODUCT)
def test_every_method_ends_with_the_same_bits(
    method: str, data: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_random_images(monkeypatch, data)
    assert_equal_after_crashes(spec_of(method, data, **SETTINGS[name]), tmp_path)
