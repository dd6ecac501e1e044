"""One training step: observe the batch, weight the tasks, apply the weights, update the parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from bench.engine.backward import added, choose_strategy, evaluations_of, losses_now, split_into_micro_batches
from bench.engine.heads import forward_shared, position_gradients
from bench.engine.train_state import TrainState, commit
from datasets.contract import Batch
from methods.checks import checked_post_step, checked_step
from methods.contract import Diverged, Evaluations, PostStepHook, Signal, Update
from methods.weightings.cr_mogm import running_mean


@dataclass(frozen=True)
class StepResult:
    """What a step reports.

    losses: (m,) before the step, float64 on the CPU.
    weights: (m,) as applied to the shared gradient, float64 on the CPU.
    cosines: (m, m) between the tasks' gradients, at steps that record them.
    evaluations: of a flow's field; None without a flow.
    """

    losses: Tensor
    weights: Tensor
    cosines: Tensor | None = None
    evaluations: Evaluations | None = None


def train_step(
    state: TrainState, batch: Batch, step: int, epoch: int, *, others: Sequence[Batch] = (), cosines: bool = False
) -> StepResult:
    """Updates every parameter once.

    others: further batches, for a weighting that reads several.
    cosines: whether to record the cosines of the tasks' gradients.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite. No parameter has changed
            then, unless the message is about the loss after the step.
    """
    result, update = compute_gradients(state, batch, step, epoch, others=others, cosines=cosines)
    _move(state)
    moved = _move_positions(state, batch) if state.alternating else None
    commit(state, update)
    hook = state.weighting
    after = _after_step(state, hook, batch, step) if isinstance(hook, PostStepHook) else None
    state.solver_fallbacks += update.fallbacks
    return replace(result, evaluations=added(result.evaluations, moved, after))


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
    observed = strategy(state, [batch, *others] if others else split_into_micro_batches(batch, state.micro_batches))
    _require_finite(state, observed.losses, "loss", step)
    if observed.gramian is not None:
        _require_finite(state, observed.gramian.diagonal(), "squared gradient norm", step)
    if observed.cross_gramian is not None:
        _require_finite(state, observed.cross_gramian.sum(dim=1), "product of gradients", step)

    if updates_weights:
        signal = Signal(
            losses=observed.losses,
            gramian=observed.gramian,
            step=step,
            epoch=epoch,
            generator=state.generator,
            jacobian=observed.jacobian,
            cross_gramian=observed.cross_gramian,
        )
        update = checked_step(state.weighting, signal, state.weighting_state)
        if state.gramian_settings.momentum:
            update = running_mean(update, state.cached_weights, state.gramian_settings.momentum)
    else:
        update = _cached_update(state)
    _require_finite(state, update.weights, "weight", step)
    if state.head_rule == "own" and update.head_weights is not None:
        _require_finite(state, update.head_weights, "weight of the head", step)
    recorded = observed.cosines() if cosines and observed.cosines is not None else None

    applied = observed.apply(update)
    if "positions" in state.optimizers and not state.alternating:
        _set_position_gradients(state, applied.position_gradients)
    return StepResult(observed.losses, update.weights, recorded, applied.evaluations), update


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
    _set_position_gradients(state, position_gradients(state.network, state.tasks, shared.heads, state.precision))
    state.optimizers["positions"].step()
    return evaluations_of([shared])


def _after_step(state: TrainState, hook: PostStepHook, batch: Batch, step: int) -> Evaluations | None:
    """Runs the weighting's post-step hook. Returns the evaluations of the flow."""
    losses, evaluations = losses_now(state, split_into_micro_batches(batch, state.micro_batches))
    _require_finite(state, losses, "loss after the step", step)
    state.weighting_state = checked_post_step(state.weighting, hook, losses, state.weighting_state)
    return evaluations


def _set_position_gradients(state: TrainState, gradients: Mapping[int, Tensor]) -> None:
    """Sets .grad of the position parameters to ∂L_i/∂p_i, given by task."""
    positions = state.network.positions()
    assert positions is not None and len(gradients) == len(positions), "every task needs a velocity at its position"
    state.optimizers["positions"].zero_grad()
    positions.backward(torch.stack([gradients[task] for task in range(len(positions))]))


def _require_finite(state: TrainState, values: Tensor, what: str, step: int) -> None:
    for index, value in enumerate(values.tolist()):
        if not abs(value) < float("inf"):
            positions = state.network.positions()
            where = "" if positions is None else f", with its position at {positions.tolist()[index]:.6g}"
            raise Diverged(f"{what} of task {state.tasks[index].key} is {value} at step {step}{where}")
