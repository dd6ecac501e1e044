"""The time-aware neural ODE block: a flow that every task leaves at its own position.

The state is (2, B, ...) for second order, z and the momentum q, and (1, B, ...) for first order, z alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from typing import Literal

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from methods.contract import Diverged, Features

SolverName = Literal["euler", "midpoint", "rk4", "dopri5"]
Gradient = Literal["backprop", "adjoint"]

# Steps of dopri5 between two positions, before the flow counts as unsolvable.
_MOST_ADAPTIVE_STEPS = 1000
# Features of an input, and the work of solving all inputs together over that of each alone: up to here, it pays.
_FEW_NUMBERS = 16_384
_MOST_WASTE = 2.0
# A position this close to a grid point, in steps, is there.
_ON_GRID = 1e-9


@dataclass(frozen=True)
class Solver:
    """How the flow is solved.

    name: torchdiffeq's. step_size: of the fixed-step solvers, in units of position. tolerance: of dopri5, relative
    and absolute. gradient: of the network, by backpropagation through the steps or by the adjoint equation.
    max_steps: a position further away than max_steps · step_size is refused.
    """

    name: SolverName
    step_size: float
    gradient: Gradient = "backprop"
    max_steps: int = 64
    tolerance: float = 1e-5


def two_layers(features: Features) -> nn.Sequential:
    """FC → LeakyReLU → FC for vectors, 1×1 Conv → LeakyReLU → 1×1 Conv for maps, as wide as the features.

    Source: Ye et al. (2023), §5.1–5.3.
    """
    width = features.channels
    if features.dense:
        return nn.Sequential(nn.Conv2d(width, width, 1), nn.LeakyReLU(), nn.Conv2d(width, width, 1))
    return nn.Sequential(nn.Linear(width, width), nn.LeakyReLU(), nn.Linear(width, width))


class Flow(nn.Module):
    """d(state)/dt as a module. evaluations: how often it has been evaluated, in whatever direction."""

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = 0

    def start(self, z: Tensor) -> Tensor:
        """The state at position 0."""
        raise NotImplementedError

    def velocities(self, states: Sequence[Tensor]) -> list[Tensor]:
        """dz/dt (B, ...) at each state."""
        raise NotImplementedError

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the field itself, without those of its start."""
        raise NotImplementedError


class HeavyBallFlow(Flow):
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
        self.evaluations += 1
        z, q = state
        return torch.stack((-q, self.force(z) - torch.sigmoid(self.omega) * q + self.xi * z))

    def velocities(self, states: Sequence[Tensor]) -> list[Tensor]:
        """−q, with no evaluation of g."""
        return [-state[1] for state in states]

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        return (*self.force.parameters(), self.omega)


class FirstOrderFlow(Flow):
    """dz/dt = g(z). Source: Ye et al. (2023), Eq. (2) and §5.5."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.force = two_layers(features)

    def start(self, z: Tensor) -> Tensor:
        return z.unsqueeze(0)  # (1, B, ...)

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        del t
        self.evaluations += 1
        velocity: Tensor = self.force(state[0]).unsqueeze(0)
        return velocity

    def velocities(self, states: Sequence[Tensor]) -> list[Tensor]:
        """g at each state, which costs an evaluation each."""
        self.evaluations += len(states)
        return [self.force(state[0]) for state in states]

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        return tuple(self.force.parameters())


def states_at(flow: Flow, start: Tensor, positions: Sequence[float], solver: Solver) -> list[Tensor]:
    """The state of the flow at each position, from at most two solves, whatever their number.

    Positions may tie, come in any order, be 0 or negative: one trajectory runs from 0 through the distinct positive
    ones, another through the negative ones. The grid of a fixed-step solver doesn't depend on the positions, so no
    task moves the result of another.
    """
    states = {0.0: start}
    along = _adaptive if solver.name == "dopri5" else _on_grid
    for sign in (1, -1):
        ahead = sorted({sign * p for p in positions if sign * p > 0})
        if ahead:
            states.update(zip((sign * p for p in ahead), along(flow, start, sign, ahead, solver), strict=True))
    return [states[p] for p in positions]


def states_of_all(
    flow: Flow, inputs: Sequence[Tensor], positions: Sequence[Sequence[float]], solver: Solver
) -> list[list[Tensor]]:
    """For each input (B, ...), its states at its own positions, from one trajectory of all inputs."""
    wanted = [position for places in positions for position in places]
    states = dict(zip(wanted, states_at(flow, flow.start(torch.cat(list(inputs))), wanted, solver), strict=True))
    ends = list(accumulate((len(z) for z in inputs), initial=0))
    parts = zip(pairwise(ends), positions, strict=True)
    return [[states[position][:, begin:end] for position in places] for (begin, end), places in parts]


def solved_together(inputs: Sequence[Tensor], positions: Sequence[Sequence[float]], solver: Solver) -> bool:
    """Whether several inputs are solved quicker as one, all of them to the furthest position.

    They are where a step is mostly overhead: with few numbers on a CPU (measured by `bench.speed flow`: 2.5 × quicker
    for 64×64 features and 16×512, no quicker for 64×512), and on an accelerator (argued, not measured). What is
    solved too far must not undo that.
    """
    if len(inputs) == 1 or solver.name == "dopri5":  # whose steps follow the error of all inputs
        return False
    rows = [len(z) for z in inputs]
    apart = sum(n * _steps(places, solver) for n, places in zip(rows, positions, strict=True))
    together = sum(rows) * _steps([position for places in positions for position in places], solver)
    small = inputs[0].device.type != "cpu" or max(z.numel() for z in inputs) <= _FEW_NUMBERS
    return small and together <= _MOST_WASTE * apart


def _steps(positions: Sequence[float], solver: Solver) -> float:
    """The way to the furthest position on either side, in steps."""
    return (max(*positions, 0.0) - min(*positions, 0.0)) / solver.step_size


def check_reach(positions: Sequence[float], tasks: Sequence[str], solver: Solver) -> None:
    """Raises Diverged, with the task's name, for a position that is not finite or out of the solver's reach."""
    limit = solver.max_steps * solver.step_size
    for task, position in zip(tasks, positions, strict=True):
        if not abs(position) <= limit:
            raise Diverged(
                f"position of task {task} = {position:.6g} is out of reach (at most {solver.max_steps} steps of "
                f"{solver.step_size:g}); lower `arch.eta_ratio`"
            )


def _adaptive(flow: Flow, start: Tensor, sign: int, distances: Sequence[float], solver: Solver) -> Sequence[Tensor]:
    times = _times(start, [0.0, *(sign * distance for distance in distances)])
    return _integrate(flow, start, times, solver).unbind()[1:]


def _on_grid(flow: Flow, start: Tensor, sign: int, distances: Sequence[float], solver: Solver) -> Sequence[Tensor]:
    """The states at ascending distances, read between the points 0, h, 2h, … of the solver's grid.

    A solve per step instead of one with all points: torchdiffeq writes its solution in place, and the way back
    through that copies the whole solution once per point.
    """
    step = sign * solver.step_size
    times = _times(start, [0.0, step])
    grid, slopes, found = [start], dict[int, Tensor](), []
    for distance in distances:
        place = distance / solver.step_size
        before = max(ceil(place - _ON_GRID) - 1, 0)
        while len(grid) < before + 2:
            grid.append(_integrate(flow, grid[-1], times, solver)[1])
        share = place - before
        here, there = grid[before], grid[before + 1]
        if share >= 1 - _ON_GRID:
            found.append(there)
        elif solver.name == "euler":
            found.append(torch.lerp(here, there, share))
        else:
            for point in (before, before + 1):
                if point not in slopes:
                    slopes[point] = step * flow(times[0], grid[point])
            found.append(_hermite(here, there, slopes[before], slopes[before + 1], share))
    return found


def _hermite(here: Tensor, there: Tensor, slope_here: Tensor, slope_there: Tensor, share: float) -> Tensor:
    """The cubic through two states with these slopes per step, at `share` of the step: as exact as rk4 itself."""
    rest = 1 - share
    return (
        (1 + 2 * share) * rest**2 * here
        + (3 - 2 * share) * share**2 * there
        + share * rest * (rest * slope_here - share * slope_there)
    )


def _times(start: Tensor, times: Sequence[float]) -> Tensor:
    return torch.tensor(times, dtype=torch.float64, device=start.device)


def _integrate(flow: Flow, start: Tensor, times: Tensor, solver: Solver) -> Tensor:
    """The states (T, 1 or 2, B, ...) at `times` (T,), the first being the start.

    Raises:
        AssertionError: dopri5 can't go on, and says why.
    """
    options = {"max_num_steps": _MOST_ADAPTIVE_STEPS} if solver.name == "dopri5" else {}
    accuracy = {"method": solver.name, "rtol": solver.tolerance, "atol": solver.tolerance, "options": options}
    if solver.gradient == "backprop":
        solution: Tensor = odeint(flow, start, times, **accuracy)
    else:
        solution = odeint_adjoint(flow, start, times, adjoint_params=flow.field_parameters(), **accuracy)
    return solution


# How torchdiffeq begins what it says when it can't go on.
_SOLVER_FAULTS = ("underflow in dt", "max_num_steps exceeded", "non-finite values in state")


def solver_fault(error: AssertionError) -> str:
    """What stopped torchdiffeq, on one line; "" for an assertion of anyone else."""
    text = str(error)
    return text.splitlines()[0][:60] if text.startswith(_SOLVER_FAULTS) else ""
