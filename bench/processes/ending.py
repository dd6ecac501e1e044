"""A process that was started by another one ends with it, however that one ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing import parent_process
from multiprocessing.connection import wait

# Seconds that a process which was told to stop has for its current step, before it is killed.
GRACE = 5.0


def end_with_parent(grace: float = 0.0) -> None:
    """From now on, this process ends when its parent dies: at once, or by SIGTERM, and after so many seconds killed.

    The pipe that is waited for closes with the parent itself, also where a fork server stands between the two.
    """
    threading.Thread(target=_end_after_parent, args=(grace,), daemon=True).start()


def _end_after_parent(grace: float) -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    if grace:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace)
    os.kill(os.getpid(), signal.SIGKILL)
