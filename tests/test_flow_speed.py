"""The benchmark of the flow: all candidates compute the same, and the evaluations are counted."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable
from functools import partial
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
from bench.profiling.harness import Candidate, Sample
from bench.profiling.tables import LAYOUTS, samples_table
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


@pytest.mark.parametrize("features", [VECTORS, MAPS])
def test_one_trajectory_gives_what_a_solve_per_task_gives(features: Features) -> None:
    for solver in ("euler", "midpoint", "rk4", "dopri5"):
        network, z, positions = block(features, solver), encoded(features), positions_up_to(1.99, 7)
        solves = [partial(solve, network, z, positions) for solve in (one_trajectory, a_solve_per_task)]
        for answers in ([solve() for solve in solves], [gradients(network, [z], solve) for solve in solves]):
            torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-6, msg=lambda text: f"{solver}: {text}")  # noqa: B023


@pytest.mark.parametrize("features", [VECTORS, MAPS])
def test_inputs_together_give_what_inputs_in_turn_give(features: Features) -> None:
    for positions in ((1.0,) * 4, SPREAD):
        network, inputs = block(features), [encoded(features) for _ in positions]
        solves = [partial(solve, network, inputs, positions) for solve in (inputs_in_turn, inputs_together)]
        for answers in ([solve() for solve in solves], [gradients(network, inputs, solve) for solve in solves]):
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
    """Narrow features, small images, no warm-up, one call per sample."""
    monkeypatch.setattr(flow_speed, "VECTORS", VECTORS)
    monkeypatch.setattr(flow_speed, "MAPS", dataclasses.replace(MAPS, stride=8))
    monkeypatch.setattr(flow_speed, "PIXELS", 32)
    monkeypatch.setattr(flow_speed, "_WARMUP", 0)
    monkeypatch.setattr(harness, "_MOST_CALLS", 1)


@pytest.mark.usefixtures("small")
def test_only_the_adjoint_equation_evaluates_the_field_in_the_backward_pass() -> None:
    results = measure("solvers", batch_size=1, rounds=1, device=CPU)
    assert len(results) == 8
    for result in results:
        (sample,) = result.samples
        assert sample.evaluations.forward > 0, result
        assert (sample.evaluations.backward > 0) == result.candidate.endswith("adjoint"), result
        assert sample.forward is not None and 0 < sample.forward < sample.seconds


def scripted(workload: str, name: str, seconds: list[float]) -> Candidate:
    """One that claims to have taken so many seconds, call by call."""
    left = iter(seconds)
    return Candidate(workload, name, lambda: Sample(next(left), evaluations=Evaluations(3, 0)))


def test_warm_up_is_dropped_and_ratios_are_taken_within_rounds() -> None:
    candidates = [
        scripted("a", "EW", [100.0, 1.0, 2.0, 4.0]),
        scripted("a", "NORMAL", [100.0, 1.2, 2.4, 4.8]),
        scripted("b", "EW", [100.0, 1.0, 1.0, 1.0]),
    ]
    table = samples_table("step", harness.run_benchmark(candidates, rounds=3))
    assert [column.head.text for column in table.columns] == ["method", "time, ms", "× EW", "evaluations"]
    assert [[row.head.text, *(cell.text for cell in row.cells)] for row in table.rows] == [
        ["a", "EW", "2000.00 (1500.00 – 3000.00)", "1.000 (1.000 – 1.000)", "3"],
        ["a", "NORMAL", "2400.00 (1800.00 – 3600.00)", "1.200 (1.200 – 1.200)", "3"],
        ["b", "EW", "1000.00 (1000.00 – 1000.00)", "1.000 (1.000 – 1.000)", "3"],
    ]


def test_a_sample_is_the_fastest_of_a_few_calls() -> None:
    candidate = scripted("a", "EW", [0.03, 0.02, 0.04, 0.05, 0.01])
    (result,) = harness.run_benchmark([candidate], rounds=1, warmup=0)
    assert result.milliseconds == pytest.approx([20.0])  # the calls have taken 0.1 s after the fourth


def test_a_patient_harness_stops_sampling_slow_candidates() -> None:
    slow, quick = scripted("a", "slow", [1.0] * 9), scripted("a", "quick", [0.2] * 9)
    results = harness.run_benchmark([slow, quick], rounds=5, warmup=0, patience=0.5)
    assert [len(result.samples) for result in results] == [1, 3]


def test_only_candidates_that_may_fail_do() -> None:
    def failing() -> Sample:
        raise RuntimeError("no")

    results = harness.run_benchmark([Candidate("a", "b", failing, may_fail=True)], rounds=2)
    assert [(result.samples, result.error) for result in results] == [((), "RuntimeError: no")]
    with pytest.raises(RuntimeError, match="no"):
        harness.run_benchmark([Candidate("a", "b", failing)], rounds=2)


@pytest.mark.usefixtures("small")
def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep"
    assert speed.main(["flow", "--batch", "2", "--rounds", "1", "--device", "cpu", "--out", str(folder)]) == 0
    printed, written = capsys.readouterr().out, (folder / "flow.md").read_text(encoding="utf-8")
    for text in (printed, written):
        assert "single-input, 2 images" in text and "NORMAL" in text and "whole training step" in text
        assert "torchdiffeq" in text and "spread positions" in text
    with (folder / "flow.csv").open(encoding="utf-8") as file:
        samples = list(csv.DictReader(file))
    assert Counter(sample["benchmark"] for sample in samples) == {"step": 4, "tasks": 10, "inputs": 6, "solvers": 8}
    assert all(float(sample["seconds"]) > 0 for sample in samples)

    def evaluations(ending: str) -> list[int]:
        return [int(one["forward_evaluations"]) for one in samples if one["candidate"].endswith(ending)]

    assert evaluations("one trajectory") == [8] * 6
    assert evaluations("together") == evaluations("whole training step") == [4, 7]


def test_every_question_has_a_table() -> None:
    assert set(QUESTIONS) < set(LAYOUTS)
    assert all(samples_table(question, []).columns for question in LAYOUTS)


def test_bad_options_end_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in ("--batch 0", "--rounds many", "--threads 0", "--questions all", "--device abacus"):
        try:
            code = speed.main(["flow", *wrong.split()])
        except SystemExit as stop:
            code = int(str(stop.code))
        assert code == 2 and capsys.readouterr().err, wrong
