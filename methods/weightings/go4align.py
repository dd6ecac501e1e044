"""GO4Align: tasks are grouped by their risks, and each group has one weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.log_loss import SMALLEST_LOSS


def grouped_means(values: Tensor, grouped: Tensor, n_groups: int) -> Tensor:
    """For each value (m,), the mean of its group in the grouping with the least sum of squared distances to the means.

    It is k-means on a line, where every group is an interval of the sorted values: dynamic programming finds the
    optimum. There are at most n_groups groups. No value is read on the host.

    grouped: (m,) bool, the values that are in a group; the others get 0.
    """
    m = len(values)
    ordered, order = torch.where(grouped, values, torch.inf).sort(stable=True)
    count = grouped.sum()  # of the ordered values, those in a group come first
    costs, means = _interval_costs(ordered, count)
    least, starts = costs[0], []  # least[j]: the least cost of the values up to j
    for _ in range(min(n_groups, m) - 1):
        totals = torch.cat([least.new_zeros(1), least[:-1]]).unsqueeze(1) + costs  # (m, m), [i, j]: the last is i..j
        starts.append(totals.argmin(dim=0))
        least = totals.amin(dim=0)
    found, position = torch.zeros_like(values), torch.arange(m, device=values.device)
    end = count.unsqueeze(0) - 1  # of the next interval, from the last to the first; -1 after the first
    for best in [*reversed(starts), torch.zeros_like(position)]:
        column = end.clamp_min(0)
        start = best.gather(0, column)
        mean = means.flatten().gather(0, start * m + column)
        found = torch.where((position >= start) & (position <= end), mean, found)
        end = start - 1
    return torch.empty_like(values).scatter_(0, order, found)


def _interval_costs(ordered: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Sums of squared distances to their mean (inf for i > j), and the means, (m, m) each, of the values i..j.

    count: () how many of the ordered values have intervals; the rest has none.
    Distances to the first value of an interval are summed: what is outside does not add to the rounding inside.
    """
    position = torch.arange(len(ordered), device=ordered.device)
    inside = (position >= position.unsqueeze(1)) & (position < count)  # (m, m), j >= i
    distances = torch.where(inside, ordered - ordered.unsqueeze(1), 0.0)
    sizes = torch.where(inside, position + 1 - position.unsqueeze(1), 1)
    sums = distances.cumsum(dim=1)
    costs = torch.where(inside, distances.square().cumsum(dim=1) - sums.square() / sizes, torch.inf)
    return costs, ordered.unsqueeze(1) + sums / sizes


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
        weights = grouped_means(risk_indicators(log_shares, losses), positive, self.groups)
        return Update(weights, State(memory={"log_shares": log_shares}), fallbacks=(~positive.all()).long())
