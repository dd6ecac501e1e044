"""IGBv1: more weight for tasks whose loss is still large relative to the start of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.log_loss import SMALLEST_LOSS, inverse_loss_weights


def improvable_gap_weights(losses: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (m,): the gradient in the losses of Σ λ_i log L_i for constant λ = m · softmax(L / base).

    A task whose loss or base is not positive gets 0; returns also whether there is one, () bool.

    Source: Dai, Fei, Lu (UAI 2023): IGBv1 on scale-invariant losses, as in the released code.
    """
    positive = (losses >= SMALLEST_LOSS) & (base >= SMALLEST_LOSS)
    nothing = torch.zeros_like(losses)
    ratios = torch.where(positive, losses / torch.where(positive, base, torch.ones_like(base)), nothing - torch.inf)
    inverse, _ = inverse_loss_weights(torch.where(positive, losses, nothing))
    weights = len(losses) * torch.softmax(ratios, dim=0) * inverse
    return torch.where(positive, weights, nothing), ~positive.all()


@dataclass(frozen=True)
class IGB:
    """Improvable gap balancing, first version, with the ideal loss 0.

    base_epoch: the epoch, counted from 0, whose mean losses are the base; until its end the sum of the log losses is
        trained.

    Task-specific heads get the gradients of the objective as well. Deviations: none. A task without a logarithm is left
    out, and the step is counted.
    """

    base_epoch: int = 1

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("base_epoch", self.base_epoch, 0)

    def init(self, n_tasks: int) -> State:
        """total, steps: of the losses in the base epoch."""
        return State(memory={"total": torch.zeros(n_tasks, dtype=torch.float64), "steps": torch.tensor(0)})

    def step(self, signal: Signal, state: State) -> Update:
        total, steps = state.memory["total"], state.memory["steps"]
        if signal.epoch > self.base_epoch:
            weights, undefined = improvable_gap_weights(signal.losses, total / steps)
            return Update(weights, state, fallbacks=undefined.long())
        weights, undefined = inverse_loss_weights(signal.losses)
        if signal.epoch == self.base_epoch:
            state = State(memory={"total": total + signal.losses, "steps": steps + 1})
        return Update(weights, state, fallbacks=undefined.long())
