"""Which classes of LibMTL and TorchJD do the same as a method of ours, and the options that make them do so.

Neither package is imported before one of its classes is asked for. Options that the packages leave open, or that
decide how long a solver takes, have the values of our methods.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from methods.adapters import libmtl
from methods.adapters.bridge import PeerUnavailable, import_peer
from methods.weightings.cagrad import CAGrad
from methods.weightings.fairgrad import FairGrad
from methods.weightings.modo import MoDo
from methods.weightings.stch import STCH

LIBMTL, TORCHJD = "LibMTL", "TorchJD"
# By name on the command line.
PACKAGES = {"libmtl": LIBMTL, "torchjd": TORCHJD}


@dataclass(frozen=True)
class Counterpart:
    """The classes that do what one method of ours does; "" where a package has none.

    settings: of our method, where its defaults follow its authors' code and the packages don't.
    libmtl: in LibMTL.weighting.
    scalarizer: in torchjd.scalarization, on losses.
    aggregator: in torchjd.aggregation, on gradients.
    libmtl_options: arguments of LibMTL's `backward`.
    torchjd_options: arguments of the TorchJD class.
    size: the argument of the TorchJD class that takes the number of tasks.
    """

    libmtl: str = ""
    scalarizer: str = ""
    aggregator: str = ""
    libmtl_options: Mapping[str, Any] = field(default_factory=dict)
    torchjd_options: Mapping[str, Any] = field(default_factory=dict)
    size: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


_AS_IN_THE_PAPER = {"variant": "paper"}

COUNTERPARTS: Mapping[str, Counterpart] = {
    "ew": Counterpart("EW", scalarizer="Sum", aggregator="Sum"),
    "uw": Counterpart("UW", scalarizer="UW", size="shape"),
    "dwa": Counterpart("DWA", scalarizer="DWA", libmtl_options={"T": 2.0}),
    "rlw": Counterpart("RLW", scalarizer="Random", aggregator="Random", libmtl_options={"dist": "Normal"}),
    "gls": Counterpart("GLS", scalarizer="GeometricMean"),
    "stch": Counterpart(scalarizer="STCH", torchjd_options={"mu": STCH().mu}),
    "famo": Counterpart(scalarizer="FAMO", size="shape"),
    "gradnorm": Counterpart("GradNorm", libmtl_options={"alpha": 1.5}),
    "mgda": Counterpart("MGDA", aggregator="MGDA", libmtl_options={"mgda_gn": "none"}, settings=_AS_IN_THE_PAPER),
    "pcgrad": Counterpart("PCGrad", aggregator="PCGrad"),
    "gradvac": Counterpart("GradVac", aggregator="GradVac", libmtl_options={"beta": 0.5}),
    "graddrop": Counterpart("GradDrop", aggregator="GradDrop", libmtl_options={"leak": 0.0}, settings=_AS_IN_THE_PAPER),
    # TorchJD has no learned scales beside it. LibMTL's can't be left out.
    "imtl": Counterpart("IMTL", aggregator="IMTLG", settings={"variant": "gradient"}),
    "cagrad": Counterpart(
        "CAGrad",
        aggregator="CAGrad",
        libmtl_options={"calpha": CAGrad().c, "rescale": 0},
        torchjd_options={"c": CAGrad().c},
        settings=_AS_IN_THE_PAPER,
    ),
    "nash_mtl": Counterpart(aggregator="NashMTL", size="n_tasks"),
    "aligned_mtl": Counterpart(aggregator="AlignedMTL"),
    "fairgrad": Counterpart(
        aggregator="FairGrad", torchjd_options={"alpha": FairGrad().alpha}, settings=_AS_IN_THE_PAPER
    ),
    "upgrad": Counterpart(aggregator="UPGrad"),
    # In TorchJD, weights are constant until the warm-up is over.
    "excess_mtl": Counterpart(aggregator="ExcessMTL", torchjd_options={"n_warmup_steps": 1}),
    "config": Counterpart(aggregator="ConFIG"),
    "modo": Counterpart(aggregator="MoDoWeighting", torchjd_options={"gamma": MoDo().gamma}),
    "sdmgrad": Counterpart(aggregator="SDMGradWeighting"),
}


def methods_in(package: str) -> Collection[str]:
    """Our methods that LibMTL or TorchJD has, too."""
    if package == LIBMTL:
        return [name for name, row in COUNTERPARTS.items() if row.libmtl]
    return [name for name, row in COUNTERPARTS.items() if row.scalarizer or row.aggregator]


def torchjd_object(method: str, kind: Literal["scalarizer", "aggregator"], n_tasks: int) -> Any:
    """TorchJD's scalarizer or aggregator for `n_tasks` tasks; None if it has none for this method.

    Raises:
        PeerUnavailable: TorchJD isn't installed.
    """
    row = COUNTERPARTS.get(method, Counterpart())
    name = row.scalarizer if kind == "scalarizer" else row.aggregator
    if not name:
        return None
    module = import_peer("torchjd.scalarization" if kind == "scalarizer" else "torchjd.aggregation", TORCHJD)
    options = {**row.torchjd_options, **({row.size: n_tasks} if row.size else {})}
    return getattr(module, name)(**options)


def import_errors(packages: Sequence[str]) -> dict[str, str]:
    """By package: "", or in one line why it can't be imported."""
    found = {}
    for package in packages:
        try:
            libmtl.weightings() if package == LIBMTL else import_peer("torchjd.aggregation", TORCHJD)
            found[package] = ""
        except PeerUnavailable as error:
            found[package] = str(error)
    return found


def versions() -> dict[str, str]:
    """Of the packages that are installed."""
    found = {}
    for package in (LIBMTL, TORCHJD):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
