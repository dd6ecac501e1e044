"""Installing: run_all.sh installs tested versions once, and a wheel is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench import ROOT

# Prints what it is asked to run instead of running it.
ECHO = '#!/bin/sh\necho "$@"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that installing reads."""
    for name in ("run_all.sh", "setup.cfg", "setup.py", "pyproject.toml", "constraints.txt", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("bench", "methods", "datasets"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_run_all_installs_with_constraints_and_only_after_a_change(checkout: Path) -> None:
    python = checkout / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(ECHO)
    python.chmod(0o755)

    def lines(*words: str) -> list[str]:
        environment = {**os.environ, "MTL_VENV": str(checkout / "venv")}
        done = subprocess.run([checkout / "run_all.sh", *words], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    _, install, test = lines("test", "-x")
    assert install.endswith(f"-e {checkout}[dev] -c {checkout}/constraints.txt")
    assert test.endswith("-m not slow -x")
    (test,) = lines("test", "--all", "-x")
    assert test.endswith("-m  -x")
    with (checkout / "constraints.txt").open("a") as constraints:
        constraints.write("wheel==0.46.3\n")
    assert len(lines("test")) == 3


def test_a_wheel_is_refused_and_an_editable_install_is_built(checkout: Path) -> None:
    pytest.importorskip("setuptools.command.bdist_wheel", reason="building needs setuptools 70.1 or newer")

    def build(hook: str) -> subprocess.CompletedProcess[str]:
        program = f"from setuptools.build_meta import {hook}; print({hook}('built'))"
        (checkout / "built").mkdir(exist_ok=True)
        return subprocess.run([sys.executable, "-c", program], cwd=checkout, capture_output=True, text=True)

    refused = build("build_wheel")
    assert refused.returncode == 1
    assert "would overwrite Hugging Face's" in refused.stderr.splitlines()[-1]
    assert build("build_editable").returncode == 0
    assert [path.suffix for path in (checkout / "built").iterdir()] == [".whl"]
