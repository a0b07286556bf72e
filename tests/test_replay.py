"""Repeating a recorded run, whole or in part, and what is said about the differences."""

import asyncio
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import doubleweave as dw
from doubleweave import AnyFlow, ExecutionResult, FlowStep, ReplayMode, ReplayResult, StepRecord, Tool
from lanes_under_test import Anything, Case, Recorder, normalised, number_tool, observe
from parity_scenarios import BRANCHING, THREE_DEEP, dag, linear, node, step, tools
from random_flows import FLAKY, INNER, dag_flows, linear_flows
from random_flows import tools as random_tools
from streams_under_test import executor_for

EXAMPLES = max(1, int(os.environ.get("DOUBLEWEAVE_PARITY_EXAMPLES", "2000")) // 10)
LANES = ["replay_flow", "replay_flow_async", "AsyncFlowExecutor.replay_flow"]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
dev_4_each_lane = pytest.mark.parametrize("lane", LANES)


def kind_of(lane: str) -> type[Any]:
    return dw.AsyncFlowExecutor if lane.startswith("Async") else dw.FlowExecutor


def replay(executor: Any, lane: str, result: ExecutionResult, **options: Any) -> ReplayResult:
    replayed = getattr(executor, lane.split(".")[-1])(result, **options)
    if lane == "replay_flow":
        assert isinstance(replayed, ReplayResult)
        return replayed
    return asyncio.run(_awaited(replayed))


async def _awaited(replayed: Any) -> ReplayResult:
    found = await replayed
    assert isinstance(found, ReplayResult)
    return found


def recorded(case: Case, **settings: Any) -> ExecutionResult:
    """Run a case on an executor of its own and return the result."""
    result = executor_for(case, **settings).execute_flow(next(iter(case.flows)).name, dict(case.inputs), **case.run())
    assert isinstance(result, ExecutionResult)
    return result


def record(index: int, tool: str, outputs: dict[str, Any] | None, **changes: Any) -> StepRecord:
    times: dict[str, Any] = {"started_at": NOW, "ended_at": NOW, "duration_ms": 0.0}
    return StepRecord(step_index=index, tool_name=tool, inputs={}, outputs=outputs, **times, **changes)


def result_of(*log: StepRecord, **changes: Any) -> ExecutionResult:
    values: dict[str, Any] = {
        "flow_name": "main",
        "flow_version": "",
        "success": True,
        "final_output": {},
        "execution_log": list(log),
        "trace_id": "original",
        "started_at": NOW,
        "ended_at": NOW,
        "total_duration_ms": 0.0,
        "initial_input": {"n": 1},
    }
    return ExecutionResult(**values | changes)


def returning(name: str, *outputs: Any) -> Tool:
    """Return a tool that gives these outputs, one a call, whatever they are."""
    calls = iter(outputs)
    return Tool(name=name, description="", input_schema=Anything, output_schema=Anything, fn=lambda v: next(calls))


def shown(found: ReplayResult) -> list[tuple[Any, ...]]:
    return [(diff.step_index, diff.tool_name, diff.field, diff.expected, diff.actual) for diff in found.diffs]


def test_the_modes_and_their_aliases_are_the_same_members() -> None:
    assert list(ReplayMode) == [ReplayMode.VERIFY, ReplayMode.EXECUTE]
    assert [ReplayMode["STRICT"], ReplayMode["SKIP_VALIDATION"]] == [ReplayMode.VERIFY, ReplayMode.EXECUTE]
    assert [mode.value for mode in ReplayMode] == ["verify", "execute"]


SCENARIOS = [
    Case([linear(step("inc"), step("double"), step("stream"))], tools),
    Case([BRANCHING], tools),
    Case(THREE_DEEP, tools),
    Case([linear(step("boom"), step("inc"))], tools),
    Case([linear()], tools),
]


@dev_4_each_lane
@pytest.mark.parametrize("case", SCENARIOS, ids=["linear", "DAG", "sub-flows", "failing", "empty"])
def test_row_25_dev_4_a_replay_is_a_run_that_matches(case: Case, lane: str) -> None:
    original = recorded(case)
    recorder = Recorder()
    found = replay(executor_for(case, kind_of(lane), middleware=[recorder]), lane, original)
    assert (found.mode, found.diffs, found.all_steps_match) == (ReplayMode.VERIFY, [], True)
    assert found.original_trace_id == original.trace_id != found.new_result.trace_id
    assert normalised(found.new_result) == normalised(original)
    assert recorder.calls == observe(case, "sync").hooks
    assert ReplayResult.model_validate_json(found.model_dump_json()) == found


@dev_4_each_lane
def test_a_result_that_was_stored_as_json_can_be_replayed(lane: str) -> None:
    original = ExecutionResult.model_validate_json(recorded(SCENARIOS[2]).model_dump_json())
    assert replay(executor_for(SCENARIOS[2], kind_of(lane)), lane, original).all_steps_match


@dev_4_each_lane
def test_differences_are_listed_in_mode_verify_only(lane: str) -> None:
    numbers = count()
    case = Case(
        [linear(step("next"), step("inc"))], lambda: [*tools(), number_tool("next", lambda v: {"n": next(numbers)})]
    )
    original = recorded(case)
    executor = executor_for(case, kind_of(lane))
    for mode in (ReplayMode.VERIFY, "verify", ReplayMode.STRICT):
        turn = next(numbers) + 1
        found = replay(executor, lane, original, mode=mode)
        assert (found.mode, found.all_steps_match) == (ReplayMode.VERIFY, False)
        assert shown(found) == [(0, "next", "n", 0, turn), (1, "inc", "n", 1, turn + 1)]
    for mode in (ReplayMode.EXECUTE, "execute", ReplayMode.SKIP_VALIDATION):
        found = replay(executor, lane, original, mode=mode)
        assert (found.mode, found.diffs, found.all_steps_match) == (ReplayMode.EXECUTE, [], True)
    with pytest.raises(ValueError, match="guess"):
        replay(executor, lane, original, mode="guess")


@dev_4_each_lane
@pytest.mark.parametrize("first_step", [0, 1])
def test_dev_28_the_recorded_version_is_replayed(lane: str, first_step: int) -> None:
    old = linear(step("inc"), step("inc"), version="1.0.0")
    new = linear(step("double"), step("double"), version="2.0.0")
    original = recorded(Case([old], tools))
    executor = executor_for(Case([old, new], tools), kind_of(lane))
    found = replay(executor, lane, original, resume_from_step=first_step)
    assert (found.all_steps_match, found.new_result.flow_version) == (True, "1.0.0")
    latest = original.model_copy(update={"flow_version": ""})
    found = replay(executor, lane, latest, resume_from_step=first_step)
    assert (found.all_steps_match, found.new_result.flow_version) == (False, "2.0.0")
    with pytest.raises(dw.FlowNotFoundError) as caught:
        replay(executor_for(Case([new], tools), kind_of(lane)), lane, original, resume_from_step=first_step)
    assert (caught.value.flow_name, caught.value.version) == ("main", "1.0.0")


@dev_4_each_lane
def test_the_status_of_the_flow_is_heeded(lane: str) -> None:
    original = recorded(Case([linear(step("inc"))], tools))
    executor = executor_for(Case([linear(step("inc"), status=dw.FlowStatus.DISABLED)], tools), kind_of(lane))
    with pytest.raises(dw.FlowStatusError):
        replay(executor, lane, original)


class CountingCache(dw.InMemoryStepCache):
    def __init__(self) -> None:
        super().__init__()
        self.used = 0

    def get(self, key: Any) -> Any:
        self.used += 1
        return super().get(key)

    def set(self, key: Any, output: Any) -> None:
        self.used += 1
        super().set(key, output)


@dev_4_each_lane
@pytest.mark.parametrize("first_step", [0, 1])
def test_the_step_cache_is_neither_read_nor_written(lane: str, first_step: int) -> None:
    """Nor by sub-flows, nor by flows that tools run."""
    cache = CountingCache()
    inner = linear(step("inc"), name="inner")
    case = Case([linear(step("inc"), FlowStep(flow_name="inner"), step("wrapped")), inner], tools)
    executor = executor_for(case, step_cache=cache)
    executor.register_tool(Tool.from_flow(inner, executor, name="wrapped"))
    original = executor.execute_flow("main", {"n": 1})
    used, size = cache.used, len(cache)
    assert used > 0
    other = kind_of(lane)(executor.registry, step_cache=cache)
    for tool in executor.registered_tools.values():
        other.register_tool(tool)
    found = replay(other, lane, original, resume_from_step=first_step)
    assert (found.all_steps_match, cache.used, len(cache)) == (True, used, size)
    assert not any(record.cached for record in found.new_result.execution_log)


@dev_4_each_lane
def test_dynamic_params_of_the_original_run_are_not_replayed(lane: str) -> None:
    case = Case([linear(step("inc"))], tools, run=lambda: {"dynamic_params": {"n": 5, "extra": 1}})
    original = recorded(case)
    found = replay(executor_for(case, kind_of(lane)), lane, original)
    assert (original.final_output, found.new_result.final_output) == ({"n": 6, "extra": 1}, {"n": 2})
    assert shown(found) == [(0, "inc", "n", 6, 2)]
    assert (original.initial_input, found.new_result.initial_input) == ({"n": 1}, {"n": 1})
    assert found.new_result.initial_input is not original.initial_input


@dev_4_each_lane
def test_a_missing_tool_is_a_recorded_failure(lane: str) -> None:
    case = Case([linear(step("inc"), step("double"))], tools)
    original = recorded(case)
    found = replay(executor_for(Case(case.flows, lambda: [tools()[0]]), kind_of(lane)), lane, original)
    assert [r.error_type for r in found.new_result.execution_log] == [None, "ToolNotFoundError"]
    assert shown(found) == [(1, "double", "n", 4, None)]


@dev_4_each_lane
def test_what_the_run_raises_is_raised(lane: str) -> None:
    original = recorded(Case([linear(step("inc"))], tools))
    executor = executor_for(Case([linear(step("inc", output_mapping={"m": "gone"}))], tools), kind_of(lane))
    with pytest.raises(dw.OutputMappingError):
        replay(executor, lane, original)


# --- from a step on ---------------------------------------------------------------------------------------------------

FOUR = linear(
    step("inc", output_mapping={"a": "n"}),
    step("boom", on_error="skip", output_mapping={"b": "gone"}),
    step("double", input_mapping={"n": "a"}),
    step("inc"),
)


@dev_4_each_lane
@pytest.mark.parametrize("first_step", [-1, 0, 1, 2, 3, 4])
def test_a_linear_flow_is_replayed_from_any_step(lane: str, first_step: int) -> None:
    case, recorder = Case([FOUR], tools), Recorder()
    original = recorded(case)
    assert original.final_output == {"n": 5, "a": 2}
    executor = executor_for(case, kind_of(lane), middleware=[recorder])
    found = replay(executor, lane, original, resume_from_step=first_step)
    assert (found.diffs, found.all_steps_match) == ([], True)
    rest = original.execution_log[max(first_step, 0) :]
    assert normalised(found.new_result.execution_log) == normalised(rest)
    assert (found.new_result.success, found.new_result.final_output) == (True, {"n": 5, "a": 2})
    assert (found.new_result.initial_input, found.new_result.flow_name) == ({"n": 1}, "main")
    assert found.new_result.trace_id != original.trace_id
    assert recorder.calls[0] == ("flow_start", "main", {"n": 1}, 4)
    assert [call[2] for call in recorder.calls if call[0] == "step_start"] == [r.step_index for r in rest]
    assert recorder.calls[-1] == ("flow_end", "main", normalised(found.new_result))


@dev_4_each_lane
@pytest.mark.parametrize(
    ("flow", "first_step"), [(dag(node("a"), node("b")), 1), (linear(step("inc")), 2), (linear(), 1)]
)
def test_a_step_that_cannot_be_the_first_is_refused_before_any_hook(flow: AnyFlow, first_step: int, lane: str) -> None:
    case, recorder = Case([flow], tools), Recorder()
    original = recorded(case)
    with pytest.raises(ValueError, match=f"resume_from_step.*{first_step}"):
        replay(executor_for(case, kind_of(lane), middleware=[recorder]), lane, original, resume_from_step=first_step)
    assert recorder.calls == []


@dev_4_each_lane
def test_a_dag_is_replayed_from_its_beginning_also_below_zero(lane: str) -> None:
    case = Case([BRANCHING], tools)
    found = replay(executor_for(case, kind_of(lane)), lane, recorded(case), resume_from_step=-3)
    assert (found.all_steps_match, len(found.new_result.execution_log)) == (True, 5)


@dev_4_each_lane
def test_the_context_is_rebuilt_from_the_input_and_the_records(lane: str) -> None:
    """Mappings of the step that has the record's index apply; a record of no step counts as it is; empty ones do not."""
    flow = linear(step("a", output_mapping={"renamed": "x"}), step("b"), step("c"), step("inc"))
    original = result_of(
        record(0, "a", {"x": 1, "unmapped": 2}),
        record(7, "elsewhere", {"verbatim": 3}),
        record(2, "c", None, success=False),
        record(3, "never read", {"late": 4}),
        initial_input={"n": 1, "word": "w"},
    )
    found = replay(executor_for(Case([flow], tools), kind_of(lane)), lane, original, mode="execute", resume_from_step=3)
    assert found.new_result.final_output == {"n": 2, "word": "w", "renamed": 1, "verbatim": 3}
    assert [(r.step_index, r.inputs) for r in found.new_result.execution_log] == [
        (3, {"n": 1, "word": "w", "renamed": 1, "verbatim": 3})
    ]


@dev_4_each_lane
@pytest.mark.parametrize(
    ("schema", "word"), [("output_schema_ref", "flow_output"), ("context_schema_ref", "flow_context")]
)
def test_dev_29_the_final_checks_are_made_in_part_too(schema: str, word: str, lane: str) -> None:
    case = Case([linear(step("inc"), step("inc"), **{schema: "parity_scenarios:Strict"})], tools)
    found = replay(executor_for(case, kind_of(lane)), lane, recorded(case), resume_from_step=1)
    assert (found.new_result.success, found.new_result.final_output) == (False, None)
    last = found.new_result.execution_log[-1]
    assert (last.step_index, last.tool_name, last.error_type) == (2, "main", "SchemaValidationError")
    assert word in str(last.error_message)
    assert (len(found.new_result.execution_log), found.diffs) == (2, [])


@dev_4_each_lane
@pytest.mark.parametrize(("first_step", "index"), [(0, -1), (1, None)])
def test_the_input_is_checked_only_at_the_beginning(lane: str, first_step: int, index: int | None) -> None:
    original = recorded(Case([linear(step("inc"), step("inc"))], tools))
    case = Case([linear(step("inc"), step("inc"), input_schema_ref="parity_scenarios:Strict")], tools)
    found = replay(executor_for(case, kind_of(lane)), lane, original, mode="execute", resume_from_step=first_step)
    assert found.new_result.success is (index is None)
    assert found.new_result.execution_log[0].step_index == (1 if index is None else index)


# --- differences ------------------------------------------------------------------------------------------------------


@dev_4_each_lane
def test_dev_30_differences_come_by_record_then_by_the_original_keys_then_by_the_new_ones(lane: str) -> None:
    original = result_of(
        record(0, "one", {"z": 1, "same": 5, "a": 2, "gone": 3, "none": None}), record(1, "two", {"m": 1, "b": [1, 2]})
    )
    made = [
        returning("one", {"new": 9, "a": 20, "z": 10, "same": 5, "older": 8, "nothing": None}),
        returning("two", {"b": [1, 3], "m": 1.0}),
    ]
    case = Case([linear(step("one"), step("two"))], lambda: made)
    found = replay(executor_for(case, kind_of(lane)), lane, original)
    assert shown(found) == [
        (0, "one", "z", 1, 10),
        (0, "one", "a", 2, 20),
        (0, "one", "gone", 3, None),
        (0, "one", "new", None, 9),
        (0, "one", "older", None, 8),
        (1, "two", "b", [1, 2], [1, 3]),
    ]
    assert not found.all_steps_match


@dev_4_each_lane
def test_dev_30_records_on_one_side_only_are_differences(lane: str) -> None:
    original = result_of(
        record(0, "inc", {"n": 2}), record(1, "old", {"b": 1, "a": 2}), record(2, "empty", {}), record(3, "bad", None)
    )
    executor = executor_for(Case([linear(step("inc"))], tools), kind_of(lane))
    assert shown(replay(executor, lane, original)) == [
        (1, "old", "b", 1, None),
        (1, "old", "a", 2, None),
        (2, "empty", "<record>", "empty", None),
        (3, "bad", "<record>", "bad", None),
    ]
    emptied = executor_for(Case([linear()], tools), kind_of(lane))
    found = replay(emptied, lane, recorded(Case([linear(step("inc"))], tools, {"n": 0}), cost_profile=None))
    assert (shown(found), found.all_steps_match) == ([(0, "inc", "n", 1, None)], False)
    grown = executor_for(
        Case([linear(step("inc"), step("boom", on_error="skip"), step("double"))], tools), kind_of(lane)
    )
    assert shown(replay(grown, lane, result_of(record(0, "inc", {"n": 2})))) == [
        (1, "boom", "<record>", None, "boom"),
        (2, "double", "n", None, 4),
    ]


@dev_4_each_lane
def test_dev_30_records_are_compared_from_the_first_repeated_step_on(lane: str) -> None:
    original = result_of(record(0, "inc", {"n": 2}), record(1, "inc", {"n": 30}), record(2, "inc", {"n": 4}))
    executor = executor_for(Case([linear(*[step("inc")] * 3)], tools), kind_of(lane))
    found = replay(executor, lane, original, resume_from_step=1)
    assert shown(found) == [(1, "inc", "n", 30, 3)]


@dev_4_each_lane
def test_a_failure_counts_as_having_no_outputs(lane: str) -> None:
    fails = executor_for(Case([linear(step("boom"))], tools), kind_of(lane))
    assert replay(fails, lane, result_of(record(0, "boom", {}))).all_steps_match
    assert shown(replay(fails, lane, result_of(record(0, "boom", {"n": 1})))) == [(0, "boom", "n", 1, None)]


class Raises:
    def __ne__(self, other: object) -> bool:
        raise RuntimeError("do not compare me")

    __eq__ = __ne__
    __hash__ = object.__hash__


class Undecided:
    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array with more than one element is ambiguous")


class ArrayLike:
    """Compares element by element, as arrays do."""

    def __ne__(self, other: object) -> Any:
        return Undecided()

    __eq__ = __ne__
    __hash__ = object.__hash__


class NumberLike:
    """A comparison that gives something with a truth value, as scalars of arrays do."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: Any) -> Any:
        return [1] if self.value == other.value else []

    __hash__ = object.__hash__


ARRAY, RAISES = ArrayLike(), Raises()
NAN, OTHER_NAN = float("nan"), math.nan * 2
# Name, what was recorded, what is replayed, whether they match.
STRANGE: list[tuple[str, Any, Any, bool]] = [
    ("NaN", NAN, OTHER_NAN, True),
    ("NaN and a number", NAN, 1.0, False),
    ("NaN and nothing", NAN, None, False),
    ("NaN in a list", [1, NAN], [1, OTHER_NAN], True),
    ("NaN in a dict in a tuple", ({"x": NAN},), ({"x": OTHER_NAN},), True),
    ("NaN at another place", [NAN, 1.0], [1.0, OTHER_NAN], False),
    ("longer list", [1, 2], [1, 2, 3], False),
    ("list and tuple", [1], (1,), False),
    ("other key", {"a": 1}, {"b": 1}, False),
    ("order of keys", {"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ("None in a dict is not nothing", {"a": None}, {}, False),
    ("integer and float", 1, 1.0, True),
    ("the same array", ARRAY, ARRAY, True),
    ("arrays", ArrayLike(), ArrayLike(), False),
    ("arrays in a list", [ArrayLike()], [ArrayLike()], False),
    ("the same object that raises", RAISES, RAISES, True),
    ("objects that raise", Raises(), Raises(), False),
    ("equal scalars", NumberLike(1), NumberLike(1), True),
    ("other scalars", NumberLike(1), NumberLike(2), False),
]


@dev_4_each_lane
@pytest.mark.parametrize(("old", "new", "same"), [row[1:] for row in STRANGE], ids=[row[0] for row in STRANGE])
def test_values_with_strange_comparisons_break_no_replay(old: Any, new: Any, same: bool, lane: str) -> None:
    case = Case([linear(step("give"))], lambda: [returning("give", {"value": new, "after": 2})])
    found = replay(executor_for(case, kind_of(lane)), lane, result_of(record(0, "give", {"value": old, "after": 1})))
    assert [diff.field for diff in found.diffs] == (["after"] if same else ["value", "after"])
    if not same:
        assert found.diffs[0].expected is old


HASH_SEEDS = """
import json, doubleweave as dw
from test_replay import *
keys = "quick brown fox jumps over the lazy dog".split()
original = result_of(record(0, "give", {key: 0 for key in keys}), record(1, "lost", {key: 0 for key in keys}))
case = Case([linear(step("give"))], lambda: [returning("give", {key: 1 for key in ["new", *reversed(keys), "newer"]})])
print(json.dumps(shown(replay(executor_for(case), "replay_flow", original))))
"""


def test_dev_30_the_order_does_not_depend_on_the_hash_seed() -> None:
    keys = ["quick", "brown", "fox", "jumps", "over", "the", "lazy", "dog"]
    expected = [
        *[[0, "give", key, 0, 1] for key in keys],
        [0, "give", "new", None, 1],
        [0, "give", "newer", None, 1],
        *[[1, "lost", key, 0, None] for key in keys],
    ]
    path = os.pathsep.join(sys.path)
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", HASH_SEEDS], env=environment, capture_output=True, text=True, check=True
        )
        assert json.loads(done.stdout) == expected


# --- any flow ---------------------------------------------------------------------------------------------------------

many = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None
)


@many
@given(flow=st.one_of(linear_flows(), dag_flows()), start=st.integers(0, 9))
def test_a_replay_of_any_recorded_run_matches(flow: AnyFlow, start: int) -> None:
    case = Case([flow, INNER], random_tools, {"n": start})
    original = observe(case, "sync").result
    assume(original is not None)
    assert original is not None
    for lane in LANES[:2]:
        found = replay(executor_for(case), lane, original)
        assert (found.diffs, found.all_steps_match) == ([], True)
        assert normalised(found.new_result) == normalised(original)


@many
@given(flow=linear_flows(), start=st.integers(0, 9), data=st.data())
def test_a_replay_of_any_part_of_a_run_matches(flow: AnyFlow, start: int, data: st.DataObject) -> None:
    def steady() -> list[Tool]:
        return [*random_tools(), *(number_tool(name, lambda v: {"n": v.n + 3}) for name in FLAKY)]

    case = Case([flow, INNER], steady, {"n": start})
    original = observe(case, "sync").result
    assume(original is not None and original.success)
    assert original is not None
    first_step = data.draw(st.integers(0, len(flow.steps)))
    for lane in LANES[:2]:
        found = replay(executor_for(case), lane, original, resume_from_step=first_step)
        assert (found.diffs, found.all_steps_match) == ([], True)
        assert found.new_result.final_output == original.final_output
        assert normalised(found.new_result.execution_log) == normalised(original.execution_log[first_step:])
