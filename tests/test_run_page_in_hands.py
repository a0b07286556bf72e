"""The page of a finished run, used in a real browser: keyboard, looks, strangers, many steps."""

import time
from typing import Any

import pytest

import doubleweave as dw
from browser_under_test import CONTRASTS, Shown, Tab
from pages_under_test import (
    HOSTILE,
    branching,
    everything,
    executor_for,
    failed,
    many,
    record,
    run_of,
    second_of_two,
)

pytest_plugins = ["shown_pages"]


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
    for given in ({}, {"other": second_of_two()}):
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
        assert tab.page.evaluate("(grid => grid.scrollWidth - grid.clientWidth)(document.getElementById('grid'))") == 0
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
