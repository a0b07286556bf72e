"""The page of a finished run, read in a real browser."""

from collections.abc import Callable
from typing import Any

import pytest

import doubleweave as dw
from browser_under_test import Shown, open_browser
from pages_under_test import (
    branching,
    everything,
    executor_for,
    failed,
    first_of_two,
    number_tool,
    record,
    refuse,
    run_of,
    second_of_two,
)

pytest_plugins = ["shown_pages"]
MASK = "***REDACTED***"


# --- content ----------------------------------------------------------------------------------------------------------


def test_the_head_says_what_ran_and_what_came_of_it(show: Shown) -> None:
    with show(everything()) as tab:
        assert tab.page.title() == "orders · doubleweave"
        assert (tab.text("#flow"), tab.text("#version"), tab.text("#outcome")) == ("orders", "v1.4.0", "✕ failed")
        assert tab.texts("#facts .line > div") == [
            "Trace 0123456789abcdef0123456789abcdef",
            "Started 2026-05-04 12:00:00.000 UTC",
            "Ended 2026-05-04 12:00:01.250 UTC",
        ]
        assert tab.texts("#totals > div") == [
            "Duration 1.25 s",
            "Steps 6 + 2 in sub-flows",
            "Failed 2",
            "Skipped 1",
            "Retries 2",
            "Cached 1",
            "Fallbacks 1",
            "Cost saved, est. $0.1500",
        ]
        assert tab.text("#trouble") == (
            "Failed at step 4.1, receipt: CW-E006 FlowExecutionError. printer on fire (2 failed in all) Show"
        )


def test_the_table_has_a_row_for_each_step_those_of_a_sub_flow_below_it(show: Shown) -> None:
    with show(everything()) as tab:
        assert tab.rows() == [
            ["0", "fetch", "✓ ok", "+0.00 ms", "100 ms", "cached", '{ "value": 0 }'],
            ["1", "price", "✓ ok", "+100 ms", "251 ms", "2 retries · decided", '{ "value": 2 }'],
            ["2", "stock", "✓ ok", "+120 ms", "280 ms", "fallback", '{ "value": 4 }'],
            ["3", "gift", "– skipped", "+400 ms", "", "", "{}"],
            ["4", "pay", "✓ ok", "+405 ms", "305 ms", "sub-flow · approval", '{ "value": 8 }'],
            ["4.0", "charge", "✓ ok", "+410 ms", "190 ms", "", '{ "value": 0 }'],
            ["4.1", "receipt", "✕ failed", "+600 ms", "100 ms", "", "CW-E006 FlowExecutionError"],
            ["5", "ship", "✕ failed", "+720 ms", "520 ms", "", "CW-E006 FlowExecutionError"],
        ]


def test_steps_that_overlap_stand_in_different_lanes_and_others_in_the_first_that_is_free(show: Shown) -> None:
    with show(everything()) as tab:
        assert tab.text("#lanes") == "2 lanes"
        box = tab.page.locator("#canvas").bounding_box()
        assert box is not None

        def under(ms: float, lane: int) -> str:
            tab.page.mouse.move(box["x"] + 10 + ms / 1250 * (box["width"] - 20), box["y"] + 33 + lane * 21)
            return tab.text("#tip") if tab.page.locator("#tip").is_visible() else ""

        assert under(50, 0) == "0 fetch · ok · 100 ms from 0.00 ms"
        assert under(50, 1) == ""
        assert under(200, 0) == "1 price · ok · 251 ms from 100 ms"
        assert under(200, 1) == "2 stock · ok · 280 ms from 120 ms"
        assert under(500, 0) == "4 pay · ok · 305 ms from 405 ms"
        assert under(500, 1) == "4.0 charge · ok · 190 ms from 410 ms"
        assert under(650, 1) == "4.1 receipt · failed · 100 ms from 600 ms"
        assert under(1000, 0) == "5 ship · failed · 520 ms from 720 ms"
        tab.page.mouse.down()
        tab.page.mouse.up()
        assert tab.text("#detail-title") == "5 ship"


def test_the_details_of_a_step_have_inputs_outputs_retries_and_who_decided(show: Shown) -> None:
    with show(everything()) as tab:
        tab.open("price")
        assert tab.text("#detail-title") == "1 price"
        assert tab.texts("#detail .detail-facts > *") == ["Started", "+100 ms", "Duration", "251 ms", "Retries", "2"]
        assert tab.texts("#detail .list li") == ["503", f"timed out after {MASK}"]
        assert tab.section("Inputs") == '{\n  "value": 1\n}'
        assert tab.section("Outputs") == '{\n  "value": 2\n}'
        assert '"chosen": "price"' in tab.section("Decision")
        tab.open("stock")
        assert tab.texts("#detail .detail-facts > *")[-2:] == ["Fallback", "ran stock_cache instead"]
        tab.open("fetch")
        assert tab.texts("#detail .detail-facts > *")[-2:] == ["Cache", "output from the cache"]
        tab.open("pay")
        assert tab.texts("#detail .detail-facts > *")[-4:] == ["Sub-flow", "pay", "Trace", "0123456789abcdef" * 2]
        assert '"decision": "approve"' in tab.section("Approval")


def test_an_error_names_its_place(show: Shown) -> None:
    with show(everything()) as tab:
        tab.page.click("#trouble button")
        assert tab.text("#detail-title") == "4.1 receipt"
        assert tab.section("Error").splitlines() == [
            "CW-E006 FlowExecutionError",
            "at step 4.1, tool receipt",
            "printer on fire",
        ]
        assert tab.section("Outputs") == "none"


def test_secrets_are_masked_in_values_and_in_the_messages_that_quote_them(show: Shown) -> None:
    with show(everything()) as tab:
        tab.open("fetch")
        assert tab.section("Inputs") == f'{{\n  "url": "/orders/4711",\n  "token": "{MASK}"\n}}'
        tab.open("ship")
        assert tab.section("Error").splitlines()[-1] == f"no route to {MASK}"
        tab.page.click("#open-run")
        assert tab.section("Input") == f'{{\n  "value": 3,\n  "password": "{MASK}"\n}}'
    assert "correct horse" not in dw.run_page(everything())


def test_nothing_is_masked_when_so_asked(show: Shown) -> None:
    with show(everything(), redaction=None) as tab:
        tab.open("fetch")
        assert tab.section("Inputs") == '{\n  "url": "/orders/4711",\n  "token": "t0ps3cret"\n}'


def test_a_policy_of_ones_own_is_kept_to_in_messages_too() -> None:
    page = dw.run_page(
        run_of(failed(0, "a", 0, 1, "bearer abc123def is wrong")), redaction=dw.RedactionPolicy.recommended()
    )
    assert "abc123def" not in page
    assert f"{MASK} is wrong" in page


def test_the_run_has_its_input_output_and_cost(show: Shown) -> None:
    with show(
        run_of(record(0, "a", 0, 10), cost_report=dw.compute_cost_report(steps_executed=3, actual_execution_ms=9))
    ) as tab:
        assert (tab.text("#outcome"), tab.page.locator("#trouble").is_visible()) == ("✓ succeeded", False)
        tab.page.click("#open-run")
        assert tab.section("Output") == '{\n  "value": 8\n}'
        assert tab.section("Cost (estimate)").split("\n") == [
            *("Saved", "$0.060000", "Calls avoided", "2", "Latency saved", "600 ms", "Steps counted", "3"),
        ]


def test_values_are_shown_as_python_writes_them(show: Shown) -> None:
    outputs = {"large": 2**80, "whole": 1.0, "nan": float("nan"), "text": "ä\ud800<", "set": {1}, "at": object()}
    circle: dict[str, Any] = {}
    circle["circle"] = circle
    with show(run_of(record(0, "odd", 0, 1, outputs=outputs), record(1, "round", 1, 2, outputs=circle))) as tab:
        tab.open("odd")
        assert tab.section("Outputs").splitlines() == [
            "{",
            '  "large": 1208925819614629174706176,',
            '  "whole": 1.0,',
            '  "nan": NaN,',
            '  "text": "ä\ud800<",',
            '  "set": [',
            "    1",
            "  ],",
            '  "at": "<object>"',
            "}",
        ]
        tab.open("round")
        assert tab.section("Outputs").startswith('"(cannot be shown: Circular reference detected')


def test_a_long_value_is_cut_until_all_of_it_is_asked_for(show: Shown) -> None:
    with show(run_of(record(0, "long", 0, 1, outputs={"text": "x" * 30_000}))) as tab:
        tab.open("long")
        length = "boxes => boxes.at(-1).textContent.length"
        assert tab.page.locator("#detail pre").evaluate_all(length) == 20_000
        tab.page.click("text=Show all 30,016 characters")
        assert tab.page.locator("#detail pre").evaluate_all(length) == 30_016


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_the_graph_has_the_outcome_of_each_step_and_the_branch_that_was_taken(
    show: Shown, lane: str, on_thread: Callable[..., dw.ExecutionResult]
) -> None:
    flow = branching()
    result = on_thread(lane, executor_for(flow), flow.name, {"value": 3})
    with show(result, flow=flow) as tab:
        assert tab.page.locator("g.node").evaluate_all("nodes => nodes.map(node => node.children[1].textContent)") == [
            *("last", "first", "big", "small")
        ]
        classes = tab.page.locator("g.node").evaluate_all("nodes => nodes.map(node => node.classList[1])")
        assert classes == ["node-ok", "node-ok", "node-skipped", "node-ok"]
        edges = tab.page.locator("path.edge").evaluate_all(
            "paths => paths.map(path => path.classList.contains('edge-idle'))"
        )
        assert sorted(edges) == [False, False, True, True]
        labels = tab.page.locator("text.label").evaluate_all("nodes => nodes.map(node => node.firstChild.textContent)")
        assert sorted(labels) == ["first_value > 10", "otherwise"]
        tab.page.locator("g.node").nth(1).click()
        assert tab.text("#detail-title") == "0 first"
        assert tab.texts("#detail .list li") == ["first_value > 10 → big not taken", "otherwise → small taken"]


def test_the_graph_is_that_of_the_flow_that_ran() -> None:
    with pytest.raises(ValueError, match=r"^the run is one of flow 'orders', not of 'branching'$"):
        dw.run_page(everything(), flow=branching())


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_a_check_of_the_flow_that_fails_is_no_step(
    show: Shown, lane: str, on_thread: Callable[..., dw.ExecutionResult]
) -> None:
    flow = dw.Flow(
        name="checked",
        description="Checks",
        steps=[dw.FlowStep(tool_name="a")],
        output_schema_ref="parity_scenarios:Strict",
        input_schema_ref="pages_under_test:Number",
    )
    executor = executor_for(flow)
    with show(on_thread(lane, executor, "checked", {"value": 1}), flow=flow) as tab:
        assert [row[:3] for row in tab.rows()] == [["0", "a", "✓ ok"], ["output", "checked", "✕ failed"]]
        assert tab.texts("#totals > div")[1:3] == ["Steps 1", "Failed 1"]
        assert tab.text("#trouble").startswith(
            "The output of the flow failed its check: CW-E004 SchemaValidationError."
        )
    with show(on_thread(lane, executor, "checked", {"value": "x"}), flow=flow) as tab:
        assert [row[:3] for row in tab.rows()] == [["input", "checked", "✕ failed"]]
        assert tab.texts("#totals > div")[1:3] == ["Steps 0", "Failed 1"]
        assert tab.page.locator("g.node text").all_text_contents() == ["a", "not run"]


@pytest.mark.parametrize("lane", ["sync", "async"])
def test_a_failed_run_names_the_step(show: Shown, lane: str, on_thread: Callable[..., dw.ExecutionResult]) -> None:
    flow = dw.Flow(name="failing", description="Fails", steps=[dw.FlowStep(tool_name="a"), dw.FlowStep(tool_name="no")])
    result = on_thread(lane, executor_for(flow, number_tool("no", refuse)), "failing", {"value": 1})
    with show(result, flow=flow) as tab:
        assert tab.text("#trouble") == (
            "Failed at step 1, no: CW-E006 FlowExecutionError. Execution error in tool 'no' at step 1: 2 is refused Show"
        )


# --- two runs ---------------------------------------------------------------------------------------------------------


def test_two_runs_stand_side_by_side(show: Shown) -> None:
    with show(first_of_two(), other=second_of_two()) as tab:
        assert tab.text("#outcome") == "✕ A succeeded, B failed"
        assert [line.split(" Started")[0] for line in tab.texts("#facts .line")] == [
            "Run A Flow orders Version 1.4.0 Trace 0123456789abcdef0123456789abcdef",
            "Run B Flow orders Version 1.5.0 Trace ffffffffffffffffffffffffffffffff",
        ]
        assert tab.texts("#totals > div")[:3] == ["Duration 1.25 s → 1.25 s", "Steps 4 → 4", "Failed 0 → 1"]
        assert tab.text("#lanes") == "1 and 1 lanes"
        assert tab.rows() == [
            ["0", "fetch", "✓ ok", "100 ms", "150 ms", "+50.0 ms", "same"],
            ["1", "price", "✓ ok", "251 ms", "201 ms", "−50.0 ms", "outputs.value, outputs.list[1]"],
            ["2", "audit", "✓ ok", "–", "49.5 ms", "", "only in B"],
            ["2", "stock", "✓ ok ✕ failed", "49.0 ms", "100 ms", "+51.0 ms", "outcome, error, outputs"],
            ["3", "gift", "✓ ok", "1.00 ms", "–", "", "only in A"],
        ]


def test_the_details_of_a_step_in_two_runs_say_what_differs(show: Shown) -> None:
    with show(first_of_two(), other=second_of_two()) as tab:
        tab.open("price")
        assert tab.texts("#detail .difference") == ["outputs.value 3 2", "outputs.list[1] none 2"]
        assert tab.texts("#detail .pair .side") == ["A", "B", "A", "B"]
        tab.open("fetch")
        assert tab.section("Differences") == "none but in time"
        tab.page.select_option("#filter", "different")
        assert [row[1] for row in tab.rows()] == ["price", "audit", "stock", "gift"]
        tab.page.select_option("#filter", "only")
        assert [row[1] for row in tab.rows()] == ["audit", "gift"]
        tab.open("audit")
        assert tab.text("#detail .chip-note") == "only in B"


def test_a_run_does_not_differ_from_itself(show: Shown) -> None:
    with show(everything(), other=everything()) as tab:
        assert {row[6] for row in tab.rows()} == {"same"}
        tab.page.select_option("#filter", "different")
        assert tab.rows() == []
        assert tab.text("#empty") == "No step is like that."


def test_no_more_differences_than_can_be_read_are_listed() -> None:
    mine, theirs = ({"list": [start + number for number in range(80)]} for start in (0, 100))
    page = dw.run_page(run_of(record(0, "a", 0, 1, outputs=mine)), other=run_of(record(0, "a", 0, 1, outputs=theirs)))
    assert '"path":"outputs.list[49]"' in page
    assert '"path":"outputs.list[50]"' not in page
    assert '"path":"more differences than are shown"' in page


# --- where there is no browser ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("true", pytest.fail.Exception)])
def test_without_a_browser_the_tests_are_skipped_but_fail_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no browser: install Chromium"), open_browser():
        pass
