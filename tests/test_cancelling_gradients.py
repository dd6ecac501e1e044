"""Gradients that cancel up to the rounding of float32: no weighting may divide by what is left of them, uncounted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from signals import LOSSES, signal
from torch import Tensor

from methods.contract import State
from methods.rows import gramian_of
from methods.weightings.cagrad import CAGrad, conflict_averse_weights
from methods.weightings.conicgrad import ConicGrad, conic_weights
from methods.weightings.db_mtl import DBMTL
from methods.weightings.epo import search_weights
from methods.weightings.fairgrad import FairGrad
from methods.weightings.imtl import IMTL
from methods.weightings.mgda import MGDA
from methods.weightings.nash_mtl import NashMTL

SEEDS = range(100)


def opposed(seed: int) -> Tensor:
    """(g, −k g)"""
    rng = np.random.default_rng(seed)
    g = rng.standard_normal(500).astype(np.float32)
    return torch.from_numpy(np.stack([g, -np.float32(rng.uniform(0.2, 0.9)) * g]))


def opposed_beside_a_longer_one(seed: int) -> Tensor:
    """(a, −0.9 a, 20 b)"""
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((2, 500))
    return torch.from_numpy(np.stack([a, -0.9 * a, 20 * b])).float()


def around_the_origin(seed: int) -> Tensor:
    """Three gradients in a plane, with 0 in their triangle."""
    rng = np.random.default_rng(seed)
    corners = np.array([[1, 0], [-0.5, 0.8], [-0.6, -0.7 * rng.uniform(0.2, 1.5)]])
    return torch.from_numpy(corners @ rng.standard_normal((2, 40))).float()


@pytest.mark.parametrize("gradients", [opposed, opposed_beside_a_longer_one, around_the_origin])
@pytest.mark.parametrize(
    "weights_of",
    [
        lambda gram: conflict_averse_weights(gram, 0.4, "none"),
        lambda gram: conic_weights(gram, 0.5),
        lambda gram: conic_weights(gram, 0.1),
        lambda gram: conic_weights(gram, 0.0),
    ],
    ids=["cagrad", "conicgrad", "conicgrad 0.1", "conicgrad 0"],
)
def test_no_direction_is_made_of_rounding(
    weights_of: Callable[[np.ndarray], tuple[np.ndarray, bool]], gradients: Callable[[int], Tensor]
) -> None:
    """Where it is not counted, the update is the same for parameters in another order, up to what rounding leaves."""
    for seed in SEEDS:
        rows = gradients(seed)
        order = torch.randperm(rows.shape[1], generator=torch.Generator().manual_seed(seed))
        (weights, counted), (again, _) = (weights_of(gramian_of(part).numpy()) for part in (rows, rows[:, order]))
        if counted:
            continue
        exact = rows.double().numpy()
        update, other, mean = weights @ exact, again @ exact, np.linalg.norm(exact.mean(axis=0))
        assert np.linalg.norm(update - other) <= 2e-2 * mean, seed
        assert np.linalg.norm(update) <= 1.5 * mean, seed


def sparse_layer(seed: int, m: int) -> Tensor:
    """(m, P) the gradients of means of a ReLU layer's outputs, each over three of them; many combinations vanish."""
    torch.manual_seed(seed)
    layer = torch.nn.Linear(20, 16)
    outputs = torch.relu(layer(torch.randn(64, 20)))
    rows = []
    for _ in range(m):
        head = torch.zeros(16).index_put((torch.randperm(16)[:3],), torch.randn(3))
        found = torch.autograd.grad((outputs @ head).mean(), list(layer.parameters()), retain_graph=True)
        rows.append(torch.cat([gradient.flatten() for gradient in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("method", [FairGrad(), NashMTL()], ids=["fairgrad", "nash_mtl"])
def test_clipping_holds_where_gradients_cancel(method: FairGrad | NashMTL) -> None:
    counted = 0
    for seed in range(8):
        for m in (13, 40):
            rows = sparse_layer(seed, m)
            update = method.step(signal(torch.ones(m).double(), gramian_of(rows)), State())
            counted += update.fallbacks
            assert (update.weights @ rows.double()).norm() <= 1.001, (seed, m)
    assert counted > 0


def test_a_loss_without_a_best_scale_is_counted_and_bounded() -> None:
    method = IMTL(lr=5.0)
    state, losses = method.init(2), torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(40):
        update = method.step(signal(losses, torch.eye(2, dtype=torch.float64)), state)
        state = update.state
        assert update.fallbacks == 1 and update.head_weights is not None
        assert torch.isfinite(update.head_weights.float()).all() and torch.isfinite(update.weights).all()
    assert float(state.memory["log_scales"][1]) == pytest.approx(87.34, abs=0.01)


def test_rounding_of_the_count_has_no_sign() -> None:
    for product in (-1.0, -1.0 - 1e-8, -1.0 + 1e-8):
        gram = np.array([[1.0, product], [product, 1.0]])
        assert conic_weights(gram, 0.5)[1], product
    assert not conic_weights(np.zeros((2, 2)), 0.5)[1]  # without any gradient, nothing is replaced
    assert ConicGrad().step(signal(LOSSES[:2], torch.eye(2).double()), State()).fallbacks == 0


def test_balanced_losses_have_no_balance_to_keep() -> None:
    """r_i L_i are equal: what is left of the adjustments is rounding, which depends on the unit of the losses."""
    rng = np.random.default_rng(4)
    for _ in range(30):
        rows = rng.standard_normal((4, 6))
        preference = rng.uniform(0.3, 3, 4)
        found = [search_weights(rows @ rows.T, unit / preference, preference, 1e-4) for unit in (1.0, 0.3, 7.7)]
        assert all((w is None) == (found[0] is None) for w in found)
        for w in found[1:]:
            if w is not None:
                np.testing.assert_allclose(w, found[0], atol=1e-9)


def test_a_gradient_too_short_for_float32_is_a_zero_gradient() -> None:
    gram = torch.tensor([[0.0, 1e-30], [1e-30, 1.0]], dtype=torch.float64)
    with np.errstate(all="raise"):
        weights = MGDA(variant="paper").step(signal(LOSSES[:2], gram), State()).weights
    assert weights.tolist() == [1.0, 0.0]


def test_what_db_mtl_divides_by_is_bounded() -> None:
    rows = torch.eye(2)
    seen = signal(torch.tensor([1e-12, 1.0], dtype=torch.float64), torch.eye(2).double())
    update = DBMTL(beta=0.0).step(type(seen)(seen.losses, seen.gramian, 0, 0, seen.generator, rows), State())
    assert update.head_weights is not None and update.head_weights.tolist() == [1e8, 1.0]


def test_cagrad_counts_what_it_replaces() -> None:
    update = CAGrad().step(signal(LOSSES[:3], gramian_of(opposed_beside_a_longer_one(0))), State())
    assert update.fallbacks == 1
    torch.testing.assert_close(update.weights, torch.full((3,), 1 / (1 + 0.4**2), dtype=torch.float64))
