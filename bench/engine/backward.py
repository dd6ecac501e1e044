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
from bench.engine.heads import Boundary, cross_heads, losses_of
from bench.engine.train_state import Trainee
from datasets.contract import Batch, Group
from methods.contract import Update
from methods.rows import gramian_of


class Way(Protocol):
    """boundaries: of all tasks where heads were cut off, as soon as gradients are placed."""

    boundaries: list[Boundary]

    def observe(self) -> tuple[Tensor, Tensor | None]:
        """The losses (m,) and a Gramian (m, m), float64 on the CPU."""

    def place(self, update: Update) -> None:
        """Puts the gradients of shared part and heads where the optimizer looks for them."""


def way_of(trainee: Trainee, batch: Batch, renewed: bool, watched: bool) -> Way:
    """The quickest that does for this step. renewed: weights are. watched: somebody looks at the tasks' gradients."""
    parts = in_parts(batch, trainee.parts)
    if renewed and trainee.weighting.needs != "losses" and trainee.renewal.grad_space == "shared":
        return ByRows(trainee, parts)
    if len(parts) > 1:
        return InParts(trainee, parts)
    by_losses = trainee.weighting.needs == "losses" and trainee.head_rule == "weighted"
    if by_losses and "positions" not in trainee.optimizers and not watched:
        return Uncut(trainee, batch)
    return Cut(trainee, batch, renewed and trainee.weighting.needs == "gramian")


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

    trainee: Trainee
    batch: Batch
    boundaries: list[Boundary] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, None]:
        found = losses_of(self.trainee.network, self.trainee.tasks, self.batch, self.trainee.precision)
        self._losses = torch.stack([found[task] for task in range(len(self.trainee.tasks))])
        return self._losses.detach().double().cpu(), None

    def place(self, update: Update) -> None:
        self.trainee.shared.backward_whole(self._losses, update.weights)


@dataclass
class Cut:
    """Heads forward and back on their own, and one pass back through the shared part.

    sees_gramian: of the last block or the representation, whichever is to stand for all shared parameters.
    """

    trainee: Trainee
    batch: Batch
    sees_gramian: bool
    boundaries: list[Boundary] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, Tensor | None]:
        trainee = self.trainee
        by_block = self.sees_gramian and trainee.renewal.grad_space == "last_block"
        with watching(trainee.layers if by_block and len(self.batch) == 1 else ()) as uses:
            self.boundaries = cross_heads(trainee.network, trainee.tasks, self.batch, trainee.precision)
        return _transferred(_summed(trainee, self.boundaries), self._gramian(uses) if self.sees_gramian else None)

    def _gramian(self, uses: Uses) -> Tensor:
        trainee = self.trainee
        if trainee.renewal.grad_space == "representation":
            by_task = sorted(self.boundaries, key=lambda boundary: boundary.task)
            return gramian_of(torch.stack([boundary.gradient.flatten() for boundary in by_task]))
        trainee.shared.fill_rows(self.boundaries, worth_factoring(uses, len(trainee.tasks)), keep_graph=True)
        return trainee.shared.gramian()

    def place(self, update: Update) -> None:
        self.trainee.shared.backward_once(self.boundaries, update.weights)
        scale_heads(self.trainee, update)


@dataclass
class InParts:
    """The same, part of the batch by part. Losses have to be known before the first passes back: they go ahead."""

    trainee: Trainee
    parts: Sequence[Batch]
    boundaries: list[Boundary] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, None]:
        return losses_now(self.trainee, self.parts), None

    def place(self, update: Update) -> None:
        trainee = self.trainee
        for index, part in enumerate(self.parts):
            crossed = cross_heads(trainee.network, trainee.tasks, part, trainee.precision, 1 / len(self.parts))
            trainee.shared.backward_once(crossed, update.weights, add=index > 0)
            self.boundaries += crossed
        scale_heads(trainee, update)


@dataclass
class ByRows:
    """Heads forward and back on their own, and a pass back through the shared part for each task.

    Group by group, so that of several inputs only one graph is alive at a time, and each task's gradient passes back
    through its own input alone. Layers are kept in factors where one input serves all tasks.
    """

    trainee: Trainee
    parts: Sequence[Batch]
    boundaries: list[Boundary] = field(default_factory=list)

    def observe(self) -> tuple[Tensor, Tensor | None]:
        trainee, share = self.trainee, 1 / len(self.parts)
        for index, part in enumerate(self.parts):
            for group in part:
                with watching(trainee.layers if len(part) == 1 else ()) as uses:
                    crossed = cross_heads(trainee.network, trainee.tasks, [group], trainee.precision, share)
                trainee.shared.fill_rows(crossed, worth_factoring(uses, len(trainee.tasks)), add=index > 0)
                self.boundaries += crossed
        return _transferred(_summed(trainee, self.boundaries), trainee.shared.gramian())

    def place(self, update: Update) -> None:
        if update.direction is not None:
            self.trainee.shared.place(update.direction)
        else:
            self.trainee.shared.combine_rows(update.weights)
        scale_heads(self.trainee, update)


@torch.no_grad()
def losses_now(trainee: Trainee, parts: Sequence[Batch]) -> Tensor:
    """The losses (m,) of a batch at the present parameters, in training mode as in the step itself; on the CPU."""
    found = [losses_of(trainee.network, trainee.tasks, part, trainee.precision) for part in parts]
    by_task = [torch.stack([losses[task] for losses in found]).double().mean() for task in range(len(trainee.tasks))]
    return torch.stack(by_task).cpu()


def scale_heads(trainee: Trainee, update: Update) -> None:
    """Gives the gradients of each head, which are those of its task's loss, the factor of the method's rule."""
    if trainee.head_rule == "plain":
        return
    scales = update.weights if trainee.head_rule == "weighted" else update.head_weights
    assert scales is not None, "a weighting with heads = 'own' must give head_weights"
    for head, scale in zip(trainee.network.heads, scales.tolist(), strict=True):
        gradients = [p.grad for p in head.parameters() if p.grad is not None]
        if gradients and scale != 1.0:
            torch._foreach_mul_(gradients, scale)


def _summed(trainee: Trainee, boundaries: Sequence[Boundary]) -> Tensor:
    """Each task's loss (m,) over all parts, float64 on the device."""
    losses: list[list[Tensor]] = [[] for _ in trainee.tasks]
    for boundary in boundaries:
        losses[boundary.task].append(boundary.loss)
    return torch.stack([torch.stack(parts) for parts in losses]).double().sum(dim=1)


def _transferred(losses: Tensor, gramian: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Both on the CPU, by the one transfer that a step waits for."""
    if gramian is None:
        return losses.cpu(), None
    m = len(losses)
    both = torch.cat([losses, gramian.flatten()]).cpu()
    return both[:m], both[m:].view(m, m)
