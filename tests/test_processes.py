"""Processes that end with their parent, which is killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import ROOT

SCRIPT = """
import os, signal, sys, time
from multiprocessing import get_context
from pathlib import Path

from bench.processes.ending import end_with_parent

def live(said, grace):
    signal.signal(signal.SIGTERM, lambda *_: said.write_text("told"))
    end_with_parent(grace)
    print(os.getpid(), flush=True)
    while True:
        time.sleep(0.01)

if __name__ == "__main__":
    get_context(sys.argv[1]).Process(target=live, args=(Path(sys.argv[2]), float(sys.argv[3]))).start()
    time.sleep(60)
"""


@pytest.mark.parametrize(("start", "grace"), [("spawn", 0.0), ("forkserver", 0.5)])
def test_a_process_ends_with_its_parent(start: str, grace: float, tmp_path: Path) -> None:
    """At once, or after it was told to and had some time. This one does not stop when it is told."""
    script, said = tmp_path / "script.py", tmp_path / "said"
    script.write_text(SCRIPT, encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(script), start, str(said), str(grace)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    killed = time.monotonic()
    parent.wait()
    while Path(f"/proc/{child}").exists():
        assert time.monotonic() < killed + 30
        time.sleep(0.02)
    assert said.exists() == bool(grace) and time.monotonic() - killed >= grace
