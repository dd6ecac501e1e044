"""Faults of LibMTL and TorchJD, demonstrated beside ours on the same gradients."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from cases import for_every
from peer_steps import (
    ADAPTERS,
    assert_near,
    direction,
    first,
    libmtl_model,
    met_in,
    scene,
    signal_of,
)
from torch import Tensor

from methods import WEIGHTINGS
from methods.contract import State, Update

pytest.importorskip("torchjd", reason="the extra `peers` isn't installed")
pytestmark = pytest.mark.filterwarnings("ignore:You are solving a parameterized problem")


def unit_rows(seed: int, m: int = 3) -> Tensor:
    rows = torch.randn(m, 12, generator=torch.Generator().manual_seed(seed))
    return rows / rows.norm(dim=1, keepdim=True)


def bargain_residual(update: Update, rows: Tensor) -> float:
    """max |α_i (Gα)_i − 1|, 0 at the solution."""
    gram = rows.double() @ rows.double().T
    return float((update.weights * (gram @ update.weights) - 1).abs().max())


# Residuals seen: 12.1, 6.9, 8264.
NASH = [(0, (1.0, 10.0, 100.0)), (3, (1.0, 10.0, 100.0)), (3, (1.0, 0.01, 100.0))]


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@for_every("seed, norms", NASH)
def test_fault_torchjd_nash_stops_far_from_the_bargain(seed: int, norms: tuple[float, ...]) -> None:
    rows = unit_rows(seed) * torch.tensor(norms).unsqueeze(1)
    assert bargain_residual(first("torchjd:nash_mtl", rows, max_norm=0.0), rows) > 1
    assert bargain_residual(first("nash_mtl", rows, max_norm=0.0), rows) < 1e-8


def test_fault_torchjd_nash_is_silently_equal_weighting() -> None:
    """Where ECOS gives up, even on gradients of one length, the error is swallowed and the start (1, 1, 1) stays."""
    rows = unit_rows(0)
    theirs = first("torchjd:nash_mtl", rows, max_norm=0.0)
    torch.testing.assert_close(theirs.weights, torch.ones(3).double())
    assert bargain_residual(theirs, rows) > 1
    ours = first("nash_mtl", rows, max_norm=0.0)
    expected = torch.tensor([1.2254, 2.0511, 1.3756], dtype=torch.float64)
    torch.testing.assert_close(ours.weights, expected, rtol=1e-4, atol=0)


def test_fault_libmtl_mgda_keeps_two_tasks_from_the_ends() -> None:
    rows = torch.tensor([[1.0, 0.0], [3.0, 1.0]])  # the first is the shortest in the hull
    ends = torch.tensor([1.0, 0.0], dtype=torch.float64)
    clamped = torch.tensor([0.999, 0.001], dtype=torch.float64)
    torch.testing.assert_close(first("libmtl:mgda", rows).weights, clamped, rtol=0, atol=1e-6)
    torch.testing.assert_close(first("mgda", rows, variant="paper").weights, ends, rtol=0, atol=1e-12)


def test_fault_libmtl_mgda_is_far_from_shortest_for_many_tasks() -> None:
    """40 gradients with norms from 0.1 to 10: its 250 iterations end 20 % to 100 % too long."""
    excess = []
    for seed in range(3):
        rows = torch.randn(40, 60, generator=torch.Generator().manual_seed(seed))
        rows = rows * 10 ** torch.linspace(-1, 1, 40).unsqueeze(1)
        theirs = direction(first("libmtl:mgda", rows), signal_of(rows))
        ours = direction(first("mgda", rows, variant="paper"), signal_of(rows))
        excess.append(float(theirs.norm() / ours.norm()))
    assert min(excess) > 1.15


@for_every("seed", range(3))
def test_fault_torchjd_mgda_stops_early(seed: int) -> None:
    """By default Frank-Wolfe stops at a step of 0.001; the hull's nearest point is still percents away."""
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(seed))
    rows[1] = -0.4 * rows[0] + 0.7 * rows[1]
    theirs = direction(first("torchjd:mgda", rows), signal_of(rows))
    ours = direction(first("mgda", rows, variant="paper"), signal_of(rows))
    assert 5e-3 < (theirs - ours).norm() / ours.norm() < 5e-2
    assert theirs.norm() > ours.norm()


@for_every("m", [2, 4, 40])
def test_fault_libmtl_cagrad_is_wired_to_three_tasks(m: int) -> None:
    with pytest.raises(ValueError, match=rf"cannot reshape array of size {m} into shape \(1,3\)"):
        ADAPTERS["libmtl:cagrad"].factory().init(m)


def test_fault_libmtl_imtl_inverts_a_singular_matrix() -> None:
    """Two tasks with one gradient have equal projections; TorchJD and we find them, LibMTL ends the run."""
    rows = torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0]])
    with pytest.raises(RuntimeError, match="singular"):
        first("libmtl:imtl", rows)
    ours = first("imtl", rows, variant="gradient")
    torch.testing.assert_close(ours.weights, first("torchjd:imtl_g", rows).weights)


def test_fault_libmtl_pcgrad_projects_a_task_off_itself() -> None:
    """After two projections a gradient may oppose what it was; LibMTL then projects it off itself."""
    rows = torch.tensor([[-0.8557, -0.2417], [-0.3336, -0.6899], [0.9568, 0.8499]])
    orders = torch.tensor([[2, 1, 0], [0, 2, 1], [0, 1, 2]])
    with met_in(orders):
        theirs = direction(ADAPTERS["libmtl:pcgrad"].factory().step(signal_of(rows), State()), signal_of(rows))
    with met_in(orders):
        judge = direction(ADAPTERS["torchjd:pcgrad"].factory().step(signal_of(rows), State()), signal_of(rows))
    projected_weights: Callable[[Tensor, Tensor], Tensor]
    projected_weights = importlib.import_module("methods.weightings.pcgrad").projected_weights
    ours = projected_weights(rows.double() @ rows.double().T, orders) @ rows.double()
    assert_near(ours, judge, 1e-5)
    assert (theirs - ours).norm() / theirs.norm() > 0.3


def test_fault_libmtl_gls_logs_weights_that_it_does_not_apply() -> None:
    """The gradient of the geometric mean weighs L_i by mean/(m L_i); LibMTL returns L_i/(m Π L)."""
    where = scene(4)
    model = libmtl_model("GLS", where)
    returned = torch.as_tensor(model.backward(where.losses())).double()
    applied = ADAPTERS["libmtl:gls"].factory().step(where.signal(), State()).weights
    losses = where.signal().losses
    torch.testing.assert_close(applied, losses.prod() ** (1 / 3) / (3 * losses), rtol=1e-5, atol=0)
    assert (returned - applied).abs().max() > 0.1


@pytest.mark.skipif("upgrad" not in WEIGHTINGS, reason="no UPGrad of ours")
def test_fault_torchjd_upgrad_regularises() -> None:
    """It adds 1e-4 to the scaled Gramian; without that it is ours."""
    linalg = importlib.import_module("torchjd.linalg")
    aggregation = importlib.import_module("torchjd.aggregation")
    rows = torch.randn(3, 12, generator=torch.Generator().manual_seed(0))
    rows[1] = -0.4 * rows[0] + 0.7 * rows[1]
    gram = signal_of(rows).required_gramian()
    ours = first("upgrad", rows).weights
    exact = aggregation.UPGradWeighting(projector=linalg.QuadprogProjector(norm_eps=0.0, reg_eps=0.0))(gram)
    factor = float(ours.sum() / exact.sum())
    assert factor == pytest.approx(1.0) or factor == pytest.approx(3.0)
    assert_near(ours, factor * exact, 1e-5)
    gap = (ours - factor * first("torchjd:upgrad", rows).weights).norm() / ours.norm()
    assert 1e-4 < gap < 2e-3
