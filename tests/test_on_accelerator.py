"""Training on an accelerator, proven on a pretend one: the numbers are the CPU's, and hardly anything waits.

Real kernels round otherwise, and may wait where no document says so: `gpu-check` looks at them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from pretend.device import DEVICE, available
from pretend.steps import Steps, run_steps, spec_of

from datasets import DATASETS
from methods import WEIGHTINGS

OURS = [name for name in WEIGHTINGS if ":" not in name]
DATA = ("digits", "rooms", "faces")
STEPS = 3
# One that needs losses only, one with a hook after the step, and one of each other need.
FEW = ("ew", "famo", "cagrad", "graddrop", "modo")
EVERY = [
    pytest.param(name, arch, data, marks=() if data == "digits" and name in FEW else pytest.mark.slow)
    for data in DATA
    for arch in ("hps", "normal")
    for name in OURS
]


@pytest.fixture(autouse=True)
def pretend() -> Iterator[None]:
    with available():
        yield


@cache
def steps_of(name: str, arch: str, data: str, data_root: Path, device: torch.device) -> Steps:
    settings = {"weighting.weights": [1.0] * len(DATASETS[data].tasks)} if name == "fixed" else {}
    return run_steps(spec_of(name, data, arch, **settings), data_root, device, STEPS)


@pytest.mark.parametrize(("name", "arch", "data"), EVERY)
def test_every_number_is_that_of_the_cpu(name: str, arch: str, data: str, data_root: Path) -> None:
    on_device = steps_of(name, arch, data, data_root, DEVICE)
    on_cpu = steps_of(name, arch, data, data_root, torch.device("cpu"))
    assert torch.equal(on_device.losses, on_cpu.losses)
    assert torch.equal(on_device.weights, on_cpu.weights)
    assert on_device.state.keys() == on_cpu.state.keys()
    for key, tensor in on_device.state.items():
        assert torch.equal(tensor, on_cpu.state[key]), key


@pytest.mark.parametrize(("name", "arch", "data"), EVERY)
def test_a_step_waits_once_at_most_and_copies_one_batch(name: str, arch: str, data: str, data_root: Path) -> None:
    counts = steps_of(name, arch, data, data_root, DEVICE).counts[-1]
    waits = 0 if arch == "hps" and WEIGHTINGS[name].factory.needs == "losses" else 1
    assert counts.waits <= waits and counts.copies_out <= waits and counts.copies_in <= 1, str(counts)
