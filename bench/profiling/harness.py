"""How all benchmarks of speed take their samples.

Machines are noisy. So every round has a sample of each candidate, and ratios are only taken within a round.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from bench.engine.device import peak_memory_mib, reset_peak_memory, synchronise
from methods.contract import Evaluations

CPU = torch.device("cpu")
_NONE = Evaluations(0, 0)
# A sample is the fastest of several calls: as many as take this many seconds together, up to a limit.
_MOST_CALLS, _SAMPLE_SECONDS = 5, 0.1


@dataclass(frozen=True)
class Sample:
    """One timed call.

    seconds: wall-clock time.
    forward: seconds of the forward pass; None if it wasn't timed by itself.
    evaluations: how often the field of the flow was evaluated.
    images: how many were read.
    peak_mib: memory that the call took beyond what was in use; None on a CPU, where only that of the process is known.
    """

    seconds: float
    forward: float | None = None
    evaluations: Evaluations = _NONE
    images: int = 0
    peak_mib: float | None = None

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


@dataclass(frozen=True)
class Candidate:
    """One of several implementations that do the same work.

    workload: candidates on the same workload are compared.
    call: does the work once and returns how long it took.
    may_fail: an error ends the sampling of this candidate only.
    """

    workload: str
    name: str
    call: Callable[[], Sample]
    may_fail: bool = False


@dataclass(frozen=True)
class Result:
    """The samples of a candidate, one per round, or the type and first line of the error that it raised."""

    workload: str
    candidate: str
    samples: tuple[Sample, ...]
    error: str = ""

    @property
    def milliseconds(self) -> list[float]:
        return [1e3 * sample.seconds for sample in self.samples]


def run_benchmark(
    candidates: Sequence[Candidate],
    rounds: int,
    device: torch.device = CPU,
    *,
    warmup: int = 1,
    patience: float = math.inf,
    on_sample: Callable[[str], None] = lambda name: None,
) -> list[Result]:
    """Samples every candidate once per round, in an order drawn for each round.

    warmup: rounds before the others, to allocate memory and set up optimizers; their samples are dropped.
    patience: a candidate isn't sampled again once its samples have taken more than this many seconds together.
    on_sample: called with the name of a candidate before its sample.

    Raises:
        Exception: an error of a candidate that may not fail.
    """
    samples: list[list[Sample]] = [[] for _ in candidates]
    errors: dict[int, str] = {}
    order = random.Random(0)
    everyone = range(len(candidates))
    for index, which in ((i, w) for i in range(-warmup, rounds) for w in order.sample(everyone, len(everyone))):
        candidate = candidates[which]
        on_sample(candidate.name)
        if which in errors or sum(sample.seconds for sample in samples[which]) > patience:
            continue
        try:
            sample = fastest(candidate.call, device)
        except Exception as error:
            if not candidate.may_fail:
                raise
            errors[which] = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
            continue
        if index >= 0:
            samples[which].append(sample)
    return [
        Result(candidate.workload, candidate.name, () if which in errors else tuple(taken), errors.get(which, ""))
        for which, (candidate, taken) in enumerate(zip(candidates, samples, strict=True))
    ]


def fastest(call: Callable[[], Sample], device: torch.device) -> Sample:
    """The fastest of a few calls in a row: disturbances, such as cold caches, only add time. Peak memory is of all."""
    if device.type != "cpu":
        reset_peak_memory(device)
    before = peak_memory_mib(device) or 0.0
    samples = [call()]
    while len(samples) < _MOST_CALLS and sum(sample.seconds for sample in samples) < _SAMPLE_SECONDS:
        samples.append(call())
    peak = None if device.type == "cpu" else (peak_memory_mib(device) or 0.0) - before
    return replace(min(samples, key=lambda sample: sample.seconds), peak_mib=peak)


def timed(call: Callable[[], object], device: torch.device = CPU, times: int = 1) -> Sample:
    """The mean time of this many calls in a row."""
    start = now(device)
    for _ in range(times):
        call()
    return Sample((now(device) - start) / times)


def now(device: torch.device) -> float:
    """The time in seconds, read when the device has finished its work."""
    synchronise(device)
    return time.perf_counter()
