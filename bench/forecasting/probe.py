"""What a training step costs here and now: a few steps and an evaluation on noise, at the batch size that time allows.

A step takes as long on noise as on images, and at a learning rate of 0 as at any other. B batch.
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
from bench.forecasting.memory import bytes_in, room, standing_memory
from bench.profiling.workloads import Workload
from bench.spec.resolve import RunSpec
from datasets.contract import Batch, Source, Split
from methods.contract import Diverged

_LEAST_BATCH = 2  # BatchNorm has no variance of one image
# Steps at one batch size at most; a few do where they take so many seconds, and where a larger batch may follow. The
# first ones, which set up optimizers and find memory, aren't counted where there are more.
_MOST_STEPS, _FEW_STEPS, _WARMUP = 15, 4, 2
_ENOUGH_SECONDS = 1.0
# Of the time that is left, what one batch size takes while a larger one may follow; that has to leave time for
# a few steps and an evaluation. The second one, without which nothing tells a step's fixed part, may overdraw it.
_SHARE_OF_ONE, _STEPS_AHEAD, _OVERDRAFT = 0.5, 4, 2
# Of the memory that is free, what a larger batch may be expected to take.
_SHARE_OF_MEMORY = 0.8


@dataclass(frozen=True)
class Trial:
    """Steps at one batch size. step, batch: seconds of one, and of making its batch.

    passing_mib: what a step takes at its peak and gives back; None where the system doesn't tell.
    """

    batch_size: int
    step: float
    batch: float
    passing_mib: float | None


@dataclass(frozen=True)
class Measured:
    """What was found. step, batch: seconds at the run's batch size; image: seconds to evaluate one.

    trials: batch sizes that steps were timed at, ascending; all below the run's own where steps are scaled.
    standing_mib: what is kept from step to step, of the whole process on a CPU; passing_mib: what a step at the run's
    batch size takes besides.
    checkpoint_bytes: of a checkpoint with a best network. parameters: how many, shared and of heads and positions.
    """

    step: float
    batch: float
    image: float
    trials: tuple[int, ...]
    standing_mib: float | None
    passing_mib: float | None
    checkpoint_bytes: int
    parameters: tuple[int, int]


def measure(spec: RunSpec, image_size: tuple[int, int], device: torch.device, seconds: float) -> Measured | str:
    """Times steps and an evaluation of a run in about so many seconds, but at least one step of the least batch.

    A sentence instead where no step can be taken.
    """
    settings = replace(
        spec.settings,
        backbone=replace(spec.settings.backbone, weights="none"),
        train=replace(spec.settings.train, lr=0.0, weight_decay=0.0),
    )
    probe = replace(spec, settings=settings)
    gc.collect()  # the network before this one
    allow_tf32(settings.compute.tf32)
    deadline = time.monotonic() + seconds
    train_state = make_train_state(probe, build_network(probe, device))
    parts = settings.train.accumulate
    size: int | None = min(_LEAST_BATCH * parts, settings.train.batch_size)
    trials: list[Trial] = []
    try:
        while size is not None:
            trials.append(_trial(train_state, probe, image_size, size, device, deadline))
            size = next_batch(trials, settings.train.batch_size, parts, deadline - time.monotonic(), room(device))
        image = _evaluation(train_state, probe, image_size, trials[-1].batch_size, device)
    except Diverged as error:
        return str(error)
    except torch.OutOfMemoryError:
        if not trials:
            return f"out of memory with a batch of {size}"
        image = trials[-1].step / (trials[-1].batch_size * _sources(probe))
    batch_size = settings.train.batch_size
    return Measured(
        step=_step_at(trials, batch_size),
        batch=trials[-1].batch * batch_size / trials[-1].batch_size,
        image=image,
        trials=tuple(trial.batch_size for trial in trials),
        standing_mib=standing_memory(device),
        passing_mib=_memory_at(trials, batch_size),
        checkpoint_bytes=_checkpoint_bytes(train_state),
        parameters=_parameters(train_state),
    )


def scaled(points: Sequence[tuple[int, float]], batch_size: int) -> float:
    """Seconds or MiB of a step at `batch_size`, from (batch size, value) of smaller ones, ascending.

    A fixed part, of the optimizer and the like, and one in proportion to the images: a line through the first and the
    last point, or through 0 where there is but one.
    """
    first, last = points[0], points[-1]
    fixed = 0.0
    if len(points) > 1:
        slope = max(0.0, (last[1] - first[1]) / (last[0] - first[0]))
        fixed = min(max(0.0, last[1] - slope * last[0]), last[1])
    return fixed + (last[1] - fixed) * batch_size / last[0]


def next_batch(trials: Sequence[Trial], wanted: int, parts: int, seconds: float, room_mib: float | None) -> int | None:
    """The largest batch size, `wanted` or `parts` × a power of two below it, for which time and memory should do.

    None where there is none above those that were tried.
    """
    last = trials[-1]
    sizes = [parts * 2**exponent for exponent in range(1, wanted.bit_length()) if parts * 2**exponent < wanted]
    larger = [size for size in (wanted, *reversed(sizes)) if size > last.batch_size]
    for size in larger:
        memory = _memory_at(trials, size)
        in_room = room_mib is None or memory is None or memory <= _SHARE_OF_MEMORY * room_mib
        step = _step_at(trials, size)
        second = len(trials) == 1 and size == larger[-1]
        if in_room and (_STEPS_AHEAD * step <= seconds or (second and step <= _OVERDRAFT * seconds)):
            return size
    return None


def _step_at(trials: Sequence[Trial], batch_size: int) -> float:
    return scaled([(trial.batch_size, trial.step) for trial in trials], batch_size)


def _memory_at(trials: Sequence[Trial], batch_size: int) -> float | None:
    points = [(trial.batch_size, trial.passing_mib) for trial in trials if trial.passing_mib is not None]
    return scaled(points, batch_size) if points else None


def average(rare: Sequence[float], usual: Sequence[float], every: int) -> float:
    """Seconds of a step, when one in `every` is of the rare kind; the first turns of a kind warm it up."""
    if every == 1:
        return _settled(rare)
    return (_settled(rare) + (every - 1) * _settled(usual)) / every


def _settled(seconds: Sequence[float]) -> float:
    return statistics.median(seconds[min(_WARMUP, len(seconds) - 1) :])


def _trial(
    train_state: TrainState,
    spec: RunSpec,
    image_size: tuple[int, int],
    size: int,
    device: torch.device,
    deadline: float,
) -> Trial:
    split = noise(spec, image_size, size)
    whole = size == spec.settings.train.batch_size
    left = deadline - time.monotonic()
    ends = deadline if whole else time.monotonic() + _SHARE_OF_ONE * left
    start = time.perf_counter()
    generator = torch.Generator().manual_seed(0)
    (batch,) = training_batches(split, spec.info, size, generator, device, spec.settings.data.augment)
    synchronise(device)
    making = time.perf_counter() - start
    standing_memory(device)  # begins to look for the peak
    step = _step_seconds(train_state, spec, batch, device, _MOST_STEPS if whole else _FEW_STEPS, ends)
    peak = peak_memory_mib(device)
    standing = standing_memory(device)  # with all that the first step has left: the optimizer's moments, buffers
    passing = None if peak is None or standing is None else max(0.0, peak - standing)
    return Trial(size, step, making, passing)


def _step_seconds(
    train_state: TrainState, spec: RunSpec, batch: Batch, device: torch.device, most: int, ends: float
) -> float:
    """Seconds of a step, on average over those that renew the weights or look at cosines and those that don't."""
    looks = spec.settings.train.cosines_every
    every = max(spec.settings.as_dict()["weighting"].get("every", 1), looks, 1)
    kinds = 1 if every == 1 else 2
    seconds: list[float] = []
    clock = StepClock(device, seconds)
    while len(seconds) < kinds * most:
        few = len(seconds) >= kinds * _FEW_STEPS
        late = len(seconds) >= kinds and time.monotonic() + seconds[-1] > ends
        if late or (few and sum(seconds) > _ENOUGH_SECONDS):
            break
        step = len(seconds) % kinds  # step 0 is of the rare kind, step 1 of the usual one
        with clock.step(), train_state.network.translate_errors():
            train_step(train_state, batch, step, 0, cosines=looks > 0 and step == 0)
        clock.collect()
    return average(seconds[::kinds], seconds[1::kinds], every)


def _evaluation(
    train_state: TrainState, spec: RunSpec, image_size: tuple[int, int], size: int, device: torch.device
) -> float:
    """Seconds to evaluate an image, the second time."""
    split = noise(spec, image_size, size)
    seconds: list[float] = []
    while not seconds or (len(seconds) < 2 and seconds[0] < 1):
        start = time.perf_counter()
        evaluate(train_state.network, spec.info, split, device)
        synchronise(device)
        seconds.append(time.perf_counter() - start)
    return seconds[-1] / sum(len(source) for source in split)


def noise(spec: RunSpec, image_size: tuple[int, int], size: int) -> Split:
    """Sources of `size` images each, with targets by chance, as a reader would give them."""
    shape = Workload("forecast", "", spec.data, size, image_size, len(spec.info.tasks))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (size, *image_size, 3), dtype=torch.uint8, generator=generator)
    return tuple(Source(pixels, group.targets) for group in shape.noise(torch.device("cpu")))


def _sources(spec: RunSpec) -> int:
    return len(spec.info.tasks) if spec.info.kind == "multi-input" else 1


def _parameters(train_state: TrainState) -> tuple[int, int]:
    network = train_state.network
    shared = sum(p.numel() for p in network.shared_parameters())
    own = [*network.heads.parameters(), *network.position_parameters()]
    return shared, sum(p.numel() for p in own)


def _checkpoint_bytes(train_state: TrainState) -> int:
    """The network as it is and as it was best, the optimizers' moments, and what the weighting carries."""
    optimizers = [optimizer.state_dict() for optimizer in train_state.optimizers.values()]
    carried = [train_state.weighting_state.learned, train_state.weighting_state.memory]
    return 2 * bytes_in(train_state.network.state_dict()) + bytes_in(optimizers) + bytes_in(carried)
