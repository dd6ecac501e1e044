"""One training step: losses, weights, gradients placed, parameters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from bench.engine.backward import ByRows, in_parts, losses_now, way_of
from bench.engine.heads import Boundary, cosines, position_gradients
from bench.engine.task_gradients import SharedGradients
from bench.engine.train_state import Trainee, adopt
from datasets.contract import Batch
from methods.contract import Diverged, LooksBack, Signal, Update


@dataclass(frozen=True)
class Outcome:
    """losses (m,) before the step and weights (m,) as applied to the shared part, float64 on the CPU.

    cosines: (m, m) between the tasks' gradients, where they were looked at.
    """

    losses: Tensor
    weights: Tensor
    cosines: Tensor | None = None


def train_step(trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False) -> Outcome:
    """Moves every parameter once.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite; nothing has moved then. For a weighting
            that looks back, also where a loss is not finite after the move.
    """
    outcome, update = place_gradients(trainee, batch, step, epoch, look_at_cosines)
    if trainee.clip_norm:
        groups = trainee.optimizers["network"].param_groups
        clip_grad_norm_([parameter for group in groups for parameter in group["params"]], trainee.clip_norm)
    for name, optimizer in trainee.optimizers.items():
        idle = (name == "positions" and trainee.alternating) or (name == "weights" and update.auxiliary is None)
        if not idle:
            optimizer.step()
    if trainee.alternating:
        _move_positions(trainee, batch)
    adopt(trainee, update)
    if isinstance(trainee.weighting, LooksBack):
        after = losses_now(trainee, in_parts(batch, trainee.parts))
        _require_finite(trainee, after, "loss after the move", step)
        trainee.state = trainee.weighting.after(after, update.state)
    trainee.solver_fallbacks += update.fallbacks
    return outcome


def place_gradients(
    trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False
) -> tuple[Outcome, Update]:
    """All of a step but the move: losses, weights, every gradient where its optimizer looks for it.

    The trainee keeps its state; `adopt` makes that of the update its own.

    Raises:
        Diverged: as in `train_step`.
    """
    trainee.network.heads.zero_grad(set_to_none=True)
    renewed = not trainee.kept or step % trainee.renewal.every == 0
    way = way_of(trainee, batch, renewed, look_at_cosines)
    losses, gramian = way.observe()
    _require_finite(trainee, losses, "loss", step)
    if gramian is not None:
        _require_finite(trainee, gramian.diagonal(), "squared gradient norm", step)
    update = _weigh(trainee, losses, gramian, step, epoch) if renewed else _kept(trainee)
    _require_finite(trainee, update.weights, "weight", step)
    seen = None
    if look_at_cosines:
        whole = gramian if isinstance(way, ByRows) else None
        seen = cosines(_observed_gramian(trainee, way.boundaries) if whole is None else whole)
    way.place(update)
    if "positions" in trainee.optimizers and not trainee.alternating:
        _place_positions(trainee, _along(way.boundaries))
    if update.auxiliary is not None:
        trainee.optimizers["weights"].zero_grad()
        update.auxiliary.backward()
    return Outcome(losses, update.weights, seen), update


def _weigh(trainee: Trainee, losses: Tensor, gramian: Tensor | None, step: int, epoch: int) -> Update:
    jacobian = trainee.shared.jacobian if trainee.weighting.needs == "jacobian" else None
    return trainee.weighting.step(Signal(losses, gramian, step, epoch, trainee.generator, jacobian), trainee.state)


def _kept(trainee: Trainee) -> Update:
    """The weights of the last renewal; nothing is learned of this step."""
    return Update(trainee.kept["weights"], trainee.state, head_weights=trainee.kept.get("head_weights"))


def _observed_gramian(trainee: Trainee, boundaries: Sequence[Boundary]) -> Tensor:
    """The Gramian (m, m) of all shared parameters for a look, from rows made for it alone, with every graph kept."""
    onlooker = SharedGradients(trainee.shared.parameters, len(trainee.tasks))
    onlooker.fill_rows(boundaries, keep_graph=True)
    return onlooker.gramian().cpu()


def _along(boundaries: Sequence[Boundary]) -> dict[int, Tensor]:
    """∂L_i/∂p_i by task, over all parts of the batch."""
    along: dict[int, Tensor] = {}
    for boundary in boundaries:
        if boundary.position_gradient is not None:
            along[boundary.task] = along.get(boundary.task, 0) + boundary.position_gradient
    return along


def _move_positions(trainee: Trainee, batch: Batch) -> None:
    """A step of the positions alone, by gradients at where the network has moved."""
    _place_positions(trainee, position_gradients(trainee.network, trainee.tasks, batch, trainee.precision))
    trainee.optimizers["positions"].step()


def _place_positions(trainee: Trainee, along: Mapping[int, Tensor]) -> None:
    """Puts ∂L_i/∂p_i, by task, where the positions' optimizer looks for it."""
    positions = trainee.network.positions()
    assert positions is not None and len(along) == len(positions), "every task needs a velocity at its position"
    trainee.optimizers["positions"].zero_grad()
    positions.backward(torch.stack([along[task] for task in range(len(positions))]))


def _require_finite(trainee: Trainee, values: Tensor, what: str, step: int) -> None:
    for index, value in enumerate(values.tolist()):
        if not abs(value) < float("inf"):
            positions = trainee.network.positions()
            where = "" if positions is None else f", with its position at {positions.tolist()[index]:.6g}"
            raise Diverged(f"{what} of task {trainee.tasks[index].key} is {value} at step {step}{where}")
