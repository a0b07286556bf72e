"""Draws the plots of docs/ from the results that are kept there. The same results give the same files."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bench_peers import KEPT as PEERS_KEPT
from bench_peers import cell, ours
from peers import PEERS

DOCS = Path(__file__).parent.parent / "docs"
BENCHMARKS_KEPT = DOCS / "benchmarks.json"
OURS, OURS_READ, OTHER, MISSED, INK = "#1f6feb", "#8ab4f8", "#a8b0ba", "#d1495b", "#24292f"
# Text stays text: drawn as shapes it is four times as much.
STYLE = {
    "svg.hashsalt": "doubleweave",
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
}

Kept = dict[str, Any]


def digest(kept: Path) -> str:
    """Return what a plot says about the results that it was drawn from."""
    return f"drawn from {kept.name} {hashlib.sha256(kept.read_bytes()).hexdigest()[:16]}"


def svg_of(kept: Path) -> str:
    draw = _draw_peers if kept == PEERS_KEPT else _draw_benchmarks
    with matplotlib.rc_context(STYLE):
        figure = draw(json.loads(kept.read_text(encoding="utf-8")))
        file = io.StringIO()
        about = {"Date": None, "Creator": None, "Description": digest(kept)}
        figure.savefig(file, format="svg", facecolor="white", metadata=about)
    return "".join(line.rstrip() + "\n" for line in file.getvalue().splitlines())


def _draw_peers(kept: Kept) -> Figure:
    figure = Figure(figsize=(10, 9.5), layout="constrained")
    figure.suptitle("Times as long as a loop written by hand with the same validation (log scale, less is better)")
    axes = figure.subplots(len(kept["works"]) // 2, 2, sharex=True, sharey=True)
    names = sorted(kept["peers"], key=lambda name: _row(kept, name, kept["works"][2]).get("peer", 0))
    highest = max(row.get("peer", 1) for peer in kept["peers"].values() for row in peer["rows"])
    labels = ["doubleweave", "doubleweave, records read", *(PEERS[name].title for name in names)]
    for work, axis in zip(kept["works"], axes.flat, strict=True):
        rows = [ours(kept, work, key) for key in ("ours", "read")] + [_row(kept, name, work) for name in names]
        axis.set_title(work, fontsize=10, loc="left")
        axis.set_xscale("log")
        axis.set_xlim(0.5, highest * 5)
        axis.set_yticks(range(len(labels)), labels)
        _bars(axis, [row.get("peer", 1) for row in rows], [OURS, OURS_READ] + [OTHER] * len(names))
        for place, row in enumerate(rows):
            weight = "bold" if place < 2 else "normal"
            axis.text(max(row.get("peer", 1), 1) * 1.12, place, cell(row), va="center", fontweight=weight)
    return figure


def _row(kept: Kept, name: str, work: str) -> Kept:
    peer: Kept = kept["peers"][name]
    return next((row for row in peer["rows"] if row["work"] == work), peer)


def _draw_benchmarks(kept: Kept) -> Figure:
    less = {name: row for name, row in kept.items() if row["unit"].startswith("x")}
    more = {name: row for name, row in kept.items() if row["more"]}
    figure = Figure(figsize=(10, 8.5), layout="constrained")
    figure.suptitle("Measured, and the gates (black lines); red: a gate missed, grey: no gate")
    above, below = figure.subplots(2, 1, height_ratios=[len(less), len(more) + 1])
    above.set_xscale("log")
    values = [row["value"] for row in less.values()]
    above.set_xticks([0.1, 0.2, 0.5, 1, 2, 5, 10, 20])
    above.set_xlim(min(*values, 0.8) / 1.3, max(values) * 3)
    above.set_title(
        "ratios, to the floor where nothing else is said (log scale, less is better)", fontsize=10, loc="left"
    )
    below.set_xlim(0, 1.15)
    below.set_title("part of the ideal (more is better)", fontsize=10, loc="left")
    for axis, rows, start in ((above, less, 1), (below, more, 0)):
        axis.set_yticks(range(len(rows)), list(rows))
        _bars(axis, [row["value"] for row in rows.values()], [_colour(row) for row in rows.values()], start)
        for place, row in enumerate(rows.values()):
            gate = row.get("gate")
            if gate is not None:
                axis.plot([gate, gate], [place - 0.45, place + 0.45], color=INK, linewidth=1.6)
            end = max(row["value"], gate or 0, start)
            said = "" if row["unit"] in ("x floor", "of ideal") else f" {row['unit']}"
            colour = MISSED if _colour(row) == MISSED else INK
            axis.text(
                end * 1.05 if start else end + 0.012, place, f"{row['value']:.2f}{said}", va="center", color=colour
            )
    return figure


def _colour(row: Kept) -> str:
    gate = row.get("gate")
    if gate is None:
        return OTHER
    return OURS if (row["value"] >= gate if row["more"] else row["value"] <= gate) else MISSED


def _bars(axis: Any, values: list[float], colours: list[str], start: float = 1) -> None:
    """Draw a bar from the start, which is the floor, to each value."""
    axis.barh(range(len(values)), [value - start for value in values], left=start, color=colours, height=0.72)
    axis.set_ylim(len(values) - 0.4, -0.6)
    axis.axvline(start, color=INK, linewidth=0.8)
    axis.xaxis.set_major_formatter("{x:,g}")
    axis.minorticks_off()
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", color="#d0d7de", linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right", "left"]].set_visible(False)


def main() -> None:
    for kept in (PEERS_KEPT, BENCHMARKS_KEPT):
        if kept.exists():
            kept.with_suffix(".svg").write_text(svg_of(kept), encoding="utf-8")


if __name__ == "__main__":
    main()
