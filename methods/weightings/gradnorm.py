"""GradNorm: weights learned so that the tasks' gradient norms follow their training rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step


def balanced_weights(logits: Tensor) -> Tensor:
    """m · softmax(v): positive weights (m,) that sum to m."""
    return len(logits) * torch.softmax(logits, dim=0)


def training_rates(losses: Tensor, initial_losses: Tensor) -> tuple[Tensor, bool]:
    """r_i = (L_i/L_i(0)) over its mean, (m,), and whether a loss has no ratio.

    A loss has no ratio if it is negative, or L_i(0) is not positive. Its rate is 1, the mean of the others. All rates
    are 1 if every loss is 0.

    Source: Chen et al. (ICML 2018), Section 3.1.
    """
    known = (initial_losses > 0) & (losses >= 0)
    ratios = torch.where(known, losses / torch.where(known, initial_losses, 1.0), 0.0)
    mean = ratios.sum() / known.sum().clamp_min(1)
    return torch.where(known & (mean > 0), ratios / mean, 1.0), not bool(known.all())


def gradnorm_slope(weights: Tensor, norms: Tensor, rates: Tensor, alpha: float) -> Tensor:
    """The derivative in the logits v (m,) of Σ |w_i n_i − mean_j(w_j n_j) r_i^α|, with the targets held constant.

    weights: (m,) m·softmax(v). norms: (m,) of the unweighted gradients. rates: (m,) r.
    Source: Chen et al. (ICML 2018), Eq. (1)–(2).
    """
    weighted_norms = weights * norms
    slope = torch.sign(weighted_norms - weighted_norms.mean() * rates**alpha) * norms
    return weights * (slope - (weights @ slope) / len(weights))


@dataclass(frozen=True)
class GradNorm:
    """Gradient normalisation.

    alpha: strength of the pull towards equal training rates.
    lr: Adam's rate on the logits of the weights; 0.025 as in Section 5.1 there, where it moves the weights themselves.

    L_i(0) is the loss at the first step. A task has no training rate if its loss was not positive then, or is negative
    now. Its rate is 1, and the step is counted.
    Deviations: the weights are m·softmax(v), so that Σw = m and w > 0 at every step, while the paper rescales w after
    each step; norms are over all shared parameters, while the paper uses the last shared layer.
    """

    alpha: float = 1.5
    lr: float = 0.025

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("alpha", self.alpha, 0)
        require_positive("lr", self.lr)

    def init(self, n_tasks: int) -> State:
        return State({"logits": torch.zeros(n_tasks, dtype=torch.float64), **adam_memory(n_tasks)})

    def step(self, signal: Signal, state: State) -> Update:
        logits, initial_losses = state.memory["logits"], state.memory.get("initial_losses", signal.losses)
        norms = signal.required_gramian().diagonal().clamp_min(0).sqrt()
        rates, without = training_rates(signal.losses, initial_losses)
        weights = balanced_weights(logits)
        direction, moments = adam_step(state.memory, gradnorm_slope(weights, norms, rates, self.alpha))
        memory = {"logits": logits - self.lr * direction, "initial_losses": initial_losses, **moments}
        return Update(weights, State(memory), fallbacks=int(without))
