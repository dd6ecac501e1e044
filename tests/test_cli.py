"""The commands as a user types them: valid requests, invalid ones, interruptions and killed workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from multiprocessing import active_children
from pathlib import Path

import pytest
from data_trees import write_digits

import bench.plan
from bench import ROOT, data, run
from bench.__main__ import COMMANDS
from bench.__main__ import main as list_commands
from bench.records.all_records import read_records
from bench.records.store import CHECKPOINT, RECORD, read_record
from bench.spec.study import STUDIES, load_study
from methods import METHODS

QUICK = ["--data", "digits", "--seeds", "0", "--epochs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def small_root(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with few digits, and the other embedded data sets."""
    root = write_digits(tmp_path_factory.mktemp("small")).parent
    for name in ("rooms", "faces"):
        (root / name).symlink_to(data_root / name)
    return root


@pytest.fixture
def ask(small_root: Path, tmp_path: Path) -> Callable[..., int]:
    """bench.run with the test's own data and results."""

    def call(*arguments: str) -> int:
        return run.main([*arguments, "--results", str(tmp_path), "--data-root", str(small_root)])

    return call


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "nashmlt", "--data", "digits"], "Did you mean 'nash_mtl'?"),
        (["--method", "ew", "--data", "officehom"], "Did you mean 'officehome'?"),
        (["--method", "ew", "--data", "digits", "--arch", "norml"], "Did you mean 'normal'?"),
        (["--method", "ew", "--data", "digits", "--weighting", "cagrd"], "Did you mean 'cagrad'?"),
        (["--study", "embeded"], "Did you mean 'embedded'?"),
        (["--method", "ew", "--data", "digits", "--set", "train.eopchs=3"], "Did you mean 'epochs'?"),
        (["--method", "ew", "--data", "digits", "--set", "trian.epochs=3"], "Did you mean 'train'?"),
        (["--method", "ew", "--data", "digits", "--set", "epochs=3"], "section.key"),
        (["--method", "ew", "--data", "digits", "--set", "train.lr=fast"], "train.lr: "),
        (["--method", "ew", "--data", "digits", "--set", "train.lr=-1"], "`lr` must be ≥ 0, found -1"),
        (["--method", "cagrad", "--data", "digits", "--set", "weighting.c=-0.3"], "`c` must be ≥ 0, found -0.3"),
        (["--method", "ew", "--data", "digits", "--set", "weighting.c=0.3"], "Unknown setting of EW 'c'"),
        (
            ["--method", "normal", "--data", "digits", "--set", "arch.initial_positions=[1,2]"],
            "must hold 1 or 4 numbers",
        ),
        (["--method", "ew", "--data", "digits", "--set", "backbone.name=resnet81"], "Did you mean 'resnet18'?"),
        (["--method", "ew", "--data", "digits", "--set", "backbone.weights=/no/such.pt"], "a file with a state dict"),
        (["--method", "ew", "--data", "digits", "--device", "abacus"], "Expected a device"),
        (["--method", "ew"], "Expected --data"),
        (["--data", "digits"], "Expected --method"),
    ],
)
def test_bad_input_ends_with_two_lines_and_2(
    arguments: list[str], message: str, ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) <= 2
    assert not list(tmp_path.rglob("record.json"))


@pytest.mark.parametrize("name", ["office31", "officehome", "nyuv2", "celeba"])
def test_absent_data_says_what_was_looked_for_where_and_how_to_supply_it(
    name: str, ask: Callable[..., int], capsys: pytest.CaptureFixture[str], small_root: Path
) -> None:
    assert ask("--method", "normal", "--data", name) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"{name}: expected a folder {name}") and error.count("\n") == 1
    assert str(small_root) in error and "--data-root" in error and "lay it out as" in error


def test_all_errors_are_named_at_once(ask: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask("--method", "nashmlt", "ew", "--data", "digits", "officehome", "celebb") == 2
    error = capsys.readouterr().err
    assert all(part in error for part in ("nash_mtl", "officehome: expected", "celeba"))


def test_invalid_options_end_with_2(ask: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--epochs", "0"], ["--set", "nonsense"], ["--jobs", "many"]):
        with pytest.raises(SystemExit) as exit_:
            ask("--method", "ew", "--data", "digits", *arguments)
        assert exit_.value.code == 2
    assert "expected a whole number ≥ 1, found '0'" in capsys.readouterr().err


def test_a_dry_run_trains_nothing(ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert ask("--method", "all", *QUICK, "--dry-run") == 0
    out = capsys.readouterr().out
    everything = len(METHODS) - 1  # but "frozen", which without a source would be EW again
    assert out.count("would run digits") == everything and f"{everything} runs to train" in out
    assert "would run digits stl" in out and "would run digits frozen" not in out
    assert list(tmp_path.iterdir()) == []


def test_names_in_any_spelling_and_pairs_of_architecture_and_weighting(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask("--method", "Nash-MTL", *QUICK, "--arch", "NORMAL", "--set", "arch.xi=0.5", "weighting.max_norm=2") == 0
    (record,) = read_records(tmp_path)
    assert record.method == "normal+nash_mtl" and record.labels.method == "NORMAL + Nash-MTL"
    assert record.overrides == {"train.epochs": 1, "arch.xi": 0.5, "weighting.max_norm": 2.0}
    assert record.settings["weighting"] == {"max_norm": 2.0, "every": 1, "momentum": 0.0, "grad_space": "shared"}
    assert ask("--weighting", "cagrad", *QUICK) == 0
    assert {r.method for r in read_records(tmp_path)} == {"normal+nash_mtl", "cagrad"}


def test_what_is_done_is_not_done_again_and_other_settings_are_refused(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask("--method", "ew", *QUICK) == 0
    (path,) = tmp_path.rglob(RECORD)
    before = path.read_bytes()
    assert ask("--method", "ew", *QUICK) == 0
    assert "nothing to train" in capsys.readouterr().out and path.read_bytes() == before
    raw = json.loads(before)
    raw["settings"]["train"]["lr"] = 0.5
    path.write_text(json.dumps(raw))
    assert ask("--method", "ew", *QUICK) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_a_bad_record_is_announced_moved_aside_and_trained_again(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask("--method", "ew", *QUICK) == 0
    (path,) = tmp_path.rglob(RECORD)
    good = json.loads(path.read_text())
    path.write_text(json.dumps({**good, "seed": 5}))
    bad = path.read_bytes()
    capsys.readouterr()
    found = f"digits/{path.parts[-3]}/seed-5"
    remark = f"{path}: expected the run that its folder names, found {found}; `bench.run` moves it aside"
    assert ask("--method", "ew", *QUICK, "--dry-run") == 0
    out = capsys.readouterr().out
    assert remark in out and "1 runs to train" in out and path.read_bytes() == bad
    plan = ["--method", "ew", *QUICK, "--budget", "1", "--results", str(tmp_path), "--data-root", str(tmp_path)]
    assert bench.plan.main(plan) == 0
    assert remark in capsys.readouterr().out and path.read_bytes() == bad
    assert ask("--method", "ew", *QUICK) == 0
    out = capsys.readouterr().out
    assert remark in out and f"its bad record was moved to {path}.bad." in out
    assert path.with_name("record.json.bad").read_bytes() == bad
    again = json.loads(path.read_text())
    assert again["seed"] == 0 and again["test"] == good["test"]


def test_a_file_in_the_place_of_a_folder_ends_before_anything_is_trained(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "digits").write_text("")
    assert ask("--method", "ew", "uw", *QUICK) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and all("expected a folder at" in line for line in lines)


def test_divergence_does_not_stop_a_study(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert ask("--method", "ew", "uw", *QUICK, "--set", "train.lr=1e30", "train.batch_size=4") == 0
    records = read_records(tmp_path)
    assert [record.status for record in records] == ["diverged", "diverged"]
    assert all("is nan at step" in record.reason or "is inf at step" in record.reason for record in records)
    assert "2 diverged" in capsys.readouterr().out


def test_studies_are_sound() -> None:
    for path in STUDIES.glob("*.yaml"):
        assert load_study(path.stem).title


def test_a_study_of_absent_data_takes_the_embedded_ones(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("--study", "paper", "--dry-run") == 0
    out = capsys.readouterr().out
    assert all(f"{name}: not found under" in out for name in ("office31", "officehome", "nyuv2", "celeba"))
    assert "running digits, rooms, faces instead" in out and "81 runs to train" in out


def test_every_command_has_help_and_stands_in_the_listing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_commands([]) == 0
    listing = capsys.readouterr().out
    for command in COMMANDS:
        assert command in listing
        with pytest.raises(SystemExit) as ended:
            import_module(command).main(["--help"])
        assert ended.value.code == 0
        assert f"usage: python -m {command}" in capsys.readouterr().out, command


def test_commands_by_their_short_names(capsys: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "bench", "foo"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("Unknown command 'foo'. ") and done.stderr.count("\n") == 1
    assert list_commands(["reprot"]) == 2
    assert "Did you mean 'report'?" in capsys.readouterr().err
    assert list_commands(["data", "how", "celebA"]) == 0
    assert "Img/img_align_celeba" in capsys.readouterr().out


def test_the_listing_of_data(capsys: pytest.CaptureFixture[str], data_root: Path) -> None:
    assert data.main(["list", "--data-root", str(data_root)]) == 0
    listing = capsys.readouterr().out
    assert "Office-Home" in listing and "not found" in listing and str(data_root / "digits") in listing
    assert data.main(["how", "celebb"]) == 2


def wait_for(found: Callable[[], object], running: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not found():
        assert time.monotonic() < deadline and running()
        time.sleep(0.02)


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_resumes_the_rest(
    capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path
) -> None:
    arguments = ["--method", "ew", "--data", "digits", "--device", "cpu"]
    arguments += ["--seeds", "0", "1", "--epochs", "6", "--jobs", "1"]
    arguments += ["--results", str(tmp_path), "--data-root", str(data_root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.run", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell has its background jobs ignore Ctrl-C, and so would a child of a test that runs in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_for(lambda: list(tmp_path.rglob(f"seed-1/{CHECKPOINT}")), lambda: process.poll() is None)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
    out, error = process.communicate(timeout=300)
    assert process.returncode == 130 and "Traceback" not in error + out
    assert "1 runs are finished and kept" in error
    (kept,) = read_records(tmp_path)
    assert kept.seed == 0 and kept.status == "done"
    assert run.main(arguments) == 0
    assert "1 runs to train, 1 already kept" in capsys.readouterr().out
    assert [record.status for record in read_records(tmp_path)] == ["done", "done"]


@pytest.mark.slow
def test_a_killed_worker_is_a_failed_run_and_the_others_go_on(
    ask: Callable[..., int], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments = ["--method", "ew", "uw", "--data", "digits", "--device", "cpu"]
    arguments += ["--seeds", "0", "--epochs", "6", "--jobs", "1", "--retries", "0"]

    def kill_worker() -> None:
        wait_for(lambda: list(tmp_path.rglob(CHECKPOINT)), lambda: bool(active_children()))
        for worker in active_children():
            worker.kill()

    with ThreadPoolExecutor(1) as killer:
        started = killer.submit(lambda: wait_for(active_children, lambda: True) or kill_worker())
        assert ask(*arguments) == 1
        started.result()
    assert "1 done, 1 failed" in capsys.readouterr().out
    failed = read_record(tmp_path / "digits" / variant(tmp_path, "ew") / "seed-0" / RECORD)
    assert failed.status == "failed" and "killed by SIGKILL" in failed.reason
    assert ask(*arguments) == 0  # a failed run is tried again, from its checkpoint
    assert "1 runs to train, 1 already kept" in capsys.readouterr().out


def variant(results: Path, method: str) -> str:
    (folder,) = (results / "digits").glob(f"{method}@*")
    return folder.name
