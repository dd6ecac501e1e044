"""A SLURM cluster of one node on this machine, with its own folder, keys and ports; all of it ends with the test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
_PATIENCE = 60  # seconds for each part to start

_CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort={controller}
SlurmdPort={daemon}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
MailProg=/bin/true
JobRequeue=1
KillWait=10
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_unavailable() -> str:
    """Why there can be no such cluster here; "" if there can."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    missing = [name for name in PROGRAMS if shutil.which(name, path=folders) is None]
    if missing:
        return f"SLURM is not installed: no {', '.join(missing)} (Debian: slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "a SLURM cluster for a test needs root"


@contextmanager
def slurm_cluster() -> Iterator[Mapping[str, str]]:
    """A running cluster; the environment variables that its commands need."""
    with ExitStack() as opened:
        # Not in pytest's folder: a socket's path has at most 107 characters.
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host = socket.gethostname().partition(".")[0]
        ports = dict(zip(("controller", "daemon"), free_ports(2), strict=True))
        (folder / "slurm.conf").write_text(_CONFIG.format(folder=folder, host=host, **ports))
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        environment = {"SLURM_CONF": str(folder / "slurm.conf")}
        files = [
            f"--{name}={folder}/munge.{name.removesuffix('-file')}" for name in ("pid-file", "seed-file", "log-file")
        ]
        opened.enter_context(
            running(
                ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *files]
            )
        )
        until(lambda: (folder / "munge.socket").exists())
        opened.enter_context(running(["slurmctld", "-D", "-i"], environment))
        opened.enter_context(running(["slurmd", "-D", "-N", "node"], environment))
        until(lambda: "idle" in ask(["sinfo", "-h", "-o", "%t"], environment))
        opened.callback(ask, ["scancel", "--full", "--signal=KILL", "--user=root"], environment)
        yield environment


@contextmanager
def running(command: list[str], environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """A server, until the context ends."""
    folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    program = shutil.which(command[0], path=folders)
    assert program is not None
    process = subprocess.Popen(
        [program, *command[1:]],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def ask(command: list[str], environment: Mapping[str, str]) -> str:
    """What a command of SLURM prints, its errors included."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    return done.stdout + done.stderr


def until(true: object, seconds: float = _PATIENCE) -> None:
    """Waits until a function says so."""
    assert callable(true)
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "SLURM did not get there in time"
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody uses now."""
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
