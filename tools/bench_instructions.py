"""Counted instructions of the hot path, for differences that are too small for the clock.

A process runs a chain of 1,000 steps a few times under `valgrind --tool=callgrind`; two processes that differ in how often they
run it give the instructions of a step. The same code gives the same count to within a percent, whatever else the machine does.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile

import bench_floors as floors
from bench_flows import X, chain_of, executor_for

LENGTH = 1000
RUNS = (1, 6)


def can_count() -> bool:
    """Say whether valgrind is there."""
    return shutil.which("valgrind") is not None


def instructions_a_step(lane: str, side: str) -> float:
    """Return the instructions of one step on a lane, `"ours"` or those of the loop written by hand, `"floor"`."""
    few, many = (_counted(lane, side, runs) for runs in RUNS)
    return (many - few) / (RUNS[1] - RUNS[0]) / LENGTH


def _counted(lane: str, side: str, runs: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        counter = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
        command = [*counter, sys.executable, __file__, lane, side, str(runs)]
        # Hashes of strings change the course of every dict.
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = re.search(r"Collected : (\d+)", ran.stderr)
    assert found is not None, ran.stderr
    return int(found.group(1))


def _work(side: str, runs: int) -> None:
    execute = executor_for(chain_of(LENGTH), floors.increment).execute_flow
    for _ in range(runs):
        if side == "ours":
            execute("flow", X)
        else:
            floors.chain(LENGTH)


async def _work_awaited(side: str, runs: int) -> None:
    execute = executor_for(chain_of(LENGTH), floors.increment_awaited).execute_flow_async
    for _ in range(runs):
        await (execute("flow", X) if side == "ours" else floors.chain_awaited(LENGTH))


if __name__ == "__main__":
    _, lane, side, runs = sys.argv
    if lane == "sync":
        _work(side, int(runs))
    else:
        asyncio.run(_work_awaited(side, int(runs)))
