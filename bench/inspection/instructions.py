"""How to get a data set: page, files, commands and layouts, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets.archives import is_archive, unpack_command
from datasets.contract import DatasetInfo
from datasets.downloads import File, Origin

_INDENT = 10


def instructions(info: DatasetInfo, folder: Path) -> str:
    """Everything that is known about getting a data set into this folder."""
    lines = [info.label, *(_paragraphs(info.origin, folder) if info.origin else [info.how])]
    lines += [_entry("Folder", str(folder)), _entry("Counts", _counts(info)), _entry("Paper", info.source)]
    return "\n".join(lines)


def _counts(info: DatasetInfo) -> str:
    """What `check` will count; of several domains, only the images."""
    several = info.kind == "multi-input"
    shown = [
        f"{what} {' / '.join(f'{number:,}' for number in numbers)}"
        for what, numbers in info.published.items()
        if not several or what.endswith("images")
    ]
    return "; ".join(shown)


def _paragraphs(origin: Origin, folder: Path) -> Iterator[str]:
    yield _entry("Page", origin.page)
    for file in origin.files:
        yield _entry("Download", _described(file))
        for algorithm, digits in file.checksums:
            yield _entry("", f"{algorithm} {digits}")
    for file in origin.files:
        if is_archive(file.name):
            yield _entry("Unpack", unpack_command(folder / file.name, folder))
    for layout in origin.layouts:
        yield _entry("Layout", layout)
    if origin.terms:
        yield _entry("Terms", origin.terms)


def _described(file: File) -> str:
    size = f"{file.size:,} bytes" if file.size else ""
    known = f"known from {file.known_from}" if file.known_from else ""
    details = "; ".join(filter(None, (size, known)))
    return f"{file.name} ({details})" if details else file.name


def _entry(title: str, text: str) -> str:
    return f"{title:<{_INDENT}}{text}"
