"""Ours beside tables of inputs and outputs of the code that the authors released.

Where each table comes from, and how it was made, is in its "origin". The Jacobians are those of the released code, in
single precision, and our Gramian is formed from them as in training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import for_every
from torch import Tensor

from methods.contract import Signal, State, Update, Weighting
from methods.rows import gramian_of
from methods.weightings.cagrad import CAGrad
from methods.weightings.dwa import DWA
from methods.weightings.ew import EW
from methods.weightings.fairgrad import FairGrad
from methods.weightings.famo import FAMO
from methods.weightings.log_loss import LogLoss
from methods.weightings.mgda import MGDA, gradient_scales
from methods.weightings.nash_mtl import NashMTL
from methods.weightings.pcgrad import projected_weights
from methods.weightings.rlw import RLW
from methods.weightings.uw import uncertainty_slope, uncertainty_weights

RELEASED = Path(__file__).parent / "released"
# The released solvers of Nash-MTL and FairGrad are local; up to this residual, they found the solution.
CONVERGED = 1e-4

Case = Mapping[str, Any]


def cases_of(name: str) -> list[Case]:
    table = json.loads((RELEASED / f"{name}.json").read_text(encoding="utf-8"))
    assert set(table["origin"]) == {"repository", "commit", "command", "shims", "seed"}
    found: list[Case] = table["cases"]
    return found


def numbers(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def signal_of(case: Case, **places: int) -> Signal:
    rows = torch.tensor(case["jacobian"], dtype=torch.float32) if "jacobian" in case else None
    losses = numbers(case["losses"])
    gramian = None if rows is None else gramian_of(rows)
    return Signal(losses, gramian, places.get("step", 0), places.get("epoch", 0), torch.Generator(), rows)


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative to the length of the whole vector."""
    return float((found.double() - expected).norm() / expected.norm())


def head_factors(weighting: Weighting, update: Update) -> Tensor:
    own = {"weighted": update.weights, "plain": torch.ones_like(update.weights), "own": update.head_weights}
    factors = own[weighting.heads]
    assert factors is not None
    return factors


def assert_released(weighting: Weighting, case: Case, tolerance: float) -> None:
    """The shared gradient, and the factors of the gradients of the heads, are those of the released code."""
    signal = signal_of(case)
    update = weighting.step(signal, weighting.init(len(signal.losses)))
    found = update.weights @ signal.required_jacobian().double()
    assert distance(found, numbers(case["shared_gradient"])) <= tolerance
    assert distance(head_factors(weighting, update), numbers(case["head_gradients"])) <= tolerance


# Single precision: losses and gradients of the released code are rounded to 6e-8.


def test_equal_weighting() -> None:
    for case in cases_of("ew"):
        assert_released(EW(), case, 1e-6)


def test_scale_invariant_losses() -> None:
    for case in cases_of("log_loss"):
        assert_released(LogLoss(), case, 1e-6)


def normalised_gramian(case: Case) -> Tensor:
    signal = signal_of(case)
    gramian = signal.required_gramian()
    scales = gradient_scales(gramian.diagonal().sqrt(), signal.losses, case["normalisation"])
    return gramian / torch.outer(scales, scales)


@for_every("case", cases_of("mgda"))
def test_mgda(case: Case) -> None:
    """Equal where the released solver has converged. It keeps two tasks from the ends, and stops early for five."""
    gramian, released = normalised_gramian(case), numbers(case["weights"])
    mgda = MGDA(normalisation=case["normalisation"])
    ours = mgda.step(signal_of(case), State()).weights
    assert ours @ gramian @ ours <= released @ gramian @ released * (1 + 1e-6)
    if len(ours) < 5:
        assert_released(mgda, case, 2e-3)
    torch.testing.assert_close(numbers(case["head_gradients"]), released, rtol=1e-5, atol=1e-6)


def test_mgda_by_default_is_that_of_the_released_parameters_for_celeba() -> None:
    converged = [case for case in cases_of("mgda") if case["normalisation"] == "loss+" and len(case["losses"]) < 5]
    assert len(converged) == 4
    for case in converged:
        assert_released(MGDA(), case, 2e-3)
        with pytest.raises(AssertionError):
            assert_released(MGDA(variant="paper"), case, 0.1)


@for_every("case", cases_of("cagrad"))
def test_cagrad(case: Case) -> None:
    """Equal for gradients of length 1. For shorter ones SLSQP stops early, at a change of its objective by 1e-6."""
    assert case["c"] == CAGrad().c
    signal, released = signal_of(case), numbers(case["shared_gradient"])
    rows = signal.required_jacobian().double()
    if rows.norm(dim=1).max() > 1:
        assert_released(CAGrad(), case, 1e-3)
    found = CAGrad().step(signal, State()).weights @ rows
    # Both are in the same ball, so the objective of Liu et al. (2021), Eq. (1) compares them.
    radii = [float((1.16 * step / 3 - rows.mean(dim=0)).norm()) for step in (found, released)]
    assert radii == pytest.approx([0.4 * float(rows.mean(dim=0).norm())] * 2, rel=1e-4)
    assert (rows @ found).min() >= (rows @ released).min() - 1e-6 * float(rows.norm() * found.norm())
    assert_released(CAGrad(), case, 0.1)


def test_pcgrad_in_the_order_of_the_tasks() -> None:
    """The released optimizer shuffles the tasks, but not what it then uses."""
    for case in cases_of("pcgrad"):
        rows = torch.tensor(case["jacobian"], dtype=torch.float32)
        order = torch.arange(len(rows)).expand(len(rows), -1)
        found = projected_weights(gramian_of(rows), order) @ rows.double()
        assert distance(found, numbers(case["shared_gradient"])) <= 1e-5


# The released procedure stops at a change of α by 1e-6, or at a residual of 1e-3 of the scaled equation.


def test_nash_mtl_where_its_released_solver_converged() -> None:
    converged = [case for case in cases_of("nash_mtl") if case["residual"] <= CONVERGED]
    assert len(converged) >= 7
    for case in converged:
        assert_released(NashMTL(), case, 10 * CONVERGED)
        assert numbers(case["shared_gradient"]).norm() == pytest.approx(1.0, abs=1e-5)


def test_nash_mtl_where_its_released_solver_did_not() -> None:
    """With short gradients it keeps its start, so the weights are 1 and nothing is clipped."""
    case = next(case for case in cases_of("nash_mtl") if case["kind"] == "short 0.0001")
    torch.testing.assert_close(numbers(case["head_gradients"]), torch.ones(3, dtype=torch.float64))
    assert case["residual"] > 0.99
    update = NashMTL().step(signal_of(case), State())
    assert update.fallbacks == 0 and update.head_weights is not None
    gains = update.head_weights * (signal_of(case).required_gramian() @ update.head_weights)
    torch.testing.assert_close(gains, torch.ones_like(gains), rtol=0, atol=1e-8)
    assert update.head_weights.min() > 1e3


# Trust-region least squares: it stops at relative changes of 1e-8.


@for_every("case", [case for case in cases_of("fairgrad") if case["residual"] <= CONVERGED])
def test_fairgrad(case: Case) -> None:
    assert_released(FairGrad(alpha=case["alpha"], max_norm=case["max_norm"]), case, 1e-4)
    signal = signal_of(case)
    update = FairGrad(alpha=case["alpha"], variant="paper").step(signal, State())
    assert distance(update.weights, numbers(case["weights"])) <= 1e-4


def test_fairgrad_by_default_multiplies_by_the_number_of_tasks_and_then_clips() -> None:
    norms = []
    for case in cases_of("fairgrad"):
        combined = numbers(case["weights"]) @ numbers(case["jacobian"])
        unclipped = len(case["losses"]) * float(combined.norm())
        expected = min(unclipped, 1.0) if case["max_norm"] else unclipped
        norms.append(float(numbers(case["shared_gradient"]).norm()))
        assert norms[-1] == pytest.approx(expected, rel=1e-5)
        assert set(case["head_gradients"]) == {1.0}
    assert min(norms) < 0.9 and FairGrad().max_norm == 1.0 and FairGrad().alpha == 2.0


@for_every("case", cases_of("famo"))
def test_famo(case: Case) -> None:
    """Six steps; logits, weights and the unclipped shared gradient: the released code clips before it has one."""
    famo = FAMO(lr=case["lr"], gamma=case["gamma"])
    state = famo.init(len(case["jacobian"]))
    longest = 0.0
    for number, step in enumerate(case["steps"]):
        signal = signal_of({**step, "jacobian": case["jacobian"]}, step=number)
        torch.testing.assert_close(state.memory["logits"], numbers(step["logits"]), rtol=1e-4, atol=1e-6)
        update = famo.step(signal, state)
        assert distance(update.weights, numbers(step["head_gradients"])) <= 1e-5
        released = numbers(step["shared_gradient"])
        assert distance(update.weights @ signal.required_jacobian().double(), released) <= 1e-5
        longest = max(longest, float(released.norm()))
        state = famo.post_step(numbers(step["losses_after"]), update.state)
    assert longest > 1


def test_famo_has_the_settings_of_the_scripts_for_nyuv2_and_celeba() -> None:
    assert FAMO().gamma == cases_of("famo")[0]["gamma"] == 0.001
    assert FAMO().lr == cases_of("famo")[0]["lr"] == 0.025


def test_dwa() -> None:
    for case in cases_of("dwa"):
        dwa = DWA(temperature=case["temperature"])
        assert dwa == DWA()
        state = dwa.init(3)
        for number, step in enumerate(case["steps"]):
            update = dwa.step(signal_of(step, step=number, epoch=step["epoch"]), state)
            state = update.state
            torch.testing.assert_close(update.weights, numbers(step["weights"]), rtol=1e-6, atol=0)
        assert max(step["epoch"] for step in case["steps"]) == 4


def test_uw_is_half_of_the_released_example() -> None:
    """The authors' notebook has exp(−s) L + s, without the halves of Eq. (7)."""
    for case in cases_of("uw"):
        log_variances, losses = numbers(case["log_variances"]), numbers(case["losses"])
        weighted = 2 * uncertainty_weights(log_variances) * losses
        assert distance(weighted, numbers(case["weighted_losses"])) <= 1e-6
        slopes = 2 * uncertainty_slope(log_variances, losses)
        torch.testing.assert_close(slopes, numbers(case["log_variance_gradients"]), rtol=1e-5, atol=1e-6)


def test_rlw_with_the_draws_of_the_released_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for case in cases_of("rlw"):
        draws = numbers(case["draws"])
        monkeypatch.setattr(torch, "randn", lambda *size, draws=draws, **options: draws)
        assert_released(RLW(), case, 1e-6)
