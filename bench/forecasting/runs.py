"""Which runs a request stands for, what is kept of them, and what their records say of their pace."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench import ROOT
from bench.engine.device import device_name
from bench.forecasting.counts import Stock, take_stock
from bench.records.environment import describe_environment
from bench.records.record import Record
from bench.records.store import RECORD, RecordError, read_record, run_folder
from bench.spec.planning import PlanError, Request, all_specs, data_names, is_kept
from bench.spec.resolve import RunSpec
from datasets.contract import DataError
from methods.adapters import is_adapter
from methods.contract import PostStepHook

# Settings that change what is learned, but neither a step's work nor its memory.
_FREE = {
    "train": {"epochs", "lr", "weight_decay", "lr_decay_every", "lr_decay"},
    "data": {"split_seed", "splits", "protocol"},
    "backbone": {"weights"},
    "heads": {"rule"},
}
# Of the settings of a weighting, those that all have: how often, and of which gradients, it is asked.
_ASKED = {"every", "grad_space"}
_NUMBER = 4  # bytes


@dataclass(frozen=True)
class Machine:
    """This machine as runs will use it, `jobs` at a time with so many threads each."""

    device: torch.device
    threads: int
    jobs: int

    @property
    def name(self) -> str:
        """The device as records call it."""
        return device_name(self.device)


@dataclass(frozen=True)
class Pace:
    """What a run costs. step: seconds of a step; rest: of all else in a run. known: how, in words.

    timed: whose steps. peak_mib: memory at its highest, of a process on a CPU, of tensors on an accelerator; None
    where the system doesn't tell. parameters: shared ones, and those of heads and positions. checkpoint: bytes.
    """

    step: float
    rest: float
    known: str
    timed: str
    peak_mib: float | None
    parameters: tuple[int, int]
    checkpoint: int


@dataclass(frozen=True)
class Run:
    """A run of a request. pace: from records of the same settings made here; None where there are none.

    work: the same for runs whose steps are the same work.
    """

    spec: RunSpec
    stock: Stock
    kept: bool
    pace: Pace | None
    work: str


def runs_of(request: Request, data_root: Path, results: Path, machine: Machine) -> list[Run]:
    """All runs, each once and in the order of training, also those on data sets that aren't here.

    Raises:
        PlanError: holds every fault found, not only the first.
    """
    faults: list[str] = []
    specs = all_specs(request, data_names(request, faults), faults)
    stocks: dict[str, Stock] = {}
    records: dict[Path, list[Record]] = {}
    runs = []
    for spec in specs:
        try:
            reading = json.dumps([spec.data, spec.settings.as_dict()["data"]])
            if reading not in stocks:
                stocks[reading] = take_stock(spec.data, spec.settings.data, data_root)
            folder = run_folder(results, spec.data, spec.variant, spec.seed)
            if folder.parent not in records:
                records[folder.parent] = [read_record(path) for path in sorted(folder.parent.glob(f"seed-*/{RECORD}"))]
            own = records[folder.parent]
            kept = any(is_kept(spec, record, folder / RECORD) for record in own if record.seed == spec.seed)
            runs.append(Run(spec, stocks[reading], kept, recorded_pace(spec, own, machine), work_of(spec)))
        except (DataError, PlanError, RecordError) as error:
            faults.append(str(error))
    if faults:
        raise PlanError("\n".join(dict.fromkeys(faults)))
    return runs


def work_of(spec: RunSpec) -> str:
    """A text that is the same for runs whose steps are the same work, but for the solver of their weighting."""
    settings: dict[str, dict[str, Any]] = {
        section: {key: value for key, value in values.items() if key not in _FREE.get(section, ())}
        for section, values in spec.settings.as_dict().items()
    }
    weighting = spec.settings.weighting
    settings["weighting"] = {key: value for key, value in settings["weighting"].items() if key in _ASKED}
    # A number for each task: their order is no matter, since one flow or network serves all tasks.
    settings["arch"] = {k: sorted(v) if isinstance(v, list) else v for k, v in settings["arch"].items()}
    # Other packages' solvers may take longer than all the rest.
    own = spec.weighting if is_adapter(spec.weighting) else ""
    passes = [weighting.needs, isinstance(weighting, PostStepHook), own]
    return json.dumps([spec.data, spec.architecture, passes, settings], sort_keys=True)


def recorded_pace(spec: RunSpec, records: Sequence[Record], machine: Machine) -> Pace | None:
    """The median over the records of these settings, whatever their seed, that were made on this machine like this."""
    here = {"device": machine.name, "threads": machine.threads, "cpu": describe_environment(ROOT)["cpu"]}
    alike = [
        record
        for record in records
        if record.status == "done"
        and record.settings == spec.settings.as_dict()
        and all(record.environment.get(key) == value for key, value in here.items())
    ]
    timed = [(record, record.step_seconds) for record in alike if record.step_seconds is not None]
    if not timed:
        return None
    record = timed[-1][0]
    counted = record.parameters
    own = (counted.shared, counted.heads + counted.positions) if counted else (0, 0)
    peaks = [record.peak_memory_mib for record in alike if record.peak_memory_mib is not None]
    return Pace(
        step=statistics.median(timing.median for _, timing in timed),
        rest=max(0.0, statistics.median(record.seconds - record.steps * timing.median for record, timing in timed)),
        known=f"from {len(timed)} record{'s' if len(timed) > 1 else ''}",
        timed=spec.label,
        peak_mib=max(peaks, default=None),
        parameters=own,
        checkpoint=4 * _NUMBER * sum(own),  # the network, Adam's two moments, and the network at its best
    )
