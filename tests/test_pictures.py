"""Flows and results drawn as pictures."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from doubleweave import (
    AnyFlow,
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    DoubleweaveError,
    ExecutionResult,
    Flow,
    FlowExecutor,
    FlowStep,
    RetryPolicy,
    Tool,
    flow_to_ascii,
    flow_to_dot,
    flow_to_mermaid,
    flow_to_svg,
)
from doubleweave.models.labels import visible
from doubleweave.models.topology import edges_of
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import number_tool
from random_flows import INNER, dag_flows, linear_flows
from random_flows import tools as random_tools
from test_readme import ROOT, blocks, printed_by

SVG = "{http://www.w3.org/2000/svg}"


class Unmet(BaseModel):
    gone: int


def boom(value: Any) -> dict[str, int]:
    raise ValueError(f"no <price> for {value.n}")


def tools() -> list[Tool]:
    failures = iter([OSError("down"), OSError("down")])

    def flaky(value: Any) -> dict[str, int]:
        for failure in failures:
            raise failure
        return {"n": value.n}

    named = [number_tool(name, lambda value: {"n": value.n + 1}) for name in ("a", "b", "c", "d")]
    return [*named, number_tool("boom", boom), number_tool("flaky", flaky)]


def node(step_id: str, tool: str, *needs: str, **fields: Any) -> DAGFlowStep:
    mapping = {"input_mapping": {"n": "n"}, "output_mapping": {step_id: "n"}}
    return DAGFlowStep(step_id=step_id, tool_name=tool, depends_on=list(needs), **{**mapping, **fields})


def dag(*steps: DAGFlowStep) -> DAGFlow:
    return DAGFlow(name="main", version="1", description="", steps=list(steps))


def chain(*tool_names: str, **fields: Any) -> Flow:
    steps = [FlowStep(tool_name=name, **fields) for name in tool_names]
    return Flow(name="main", version="1", description="", steps=steps, on_context_collision="overwrite")


BRANCHES = dag(
    node("top", "a", branches=[ConditionalEdge(target_step_id="left", predicate="top > 4")], default_next="right"),
    node("left", "b", "top"),
    node("right", "c", "top"),
    node("below", "b", "left"),
    node("end", "d", "below", "right"),
)
FLAKY = chain("flaky", retry=RetryPolicy(max_retries=2, backoff_seconds=0))


def run(
    flow: AnyFlow, lane: str, *others: AnyFlow, kind: type[FlowExecutor] = FlowExecutor, **options: Any
) -> ExecutionResult:
    return execute(make_executor([flow, *others], tools(), kind, **options), lane)


def without_times(text: str) -> str:
    return re.sub(r"\d+\.\d ms", "# ms", text)


def drawn(svg: str, name: str) -> list[ET.Element]:
    return [one for one in ET.fromstring(svg).iter(f"{SVG}g") if name in one.get("class", "").split()]


def texts(element: ET.Element) -> list[str]:
    return [without_times(one.text or "") for one in element.iter(f"{SVG}text")]


def tips(elements: list[ET.Element]) -> list[str]:
    return [without_times(one.findtext(f"{SVG}title", "")) for one in elements]


def kinds(svg: str) -> list[str]:
    return [one.get("class", "").removeprefix("dw-step ") for one in drawn(svg, "dw-step")]


def test_a_picture_of_a_flow() -> None:
    svg = BRANCHES.to_svg()
    assert svg == flow_to_svg(BRANCHES)
    picture = ET.fromstring(svg)
    assert (picture.tag, picture.get("role")) == (f"{SVG}svg", "img")
    assert picture.findtext(f"{SVG}title") == "main 1"
    assert picture.findtext(f"{SVG}desc") == "5 steps, 5 edges; a; b; c; b; d"
    assert kinds(svg) == ["dw-plain"] * 5
    assert texts(drawn(svg, "dw-step")[0]) == ["a", "top"]
    assert tips(drawn(svg, "dw-edge")) == [
        *("top → left: top > 4", "top → right: otherwise", "left → below", "below → end", "right → end")
    ]
    assert [texts(one) for one in drawn(svg, "dw-edge")] == [["top > 4"], ["otherwise"], [], [], []]


def test_a_picture_needs_nothing_else() -> None:
    svg = flow_to_svg(BRANCHES)
    assert svg.count("http") == svg.count('xmlns="http://www.w3.org/2000/svg"') == 1
    assert not re.search(r"<script|<image|<use|url\(|@import|@font-face|\son\w+=|\sid=", svg)
    assert svg.count("@media(prefers-color-scheme:dark)") == 1


def test_the_styles_of_a_picture_are_held_to_it() -> None:
    (style,) = ET.fromstring(flow_to_svg(BRANCHES)).iter(f"{SVG}style")
    rules = (style.text or "").replace("@media(prefers-color-scheme:dark){", "").replace("}}", "}")
    selectors = [one for rule in rules.split("}")[:-1] for one in rule.split("{")[0].split(",")]
    assert [one for one in selectors if not one.startswith(".dw-flow ")] == []


@lanes
def test_a_picture_of_a_run_shows_the_branch_taken(lane: str) -> None:
    svg = BRANCHES.to_svg(result=run(BRANCHES, lane))
    assert kinds(svg) == ["dw-ok", "dw-skipped dw-off", "dw-ok", "dw-skipped dw-off", "dw-ok"]
    assert [texts(one)[-1] for one in drawn(svg, "dw-step")] == [
        *("✓ # ms", "– branch not taken", "✓ # ms", "– branch not taken", "✓ # ms")
    ]
    # What was taken is drawn last, on top.
    assert [one.get("class") for one in drawn(svg, "dw-edge")] == ["dw-edge dw-off"] * 3 + ["dw-edge"] * 2
    assert tips(drawn(svg, "dw-edge")) == [
        *("top → left: top > 4 (not taken)", "left → below (not taken)", "below → end (not taken)"),
        *("top → right: otherwise", "right → end"),
    ]


@lanes
def test_a_picture_of_a_failed_run_shows_where_it_failed(lane: str) -> None:
    flow = chain("a", "boom", "b")
    svg = flow_to_svg(flow, result=run(flow, lane))
    assert kinds(svg) == ["dw-ok", "dw-failed", "dw-not-run"]
    assert [texts(one) for one in drawn(svg, "dw-step")] == [
        *(["a", "✓ # ms"], ["boom", "✗ FlowExecutionError, …"], ["b", "not run"])
    ]
    assert "no <price> for 2" in tips(drawn(svg, "dw-step"))[1]
    assert [one.get("class") for one in drawn(svg, "dw-edge")] == ["dw-edge dw-off", "dw-edge"]
    assert "✗ failed in # ms · 1 ok, 1 failed, 1 not run" in texts(ET.fromstring(svg))


@lanes
def test_retries_fallbacks_skips_and_cached_steps(lane: str) -> None:
    retried = run(FLAKY, lane)
    assert texts(drawn(flow_to_svg(FLAKY, result=retried), "dw-step")[0]) == ["flaky", "✓ # ms, 2 retries"]
    assert tips(drawn(flow_to_svg(FLAKY, result=retried), "dw-step")) == [
        "flaky\nretries: up to 2\n✓ # ms, 2 retries\nattempt 1: down\nattempt 2: down"
    ]
    flow = dag(node("x", "boom", on_error="fallback:a"), node("y", "boom", "x", on_error="skip"), node("z", "b", "y"))
    svg = flow_to_svg(flow, result=run(flow, lane))
    assert kinds(svg) == ["dw-fallback", "dw-skipped", "dw-ok"]
    assert [tip.split("\n")[2] for tip in tips(drawn(svg, "dw-step"))[:2]] == [
        *("✓ # ms, fallback a", "– skipped after FlowExecutionError, # ms")
    ]
    # A step that was skipped for its error is on the way that the run took.
    assert [one.get("class") for one in drawn(svg, "dw-edge")] == ["dw-edge", "dw-edge"]


@lanes
def test_decisions_and_sub_flows(lane: str) -> None:
    inner = Flow(
        name="inner", version="1", description="", steps=[FlowStep(tool_name="a")] * 3, on_context_collision="overwrite"
    )
    flow = dag(
        node("pick", "a", decision_candidates=["a", "b"]),
        DAGFlowStep(step_id="part", flow_name="inner", depends_on=["pick"], input_mapping={"n": "pick"}),
    )
    result = run(flow, lane, inner, decision_callback=lambda context: "b")
    svg = flow_to_svg(flow, result=result)
    assert [texts(one) for one in drawn(svg, "dw-step")] == [
        *(["a", "pick · decides, 1 of 2", "✓ # ms, chose b"], ["inner", "part · sub-flow", "✓ # ms"])
    ]
    # The picture of a sub-flow is that of its own result.
    assert kinds(flow_to_svg(inner, result=result.execution_log[1].sub_result)) == ["dw-ok"] * 3


def test_the_kinds_of_steps_look_different() -> None:
    flow = dag(
        node("tool", "a"),
        DAGFlowStep(step_id="flow", flow_name="inner"),
        DAGFlowStep(step_id="kernel", tool_name="k", step_type="capability", capability_id="solve"),
        node("decide", "a", decision_candidates=["a", "b"]),
    )
    shapes = [
        [part.get("class") for part in one if part.tag != f"{SVG}text"][1:]
        for one in drawn(flow_to_svg(flow), "dw-step")
    ]
    assert shapes == [["dw-box"], ["dw-box", "dw-side"], ["dw-box dw-capability"], ["dw-box", "dw-rhombus"]]
    assert texts(drawn(flow_to_svg(flow), "dw-step")[2]) == ["k", "kernel · capability solve"]


@lanes
@pytest.mark.parametrize(
    ("field", "words", "found"),
    [
        ("input_schema_ref", "the flow's own input", ["dw-not-run", "dw-not-run"]),
        ("output_schema_ref", "the flow's own output", ["dw-ok", "dw-ok"]),
    ],
)
def test_records_of_the_flow_itself_belong_to_no_step(lane: str, field: str, words: str, found: list[str]) -> None:
    flow = chain("a", "b").model_copy(update={field: "test_pictures:Unmet"})
    svg = flow_to_svg(flow, result=run(flow, lane))
    assert kinds(svg) == found
    assert f"✗ failed at {words} in # ms" in texts(ET.fromstring(svg))[1]


@lanes
def test_the_result_of_another_flow_is_refused(lane: str) -> None:
    result = run(FLAKY, lane)
    other = FLAKY.model_copy(update={"version": "2"})
    draw: Any
    for draw in (flow_to_svg, flow_to_ascii, flow_to_mermaid, flow_to_dot):
        with pytest.raises(
            ValueError, match=r"^the result is of flow 'main' 1, not of 'main' 2; draw it with the flow that ran$"
        ):
            draw(other, result=result)
    with pytest.raises(ValueError, match=r"^the result has a record of step 1, flow 'main' has 0 steps$"):
        flow_to_svg(chain(), result=run(chain("a", "b"), lane))


@lanes
def test_drawings_as_text_show_a_run(lane: str) -> None:
    result = run(BRANCHES, lane)
    assert without_times(BRANCHES.to_ascii(result=result)).splitlines() == [
        "[a ✓ # ms] ⇢ [b – branch not taken]",
        "[a ✓ # ms] → [c ✓ # ms]",
        "[b – branch not taken] ⇢ [b – branch not taken]",
        "[b – branch not taken] ⇢ [d ✓ # ms]",
        "[c ✓ # ms] → [d ✓ # ms]",
    ]
    assert without_times(BRANCHES.to_mermaid(result=result)).splitlines() == [
        "graph LR",
        "  S_top[a ✓ # ms]",
        "  S_left[b – branch not taken]",
        "  S_right[c ✓ # ms]",
        "  S_below[b – branch not taken]",
        "  S_end[d ✓ # ms]",
        "  S_top -.->|top &gt; 4| S_left",
        "  S_top -->|otherwise| S_right",
        "  S_left -.-> S_below",
        "  S_below -.-> S_end",
        "  S_right --> S_end",
        "  classDef ok fill:#e6f6ec,stroke:#2e8b57,color:#111",
        "  class S_top,S_right,S_end ok",
        "  classDef skipped fill:#f0f0f3,stroke:#7d7d88,color:#111",
        "  class S_left,S_below skipped",
    ]
    ok, off = (
        ', style=filled, fillcolor="#e6f6ec", color="#2e8b57"',
        ', style=filled, fillcolor="#f0f0f3", color="#7d7d88"',
    )
    assert without_times(BRANCHES.to_dot(result=result)).splitlines() == [
        "digraph main {",
        f'  S_top [label="a\\n✓ # ms"{ok}];',
        f'  S_left [label="b\\n– branch not taken"{off}];',
        f'  S_right [label="c\\n✓ # ms"{ok}];',
        f'  S_below [label="b\\n– branch not taken"{off}];',
        f'  S_end [label="d\\n✓ # ms"{ok}];',
        '  S_top -> S_left [label="top > 4", style=dashed, color="#a0a0aa"];',
        '  S_top -> S_right [label="otherwise"];',
        '  S_left -> S_below [style=dashed, color="#a0a0aa"];',
        '  S_below -> S_end [style=dashed, color="#a0a0aa"];',
        "  S_right -> S_end;",
        "}",
    ]


@lanes
def test_lines_of_text_show_a_run(lane: str) -> None:
    flow = chain("a", "boom", "b")
    drawn_run = without_times(flow_to_ascii(flow, result=run(flow, lane)))
    assert drawn_run == "[a ✓ # ms] → [boom ✗ FlowExecutionError, # ms] ⇢ [b not run]"
    assert without_times(flow_to_ascii(FLAKY, result=run(FLAKY, lane))) == "[flaky ✓ # ms, 2 retries]"
    apart = dag(node("x", "a"), node("y", "b"))
    assert without_times(flow_to_ascii(apart, result=run(apart, lane))) == "[a ✓ # ms], [b ✓ # ms]"
    assert flow_to_ascii(chain(), result=run(chain(), lane)) == "(empty flow)"


@given(st.one_of(linear_flows(), dag_flows()), st.booleans())
def test_every_step_and_edge_is_drawn_once(flow: AnyFlow, with_result: bool) -> None:
    executor = make_executor([flow, INNER], random_tools())
    try:
        result = executor.execute_flow("main", {"n": 1}) if with_result else None
    except DoubleweaveError:
        result = None
    svg = flow_to_svg(flow, result=result)
    assert [texts(one)[0] for one in drawn(svg, "dw-step")] == [step.display_name for step in flow.steps]
    ends = [[step.step_id if isinstance(step, DAGFlowStep) else step.display_name] for step in flow.steps]
    found = [tip.removesuffix(" (not taken)").split(": ")[0] for tip in tips(drawn(svg, "dw-edge"))]
    assert sorted(found) == sorted(f"{ends[one][0]} → {ends[other][0]}" for one, other in edges_of(flow))
    if result is not None:
        records = {record.step_index for record in result.execution_log} & set(range(len(flow.steps)))
        assert sum("not-run" not in kind for kind in kinds(svg)) == len(records)


def test_the_picture_in_the_docs_is_the_one_that_its_example_makes() -> None:
    shared = blocks("docs/pictures.md", "python")[0]
    svg = printed_by(shared, "print(order.to_svg(result=executor.execute_flow('order', {'item': 'desk'})), end='')")
    assert without_times((ROOT / "docs/pictures.svg").read_text(encoding="utf-8")) == without_times(svg)


HOSTILE = [
    "<script>alert(1)</script>",
    "a & b",
    '"><g onload="x"',
    "]]>",
    "</title>",
    "\x00\x1b[31m",
    "‮x",
    "\ud800",
    "&amp;",
    "名前" * 20,
]


@given(st.one_of(st.sampled_from(HOSTILE), st.text()))
def test_hostile_names_come_back_as_text(name: str) -> None:
    flow = DAGFlow(
        name=name,
        version="1",
        description="",
        steps=[
            DAGFlowStep(
                step_id=name,
                tool_name=name,
                branches=[ConditionalEdge(target_step_id="x", predicate=name)],
                on_error=f"fallback:{name}x",
            ),
            DAGFlowStep(step_id="x", tool_name="t", depends_on=[name]),
        ],
    )
    svg = flow_to_svg(flow)
    first = tips(drawn(svg, "dw-step"))[0]
    assert first.startswith(f"{visible(name)}: {visible(name)}\non error: fallback:{visible(name)}x")
    if name != "x":
        assert tips(drawn(svg, "dw-edge"))[0].startswith(f"{visible(name)} → x")
    assert texts(drawn(svg, "dw-step")[0])[0].rstrip("…") in visible(name)
    assert {one.tag for one in ET.fromstring(svg).iter()} <= {
        f"{SVG}{tag}" for tag in ("svg", "title", "desc", "style", "rect", "text", "g", "path")
    }
