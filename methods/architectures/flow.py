"""The time-aware neural ODE block: one flow, read by each task at the task's own position.

The state is (z, q) for second order, features and their momentum, and (z,) for first order, each (B, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from methods.architectures.fixed_steps import FIXED_STEPS, State
from methods.contract import Diverged, Features, TaskFeatures

SolverName = Literal["euler", "midpoint", "rk4", "dopri5"]
Gradient = Literal["backprop", "adjoint"]

# The largest number of steps that dopri5 takes between two positions.
_MOST_ADAPTIVE_STEPS = 1000
# Several inputs are solved together up to this many features per input, and up to this factor of total work.
_FEW_NUMBERS = 16_384
_MOST_WASTE = 2.0
# A position closer to a grid point than this, in steps, counts as on it.
_ON_GRID = 1e-9


@dataclass(frozen=True)
class Solver:
    """How the flow is solved.

    name: of a fixed-step solver, or torchdiffeq's dopri5.
    step_size: of the fixed-step solvers, in units of position.
    gradient: gradients of the network by backpropagation through the solver's steps, or by the adjoint equation.
    max_steps: a position beyond max_steps · step_size is an error.
    tolerance: of dopri5, relative and absolute.
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


class Field(Protocol):
    """What a solver needs of a flow: d(state)/dt, which does not depend on t."""

    def __call__(self, state: State) -> State: ...
    def field_parameters(self) -> tuple[nn.Parameter, ...]: ...


class Flow(nn.Module, ABC):
    """d(state)/dt as a module."""

    @abstractmethod
    def start(self, z: Tensor) -> State:
        """The state at position 0."""

    @abstractmethod
    def velocities(self, states: Sequence[State], field: Field) -> list[Tensor]:
        """dz/dt (B, ...) at each state. `field` evaluates this flow."""

    @abstractmethod
    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the field itself, without those of the initial state."""


class CountedField:
    """A flow that counts its evaluations from a forward pass to the end of its backward pass."""

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.evaluations = 0

    def __call__(self, state: State) -> State:
        self.evaluations += 1
        derivative: State = self.flow(state)
        return derivative

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        return self.flow.field_parameters()


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

    def start(self, z: Tensor) -> State:
        q = self.initial_velocity(z)
        dtype = torch.promote_types(z.dtype, q.dtype)  # autocast rounds q, and not always z
        return z.to(dtype), q.to(dtype)

    def forward(self, state: State) -> State:
        # Views add up the gradients of one evaluation before they meet those of other readers of the state. So the sum
        # is rounded as if the state were one tensor, which torchdiffeq needs.
        z, q = (part.view_as(part) for part in state)
        return -q, self.force(z) - torch.sigmoid(self.omega) * q + self.xi * z

    def velocities(self, states: Sequence[State], field: Field) -> list[Tensor]:
        """−q, without an evaluation of g."""
        del field
        return [-q for _, q in states]

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        return (*self.force.parameters(), self.omega)


class FirstOrderFlow(Flow):
    """dz/dt = g(z). Source: Ye et al. (2023), Eq. (2) and §5.5."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.force = two_layers(features)

    def start(self, z: Tensor) -> State:
        return (z,)

    def forward(self, state: State) -> State:
        (z,) = state
        return (self.force(z),)

    def velocities(self, states: Sequence[State], field: Field) -> list[Tensor]:
        """g at each state, one evaluation each."""
        return [field(state)[0] for state in states]

    def field_parameters(self) -> tuple[nn.Parameter, ...]:
        return tuple(self.force.parameters())


def read(flow: Flow, field: Field, states: Sequence[State]) -> list[TaskFeatures]:
    """z and dz/dt at each state. `field` evaluates the flow. dz/dt has no gradient."""
    with torch.no_grad():
        velocities = flow.velocities(states, field)
    # A view for each task: tasks at the same position don't read the same tensor, so their gradients are separate.
    return [TaskFeatures(state[0].view_as(state[0]), along) for state, along in zip(states, velocities, strict=True)]


def states_at(field: Field, start: State, positions: Sequence[float], solver: Solver) -> list[State]:
    """The state at each position, from at most two trajectories, however many positions there are.

    Positions may tie, come in any order, be 0 or negative: one trajectory runs from 0 through the positive ones,
    another through the negative ones. The grid of a fixed-step solver does not depend on the positions, so no task
    changes the result of another.
    """
    # For torchdiffeq, both trajectories start from one tensor, and position 0 reads it after them. Another order would
    # add up gradients with other rounding.
    stacked = torch.stack(start) if solver.name == "dopri5" else None
    states: dict[float, State] = {}
    for sign in (1, -1):
        distances = sorted({sign * p for p in positions if sign * p > 0})
        places = [sign * distance for distance in distances]
        if places and stacked is not None:
            states.update(zip(places, _by_torchdiffeq(field, stacked, places, solver), strict=True))
        elif places:
            states.update(zip(places, _on_grid(field, start, sign, distances, solver), strict=True))
    states[0.0] = start if stacked is None else stacked.unbind()
    return [states[p] for p in positions]


def states_of_inputs(
    field: Field, start: State, sizes: Sequence[int], positions: Sequence[Sequence[float]], solver: Solver
) -> list[list[State]]:
    """For each input, the states at its own positions, from one trajectory of all inputs.

    start: parts (ΣB, ...), the inputs one after another, with `sizes` (B_1, B_2, ...) items each.
    """
    wanted = [position for own in positions for position in own]
    states = dict(zip(wanted, states_at(field, start, wanted, solver), strict=True))
    slices = zip(pairwise(accumulate(sizes, initial=0)), positions, strict=True)
    return [[_slice(states[position], begin, end) for position in own] for (begin, end), own in slices]


def _slice(state: State, begin: int, end: int) -> State:
    return tuple(part[begin:end] for part in state)


def solved_together(inputs: Sequence[Tensor], positions: Sequence[Sequence[float]], solver: Solver) -> bool:
    """Whether it is faster to solve several inputs as one batch, all of them up to the furthest position.

    It is faster where overhead dominates: for small inputs on a CPU (measured by `bench.speed flow`: 2.5 × faster for
    64×64 features and 16×512, no faster for 64×512), and on an accelerator (not measured). Solving some inputs further
    than needed must not cost more than solving together saves.
    """
    if len(inputs) == 1 or solver.name == "dopri5":  # its steps adapt to the error of the whole batch
        return False
    sizes = [len(z) for z in inputs]
    apart = sum(size * _steps(own, solver) for size, own in zip(sizes, positions, strict=True))
    together = sum(sizes) * _steps([position for own in positions for position in own], solver)
    small = inputs[0].device.type != "cpu" or max(z.numel() for z in inputs) <= _FEW_NUMBERS
    return small and together <= _MOST_WASTE * apart


def _steps(positions: Sequence[float], solver: Solver) -> float:
    """The distance to the furthest positions on both sides, in steps."""
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


def _on_grid(field: Field, start: State, sign: int, distances: Sequence[float], solver: Solver) -> list[State]:
    """The states at ascending distances, interpolated between the points 0, h, 2h, … of the solver's grid."""
    step = sign * solver.step_size
    grid, slopes, found = [start], dict[int, State](), []
    for distance in distances:
        place = distance / solver.step_size
        before = max(ceil(place - _ON_GRID) - 1, 0)
        while len(grid) < before + 2:
            grid.append(_one_step(field, grid[-1], step, solver))
        share = place - before
        here, there = grid[before], grid[before + 1]
        if share >= 1 - _ON_GRID:
            found.append(there)
        elif solver.name == "euler":
            found.append(tuple(torch.lerp(*ends, share) for ends in zip(here, there, strict=True)))
        else:
            for point in (before, before + 1):
                if point not in slopes:
                    slopes[point] = tuple(step * slope for slope in field(grid[point]))
            ends = zip(here, there, slopes[before], slopes[before + 1], strict=True)
            found.append(tuple(_hermite(*of_part, share) for of_part in ends))
    return found


def _hermite(here: Tensor, there: Tensor, slope_here: Tensor, slope_there: Tensor, share: float) -> Tensor:
    """The cubic through two states with these slopes per step, at `share` of the step: as exact as rk4 itself."""
    rest = 1 - share
    return (
        (1 + 2 * share) * rest**2 * here
        + (3 - 2 * share) * share**2 * there
        + share * rest * (rest * slope_here - share * slope_there)
    )


def _one_step(field: Field, state: State, step: float, solver: Solver) -> State:
    if solver.gradient == "backprop":
        # In the memory layout of torchdiffeq's solution; sums over a map in another layout are rounded in another way.
        return tuple(part.contiguous() for part in FIXED_STEPS[solver.name](field, state, step))
    return _by_torchdiffeq(field, torch.stack(state), [step], solver)[0]


def _by_torchdiffeq(field: Field, start: Tensor, positions: Sequence[float], solver: Solver) -> list[State]:
    """The states at positions that ascend or descend from 0, where the parts of the state are stacked in `start`.

    Raises:
        AssertionError: of torchdiffeq, when dopri5 fails.
    """
    from torchdiffeq import odeint, odeint_adjoint  # imports scipy, which is slow; most runs have no use for it

    def stacked_field(t: Tensor, stacked: Tensor) -> Tensor:
        del t
        return torch.stack(field(stacked.unbind()))

    times = torch.tensor([0.0, *positions], dtype=torch.float64, device=start.device)
    options = {"max_num_steps": _MOST_ADAPTIVE_STEPS} if solver.name == "dopri5" else {}
    accuracy = {"method": solver.name, "rtol": solver.tolerance, "atol": solver.tolerance, "options": options}
    if solver.gradient == "backprop":
        solution: Tensor = odeint(stacked_field, start, times, **accuracy)
    else:
        parameters = field.field_parameters()
        solution = odeint_adjoint(stacked_field, start, times, adjoint_params=parameters, **accuracy)
    return [state.unbind() for state in solution.unbind()[1:]]


# How messages of torchdiffeq begin when a solver fails.
_SOLVER_ERRORS = ("underflow in dt", "max_num_steps exceeded", "non-finite values in state")


def solver_error(error: AssertionError) -> str:
    """The message of torchdiffeq's failed solver, on one line; "" for any other assertion."""
    text = str(error)
    return text.splitlines()[0][:60] if text.startswith(_SOLVER_ERRORS) else ""
