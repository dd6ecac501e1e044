"""The toy problem: losses, Pareto front, weightings on it, and the command."""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from record_factory import without_drawing
from torch import Tensor

from bench import toy
from bench.__main__ import COMMANDS
from bench.analyses.toy.descent import TOLERANCE, Trajectory, descend
from bench.analyses.toy.problem import (
    SCALINGS,
    STARTS,
    balance_at,
    distance_to_front,
    front,
    losses_and_gradients,
)
from methods import WEIGHTINGS
from methods.contract import Weighting
from methods.weightings.cagrad import CAGrad
from methods.weightings.ew import EW
from methods.weightings.gradnorm import GradNorm
from methods.weightings.mgda import MGDA
from methods.weightings.nash_mtl import NashMTL
from methods.weightings.pcgrad import PCGrad
from methods.weightings.uw import UW

LEFT, MIDDLE, RIGHT = STARTS[:3]


def by_hand(theta: Tensor) -> Tensor:
    """The published formulas, one point at a time."""
    a, b = theta
    c1, c2 = torch.tanh(0.5 * b).clamp(min=0), torch.tanh(-0.5 * b).clamp(min=0)
    f1 = (0.5 * (-a - 7) - torch.tanh(-b)).abs().clamp(min=5e-6).log() + 6
    f2 = (0.5 * (-a + 3) + torch.tanh(-b) + 2).abs().clamp(min=5e-6).log() + 6
    g1 = ((-a + 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    g2 = ((-a - 7) ** 2 + 0.1 * (-b - 8) ** 2) / 10 - 20
    return torch.stack([c1 * f1 + c2 * g1, c1 * f2 + c2 * g2])


def points() -> np.ndarray:
    """Anywhere in the plane, in both halves, and on a valley's flat bottom."""
    scattered = np.random.default_rng(0).uniform(-10, 10, (40, 2))
    bottom = 1.0
    return np.concatenate((scattered, [LEFT, RIGHT, *STARTS[3:]], [[-7 + 2 * math.tanh(bottom), bottom]]))


def test_losses_are_the_published_ones() -> None:
    losses, _ = losses_and_gradients(points())
    expected = [by_hand(torch.from_numpy(point)).tolist() for point in points()]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(losses_and_gradients(np.array([[7.0, -8.0]]))[0][0, 0], -20 * math.tanh(4.0))


def test_gradients_are_those_of_automatic_differentiation() -> None:
    _, gradients = losses_and_gradients(points())
    for point, found in zip(points(), gradients, strict=True):
        expected = torch.autograd.functional.jacobian(by_hand, torch.from_numpy(point))
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


def test_between_the_halves_the_slopes_of_both_add_up() -> None:
    _, between = losses_and_gradients(np.array([[3.0, 0.0]]))
    _, beside = losses_and_gradients(np.array([[3.0, 1e-9], [3.0, -1e-9]]))
    np.testing.assert_allclose(between[0], beside.sum(axis=0), atol=1e-6)


@pytest.mark.parametrize("scaling", SCALINGS)
def test_on_the_front_the_gradients_are_opposed_and_nothing_beats_it(scaling: tuple[float, float]) -> None:
    line = front()
    losses, gradients = losses_and_gradients(line)
    scaled = gradients * np.array(scaling)[:, None]
    first, second = scaled[1:-1, 0], scaled[1:-1, 1]  # at its ends, one of the two vanishes
    cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(cosines, -1, atol=1e-12)
    assert np.abs(gradients[0, 1]).max() < 1e-12 and np.abs(gradients[-1, 0]).max() < 1e-12
    side = np.linspace(-11, 11, 150)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    rivals, _ = losses_and_gradients(np.concatenate((grid, line)))
    assert not (rivals[:, None] < losses[None] - 1e-9).all(axis=2).any()


def test_the_front_lies_where_the_released_code_draws_it() -> None:
    np.testing.assert_allclose(front()[[0, 140, -1], 0], [-7, 0, 7])
    assert np.abs(front()[140, 1] + 8.3552) < 1e-3
    np.testing.assert_allclose(distance_to_front(front(57)), 0, atol=1e-5)
    np.testing.assert_allclose(balance_at(np.array([-9.0, -7.0, 0.0, 7.0])), [0, 0, 0.5, 1])


@pytest.mark.slow
def test_ew_stays_in_the_valleys_and_mgda_and_nash_mtl_leave_them() -> None:
    (stuck,) = descend(EW(), 1500, 5e-3, starts=(RIGHT,), scalings=SCALINGS[:1])
    assert not stuck.reached and stuck.steps is None and stuck.balance is None and stuck.path[-1, 1] > 0
    for weighting, steps in ((MGDA(), 4000), (NashMTL(), 2400)):
        (free,) = descend(weighting, steps, 5e-3, starts=(RIGHT,), scalings=SCALINGS[:1])
        assert free.reached and free.steps is not None and free.distance <= TOLERANCE, weighting


def test_the_scaling_decides_where_ew_ends_and_not_where_nash_mtl_does() -> None:
    ends = {
        type(weighting): [t.balance for t in descend(weighting, steps, 5e-2, starts=(MIDDLE,))]
        for weighting, steps in ((EW(), 800), (NashMTL(), 200))
    }
    assert ends[EW] == pytest.approx([0.5, 0.1 / 1.1], abs=1e-3)
    assert ends[NashMTL] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_trajectories_do_not_depend_on_each_other() -> None:
    weightings: list[Weighting] = [CAGrad(), PCGrad(), GradNorm()]
    for weighting in weightings:
        together = descend(weighting, steps=15, lr=1e-2)
        alone = descend(weighting, steps=15, lr=1e-2, starts=STARTS[:1], scalings=SCALINGS[:1])
        np.testing.assert_array_equal(together[0].path, alone[0].path, str(weighting))
        assert {(t.start, t.scaling) for t in together} == {(s, scaling) for s in STARTS for scaling in SCALINGS}


def test_momentum_is_a_running_mean_of_the_weights() -> None:
    """Constant weights are their own mean; changing ones lead elsewhere, but not at the first step."""
    for weighting, constant in ((EW(), True), (NashMTL(), False)):
        (plain,), (smooth,) = (
            descend(weighting, 40, 1e-2, starts=(RIGHT,), scalings=SCALINGS[:1], momentum=share) for share in (0.0, 0.9)
        )
        np.testing.assert_allclose(smooth.path[1], plain.path[1])
        assert np.allclose(smooth.path[-1], plain.path[-1], rtol=0, atol=1e-6) == constant


def test_adam_is_torch_s() -> None:
    (found,) = descend(EW(), steps=50, lr=1e-2, starts=(LEFT,), scalings=SCALINGS[1:])
    theta = torch.tensor(LEFT, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([theta], lr=1e-2)
    for _ in range(50):
        optimizer.zero_grad()
        (torch.tensor(SCALINGS[1], dtype=torch.float64) * by_hand(theta)).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(found.path[-1], theta.detach().numpy(), rtol=1e-9)


def test_a_weight_that_grows_without_bound_ends_its_trajectory_where_it_was() -> None:
    (ended,) = descend(UW(lr=5.0), steps=400, lr=1e-2, starts=(MIDDLE,), scalings=SCALINGS[:1])
    assert ended.diverged and 1 < len(ended.path) < 400 and np.isfinite(ended.path).all()


def test_the_command_writes_figures_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.main(["--method", "Nash-MTL", "--steps", "60", "--jobs", "1", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "[1/1] Nash-MTL: 0 of 10 trajectories reach the Pareto front" in printed and "Nash-MTL  " in printed
    names = {"nash_mtl.pdf", "nash_mtl.png", "toy.md", "toy.tex", "toy.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert "| Nash-MTL | 0/5 | -- | -- | 0/5 | -- | -- |" in (tmp_path / "toy.md").read_text(encoding="utf-8")
    with (tmp_path / "toy.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(STARTS) * len(SCALINGS)
    start = (float(rows[0]["start_theta1"]), float(rows[0]["start_theta2"]))
    assert start == STARTS[0] and rows[0]["reached"] == "0" and rows[0]["steps"] == ""


def test_what_runs_is_said_before_the_first_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_trajectories(*arguments: object) -> Iterator[tuple[str, tuple[Trajectory, ...]]]:
        assert "10 trajectories of 1 steps, 1 at a time: EW, MGDA" in capsys.readouterr().out
        for name, weighting in (("mgda", MGDA()), ("ew", EW())):
            yield name, descend(weighting, steps=1)
            assert WEIGHTINGS[name].label in capsys.readouterr().out  # a line as each weighting finishes

    monkeypatch.setattr(toy, "all_trajectories", all_trajectories)
    with without_drawing():
        assert toy.main(["--method", "ew", "mgda", "--steps", "1", "--jobs", "1", "--out", str(tmp_path)]) == 0


def test_tables_and_figures_need_no_torch() -> None:
    code = "import sys; import bench.analyses.toy.table, bench.analyses.toy.figure"
    unwanted = "{'torch', 'methods', 'datasets'}"
    subprocess.run([sys.executable, "-c", f"{code}; assert not {unwanted} & set(sys.modules)"], check=True)


def test_an_unknown_method_is_named_with_its_nearest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert toy.main(["--method", "nashmlt", "--out", str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "Did you mean 'nash_mtl'?" in message and message.count("\n") == 1


def test_bad_numbers_are_refused() -> None:
    for options in (["--lr", "0"], ["--lr", "fast"], ["--steps", "-1"]):
        with pytest.raises(SystemExit) as caught:
            toy.main(options)
        assert caught.value.code == 2, options


def test_the_command_is_listed() -> None:
    assert "bench.toy" in COMMANDS
