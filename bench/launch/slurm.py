"""Shards of a command as a SLURM job array, through submitit.

Each job runs the same command, with `--shard`. Before its time is over, SLURM sends SIGUSR2: the job tells the command
to stop, so that every run keeps a checkpoint, and is queued again.

submitit pickles what it submits and what comes back; these files and the logs are in a folder that only their user may
read. A job reads nothing else that is pickled. Each submission has a folder of its own there, which goes if SLURM
refuses it.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.launch.cluster import ClusterUnavailable, SlurmOptions, require_package
from bench.records.files import StorageError, storage_error
from bench.records.plain_text import one_line

LOGS = ".slurm"  # in the folder of results
# Seconds between the signal and the end of a job. Workers have GRACE of them, the rest is for a slow file system.
NOTICE = 30
# Jobs are queued again this often: each attempt leaves a later checkpoint.
MOST_REQUEUES = 1000
_POLL = 0.5
_QUEUE_POLL = 5.0  # seconds: SLURM asks not to be asked more often
_MOST_FAILURES = 60  # its controller may be restarted
_LONGEST_REASON = 300  # characters of what sbatch says


class ShardFailed(Exception):
    """The command of a job ended with an error."""


@dataclass
class ShardedCommand:
    """What a job runs, and how it stops; the interface is submitit's.

    words: of the command, from "python" on.
    """

    words: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def __call__(self) -> int:
        """Raises ShardFailed if the command fails: SLURM shows that job as failed."""
        print(" ".join(map(shlex.quote, self.words)), flush=True)
        # SLURM signals all processes of a job. Only this one may act on it, or workers would end without a checkpoint.
        before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        try:
            self.process = subprocess.Popen(self.words)
        finally:
            signal.signal(signal.SIGUSR2, before)
        while self.process.poll() is None:
            time.sleep(_POLL)
        if self.process.returncode:
            raise ShardFailed(f"{' '.join(self.words)} ended with exit code {self.process.returncode}")
        return 0

    def checkpoint(self) -> Any:
        """What to submit again when the time of a job is over: the same, after the command has stopped."""
        from submitit.helpers import DelayedSubmission

        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError, ChildProcessError):  # it ends in this moment
                os.kill(self.process.pid, signal.SIGTERM)
                # Its exit code stays: this runs as a handler, within whatever `__call__` does with the process.
                os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
        return DelayedSubmission(ShardedCommand(self.words))


@dataclass(frozen=True)
class Submission:
    """The names of the jobs of an array, and the folder of their logs."""

    jobs: list[str]
    logs: Path


def submit(command: Sequence[str], results: Path, options: SlurmOptions) -> Submission:
    """Submits a command in shards, as one array. Nothing is left of a submission that is refused.

    command: its module and words, such as ["bench.run", "--study", "paper"].

    Raises:
        ClusterUnavailable: submitit or SLURM is missing, or SLURM refuses. StorageError: logs can't be written.
    """
    require_package("submitit")
    if shutil.which("sbatch") is None:
        raise ClusterUnavailable("Expected SLURM's commands, found no sbatch; run this on a machine that submits jobs.")
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    shards = [_shard_of(command, index, options.jobs) for index in range(1, options.jobs + 1)]
    absent = [folder for folder in (results / LOGS, results, *results.parents) if not folder.exists()]
    folder, said = _submission_folder(results), io.StringIO()
    try:
        with redirect_stderr(said):  # submitit prints what sbatch says, which is in the message
            jobs = _submitted(shards, folder, options)
    except FailedSubmissionError as error:
        raise ClusterUnavailable(
            f"Expected sbatch to name the jobs, found: {_reason(error)}; look for them with squeue, cancel them with "
            "scancel, and give the same command again."
        ) from error
    except (FailedJobError, ValueError) as error:
        _remove(folder, absent)
        raise ClusterUnavailable(
            f"Expected sbatch to accept the jobs, found: {_reason(error)}.\n"
            "Nothing was submitted; correct --partition, --time, --jobs or --slurm, and give the command again."
        ) from error
    print(said.getvalue(), end="", file=sys.stderr)
    return Submission(jobs, folder)


def _submitted(shards: Sequence[ShardedCommand], folder: Path, options: SlurmOptions) -> list[str]:
    """The names of the jobs; raises what submitit raises."""
    from submitit import SlurmExecutor

    executor = SlurmExecutor(folder=folder, max_num_timeout=MOST_REQUEUES)
    executor.update_parameters(
        job_name="bench",
        time=options.minutes,
        **({"partition": options.partition} if options.partition else {}),
        signal_delay_s=NOTICE,
        # Where the environment of the command is not handed on, jobs still find this checkout.
        setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        additional_parameters={"requeue": True, **options.further},
    )
    with executor.batch():
        jobs = [executor.submit(shard) for shard in shards]
    return [str(job.job_id) for job in jobs]


def _reason(error: Exception) -> str:
    """What sbatch says, in one line."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in str(error).splitlines()]
    return one_line("; ".join(line for line in lines if line))[:_LONGEST_REASON] or "no reason"


def _submission_folder(results: Path) -> Path:
    """A new folder for the files of one submission, named by the time."""
    parent = logs_folder(results)
    try:
        return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d-%H%M%S-"), dir=parent))  # of mode 0700
    except OSError as error:
        raise storage_error(parent, error) from error


def _remove(folder: Path, absent: Sequence[Path]) -> None:
    """Removes the folder of a submission, and those around it that were absent before and hold nothing else."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise storage_error(folder, error) from error
    with suppress(OSError):  # another command has written there meanwhile
        for around in absent:
            around.rmdir()


def logs_folder(results: Path) -> Path:
    """The folder of logs and pickled submissions, readable by its user alone."""
    folder = results / LOGS
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # What is pickled there is executed: nobody else may have made it.
        if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
            raise StorageError(f"{folder}: expected a folder of yours, found another user's or a link; move it away.")
        folder.chmod(0o700)
    except OSError as error:
        raise storage_error(folder, error) from error
    return folder


def wait_for(jobs: Sequence[str]) -> None:
    """Returns when no job is queued or running, those that are queued again included.

    Raises:
        ClusterUnavailable: SLURM doesn't answer, again and again.
    """
    failures = 0
    while failures < _MOST_FAILURES:
        done = subprocess.run(["squeue", "-h", "-o", "%i", "-j", ",".join(jobs)], capture_output=True, text=True)
        if "Invalid job id" in done.stderr or (done.returncode == 0 and not done.stdout.strip()):
            return
        failures = failures + 1 if done.returncode else 0
        time.sleep(_QUEUE_POLL)
    raise ClusterUnavailable(f"Expected an answer of squeue, found: {done.stderr.strip()}; the jobs may go on.")


def _shard_of(command: Sequence[str], index: int, count: int) -> ShardedCommand:
    return ShardedCommand([sys.executable, "-m", *command, "--shard", f"{index}/{count}"])
