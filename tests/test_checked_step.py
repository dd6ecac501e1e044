"""A weighting that raises, or returns something wrong, is named with its file and line."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from methods.adapters.bridge import PeerFailed
from methods.checks import WeightingError, checked_post_step, checked_step
from methods.contract import Diverged, HeadRule, Needs, Signal, State, Update

Step = Callable[[Signal, State], Any]


@dataclass(frozen=True)
class Mine:
    """A user's weighting, whose step does whatever a test says."""

    does: Step
    heads: HeadRule = "weighted"

    needs: ClassVar[Needs] = "losses"

    def init(self, n_tasks: int) -> State:
        del n_tasks
        return State()

    def step(self, signal: Signal, state: State) -> Update:
        return self.does(signal, state)


SIGNAL = Signal(torch.ones(3).double(), torch.eye(3).double(), 0, 0, torch.Generator(), torch.ones(3, 7))
STEP_LINE = inspect.getsourcelines(Mine.step)[1]


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape, dtype=torch.float64)


def returning(value: Any) -> Step:
    return lambda signal, state: value


def message(weighting: Mine) -> str:
    with pytest.raises(WeightingError) as caught:
        checked_step(weighting, SIGNAL, State())
    return str(caught.value)


def test_a_right_update_is_returned_unchanged() -> None:
    right = [
        Update(ones(3), State()),
        Update(torch.ones(3), State(), head_weights=ones(3), direction=torch.ones(7)),
    ]
    for update in right:
        assert checked_step(Mine(returning(update), heads="weighted"), SIGNAL, State()) is update
    assert checked_step(Mine(returning(right[1]), heads="own"), SIGNAL, State()) is right[1]


def test_a_wrong_update_is_named_with_what_was_expected_and_found() -> None:
    cases: list[tuple[Any, HeadRule, str, str]] = [
        (None, "plain", "an Update", "found None"),
        (ones(3), "plain", "an Update", "found a tensor of shape (3,)"),
        (Update(ones(2), State()), "plain", "`weights`", "shape (3,) on the CPU, found a tensor of shape (2,)"),
        (Update(ones(3, 1), State()), "plain", "`weights`", "found a tensor of shape (3, 1)"),
        (Update(ones(3).long(), State()), "plain", "`weights`", "torch.int64"),
        (Update(ones(3).to("meta"), State()), "plain", "`weights`", "on the CPU, found a tensor of shape (3,)"),
        (Update([1.0] * 3, State()), "plain", "`weights`", "found an object of type list"),  # type: ignore[arg-type]
        (Update(ones(3), State()), "own", "`head_weights`", 'declares `heads = "own"`, found None'),
        (Update(ones(3), State(), head_weights=ones(4)), "own", "`head_weights`", "found a tensor of shape (4,)"),
        (Update(ones(3), State(), direction=ones(3)), "plain", "`direction`", "shape (7,), found a tensor of shape (3"),
        (Update(ones(3), {}), "plain", "`state`", "found an object of type dict"),  # type: ignore[arg-type]
        (Update(ones(3), State(memory={"n": 1})), "plain", "`state`", "type int under 'n'"),  # type: ignore[dict-item]
        (Update(ones(3).requires_grad_(), State()), "plain", "`weights`", "`requires_grad`; detach them"),
        (Update(ones(3), State({"n": ones(1).requires_grad_()})), "plain", "`state`", "under 'n'; detach it"),
    ]
    for update, heads, what, found in cases:
        text = message(Mine(returning(update), heads=heads))
        assert text.startswith(f"{__file__}:{STEP_LINE}: Mine.step must return {what}"), text
        assert found in text and text.count("\n") == 0, text


class Hooked(Mine):
    """A weighting whose post-step hook fails for losses above 1, and returns no State for others."""

    def post_step(self, losses: Tensor, state: State) -> Any:
        if losses[0] > 1:
            raise KeyError("nothing")


def test_a_faulty_post_step_is_named_with_its_line() -> None:
    hooked = Hooked(returning(Update(ones(3), State())))
    with pytest.raises(WeightingError, match=r"Hooked\.post_step must return `state` as a State, found None") as found:
        checked_post_step(hooked, hooked, ones(3), State())
    assert str(found.value).startswith(f"{__file__}:")
    with pytest.raises(WeightingError, match=r"KeyError: 'nothing'") as found:
        checked_post_step(hooked, hooked, 2 * ones(3), State())
    assert str(found.value).startswith(f"{__file__}:")


def test_only_weightings_that_see_the_jacobian_may_give_a_direction() -> None:
    """A direction of one entry would be broadcast to all parameters without an error."""
    without = dataclasses.replace(SIGNAL, jacobian=None)
    with pytest.raises(WeightingError, match="`direction` as None"):
        checked_step(Mine(returning(Update(ones(3), State(), direction=ones(1)))), without, State())


def test_an_error_is_named_with_its_line_in_the_weightings_file() -> None:
    def fails(signal: Signal, state: State) -> Update:
        del state
        return Update(torch.linalg.solve(torch.zeros(3, 3).double(), signal.losses), State())

    line = inspect.getsourcelines(fails)[1] + 2
    text = message(Mine(fails))
    assert text.startswith(f"{__file__}:{line}: ") and "singular" in text, text
    with pytest.raises(WeightingError) as caught:
        checked_step(Mine(fails), SIGNAL, State())
    assert isinstance(caught.value.__cause__, torch.linalg.LinAlgError)


def test_errors_with_messages_of_their_own_pass() -> None:
    for error in (Diverged("step 3"), PeerFailed("LibMTL's MGDA failed"), KeyboardInterrupt()):

        def fails(signal: Signal, state: State, error: BaseException = error) -> Update:
            raise error

        with pytest.raises(type(error)) as caught:
            checked_step(Mine(fails), SIGNAL, State())
        assert caught.value is error
