"""Options and behaviour shared by the commands. Bad input prints its message on stderr and exits with code 2."""

from __future__ import annotations

import errno
import math
import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from bench import ROOT
from bench.cli.output import PlainConsole, open_closed_streams, output_code, say
from bench.cli.parser import BAD_INPUT
from bench.engine.signals import SIGNALLED, STOP_SIGNALS, exit_code, stopped_by
from bench.processes.fork_server import end_fork_server
from bench.records.files import StorageError, storage_error
from bench.records.record import LARGEST_SEED
from bench.records.system_errors import KNOWN_ERRORS
from bench.spec import safe_yaml
from bench.spec.limits import LONGEST_PART, LONGEST_TEXT, MOST_PIXELS, MOST_PROCESSES, MOST_TIMES
from bench.spec.shown import is_printable, shown


def add_data_root(parser: ArgumentParser) -> None:
    """Adds --data-root; its default is $MTL_DATA, else the folder `data` of the checkout."""
    default = os.path.expanduser(os.environ.get("MTL_DATA") or ROOT / "data")
    parser.add_argument(
        "--data-root", type=folder, default=default, metavar="DIR", help="data sets (default: $MTL_DATA, or data)"
    )


def add_cache_dir(parser: ArgumentParser) -> None:
    """Adds --cache-dir; its default is $MTL_CACHE, else None."""
    parser.add_argument(
        "--cache-dir",
        type=folder,
        default=os.path.expanduser(os.environ.get("MTL_CACHE") or "") or None,
        metavar="DIR",
        help="prepared arrays (default: $MTL_CACHE, or beside the data where it is writable, else ~/.cache/mtl-bench)",
    )


def folder(text: str) -> Path:
    """Parses the path of a folder or a file, whether it exists or not."""
    parts = os.fsencode(text).split(os.fsencode(os.sep)) if is_printable(text) else []
    if not text or not parts or len(text) > LONGEST_TEXT or max(map(len, parts)) > LONGEST_PART:
        raise ArgumentTypeError(f"expected a path of printable characters, found {shown(text)}")
    return Path(text)


def lookup_name(text: str) -> str:
    """Parses a name that is looked up."""
    if not text.strip() or len(text) > LONGEST_TEXT or not is_printable(text):
        raise ArgumentTypeError(f"expected a name, found {shown(text)}")
    return text


def file_name(text: str) -> str:
    """Parses the name of a file or folder."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", text):
        raise ArgumentTypeError(f"expected at most 80 letters, digits and any of . _ -, found {shown(text)}")
    return text


def assignment(text: str) -> tuple[str, Any]:
    """Parses "section.key=value"; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ArgumentTypeError(f"expected section.key=value, found {shown(text)}")
    if len(value) > LONGEST_TEXT:
        expected = f"expected at most {LONGEST_TEXT:,} characters after {shown(key)}="
        raise ArgumentTypeError(f"{expected}, found {len(value):,}")
    try:
        return key.strip(), safe_yaml.load(value)
    except yaml.YAMLError as error:
        reason = safe_yaml.in_one_line(error)
        raise ArgumentTypeError(f"expected a value after {shown(key)}=, found {shown(value)} ({reason})") from error


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A parser of whole numbers in these bounds."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]+", text) or text.startswith("-") or (len(text) < 19 and int(text) < least):
            raise ArgumentTypeError(f"expected a whole number ≥ {least}, found {shown(text)}")
        if len(text) > 19 or int(text) > most:
            raise ArgumentTypeError(f"expected a whole number ≤ {most:,}, found {shown(text)}")
        return int(text)

    return parse


positive = whole_number(1, MOST_TIMES)
not_negative = whole_number(0, MOST_TIMES)
processes = whole_number(1, MOST_PROCESSES)
random_seed = whole_number(0, LARGEST_SEED)
_pixels = whole_number(1, MOST_PIXELS)


def image_size(text: str) -> int | None:
    """Parses height or width in pixels; None for "none"."""
    return None if text == "none" else _pixels(text)


def rate(text: str) -> float:
    """Parses a number above 0."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise ArgumentTypeError(f"expected a number > 0, found {shown(text)}")
    return number


def share(text: str) -> float:
    """Parses a number from 0 to below 1."""
    number = _number(text)
    if not 0 <= number < 1:
        raise ArgumentTypeError(f"expected a number ≥ 0 and < 1, found {shown(text)}")
    return number


def _number(text: str) -> float:
    """The number that ASCII digits write; nan for any other text."""
    try:
        return float(text) if text.isascii() else math.nan
    except ValueError:
        return math.nan


def cores() -> int:
    """The number of processors that this process may use, or of the machine if the system doesn't report it.

    Where SLURM doesn't bind jobs to processors, it still says how many a job has.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(here, int(granted)) if granted.isdecimal() and int(granted) else here


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
    if code > SIGNALLED:
        end_fork_server()
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
