"""One run from its spec to its record: epochs of training, selection on validation, one evaluation on test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bench.engine.batches import steps_per_epoch
from bench.engine.build import build_network
from bench.engine.checkpoint import Origin, start_or_resume
from bench.engine.clock import StepClock
from bench.engine.context import Run, RunContext
from bench.engine.device import make_current, reset_peak_memory
from bench.engine.epoch import Training, train_epoch, train_steps
from bench.engine.evaluate import dummy_scores, evaluate, evaluate_items, mean_scores
from bench.engine.history import History
from bench.engine.idle_memory import idle_memory_mib, memory_before_run
from bench.engine.parallel import ALONE, DataParallel, threads_each
from bench.engine.placement import on_device
from bench.engine.precision import choose_kernels
from bench.engine.recording import Outcome, finished_record, write_curves, write_outcomes
from bench.engine.saving import Saver
from bench.engine.selection import selection, selection_score, why_unselected
from bench.engine.train_state import TrainState, make_train_state
from bench.records.record import Record, Selected
from bench.records.store import CHECKPOINT, write_record
from bench.spec.data_seen import changed_parts
from bench.spec.resolve import RunSpec
from datasets.contract import DataError, Splits
from datasets.decoding.prepare import Preparation, preparing
from datasets.fingerprint import fingerprint
from datasets.separate_parts import refuse_empty_parts, refuse_test_as_validation
from methods.contract import Diverged


def _silent(note: str) -> None:
    del note


def _unlogged(history: History) -> None:
    del history


def _unseen(epochs: int, share: float) -> None:
    del epochs, share


def train(
    spec: RunSpec,
    context: RunContext,
    on_epoch: Callable[[int], None],
    on_note: Callable[[str], None] = _silent,
    parallel: DataParallel = ALONE,
    log: Callable[[History], None] = _unlogged,
    on_checkpoint: Callable[[int, float], None] = _unseen,
) -> Record:
    """Trains, evaluates and records one run. Resumes from its checkpoint if there is one of the same data.

    on_epoch(epochs done) is called at the start and after each epoch. A run that diverges is recorded as such.
    on_note(sentence) is called with what the user should know.
    parallel: the processes that train the run together, of which this is the first; the others run `train_along`.
    log(history) is called before each `on_epoch`.
    on_checkpoint(epochs done, share of the next one that is done) is called after each checkpoint in the middle of an
        epoch; at the start instead of `on_epoch` if the run goes on from one.

    Raises:
        DataError: the data can't be read, or is not what it was when the run was planned.
        StorageError: a file of the run can't be written, or its checkpoint can't be opened.
        KeyboardInterrupt: a signal has told this process to stop. During training, its last step is in the checkpoint.
    """
    before = memory_before_run(context.device)
    _prepare(spec, context, parallel)
    splits, seen = _read(spec, context)
    checkpoint, origin = context.folder / CHECKPOINT, _origin(spec, context, splits, seen)
    start = start_or_resume(checkpoint, origin, lambda: _new_state(spec, context, parallel), context.guard)
    state, history = start.state, start.history
    for note in start.notes:
        on_note(note)
    run = _start(spec, context, splits, seen)
    saver = Saver(checkpoint, origin, context.guard, context.checkpoint_every, on_checkpoint)
    training = Training(run, state, history, _clock(context.device, history), saver)
    log(history)
    if history.partial:
        on_checkpoint(history.epochs, history.partial.steps / origin.epoch_steps)
    else:
        on_epoch(history.epochs)
    try:
        while history.epochs < spec.settings.train.epochs:
            parallel.tell(*_reached(history))
            train_epoch(training, saver)
            log(history)
            on_epoch(history.epochs)
    except Diverged as error:
        outcome = Outcome("diverged", str(error))
    else:
        outcome = _score_selected(run, state, history)
    return _recorded(run, state, history, outcome, idle_memory_mib(before, context.device))


def _recorded(run: Run, state: TrainState, history: History, outcome: Outcome, idle: float | None) -> Record:
    """The record, after it and the other files of the run were written and the checkpoint was deleted.

    idle: the memory of the process before the run, if that is known.
    """
    context = run.context
    record = finished_record(run, state, history, outcome, write_outcomes(context, run.spec, outcome), idle)
    write_curves(context, run.spec, state, history)
    record = write_record(context.folder, record, context.guard)
    with context.guard():
        (context.folder / CHECKPOINT).unlink(missing_ok=True)
    return record


def train_along(spec: RunSpec, context: RunContext, parallel: DataParallel, epochs: Iterator[tuple[int, int]]) -> None:
    """The part that a further process has in a run: its images of each batch. It writes nothing.

    epochs: the index of each epoch, as the first process begins it, and how many of its steps are done already. The
        first process has resumed from the checkpoint by then, or set it aside.

    Raises:
        Diverged: a number is not finite.
        DataError: as of `train`.
        RuntimeError: the first process goes on from another step than this one can.
    """
    _prepare(spec, context, parallel)
    splits, seen = _read(spec, context)
    # Only the first process evaluates.
    splits = on_device(replace(splits, validation=(), test=()), context.device)
    run = Run(spec, context, splits, seen, dummy_validation=None, dummy_test={})
    first = next(epochs)
    origin = _origin(spec, context, splits, seen)
    start = start_or_resume(context.folder / CHECKPOINT, origin, lambda: _new_state(spec, context, parallel))
    history = start.history
    training = Training(run, start.state, history, _clock(context.device, history))
    for told in itertools.chain([first], epochs):
        if told != _reached(history):
            expected, found = (f"{steps} steps after epoch {epochs}" for epochs, steps in (told, _reached(history)))
            raise RuntimeError(f"expected to go on {expected}, found a checkpoint of {found}")
        train_steps(training, signals=())
        history.epochs += 1


def _reached(history: History) -> tuple[int, int]:
    """Epochs that are done, and steps of the next one."""
    return history.epochs, history.partial.steps if history.partial else 0


def _origin(spec: RunSpec, context: RunContext, splits: Splits, seen: Mapping[str, str]) -> Origin:
    steps = steps_per_epoch(splits.train, spec.settings.train.batch_size)
    return Origin(spec, seen, context.device, context.threads, steps)


def _clock(device: torch.device, history: History) -> StepClock:
    """A clock of the steps; it knows whether this process is the first that trains the run."""
    return (StepClock.resumed if history.steps else StepClock)(device, history.step_seconds)


def _prepare(spec: RunSpec, context: RunContext, parallel: DataParallel) -> None:
    """Sets what a process has only one of."""
    assert parallel.size == spec.settings.compute.processes, "a run needs as many processes as it has in its settings"
    threads = threads_each(context.threads, parallel.size)
    torch.set_num_threads(threads)
    threadpool_limits(threads, user_api="blas")  # that of numpy and scipy, in solvers of weightings
    choose_kernels(spec.settings.compute)
    make_current(context.device)
    reset_peak_memory(context.device)


def _new_state(spec: RunSpec, context: RunContext, parallel: DataParallel) -> TrainState:
    return make_train_state(spec, build_network(spec, context.device), parallel=parallel)


def _read(spec: RunSpec, context: RunContext) -> tuple[Splits, dict[str, str]]:
    """The splits and their fingerprint, which must be the planned one."""
    with preparing(Preparation(cache=context.cache)):
        splits = spec.info.read(context.data, spec.data_settings)
    refuse_empty_parts(splits, spec.settings.data, context.data)
    seen = fingerprint(splits)
    refuse_test_as_validation(splits, seen, context.data)
    parts = changed_parts(context.fingerprint, seen) if context.fingerprint else []
    if parts:
        raise DataError(
            f"{context.data}: expected the data that was here when the runs were planned, found other images or labels "
            f"in {', '.join(parts)}; give the same command again when the data is as it should be."
        )
    return splits, seen


def _start(spec: RunSpec, context: RunContext, splits: Splits, seen: Mapping[str, str]) -> Run:
    """Scores the dummy baseline and moves data to the device."""
    has_validation = all(len(source) for source in splits.validation if source.targets)
    return Run(
        spec,
        context,
        splits=on_device(splits, context.device),
        fingerprint=seen,
        dummy_validation=dummy_scores(spec.info, splits.train, splits.validation) if has_validation else None,
        dummy_test=dummy_scores(spec.info, splits.train, splits.test),
    )


def _score_selected(run: Run, state: TrainState, history: History) -> Outcome:
    """The test scores of the last epoch and of the selected one; the network of the latter is restored.

    A run without any score to select by has diverged: what it computes is not finite.
    """
    if run.dummy_validation is None:
        return _mean_of_last_epochs(run, state, history)
    info, device = run.spec.info, run.context.device
    found = selection(history, run.spec)
    if found is None:
        return Outcome("diverged", why_unselected(history, run.spec))
    last_test = evaluate(state.network, info, run.splits.test, device)
    state.network.load_state_dict(found.network)
    test, items = evaluate_items(state.network, info, run.splits.test, device)
    return Outcome(
        "done",
        validation=found.validation,
        test=test,
        last_test=last_test,
        selected=found.selected,
        selected_by_task=found.by_task,
        positions=_positions(run.spec, state),
        items=items,
    )


def _mean_of_last_epochs(run: Run, state: TrainState, history: History) -> Outcome:
    """The mean test scores of the last epochs: without validation, no epoch is selected, and no items belong to it."""
    tests = history.last_tests
    test = mean_scores(tests)
    score = selection_score(run.spec.info, test, run.dummy_test)
    rule = f"none: no validation set, the mean of the last {len(tests)} epochs on test is reported"
    return Outcome(
        "done",
        test=test,
        last_test=tests[-1],
        selected=Selected(epoch=history.epochs, rule=rule, score=score),
        positions=_positions(run.spec, state),
    )


def _positions(spec: RunSpec, state: TrainState) -> dict[str, float]:
    positions = state.network.positions()
    return {} if positions is None else dict(zip(spec.tasks, positions.tolist(), strict=True))
