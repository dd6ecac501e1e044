"""GradVac: gradient vaccine, gradients rotated towards each other until their cosines reach running targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from methods.contract import HeadRule, Needs, Signal, State, Update

# After cancellation, a squared norm below this share of its terms is rounding.
VANISHING = 1e-13


def vaccinated_weights(gramian: Tensor, orders: Tensor, targets: Tensor, beta: float) -> tuple[Tensor, Tensor, bool]:
    """Weights (m,) of the sum of the rotated gradients, the next targets (m, m), and whether a pair was skipped.

    orders: (m, m) row i is the order in which task i is compared with all tasks.
    targets: (m, m) the cosines to reach.

    Each rotated gradient is stored as its coefficients on the original ones, and the k-th rotations of all tasks are
    computed at once. A pair has no cosine if one of its gradients vanishes, and no rotation reaches a target of 1: such
    pairs are skipped, and their targets stay.

    Source: Wang, Tsvetkov, Firat, Cao (ICLR 2021), Algorithm 1 with Eq. (2) and (3).
    """
    m = len(gramian)
    gram, met, goals_of = gramian.numpy(), orders.numpy(), targets.numpy().copy()
    tasks = np.arange(m)
    met = met[met != tasks[:, None]].reshape(m, m - 1).T  # (m - 1, m) column i: the other tasks, as task i meets them
    norms = np.sqrt(np.maximum(gram.diagonal(), 0.0))
    coefficients = np.eye(m)  # (m, m) row i: task i's gradient
    products = gram.copy()  # coefficients @ gram
    gross = norms.copy()  # (m,) sums of the lengths of all terms, without cancellation
    skipped = False
    for others in met:
        squared = (coefficients * products).sum(axis=1)
        pair = (squared > VANISHING * gross**2) & (norms[others] > 0)
        lengths = np.sqrt(np.where(pair, squared, 1.0))
        scales = np.where(pair, norms[others], 1.0)
        cosines = np.minimum(np.maximum(products[tasks, others] / (lengths * scales), -1.0), 1.0)
        goals = goals_of[tasks, others]
        slack = np.sqrt(1 - goals**2)
        below = cosines < goals
        known = pair & ~(below & (slack == 0))
        rotated = known & below
        rise = goals * np.sqrt(1 - cosines**2) - cosines * slack
        shares = np.divide(lengths * rise, scales * slack, out=np.zeros(m), where=rotated)
        coefficients[tasks, others] += shares
        products += shares[:, None] * gram[others]
        gross += np.abs(shares) * norms[others]
        goals_of[tasks, others] = np.where(known, (1 - beta) * goals + beta * cosines, goals)
        skipped = skipped or not known.all()
    return torch.from_numpy(coefficients.sum(axis=0)), torch.from_numpy(goals_of), skipped


@dataclass(frozen=True)
class GradVac:
    """Gradient vaccine, in an order drawn at every step from the run's generator.

    beta: share of a new cosine in the running mean that is its target; targets start at 0.

    Task-specific heads keep their plain gradients. Steps at which a pair has no cosine or no reachable target are
    counted.
    Deviations: one cosine and target per pair for all shared parameters; the paper prefers one for each layer. A layer
    in conflict is not corrected while the whole gradients agree.
    """

    beta: float = 0.01

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise ValueError(f"`beta` must be from 0 to 1, found {self.beta}")

    def init(self, n_tasks: int) -> State:
        return State(memory={"targets": torch.zeros(n_tasks, n_tasks, dtype=torch.float64)})

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian()
        orders = torch.rand(gramian.shape, generator=signal.generator).argsort(dim=1)
        weights, targets, skipped = vaccinated_weights(gramian, orders, state.memory["targets"], self.beta)
        return Update(weights, State(memory={"targets": targets}), fallbacks=int(skipped))
