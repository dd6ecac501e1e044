"""UW-SO: the learned variances of UW replaced by their optimum, under a softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update

_OFFSET = 1e-8


def soft_inverse_weights(losses: Tensor, temperature: float) -> Tensor:
    """softmax(1 / (L T)), (m,), which sums to 1; 1e-8 is added to each loss, and a negative one counts as 0.

    Source: Kirchdorfer, Elich, Kutsche, Stuckenschmidt, Schott, Köhler (GCPR 2024): the optimal uncertainties
        are the losses themselves, so that the optimal weights are their inverses. The offset is that of the released
        code.
    """
    return torch.softmax(1 / (losses.clamp_min(0) + _OFFSET) / temperature, dim=0)


@dataclass(frozen=True)
class UWSO:
    """Soft optimal uncertainty weighting.

    temperature: T; near 0 only the task of the smallest loss counts, and the higher T, the closer the weights are to
        1/m. It has the unit of an inverse loss, and the paper tunes it for every data set.

    Task-specific heads get the gradients of their weighted losses. Deviations: none. A loss of 0 takes all the weight,
    as in the released code; a negative one counts as 0. Both are counted.
    """

    temperature: float = 1.0

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("temperature", self.temperature)

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        weights = soft_inverse_weights(signal.losses, self.temperature)
        return Update(weights, state, fallbacks=(signal.losses <= 0).any().long())
