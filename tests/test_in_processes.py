"""Reports that several processes write: the same bytes as of one, and nothing left behind when one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from record_factory import make_study, write_runs

from bench.records.files import StorageError
from bench.reporting.in_processes import in_processes
from bench.reporting.reports import write_reports


def square(number: int) -> int:
    if number < 0:
        raise ValueError(f"expected a positive number, found {number}")
    return number**2


def end_at(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_results_are_in_order_and_errors_come_through() -> None:
    found = in_processes(square, [0, 1, 2, 3, -1, 4], 2)
    assert [next(found) for _ in range(4)] == [0, 1, 4, 9]
    with pytest.raises(ValueError, match="found -1"):
        next(found)


def test_a_killed_process_is_an_error_in_words() -> None:
    with pytest.raises(StorageError, match="found one killed"):
        list(in_processes(end_at, range(4), 2))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_number_of_processes_changes_no_byte(tmp_path: Path) -> None:
    records = [record for data in ("digits", "rooms", "faces") for record in make_study(data)]
    write_runs(tmp_path / "results", records)
    for processes in (1, 2):
        write_reports(tmp_path / "results", records, tmp_path / str(processes), processes=processes)
    one = contents(tmp_path / "1")
    assert len(one) > 60 and one == contents(tmp_path / "2")


SCRIPT = """
import sys, time
from bench.reporting.in_processes import in_processes

def wait(number):
    print(__import__("os").getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    list(in_processes(wait, range(2), 2))
"""


def test_processes_end_with_the_command(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    command = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    workers = [int(command.stdout.readline()) for _ in range(2)]
    command.kill()
    command.wait()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < until:
        time.sleep(0.05)
    assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
