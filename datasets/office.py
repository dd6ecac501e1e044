"""Office-31, Office-Home and any folder tree like theirs: <domain>/[images/]<class>/<image>; one task per domain."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.archives import packed_files, unpacking
from datasets.contract import IMAGES, DataError, DataSettings, Source, Split, Splits, Task, refuse
from datasets.listing import folders, folders_named, image_files
from datasets.losses import class_prior, cross_entropy
from datasets.metrics import CLASSES
from datasets.office_table import IMAGE, OfficeTable, read_table
from datasets.parquet import decoded_images, part_files
from datasets.pixels import decoded, image_loader
from datasets.split_lists import ItemOf, ListedDomain, Parts, listed_parts

PARTS = ("train", "validation", "test")
NAMELESS = "of rows, since the parquet files have no names of images, or the same for several of a class"
RULE = "60/20/20 % per class and domain, floor"
RULE_OF_ITEMS = "60/20/20 % of the items of a class, floor; all images of an item in one part"
LEAST_ITEMS = 5  # fewer than that, images if none shows the same item, leave validation without one of the class

Listing = dict[str, list[Path]]  # class name -> its files, both in code-point order


@dataclass(frozen=True)
class Domain:
    """A domain: its key, its label in tables, and the folder names that it is known to come under."""

    key: str
    label: str
    folders: tuple[str, ...]


def domain_tasks(domains: Sequence[Domain], classes: int) -> tuple[Task, ...]:
    """One classification task per domain."""
    return tuple(
        Task(d.key, d.label, classes, cross_entropy, CLASSES, lambda batches: class_prior(batches, classes))
        for d in domains
    )


def office_reader(
    domains: Sequence[Domain], classes: int, item_of: ItemOf | None = None
) -> Callable[[Path, DataSettings], Splits]:
    """The reader of a data set with these domains and this number of classes.

    item_of: for data sets with several images of an item, in folders; `memberships` splits items then. None: images.
    """

    def read(root: Path, settings: DataSettings) -> Splits:
        refuse_unused(settings)
        found, errors = domain_folders(root, domains)
        if not found and item_of is None and part_files(root, "train"):
            return _read_table(root, domains, classes, settings)
        if errors:
            raise DataError(errors[0])
        places = list(found.values())
        listings = [list_classes(place) for place in places]
        _check_classes(root, domains, places, listings, classes)
        rule, memberships = _membership(domains, places, listings, settings, item_of)
        views = views_of_items(listings, memberships, item_of) if item_of else None
        if views:
            rule = {**rule, "views_per_item": views}
        sources = [
            _read_domain(root, task, listing, membership, settings)
            for task, (listing, membership) in enumerate(zip(listings, memberships, strict=True))
        ]
        return _splits(domains, sources, listings, memberships, rule)

    return read


def _read_table(root: Path, domains: Sequence[Domain], classes: int, settings: DataSettings) -> Splits:
    """The splits from parquet files; the same as from folders, if images have names."""
    table = read_table(root, [(*domain.folders, domain.key) for domain in domains])
    if settings.splits and not table.named:
        raise DataError(nameless_lists(table))
    places = [root / domain.folders[0] for domain in domains]
    _check_classes(root, domains, places, table.names, classes)
    rule, memberships = _membership(domains, places, table.names, settings)
    if not table.named:
        rule = {**rule, "order": NAMELESS}
    images, digests = decoded_images(root, table.files, IMAGE, settings.image_size)
    labels = torch.from_numpy(table.labels)
    sources = [
        [
            Source(images, {task: labels}, torch.tensor(chosen, dtype=torch.long), {IMAGES: digests})
            for chosen in _chosen(table.rows[task], membership)
        ]
        for task, membership in enumerate(memberships)
    ]
    return _splits(domains, sources, table.names, memberships, rule)


def nameless_lists(table: OfficeTable) -> str:
    """Why lists can't be used with parquet files whose images have no names of their own."""
    return (
        f"{table.files[0]}: expected images with different names, which the lists of data.splits refer to, found none, "
        "or a name twice in a class; use the folders of the data set, or leave out `--splits`."
    )


def _chosen(rows: Mapping[str, Sequence[int]], membership: Mapping[str, Parts]) -> list[list[int]]:
    """The rows of a domain in each part, class by class."""
    return [[of[i] for name, of in rows.items() for i in membership[name][part]] for part in range(3)]


def _splits(
    domains: Sequence[Domain],
    sources: Sequence[Sequence[Source]],
    listings: Sequence[Listing],
    memberships: Sequence[dict[str, Parts]],
    rule: Mapping[str, object],
) -> Splits:
    """sources: per domain, its three parts."""
    train, validation, test = (tuple(source[part] for source in sources) for part in range(3))
    counts, digest = _counts(domains, train, validation, test), _digest(domains, listings, memberships)
    return Splits(train, validation, test, {**rule, "counts": counts, "digest": digest})


def refuse_unused(settings: DataSettings) -> None:
    """Raises DataError if a setting is given that has no use for data sets of the Office kind."""
    refuse(settings, ("protocol", "metrics_batch"), "data sets of the Office kind")
    if settings.splits:
        refuse(settings, ("split_per_seed",), "splits given by lists")


def partition(files: int, seed: int, domain: str, name: str) -> tuple[list[int], list[int], list[int]]:
    """Indices of one class of one domain in train, validation and test: 60, 20 and 20 %, by the floor rule.

    Drawn from (seed, domain, class), so that it doesn't depend on other folders. LibMTL's lists have the same sizes.
    """
    purpose = int.from_bytes(hashlib.sha256(f"{domain}/{name}".encode(errors="surrogateescape")).digest()[:8], "little")
    order = np.random.default_rng([seed, purpose]).permutation(files).tolist()
    first, second = math.floor(0.6 * files), math.floor(0.6 * files) + math.floor(0.2 * files)
    return order[:first], order[first:second], order[second:]


def domain_folders(root: Path, domains: Sequence[Domain]) -> tuple[dict[str, Path], list[str]]:
    """By key of each domain that is there, the folder with its classes; and what is wrong, in sentences."""
    folders_of = {domain.key: folders_named(root, (*domain.folders, domain.key)) for domain in domains}
    errors = [
        f"{root}: expected one folder of the domain {domain.folders[0]}, found "
        f"{' and '.join(folder.name for folder in folders_of[domain.key])}; keep only one of them."
        for domain in domains
        if len(folders_of[domain.key]) > 1
    ]
    absent = [domain for domain in domains if not folders_of[domain.key]]
    if absent:
        errors.append(_absence(root, domains, absent, [found[0].name for found in folders_of.values() if found]))
    return {key: _class_level(found[0]) for key, found in folders_of.items() if found}, errors


def _absence(root: Path, domains: Sequence[Domain], absent: Sequence[Domain], found: Sequence[str]) -> str:
    """The sentence that lists the domains that are there and those that are not."""
    expected = f"{len(domains)} domains, {', '.join(domain.folders[0] for domain in domains)}"
    names = " and ".join(domain.folders[0] for domain in absent)
    there = f"only {' and '.join(found)}" if found else "none of them"
    archives = packed_files(root, [name for domain in absent for name in domain.folders])
    todo = unpacking([(archive, root) for archive in archives], f"unpack {names} there.")
    return f"{root}: expected {expected}, found {there}; {todo}"


def _class_level(folder: Path) -> Path:
    return next(iter(folders_named(folder, ("images",))), folder)


def list_classes(place: Path) -> Listing:
    return {folder.name: image_files(folder) for folder in folders(place)}


def _check_classes(
    root: Path, domains: Sequence[Domain], places: Sequence[Path], listings: Sequence[Listing], classes: int
) -> None:
    """Raises DataError if a domain has a wrong number of classes, or other classes than the first domain."""
    for place, listing in zip(places, listings, strict=True):
        if not listing:
            raise DataError(f"{place}: expected {classes} class folders, found none; unpack that domain again.")
        if len(listing) != classes:
            others = [set(other) for other in listings if other is not listing]
            raise DataError(
                f"{place}: expected {classes} class folders, found {len(listing)}{_odd_class(set(listing), others)}; "
                "unpack that domain again."
            )
    for domain, listing in zip(domains[1:], listings[1:], strict=True):
        if list(listing) != list(listings[0]):
            odd = sorted(set(listing) ^ set(listings[0]))
            raise DataError(
                f"{root}: expected the same classes in {domains[0].key} and {domain.key}, found {odd[0]!r} in "
                "only one of them; give the folder the same name in both."
            )


def _odd_class(own: set[str], others: Sequence[set[str]]) -> str:
    """A class that sets a domain apart, in words; "" if there is none."""
    if not others or not own:
        return ""
    missing, spare = set.intersection(*others) - own, own.difference(*others)
    if missing:
        return f", without {min(missing)}"
    return f", with {min(spare)} that no other domain has" if spare else ""


def _membership(
    domains: Sequence[Domain],
    places: Sequence[Path],
    listings: Sequence[Listing],
    settings: DataSettings,
    item_of: ItemOf | None = None,
) -> tuple[dict[str, object], list[dict[str, Parts]]]:
    """The rule, for provenance, and per domain and class the indices in each part."""
    if settings.splits:
        listed = listed_parts(*listed_domains(domains, places, listings, settings), item_of)
        unlisted = {domain.key: count for domain, count in zip(domains, listed.unlisted, strict=True) if count}
        remark: dict[str, object] = {"unlisted": unlisted} if unlisted else {}
        return {"rule": "lists given by data.splits", **remark}, list(listed.parts)
    for place, listing in zip(places, listings, strict=True):
        errors = too_small(place, listing, item_of)
        if errors:
            raise DataError(errors[0])
    drawn = memberships([domain.key for domain in domains], listings, settings.split_seed, item_of)
    rule = RULE if item_of is None else RULE_OF_ITEMS
    return {"rule": rule, "seed": settings.split_seed}, drawn


def listed_domains(
    domains: Sequence[Domain], places: Sequence[Path], listings: Sequence[Listing], settings: DataSettings
) -> tuple[Path, list[ListedDomain]]:
    """The folder of the lists, and the domains that they are checked against."""
    spellings = [(*domain.folders, domain.key) for domain in domains]
    listed = [ListedDomain(*domain) for domain in zip(spellings, places, listings, strict=True)]
    return Path(settings.splits).expanduser(), listed


def too_small(place: Path, listing: Listing, item_of: ItemOf | None = None) -> list[str]:
    """An error for each class of a domain that is too small to be split."""
    what = "images" if item_of is None else "items"
    counts = {name: len(files if item_of is None else set(map(item_of, files))) for name, files in listing.items()}
    return [
        f"{place / name}: expected at least {LEAST_ITEMS} {what} to split, found {count}; add the missing ones, or "
        "supply lists with `--splits DIR`."
        for name, count in counts.items()
        if count < LEAST_ITEMS
    ]


def memberships(
    domains: Sequence[str], listings: Sequence[Listing], seed: int, item_of: ItemOf | None = None
) -> list[dict[str, Parts]]:
    """Per domain and class, the ascending indices of its files in train, validation and test.

    With `item_of`, the items of a class in all domains are partitioned together, so that every image of an item is in
    the same part.
    """
    if item_of is None:
        pairs = zip(domains, listings, strict=True)
        return [
            {name: _ascending(partition(len(files), seed, key, name)) for name, files in listing.items()}
            for key, listing in pairs
        ]
    names = sorted({name for listing in listings for name in listing})
    parts = {name: _parts_of_items(listings, name, seed, item_of) for name in names}
    return [{name: _indices(files, parts[name], item_of) for name, files in listing.items()} for listing in listings]


def _parts_of_items(listings: Sequence[Listing], name: str, seed: int, item_of: ItemOf) -> dict[str, int]:
    """The index in PARTS of each item of a class."""
    items = sorted({item_of(path) for listing in listings for path in listing.get(name, ())})
    drawn = partition(len(items), seed, "", name)
    return {items[index]: part for part, members in enumerate(drawn) for index in members}


def _indices(files: Sequence[Path], parts: Mapping[str, int], item_of: ItemOf) -> Parts:
    of = [parts[item_of(path)] for path in files]
    train, validation, test = ([index for index, own in enumerate(of) if own == part] for part in range(len(PARTS)))
    return train, validation, test


def views_of_items(listings: Sequence[Listing], memberships: Sequence[dict[str, Parts]], item_of: ItemOf) -> int | None:
    """How many test images in a row show the same item, if that is so for all, and in all domains alike; else None.

    Answers on images of an item are not independent: a bootstrap draws items.
    """
    seen = [
        [item_of(files[index]) for name, files in listing.items() for index in membership[name][PARTS.index("test")]]
        for listing, membership in zip(listings, memberships, strict=True)
    ]
    runs = [(item, len(list(images))) for item, images in itertools.groupby(seen[0])]
    sizes = {size for _, size in runs}
    alike = all(of_domain == seen[0] for of_domain in seen) and len({item for item, _ in runs}) == len(runs)
    return sizes.pop() if alike and len(sizes) == 1 else None


def _ascending(drawn: tuple[list[int], list[int], list[int]]) -> Parts:
    train, validation, test = map(sorted, drawn)
    return train, validation, test


def _read_domain(
    root: Path, task: int, listing: Listing, membership: dict[str, Parts], settings: DataSettings
) -> list[Source]:
    """The three parts of one domain."""
    paths = [path for files in listing.values() for path in files]
    images, digests = decoded(root, paths, image_loader(settings.image_size), f"image {settings.image_size}", "images")
    labels = torch.tensor([label for label, files in enumerate(listing.values()) for _ in files])
    chosen: list[list[int]] = [[], [], []]
    offset = 0
    for name, files in listing.items():
        for part, members in enumerate(membership[name]):
            chosen[part] += [offset + member for member in members]
        offset += len(files)
    return [Source(images, {task: labels}, torch.tensor(rows, dtype=torch.long), {IMAGES: digests}) for rows in chosen]


def _counts(domains: Sequence[Domain], *splits: Split) -> dict[str, dict[str, int]]:
    return {
        part: {domain.key: len(source) for domain, source in zip(domains, split, strict=True)}
        for part, split in zip(PARTS, splits, strict=True)
    }


def _digest(domains: Sequence[Domain], listings: Sequence[Listing], memberships: Sequence[dict[str, Parts]]) -> str:
    """Of which file is in which part, by name; equal for a random partition and for lists with the same content."""
    digest = hashlib.sha256()
    for domain, listing, membership in zip(domains, listings, memberships, strict=True):
        for name, files in listing.items():
            for part, indices in zip(PARTS, membership[name], strict=True):
                digest.update(
                    f"{domain.key}/{name} {part} {[files[i].name for i in indices]}\n".encode(errors="surrogateescape")
                )
    return digest.hexdigest()[:16]


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
