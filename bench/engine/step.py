"""One training step: losses, weights, gradients placed, parameters moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import SGD, Adam, Optimizer

from bench.engine.gradients import Boundary, cosines, cross_heads, losses_of, position_gradients
from bench.engine.layers import Layer, factorable, watching, worth_factoring
from bench.engine.seeds import generator_for
from bench.engine.shared import SharedGradients, gramian_of
from bench.spec import Precision, Renewal, RunSpec
from datasets.contract import Batch, Group, Task
from methods.contract import Diverged, HeadRule, LooksBack, Network, Signal, State, Update, Weighting


@dataclass
class Trainee:
    """All that training changes: parameters, their optimizers, the state of the weighting and its random stream.

    optimizers: "network"; "positions" where the architecture learns task positions; "weights" where the weighting
    learns its own scales. layers: those whose gradients may stay in factors. parts, clip_norm: as in `Recipe`.
    alternating: positions move after the network. kept: the last "weights" and "head_weights", where they are renewed
    now and then. solver_fallbacks: counted over all steps.
    """

    network: Network
    tasks: Sequence[Task]
    shared: SharedGradients
    weighting: Weighting
    head_rule: HeadRule
    state: State
    optimizers: dict[str, Optimizer]
    generator: torch.Generator
    layers: Sequence[Layer] = ()
    renewal: Renewal = field(default_factory=Renewal)
    precision: Precision = "fp32"
    parts: int = 1
    clip_norm: float = 0.0
    alternating: bool = False
    kept: Mapping[str, Tensor] = field(default_factory=dict)
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
    weighting, recipe, renewal = spec.weighting_settings, spec.train, spec.renewal
    parameters = network.shared_parameters()
    observed = network.last_block_parameters() if renewal.grad_space == "last_block" else parameters
    shared = SharedGradients(parameters, len(tasks), observed, spec.compute.backward == "batched")
    own = list(network.heads.parameters())
    optimizers: dict[str, Optimizer] = {
        "network": Adam([*parameters, *own], lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True)
    }
    positions, learning = network.position_parameters(), spec.arch_settings.position_rule
    if positions and learning is not None and learning.lr_ratio:
        step_rule = {"plain": SGD, "adam": Adam}[learning.optimizer]
        optimizers["positions"] = step_rule(positions, lr=recipe.lr * learning.lr_ratio)
    state = weighting.init(len(tasks))
    if weighting.learned_lr is not None:
        optimizers["weights"] = Adam(list(state.learned.values()), lr=weighting.learned_lr)
    # A Jacobian that is asked for is needed whole; a compiled encoder runs without its layers, and of a batch that
    # passes in parts, factors would have to be kept for each.
    whole = weighting.needs == "jacobian" or spec.compute.compile or recipe.accumulate > 1
    return Trainee(
        network,
        tasks,
        shared,
        weighting,
        weighting.heads if spec.heads.rule == "published" else spec.heads.rule,
        state,
        optimizers,
        generator_for(spec.seed, "method"),
        layers=() if whole else factorable(network, observed),
        renewal=renewal,
        precision=spec.compute.precision,
        parts=recipe.accumulate,
        clip_norm=recipe.clip_norm,
        alternating="positions" in optimizers and learning is not None and learning.alternating,
    )


def train_step(trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False) -> Outcome:
    """Moves every parameter once.

    Raises:
        Diverged: a loss, a gradient, a weight or a position is not finite; nothing has moved then. For a weighting
            that looks back, also where a loss is not finite after the move.
    """
    outcome, update = place_gradients(trainee, batch, step, epoch, look_at_cosines)
    if trainee.clip_norm:
        network = trainee.optimizers["network"]
        clip_grad_norm_([p for group in network.param_groups for p in group["params"]], trainee.clip_norm)
    for name, optimizer in trainee.optimizers.items():
        idle = (name == "positions" and trainee.alternating) or (name == "weights" and update.auxiliary is None)
        if not idle:
            optimizer.step()
    if trainee.alternating:
        _move_positions(trainee, batch)
    adopt(trainee, update)
    if isinstance(trainee.weighting, LooksBack):
        after = _losses_now(trainee, in_parts(batch, trainee.parts))
        _require_finite(trainee, after, "loss after the move", step)
        trainee.state = trainee.weighting.after(after, update.state)
    trainee.solver_fallbacks += update.fallbacks
    return outcome


def place_gradients(
    trainee: Trainee, batch: Batch, step: int, epoch: int, look_at_cosines: bool = False
) -> tuple[Outcome, Update]:
    """All of a step but the move: losses, weights, every gradient where its optimizer looks for it.

    The trainee keeps its state; the one that belongs to the move is in the update.

    Raises:
        Diverged: as in `train_step`.
    """
    trainee.network.heads.zero_grad(set_to_none=True)
    parts = in_parts(batch, trainee.parts)
    renewed = not trainee.kept or step % trainee.renewal.every == 0
    by_rows = renewed and trainee.weighting.needs != "losses" and trainee.renewal.grad_space == "shared"
    boundaries: list[Boundary] = []
    whole: Tensor | None = None
    gramian: Tensor | None = None
    if by_rows:
        boundaries = fill_rows(trainee, parts)
        losses, gramian = _transferred(_summed(trainee, boundaries), trainee.shared.gramian())
    elif len(parts) > 1:
        # Weights have to be known before the first part passes back, and losses before the weights.
        losses = _losses_now(trainee, parts)
    elif _needs_no_cut(trainee) and not look_at_cosines:
        found = losses_of(trainee.network, trainee.tasks, batch, trainee.precision)
        whole = torch.stack([found[task] for task in range(len(trainee.tasks))])
        losses = whole.detach().double().cpu()
    else:
        boundaries = cross_heads(trainee.network, trainee.tasks, batch, trainee.precision)
        seen = _gramian_of_less(trainee, boundaries) if renewed and trainee.weighting.needs == "gramian" else None
        losses, gramian = _transferred(_summed(trainee, boundaries), seen)
    _require_finite(trainee, losses, "loss", step)
    if gramian is not None:
        _require_finite(trainee, gramian.diagonal(), "squared gradient norm", step)
    update = _weigh(trainee, losses, gramian, step, epoch) if renewed else _kept(trainee)
    _require_finite(trainee, update.weights, "weight", step)
    cosines_seen = None
    if look_at_cosines:
        cosines_seen = cosines(gramian if by_rows and gramian is not None else _observed_gramian(trainee, boundaries))
    if by_rows and update.direction is not None:
        trainee.shared.place(update.direction)
    elif by_rows:
        trainee.shared.combine_rows(update.weights)
    elif len(parts) > 1:
        boundaries = _backward_in_parts(trainee, parts, update.weights)
    elif whole is not None:
        trainee.shared.backward_whole(whole, update.weights)
    else:
        trainee.shared.backward_once(boundaries, update.weights)
    if whole is None:
        _scale_heads(trainee, update)
    _place_others(trainee, boundaries, update)
    return Outcome(losses, update.weights, cosines_seen), update


def adopt(trainee: Trainee, update: Update) -> None:
    """Makes the state of an update, and its weights where they are kept, those of the trainee."""
    trainee.state = update.state
    if trainee.renewal.every > 1:
        present = {"weights": update.weights, "head_weights": update.head_weights}
        trainee.kept = {name: weights for name, weights in present.items() if weights is not None}


def _needs_no_cut(trainee: Trainee) -> bool:
    """Whether one backward pass through heads and shared part alike gives every gradient its weight."""
    return (
        trainee.weighting.needs == "losses"
        and trainee.head_rule == "weighted"
        and "positions" not in trainee.optimizers
    )


def in_parts(batch: Batch, parts: int) -> list[Batch]:
    """The batch as so many of equal size: a part of every group each."""
    if parts == 1:
        return [batch]
    return [[_part_of(group, part, parts) for group in batch] for part in range(parts)]


def _part_of(group: Group, part: int, parts: int) -> Group:
    size = len(group.inputs) // parts
    window = slice(part * size, (part + 1) * size)
    return Group(group.inputs[window], {task: target[window] for task, target in group.targets.items()})


def fill_rows(trainee: Trainee, parts: Sequence[Batch]) -> list[Boundary]:
    """Crosses all heads and fills the rows of the shared gradients.

    Group by group, so that of several inputs only one graph is alive at a time, and each task's gradient passes back
    through its own input alone. Layers are kept in factors where one input serves all tasks.
    """
    boundaries: list[Boundary] = []
    for index, part in enumerate(parts):
        for group in part:
            with watching(trainee.layers if len(part) == 1 else ()) as uses:
                crossed = cross_heads(trainee.network, trainee.tasks, [group], trainee.precision, 1 / len(parts))
            trainee.shared.fill_rows(crossed, worth_factoring(uses, len(trainee.tasks)), add=index > 0)
            boundaries += crossed
    return boundaries


def _backward_in_parts(trainee: Trainee, parts: Sequence[Batch], weights: Tensor) -> list[Boundary]:
    """One backward pass for each part of the batch, of which one graph is alive at a time."""
    boundaries: list[Boundary] = []
    for index, part in enumerate(parts):
        crossed = cross_heads(trainee.network, trainee.tasks, part, trainee.precision, 1 / len(parts))
        trainee.shared.backward_once(crossed, weights, add=index > 0)
        boundaries += crossed
    return boundaries


def _gramian_of_less(trainee: Trainee, boundaries: Sequence[Boundary]) -> Tensor:
    """The Gramian (m, m) of what is to stand for the gradients of all shared parameters."""
    if trainee.renewal.grad_space == "representation":
        return gramian_of(torch.stack([b.gradient.flatten() for b in sorted(boundaries, key=lambda b: b.task)]))
    trainee.shared.fill_rows(boundaries, keep_graph=True)
    return trainee.shared.gramian()


def _observed_gramian(trainee: Trainee, boundaries: Sequence[Boundary]) -> Tensor:
    """The Gramian (m, m) of all shared parameters for a look, from rows made for it alone, with every graph kept."""
    onlooker = SharedGradients(trainee.shared.parameters, len(trainee.tasks))
    onlooker.fill_rows(boundaries, keep_graph=True)
    return onlooker.gramian().cpu()


def _weigh(trainee: Trainee, losses: Tensor, gramian: Tensor | None, step: int, epoch: int) -> Update:
    jacobian = trainee.shared.jacobian if trainee.weighting.needs == "jacobian" else None
    return trainee.weighting.step(Signal(losses, gramian, step, epoch, trainee.generator, jacobian), trainee.state)


def _kept(trainee: Trainee) -> Update:
    """The weights of the last renewal; nothing is learned of this step."""
    return Update(trainee.kept["weights"], trainee.state, head_weights=trainee.kept.get("head_weights"))


def _summed(trainee: Trainee, boundaries: Sequence[Boundary]) -> Tensor:
    """Each task's loss (m,) over all parts, float64 on the device."""
    losses: dict[int, Tensor] = {}
    for boundary in boundaries:
        loss = boundary.loss.double()
        losses[boundary.task] = losses[boundary.task] + loss if boundary.task in losses else loss
    return torch.stack([losses[task] for task in range(len(trainee.tasks))])


def _transferred(losses: Tensor, gramian: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both on the CPU, by the one transfer that a step waits for."""
    if gramian is None:
        return losses.cpu(), None
    m = len(losses)
    whole = torch.cat([losses, gramian.flatten()]).cpu()
    return whole[:m], whole[m:].view(m, m)


@torch.no_grad()
def _losses_now(trainee: Trainee, parts: Sequence[Batch]) -> Tensor:
    """The losses (m,) of a batch at the present parameters, in training mode as in the step itself; on the CPU."""
    found = [losses_of(trainee.network, trainee.tasks, part, trainee.precision) for part in parts]
    by_task = [torch.stack([losses[task] for losses in found]).double().mean() for task in range(len(trainee.tasks))]
    return torch.stack(by_task).cpu()


def _place_others(trainee: Trainee, boundaries: Sequence[Boundary], update: Update) -> None:
    """Puts the gradients of positions and learned scales where their optimizers look for them."""
    if "positions" in trainee.optimizers and not trainee.alternating:
        along: dict[int, Tensor] = {}
        for boundary in boundaries:
            if boundary.position_gradient is not None:
                along[boundary.task] = along.get(boundary.task, 0) + boundary.position_gradient
        _place_positions(trainee, along)
    if update.auxiliary is not None:
        trainee.optimizers["weights"].zero_grad()
        update.auxiliary.backward()


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
