"""UW: weighting by learned homoscedastic uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step


def uncertainty_weights(log_variances: Tensor) -> Tensor:
    """Weights (m,) exp(-s)/2 for s = log σ² (m,)."""
    return torch.exp(-log_variances) / 2


def uncertainty_slope(log_variances: Tensor, losses: Tensor) -> Tensor:
    """The derivative in s (m,) of Σ exp(-s_i) L_i / 2 + s_i / 2, which is least at s_i = log L_i.

    Source: Kendall, Gal, Cipolla (CVPR 2018), Eq. (7), with s = log σ².
    """
    return 0.5 - uncertainty_weights(log_variances) * losses


@dataclass(frozen=True)
class UW:
    """Losses divided by learned variances σ², plus log σ as a penalty.

    initial_log_variance: s_i before the first step.
    lr: Adam's rate on s, without weight decay. 0.025 is that of Chen et al. (GradNorm, ICML 2018, Section 5.1), which
        the code released for Nash-MTL took over; Kendall et al. do not say theirs.

    Deviations: the regression form, Eq. (7), is used for every task, also classification (Eq. (10) there has no 1/2).
    """

    initial_log_variance: float = 0.0
    lr: float = 0.025

    needs: ClassVar[Needs] = "losses"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_positive("lr", self.lr)

    def init(self, n_tasks: int) -> State:
        log_variances = torch.full((n_tasks,), self.initial_log_variance, dtype=torch.float64)
        return State({"log_variances": log_variances, **adam_memory(n_tasks)})

    def step(self, signal: Signal, state: State) -> Update:
        log_variances = state.memory["log_variances"]
        direction, moments = adam_step(state.memory, uncertainty_slope(log_variances, signal.losses))
        moved = {"log_variances": log_variances - self.lr * direction, **moments}
        return Update(uncertainty_weights(log_variances), State(moved))
