"""Signals to a command: it ends within seconds with all its workers, without a traceback, and can be continued."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from data_trees import write_digits

from bench import ROOT
from bench.engine.signals import Stopped, exit_code, stopped_by
from bench.launch.local import _stop, _Worker
from bench.processes.ending import GRACE
from bench.records.store import CHECKPOINT, RECORD, read_record

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
NAMES = {"ids": lambda number: signal.Signals(number).name}
# Of a worker that is told to stop, and of the command around it, on a busy machine.
SECONDS = GRACE + 15


def start(words: Sequence[str], **environment: str) -> subprocess.Popen[str]:
    """A command in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(command: int) -> list[int]:
    """The living processes of a command's session that its fork server has started."""
    found = session_of(command)
    return [process for process, fields in found.items() if process != command and int(fields[1]) != command]


def session_of(command: int) -> dict[int, list[str]]:
    """The states of the living processes of a command's session."""
    states = {int(path.parent.name): state_of(path) for path in Path("/proc").glob("[0-9]*/stat")}
    return {process: fields for process, fields in states.items() if fields and int(fields[3]) == command}


def state_of(path: Path) -> list[str]:
    """State, parent, group, session and so on of a living process; empty if it is none."""
    try:
        fields = path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
    return [] if fields[0] in "ZX" else fields


def living(processes: Sequence[int]) -> list[int]:
    return [process for process in processes if state_of(Path(f"/proc/{process}/stat"))]


def is_pending(number: int, process: int) -> bool:
    """Whether a process, which is stopped, was sent a signal that it will take when it goes on."""
    pending = re.search(r"^ShdPnd:\s+(\S+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return pending is not None and bool(int(pending.group(1), 16) >> (number - 1) & 1)


def wait_until(condition: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data")).parent


def words(data: Path, results: Path, epochs: int) -> list[str]:
    request = ["--method", "ew", "uw", "--data", "digits", "--seeds", "0", "--set", "train.batch_size=8"]
    where = ["--data-root", str(data), "--results", str(results), "--device", "cpu", "--jobs", "2"]
    return ["bench.run", *request, "--epochs", str(epochs), *where]


def test_signals_become_exceptions_and_ignored_ones_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with pytest.raises(Stopped) as stop, stopped_by(signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGTERM)
        assert exit_code(stop.value) == 143
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert exit_code(KeyboardInterrupt()) == 130


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL], **NAMES
)
def test_workers_end_with_their_command_and_their_runs_go_on(number: int, data_folder: Path, tmp_path: Path) -> None:
    with start(words(data_folder, tmp_path, 5000)) as command:
        wait_until(lambda: len(list(tmp_path.rglob(CHECKPOINT))) == 2, 60)
        workers = workers_of(command.pid)
        assert len(workers) == 2
        command.send_signal(number)
        wait_until(lambda: not living(workers), SECONDS)
        code = command.wait(timeout=SECONDS)
        out, error = command.communicate()
    assert code == CODES.get(signal.Signals(number), -number)
    assert "Traceback" not in out + error
    if number in CODES:
        assert "0 runs are finished and kept; the same command continues the others" in error
    (first, second) = sorted(tmp_path.rglob(CHECKPOINT))
    assert {path.name for path in first.parent.iterdir()} == {CHECKPOINT} or number not in CODES
    assert second.is_file()


@pytest.mark.slow
def test_a_second_signal_ends_the_command_at_once(data_folder: Path, tmp_path: Path) -> None:
    with start(words(data_folder, tmp_path, 5000)) as command:
        wait_until(lambda: len(list(tmp_path.rglob(CHECKPOINT))) == 2, 60)
        workers = workers_of(command.pid)
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: all(state_of(Path(f"/proc/{worker}/stat"))[0] == "T" for worker in workers), 60)
        command.send_signal(signal.SIGINT)
        wait_until(lambda: all(is_pending(signal.SIGTERM, worker) for worker in workers), GRACE)
        command.send_signal(signal.SIGINT)
        wait_until(lambda: not living(workers), GRACE - 1.5)
        assert command.wait(timeout=SECONDS) == 130


def test_a_second_signal_while_workers_are_told_to_stop_kills_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    workers = []
    for _ in range(2):
        ours, _theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
        process.start()
        workers.append(_Worker(process, ours, "cpu"))
    monkeypatch.setattr(workers[0].process, "terminate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _stop(workers)
    assert [worker.process.exitcode for worker in workers] == [-signal.SIGKILL] * 2


def of_python_itself(error: str) -> bool:
    """Whether a traceback is of a Python that has not come through the first module of ours, which minds signals."""
    ours = set(re.findall(rf'File "{ROOT}/(\S+)"', error))
    return ("<frozen site>" in error or "<frozen runpy>" in error) and ours <= {"bench/__init__.py"}


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES, **NAMES)
def test_a_signal_at_any_moment_of_a_start_ends_without_a_traceback(number: int, tmp_path: Path) -> None:
    """While modules are imported, data is made, workers are started."""
    command = words(tmp_path / "data", tmp_path / "results", 5000)
    for tenths in (1, 3, 7, 12, 20, 30, 45, 60):
        with start(command) as process:
            time.sleep(tenths / 10)
            os.killpg(process.pid, number)  # as terminals and batch systems do
            code = process.wait(timeout=SECONDS)
            out, error = process.communicate()
            wait_until(lambda: not session_of(process.pid), SECONDS)  # its fork server too, which may be importing
        if not of_python_itself(error):
            assert "Traceback" not in out + error, f"after {tenths / 10} s: {error}"
        # Before the command's own modules are there, the system ends it as it does any process.
        assert code in (CODES[signal.Signals(number)], -number), f"after {tenths / 10} s"
    assert not [path for path in tmp_path.rglob("*") if re.search(r"\.tmp$", path.name)]


def test_a_signal_that_a_library_turns_into_an_error_still_stops() -> None:
    """Compiled modules that are interrupted while imported raise an ImportError with the signal as its cause."""

    def importing() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as stop:
            raise ImportError("initialization failed") from stop

    def loading() -> None:
        try:
            importing()
        except ImportError as error:
            raise RuntimeError("a package can't be used") from error

    for work in (importing, loading):
        with pytest.raises(Stopped) as stop, stopped_by(signal.SIGTERM):
            work()
        assert exit_code(stop.value) == 143
    with pytest.raises(ImportError, match="another"), stopped_by(signal.SIGTERM):
        raise ImportError("another") from ValueError()


def test_ctrl_c_while_modules_are_imported(tmp_path: Path) -> None:
    program = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
    (tmp_path / "torch.py").write_text(program)
    done = start(["bench.run"], PYTHONPATH=str(tmp_path))
    assert done.communicate() == ("", "") and done.returncode == 130


@pytest.mark.slow
def test_a_stopped_command_goes_on(data_folder: Path, tmp_path: Path) -> None:
    with start(words(data_folder, tmp_path, 60)) as command:
        wait_until(lambda: list(tmp_path.rglob(CHECKPOINT)), 60)
        command.send_signal(signal.SIGTERM)
        assert command.wait(timeout=SECONDS) == 143
    with start(words(data_folder, tmp_path, 60)) as command:
        out, error = command.communicate(timeout=120)
    assert command.returncode == 0, out + error
    assert [read_record(path).status for path in tmp_path.rglob(RECORD)] == ["done", "done"]


def test_a_fork_server_and_its_processes_leave_ctrl_c_to_the_command() -> None:
    """They would print a traceback while they import torch."""
    program = """
import os, signal, time
from multiprocessing import forkserver
from bench.processes.fork_server import process_context

if __name__ == "__main__":
    process = process_context(["torch"]).Process(target=time.sleep, args=(0,))
    time.sleep(0.5)
    os.kill(forkserver._forkserver._forkserver_pid, signal.SIGINT)
    process.start()
    process.join()
    print(process.exitcode, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("0 False\n", "")
