"""The example runs, does what it says, and gives the same on both lanes."""

import asyncio
import re

import pytest

from doubleweave.examples import audit


def test_the_audit_says_that_its_lanes_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 0
    assert capsys.readouterr().out.endswith("the two results are identical\n")


def test_the_audit_notices_results_that_differ() -> None:
    executor = audit.make_executor()
    first, second = executor.execute_flow("audit", {}), audit.make_executor().execute_flow("audit", {})
    assert audit.comparable(first) == audit.comparable(second)
    second.execution_log[1].retry_count += 1
    assert audit.comparable(first) != audit.comparable(second)


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_the_audit_really_retries_falls_back_and_takes_one_branch(lane: str) -> None:
    ours = audit.make_executor()
    result = ours.execute_flow("audit", {}) if lane == "sync" else asyncio.run(ours.execute_flow_async("audit", {}))
    by_tool = {record.tool_name: record for record in result.execution_log}
    measured = by_tool["measure"]
    assert measured.retry_count == len(measured.retry_errors) > 0
    assert all(re.fullmatch(r"\d+ of \d+ distributions measured", text) for text in measured.retry_errors)
    assert sum((measured.outputs or {})["bytes_by_name"].values()) > 1_000_000
    assert by_tool["licence_expressions"].fallback_tool_name == "licence_fields"
    assert sorted(by_tool[name].skipped for name in ("report_gaps", "report_clean")) == [False, True]
