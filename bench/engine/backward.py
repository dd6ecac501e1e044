"""Backward strategies: how a batch becomes losses, what the weighting needs of them, and gradients.

A strategy runs the passes that come before the weighting, and returns one value with a function that runs the passes
that come after it. `choose_strategy` picks the fastest one that gives a step what it needs. m tasks.

If several processes train a run, a strategy sees this process's part of the batch. What it finds of the whole batch is
averaged over all processes: rows of the Jacobian before their Gramian, and the gradients that are applied. Losses and
position gradients are averaged by the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from bench.engine.factored_layers import recorded_uses, worth_factoring
from bench.engine.heads import HeadGradient, SharedForward, forward_heads, forward_shared, heads_forward_backward
from bench.engine.task_gradients import (
    GradientBuffer,
    TaskGradients,
    backward_to,
    factors,
    unfilled,
    weighted_backward,
    write_rows,
)
from bench.engine.train_state import TrainState
from datasets.contract import Batch, Group
from methods.contract import Evaluations, Update
from methods.rows import cross_gramian_of, gramian_of
from methods.transfer import send


@dataclass(frozen=True)
class Applied:
    """What is known once all gradients are in place.

    evaluations: of a flow's field, in all forward and backward passes of the step; None without a flow.
    position_gradients: as in `BatchGradients`, if they were not known before.
    """

    evaluations: Evaluations | None = None
    position_gradients: Tensor | None = None


@dataclass(frozen=True)
class BatchGradients:
    """What a step knows before the weighting runs, all on the device, and how it continues after it.

    losses: (m,) float64.
    apply: sets the .grad of shared part and heads for an update.
    gramian: (m, m) float64, if the weighting needs one.
    jacobian: (m, P), if the weighting needs it. The next step overwrites it.
    cross_gramian: (m, m) float64 of two batches, if the weighting needs it.
    position_gradients: ∂L_i/∂p_i (m,), if tasks have positions and heads ran separately.
    cosines: the cosines (m, m) of the tasks' gradients in all shared parameters. Call it before `apply`.
    """

    losses: Tensor
    apply: Callable[[Update], Applied]
    gramian: Tensor | None = None
    jacobian: Tensor | None = None
    cross_gramian: Tensor | None = None
    position_gradients: Tensor | None = None
    cosines: Callable[[], Tensor] | None = None


BackwardStrategy: TypeAlias = Callable[[TrainState, Sequence[Batch]], BatchGradients]


def choose_strategy(state: TrainState, *, updates_weights: bool, cosines: bool) -> BackwardStrategy:
    """The fastest strategy for a step.

    updates_weights: whether the weighting runs at this step.
    cosines: whether the cosines of the tasks' gradients are recorded at this step.
    """
    needs, grad_space = state.weighting.needs, state.gramian_settings.grad_space
    if needs == "cross_gramian":
        return cross_batch_backward
    if updates_weights and needs != "losses" and grad_space == "shared":
        return per_task_backward
    if state.micro_batches > 1:
        return micro_batched
    if needs == "losses" and state.head_rule == "weighted" and "positions" not in state.optimizers and not cosines:
        return single_backward
    if updates_weights and needs == "gramian":
        return {"last_block": split_with_last_block, "representation": split_with_representation}[grad_space]
    return split_at_heads


def single_backward(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """One backward pass of the weighted sum of the losses, through heads and shared part."""
    (batch,) = batches
    passes: list[SharedForward] = []
    if state.graphed is not None:
        losses = state.graphed(batch)
    else:
        passes.append(forward_shared(state.network, batch, state.precision))
        by_task = forward_heads(state.network, state.tasks, passes[0].heads, state.precision)
        losses = torch.stack([by_task[task] for task in range(len(state.tasks))])

    def apply(update: Update) -> Applied:
        backward_to(state.shared_parameters, [losses], [send(update.weights, losses.device).to(losses.dtype)])
        _average_gradients(state, state.shared_parameters, state.network.heads.parameters())
        return Applied(evaluations_of(passes))

    return BatchGradients(losses.detach().double(), apply)


def split_at_heads(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """Heads forward and backward, then one backward pass through the shared part."""
    (batch,) = batches
    shared, heads = _forward_backward_heads(state, batch)
    return _split(state, shared, heads, None)


def split_with_representation(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """`split_at_heads` with the Gramian of ∂L_i/∂z, for tasks that share their features."""
    (batch,) = batches
    shared, heads = _forward_backward_heads(state, batch)
    by_task = sorted(heads, key=lambda head: head.task)
    gramian = gramian_of(torch.stack([head.gradient.flatten() for head in by_task]))
    state.parallel.average([gramian])
    # The features of a part are no other's: squared norms add up, of gradients that are the smaller the more parts.
    return _split(state, shared, heads, gramian / state.parallel.size)


def split_with_last_block(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """`split_at_heads` with the Gramian of the gradients in the last shared block."""
    (batch,) = batches
    with recorded_uses(state.factorable if len(batch) == 1 else ()) as uses:
        shared, heads = _forward_backward_heads(state, batch)
    gradients = unfilled(state.gramian_parameters, worth_factoring(uses, len(state.tasks)), state.buffer)
    write_rows(gradients, heads, retain_graph=True, batched=state.batched)
    state.parallel.average([gradients.jacobian])
    return _split(state, shared, heads, gradients.gramian())


def micro_batched(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """`split_at_heads`, one micro-batch after another.

    The weighting needs the losses of the whole batch before the first backward pass: one more forward pass.
    """
    losses, before = losses_now(state, batches)

    def apply(update: Update) -> Applied:
        passes, heads = [], list[HeadGradient]()
        for index, batch in enumerate(batches):
            shared, found = _forward_backward_heads(state, batch, 1 / len(batches))
            weighted_backward(found, update.weights, state.shared_parameters, add=index > 0)
            passes.append(shared)
            heads += found
        _average_gradients(state, state.shared_parameters, state.network.heads.parameters())
        scale_heads(state, update)
        return Applied(added(before, evaluations_of(passes)), _position_gradients(state, heads))

    return BatchGradients(losses, apply)


def per_task_backward(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """Heads forward and backward, and one backward pass per task through the shared part.

    Groups run one after another, so that only one graph is in memory at a time. Layers are factored if all tasks share
    one input and the batch is not split into micro-batches.
    """
    passes, heads = [], list[HeadGradient]()
    gradients: TaskGradients | None = None
    for index, batch in enumerate(batches):
        for group in batch:
            with recorded_uses(state.factorable if len(batch) == 1 else ()) as uses:
                shared, found = _forward_backward_heads(state, [group], 1 / len(batches))
            if gradients is None:
                gradients = unfilled(state.shared_parameters, worth_factoring(uses, len(state.tasks)), state.buffer)
            write_rows(gradients, found, add=index > 0, batched=state.batched)
            passes.append(shared)
            heads += found
    assert gradients is not None, "a batch has at least one group"
    rows = gradients
    state.parallel.average([rows.jacobian])
    gramian = rows.gramian()

    def apply(update: Update) -> Applied:
        if update.direction is None:
            rows.apply_weights(update.weights)
        else:
            rows.apply_direction(update.direction)
        _average_gradients(state, state.network.heads.parameters())
        scale_heads(state, update)
        return Applied(evaluations_of(passes))

    return BatchGradients(
        _total_losses(state, heads),
        apply,
        gramian,
        jacobian=rows.jacobian if state.weighting.needs == "jacobian" else None,
        position_gradients=_position_gradients(state, heads),
        cosines=lambda: cosines_of(gramian),
    )


def cross_batch_backward(state: TrainState, batches: Sequence[Batch]) -> BatchGradients:
    """One backward pass per task through the shared part, for each of the last two of two or three batches.

    Of two, the mean of their gradients is weighted. Of three, the gradients of the first, by one more backward pass.
    The gradients of heads and positions are the mean over all batches.
    """
    apart = [_forward_backward_heads(state, batch) for batch in batches[:-2]]
    first, second = (
        _task_gradients(state, batch, buffer)
        for batch, buffer in zip(batches[-2:], (state.buffer, state.second_buffer), strict=True)
    )
    passes = [*(shared for shared, _ in apart), *first.passes, *second.passes]
    heads = [head for _, found in apart for head in found] + first.heads + second.heads
    leading = apart[0][1] if apart else first.heads
    cross_gramian = cross_gramian_of(first.rows.jacobian, second.rows.jacobian)
    position_gradients = _position_gradients(state, heads)

    def apply(update: Update) -> Applied:
        if apart:
            weighted_backward(leading, update.weights, state.shared_parameters)
        else:
            first.rows.jacobian.add_(second.rows.jacobian).mul_(0.5)
            first.rows.apply_weights(update.weights)
        gradients = [p.grad for p in state.network.heads.parameters() if p.grad is not None]
        if gradients:  # a frozen readout has none, and torch refuses an empty list
            torch._foreach_div_(gradients, len(batches))
        scale_heads(state, update)
        return Applied(evaluations_of(passes))

    return BatchGradients(
        _total_losses(state, leading),
        apply,
        cross_gramian=cross_gramian,
        position_gradients=None if position_gradients is None else position_gradients / len(batches),
        cosines=lambda: cosines_of(first.rows.gramian()),
    )


@dataclass(frozen=True)
class _TaskPasses:
    """The task gradients of one batch, with the passes that they are from."""

    rows: TaskGradients
    passes: list[SharedForward]
    heads: list[HeadGradient]


def _task_gradients(state: TrainState, batch: Batch, buffer: GradientBuffer) -> _TaskPasses:
    """Heads forward and backward, and one backward pass per task through the shared part, group by group."""
    rows = unfilled(state.shared_parameters, {}, buffer)
    passes, heads = [], list[HeadGradient]()
    for group in batch:
        shared, found = _forward_backward_heads(state, [group])
        write_rows(rows, found, batched=state.batched)
        passes.append(shared)
        heads += found
    return _TaskPasses(rows, passes, heads)


def split_into_micro_batches(batch: Batch, count: int) -> list[Batch]:
    """The batch as `count` micro-batches of equal size, each with a part of every group."""
    if count == 1:
        return [batch]
    return [[_slice(group, index, count) for group in batch] for index in range(count)]


def _slice(group: Group, index: int, count: int) -> Group:
    size = len(group.inputs) // count
    window = slice(index * size, (index + 1) * size)
    return Group(group.inputs[window], {task: target[window] for task, target in group.targets.items()})


@torch.no_grad()
def losses_now(state: TrainState, batches: Sequence[Batch]) -> tuple[Tensor, Evaluations | None]:
    """The losses (m,) of a batch at the current parameters, in training mode; evaluations of a flow.

    Those of this process's part, if several train the run.
    """
    passes, found = [], []
    for batch in batches:
        shared = forward_shared(state.network, batch, state.precision)
        passes.append(shared)
        found.append(forward_heads(state.network, state.tasks, shared.heads, state.precision))
    by_task = [torch.stack([losses[task] for losses in found]).double().mean() for task in range(len(state.tasks))]
    return torch.stack(by_task), evaluations_of(passes)


def scale_heads(state: TrainState, update: Update) -> None:
    """Scales the gradients of each head, which are those of its task's loss, by the rule of the method."""
    if state.head_rule == "plain":
        return
    scales = update.weights if state.head_rule == "weighted" else update.head_weights
    assert scales is not None, "a weighting with heads = 'own' must give head_weights"
    for head, scale in zip(state.network.heads, factors(scales), strict=True):
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        if gradients and (isinstance(scale, Tensor) or scale != 1.0):
            torch._foreach_mul_(gradients, scale)


def _average_gradients(state: TrainState, *parameters: Iterable[nn.Parameter]) -> None:
    """Averages the .grad of these parameters over the processes that train the run."""
    if state.parallel.size > 1:
        state.parallel.average([p.grad for some in parameters for p in some if p.grad is not None])


def cosines_of(gramian: Tensor) -> Tensor:
    """Cosines (m, m) between the tasks' gradients; NaN where a gradient is zero."""
    norms = gramian.diagonal().sqrt()
    return gramian / torch.outer(norms, norms)


def evaluations_of(passes: Sequence[SharedForward]) -> Evaluations | None:
    """The evaluations of a flow's field in several passes, forward and so far backward; None without a flow."""
    return added(*(shared.evaluations() for shared in passes if shared.evaluations is not None))


def added(*several: Evaluations | None) -> Evaluations | None:
    """The sum of evaluations; None if there are none."""
    known = [evaluations for evaluations in several if evaluations is not None]
    return Evaluations(*(sum(counts) for counts in zip(*known, strict=True))) if known else None


def _forward_backward_heads(
    state: TrainState, batch: Batch, share: float = 1.0
) -> tuple[SharedForward, list[HeadGradient]]:
    shared = forward_shared(state.network, batch, state.precision)
    return shared, heads_forward_backward(state.network, state.tasks, shared.heads, state.precision, share)


def _split(
    state: TrainState, shared: SharedForward, heads: Sequence[HeadGradient], gramian: Tensor | None
) -> BatchGradients:
    """Continues a step whose heads have run forward and backward."""

    def apply(update: Update) -> Applied:
        weighted_backward(heads, update.weights, state.shared_parameters)
        _average_gradients(state, state.shared_parameters, state.network.heads.parameters())
        scale_heads(state, update)
        return Applied(evaluations_of([shared]))

    def cosines() -> Tensor:
        # A separate buffer: the state's own may hold rows of the last block.
        gradients = unfilled(state.shared_parameters, {}, GradientBuffer(len(state.tasks)))
        write_rows(gradients, heads, retain_graph=True)
        state.parallel.average([gradients.jacobian])
        return cosines_of(gradients.gramian())

    return BatchGradients(
        _total_losses(state, heads),
        apply,
        gramian,
        position_gradients=_position_gradients(state, heads),
        cosines=cosines,
    )


def _total_losses(state: TrainState, heads: Sequence[HeadGradient]) -> Tensor:
    """Each task's loss (m,) over all micro-batches, float64 on the device."""
    losses: list[list[Tensor]] = [[] for _ in state.tasks]
    for head in heads:
        losses[head.task].append(head.loss)
    return torch.stack([torch.stack(parts) for parts in losses]).double().sum(dim=1)


def _position_gradients(state: TrainState, heads: Sequence[HeadGradient]) -> Tensor | None:
    """∂L_i/∂p_i (m,), summed over all micro-batches; None if tasks have no positions that move jointly."""
    if not state.moves_positions_jointly:
        return None
    gradients: dict[int, Tensor] = {}
    for head in heads:
        assert head.position_gradient is not None, "every task needs a velocity at its position"
        gradients[head.task] = gradients.get(head.task, 0) + head.position_gradient
    return torch.stack([gradients[task] for task in range(len(state.tasks))])
