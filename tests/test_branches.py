"""Decision steps: which edge is taken, what is skipped then, and what a predicate that fails does to the run."""

from typing import Any

import pytest

import doubleweave as dw
from doubleweave import ConditionalEdge, DAGFlowStep
from lanes_under_test import Case, Seen, assert_same_on_both_lanes
from parity_scenarios import dag, node, tools

concurrencies = pytest.mark.parametrize("concurrency", [1, 4])


def edges(**predicates: str) -> list[ConditionalEdge]:
    """Return an edge for each target, in order."""
    return [ConditionalEdge(target_step_id=target, predicate=predicate) for target, predicate in predicates.items()]


def decided(*steps: DAGFlowStep, concurrency: int = 1, **inputs: Any) -> Seen:
    return assert_same_on_both_lanes(Case([dag(*steps)], tools, {"n": 1, **inputs}), concurrency)


def skipped(seen: Seen, *steps: DAGFlowStep) -> list[str]:
    assert seen.result is not None
    return [steps[record.step_index].step_id for record in seen.result.execution_log if record.skipped]


def fork(predicates: dict[str, str], default: str | None = None) -> list[DAGFlowStep]:
    """Return a decision step `a` and the three steps that depend on it, in the order of their flat indices."""
    return [
        node("a", branches=edges(**predicates), default_next=default),
        *(node(name, after="a", source="a") for name in ("b", "c", "d")),
    ]


# --- which target -----------------------------------------------------------------------------------------------------


@concurrencies
@pytest.mark.parametrize(
    ("predicates", "left_out"),
    [
        ({"b": "a == 2", "c": "a == 2"}, ["c", "d"]),
        ({"c": "a == 2", "b": "a == 2"}, ["b", "d"]),
        ({"b": "a == 1", "c": "a == 2", "d": "gone"}, ["b", "d"]),
        ({"b": "n == 1"}, ["c", "d"]),
        ({"d": "True"}, ["b", "c"]),
    ],
)
def test_br_1_the_first_true_edge_in_list_order_selects(
    predicates: dict[str, str], left_out: list[str], concurrency: int
) -> None:
    steps = fork(predicates)
    seen = decided(*steps, concurrency=concurrency)
    assert skipped(seen, *steps) == left_out
    assert seen.result is not None
    assert seen.result.success
    chosen = ({"b", "c", "d"} - set(left_out)).pop()
    assert seen.result.final_output == {"n": 1, "a": 2, chosen: 3}


@concurrencies
@pytest.mark.parametrize(
    ("steps", "left_out"),
    [
        pytest.param(
            [
                node("s"),
                node("a", "double", branches=edges(b="s == 2 and a == 2 and n == 1")),
                node("b", after="a"),
                node("c", after="a"),
            ],
            ["c"],
            id="a sibling that comes before is seen",
        ),
        pytest.param(
            [
                node("a", branches=edges(b="a == 2", c="s == 2")),
                node("s"),
                node("b", after="a"),
                node("c", after="a"),
            ],
            ["c"],
            id="a sibling that comes after is not asked for",
        ),
        pytest.param(
            [
                node("a", output_mapping={"n": "n"}, branches=edges(b="n == 1", c="n == 2")),
                node("b", after="a"),
                node("c", after="a"),
            ],
            ["b"],
            id="the step's own outputs win over the context",
        ),
        pytest.param(
            [
                node("a", output_mapping={}, branches=edges(b="n == 2", c="n == 1")),
                node("b", after="a"),
                node("c", after="a"),
            ],
            ["b"],
            id="what is not mapped is not seen",
        ),
        pytest.param(
            [
                node("first"),
                node("a", after="first", source="first", branches=edges(b="first == 2 and a == 3")),
                node("b", after="a"),
                node("c", after="a"),
            ],
            ["c"],
            id="completed levels are seen",
        ),
    ],
)
def test_br_1_edges_are_tried_on_the_context_the_siblings_merged_so_far_and_the_own_outputs(
    steps: list[DAGFlowStep], left_out: list[str], concurrency: int
) -> None:
    seen = decided(*steps, concurrency=concurrency)
    assert skipped(seen, *steps) == left_out
    assert seen.result is not None
    assert seen.result.success


@concurrencies
def test_br_1_a_sibling_that_comes_after_has_not_been_merged_yet(concurrency: int) -> None:
    steps = [node("a", branches=edges(b="late == 2")), node("late"), node("b", after="a")]
    seen = decided(*steps, concurrency=concurrency)
    assert seen.result is not None
    record = seen.result.execution_log[0]
    assert record.error_message == "Invalid predicate 'late == 2': name 'late' is not in the execution context"


@concurrencies
def test_br_1_a_decision_step_that_failed_decides_nothing(concurrency: int) -> None:
    steps = [node("a", "boom", branches=edges(b="gone")), node("b", after="a")]
    seen = decided(*steps, concurrency=concurrency)
    assert seen.result is not None
    assert [record.error_type for record in seen.result.execution_log] == ["FlowExecutionError"]


@concurrencies
@pytest.mark.parametrize(
    ("default", "left_out"), [("c", ["b", "d"]), ("b", ["c", "d"]), (None, [])], ids=["default", "same target", "none"]
)
def test_br_2_without_a_true_edge_the_default_is_selected_else_every_dependent_runs(
    default: str | None, left_out: list[str], concurrency: int
) -> None:
    steps = fork({"b": "a > 100"}, default)
    seen = decided(*steps, concurrency=concurrency)
    assert skipped(seen, *steps) == left_out
    assert seen.result is not None
    assert seen.result.final_output == {"n": 1, "a": 2, **{key: 3 for key in "bcd" if key not in left_out}}


# --- what is skipped --------------------------------------------------------------------------------------------------


@concurrencies
def test_br_3_the_other_dependents_are_recorded_as_skipped_and_so_is_what_only_they_lead_to(concurrency: int) -> None:
    steps = [
        node("a", branches=edges(b="a == 2")),
        node("root"),
        node("b", after="a", source="a"),
        node("c", after="a", source="a"),
        node("joined", after="a root", source="root"),
        node("behind_c", after="c"),
        node("behind_both", after="b c", source="b"),
        node("last", after="behind_c"),
    ]
    seen = decided(*steps, concurrency=concurrency)
    assert seen.result is not None
    assert skipped(seen, *steps) == ["c", "joined", "behind_c", "last"]
    for record in seen.result.execution_log:
        if record.skipped:
            assert (record.success, record.inputs, record.outputs, record.error_type) == (True, {}, {}, None)
            assert record.duration_ms == 0.0
    assert [call[2] for call in seen.hooks if call[0] == "step_start"] == [0, 1, 2, 6]
    assert seen.result.success


# --- predicates that fail ---------------------------------------------------------------------------------------------

FAILING = [
    ("gone == 1", "name 'gone' is not in the execution context"),
    ("a =", "syntax error: invalid syntax"),
    ("f()", "Call is not allowed in a predicate"),
    ("a < 'x'", "operator '<' failed for 'int' and 'str': "),
    ("1 in {[1]}", "set of 'list' failed: "),
    ("[1][5]", "subscript lookup failed: IndexError: "),
]


@concurrencies
@pytest.mark.parametrize(("predicate", "detail"), FAILING)
@pytest.mark.parametrize("on_error", ["fail", "skip", "fallback:inc"])
def test_br_4_pr_6_a_predicate_that_fails_turns_the_record_of_the_step_into_a_failed_one(
    predicate: str, detail: str, on_error: str, concurrency: int
) -> None:
    steps = [
        node("first"),
        node("a", after="first", on_error=on_error, branches=edges(b=predicate), default_next="b"),
        node("b", after="a"),
    ]
    seen = decided(*steps, concurrency=concurrency)
    assert seen.error is None
    assert seen.result is not None
    assert (seen.result.success, seen.result.final_output) == (False, None)
    first, record = seen.result.execution_log
    assert (first.success, record.success, record.step_index, record.tool_name) == (True, False, 1, "inc")
    assert (record.error_type, record.error_code) == ("PredicateSyntaxError", "CW-E036")
    assert str(record.error_message).startswith(f"Invalid predicate '{predicate}': {detail}")
    assert (record.inputs, record.outputs, record.skipped, record.fallback_used) == ({"n": 1}, None, False, False)


@pytest.mark.parametrize("predicate", ["", "a =", "f()", "1 < 'a'", "(" * 500])
def test_br_5_predicates_are_not_parsed_when_a_flow_is_made_loaded_or_registered(predicate: str) -> None:
    flow = dag(node("a", branches=edges(b=predicate)), node("b", after="a"))
    loaded = dw.flow_from_json(dw.flow_to_json(flow))
    registry = dw.FlowRegistry()
    registry.register_flow(loaded)
    assert registry.get_flow("main") == flow


@pytest.mark.parametrize("branches", [edges(gone="True"), edges(c="True")], ids=["unknown target", "not a dependent"])
def test_br_5_targets_are_checked_with_the_topology(branches: list[ConditionalEdge]) -> None:
    flow = dag(node("a", branches=branches), node("b", after="a"), node("c"))
    loaded = dw.flow_from_json(dw.flow_to_json(flow))
    with pytest.raises(dw.DAGDefinitionError) as caught:
        dw.FlowRegistry().register_flow(loaded)
    assert caught.value.reason == "unknown_branch_target"


# --- PR-9 -------------------------------------------------------------------------------------------------------------


@concurrencies
def test_pr_9_a_predicate_changes_nothing_and_means_the_same_on_both_lanes(concurrency: int) -> None:
    data = {"list": [3, 1, 2], "set": {1, 2}, "nested": {"k": [1]}}
    predicate = "data['list'] == [3, 1, 2] and 1 in data['set'] and not data['nested']['k'] == [] and -a < 0"
    steps = [node("a", branches=edges(b=predicate)), node("b", after="a"), node("c", after="a")]
    results = [decided(*steps, concurrency=concurrency, data=data).result for _ in range(3)]
    for result in results:
        assert result is not None
        assert result.final_output == {"n": 1, "data": data, "a": 2, "b": 2}
        assert [record.skipped for record in result.execution_log] == [False, False, True]
    assert data == {"list": [3, 1, 2], "set": {1, 2}, "nested": {"k": [1]}}
