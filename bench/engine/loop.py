"""One run from its spec to its record: epochs of steps, selection on validation, one evaluation on test."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from bench.engine.backward import added
from bench.engine.batches import training_batches
from bench.engine.build import build_network
from bench.engine.checkpoint import Origin, save_checkpoint, start_or_resume
from bench.engine.clock import StepClock
from bench.engine.context import Run, RunContext
from bench.engine.device import make_current, reset_peak_memory
from bench.engine.evaluate import dummy_scores, evaluate, evaluate_items, mean_scores
from bench.engine.history import History
from bench.engine.idle_memory import idle_memory_mib, memory_before_run
from bench.engine.parallel import ALONE, DataParallel, threads_each
from bench.engine.placement import on_device
from bench.engine.precision import choose_kernels
from bench.engine.recording import Outcome, finished_record, write_curves, write_outcomes
from bench.engine.seeds import generator_for, seed_for
from bench.engine.selection import keep_best, selection, selection_score, why_unselected
from bench.engine.step import HEAD_WEIGHT, UNCLIPPED, StepResult, on_cpu, require_finite_step, train_step
from bench.engine.train_state import TrainState, make_train_state
from bench.records.mean_weights import HEAD_WEIGHTS, UNCLIPPED_WEIGHTS
from bench.records.record import Record, Selected
from bench.records.store import CHECKPOINT, write_record
from bench.spec.data_seen import changed_parts
from bench.spec.further_weights import further_weights
from bench.spec.resolve import RunSpec
from datasets.contract import Batch, DataError, Splits
from datasets.decoding.prepare import Preparation, preparing
from datasets.fingerprint import fingerprint
from datasets.separate_parts import refuse_empty_parts, refuse_test_as_validation
from methods.contract import Diverged, Evaluations, batches_of

# Epochs whose test scores are averaged if a protocol has no validation set, as published for NYUv2.
AVERAGED_EPOCHS = 10
# What a step calls the numbers in these columns of the curve.
_FURTHER = {HEAD_WEIGHTS: HEAD_WEIGHT, UNCLIPPED_WEIGHTS: UNCLIPPED}


def _silent(note: str) -> None:
    del note


def _unlogged(history: History) -> None:
    del history


def train(
    spec: RunSpec,
    context: RunContext,
    on_epoch: Callable[[int], None],
    on_note: Callable[[str], None] = _silent,
    parallel: DataParallel = ALONE,
    log: Callable[[History], None] = _unlogged,
) -> Record:
    """Trains, evaluates and records one run. Resumes from its checkpoint if there is one of the same data.

    on_epoch(epochs done) is called at the start and after each epoch. A run that diverges is recorded as such.
    on_note(sentence) is called with what the user should know.
    parallel: the processes that train the run together, of which this is the first; the others run `train_along`.
    log(history) is called before each `on_epoch`.

    Raises:
        DataError: the data can't be read, or is not what it was when the run was planned.
        StorageError: a file of the run can't be written, or its checkpoint can't be opened.
    """
    before = memory_before_run(context.device)
    _prepare(spec, context, parallel)
    splits, seen = _read(spec, context)
    checkpoint, origin = context.folder / CHECKPOINT, Origin(spec, seen, context.device, context.threads)
    start = start_or_resume(checkpoint, origin, lambda: _new_state(spec, context, parallel), context.guard)
    state, history = start.state, start.history
    for note in start.notes:
        on_note(note)
    run = _start(spec, context, splits, seen)
    log(history)
    on_epoch(history.epochs)
    try:
        while history.epochs < spec.settings.train.epochs:
            parallel.tell(history.epochs)
            _train_epoch(run, state, history)
            save_checkpoint(checkpoint, origin, state, history, context.guard)
            log(history)
            on_epoch(history.epochs)
    except Diverged as error:
        outcome = Outcome("diverged", str(error))
    else:
        outcome = _score_selected(run, state, history)
    items = write_outcomes(context, spec, outcome)
    record = finished_record(run, state, history, outcome, items, idle_memory_mib(before, context.device))
    write_curves(context, spec, state, history)
    record = write_record(context.folder, record, context.guard)
    with context.guard():
        checkpoint.unlink(missing_ok=True)
    return record


def train_along(spec: RunSpec, context: RunContext, parallel: DataParallel, epochs: Iterator[int]) -> None:
    """The part that a further process has in a run: its images of each batch. It writes nothing.

    epochs: the index of each epoch, as the first process begins it. It has found or made the checkpoint by then.

    Raises:
        Diverged: a number is not finite.
        DataError: as of `train`.
        RuntimeError: the first process resumes from another epoch than this one can.
    """
    _prepare(spec, context, parallel)
    splits, seen = _read(spec, context)
    # Only the first process evaluates.
    splits = on_device(replace(splits, validation=(), test=()), context.device)
    run = Run(spec, context, splits, seen, dummy_validation=None, dummy_test={})
    first = next(epochs)
    origin = Origin(spec, seen, context.device, context.threads)
    start = start_or_resume(context.folder / CHECKPOINT, origin, lambda: _new_state(spec, context, parallel))
    if start.history.epochs != first:
        raise RuntimeError(f"expected to go on from epoch {first}, found a checkpoint of {start.history.epochs} epochs")
    for _ in itertools.chain([first], epochs):
        _train_steps(run, start.state, start.history)


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


def _train_epoch(run: Run, state: TrainState, history: History) -> None:
    """Trains for one epoch and validates; updates state and history."""
    start = time.perf_counter()
    losses, weights, further = _train_steps(run, state, history)
    with state.network.translate_errors():
        scores, score = _validate(run, state, history)
    history.seconds += time.perf_counter() - start
    history.curve.append([history.epochs, history.steps, history.seconds, *losses, *scores, *weights, score, *further])


def _train_steps(run: Run, state: TrainState, history: History) -> tuple[list[float], list[float], list[float]]:
    """Trains for one epoch; updates state and history. The mean losses, weights and further weights over its steps."""
    epoch, rank, cosines_every = history.epochs, state.parallel.rank, run.spec.settings.train.cosines_every
    # Batches and dropout depend on seed, epoch and process alone, so a resumed run draws the same random numbers.
    torch.manual_seed(seed_for(run.spec.seed, "noise", epoch, *([rank] if rank else [])))
    _set_learning_rate(run.spec, state, epoch)
    clock = StepClock(run.context.device, history.step_seconds)
    results: list[StepResult] = []
    try:
        with state.network.translate_errors():
            batches = zip(*_batch_streams(run, state, epoch), strict=True)
            for step, (batch, *others) in enumerate(batches, history.steps):
                cosines = cosines_every > 0 and step % cosines_every == 0
                with clock.step(counted=not cosines):
                    results.append(train_step(state, batch, step, epoch, others=others, cosines=cosines))
    except Diverged:
        clock.collect()
        if results:
            # On an accelerator the cause may lie in an earlier step, whose numbers have not been read yet.
            _log_steps(state, results, history)
        raise
    clock.collect()
    means = _log_steps(state, results, history, further_weights(run.spec.settings))
    history.epochs += 1
    return means


def _log_steps(
    state: TrainState, results: Sequence[StepResult], history: History, further: Sequence[str] = ()
) -> tuple[list[float], list[float], list[float]]:
    """Logs the steps of an epoch, and reads from an accelerator what they left there. Their means over the steps.

    further: which further weights to average, by their columns of the curve.

    Raises:
        Diverged: a number is not finite. The history then ends before that step, as on a CPU.
    """
    read = on_cpu(results)
    for result in read:
        require_finite_step(state, result, history.steps)
        history.steps += 1
        _log_step(state, result, history)
    losses, weights = (torch.stack([getattr(one, part) for one in read]) for part in ("losses", "weights"))
    others = [torch.stack([one.further[_FURTHER[name]] for one in read]).mean(dim=0).tolist() for name in further]
    return losses.mean(dim=0).tolist(), weights.mean(dim=0).tolist(), [value for mean in others for value in mean]


def _batch_streams(run: Run, state: TrainState, epoch: int) -> list[Iterator[Batch]]:
    """The batches of an epoch, the same for every method; then further ones, for a weighting that reads several."""
    spec, settings = run.spec, run.spec.settings
    batch_size, part = settings.train.batch_size, state.parallel.part(settings.train.batch_size)
    further = range(1, batches_of(settings.weighting))
    orders = [
        generator_for(spec.seed, "batches", epoch),
        *(generator_for(spec.seed, "further batches", index, epoch) for index in further),
    ]
    return [
        training_batches(
            run.splits.train, spec.info, batch_size, order, run.context.device, settings.data.augment, part
        )
        for order in orders
    ]


def _validate(run: Run, state: TrainState, history: History) -> tuple[list[float], float]:
    """Every score on validation, and the one that selects the epoch; NaN for protocols without validation."""
    info, device = run.spec.info, run.context.device
    if run.dummy_validation is None:
        if history.epochs > run.spec.settings.train.epochs - AVERAGED_EPOCHS:
            history.last_tests.append(evaluate(state.network, info, run.splits.test, device))
        return [math.nan] * sum(len(task.measure.metrics) for task in info.tasks), math.nan
    validation = evaluate(state.network, info, run.splits.validation, device)
    score = keep_best(history, state.network, run.spec, validation, run.dummy_validation)
    return [value for task in validation.values() for value in task.values()], score


def _log_step(state: TrainState, result: StepResult, history: History) -> None:
    """Appends the positions, recorded cosines and evaluations of a step; counts its fallbacks."""
    state.solver_fallbacks += int(result.fallbacks)
    if result.positions is not None:
        history.positions.append([history.steps, *result.positions.tolist()])
    if result.cosines is not None:
        m = len(result.cosines)
        rows, columns = torch.triu_indices(m, m, offset=1)
        history.cosines.append([history.steps, *result.cosines[rows, columns].tolist()])
    if result.evaluations is not None:
        total = added(Evaluations(*history.evaluations), result.evaluations)
        assert total is not None
        history.evaluations = (total.forward, total.backward)


def _set_learning_rate(spec: RunSpec, state: TrainState, epoch: int) -> None:
    train = spec.settings.train
    decays = epoch // train.lr_decay_every if train.lr_decay_every else 0
    for group in state.optimizers["network"].param_groups:
        group["lr"] = train.lr * train.lr_decay**decays


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
