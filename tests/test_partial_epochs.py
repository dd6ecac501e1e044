"""Runs that are interrupted in the middle of an epoch: they go on as if nothing had happened, to the last bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from data_trees import write_digits
from interrupted import CPU, crashed_at_every_step, give_random_images, numbers, spec_of, whole
from pretend.device import DEVICE, available

from bench import ROOT
from bench.engine import epoch
from bench.engine.checkpoint_file import reached
from bench.engine.clock import StepClock
from bench.engine.context import RunContext
from bench.engine.loop import train
from bench.engine.signals import Stopped, stopped_by
from bench.engine.step import StepResult, train_step
from bench.engine.train_state import TrainState
from bench.records.store import CHECKPOINT, RECORD, read_record, run_folder
from bench.spec.resolve import RunSpec, resolve
from methods import METHODS, WEIGHTINGS
from methods.contract import batches_of

DROPOUT = {"backbone.bottleneck": True}
AUGMENTED = {"data.augment": True}
COSINES = {"train.cosines_every": 2}
# Together: all problems, streams, kinds of weightings and architectures.
FEW = [
    pytest.param("ew", "digits", {**DROPOUT, **AUGMENTED}, id="dropout"),
    pytest.param("normal", "rooms", {**AUGMENTED, **COSINES, "arch.updates": "alternating"}, id="positions"),
    pytest.param("nash_mtl", "digits", {"weighting.every": 2}, id="cached weights", marks=pytest.mark.slow),
    pytest.param("rlw", "digits", {"weighting.momentum": 0.9}, id="random weights", marks=pytest.mark.slow),
    pytest.param("modo", "digits", {**DROPOUT, **AUGMENTED}, id="several batches", marks=pytest.mark.slow),
    pytest.param("stl", "digits", DROPOUT, id="single tasks"),
]
OFTEN_USED = ("ew", "uw", "gradnorm", "mgda", "pcgrad", "nash_mtl", "graddrop", "rlw", "imtl", "cagrad", "normal")
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "noisy": {**DROPOUT, **AUGMENTED, **COSINES},
    "in parts": {"train.accumulate": 2, "train.clip_norm": 1.0},
}
PRODUCT = [
    *((method, data, name) for method in METHODS for data in ("digits",) for name in SETTINGS),
    *((method, data, "noisy") for method in (*OFTEN_USED, "modo", "stl") for data in ("rooms", "faces")),
]


def settings_of(method: str, data: str, name: str) -> dict[str, Any]:
    """Those of this name, as far as the method and the problem have them."""
    lacking = {"train.cosines_every", "train.clip_norm"} if method == "stl" else set[str]()
    lacking |= set(DROPOUT) if data == "rooms" else set()
    lacking |= {"train.accumulate"} if batches_of(WEIGHTINGS[METHODS[method].weighting].factory()) > 1 else set()
    return {key: value for key, value in SETTINGS[name].items() if key not in lacking}


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
        spec = spec_of("uw", **DROPOUT, **AUGMENTED, **{"train.epochs": 1})
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


@pytest.mark.parametrize("before, after", [(3, 7), (5, 7), (6, 8), (9, 11)])
def test_the_first_steps_of_a_process_are_not_timed(before: int, after: int) -> None:
    """They replace the warm-up of a process that had not ended its own."""
    seconds = [1.0] * before
    clock = StepClock.resumed(CPU, seconds)
    for _ in range(7):
        with clock.step():
            pass
    timing = clock.timing()
    assert len(seconds) == after and timing is not None and timing.steps == after - 5


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
            if len(calls) == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return real(*arguments, **options)

        monkeypatch.setattr(epoch, name, spy)

    signalled({"step": "train_step", "validation": "evaluate"}[during])
    context = RunContext(tmp_path / "stopped", tmp_path / "stopped", CPU, 1)
    with pytest.raises(Stopped), stopped_by(signal.SIGTERM):
        train(spec, context, lambda epochs: None)
    per_epoch = expected.steps // 2
    history = torch.load(tmp_path / "stopped" / CHECKPOINT, weights_only=True)["history"]
    assert (history["epochs"], history["partial"]["steps"]) == (0, 1 if during == "step" else per_epoch)
    found = train(spec, context, lambda epochs: None)
    assert numbers(found, tmp_path / "stopped") == numbers(expected, tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_signal_to_all_processes_leaves_the_last_step_and_the_command_goes_on(processes: int, tmp_path: Path) -> None:
    """As batch systems send it: to the command, its workers and their further processes."""
    data = write_digits(tmp_path / "data")
    settings = {"train.batch_size": 4, "train.epochs": 3, "compute.processes": processes, **DROPOUT}
    spec = resolve("digits", "gradnorm", assignments=settings)
    folders = [run_folder(tmp_path / name, "digits", spec.variant, 0) for name in ("stopped", "whole")]
    words = [sys.executable, "-m", "bench.run", "--method", "gradnorm", "--data", "digits", "--seeds", "0"]
    words += ["--device", "cpu", "--jobs", "1", "--threads", "1", "--data-root", str(data.parent)]
    words += ["--set", *(f"{key}={value}" for key, value in settings.items())]
    stopped = [*words, "--results", str(tmp_path / "stopped")]
    with subprocess.Popen(stopped, cwd=ROOT, stderr=subprocess.PIPE, text=True, start_new_session=True) as command:
        until = time.monotonic() + 120
        while not (folders[0] / CHECKPOINT).exists():
            assert time.monotonic() < until and command.poll() is None
            time.sleep(0.01)
        before = reached(folders[0] / CHECKPOINT)
        time.sleep(0.1)
        os.killpg(command.pid, signal.SIGTERM)
        _, error = command.communicate(timeout=30)
    assert command.returncode == 143 and "Traceback" not in error
    after = reached(folders[0] / CHECKPOINT)
    assert before and after and before.steps == 0 and after.steps > 0
    for results in ("stopped", "whole"):
        subprocess.run([*words, "--results", str(tmp_path / results)], cwd=ROOT, check=True)
    found, expected = (numbers(read_record(folder / RECORD), folder) for folder in folders)
    assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("method, data, name", PRODUCT)
def test_every_method_ends_with_the_same_bits(
    method: str, data: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_random_images(monkeypatch, data)
    assert_equal_after_crashes(spec_of(method, data, **settings_of(method, data, name)), tmp_path)
