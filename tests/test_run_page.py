"""The page of a finished run, read and used in a real browser."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

import doubleweave as dw
from browser_under_test import CONTRASTS, Tab, file_url, open_browser, open_tab
from pages_under_test import (
    HOSTILE,
    branching,
    everything,
    executor_for,
    failed,
    many,
    number_tool,
    record,
    refuse,
    run_of,
    run_on,
)

MASK = "***REDACTED***"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as found:
        yield found


class Shown:
    """Shows runs as pages in tabs of their own, which are closed at the end of the test."""

    def __init__(self, browser: Browser, path: Path) -> None:
        self._browser = browser
        self._path = path

    def __call__(self, result: dw.ExecutionResult, **given: Any) -> Any:
        settings = {name: given.pop(name) for name in ("viewport", "color_scheme", "reduced_motion") if name in given}
        return open_tab(self._browser, file_url(self._path, dw.run_page(result, **given)), **settings)


@pytest.fixture
def on_thread() -> Callable[..., dw.ExecutionResult]:
    """Return what runs a flow on a lane, away from the thread on which the browser's own loop runs."""

    def run(*arguments: Any) -> dw.ExecutionResult:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(run_on, *arguments).result()

    return run


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Shown:
    return Shown(browser, tmp_path / "run.html")


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


def second() -> dw.ExecutionResult:
    return run_of(
        record(0, "fetch", 0, 150, inputs={"url": "/orders/4711"}),
        record(1, "price", 150, 350.5, outputs={"value": 2, "list": [1, 2]}),
        record(2, "audit", 350.5, 400),
        failed(3, "stock", 400, 500, "gone"),
        trace_id="f" * 32,
        flow_version="1.5.0",
    )


def first() -> dw.ExecutionResult:
    return run_of(
        record(0, "fetch", 0, 100),
        record(1, "price", 100, 350.5, outputs={"value": 3, "list": [1]}),
        record(2, "stock", 351, 400),
        record(3, "gift", 400, 401),
    )


def test_two_runs_stand_side_by_side(show: Shown) -> None:
    with show(first(), other=second()) as tab:
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
    with show(first(), other=second()) as tab:
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


# --- hands ------------------------------------------------------------------------------------------------------------


def test_the_page_is_used_with_the_keyboard_alone(show: Shown) -> None:
    with show(everything()) as tab:
        tab.press("ArrowDown")
        assert (tab.focused(), tab.selected()) == ("grid", "0 fetch")
        tab.press("ArrowDown", "ArrowDown")
        assert tab.selected() == "2 stock"
        tab.press("End")
        assert tab.selected() == "5 ship"
        tab.press("ArrowDown", "ArrowUp")
        assert tab.selected() == "4.1 receipt"
        tab.press("Home")
        assert tab.selected() == "0 fetch"
        tab.press("Enter")
        assert (tab.focused(), tab.text("#detail-title")) == ("detail", "0 fetch")
        tab.press("ArrowRight")
        assert (tab.focused(), tab.text("#detail-title")) == ("detail", "1 price")
        tab.press("Escape")
        assert (tab.focused(), tab.page.locator("#detail").is_visible()) == ("grid", False)
        assert tab.selected() == "1 price"


def test_the_search_finds_names_values_and_errors(show: Shown) -> None:
    with show(everything()) as tab:
        tab.press("/")
        assert tab.focused() == "search"
        tab.page.keyboard.type("4711")
        assert ([row[1] for row in tab.rows()], tab.text("#count")) == (["fetch"], "1 of 8")
        tab.page.locator("#search").fill("PRINTER on")
        assert [row[1] for row in tab.rows()] == ["receipt"]
        tab.press("Enter")
        assert (tab.focused(), tab.selected()) == ("grid", "4.1 receipt")
        tab.press("/", "Escape")
        assert (tab.focused(), len(tab.rows()), tab.text("#count")) == ("grid", 8, "8")
        tab.page.locator("#search").fill("t0ps3cret")
        assert tab.rows() == []


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("failed", ["receipt", "ship"]),
        ("skipped", ["gift"]),
        ("retried", ["price"]),
        ("cached", ["fetch"]),
        ("fallback", ["stock"]),
    ],
)
def test_the_table_shows_steps_of_one_kind(show: Shown, name: str, found: list[str]) -> None:
    with show(everything()) as tab:
        tab.page.select_option("#filter", name)
        assert [row[1] for row in tab.rows()] == found


def test_the_table_is_sorted_by_a_column(show: Shown) -> None:
    with show(everything()) as tab:
        column = tab.page.locator("#columns >> text=Duration")
        column.press("Enter")
        assert [row[1] for row in tab.rows()][:3] == ["ship", "pay", "stock"]
        assert tab.page.locator("[aria-sort=descending]").inner_text() == "Duration ↓"
        tab.press("Enter")
        assert [row[1] for row in tab.rows()][:3] == ["gift", "fetch", "receipt"]


def test_every_control_can_be_reached_and_is_seen_to_have_the_focus(show: Shown) -> None:
    with show(everything()) as tab:
        tab.open("price")
        seen = []
        for _ in range(40):
            tab.press("Tab")
            outline = tab.page.evaluate(
                "(() => { const style = getComputedStyle(document.activeElement);"
                "return style.outlineStyle !== 'none' || style.boxShadow !== 'none'; })()"
            )
            if tab.focused() == "BODY":
                continue
            assert outline, tab.focused()
            seen.append(tab.focused())
        for name in ("open-run", "timeline", "zoom-in", "search", "filter", "grid", "Next step", "Close"):
            assert name in seen


def test_assistive_technology_is_told_what_is_what(show: Shown) -> None:
    with show(everything()) as tab:
        page = tab.page
        assert page.get_by_role("grid", name="Steps").get_attribute("aria-rowcount") == "9"
        assert page.get_by_role("row").count() == 9
        assert page.get_by_role("columnheader").count() == 7
        assert page.get_by_role("searchbox", name="Search steps, values and errors").count() == 1
        assert page.get_by_role("combobox", name="Show").count() == 1
        tab.open("price")
        assert page.get_by_role("row", selected=True).get_attribute("aria-rowindex") == "3"
        assert page.get_by_role("region", name="1 price").count() == 1


def test_the_timeline_zooms_and_moves_with_the_keyboard(show: Shown) -> None:
    with show(everything()) as tab:
        tab.page.focus("#timeline")
        before = tab.page.locator("#canvas").screenshot()
        tab.press("+")
        near = tab.page.locator("#canvas").screenshot()
        assert near != before
        tab.press("-")
        assert tab.page.locator("#canvas").screenshot() == before
        tab.press("ArrowRight", "ArrowRight", "Enter")
        assert tab.text("#detail-title") == "1 price"


# --- looks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scheme", "page", "text"),
    [("light", "rgb(246, 246, 244)", "rgb(28, 32, 36)"), ("dark", "rgb(17, 20, 24)", "rgb(228, 231, 234)")],
)
def test_it_is_readable_in_light_and_dark(show: Shown, scheme: str, page: str, text: str) -> None:
    flow = branching()
    shown = {"flow": flow, "color_scheme": scheme}
    result = executor_for(flow).execute_flow(flow.name, {"value": 3})
    for open_detail, run in ((True, result), (False, result)):
        with show(run, **shown) as tab:
            look = "(() => { const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]; })()"
            assert tab.page.evaluate(look) == [page, text]
            if open_detail:
                tab.open("first")
            assert_contrast(tab)
    for given in ({}, {"other": second()}):
        with show(everything(), color_scheme=scheme, **given) as tab:
            tab.open("price")
            assert_contrast(tab)
            tab.open("ship")
            assert_contrast(tab)


def assert_contrast(tab: Tab) -> None:
    found = tab.page.evaluate(CONTRASTS)
    assert len(found) > 40
    assert [each for each in found if each[0] < 4.5] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_is_written_on_bars_is_readable(show: Shown, scheme: str) -> None:
    swatches = """() => ['ok', 'failed', 'skipped', 'running'].map(state => {
        const text = document.createElement('p');
        text.textContent = state;
        text.style.color = 'var(--text)';
        text.style.background = `var(--${state}-fill)`;
        document.body.append(text);
    })"""
    with show(run_of(), color_scheme=scheme) as tab:
        tab.page.evaluate(swatches)
        assert [each for each in tab.page.evaluate(CONTRASTS) if each[0] < 4.5] == []


def test_a_narrow_page_is_not_wider_than_the_screen_and_details_cover_it(show: Shown) -> None:
    with show(everything(), viewport={"width": 360, "height": 700}) as tab:
        assert tab.page.evaluate("document.documentElement.scrollWidth") == 360
        assert [cell for cell in tab.rows()[0] if cell] == ["0", "fetch", "✓ ok", "100 ms"]
        tab.open("price")
        box = tab.page.locator("#detail").bounding_box()
        assert box == {"x": 0, "y": 0, "width": 360, "height": 700}
        tab.press("Escape")
        assert not tab.page.locator("#detail").is_visible()


# --- strangers --------------------------------------------------------------------------------------------------------


def hostile() -> dw.ExecutionResult:
    return run_of(
        record(
            0,
            HOSTILE,
            0,
            1,
            inputs={HOSTILE: HOSTILE},
            outputs={HOSTILE: [HOSTILE]},
            retry_count=1,
            retry_errors=[HOSTILE],
        ),
        failed(1, HOSTILE, 1, 2, HOSTILE, fallback_used=True, fallback_tool_name=HOSTILE),
        flow_name=HOSTILE,
        flow_version=HOSTILE,
        trace_id=HOSTILE,
    )


@pytest.mark.parametrize("given", [{}, {"other": hostile()}], ids=["one run", "two runs"])
def test_names_values_and_errors_are_text_whatever_they_are(show: Shown, given: dict[str, Any]) -> None:
    with show(hostile(), **given) as tab:
        assert (tab.page.title(), tab.text("#flow")) == (f"{HOSTILE} · doubleweave", HOSTILE)
        assert tab.rows()[0][1] == HOSTILE
        for number in (0, 1):
            tab.page.locator("#body .row").nth(number).click()
            assert tab.text("#detail-title") == f"{number} {HOSTILE}"
        assert HOSTILE in tab.section("Error in A" if given else "Error")
        assert tab.page.locator("img, b").count() == 0
        assert tab.page.title() == f"{HOSTILE} · doubleweave"


def test_a_hostile_flow_is_text_in_the_graph(show: Shown) -> None:
    steps = [
        dw.DAGFlowStep(step_id=HOSTILE, tool_name=HOSTILE),
        dw.DAGFlowStep(step_id="b", tool_name="b", depends_on=[HOSTILE]),
    ]
    flow = dw.DAGFlow(name="orders", version="1", description="d", steps=steps)
    with show(hostile().model_copy(update={"flow_name": "orders"}), flow=flow) as tab:
        assert tab.page.locator("g.node title").first.text_content() == HOSTILE
        assert tab.page.locator("img, b").count() == 0


def test_the_page_may_load_nothing_and_run_nothing_but_its_own_script(show: Shown) -> None:
    with show(everything()) as tab:
        broken = tab.page.evaluate("""async () => {
            const found = [];
            document.addEventListener('securitypolicyviolation', event => found.push(event.effectiveDirective));
            await fetch('http://127.0.0.1:9/').catch(() => null);
            const script = document.createElement('script');
            script.textContent = 'document.title = "owned"';
            document.body.append(script);
            const image = document.createElement('img');
            image.src = 'http://127.0.0.1:9/';
            await new Promise(done => { image.onerror = done; });
            await new Promise(done => setTimeout(done));
            return [...new Set(found)].sort();
        }""")
        assert broken == ["connect-src", "img-src", "script-src-elem"]
        assert tab.page.title() == "orders · doubleweave"
        # Chromium says so, too.
        assert tab.troubles
        tab.troubles.clear()


# --- many steps -------------------------------------------------------------------------------------------------------


def test_ten_thousand_steps_do_not_freeze_it(show: Shown) -> None:
    began = time.perf_counter()
    with show(many(10_000)) as tab:
        assert tab.text("#count") == "10,000"
        assert time.perf_counter() - began < 15
        assert tab.page.locator("#body .row").count() < 60
        tab.press("ArrowDown", "End")
        assert tab.selected() == "9999 parse"
        longest = tab.page.evaluate("""async () => {
            const frame = () => new Promise(done => requestAnimationFrame(done));
            const timed = async (act) => {
                const began = performance.now();
                act();
                await frame();
                return performance.now() - began;
            };
            const grid = document.getElementById('grid');
            const search = document.getElementById('search');
            const times = [];
            for (let top = 0; top < 290000; top += 14500) times.push(await timed(() => { grid.scrollTop = top; }));
            for (const text of ['o', 'ov', 'overload']) {
                search.value = text;
                times.push(await timed(() => search.dispatchEvent(new Event('input'))));
            }
            return Math.max(...times);
        }""")
        assert longest < 1000
        assert tab.text("#count") == "100 of 10,000"
        assert tab.rows()[0][:3] == ["7", "embed", "✕ failed"]
        assert tab.page.locator("#body .row").count() < 60
