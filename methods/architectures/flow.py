"""The time-aware neural ODE block: a flow that every task leaves at its own position.

The state is (2, B, ...) for second order, z and the momentum q, and (1, B, ...) for first order, z alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from methods.contract import Diverged, Features

SolverName = Literal["euler", "midpoint", "rk4", "dopri5"]
Gradient = Literal["backprop", "adjoint"]


@dataclass(frozen=True)
class Solver:
    """How the flow is solved.

    name: torchdiffeq's. step_size: of the fixed-step solvers, in units of position. gradient: of the network, by
    backpropagation through the steps or by the adjoint equation. max_steps: a longer way than max_steps · step_size
    is refused.
    """

    name: SolverName
    step_size: float
    gradient: Gradient
    max_steps: int


def two_layers(features: Features) -> nn.Sequential:
    """FC → LeakyReLU → FC for vectors, 1×1 Conv → LeakyReLU → 1×1 Conv for maps, as wide as the features.

    Source: Ye et al. (2023), §5.1–5.3.
    """
    width = features.channels
    if features.dense:
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.LeakyReLU(), nn.Conv2d(width, width, 1))
    return nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))


class HeavyBallFlow(nn.Module):
    """dz/dt = −q, dq/dt = −γq + g(z) + ξz, q(0) = u(z(0)), γ = sigmoid(ω) learned.

    Source: Ye et al. (2023), Eq. (5) and §3.2. g has no explicit t, as implemented there.
    """

    def __init__(self, features: Features, xi: float, initial_omega: float) -> None:
        super().__init__()
        self.initial_velocity = two_layers(features)
        self.force = two_layers(features)
        self.omega = nn.Parameter(torch.tensor(initial_omega))
        self.xi = xi

    def start(self, z: Tensor) -> Tensor:
        return torch.stack((z, self.initial_velocity(z)))  # (2, B, ...)

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        del t
        z, q = state
        return torch.stack((-q, self.force(z) - torch.sigmoid(self.omega) * q + self.xi * z))

    def velocity(self, state: Tensor) -> Tensor:
        """dz/dt (B, ...), with no evaluation of g."""
        return -state[1]


class FirstOrderFlow(nn.Module):
    """dz/dt = g(z). Source: Ye et al. (2023), Eq. (2) and §5.5."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.force = two_layers(features)

    def start(self, z: Tensor) -> Tensor:
        return z.unsqueeze(0)  # (1, B, ...)

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        del t
        return self.force(state[0]).unsqueeze(0)

    def velocity(self, state: Tensor) -> Tensor:
        """dz/dt (B, ...)."""
        return self.force(state[0])


Flow = HeavyBallFlow | FirstOrderFlow


def states_at(flow: Flow, start: Tensor, positions: Sequence[float], solver: Solver) -> list[Tensor]:
    """The state of the flow at each position, from at most two solves, whatever their number.

    Positions may tie, come in any order, be 0 or negative: one trajectory runs from 0 through the distinct positive
    ones, another through the negative ones. A fixed-step solver is interpolated between its own grid points, so
    other tasks' positions don't move the result.

    Raises:
        Diverged: a position is not finite, or further away than the solver may step.
    """
    states = {0.0: start}
    for sign in (1.0, -1.0):
        ahead = sorted({sign * p for p in positions if sign * p > 0})
        if ahead:
            times = torch.tensor([0.0, *(sign * p for p in ahead)], dtype=torch.float64, device=start.device)
            solution = _solve(flow, start, times, solver)
            states.update(zip((sign * p for p in ahead), solution[1:], strict=True))
    return [states[p] for p in positions]


def check_reach(positions: Sequence[float], tasks: Sequence[str], solver: Solver) -> None:
    """Raises Diverged, with the task's name, for a position that is not finite or out of the solver's reach."""
    limit = solver.max_steps * solver.step_size
    for task, position in zip(tasks, positions, strict=True):
        if not abs(position) <= limit:
            raise Diverged(
                f"position of task {task} = {position:.6g} is out of reach (at most {solver.max_steps} steps of "
                f"{solver.step_size:g}); lower `arch.eta_ratio`"
            )


def _solve(flow: Flow, start: Tensor, times: Tensor, solver: Solver) -> Tensor:
    """The states (1 + positions, 1 or 2, B, ...) at `times`, the first being the start."""
    if solver.name == "dopri5":
        options = {}
    else:
        options = {"step_size": solver.step_size, "interp": "linear" if solver.name == "euler" else "cubic"}
    integrate = odeint if solver.gradient == "backprop" else odeint_adjoint
    solution: Tensor = integrate(flow, start, times, method=solver.name, options=options)
    return solution
