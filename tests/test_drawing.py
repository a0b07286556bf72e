"""Flows and results drawn as text."""

import html
import re
import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubleweave import (
    AnyFlow,
    DAGFlow,
    DAGFlowStep,
    ExecutionResult,
    Flow,
    FlowStep,
    StepRecord,
    flow_to_ascii,
    flow_to_dot,
    flow_to_mermaid,
    result_to_mermaid,
)
from doubleweave.models.drawing import _render_step_bar_chart
from executors_under_test import execute, lanes, make_executor
from parity_scenarios import linear, step, tools

CHAIN = Flow(name="chain", description="", steps=[FlowStep(tool_name=name) for name in ("a", "b", "c")])
ONE = Flow(name="one", description="", steps=[FlowStep(tool_name="a")])
EMPTY = Flow(name="none", description="", steps=[])
NODES = [("top", "a", []), ("left", "b", ["top"]), ("right", "c", ["top"]), ("end", "d", ["right", "left"])]


def dag(*nodes: tuple[str, str, list[str]], name: str = "dag") -> DAGFlow:
    steps = [DAGFlowStep(step_id=step_id, tool_name=tool, depends_on=needs) for step_id, tool, needs in nodes]
    return DAGFlow(name=name, version="1", description="", steps=steps)


DIAMOND = dag(*NODES)
APART = dag(("x", "a", []), ("y", "b", []))
COMPOSED = DAGFlow(
    name="composed",
    version="1",
    description="",
    steps=[DAGFlowStep(step_id="s", flow_name="inner"), DAGFlowStep(step_id="t", tool_name="a", depends_on=["s"])],
)


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (CHAIN, "[a] → [b] → [c]"),
        (ONE, "[a]"),
        (EMPTY, "(empty flow)"),
        (DIAMOND, "[a] → [b]\n[a] → [c]\n[c] → [d]\n[b] → [d]"),
        (APART, "a, b"),
        (dag(), "(empty flow)"),
        (COMPOSED, "[inner] → [a]"),
    ],
)
def test_flow_to_ascii(flow: AnyFlow, text: str) -> None:
    assert flow_to_ascii(flow) == flow.to_ascii() == text


@pytest.mark.parametrize(
    ("flow", "lines"),
    [
        (CHAIN, ["  S0[a]", "  S1[b]", "  S2[c]", "  S0 --> S1", "  S1 --> S2"]),
        (ONE, ["  S0[a]"]),
        (EMPTY, ["  empty[(empty flow)]"]),
        (COMPOSED, ["  S_s[inner]", "  S_t[a]", "  S_s --> S_t"]),
        (
            DIAMOND,
            [
                *("  S_top[a]", "  S_left[b]", "  S_right[c]", "  S_end[d]"),
                *("  S_top --> S_left", "  S_top --> S_right", "  S_right --> S_end", "  S_left --> S_end"),
            ],
        ),
    ],
)
def test_flow_to_mermaid(flow: AnyFlow, lines: list[str]) -> None:
    assert flow_to_mermaid(flow) == flow.to_mermaid() == "\n".join(["graph LR", *lines])
    assert flow_to_mermaid(flow, direction="TD") == flow.to_mermaid(direction="TD") == "\n".join(["graph TD", *lines])
    assert flow_to_mermaid(flow, show_schemas=True) == flow_to_mermaid(flow)


@pytest.mark.parametrize(
    ("flow", "text"),
    [
        (
            CHAIN,
            'digraph chain {\n  S0 [label="a"];\n  S1 [label="b"];\n  S2 [label="c"];\n  S0 -> S1;\n  S1 -> S2;\n}\n',
        ),
        (EMPTY, "digraph none {\n}\n"),
        (COMPOSED, 'digraph composed {\n  S_s [label="inner"];\n  S_t [label="a"];\n  S_s -> S_t;\n}\n'),
    ],
)
def test_flow_to_dot(flow: AnyFlow, text: str) -> None:
    assert flow_to_dot(flow) == flow.to_dot() == text


@pytest.mark.parametrize(
    ("name", "word"),
    [("a b-c", "a_b_c"), ("", "G_"), ("1st", "G_1st"), ("_x", "G__x"), ("über", "über"), ("a\nb", "a_b")],
)
def test_flow_to_dot_has_an_id_of_the_name(name: str, word: str) -> None:
    assert flow_to_dot(Flow(name=name, description="", steps=[])) == f"digraph {word} {{\n}}\n"


def test_flow_to_dot_has_ids_of_the_steps() -> None:
    drawn = flow_to_dot(dag(("a b", "t", []), ("a.b", "t", ["a b"]), ("a_b", "t", ["a.b"])))
    assert drawn.splitlines()[1:] == [
        *('  S_a_b [label="t"];', '  S_a_b_2 [label="t"];', '  S_a_b_3 [label="t"];'),
        *("  S_a_b -> S_a_b_2;", "  S_a_b_2 -> S_a_b_3;", "}"),
    ]


def record(name: str, milliseconds: float, success: bool) -> StepRecord:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    times: dict[str, Any] = {"started_at": now, "ended_at": now, "duration_ms": milliseconds}
    return StepRecord(step_index=0, tool_name=name, inputs={}, success=success, **times)


def result_of(*records: StepRecord) -> ExecutionResult:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return ExecutionResult(
        flow_name="f",
        flow_version="1",
        success=True,
        final_output={},
        execution_log=list(records),
        trace_id="t",
        started_at=now,
        ended_at=now,
        total_duration_ms=1.0,
    )


def test_result_to_mermaid() -> None:
    drawn = result_to_mermaid(result_of(record("a", 1.25, True), record("b", 0.04, False), record("c", 12.0, True)))
    assert drawn.splitlines() == [
        *("graph LR", "  R0[a ✓ 1.2ms]", "  R1[b ✗ 0.0ms]", "  R2[c ✓ 12.0ms]"),
        *("  R0 --> R1", "  R1 --> R2", "  style R1 fill:#f66"),
    ]
    assert result_to_mermaid(result_of(), direction="TB") == "graph TB\n  empty[(no steps)]"


@lanes
def test_result_to_mermaid_of_a_run(lane: str) -> None:
    result = execute(make_executor([linear(step("inc"), step("boom"))], tools()), lane)
    drawn = re.sub(r"\d+\.\dms", "ms", result_to_mermaid(result))
    assert drawn == "graph LR\n  R0[inc ✓ ms]\n  R1[boom ✗ ms]\n  R0 --> R1\n  style R1 fill:#f66"


def test_render_step_bar_chart() -> None:
    rows = [
        (0, "short", 5.0, True),
        (1, "a name that is rather long for this", 10.0, False),
        (10, "nothing", 0.0, True),
    ]
    assert _render_step_bar_chart(rows, bar_width=10, name_width=12).splitlines() == [
        " 0  short         █████       5.0 ms",
        " 1  a name that…  ██████████  10.0 ms  ERR",
        "10  nothing                   0.0 ms",
    ]
    assert _render_step_bar_chart([]) == "(no steps)"
    assert "█" not in _render_step_bar_chart([(0, "a", 0.0, True)])
    assert _render_step_bar_chart([(0, "x" * 22, 1.0, True)]).startswith(f"0  {'x' * 22}  {'█' * 30}  1.0 ms")


HOSTILE = [
    "<b>&\"'",
    "a]b",
    "x{y}|(z)",
    "two\nlines",
    "back\\slash",
    "\u202etxt.exe",
    "[[",
    "end",
    "graph TD",
    "a --> b",
    "%%x",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_inside_its_label(name: str) -> None:
    flow = dag(("one", name, []), (name, "t", ["one"]))
    mermaid = flow_to_mermaid(flow).splitlines()
    assert len(mermaid) == 4
    label = re.fullmatch(r"  S_one\[(.*)\]", mermaid[1])
    assert label is not None
    assert re.search(r'[\[\](){}|<>"\n\u202e]', label[1]) is None
    shown = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), html.unescape(label[1].replace("&#x27;", "'")))
    assert shown == "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)
    assert re.fullmatch(r"  S_[\w-]+\[t\]", mermaid[2])
    dot = flow_to_dot(flow).splitlines()
    assert len(dot) == 5
    assert re.fullmatch(r'  S_one \[label="(?:[^"\\\n]|\\["\\n])*"\];', dot[1])
    assert "\n" not in flow_to_ascii(dag(("one", name, [])))


@given(st.lists(st.text(max_size=8), max_size=6, unique=True), st.text(max_size=10))
def test_any_flow_has_as_many_nodes_as_steps_and_none_of_them_twice(ids: list[str], name: str) -> None:
    flow = dag(*((step_id, name, []) for step_id in ids), name=name)
    for drawn in (flow_to_mermaid(flow), flow_to_dot(flow)):
        nodes = [line.split("[")[0].strip() for line in drawn.splitlines()[1:] if line.startswith("  S_")]
        assert len(set(nodes)) == len(nodes) == len(ids)


@pytest.mark.skipif(
    shutil.which("dot") is None, reason="Graphviz is not installed here, which is what would read the text"
)
@pytest.mark.parametrize("name", [*HOSTILE, "über", ""])
def test_graphviz_reads_it(name: str) -> None:
    text = flow_to_dot(dag(("one", name, []), (name, "t", ["one"]), name=name))
    drawn = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in drawn.stdout.splitlines()].count("node") == 2
