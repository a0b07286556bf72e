"""What is kept of the other libraries: results, page and plot say the same."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import bench_peers
from peers import PEERS

DOCS = bench_peers.KEPT.parent
KEPT: dict[str, Any] = json.loads(bench_peers.KEPT.read_text(encoding="utf-8"))
DRAWN = [DOCS / "peers.json", DOCS / "benchmarks.json"]


def test_the_page_is_what_the_kept_results_give() -> None:
    assert bench_peers.PAGE.read_text(encoding="utf-8") == bench_peers.page(KEPT)


def test_every_peer_is_kept_in_the_version_that_is_installed() -> None:
    found = {name: set(peer["versions"].items()) for name, peer in KEPT["peers"].items()}
    wanted = {name: tuple(peer.requirement.split("==")) for name, peer in PEERS.items()}
    assert list(found) == list(wanted)
    assert [name for name, version in wanted.items() if found[name] and version not in found[name]] == []


def test_every_peer_has_a_module_of_its_own() -> None:
    modules = {path.stem for path in (bench_peers.ROOT / "tools" / "peers").glob("*.py")}
    assert modules == {*PEERS, "__init__", "by_hand", "measure"}


def test_what_failed_is_said_in_its_row() -> None:
    works = ["chain of 100, sync", "chain of 100, async"]
    ratios = {"turns": 9, "ours": 1.5, "read": 2.0, "peer": 30.0}
    measured = {"work": works[0], **ratios, "floor_us": 2.0, "ours_us": 3.0, "read_us": 4.0, "peer_us": 60.0}
    broken = {"work": works[1], "error": "RuntimeError: no | loop"}
    peers: dict[str, Any] = {
        "dask": {"versions": {"dask": "1"}, "rows": [measured, {"work": works[1]}]},
        "burr": {"versions": {"apache-burr": "2"}, "rows": [measured, broken]},
        "haystack": {"versions": {}, "rows": [], "error": "ERROR: no such version"},
    }
    kept = {"command": "make", "machine": "a machine", "works": works, "peers": peers}
    lines = bench_peers.page(kept).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")][2:7]
    assert [row[1:3] for row in rows] == [
        ["1.5", "failed"],
        ["2.0", "failed"],
        ["30.0", "not offered"],
        ["30.0", "failed"],
        ["failed", "failed"],
    ]
    assert rows[3][3].endswith("burr, chain of 100, async: RuntimeError: no / loop")
    assert rows[4][3].endswith("haystack: ERROR: no such version")
    assert len(bench_peers.failures(peers)) == 2


def test_a_peer_that_cannot_be_installed_is_a_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(name: str) -> Path:
        raise ChildProcessError(bench_peers._error_in(f"WARNING\nERROR: none in {bench_peers.ROOT}/x\nERROR: more\n"))

    monkeypatch.setattr(bench_peers, "install", fails)
    assert bench_peers.measure("dask") == {"versions": {}, "rows": [], "error": "ERROR: none in ./x"}


def test_a_row_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "python"
    line = '{"versions": {"dask": "1"}, "row": {"peer": 2.0}}'
    program.write_text(f"#!/bin/sh\ncase \"$4\" in *async) echo gone >&2; exit 3;; esac\necho word\necho '{line}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(bench_peers, "install", lambda name: program)
    kept = bench_peers.measure("dask")
    assert kept["versions"] == {"dask": "1"}
    assert kept["rows"][:2] == [
        {"work": "chain of 100, sync", "peer": 2.0},
        {"work": "chain of 100, async", "error": "gone"},
    ]
    assert len(bench_peers.failures({"dask": kept})) == 3


@pytest.mark.parametrize("kept", DRAWN, ids=lambda path: path.stem)
def test_a_plot_is_drawn_from_what_is_kept(kept: Path) -> None:
    plot = kept.with_suffix(".svg").read_text(encoding="utf-8")
    digest = hashlib.sha256(kept.read_bytes()).hexdigest()[:16]
    assert f"drawn from {kept.name} {digest}" in plot, "run `make bench-plot`"
    assert "dc:date" not in plot
    assert len(plot) < 100_000


@pytest.mark.parametrize("kept", DRAWN, ids=lambda path: path.stem)
def test_a_plot_is_what_the_tool_draws(kept: Path) -> None:
    pytest.importorskip("matplotlib", reason="only `make bench-plot` has matplotlib")
    import bench_plot

    assert bench_plot.svg_of(kept) == kept.with_suffix(".svg").read_text(encoding="utf-8")
