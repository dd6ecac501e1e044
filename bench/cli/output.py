"""Standard output that nobody reads any more, or that is written to a full disk."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

from rich.console import Console

from bench.engine.signals import SIGNALLED
from bench.records.plain_text import printable

# That of a program which the signal ends: `command | head` gives it in every shell.
PIPE_CLOSED = SIGNALLED + signal.SIGPIPE
BAD_OUTPUT = 2


class PlainConsole(Console):
    """A console that shows text as it is, and leaves it to the command what happens when nobody reads its output."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As of Console, but texts, which may come from records, have no effect on the terminal."""
        super().print(*(printable(thing) if isinstance(thing, str) else thing for thing in objects), **options)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def open_closed_streams() -> None:
    """Opens the null device in place of standard streams that are closed.

    Otherwise the next file to be opened gets the number of such a stream, and what is printed goes into it.
    """
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        os.set_inheritable(number, True)
        number = os.dup(number)
    os.close(number)


def output_code(error: OSError | None = None) -> int:
    """0 if standard output can be written; else says so and returns the exit code. From then on, it is discarded.

    error: one of no known file that a command ended with. Where output isn't buffered, nothing of what couldn't be
        written is left to try again, so an empty line is written to see if it came from there.
    """
    if sys.stdout is None:
        return 0
    try:
        if error is not None and error.filename is None:
            sys.stdout.write("\n")
        sys.stdout.flush()
    except BrokenPipeError:  # as usual for `command | head`, in silence
        _discard()
        return PIPE_CLOSED
    except OSError as lost:
        _discard()
        say(f"Standard output can't be written ({lost.strerror}); what was printed is incomplete. Files are kept.")
        return BAD_OUTPUT
    return 0


def say(sentence: object) -> None:
    """Prints on standard error, if it can be written."""
    try:
        print(printable(str(sentence)), file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _discard() -> None:
    """Has standard output written to the null device: Python flushes it once more when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
