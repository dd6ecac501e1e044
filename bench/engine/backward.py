"""Four ways from a batch to gradients of the shared parameters and of the heads.

Each observes first, which gives the losses and, where the weighting is to see one, a Gramian; and places then, once the
weights are known. m tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from bench.engine.factored_layers import Uses, watching, worth_factoring
from bench.engine.heads import HeadGradient, heads_forward_backward, losses_of
from bench.engine.train_state import TrainState
from datasets.contract import Batch, Group
from methods.contract import Update
from methods.rows import gramian_of


class Way(Protocol):
    """head_gradients: of all tasks where heads were cut off, as soon as gradients are placed."""

    head_gradients: list[HeadGradient]

    def observe(self) -> tuple[Tensor, Tensor | None]:
        """The losses (m,) and a Gramian (m, m), float64 on the CPU."""

    def place(self, update: Update) -> None:
        """Puts the gradients of shared part and heads where the optimizer looks for them."""


def way_of(train_state: TrainState, batch: Batch, renewed: bool, watched: bool) -> Way:
    """The quickest that does for this step. renewed: weights are. watched: somebody looks at the tasks' gradients."""
    parts = in_parts(batch, train_state.parts)
    if renewed and train_state.weighting.needs != "losses" and train_state.gramian_settings.grad_space == "shared":
        return ByRows(train_state, parts)
    if len(parts) > 1:
        return InParts(train_state, parts)
    by_losses = train_state.weighting.needs == "losses" and train_state.head_rule == "weighted"
    if by_losses and "positions" not in train_state.optimizers and not watched:
        return Uncut(train_state, batch)
    return Cut(train_state, batch, renewed and train_state.weighting.needs == "gramian")


def in_parts(batch: Batch, parts: int) -> list[Batch]:
    """The batch as so many of equal size: a part of every group each."""
    if parts == 1:
        return [batch]
    return [[_part_of(group, part, parts) for group in batch] for part in range(parts)]


def _part_of(group: Group, part: int, parts: int) -> Group:
    size = len(group.inputs) // parts
    window = slice(part * size, (part + 1) * size)
    return Group(group.inputs[window], {task: target[window] for task, target in group.targets.items()})


@dataclass
class Uncut:
    """One pass back through heads and shared part alike: every gradient gets its task's weight on the way."""

    train_state: TrainState
    batch: Batch
    head_gradients: list[HeadGradient] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, None]:
        found = losses_of(self.train_state.network, self.train_state.tasks, self.batch, self.train_state.precision)
        self._losses = torch.stack([found[task] for task in range(len(self.train_state.tasks))])
        return self._losses.detach().double().cpu(), None

    def place(self, update: Update) -> None:
        self.train_state.shared.backward_whole(self._losses, update.weights)


@dataclass
class Cut:
    """Heads forward and back on their own, and one pass back through the shared part.

    sees_gramian: of the last block or the representation, whichever is to stand for all shared parameters.
    """

    train_state: TrainState
    batch: Batch
    sees_gramian: bool
    head_gradients: list[HeadGradient] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, Tensor | None]:
        train_state = self.train_state
        by_block = self.sees_gramian and train_state.gramian_settings.grad_space == "last_block"
        with watching(train_state.layers if by_block and len(self.batch) == 1 else ()) as uses:
            self.head_gradients = heads_forward_backward(
                train_state.network, train_state.tasks, self.batch, train_state.precision
            )
        return _transferred(
            _summed(train_state, self.head_gradients), self._gramian(uses) if self.sees_gramian else None
        )

    def _gramian(self, uses: Uses) -> Tensor:
        train_state = self.train_state
        if train_state.gramian_settings.grad_space == "representation":
            by_task = sorted(self.head_gradients, key=lambda head_gradient: head_gradient.task)
            return gramian_of(torch.stack([head_gradient.gradient.flatten() for head_gradient in by_task]))
        train_state.shared.fill_rows(
            self.head_gradients, worth_factoring(uses, len(train_state.tasks)), keep_graph=True
        )
        return train_state.shared.gramian()

    def place(self, update: Update) -> None:
        self.train_state.shared.backward_once(self.head_gradients, update.weights)
        scale_heads(self.train_state, update)


@dataclass
class InParts:
    """The same, part of the batch by part. Losses have to be known before the first passes back: they go ahead."""

    train_state: TrainState
    parts: Sequence[Batch]
    head_gradients: list[HeadGradient] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, None]:
        return losses_now(self.train_state, self.parts), None

    def place(self, update: Update) -> None:
        train_state = self.train_state
        for index, part in enumerate(self.parts):
            crossed = heads_forward_backward(
                train_state.network, train_state.tasks, part, train_state.precision, 1 / len(self.parts)
            )
            train_state.shared.backward_once(crossed, update.weights, add=index > 0)
            self.head_gradients += crossed
        scale_heads(train_state, update)


@dataclass
class ByRows:
    """Heads forward and back on their own, and a pass back through the shared part for each task.

    Group by group, so that of several inputs only one graph is alive at a time, and each task's gradient passes back
    through its own input alone. Layers are kept in factors where one input serves all tasks.
    """

    train_state: TrainState
    parts: Sequence[Batch]
    head_gradients: list[HeadGradient] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, Tensor | None]:
        train_state, share = self.train_state, 1 / len(self.parts)
        for index, part in enumerate(self.parts):
            for group in part:
                with watching(train_state.layers if len(part) == 1 else ()) as uses:
                    crossed = heads_forward_backward(
                        train_state.network, train_state.tasks, [group], train_state.precision, share
                    )
                train_state.shared.fill_rows(crossed, worth_factoring(uses, len(train_state.tasks)), add=index > 0)
                self.head_gradients += crossed
        return _transferred(_summed(train_state, self.head_gradients), train_state.shared.gramian())

    def place(self, update: Update) -> None:
        if update.direction is not None:
            self.train_state.shared.place(update.direction)
        else:
            self.train_state.shared.combine_rows(update.weights)
        scale_heads(self.train_state, update)


@torch.no_grad()
def losses_now(train_state: TrainState, parts: Sequence[Batch]) -> Tensor:
    """The losses (m,) of a batch at the present parameters, in training mode as in the step itself; on the CPU."""
    found = [losses_of(train_state.network, train_state.tasks, part, train_state.precision) for part in parts]
    by_task = [
        torch.stack([losses[task] for losses in found]).double().mean() for task in range(len(train_state.tasks))
    ]
    return torch.stack(by_task).cpu()


def scale_heads(train_state: TrainState, update: Update) -> None:
    """Gives the gradients of each head, which are those of its task's loss, the factor of the method's rule."""
    if train_state.head_rule == "plain":
        return
    scales = update.weights if train_state.head_rule == "weighted" else update.head_weights
    assert scales is not None, "a weighting with heads = 'own' must give head_weights"
    for head, scale in zip(train_state.network.heads, scales.tolist(), strict=True):
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        if gradients and scale != 1.0:
            torch._foreach_mul_(gradients, scale)


def _summed(train_state: TrainState, head_gradients: Sequence[HeadGradient]) -> Tensor:
    """Each task's loss (m,) over all parts, float64 on the device."""
    losses: list[list[Tensor]] = [[] for _ in train_state.tasks]
    for head_gradient in head_gradients:
        losses[head_gradient.task].append(head_gradient.loss)
    return torch.stack([torch.stack(parts) for parts in losses]).double().sum(dim=1)


def _transferred(losses: Tensor, gramian: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both on the CPU, by the one transfer that a step waits for."""
    if gramian is None:
        return losses.cpu(), None
    m = len(losses)
    both = torch.cat([losses, gramian.flatten()]).cpu()
    return both[:m], both[m:].view(m, m)
