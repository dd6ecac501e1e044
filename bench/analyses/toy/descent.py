"""Descent on the toy problem: Adam with a weighting, from every start, under every scaling of the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.analyses.toy.problem import (
    SCALINGS,
    STARTS,
    Points,
    balance_at,
    distance_to_front,
    losses_and_gradients,
)
from bench.engine.seeds import generator_for
from methods.contract import Diverged, PostStepHook, Signal, State, Weighting
from methods.weightings.cr_mogm import running_mean

# Adam as published with the problem (Liu et al. 2021; Navon et al. 2022), and its defaults.
LR = 1e-3
STEPS = 35_000
BETAS = (0.9, 0.999)
EPSILON = 1e-8
# A trajectory has reached the front if its losses are within this distance of the front's, which span 20.
TOLERANCE = 0.1
# Larger weights or gradients end a trajectory, since weightings and Adam square them.
LARGEST = 1e100
# The problem has no epochs; weightings that depend on them get one per this many steps.
EPOCH = 100


@dataclass(frozen=True)
class Trajectory:
    """One descent.

    path: (steps + 1, 2), the start first; shorter if it diverged.
    losses: (2,) unscaled, at the end.
    diverged: whether a weight or the gradient grew beyond bounds.
    solver_fallbacks: steps at which the weighting used its documented substitute.
    """

    start: tuple[float, float]
    scaling: tuple[float, float]
    path: Points
    losses: Points
    diverged: bool
    solver_fallbacks: int

    @property
    def distance(self) -> float:
        """From the end to the front."""
        return float(distance_to_front(self.path[-1:])[0])

    @property
    def reached(self) -> bool:
        """Whether it ends on the front."""
        return self.distance <= TOLERANCE

    @property
    def steps(self) -> int | None:
        """The first step on the front; None unless it also ends there."""
        return int(np.argmax(distance_to_front(self.path) <= TOLERANCE)) if self.reached else None

    @property
    def balance(self) -> float | None:
        """Where on the front it ends, from 0 (least L2) to 1 (least L1); None unless it does."""
        return float(balance_at(self.path[-1, 0])) if self.reached else None


class _WeightedGradient:
    """The gradient along one trajectory, with the weighting's state and random stream."""

    def __init__(self, weighting: Weighting, start: int, scaling: int, seed: int, momentum: float) -> None:
        self.weighting = weighting
        self.momentum = momentum
        self.applied: dict[str, Tensor] = {}
        self.state: State = weighting.init(2)
        self.generator = generator_for(seed, "toy", start, scaling)
        self.fallbacks = 0

    def compute(self, losses: Points, gradients: Points, step: int) -> Points:
        """The gradient (2,) for Adam, NaN if there is none; advances the state."""
        jacobian = torch.from_numpy(gradients)
        observed = torch.from_numpy(losses)
        needs = self.weighting.needs
        gramian = jacobian @ jacobian.T
        signal = Signal(
            losses=observed,
            gramian=gramian if needs in ("gramian", "jacobian") else None,
            step=step,
            epoch=step // EPOCH,
            generator=self.generator,
            jacobian=jacobian if needs == "jacobian" else None,
            cross_gramian=gramian if needs == "cross_gramian" else None,  # without noise, batches don't differ
        )
        try:
            # The problem has one batch, so its losses after a step are those before the next.
            if step and isinstance(self.weighting, PostStepHook):
                self.state = self.weighting.post_step(observed, self.state)
            update = self.weighting.step(signal, self.state)
        except (Diverged, np.linalg.LinAlgError):
            return np.full(2, np.nan)
        if self.momentum and needs != "jacobian":
            update = running_mean(replace(update, head_weights=None), self.applied, self.momentum)  # there are no heads
            self.applied = {"weights": update.weights}
        self.state = update.state
        self.fallbacks += int(update.fallbacks)
        if not (update.weights.abs() < LARGEST).all():
            return np.full(2, np.nan)
        direction = update.weights @ jacobian if update.direction is None else update.direction
        return np.asarray(direction.numpy(), dtype=np.float64)


def descend(
    weighting: Weighting,
    steps: int = STEPS,
    lr: float = LR,
    seed: int = 0,
    starts: Sequence[tuple[float, float]] = STARTS,
    scalings: Sequence[tuple[float, float]] = SCALINGS,
    momentum: float = 0.0,
) -> tuple[Trajectory, ...]:
    """A trajectory per scaling and start, scaling by scaling; none depends on the others.

    momentum: of a running mean of the weights; weightings that read the Jacobian have none.
    """
    cases = [(i, j) for j in range(len(scalings)) for i in range(len(starts))]
    scales = np.array([scalings[j] for _, j in cases])
    points = np.array([starts[i] for i, _ in cases])
    weighted = [_WeightedGradient(weighting, i, j, seed, momentum) for i, j in cases]
    path = np.empty((steps + 1, *points.shape))
    path[0] = points
    last = np.full(len(cases), steps)
    mean, square = np.zeros_like(points), np.zeros_like(points)
    active = np.ones(len(cases), dtype=bool)
    for step in range(steps):
        losses, gradients = losses_and_gradients(points)
        direction = _directions(weighted, active, losses * scales, gradients * scales[:, :, None], step)
        finite = (np.abs(direction) < LARGEST).all(axis=1)
        last[active & ~finite] = step
        active &= finite
        if not active.any():
            break
        mean[active] += (1 - BETAS[0]) * (direction - mean)[active]
        square[active] += (1 - BETAS[1]) * (direction**2 - square)[active]
        unbiased = mean / (1 - BETAS[0] ** (step + 1))
        spread = np.sqrt(square / (1 - BETAS[1] ** (step + 1))) + EPSILON
        points = np.where(active[:, None], points - lr * unbiased / spread, points)
        path[step + 1] = points
    ends, _ = losses_and_gradients(points)
    return tuple(
        Trajectory(starts[i], scalings[j], path[: last[k] + 1, k].copy(), ends[k], not active[k], weighted[k].fallbacks)
        for k, (i, j) in enumerate(cases)
    )


def _directions(
    weighted: Sequence[_WeightedGradient], active: NDArray[np.bool_], losses: Points, gradients: Points, step: int
) -> Points:
    """(n, 2), NaN for trajectories that have ended."""
    directions = np.full(losses.shape, np.nan)
    for index in np.flatnonzero(active).tolist():
        directions[index] = weighted[index].compute(losses[index], gradients[index], step)
    return directions
