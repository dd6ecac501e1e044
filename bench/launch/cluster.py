"""How to reach other machines: options of the launchers that do, and what is wrong if they can't."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec


class ClusterUnavailable(Exception):
    """A package that reaches other machines is not installed, or no cluster answers."""


@dataclass(frozen=True)
class RayOptions:
    """How to use a Ray cluster.

    address: of a running one; "" starts one on this machine, unless RAY_ADDRESS names one.
    jobs: runs at a time; None for as many as there is room for.
    per_device: runs that share an accelerator.
    """

    address: str = ""
    jobs: int | None = None
    per_device: int = 1


@dataclass(frozen=True)
class SlurmOptions:
    """How to submit jobs to SLURM.

    jobs: the size of the array.
    minutes: until a job is stopped and queued again.
    partition: "" for the default.
    further: options of sbatch, such as {"mem": "8G"}.
    """

    jobs: int
    minutes: int
    partition: str = ""
    further: Mapping[str, str] = field(default_factory=dict)


def require_package(name: str) -> None:
    """Raises ClusterUnavailable, with what to do, if a package of the extra isn't installed."""
    if find_spec(name) is None:
        raise ClusterUnavailable(
            f"Expected the package {name}, found none; install it: pip install -e '.[cluster]' -c constraints.txt"
        )
