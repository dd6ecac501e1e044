"""Measures the cost of a training step: a few steps on random images, at growing batch sizes B.

A step takes as long on random images as on others, and as long at a learning rate of 0 as at any other.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass, replace

import torch

from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.clock import StepClock
from bench.engine.device import peak_memory_mib, reset_peak_memory, synchronise
from bench.engine.precision import allow_tf32
from bench.engine.step import train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec
from datasets.contract import Batch, Source, Split
from methods.contract import Diverged

# Batch sizes before the run's own: from the first, in micro-batches, each so many times the one before.
_FIRST_BATCH, _GROWTH = 2, 4  # one image has no variance for BatchNorm
# Steps of a kind: more until so many seconds have passed, but neither fewer nor more than these if time allows.
_FEW_STEPS, _MOST_STEPS, _ENOUGH_SECONDS = 4, 15, 1.0
_WARMUP = 2
_FORWARD_SHARE = 1 / 3  # of a step, whose backward pass costs about two forward passes


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step.

    step: seconds of a step and of making its batch; from records, also its share of evaluation.
    image: seconds to evaluate an image, about; 0 from records.
    source: where these come from, in words.
    peak_mib: peak memory of the whole process on a CPU, of tensors on an accelerator; None if the system doesn't say.
    peak_batch: the batch size at which the peak was measured.
    """

    step: float
    image: float
    source: str
    peak_mib: float | None
    peak_batch: int


def measure(spec: RunSpec, image_size: tuple[int, int], device: torch.device, seconds: float) -> StepCost | str:
    """Times steps for about so many seconds, at least one step of the smallest batch; or why no step can be taken.

    The cost at the run's batch size is that at the largest B that time allows, in proportion to B.
    """
    settings = replace(
        spec.settings,
        backbone=replace(spec.settings.backbone, weights="none"),
        train=replace(spec.settings.train, lr=0.0, weight_decay=0.0),
    )
    spec, wanted = replace(spec, settings=settings), settings.train.batch_size
    gc.collect()  # the network of the previous measurement
    allow_tf32(settings.compute.tf32)
    deadline = time.monotonic() + seconds
    train_state = make_train_state(spec, build_network(spec, device))
    size = min(wanted, _FIRST_BATCH * settings.train.accumulate)
    try:
        while True:
            split = noise(spec, image_size, size)
            reset_peak_memory(device)
            start = time.perf_counter()
            generator = torch.Generator().manual_seed(0)
            (batch,) = training_batches(split, spec.info, size, generator, device, settings.data.augment)
            synchronise(device)
            making = time.perf_counter() - start
            step = _step_seconds(train_state, spec, batch, device, deadline)
            larger = min(wanted, _GROWTH * size)
            if size == wanted or time.monotonic() + _FEW_STEPS * step * larger / size > deadline:
                break
            size = larger
    except Diverged as error:
        return str(error)
    except torch.OutOfMemoryError:
        return f"out of memory with a batch of {size}"
    return StepCost(
        step=(making + step) * wanted / size,
        image=_FORWARD_SHARE * step / (size * len(split)),
        source="measured" if size == wanted else f"scaled from B={size}",
        peak_mib=peak_memory_mib(device),
        peak_batch=size,
    )


def _step_seconds(train_state: TrainState, spec: RunSpec, batch: Batch, device: torch.device, deadline: float) -> float:
    """Mean seconds of a step, over steps that compute weights or cosines and steps that reuse cached weights."""
    cosines_every = spec.settings.train.cosines_every
    every = max(spec.settings.gramian.every, cosines_every, 1)

    def median_of(index: int) -> float:
        """Median seconds of the step with this index, without the first repeats if there are others."""
        seconds: list[float] = []
        clock = StepClock(device, seconds)
        while len(seconds) < _MOST_STEPS:
            enough = len(seconds) >= _FEW_STEPS and sum(seconds) > _ENOUGH_SECONDS
            if seconds and (enough or time.monotonic() + seconds[-1] > deadline):
                break
            with clock.step(), train_state.network.translate_errors():
                train_step(train_state, batch, index, 0, cosines=cosines_every > 0 and index == 0)
            clock.collect()
        return statistics.median(seconds[min(_WARMUP, len(seconds) - 1) :])

    full = median_of(0)
    return full if every == 1 else (full + (every - 1) * median_of(1)) / every


def noise(spec: RunSpec, image_size: tuple[int, int], size: int) -> Split:
    """Sources of `size` random images each, with random targets, in the form of a data reader."""
    workload = Workload("forecast", "", spec.data, size, image_size, len(spec.info.tasks))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (size, *image_size, 3), dtype=torch.uint8, generator=generator)
    return tuple(Source(pixels, group.targets) for group in workload.noise(torch.device("cpu")))
