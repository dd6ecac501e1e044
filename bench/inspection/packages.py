"""Python and packages for bench.doctor. Nothing is imported before it is known to be here, so absence can be told."""

from __future__ import annotations

import configparser
import importlib
import platform
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

from bench import ROOT

# missing: no run can start. skipped: a part of the suite is left out. slow: it works, slowly. note: worth knowing.
Verdict = Literal["ok", "note", "slow", "skipped", "missing"]

SUITE = "mtl-bench"
OLDEST_PYTHON = (3, 10)
INSTALL = "pip install -e ."
INSTALL_PEERS = "pip install -e '.[peers]'"
# Declared by setup.cfg, but needed by the weightings named libmtl:... alone.
PEER = "libmtl"


@dataclass(frozen=True)
class Finding:
    """A row of the doctor's table; `advice` says what follows and what to do."""

    topic: str
    found: str
    verdict: Verdict = "ok"
    advice: str = ""


@dataclass(frozen=True)
class Requirement:
    """A package and the versions that setup.cfg allows, like ">=2.14" or "==0.18.0"; empty: any."""

    package: str
    operator: str
    wanted: str

    def admits(self, found: str) -> bool:
        """Whether that version will do; later parts that only one of the two has count as 0."""
        if not self.wanted:
            return True
        least, have = _numbers(self.wanted), _numbers(found)
        length = max(len(least), len(have))
        least, have = ((*numbers, *(0,) * (length - len(numbers))) for numbers in (least, have))
        return have == least if self.operator == "==" else have >= least


def python_finding() -> Finding:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding(
            "Python", found, "missing", f"Expected {oldest} or newer; make the environment with a newer one."
        )
    return Finding("Python", found)


def package_finding() -> Finding:
    """Whether every package that runs and reports need is here, and new enough."""
    needed = [requirement for requirement in requirements() if requirement.package.lower() != PEER]
    absent = [r.package for r in needed if installed(r.package) is None]
    if absent:
        return Finding("packages", f"without {', '.join(absent)}", "missing", f"Install what is missing: {INSTALL}")
    old = list(_unsuitable(needed))
    if old:
        return Finding("packages", "; ".join(old), "note", f"Untested with these versions; upgrade: {INSTALL}")
    return Finding("packages", f"all {len(needed)} that setup.cfg names, numpy {installed('numpy')}")


def torch_finding() -> Finding:
    """Whether torch can be imported, and whether torchvision was made for it."""
    torch, torchvision = installed("torch") or "", installed("torchvision") or ""
    found = f"torch {torch}, torchvision {torchvision}"
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a library that it loads
        return Finding("torch", f"{found}: {error}", "missing", f"It can't be imported; install it again: {INSTALL}")
    if not are_a_pair(torch, torchvision):
        advice = f"The two weren't made for each other: install them again, together: {INSTALL}"
        return Finding("torch", found, "note", advice)
    return Finding("torch", found)


def are_a_pair(torch: str, torchvision: str) -> bool:
    """torch 2.n comes with torchvision 0.(15 + n), and both are built for the same CUDA, named after a +."""
    major, minor = (*_numbers(torch), 0, 0)[:2]
    if major == 2 and (*_numbers(torchvision), 0, 0)[:2] != (0, 15 + minor):
        return False
    builds = {version.partition("+")[2] for version in (torch, torchvision)}
    return len(builds - {""}) <= 1


def requirements(extra: str | None = None) -> list[Requirement]:
    """What setup.cfg asks for, of every installation or of that extra; of an installed wheel, its metadata."""
    listing = ROOT / "setup.cfg"
    lines = _of_checkout(listing, extra) if listing.is_file() else _of_metadata(extra)
    found = (re.match(r"([\w.-]+)\s*(>=|==)?\s*([\w.]*)", line) for line in lines)
    return [Requirement(match[1], match[2] or "", match[3]) for match in found if match]


def installed(package: str) -> str | None:
    """The version of a package, None where it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _of_checkout(listing: Path, extra: str | None) -> list[str]:
    config = configparser.ConfigParser()
    config.read(listing, encoding="utf-8")
    text = config["options.extras_require"][extra] if extra else config["options"]["install_requires"]
    return [line for line in text.split("\n") if line]


def _of_metadata(extra: str | None) -> list[str]:
    lines = requires(SUITE) or []
    marks = [(line.partition(";")[0], re.search(r'extra == "(\w+)"', line)) for line in lines]
    return [line for line, mark in marks if (mark[1] if mark else None) == extra]


def _unsuitable(needed: Sequence[Requirement]) -> Iterator[str]:
    for requirement in needed:
        found = installed(requirement.package)
        if found is not None and not requirement.admits(found):
            yield f"{requirement.package} {found}, expected {requirement.operator}{requirement.wanted}"


def _numbers(version_text: str) -> tuple[int, ...]:
    """2.14.1+cu130 -> (2, 14, 1)"""
    release = re.match(r"\d+(\.\d+)*", version_text)
    return tuple(map(int, release[0].split("."))) if release else ()
