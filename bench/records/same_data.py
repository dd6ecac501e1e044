"""Whether runs saw the same images and targets, as far as their records say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.records.record import Record

PARTS = ("train", "validation", "test")
WHOLE = "whole"  # in fingerprints: of all parts together, whatever the partition
# Data settings that change how batches are made or scored, but not the data.
_WITHOUT_EFFECT = ("augment", "metrics_batch")


def data_settings(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The settings of a run that determine its data; runs with equal ones should have seen the same."""
    return {key: value for key, value in settings.get("data", {}).items() if key not in _WITHOUT_EFFECT}


def split_per_seed(settings: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every seed has a partition of its own, by declaration."""
    return bool(settings.get("data", {}).get("split_per_seed"))


def compared_parts(settings: Mapping[str, Mapping[str, Any]], same_seed: bool) -> frozenset[str]:
    """The parts of the data that should be the same for two runs with these settings, of one seed or of two.

    If the partition is meant to be another, that is the whole of the data, or nothing if only a share of the training
    images is used: other partitions leave other images out.
    """
    if same_seed or not split_per_seed(settings):
        return frozenset({*PARTS, WHOLE})
    return frozenset({WHOLE} if settings["data"].get("train_share", 1) == 1 else ())


def same_fingerprint(one: Mapping[str, str], other: Mapping[str, str], parts: frozenset[str]) -> bool:
    """Whether two fingerprints agree in these parts, as far as both have them."""
    return all(one[key] == other[key] for key in one.keys() & other.keys() & parts)


def same_data(run: Record, other: Record) -> bool:
    """Whether two runs with equal data settings saw the same images and targets in each part.

    Where every seed has a partition of its own, runs of different seeds are compared by the whole of their data.
    Records made before fingerprints were kept have only a digest of file names. A failed run may have nothing.
    """
    if run.fingerprint and other.fingerprint:
        parts = compared_parts(run.settings, run.seed == other.seed)
        return same_fingerprint(run.fingerprint, other.fingerprint, parts)
    other_partition = run.seed != other.seed and split_per_seed(run.settings)
    digests = {one.splits.get("digest") for one in (run, other)} - {None}
    return other_partition or len(digests) < 2
