"""Weightings of other packages under our contract, as found: libmtl:… and torchjd:…

The packages themselves are imported when a run first asks for one of their weightings.
"""

from __future__ import annotations

from collections.abc import Mapping

from methods.contract import WeightingInfo


def is_adapter(name: str) -> bool:
    """Whether a name as typed means a weighting of another package."""
    return ":" in name


def adapted_weightings() -> Mapping[str, WeightingInfo]:
    """The rows of all adapters by name, "libmtl:mgda" or "torchjd:upgrad"."""
    from methods.adapters import libmtl, torchjd

    return {
        f"{package.lower()}:{key}": WeightingInfo(
            f"{package}: {factory.peer.removesuffix('Weighting')}",
            factory,
            f"{package} {module.VERSION}, {factory.peer}",
            f"as found in {package}",
            getattr(factory, "version", 1),
            # One that reads the Jacobian may set the shared gradient itself.
            sets_gradient=getattr(factory, "needs", "") == "jacobian",
        )
        for package, module in (("LibMTL", libmtl), ("TorchJD", torchjd))
        for key, factory in module.WEIGHTINGS.items()
    }
