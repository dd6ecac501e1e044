"""What a request will cost on this machine, from records of the same runs or from steps measured now."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import ROOT
from bench.engine.checkpoint import checkpoint_remarks
from bench.engine.device import device_name
from bench.engine.hardware import hardware_errors, hardware_remarks
from bench.engine.parallel import threads_each
from bench.engine.storage import storage_errors
from bench.forecasting.probe import StepCost, available_memory, measure, of_all_processes
from bench.forecasting.sizes import DatasetSize, dataset_size, prepared_bytes
from bench.records.environment import describe_environment
from bench.records.files import StorageError, matching
from bench.records.record import Record
from bench.records.store import SEED_PREFIX, BadRecord, RecordError, read_run, run_folder
from bench.spec.data_seen import CurrentData, data_remarks, look_at_data, neighbour_remarks
from bench.spec.kept import kept_record
from bench.spec.request import PlanError, Request, data_names, raise_all
from bench.spec.resolve import RunSpec
from bench.spec.run_specs import all_specs, twin_runs
from datasets import DATASETS, find
from methods.adapters import is_adapter
from methods.contract import PostStepHook, batches_of

# Settings that change what is learned, but neither the number of steps nor what a step costs.
_FREE = {
    "train": {"lr", "weight_decay", "lr_decay_every", "lr_decay"},
    "data": {"split_seed", "split_per_seed"},
    "backbone": {"weights"},
    "heads": {"rule"},
    "arch": {"xi", "eta_ratio"},
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
    """A run of the request. done: whether it has a record."""

    spec: RunSpec
    size: DatasetSize
    done: bool


@dataclass(frozen=True)
class Group:
    """Runs on one data set that cost the same.

    methods: by label.
    pending, done: number of runs to do, and with records.
    steps: of one run.
    seconds: of one run; None if no step could be timed.
    cost: of a step, or why it is not known.
    """

    data: str
    methods: tuple[str, ...]
    pending: int
    done: int
    steps: int
    seconds: float | None
    cost: StepCost | str


@dataclass(frozen=True)
class Forecast:
    """The whole request.

    seconds: until all runs are done, with all jobs busy until the end.
    prepared_bytes: of decoded files, by data set.
    available_mib: memory free now; None if the system doesn't say.
    missing: data sets that were not found.
    remarks: for the user, on the data.
    """

    machine: Machine
    groups: tuple[Group, ...]
    seconds: float
    prepared_bytes: Mapping[str, int]
    available_mib: float | None
    missing: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def forecast(
    request: Request, data_root: Path, results: Path, machine: Machine, budget: float, show: Callable[[str], None]
) -> Forecast:
    """Measures steps for about `budget` seconds in all, and calls show(sentence) before each measurement.

    Raises:
        PlanError: lists every error found.
        RecordError: a record of another seed can't be read.
    """
    torch.set_num_threads(machine.threads)
    available = available_memory(machine.device)
    runs, current, remarks = runs_of(request, data_root, results)
    pending = [run.spec for run in runs if not run.done]
    if impossible := hardware_errors(pending, machine.device):
        raise PlanError("\n".join(impossible))
    remarks += hardware_remarks(pending, machine.device)
    remarks += checkpoint_remarks(pending, results, current, machine.device)
    remarks += neighbour_remarks(current, pending, results)
    remarks += storage_errors(pending, results, machine.jobs)
    members: dict[str, list[Run]] = {}
    for run in runs:
        members.setdefault(step_key(run.spec), []).append(run)
    costs = {key: recorded_cost([run.spec for run in some], results, machine) for key, some in members.items()}
    unknown = {key: some[0] for key, some in members.items() if not (costs[key] or all(run.done for run in some))}
    measured: dict[str, StepCost | str] = {}
    for key, run in unknown.items():
        show(f"timing steps of {run.spec.info.label}, {run.spec.label}: {len(measured) + 1} of {len(unknown)}")
        torch.set_num_threads(threads_each(machine.threads, run.spec.settings.compute.processes))
        measured[key] = measure(run.spec, run.size.image_size, machine.device, budget / len(unknown))
    groups = tuple(group_of(some, costs[key] or measured.get(key, "not timed")) for key, some in members.items())
    seconds = [group.seconds or 0.0 for group in groups for _ in range(group.pending)]
    names = dict.fromkeys(run.spec.data for run in runs)
    return Forecast(
        machine=machine,
        groups=groups,
        seconds=max(sum(seconds) / machine.jobs, *seconds, 0.0),
        prepared_bytes={run.spec.data: prepared_bytes(run.spec.data, run.size) for run in runs if not run.done},
        available_mib=available,
        missing=tuple(name for name in names if DATASETS[name].make is None and find(name, data_root) is None),
        remarks=tuple(remarks),
    )


def runs_of(request: Request, data_root: Path, results: Path) -> tuple[list[Run], CurrentData, list[str]]:
    """All runs, each once and in the order of training, also those on data sets that are not available.

    Also the data that is here now, and what the user should know about it.

    Raises:
        PlanError: lists every error found.
    """
    errors: list[str] = []
    runs = []
    names = data_names(request, errors)
    specs = all_specs(request, names, errors)
    current = look_at_data(specs, {name: folder for name in names if (folder := find(name, data_root))}, errors)
    kept: list[tuple[RunSpec, Record]] = []
    remarks = list(request.remarks)

    def add(some: Sequence[RunSpec]) -> None:
        for spec in some:
            record = None
            try:
                size = dataset_size(spec.data, spec.settings.data)
                record = kept_record(spec, results, current.of(spec))
            except BadRecord as error:
                remarks.append(str(error))
            except (PlanError, RecordError, StorageError) as error:
                errors.append(str(error))
                continue
            runs.append(Run(spec, size, done=record is not None))
            kept.extend([(spec, record)] if record is not None else [])

    add(specs)
    twins = twin_runs(request, names, kept, results, errors)
    add([*twins.planned, *twins.waiting])
    remarks += twins.remarks
    raise_all(errors)
    if any(run.spec.settings.compute.processes > 1 for run in runs):
        remarks.append(
            "compute.processes: steps are those of one process on its part of the batch; what processes exchange is "
            "not counted."
        )
    return runs, current, [*remarks, *data_remarks(current, kept)]


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
    adapter = spec.weighting if is_adapter(spec.weighting) else ""
    passes = [weighting.needs, batches_of(weighting), isinstance(weighting, PostStepHook), adapter]
    return json.dumps([spec.data, spec.architecture, passes, settings], sort_keys=True)


def recorded_cost(specs: Sequence[RunSpec], results: Path, machine: Machine) -> StepCost | None:
    """Medians over finished runs of these variants, of any seed, on a machine like this one; None if there are none."""
    here = {"device": machine.name, "threads": machine.threads, "cpu": describe_environment(ROOT)["cpu"]}
    same: list[Record] = []
    for spec in {spec.variant: spec for spec in specs}.values():
        variant = run_folder(results, spec.data, spec.variant, spec.seed).parent
        same += [
            record
            for record in _records_of(variant)
            if record.status == "done" and record.steps and record.settings == spec.settings.as_dict()
            if all(record.environment.get(key) == value for key, value in here.items())
        ]
    if not same:
        return None
    return StepCost(
        step=statistics.median(record.seconds / record.steps for record in same),
        source=f"from {len(same)} record{'s' if len(same) > 1 else ''}",
        peak_mib=of_all_processes(
            max((record.peak_memory_mib for record in same if record.peak_memory_mib), default=None),
            specs[0],
            machine.device,
        ),
    )


def _records_of(variant: Path) -> list[Record]:
    """The records of all seeds, without bad ones; those of the request are in the remarks."""
    found = []
    for folder in matching(variant, f"{SEED_PREFIX}*"):
        with suppress(BadRecord):
            record = read_run(folder)
            found += [record] if record is not None else []
    return found


def group_of(members: Sequence[Run], cost: StepCost | str) -> Group:
    """Runs with one cost of a step, as a group."""
    spec, done = members[0].spec, sum(run.done for run in members)
    recipe = spec.settings.train
    steps = recipe.epochs * max(1, members[0].size.training // recipe.batch_size)  # as the engine
    seconds = steps * cost.step if isinstance(cost, StepCost) else None
    methods = tuple(dict.fromkeys(run.spec.label for run in members))
    return Group(spec.data, methods, len(members) - done, done, steps, seconds, cost)
