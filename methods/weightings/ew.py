"""EW: equal weighting, the sum of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from methods.contract import HeadRule, Needs, Signal, State, Update


@dataclass(frozen=True)
class EW:
    """Every task has weight 1.

    Deviations: Ye et al. (2023), Eq. (1) take the mean; the sum is the same direction m times as long, which Adam
    undoes, and it leaves every task's own head with the gradient of its own loss.
    """

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"
    learned_lr: ClassVar[None] = None

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        return Update(torch.ones_like(signal.losses), state)
