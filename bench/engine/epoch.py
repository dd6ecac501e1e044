"""One epoch of a run: its steps, with checkpoints between them, and its validation.

An epoch may be interrupted after any of its steps, and in validation. It then goes on as if it had not been.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.engine.batches import training_batches
from bench.engine.clock import StepClock
from bench.engine.context import Run
from bench.engine.epoch_log import EpochLog
from bench.engine.evaluate import evaluate
from bench.engine.history import History
from bench.engine.saving import Saver
from bench.engine.seeds import default_streams, generator_for, seed_for, set_default_streams
from bench.engine.selection import keep_best
from bench.engine.signals import Stopped, uninterrupted
from bench.engine.step import train_step
from bench.engine.train_state import TrainState
from bench.spec.further_weights import further_weights
from bench.spec.resolve import RunSpec
from datasets.contract import Batch
from methods.contract import Diverged, batches_of

# Epochs whose test scores are averaged if a protocol has no validation set, as published for NYUv2.
AVERAGED_EPOCHS = 10


@dataclass(frozen=True)
class Training:
    """A run in training.

    clock: times its steps.
    saver: saves its checkpoints; None in a further process.
    """

    run: Run
    state: TrainState
    history: History
    clock: StepClock
    saver: Saver | None = None


def train_epoch(training: Training, saver: Saver) -> None:
    """Trains for one epoch, or for the rest of it, validates, and saves a checkpoint; updates state and history.

    Raises:
        Diverged: a number is not finite.
        KeyboardInterrupt: a signal has told this process to stop. The checkpoint is that of the last step.
    """
    history, after_steps = training.history, None
    try:
        with uninterrupted() as signals:
            log, after_steps = train_steps(training, signals)
        start = time.perf_counter()
        history.epochs += 1
        with training.state.network.translate_errors():
            scores, score = _validate(training)
        history.seconds += log.seconds + time.perf_counter() - start
        losses, weights, further = log.means()
        numbers = [*losses, *scores, *weights, score, *further]
        history.curve.append([history.epochs, history.steps, history.seconds, *numbers])
        saver.save(training.state, history)
    except KeyboardInterrupt:
        if after_steps is not None:  # the network is still that of the last step
            saver.save(training.state, after_steps)
        raise


def train_steps(training: Training, signals: Sequence[int]) -> tuple[EpochLog, History]:
    """Trains for the steps of one epoch, or for the rest of them; updates state and history.

    Returns the results of the steps, and the history to be saved if validation doesn't end.

    signals: those that wait for the end of a step, as from `uninterrupted`.

    Raises:
        Diverged: a number is not finite.
        Stopped: there is a signal; a checkpoint was saved after the last step.
    """
    run, state, history, clock = training.run, training.state, training.history, training.clock
    cosines_every = run.spec.settings.train.cosines_every
    _seed(training)
    _set_learning_rate(run.spec, state, history.epochs)
    log = EpochLog(state, history, further_weights(run.spec.settings))
    try:
        with state.network.translate_errors():
            batches = zip(*_batch_streams(run, state, history.epochs, log.steps), strict=True)
            for step, (batch, *others) in enumerate(batches, history.steps):
                cosines = cosines_every > 0 and step % cosines_every == 0
                with clock.step(counted=not cosines):
                    log.add(train_step(state, batch, step, history.epochs, others=others, cosines=cosines))
                due = training.saver is not None and (bool(signals) or training.saver.due)
                if state.parallel.agreed(due):
                    so_far = _so_far(training, log)
                    if training.saver is not None:
                        training.saver.save(state, so_far)
                    if signals:
                        raise Stopped(signals[0])
                    log.go_on()
        return log, _so_far(training, log)
    except Diverged:
        clock.collect()
        # On an accelerator the cause may lie in an earlier step, whose numbers have not been read yet.
        log.read()
        raise


def _so_far(training: Training, log: EpochLog) -> History:
    """The history after the last step. All processes of a run do this together."""
    training.clock.collect()
    log.read()
    log.pause()
    return log.so_far(_streams(training))


def _seed(training: Training) -> None:
    """Puts the default streams to where they are at the beginning of an epoch, or after the steps of a partial one.

    Batches, their views and the noise of networks depend on seed, epoch and process alone.
    """
    run, history, rank = training.run, training.history, training.state.parallel.rank
    torch.manual_seed(seed_for(run.spec.seed, "noise", history.epochs, *([rank] if rank else [])))
    if history.partial is not None:
        set_default_streams(history.partial.streams[rank], run.context.device)


def _streams(training: Training) -> list[dict[str, Tensor]]:
    """The states of the default streams of every process of the run, by rank."""
    parallel, own = training.state.parallel, default_streams(training.run.context.device)
    gathered = {kind: parallel.gathered(state) for kind, state in own.items()}
    return [{kind: states[rank] for kind, states in gathered.items()} for rank in range(parallel.size)]


def _batch_streams(run: Run, state: TrainState, epoch: int, first: int) -> list[Iterator[Batch]]:
    """The batches of an epoch, the same for every method; then further ones, for a weighting that reads several.

    first: the step that they begin with.
    """
    spec, settings = run.spec, run.spec.settings
    batch_size, part = settings.train.batch_size, state.parallel.part(settings.train.batch_size)
    further = range(1, batches_of(settings.weighting))
    orders = [
        generator_for(spec.seed, "batches", epoch),
        *(generator_for(spec.seed, "further batches", index, epoch) for index in further),
    ]
    device, augment = run.context.device, settings.data.augment
    return [
        training_batches(run.splits.train, spec.info, batch_size, order, device, augment, part, first)
        for order in orders
    ]


def _set_learning_rate(spec: RunSpec, state: TrainState, epoch: int) -> None:
    train = spec.settings.train
    decays = epoch // train.lr_decay_every if train.lr_decay_every else 0
    for group in state.optimizers["network"].param_groups:
        group["lr"] = train.lr * train.lr_decay**decays


def _validate(training: Training) -> tuple[list[float], float]:
    """Every score on validation, and the one that selects the epoch; NaN for protocols without validation."""
    run, network, history = training.run, training.state.network, training.history
    info, device = run.spec.info, run.context.device
    if run.dummy_validation is None:
        if history.epochs > run.spec.settings.train.epochs - AVERAGED_EPOCHS:
            history.last_tests.append(evaluate(network, info, run.splits.test, device))
        return [math.nan] * sum(len(task.measure.metrics) for task in info.tasks), math.nan
    validation = evaluate(network, info, run.splits.validation, device)
    score = keep_best(history, network, run.spec, validation, run.dummy_validation)
    return [value for task in validation.values() for value in task.values()], score
