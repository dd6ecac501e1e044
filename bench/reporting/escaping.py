"""Text from records as LaTeX, Markdown, CSV and labels of figures: shown as it is, with no effect of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from bench.records.plain_text import one_line
from bench.reporting.tables.table import MISSING

LATEX = {
    "Δ_b": r"$\Delta_b$", "Δ_m": r"$\Delta_m$",
    "--": r"-{}-", "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#",
    "_": r"\_", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}", "*": "{*}", '"': "''", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "±": r"$\pm$", "×": r"$\times$", "°": r"$^\circ$", "–": "--", "—": "---", "−": "$-$",
    "…": r"\ldots{}", "≤": r"$\le$", "≥": r"$\ge$", "≠": r"$\ne$", "≈": r"$\approx$", "∞": r"$\infty$", "·": r"$\cdot$",
    "‖": r"$\|$", "√": r"$\surd$", "²": r"$^2$", "α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$",
    "δ": r"$\delta$", "ε": r"$\varepsilon$", "η": r"$\eta$", "θ": r"$\theta$", "λ": r"$\lambda$", "μ": r"$\mu$",
    "µ": r"$\mu$", "ν": r"$\nu$", "ξ": r"$\xi$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "φ": r"$\varphi$",
    "ω": r"$\omega$", "Δ": r"$\Delta$", "Σ": r"$\Sigma$", "’": "'", "‘": "`", "“": "``", "”": "''",
}  # fmt: skip
# Longest first, so that "Δ_b" is not read as a letter and an underscore.
LATEX_PATTERN = re.compile("|".join(re.escape(token) for token in sorted(LATEX, key=len, reverse=True)))
# Letters that pdflatex sets without further packages; most others stop it.
ACCENTED = "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿßŒœŠšŽžŁłŐőŰűČčŘřĚěŇňĆćŃńŚśŹźŻżĞğİıŞş§"
# What starts a heading, a list, a quotation or a rule in Markdown.
_BLOCK = re.compile(r"(?:[#>+=-]|\d+[.)])")
# What a spreadsheet takes for the start of a formula.
_FORMULA = ("=", "+", "-", "@")


def tex(text: str) -> str:
    """Text escaped for LaTeX; letters that it can't set are written as their code point."""
    escaped = LATEX_PATTERN.sub(lambda match: LATEX[match[0]], " ".join(text.split()))
    return "".join(c if " " <= c <= "~" or c in ACCENTED else f"{{[}}U+{ord(c):04X}{{]}}" for c in escaped)


def texcell(text: str) -> str:
    """A cell's text with minus signs for hyphens and the deviation in small type; a missing value stays a dash."""
    if text == MISSING:
        return text
    signed = re.sub(r"(?<!\S)-(?=\d)", "$-$", tex(text))
    return re.sub(r" \$\\pm\$ ([\d.]+)", r"\,{\\scriptsize$\\pm$\1}", signed)


def texlabel(text: str) -> str:
    """The name of a label in LaTeX: what isn't safe there becomes a hyphen."""
    return re.sub(r"[^A-Za-z0-9_.:@+-]+", "-", text)


def md(text: str) -> str:
    """Text escaped for Markdown, within a line; underscores inside words need no escape."""
    return re.sub(r"[\\|*<\[`~$]|&(?=[#A-Za-z])|(?<!\w)_|_(?!\w)", lambda match: "\\" + match[0], one_line(text))


def paragraph(text: str) -> str:
    """Text escaped for Markdown, as a paragraph of its own."""
    escaped = md(text)
    start = _BLOCK.match(escaped)
    return f"{escaped[: start.end() - 1]}\\{escaped[start.end() - 1 :]}" if start else escaped


def csv_row(row: Mapping[str, object]) -> dict[str, object]:
    """A line of a CSV file. Numbers stay numbers, None is an empty cell, and text starts no formula."""
    return dict(zip(row, csv_cells(list(row.values())), strict=True))


def csv_cells(cells: Sequence[object]) -> list[object]:
    """As `csv_row`, of cells in their order."""
    return [_csv_cell(cell) for cell in cells]


def _csv_cell(cell: object) -> object:
    if isinstance(cell, str):
        text = one_line(cell)
        return f"'{text}" if text.startswith(_FORMULA) else text
    return "" if cell is None else repr(cell)
