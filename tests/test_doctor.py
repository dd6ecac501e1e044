"""python -m bench.doctor: what it says is true of this machine, and nothing is fetched."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from data_trees import write_celeba

from bench import ROOT, doctor
from bench.inspection.packages import Requirement, are_a_pair, installed, requirements
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
    assert code == 0 and out.rstrip().endswith("All that every run needs is here.")
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
    write_celeba(tmp_path / "data" / "celeba")
    _, rows, out = examine()
    assert re.fullmatch(rf"ok +{tmp_path}/data/celeba", rows["celeba"])
    assert "celeba fetch them once" in rows["ResNet18 weights"]
    assert "Skipped: office31, officehome, nyuv2" in out and "celeba," not in out


def test_damaged_weights_are_told(examine: Examine, tmp_path: Path) -> None:
    path = tmp_path / "torch" / "hub" / "checkpoints" / WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half a download")
    _, rows, _ = examine()
    assert f"{path} is damaged" in rows["ResNet18 weights"] and "Delete it" in rows["ResNet18 weights"]


def test_places_that_cannot_be_written_to(examine: Examine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, rows, out = examine("--results", tmp_path / "file" / "results")
    assert code == 1 and "can't be written to" in rows["results"] and rows["results"].startswith("missing")
    assert out.rstrip().endswith("To be mended before any run: results.")
    code, rows, _ = examine("--data-root", tmp_path / "file" / "data")
    assert code == 0 and "can't be written to" in rows["data root"]


def test_without_packages_it_still_speaks() -> None:
    """Without the site's packages: nothing but Python itself is there."""
    done = subprocess.run([sys.executable, "-S", "-m", "bench.doctor"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    assert "packages: without torch, torchvision" in done.stdout and "pip install -e ." in done.stdout


@pytest.mark.parametrize(
    ("torch_version", "torchvision_version", "pair"),
    [
        ("2.14.1", "0.29.1", True),
        ("2.14.1+cu130", "0.29.1+cu130", True),
        ("2.14.0", "0.29.1", True),
        ("2.0.1", "0.15.2", True),
        ("2.14.1", "0.28.0", False),
        ("2.13.0", "0.29.1", False),
        ("2.14.1+cu130", "0.29.1+cpu", False),
    ],
)
def test_pairs_of_torch_and_torchvision(torch_version: str, torchvision_version: str, pair: bool) -> None:
    assert are_a_pair(torch_version, torchvision_version) == pair


def test_requirements_are_those_of_setup_cfg() -> None:
    needed = {requirement.package: requirement for requirement in requirements()}
    assert {"torch", "numpy", "rich", "LibMTL"} <= set(needed) and not needed["torch"].admits("2.13.9")
    assert needed["torch"].admits("2.14") and needed["torch"].admits("2.14.1+cu130") and needed["torch"].admits("3.0")
    torchjd = next(requirement for requirement in requirements("peers") if requirement.package == "torchjd")
    assert torchjd.admits("0.18.0") and torchjd.admits("0.18") and not torchjd.admits("0.18.1")
    assert Requirement("any", "", "").admits("0.0.1")
