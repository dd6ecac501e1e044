"""How far a `bench.run --force` has come: a small file beside the records, until all of its runs have ended.

The same command goes on where an interrupted one was, instead of training everything once more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from bench.records.files import atomic_write_text, storage_error
from bench.records.reading import Damaged, is_there, read_json
from bench.spec.request import Request
from bench.spec.resolve import RunKey, RunSpec


@dataclass
class ForcedRuns:
    """The runs that a request has trained again so far. path: of the file that says so."""

    path: Path
    done: set[RunKey] = field(default_factory=set)

    def add(self, spec: RunSpec) -> None:
        """Notes that a run has been trained again. Raises StorageError if that can't be written."""
        self.done.add(spec.key)
        atomic_write_text(self.path, json.dumps(sorted(self.done)) + "\n")

    def end(self) -> None:
        """All runs have ended: the next --force trains all of them again."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(self.path, error) from error


def forced_runs(request: Request, results: Path, shard: str = "") -> ForcedRuns:
    """What the same request has trained again before it was interrupted. A damaged file says nothing.

    shard: whose file it is, since several shards may train at the same time; "" for all of the request.
    """
    what: list[object] = [
        [row.model_dump(mode="json") for row in request.rows],
        list(request.data),
        list(request.seeds),
    ]
    what += [shard] if shard else []
    digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]
    path = results / f".force-{digest}.json"
    try:
        found = read_json(path) if is_there(path) else []
        return ForcedRuns(path, {(str(data), str(variant), int(seed)) for data, variant, seed in found})
    except (Damaged, TypeError, ValueError):
        return ForcedRuns(path)
    except OSError as error:
        raise storage_error(path, error) from error
