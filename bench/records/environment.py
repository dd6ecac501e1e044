"""The environment of a run: package versions, machine, commit."""

from __future__ import annotations

import platform
import re
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

OUTPUTS = (":(exclude)results", ":(exclude)reports")
PACKAGES = ("torch", "torchvision", "torchdiffeq", "numpy", "scipy", "scikit-learn", "pillow")


@cache
def describe_environment(root: Path) -> dict[str, str]:
    """Python, package versions, operating system, processor and the commit of the checkout at `root`."""
    described = {"python": platform.python_version(), "platform": platform.system(), "cpu": _processor()}
    for package in PACKAGES:
        try:
            described[package] = version(package)
        except PackageNotFoundError:
            continue
    described["commit"] = _commit(root)
    return described


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", listing.read_text()) if listing.exists() else None
    return model.group(1) if model else platform.processor() or platform.machine()


def _commit(root: Path) -> str:
    """The commit's hash, with "+changes" where tracked files differ from it; empty outside a checkout.

    Records and reports don't count: a study changes those that are tracked.
    """
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *OUTPUTS)
        return head + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()
