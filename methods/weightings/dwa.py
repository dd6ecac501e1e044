"""DWA: dynamic weight averaging, more weight for tasks whose loss falls slowly from epoch to epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update


def descending_rate_weights(last: Tensor, before: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """m · softmax(r / T), (m,), for the ratios r of the losses of the last epoch to those of the epoch before.

    A ratio to a loss of 0 counts as 1; returns also whether there was one, () bool.

    Source: Liu, Johns, Davison (CVPR 2019), Eq. (7).
    """
    ratios = last / before
    undefined = ~torch.isfinite(ratios)
    ratios = torch.where(undefined, torch.ones_like(ratios), ratios)
    return len(ratios) * torch.softmax(ratios / temperature, dim=0), undefined.any()


@dataclass(frozen=True)
class DWA:
    """Dynamic weight averaging over the mean losses of whole epochs; the first two epochs have equal weights.

    temperature: the higher, the closer the weights are to equal.

    Task-specific heads get the gradients of their weighted losses.
    Deviations: none. A task whose mean loss was 0 two epochs ago counts as converged (ratio 1), and
    the step is counted.
    """

    temperature: float = 2.0

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("temperature", self.temperature)

    def init(self, n_tasks: int) -> State:
        """epoch: the current one; total, steps: sum and number of its losses; means: (2, m) of the last two epochs."""
        return State(
            memory={
                "epoch": torch.tensor(0),
                "total": torch.zeros(n_tasks, dtype=torch.float64),
                "steps": torch.tensor(0),
                "means": torch.ones(2, n_tasks, dtype=torch.float64),
            }
        )

    def step(self, signal: Signal, state: State) -> Update:
        epoch, total, steps, means = (state.memory[name] for name in ("epoch", "total", "steps", "means"))
        ended = epoch != signal.epoch
        (before, last), mean = means, total / steps.clamp_min(1)
        before, last = torch.where(ended, last, before), torch.where(ended, mean, last)
        memory = {
            "epoch": torch.full_like(epoch, signal.epoch),
            "total": torch.where(ended, torch.zeros_like(total), total) + signal.losses,
            "steps": torch.where(ended, torch.zeros_like(steps), steps) + 1,
            "means": torch.stack([before, last]),
        }
        if signal.epoch < 2:
            return Update(torch.ones_like(signal.losses), State(memory))
        weights, undefined = descending_rate_weights(last, before, self.temperature)
        return Update(weights, State(memory), fallbacks=undefined.long())
