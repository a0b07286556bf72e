"""What a resumed run takes over besides its context: choices of branches and of tools; and what it does not: a scope."""

import contextvars
from pathlib import Path

import pytest

import doubleweave as dw
from doubleweave import ConditionalEdge, DAGFlowStep, FileCheckpointer, InMemoryCheckpointer, Tool
from lanes_under_test import Number, Recorder, normalised
from parity_scenarios import dag, linear, node, step
from resume_under_test import LANES, Calls, execute, make_executor, resume

ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)
CONCURRENCY = pytest.mark.parametrize("concurrency", [1, 3])


@ON_BOTH_LANES
def test_decisions_of_completed_steps_stand_and_the_budget_starts_anew(lane: str) -> None:
    store, calls, asked = InMemoryCheckpointer(), Calls(broken=["b"]), []

    def decide(ctx: dw.DecisionContext) -> str:
        asked.append((ctx.step_index, ctx.trace_id, dict(ctx.context)))
        return "c" if ctx.step_index == 0 else "b"

    flow = linear(step("a", decision_candidates=["a", "c"]), step("a", decision_candidates=["a", "b"]))
    executor = make_executor(
        [flow],
        calls.tools("a b c"),
        checkpointer=store,
        decision_callback=decide,
        decision_policy=dw.DecisionPolicy(max_decisions_per_flow=2),
    )
    failed = execute(lane, executor)
    calls.broken.clear()
    result = resume(lane, executor, failed.trace_id)
    assert calls.names == ["c", "b", "b"]
    assert asked == [(0, failed.trace_id, {"n": 1}), (1, failed.trace_id, {"n": 2}), (1, failed.trace_id, {"n": 2})]
    assert result.success
    assert result.execution_log[0] == failed.execution_log[0]
    assert [r.decision.chosen for r in result.execution_log if r.decision is not None] == ["c", "b"]


def edge(target: str, predicate: str) -> ConditionalEdge:
    return ConditionalEdge(target_step_id=target, predicate=predicate)


# Name, then the steps, of which those of the tool `x` break at first, and the ids of those that are skipped.
BRANCHED: dict[str, tuple[list[DAGFlowStep], list[str]]] = {
    "a step two levels further": (
        [
            node("a", branches=[edge("b", "a > 100")], default_next="c"),
            node("b", after="a"),
            node("c", after="a"),
            node("x", "x", after="c"),
            node("z", after="b"),
            node("last", after="x z"),
        ],
        ["b", "z"],
    ),
    "a dependent in a level to come": (
        [
            node("a", branches=[edge("b", "a == 2")]),
            node("b", after="a"),
            node("x", "x", after="b"),
            node("late", after="a x"),
            node("later", after="late"),
        ],
        ["late", "later"],
    ),
    "a predicate that reads the siblings before it": (
        [
            node("s"),
            node("a", branches=[edge("b", "s == a and s == 2")]),
            node("b", "x", after="a"),
            node("c", after="a"),
            node("after", after="c"),
        ],
        ["c", "after"],
    ),
    "a key that a later level overwrites": (
        [
            node("a", branches=[edge("b", "n == 1")]),
            node("b", after="a", output_mapping={"n": "n"}),
            node("x", "x", after="b"),
            node("never", after="a x"),
            node("end", after="never"),
        ],
        ["never", "end"],
    ),
    "a dynamic parameter": (
        [
            node("a", branches=[edge("b", "limit < 5")]),
            node("b", after="a"),
            node("x", "x", after="b"),
            node("never", after="a x"),
        ],
        ["never"],
    ),
    "a step whose error is skipped": (
        [
            node("a", "broken", on_error="skip", branches=[edge("b", "n == 1")]),
            node("b", after="a"),
            node("x", "x", after="b"),
            node("never", after="a x"),
        ],
        ["never"],
    ),
    "an edge to where no other dependent is": (
        [
            node("a", branches=[edge("b", "a == 0")]),
            node("b", after="a"),
            node("x", "x", after="b"),
            node("c", after="a x"),
        ],
        [],
    ),
}


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("kind", BRANCHED)
def test_dev_27_the_branches_that_were_chosen_stay_chosen(lane: str, concurrency: int, kind: str) -> None:
    steps, skipped = BRANCHED[kind]
    flow = dag(*steps, on_context_collision="overwrite")

    def run(broken: list[str]) -> tuple[dw.ExecutionResult, list[str]]:
        store, calls = InMemoryCheckpointer(), Calls(broken=["broken", *broken])
        executor = make_executor(
            [flow], calls.tools("inc x broken"), checkpointer=store, max_step_concurrency=concurrency
        )
        result = execute(lane, executor, dynamic_params={"limit": 3})
        if result.success:
            return result, calls.names
        calls.broken.discard("x")
        return resume(lane, executor, result.trace_id), calls.names

    whole, once = run([])
    result, twice = run(["x"])
    assert normalised(result) == normalised(whole)
    stepwise = {i: s.step_id for i, s in enumerate(_in_flat_order(steps))}
    assert [stepwise[r.step_index] for r in result.execution_log if r.skipped and r.error_type is None] == sorted(
        skipped, key=list(stepwise.values()).index
    )
    assert (once.count("x"), twice.count("x")) == (1, 2)
    assert twice.count("broken") == once.count("broken")


# A dynamic parameter is kept only as a part of the context.
LOST: dict[str, tuple[list[DAGFlowStep], str]] = {
    "a dynamic parameter that a later step overwrote": (
        [
            node("a", branches=[edge("b", "limit < 5")]),
            node("b", after="a", output_mapping={"limit": "n"}),
            node("x", "x", after="b"),
        ],
        "Invalid predicate 'limit < 5': name 'limit' is not in the execution context",
    ),
}


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("kind", LOST)
def test_branches_that_cannot_be_chosen_again_are_a_drift_before_any_hook(
    lane: str, concurrency: int, kind: str, tmp_path: Path
) -> None:
    steps, reason = LOST[kind]
    store, calls, recorder = FileCheckpointer(tmp_path), Calls(broken=["x"]), Recorder()
    executor = make_executor(
        [dag(*steps, on_context_collision="overwrite")],
        calls.tools("inc x"),
        checkpointer=store,
        middleware=[recorder],
        max_step_concurrency=concurrency,
    )
    failed = execute(lane, executor, dynamic_params={"limit": 3})
    assert [r.tool_name for r in failed.execution_log if not r.success] == ["x"]
    recorder.calls.clear()
    with pytest.raises(dw.CheckpointDriftError) as caught:
        resume(lane, executor, failed.trace_id)
    assert caught.value.detail == f"the branches of its completed steps cannot be chosen again ({reason})"
    assert isinstance(caught.value.__cause__, dw.PredicateSyntaxError)
    assert recorder.calls == []
    assert store.list_trace_ids() == [failed.trace_id]


def _in_flat_order(steps: list[DAGFlowStep]) -> list[DAGFlowStep]:
    levels: dict[str, int] = {}
    for each in steps:
        levels[each.step_id] = 1 + max((levels[name] for name in each.depends_on), default=-1)
    return sorted(steps, key=lambda each: levels[each.step_id])


@ON_BOTH_LANES
def test_row_18_a_resumed_run_leaves_no_trace_in_the_callers_context(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    flows = [linear(step("a"), step("b"), step("nested")), linear(step("c"), name="inner")]
    executor = make_executor(flows, calls.tools("a b c"), checkpointer=store, delete_on_success=False)
    inner = executor.registry.get_flow("inner")
    executor.register_tool(Tool.from_flow(inner, executor, name="nested", input_schema=Number, output_schema=Number))
    trace_id = execute(lane, executor, dynamic_params={"extra": 5}).trace_id
    calls.broken.clear()
    before = dict(contextvars.copy_context())
    result = resume(lane, executor, trace_id)
    assert dict(contextvars.copy_context()) == before
    assert result.final_output == {"n": 4, "extra": 5}
    assert execute(lane, executor).final_output == {"n": 4}
    traces = [kept for each in store.list_trace_ids() if (kept := store.load(each)) is not None]
    assert sorted((kept.flow_name, len(kept.execution_log)) for kept in traces) == [
        ("inner", 1),
        ("inner", 1),
        ("main", 3),
        ("main", 3),
    ]
    assert [kept.context for kept in traces if kept.flow_name == "inner"] == [{"n": 4}] * 2
