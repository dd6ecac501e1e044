"""Aligned-MTL: gradients made orthogonal and of one length, by the smallest change, before they are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from methods.checks import require_one_of
from methods.contract import HeadRule, Needs, Signal, State, Update
from methods.weightings.fixed import one_per_task, require_weights
from methods.weightings.rounding import above_rounding

Scale = Literal["min", "median", "rmse"]


def alignment(gramian: Tensor, scale: Scale) -> tuple[Tensor, int]:
    """B (m, m), for which B J has equal singular values σ, and the rank of the Gramian.

    B = σ G^(−1/2), on the range of G where it is singular: eigenvalues up to m·λ_max·1.2e-7 count as 0, as in the
    released code, since gradients are in single precision. σ² is the least eigenvalue, the (lower) median, or the
    mean. Without any gradient, B is the identity.

    Source: Senushkin, Patakin, Kuznetsov, Konushin (CVPR 2023), Eq. (10)-(13), Algorithm 1.
    """
    eigenvalues, vectors = np.linalg.eigh(gramian.numpy())
    kept = above_rounding(eigenvalues)
    rank = int(kept.sum())
    if rank == 0:
        return torch.eye(len(gramian), dtype=gramian.dtype), 0
    if rank < len(gramian):
        eigenvalues, vectors = eigenvalues[kept], vectors[:, kept]
    middle = eigenvalues[(rank - 1) // 2]  # eigenvalues ascend
    squared = {"min": eigenvalues[0], "median": middle, "rmse": eigenvalues.sum() / rank}[scale]
    return torch.from_numpy((vectors * np.sqrt(squared / eigenvalues)) @ vectors.T), rank


@dataclass(frozen=True)
class AlignedMTL:
    """Independent component alignment.

    scale: the common singular value, from the "min", "median" or mean ("rmse") eigenvalue of the Gramian.
    weights: of the tasks in the sum of the aligned gradients, one for all or one per task.

    Task-specific heads keep their plain gradients. Deviations: none. If the gradients are linearly dependent, only
    their span is aligned, and the step is counted. At this limit the length of the update jumps: of two orthogonal
    gradients whose norms have the ratio r, both get the shorter norm down to r = 4.9e-4; below it, the shorter one is
    left out, and the update is the longer one, 1,400 times as long as before.
    """

    scale: Scale = "min"
    weights: tuple[float, ...] = (1.0,)

    needs: ClassVar[Needs] = "gramian"
    heads: ClassVar[HeadRule] = "plain"

    def __post_init__(self) -> None:
        require_one_of("scale", self.scale, get_args(Scale))
        require_weights("weights", self.weights)

    def init(self, n_tasks: int) -> State:
        one_per_task("weights", self.weights, n_tasks)
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        gramian = signal.required_gramian()
        balance, rank = alignment(gramian, self.scale)
        weights = balance @ one_per_task("weights", self.weights, len(gramian))
        return Update(weights, state, fallbacks=int(rank < len(gramian)))
