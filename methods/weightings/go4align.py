"""GO4Align: tasks are grouped by their risks, and each group has one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.log_loss import SMALLEST_LOSS


def grouped_means(values: np.ndarray, n_groups: int) -> np.ndarray:
    """For each value (m,), the mean of its group in the grouping with the least sum of squared distances to the means.

    It is k-means on a line, where every group is an interval of the sorted values: dynamic programming finds the
    optimum. There are at most n_groups groups.
    """
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    costs, means = _interval_costs(ordered)
    least, starts = costs[0], []  # least[j]: the least cost of the values up to j
    for _ in range(min(n_groups, len(values)) - 1):
        totals = np.concatenate([[0.0], least[:-1]])[:, None] + costs  # (m, m), [i, j]: the last group is i..j
        starts.append(totals.argmin(axis=0))
        least = totals.min(axis=0)
    grouped, end = np.empty_like(values), len(values) - 1
    while end >= 0:
        start = int(starts.pop()[end]) if starts else 0
        grouped[order[start : end + 1]] = means[start, end]
        end = start - 1
    return grouped


def _interval_costs(ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of squared distances to their mean (inf for i > j), and the means, (m, m) each, of the values i..j.

    Distances to the first value of an interval are summed: what is outside does not add to the rounding inside.
    """
    m = len(ordered)
    inside = np.tri(m, dtype=bool).T  # (m, m), j >= i
    distances = np.where(inside, ordered - ordered[:, None], 0.0)
    sizes = np.where(inside, np.arange(1, m + 1) - np.arange(m)[:, None], 1)
    sums = distances.cumsum(axis=1)
    costs = np.where(inside, (distances**2).cumsum(axis=1) - sums**2 / sizes, np.inf)
    return costs, ordered[:, None] + sums / sizes


def risk_indicators(log_shares: Tensor, losses: Tensor) -> Tensor:
    """γ_i = p_i Σ_j L_j / L_i, (m,), for the shares p; 0 for a task whose loss is not positive.

    Source: Shen, Wang, Xiao, Van Noord, Worring (NeurIPS 2024): risk-guided group indicators, as in the
        released code.
    """
    positive = losses >= SMALLEST_LOSS
    total = torch.where(positive, losses, torch.zeros_like(losses)).sum()
    scales = total / torch.where(positive, losses, torch.ones_like(losses))
    return torch.where(positive, log_shares.exp() * scales, torch.zeros_like(losses))


@dataclass(frozen=True)
class GO4Align:
    """Group optimisation for multi-task alignment.

    groups: how many, at most; with 1, every task has the same weight.
    step_size: of the exponentiated gradient of the shares p, which fall with the losses.

    Task-specific heads get the gradients of their weighted losses.
    Deviations: k-means is solved exactly instead of from random starts. Two groups by default: the released script has
    one, with which there is nothing to group. A task whose loss is not positive is in no group and gets weight 0; the
    step is counted.
    """

    groups: int = 2
    step_size: float = 1e-4

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("groups", self.groups, 1)
        require_positive("step_size", self.step_size)

    def init(self, n_tasks: int) -> State:
        """log_shares: log p, at first -log m."""
        return State(memory={"log_shares": torch.full((n_tasks,), 1.0 / n_tasks, dtype=torch.float64).log()})

    def step(self, signal: Signal, state: State) -> Update:
        losses = signal.losses
        log_shares = torch.log_softmax(state.memory["log_shares"] - self.step_size * losses.clamp_min(0), dim=0)
        positive = losses >= SMALLEST_LOSS
        weights = torch.zeros_like(losses)
        if positive.any():
            indicators = risk_indicators(log_shares, losses)[positive].numpy()
            weights[positive] = torch.from_numpy(grouped_means(indicators, self.groups))
        return Update(weights, State(memory={"log_shares": log_shares}), fallbacks=int(not positive.all()))
