"""Weightings: what defines each of them, on a zoo of Gramians and in closed form."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from cases import for_every
from gramians import DEGENERATE, REGULAR, SIZES, gramian, jacobian
from torch import Tensor

from methods import WEIGHTINGS
from methods.contract import Signal, State, Update, Weighting
from methods.weightings.adam import adam_memory, adam_step
from methods.weightings.cagrad import CAGrad, Variant, conflict_averse_weights, conflict_weights
from methods.weightings.clipping import clipped_weights
from methods.weightings.gradnorm import GradNorm, balanced_weights, gradnorm_slope, training_rates
from methods.weightings.imtl import IMTL, equal_projection_weights, log_scale_slope
from methods.weightings.mgda import MGDA, min_norm_weights
from methods.weightings.nash_mtl import NashMTL, bargaining_weights
from methods.weightings.pcgrad import PCGrad, projected_weights
from methods.weightings.uw import UW, uncertainty_slope

ZOO = [(kind, m) for kind in REGULAR + DEGENERATE for m in SIZES]
REGULAR_ZOO = [(kind, m) for kind in REGULAR for m in SIZES]
# These draw from the generator, so permuted tasks are equal only in distribution.
DRAWN = ("pcgrad", "graddrop", "gradvac", "rlw")
VARIANTS: tuple[Variant, ...] = ("released", "paper")
# Any number or text will do.
UNCHECKED = ("initial_log_variance", "reference", "source", "source_seeds")


def signal(gram: Tensor, losses: Tensor | None = None, step: int = 0, seed: int = 0) -> Signal:
    """One step with this Gramian. The Jacobian is its symmetric root: permuted tasks permute its rows and columns."""
    losses = torch.linspace(0.5, 2.0, len(gram), dtype=torch.float64) if losses is None else losses
    norms = gram.diagonal().sqrt()
    inverse_norms = torch.where(norms > 0, 1 / norms, 0.0)
    eigenvalues, vectors = torch.linalg.eigh(gram * torch.outer(inverse_norms, inverse_norms))
    rows = norms.unsqueeze(1) * (vectors * eigenvalues.clamp_min(0).sqrt()) @ vectors.T
    return Signal(losses, gram, step, 0, torch.Generator().manual_seed(seed), rows, cross_gramian=gram)


def first_update(weighting: Weighting, gram: Tensor) -> Update:
    return weighting.step(signal(gram), weighting.init(len(gram)))


@for_every("name", WEIGHTINGS)
@for_every("kind, m", ZOO)
def test_weights_are_finite_whatever_the_gramian(name: str, kind: str, m: int) -> None:
    weighting = WEIGHTINGS[name].factory()
    update = first_update(weighting, gramian(kind, m))
    assert update.weights.shape == (m,) and update.weights.dtype == torch.float64
    assert torch.isfinite(update.weights).all()
    if update.direction is not None:
        assert weighting.needs == "jacobian" and torch.isfinite(update.direction).all()
    if weighting.heads == "own":
        assert update.head_weights is not None and torch.isfinite(update.head_weights).all()


@for_every("name", [name for name in WEIGHTINGS if name not in DRAWN])
@for_every("kind", REGULAR)
def test_tasks_have_no_order(name: str, kind: str) -> None:
    """Permuted tasks get permuted weights."""
    gram = gramian(kind, 11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(3))
    weighting = WEIGHTINGS[name].factory()
    losses = torch.linspace(0.5, 2.0, 11, dtype=torch.float64)
    straight = weighting.step(signal(gram, losses), weighting.init(11)).weights
    permuted = weighting.step(signal(gram[order][:, order], losses[order]), weighting.init(11)).weights
    torch.testing.assert_close(permuted, straight[order], rtol=1e-6, atol=1e-9)


@for_every("name", WEIGHTINGS)
def test_options_are_checked(name: str) -> None:
    for field in dataclasses.fields(WEIGHTINGS[name].factory):
        wrong: object = "nonsense" if isinstance(field.default, str) else -1
        if isinstance(field.default, tuple):
            wrong = (1.0, -1.0)
        if name == "frozen" and field.name == "weights":
            wrong = (0.0, 0.0)  # those of some methods are negative
        if field.name in UNCHECKED:
            continue
        with pytest.raises(ValueError, match=f"`{field.name}` must be"):
            WEIGHTINGS[name].factory(**{field.name: wrong})


@for_every("kind", REGULAR)
@for_every("name, power", [("mgda", 0), ("imtl", 0), ("cagrad", 0), ("pcgrad", 0), ("nash_mtl", -1)])
def test_gradients_of_another_scale(name: str, power: int, kind: str) -> None:
    """All gradients s times as long: the same weights, but for the bargain, whose update keeps its length."""
    gram, weighting = gramian(kind, 11), WEIGHTINGS[name].factory()
    for scale in (1e-3, 1e4):
        scaled = first_update(weighting, scale**2 * gram).weights / scale**power
        torch.testing.assert_close(scaled, first_update(weighting, gram).weights, rtol=1e-6, atol=1e-12)


@for_every("cosine", [-0.9, -1 + 1e-3, -1 + 1e-6])
def test_two_nearly_opposed_tasks_by_hand(cosine: float) -> None:
    """Norms 1 and 100: by symmetry every method that is blind to norms weighs them as 1 : 1/100."""
    gram = np.array([[1.0, 100 * cosine], [100 * cosine, 1e4]])
    alpha, fallback = bargaining_weights(gram)
    assert not fallback
    np.testing.assert_allclose(alpha * [1, 100], 1 / np.sqrt(1 + cosine), rtol=1e-6)
    np.testing.assert_allclose(alpha * (gram @ alpha), 1.0, atol=1e-8)
    balance, degenerate = equal_projection_weights(torch.from_numpy(gram))
    assert not degenerate and float(balance[0] / balance[1]) == pytest.approx(100, rel=1e-6)


@for_every("kind, m", ZOO)
def test_mgda_is_the_shortest_combination(kind: str, m: int) -> None:
    """KKT: no task's gradient has a smaller product with the combination than the combination itself."""
    gram = gramian(kind, m).numpy()
    w = min_norm_weights(gram)
    assert w.min() >= 0 and abs(w.sum() - 1) < 1e-9
    products = gram @ w
    assert w @ products - products.min() <= 1e-8 * max(gram.diagonal().max(), 1e-300)


def test_mgda_two_tasks_closed_form() -> None:
    a, b = np.array([3.0, 0.0]), np.array([1.0, 2.0])
    gram = np.array([[a @ a, a @ b], [a @ b, b @ b]])
    expected = (b - a) @ b / ((b - a) @ (b - a))  # Sener, Koltun (2018), Algorithm 1
    np.testing.assert_allclose(min_norm_weights(gram), [expected, 1 - expected], atol=1e-12)


def test_mgda_normalisations_are_that_of_scaled_gradients() -> None:
    gram, losses = gramian("spread", 5), torch.linspace(0.5, 2.0, 5, dtype=torch.float64)
    norms = gram.diagonal().sqrt()
    for normalisation, scale in {"l2": norms, "loss": losses, "loss+": norms * losses}.items():
        shares = torch.from_numpy(min_norm_weights((gram / torch.outer(scale, scale)).numpy()))
        published = MGDA("paper", normalisation).step(signal(gram, losses), State())  # type: ignore[arg-type]
        torch.testing.assert_close(published.weights, shares / scale)
        released = MGDA("released", normalisation).step(signal(gram, losses), State())  # type: ignore[arg-type]
        torch.testing.assert_close(released.weights, shares)
    assert torch.equal(MGDA().step(signal(gram, losses), State()).weights, released.weights)
    assert MGDA("paper").heads == "plain" and MGDA().heads == "weighted"


def test_only_the_published_mgda_rests_where_gradients_cancel() -> None:
    """Opposed gradients of norms 1 and 2, equal losses: the released weights are ½, and the update is −½."""
    gram = torch.tensor([[1.0, -2.0], [-2.0, 4.0]], dtype=torch.float64)
    for variant, squared in {"paper": 0.0, "released": 0.25}.items():
        weighting = MGDA(variant)  # type: ignore[arg-type]
        weights = weighting.step(signal(gram, torch.ones(2, dtype=torch.float64)), State()).weights
        assert float(weights @ gram @ weights) == pytest.approx(squared, abs=1e-12)


@for_every("kind, m", REGULAR_ZOO)
def test_nash_solves_the_bargain(kind: str, m: int) -> None:
    gram = gramian(kind, m).numpy()
    alpha, fallback = bargaining_weights(gram)
    assert not fallback and alpha.min() > 0
    np.testing.assert_allclose(alpha * (gram @ alpha), 1.0, atol=1e-8)
    assert np.sqrt(alpha @ gram @ alpha) == pytest.approx(np.sqrt(m), rel=1e-8)


@for_every("kind", ["zero row", "zero"])
def test_nash_counts_what_has_no_bargain(kind: str) -> None:
    update = first_update(NashMTL(), gramian(kind, 3))
    assert update.fallbacks == 1
    assert update.weights[0] == 0


def test_nash_counts_pareto_stationary_points() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    update = first_update(NashMTL(), rows @ rows.T)
    assert update.fallbacks == 1
    torch.testing.assert_close(update.weights[0], update.weights[1])


@for_every("scale", [1e-6, 0.1, 1e6])
def test_clipping_shortens_and_never_lengthens(scale: float) -> None:
    gram = scale * gramian("random", 4).numpy()
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    norm = np.sqrt(weights @ gram @ weights)
    clipped = clipped_weights(weights, gram, 1.0)
    np.testing.assert_allclose(clipped, weights / max(norm, 1.0))
    assert clipped_weights(weights, gram, 0.0) is weights


def test_nash_clips_the_shared_part_only() -> None:
    gram = gramian("random", 3)
    clipped = first_update(NashMTL(max_norm=1.0), gram)
    free = first_update(NashMTL(max_norm=0.0), gram)
    assert clipped.weights @ gram @ clipped.weights == pytest.approx(1.0)
    assert clipped.head_weights is not None
    torch.testing.assert_close(clipped.head_weights, free.weights)


# The limit of IMTL is relative to the largest eigenvalue, so it takes 100 gradients of this family as dependent.
@for_every("kind, m", [case for case in REGULAR_ZOO if case != ("opposed 1e-4", 100)])
def test_imtl_projections_are_equal(kind: str, m: int) -> None:
    gram = gramian(kind, m)
    weights, degenerate = equal_projection_weights(gram)
    assert not degenerate and weights.sum() == pytest.approx(1.0)
    projections = gram @ weights / gram.diagonal().sqrt()
    torch.testing.assert_close(projections, projections.mean().expand(m), rtol=1e-6, atol=0)


def test_imtl_parts() -> None:
    gram, losses = gramian("random", 4), torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
    scaled = State({**IMTL().init(4).memory, "log_scales": losses.log().neg()})
    loss_only = IMTL("loss").step(signal(gram, losses), scaled)
    torch.testing.assert_close(loss_only.weights, 1 / losses)
    resting = loss_only.state.memory["log_scales"]
    torch.testing.assert_close(resting, scaled.memory["log_scales"], rtol=0, atol=1e-7)  # e^s L = 1 is IMTL-L's rest
    full = IMTL("full").step(signal(gram, losses), scaled)
    balance, _ = equal_projection_weights(gram / torch.outer(losses, losses))
    torch.testing.assert_close(full.weights, balance / losses)
    assert IMTL("loss").needs == "losses" and not IMTL("gradient").init(4).memory


def test_imtl_counts_what_has_no_equal_projection() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    update = first_update(IMTL("gradient"), rows @ rows.T)
    assert update.fallbacks == 1
    assert update.weights.tolist() == [0.5, 0.5]


@for_every("c", [0.2, 0.4, 0.8, 1.5])
@for_every("kind, m", ZOO)
def test_cagrad_minimises_its_dual(kind: str, m: int, c: float) -> None:
    """Optimality on the simplex: the objective is convex, so no vertex may have a smaller slope than w itself."""
    gram = gramian(kind, m).numpy()
    w = conflict_weights(gram, c)
    assert w.min() >= 0 and abs(w.sum() - 1) < 1e-9
    norm = np.sqrt(max(w @ gram @ w, 0.0))
    # Where the norm vanishes the objective has a kink; `test_cagrad_on_a_grid` covers that.
    if norm > 1e-7 * np.sqrt(gram.diagonal().max()):
        slope = gram.mean(axis=1) + c * np.sqrt(max(gram.mean(), 0.0)) / norm * (gram @ w)
        assert w @ slope - slope.min() <= 1e-9 * np.abs(gram).max()


@for_every("kind", REGULAR + DEGENERATE)
def test_cagrad_on_a_grid(kind: str) -> None:
    gram = gramian(kind, 3).numpy()

    def objective(w: np.ndarray) -> np.ndarray:
        norms = np.sqrt(np.maximum(np.einsum("ni,ij,nj->n", w, gram, w), 0))
        return w @ gram.mean(axis=1) + 0.4 * np.sqrt(max(gram.mean(), 0)) * norms

    ticks = np.linspace(0, 1, 201)
    grid = np.array([(a, b, 1 - a - b) for a in ticks for b in ticks if a + b <= 1 + 1e-12])
    found = objective(conflict_weights(gram, 0.4)[None])[0]
    assert found <= objective(grid).min() + 1e-9 * np.abs(gram).max()


def test_cagrad_limits() -> None:
    gram = gramian("random", 4).numpy()
    np.testing.assert_allclose(conflict_averse_weights(gram, 0.0, "none")[0], 0.25)
    rows = jacobian("random", 4)
    for rescale, factor in {"none": 1.0, "1+c^2": 1.16, "1+c": 1.4}.items():
        weights, _ = conflict_averse_weights(gram, 0.4, rescale)  # type: ignore[arg-type]
        mean = rows.mean(axis=0)
        distance = np.linalg.norm(factor * (weights @ rows) - mean)
        assert distance == pytest.approx(0.4 * np.linalg.norm(mean))  # on the ball's surface
    released, published = (first_update(CAGrad(0.4, variant), torch.from_numpy(gram)) for variant in VARIANTS)
    torch.testing.assert_close(released.weights, 4 / 1.16 * published.weights)
    torch.testing.assert_close(published.weights, torch.from_numpy(conflict_averse_weights(gram, 0.4, "none")[0]))
    opposed = first_update(CAGrad(), torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64))
    assert torch.isfinite(opposed.weights).all()


@for_every("kind, m", ZOO)
def test_pcgrad_is_the_published_procedure(kind: str, m: int) -> None:
    rows = jacobian(kind, m)
    orders = np.stack([np.random.default_rng([m, i]).permutation(m) for i in range(m)])
    total = np.zeros(rows.shape[1])
    for i in range(m):
        g = rows[i].copy()
        for j in orders[i]:
            if j != i and g @ rows[j] < 0:
                g -= g @ rows[j] / (rows[j] @ rows[j]) * rows[j]
        total += g
    weights = projected_weights(torch.from_numpy(rows @ rows.T), torch.from_numpy(orders)).numpy()
    scale = max(np.linalg.norm(rows, axis=1).max(), 1e-300)
    np.testing.assert_allclose(weights @ rows / scale, total / scale, atol=1e-7)


def test_pcgrad_without_conflict_is_the_sum_and_draws_from_its_generator() -> None:
    assert first_update(PCGrad(), gramian("aligned", 5)).weights.tolist() == [1.0] * 5
    gram = gramian("opposed", 11)
    same = [PCGrad().step(signal(gram, seed=1), State()).weights for _ in range(2)]
    other = PCGrad().step(signal(gram, seed=2), State()).weights
    assert torch.equal(*same) and not torch.equal(same[0], other)


def test_uw_rests_where_the_variance_is_the_loss() -> None:
    losses = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    state = State({**UW().init(3).memory, "log_variances": losses.log()})
    update = UW().step(Signal(losses, None, 0, 0, torch.Generator()), state)
    torch.testing.assert_close(update.state.memory["log_variances"], losses.log(), rtol=0, atol=1e-7)
    torch.testing.assert_close(update.weights, 0.5 / losses)


def test_slopes_of_learned_scales_are_the_derivatives_of_their_objectives() -> None:
    scales = torch.tensor([0.3, -0.2, 1.1], dtype=torch.float64, requires_grad=True)
    losses = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)
    uncertainty = (torch.exp(-scales) * losses / 2 + scales / 2).sum()  # Kendall et al., Eq. (7)
    impartial = (scales.exp() * losses - scales).sum()  # Liu et al., Eq. (8)
    for objective, slope in ((uncertainty, uncertainty_slope), (impartial, log_scale_slope)):
        (expected,) = torch.autograd.grad(objective, scales)
        torch.testing.assert_close(slope(scales.detach(), losses), expected)


def test_adam_is_that_of_torch() -> None:
    ours, memory = torch.tensor([0.5, -2.0], dtype=torch.float64), adam_memory(2)
    theirs = ours.clone().requires_grad_()
    optimizer = torch.optim.Adam([theirs], lr=0.1)
    for step in range(20):
        slope = torch.tensor([0.1 * step - 1, 1e-4 * (step + 1)], dtype=torch.float64)
        theirs.grad = slope
        optimizer.step()
        direction, moments = adam_step(memory, slope)
        ours, memory = ours - 0.1 * direction, moments
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-12, atol=0)


def test_adam_is_that_of_ieee_arithmetic_to_the_last_bit() -> None:
    """With numpy, whose roots are rounded correctly and whose powers are those of the C library."""
    rng, memory = np.random.default_rng(0), adam_memory(40)
    mean, square = np.zeros(40), np.zeros(40)
    for step in range(1, 30):
        slope = rng.normal(size=40) * 10.0 ** rng.uniform(-20, 20, size=40)
        mean, square = 0.9 * mean + (1 - 0.9) * slope, 0.999 * square + (1 - 0.999) * slope * slope
        expected = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        direction, memory = adam_step(memory, torch.from_numpy(slope))
        assert (direction.numpy() == expected).all() and int(memory["steps"]) == step


def test_gradnorm_gradient_equals_autograd_on_a_network() -> None:
    """∂/∂v Σ|w_i‖∇L_i‖ − target_i|, with the weighted norms taken by differentiating a real network."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(6, 3, dtype=torch.float64)
    inputs = torch.randn(10, 6, dtype=torch.float64)
    losses = layer(inputs).square().mean(dim=0)
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(x, layer.parameters(), retain_graph=True)]) for x in losses
    ]
    gram = torch.stack(rows) @ torch.stack(rows).T
    initial = torch.tensor([1.0, 0.5, 2.0], dtype=torch.float64)
    logits = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    rates, without = training_rates(losses.detach(), initial)
    ours = gradnorm_slope(balanced_weights(logits).detach(), gram.diagonal().sqrt(), rates, 1.5)
    assert not without
    weighted = [
        torch.cat([g.flatten() for g in torch.autograd.grad(w * x, layer.parameters(), create_graph=True)]).norm()
        for w, x in zip(balanced_weights(logits), losses, strict=True)
    ]
    norms = torch.stack(weighted)
    ratios = losses.detach() / initial
    targets = (norms.mean() * (ratios / ratios.mean()) ** 1.5).detach()
    plain = (norms - targets).abs().sum()
    torch.testing.assert_close(ours, torch.autograd.grad(plain, logits)[0])


def test_gradnorm_counts_losses_without_a_training_rate() -> None:
    """A first loss of 0 or a negative one made the objective infinite or NaN, and the weights after it."""
    method, gram = GradNorm(), gramian("random", 3)
    for first, now in (([1.0, 0.0, 2.0], [0.5, 0.3, 1.0]), ([1.0, -1.0, 2.0], [0.5, -2.0, 1.0])):
        update = method.step(signal(gram, torch.tensor(first).double()), method.init(3))
        assert update.fallbacks == 1
        for _ in range(3):
            update = method.step(signal(gram, torch.tensor(now).double()), update.state)
            assert update.fallbacks == 1 and torch.isfinite(update.weights).all()
    rates, without = training_rates(torch.tensor([0.5, 0.3, 1.0]).double(), torch.tensor([1.0, 0.0, 1.0]).double())
    assert without and rates.tolist() == pytest.approx([2 / 3, 1.0, 4 / 3])  # a missing rate is the mean of the others
    assert training_rates(torch.zeros(2).double(), torch.ones(2).double())[0].tolist() == [1.0, 1.0]


ORTHOGONAL = {
    "ew": [1.0, 1.0, 1.0],
    "uw": [0.5, 0.5, 0.5],
    "gradnorm": [1.0, 1.0, 1.0],
    "mgda": [4 / 93, 25 / 93, 64 / 93],  # as the squared losses: normalised gradients have the norms 2, 0.8 and 0.5
    "pcgrad": [1.0, 1.0, 1.0],
    "imtl": [1 / 7, 2 / 7, 4 / 7],  # inversely to the norms
    "nash_mtl": [0.25 / 3**0.5, 0.5 / 3**0.5, 1 / 3**0.5],  # unit gradients, clipped from norm √3 to 1
}


@for_every("name", ORTHOGONAL)
def test_orthogonal_gradients_of_norm_4_2_and_1_by_hand(name: str) -> None:
    gram = torch.diag(torch.tensor([16.0, 4.0, 1.0], dtype=torch.float64))
    expected = torch.tensor(ORTHOGONAL[name], dtype=torch.float64)
    torch.testing.assert_close(first_update(WEIGHTINGS[name].factory(), gram).weights, expected)


@for_every("name", WEIGHTINGS)
def test_state_is_tensors_and_settings_are_plain(name: str) -> None:
    weighting: Weighting = WEIGHTINGS[name].factory()
    assert all(isinstance(value, Tensor) for value in weighting.init(3).memory.values())
    json.dumps(dataclasses.asdict(weighting))  # type: ignore[call-overload]
