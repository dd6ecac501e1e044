"""Every Gramian weighting on the whole zoo: what defines it, symmetries, and fallbacks only where documented."""

from __future__ import annotations

import numpy as np
import torch
from cases import for_every
from gramians import DEPENDENT, FAMILIES, NEARLY_DEPENDENT, REGULAR, SIZES, gramian, jacobian, least_eigenvalue

from bench.profiling.gradients import OPPOSED
from methods import WEIGHTINGS
from methods.adapters.counterparts import COUNTERPARTS
from methods.contract import Signal, Update
from methods.optimality import CRITERIA
from methods.weightings.rounding import FLOAT32_EPSILON


@for_every("family, m", [(family, m) for family in FAMILIES for m in SIZES if m > 1])
def test_families_are_what_they_are_called(family: str, m: int) -> None:
    exact, single = gramian(family, m).numpy(), gramian(family, m, "single").numpy()
    np.testing.assert_allclose(single, exact, atol=1e-5 * max(exact.max(), 1e-300), rtol=0)
    rank = np.linalg.matrix_rank(jacobian(family, m))
    assert (rank < m) == (family in DEPENDENT)
    if family in REGULAR:
        assert least_eigenvalue(single) > m * FLOAT32_EPSILON
    if family in NEARLY_DEPENDENT and m >= 13:
        assert least_eigenvalue(exact) < m * FLOAT32_EPSILON
    norms = np.sqrt(exact.diagonal())
    half = np.arange(m // 2)
    if family in OPPOSED:
        cosines = exact[half, half + m - m // 2] / norms[half] / norms[half + m - m // 2]
        np.testing.assert_allclose(1 + cosines, OPPOSED[family], rtol=1e-5)
    if family == "spread":
        assert abs(norms.max() / norms.min() / 1e8 - 1) < 1e-6
    if family == "stationary":
        factors = np.append(-np.linalg.lstsq(jacobian(family, m)[:-1].T, jacobian(family, m)[-1], rcond=None)[0], 1)
        assert factors.min() > 0 and np.abs(factors @ jacobian(family, m)).max() < 1e-12 * norms.max()


def test_one_precision_is_the_default_and_neither_is_shared() -> None:
    gramian("random", 3).zero_()
    assert gramian("random", 3).abs().min() > 0
    assert not torch.equal(gramian("random", 3), gramian("random", 3, "single"))


# The methods of the papers, where the defaults are those of released code.
SETTINGS: dict[str, dict[str, object]] = {
    "mgda": {"normalisation": "none"},
    "cagrad": dict(COUNTERPARTS["cagrad"].settings),
    "fairgrad": dict(COUNTERPARTS["fairgrad"].settings),
    "imtl": {"variant": "gradient"},
}

# The registered weightings that map a Gramian to weights, by how weights change when all gradients
# are c times as long: w ~ c^power. Draws of an order are those of one seed.
POWERS = {
    "mgda": 0.0,
    "pcgrad": 0.0,
    "gradvac": 0.0,
    "cagrad": 0.0,
    "imtl": 0.0,
    "aligned_mtl": 0.0,
    "upgrad": 0.0,
}
# These scale their weights or clip them, so that the combination keeps its length.
CLIPPED = ("nash_mtl", "fairgrad")
GRAMIAN_METHODS = (*POWERS, *CLIPPED)
# These depend on an order that is drawn; `test_two_tasks_have_no_order` permutes what an order can't change.
ORDERED = ("pcgrad", "gradvac")

NEVER: frozenset[str] = frozenset()
ZERO = frozenset({"zero row", "zero"})
# Pareto-stationary, at least in single precision. Multiples of one gradient are if they have both signs.
CANCELLING = frozenset({"opposed 1e-8", "low rank", "stationary"})
UNDECIDED = frozenset({"opposed 1e-6", "rank 1", "sparse"})
# For each method, the families in which every step with at least two tasks is counted, and those in which some are.
COUNTED: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "mgda": (NEVER, NEVER),
    "pcgrad": (NEVER, NEVER),
    "gradvac": (ZERO, frozenset({"opposed 1e-8", "rank 1", "sparse"})),
    "cagrad": (frozenset({"zero row"}), CANCELLING),
    "imtl": (frozenset(("opposed 1e-8", "collinear", *DEPENDENT)) - {"zero row"}, frozenset({"opposed 1e-6"})),
    "aligned_mtl": (frozenset(("spread", "opposed 1e-8", "collinear", *DEPENDENT)), frozenset({"opposed 1e-6"})),
    "upgrad": (NEVER, NEVER),
    "nash_mtl": (CANCELLING | ZERO, UNDECIDED),
    "fairgrad": (CANCELLING | ZERO, UNDECIDED),
}


def step(name: str, gram: torch.Tensor, seed: int = 0) -> Update:
    weighting = WEIGHTINGS[name].factory(**SETTINGS.get(name, {}))
    losses = torch.ones(len(gram), dtype=torch.float64)
    signal = Signal(losses, gram, 0, 0, torch.Generator().manual_seed(seed))
    return weighting.step(signal, weighting.init(len(gram)))


def difference(family: str, m: int, first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two combinations of the gradients, relative to the sum of the lengths of their terms."""
    rows = jacobian(family, m)
    lengths = np.linalg.norm(rows, axis=1)
    terms = max(float(first.abs().numpy() @ lengths), float(second.abs().numpy() @ lengths), 1e-300)
    return float(np.linalg.norm((first - second).numpy() @ rows)) / terms


ZOO = [(family, m) for family in FAMILIES for m in SIZES if m <= 40]


@for_every("name", GRAMIAN_METHODS)
@for_every("family, m", ZOO)
def test_fallbacks_are_counted_only_where_documented(name: str, family: str, m: int) -> None:
    update = step(name, gramian(family, m, "single"))
    assert torch.isfinite(update.weights).all()
    always, sometimes = COUNTED[name]
    if m > 1 and family not in sometimes:
        assert (update.fallbacks > 0) == (family in always)


@for_every("name", [name for name in GRAMIAN_METHODS if name in CRITERIA])
@for_every("family, m", [(family, m) for family in REGULAR for m in SIZES if m <= 40])
def test_optimality_conditions_hold_on_single_precision(name: str, family: str, m: int) -> None:
    gram = gramian(family, m, "single").numpy()
    found = CRITERIA[name](gram, step(name, torch.from_numpy(gram)).weights.numpy())
    assert found <= 1e-6


@for_every("name", [name for name in GRAMIAN_METHODS if name not in ORDERED])
@for_every("family, m", [(family, m) for family in FAMILIES for m in (2, 3, 13)])
def test_permuted_tasks_have_the_same_combination(name: str, family: str, m: int) -> None:
    gram = gramian(family, m, "single")
    order = torch.randperm(m, generator=torch.Generator().manual_seed(m))
    permuted = torch.empty(m, dtype=torch.float64)
    permuted[order] = step(name, gram[order][:, order]).weights
    assert difference(family, m, permuted, step(name, gram).weights) <= 1e-5


@for_every("name", ORDERED)
@for_every("family", FAMILIES)
def test_two_tasks_have_no_order(name: str, family: str) -> None:
    gram = gramian(family, 2, "single")
    permuted = step(name, gram.flip(0, 1)).weights.flip(0)
    assert difference(family, 2, permuted, step(name, gram).weights) <= 1e-5


@for_every("name", GRAMIAN_METHODS)
@for_every("family, m", [(family, m) for family in FAMILIES for m in (2, 3, 13)])
def test_longer_gradients_change_weights_by_the_law_of_the_method(name: str, family: str, m: int) -> None:
    gram = gramian(family, m, "single")
    straight = step(name, gram).weights
    for scale in (1e-4, 1e4):
        scaled = step(name, scale**2 * gram).weights
        if name in CLIPPED:
            lengths = [float((w @ g @ w).clamp_min(0).sqrt()) for w, g in ((straight, gram), (scaled, gram))]
            scaled = scaled * (lengths[0] / lengths[1] if lengths[1] > 0 else 1.0)
        # Where gradients cancel, the length of the combination is known to less.
        assert difference(family, m, scaled, straight) <= (1e-3 if family in CANCELLING else 1e-5)


@for_every("name", [name for name in GRAMIAN_METHODS if name not in ORDERED])
@for_every("family, m", [(family, m) for family in ("random", "aligned", "opposed") for m in (2, 3, 13, 40)])
def test_noise_of_single_precision_has_no_large_effect(name: str, family: str, m: int) -> None:
    """Noise of 1e-7 on the gradients, where the solution is unique."""
    rows = jacobian(family, m)
    noisy = rows * (1 + 1e-7 * np.random.default_rng(m).normal(size=rows.shape))
    first, second = step(name, torch.from_numpy(rows @ rows.T)), step(name, torch.from_numpy(noisy @ noisy.T))
    assert difference(family, m, first.weights, second.weights) <= 1e-4
