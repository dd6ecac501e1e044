"""One training step: losses, weights, gradients placed, parameters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from bench.engine.backward import ByRows, in_parts, losses_now, way_of
from bench.engine.heads import HeadGradient, cosines, position_gradients
from bench.engine.task_gradients import SharedGradients
from bench.engine.train_state import TrainState, adopt
from datasets.contract import Batch
from methods.contract import Diverged, PostStepHook, Signal, Update


@dataclass(frozen=True)
class StepResult:
    """losses (m,) before the step and weights (m,) as applied to the shared part, float64 on the CPU.

    cosines: (m, m) between the tasks' gradients, where they were looked at.
    """

    losses: Tensor
    weights: Tensor
    cosines: Tensor | None = None


def train_step(
    train_state: TrainState, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False
) -> StepResult:
    """Moves every parameter once.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite; nothing has moved then. For a weighting
            that looks back, also where a loss is not finite after the move.
    """
    outcome, update = place_gradients(train_state, batch, step, epoch, look_at_cosines)
    if train_state.clip_norm:
        groups = train_state.optimizers["network"].param_groups
        clip_grad_norm_([parameter for group in groups for parameter in group["params"]], train_state.clip_norm)
    for name, optimizer in train_state.optimizers.items():
        idle = (name == "positions" and train_state.alternating) or (name == "weights" and update.auxiliary is None)
        if not idle:
            optimizer.step()
    if train_state.alternating:
        _move_positions(train_state, batch)
    adopt(train_state, update)
    if isinstance(train_state.weighting, PostStepHook):
        after = losses_now(train_state, in_parts(batch, train_state.parts))
        _require_finite(train_state, after, "loss after the move", step)
        train_state.weighting_state = train_state.weighting.post_step(after, update.state)
    train_state.solver_fallbacks += update.fallbacks
    return outcome


def place_gradients(
    train_state: TrainState, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False
) -> tuple[StepResult, Update]:
    """All of a step but the move: losses, weights, every gradient where its optimizer looks for it.

    The train_state keeps its state; `adopt` makes that of the update its own.

    Raises:
        Diverged: as in `train_step`.
    """
    train_state.network.heads.zero_grad(set_to_none=True)
    renewed = not train_state.kept or step % train_state.gramian_settings.every == 0
    way = way_of(train_state, batch, renewed, look_at_cosines)
    losses, gramian = way.observe()
    _require_finite(train_state, losses, "loss", step)
    if gramian is not None:
        _require_finite(train_state, gramian.diagonal(), "squared gradient norm", step)
    update = _weigh(train_state, losses, gramian, step, epoch) if renewed else _kept(train_state)
    _require_finite(train_state, update.weights, "weight", step)
    seen = None
    if look_at_cosines:
        whole = gramian if isinstance(way, ByRows) else None
        seen = cosines(_observed_gramian(train_state, way.head_gradients) if whole is None else whole)
    way.place(update)
    if "positions" in train_state.optimizers and not train_state.alternating:
        _place_positions(train_state, _along(way.head_gradients))
    if update.auxiliary is not None:
        train_state.optimizers["weights"].zero_grad()
        update.auxiliary.backward()
    return StepResult(losses, update.weights, seen), update


def _weigh(train_state: TrainState, losses: Tensor, gramian: Tensor | None, step: int, epoch: int) -> Update:
    jacobian = train_state.shared.jacobian if train_state.weighting.needs == "jacobian" else None
    return train_state.weighting.step(
        Signal(losses, gramian, step, epoch, train_state.generator, jacobian), train_state.weighting_state
    )


def _kept(train_state: TrainState) -> Update:
    """The weights of the last renewal; nothing is learned of this step."""
    return Update(
        train_state.kept["weights"], train_state.weighting_state, head_weights=train_state.kept.get("head_weights")
    )


def _observed_gramian(train_state: TrainState, head_gradients: Sequence[HeadGradient]) -> Tensor:
    """The Gramian (m, m) of all shared parameters for a look, from rows made for it alone, with every graph kept."""
    onlooker = SharedGradients(train_state.shared.parameters, len(train_state.tasks))
    onlooker.fill_rows(head_gradients, keep_graph=True)
    return onlooker.gramian().cpu()


def _along(head_gradients: Sequence[HeadGradient]) -> dict[int, Tensor]:
    """∂L_i/∂p_i by task, over all parts of the batch."""
    along: dict[int, Tensor] = {}
    for head_gradient in head_gradients:
        if head_gradient.position_gradient is not None:
            along[head_gradient.task] = along.get(head_gradient.task, 0) + head_gradient.position_gradient
    return along


def _move_positions(train_state: TrainState, batch: Batch) -> None:
    """A step of the positions alone, by gradients at where the network has moved."""
    _place_positions(
        train_state, position_gradients(train_state.network, train_state.tasks, batch, train_state.precision)
    )
    train_state.optimizers["positions"].step()


def _place_positions(train_state: TrainState, along: Mapping[int, Tensor]) -> None:
    """Puts ∂L_i/∂p_i, by task, where the positions' optimizer looks for it."""
    positions = train_state.network.positions()
    assert positions is not None and len(along) == len(positions), "every task needs a velocity at its position"
    train_state.optimizers["positions"].zero_grad()
    positions.backward(torch.stack([along[task] for task in range(len(positions))]))


def _require_finite(train_state: TrainState, values: Tensor, what: str, step: int) -> None:
    for index, value in enumerate(values.tolist()):
        if not abs(value) < float("inf"):
            positions = train_state.network.positions()
            where = "" if positions is None else f", with its position at {positions.tolist()[index]:.6g}"
            raise Diverged(f"{what} of task {train_state.tasks[index].key} is {value} at step {step}{where}")
