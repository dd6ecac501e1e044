"""What a request will cost on this machine, from records of the same runs or from steps measured now."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import ROOT
from bench.engine.device import device_name
from bench.forecasting.memory import available_memory
from bench.forecasting.probe import StepCost, measure
from bench.forecasting.sizes import DatasetSize, dataset_size, evaluated_images, prepared_bytes, steps_in_epoch
from bench.records.environment import describe_environment
from bench.records.record import Record
from bench.records.store import RECORD, RecordError, read_record, run_folder
from bench.spec.planning import PlanError, Request, all_specs, data_names, is_kept
from bench.spec.resolve import RunSpec
from datasets.contract import DataError
from methods.adapters import is_adapter
from methods.contract import PostStepHook

# Settings that change what is learned, but not what a step costs.
_FREE = {
    "train": {"epochs", "lr", "weight_decay", "lr_decay_every", "lr_decay"},
    "data": {"split_seed", "splits", "protocol"},
    "backbone": {"weights"},
    "heads": {"rule"},
}


@dataclass(frozen=True)
class Machine:
    """The machine as runs will use it: `jobs` at a time with `threads` each."""

    device: torch.device
    threads: int
    jobs: int

    @property
    def name(self) -> str:
        """The device as in records."""
        return device_name(self.device)


@dataclass(frozen=True)
class Run:
    """A run of the request. cost: from records; None if there are none. key: equal for runs with the same step cost."""

    spec: RunSpec
    size: DatasetSize
    done: bool
    cost: StepCost | None
    key: str

    @property
    def steps(self) -> int:
        """Training steps."""
        recipe = self.spec.settings.train
        return recipe.epochs * steps_in_epoch(self.size.parts, recipe.batch_size)


@dataclass(frozen=True)
class Group:
    """Runs on one data set that cost the same.

    available: whether the data set is.
    pending, done: number of runs to do, and with records.
    steps: of one run.
    seconds: of one run; None if no step could be timed.
    cost: of a step, or why it is not known.
    """

    data: str
    available: bool
    methods: tuple[str, ...]
    pending: int
    done: int
    epochs: int
    steps: int
    seconds: float | None
    cost: StepCost | str


@dataclass(frozen=True)
class Forecast:
    """The whole request.

    seconds: until all runs are done, with all jobs busy until the end.
    prepared_bytes: of decoded files, by data set.
    available_mib: memory free now; None if the system doesn't say.
    notes: sentences for the user.
    """

    device: str
    threads: int
    jobs: int
    groups: tuple[Group, ...]
    seconds: float
    prepared_bytes: Mapping[str, int]
    available_mib: float | None
    notes: tuple[str, ...]


def forecast(
    request: Request, data_root: Path, results: Path, machine: Machine, budget: float, show: Callable[[str], None]
) -> Forecast:
    """Measures steps for about `budget` seconds in all, and calls show(sentence) before each measurement.

    Raises:
        PlanError: lists every error found.
    """
    torch.set_num_threads(machine.threads)
    available = available_memory(machine.device)
    runs = runs_of(request, data_root, results, machine)
    costs = _measured([run for run in runs if not run.done and run.cost is None], machine, budget, show)
    members: dict[tuple[str, int, str], list[Run]] = {}
    for run in runs:
        own = run.spec.variant if run.cost else ""  # runs with records have costs of their own
        members.setdefault((run.key, run.spec.settings.train.epochs, own), []).append(run)
    groups = [_group(some, costs) for some in members.values()]
    seconds = [group.seconds or 0.0 for group in groups for _ in range(group.pending)]
    sizes = list(dict.fromkeys(run.size for run in runs))
    missing = ", ".join(dict.fromkeys(size.name for size in sizes if not size.available))
    how = f"Not found, planned with published sizes: {missing}. python -m bench.data how NAME says where to get them."
    return Forecast(
        device=machine.name,
        threads=machine.threads,
        jobs=machine.jobs,
        groups=tuple(sorted(groups, key=lambda group: [size.name for size in sizes].index(group.data))),
        seconds=max(sum(seconds) / machine.jobs, *seconds, 0.0),
        prepared_bytes={run.size.name: prepared_bytes(run.size) for run in runs if not run.done},
        available_mib=available,
        notes=(*(size.note for size in sizes if size.note), *([how] if missing else [])),
    )


def runs_of(request: Request, data_root: Path, results: Path, machine: Machine) -> list[Run]:
    """All runs, each once and in the order of training, also those on data sets that are not available.

    Raises:
        PlanError: lists every error found.
    """
    errors: list[str] = []
    runs = []
    for spec in all_specs(request, data_names(request, errors), errors):
        try:
            folder = run_folder(results, spec.data, spec.variant, spec.seed)
            records = [read_record(path) for path in sorted(folder.parent.glob(f"seed-*/{RECORD}"))]
            done = any(is_kept(spec, record, folder / RECORD) for record in records if record.seed == spec.seed)
            size = dataset_size(spec.data, spec.settings.data, data_root)
            runs.append(Run(spec, size, done, recorded_cost(spec, records, machine), step_key(spec)))
        except (DataError, PlanError, RecordError) as error:
            errors.append(str(error))
    if errors:
        raise PlanError("\n".join(dict.fromkeys(errors)))
    return runs


def step_key(spec: RunSpec) -> str:
    """Equal for runs whose steps cost the same. The solvers of our own weightings take milliseconds and don't count."""
    settings = {
        section: {key: value for key, value in values.items() if key not in _FREE.get(section, ())}
        for section, values in spec.settings.as_dict().items()
    }
    settings["weighting"] = {key: settings["weighting"].get(key) for key in ("every", "grad_space")}
    # The order of numbers per task is irrelevant, since one flow or network serves all tasks.
    settings["arch"] = {k: sorted(v) if isinstance(v, list) else v for k, v in settings["arch"].items()}
    weighting = spec.settings.weighting
    passes = [
        weighting.needs,
        isinstance(weighting, PostStepHook),
        spec.weighting if is_adapter(spec.weighting) else "",
    ]
    return json.dumps([spec.data, spec.architecture, passes, settings], sort_keys=True)


def recorded_cost(spec: RunSpec, records: Sequence[Record], machine: Machine) -> StepCost | None:
    """Medians over finished runs with these settings, of any seed, on a machine like this one."""
    here = {"device": machine.name, "threads": machine.threads, "cpu": describe_environment(ROOT)["cpu"]}
    same = [
        (record, record.step_seconds.median)
        for record in records
        if record.status == "done" and record.step_seconds and record.settings == spec.settings.as_dict()
        if all(record.environment.get(key) == value for key, value in here.items())
    ]
    if not same:
        return None
    counts = same[-1][0].parameters
    return StepCost(
        step=statistics.median(step for _, step in same),
        batch=max(0.0, statistics.median(record.seconds / record.steps - step for record, step in same)),
        image=0.0,  # part of the time per batch
        source=f"from {len(same)} record{'s' if len(same) > 1 else ''}",
        peak_mib=max((record.peak_memory_mib for record, _ in same if record.peak_memory_mib), default=None),
        parameters=counts.shared + counts.heads + counts.positions if counts else 0,
    )


def _measured(
    runs: Sequence[Run], machine: Machine, budget: float, show: Callable[[str], None]
) -> dict[str, StepCost | str]:
    """By key. Small images come first, since the time that they leave goes to the others."""
    wanted = {run.key: run for run in reversed(runs)}
    deadline = time.monotonic() + budget
    found: dict[str, StepCost | str] = {}
    for key, run in sorted(wanted.items(), key=lambda item: item[1].size.image_size):
        share = max(0.0, deadline - time.monotonic()) / (len(wanted) - len(found))
        show(f"timing steps of {run.spec.info.label}, {run.spec.label}: {len(found) + 1} of {len(wanted)}")
        found[key] = measure(run.spec, run.size.image_size, machine.device, share)
    return found


def _group(members: Sequence[Run], costs: Mapping[str, StepCost | str]) -> Group:
    first, done = members[0], sum(run.done for run in members)
    epochs = first.spec.settings.train.epochs
    cost = first.cost or costs.get(first.key, "not timed")
    seconds = None
    if isinstance(cost, StepCost):
        images = evaluated_images(first.size.parts, epochs)
        seconds = first.steps * (cost.step + cost.batch) + images * cost.image
    data, available = first.spec.data, first.size.available
    pending = len(members) - done
    return Group(data, available, _titles(members), pending, done, epochs, first.steps, seconds, cost)


def _titles(members: Sequence[Run]) -> tuple[str, ...]:
    """Methods by label, with the number of their settings if there are several."""
    variants: dict[str, set[str]] = {}
    for run in members:
        variants.setdefault(run.spec.label, set()).add(run.spec.variant)
    return tuple(f"{label} ({len(keys)} settings)" if len(keys) > 1 else label for label, keys in variants.items())
