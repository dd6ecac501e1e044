"""ConFIG, ConicGrad, EPO and MGDA's preference: what defines each of them, on Gramians in both precisions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np
import pytest
import torch
from cases import for_every
from gramians import DEPENDENT, FAMILIES, REGULAR, SIZES, gramian, jacobian
from scipy.optimize import linprog, minimize
from signals import LOSSES, signal, tensor

from methods import WEIGHTINGS
from methods.contract import State
from methods.weightings.config import ConFIG, conflict_free_weights
from methods.weightings.conicgrad import ConicGrad, conic_weights
from methods.weightings.epo import EPO, adjustments, search_weights
from methods.weightings.linear_program import maximise_over_simplex
from methods.weightings.mgda import MGDA
from methods.weightings.rounding import FLOAT32_EPSILON
from methods.weightings.simplex import Matrix, Vector

PRECISIONS = ("single", "double")
RNG = np.random.default_rng


def losses_of(m: int) -> Vector:
    return RNG(m).uniform(0.5, 2.0, size=m)


# All of them


NAMES = ("config", "conicgrad", "epo", "mgda")


def step(name: str, gram: Matrix, losses: Vector) -> tuple[Vector, bool]:
    """Weights (m,) of this method at its defaults, and whether the step is counted."""
    update = WEIGHTINGS[name].factory().step(signal(torch.from_numpy(losses), torch.from_numpy(gram)), State())
    return update.weights.numpy(), bool(update.fallbacks)


@for_every("name, family, m", [case for case in product(NAMES, FAMILIES, SIZES) if case[2] <= 40])
def test_any_input_has_a_result_that_does_not_depend_on_scale(name: str, family: str, m: int) -> None:
    gram, losses = gramian(family, m, "single").numpy(), losses_of(m)
    weights, counted = step(name, gram, losses)
    assert np.isfinite(weights).all() and weights.shape == (m,)
    scaled, counted_too = step(name, 2.0**20 * gram, losses)
    np.testing.assert_allclose(scaled, weights, rtol=1e-9, atol=1e-12)
    assert counted == counted_too
    if family in REGULAR and (name, family) != ("conicgrad", "opposed 1e-4"):
        assert not counted


@for_every("name, family, m", product(NAMES, ("random", "aligned", "spread", "opposed"), (2, 3, 5, 13)))
def test_tasks_have_no_order(name: str, family: str, m: int) -> None:
    gram, losses, order = gramian(family, m, "single").numpy(), losses_of(m), RNG(m).permutation(m)
    weights, _ = step(name, gram, losses)
    shuffled, _ = step(name, gram[np.ix_(order, order)], losses[order])
    np.testing.assert_allclose(shuffled, weights[order], rtol=1e-6, atol=1e-9 * np.abs(weights).max())


@for_every("name, family", product(NAMES, ("random", "aligned", "opposed")))
def test_rounding_of_gradients_changes_little(name: str, family: str) -> None:
    for m in (2, 3, 13):
        rows, losses = jacobian(family, m), losses_of(m)
        exact, single = gramian(family, m).numpy(), gramian(family, m, "single").numpy()
        one, other = (step(name, gram, losses)[0] @ rows for gram in (exact, single))
        assert np.linalg.norm(one - other) <= 1e-3 * np.linalg.norm(one)


# ConFIG


def by_pseudo_inverse(rows: Matrix, cosines: Vector) -> Vector:
    """Liu et al. (2025), Eq. (2) and (3), on the gradients themselves."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    units = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    direction = np.linalg.pinv(units, rcond=np.sqrt(len(rows) * FLOAT32_EPSILON)) @ cosines
    if np.linalg.norm(direction) < 1e-9:  # the gradients cancel
        return np.zeros(rows.shape[1])
    unit = direction / np.linalg.norm(direction)
    return (rows @ unit).sum() * unit


@for_every("precision, family, m", product(PRECISIONS, REGULAR, [m for m in SIZES if m <= 40]))
def test_config_has_equal_cosines_and_the_length_of_all_projections(precision: str, family: str, m: int) -> None:
    gram = gramian(family, m, precision).numpy()  # type: ignore[arg-type]
    weights, singular = conflict_free_weights(gram, np.ones(m))
    products, norms = gram @ weights, np.sqrt(gram.diagonal())
    length = np.sqrt(weights @ products)
    assert not singular
    rounding = FLOAT32_EPSILON * (np.abs(gram) @ np.abs(weights) / norms).max()  # of products in float32
    np.testing.assert_allclose(products / norms, (products / norms).mean(), rtol=1e-9, atol=rounding)
    assert (
        abs(length - products.sum() / length) <= m * rounding * np.abs(weights * norms).sum() / length + 1e-9 * length
    )


@for_every(
    "family, m", product(("random", "spread", "sums", "low rank", "rank 1", "duplicated", "zero row"), (2, 3, 5))
)
def test_config_is_the_published_formula(family: str, m: int) -> None:
    rows, cosines = jacobian(family, m), RNG(m).uniform(0.5, 2.0, size=m)
    for given in (np.ones(m), cosines):
        weights, singular = conflict_free_weights(rows @ rows.T, given)
        expected = by_pseudo_inverse(rows, given)
        np.testing.assert_allclose(weights @ rows, expected, rtol=0, atol=float(1e-9 * np.linalg.norm(rows)))
        assert singular == (family in DEPENDENT and family != "zero row" and np.linalg.matrix_rank(rows) < m)


@for_every("m", [3, 5, 13, 40])
def test_config_of_dependent_gradients_in_single_precision(m: int) -> None:
    """Without a cutoff that knows float32, the eigenvalue of rounding size would be inverted."""
    for family in ("sums", "duplicated", "collinear"):
        rows = jacobian(family, m)
        weights, singular = conflict_free_weights(gramian(family, m, "single").numpy(), np.ones(m))
        expected = by_pseudo_inverse(rows, np.ones(m))
        assert singular
        assert np.linalg.norm(weights @ rows - expected) <= 1e-4 * np.linalg.norm(rows)


def test_config_of_one_and_two_tasks_by_hand() -> None:
    """One: its gradient. Two: the bisector, (‖g_1‖ + ‖g_2‖) cos(θ/2) long."""
    assert conflict_free_weights(np.array([[9.0]]), np.ones(1))[0].tolist() == [1.0]
    for angle in (0.3, 1.5, 2.9):
        rows = np.array([[2.0, 0.0], [0.5 * np.cos(angle), 0.5 * np.sin(angle)]])
        update = conflict_free_weights(rows @ rows.T, np.ones(2))[0] @ rows
        expected = 2.5 * np.cos(angle / 2) * np.array([np.cos(angle / 2), np.sin(angle / 2)])
        np.testing.assert_allclose(update, expected, rtol=1e-9)


def test_config_gives_cosines_in_the_ratio_of_preferences() -> None:
    gram, preference = gramian("random", 4), (0.5, 1.0, 2.0, 0.0)
    update = ConFIG(preference).step(signal(LOSSES, gram), State())
    cosines = (gram @ update.weights / gram.diagonal().sqrt()).numpy()
    np.testing.assert_allclose(cosines / cosines[1], preference, atol=1e-12)
    assert update.fallbacks == 0


def test_config_without_a_direction_stays_and_counts() -> None:
    opposed = tensor(1, -2, -2, 4).reshape(2, 2)
    for gram in (opposed, gramian("zero", 2)):
        update = ConFIG().step(signal(LOSSES[:2], gram), State())
        assert update.fallbacks == 1 and update.weights.tolist() == [0.0, 0.0]
    left_out = ConFIG().step(signal(LOSSES[:3], gramian("zero row", 3)), State())
    assert left_out.fallbacks == 0 and left_out.weights[0] == 0
    with pytest.raises(ValueError, match="`preference` must be finite"):
        ConFIG((1.0, -1.0))


# ConicGrad


def support_of_cone(x: Vector, axis: Vector, c: float) -> float:
    """max x·d over ‖d‖ ≤ 1 with axis·d ≥ c, for a unit vector `axis`."""
    along, length = float(x @ axis), float(np.linalg.norm(x))
    if along >= c * length:
        return length
    return c * along + ((1 - c**2) * max(length**2 - along**2, 0.0)) ** 0.5


@for_every(
    "c, family, m", product((0.0, 0.25, 0.5, 0.9), ("random", "aligned", "opposed", "sums", "zero row"), (2, 3, 5))
)
def test_conicgrad_reaches_the_bound_of_its_dual(c: float, family: str, m: int) -> None:
    """Any w on the simplex bounds the worst descent from above; that of a general solver is met."""
    rows = jacobian(family, m)
    present = rows[np.linalg.norm(rows, axis=1) > 0]
    mean = rows.mean(axis=0)
    length = np.linalg.norm(mean)
    update = conic_weights(rows @ rows.T, c)[0] @ rows
    assert np.linalg.norm(update) == pytest.approx(length, rel=1e-6)
    assert update @ mean >= (c - 1e-6) * length**2
    bound = minimize(
        lambda w: length * support_of_cone(w @ present, mean / length, c),
        np.full(len(present), 1 / len(present)),
        bounds=[(0, 1)] * len(present),
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        method="SLSQP",
        options={"ftol": 1e-13, "maxiter": 500},
    ).fun
    assert bound - (present @ update).min() <= 1e-5 * np.square(rows).sum(axis=1).max()


def test_conicgrad_by_hand() -> None:
    """The mean at c = 1; within the cone MGDA's direction; otherwise the mean, turned by arccos c."""
    gram = gramian("opposed", 5).numpy()
    np.testing.assert_allclose(conic_weights(gram, 1.0)[0], 0.2, atol=1e-12)
    assert conic_weights(np.array([[4.0]]), 0.5)[0].tolist() == [1.0]
    rows = np.array([[2.0, 0.0], [0.0, 0.1]])  # the mean is nearly along the first axis, the shortest along the second
    mean, turn = rows.mean(axis=0), np.pi / 3
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    np.testing.assert_allclose(conic_weights(rows @ rows.T, 0.5)[0] @ rows, rotation @ mean, rtol=1e-9)
    shortest = np.array([0.1**2, 2.0**2]) @ rows
    wide = conic_weights(rows @ rows.T, 0.05)[0] @ rows
    np.testing.assert_allclose(wide, np.linalg.norm(mean) * shortest / np.linalg.norm(shortest), rtol=1e-9)


def test_conicgrad_counts_points_without_a_best_direction() -> None:
    for family in ("low rank", "stationary"):
        update = ConicGrad().step(signal(LOSSES[:3], gramian(family, 3)), State())
        assert update.fallbacks == 1 and update.weights.tolist() == [1 / 3] * 3
    still = ConicGrad().step(signal(LOSSES[:3], gramian("zero", 3)), State())
    assert still.fallbacks == 0 and still.weights.tolist() == [1 / 3] * 3
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match="`c` must be from 0 to 1"):
            ConicGrad(wrong)


# EPO


@for_every("n, k, seed", product((1, 2, 5, 12, 30), (0, 1, 6, 30), range(5)))
def test_linear_programs_beside_a_general_solver(n: int, k: int, seed: int) -> None:
    rng = RNG([n, k, seed])
    gain, rows, bounds = rng.normal(size=n), rng.normal(size=(k, n)), rng.normal(size=k) / np.sqrt(n) - 0.3
    bounds[: k // 4] = -np.inf
    if seed == 4:  # many ties
        gain, rows, bounds = np.ones(n), rng.integers(-1, 2, size=(k, n)).astype(float), np.zeros(k)
    bounded = np.isfinite(bounds)
    expected = linprog(
        -gain, A_ub=-rows[bounded], b_ub=-bounds[bounded], A_eq=np.ones((1, n)), b_eq=[1.0], bounds=(0, None)
    )
    weights = maximise_over_simplex(gain, rows, bounds, np.ones(n))
    assert (weights is None) == (expected.status == 2)
    if weights is not None:
        assert weights @ gain == pytest.approx(-expected.fun, abs=1e-4)
        assert weights.min() >= 0 and (rows[bounded] @ weights >= bounds[bounded] - 1e-4).all()


def vertices(rows: Matrix, bounds: Vector) -> Iterator[Vector]:
    """Of {w : Σw = 1, w ≥ 0, rows @ w ≥ bounds}, by every choice of m − 1 conditions that hold with equality."""
    m = rows.shape[1]
    conditions, limits = np.vstack([rows, np.eye(m)]), np.append(bounds, np.zeros(m))
    for chosen in combinations(np.flatnonzero(np.isfinite(limits)), m - 1):
        system = np.vstack([conditions[list(chosen)], np.ones(m)])
        if np.linalg.matrix_rank(system) == m:
            point = np.linalg.solve(system, np.append(limits[list(chosen)], 1.0))
            holds = conditions @ point >= limits - 1e-9 * np.abs(conditions) @ np.abs(point)
            holds[list(chosen)] = True
            if holds.all():
                yield point


def programs(gram: Matrix, losses: Vector, preference: Vector) -> tuple[Vector, Matrix, Vector]:
    """Objective, rows and bounds of the linear program, as in the released code."""
    m, divergence, a = len(gram), *adjustments(losses, preference)
    slopes = gram @ a
    if divergence > 1e-4:
        bounds = np.array([-np.inf if b > 0 else b for b in slopes]) if slopes.max() > 0 else np.zeros(m)
        bounds[(preference * losses).argmax()] = 0
        return slopes, gram, bounds
    return gram.sum(axis=0), np.vstack([gram, slopes]), np.append(np.zeros(m), min(slopes.max(), 0.0))


@for_every("family, m, balanced", product(("random", "aligned", "spread", "opposed"), (2, 3, 4), (True, False)))
def test_epo_finds_the_best_vertex(family: str, m: int, balanced: bool) -> None:
    gram, preference = gramian(family, m, "single").numpy(), RNG(m).uniform(0.5, 2.0, size=m)
    losses = (1 + 1e-4 * RNG(m).normal(size=m)) / preference if balanced else losses_of(m)
    gain, rows, bounds = programs(gram, losses, preference)
    weights, found = search_weights(gram, losses, preference, 1e-4), list(vertices(rows, bounds))
    assert (weights is None) == (not found)
    if weights is None:  # a descent that keeps the balance may not exist
        assert balanced and search_weights(gram, losses, preference, 1e-4, "relaxed") is not None
        return
    best = max(float(gain @ point) for point in found)
    assert gain @ weights == pytest.approx(best, rel=1e-6, abs=1e-9 * np.abs(gain).max())
    assert (rows @ weights >= bounds - 1e-6 * np.abs(rows) @ weights).all()


def test_epo_by_hand() -> None:
    """Losses (2, 1) with r = 1: a = (0.23105, −0.46210), and b = Ga."""
    divergence, a = adjustments(np.array([2.0, 1.0]), np.ones(2))
    np.testing.assert_allclose([divergence, *a], [0.056633, 0.231049, -0.462098], atol=1e-6)
    for cosine, expected in ((0.0, 1.0), (-0.5, 1.0), (-0.9, (1 + 0.462098 + 0.9 * 0.231049) / 1.9)):
        weights = EPO().step(signal(tensor(2, 1), tensor(1, cosine, cosine, 1).reshape(2, 2)), State()).weights
        np.testing.assert_allclose(weights, [2 * expected, 2 - 2 * expected], atol=1e-5)
    descent = EPO().step(signal(tensor(1, 1), tensor(4, -1, -1, 1).reshape(2, 2)), State())
    np.testing.assert_allclose(descent.weights, [1.0, 1.0])
    alone = EPO().step(signal(tensor(3), tensor(4).reshape(1, 1)), State())
    assert alone.weights.tolist() == [1.0] and alone.fallbacks == 0


@for_every("preference", [(1.0, 1.0), (1.0, 3.0), (4.0, 1.0)])
def test_epo_ends_at_the_losses_that_were_asked_for(preference: tuple[float, ...]) -> None:
    """Two bowls in the plane, ¼ + ‖x − p_i‖²/2: r_i L_i become equal, at a point between their minima."""
    minima, x = tensor(0, 0, 2, 0).reshape(2, 2), tensor(1.7, 1.0)
    epo = EPO(preference)
    for _ in range(400):
        rows = x - minima
        losses = 0.25 + rows.square().sum(dim=1) / 2
        update = epo.step(signal(losses, rows @ rows.T), State())
        x = x - 0.02 * update.weights @ rows
    scaled = losses * tensor(*preference)
    assert scaled.max() / scaled.min() == pytest.approx(1.0, abs=0.05)
    assert abs(float(x[1])) < 0.05 and 0 < x[0] < 2


def test_epo_counts_what_it_cannot_solve() -> None:
    gram, preference = gramian("random", 3), (1.0, 2.0, 3.0)
    for losses, given in ((tensor(1, 0, 1), gram), (tensor(1, -1, 1), gram), (LOSSES[:3], gramian("zero", 3))):
        update = EPO(preference).step(signal(losses, given), State())
        assert update.fallbacks == 1
        np.testing.assert_allclose(update.weights, [0.5, 1.0, 1.5])
    for wrong in ((), (0.0, 1.0), (float("inf"),)):
        with pytest.raises(ValueError, match="`preference` must be finite and > 0"):
            EPO(wrong)


# MGDA's preference


@for_every("family, m", product(("random", "aligned", "opposed", "sums"), (2, 3, 5, 13)))
def test_mgda_lowers_losses_in_proportion_to_preferences(family: str, m: int) -> None:
    gram, preference = gramian(family, m).numpy(), RNG(m).uniform(0.5, 2.0, size=m)
    update = MGDA("paper", preference=tuple(preference)).step(signal(torch.ones(m), torch.from_numpy(gram)), State())
    weights = update.weights.numpy()
    rates = gram @ weights / preference
    np.testing.assert_allclose(weights @ preference, 1.0)
    assert rates.min() >= weights @ gram @ weights - 1e-10 * gram.max()
    np.testing.assert_allclose(rates[weights > 0], rates.min(), atol=1e-10 * gram.max())


def test_mgda_with_a_preference_by_hand() -> None:
    """Orthogonal gradients: w_i ∝ p_i/‖g_i‖². The preference counts after the normalisation."""
    squared, preference = tensor(4, 1, 0.25), (1.0, 2.0, 3.0)
    for normalisation, expected in (("none", tensor(0.25, 2, 12)), ("l2", tensor(0.5, 2, 6))):
        mgda = MGDA("paper", normalisation, preference)  # type: ignore[arg-type]
        weights = mgda.step(signal(LOSSES[:3], squared.diag()), State()).weights
        torch.testing.assert_close(weights / weights[0], expected / expected[0])
    with pytest.raises(ValueError, match="`preference` must be finite and > 0"):
        MGDA(preference=(0.0, 1.0))
