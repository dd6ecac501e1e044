"""Measures the cost of a training step: a few steps on noise, at growing batch sizes B.

A step takes as long on noise as on images, and as long at a learning rate of 0 as at any other.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench.engine.build import build_network
from bench.engine.clock import StepClock
from bench.engine.device import free_memory, peak_memory_mib, release_freed_memory, reset_peak_memory
from bench.engine.precision import choose_kernels
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec
from datasets.contract import Batch
from methods.contract import Diverged, batches_of

# The first micro-batch has about so many pixels, since costs that don't grow with the batch would dominate a smaller
# one; but at least two images (one has no variance for BatchNorm). Then the factor to the next batch size.
_FIRST_PIXELS, _FIRST_IMAGES, _GROWTH = 2**18, 2, 4
# Steps at a smaller batch size and at the run's own, if time allows. The first ones are slower and are left out.
_FEW_STEPS, _MOST_STEPS, _WARMUP = 2, 10, 2
# Share of the available memory that a batch may be expected to take.
_SHARE_OF_MEMORY = 0.8
_MEMORY = Path("/proc/meminfo")
# Limit of a container, a number or "max", and its use.
_LIMIT, _USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    step: seconds; from records, including its share of validation.
    source: where these come from, in words.
    peak_mib: peak memory of the whole process on a CPU, of tensors on an accelerator; None if the system doesn't say.
    """

    step: float
    source: str
    peak_mib: float | None


@dataclass(frozen=True)
class Trial:
    """Steps at one batch size. step: seconds. transient_mib: what a step allocates and frees again."""

    size: int
    step: float
    transient_mib: float | None

    def at(self, size: int) -> Trial:
        """Extrapolated to another batch size in proportion, which overestimates larger ones."""
        factor = size / self.size
        return Trial(size, factor * self.step, None if self.transient_mib is None else factor * self.transient_mib)


def measure(spec: RunSpec, image_size: tuple[int, int], device: torch.device, seconds: float) -> StepCost | str:
    """Times steps for about so many seconds, at least one step of the smallest batch; or why no step can be taken.

    Of a run that several processes train, the step of one of them on its part, without what they exchange.
    """
    batch_size, processes = spec.settings.train.batch_size, spec.settings.compute.processes
    settings = replace(
        spec.settings,
        backbone=replace(spec.settings.backbone, weights="none"),
        train=replace(spec.settings.train, lr=0.0, weight_decay=0.0, batch_size=batch_size // processes),
    )
    spec, wanted = replace(spec, settings=settings), settings.train.batch_size
    gc.collect()  # the network of the previous measurement
    choose_kernels(settings.compute)
    deadline = time.monotonic() + seconds
    state = make_train_state(spec, build_network(spec, device))
    first = max(_FIRST_IMAGES, _FIRST_PIXELS // math.prod(image_size))
    size = min(wanted, first * settings.train.accumulate)
    try:
        while True:
            chosen = {"data.tasks": spec.settings.data.tasks}
            workload = Workload("forecast", "", spec.data, size, image_size, len(spec.tasks), chosen)
            trial = _trial(state, spec, size, workload.noise(device), device, deadline)
            larger = min(wanted, _GROWTH * size)
            if size == wanted or not fits(trial.at(larger), deadline - time.monotonic(), available_memory(device)):
                break
            size = larger
    except Diverged as error:
        return str(error)
    except torch.OutOfMemoryError:
        return f"out of memory with a batch of {size}"
    persistent, full = persistent_memory(device), trial.at(wanted)
    peak = None if persistent is None or full.transient_mib is None else persistent + full.transient_mib
    return StepCost(
        step=full.step,
        source="measured" if size == wanted else f"scaled from B={size}",
        peak_mib=of_all_processes(peak, spec, device),
    )


def of_all_processes(peak_mib: float | None, spec: RunSpec, device: torch.device) -> float | None:
    """The memory of a run whose processes each take so much: each has an accelerator of its own, or all share a CPU."""
    shared = spec.settings.compute.processes if device.type == "cpu" else 1
    return None if peak_mib is None else peak_mib * shared


def fits(expected: Trial, seconds: float, available_mib: float | None) -> bool:
    """Whether a few such steps take at most so many seconds, and one fits in memory."""
    memory = expected.transient_mib
    in_memory = available_mib is None or memory is None or memory <= _SHARE_OF_MEMORY * available_mib
    return in_memory and _FEW_STEPS * expected.step <= seconds


def _trial(state: TrainState, spec: RunSpec, size: int, batch: Batch, device: torch.device, deadline: float) -> Trial:
    """Mean seconds of a step, over steps that compute weights or cosines and steps that reuse cached weights."""
    train = spec.settings.train
    persistent_memory(device)  # resets the peak
    every = max(spec.settings.gramian.every, train.cosines_every, 1)
    kinds = 1 if every == 1 else 2
    others = [batch] * (batches_of(state.weighting) - 1)
    most = kinds * (_MOST_STEPS if size == train.batch_size else _FEW_STEPS)
    seconds: list[float] = []
    clock = StepClock(device, seconds)
    while len(seconds) < kinds or (len(seconds) < most and time.monotonic() < deadline):
        kind = len(seconds) % kinds  # step 0 computes weights, step 1 reuses them
        with clock.step(), state.network.translate_errors():
            train_step(state, batch, kind, 0, others=others, cosines=train.cosines_every > 0 and kind == 0)
        clock.collect()
    peak = peak_memory_mib(device)
    persistent = persistent_memory(device)  # now with the optimizers' moments
    full, cached = _settled(seconds[::kinds]), _settled(seconds[kinds - 1 :: kinds])
    step = (full + (every - 1) * cached) / every
    return Trial(size, step, None if peak is None or persistent is None else max(0.0, peak - persistent))


def _settled(seconds: list[float]) -> float:
    """Median without the first steps, if there are others."""
    return statistics.median(seconds[min(_WARMUP, len(seconds) - 1) :])


def persistent_memory(device: torch.device) -> float | None:
    """In use now: by tensors on an accelerator, by the whole process on a CPU. Resets the peak."""
    if device.type == "cpu":
        release_freed_memory()
    reset_peak_memory(device)
    return peak_memory_mib(device)


def available_memory(device: torch.device) -> float | None:
    """Free on the accelerator, or in the machine and its container."""
    if device.type != "cpu":
        return free_memory(device) / 2**20
    if not _MEMORY.exists():
        return None
    lines = (line.split() for line in _MEMORY.read_text(encoding="ascii").splitlines())
    found = [int(line[1]) / 2**10 for line in lines if line[0] == "MemAvailable:"]
    limit = _LIMIT.read_text(encoding="ascii").strip() if _LIMIT.exists() else ""
    if limit.isdecimal() and _USED.exists():
        found.append((int(limit) - int(_USED.read_text(encoding="ascii"))) / 2**20)
    return min(found, default=None)
