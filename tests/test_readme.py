"""What README and the pages of docs/ show is what their code prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from doc_pages import blocks_of, examples_of
from doubleweave.examples import audit

ROOT = Path(__file__).parent.parent


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


SHARED, BLOCKING, AWAITED, FAILED, WATCHED, CHECKED = blocks("README.md", "python")
PRINTED = blocks("README.md", "text")
# Pages of examples: what both lanes share, one lane, the other lane, and what each of them prints.
PAGES = [
    "docs/files.md",
    "docs/saving.md",
    "docs/stopping.md",
    "docs/opentelemetry.md",
    "docs/testing.md",
    "docs/checking.md",
    "docs/migration.md",
    "docs/pictures.md",
    "docs/index.md",
    "docs/agents.md",
    "docs/lanes.md",
    "docs/determinism.md",
    "docs/security.md",
    "docs/mistakes.md",
    "docs/mcp.md",
]
EXAMPLES = [(page, number) for page in PAGES for number in range(len(examples_of(page)))]
# The page of a pydantic error belongs to its version.
_PYDANTIC = re.compile(r"(?<=https://errors\.pydantic\.dev/)[\d.]+")


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
        (SHARED, WATCHED, PRINTED[3]),
        (SHARED, CHECKED, PRINTED[4]),
    ],
)
def test_each_example_prints_what_stands_below_it(shared: str, code: str, printed: str) -> None:
    assert printed_by(shared, code) == printed


@pytest.mark.parametrize(("page", "number"), EXAMPLES)
def test_the_examples_of_a_page_print_the_same_on_both_lanes(page: str, number: int) -> None:
    example = examples_of(page)[number]
    blocking, awaited = printed_by(*example.shared, example.blocking), printed_by(*example.shared, example.awaited)
    assert blocking == awaited
    assert _PYDANTIC.sub("#", blocking) == _PYDANTIC.sub("#", example.printed)


def as_awaited(code: str) -> str:
    """Return a blocking example as the awaited one that it stands for."""
    lines = code.replace("FlowExecutor(", "AsyncFlowExecutor(").replace("for event in", "async for event in")
    lines = re.sub(r"((?:executor|AsyncFlowExecutor\(\w+\))\.(?:execute|replay)_flow\([^)]*\))", r"(await \1)", lines)
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"async def main():\n{body}\nasyncio.run(main())\n"


@pytest.mark.parametrize(("code", "printed"), [(FAILED, PRINTED[2]), (WATCHED, PRINTED[3])])
def test_what_stands_there_blocking_prints_the_same_awaited(code: str, printed: str) -> None:
    awaited = as_awaited(code)
    assert awaited.count("await ") == code.count("_flow(") - code.count("stream_flow(") > 0
    assert printed_by(SHARED, awaited) == printed


def test_every_example_is_tested() -> None:
    assert len(PRINTED) == 6
    found = blocks_of("README.md")
    assert [each for each in found if each.title or each.language not in ("python", "text", "console")] == []
    assert [each for each in found if each.language == "console" and not each.text.startswith("$ ")] == []


def test_both_lanes_are_used_in_the_same_way_and_print_the_same() -> None:
    as_blocking = AWAITED.replace("AsyncFlowExecutor", "FlowExecutor").replace("async def", "def").replace("await ", "")
    assert as_blocking.replace("asyncio.run(main())", "main()") == BLOCKING
    assert PRINTED[0] == PRINTED[1]


def test_the_audit_prints_such_a_table() -> None:
    def shape(table: str) -> list[str]:
        return [re.sub(r"\s+", " ", re.sub(r"[\d.]+", "#", line)) for line in table.strip().splitlines()]

    table = audit.table(audit.make_executor().execute_flow("audit", {}))
    assert shape(table) == shape(PRINTED[5])
