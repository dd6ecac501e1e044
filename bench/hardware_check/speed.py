"""Part "speed": time and memory of training steps, on the embedded problems and on noise of the sizes of the others."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.engine.build import build_network
from bench.engine.clock import WARMUP, StepClock
from bench.engine.device import memory_mib, peak_memory_mib, reset_peak_memory
from bench.engine.precision import choose_kernels
from bench.engine.step import train_step
from bench.engine.train_state import make_train_state
from bench.hardware_check.attempts import NO_TIME, Name, attempt
from bench.hardware_check.deadline import Deadline
from bench.hardware_check.problems import Problem
from bench.hardware_check.settings import SETTINGS, needs_cuda
from bench.profiling.workloads import Size, Workload, workloads
from bench.records.hardware import Check, Speed
from bench.spec.resolve import RunSpec, resolve
from datasets import DATASETS
from datasets.contract import Batch
from methods.contract import batches_of

# One method that needs losses, one that needs the Gramian, one that needs the Jacobian; and NORMAL.
METHODS = ("ew", "cagrad", "graddrop", "normal")
# The settings that each is timed with beside none, those that may matter most first.
CHOSEN = {"ew": ("CUDA graphs", "TF32", "bf16", "channels-last"), "cagrad": ("bf16",), "normal": ("bf16",)}
# Steps that are timed, in chunks after which the device is waited for, and seconds after which no further chunk begins.
_CHUNK, _MOST_STEPS, _SECONDS = 5, 30, 1.5


@dataclass(frozen=True)
class Case:
    """Steps to be timed: a workload, or a problem with its own images; a method, and a setting ("" for none)."""

    on: Workload | Problem
    method: str
    setting: str = ""

    @property
    def key(self) -> str:
        return self.on.data if isinstance(self.on, Problem) else self.on.key

    @property
    def name(self) -> Name:
        return Name("speed", f"{self.key}, {self.setting or 'fp32'}", self.method)

    @property
    def label(self) -> str:
        return DATASETS[self.on.data].label if isinstance(self.on, Problem) else self.on.label

    def spec(self) -> RunSpec:
        settings: Mapping[str, Any] = SETTINGS.get(self.setting, {})
        if isinstance(self.on, Problem):
            return resolve(self.on.data, self.method, assignments=settings)
        return self.on.spec(self.method, **settings)

    def batches(self, spec: RunSpec, device: torch.device) -> tuple[Batch, ...]:
        """What every step reads: the first batch, or as many as the weighting needs."""
        if isinstance(self.on, Problem):
            return next(self.on.batches(spec, device))
        return (self.on.noise(device),) * batches_of(spec.settings.weighting)


def cases(problems: Sequence[Problem], size: Size) -> list[Case]:
    """All of them, without settings first, so that these are left out last."""
    places: list[Workload | Problem] = [*problems, *workloads(size).values()]
    plain = [Case(place, method) for place in places for method in METHODS]
    chosen = [(method, setting) for method, settings in CHOSEN.items() for setting in settings]
    return plain + [Case(place, method, setting) for place in places for method, setting in chosen]


def measure_speed(
    planned: Sequence[Case], device: torch.device, deadline: Deadline
) -> Iterator[tuple[Check, Speed | None]]:
    """Each case with its times, or with the reason for which there are none."""
    for case in planned:
        if reason := needs_cuda(case.setting, device):
            yield case.name.not_run(reason), None
            continue
        found: list[Speed] = []

        def measured(case: Case = case, found: list[Speed] = found) -> list[Check]:
            found += _timed(case, device, deadline)
            return [case.name.passed() if found else case.name.not_run(NO_TIME)]

        (check,) = attempt([case.name], deadline, measured)
        yield check, (found[0] if found else None)


def _timed(case: Case, device: torch.device, deadline: Deadline) -> list[Speed]:
    """The times of a case; none if the time was up after the warm-up."""
    gc.collect()  # networks of earlier cases would count as memory of this one
    spec = case.spec()
    choose_kernels(spec.settings.compute)
    before = memory_mib(device)  # of the problems' data, which are on the device already
    reset_peak_memory(device)
    state = make_train_state(spec, build_network(spec, device, _tasks(case)), _tasks(case))
    batch, *others = case.batches(spec, device)
    seconds: list[float] = []
    clock, count, start = StepClock(device, seconds), itertools.count(), time.monotonic()
    for steps in (1, WARMUP - 1, *[_CHUNK] * (_MOST_STEPS // _CHUNK)):
        for _ in range(steps):
            with clock.step():
                train_step(state, batch, next(count), 0, others=others)
        clock.collect()
        if deadline.passed or (len(seconds) > WARMUP and time.monotonic() - start > _SECONDS):
            break
    if len(seconds) <= WARMUP:
        return []
    images = sum(len(group.inputs) for group in batch)
    peak = peak_memory_mib(device)
    return [
        Speed(
            workload=case.key,
            label=case.label,
            method=case.method,
            setting=case.setting,
            images=images,
            seconds=seconds[WARMUP:],
            peak_mib=None if peak is None or before is None else max(0.0, peak - before),
        )
    ]


def _tasks(case: Case) -> Sequence[Any] | None:
    """The tasks of a workload; None for those of the data set."""
    return None if isinstance(case.on, Problem) else case.on.tasks
