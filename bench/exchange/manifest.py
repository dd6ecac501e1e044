"""What a file of runs says of itself: its format, the checksum of every file in it, and what the runs are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bench.exchange.shared_runs import ExchangeError, SharedRun
from bench.records.reading import Damaged, in_one_line, parsed_json
from bench.records.record import SCHEMA_VERSION, Seed

FORMAT: Literal[1] = 1
MANIFEST = "manifest.json"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(_Part):
    """A file of a run. sha256: in hexadecimal digits. bytes: its size."""

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=0)]


class DataEntry(_Part):
    """The runs of a data set.

    runs: by status. rows, seeds: of all of them. versions: every one of the code that occurs, by part.
    fingerprints: every one of the data that occurs, by part of the data.
    """

    runs: dict[str, int]
    rows: list[str]
    seeds: list[int]
    versions: dict[str, list[int]]
    fingerprints: dict[str, list[str]]


class Manifest(_Part):
    """The content of manifest.json.

    format: of the file of runs. record_schema: of its records.
    trial_seeds: of the tuning that settings of the runs come from; no run has one of them.
    data: by key. files: by the path in the file of runs, without the manifest itself.
    """

    format: Literal[1] = FORMAT
    record_schema: int = SCHEMA_VERSION
    trial_seeds: list[Seed] = Field(default_factory=list)
    data: dict[str, DataEntry]
    files: dict[str, FileEntry]


def manifest_of(runs: Iterable[SharedRun], trial_seeds: Sequence[int]) -> Manifest:
    """The manifest of these runs, which depends on nothing else. trial_seeds: as in `Manifest`."""
    ordered = sorted(runs, key=lambda run: run.key)
    files = {
        f"{run.name}/{name}": FileEntry(sha256=run.files[name].sha256, bytes=run.files[name].bytes)
        for run in ordered
        for name in sorted(run.files)
    }
    names = sorted({run.record.data for run in ordered})
    data = {name: _entry([run for run in ordered if run.record.data == name]) for name in names}
    return Manifest(trial_seeds=sorted(set(trial_seeds)), data=data, files=files)


def _entry(runs: Sequence[SharedRun]) -> DataEntry:
    records = [run.record for run in runs]
    statuses = sorted({record.status for record in records})
    parts = sorted({part for record in records for part in record.versions})
    splits = sorted({part for record in records for part in record.fingerprint})
    return DataEntry(
        runs={status: sum(record.status == status for record in records) for status in statuses},
        rows=sorted({record.variant for record in records}),
        seeds=sorted({record.seed for record in records}),
        versions={p: sorted({r.versions[p] for r in records if p in r.versions}) for p in parts},
        fingerprints={p: sorted({r.fingerprint[p] for r in records if p in r.fingerprint}) for p in splits},
    )


def manifest_text(manifest: Manifest) -> bytes:
    """The content of manifest.json."""
    return (manifest.model_dump_json(indent=1) + "\n").encode()


def read_manifest(content: bytes, name: str) -> Manifest:
    """The manifest of a file of runs; raises ExchangeError if it is none, or of another format."""
    try:
        raw = parsed_json(content.decode("utf-8"))
        found = raw.get("format") if isinstance(raw, dict) else None
        if type(found) is not int or found != FORMAT:
            raise Damaged(f"expected format {FORMAT}, found {found!r:.80}; a newer version of this project may read it")
        return Manifest.model_validate(raw)
    except UnicodeDecodeError as error:
        raise ExchangeError(f"{name}, {MANIFEST}: expected text in UTF-8, found other bytes.") from error
    except Damaged as error:
        raise ExchangeError(f"{name}, {MANIFEST}: {error}.") from error
    except ValidationError as error:
        raise ExchangeError(f"{name}, {MANIFEST}: {in_one_line(error)}.") from error


def digest_of(content: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
