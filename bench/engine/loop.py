"""One run from its spec to its record: epochs of steps, selection on validation, one look at the test set."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import ROOT
from bench.engine.batches import on_device, training_batches
from bench.engine.build import build_network
from bench.engine.checkpoint import History, load_checkpoint, remember_best, save_checkpoint
from bench.engine.clock import StepClock
from bench.engine.device import device_name, peak_memory_mib, reset_peak_memory
from bench.engine.evaluate import constant_scores, evaluate, mean_scores, selection_score
from bench.engine.precision import allow_tf32
from bench.engine.seeds import generator_for, seed_for
from bench.engine.step import StepResult, train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.records.environment import describe_environment
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
from bench.records.store import CHECKPOINT, COSINES, CURVE, POSITIONS, write_csv, write_record
from bench.spec.resolve import RunSpec
from bench.spec.versions import versions_of
from datasets import DATASETS
from datasets.contract import Splits
from methods import METHODS
from methods.contract import Diverged, Evaluations, Network

# What is reported where a protocol leaves nothing to validate on, as published for NYUv2.
AVERAGED_EPOCHS = 10
RULES = {
    "accuracy": "highest mean accuracy over tasks on validation",
    "gain": "highest mean log gain over the constant answer on validation",
}


@dataclass(frozen=True)
class RunContext:
    """Where a run happens: the folder of its data, the folder of its results, its device and threads."""

    data: Path
    folder: Path
    device: torch.device
    threads: int


def train(spec: RunSpec, place: RunContext, on_epoch: Callable[[int], None]) -> Record:
    """Trains, evaluates and records one run; goes on from a checkpoint where there is one.

    on_epoch(epochs done) is called at the start and after each epoch. A run that diverges is recorded as such.
    """
    torch.set_num_threads(place.threads)
    allow_tf32(spec.settings.compute.tf32)
    reset_peak_memory(place.device)
    splits = spec.info.read(place.data, spec.settings.data)
    train_state = make_train_state(spec, build_network(spec, place.device))
    checkpoint = place.folder / CHECKPOINT
    history = load_checkpoint(checkpoint, spec.settings.as_dict(), train_state)
    # Some protocols leave nothing to validate on.
    judged = ("validation", "test") if all(len(source) for source in splits.validation) else ("test",)
    constant = {part: constant_scores(spec.info, splits.train, getattr(splits, part)) for part in judged}
    splits = on_device(splits, place.device)
    record = _blank_record(spec, splits, train_state, place, constant["test"])
    on_epoch(history.epochs)
    status: Status = "done"
    try:
        while history.epochs < spec.settings.train.epochs:
            with train_state.network.translate_errors():
                _train_epoch(spec, splits, train_state, history, place, constant.get("validation"))
            save_checkpoint(checkpoint, spec.settings.as_dict(), train_state, history)
            on_epoch(history.epochs)
    except Diverged as error:
        status, record.reason = "diverged", str(error)
    else:
        judge = _judge if "validation" in judged else _judge_without_validation
        judge(record, spec, splits, train_state, history, place)
    record.status = status
    _account(record, train_state, history, place)
    _write_curves(spec, train_state, history, place.folder)
    write_record(place.folder, record)
    checkpoint.unlink(missing_ok=True)
    return record


def failed_record(spec: RunSpec, reason: str) -> Record:
    """The record of a run that stopped on an error."""
    return Record(status="failed", reason=reason, **_identity(spec))  # type: ignore[arg-type]


def _train_epoch(
    spec: RunSpec, splits: Splits, train_state: TrainState, history: History, place: RunContext, constant: Scores | None
) -> None:
    """Moves train_state and history on by one epoch. constant: of the constant answer on validation, if there is any."""
    start, epoch = time.perf_counter(), history.epochs
    # Batches, dropout and the like depend on seed and epoch alone, so a resumed run draws what it would have drawn.
    torch.manual_seed(seed_for(spec.seed, "noise", epoch))
    _set_learning_rate(spec, train_state, epoch)
    order = generator_for(spec.seed, "batches", epoch)
    clock = StepClock(place.device, history.step_seconds)
    outcomes: list[StepResult] = []
    augment = spec.settings.data.augment
    for batch in training_batches(
        splits.train, spec.info, spec.settings.train.batch_size, order, place.device, augment
    ):
        every = spec.settings.train.cosines_every
        look = every > 0 and history.steps % every == 0
        before = train_state.network.evaluations()
        with clock.step(counted=not look):
            outcomes.append(train_step(train_state, batch, history.steps, epoch, look_at_cosines=look))
        history.steps += 1
        _note_step(train_state.network, outcomes[-1], before, history)
    clock.collect()
    history.epochs += 1
    if constant is not None:
        numbers, score = _validate(spec, splits, train_state, history, place, constant)
    else:
        numbers, score = [math.nan] * sum(len(task.measure.metrics) for task in spec.info.tasks), math.nan
        if history.epochs > spec.settings.train.epochs - AVERAGED_EPOCHS:
            history.last_tests.append(evaluate(train_state.network, spec.info, splits.test, place.device))
    history.seconds += time.perf_counter() - start
    losses = torch.stack([outcome.losses for outcome in outcomes]).mean(dim=0).tolist()
    weights = torch.stack([outcome.weights for outcome in outcomes]).mean(dim=0).tolist()
    history.curve.append([history.epochs, history.steps, history.seconds, *losses, *numbers, *weights, score])


def _validate(
    spec: RunSpec, splits: Splits, train_state: TrainState, history: History, place: RunContext, constant: Scores
) -> tuple[list[float], float]:
    """Every score on validation and the one that picks the epoch; keeps the network where that is the best so far."""
    validation = evaluate(train_state.network, spec.info, splits.validation, place.device)
    score = selection_score(spec.info, validation, constant)
    if history.best is None or score > history.best.score:
        history.best = remember_best(train_state, history.epochs, score, validation)
    return [value for task in validation.values() for value in task.values()], score


def _note_step(network: Network, outcome: StepResult, before: Evaluations | None, history: History) -> None:
    """Writes down where the positions are now, what was seen of the gradients, and what the flow has cost."""
    positions, after = network.positions(), network.evaluations()
    if positions is not None:
        history.positions.append([history.steps, *positions.tolist()])
    if outcome.cosines is not None:
        m = len(outcome.cosines)
        rows, columns = torch.triu_indices(m, m, offset=1)
        history.cosines.append([history.steps, *outcome.cosines[rows, columns].tolist()])
    if before is not None and after is not None:
        forward, backward = history.evaluations
        history.evaluations = (
            forward + after.forward - before.forward,
            backward + after.backward - before.backward,
        )


def _set_learning_rate(spec: RunSpec, train_state: TrainState, epoch: int) -> None:
    recipe = spec.settings.train
    decays = epoch // recipe.lr_decay_every if recipe.lr_decay_every else 0
    for group in train_state.optimizers["network"].param_groups:
        group["lr"] = recipe.lr * recipe.lr_decay**decays


def _judge(
    record: Record, spec: RunSpec, splits: Splits, train_state: TrainState, history: History, place: RunContext
) -> None:
    """Scores the last epoch, then the selected one, on the test set."""
    best = history.best
    assert best is not None, "a run has at least one epoch"
    record.last_test = evaluate(train_state.network, spec.info, splits.test, place.device)
    train_state.network.load_state_dict(best.network)
    record.test = evaluate(train_state.network, spec.info, splits.test, place.device)
    record.validation = best.validation
    record.selected = Selected(epoch=best.epoch, rule=RULES[spec.info.selection], score=best.score)
    record.positions = _positions(spec, train_state)


def _judge_without_validation(
    record: Record, spec: RunSpec, splits: Splits, train_state: TrainState, history: History, place: RunContext
) -> None:
    """Reports the mean of the last epochs on the test set: nothing is picked."""
    tests = history.last_tests
    record.last_test, record.test = tests[-1], mean_scores(tests)
    score = selection_score(spec.info, record.test, record.reference)
    rule = f"none: no validation set, the mean of the last {len(tests)} epochs on test is reported"
    record.selected = Selected(epoch=history.epochs, rule=rule, score=score)
    record.positions = _positions(spec, train_state)


def _positions(spec: RunSpec, train_state: TrainState) -> dict[str, float]:
    positions = train_state.network.positions()
    return {} if positions is None else dict(zip(spec.tasks, positions.tolist(), strict=True))


def _account(record: Record, train_state: TrainState, history: History, place: RunContext) -> None:
    record.epochs, record.steps, record.seconds = history.epochs, history.steps, history.seconds
    record.step_seconds = StepClock(place.device, history.step_seconds).timing()
    record.peak_memory_mib = peak_memory_mib(place.device)
    record.solver_fallbacks = train_state.solver_fallbacks
    if train_state.network.evaluations() is not None:
        forward, backward = history.evaluations
        record.field_evaluations = FieldEvaluations(forward=forward, backward=backward)


def _write_curves(spec: RunSpec, train_state: TrainState, history: History, folder: Path) -> None:
    measured = [f"validation/{t.key}/{metric.key}" for t in spec.info.tasks for metric in t.measure.metrics]
    columns = ["epoch", "step", "seconds", *(f"train/{key}" for key in spec.tasks), *measured]
    columns += [*(f"weight/{key}" for key in spec.tasks), "score"]
    write_csv(folder / CURVE, columns, history.curve)
    if train_state.network.positions() is not None:
        write_csv(folder / POSITIONS, ["step", *spec.tasks], history.positions)
    if spec.settings.train.cosines_every:
        pairs = [f"{first}|{second}" for first, second in itertools.combinations(spec.tasks, 2)]
        write_csv(folder / COSINES, ["step", *pairs], history.cosines)


def _identity(spec: RunSpec) -> dict[str, object]:
    """What is known of a run before it starts."""
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
    }


def _blank_record(
    spec: RunSpec, splits: Splits, train_state: TrainState, place: RunContext, reference: Scores
) -> Record:
    identity = _identity(spec)
    environment = {**describe_environment(ROOT), "device": device_name(place.device), "threads": place.threads}
    network = train_state.network
    count = {
        "shared": network.shared_parameters(),
        "heads": network.heads.parameters(),
        "positions": network.position_parameters(),
    }
    return Record(
        status="failed",
        **{**identity, "environment": environment},  # type: ignore[arg-type]
        reference=reference,
        parameters=Parameters(**{part: sum(p.numel() for p in members) for part, members in count.items()}),
        head_rule=train_state.head_rule,
        splits=dict(splits.provenance),
    )
