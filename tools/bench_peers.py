"""What other libraries take for the work that doubleweave is measured at, each in an environment of its own.

Environments are kept in `.venvs/peers/`. `--write` keeps the results and the page made of them; `bench_plot.py` draws them.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from peers import PEERS, WORKS

ROOT = Path(__file__).parent.parent
ENVIRONMENTS = ROOT / ".venvs" / "peers"
KEPT, PAGE = ROOT / "docs" / "peers.json", ROOT / "docs" / "peers.md"
LIMIT_SECONDS = 180
# Nobody is to be told that a benchmark ran.
SILENT = {"HAMILTON_TELEMETRY_ENABLED": "false", "HAYSTACK_TELEMETRY_ENABLED": "False", "DO_NOT_TRACK": "1"}

Result = dict[str, Any]

HEADER = """# Beside other libraries

![Ratios to a loop written by hand](peers.svg)

The same steps, with the same validation of what goes into a step and of what comes out, run by other libraries. Each has an
environment of its own, with doubleweave in it: the loop written by hand (`tools/bench_floors.py`), doubleweave and the other
library take turns in a process for each number. Numbers are ratios to that loop, medians of 9 turns, or of 3 where a run takes
half a second or more. Before the clock starts graphs are built and garbage is collected. What each library is given to do is in
`tools/peers/`.

Written by `{command}`; `make bench-peers` measures anew, `make bench-peers PEERS="langgraph burr"` some of them.

{machine}

"""

NOTES = """
- The lines of doubleweave are the medians of what it took beside each library.
- doubleweave builds its records when they are first looked at. ChainWeaver has built them by the end of a run, so it is to be
  compared with "records read", which looks at every field of every record; the others keep none, or fewer.
- By hand: the library hands plain values from step to step, and the step itself validates what it is given and what it returns,
  which costs the library nothing but one call.
- In 30 x 30 connected each step depends on the 30 steps of the level before. Async runs of doubleweave may have 1,000 steps at
  once, and the loop beside them is one `gather` a level.
"""


def machine() -> str:
    model = re.search(r"^model name\s*: (.*)", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    processor = model.group(1) if model else platform.processor() or "unknown processor"
    python = f"{platform.python_implementation()} {platform.python_version()}"
    used = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{python}, {platform.system()} {platform.machine()}, {processor}, {used} of {os.cpu_count()} cores."


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def install(name: str) -> Path:
    """Return the interpreter of the peer's environment, which is made anew when it is not the one asked for."""
    folder = ENVIRONMENTS / name
    ours = tomllib.loads(_text(ROOT / "pyproject.toml"))["project"]["dependencies"]
    wanted = "\n".join([sys.version, PEERS[name].requirement, *ours])
    python = folder / "bin" / "python"
    if _text(folder / "installed") != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        options = ["--quiet", "--disable-pip-version-check"]
        _run([str(python), "-m", "pip", "install", *options, PEERS[name].requirement, "-e", str(ROOT)])
        (folder / "installed").write_text(wanted, encoding="utf-8")
    return python


def _run(command: list[str]) -> str:
    environment = {**os.environ, **SILENT, "PYTHONPATH": str(ROOT / "tools")}
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": LIMIT_SECONDS, "env": environment}
    try:
        done = subprocess.run(command, check=False, cwd=ROOT, **settings)
    except subprocess.TimeoutExpired:
        raise ChildProcessError(f"took more than {LIMIT_SECONDS} s") from None
    if done.returncode:
        raise ChildProcessError(_error_in(done.stderr))
    printed: str = done.stdout
    return printed


def _error_in(text: str) -> str:
    """Return what is wrong: the first error of pip, which its other ones explain, or the end of a traceback."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines[-1:] or ["it ended without a word"]
    return errors[0].replace(str(ROOT), ".")[:200]


def measure(name: str) -> Result:
    """Return the versions and the rows of a peer, each measured in a process of its own, and what went wrong."""
    result: Result = {"versions": {}, "rows": []}
    try:
        python = install(name)
    except ChildProcessError as failure:
        return result | {"error": str(failure)}
    for work in WORKS:
        try:
            # A library may print, too; ours is the last line.
            found = json.loads(_run([str(python), "-m", "peers.measure", name, work]).splitlines()[-1])
        except ChildProcessError as failure:
            found = {"row": {"error": str(failure)}}
        result["versions"] |= found.get("versions", {})
        result["rows"].append({"work": work, **found["row"]})
    return result


def failures(peers: dict[str, Result]) -> list[str]:
    found = [f"{name}: {peer['error']}" for name, peer in peers.items() if "error" in peer]
    rows = [(name, row) for name, peer in peers.items() for row in peer["rows"] if "error" in row]
    return found + [f"{name}, {row['work']}: {row['error']}" for name, row in rows]


def page(kept: Result) -> str:
    """Return the page that is made of kept results."""
    works = kept["works"]
    lines = [HEADER.format(**kept), f"| library | {' | '.join(works)} | validation, remarks |\n"]
    lines.append(f"|---|{'---|' * len(works)}---|\n")
    for title, key in (("**doubleweave**", "ours"), ("doubleweave, records read", "read")):
        cells = [cell(ours(kept, work, key)) for work in works]
        lines.append(f"| {title} | {' | '.join(cells)} | its own, of inputs and outputs |\n")
    for name, peer in kept["peers"].items():
        rows = {row["work"]: row for row in peer["rows"]}
        cells = [cell(rows.get(work, peer)) for work in works]
        lines.append(f"| {_title(name, peer)} | {' | '.join(cells)} | {_remarks(name, peer)} |\n")
    lines += [NOTES, "\nWhat a step takes, in microseconds, measured in the process of each library:\n\n"]
    lines.append("| library | work | turns | by hand | doubleweave | records read | the library | to records read |\n")
    lines.append(f"|{'---|' * 8}\n")
    for name, peer in kept["peers"].items():
        for row in peer["rows"]:
            if "peer" in row:
                times = " | ".join(f"{row[f'{who}_us']:,.1f}" for who in ("floor", "ours", "read", "peer"))
                factor = row["peer"] / row["read"]
                lines.append(f"| {PEERS[name].title} | {row['work']} | {row['turns']} | {times} | {factor:,.1f} x |\n")
    return "".join(lines)


def ours(kept: Result, work: str, key: str) -> Result:
    """Return a row for doubleweave: the median of what was measured beside each peer."""
    rows = [row for peer in kept["peers"].values() for row in peer["rows"] if row["work"] == work and key in row]
    return {"peer": statistics.median(row[key] for row in rows)} if rows else {"error": "nothing was measured"}


def cell(row: Result) -> str:
    """Return what is said of a row, or of a peer that has no such row because it failed."""
    if "peer" in row:
        return f"{row['peer']:,.1f}"
    return "failed" if "error" in row else "not offered"


def _title(name: str, peer: Result) -> str:
    versions = peer["versions"] or {PEERS[name].requirement: ""}
    return f"{PEERS[name].title} ({', '.join(' '.join(each).strip() for each in versions.items())})"


def _remarks(name: str, peer: Result) -> str:
    errors = [fault.replace("|", "/") for fault in failures({name: peer})]
    return "; ".join(filter(None, [PEERS[name].validation, PEERS[name].note, *errors]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", nargs="*", help=f"of {', '.join(PEERS)}; default all")
    parser.add_argument("--write", action="store_true", help="keep the results in docs/")
    given = parser.parse_args()
    if unknown := set(given.peer) - set(PEERS):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    if given.write and given.peer:
        parser.error("only results of all peers are kept")
    print(machine())
    peers: dict[str, Result] = {}
    for name in given.peer or PEERS:
        start = time.monotonic()
        peers[name] = measure(name)
        print(f"\n{_title(name, peers[name])}: {_remarks(name, peers[name])} ({time.monotonic() - start:.0f} s)")
        for row in peers[name]["rows"]:
            if "peer" in row:
                beside = f"doubleweave {row['ours']:.2f}, records read {row['read']:.2f}"
                print(
                    f"  {row['work']:<26} {row['peer']:>10,.1f} x floor   ({beside}; {row['turns']} turns)", flush=True
                )
    if given.write:
        kept = {"command": "make bench-peers-write", "machine": machine(), "works": list(WORKS), "peers": peers}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
        PAGE.write_text(page(kept), encoding="utf-8")
    sys.exit("\n".join(failures(peers)) or None)


if __name__ == "__main__":
    main()
