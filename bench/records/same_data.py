"""Whether runs saw the same images and targets, as far as their records say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.records.record import Record

WHOLE = "whole"  # in fingerprints: of all parts together, whatever the partition
# Data settings that change how batches are made or scored, but not the data.
_WITHOUT_EFFECT = ("augment", "metrics_batch")


def data_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a run that determine its data; runs with equal ones should have seen the same."""
    return {key: value for key, value in settings.get("data", {}).items() if key not in _WITHOUT_EFFECT}


def split_per_seed(settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every seed has a partition of its own, by declaration."""
    return bool(settings.get("data", {}).get("split_per_seed"))


def same_fingerprint(one: Mapping[str, str], other: Mapping[str, str], other_partition: bool = False) -> bool:
    """Whether two fingerprints agree in all parts; if the partition is meant to be another, in the whole."""
    common = one.keys() & other.keys()
    return all(one[key] == other[key] for key in (common & {WHOLE} if other_partition else common))


def same_data(run: Record, other: Record) -> bool:
    """Whether two runs with equal data settings saw the same images and targets in each part.

    Where every seed has a partition of its own, runs of different seeds are compared by the whole of their data.
    Records made before fingerprints were kept have only a digest of file names. A failed run may have nothing.
    """
    other_partition = run.seed != other.seed and split_per_seed(run.settings)
    if run.fingerprint and other.fingerprint:
        return same_fingerprint(run.fingerprint, other.fingerprint, other_partition)
    digests = {one.splits.get("digest") for one in (run, other)} - {None}
    return other_partition or len(digests) < 2
