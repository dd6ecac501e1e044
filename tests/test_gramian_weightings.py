"""The field of weightings on Gramians beyond the first eight: what defines each of them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from cases import for_every
from gramians import DEGENERATE, DEPENDENT, FAMILIES, REGULAR, SIZES, gramian, jacobian, least_eigenvalue
from scipy.optimize import minimize
from signals import LOSSES, signal, tensor

from methods.contract import State
from methods.rows import gramian_of
from methods.weightings.aligned_mtl import AlignedMTL, alignment
from methods.weightings.fairgrad import FairGrad, fair_weights
from methods.weightings.gradvac import VANISHING, GradVac, vaccinated_weights
from methods.weightings.nash_mtl import bargaining_weights
from methods.weightings.pcgrad import projected_weights
from methods.weightings.rounding import FLOAT32_EPSILON, above_rounding
from methods.weightings.upgrad import OPTIMALITY, UPGrad, unconflicting_weights

ZOO = [(kind, m) for kind in REGULAR + DEGENERATE for m in SIZES]
REGULAR_ZOO = [(kind, m) for kind in REGULAR for m in SIZES]


# GradVac


def explicit_vaccine(
    rows: np.ndarray, orders: np.ndarray, targets: np.ndarray, beta: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wang et al. (2021), Algorithm 1, on the gradients themselves, task by task."""
    targets, total = targets.copy(), np.zeros(rows.shape[1])
    norms = np.linalg.norm(rows, axis=1)
    for i, order in enumerate(orders):
        g, gross = rows[i].copy(), norms[i]
        for j in order:
            size = np.linalg.norm(g)
            if j == i or not size > np.sqrt(VANISHING) * gross or norms[j] == 0:
                continue
            cosine = np.clip(g @ rows[j] / (size * norms[j]), -1, 1)
            goal = targets[i, j]
            if cosine < goal:
                rise = goal * np.sqrt(1 - cosine**2) - cosine * np.sqrt(1 - goal**2)
                share = size * rise / (norms[j] * np.sqrt(1 - goal**2))
                g, gross = g + share * rows[j], gross + abs(share) * norms[j]
            targets[i, j] = (1 - beta) * goal + beta * cosine
        total += g
    return total, targets


@pytest.mark.slow
@for_every("kind, m", [(kind, m) for kind, m in ZOO if m <= 40])
def test_gradvac_is_the_published_procedure(kind: str, m: int) -> None:
    """Three steps with the state carried, the same orders on both sides."""
    rows = jacobian(kind, m)
    gram = torch.from_numpy(rows @ rows.T)
    ours, theirs = torch.zeros(m, m, dtype=torch.float64), np.zeros((m, m))
    scale = max(np.linalg.norm(rows, axis=1).max(), 1e-300)
    for step in range(3):
        orders = np.stack([np.random.default_rng([step, i]).permutation(m) for i in range(m)])
        weights, ours, _ = vaccinated_weights(gram, torch.from_numpy(orders), ours, 0.2)
        total, theirs = explicit_vaccine(rows, orders, theirs, 0.2)
        size = max(scale, float(np.abs(weights.numpy()) @ np.linalg.norm(rows, axis=1)))
        np.testing.assert_allclose(weights.numpy() @ rows / size, total / size, atol=1e-6)
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)


def test_gradvac_starts_as_pcgrad_and_reaches_its_targets() -> None:
    gram = gramian("opposed", 11)
    orders = torch.rand(11, 11, generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    zeros = torch.zeros(11, 11, dtype=torch.float64)
    torch.testing.assert_close(vaccinated_weights(gram, orders, zeros, 0.5)[0], projected_weights(gram, orders))
    pair, goal = tensor(4.0, -1.0, -1.0, 1.0).reshape(2, 2), torch.full((2, 2), 0.6, dtype=torch.float64)
    first_meets = torch.tensor([[0, 1], [1, 0]])
    weights, _, _ = vaccinated_weights(pair, first_meets, goal, 0.5)
    # By hand: g_1 + a g_2 with cosine 0.6 to g_2, and likewise for g_2.
    a = 2 * (0.6 * np.sqrt(0.75) + 0.5 * 0.8) / 0.8
    b = 1 * (0.6 * np.sqrt(0.75) + 0.5 * 0.8) / (2 * 0.8)
    torch.testing.assert_close(weights, tensor(1 + b, 1 + a))
    turned = tensor(1.0, a)
    assert (turned @ pair)[1] / (turned @ pair @ turned).sqrt() == pytest.approx(0.6)


def test_gradvac_counts_pairs_without_a_cosine_and_targets_out_of_reach() -> None:
    vac = GradVac()
    zero = vac.step(signal(LOSSES[:3], gramian("zero row", 3)), vac.init(3))
    assert zero.fallbacks == 1 and zero.state.memory["targets"][0].eq(0).all()
    ones = State(memory={"targets": torch.ones(2, 2, dtype=torch.float64)})
    unreachable = vac.step(signal(LOSSES[:2], torch.eye(2, dtype=torch.float64)), ones)
    assert unreachable.fallbacks == 1 and unreachable.weights.tolist() == [1.0, 1.0]
    assert vac.step(signal(LOSSES[:3], gramian("random", 3)), vac.init(3)).fallbacks == 0
    with pytest.raises(ValueError, match=r"`beta` must be from 0 to 1, found 1\.5"):
        GradVac(1.5)


# Aligned-MTL


@for_every("m", SIZES)
@for_every("kind", ["random", "aligned", "opposed"])
def test_aligned_gradients_are_orthogonal_and_of_one_length(kind: str, m: int) -> None:
    rows = torch.from_numpy(jacobian(kind, m))
    gram = rows @ rows.T
    values = torch.linalg.eigvalsh(gram)
    for scale, squared in {"min": values[0], "median": values[(m - 1) // 2], "rmse": values.mean()}.items():
        balance, rank = alignment(gram, scale)  # type: ignore[arg-type]
        assert rank == m
        singular = torch.linalg.svdvals(balance @ rows)
        assert singular.max() / singular.min() == pytest.approx(1.0, abs=1e-8)
        torch.testing.assert_close(singular, squared.sqrt().expand(m), rtol=1e-8, atol=0)


def test_aligned_mtl_uses_the_weights_of_its_user_and_scales_with_the_gradients() -> None:
    gram = gramian("random", 3)
    balance, _ = alignment(gram, "rmse")
    weighted = AlignedMTL("rmse", (1.0, 2.0, 0.0)).step(signal(LOSSES[:3], gram), State())
    torch.testing.assert_close(weighted.weights, balance @ tensor(1.0, 2.0, 0.0))
    assert weighted.fallbacks == 0
    torch.testing.assert_close(alignment(1e6 * gram, "min")[0], alignment(gram, "min")[0])
    diagonal, _ = alignment(torch.diag(tensor(16.0, 4.0, 1.0)), "min")
    torch.testing.assert_close(diagonal, torch.diag(tensor(0.25, 0.5, 1.0)))


@for_every("kind", DEGENERATE)
def test_aligned_mtl_aligns_the_span_of_dependent_gradients_and_counts(kind: str) -> None:
    rows = torch.from_numpy(jacobian(kind, 11))
    update = AlignedMTL().step(signal(torch.ones(11, dtype=torch.float64), rows @ rows.T), State())
    assert update.fallbacks == 1
    balance, rank = alignment(rows @ rows.T, "min")
    if kind == "zero":
        assert rank == 0 and update.weights.tolist() == [1.0] * 11
        return
    singular = torch.linalg.svdvals(balance @ rows)
    assert 0 < rank < 11 and singular[rank - 1] / singular[0] == pytest.approx(1.0, abs=1e-6)
    assert (singular[rank:] < 1e-6 * singular[0]).all()


def test_aligned_mtl_jumps_where_single_precision_loses_the_shorter_gradient() -> None:
    """At the ratio of norms, and by the factor, that docs/weightings.md names."""
    bound = np.sqrt(2 * np.finfo(np.float32).eps)
    assert bound == pytest.approx(4.9e-4, rel=0.01)
    lengths, counted = [], []
    for ratio in (bound * (1 - 1e-3), bound * (1 + 1e-3)):
        rows = torch.diag(tensor(1.0, ratio))
        update = AlignedMTL().step(signal(LOSSES[:2], gramian_of(rows.float())), State())
        lengths.append(float((update.weights @ rows).norm()))
        counted.append(update.fallbacks)
    assert lengths == pytest.approx([1.0, np.sqrt(2) * bound * (1 + 1e-3)], rel=1e-5)
    assert counted == [1, 0] and lengths[0] / lengths[1] == pytest.approx(1400, rel=0.05)


# FairGrad


@for_every("alpha", [0.5, 1.0, 2.0, 5.0])
@for_every("kind, m", REGULAR_ZOO)
def test_fairgrad_solves_its_equation(kind: str, m: int, alpha: float) -> None:
    gram = gramian(kind, m).numpy()
    weights, fallback = fair_weights(gram, alpha)
    assert not fallback and weights.min() > 0
    pulls = weights ** (1 / alpha)
    # Norms over twelve orders: a gain may be the difference of terms that are larger than doubles can tell.
    rounding = 64 * np.finfo(np.float64).eps * pulls * (np.abs(gram) @ weights) if kind == "spread" else 0.0
    assert (np.abs(pulls * (gram @ weights) - 1) <= 1e-8 + rounding).all()


@for_every("kind, m", REGULAR_ZOO)
def test_fairgrad_of_one_is_nash(kind: str, m: int) -> None:
    gram = gramian(kind, m).numpy()
    np.testing.assert_allclose(fair_weights(gram, 1.0)[0], bargaining_weights(gram)[0], rtol=1e-6)


def test_fairgrad_by_hand_and_under_scaling() -> None:
    """Orthogonal: w = ‖g‖^(−2α/(1+α)). All gradients c times as long: w times c^(−2α/(1+α))."""
    squared = np.array([16.0, 4.0, 1.0])
    for alpha in (0.5, 1.0, 2.0, 5.0):
        np.testing.assert_allclose(fair_weights(np.diag(squared), alpha)[0], squared ** (-alpha / (1 + alpha)))
        gram = gramian("random", 5).numpy()
        scaled = fair_weights(1e8 * gram, alpha)[0]
        np.testing.assert_allclose(scaled, 1e8 ** (-alpha / (1 + alpha)) * fair_weights(gram, alpha)[0], rtol=1e-8)


def test_fairgrad_as_released_is_m_times_as_long_and_then_clipped() -> None:
    """Orthogonal, of norms 4, 2 and 1: w = ‖g‖^(−4/3), and the combination is as long as √Σ‖g‖^(−2/3)."""
    gram, weights = torch.diag(tensor(16.0, 4.0, 1.0)), tensor(4.0, 2.0, 1.0) ** (-4 / 3)
    length = float((tensor(4.0, 2.0, 1.0) ** (-2 / 3)).sum().sqrt())
    by_setting = [
        (FairGrad(), weights / length, "plain"),
        (FairGrad(max_norm=0.0), 3 * weights, "plain"),
        (FairGrad(max_norm=2.0), 2 * weights / length, "plain"),
        (FairGrad(max_norm=10.0), 3 * weights, "plain"),
        (FairGrad(variant="paper"), weights, "weighted"),
    ]
    for fairgrad, expected, heads in by_setting:
        torch.testing.assert_close(fairgrad.step(signal(LOSSES[:3], gram), State()).weights, expected)
        assert fairgrad.heads == heads


def test_fairgrad_counts_what_has_no_solution() -> None:
    for kind in ("zero row", "zero"):
        update = FairGrad().step(signal(LOSSES[:3], gramian(kind, 3)), State())
        assert update.fallbacks == 1 and update.weights[0] == 0
    stationary = FairGrad().step(signal(LOSSES[:2], tensor(1, -1, -1, 1).reshape(2, 2)), State())
    assert stationary.fallbacks == 1 and torch.isfinite(stationary.weights).all()
    torch.testing.assert_close(stationary.weights[0], stationary.weights[1])


# UPGrad


@for_every("precision", ["double", "single"])
@for_every("kind, m", [(kind, m) for kind in FAMILIES for m in SIZES])
def test_upgrad_does_not_conflict(kind: str, m: int, precision: Literal["double", "single"]) -> None:
    """To 1e-8 for independent gradients, else to the rounding of single precision; never counted."""
    gram = gramian(kind, m, precision).numpy()
    weights, missed = unconflicting_weights(gram)
    assert not missed
    norms = np.sqrt(gram.diagonal())
    share = norms * np.abs(weights)
    tolerance = OPTIMALITY if least_eigenvalue(gram) > m * FLOAT32_EPSILON else m * FLOAT32_EPSILON
    assert (gram @ weights >= -tolerance * norms * share.sum()).all()


@for_every("kind", REGULAR + DEPENDENT)
def test_upgrad_is_the_same_for_few_and_for_many_tasks(kind: str) -> None:
    """Up to some number of tasks, one call solves all projections; both ways find the same combination."""
    rows = jacobian(kind, 13)
    cosines = rows @ rows.T
    padded = np.zeros((40, 40))
    padded[:13, :13], padded[13:, 13:] = cosines, np.eye(27)  # 27 tasks that don't concern the 13
    few, many = unconflicting_weights(cosines)[0], unconflicting_weights(padded)[0][:13]
    scale = max(np.linalg.norm(rows, axis=1).max(), 1e-300)
    # Where sparse gradients cancel, the update has its length from what is added to the diagonal, which depends on m.
    tolerance = np.sqrt(40 * FLOAT32_EPSILON) if kind == "sparse" else 1e-4
    np.testing.assert_allclose(40 * many @ rows / scale, 13 * few @ rows / scale, atol=tolerance)


def layer_gradients(m: int, samples: int, units: int, seed: int) -> np.ndarray:
    """Of a ReLU layer in float32, where each task reads three units."""
    generator = torch.Generator().manual_seed(seed)
    inputs, layer = torch.randn(samples, 20, generator=generator), torch.randn(units, 20, generator=generator)
    heads = torch.randn(m, units, generator=generator)
    heads *= torch.rand(m, units, generator=generator).argsort(dim=1).argsort(dim=1) < 3
    features = torch.relu(inputs @ layer.requires_grad_().T).mean(dim=0)
    return np.stack([torch.autograd.grad(features @ q, layer, retain_graph=True)[0].flatten().numpy() for q in heads])


# By seeds, gradients for which block pivoting doesn't settle.
SPARSE = {f"sparse {m} {seed}": (m, seed) for m, seed in ((13, 22), (13, 76), (24, 3), (24, 13), (40, 0), (100, 3))}
# For gradients of one sample, signs by least squares are wrong as well.
LAYERS = {"layer": (40, 64, 16, 3), "one sample": (40, 1, 64, 8), "one sample, many tasks": (100, 1, 64, 4)}


@for_every("kind", [*SPARSE, *LAYERS])
def test_upgrad_of_sparse_gradients(kind: str) -> None:
    """Weights can't run along null directions: what a projection may have of length and conflict is absolute."""
    rows = jacobian("sparse", *SPARSE[kind]) if kind in SPARSE else layer_gradients(*LAYERS[kind])
    single = torch.from_numpy(rows).float()
    gram, rows = gramian_of(single).numpy(), single.double().numpy()
    weights, missed = unconflicting_weights(gram)
    assert not missed
    m, norms = len(rows), np.linalg.norm(rows, axis=1)
    update, tolerance = weights @ rows, np.sqrt(m * FLOAT32_EPSILON)
    assert np.linalg.norm(update) <= norms.mean()
    assert (rows @ update >= -tolerance * norms * norms.mean()).all()
    assert (weights * norms <= norms.mean() / tolerance)[norms > 0].all()
    order = np.random.default_rng(m).permutation(m)
    permuted = unconflicting_weights(gram[order[:, None], order])[0] @ rows[order]
    scaled = unconflicting_weights(1e-8 * gram)[0] @ rows
    for same in (permuted, scaled):
        assert np.linalg.norm(same - update) <= 1e-5 * norms.mean()


def projection_by_minimisation(rows: np.ndarray, i: int) -> np.ndarray:
    """The point nearest to g_i with J x ≥ 0, by a general solver on its dual: min ‖g_i + Jᵀs‖², s ≥ 0."""
    found = minimize(
        lambda s: 0.5 * np.square(rows[i] + s @ rows).sum(),
        np.zeros(len(rows)),
        jac=lambda s: rows @ (rows[i] + s @ rows),
        bounds=[(0, None)] * len(rows),
        method="L-BFGS-B",
        options={"ftol": 1e-16, "gtol": 1e-11, "maxiter": 20000, "maxfun": 100000},
    )
    return np.asarray(rows[i] + found.x @ rows)


@for_every("kind", ["random", "aligned", "opposed", "duplicated", "low rank", "zero row"])
@for_every("m", [2, 3, 11])
def test_upgrad_is_the_mean_of_the_projections(kind: str, m: int) -> None:
    rows = jacobian(kind, m)
    expected = np.mean([projection_by_minimisation(rows, i) for i in range(m)], axis=0)
    weights, _ = unconflicting_weights(rows @ rows.T)
    scale = np.linalg.norm(rows, axis=1).max()
    np.testing.assert_allclose(weights @ rows / scale, expected / scale, atol=1e-5)


def test_upgrad_of_two_tasks_by_hand() -> None:
    """Each of two conflicting gradients loses its part along the other; without conflict the mean is left."""
    a, b = np.array([3.0, 0.0]), np.array([-1.0, 2.0])
    gram = np.array([[a @ a, a @ b], [a @ b, b @ b]])
    weights, _ = unconflicting_weights(gram)
    np.testing.assert_allclose(weights, [(1 + 3 / 9) / 2, (1 + 3 / 5) / 2])
    np.testing.assert_allclose(unconflicting_weights(gramian("aligned", 5).numpy())[0], 0.2)
    assert UPGrad().step(signal(LOSSES, gramian("zero", 4)), State()).weights.tolist() == [0.25] * 4


def test_upgrad_is_linear_under_scaling() -> None:
    """Projections are linear in the length of each gradient: lengths c_i leave w·g_i's direction parts to add up."""
    rows, factors = jacobian("random", 5), np.array([1e-3, 1.0, 2.0, 10.0, 1e3])
    parts = []
    for i in range(5):
        chosen = np.where(np.arange(5) == i, 1.0, 1e-150)  # the others have next to no length, but still a direction
        scaled = rows * chosen[:, None]
        parts.append(unconflicting_weights(scaled @ scaled.T)[0] @ scaled)
    scaled = rows * factors[:, None]
    weights, _ = unconflicting_weights(scaled @ scaled.T)
    np.testing.assert_allclose(weights @ scaled, factors @ np.array(parts), rtol=1e-8)


def test_eigenvalues_are_cut_where_float32_ends() -> None:
    """Relative to the largest, and by the number of tasks; of no gradient at all, nothing is left."""
    m = 3
    eigenvalues = np.array([0.9, 1.1 * m, 1e9]) * [m * FLOAT32_EPSILON, FLOAT32_EPSILON, 1e-9]
    assert above_rounding(eigenvalues).tolist() == above_rounding(1e6 * eigenvalues).tolist() == [False, True, True]
    assert not above_rounding(np.zeros(m)).any() and not above_rounding(np.array([-1e-9, 0.0])).any()
