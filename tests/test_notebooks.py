"""What a notebook shows of flows, results and records."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.manager import AsyncKernelManager

from doubleweave import (
    AnyFlow,
    DAGFlow,
    DAGFlowStep,
    DoubleweaveError,
    ExecutionResult,
    Flow,
    FlowStep,
    RetryPolicy,
    StepRecord,
    flow_to_svg,
)
from doubleweave.models.labels import visible
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import number_tool
from random_flows import INNER, dag_flows, linear_flows, tools
from test_pictures import without_times

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TAGS = {"div", "style", "p", "strong", "span", "table", "thead", "tbody", "tr", "th", "td", "code"}
VOID = {"svg", "title", "desc", "rect", "text", "g", "path"}


class Page(HTMLParser):
    """The rows of each table of a page, the text outside tables and pictures, and the tags that were not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.words = ""
        self.tags: set[str] = set()
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        # The parser tells of an empty element's end as well.
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
        elif not {"style", "svg"} & set(self.open):
            self.words += data


def page_of(shown: Any) -> Page:
    page = Page(shown._repr_html_())
    assert page.open == []
    assert page.tags <= TAGS | VOID
    return page


def record(index: int, **fields: Any) -> StepRecord:
    given = {
        "tool_name": f"t{index}",
        "inputs": {},
        "outputs": {},
        "started_at": NOW,
        "ended_at": NOW,
        "duration_ms": 1.25,
    }
    return StepRecord(step_index=index, **{**given, **fields})


def result_of(*log: StepRecord, **fields: Any) -> ExecutionResult:
    given: dict[str, Any] = {
        "flow_name": "main",
        "flow_version": "1",
        "success": True,
        "final_output": {},
        "trace_id": "f00d",
        "started_at": NOW,
        "ended_at": NOW,
        "total_duration_ms": 2.5,
    }
    return ExecutionResult(execution_log=list(log), **{**given, **fields})


def test_a_flow_shows_its_picture_and_its_steps() -> None:
    flow = DAGFlow(
        name="main",
        version="1",
        description="",
        steps=[
            DAGFlowStep(step_id="x", tool_name="a", retry=RetryPolicy(max_retries=2), on_error="fallback:b"),
            DAGFlowStep(step_id="y", flow_name="inner", depends_on=["x"]),
        ],
    )
    assert flow_to_svg(flow) in flow._repr_html_()
    assert page_of(flow).tables == [
        [
            ["step", "runs", "kind", "after", "if it fails"],
            ["x", "a", "tool", "", "up to 2 retries, then fallback:b"],
            ["y", "inner", "sub-flow", "x", ""],
        ]
    ]
    linear = Flow(name="line", description="", steps=[FlowStep(tool_name="a", on_error="skip")])
    assert page_of(linear).tables[0][1:] == [["0", "a", "tool", "", "skip"]]
    assert page_of(Flow(name="none", description="", steps=[])).tables[0][1:] == []


def test_a_flow_that_is_too_large_for_a_picture_says_so() -> None:
    page = page_of(Flow(name="long", version="1", description="", steps=[FlowStep(tool_name="a")] * 301))
    assert page.words == "long 1: 301 steps, too many for a picture here; to_svg() makes one… and 101 more"
    assert len(page.tables[0]) == 201
    assert "svg" not in page.tags


def test_a_result_shows_each_step_and_its_output() -> None:
    inner = result_of(record(0, inputs={"n": 1}), flow_name="inner")
    failure = {"success": False, "outputs": None, "error_type": "FlowExecutionError", "error_message": "down"}
    log = [
        record(0, inputs={"n": 1}, outputs={"n": 2}, retry_count=2),
        record(1, cached=True),
        record(2, fallback_used=True, fallback_tool_name="b"),
        record(3, skipped=True),
        record(4, tool_name="inner", flow_name="inner", sub_result=inner),
        record(5, **failure),
    ]
    page = page_of(result_of(*log, final_output={"total": 3}))
    assert page.words == "main 1 ✓ succeeded in 2.5 ms · trace f00d"
    assert page.tables == [
        [
            ["step", "tool", "outcome", "ms", "retries", "error", "input", "output"],
            ["0", "t0", "✓ ok", "1.2", "2", "", "{'n': 1}", "{'n': 2}"],
            ["1", "t1", "✓ cached", "1.2", "", "", "{}", "{}"],
            ["2", "t2", "✓ fallback b", "1.2", "", "", "{}", "{}"],
            ["3", "t3", "– skipped", "1.2", "", "", "{}", "{}"],
            ["4", "inner", "✓ ok", "1.2", "", "", "{}", "{}"],
            ["4.0", "t0", "✓ ok", "1.2", "", "", "{'n': 1}", "{}"],
            ["5", "t5", "✗ failed", "1.2", "", "FlowExecutionError: down", "{}", ""],
        ],
        [["key", "output"], ["total", "3"]],
    ]
    assert page_of(log[5]).tables == [[page.tables[0][0], page.tables[0][-1]]]


def test_a_failed_result_has_no_output() -> None:
    page = page_of(result_of(success=False, final_output=None, dry_run=True))
    assert page.words == "main 1 ✗ failed in 2.5 ms, dry run · trace f00dno output"


def test_at_most_two_hundred_records_are_shown() -> None:
    inner = result_of(*(record(number) for number in range(150)))
    page = page_of(result_of(record(0, sub_result=inner), *(record(number) for number in range(1, 150))))
    assert [row[0] for row in page.tables[0][1:]] == [*("0", *(f"0.{n}" for n in range(150))), *map(str, range(1, 50))]
    assert page.words.endswith("… and 100 more")


def test_secrets_are_masked_and_long_values_cut() -> None:
    inner = result_of(record(0, inputs={"api_key": "s3cret"}))
    values = {"password": "s3cret", "deep": [{"token": "s3cret"}], "long": "x" * 10**6, "many": list(range(10**5))}
    shown = result_of(record(0, inputs=values, outputs=values, sub_result=inner), final_output=values)
    page = page_of(shown)
    assert "s3cret" not in shown._repr_html_()
    assert "s3cret" not in shown.execution_log[0]._repr_html_()
    assert page.tables[1][1:3] == [["password", "'***REDACTED***'"], ["deep", "[{'token': '***REDACTED***'}]"]]
    assert len(shown._repr_html_()) < 8_000
    assert values["password"] == shown.final_output["password"] == "s3cret"  # type: ignore[index]  # it has an output


def test_values_whose_repr_fails_are_shown_all_the_same() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    page = page_of(result_of(final_output={"broken": Broken()}))
    assert page.tables[1][1][1].startswith("<Broken instance at")


def test_models_gain_no_field() -> None:
    shown = result_of(record(0))
    fields = set(shown.model_dump()), set(shown.execution_log[0].model_dump())
    shown._repr_html_()
    assert (set(shown.model_dump()), set(shown.execution_log[0].model_dump())) == fields
    assert not {
        name for kind in (Flow, DAGFlow, ExecutionResult, StepRecord) for name in kind.model_fields if "html" in name
    }
    assert not {name for kind in (Flow, DAGFlow, ExecutionResult, StepRecord) for name in kind.__private_attributes__}


@given(st.one_of(linear_flows(), dag_flows()))
def test_every_flow_and_its_result_are_shown(flow: AnyFlow) -> None:
    assert [row[1] for row in page_of(flow).tables[0][1:]] == [step.display_name for step in flow.steps]
    try:
        result = make_executor([flow, INNER], tools()).execute_flow("main", {"n": 1})
    except DoubleweaveError:
        return
    shown = page_of(result).tables[0][1:]
    assert [row[0] for row in shown if "." not in row[0]] == [str(each.step_index) for each in result.execution_log]


@given(st.text(max_size=7))
def test_hostile_texts_come_back_as_text(text: str) -> None:
    error = {"success": False, "error_type": text, "error_message": text}
    page = page_of(result_of(record(0, tool_name=text, **error), flow_name=text, final_output={text: 1}))
    assert page.words.startswith(visible(text))
    assert page.tables[0][1][1] == visible(text)
    assert page.tables[0][1][5] == f"{visible(text)}: {visible(text)}"
    assert page.tables[1][1][0] == visible(text)
    flow = Flow(name=text, description="", steps=[FlowStep(tool_name=text)])
    assert page_of(flow).tables[0][1][1] == visible(text)


@lanes
def test_a_run_is_shown(lane: str) -> None:
    flow = Flow(
        name="main", version="1", description="", steps=[FlowStep(tool_name="inc")], on_context_collision="overwrite"
    )
    result = execute(make_executor([flow], [number_tool("inc", lambda value: {"n": value.n + 1})]), lane)
    page = page_of(result)
    assert without_times(page.words) == f"main 1 ✓ succeeded in # ms · trace {result.trace_id}"
    assert [[*row[:3], *row[4:]] for row in page.tables[0][1:]] == [
        ["0", "inc", "✓ ok", "", "", "{'n': 1}", "{'n': 2}"]
    ]
    assert page.tables[1][1:] == [["n", "2"]]


PROGRAM = """
from pydantic import BaseModel
from doubleweave import Flow, FlowExecutor, FlowRegistry, FlowStep, tool

class Total(BaseModel):
    total: int

@tool
def double(n: int) -> Total:
    return Total(total=2 * n)

flow = Flow(name="main", version="1", description="", steps=[FlowStep(tool_name="double")])
registry = FlowRegistry()
registry.register_flow(flow)
executor = FlowExecutor(registry)
executor.register_tool(double)
"""
CELLS = (
    "flow",
    "executor.execute_flow('main', {'n': 21})",
    "await executor.execute_flow_async('main', {'n': 21})",
    "_.execution_log[0]",
)


async def test_both_lanes_show_their_result_in_a_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    shown: list[str] = []
    errors: list[str] = []

    def look(message: dict[str, Any]) -> None:
        content = message["content"]
        if message["msg_type"] in ("execute_result", "display_data"):
            shown.append(content["data"]["text/html"])
        elif message["msg_type"] in ("stream", "error"):
            errors.append(content.get("text") or "\n".join(content["traceback"]))

    kernel = AsyncKernelManager()
    await kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        for cell in (PROGRAM, *CELLS):
            await client.execute_interactive(cell, timeout=60, output_hook=look)
    finally:
        client.stop_channels()
        await kernel.shutdown_kernel(now=True)
    assert errors == []
    flow, blocking, awaited, one = map(Page, shown)
    assert flow.tables[0][1:] == [["0", "double", "tool", "", ""]]
    assert "svg" in flow.tags
    rows = [["0", "double", "✓ ok", "", "", "{'n': 21}", "{'total': 42}"]]
    for page in (blocking, awaited, one):
        assert [[*row[:3], *row[4:]] for row in page.tables[0][1:]] == rows
    for page in (blocking, awaited):
        assert page.words.startswith("main 1 ✓ succeeded in ")
        assert page.tables[1][1:] == [["n", "21"], ["total", "42"]]
