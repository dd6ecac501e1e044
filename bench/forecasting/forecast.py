"""What a request will take on this machine: steps, hours, disk and memory, before anything starts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.forecasting.counts import evaluated_images, makespan, prepared_bytes, steps_in_epoch, table_bytes
from bench.forecasting.memory import room
from bench.forecasting.probe import Measured, measure
from bench.forecasting.runs import Machine, Pace, Run, runs_of
from bench.spec.planning import Request
from datasets import DATASETS

_NUMBER = 4  # bytes
_MOST_SETTINGS = 3  # that are told one by one


@dataclass(frozen=True)
class Line:
    """Runs on a data set that cost the same: `to_do` and `kept` ones.

    here: whether its files are, or are made when needed. steps: of all runs to do. seconds: of one run; None where no
    step could be timed, with the reason in `fault`. jacobian: bytes of a whole gradient per task, where steps need
    them.
    """

    data: str
    here: bool
    methods: tuple[str, ...]
    to_do: int
    kept: int
    epochs: int
    steps_per_epoch: int
    steps: int
    seconds: float | None
    pace: Pace | None
    fault: str
    jacobian: int


@dataclass(frozen=True)
class Forecast:
    """The whole request. seconds: until all runs are done, `jobs` at a time; seconds_here: of those on data that is
    here. arrays: bytes of decoded files by data set. tables: bytes of all curves. free_mib: memory that nobody uses
    now, None where the system doesn't tell. remarks: sentences for the user.
    """

    device: str
    threads: int
    jobs: int
    lines: tuple[Line, ...]
    seconds: float
    seconds_here: float
    arrays: Mapping[str, int]
    tables: int
    free_mib: float | None
    remarks: tuple[str, ...]


def forecast(
    request: Request, data_root: Path, results: Path, machine: Machine, budget: float, tell: Callable[[str], None]
) -> Forecast:
    """Counts what the request stands for, and times steps for about `budget` seconds in all.

    tell(sentence) is called before each measurement.

    Raises:
        PlanError: holds every fault found, not only the first.
    """
    torch.set_num_threads(machine.threads)
    runs = runs_of(request, data_root, results, machine)
    free = room(machine.device)
    measured = _measured(runs, machine, budget, tell)
    groups: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        # What has records has a pace of its own.
        groups.setdefault((run.work, run.spec.settings.train.epochs, run.spec.variant if run.pace else ""), []).append(
            run
        )
    lines = {id(members): _line(members, measured) for members in groups.values()}
    seconds = {id(run): lines[id(members)].seconds or 0.0 for members in groups.values() for run in members}
    ahead = [run for run in runs if not run.kept]
    names = list(dict.fromkeys(run.spec.data for run in runs))
    return Forecast(
        device=machine.name,
        threads=machine.threads,
        jobs=machine.jobs,
        lines=tuple(sorted(lines.values(), key=lambda line: names.index(line.data))),
        seconds=makespan([seconds[id(run)] for run in ahead], machine.jobs),
        seconds_here=makespan([seconds[id(run)] for run in ahead if run.stock.here], machine.jobs),
        arrays=_arrays(ahead),
        tables=sum(table_bytes(run.spec, _steps(run)) for run in ahead),
        free_mib=free,
        remarks=tuple(_remarks(request, runs)),
    )


def _measured(
    runs: Sequence[Run], machine: Machine, budget: float, tell: Callable[[str], None]
) -> dict[str, tuple[str, Measured | str]]:
    """By work: whose steps were timed, and what was found.

    Time that one leaves goes to those after it, so quick ones come first: large images would leave them none.
    """
    wanted: dict[str, Run] = {}
    for run in runs:
        if not run.kept and run.pace is None:
            wanted.setdefault(run.work, run)
    deadline = time.monotonic() + budget
    found: dict[str, tuple[str, Measured | str]] = {}
    for work, run in sorted(wanted.items(), key=lambda item: _pixels(item[1])):
        share = max(0.0, deadline - time.monotonic()) / (len(wanted) - len(found))
        tell(f"{run.spec.info.label}, {run.spec.label}: {len(found) + 1} of {len(wanted)} measurements of steps")
        found[work] = run.spec.label, measure(run.spec, run.stock.image_size, machine.device, share)
    return found


def _pixels(run: Run) -> int:
    """What a step of the least batch takes, roughly: pixels that pass ahead, and back for each task."""
    inputs = len(run.stock.sizes.train)
    tasks = len(run.spec.info.tasks) // inputs if run.spec.settings.weighting.needs != "losses" else 1
    return math.prod(run.stock.image_size) * inputs * (1 + tasks)


def _line(members: Sequence[Run], measured: Mapping[str, tuple[str, Measured | str]]) -> Line:
    first = members[0]
    spec, ahead = first.spec, [run for run in members if not run.kept]
    steps = _steps(first)
    pace, fault = first.pace, ""
    if pace is None and first.work in measured:
        timed, found = measured[first.work]
        if isinstance(found, str):
            fault = found
        else:
            images = evaluated_images(first.stock.sizes, spec.settings.train.epochs)
            pace = measured_pace(found, timed, steps, images, spec.settings.train.batch_size)
    rows = len(spec.info.tasks) if spec.settings.weighting.needs != "losses" else 0
    return Line(
        data=spec.data,
        here=first.stock.here,
        methods=tuple(_titles(members)),
        to_do=len(ahead),
        kept=len(members) - len(ahead),
        epochs=spec.settings.train.epochs,
        steps_per_epoch=steps // spec.settings.train.epochs,
        steps=steps * len(ahead),
        seconds=None if pace is None else steps * pace.step + pace.rest,
        pace=pace,
        fault=fault,
        jacobian=0 if pace is None else rows * pace.parameters[0] * _NUMBER,
    )


def measured_pace(found: Measured, timed: str, steps: int, images: int, batch_size: int) -> Pace:
    """What a measurement says of a run of so many steps that evaluates so many images."""
    memory = [part for part in (found.standing_mib, found.passing_mib) if part is not None]
    largest = found.trials[-1]
    of = " and ".join(str(size) for size in dict.fromkeys((found.trials[0], largest)))
    return Pace(
        step=found.step,
        rest=steps * found.batch + images * found.image,
        known="measured" if largest == batch_size else f"scaled from B={of}",
        timed=timed,
        peak_mib=sum(memory) if len(memory) == 2 else None,
        parameters=found.parameters,
        checkpoint=found.checkpoint_bytes,
    )


def _titles(members: Sequence[Run]) -> list[str]:
    """Methods by label, with the settings that set runs of a label apart where there are few."""
    settings: dict[str, dict[str, None]] = {}
    for run in members:
        own = (f"{key}={value}" for key, value in run.spec.overrides.items() if not key.startswith("train."))
        settings.setdefault(run.spec.label, {})[" ".join(own)] = None
    titles = []
    for label, texts in settings.items():
        if len(texts) > _MOST_SETTINGS:
            titles.append(f"{label} ({len(texts)} settings)")
        else:
            titles += [f"{label} ({text})" if text else label for text in texts]
    return titles


def _steps(run: Run) -> int:
    recipe = run.spec.settings.train
    return recipe.epochs * steps_in_epoch(run.stock.sizes, recipe.batch_size)


def _arrays(runs: Sequence[Run]) -> dict[str, int]:
    arrays: dict[str, int] = {}
    for stock in dict.fromkeys(run.stock for run in runs):
        arrays[stock.name] = arrays.get(stock.name, 0) + prepared_bytes(stock, DATASETS[stock.name])
    return arrays


def _remarks(request: Request, runs: Sequence[Run]) -> list[str]:
    stocks = list(dict.fromkeys(run.stock for run in runs))
    remarks = [remark for stock in stocks for remark in stock.remarks]
    absent = list(dict.fromkeys(stock.name for stock in stocks if not stock.here))
    if not absent:
        return remarks
    names = ", ".join(absent)
    told = f"Not here, so planned with published sizes: {names}."
    if not request.only_found:
        return [*remarks, f"{told} Runs need them first; python -m bench.data how NAME tells where to get them."]
    told += " Runs leave them out until they are here; python -m bench.data how NAME tells where to get them."
    if request.otherwise and not any(stock.here for stock in stocks):
        told += f" With none of them here, {', '.join(request.otherwise)} are run instead."
    return [*remarks, told]
