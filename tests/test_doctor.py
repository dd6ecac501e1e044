"""python -m bench.doctor: what it says is true of this machine, and nothing is downloaded."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import requires, version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from data_trees import write_celeba, write_office

from bench import ROOT, doctor
from bench.inspection import packages
from bench.inspection.packages import Finding, installed, pair_mismatch, parse_requirement, requirements
from datasets import DATASETS

WEIGHTS = "resnet18-f37072fd.pth"

Examine = Callable[..., tuple[int, dict[str, str], str]]


@pytest.fixture
def examine(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Examine:
    """The doctor's exit code, its rows by topic, and all it prints; any use of the network fails."""

    def refuse(*arguments: object) -> None:
        raise AssertionError(f"the doctor goes online: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def call(*arguments: str | Path) -> tuple[int, dict[str, str], str]:
        places = ["--data-root", tmp_path / "data", "--results", tmp_path / "results"]
        code = doctor.main([str(argument) for argument in (*places, *arguments)])
        out = capsys.readouterr().out
        rows = {match[1]: match[2] for match in re.finditer(r"^  (\S+(?: \S+)*)  +(\w+ +.*)$", out, re.MULTILINE)}
        return code, rows, out

    return call


def test_a_bare_machine(examine: Examine, tmp_path: Path) -> None:
    start = time.monotonic()
    code, rows, out = examine()
    assert code == 0 and out.rstrip().endswith("Everything that every run needs is here.")
    assert time.monotonic() - start < 30
    assert len(out.splitlines()) <= 45  # one screen
    for name, info in DATASETS.items():
        assert ("made when needed" if info.make else "not found. ") in rows[name]
        assert rows[name].startswith("skipped") == (info.make is None)
    assert "Skipped: office31, officehome, nyuv2, celeba" in out
    assert "No data set here needs them yet" in rows["ResNet18 weights"]
    assert not list(tmp_path.iterdir())  # it makes nothing


def test_versions_devices_and_optional_packages_are_those_of_this_machine(examine: Examine) -> None:
    code, rows, _ = examine()
    assert code == 0 and f"{sys.version_info.major}.{sys.version_info.minor}." in rows["Python"]
    assert f"torch {version('torch')}, torchvision {version('torchvision')}" in rows["torch"]
    assert rows["accelerator"].startswith("slow") == (not torch.accelerator.is_available())
    for topic, module in (("TorchJD", "torchjd"), ("LibMTL", "LibMTL"), ("pyarrow", "pyarrow"), ("pytest", "pytest")):
        assert rows[topic].startswith("skipped") == (find_spec(module) is None)
        if find_spec(module):
            assert rows[topic].endswith(f" {version(topic)}")
    assert rows["pdflatex"].startswith("skipped") == (shutil.which("pdflatex") is None)
    peers = [requirement.package for requirement in requirements("peers")]
    assert rows["peers' solvers"].startswith("skipped") == any(installed(package) is None for package in peers)


def test_data_is_found_and_its_weights_are_missed(examine: Examine, tmp_path: Path) -> None:
    write_office(tmp_path / "data" / "officehome", "officehome")
    _, rows, out = examine()
    assert re.fullmatch(rf"ok +{tmp_path}/data/officehome", rows["officehome"])
    assert "officehome download them once" in rows["ResNet18 weights"]
    assert "Skipped: office31, nyuv2, celeba" in out


def test_an_incomplete_data_set_is_not_ok(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "data/officehome/Art").mkdir(parents=True)
    code, rows, out = examine()
    assert code == 1 and "Fix before any run: officehome." in out
    assert rows["officehome"].startswith(f"missing  {tmp_path}/data/officehome: expected 4 domains, ")
    assert rows["officehome"].endswith("python -m bench.data check officehome")


def test_it_says_where_prepared_arrays_go(examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data" / "celeba"
    write_celeba(root)
    assert re.fullmatch(rf"ok +go into {root}/\.decoded", examine()[1]["celeba arrays"])
    own = rf"{tmp_path}/own/celeba-\w{{8}}"
    assert re.fullmatch(rf"ok +go into {own}", examine("--cache-dir", tmp_path / "own")[1]["celeba arrays"])
    assert not (tmp_path / "own").exists() and not (root / ".decoded").exists()  # it makes nothing
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (root / ".decoded").touch()  # as a folder that can't be written, not even by root
    row = examine()[1]["celeba arrays"]
    assert re.match(rf"note +go into {tmp_path}/cache/mtl-bench/celeba-\w{{8}}\. {root}/\.decoded is not writable", row)
    (tmp_path / "file").touch()
    row = examine("--cache-dir", tmp_path / "file")[1]["celeba arrays"]
    assert row.startswith("skipped") and f"{tmp_path}/file/celeba-" in row and row.endswith("--cache-dir DIR")


def test_damaged_weights_are_reported(examine: Examine, tmp_path: Path) -> None:
    path = tmp_path / "torch" / "hub" / "checkpoints" / WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    _, rows, _ = examine()
    assert f"{path} is damaged" in rows["ResNet18 weights"] and "Delete it" in rows["ResNet18 weights"]


def test_folders_that_are_not_writable(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, rows, out = examine("--results", tmp_path / "file" / "results")
    assert code == 1 and "is not writable" in rows["results"] and rows["results"].startswith("missing")
    assert out.rstrip().endswith("Fix before any run: results.")
    code, rows, _ = examine("--data-root", tmp_path / "file" / "data")
    assert code == 0 and "is not writable" in rows["data root"]


def test_without_packages_it_names_them_and_the_command_to_install_them() -> None:
    """-S hides all packages but the standard library."""
    done = subprocess.run([sys.executable, "-S", "-m", "bench.doctor"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    assert "packages: without torch, torchvision" in done.stdout
    assert done.stdout.endswith("pip install -e . -c constraints.txt\n")  # with nothing after it, to be copied


def test_the_package_check_imports_only_the_standard_library() -> None:
    program = "import sys, bench.inspection.packages as p; p.package_finding(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported = {name.split(".")[0] for name in done.stdout.split()}
    assert not imported & {"torch", "numpy", "rich", "packaging", "yaml", "methods", "datasets"}


def test_every_command_can_be_copied() -> None:
    text = str(Finding("topic", "not installed", "skipped", "Install it", "pip install -e ."))
    assert text == "not installed. Install it: pip install -e ."
    for command in (packages.INSTALL, packages.INSTALL_PEERS):
        words = shlex.split(command)
        assert words[:3] == ["pip", "install", "-e"] and words[3] in (".", ".[peers]")
        assert (ROOT / words[5]).is_file()


@pytest.mark.parametrize(
    ("torch_version", "torchvision_version", "required", "mismatch"),
    [
        ("2.15.0", "0.29.2", "torch (>=2.14.0)", ""),
        ("2.15.0+cpu", "0.29.2", "torch (>=2.14.0)", ""),
        ("2.14.1+cu130", "0.29.1+cu130", "torch==2.14.1", ""),
        ("2.14.1", "0.29.1", "torch (==2.14.0)", "requires torch==2.14.0"),
        ("2.13.0", "0.29.2", "torch (>=2.14.0,<3) ; python_version > '3'", "requires torch>=2.14.0,<3"),
        ("2.15.0+cu130", "0.29.2+cpu", "torch (>=2.14.0)", "built for cpu and cu130"),
    ],
)
def test_pairs_of_torch_and_torchvision(
    torch_version: str, torchvision_version: str, required: str, mismatch: str
) -> None:
    found = pair_mismatch(torch_version, torchvision_version, ["numpy", required, "pillow (!=8.3.*,>=5.3.0)"])
    assert found.endswith(mismatch) and bool(found) == bool(mismatch)


def test_the_versions_that_the_suite_installs_are_trusted() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {r.package: r.clauses[0][1] for r in map(parse_requirement, lines) if r.clauses}
    extras = [one for extra in ("peers", "parquet", "tensorboard", "tune", "cluster") for one in requirements(extra)]
    for requirement in (*requirements(), *extras):
        exact = next(found for name, found in pinned.items() if name.lower() == requirement.package.lower())
        assert requirement.admits(exact), requirement.package
    if installed("torchvision") == pinned["torchvision"]:
        assert not pair_mismatch(pinned["torch"], pinned["torchvision"], requires("torchvision") or [])


def test_hugging_faces_datasets_in_the_same_environment_is_noted(
    examine: Examine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ("datasets" in examine()[1]) == (installed("datasets") is not None)
    metadata = tmp_path / "site" / "datasets-4.0.0.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text("Metadata-Version: 2.1\nName: datasets\nVersion: 4.0.0\n")
    monkeypatch.syspath_prepend(metadata.parent.parent)
    code, rows, _ = examine()
    assert code == 0 and rows["datasets"].startswith("note") and "Hugging Face's 4.0.0" in rows["datasets"]


def test_requirements_are_those_of_setup_cfg() -> None:
    needed = {requirement.package: requirement for requirement in requirements()}
    assert {"torch", "numpy", "rich", "LibMTL"} <= set(needed) and not needed["torch"].admits("2.13.9")
    assert needed["torch"].admits("2.14") and needed["torch"].admits("2.14.1+cu130") and needed["torch"].admits("3.0")
    torchjd = next(requirement for requirement in requirements("peers") if requirement.package == "torchjd")
    assert torchjd.admits("0.18.0") and torchjd.admits("0.18") and not torchjd.admits("0.18.1")
    assert parse_requirement("any").admits("0.0.1")
