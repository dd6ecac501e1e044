"""The parser of all commands: an error is one line for people, and exit code 2. Needs nothing but Python itself."""

from __future__ import annotations

import sys
from argparse import Action, ArgumentError, ArgumentParser
from collections.abc import Sequence
from typing import Any, NoReturn

from bench.spec.lookup import did_you_mean
from bench.spec.shown import shortened, shown

BAD_INPUT = 2
_LONGEST_MESSAGE = 600  # characters


class CommandParser(ArgumentParser):
    """An ArgumentParser without abbreviated options, whose errors say what was expected, without the whole usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As of ArgumentParser, but what is not known is an error here, where a subcommand's own options are known."""
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.endswith("=--"):  # argparse drops such a value, and its check with it
                self.error(f"expected a value after {shown(word[:-3])}, found '--'")
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unexpected(next((word for word in unknown if word.startswith("-")), unknown[0])))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Prints "python -m bench.run: --epochs: expected …; --help lists all options." and exits."""
        message = shortened(message.removeprefix("argument "), _LONGEST_MESSAGE)
        end = "" if message.endswith("?") else ";"
        self.exit(BAD_INPUT, f"{self.prog}: {message}{end} --help lists all options.\n")

    def _unexpected(self, word: str) -> str:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            return f"expected an option, found {shown(word)}"
        options = [option for option in self._option_string_actions if option.startswith("--")]
        near = did_you_mean(options, name).replace(" Did", "; did")
        return f"unknown option {shown(name)}{near}"

    def _check_value(self, action: Action, value: Any) -> None:
        """Raises ArgumentError for a value that is not among the choices. The one of argparse repeats it unescaped."""
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        expected = f"expected one of {', '.join(known)}, found {shown(value)}"
        near = did_you_mean(known, str(value)).replace(" Did", "; did")
        raise ArgumentError(action, f"{expected}{near}")
