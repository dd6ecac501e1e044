"""Explicit solvers with a fixed step, for backpropagation: one step of each.

The state is a tuple of tensors, and the field gives the derivative of each. Steps are Python floats: no solver reads
anything from a device. The numbers are those of torchdiffeq's solvers of the same names to the last bit, forward and
backward.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from torch import Tensor

State: TypeAlias = tuple[Tensor, ...]
Derivative: TypeAlias = Callable[[State], State]


def euler_step(field: Derivative, state: State, h: float) -> State:
    """y + h f(y), of order 1."""
    return tuple(y + h * k for y, k in zip(state, field(state), strict=True))


def midpoint_step(field: Derivative, state: State, h: float) -> State:
    """y + h f(y + h/2 f(y)), of order 2."""
    middle = euler_step(field, state, 0.5 * h)
    return tuple(y + h * k for y, k in zip(state, field(middle), strict=True))


def rk4_step(field: Derivative, state: State, h: float) -> State:
    """The 3/8 rule, of order 4: slopes at 0, h/3, 2h/3 and h, with weights 1/8, 3/8, 3/8, 1/8.

    Source: Kutta, Beitrag zur näherungsweisen Integration totaler Differentialgleichungen (1901). torchdiffeq's `rk4`.
    """
    third = 1 / 3
    k1 = field(state)
    k2 = field(tuple(y + h * a * third for y, a in zip(state, k1, strict=True)))
    k3 = field(tuple(y + h * (b - a * third) for y, a, b in zip(state, k1, k2, strict=True)))
    k4 = field(tuple(y + h * (a - b + c) for y, a, b, c in zip(state, k1, k2, k3, strict=True)))
    slopes = zip(state, k1, k2, k3, k4, strict=True)
    return tuple(y + (a + 3 * (b + c) + d) * h * 0.125 for y, a, b, c, d in slopes)


FIXED_STEPS: Mapping[str, Callable[[Derivative, State, float], State]] = {
    "euler": euler_step,
    "midpoint": midpoint_step,
    "rk4": rk4_step,
}
