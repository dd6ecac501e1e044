"""Options and behaviour shared by the commands. Bad input prints its message on stderr and exits with code 2."""

from __future__ import annotations

import errno
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench import ROOT
from bench.cli.output import PlainConsole, open_closed_streams, output_code, say
from bench.launch.stopping import STOP_SIGNALS, exit_code, stopped_by
from bench.records.files import StorageError, storage_error
from bench.records.system_errors import KNOWN_ERRORS

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


def folder(text: str) -> Path:
    """Parses the path of a folder or a file, whether it exists or not."""
    if not text.strip() or "\0" in text:
        raise ArgumentTypeError(f"expected a path, found {text!r}")
    return Path(text)


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


def not_negative(text: str) -> int:
    """Parses a whole number of at least 0."""
    return 0 if text == "0" else positive(text)


def image_size(text: str) -> int | None:
    """Parses height or width in pixels; None for "none"."""
    return None if text == "none" else positive(text)


def cores() -> int:
    """The number of processors that this process may use, or of the machine if the system doesn't report it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plain_console() -> Console:
    """A console without markup and highlighting that doesn't wrap lines, even if output is piped."""
    width = None if sys.stdout is not None and sys.stdout.isatty() else 200
    return PlainConsole(width=width, soft_wrap=True, markup=False, highlight=False)


def guarded(command: Callable[[], int], *errors: type[Exception]) -> int:
    """Runs a command; prints the message of one of these errors and returns exit code 2.

    The same holds for files that can't be written or read, and for standard output that can't be written. A signal that
    stops the command gives 128 and its number, and so does standard output that nobody reads any more.
    """
    open_closed_streams()
    code = _exit_code(command, (*errors, StorageError))
    return output_code() or code


def _exit_code(command: Callable[[], int], expected: tuple[type[Exception], ...]) -> int:
    try:
        with stopped_by(*STOP_SIGNALS):
            return command()
    except expected as error:
        say(error)
        return BAD_INPUT
    except KeyboardInterrupt as stop:
        say("Interrupted.")
        return exit_code(stop)
    except OSError as error:
        code = output_code(error)
        if not code:
            say(_in_words(error))
        return code or BAD_INPUT


def _in_words(error: OSError) -> object:
    """One sentence on an error of the file system. Others, which a command should have expected, are raised again."""
    if isinstance(error.filename, str | bytes):
        return storage_error(Path(os.fsdecode(error.filename)), error)
    if error.errno is None or error.errno not in KNOWN_ERRORS:
        raise error
    if error.strerror != os.strerror(error.errno):  # Python's own sentence, such as on folders for temporary files
        return f"{error.strerror}; make one of them writable and free some space there, or set TMPDIR to another."
    if error.errno == errno.ENOENT:  # the working directory
        return storage_error(Path(), error)
    return (
        f"{error.strerror}: expected to write or read a file, found this error without a name; check disks (`df -h`, "
        "`df -i`) and limits (`ulimit -a`), then give the same command again. Finished runs are kept."
    )
