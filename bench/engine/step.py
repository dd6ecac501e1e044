"""One training step: observe the batch, weight the tasks, apply the weights, update the parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from bench.engine.backward import (
    BatchGradients,
    added,
    choose_strategy,
    evaluations_of,
    losses_now,
    split_into_micro_batches,
)
from bench.engine.device import read_at_once
from bench.engine.heads import forward_shared, position_gradients
from bench.engine.task_gradients import clip_gradients
from bench.engine.train_state import TrainState, commit
from datasets.contract import Batch
from methods.checks import checked_post_step, checked_step
from methods.contract import Diverged, Evaluations, PostStepHook, Signal, Update
from methods.weightings.cr_mogm import running_mean

# What messages call numbers that must be finite.
HEAD_WEIGHT = "weight of the head"
UNCLIPPED = "weight before the clip"
_LOSS_AFTER = "loss after the step"


@dataclass(frozen=True)
class StepResult:
    """What a step reports. What it has not read from an accelerator is still there.

    losses: (m,) before the step, float64.
    weights: (m,) as applied to the shared gradient, float64.
    further: other numbers (m,) that must be finite, by what they are.
    cosines: (m, m) between the tasks' gradients, at steps that record them, on the CPU.
    evaluations: of a flow's field; None without a flow.
    positions_before, positions: (m,) of the tasks, before and after the step, on the CPU; None without positions.
    fallbacks: as in `Update`.
    """

    losses: Tensor
    weights: Tensor
    further: Mapping[str, Tensor] = field(default_factory=dict)
    cosines: Tensor | None = None
    evaluations: Evaluations | None = None
    positions_before: Tensor | None = None
    positions: Tensor | None = None
    fallbacks: int | Tensor = 0


def train_step(
    state: TrainState, batch: Batch, step: int, epoch: int, *, others: Sequence[Batch] = (), cosines: bool = False
) -> StepResult:
    """Updates every parameter once.

    It waits for the device at most once; once more if it records cosines, and if positions move alternately.

    others: further batches, for a weighting that reads several.
    cosines: whether to record the cosines of the tasks' gradients.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite. No parameter has changed
            then, unless the message is about the loss after the step. What stays on an accelerator is not checked here,
            but by `require_finite_step` after the epoch.
    """
    before = _positions(state)
    result, update = compute_gradients(state, batch, step, epoch, others=others, cosines=cosines)
    _move(state)
    moved = _move_positions(state, batch) if state.alternating else None
    commit(state, update)
    result = replace(result, evaluations=added(result.evaluations, moved), fallbacks=update.fallbacks)
    if isinstance(state.weighting, PostStepHook):
        result = _after_step(state, state.weighting, batch, step, result)
    return replace(result, positions_before=before, positions=_positions(state))


def compute_gradients(
    state: TrainState, batch: Batch, step: int, epoch: int, *, others: Sequence[Batch] = (), cosines: bool = False
) -> tuple[StepResult, Update]:
    """Everything before parameters change: every gradient is in the .grad of its parameter.

    `commit` stores what the update leaves for the next step.

    Raises:
        Diverged: as in `train_step`.
    """
    state.network.heads.zero_grad(set_to_none=True)
    updates_weights = not state.cached_weights or step % state.gramian_settings.every == 0
    strategy = choose_strategy(state, updates_weights=updates_weights, cosines=cosines)
    found = strategy(state, [batch, *others] if others else split_into_micro_batches(batch, state.micro_batches))
    state.parallel.average([found.losses])
    seen = _read(state, found, updates_weights)
    _require_finite(state, seen.losses, "loss", step)
    if seen.gramian is not None:
        _require_finite(state, seen.gramian.diagonal(), "squared gradient norm", step)
    if seen.cross_gramian is not None:
        _require_finite(state, seen.cross_gramian.sum(dim=1), "product of gradients", step)

    update = _updated_weights(state, found, seen, step, epoch) if updates_weights else _cached_update(state)
    _require_finite(state, update.weights, "weight", step)
    further: dict[str, Tensor] = {}
    if state.head_rule == "own" and update.head_weights is not None:
        further[HEAD_WEIGHT] = update.head_weights
        _require_finite(state, update.head_weights, HEAD_WEIGHT, step)
    recorded = found.cosines().cpu() if cosines and found.cosines is not None else None

    applied = found.apply(update)
    weights, unclipped = update.weights, update.unclipped
    if update.max_norm < math.inf:
        weights, unclipped = _clip(state, update), update.weights
        _require_finite(state, weights, "clipped weight", step)
    if unclipped is not None:
        further[UNCLIPPED] = unclipped
    if state.moves_positions_jointly:
        along = seen.position_gradients if applied.position_gradients is None else applied.position_gradients
        assert along is not None, "a step of the positions needs their gradients"
        _set_position_gradients(state, along.cpu())
    return StepResult(seen.losses, weights, further, recorded, applied.evaluations), update


def _clip(state: TrainState, update: Update) -> Tensor:
    """Clips the shared gradient to the norm of the update, without a wait; the weights (m,) as they then apply.

    Heads that are weighted by the task weights follow.
    """
    followers = list(state.network.heads.parameters()) if state.head_rule == "weighted" else []
    factor = clip_gradients(state.shared_parameters, update.max_norm, followers)
    return update.weights * factor.to(update.weights)


def _read(state: TrainState, found: BatchGradients, updates_weights: bool) -> BatchGradients:
    """The same with losses, Gramians and position gradients on the CPU, in the only transfer that a step waits for.

    Unchanged if nothing on the CPU needs them, as for a weighting that needs losses only and has the device for itself.
    """
    needed = updates_weights and state.weighting.needs != "losses"
    if found.losses.device.type == "cpu" or not (needed or found.position_gradients is not None):
        return found
    names = ("losses", "gramian", "cross_gramian", "position_gradients")
    parts = {name: values for name in names if (values := getattr(found, name)) is not None}
    read: dict[str, Any] = dict(zip(parts, read_at_once(list(parts.values())), strict=True))
    return replace(found, **read)


def _updated_weights(state: TrainState, found: BatchGradients, seen: BatchGradients, step: int, epoch: int) -> Update:
    """The update of the weighting, from what was found on the device, or from what was read of it."""
    source = seen if state.weighting_device.type == "cpu" else found
    signal = Signal(
        losses=source.losses,
        gramian=source.gramian,
        step=step,
        epoch=epoch,
        generator=state.generator,
        jacobian=source.jacobian,
        cross_gramian=source.cross_gramian,
    )
    update = checked_step(state.weighting, signal, state.weighting_state)
    momentum = state.gramian_settings.momentum
    return running_mean(update, state.cached_weights, momentum) if momentum else update


def _cached_update(state: TrainState) -> Update:
    """The weights of the last update; the weighting learns nothing from this step."""
    cached = state.cached_weights
    return Update(cached["weights"], state.weighting_state, head_weights=cached.get("head_weights"))


def _move(state: TrainState) -> None:
    """A step of every optimizer whose gradients are set, after clipping."""
    if state.clip_norm:
        groups = state.optimizers["network"].param_groups
        clip_grad_norm_([parameter for group in groups for parameter in group["params"]], state.clip_norm)
    for name, optimizer in state.optimizers.items():
        if not (name == "positions" and state.alternating):
            optimizer.step()


def _move_positions(state: TrainState, batch: Batch) -> Evaluations | None:
    """A step of the positions alone, by gradients of the updated network. Returns the evaluations of the flow."""
    with torch.no_grad():
        shared = forward_shared(state.network, batch, state.precision)
    along = position_gradients(state.network, state.tasks, shared.heads, state.precision)
    _set_position_gradients(state, along.cpu())
    state.optimizers["positions"].step()
    return evaluations_of([shared])


def _after_step(state: TrainState, hook: PostStepHook, batch: Batch, step: int, result: StepResult) -> StepResult:
    """Runs the weighting's post-step hook. The result of the step with the losses after it."""
    losses, evaluations = losses_now(state, split_into_micro_batches(batch, state.micro_batches))
    state.parallel.average([losses])
    losses = losses.to(state.weighting_device)
    _require_finite(state, losses, _LOSS_AFTER, step)
    state.weighting_state = checked_post_step(state.weighting, hook, losses, state.weighting_state)
    further = {**result.further, _LOSS_AFTER: losses}
    return replace(result, further=further, evaluations=added(result.evaluations, evaluations))


def _positions(state: TrainState) -> Tensor | None:
    """The positions (m,) of the tasks now, which later steps don't change."""
    positions = state.network.positions()
    return None if positions is None else positions.detach().clone()


def _set_position_gradients(state: TrainState, gradients: Tensor) -> None:
    """Sets .grad of the position parameters, which are on the CPU, to ∂L_i/∂p_i (m,), averaged over all processes."""
    positions = state.network.positions()
    assert positions is not None, "only an architecture with positions has gradients for them"
    state.parallel.average([gradients])
    state.optimizers["positions"].zero_grad()
    positions.backward(gradients.to(positions))


def on_cpu(results: Sequence[StepResult]) -> list[StepResult]:
    """The results with everything on the CPU, read in one transfer."""
    parts = [[one.losses, one.weights, torch.as_tensor(one.fallbacks), *one.further.values()] for one in results]
    read = iter(read_at_once([values for of_step in parts for values in of_step]))
    return [
        replace(
            one,
            losses=next(read),
            weights=next(read),
            fallbacks=int(next(read)),
            further={name: next(read) for name in one.further},
        )
        for one in results
    ]


def require_finite_step(state: TrainState, result: StepResult, step: int) -> None:
    """Checks what a step left on an accelerator, once it has been read.

    Raises:
        Diverged: as in `train_step`.
    """
    for what, values in {"loss": result.losses, "weight": result.weights, **result.further}.items():
        positions = result.positions if what == _LOSS_AFTER else result.positions_before
        _require_finite(state, values, what, step, positions)


def _require_finite(state: TrainState, values: Tensor, what: str, step: int, positions: Tensor | None = None) -> None:
    """Raises Diverged if a value on the CPU is not finite. Values elsewhere are not read.

    positions: (m,) at that time; by default those of now.
    """
    if values.device.type != "cpu":
        return
    for index, value in enumerate(values.tolist()):
        if not abs(value) < float("inf"):
            positions = state.network.positions() if positions is None else positions
            where = "" if positions is None else f", with its position at {positions.tolist()[index]:.6g}"
            raise Diverged(f"{what} of task {state.tasks[index].key} is {value} at step {step}{where}")
