"""Resuming: the guards in their order, what a resumed run shows, and the rules that hold for it as for any run."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import (
    DAGFlowStep,
    FileCheckpointer,
    FlowStep,
    InMemoryCheckpointer,
    InMemoryStepCache,
)
from lanes_under_test import Recorder
from parity_scenarios import dag, linear, node, step
from resume_under_test import LANES, Calls, execute, kinds, make_executor, only_trace, record, resume, snapshot

ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)
CONCURRENCY = pytest.mark.parametrize("concurrency", [1, 3])


class Strict(BaseModel):
    word: str


# --- guards, in order ---


def flow_of(name: str = "main", **options: Any) -> dw.AnyFlow:
    return linear(step("a"), step("b"), name=name, **options)


def refusal(lane: str, executor: dw.FlowExecutor, recorder: Recorder, calls: Calls) -> dw.DoubleweaveError:
    """Return the error that refuses to resume `t`, which must come before any hook and any call."""
    with pytest.raises(dw.DoubleweaveError) as caught:
        resume(lane, executor, "t")
    assert (recorder.calls, calls.names) == ([], [])
    return caught.value


@ON_BOTH_LANES
def test_guards_come_in_order_each_when_the_ones_before_it_are_satisfied(lane: str) -> None:
    recorder, calls, store = Recorder(), Calls(), InMemoryCheckpointer()
    a = calls.tool("a")
    hashes = {"a": "0" * 16, "b": "1" * 16}
    looping = linear(FlowStep(flow_name="main"), version="2.0")
    settings: dict[str, Any] = {"middleware": [recorder]}

    def refused(executor: dw.FlowExecutor) -> tuple[str, str]:
        error = refusal(lane, executor, recorder, calls)
        return error.code, str(error)

    executor = make_executor([], [], **settings)
    assert refused(executor) == (
        "CW-E019",
        "No checkpointer is configured; pass checkpointer= to the executor to use resume_flow.",
    )

    settings["checkpointer"] = store
    executor = make_executor([], [], **settings)
    assert refused(executor) == ("CW-E020", "No snapshot found for trace_id 't'.")

    state: dict[str, Any] = {"snapshot_version": "2", "flow_version": "1.0", "tool_schema_hashes": hashes}
    store.save(snapshot(**state))
    assert refused(executor)[0] == "CW-E021"

    state["snapshot_version"] = "1"
    store.save(snapshot(**state))
    assert refused(executor) == ("CW-E002", "Flow 'main' is not registered.")

    executor = make_executor([looping], [], **settings)
    prefix = "Cannot resume trace 't' for flow 'main': "
    assert refused(executor) == ("CW-E018", f"{prefix}the flow version changed from 1.0 to 2.0.")

    state["flow_version"] = "2.0"
    store.save(snapshot(**state))
    assert refused(executor) == ("CW-E018", f"{prefix}tool 'a' is no longer registered.")

    executor.register_tool(a)
    detail = f"the schema_hash changed of tool 'a', from {'0' * 16} to {a.schema_hash}"
    assert refused(executor) == ("CW-E018", f"{prefix}{detail}.")

    hashes["a"] = a.schema_hash
    store.save(snapshot(**state))
    assert refused(executor) == ("CW-E018", f"{prefix}tool 'b' is no longer registered.")

    del hashes["b"]
    store.save(snapshot(**state))
    code, text = refused(executor)
    assert (code, text.startswith("Invalid flow composition for 'main' (cycle): ")) == ("CW-E015", True)
    assert store.list_trace_ids() == ["t"]


@ON_BOTH_LANES
def test_the_refusals_say_what_they_are_about(lane: str) -> None:
    recorder, calls, store = Recorder(), Calls(), InMemoryCheckpointer()
    executor = make_executor([flow_of(version="2")], [], checkpointer=store, middleware=[recorder])
    missing = refusal(lane, executor, recorder, calls)
    assert isinstance(missing, dw.CheckpointNotFoundError)
    assert not isinstance(missing, dw.CheckpointCorruptError)
    assert missing.trace_id == "t"
    store.save(snapshot(flow_version="1"))
    drift = refusal(lane, executor, recorder, calls)
    assert isinstance(drift, dw.CheckpointDriftError)
    assert (drift.trace_id, drift.flow_name) == ("t", "main")
    assert drift.detail == "the flow version changed from 1 to 2"
    store.save(snapshot(flow_name="gone"))
    unknown = refusal(lane, executor, recorder, calls)
    assert isinstance(unknown, dw.FlowNotFoundError)
    assert (unknown.flow_name, unknown.version) == ("gone", None)


@ON_BOTH_LANES
def test_a_newer_version_of_the_flow_is_a_drift_although_the_old_one_is_still_there(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    executor = make_executor([flow_of(version="1.9")], calls.tools("a b"), checkpointer=store)
    assert not execute(lane, executor).success
    executor.registry.register_flow(flow_of(version="1.10"))
    with pytest.raises(dw.CheckpointDriftError, match=r"the flow version changed from 1\.9 to 1\.10\.$"):
        resume(lane, executor, only_trace(store))
    assert len(store) == 1


@ON_BOTH_LANES
@pytest.mark.parametrize("level", [-1, 1, 2, 3])
def test_a_log_that_is_not_that_of_the_completed_steps_is_a_drift(lane: str, level: int) -> None:
    recorder, calls, store = Recorder(), Calls(), InMemoryCheckpointer()
    executor = make_executor([flow_of()], calls.tools("a b"), checkpointer=store, middleware=[recorder])
    store.save(snapshot(completed_steps=level, execution_log=[record(), record(2)]))
    error = refusal(lane, executor, recorder, calls)
    assert isinstance(error, dw.CheckpointDriftError)
    assert (
        error.detail == f"its log holds the steps [0, 2], which are not the first {level} steps or levels of the flow"
    )


@ON_BOTH_LANES
def test_dev_26_a_dag_that_became_invalid_is_refused_before_any_hook(lane: str) -> None:
    recorder, calls, store = Recorder(), Calls(), InMemoryCheckpointer()
    executor = make_executor([dag(node("a", "a"))], calls.tools("a"), checkpointer=store, middleware=[recorder])
    store.save(snapshot(flow_version="1.0"))
    executor.registry.register_flow(dag(node("a", "a"), node("b", "a")), overwrite=True)
    flow = executor.registry.get_flow("main")
    assert isinstance(flow, dw.DAGFlow)
    flow.steps[1].depends_on.append("gone")
    error = refusal(lane, executor, recorder, calls)
    assert (error.code, getattr(error, "reason", None)) == ("CW-E010", "unknown_dependency")


@ON_BOTH_LANES
def test_the_status_of_the_flow_is_not_asked_and_its_input_not_checked_again(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    executor = make_executor([flow_of()], calls.tools("a b"), checkpointer=store)
    assert not execute(lane, executor).success
    strict = flow_of(status=dw.FlowStatus.DISABLED, input_schema_ref="test_resume:Strict")
    executor.registry.register_flow(strict, overwrite=True)
    calls.broken.clear()
    assert resume(lane, executor, only_trace(store)).final_output == {"n": 3}


# --- what a resumed run shows ---


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("shape", ["linear", "dag"])
def test_a_resumed_run_is_the_same_run_and_shows_its_hooks(
    lane: str, concurrency: int, shape: str, tmp_path: Any
) -> None:
    chain = dag(node("a", "a"), node("b", "b", after="a", source="a"), node("c", "c", after="b", source="b"))
    flow = linear(*map(step, "abc")) if shape == "linear" else chain
    store, calls, recorder = FileCheckpointer(tmp_path), Calls(broken=["b"]), Recorder()
    executor = make_executor(
        [flow], calls.tools("a b c"), checkpointer=store, middleware=[recorder], max_step_concurrency=concurrency
    )
    failed = execute(lane, executor)
    assert [(r.tool_name, r.success) for r in failed.execution_log] == [("a", True), ("b", False)]
    recorder.calls.clear()
    calls.names.clear()
    calls.broken.clear()
    result = resume(lane, executor, failed.trace_id)
    assert calls.names == ["b", "c"]
    assert (result.trace_id, result.started_at) == (failed.trace_id, failed.started_at)
    assert (result.flow_name, result.flow_version, result.success) == ("main", flow.version, True)
    assert result.initial_input == {"n": 1}
    assert result.execution_log[0] == failed.execution_log[0]
    assert [(r.step_index, r.tool_name, r.success) for r in result.execution_log] == [
        (0, "a", True),
        (1, "b", True),
        (2, "c", True),
    ]
    last = result.execution_log[-1]
    assert result.ended_at >= last.ended_at >= failed.ended_at
    assert result.total_duration_ms < (result.ended_at - result.started_at).total_seconds() * 1000
    assert kinds(recorder) == [
        ("flow_start", "main"),
        ("step_start", "main"),
        ("step_end", "main"),
        ("step_start", "main"),
        ("step_end", "main"),
        ("flow_end", "main"),
    ]
    assert recorder.calls[0] == ("flow_start", "main", {"n": 1}, 3)
    assert store.list_trace_ids() == []


@ON_BOTH_LANES
def test_row_20_a_dag_goes_on_with_its_fixed_indices(lane: str) -> None:
    flow = dag(
        node("a", "a"),
        node("b", "b"),
        node("c", "c", after="a", source="a"),
        node("d", "d", after="b", source="b"),
        node("e", "e", after="c d", source="c"),
    )
    store, calls = InMemoryCheckpointer(), Calls(broken=["d"])
    executor = make_executor([flow], calls.tools("a b c d e"), checkpointer=store)
    execute(lane, executor)
    calls.broken.clear()
    calls.names.clear()
    log = resume(lane, executor, only_trace(store)).execution_log
    assert [(r.step_index, r.tool_name) for r in log] == list(enumerate("abcde"))
    assert calls.names == ["c", "d", "e"]


@ON_BOTH_LANES
def test_a_run_may_be_interrupted_and_resumed_again_and_again(lane: str, tmp_path: Any) -> None:
    store, calls = FileCheckpointer(tmp_path), Calls(broken=["b", "c", "d"])
    executor = make_executor([linear(*map(step, "abcd"))], calls.tools("a b c d"), checkpointer=store)
    result = execute(lane, executor)
    for name in ("b", "c", "d"):
        assert [r.tool_name for r in result.execution_log if not r.success] == [name]
        assert not resume(lane, executor, result.trace_id).success
        calls.broken.discard(name)
        result = resume(lane, executor, result.trace_id)
    assert result.final_output == {"n": 5}
    assert calls.names == list("abbbcccddd")
    assert store.list_trace_ids() == []


@ON_BOTH_LANES
def test_a_failed_step_is_never_in_a_snapshot(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    executor = make_executor([dag(node("a", "a"), node("b", "b"))], calls.tools("a b"), checkpointer=store)
    assert not execute(lane, executor).success
    assert len(store) == 0
    executor = make_executor([linear(step("a"), step("b"))], calls.tools("a b"), checkpointer=store)
    assert not execute(lane, executor).success
    kept = store.load(only_trace(store))
    assert kept is not None
    assert ([r.tool_name for r in kept.execution_log], kept.completed_steps, kept.context) == (["a"], 1, {"n": 2})


@ON_BOTH_LANES
@CONCURRENCY
def test_what_a_snapshot_holds(lane: str, concurrency: int) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["c"])
    flow = dag(
        node("a", "a", on_error="fallback:f"),
        node("b", "b", decision_candidates=["b", "a"]),
        DAGFlowStep(
            step_id="s", flow_name="inner", depends_on=["a"], input_mapping={"n": "a"}, output_mapping={"s": "n"}
        ),
        node("c", "c", after="s"),
    )
    tools = {tool.name: tool for tool in calls.tools("a b c f")}
    executor = make_executor(
        [flow, linear(step("a"), name="inner")],
        tools.values(),
        checkpointer=store,
        max_step_concurrency=concurrency,
    )
    result = execute(lane, executor, dynamic_params={"extra": "x"})
    kept = store.load(result.trace_id)
    assert kept is not None
    assert (kept.snapshot_version, kept.flow_name, kept.flow_version) == ("1", "main", "1.0")
    assert (kept.trace_id, kept.started_at, kept.initial_input) == (result.trace_id, result.started_at, {"n": 1})
    assert (kept.completed_steps, kept.completed_dag_levels) == (0, 2)
    assert kept.context == {"n": 1, "extra": "x", "a": 2, "b": 2, "s": 3}
    assert kept.execution_log == result.execution_log[:3]
    assert kept.tool_schema_hashes == {name: tools[name].schema_hash for name in "abc"}
    assert store.list_trace_ids() == [result.trace_id]


@ON_BOTH_LANES
def test_changes_of_the_callers_input_do_not_reach_the_snapshot(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    executor = make_executor([flow_of()], calls.tools("a b"), checkpointer=store)
    inputs = {"n": 1}
    trace_id = execute(lane, executor, inputs).trace_id
    inputs["n"] = 50
    kept = store.load(trace_id)
    assert kept is not None
    assert kept.initial_input == {"n": 1}
    kept.context["n"] = 60
    kept.execution_log.clear()
    calls.broken.clear()
    result = resume(lane, executor, trace_id)
    assert (result.initial_input, result.final_output, len(result.execution_log)) == ({"n": 1}, {"n": 3}, 2)


@ON_BOTH_LANES
def test_changes_of_a_result_do_not_reach_the_snapshot(lane: str) -> None:
    store = InMemoryCheckpointer()
    executor = make_executor([flow_of()], Calls().tools("a b"), checkpointer=store, delete_on_success=False)
    result = execute(lane, executor)
    assert result.final_output == {"n": 3}
    result.final_output["n"] = 99
    kept = store.load(result.trace_id)
    assert kept is not None
    assert kept.context == {"n": 3}


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("shape", ["linear", "dag"])
@pytest.mark.parametrize("watched", [False, True])
def test_changes_of_a_failed_results_records_do_not_reach_what_is_resumed(
    lane: str, concurrency: int, shape: str, watched: bool
) -> None:
    calls = Calls(broken=["b"])
    flow = (
        linear(step("a"), step("b"))
        if shape == "linear"
        else dag(node("a", "a"), node("b", "b", after="a", source="a"))
    )
    middleware = [Recorder()] if watched else []
    settings = {
        "checkpointer": dw.InMemoryCheckpointer(),
        "max_step_concurrency": concurrency,
        "middleware": middleware,
    }
    executor = make_executor([flow], calls.tools("a b"), **settings)
    failed = execute(lane, executor)
    first = failed.execution_log[0]
    first.tool_name = "changed"
    assert first.outputs is not None
    first.outputs["n"] = first.inputs["n"] = 100
    calls.broken.clear()
    resumed = resume(lane, executor, failed.trace_id)
    assert [(r.tool_name, r.inputs["n"], r.outputs) for r in resumed.execution_log] == [
        ("a", 1, {"n": 2}),
        ("b", 2, {"n": 3}),
    ]


@ON_BOTH_LANES
@pytest.mark.parametrize("flow", [linear(), dag()], ids=["linear", "dag"])
def test_an_empty_flow_leaves_no_snapshot(lane: str, flow: dw.AnyFlow) -> None:
    store = InMemoryCheckpointer()
    executor = make_executor([flow], [], checkpointer=store, delete_on_success=False)
    assert execute(lane, executor).success
    assert len(store) == 0


@ON_BOTH_LANES
@CONCURRENCY
def test_a_dry_run_saves_and_deletes_nothing(lane: str, concurrency: int) -> None:
    store, calls = InMemoryCheckpointer(), Calls()
    executor = make_executor(
        [dag(node("a", "a"))],
        calls.tools("a"),
        checkpointer=store,
        delete_on_success=False,
        max_step_concurrency=concurrency,
    )
    assert execute(lane, executor, dry_run=True).success
    assert len(store) == 0


# --- the end of a run ---


@ON_BOTH_LANES
@pytest.mark.parametrize("resumed", [False, True])
@pytest.mark.parametrize("delete", [False, True])
def test_on_success_the_snapshot_is_deleted_unless_it_is_to_stay(lane: str, resumed: bool, delete: bool) -> None:
    store, calls, left = InMemoryCheckpointer(), Calls(broken=["b"] if resumed else []), []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: Any) -> None:
            left.append(store.list_trace_ids())

    executor = make_executor(
        [flow_of()], calls.tools("a b"), checkpointer=store, delete_on_success=delete, middleware=[Ends()]
    )
    result = execute(lane, executor)
    if resumed:
        assert left.pop() == [result.trace_id]
        calls.broken.clear()
        result = resume(lane, executor, result.trace_id)
    assert left == [[] if delete else [result.trace_id]]
    kept = store.load(result.trace_id)
    assert (kept is None) == delete
    if kept is not None:
        assert (kept.completed_steps, kept.context) == (2, {"n": 3})
        again = resume(lane, executor, result.trace_id)
        assert (again.final_output, again.execution_log) == (result.final_output, result.execution_log)
        assert calls.names.count("b") == (2 if resumed else 1)


@ON_BOTH_LANES
@pytest.mark.parametrize("word", ["output", "context"])
def test_row_21_dev_26_output_and_context_schemas_are_checked_on_resume(lane: str, word: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    flow = flow_of(**{f"{word}_schema_ref": "test_resume:Strict"})
    executor = make_executor([flow], calls.tools("a b"), checkpointer=store)
    execute(lane, executor)
    calls.broken.clear()
    result = resume(lane, executor, only_trace(store))
    assert not result.success
    last = result.execution_log[-1]
    assert (last.step_index, last.tool_name, last.error_type) == (2, "main", "SchemaValidationError")
    assert f"flow_{word} 'main' at step 2" in str(last.error_message)
    assert len(store) == 1


@ON_BOTH_LANES
@CONCURRENCY
@pytest.mark.parametrize("shape", ["linear", "dag"])
def test_row_19_dev_26_the_flows_collision_policy_holds_on_resume(lane: str, concurrency: int, shape: str) -> None:
    store, calls, recorder = InMemoryCheckpointer(), Calls(broken=["b"]), Recorder()
    clash: dict[str, Any] = {"output_mapping": {"n": "n"}}
    flow: dw.AnyFlow = dag(node("a", "a"), node("b", "b", after="a", **clash), on_context_collision="error")
    if shape == "linear":
        first = FlowStep(tool_name="a", output_mapping={"a": "n"})
        flow = linear(first, FlowStep(tool_name="b"), on_context_collision="error")
    executor = make_executor(
        [flow], calls.tools("a b"), checkpointer=store, middleware=[recorder], max_step_concurrency=concurrency
    )
    execute(lane, executor)
    calls.broken.clear()
    recorder.calls.clear()
    with pytest.raises(dw.ContextKeyCollisionError) as caught:
        resume(lane, executor, only_trace(store))
    assert (caught.value.flow_name, caught.value.step_index, caught.value.keys) == ("main", 1, ["n"])
    assert kinds(recorder)[-1] == ("flow_end", "main")
    assert recorder.calls[-1][2]["success"] is False
    assert [r["tool_name"] for r in recorder.calls[-1][2]["execution_log"]] == ["a", "b"]
    kept = store.load(only_trace(store))
    assert kept is not None
    assert len(kept.execution_log) == 1


@ON_BOTH_LANES
@CONCURRENCY
def test_dev_6_a_sub_flow_of_a_resumed_run_is_a_run_of_its_own(lane: str, concurrency: int) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["b"])
    sub = DAGFlowStep(
        step_id="s", flow_name="inner", depends_on=["b"], input_mapping={"n": "b"}, output_mapping={"s": "y"}
    )
    flows = [
        dag(node("a", "a"), node("b", "b", after="a", source="a"), sub),
        dag(node("x", "x"), node("y", "y", after="x", source="x"), name="inner"),
    ]
    executor = make_executor(
        flows, calls.tools("a b x y"), checkpointer=store, max_step_concurrency=concurrency, delete_on_success=False
    )
    failed = execute(lane, executor)
    calls.broken.clear()
    result = resume(lane, executor, failed.trace_id)
    assert result.final_output == {"n": 1, "a": 2, "b": 3, "s": 5}
    inner = result.execution_log[2].sub_result
    assert inner is not None
    assert (inner.initial_input, inner.final_output) == ({"n": 3}, {"n": 3, "x": 4, "y": 5})
    assert [r.tool_name for r in inner.execution_log] == ["x", "y"]
    assert inner.trace_id != result.trace_id
    assert store.list_trace_ids() == sorted([inner.trace_id, result.trace_id])


@ON_BOTH_LANES
def test_a_sub_flow_that_failed_keeps_its_own_snapshot_which_can_be_resumed(lane: str) -> None:
    store, calls = InMemoryCheckpointer(), Calls(broken=["y"])
    flows = [linear(step("a"), FlowStep(flow_name="inner")), linear(step("x"), step("y"), name="inner")]
    executor = make_executor(flows, calls.tools("a x y"), checkpointer=store)
    failed = execute(lane, executor)
    inner = failed.execution_log[1].sub_result
    assert inner is not None
    assert store.list_trace_ids() == sorted([failed.trace_id, inner.trace_id])
    calls.broken.clear()
    assert resume(lane, executor, inner.trace_id).final_output == {"n": 4}
    assert resume(lane, executor, failed.trace_id).final_output == {"n": 4}
    assert calls.names == ["a", "x", "y", "y", "x", "y"]
    assert len(store) == 0


class GivesUp(InMemoryStepCache):
    """Cancels the run that looks up the output of the tool `x`: a resumed run has neither token nor deadline to do so."""

    def get(self, key: dw.StepCacheKey) -> dict[str, Any] | None:
        if key.tool_name == "x":
            now = datetime.now(UTC)
            partial = dw.ExecutionResult(
                flow_name="inner",
                flow_version="1",
                success=False,
                final_output=None,
                trace_id="u",
                started_at=now,
                ended_at=now,
                total_duration_ms=0,
            )
            raise dw.FlowCancelledError("inner", 0, result=partial, deadline_exceeded=True)
        return super().get(key)


@ON_BOTH_LANES
@CONCURRENCY
def test_dev_26_a_cancellation_below_a_resumed_run_is_anchored_in_it(lane: str, concurrency: int) -> None:
    store, calls, recorder = InMemoryCheckpointer(), Calls(broken=["b"]), Recorder()
    sub = DAGFlowStep(step_id="s", flow_name="middle", depends_on=["b"])
    flows: list[dw.AnyFlow] = [
        dag(node("a", "a"), node("b", "b", after="a"), sub),
        linear(step("a"), FlowStep(flow_name="inner"), name="middle"),
        linear(step("x"), name="inner"),
    ]
    executor = make_executor(
        flows,
        calls.tools("a b x"),
        checkpointer=store,
        step_cache=GivesUp(),
        middleware=[recorder],
        max_step_concurrency=concurrency,
    )
    trace_id = execute(lane, executor).trace_id
    calls.broken.clear()
    recorder.calls.clear()
    with pytest.raises(dw.FlowCancelledError) as caught:
        resume(lane, executor, trace_id)
    error, partial = caught.value, caught.value.result
    assert (error.flow_name, error.step_index) == ("main", 2)
    assert (error.deadline_exceeded, error.token_cancelled) == (True, False)
    assert (partial.trace_id, partial.success, partial.final_output) == (trace_id, False, None)
    assert [(r.step_index, r.tool_name, r.error_type) for r in partial.execution_log] == [
        (0, "a", None),
        (1, "b", None),
        (2, "middle", "FlowCancelledError"),
    ]
    middle = error.__cause__
    assert isinstance(middle, dw.FlowCancelledError)
    assert (middle.flow_name, middle.step_index) == ("middle", 1)
    assert partial.execution_log[2].sub_result == middle.result
    assert [call[1] for call in recorder.calls if call[0] == "flow_end"] == ["inner", "middle", "main"]
    kept = store.load(trace_id)
    assert kept is not None
    assert kept.completed_dag_levels == 2
