"""One training step: losses, weights, gradients placed, parameters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from bench.engine.gradients import Boundary, SharedGradients, cosines, cross_heads, crossings, position_gradients
from bench.engine.seeds import generator_for
from bench.spec import RunSpec
from datasets.contract import Batch, Task
from methods.contract import Diverged, HeadRule, LooksBack, Network, Signal, State, Update, Weighting


@dataclass
class Trainee:
    """All that training changes: parameters, their optimizers, the state of the weighting and its random stream.

    optimizers: "network"; "positions" where the architecture learns task positions; "weights" where the weighting
    learns its own scales. alternating: positions move after the network. solver_fallbacks: counted over all steps.
    """

    network: Network
    tasks: Sequence[Task]
    shared: SharedGradients
    weighting: Weighting
    head_rule: HeadRule
    state: State
    optimizers: dict[str, Optimizer]
    generator: torch.Generator
    alternating: bool = False
    solver_fallbacks: int = 0


@dataclass(frozen=True)
class Outcome:
    """losses (m,) before the step and weights (m,) as applied to the shared part, float64 on the CPU.

    cosines: (m, m) between the tasks' gradients, where they were looked at.
    """

    losses: Tensor
    weights: Tensor
    cosines: Tensor | None = None


def make_trainee(spec: RunSpec, network: Network, tasks: Sequence[Task] | None = None) -> Trainee:
    """A network with fresh optimizers: Adam for it and for learned scales, what the architecture says for positions.

    tasks: those that the network has heads for; by default those of the data set.
    """
    tasks = spec.info.tasks if tasks is None else tasks
    weighting = spec.weighting_settings
    shared = SharedGradients(network.shared_parameters(), len(tasks) if weighting.needs != "losses" else 0)
    own = list(network.heads.parameters())
    recipe = spec.train
    optimizers: dict[str, Optimizer] = {
        "network": Adam([*shared.parameters, *own], lr=recipe.lr, weight_decay=recipe.weight_decay)
    }
    positions, learning = network.position_parameters(), spec.arch_settings.position_rule
    if positions and learning is not None and learning.lr_ratio:
        step_rule = {"plain": SGD, "adam": Adam}[learning.optimizer]
        optimizers["positions"] = step_rule(positions, lr=recipe.lr * learning.lr_ratio)
    state = weighting.init(len(tasks))
    if weighting.learned_lr is not None:
        optimizers["weights"] = Adam(list(state.learned.values()), lr=weighting.learned_lr)
    rule = weighting.heads if spec.heads.rule == "published" else spec.heads.rule
    return Trainee(
        network,
        tasks,
        shared,
        weighting,
        rule,
        state,
        optimizers,
        generator_for(spec.seed, "method"),
        alternating="positions" in optimizers and learning is not None and learning.alternating,
    )


def train_step(trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False) -> Outcome:
    """Moves every parameter once.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite; nothing has moved then. For a weighting
            that looks back, also where a loss is not finite after the move.
    """
    outcome, state = place_gradients(trainee, batch, step, epoch, look_at_cosines)
    for name, optimizer in trainee.optimizers.items():
        if name == "positions" and trainee.alternating:
            continue
        optimizer.step()
    if trainee.alternating:
        _move_positions(trainee, batch)
    trainee.state = state
    if isinstance(trainee.weighting, LooksBack):
        trainee.state = trainee.weighting.after(losses_now(trainee, batch, step), state)
    return outcome


def place_gradients(
    trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False
) -> tuple[Outcome, State]:
    """All of a step but the move: losses, weights, every gradient where its optimizer looks for it.

    The state of the weighting that belongs to the move comes back; the trainee still has the one before.

    Raises:
        Diverged: as in `train_step`.
    """
    trainee.network.heads.zero_grad(set_to_none=True)
    boundaries, losses = observe(trainee, batch, step)
    gramian = trainee.shared.gramian() if trainee.weighting.needs != "losses" else None
    if gramian is not None:
        _require_finite(trainee, gramian.diagonal(), "squared gradient norm", step)
    jacobian = trainee.shared.jacobian if trainee.weighting.needs == "jacobian" else None
    signal = Signal(losses, gramian, step, epoch, trainee.generator, jacobian)
    update = trainee.weighting.step(signal, trainee.state)
    _require_finite(trainee, update.weights, "weight", step)
    seen = None
    if look_at_cosines:
        seen = cosines(trainee.shared.observed_gramian(boundaries) if gramian is None else gramian)
    place(trainee, boundaries, update)
    trainee.solver_fallbacks += update.fallbacks
    return Outcome(losses, update.weights, seen), update.state


def observe(trainee: Trainee, batch: Batch, step: int) -> tuple[list[Boundary], Tensor]:
    """Crosses all heads and, for a weighting that needs them, fills the Jacobian's rows; also gives the losses (m,).

    Rows are filled group by group, so that of several inputs only one graph is alive at a time, and each task's
    gradient passes back through its own input alone.
    """
    boundaries: list[Boundary] = []
    if trainee.weighting.needs == "losses":
        boundaries = cross_heads(trainee.network, trainee.tasks, batch)
    else:
        for group in batch:
            crossed = cross_heads(trainee.network, trainee.tasks, [group])
            trainee.shared.fill_rows(crossed)
            boundaries += crossed
    boundaries.sort(key=lambda boundary: boundary.task)
    losses = torch.stack([boundary.loss for boundary in boundaries]).double().cpu()
    _require_finite(trainee, losses, "loss", step)
    return boundaries, losses


@torch.no_grad()
def losses_now(trainee: Trainee, batch: Batch, step: int) -> Tensor:
    """The losses (m,) of a batch at the present parameters, in training mode as in the step itself."""
    values: dict[int, Tensor] = {}
    for task, features, target in crossings(trainee.network, batch):
        values[task] = trainee.tasks[task].loss(trainee.network.heads[task](features.z), target)
    losses = torch.stack([values[task] for task in sorted(values)]).double().cpu()
    _require_finite(trainee, losses, "loss after the move", step)
    return losses


def place(trainee: Trainee, boundaries: Sequence[Boundary], update: Update) -> None:
    """Puts every gradient where its optimizer looks for it."""
    if update.direction is not None:
        trainee.shared.flat.copy_(update.direction)
    elif trainee.weighting.needs != "losses":
        trainee.shared.combine_rows(update.weights)
    else:
        trainee.shared.backward_once(boundaries, update.weights)
    _scale_heads(trainee, update)
    if "positions" in trainee.optimizers and not trainee.alternating:
        along = {b.task: b.position_gradient for b in boundaries if b.position_gradient is not None}
        _place_positions(trainee, along)
    if update.auxiliary is not None:
        trainee.optimizers["weights"].zero_grad()
        update.auxiliary.backward()


def _move_positions(trainee: Trainee, batch: Batch) -> None:
    """A step of the positions alone, by gradients at where the network has moved."""
    _place_positions(trainee, position_gradients(trainee.network, trainee.tasks, batch))
    trainee.optimizers["positions"].step()


def _place_positions(trainee: Trainee, along: Mapping[int, Tensor]) -> None:
    """Puts ∂L_i/∂p_i, by task, where the positions' optimizer looks for it."""
    positions = trainee.network.positions()
    assert positions is not None and len(along) == len(positions), "every task needs a velocity at its position"
    trainee.optimizers["positions"].zero_grad()
    positions.backward(torch.stack([along[task] for task in range(len(positions))]))


def _scale_heads(trainee: Trainee, update: Update) -> None:
    if trainee.head_rule == "plain":
        return
    scales = update.weights if trainee.head_rule == "weighted" else update.head_weights
    assert scales is not None, "a weighting with heads = 'own' must give head_weights"
    for head, scale in zip(trainee.network.heads, scales.tolist(), strict=True):
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        if gradients and scale != 1.0:
            torch._foreach_mul_(gradients, scale)


def _require_finite(trainee: Trainee, values: Tensor, what: str, step: int) -> None:
    for index, value in enumerate(values.tolist()):
        if not abs(value) < float("inf"):
            positions = trainee.network.positions()
            where = "" if positions is None else f", with its position at {positions.tolist()[index]:.6g}"
            raise Diverged(f"{what} of task {trainee.tasks[index].key} is {value} at step {step}{where}")
