"""Options and behaviour shared by the commands. Bad input prints its message on stderr and exits with code 2."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench import ROOT
from bench.launch.stopping import STOP_SIGNALS, exit_code, stopped_by
from bench.records.files import StorageError, storage_error

BAD_INPUT = 2


def add_data_root(parser: ArgumentParser) -> None:
    """Adds --data-root; its default is $MTL_DATA, else the folder `data` of the checkout."""
    default = Path(os.environ.get("MTL_DATA") or ROOT / "data").expanduser()
    parser.add_argument(
        "--data-root", type=Path, default=default, metavar="DIR", help="data sets (default: $MTL_DATA, or data)"
    )


def add_cache_dir(parser: ArgumentParser) -> None:
    """Adds --cache-dir; its default is $MTL_CACHE, else None."""
    default = Path(os.environ["MTL_CACHE"]).expanduser() if os.environ.get("MTL_CACHE") else None
    parser.add_argument(
        "--cache-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help="prepared arrays (default: $MTL_CACHE, or beside the data where it is writable, else ~/.cache/mtl-bench)",
    )


def assignment(text: str) -> tuple[str, Any]:
    """Parses "section.key=value"; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ArgumentTypeError(f"expected section.key=value, found {text!r}")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ArgumentTypeError(f"expected a value after {key}=, found {value!r}") from error


def positive(text: str) -> int:
    """Parses a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"expected a whole number ≥ 1, found {text!r}")
    return int(text)


def image_size(text: str) -> int | None:
    """Parses height or width in pixels; None for "none"."""
    return None if text == "none" else positive(text)


def cores() -> int:
    """The number of processors that this process may use, or of the machine if the system doesn't report it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_console() -> Console:
    """A console without markup and highlighting that doesn't wrap lines, even if output is piped."""
    width = None if sys.stdout.isatty() else 200
    return Console(width=width, soft_wrap=True, markup=False, highlight=False)


def guarded(command: Callable[[], int], *errors: type[Exception]) -> int:
    """Runs a command; prints the message of one of these errors and returns exit code 2.

    The same holds for files that can't be written or read. A signal that stops the command gives 128 and its number.
    """
    expected: tuple[type[Exception], ...] = (*errors, StorageError)
    try:
        with stopped_by(*STOP_SIGNALS):
            return command()
    except expected as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        print("Interrupted.", file=sys.stderr)
        return exit_code(stop)
    except OSError as error:
        if error.filename is None:
            raise
        print(storage_error(Path(error.filename), error), file=sys.stderr)
        return BAD_INPUT
