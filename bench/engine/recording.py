"""The record of a run, built once when the run has ended, and the files of its curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench import ROOT
from bench.engine.clock import StepClock
from bench.engine.context import Run, RunContext
from bench.engine.device import device_name, peak_memory_mib
from bench.engine.history import History, cosine_columns, curve_columns, position_columns
from bench.engine.train_state import TrainState
from bench.records.environment import describe_environment
from bench.records.items import Items, write_items
from bench.records.record import (
    FieldEvaluations,
    Labels,
    MetricRecord,
    Order,
    Parameters,
    Record,
    Scores,
    Selected,
    Status,
    TaskRecord,
)
from bench.records.store import COSINES, CURVE, POSITIONS, write_csv
from bench.spec.resolve import RunSpec
from bench.spec.versions import code_of, versions_of
from datasets import DATASETS
from methods import METHODS
from methods.contract import Network, batches_of


@dataclass(frozen=True)
class Outcome:
    """How a run ended, with its scores if it is done. Fields as in `Record`.

    items: the outcomes per test item at the selected epoch; none if no single epoch is reported.
    """

    status: Status
    reason: str = ""
    validation: Scores = field(default_factory=dict)
    test: Scores = field(default_factory=dict)
    last_test: Scores = field(default_factory=dict)
    selected: Selected | None = None
    selected_by_task: dict[str, Selected] = field(default_factory=dict)
    positions: dict[str, float] = field(default_factory=dict)
    items: Items = field(default_factory=dict)


def failed_record(spec: RunSpec, reason: str, lost: Sequence[str] = (), trial: bool = False) -> Record:
    """The record of a run that stopped on an error. lost: how earlier attempts ended. trial: as in `RunContext`."""
    return Record(status="failed", reason=reason, lost=list(lost), trial=trial, **_identity(spec))


def finished_record(
    run: Run, state: TrainState, history: History, outcome: Outcome, items: str, idle_memory_mib: float | None
) -> Record:
    """The record of a run that is done or has diverged. items: the digest of its file of outcomes per item."""
    device = run.context.device
    identity = _identity(run.spec)
    identity["environment"] |= {"device": device_name(device), "threads": run.context.threads}
    forward, backward = history.evaluations
    has_flow = state.network.positions() is not None
    return Record(
        **identity,
        **{**vars(outcome), "items": items},
        reference=run.dummy_test,
        epochs=history.epochs,
        steps=history.steps,
        unscored_epochs=history.unscored,
        batches=batches_of(state.weighting),
        step_seconds=StepClock(device, history.step_seconds).timing(),
        seconds=history.seconds,
        peak_memory_mib=peak_memory_mib(device),
        idle_memory_mib=idle_memory_mib,
        parameters=_count_parameters(state.network, run.spec.settings.arch.shares_parameters),
        solver_fallbacks=state.solver_fallbacks,
        field_evaluations=FieldEvaluations(forward=forward, backward=backward) if has_flow else None,
        head_rule=state.head_rule,
        splits=dict(run.splits.provenance),
        fingerprint=dict(run.fingerprint),
        resumed=list(history.resumed),
        lost=list(run.context.lost),
        trial=run.context.trial,
    )


def write_outcomes(context: RunContext, spec: RunSpec, outcome: Outcome) -> str:
    """Writes the outcomes per test item, or removes those of an earlier attempt; returns the digest of the file."""
    metrics = {task.key: [metric.key for metric in task.measure.metrics] for task in spec.info.tasks}
    return write_items(context.folder, outcome.items, metrics, context.guard)


def write_curves(context: RunContext, spec: RunSpec, state: TrainState, history: History) -> None:
    """Writes curve.csv, and positions.csv and cosines.csv if they were recorded."""
    folder, guard = context.folder, context.guard
    write_csv(folder / CURVE, curve_columns(spec), history.curve, guard)
    if state.network.positions() is not None:
        write_csv(folder / POSITIONS, position_columns(spec), history.positions, guard)
    if spec.settings.train.cosines_every:
        write_csv(folder / COSINES, cosine_columns(spec), history.cosines, guard)


def _count_parameters(network: Network, shares_parameters: bool) -> Parameters:
    members = {
        "shared" if shares_parameters else "encoders": network.shared_parameters(),
        "heads": network.heads.parameters(),
        "positions": network.position_parameters(),
    }
    counts = {part: sum(p.numel() for p in some) for part, some in members.items()}
    return Parameters(**{"shared": 0, **counts})


def _identity(spec: RunSpec) -> dict[str, Any]:
    """The fields of a record that are known before the run starts."""
    methods = list(METHODS)
    return {
        "data": spec.data,
        "method": spec.method,
        "architecture": spec.architecture,
        "weighting": spec.weighting,
        "variant": spec.variant,
        "seed": spec.seed,
        "labels": Labels(data=spec.info.label, method=spec.label),
        "order": Order(
            data=list(DATASETS).index(spec.data),
            method=methods.index(spec.method) if spec.method in methods else len(methods),
        ),
        "kind": spec.info.kind,
        "control": spec.info.control,
        "selection": spec.info.selection,
        "settings": spec.settings.as_dict(),
        "overrides": dict(spec.overrides),
        "tasks": [
            TaskRecord(
                key=task.key,
                label=task.label,
                metrics=[
                    MetricRecord(key=m.key, label=m.label, direction=m.direction, unit=m.unit)
                    for m in task.measure.metrics
                ],
            )
            for task in spec.info.tasks
        ],
        "environment": dict(describe_environment(ROOT)),
        "versions": versions_of(spec),
        "code": code_of(spec.architecture, spec.weighting),
    }
