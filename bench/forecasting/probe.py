"""Measures the cost of a training step: a few steps and an evaluation on noise, at growing batch sizes B.

A step takes as long on noise as on images, and as long at a learning rate of 0 as at any other.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.clock import StepClock
from bench.engine.device import peak_memory_mib, synchronise
from bench.engine.evaluate import evaluate
from bench.engine.precision import allow_tf32
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.forecasting.memory import available_memory, persistent_memory
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec
from datasets.contract import Batch, Source, Split
from methods.contract import Diverged

# Batch sizes before the run's own, in micro-batches; one image has no variance for BatchNorm.
_SMALL_BATCHES = (2, 8)
# Steps per batch size: at least the first number if time allows, then up to the second or to a second in all.
_FEW_STEPS, _MOST_STEPS, _ENOUGH_SECONDS = 4, 15, 1.0
_WARMUP = 2
# Share of the available memory that a batch may be expected to take.
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    step, batch: seconds of a step, and of making its batch.
    image: seconds to evaluate an image.
    source: where these come from, in words.
    peak_mib: peak memory of the whole process on a CPU, of tensors on an accelerator; None if the system doesn't say.
    parameters: number of trained parameters.
    """

    step: float
    batch: float
    image: float
    source: str
    peak_mib: float | None
    parameters: int


@dataclass(frozen=True)
class Trial:
    """Steps at one batch size. step, batch: seconds. transient_mib: what a step allocates and frees again."""

    size: int
    step: float
    batch: float
    transient_mib: float | None


def measure(spec: RunSpec, image_size: tuple[int, int], device: torch.device, seconds: float) -> StepCost | str:
    """Times steps for about so many seconds, at least one step of the smallest batch; or why no step can be taken."""
    settings = replace(
        spec.settings,
        backbone=replace(spec.settings.backbone, weights="none"),
        train=replace(spec.settings.train, lr=0.0, weight_decay=0.0),
    )
    spec, wanted = replace(spec, settings=settings), settings.train.batch_size
    gc.collect()  # the network of the previous measurement
    allow_tf32(settings.compute.tf32)
    deadline = time.monotonic() + seconds
    network = build_network(spec, device)
    train_state = make_train_state(spec, network)
    sizes = sorted({min(wanted, size * settings.train.accumulate) for size in _SMALL_BATCHES} | {wanted})
    trials: list[Trial] = []
    try:
        for size in sizes:
            steps = _FEW_STEPS if size == wanted else 1  # of one batch size alone, little can be said of others
            if not trials or fits(trials, size, (deadline - time.monotonic()) / steps, available_memory(device)):
                split = noise(spec, image_size, size)
                trials.append(_trial(train_state, spec, split, size, device, deadline))
        start = time.perf_counter()
        evaluate(network, spec.info, split, device)
        synchronise(device)
        image = (time.perf_counter() - start) / sum(len(source) for source in split)
    except Diverged as error:
        return str(error)
    except torch.OutOfMemoryError:
        return f"out of memory with a batch of {size}"
    persistent, transient = persistent_memory(device), _transient_at(trials, wanted)
    parameters = [*network.shared_parameters(), *network.heads.parameters(), *network.position_parameters()]
    timed = ", ".join(str(trial.size) for trial in trials)
    return StepCost(
        step=_step_at(trials, wanted),
        batch=trials[-1].batch * wanted / trials[-1].size,
        image=image,
        source="measured" if trials[-1].size == wanted else f"scaled from B={timed}",
        peak_mib=None if persistent is None or transient is None else persistent + transient,
        parameters=sum(parameter.numel() for parameter in parameters),
    )


def fits(trials: Sequence[Trial], size: int, seconds: float, available_mib: float | None) -> bool:
    """Whether a step at this batch size may be expected to take at most so many seconds, and to fit in memory."""
    memory = _transient_at(trials, size)
    in_memory = available_mib is None or memory is None or memory <= _SHARE_OF_MEMORY * available_mib
    return in_memory and _step_at(trials, size) <= seconds


def _step_at(trials: Sequence[Trial], size: int) -> float:
    return scaled([(trial.size, trial.step) for trial in trials], size)


def _transient_at(trials: Sequence[Trial], size: int) -> float | None:
    points = [(trial.size, trial.transient_mib) for trial in trials if trial.transient_mib is not None]
    return scaled(points, size) if points else None


def scaled(points: Sequence[tuple[int, float]], size: int) -> float:
    """The value at a batch size, from (batch size, value) in ascending order.

    A constant part plus one in proportion to B, from the first and last point; of one point, all is in proportion.
    """
    (first, low), (last, high) = points[0], points[-1]
    constant = 0.0
    if len(points) > 1:
        slope = max(0.0, (high - low) / (last - first))
        constant = min(max(0.0, high - slope * last), high)
    return constant + (high - constant) * size / last


def _trial(
    train_state: TrainState, spec: RunSpec, split: Split, size: int, device: torch.device, deadline: float
) -> Trial:
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    (batch,) = training_batches(split, spec.info, size, generator, device, spec.settings.data.augment)
    synchronise(device)
    making = time.perf_counter() - start
    persistent_memory(device)  # resets the peak
    step = _step_seconds(train_state, spec, batch, device, deadline)
    peak = peak_memory_mib(device)
    persistent = persistent_memory(device)  # now with the optimizers' moments
    return Trial(size, step, making, None if peak is None or persistent is None else max(0.0, peak - persistent))


def _step_seconds(train_state: TrainState, spec: RunSpec, batch: Batch, device: torch.device, deadline: float) -> float:
    """Mean seconds of a step, over steps that compute weights or cosines and steps that reuse cached weights."""
    cosines_every = spec.settings.train.cosines_every
    every = max(spec.settings.gramian.every, cosines_every, 1)
    kinds = 1 if every == 1 else 2
    seconds: list[float] = []
    clock = StepClock(device, seconds)
    while len(seconds) < kinds * _MOST_STEPS:
        late = len(seconds) >= kinds and time.monotonic() + seconds[-1] > deadline
        if late or (len(seconds) >= kinds * _FEW_STEPS and sum(seconds) > _ENOUGH_SECONDS):
            break
        kind = len(seconds) % kinds  # step 0 computes weights, step 1 reuses them
        with clock.step(), train_state.network.translate_errors():
            train_step(train_state, batch, kind, 0, cosines=cosines_every > 0 and kind == 0)
        clock.collect()
    full, cached = _settled(seconds[::kinds]), _settled(seconds[kinds - 1 :: kinds])
    return (full + (every - 1) * cached) / every


def _settled(seconds: Sequence[float]) -> float:
    """Median without the first steps, if there are others."""
    return statistics.median(seconds[min(_WARMUP, len(seconds) - 1) :])


def noise(spec: RunSpec, image_size: tuple[int, int], size: int) -> Split:
    """Sources of `size` random images each, with random targets, in the form of a data reader."""
    workload = Workload("forecast", "", spec.data, size, image_size, len(spec.info.tasks))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (size, *image_size, 3), dtype=torch.uint8, generator=generator)
    return tuple(Source(pixels, group.targets) for group in workload.noise(torch.device("cpu")))
