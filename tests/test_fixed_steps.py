"""Our fixed-step solvers beside torchdiffeq's: the same bits, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from methods.architectures.fixed_steps import FIXED_STEPS, State
from methods.architectures.flow import SolverName, states_at
from methods.architectures.normal import Normal, NormalNetwork
from methods.contract import Diverged, Features

VECTORS = Features(channels=16, dense=False, stride=1)
MAPS = Features(channels=16, dense=True, stride=1)
Trajectory = Callable[[str, Callable[[State], State], State, list[float]], list[State]]


class RandomField(nn.Module):
    """The derivative of each part is a random function of all parts."""

    def __init__(self, parts: int, width: int) -> None:
        super().__init__()
        self.matrices = nn.ParameterList([torch.randn(width, width) / width**0.5 for _ in range(parts**2)])
        self.scale = nn.Parameter(torch.randn(()))

    def forward(self, state: State) -> State:
        parts = [part.view_as(part) for part in state]  # as in a flow: one sum of gradients for each evaluation
        matrices = iter(self.matrices)
        sums = [torch.stack([part @ next(matrices) for part in parts]).sum(0) for _ in parts]
        return tuple(torch.tanh(total) - self.scale * part for total, part in zip(sums, parts, strict=True))


def by_us(name: str, field: Callable[[State], State], start: State, steps: list[float]) -> list[State]:
    states = [start]
    for h in steps:
        states.append(FIXED_STEPS[name](field, states[-1], h))
    return states


def by_torchdiffeq(name: str, field: Callable[[State], State], start: State, steps: list[float]) -> list[State]:
    stacked = torch.stack(start)
    states = [stacked]
    for h in steps:
        times = torch.tensor([0.0, h], dtype=torch.float64)
        states.append(odeint(lambda t, y: torch.stack(field(y.unbind())), states[-1], times, method=name)[1])
    return [state.unbind() for state in states]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", FIXED_STEPS)
def test_every_bit_is_that_of_torchdiffeq(name: str, dtype: torch.dtype) -> None:
    for seed in range(12):
        rng = Random(seed)
        torch.manual_seed(seed)
        parts, shape = rng.randint(1, 3), (rng.randint(1, 5), 16)
        field = RandomField(parts, 16).to(dtype)
        start = tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(parts))
        sign = rng.choice((1, -1))
        steps = [sign * rng.choice((0.25, 0.1, rng.uniform(0.01, 1.5)))] * rng.randint(1, 4)

        def outcome(solve: Trajectory) -> list[Tensor]:
            states = solve(name, field, start, steps)  # noqa: B023
            found = [part for state in states[1:] for part in state]
            total = sum(
                (part.sin().sum() * (k + 1) for k, part in enumerate(found)), start=torch.zeros((), dtype=dtype)
            )
            return [*found, *torch.autograd.grad(total, [*start, *field.parameters()])]  # noqa: B023

        assert all(map(torch.equal, outcome(by_us), outcome(by_torchdiffeq))), f"seed {seed}"


@pytest.mark.parametrize("features", [VECTORS, MAPS])
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("name", FIXED_STEPS)
def test_the_flow_has_every_bit_of_torchdiffeq_at_grid_points(name: SolverName, order: int, features: Features) -> None:
    for dtype, sign in ((torch.float32, 1), (torch.float64, -1)):
        torch.manual_seed(0)
        network = normal(features=features, order=order, solver=name).to(dtype)
        x = torch.randn((3, 16, 2, 4) if features.dense else (3, 16), dtype=dtype, requires_grad=True)
        flow = network.flow

        def outcome(states: list[State]) -> list[Tensor]:
            total = torch.stack([(k + 1) * state[0].sin().sum() for k, state in enumerate(states)]).sum()
            return [*(state[0] for state in states), *torch.autograd.grad(total, [x, *network.flow.parameters()])]  # noqa: B023

        ours = outcome(states_at(flow, flow.start(x), [sign * 0.25 * k for k in (1, 2, 3, 4)], network.solver))
        theirs = outcome(by_torchdiffeq(name, flow, flow.start(x), [sign * 0.25] * 4)[1:])
        assert all(map(torch.equal, ours, theirs)), dtype


def test_maps_in_another_memory_layout_have_every_bit_of_torchdiffeq() -> None:
    """As the encoder gives them if images are augmented: sums over a map are rounded as in torchdiffeq's solution."""
    torch.manual_seed(0)
    network = normal(features=MAPS)
    x = torch.randn((4, 16, 24, 32)).to(memory_format=torch.channels_last).requires_grad_()
    coefficients = torch.randn((4, *x.shape))

    def outcome(states: list[State]) -> list[Tensor]:
        read = torch.stack([(c * state[0]).sum() for c, state in zip(coefficients, states, strict=True)])
        along = [(c * -q).sum() for c, (_, q) in zip(coefficients, states, strict=True)]
        return [*along, *torch.autograd.grad(read.sum(), [x, *network.flow.parameters()])]

    flow = network.flow
    ours = outcome(states_at(flow, flow.start(x), [0.25 * k for k in (1, 2, 3, 4)], network.solver))
    theirs = outcome(by_torchdiffeq("euler", flow, flow.start(x), [0.25] * 4)[1:])
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("features", [VECTORS, MAPS])
@pytest.mark.parametrize("order", [1, 2])
def test_both_trajectories_of_dopri5_start_from_one_tensor(order: int, features: Features) -> None:
    """Gradients are those of torchdiffeq with one state for both, to the last bit."""
    torch.manual_seed(0)
    network = normal(features=features, order=order, solver="dopri5")
    flow, positions = network.flow, [0.6, 1.0, 0.0, -0.3]
    x = torch.randn((3, 16, 2, 4) if features.dense else (3, 16), requires_grad=True)

    def by_one_tensor(start: State) -> list[State]:
        stacked = torch.stack(start)
        found = {}
        for places in ([0.6, 1.0], [-0.3]):
            times = torch.tensor([0.0, *places], dtype=torch.float64)
            solution = odeint(lambda t, y: torch.stack(flow(y.unbind())), stacked, times, rtol=1e-5, atol=1e-5)
            found.update(zip(places, solution.unbind()[1:], strict=True))
        return [found.get(position, stacked).unbind() for position in positions]

    def outcome(states: list[State]) -> list[Tensor]:
        total = torch.stack([(k + 1) * state[0].sin().sum() for k, state in enumerate(states)]).sum()
        return [*(state[0] for state in states), *torch.autograd.grad(total, [x, *flow.parameters()])]

    ours, theirs = (
        outcome(states_at(flow, flow.start(x), positions, network.solver)),
        outcome(by_one_tensor(flow.start(x))),
    )
    assert all(map(torch.equal, ours, theirs))


def normal(
    positions: tuple[float, ...] = (0.6, 1.0, -0.3), features: Features = VECTORS, **settings: object
) -> NormalNetwork:
    heads = [nn.Identity() for _ in range(3)]
    return Normal(initial_positions=positions, **settings).build(  # type: ignore[arg-type]
        nn.Identity(), heads, features, ["first", "second", "third"]
    )


@pytest.mark.parametrize("name", FIXED_STEPS)
@pytest.mark.parametrize("form", ["free", "positive"])
def test_nothing_is_read_from_the_device(name: SolverName, form: str) -> None:
    """On the meta device, which has no values: every read fails there, as torchdiffeq's do."""
    positions = (0.6, 1.0, 0.3) if form == "positive" else (0.6, 1.0, -0.3)
    network = normal(positions, solver=name, position_form=form).to("meta")
    inputs = [torch.empty(shape, device="meta", requires_grad=True) for shape in ((4, 16), (3, 16))]
    found = network.features_of_inputs(inputs, [[0, 1], [2]])
    for features in (features for of_input in found.by_input for features in of_input):
        assert features.velocity is not None and features.velocity.device == features.z.device == inputs[0].device
        features.z.sum().backward(retain_graph=True)
    assert inputs[0].grad is not None
    reading = normal(solver="dopri5").to("meta")
    with pytest.raises((RuntimeError, NotImplementedError)):
        reading.features(inputs[0], [0])


def test_positions_stay_on_the_host_and_follow_the_dtype() -> None:
    network = normal()
    raw = network.task_positions.raw
    network.to("meta", torch.float64)
    assert network.flow.omega.device.type == "meta" and network.task_positions.raw is raw
    assert raw.device.type == "cpu" and raw.dtype == torch.float64
    assert network.float().task_positions().tolist() == pytest.approx([0.6, 1.0, -0.3])
    with pytest.raises(Diverged, match="position of task second = 1000 is out of reach"):
        raw.data[1] = 1000.0
        network.features(torch.empty(2, 16, device="meta"), [0, 1, 2])
