"""The benchmark of the flow: its contestants compute the same thing, and what it counts is what happened."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bench import speed
from bench.profiling import flow as flow_speed
from bench.profiling import harness
from bench.profiling.flow import (
    QUESTIONS,
    a_solve_per_task,
    inputs_in_turn,
    inputs_together,
    measure,
    one_trajectory,
    positions_up_to,
)
from bench.profiling.flow_table import cells
from bench.profiling.harness import WARMUP, Contestant, Lap, Turn
from methods.architectures.normal import Normal, NormalNetwork
from methods.contract import Evaluations, Features

CPU = torch.device("cpu")
VECTORS = Features(channels=6, dense=False, stride=1)
MAPS = Features(channels=6, dense=True, stride=1)
SPREAD = (1.0, 1.25, 1.6, 1.75)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def block(features: Features = VECTORS, solver: str = "euler") -> NormalNetwork:
    return Normal(solver=solver).build(nn.Identity(), [], features, []).double()  # type: ignore[arg-type]


def encoded(features: Features = VECTORS) -> Tensor:
    shape = (5, 6, 2, 2) if features.dense else (5, 6)
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def gradients(network: NormalNetwork, inputs: list[Tensor], solve: Callable[[], list[Tensor]]) -> list[Tensor]:
    """Of a sum over all features, each with a factor of its own, in the parameters and the inputs."""
    total = torch.stack([(task + 1) * z.sin().sum() for task, z in enumerate(solve())]).sum()
    return list(torch.autograd.grad(total, [*network.flow.parameters(), *inputs]))


@pytest.mark.parametrize("solver", ["euler", "midpoint", "rk4", "dopri5"])
@pytest.mark.parametrize("features", [VECTORS, MAPS])
def test_one_trajectory_gives_what_a_solve_per_task_gives(features: Features, solver: str) -> None:
    network, z, positions = block(features, solver), encoded(features), positions_up_to(1.99, 7)
    ways = [lambda: one_trajectory(network, z, positions), lambda: a_solve_per_task(network, z, positions)]
    for answers in ([way() for way in ways], [gradients(network, [z], way) for way in ways]):
        torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("positions", [(1.0,) * 4, SPREAD])
@pytest.mark.parametrize("features", [VECTORS, MAPS])
def test_inputs_together_give_what_inputs_in_turn_give(features: Features, positions: tuple[float, ...]) -> None:
    network, inputs = block(features), [encoded(features) for _ in positions]
    ways = [lambda: inputs_in_turn(network, inputs, positions), lambda: inputs_together(network, inputs, positions)]
    for answers in ([way() for way in ways], [gradients(network, inputs, way) for way in ways]):
        torch.testing.assert_close(*answers)


def test_evaluations_do_not_grow_with_tasks() -> None:
    network, z = block(), encoded()
    counts = []
    for m in (1, 4, 40):
        calls: list[object] = []
        hook = network.flow.register_forward_hook(lambda *_, calls=calls: calls.append(None))
        assert len(one_trajectory(network, z, positions_up_to(1.99, m))) == m
        hook.remove()
        counts.append(len(calls))
    assert counts == [8, 8, 8]


def test_positions_span_the_same_for_any_number_of_tasks() -> None:
    assert positions_up_to(2.0, 1) == [2.0] and positions_up_to(2.0, 4) == [0.5, 1.0, 1.5, 2.0]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow features, and no turns to warm up."""
    monkeypatch.setattr(flow_speed, "VECTORS", VECTORS)
    monkeypatch.setattr(flow_speed, "MAPS", dataclasses.replace(MAPS, stride=8))
    monkeypatch.setattr(harness, "WARMUP", 0)


@pytest.mark.usefixtures("small")
def test_only_the_adjoint_equation_evaluates_the_field_on_the_way_back() -> None:
    laps = measure("solvers", batch_size=1, rounds=1, device=CPU)
    assert len(laps) == 8
    for lap in laps:
        assert lap.evaluations_ahead > 0 and (lap.evaluations_back > 0) == lap.contestant.endswith("adjoint"), lap
        assert lap.ahead is not None and lap.back is not None
        assert lap.ahead + lap.back == pytest.approx(lap.milliseconds)


def scripted(setting: str, name: str, seconds: list[float]) -> Contestant:
    """One that says it took so many seconds, turn by turn."""
    left = iter(seconds)
    return Contestant(setting, name, lambda: Turn(next(left), Evaluations(3, 0)))


def test_warm_up_is_dropped_and_ratios_are_taken_within_rounds() -> None:
    warm_up = [100.0] * WARMUP
    contestants = [
        scripted("a", "EW", [*warm_up, 1.0, 2.0, 4.0]),
        scripted("a", "NORMAL", [*warm_up, 1.2, 2.4, 4.8]),
        scripted("b", "EW", [*warm_up, 1.0, 1.0, 1.0]),
    ]
    head, rows = cells("step", harness.race("step", contestants, rounds=3, device=CPU))
    assert head == ["setting", "method", "time, ms", "× EW", "field evaluations"]
    assert rows == [
        ["a", "EW", "2000.00 (1500.00 – 3000.00)", "1.000 (1.000 – 1.000)", "3"],
        ["a", "NORMAL", "2400.00 (1800.00 – 3600.00)", "1.200 (1.200 – 1.200)", "3"],
        ["b", "EW", "1000.00 (1000.00 – 1000.00)", "1.000 (1.000 – 1.000)", "3"],
    ]


def test_a_short_turn_counts_its_quickest_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "WARMUP", 0)
    contestant = scripted("a", "EW", [0.03, 0.02, 0.04, 0.05, 0.01])
    (lap,) = harness.race("step", [contestant], rounds=1, device=CPU)
    assert lap.milliseconds == pytest.approx(20.0)  # the fourth call ends the turn


@pytest.mark.usefixtures("small")
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep"
    assert speed.main(["flow", "--batch", "1", "--rounds", "1", "--device", "cpu", "--out", str(folder)]) == 0
    printed, written = capsys.readouterr().out, (folder / "flow.md").read_text(encoding="utf-8")
    for text in (printed, written):
        assert "single-input, 1 images" in text and "NORMAL" in text and "whole training step" in text
        assert "torchdiffeq" in text and "spread positions" in text
    with (folder / "flow.csv").open(encoding="utf-8") as file:
        laps = list(csv.DictReader(file))
    assert Counter(lap["question"] for lap in laps) == {"step": 4, "tasks": 10, "inputs": 6, "solvers": 8}
    assert all(float(lap["milliseconds"]) > 0 for lap in laps)
    trajectories = [lap for lap in laps if lap["contestant"].endswith("one trajectory")]
    assert [int(lap["evaluations_ahead"]) for lap in trajectories] == [8] * 6
    together = [lap for lap in laps if lap["contestant"] == "together"]
    assert [int(lap["evaluations_ahead"]) for lap in together] == [4, 7]
    steps = [lap for lap in laps if lap["contestant"] == "whole training step"]
    assert [int(lap["evaluations_ahead"]) for lap in steps] == [4, 7]


def test_every_question_has_a_table() -> None:
    empty: list[Lap] = []
    assert all(cells(question, empty)[0] for question in QUESTIONS)


@pytest.mark.parametrize(
    "wrong",
    [["--batch", "0"], ["--rounds", "many"], ["--threads", "0"], ["--questions", "all"], ["--device", "abacus"]],
)
def test_bad_options_end_with_exit_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code = speed.main(["flow", *wrong])
    except SystemExit as stop:
        code = int(str(stop.code))
    assert code == 2 and capsys.readouterr().err
