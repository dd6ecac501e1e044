"""Versions of the code that determines a run's numbers, and what of it has changed since a record was made.

Raise a version with every change that changes numbers: ENGINE_VERSION for training and evaluation, `version` in the
registry row of a weighting, an architecture or a data set, `maker_version` for embedded data. Comments, names and speed
don't count. tests/test_versions.py fails when numbers change and the version doesn't.

A record also has digests of the code of its weighting and its architecture. They say when somebody has changed that
code and not its version; they decide nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from bench import ROOT
from bench.records.method_code import code_digest, read_sources
from bench.records.record import MethodCode, Record
from bench.spec.resolve import RunSpec, weighting_info
from datasets import DATASETS
from methods import ARCHITECTURES

ENGINE_VERSION = 1
# Read when the code itself is imported: what is edited while runs train is not what they execute.
_SOURCES = read_sources(ROOT)
_BEFORE_VERSIONS = "before versions were kept"


def versions_of(spec: RunSpec) -> dict[str, int]:
    """Today's versions of everything that a run uses."""
    return _versions(spec.data, spec.architecture, spec.weighting)


def _versions(data: str, architecture: str, weighting: str) -> dict[str, int]:
    info = DATASETS[data]
    versions = {
        "engine": ENGINE_VERSION,
        "weighting": weighting_info(weighting).version,
        "architecture": ARCHITECTURES[architecture].version,
        "problem": info.version,
    }
    return versions | ({"maker": info.maker_version} if info.make else {})


def code_of(architecture: str, weighting: str) -> dict[str, MethodCode]:
    """The code of a weighting and an architecture, as this process has imported it."""
    factories = {
        "weighting": weighting_info(weighting).factory,
        "architecture": ARCHITECTURES[architecture].factory,
    }
    found = {part: _code(factory.__module__, factory.__qualname__) for part, factory in factories.items()}
    return {part: code for part, code in found.items() if code.digest}


@cache
def _code(module: str, definition: str) -> MethodCode:
    """Without a digest for what is not defined in a file of `methods`."""
    name = f"{module}.{definition}"
    return MethodCode(name=name, digest=code_digest(name, _SOURCES))


def why_stale(record: Record) -> str:
    """How a record's versions differ from today's, after "made"; empty if they don't."""
    if unknown := _unknown_parts(record):
        return f"with {unknown}, which this code doesn't have"
    then, now = record.versions, _versions(record.data, record.architecture, record.weighting)
    if then == now:
        return ""
    if not then:
        return _BEFORE_VERSIONS
    names = {part: f"{part} {getattr(record, part)}" for part in ("weighting", "architecture")}
    parts = [part for part in {**now, **then} if then.get(part) != now.get(part)]
    return "with " + ", ".join(
        f"version {then.get(part)} of {names.get(part, f'the {part}')} (today {now.get(part)})" for part in parts
    )


def _unknown_parts(record: Record) -> str:
    """The first part of a run that is not registered here; empty if all are."""
    if record.data not in DATASETS:
        return f"data set {record.data}"
    if record.architecture not in ARCHITECTURES:
        return f"architecture {record.architecture}"
    try:
        weighting_info(record.weighting)
    except KeyError:
        return f"weighting {record.weighting}"
    return ""


def changed_code(record: Record) -> list[str]:
    """The parts whose code is not what the run executed though their version is the same: "weighting cagrad"."""
    if not record.code or _unknown_parts(record):
        return []
    versions = _versions(record.data, record.architecture, record.weighting)
    now = code_of(record.architecture, record.weighting)
    return [
        f"{part} {getattr(record, part)}"
        for part in ("weighting", "architecture")
        if part in record.code
        and record.versions.get(part) == versions[part]
        and (part not in now or record.code[part].digest != now[part].digest)
    ]


def version_remarks(kept: Sequence[Record]) -> list[str]:
    """One line per data set and difference, for records that are kept though today's code has other versions."""
    counts = Counter((record.data, why_stale(record)) for record in kept)
    return [
        f"{data}: {_kept(count)} made {difference}. Train again with --stale."
        for (data, difference), count in counts.items()
        if difference
    ]


def code_remarks(kept: Sequence[Record]) -> list[str]:
    """One line per data set and part whose code has changed under the same version since records were made."""
    counts = Counter((record.data, part) for record in kept for part in changed_code(record))
    return [
        f"{data}: the code of {part} changed, its version did not, and {_kept(count)} made with the old code. Raise "
        "the version if numbers change, or train again with --force."
        for (data, part), count in counts.items()
    ]


def _kept(count: int) -> str:
    return f"{count} kept {'run was' if count == 1 else 'runs were'}"
