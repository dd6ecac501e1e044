"""IMTL: impartial learning of loss scales (IMTL-L) and an update with equal projections (IMTL-G)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from scipy.linalg.lapack import dsyevd
from torch import Tensor

from methods.checks import require_one_of, require_positive
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.adam import adam_memory, adam_step
from methods.weightings.log_loss import SMALLEST_LOSS
from methods.weightings.rounding import FLOAT32_EPSILON, above_rounding

Variant = Literal["full", "loss", "gradient"]


def equal_projection_weights(gramian: Tensor) -> tuple[Tensor, bool]:
    """Weights (m,) with sum 1 whose combined gradient has the same projection on every task's unit gradient.

    They solve G α ∝ √diag G. Gradients are scaled to unit norm first. Eigenvalues of their Gramian up to m·1.2e-7 of
    the largest are rounding of float32 and are taken as 0; the solution is then that of least squares: dependent
    gradients have equal projections only by chance.
    Returns also whether that is so, or nothing better than 1/m is known: the least squares have mean projection 0, the
    sum of the solution vanishes, all gradients are zero, or some are not finite.

    Source: Liu et al. (ICLR 2021), Eq. (6) in closed form.
    """
    gram = gramian.numpy()
    m = len(gram)
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    players = norms > 0
    inverse_norms = np.divide(1.0, norms, out=np.zeros(m), where=players)
    cosines = gram * (inverse_norms[:, None] * inverse_norms)
    if np.isfinite(cosines).all():  # learned scales may overflow
        eigenvalues, vectors, _ = dsyevd(cosines)
        first = m - int(above_rounding(eigenvalues).sum())
        kept = vectors[:, first:]
        shares = players @ kept  # of the vector of ones
        solution = kept @ (shares / eigenvalues[first:]) * inverse_norms
        total = float(solution.sum())
        vanishing = m * FLOAT32_EPSILON
        if shares @ shares > vanishing * m and abs(total) > vanishing * float(np.abs(solution).sum()):
            return torch.from_numpy(solution / total), m - first < int(players.sum())
    return torch.full((m,), 1 / m, dtype=torch.float64), True


def log_scale_slope(log_scales: Tensor, losses: Tensor) -> Tensor:
    """The derivative in s (m,) of Σ e^(s_i) L_i − s_i, which is least at e^(s_i) L_i = 1.

    Source: Liu et al. (ICLR 2021), Eq. (8): IMTL-L.
    """
    return log_scales.exp() * losses - 1


def bounded_log_scales(log_scales: Tensor) -> Tensor:
    """s (m,), at most where e^s times the least loss that float32 can hold is 1: a loss of 0 would raise it forever."""
    return log_scales.clamp_max(-math.log(SMALLEST_LOSS))


@dataclass(frozen=True)
class IMTL:
    """Impartial multi-task learning.

    variant: "full" (IMTL-G on the losses scaled by IMTL-L), "loss" (IMTL-L alone), "gradient" (IMTL-G alone).
    lr: Adam's rate on the log scales s of IMTL-L, without weight decay. 0.025 is that of learned weights in the code
        released for Nash-MTL.

    Task-specific heads get the gradients of their scaled losses e^s L. Steps with dependent gradients, which have equal
    projections only by chance, are counted. A loss ≤ 0 has no best scale: its s grows, up to 87, and steps are counted.
    Deviations: s has an optimizer of its own; the paper trains it with the network, and its authors have released no
    code. At the rates of a network, s would hardly move in short runs.
    """

    variant: Variant = "full"
    lr: float = 0.025

    heads: ClassVar[HeadRule] = "own"

    def __post_init__(self) -> None:
        require_one_of("variant", self.variant, get_args(Variant))
        require_positive("lr", self.lr)

    @property
    def needs(self) -> Needs:
        return "losses" if self.variant == "loss" else "gramian"

    def init(self, n_tasks: int) -> State:
        if self.variant == "gradient":
            return State()
        return State({"log_scales": torch.zeros(n_tasks, dtype=torch.float64), **adam_memory(n_tasks)})

    def step(self, signal: Signal, state: State) -> Update:
        scales = torch.ones_like(signal.losses)
        if self.variant != "gradient":
            log_scales = state.memory["log_scales"]
            scales = log_scales.exp()
            direction, moments = adam_step(state.memory, log_scale_slope(log_scales, signal.losses))
            state = State({"log_scales": bounded_log_scales(log_scales - self.lr * direction), **moments})
        without_scale = (signal.losses <= 0).any()
        if self.variant == "loss":
            return Update(scales, state, head_weights=scales, fallbacks=without_scale.long())
        balance, degenerate = equal_projection_weights(signal.required_gramian() * torch.outer(scales, scales))
        fallback = degenerate or (self.variant == "full" and bool(without_scale))
        return Update(balance * scales, state, head_weights=scales, fallbacks=int(fallback))
