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
    [
        ("a b-c", "a_b_c"),
        ("", "G_"),
        ("1st", "G_1st"),
        ("_x", "G__x"),
        ("über", "über"),
        ("a\nb", "a_b"),
        ("Graph", "G_Graph"),
    ],
)
def test_flow_to_dot_has_an_id_of_the_name(name: str, word: str) -> None:
    assert flow_to_dot(Flow(name=name, description="", steps=[])) == f"digraph {word} {{\n}}\n"


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


@pytest.mark.parametrize("draw", [CHAIN.to_mermaid, DIAMOND.to_mermaid, result_of().to_mermaid])
def test_a_direction_that_is_none_is_refused(draw: Any) -> None:
    assert draw(direction="BT").splitlines()[0] == "graph BT"
    with pytest.raises(ValueError, match=r"^direction must be one of LR, RL, TB, TD, BT, not 'LR\\n  click S0'$"):
        draw(direction="LR\n  click S0")


def test_a_dependency_that_is_named_twice_is_one_edge_and_an_unknown_one_is_none() -> None:
    flow = dag(("x", "a", []), ("y", "b", ["x", "nowhere", "x"]))
    assert flow.to_ascii() == "[a] → [b]"
    assert flow.to_mermaid().splitlines()[3:] == ["  S_x --> S_y"]
    assert flow.to_dot().splitlines()[3:] == ["  S_x -> S_y;", "}"]


def test_f_5_flows_draw_themselves() -> None:
    for flow in (CHAIN, DIAMOND):
        assert flow.to_ascii() == flow_to_ascii(flow)
        assert flow.to_mermaid(direction="RL", show_schemas=True) == flow_to_mermaid(flow, direction="RL")
        assert flow.to_dot() == flow_to_dot(flow)


def test_to_mermaid_of_a_result() -> None:
    result = result_of(record("a", 1.0, True))
    assert result.to_mermaid() == result_to_mermaid(result) == "graph LR\n  R0[a ✓ 1.0ms]"
    assert result.to_mermaid(direction="TB") == "graph TB\n  R0[a ✓ 1.0ms]"


MERMAID_LABELS = {
    "<b>&\"'": "&lt;b&gt;&amp;&quot;&apos;",
    "a]b": "a&rsqb;b",
    "map_list[x]": "map_list&lsqb;x&rsqb;",
    "x{y}|(z)": "x&lcub;y&rcub;&verbar;&lpar;z&rpar;",
    "two\nlines": "two&bsol;nlines",
    "back\\slash": "back&bsol;slash",
    "\u202etxt.exe": "&bsol;u202etxt.exe",
    "nul\0": "nul&bsol;x00",
    "/trapezoid": "&sol;trapezoid",
    "a/b": "a/b",
    "#91; &#91; &lt;": "&num;91; &amp;&num;91; &amp;lt;",
    "me@home": "me&commat;home",
    "$$x$$": "&dollar;&dollar;x&dollar;&dollar;",
    "`code`": "&grave;code&grave;",
    "fa:fa-car": "fa&colon;fa-car",
    "~~~": "&ZeroWidthSpace;~~~",
    "  ~~~ a": "&ZeroWidthSpace;  ~~~ a",
    "a ~~~ b": "a ~~~ b",
    "- item": "&ZeroWidthSpace;- item",
    "1. list": "&ZeroWidthSpace;1. list",
    "1st": "1st",
    "new direction TB": "new direction&ZeroWidthSpace; TB",
    "direction left": "direction left",
    "*bold*": "&ast;bold&ast;",
    "__init__": "&lowbar;&lowbar;init&lowbar;&lowbar;",
    "_private_name": "_private_name",
    "%%{init: {}}%%": "%%&lcub;init: &lcub;&rcub;&rcub;%%",
    "end": "end",
    "a --> b": "a --&gt; b",
    "": " ",
    "日本 é 🎉": "日本 é 🎉",
}


@pytest.mark.parametrize(("name", "label"), MERMAID_LABELS.items())
def test_mermaid_shows_a_name_as_it_is(name: str, label: str) -> None:
    flow = dag(("one", name, []), (name, "t", ["one"]))
    first, node, other, edge = flow.to_mermaid().splitlines()
    assert (first, node) == ("graph LR", f"  S_one[{label}]")
    assert re.fullmatch(r"  S_[A-Za-z0-9_.-]*\[t\]", other)
    assert edge == f"  S_one --> {other.strip().removesuffix('[t]')}"
    assert result_of(record(name, 1.0, True)).to_mermaid().splitlines()[1] == f"  R0[{label} ✓ 1.0ms]"


DOT_LABELS = {
    'say "x"': 'say \\"x\\"',
    "two\nlines": "two\\nlines",
    "back\\nslash": "back\\\\nslash",
    "\\": "\\\\",
    "\u202etxt.exe": "\\\\u202etxt.exe",
    "nul\0 cr\r": "nul\\\\x00 cr\\\\r",
    "a & b": "a & b",
    "&lt;&#91;": "&amp;lt;&amp;#91;",
    "<b>[{|": "<b>[{|",
    "": "",
    "日本 é 🎉": "日本 é 🎉",
}


@pytest.mark.parametrize(("name", "label"), DOT_LABELS.items())
def test_dot_shows_a_name_as_it_is(name: str, label: str) -> None:
    assert dag(("one", name, [])).to_dot() == f'digraph dag {{\n  S_one [label="{label}"];\n}}\n'


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a] → [b", "'a] → [b'"),
        ("two\nlines", r"'two\nlines'"),
        ("\u202etxt.exe", r"'\u202etxt.exe'"),
        ("a, b", "'a, b'"),
        ("", "''"),
        ("map_list[x]", "map_list[x]"),
        ("<b>", "<b>"),
        ("it's", "it's"),
    ],
)
def test_a_name_that_could_be_two_is_quoted_in_ascii(name: str, label: str) -> None:
    assert Flow(name="f", description="", steps=[FlowStep(tool_name=name)]).to_ascii() == f"[{label}]"
    assert dag(("x", name, []), ("y", "b", ["x"])).to_ascii() == f"[{label}] → [b]"
    assert dag(("x", name, []), ("y", "b", [])).to_ascii() == f"{label}, b"


def test_bars_show_names_on_one_line() -> None:
    (line,) = _render_step_bar_chart([(0, "a\n\u202eb", 1.0, True)], bar_width=2, name_width=12).splitlines()
    assert line == r"0  a\n\u202eb    ██  1.0 ms"


@pytest.mark.parametrize(
    ("ids", "mermaid", "dot"),
    [
        (["a b", "a_b"], ["S_a_b_2", "S_a_b"], ["S_a_b_2", "S_a_b"]),
        (["a-b.c", "a_b_c"], ["S_a-b.c", "S_a_b_c"], ["S_a_b_c_2", "S_a_b_c"]),
        (["a--b", "a-.b", "a-"], ["S_a_-b", "S_a_.b", "S_a-"], ["S_a__b", "S_a__b_2", "S_a_"]),
        (["", "end", "1"], ["S_", "S_end", "S_1"], ["S_", "S_end", "S_1"]),
        (["é"], ["S__"], ["S_é"]),
        (["a b", "a_b_2", "a.b"], ["S_a_b", "S_a_b_2", "S_a.b"], ["S_a_b", "S_a_b_2", "S_a_b_3"]),
    ],
)
def test_steps_keep_their_ids_apart(ids: list[str], mermaid: list[str], dot: list[str]) -> None:
    flow = dag(*((step_id, "t", []) for step_id in ids))
    assert [line.strip().removesuffix("[t]") for line in flow.to_mermaid().splitlines()[1:]] == mermaid
    assert [line.strip().split(" ")[0] for line in flow.to_dot().splitlines()[1:-1]] == dot


NODE_OR_EDGE = {
    flow_to_mermaid: r"  S_[A-Za-z0-9_.-]*\[[^\[\](){}|\"<>@`\\\n]+\]|  S_[A-Za-z0-9_.-]* --> S_[A-Za-z0-9_.-]*",
    flow_to_dot: r'  S_\w* \[label="(?:[^"\\\n]|\\["\\n])*"\];|  S_\w* -> S_\w*;',
}


@pytest.mark.parametrize("draw", NODE_OR_EDGE)
@given(ids=st.lists(st.text(max_size=8), max_size=6, unique=True), name=st.text(max_size=10))
def test_any_flow_is_drawn_with_a_node_for_each_step_and_an_edge_for_each_dependency(
    draw: Any, ids: list[str], name: str
) -> None:
    flow = dag(*((step_id, name, ids[:number]) for number, step_id in enumerate(ids)), name=name)
    drawn = draw(flow).removesuffix("\n").split("\n")
    lines = drawn[1:-1] if draw is flow_to_dot else drawn[1:]
    if not ids:
        assert lines == ([] if draw is flow_to_dot else ["  empty[(empty flow)]"])
        return
    for line in lines:
        assert re.fullmatch(NODE_OR_EDGE[draw], line), line
        assert line.isprintable()
    nodes = [line.split("[")[0].strip() for line in lines[: len(ids)]]
    assert len(set(nodes)) == len(nodes)
    ends = [tuple(line.strip(" ;").split(" -")) for line in lines[len(ids) :]]
    expected = [(nodes[source], nodes[target]) for target in range(len(ids)) for source in range(target)]
    assert [(source, target.split("> ")[1]) for source, target in ends] == expected


@given(name=st.text(max_size=12))
def test_any_name_is_read_back_from_its_mermaid_label(name: str) -> None:
    label = dag(("one", name, [])).to_mermaid().split("[", 1)[1].removesuffix("]")
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in name)
    # Those of the name itself are written out.
    assert html.unescape(label).replace("\u200b", "") == (shown or " ")


@pytest.mark.skipif(
    shutil.which("dot") is None, reason="Graphviz is not installed here, which is what would read the text"
)
@pytest.mark.parametrize("name", [*DOT_LABELS, "graph"])
def test_graphviz_reads_it(name: str) -> None:
    text = flow_to_dot(dag(("one", name, []), (name, "t", ["one"]), name=name))
    drawn = subprocess.run(["dot", "-Tplain"], input=text, capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in drawn.stdout.splitlines()].count("node") == 2
