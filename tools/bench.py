"""What a run costs, as ratios to the loops that a user would write by hand.

Ours and the loop are measured in alternation in one process. `--write` keeps the results and the page made of them, `--check`
compares with those that were kept.
"""

import argparse
import gc
import json
import platform
import sys
from collections.abc import Collection
from pathlib import Path

from pydantic import VERSION as PYDANTIC

import bench_rows
from bench_rows import Row

DOCS = Path(__file__).parent.parent / "docs"
KEPT, PAGE = DOCS / "benchmarks.json", DOCS / "benchmarks.md"
TOLERANCE = 1.15

HEADER = """# Benchmarks

![What is measured, and its gates](benchmarks.svg)

What a run costs beside the same work in a loop written by hand: validate, call, validate, dump, merge
(`tools/bench_floors.py`). Both are measured in alternation in one process, medians of {pairs} pairs. Written by
`make bench-write`; `make bench` measures anew, `make bench-check` fails when a ratio is more than 15 % worse than here.
The same steps in other libraries: [peers.md](peers.md).

{machine}

| what | measured | gate | |
|---|---|---|---|
"""


def machine() -> str:
    system = f"{platform.system()} {platform.machine()}"
    return f"{platform.python_implementation()} {platform.python_version()}, pydantic {PYDANTIC}, {system}."


GROUPS = {group.__name__: group for group in (*bench_rows.ALL, bench_rows.instructions)}


def measured(names: Collection[str]) -> list[Row]:
    awaited = bench_rows.Awaited()
    rows = []
    for group in (GROUPS[name] for name in names):
        # What the groups before have left is not looked through again and again while this one is measured.
        gc.collect()
        gc.freeze()
        for row in group(awaited):
            rows.append(row)
            missed = "" if row.holds else f"  (gate {row.gate:g})"
            print(f"{row.name:<68} {row.value:>8.2f} {row.unit:<14} {row.note}{missed}", flush=True)
    return rows


def write(rows: list[Row]) -> None:
    kept = {
        row.name: {"value": round(row.value, 3), "unit": row.unit, "more": row.more_is_better, "gate": row.gate}
        for row in rows
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    lines = [
        f"| {row.name} | {row.value:.2f} {row.unit} | {_gate(row)} | {row.note or ''}{'' if row.holds else ' **missed**'} |"
        for row in rows
    ]
    text = HEADER.format(pairs=bench_rows.PAIRS, machine=machine()) + "\n".join(lines) + "\n"
    PAGE.write_text(text, encoding="utf-8")


def _gate(row: Row) -> str:
    return "" if row.gate is None else f"{'≥' if row.more_is_better else '≤'} {row.gate:g}"


def worse(rows: list[Row]) -> list[str]:
    """Return what is more than the tolerance worse than what was kept."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    found = []
    for row in rows:
        before = kept.get(row.name)
        if before is None or "us a step" in row.unit:
            continue
        factor = before["value"] / row.value if row.more_is_better else row.value / before["value"]
        if factor > TOLERANCE:
            found.append(f"{row.name}: {row.value:.2f} {row.unit}, was {before['value']:.2f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "group",
        nargs="*",
        metavar="group",
        choices=[[], *GROUPS],
        help=f"of {', '.join(GROUPS)}; default: all but the last",
    )
    parser.add_argument("--write", action="store_true", help="keep the results in docs/")
    parser.add_argument("--check", action="store_true", help="fail when a result is worse than the one kept")
    given = parser.parse_args()
    print(machine())
    usual = GROUPS if given.write else [group.__name__ for group in bench_rows.ALL]
    rows = measured(given.group or usual)
    if given.write:
        write(rows)
    if given.check and (faults := worse(rows)):
        # The clock is not to be trusted at once: what is worse twice is worse.
        print("\nmeasured again:")
        again = worse(measured(given.group or usual))
        names = {fault.split(":")[0] for fault in faults}
        sys.exit("\n".join(fault for fault in again if fault.split(":")[0] in names) or None)


if __name__ == "__main__":
    main()
