"""The hyper-parameters with which tests run every method."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin, get_type_hints


def variants(factory: type[Any]) -> Iterator[tuple[str, Any]]:
    """The default hyper-parameters, and every other choice where a field has several."""
    yield "default", factory()
    for name, hint in get_type_hints(factory).items():
        if get_origin(hint) is Literal and name in {field.name for field in dataclasses.fields(factory)}:
            for choice in get_args(hint):
                if choice != getattr(factory(), name):
                    yield f"{name}={choice}", factory(**{name: choice})
