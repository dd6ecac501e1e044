"""Worker processes that begin with their modules imported: a fork server imports them once, in seconds."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver, get_all_start_methods, get_context, resource_tracker
from typing import Any


def process_context(modules: Sequence[str]) -> Any:
    """Starts the server, without waiting for its imports, and returns the context whose processes it forks.

    Only the first call of a process chooses modules. The server inherits the environment, and that Ctrl-C is blocked;
    its processes inherit both from it. Without fork servers, each process imports them itself.
    """
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(list(modules))
    resource_tracker.ensure_running()  # it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # this process gets it afterwards
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def end_fork_server() -> None:
    """Kills the server of this process, if there is one: while it imports, it wouldn't notice that this process ends.

    A server that is needed afterwards is started again.
    """
    server = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if server is not None:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)
