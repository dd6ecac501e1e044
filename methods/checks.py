"""Checks of hyper-parameters; each message says what was expected and what was found."""

from __future__ import annotations

from collections.abc import Sequence


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
