"""IMTL, Nash-MTL and FairGrad on Gramians as training forms them, from a float32 Jacobian."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cases import for_every
from scipy.optimize import minimize
from torch import Tensor

from methods.rows import gramian_of
from methods.weightings.fairgrad import fair_weights
from methods.weightings.imtl import equal_projection_weights
from methods.weightings.nash_mtl import bargaining_weights

FLOAT32 = float(np.finfo(np.float32).eps)
FLOAT64 = float(np.finfo(np.float64).eps)


def float32_gramian(rows: np.ndarray) -> np.ndarray:
    return gramian_of(torch.from_numpy(rows).float()).numpy()


def unit_gramian(gram: np.ndarray) -> np.ndarray:
    norms = np.sqrt(gram.diagonal())
    return gram / np.outer(norms, norms)


def opposed_pairs(m: int, seed: int, size: int = 2000) -> np.ndarray:
    """g and −g + 1e-3 h, with norms over four orders: 1 + cos is about 5e-7 in every pair."""
    rng = np.random.default_rng([seed, m])
    rows = rng.normal(size=(m, size))
    rows[1::2] = 1e-3 * rows[1::2] - rows[::2][: m // 2]
    return rows * 10 ** rng.uniform(-2, 2, size=(m, 1))


def spread_rows(m: int, orders: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, m])
    return rng.normal(size=(m, 3 * m + 5)) * 10 ** rng.uniform(-orders / 2, orders / 2, size=(m, 1))


# IMTL


def network_rows(m: int, seed: int, dtype: torch.dtype) -> Tensor:
    """Gradients of m − 1 losses of a small network, and of their sum, with respect to its shared layer."""
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randn(32, 20, generator=generator), torch.randn(32, m - 1, generator=generator)
    shared, heads = torch.randn(20, 16, generator=generator) / 4, torch.randn(16, m - 1, generator=generator) / 4
    shared = shared.to(dtype).requires_grad_()
    outputs = (inputs.to(dtype) @ shared).tanh() @ heads.to(dtype)
    losses = (outputs - targets.to(dtype)).square().mean(dim=0) * torch.logspace(-1, 1, m - 1).to(dtype)
    losses = torch.cat([losses, losses.sum(dim=0, keepdim=True)])
    return torch.stack([torch.autograd.grad(loss, shared, retain_graph=True)[0].flatten() for loss in losses])


def exact_least_squares(gram: np.ndarray, rank: int) -> np.ndarray:
    """The weights by least squares, from the largest `rank` eigenvalues of a Gramian in float64."""
    values, vectors = np.linalg.eigh(unit_gramian(gram))
    assert values[-rank] > 1e-3 * values[-1] and abs(values[-rank - 1]) < 1e-12 * values[-1]
    kept = vectors[:, -rank:]
    solution = kept @ (kept.sum(axis=0) / values[-rank:]) / np.sqrt(gram.diagonal())
    return np.asarray(solution / solution.sum())


@for_every("m", [3, 5, 9, 13, 40])
def test_imtl_of_losses_and_their_sum_is_that_of_the_exact_gramian(m: int) -> None:
    """Rank m − 1. The error is rounding of float32 over the smallest eigenvalue that is left."""
    for seed in range(20):
        exact = network_rows(m, seed, torch.float64)
        expected = exact_least_squares((exact @ exact.T).numpy(), m - 1)
        weights, counted = equal_projection_weights(gramian_of(network_rows(m, seed, torch.float32)))
        assert counted
        assert np.abs(weights.numpy() - expected).max() <= 5e-6 * np.abs(expected).max()
        assert (weights @ exact).norm() > 1e-3 * exact.norm(dim=1).min()


@for_every("m", [3, 13, 40])
def test_imtl_of_duplicated_gradients_has_equal_projections(m: int) -> None:
    rows = np.random.default_rng(m).normal(size=(m, 200))
    rows[m // 2 :] = rows[: m - m // 2]
    gram = float32_gramian(rows)
    weights, counted = equal_projection_weights(torch.from_numpy(gram))
    projections = gram @ weights.numpy() / np.sqrt(gram.diagonal())
    assert counted
    np.testing.assert_allclose(projections, projections.mean(), rtol=1e-5)


@for_every("m", [2, 3, 13, 40])
def test_imtl_keeps_norms_over_eight_orders(m: int) -> None:
    for seed in range(5):
        gram = float32_gramian(spread_rows(m, 8, seed))
        weights, counted = equal_projection_weights(torch.from_numpy(gram))
        projections = gram @ weights.numpy() / np.sqrt(gram.diagonal())
        assert not counted
        np.testing.assert_allclose(projections, projections.mean(), rtol=1e-6)  # G is symmetric to float32 only


def test_imtl_of_cancelling_gradients_is_the_mean() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):
        row = rng.normal(size=500)
        gram = float32_gramian(np.stack([row, -(10 ** rng.uniform(-3, 3)) * row]))
        weights, counted = equal_projection_weights(torch.from_numpy(gram))
        assert counted and weights.tolist() == [0.5, 0.5]


# Pareto-stationary up to float32


@for_every("method", ["nash_mtl", "fairgrad"])
def test_gradients_that_cancel_in_float32_are_counted(method: str) -> None:
    """(g, −kg), and a combination of several that vanishes."""
    rng = np.random.default_rng(1)
    for m in (2, 2, 2, 3, 13, 40):
        for _ in range(10):
            rows = rng.normal(size=(m, 1000)) * 10 ** rng.uniform(-2, 2, size=(m, 1))
            rows[-1] = -rng.uniform(0.3, 1, size=m - 1) @ rows[:-1]
            gram = float32_gramian(rows)
            weights, counted = bargaining_weights(gram) if method == "nash_mtl" else fair_weights(gram, 1.0)
            assert counted and weights.min() > 0
            assert (weights * np.sqrt(gram.diagonal())).max() <= 1000 * np.sqrt(m)


def test_a_cancelling_pair_is_counted_among_other_tasks() -> None:
    rng = np.random.default_rng(2)
    for _ in range(10):
        rows = rng.normal(size=(40, 1000))
        rows[1] = -2.7 * rows[0]
        assert bargaining_weights(float32_gramian(rows))[1]


@for_every("ratio", [1.0, 3.7, 1e3])
@for_every("excess", [5e-7, 1e-5])
def test_nearly_opposed_pairs_by_hand(ratio: float, excess: float) -> None:
    """1 + cos = excess. α_i ‖g_i‖ = (1 + cos)^(−1/2)."""
    gram = np.array([[1.0, (excess - 1) * ratio], [(excess - 1) * ratio, ratio**2]])
    for weights, counted in (bargaining_weights(gram), fair_weights(gram, 1.0)):
        assert not counted
        np.testing.assert_allclose(weights * [1, ratio], excess**-0.5, rtol=1e-8)


@for_every("m", [2, 3, 13, 40, 100])
def test_nash_has_the_norm_of_its_number_of_tasks(m: int) -> None:
    for orders in (0, 8):
        gram = float32_gramian(spread_rows(m, orders, 0))
        alpha, counted = bargaining_weights(gram)
        assert not counted
        assert np.sqrt(alpha @ gram @ alpha) == pytest.approx(np.sqrt(m), rel=1e-8)


# FairGrad


def assert_fair(gram: np.ndarray, alpha: float) -> np.ndarray:
    """Solved to 1e-8, or to as much as float64 tells of the sums Gw; in long double.

    Of a weight below the normal doubles, only that it is not too small is known.
    """
    weights, counted = fair_weights(gram, alpha)
    assert not counted
    w, g = weights.astype(np.longdouble), gram.astype(np.longdouble)
    normal = weights > 1e-300
    residuals = np.abs((w ** (1 / np.longdouble(alpha)) * (g @ w)) - 1)
    allowed = 1e-8 + 64 * FLOAT64 * w ** (1 / np.longdouble(alpha)) * (np.abs(g) @ w)
    assert (residuals[normal] <= allowed[normal]).all(), (residuals / allowed)[normal].max()
    return weights


@for_every("m", [4, 10, 40])
def test_fairgrad_of_opposed_pairs(m: int) -> None:
    for seed in range(10 if m < 40 else 4):
        rows = opposed_pairs(m, seed)
        for alpha in (0.5, 2.0, 5.0):
            assert_fair(rows @ rows.T, alpha)


@for_every("alpha", [0.2, 0.5, 2.0, 10.0, 50.0])
@for_every("orders", [0, 4, 8])
def test_fairgrad_of_spread_norms(alpha: float, orders: int) -> None:
    for m in (1, 2, 3, 5, 13, 40):
        for seed in range(4 if m < 40 else 1):
            rows = spread_rows(m, orders, seed)
            assert_fair(rows @ rows.T, alpha)
            assert_fair(float32_gramian(rows), alpha)


@for_every("alpha", [0.2, 2.0, 10.0, 50.0])
def test_fairgrad_of_a_hundred_tasks_and_of_dependent_ones(alpha: float) -> None:
    rng = np.random.default_rng(5)
    for m in (3, 13, 100):
        rows = rng.normal(size=(m, 350))
        duplicated = rows.copy()
        duplicated[m // 2 :] = duplicated[: m - m // 2]
        with_sum = np.vstack([rows[:-1], rows[:-1].sum(axis=0)])
        collinear = rows[:1] + 1e-7 * rows
        rank_one = rows[:1] * 10 ** rng.uniform(-2, 2, size=(m, 1))
        for family in (rows, duplicated, with_sum, collinear, rank_one):
            assert_fair(float32_gramian(family), alpha)


@for_every("alpha", [0.2, 0.7, 2.0, 10.0, 50.0])
@for_every("cosine", [-1 + 1e-5, -0.9, -0.3, 0.0, 0.4, 0.99])
@for_every("ratio", [1.0, 30.0])
def test_fairgrad_of_two_tasks_is_the_root_of_one_equation(alpha: float, cosine: float, ratio: float) -> None:
    """With r = log u_1/u_2, log (e^r + c) − log (c e^r + 1) + r/α = log t_1/t_2 rises in r where both gains are > 0."""
    exponent, c = 1 / np.longdouble(alpha), np.longdouble(cosine)
    right = (1 - exponent) * np.log(np.longdouble(ratio))  # norms 1 and ratio, t = norm^(1/α − 1)
    low, high = (np.log(-c), -np.log(-c)) if c < 0 else (np.longdouble(-300), np.longdouble(300))
    for _ in range(200):
        r = (low + high) / 2
        if np.log(np.exp(r) + c) - np.log(c * np.exp(r) + 1) + r * exponent < right:
            low = r
        else:
            high = r
    gain = np.exp(r) + c  # in units of u_2: u_2 (e^r + c) = u_1^(−1/α)
    log_u2 = -(np.log(gain) + r * exponent) / (1 + exponent)
    expected = np.exp(np.array([log_u2 + r, log_u2 - np.log(np.longdouble(ratio))])).astype(np.float64)
    weights, counted = fair_weights(np.array([[1.0, cosine * ratio], [cosine * ratio, ratio**2]]), alpha)
    assert not counted
    np.testing.assert_allclose(weights, expected, rtol=1e-7)


@for_every("alpha", [0.5, 2.0, 5.0])
@for_every("m", [3, 5])
def test_fairgrad_is_the_minimum_of_its_convex_function(alpha: float, m: int) -> None:
    gram, power = float32_gramian(np.random.default_rng(m).normal(size=(m, 20))) / 20, 1 - 1 / alpha
    found = minimize(
        lambda z: 0.5 * np.exp(z) @ gram @ np.exp(z) - (np.exp(power * z) / power).sum(),
        np.zeros(m),
        jac=lambda z: np.exp(z) * (gram @ np.exp(z)) - np.exp(power * z),
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 1000},
    )
    np.testing.assert_allclose(fair_weights(gram, alpha)[0], np.exp(found.x), rtol=1e-6)


@for_every("m", [4, 10, 40])
def test_fairgrad_has_no_order_and_no_unit(m: int) -> None:
    for seed in range(4):
        hard = (opposed_pairs(m, seed), 2.0), (spread_rows(m, 8, seed), 50.0), (spread_rows(m, 4, seed), 0.2)
        order = np.random.default_rng(seed).permutation(m)
        for rows, alpha in hard:
            gram = rows @ rows.T
            weights = fair_weights(gram, alpha)[0]
            normal = weights > 1e-290
            permuted = fair_weights(gram[np.ix_(order, order)], alpha)[0][np.argsort(order)]
            scaled = fair_weights(1e-6 * gram, alpha)[0] / 1e-6 ** (-alpha / (1 + alpha))
            np.testing.assert_allclose(permuted[normal], weights[normal], rtol=1e-6)
            np.testing.assert_allclose(scaled[normal], weights[normal], rtol=1e-6)


def test_fairgrad_leaves_tasks_without_a_gradient_out() -> None:
    rows = spread_rows(5, 4, 0)
    expected = assert_fair(rows @ rows.T, 2.0)
    with_zeros = np.insert(rows, [0, 3], 0.0, axis=0)
    weights, counted = fair_weights(with_zeros @ with_zeros.T, 2.0)
    assert counted
    np.testing.assert_allclose(weights, np.insert(expected, [0, 3], 0.0), rtol=1e-10)
