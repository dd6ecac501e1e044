"""Reads files that may be damaged, or not be files: nothing hangs, and what is wrong is said in a few words."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.records.plain_text import one_line

LARGEST = 16 * 2**20  # bytes; the record of a run on 40 tasks has 28,000
DEEPEST = 20  # objects and lists within each other; a record has five
MOST_DIGITS = 20  # of an integer; one of 64 bits has as many
_CONTAINERS = (dict, list)
_TOO_DEEP = f"expected at most {DEEPEST} objects and lists within each other, found more"


class Damaged(ValueError):
    """A file that isn't what it should be. The message is "expected X, found Y"."""


class Absent(Damaged):
    """There is no file."""


def is_there(path: Path) -> bool:
    """Whether there is a file, or a link that leads to one.

    Raises:
        Damaged: something else is there: a folder, a pipe, a link that leads nowhere.
        OSError: it can't be looked at.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ELOOP):
            raise
        raise Damaged("expected a file, found a link that leads nowhere") from error
    if stat.S_ISDIR(mode):
        raise Damaged("expected a file, found a folder")
    if not stat.S_ISREG(mode):
        raise Damaged("expected a file, found a pipe or a device")
    return True


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises:
        Absent: there is none. Damaged, OSError: as of `read_text`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # nobody may ever write to a pipe
    except OSError:
        if not is_there(path):
            raise Absent("expected a file, found none") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            is_there(path)  # says what it is
        small = status.st_size <= largest
        content = b"".join(iter(lambda: os.read(descriptor, status.st_size + 1), b"")) if small else b""
    finally:
        os.close(descriptor)
    if not small or len(content) > largest:
        raise Damaged(f"expected at most {largest:,} bytes, found more")
    return content


def read_text(path: Path) -> str:
    """The content of a file of text.

    Raises:
        Damaged: it isn't such a file, or has more than LARGEST bytes.
        OSError: it can't be read.
    """
    try:
        return read_bytes(path, LARGEST).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged(f"expected text in UTF-8, found other bytes ({error.reason})") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file that one of our commands has written.

    Raises:
        Damaged: it isn't such a file.
        OSError: it can't be read.
    """
    return parsed_json(read_text(path))


def parsed_json(text: str) -> Any:
    """The content of such a file; raises Damaged if it is of none."""
    try:
        content = json.loads(
            text,
            parse_int=_integer,
            parse_constant=_constant,
            object_pairs_hook=_object,
        )
    except RecursionError as error:
        raise Damaged(_TOO_DEEP) from error
    except Damaged:
        raise
    except ValueError as error:
        raise Damaged(f"expected JSON, found {_short(str(error))}") from error
    _check_depth(content)
    if r"\ud" in text.lower():  # else there are no surrogates: UTF-8 has none
        _check_text(content)
    return content


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Damaged(f"expected integers of at most {MOST_DIGITS} digits, found one of {len(digits):,}")
    return int(digits)


def _constant(token: str) -> float:
    raise Damaged(f"expected numbers in JSON, found {token}")  # ours writes such numbers as text


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for place, key in enumerate(keys) if key in keys[:place])
        raise Damaged(f"expected each key once, found {_short(twice)!r} again")
    return found


def _check_depth(content: Any) -> None:
    """Raises Damaged for what is too deep."""
    level: list[Iterable[Any]] = [[content]]
    for _ in range(DEEPEST + 2):
        inner = (part for parts in level for part in parts if type(part) in _CONTAINERS)
        level = [part.values() if type(part) is dict else part for part in inner]
        if not level:
            return
    raise Damaged(_TOO_DEEP)


def _check_text(content: Any) -> None:
    """Raises Damaged for text that can't be written to a file."""
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise Damaged("expected text, found half of a surrogate pair") from error


def in_one_line(error: ValidationError) -> str:
    """The first of a validation's errors, with its place, and how many more there are."""
    first, *others = validation_lines(error)
    return f"{first} (and {len(others)} more)" if others else first


def validation_lines(error: ValidationError) -> list[str]:
    """A line for each error: "place: message"."""
    return [_validation_line(dict(one)) for one in error.errors(include_url=False)]


def _validation_line(one: dict[str, Any]) -> str:
    place = ".".join(_short(str(part)) for part in one["loc"])
    if one["type"] == "value_error":  # ours, which say what was found
        message = str(one["ctx"]["error"])
    else:
        message = f"{one['msg'][:1].lower()}{one['msg'][1:]}, found {_short(repr(one['input']))}"
    return one_line(f"{place}: {message}" if place else message)


def _short(text: str) -> str:
    """On one line of bounded length."""
    line = one_line(text)
    return line if len(line) <= 80 else f"{line[:77]}..."
