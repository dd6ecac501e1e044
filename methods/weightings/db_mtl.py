"""DB-MTL: the logarithm balances losses; running means of gradients are scaled to the largest norm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.checks import require_at_least
from methods.contract import HeadRule, Needs, Signal, State, Update

# Lower bound of a loss, so that 1/L stays in range; the released code adds it to every loss.
_LEAST_LOSS = 1e-8


def log_loss_scales(losses: Tensor) -> tuple[Tensor, Tensor]:
    """1/L_i (m,), which turns the gradient of L_i into that of log L_i; and which losses have no logarithm, (m,) bool.

    Those (L_i ≤ 0) get 0.
    """
    without = losses <= 0
    return torch.where(without, 0.0, 1 / losses.clamp_min(_LEAST_LOSS)), without


def largest_norm_scales(norms: Tensor) -> tuple[Tensor, Tensor]:
    """max_j n_j / n_i (m,), which scale gradients to the largest norm; and which gradients are zero, (m,) bool.

    Those get 0.

    Source: Lin et al. (2023), Eq. (4) with α_k the largest norm.
    """
    without = norms <= 0
    return torch.where(without, 0.0, norms.max() / torch.where(without, 1.0, norms)), without


@dataclass(frozen=True)
class DBMTL:
    """Dual balancing: ĝ_i ← β_k ĝ_i + (1 − β_k) ∇log L_i, then Σ_i (max_j ‖ĝ_j‖ / ‖ĝ_i‖) ĝ_i.

    beta, beta_sigma: β_k = beta / k^beta_sigma at step k = 1, 2, …, from ĝ = 0; beta in [0, 1). Their defaults are
        those of the authors' code, in which β is constant.

    The weights are those of the current gradients, (max_j ‖ĝ_j‖ / ‖ĝ_i‖) / L_i: if beta = 0 the update is
    weights @ jacobian. Task-specific heads get the gradients of log L_i. A loss ≤ 0 has no logarithm, and its gradient
    is left out. A task whose running mean is zero is left out. Both are counted. Deviations: none. Norms are used as
    they are, and losses down to 1e-8; the released code adds 1e-8 to both.
    """

    beta: float = 0.9
    beta_sigma: float = 0.0

    needs: ClassVar[Needs] = "jacobian"
    heads: ClassVar[HeadRule] = "own"

    def __post_init__(self) -> None:
        require_at_least("beta", self.beta, 0)
        if self.beta >= 1:
            raise ValueError(f"`beta` must be < 1, found {self.beta}")
        require_at_least("beta_sigma", self.beta_sigma, 0)

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        jacobian = signal.required_jacobian()
        scales, without_logarithm = log_loss_scales(signal.losses)
        decay = self.beta / (signal.step + 1) ** self.beta_sigma
        means = jacobian * ((1 - decay) * scales).to(jacobian).unsqueeze(1)  # (m, P)
        if "means" in state.memory:
            means.add_(state.memory["means"], alpha=decay)
        norms = torch.linalg.vector_norm(means, dim=1).double()
        balance, without_gradient = largest_norm_scales(norms)
        return Update(
            weights=balance * scales,
            state=State(memory={"means": means}),
            head_weights=scales,
            fallbacks=(without_logarithm | without_gradient).any().long(),
            direction=balance.to(means) @ means,
        )
