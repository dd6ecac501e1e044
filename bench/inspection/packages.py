"""Python and packages for bench.doctor, by the standard library alone: any other package may be missing."""

from __future__ import annotations

import configparser
import importlib
import operator
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Literal

from bench import ROOT

# missing: no run can start. skipped: a part of the suite is left out. slow: it works, slowly. note: worth knowing.
Verdict = Literal["ok", "note", "slow", "skipped", "missing"]

OLDEST_PYTHON = (3, 10)
# From the root of the checkout; constraints.txt holds versions that were tested together.
INSTALL = "pip install -e . -c constraints.txt"
INSTALL_EXTRA = "pip install -e '.[{}]' -c constraints.txt"
INSTALL_PEERS = INSTALL_EXTRA.format("peers")
# Listed in setup.cfg, but needed by the weightings named libmtl:... alone.
PEER = "libmtl"
COMPARISONS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Finding:
    """A row of the doctor's table.

    topic: what was examined.
    found: what is there.
    advice: what follows and what to do, without a full stop.
    command: to be copied, and run in the root of the checkout.
    """

    topic: str
    found: str
    verdict: Verdict = "ok"
    advice: str = ""
    command: str = ""

    def __str__(self) -> str:
        """What was found, the advice, and last the command with nothing after it."""
        advice = f"{self.advice}: {self.command}" if self.command else f"{self.advice}."
        return f"{self.found}. {advice}" if self.advice else self.found


@dataclass(frozen=True)
class Requirement:
    """A package and the versions that are allowed.

    clauses: pairs such as (">=", "2.14"); empty allows any version.
    """

    package: str
    clauses: tuple[tuple[str, str], ...]

    def admits(self, found: str) -> bool:
        """Whether a version meets all clauses; 2.14 counts as 2.14.0, and the build after a + is ignored."""
        return all(COMPARISONS[sign](*_padded(_numbers(found), _numbers(wanted))) for sign, wanted in self.clauses)

    def __str__(self) -> str:
        return ",".join(sign + wanted for sign, wanted in self.clauses)


def python_finding() -> Finding:
    """Whether this Python is new enough."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        oldest = ".".join(map(str, OLDEST_PYTHON))
        return Finding("Python", found, "missing", f"Make an environment with Python {oldest} or newer")
    return Finding("Python", found)


def package_finding() -> Finding:
    """Whether every package that runs and reports need is installed, and new enough."""
    needed = [requirement for requirement in requirements() if requirement.package.lower() != PEER]
    absent = [r.package for r in needed if installed(r.package) is None]
    if absent:
        return Finding("packages", f"without {', '.join(absent)}", "missing", "Install them", INSTALL)
    unsuitable = list(unsuitable_versions(needed))
    if unsuitable:
        return Finding(
            "packages", "; ".join(unsuitable), "note", "Untested with these versions; install tested ones", INSTALL
        )
    return Finding("packages", f"all {len(needed)} that setup.cfg names, numpy {installed('numpy')}")


def torch_finding() -> Finding:
    """Whether torch can be imported, and whether torchvision fits it."""
    torch, torchvision = installed("torch") or "", installed("torchvision") or ""
    found = f"torch {torch}, torchvision {torchvision}"
    try:
        importlib.import_module("torch")
    except (ImportError, OSError) as error:  # OSError: a shared library of torch doesn't load
        return Finding("torch", f"{found}: {error}", "missing", "torch can't be imported; install it again", INSTALL)
    mismatch = pair_mismatch(torch, torchvision, requires("torchvision") or [])
    if mismatch:
        return Finding("torch", f"{found}: {mismatch}", "note", "Install two that were tested together", INSTALL)
    return Finding("torch", found)


def pair_mismatch(torch: str, torchvision: str, metadata: Sequence[str]) -> str:
    """Why the two versions don't go together; empty if they do.

    metadata: what torchvision requires, such as "torch (>=2.14.0)".
    """
    for requirement in map(parse_requirement, metadata):
        if requirement.package == "torch" and not requirement.admits(torch):
            return f"this torchvision requires torch{requirement}"
    builds = {version.partition("+")[2] for version in (torch, torchvision)} - {""}
    return f"they are built for {' and '.join(sorted(builds))}" if len(builds) > 1 else ""


def rival_finding() -> Finding | None:
    """Hugging Face's datasets, whose import package has the name of ours; None if it isn't installed."""
    rival = installed("datasets")
    if rival is None:
        return None
    advice = "Other programs than the suite's may import either package; give the suite an environment of its own"
    return Finding("datasets", f"Hugging Face's {rival} is installed", "note", advice)


def requirements(extra: str | None = None) -> list[Requirement]:
    """What setup.cfg asks for: of every installation, or of an extra."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    text = config["options.extras_require"][extra] if extra else config["options"]["install_requires"]
    return [parse_requirement(line) for line in text.split("\n") if line]


def parse_requirement(line: str) -> Requirement:
    """Of "torch>=2.14", or of "torch (>=2.14.0) ; extra == 'x'" as metadata may have it."""
    name, clauses = re.match(r"\s*([\w.-]*)([^;]*)", line).groups()  # type: ignore[union-attr]  # matches any text
    return Requirement(name, tuple(re.findall(r"([<>=!]=|[<>])\s*([\w.*+]+)", clauses)))


def unsuitable_versions(needed: Sequence[Requirement]) -> Iterator[str]:
    """What is installed in a version that is not allowed, and which is."""
    for requirement in needed:
        found = installed(requirement.package)
        if found is not None and not requirement.admits(found):
            yield f"{requirement.package} {found}, expected {requirement}"


def installed(package: str) -> str | None:
    """The version of a package, None if it isn't installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _numbers(version_text: str) -> tuple[int, ...]:
    """2.14.1+cu130 -> (2, 14, 1)"""
    release = re.match(r"\d+(\.\d+)*", version_text)
    return tuple(map(int, release[0].split("."))) if release else ()


def _padded(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Both with zeros at the end, so that they are equally long."""
    length = max(len(first), len(second))
    return (*first, *(0,) * (length - len(first))), (*second, *(0,) * (length - len(second)))
