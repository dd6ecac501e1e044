"""GradNorm: weights learned so that the tasks' gradient norms follow their training rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update


def balanced_weights(logits: Tensor) -> Tensor:
    """m · softmax(v): positive weights (m,) that sum to m."""
    return len(logits) * torch.softmax(logits, dim=0)


def gradnorm_objective(weights: Tensor, norms: Tensor, losses: Tensor, initial_losses: Tensor, alpha: float) -> Tensor:
    """Σ |w_i n_i − mean_j(w_j n_j) r_i^α|, with the targets held constant.

    norms: (m,) of the unweighted gradients; r_i: loss ratio L_i/L_i(0) over its mean.
    Source: Chen et al. (ICML 2018), Eq. (1)–(2).
    """
    ratios = losses / initial_losses.clamp_min(torch.finfo(losses.dtype).tiny)
    rates = ratios / ratios.mean().clamp_min(torch.finfo(losses.dtype).tiny)
    weighted_norms = weights * norms
    targets = (weighted_norms.mean() * rates**alpha).detach()
    return (weighted_norms - targets).abs().sum()


@dataclass(frozen=True)
class GradNorm:
    """Gradient normalisation.

    alpha: strength of the pull towards equal training rates.
    lr: Adam's rate on the logits of the weights.

    L_i(0) is the loss at the first step. Deviations: the weights are m·softmax(v), so that Σw = m and w > 0 at every
    step, while the paper rescales w after each step; norms are over all shared parameters, while the paper uses the
    last shared layer.
    """

    alpha: float = 1.5
    lr: float = 0.025

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "weighted"

    def __post_init__(self) -> None:
        require_at_least("alpha", self.alpha, 0)
        require_positive("lr", self.lr)

    @property
    def learned_lr(self) -> float:
        return self.lr

    def init(self, n_tasks: int) -> State:
        return State(learned={"logits": torch.zeros(n_tasks, dtype=torch.float64).requires_grad_()})

    def step(self, signal: Signal, state: State) -> Update:
        initial_losses = state.memory.get("initial_losses", signal.losses)
        logits = state.learned["logits"]
        norms = signal.required_gramian().diagonal().clamp_min(0).sqrt()
        weights = balanced_weights(logits)
        objective = gradnorm_objective(weights, norms, signal.losses, initial_losses, self.alpha)
        return Update(
            weights=weights.detach(),
            state=State(state.learned, {"initial_losses": initial_losses}),
            auxiliary=objective,
        )
