"""NORMAL: the flow, the positions on it, and the gradient that moves them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torchdiffeq import odeint_adjoint

from methods.architectures.flow import (
    CountedField,
    FirstOrderFlow,
    Flow,
    HeavyBallFlow,
    Solver,
    solved_together,
    states_at,
)
from methods.architectures.normal import Normal, NormalNetwork
from methods.contract import Diverged, Features

VECTORS = Features(channels=6, dense=False, stride=1)
MAPS = Features(channels=6, dense=True, stride=1)
EULER = Solver("euler", 0.25)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def heavy_ball(features: Features = VECTORS) -> HeavyBallFlow:
    return HeavyBallFlow(features, xi=0.1, initial_omega=-1.0).double()


def network(positions: tuple[float, ...], features: Features = VECTORS, **settings: object) -> NormalNetwork:
    heads = [nn.Linear(6, 2) for _ in range(3)]
    built = Normal(initial_positions=positions, **settings).build(  # type: ignore[arg-type]
        nn.Identity(), heads, features, ["first", "second", "third"]
    )
    return built.double()


def inputs(*shape: int) -> Tensor:
    return torch.randn(*(shape or (5, 6)), dtype=torch.float64)


@pytest.mark.parametrize("features", [VECTORS, MAPS])
def test_at_position_zero_nothing_has_moved(features: Features) -> None:
    x = inputs(5, 6, 2, 2) if features.dense else inputs()
    for (z, _), expected in zip(network((0.0,), features).features(x, [0, 1]), (x, x), strict=True):
        assert torch.equal(z, expected)


def test_one_euler_step_is_the_initial_velocity() -> None:
    """z(p) = z(0) − p·u(z(0)) within the first step: g has no part in it (DESIGN of the step size)."""
    flow, x = heavy_ball(), inputs()
    (state,) = states_at(flow, flow.start(x), [0.2], EULER)
    torch.testing.assert_close(state[0], x - 0.2 * flow.initial_velocity(x))


def test_two_euler_steps_by_hand() -> None:
    flow, x = heavy_ball(), inputs()
    u, gamma = flow.initial_velocity(x), torch.sigmoid(flow.omega)
    z = x - 0.25 * u
    q = u + 0.25 * (-gamma * u + flow.force(x) + 0.1 * x)
    (state,) = states_at(flow, flow.start(x), [0.5], EULER)
    torch.testing.assert_close(state[0], z - 0.25 * q)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4", "dopri5"])
def test_one_trajectory_serves_all_tasks(solver: str) -> None:
    """Any order, ties, zero and negative positions: the same states as one solve per task, where grids agree."""
    flow, x = heavy_ball(), inputs()
    chosen = Solver(solver, 0.25, "backprop", 64)  # type: ignore[arg-type]
    positions = [1.0, 0.5, 1.0, 0.0, -0.75, 2.0, -0.25]
    together = states_at(flow, flow.start(x), positions, chosen)
    for position, state in zip(positions, together, strict=True):
        (alone,) = states_at(flow, flow.start(x), [position], chosen)
        torch.testing.assert_close(state, alone, rtol=1e-6, atol=1e-8)
    assert all(map(torch.equal, together[0], together[2]))


def test_evaluations_do_not_grow_with_tasks() -> None:
    flow, x = heavy_ball(), inputs()
    counts = []
    for positions in ([2.0], torch.linspace(0.1, 2.0, 40).tolist()):
        calls = []
        handle = flow.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        states_at(flow, flow.start(x), positions, EULER)
        handle.remove()
        counts.append(len(calls))
    assert counts == [8, 8]


@pytest.mark.parametrize(("solver", "a_step", "between"), [("euler", 1, 0), ("midpoint", 2, 1), ("rk4", 4, 1)])
def test_evaluations_are_those_of_the_steps_and_one_per_grid_point_read_between(
    solver: str, a_step: int, between: int
) -> None:
    flow, start = heavy_ball(), heavy_ball().start(inputs())
    for positions, steps, points in (([2.0], 8, 0), ([1.9], 8, 2), (torch.linspace(0.05, 1.95, 40).tolist(), 8, 9)):
        field = CountedField(flow)
        states_at(field, start, positions, Solver(solver, 0.25))  # type: ignore[arg-type]
        assert field.evaluations == a_step * steps + between * points


@pytest.mark.parametrize("position", [2.0, -1.3])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_converges_at_the_order_of_the_solver(solver: str, order: int, position: float) -> None:
    """To dopri5 at a tight tolerance, on the grid and between its points."""
    flow, x = heavy_ball(), inputs()
    # LeakyReLU has a kink, at which no solver keeps its order.
    flow.force[1] = nn.Tanh()
    with torch.no_grad():
        (reference,) = states_at(flow, flow.start(x), [position], Solver("dopri5", 0.25, tolerance=1e-13))
        errors = []
        for step in (0.25, 0.125, 0.0625):
            (state,) = states_at(flow, flow.start(x), [position], Solver(solver, step))  # type: ignore[arg-type]
            errors.append(float(torch.stack([a - b for a, b in zip(state, reference, strict=True)]).norm()))
    # Between grid points the share of a step changes as it halves, and with it the constant of the error.
    assert math.log2(errors[0] / errors[2]) / 2 == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4"])
def test_no_task_moves_the_result_of_another(solver: str) -> None:
    flow, x = heavy_ball(), inputs()
    chosen = Solver(solver, 0.25)  # type: ignore[arg-type]
    (alone,) = states_at(flow, flow.start(x), [0.6], chosen)
    for others in ([0.7], [3.3, 0.1], [-1.0, 0.5], [0.6]):
        assert all(map(torch.equal, states_at(flow, flow.start(x), [0.6, *others], chosen)[0], alone))


@pytest.mark.parametrize("form", [heavy_ball, lambda: FirstOrderFlow(VECTORS).double()])
def test_velocity_is_the_derivative_along_the_flow(form: object) -> None:
    flow: Flow = form()  # type: ignore[operator]
    x, h = inputs(), 1e-5
    exact = Solver("rk4", 0.01, "backprop", 1000)
    with torch.no_grad():
        before, here, after = states_at(flow, flow.start(x), [0.6 - h, 0.6, 0.6 + h], exact)
        torch.testing.assert_close(
            flow.velocities([here], flow)[0], (after[0] - before[0]) / (2 * h), rtol=1e-4, atol=1e-5
        )


def test_position_gradient_is_that_of_the_adjoint_for_the_end_time() -> None:
    """Eq. (7) against torchdiffeq's own gradient for the end of the integration."""
    net, x = network((1.0,)), inputs()
    features = net.features(x, [0])[0]
    z = features.z.detach().requires_grad_()
    net.heads[0](z).square().mean().backward()
    assert z.grad is not None and features.velocity is not None
    ours = (z.grad * features.velocity).sum()
    times = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)
    start, parameters = net.flow.start(x), net.flow.field_parameters()
    solution = odeint_adjoint(
        lambda t, state: net.flow(state),
        start,
        times,
        method="euler",
        options={"step_size": 0.25},
        adjoint_params=parameters,
    )
    net.heads[0](solution[0][-1]).square().mean().backward()
    assert times.grad is not None
    torch.testing.assert_close(ours, times.grad[1], rtol=1e-10, atol=1e-12)


def test_position_gradient_is_the_finite_difference_as_the_step_shrinks() -> None:
    net, x = network((1.0,), step_size=1 / 512, max_steps=1000), inputs()

    def loss(position: float) -> float:
        (state,) = states_at(net.flow, net.flow.start(x), [position], net.solver)
        return float(net.heads[0](state[0]).detach().square().mean())

    features = net.features(x, [0])[0]
    z = features.z.detach().requires_grad_()
    net.heads[0](z).square().mean().backward()
    assert z.grad is not None and features.velocity is not None
    ours = float((z.grad * features.velocity).sum())
    assert ours == pytest.approx((loss(1.01) - loss(0.99)) / 0.02, rel=2e-2)


@pytest.mark.parametrize("positions", [(1.0, 1.0, 1.0), (0.7, 1.3, 1.0), (-0.3, -0.6, 0.0)])
@pytest.mark.parametrize(("order", "solver"), [(2, "euler"), (2, "rk4"), (1, "euler")])
def test_several_inputs_are_solved_as_each_alone(positions: tuple[float, ...], order: int, solver: str) -> None:
    net = network(positions, order=order, solver=solver)
    several, tasks = [inputs(5, 6), inputs(3, 6)], [[0, 2], [1]]
    together = net.features_of_inputs(several, tasks)
    apart = [net.features_of_inputs([x], [readers]) for x, readers in zip(several, tasks, strict=True)]
    for x, readers, found in zip(several, tasks, together.by_input, strict=True):
        for (z, velocity), (expected, along) in zip(found, net.features(x, readers), strict=True):
            torch.testing.assert_close(z, expected)
            torch.testing.assert_close(velocity, along)
    assert together.evaluations().forward < sum(alone.evaluations().forward for alone in apart)


def test_inputs_are_solved_together_where_that_is_little_work() -> None:
    few, many = torch.zeros(16, 512), torch.zeros(64, 512)
    assert solved_together([few] * 4, [[1.0]] * 4, EULER) and not solved_together([many] * 4, [[1.0]] * 4, EULER)
    assert not solved_together([few], [[1.0]], EULER)
    assert solved_together([few] * 4, [[1.0], [1.25], [1.5], [1.75]], EULER)
    for far in (4.0, -2.0):
        assert not solved_together([few] * 4, [[1.0], [1.0], [1.0], [far]], EULER)
    assert not solved_together([few] * 4, [[1.0]] * 4, Solver("dopri5", 0.25))


def test_equal_positions_and_heads_give_equal_features() -> None:
    first, second, third = network((1.0, 1.0, 1.5)).features(inputs(), [0, 1, 2])
    assert torch.equal(first.z, second.z) and not torch.equal(first.z, third.z)


def test_adjoint_and_backpropagation_agree_as_the_step_shrinks() -> None:
    x, differences = inputs(), []
    for step in (0.25, 0.0625, 1 / 64):
        gradients = []
        for way in ("backprop", "adjoint"):
            torch.manual_seed(1)
            net = network((1.0,), step_size=step, gradient=way, max_steps=200)
            net.features(x, [0])[0].z.square().mean().backward()
            gradients.append(torch.cat([p.grad.flatten() for p in net.flow.parameters() if p.grad is not None]))
        assert not torch.equal(*gradients)
        differences.append(float((gradients[0] - gradients[1]).norm() / gradients[0].norm()))
    assert differences[0] > differences[1] > differences[2] and differences[2] < 0.02


@pytest.mark.parametrize(
    "change",
    [
        {"order": 1},
        {"xi": 1.0},
        {"initial_omega": 1.0},
        {"solver": "rk4"},
        {"step_size": 0.5},
        {"initial_positions": (1.5,)},
        {"solver": "dopri5", "tolerance": 1e-2},
        {"solver": "dopri5", "tolerance": 1e-6},
    ],
)
def test_every_option_changes_the_outcome(change: dict[str, object]) -> None:
    def outcome(**settings: object) -> Tensor:
        torch.manual_seed(2)
        built = Normal(**settings).build(nn.Identity(), [nn.Linear(6, 2)], VECTORS, ["only"])  # type: ignore[arg-type]
        return built.features(x, [0])[0].z

    x = torch.randn(5, 6)
    assert not torch.equal(outcome(), outcome(**change))


def test_forms_of_positions() -> None:
    free, positive, constant = (
        network((0.5, 1.0, 2.0), position_form=form) for form in ("free", "positive", "constant")
    )
    for net in (free, positive, constant):
        positions = net.positions()
        assert positions is not None
        torch.testing.assert_close(positions, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64))
    assert free.position_parameters() and positive.position_parameters() and not constant.position_parameters()
    positive.positions().sum().backward()  # type: ignore[union-attr]
    torch.testing.assert_close(
        positive.task_positions.raw.grad, torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    )  # d e^ν / dν = p


@pytest.mark.parametrize("runaway", [17.0, -17.0, math.inf, math.nan])
def test_a_position_that_runs_away_is_named(runaway: float) -> None:
    net = network((1.0, 1.0, 1.0))
    net.task_positions.raw.data[1] = runaway
    with pytest.raises(Diverged, match="position of task second = "):
        net.features(inputs(), [0, 1, 2])
