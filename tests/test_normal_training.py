"""NORMAL in training: how positions move, what the flow costs, and how a run that diverges ends."""

from __future__ import annotations

import copy
from pathlib import Path

import pandas
import pytest
import torch
from training import prepared

from bench.engine.context import RunContext
from bench.engine.heads import forward_shared, position_gradients
from bench.engine.loop import train
from bench.engine.step import train_step
from bench.records.record import Record
from bench.records.store import COSINES, POSITIONS
from bench.spec.resolve import resolve
from datasets import find
from methods.architectures.fixed_steps import State
from methods.contract import Diverged

ALTERNATING = {"arch.updates": "alternating"}


def run(data_root: Path, folder: Path, data: str = "digits", **settings: object) -> Record:
    spec = resolve(data, "normal", assignments={"train.epochs": 1, "data.train_share": 0.25, **settings})
    source = find(data, data_root)
    assert source is not None
    return train(spec, RunContext(source, folder, torch.device("cpu"), 1), lambda _: None)


@pytest.mark.parametrize("data", ["digits", "rooms"])
def test_alternating_positions_follow_the_gradient_where_the_network_has_moved(data: str, data_root: Path) -> None:
    joint, batch = prepared("normal", data_root, data, None)
    alternating, _ = prepared("normal", data_root, data, None, **ALTERNATING)
    train_step(joint, batch, 0, 0)
    before = alternating.network.positions()
    assert before is not None
    before = before.detach().clone()
    train_step(alternating, batch, 0, 0)
    ours, theirs = alternating.network.state_dict(), joint.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name != "task_positions.raw")
    moved = copy.deepcopy(alternating.network)
    with torch.no_grad():
        moved.task_positions.raw.copy_(before)  # type: ignore[attr-defined]
    along = position_gradients(moved, alternating.tasks, forward_shared(moved, batch).heads)
    rate = alternating.optimizers["positions"].param_groups[0]["lr"]
    expected = before - rate * along
    after, jointly = alternating.network.positions(), joint.network.positions()
    assert after is not None and jointly is not None
    torch.testing.assert_close(after, expected)
    assert not torch.equal(after, jointly)


def test_alternating_leaves_no_gradients_in_the_heads(data_root: Path) -> None:
    """The second pass through the heads is for positions only and leaves their gradients alone."""
    alternating, batch = prepared("normal", data_root, arch=None, **ALTERNATING)
    train_step(alternating, batch, 0, 0)
    held = [p.grad.clone() for p in alternating.network.heads.parameters() if p.grad is not None]
    position_gradients(alternating.network, alternating.tasks, forward_shared(alternating.network, batch).heads)
    now = [p.grad for p in alternating.network.heads.parameters() if p.grad is not None]
    assert held and all(torch.equal(left, right) for left, right in zip(held, now, strict=True))


def test_the_first_step_of_adam_has_the_length_of_its_rate(data_root: Path) -> None:
    state, batch = prepared("normal", data_root, arch=None, **{"arch.position_optimizer": "adam"})
    train_step(state, batch, 0, 0)
    positions = state.network.positions()
    assert positions is not None
    rate = state.optimizers["positions"].param_groups[0]["lr"]
    torch.testing.assert_close((positions - 1).abs(), torch.full_like(positions, rate), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "change",
    [
        {"arch.eta_ratio": 1.0},
        {"arch.position_optimizer": "adam"},
        {"arch.updates": "alternating"},
        {"arch.position_form": "positive"},
        {"arch.position_form": "constant"},
    ],
)
def test_every_option_of_positions_changes_where_they_go(change: dict[str, object], data_root: Path) -> None:
    def after_two_steps(**settings: object) -> torch.Tensor:
        state, batch = prepared("normal", data_root, arch=None, **settings)
        for step in range(2):
            train_step(state, batch, step, 0)
        positions = state.network.positions()
        assert positions is not None
        return positions.detach()

    assert not torch.equal(after_two_steps(), after_two_steps(**change))


@pytest.mark.parametrize("solver", ["euler", "rk4", "dopri5"])
def test_positions_may_tie_cross_pass_zero_and_be_negative_at_any_step(solver: str, data_root: Path) -> None:
    state, batch = prepared("normal", data_root, "rooms", None, **{"arch.solver": solver})
    raw = state.network.task_positions.raw  # type: ignore[attr-defined]
    for step, positions in enumerate(
        ([1, 1, 1], [0, 0, 0], [0.5, 1.5, 1.5], [1.5, 0.5, -0.1], [-1, -1, 2], [0, -2, 0])
    ):
        with torch.no_grad():
            raw.copy_(torch.tensor(positions, dtype=torch.float32))
        losses = train_step(state, batch, step, 0).losses
        assert torch.isfinite(losses).all() and torch.isfinite(raw).all()


@pytest.mark.parametrize("weighting", ["ew", "cagrad"])
def test_recording_cosines_changes_nothing_else(weighting: str, data_root: Path) -> None:
    (plain, batch), (recording, _) = (prepared(weighting, data_root, "rooms", "normal") for _ in "ab")
    explicit = []
    for task in range(3):
        fresh, _ = prepared("ew", data_root, "rooms", "normal")
        (group,) = batch
        (features,) = fresh.network.features(group.inputs, [task])
        fresh.tasks[task].loss(fresh.network.heads[task](features.z), group.targets[task]).backward()
        explicit.append(torch.cat([p.grad.flatten() for p in fresh.network.shared_parameters() if p.grad is not None]))
    rows = torch.nn.functional.normalize(torch.stack(explicit).double(), dim=1)
    train_step(plain, batch, 0, 0)
    seen = train_step(recording, batch, 0, 0, cosines=True).cosines
    assert seen is not None
    torch.testing.assert_close(seen, rows @ rows.T, rtol=1e-4, atol=1e-5)
    left, right = plain.network.state_dict(), recording.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_writes_positions_of_every_step_and_cosines_when_asked(data_root: Path, tmp_path: Path) -> None:
    record = run(data_root, tmp_path, "rooms", **{"train.cosines_every": 4})
    positions, cosines = (pandas.read_csv(tmp_path / name) for name in (POSITIONS, COSINES))
    assert positions["step"].tolist() == list(range(1, record.steps + 1))
    assert cosines["step"].tolist() == list(range(1, record.steps + 1, 4))
    assert list(cosines.columns) == ["step", "segmentation|depth", "segmentation|normal", "depth|normal"]
    values = cosines.drop(columns="step").to_numpy()
    assert (abs(values) <= 1 + 1e-12).all() and values.std() > 0


def test_field_evaluations_are_those_of_training_steps(data_root: Path, tmp_path: Path) -> None:
    """At constant positions of 1, a step of 0.25 takes four evaluations a solve, of all four inputs of digits."""
    still = {"arch.position_form": "constant"}
    ahead = run(data_root, tmp_path / "a", **still)
    assert ahead.field_evaluations is not None
    assert (ahead.field_evaluations.forward, ahead.field_evaluations.backward) == (4 * ahead.steps, 0)
    back = run(data_root, tmp_path / "b", **still, **{"arch.gradient": "adjoint"})
    assert back.field_evaluations is not None
    assert (back.field_evaluations.forward, back.field_evaluations.backward) == (4 * back.steps, 4 * back.steps)


@pytest.mark.parametrize(("weighting", "solves"), [("ew", 1), ("cagrad", 4)])
def test_inputs_are_solved_together_where_no_task_needs_a_gradient_of_its_own(
    weighting: str, solves: int, data_root: Path
) -> None:
    state, batch = prepared(weighting, data_root, arch="normal", **{"arch.position_form": "constant"})
    assert train_step(state, batch, 0, 0).evaluations == (4 * solves, 0)


@pytest.mark.parametrize("gradient", ["backprop", "adjoint"])
def test_a_flow_that_cannot_be_solved_is_a_diverged_run_with_the_position(
    gradient: str, data_root: Path, tmp_path: Path
) -> None:
    """ξ = −1e10 gives growth that no step of dopri5 can follow."""
    settings = {"arch.solver": "dopri5", "arch.gradient": gradient, "arch.xi": -1e10}
    record = run(data_root, tmp_path, **settings)
    assert record.status == "diverged" and record.steps == 0
    assert record.reason.startswith("dopri5 can't solve the flow (")
    assert "the furthest position is that of task plain = 1" in record.reason


def test_a_flow_that_fails_on_the_way_back_is_named_too(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The adjoint equation asks the field for more: from the second half of evaluations on, it answers NaN."""
    settings = {"arch.solver": "dopri5", "arch.gradient": "adjoint"}
    state, batch = prepared("normal", data_root, arch=None, **settings)
    flow = state.network.flow  # type: ignore[attr-defined]
    answer = type(flow).forward

    def failing(self: torch.nn.Module, state: State) -> State:
        derivative: State = answer(self, state)  # type: ignore[arg-type]
        factor = float("nan") if torch.is_grad_enabled() else 1.0
        return tuple(factor * part for part in derivative)

    monkeypatch.setattr(type(flow), "forward", failing)
    with pytest.raises(Diverged, match="dopri5 can't solve the flow"), state.network.translate_errors():
        train_step(state, batch, 0, 0)


def test_a_nan_in_the_flow_is_a_diverged_run_with_the_position(data_root: Path, tmp_path: Path) -> None:
    record = run(data_root, tmp_path, **{"arch.xi": 1e38})
    assert record.status == "diverged" and record.steps == 0
    assert record.reason.startswith("loss of task plain is nan at step 0, with its position at 1")
