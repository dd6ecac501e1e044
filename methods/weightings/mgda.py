"""MGDA: the shortest vector in the convex hull of the task gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv
from torch import Tensor

from methods.checks import require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.fixed import one_per_task, require_all_positive
from methods.weightings.simplex import Matrix, Vector, minimise_over_simplex, solve_with_unit_sum

Normalisation = Literal["none", "l2", "loss", "loss+"]
Variant = Literal["released", "paper"]
_NORMALISATIONS: Mapping[Variant, Normalisation] = {"released": "loss+", "paper": "none"}


# Blocks that settle do so within about five steps, at a gap of this much of the squared norm.
_MAX_PIVOTS = 10
_CERTAIN = 1e-9


def min_norm_weights(gramian: Matrix) -> Vector:
    """argmin over the simplex of wᵀ G w, (m,), exact up to rounding.

    Source: Désidéri (2012); Sener, Koltun (NeurIPS 2018), Eq. (3). The solver there is Frank-Wolfe.
    """
    gram = gramian / max(float(gramian.diagonal().max()), np.finfo(np.float64).tiny)
    magnitudes, m = np.abs(gram), len(gram)
    shortest = int(gram.diagonal().argmin())
    # In single precision, products with a gradient whose square is 0 need not be 0.
    if gram[shortest, shortest] <= 0 or gram[shortest].min() >= gram[shortest, shortest]:
        return np.asarray(np.arange(m) == shortest, dtype=np.float64)
    independent = _independent_minimum(gram)
    if independent is not None:
        return independent

    def affine_minimiser(support: NDArray[np.intp], inside: Vector) -> Vector:
        del inside
        unit_sum = np.zeros((len(support) + 1, 1))
        unit_sum[-1] = 1.0
        return solve_with_unit_sum(gram[support[:, None], support], unit_sum)[:, 0]

    def gradient(w: Vector) -> tuple[Vector, float]:
        return gram @ w, float((magnitudes @ np.abs(w)).max())

    return minimise_over_simplex(gradient, affine_minimiser, shortest, m)


def _independent_minimum(gram: Matrix) -> Vector | None:
    """The minimiser (m,), or None if this is no way to it: gradients may be dependent, or blocks don't settle.

    The shortest combination is w ∝ z/‖g‖ with z ≥ 0, y = C z − 1/‖g‖ ≥ 0 and z·y = 0, where C holds the cosines, which
    have no spread of norms to suffer from. All entries of z and y of the wrong sign are exchanged at once.

    Source: Júdice, Pires, "A block principal pivoting algorithm", Computers & Operations Research 21 (1994).
    """
    norms = np.sqrt(gram.diagonal())
    inverse_norms = norms.min() / norms
    cosines = gram / norms[:, None] / norms
    inside = np.ones(len(gram), dtype=bool)
    for _ in range(_MAX_PIVOTS):
        support = inside.nonzero()[0]
        columns = cosines[support]
        solution, singular = dposv(columns[:, support], inverse_norms[support])[1:]
        if singular or not len(support):
            return None
        values = solution @ columns - inverse_norms
        values[support] = solution
        wrong = values < 0
        if not wrong.any():
            w = np.where(inside, values, 0.0) * inverse_norms
            w /= w.sum()
            combined = gram @ w
            return w if w @ combined - combined.min() <= _CERTAIN * (w @ combined) else None
        inside ^= wrong
    return None


def gradient_scales(norms: Tensor, losses: Tensor, normalisation: Normalisation) -> Tensor:
    """What each task's gradient is divided by, (m,): 1, its norm, its loss, or both.

    Source: Sener, Koltun (2018), released code. A scale of 0, from a zero gradient or loss, becomes 1.
    """
    scales = {"none": torch.ones_like(losses), "l2": norms, "loss": losses, "loss+": losses * norms}[normalisation]
    return torch.where(scales > 0, scales, torch.ones_like(scales))


@dataclass(frozen=True)
class MGDA:
    """The multiple-gradient descent algorithm.

    variant: "released": gradients are normalised for the solver only. Its weights, which sum to 1, then apply to the
        losses as they are, in the heads, too. So the update need not vanish at a Pareto-stationary point. "paper",
        Algorithm 2: the update is the shortest combination itself, and task-specific heads keep their plain gradients.
    normalisation: what gradients are divided by: nothing ("none"), their norm ("l2"), their loss ("loss") or both
        ("loss+"). "auto" is "loss+", as in the released parameters for CelebA, or "none", as in the paper.
    preference: what normalised gradients are divided by, all positive, as the scales S_i of Désidéri (2012). Along the
        update of variant "paper", every loss falls at least at a rate in proportion to it. One number for all tasks, or
        one per task.

    Deviations: solved exactly; for two tasks, the released solver keeps weights from 0.001 to 0.999. Gradients in all
    shared parameters, while the released parameters ask for those in the representation (MGDA-UB).
    """

    variant: Variant = "released"
    normalisation: Normalisation | Literal["auto"] = "auto"
    preference: tuple[float, ...] = (1.0,)

    needs: ClassVar[Needs] = "gramian"

    def __post_init__(self) -> None:
        require_one_of("variant", self.variant, get_args(Variant))
        require_one_of("normalisation", self.normalisation, ("auto", *get_args(Normalisation)))
        require_all_positive("preference", self.preference)

    @property
    def heads(self) -> HeadRule:
        return "weighted" if self.variant == "released" else "plain"

    def init(self, n_tasks: int) -> State:
        one_per_task("preference", self.preference, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian()
        normalisation = _NORMALISATIONS[self.variant] if self.normalisation == "auto" else self.normalisation
        if normalisation == "none" and set(self.preference) == {1.0}:
            return Update(torch.from_numpy(min_norm_weights(gramian.numpy())), state)
        norms = gramian.diagonal().clamp_min(0).sqrt()
        preference = one_per_task("preference", self.preference, len(norms))
        scales = preference * gradient_scales(norms, signal.losses, normalisation)
        shares = torch.from_numpy(min_norm_weights((gramian / torch.outer(scales, scales)).numpy()))
        return Update(shares / (preference if self.variant == "released" else scales), state)
