"""Office-31, Office-Home and any folder tree like theirs: <domain>/[images/]<class>/<image>; one task per domain."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.contract import DataError, DataSettings, Source, Split, Splits, Task
from datasets.losses import class_prior, cross_entropy
from datasets.metrics import CLASSES
from datasets.pixels import decoded, image_loader

IMAGE_ENDINGS = {".jpg", ".jpeg", ".png"}
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Domain:
    """A domain: its key, its label in tables, and the folder names that it is known to come under."""

    key: str
    label: str
    folders: tuple[str, ...]


def domain_tasks(domains: Sequence[Domain], classes: int) -> tuple[Task, ...]:
    """One classification task per domain."""
    return tuple(
        Task(d.key, d.label, classes, cross_entropy, CLASSES, lambda targets: class_prior(targets, classes))
        for d in domains
    )


def office_reader(domains: Sequence[Domain], classes: int) -> Callable[[Path, DataSettings], Splits]:
    """The reader of a data set with these domains and this number of classes."""

    def read(root: Path, settings: DataSettings) -> Splits:
        listings = [_list_domain(root, domain, classes) for domain in domains]
        names = list(listings[0])
        for domain, listing in zip(domains[1:], listings[1:], strict=True):
            if list(listing) != names:
                odd = sorted(set(listing) ^ set(names))
                raise DataError(
                    f"{root}: expected the same classes in {domains[0].key} and {domain.key}, found {odd[0]!r} in "
                    "only one of them."
                )
        sources = [
            _read_domain(root, task, domain, listing, settings)
            for task, (domain, listing) in enumerate(zip(domains, listings, strict=True))
        ]
        train, validation, test = (tuple(source[part] for source in sources) for part in range(3))
        return Splits(train, validation, test, _provenance(domains, listings, settings, train, validation, test))

    return read


def partition(files: int, seed: int, domain: str, name: str) -> tuple[list[int], list[int], list[int]]:
    """Indices of one class of one domain in train, validation and test: 60, 20 and 20 %, by the floor rule.

    Drawn from (seed, domain, class), so that no other folder moves them. LibMTL's lists have the same sizes.
    """
    purpose = int.from_bytes(hashlib.sha256(f"{domain}/{name}".encode()).digest()[:8], "little")
    order = np.random.default_rng([seed, purpose]).permutation(files).tolist()
    first, second = math.floor(0.6 * files), math.floor(0.6 * files) + math.floor(0.2 * files)
    return order[:first], order[first:second], order[second:]


def _list_domain(root: Path, domain: Domain, classes: int) -> dict[str, list[Path]]:
    """The image files of each class, classes and files in code-point order."""
    folder = next((root / name for name in domain.folders if (root / name).is_dir()), None)
    if folder is None:
        raise DataError(f"{root}: expected a folder {' or '.join(domain.folders)}, found none of them.")
    if (folder / "images").is_dir():
        folder = folder / "images"
    listing = {
        child.name: sorted(f for f in child.iterdir() if f.suffix.lower() in IMAGE_ENDINGS)
        for child in sorted(folder.iterdir(), key=lambda path: path.name)
        if child.is_dir() and not child.name.startswith(".")
    }
    if len(listing) != classes:
        raise DataError(f"{folder}: expected {classes} class folders, found {len(listing)}.")
    for name, files in listing.items():
        if len(files) < 5:
            raise DataError(f"{folder / name}: expected at least 5 images to split, found {len(files)}.")
    return listing


def _read_domain(
    root: Path, task: int, domain: Domain, listing: dict[str, list[Path]], settings: DataSettings
) -> list[Source]:
    """The three parts of one domain."""
    paths = [path for files in listing.values() for path in files]
    images = decoded(root, paths, image_loader(settings.image_size), f"image {settings.image_size}")
    labels = torch.tensor([label for label, files in enumerate(listing.values()) for _ in files])
    chosen: list[list[int]] = [[], [], []]
    offset = 0
    for name, files in listing.items():
        for part, members in enumerate(partition(len(files), settings.split_seed, domain.key, name)):
            chosen[part] += [offset + member for member in sorted(members)]
        offset += len(files)
    return [Source(images[index], {task: labels[index]}) for index in map(torch.tensor, chosen)]


def _provenance(
    domains: Sequence[Domain],
    listings: Sequence[dict[str, list[Path]]],
    settings: DataSettings,
    *splits: Split,
) -> dict[str, object]:
    digest = hashlib.sha256()
    for domain, listing in zip(domains, listings, strict=True):
        for name, files in listing.items():
            members = partition(len(files), settings.split_seed, domain.key, name)
            for part, indices in zip(PARTS, members, strict=True):
                digest.update(f"{domain.key}/{name} {part} {[files[i].name for i in sorted(indices)]}\n".encode())
    counts = {
        part: {domain.key: len(source) for domain, source in zip(domains, split, strict=True)}
        for part, split in zip(PARTS, splits, strict=True)
    }
    return {
        "rule": "60/20/20 % per class and domain, floor",
        "seed": settings.split_seed,
        "counts": counts,
        "digest": digest.hexdigest()[:16],
    }


OFFICE31_DOMAINS = (
    Domain("amazon", "A", ("amazon", "Amazon")),
    Domain("dslr", "D", ("dslr", "Dslr", "DSLR")),
    Domain("webcam", "W", ("webcam", "Webcam")),
)
OFFICE31_CLASSES = 31

OFFICEHOME_DOMAINS = (
    Domain("art", "Ar", ("Art",)),
    Domain("clipart", "Cl", ("Clipart",)),
    Domain("product", "Pr", ("Product",)),
    Domain("real_world", "Rw", ("Real_World", "Real World", "RealWorld", "Real")),
)
OFFICEHOME_CLASSES = 65
