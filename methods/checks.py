"""Checks of hyper-parameters, and of what a weighting's step returns."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from types import CodeType
from typing import TypeVar

import torch
from torch import Tensor

from methods.adapters.bridge import PeerFailed, PeerUnavailable
from methods.contract import Diverged, PostStepHook, Signal, State, Update, Weighting

Result = TypeVar("Result")


class WeightingError(RuntimeError):
    """A weighting's step raised an error or returned something else than its contract says; names file and line."""


def require_positive(name: str, value: float) -> None:
    """Raises ValueError unless value > 0."""
    if not value > 0:
        raise ValueError(f"`{name}` must be > 0, found {value}")


def require_at_least(name: str, value: float, bound: float) -> None:
    """Raises ValueError unless value >= bound."""
    if not value >= bound:
        raise ValueError(f"`{name}` must be ≥ {bound}, found {value}")


def require_one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raises ValueError unless value is allowed."""
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}; found {value!r}")


def checked_step(weighting: Weighting, signal: Signal, state: State) -> Update:
    """`weighting.step(signal, state)`, checked against the contract.

    Raises:
        WeightingError: the step raised an error, or its update has a wrong type, dtype, shape or device.
        Diverged, PeerFailed, PeerUnavailable, torch.OutOfMemoryError: as the step raised them.
    """
    update = _called(weighting, "step", lambda: weighting.step(signal, state))
    _require_no_problem(weighting, "step", _problem(update, weighting, signal))
    return update


def checked_post_step(weighting: Weighting, hook: PostStepHook, losses: Tensor, state: State) -> State:
    """`hook.post_step(losses, state)` of a weighting, checked like its step.

    Raises:
        WeightingError: it raised an error, or returned something else than a State of tensors without gradients.
        Diverged, PeerFailed, PeerUnavailable, torch.OutOfMemoryError: as it raised them.
    """
    after = _called(weighting, "post_step", lambda: hook.post_step(losses, state))
    _require_no_problem(weighting, "post_step", _problem_of_state(after))
    return after


def _called(weighting: Weighting, method: str, call: Callable[[], Result]) -> Result:
    """The result of a call of a weighting's method; its errors name the file and the line."""
    try:
        return call()
    except (Diverged, PeerFailed, PeerUnavailable, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise WeightingError(f"{_place_of(weighting, method, error)}: {type(error).__name__}: {error}") from error


def _require_no_problem(weighting: Weighting, method: str, problem: str) -> None:
    if problem:
        place = _place_of(weighting, method)
        raise WeightingError(f"{place}: {type(weighting).__name__}.{method} must return {problem}")


def _problem(update: object, weighting: Weighting, signal: Signal) -> str:
    """What was expected and what was found; "" if the update is as it should be."""
    if not isinstance(update, Update):
        return f"an Update, found {_described(update)}."
    per_task, device = (len(signal.losses),), signal.losses.device
    place = "on the CPU" if device.type == "cpu" else f"on {device} or the CPU"
    if not _is_float(update.weights, per_task) or not _is_on(update.weights, device):
        return f"`weights` as a float tensor of shape {per_task} {place}, found {_described(update.weights)}."
    if update.weights.requires_grad:
        return "`weights` without a gradient, found some with `requires_grad`; detach them."
    own = update.head_weights
    if weighting.heads == "own" and (own is None or not _is_float(own, per_task) or not _is_on(own, device)):
        expected = f"`head_weights` as a float tensor of shape {per_task} {place}"
        return f'{expected}, since it declares `heads = "own"`, found {_described(own)}.'
    before = update.unclipped
    if before is not None and not (_is_float(before, per_task) and _is_on(before, device)):
        return f"`unclipped` as a float tensor of shape {per_task} {place}, found {_described(before)}."
    if not _is_count(update.fallbacks):
        return f"`fallbacks` as an int or an integer tensor of shape (), found {_described(update.fallbacks)}."
    if update.direction is not None:
        if signal.jacobian is None:
            return '`direction` as None: only a weighting with `needs = "jacobian"` may return one.'
        size = tuple(signal.jacobian.shape[1:])
        if not _is_float(update.direction, size):
            return f"`direction` as None or a float tensor of shape {size}, found {_described(update.direction)}."
    return _problem_of_state(update.state)


def _problem_of_state(state: object) -> str:
    if not isinstance(state, State):
        return f"`state` as a State, found {_described(state)}."
    for name, value in state.memory.items():
        if not isinstance(value, Tensor):
            return f"`state` with tensors only, found {_described(value)} under {name!r}."
        if value.requires_grad:
            return f"`state` without gradients, found one with `requires_grad` under {name!r}; detach it."
    return ""


def _is_float(value: object, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and value.is_floating_point()


def _is_on(values: Tensor, device: torch.device) -> bool:
    return values.is_cpu or values.device == device


def _is_count(value: object) -> bool:
    if isinstance(value, Tensor):
        return value.shape == () and not (value.is_floating_point() or value.is_complex())
    return isinstance(value, int)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}, {value.dtype}, on {value.device}"
    return "None" if value is None else f"an object of type {type(value).__name__}"


def _place_of(weighting: Weighting, method: str, error: Exception | None = None) -> str:
    """File and line of a weighting's method; with an error, of the innermost call in that file that led to it."""
    code = getattr(inspect.unwrap(getattr(type(weighting), method)), "__code__", None)
    if not isinstance(code, CodeType):
        return type(weighting).__name__
    line = code.co_firstlineno
    if error is not None:
        for frame, number in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == code.co_filename:
                line = number
    return f"{code.co_filename}:{line}"
