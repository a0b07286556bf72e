"""The example runs, does what it says, and gives the same on both lanes."""

import asyncio

import pytest

from doubleweave.examples import audit


def test_the_audit_retries_falls_back_and_branches_on_both_lanes(capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main() == 0
    assert capsys.readouterr().out.endswith("the two results are identical\n")


def test_the_audit_really_retries_falls_back_and_takes_one_branch() -> None:
    for result in (
        audit.make_executor().execute_flow("audit", {}),
        asyncio.run(audit.make_executor().execute_flow_async("audit", {})),
    ):
        by_tool = {record.tool_name: record for record in result.execution_log}
        assert by_tool["measure"].retry_errors == ["the disk was not ready"]
        assert by_tool["licence_expressions"].fallback_tool_name == "licence_fields"
        assert sorted(by_tool[name].skipped for name in ("report_gaps", "report_clean")) == [False, True]
