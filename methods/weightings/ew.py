"""EW: equal weighting, the sum of the losses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from methods.contract import HeadRule, Needs, Signal, State, Update


@dataclass(frozen=True)
class EW:
    """Every task has weight 1.

    Deviations: Ye et al. (2023), Eq. (1) take the mean. The sum is m times as long, which Adam compensates, and every
    task-specific head gets the plain gradient of its loss.
    """

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        return Update(torch.ones_like(signal.losses), state)
