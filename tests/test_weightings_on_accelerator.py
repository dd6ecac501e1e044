"""Weightings that compute on the device of the network: never a wait, the CPU's numbers, and no error from nan or inf.

The device is a pretend one; `gpu-check` does the same on a real one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from cases import for_every
from pretend.counts import Counts, counting
from pretend.device import DEVICE, available
from torch import Tensor
from variants import variants

from bench.engine.task_gradients import TaskGradients, scaled
from methods import WEIGHTINGS
from methods.checks import checked_post_step, checked_step
from methods.contract import PostStepHook, Signal, State, Update, Weighting
from methods.rows import gramian_of
from methods.transfer import send
from methods.weightings.fixed import Fixed
from methods.weightings.go4align import GO4Align
from methods.weightings.igb import IGB
from methods.weightings.rlw import RLW
from methods.weightings.stch import STCH

P = 5000
EPOCHS = (0, 0, 1, 2, 5, 5)  # of the steps: some weightings act at the start of an epoch, or after a few
ON_DEVICE: list[tuple[str, Weighting]] = [
    *(
        (f"{name} {label}", weighting)
        for name, info in WEIGHTINGS.items()
        for label, weighting in variants(info.factory)
        if weighting.needs in ("losses", "jacobian")
    ),
    ("fixed per task", Fixed((0.5, 0.0, 2.0))),
    ("stch preference", STCH(variant="paper", preference=(0.2, 0.3, 0.5))),
    ("stch without warm-up", STCH(warmup_epochs=0)),
    ("igb base_epoch=0", IGB(base_epoch=0)),
    *((f"go4align groups={groups}", GO4Align(groups, step_size=0.1)) for groups in (1, 3, 9)),
]
SENDING = ("rlw", "graddrop", "fixed", "frozen", "stch")  # one copy at most: what is drawn, or set by the user


@pytest.fixture(autouse=True)
def pretend() -> Iterator[None]:
    with available():
        yield


def seen_by(weighting: Weighting, step: int, m: int = 3) -> Signal:
    """What a weighting sees, on the CPU. Some losses and one gradient are 0."""
    stream = torch.Generator().manual_seed(100 + step)
    losses = torch.rand(m, generator=stream).double() - (0.05 if step % 2 else 0.0)
    losses[step % m] = 0.0
    reads = weighting.needs == "jacobian"
    rows = torch.randn(m, P, generator=stream) * 10.0 ** torch.linspace(-2, 2, m).unsqueeze(1)
    rows[0] *= step % 2
    gramian = gramian_of(rows) if reads else None
    return Signal(losses, gramian, step, EPOCHS[step], torch.Generator().manual_seed(step), rows if reads else None)


def sent(seen: Signal) -> Signal:
    """The same on the device, but for the random stream."""
    names = ("losses", "gramian", "jacobian")
    parts: dict[str, Any] = {name: getattr(seen, name) for name in names}
    moved = {name: None if part is None else part.to(DEVICE) for name, part in parts.items()}
    return replace(seen, generator=seen.generator.clone_state(), **moved)


def advance(weighting: Weighting, seen: Signal, state: State) -> tuple[Update, State]:
    """A step, and the state after the post-step hook, if there is one."""
    update = checked_step(weighting, seen, state)
    if not isinstance(weighting, PostStepHook):
        return update, update.state
    return update, checked_post_step(weighting, weighting, 0.9 * seen.losses, update.state)


def run(weighting: Weighting, signals: list[Signal]) -> list[tuple[Update, State, Counts]]:
    """Updates, states after them, and what they cost."""
    device, taken = signals[0].losses.device, []
    memory = weighting.init(len(signals[0].losses)).memory
    state = State({name: send(values, device) for name, values in memory.items()})
    for seen in signals:
        with counting() as counts:
            update, state = advance(weighting, seen, state)
        taken.append((update, state, counts()))
    return taken


def all_of(update: Update, state: State) -> dict[str, Tensor]:
    parts = {"weights": update.weights, "heads": update.head_weights, "direction": update.direction}
    present = {name: part for name, part in parts.items() if part is not None}
    return {**present, "fallbacks": torch.as_tensor(update.fallbacks), **state.memory}


@for_every("name, weighting", ON_DEVICE)
def test_no_step_waits_and_every_number_is_that_of_the_cpu(name: str, weighting: Weighting) -> None:
    seen = [seen_by(weighting, step) for step in range(len(EPOCHS))]
    away = [sent(each) for each in seen]
    pairs = zip(run(weighting, seen), run(weighting, away), strict=True)
    for (update, state, _), (update_away, state_away, counts) in pairs:
        assert counts.waits == 0 and counts.copies_in <= name.startswith(SENDING), str(counts)
        assert update_away.weights.device == DEVICE
        expected, found = all_of(update, state), all_of(update_away, state_away)
        assert expected.keys() == found.keys()
        for key, values in expected.items():
            assert torch.equal(found[key].cpu(), values), key
            assert found[key].dtype == values.dtype, key
            assert found[key].device == DEVICE or key == "fallbacks", key


@for_every("distribution", ["normal", "uniform", "dirichlet", "bernoulli", "one_hot"])
def test_random_weights_are_sent_without_a_wait(distribution: Any) -> None:
    seen = seen_by(RLW(), 0)
    ((update, _, counts),) = run(RLW(distribution), [sent(seen)])
    assert counts.waits == 0 and counts.copies_in == 1 and update.weights.device == DEVICE


def test_what_is_on_the_cpu_is_not_copied() -> None:
    values = torch.ones(3)
    assert send(values, values.device) is values


@for_every("values", [torch.ones(1).expand(3), torch.arange(6.0)[::2], torch.ones(2, 3).T])
def test_values_in_any_layout_are_sent_without_a_wait(values: Tensor) -> None:
    with counting() as counts:
        there = send(values, DEVICE)
    assert (counts().waits, counts().copies_in) == (0, 1)
    assert torch.equal(there.cpu(), values)


def test_weights_are_not_rounded_to_the_precision_of_gradients() -> None:
    gradient, scale = torch.full((3,), 3.0).bfloat16(), torch.tensor(1.003, dtype=torch.float64)
    assert scaled(gradient, 1.003).tolist() == [3.015625] * 3
    assert scaled(gradient.to(DEVICE), scale.to(DEVICE)).tolist() == [3.015625] * 3


def test_a_direction_on_the_cpu_is_sent_without_a_wait() -> None:
    parameter = torch.nn.Parameter(torch.zeros(3, device=DEVICE))
    rows = TaskGradients([parameter], torch.zeros(2, 3, device=DEVICE), torch.zeros(3, device=DEVICE), ())
    with counting() as counts:
        rows.apply_direction(torch.arange(3.0))
    assert counts().waits == 0 and parameter.grad is not None
    assert parameter.grad.tolist() == [0.0, 1.0, 2.0]


@for_every("name, weighting", ON_DEVICE)
@for_every("bad", [float("nan"), float("inf"), -float("inf")])
@for_every("where", ["one loss", "one entry", "everything"])
def test_numbers_that_are_not_finite_raise_no_error(name: str, weighting: Weighting, bad: float, where: str) -> None:
    """On an accelerator they are found at the end of the epoch only, so that the steps until then must go on."""
    signals = [seen_by(weighting, step) for step in range(4)]
    for seen in signals[1:]:
        if where == "everything":
            seen.losses.fill_(bad)
        elif where == "one loss":
            seen.losses[1] = bad
        if seen.jacobian is not None and where in ("one entry", "everything"):
            seen.jacobian[1, 7] = bad
            assert seen.gramian is not None
            seen.gramian.copy_(gramian_of(seen.jacobian))
    for update, _, _ in run(weighting, signals):
        assert update.weights.shape == (3,)
