"""What README shows is what its code prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from doubleweave.examples import audit

BLOCKS = re.findall(
    r"```(python|text)\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8"), re.DOTALL
)
CODE = [text for kind, text in BLOCKS if kind == "python"]
PRINTED = [text for kind, text in BLOCKS if kind == "text"]
SHARED, BLOCKING, AWAITED, FAILED = CODE


def printed_by(*parts: str) -> str:
    program = "\n".join(parts)
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(("code", "printed"), [(BLOCKING, PRINTED[0]), (AWAITED, PRINTED[1]), (FAILED, PRINTED[2])])
def test_each_example_prints_what_stands_below_it(code: str, printed: str) -> None:
    logs_off = "import logging; logging.disable()"
    assert printed_by(logs_off, SHARED, code) == printed


def test_both_lanes_are_used_in_the_same_way_and_print_the_same() -> None:
    as_blocking = AWAITED.replace("AsyncFlowExecutor", "FlowExecutor").replace("async def", "def").replace("await ", "")
    assert as_blocking.replace("asyncio.run(main())", "main()") == BLOCKING
    assert PRINTED[0] == PRINTED[1]


def test_the_audit_prints_such_a_table() -> None:
    def shape(table: str) -> list[str]:
        return [re.sub(r"\s+", " ", re.sub(r"[\d.]+", "#", line)) for line in table.strip().splitlines()]

    table = audit.table(audit.make_executor().execute_flow("audit", {}))
    assert shape(table) == shape(PRINTED[3])
