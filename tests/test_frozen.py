"""Frozen twins: constant weights with the head rule and the clip of their method."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from training import prepared

from bench.engine.step import UNCLIPPED, train_step
from bench.engine.train_state import TrainState
from methods.contract import Signal, State, Update, clip_of
from methods.weightings.fairgrad import FairGrad
from methods.weightings.frozen import Frozen
from methods.weightings.nash_mtl import NashMTL

WEIGHTS = (0.4, 1.7, 0.0, 1.1)


@dataclasses.dataclass(frozen=True)
class ConstantNash(NashMTL):
    """Nash-MTL's step with constant α: the clip by the Gramian, and heads by α."""

    alpha: tuple[float, ...] = (3.0, 1.0, 2.0, 5.0)

    def step(self, signal: Signal, state: State) -> Update:
        from methods.weightings.clipping import clipped_weights

        alpha = torch.tensor(self.alpha, dtype=torch.float64)
        weights = clipped_weights(alpha.numpy(), signal.required_gramian().numpy(), self.max_norm)
        return Update(torch.from_numpy(weights), state, head_weights=alpha, unclipped=alpha)


def parameters(state: TrainState) -> list[Tensor]:
    return [*state.shared_parameters, *state.network.heads.parameters()]


def after_steps(state: TrainState, batch: object, count: int = 3) -> list[Tensor]:
    for step in range(count):
        train_step(state, batch, step, 0)  # type: ignore[arg-type]
    return parameters(state)


def swapped(state: TrainState, weighting: object) -> TrainState:
    """The state with another weighting and that one's head rule."""
    return dataclasses.replace(state, weighting=weighting, head_rule=weighting.heads)  # type: ignore[arg-type, attr-defined]


def test_a_twin_of_fixed_weights_is_fixed_to_the_last_bit(data_root: Path) -> None:
    fixed = after_steps(*prepared("fixed", data_root, **{"weighting.weights": list(WEIGHTS)}))
    frozen = after_steps(*prepared("frozen", data_root, **{"weighting.weights": list(WEIGHTS)}))
    assert all(torch.equal(a, b) for a, b in zip(fixed, frozen, strict=True))


def gradients_of(weighting: object, data_root: Path) -> tuple[list[Tensor], Tensor]:
    """Of a step in single precision: the gradients, and the weights applied."""
    state, batch = prepared("ew", data_root)
    state = swapped(state, weighting)
    result = train_step(state, batch, 0, 0)
    assert torch.equal(result.further[UNCLIPPED].double(), torch.tensor(ConstantNash().alpha).double())
    return [p.grad for p in parameters(state) if p.grad is not None], result.weights


@pytest.mark.parametrize("max_norm", [1.0, 1e3])
def test_a_twin_of_a_clipping_method_with_constant_weights_takes_its_step(data_root: Path, max_norm: float) -> None:
    """The clip by the norm of the gradient is that by the Gramian; a bound that is not reached clips nothing."""
    source = ConstantNash(max_norm)
    twin = Frozen(source.alpha, "own", source.alpha, max_norm)
    (theirs, their_weights), (ours, our_weights) = (gradients_of(one, data_root) for one in (source, twin))
    torch.testing.assert_close(our_weights, their_weights, rtol=1e-5, atol=0)
    assert (our_weights < torch.tensor(source.alpha)).all() == (max_norm == 1.0)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6 * float(b.abs().max()))


def test_heads_that_follow_the_weights_follow_the_clip(data_root: Path) -> None:
    state, batch = prepared("frozen", data_root, **{"weighting.max_norm": 0.01, "weighting.weights": [2.0]})
    other, _ = prepared("fixed", data_root, **{"weighting.weights": [2.0]})
    factor = float((train_step(state, batch, 0, 0).weights / 2)[0])
    train_step(other, batch, 0, 0)
    assert 0 < factor < 0.5
    for ours, plain in zip(parameters(state), parameters(other), strict=True):
        assert ours.grad is not None and plain.grad is not None
        torch.testing.assert_close(ours.grad, factor * plain.grad, rtol=1e-5, atol=1e-8)
    shared = torch.cat([p.grad.flatten() for p in state.shared_parameters if p.grad is not None])
    assert float(shared.norm()) == pytest.approx(0.01, rel=1e-5)


def test_micro_batches_are_clipped_as_one(data_root: Path) -> None:
    settings = {"weighting.max_norm": 0.5, "weighting.weights": list(WEIGHTS), "weighting.head_rule": "plain"}
    whole = train_step(*prepared("frozen", data_root, **settings), 0, 0).weights
    in_parts = train_step(*prepared("frozen", data_root, **settings, **{"train.accumulate": 2}), 0, 0).weights
    assert float(whole.max()) < 1.7
    # BatchNorm sees one part at a time, so the gradients are not the same.
    torch.testing.assert_close(in_parts, whole, rtol=0.5, atol=0)


def test_what_clips_says_to_which_norm() -> None:
    assert [clip_of(NashMTL()), clip_of(NashMTL(0.0)), clip_of(FairGrad()), clip_of(FairGrad(variant="paper"))] == [
        1.0,
        float("inf"),
        1.0,
        float("inf"),
    ]
    assert clip_of(Frozen()) == clip_of(Frozen(max_norm=0.0)) == float("inf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": (0.0, 0.0)}, "`weights` must be finite and not all 0"),
        ({"head_rule": "own", "head_weights": (-1.0, 1.0)}, "`head_weights` must be finite, ≥ 0 and not all 0"),
        ({"head_weights": (2.0,)}, '`head_weights` must come with `head_rule="own"`'),
    ],
)
def test_what_frozen_weights_refuse(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Frozen(**options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`weights` must be one number for all tasks or 3"):
        Frozen((1.0, 2.0)).init(3)
