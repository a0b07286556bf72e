"""Hostile flow files and predicates do what is specified and nothing else, quickly and in little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

CASES = int(os.environ.get("DOUBLEWEAVE_FUZZ_CASES", "5000"))
PROCESSES = 2


def test_reading_ends_as_specified_and_touches_nothing() -> None:
    program = Path(__file__).with_name("fuzzed_input.py")
    share = CASES // PROCESSES
    running = [
        subprocess.Popen(
            [sys.executable, str(program), str(part * share), str(share)], stdout=subprocess.PIPE, text=True
        )
        for part in range(PROCESSES)
    ]
    for process in running:
        output, _ = process.communicate()
        *faults, summary = output.splitlines()
        assert faults == []
        assert json.loads(summary) == {"cases": share, "faults": 0}
