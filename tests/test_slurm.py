"""Jobs of SLURM: arrays of shards, and jobs that run out of time and are queued again."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from data_trees import write_digits
from kills import differences, numbers
from slurm_cluster import ask, slurm_cluster, until, why_unavailable

from bench import ROOT, run
from bench.launch.cluster import ClusterUnavailable, SlurmOptions
from bench.launch.slurm import LOGS, ShardedCommand, logs_folder, submit
from bench.records.all_records import read_records
from bench.records.claim import CLAIM
from bench.records.files import StorageError
from bench.records.store import CHECKPOINT

needs_slurm = pytest.mark.skipif(bool(why_unavailable()), reason=why_unavailable() or "there is one")
# Of training, so that a job of two minutes, which gets its signal after 30 to 90 s, can't finish it.
LONG = 130.0


@pytest.fixture(scope="module")
def slurm() -> Iterator[Mapping[str, str]]:
    with slurm_cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_digits(tmp_path_factory.mktemp("data")).parent


def request_of(data_root: Path, *words: str) -> list[str]:
    quick = ["--data", "digits", "--device", "cpu", "--set", "train.batch_size=4"]
    return [*words, *quick, "--data-root", str(data_root), "--results"]


def test_a_job_whose_time_is_over_stops_its_command_and_is_submitted_again(tmp_path: Path) -> None:
    """And no other process of the job acts on the signal that SLURM sends to all of them."""
    pytest.importorskip("submitit", reason="submitit is part of the extra cluster")
    script = (
        "import os, signal, sys, time\n"
        "def stop(*_):\n    open(sys.argv[1], 'a').write(f'{ignored}'); sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, stop)\n"
        "ignored = signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN\n"
        "open(sys.argv[1], 'w').write('ready ')\ntime.sleep(60)\n"
    )
    said = tmp_path / "said"
    job = ShardedCommand([sys.executable, "-c", script, str(said)])
    again: list[object] = []

    class Requeued(Exception):
        pass

    def handle(number: int, frame: object) -> None:  # as submitit's handler, within the job's main function
        again.append(job.checkpoint())
        raise Requeued

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        watch = f"until grep -q ready {said} 2>/dev/null; do sleep 0.05; done; kill -USR2 {os.getpid()}"
        with subprocess.Popen(["sh", "-c", watch]), pytest.raises(Requeued):
            job()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert said.read_text() == "ready True"
    assert again[0].function == ShardedCommand(job.words)  # type: ignore[attr-defined]


def test_logs_are_for_their_user_alone(tmp_path: Path) -> None:
    assert logs_folder(tmp_path) == tmp_path / LOGS
    assert (tmp_path / LOGS).stat().st_mode & 0o777 == 0o700
    (tmp_path / LOGS).rename(tmp_path / "elsewhere")
    (tmp_path / LOGS).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="expected a folder of yours, found another user's or a link"):
        logs_folder(tmp_path)


# What sbatch of SLURM 22.05 says; `test_a_refused_submission_leaves_nothing` compares with the real one.
REFUSAL = (
    "sbatch: error: invalid partition specified: nowhere\n"
    "sbatch: error: Batch job submission failed: Invalid partition name specified\n"
)
IN_WORDS = (
    "Expected sbatch to accept the jobs, found: invalid partition specified: nowhere; "
    "Batch job submission failed: Invalid partition name specified.\n"
    "Nothing was submitted; correct --partition, --time, --jobs or --slurm, and give the command again."
)


def contents(folder: Path) -> dict[str, bytes | None]:
    """What is below a folder, with the bytes of files."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("jobs", [1, 3])
@pytest.mark.parametrize("others", [False, True], ids=["first", "beside others"])
def test_a_refusal_is_told_in_two_lines_and_leaves_nothing(
    jobs: int, others: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("submitit", reason="submitit is part of the extra cluster")
    programs, results = tmp_path / "bin", tmp_path / "below" / "results"
    programs.mkdir()
    (programs / "said").write_text(REFUSAL)
    for name in ("sbatch", "srun"):
        (programs / name).write_text(f'#!/bin/sh\ncp "$1" {programs}/script; cat {programs}/said >&2; exit 1\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    if others:
        other = results / LOGS / "earlier"
        other.mkdir(parents=True)
        (other / "1_submitted.pkl").write_bytes(b"of a job that waits")
        (results / LOGS / "0123456789abcdef0123456789abcdef.pkl").write_bytes(b"of a submission that goes on")
    before = contents(tmp_path)
    with pytest.raises(ClusterUnavailable) as caught:
        submit(["bench.run", "--method", "ew"], results, SlurmOptions(jobs, 60, "nowhere"))
    assert str(caught.value) == IN_WORDS and capfd.readouterr() == ("", "")
    assert "#SBATCH --partition=nowhere" in (programs / "script").read_text()
    (programs / "script").unlink()
    assert contents(tmp_path) == before


def run_under(slurm: Mapping[str, str], words: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    """The command bench.run with the variables that name the cluster."""
    return subprocess.run(
        [sys.executable, "-m", "bench.run", *words],
        cwd=ROOT,
        env={**os.environ, **slurm},
        capture_output=True,
        text=True,
        timeout=seconds,
    )


@needs_slurm
@pytest.mark.slow
def test_a_refused_submission_leaves_nothing(slurm: Mapping[str, str], data_root: Path, tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is part of the extra cluster")
    request = request_of(data_root, "--method", "ew", "--seeds", "0", "--epochs", "1")
    words = [*request, str(tmp_path / "results"), "--launcher", "slurm", "--jobs", "2", "--partition", "nowhere"]
    done = run_under(slurm, words, 120)
    assert done.returncode == 2 and done.stderr == f"{IN_WORDS}\n", (done.stdout, done.stderr)
    assert not (tmp_path / "results").exists() and not ask(["squeue", "-h"], slurm).strip()


@needs_slurm
@pytest.mark.slow
def test_an_array_of_shards_completes_a_request(
    slurm: Mapping[str, str], data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = request_of(data_root, "--method", "ew", "uw", "mgda", "--seeds", "0", "1", "--epochs", "2")
    words = " ".join([*request, str(tmp_path / "results")])
    script = tmp_path / "job.sh"
    script.write_text(
        f"#!/bin/bash\n#SBATCH --array=1-3\n#SBATCH --output={tmp_path}/%a.log\ncd {ROOT}\n"
        f"exec {sys.executable} -m bench.run {words} --shard $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT\n"
    )
    assert "Submitted batch job" in ask(["sbatch", str(script)], slurm)
    until(lambda: not ask(["squeue", "-h"], slurm).strip(), 300)
    logs = "".join((tmp_path / f"{index}.log").read_text() for index in (1, 2, 3))
    assert len(re.findall(r"^Shard \d of 3: ", logs, re.MULTILINE)) == logs.count(" done. Records: ") == 3, logs
    assert run.main([*request, str(tmp_path / "results")]) == 0
    assert "All 6 runs are already in" in capsys.readouterr().out
    assert not list(tmp_path.rglob(CLAIM))


@needs_slurm
@pytest.mark.slow
def test_jobs_that_run_out_of_time_are_queued_again_until_all_runs_are_complete(
    slurm: Mapping[str, str], data_root: Path, tmp_path: Path
) -> None:
    pytest.importorskip("submitit", reason="submitit is part of the extra cluster")
    assert (
        run.main([*request_of(data_root, "--method", "ew", "--seeds", "0", "--epochs", "200"), str(tmp_path / "pace")])
        == 0
    )
    (pace,) = read_records(tmp_path / "pace")
    epochs = round(200 * LONG / pace.seconds)
    study = tmp_path / "study.yaml"
    study.write_text(
        "title: One long run and one short one\ndata: [digits]\nseeds: [0]\n"
        "tables:\n  - name: two\n    title: Two\n    rows:\n"
        f"      - {{label: EW, method: ew, set: {{train.epochs: {epochs}}}}}\n"
        "      - {label: UW, method: uw, set: {train.epochs: 2}}\n"
    )
    request = request_of(data_root, "--study", str(study))
    command = [*request, str(tmp_path / "slurm"), "--launcher", "slurm", "--jobs", "2", "--time", "2", "--wait"]
    start = time.monotonic()
    done = run_under(slurm, command, 900)
    logs = {path.name: path.read_text() for path in (tmp_path / "slurm" / LOGS).glob("*/*_log.*")}
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    assert "2 runs to train, 0 already kept; submitted as 2 jobs of 2 min" in done.stdout
    assert done.stdout.endswith("All jobs have ended. 2 runs are kept, 0 are left.\n")
    requeues = sum(text.count("Requeued job") for text in logs.values())
    assert requeues >= 1 and time.monotonic() - start > LONG, logs
    assert not [*(tmp_path / "slurm").rglob(CLAIM), *(tmp_path / "slurm").rglob(CHECKPOINT)]
    assert (tmp_path / "slurm" / LOGS).stat().st_mode & 0o777 == 0o700
    assert run.main([*request, str(tmp_path / "whole")]) == 0
    assert not differences(numbers(tmp_path / "slurm"), numbers(tmp_path / "whole"))
