"""Checks the set-up, offline and in seconds: python -m bench.doctor."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench import ROOT
from bench.cli.parser import CommandParser
from bench.inspection.packages import (
    Finding,
    Verdict,
    package_finding,
    python_finding,
    rival_finding,
    torch_finding,
)

if TYPE_CHECKING:
    from rich.console import Console

COLOURS: dict[Verdict, str] = {"ok": "green", "note": "cyan", "slow": "yellow", "skipped": "yellow", "missing": "red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the table. 0. 1: something is missing that every run needs. 2: it can't be looked for or printed."""
    basics: list[Finding] = []
    for look in (python_finding, package_finding, torch_finding):
        basics.append(look())
        if basics[-1].verdict != "missing":
            continue
        # Not even what draws tables may be installed.
        for finding in basics:
            print(f"{finding.topic}: {finding}")
        return 1
    rival = rival_finding()
    basics += [rival] if rival else []
    from bench.cli.options import add_cache_dir, add_data_root, folder, guarded, plain_console

    parser = CommandParser(prog="python -m bench.doctor", description=__doc__)
    parser.add_argument(
        "--results", type=folder, default=ROOT / "results", metavar="DIR", help="records (default: results)"
    )
    add_data_root(parser)
    add_cache_dir(parser)
    arguments = parser.parse_args(argv)
    places = arguments.data_root, arguments.cache_dir, arguments.results
    return guarded(lambda: _examine(basics, *places, plain_console()))


def _examine(basics: list[Finding], root: Path, cache: Path | None, results: Path, console: Console) -> int:
    from bench.inspection.machine import data_findings, disk_findings, machine_findings, peer_findings, weight_findings

    sections = {
        "Python and machine": [*basics, *machine_findings()],
        f"Data in {root}": [*data_findings(root, cache), *weight_findings(root)],
        "Optional": list(peer_findings()),
        "Disks": list(disk_findings(root, results)),
    }
    _print(sections, console)
    findings = [finding for section in sections.values() for finding in section]
    return int(any(finding.verdict == "missing" for finding in findings))


def _print(sections: dict[str, list[Finding]], console: Console) -> None:
    from rich.text import Text

    for title, findings in sections.items():
        console.print(Text(title, style="bold"))
        for finding in findings:
            # Not a table: its cells would break paths, which people copy.
            verdict = (f"{finding.verdict:<9}", COLOURS[finding.verdict])
            console.print(Text.assemble(f"  {finding.topic:<18}", verdict, str(finding)))
    console.print(f"\n{_conclusion([finding for section in sections.values() for finding in section])}")


def _conclusion(findings: Sequence[Finding]) -> str:
    topics = {
        verdict: ", ".join(finding.topic for finding in findings if finding.verdict == verdict) for verdict in COLOURS
    }
    lines = [f"Skipped: {topics['skipped']}."] if topics["skipped"] else []
    lines += [f"Slow: {topics['slow']}."] if topics["slow"] else []
    missing = topics["missing"]
    lines.append(f"Fix before any run: {missing}." if missing else "Everything that every run needs is here.")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
