"""What README and the pages of docs/ show is what their code prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from doubleweave.examples import audit

ROOT = Path(__file__).parent.parent


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


SHARED, BLOCKING, AWAITED, FAILED = blocks("README.md", "python")
PRINTED = blocks("README.md", "text")
STOPPING = blocks("docs/stopping.md", "python")
STOPPED = blocks("docs/stopping.md", "text")[0]


def printed_by(*parts: str) -> str:
    program = "\n".join(["import logging", "logging.disable()", *parts])
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("shared", "code", "printed"),
    [
        (SHARED, BLOCKING, PRINTED[0]),
        (SHARED, AWAITED, PRINTED[1]),
        (SHARED, FAILED, PRINTED[2]),
        (STOPPING[0], STOPPING[1], STOPPED),
        (STOPPING[0], STOPPING[2], STOPPED),
    ],
)
def test_each_example_prints_what_stands_below_it(shared: str, code: str, printed: str) -> None:
    assert printed_by(shared, code) == printed


def test_every_example_of_the_pages_is_tested() -> None:
    assert (len(PRINTED), len(STOPPING)) == (4, 3)
    assert [page.name for page in sorted((ROOT / "docs").glob("*.md"))] == ["errors.md", "stopping.md"]


def test_both_lanes_are_used_in_the_same_way_and_print_the_same() -> None:
    as_blocking = AWAITED.replace("AsyncFlowExecutor", "FlowExecutor").replace("async def", "def").replace("await ", "")
    assert as_blocking.replace("asyncio.run(main())", "main()") == BLOCKING
    assert PRINTED[0] == PRINTED[1]


def test_the_audit_prints_such_a_table() -> None:
    def shape(table: str) -> list[str]:
        return [re.sub(r"\s+", " ", re.sub(r"[\d.]+", "#", line)) for line in table.strip().splitlines()]

    table = audit.table(audit.make_executor().execute_flow("audit", {}))
    assert shape(table) == shape(PRINTED[3])
