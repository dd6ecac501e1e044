"""Many small cases in one test: cheaper than a test of its own for each, and a failure still names its case."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any


def for_every(names: str, cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Like `pytest.mark.parametrize`, but all cases are one test, which ends with the first that fails.

    Cases share the fixtures of the test, so it must not change them.
    """
    arguments, all_cases = [name.strip() for name in names.split(",")], list(cases)
    assert all_cases, f"no cases for {names}"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            for case in all_cases:
                values = dict(zip(arguments, case if len(arguments) > 1 else [case], strict=True))
                try:
                    test(**fixtures, **values)
                except Exception as error:
                    raise AssertionError(f"{values}: {error}") from error

        signature = inspect.signature(test)
        others = [parameter for name, parameter in signature.parameters.items() if name not in arguments]
        run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
        return run

    return decorate
