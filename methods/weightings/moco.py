"""MoCo: running means of gradients and of weights, so that noise doesn't bias the shortest combination."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from methods.checks import require_at_least, require_one_of, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.rows import gramian_of

Variant = Literal["released", "paper"]


def loss_norm_scales(norms: Tensor, losses: Tensor) -> Tensor:
    """L_i/‖g_i‖ (m,), which scale every gradient to the norm L_i; 0 for a zero gradient."""
    without = norms <= 0
    return torch.where(without, 0.0, losses / torch.where(without, 1.0, norms))


def nearest_on_simplex(point: Tensor) -> Tensor:
    """The point of {w ≥ 0, Σw = 1} nearest to `point`, (m,): `simplex.project_onto_simplex`, on any device.

    Source: Held, Wolfe, Crowder, "Validation of subgradient optimization", Math. Programming 6 (1974).
    """
    shifted = point - point.max()  # the result is the same, with less cancellation in the sums
    descending = shifted.sort(descending=True).values
    position = torch.arange(len(point), device=point.device)
    thresholds = (descending.cumsum(dim=0) - 1) / (position + 1)
    last = torch.where(descending > thresholds, position, 0).max()
    return (shifted - thresholds.gather(0, last.unsqueeze(0))).clamp_min(0)


@dataclass(frozen=True)
class MoCo:
    """Multi-objective gradient correction: y_i ← y_i − β_k (y_i − h_i), λ ← Π(λ − γ_k (Y Yᵀ + ρI) λ).

    variant: "released" is the authors' code for NYUv2 and Cityscapes: h_i is the gradient, scaled to the norm L_i, Π is
        a softmax, the update is m λ @ Y, and k counts epochs. "paper": h_i is the gradient, Π is the projection onto
        the simplex, the update is λ @ Y, and k counts steps.
    beta, beta_sigma: β_k = beta / k^beta_sigma for k = 1, 2, …, from y = 0.
    gamma, gamma_sigma: γ_k = gamma / k^gamma_sigma, from λ = 1/m.
    rho: ρ.

    Defaults are those of the authors' script for NYUv2. The weights are those of the current gradients: if β_k = 1 the
    update is weights @ jacobian. Task-specific heads keep their plain gradients. If "released", the h_i of a zero
    gradient is 0, and the step is counted. Source: Fernando et al. (ICLR 2023), Algorithm 1.
    Deviations: the update uses y and λ after their step, as in the released code; y is not projected onto a ball. The
    released code resets y and λ before each step of the first epoch; here they are kept. It adds 1e-8 to norms.
    """

    variant: Variant = "released"
    beta: float = 0.99
    beta_sigma: float = 0.0
    gamma: float = 0.1
    gamma_sigma: float = 0.0
    rho: float = 0.0

    needs: ClassVar[Needs] = "jacobian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        require_positive("beta", self.beta)
        for name in ("beta_sigma", "gamma", "gamma_sigma", "rho"):
            require_at_least(name, getattr(self, name), 0)
        if self.beta > 1:
            raise ValueError(f"`beta` must be ≤ 1, found {self.beta}")
        require_one_of("variant", self.variant, get_args(Variant))

    def init(self, n_tasks: int) -> State:
        return State(memory={"lambda": torch.full((n_tasks,), 1 / n_tasks, dtype=torch.float64)})

    def step(self, signal: Signal, state: State) -> Update:
        jacobian, released = signal.required_jacobian(), self.variant == "released"
        count = 1 + (signal.epoch if released else signal.step)
        beta, gamma = self.beta / count**self.beta_sigma, self.gamma / count**self.gamma_sigma
        scales, fallbacks = torch.ones_like(signal.losses), torch.zeros_like(signal.losses[0], dtype=torch.long)
        if released:
            norms = signal.required_gramian().diagonal().clamp_min(0).sqrt()
            scales, fallbacks = loss_norm_scales(norms, signal.losses), (norms <= 0).any().long()
        tracked = jacobian * (beta * scales).to(jacobian).unsqueeze(1)  # (m, P)
        if "tracked" in state.memory:
            tracked.add_(state.memory["tracked"], alpha=1 - beta)
        before = state.memory["lambda"]
        slope = gramian_of(tracked) @ before + self.rho * before
        moved = before - gamma * slope
        after = torch.softmax(moved, dim=0) if released else nearest_on_simplex(moved)
        weights = len(after) * after if released else after
        return Update(
            weights=weights * scales,
            state=State(memory={"tracked": tracked, "lambda": after}),
            fallbacks=fallbacks,
            direction=weights.to(tracked) @ tracked,
        )
