"""The step cache: what is looked up, what is kept, what a hit shows, and both caches by one contract."""

import asyncio
import decimal
import enum
import math
import threading
import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

import doubleweave as dw
from doubleweave import FileStepCache, FlowStep, InMemoryStepCache, RetryPolicy, StepCacheKey, Tool
from lanes_under_test import Anything, Number, Recorder, number_tool
from parity_scenarios import count_up, dag, linear, node, step
from resume_under_test import LANES, Calls, execute, make_executor

Cache = InMemoryStepCache | FileStepCache
ON_BOTH_LANES = pytest.mark.parametrize("lane", LANES)


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    return InMemoryStepCache() if request.param == "memory" else FileStepCache(tmp_path / "cache")


def key(tool: Tool, n: int = 1) -> StepCacheKey:
    """Return the key of a number tool for an input."""
    digest = dw.compute_input_value_hash(Number(n=n))
    return StepCacheKey(tool_name=tool.name, schema_hash=tool.schema_hash, input_value_hash=digest)


@ON_BOTH_LANES
def test_the_executor_keeps_a_tools_validated_output_under_that_key(lane: str, cache: Cache) -> None:
    tool = number_tool("a/ä", lambda v: {"n": v.n + 1, "unknown": "dropped"})
    flow = linear(FlowStep(tool_name="a/ä", input_mapping={"n": "n", "more": 5}, output_mapping={"m": "n"}))
    first = execute(lane, make_executor([flow], [tool], step_cache=cache))
    assert (first.final_output, first.execution_log[0].cached) == ({"n": 1, "m": 2}, False)
    assert cache.get(key(tool)) == {"n": 2}


# --- hits and misses ---


@ON_BOTH_LANES
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("shape", ["linear", "dag"])
def test_a_hit_shows_what_a_miss_shows_without_calling_the_tool(
    lane: str, concurrency: int, shape: str, cache: Cache
) -> None:
    flow = linear(step("a")) if shape == "linear" else dag(node("a", "a"))
    calls, recorder = Calls(), Recorder()
    tool = calls.tool("a", timeout_seconds=30)
    executor = make_executor([flow], [tool], step_cache=cache, middleware=[recorder], max_step_concurrency=concurrency)
    miss, hit = execute(lane, executor), execute(lane, executor)
    assert calls.names == ["a"]
    assert hit.final_output == miss.final_output
    (before,), (after,) = miss.execution_log, hit.execution_log
    same = {"step_index", "tool_name", "inputs", "outputs", "success", "retry_count", "retry_errors", "error_type"}
    assert before.model_dump(include=same) == after.model_dump(include=same)
    assert (before.cached, after.cached, after.success, after.retry_count) == (False, True, True, 0)
    assert [call[0] for call in recorder.calls] == ["flow_start", "step_start", "step_end", "flow_end"] * 2
    assert execute(lane, executor, {"n": 5}).final_output != hit.final_output
    assert calls.names == ["a", "a"]


@ON_BOTH_LANES
def test_equal_inputs_within_one_run_and_across_executors_and_lanes_hit(lane: str, cache: Cache) -> None:
    calls = Calls()
    flow = linear(*[step("a", input_mapping={"n": 3})] * 3)
    result = execute(lane, make_executor([flow], calls.tools("a"), step_cache=cache))
    assert [r.cached for r in result.execution_log] == [False, True, True]
    other = "sync" if lane == "async" else "async"
    again = execute(other, make_executor([flow], calls.tools("a"), step_cache=cache))
    assert [r.cached for r in again.execution_log] == [True, True, True]
    assert calls.names == ["a"]


@ON_BOTH_LANES
@pytest.mark.parametrize("change", ["schema version", "output schema"])
def test_a_changed_tool_misses(lane: str, change: str, cache: Cache) -> None:
    class Other(BaseModel):
        n: int
        more: int = 0

    calls = Calls()
    executor = make_executor([linear(step("a"))], calls.tools("a"), step_cache=cache)
    execute(lane, executor)
    tool = calls.tool("a", schema_version="2") if change == "schema version" else calls.tool("a")
    if change == "output schema":
        tool.output_schema = Other
    executor.register_tool(tool)
    assert not execute(lane, executor).execution_log[0].cached
    assert calls.names == ["a", "a"]


@ON_BOTH_LANES
@pytest.mark.parametrize(
    ("options", "run"),
    [
        ({"cacheable": False}, {}),
        ({"safety": dw.ToolSafetyContract(cacheable=False)}, {}),
        ({}, {"dry_run": True}),
    ],
    ids=["tool not cacheable", "contract not cacheable", "dry run"],
)
def test_what_is_not_to_be_cached_is_neither_looked_up_nor_kept(
    lane: str, options: dict[str, Any], run: dict[str, Any]
) -> None:
    calls, cache = Calls(), InMemoryStepCache()
    flow = linear(step("a"))
    executor = make_executor([flow], [calls.tool("a", **options)], step_cache=cache)
    for _ in range(2):
        assert not execute(lane, executor, **run).execution_log[0].cached
    assert (calls.names, len(cache)) == (["a", "a"], 0)
    cache.set(key(calls.tool("a")), {"n": 99})
    assert execute(lane, executor, **run).final_output == {"n": 2}


@ON_BOTH_LANES
@pytest.mark.parametrize("failing", ["fail", "skip", "fallback:other"])
def test_failures_skips_and_fallbacks_are_not_kept(lane: str, failing: str) -> None:
    calls, cache = Calls(broken=["a"]), InMemoryStepCache()
    flow = linear(step("a", on_error=failing))
    executor = make_executor([flow], calls.tools("a other"), step_cache=cache)
    for _ in range(2):
        assert not execute(lane, executor).execution_log[0].cached
    assert len(cache) == 0
    assert calls.names.count("a") == 2
    calls.broken.clear()
    assert execute(lane, executor).final_output == {"n": 2}
    assert len(cache) == 1


@ON_BOTH_LANES
def test_a_fallback_is_not_looked_up_either(lane: str) -> None:
    calls, cache = Calls(broken=["a"]), InMemoryStepCache()
    other = calls.tool("other")
    cache.set(key(other), {"n": 99})
    executor = make_executor([linear(step("a", on_error="fallback:other"))], [calls.tool("a"), other], step_cache=cache)
    assert execute(lane, executor).final_output == {"n": 2}


@ON_BOTH_LANES
def test_a_retried_success_is_kept_and_its_hit_counts_no_retries(lane: str, cache: Cache) -> None:
    turns = iter([OSError("not yet"), None])

    def flaky(v: Any) -> dict[str, int]:
        error = next(turns)
        if error is not None:
            raise error
        return {"n": 7}

    flow = linear(step("a", retry=RetryPolicy(max_retries=2, backoff_seconds=0)))
    executor = make_executor([flow], [number_tool("a", flaky)], step_cache=cache)
    first, second = (execute(lane, executor).execution_log[0] for _ in range(2))
    assert (first.retry_count, first.retry_errors, first.cached) == (1, ["not yet"], False)
    assert (second.retry_count, second.retry_errors, second.cached, second.outputs) == (0, [], True, {"n": 7})


@ON_BOTH_LANES
def test_t_31_row_11_dev_11_streaming_tools_are_not_cached(lane: str) -> None:
    cache = InMemoryStepCache()
    tool = dw.StreamingTool(name="s", description="", input_schema=Number, output_schema=Number, stream_fn=count_up)
    executor = make_executor([linear(step("s"))], [tool], step_cache=cache)
    assert [execute(lane, executor).execution_log[0].cached for _ in range(2)] == [False, False]
    assert len(cache) == 0


@ON_BOTH_LANES
def test_a_replay_neither_reads_nor_writes(lane: str) -> None:
    calls, cache = Calls(), InMemoryStepCache()
    executor = make_executor([linear(step("a"))], calls.tools("a"), step_cache=cache)
    result = execute(lane, executor)
    cache.clear()

    def replay() -> dw.ReplayResult:
        return executor.replay_flow(result) if lane == "sync" else asyncio.run(executor.replay_flow_async(result))

    assert replay().all_steps_match
    assert (calls.names, len(cache)) == (["a", "a"], 0)
    cache.set(key(calls.tool("a")), {"n": 99})
    assert replay().new_result.final_output == {"n": 2}


@ON_BOTH_LANES
def test_a_composed_step_is_not_cached_but_the_tools_in_it_are(lane: str) -> None:
    calls, cache = Calls(), InMemoryStepCache()
    flows = [linear(FlowStep(flow_name="inner")), linear(step("a"), name="inner")]
    executor = make_executor(flows, calls.tools("a"), step_cache=cache)
    execute(lane, executor)
    (outer,) = execute(lane, executor).execution_log
    assert outer.sub_result is not None
    assert (outer.cached, outer.sub_result.execution_log[0].cached, len(cache)) == (False, True, 1)


@ON_BOTH_LANES
def test_an_input_that_does_not_pass_is_not_looked_up_and_fails(lane: str) -> None:
    cache = InMemoryStepCache()
    executor = make_executor([linear(step("a"))], Calls().tools("a"), step_cache=cache)
    result = execute(lane, executor, {"n": "many"})
    assert [r.error_type for r in result.execution_log] == ["SchemaValidationError"]
    assert len(cache) == 0


@ON_BOTH_LANES
def test_the_output_contract_holds_for_a_cached_value_too(lane: str) -> None:
    calls, cache = Calls(), InMemoryStepCache()
    execute(lane, make_executor([linear(step("a"))], calls.tools("a"), step_cache=cache))
    flow = linear(step("a", output_contract="test_step_cache:AtLeastTen", on_error="skip"))
    executor = make_executor([flow], calls.tools("a"), step_cache=cache)
    result = execute(lane, executor)
    (record,) = result.execution_log
    assert (result.success, record.success, record.cached, record.outputs) == (False, False, False, None)
    assert record.error_type == "SchemaValidationError"
    assert "step_output_contract 'a' at step 0" in str(record.error_message)
    assert calls.names == ["a"]
    assert execute(lane, executor, {"n": 10}).success


class AtLeastTen(BaseModel):
    n: int = Field(ge=10)


@ON_BOTH_LANES
def test_an_output_that_breaks_its_contract_is_not_kept(lane: str) -> None:
    cache = InMemoryStepCache()
    flow = linear(step("a", output_contract="test_step_cache:AtLeastTen"))
    assert not execute(lane, make_executor([flow], Calls().tools("a"), step_cache=cache)).success
    assert len(cache) == 0


@ON_BOTH_LANES
def test_a_guardrail_stands_before_a_cached_value(lane: str) -> None:
    def block(ctx: Any) -> None:
        raise PermissionError("not these inputs")

    calls, cache = Calls(), InMemoryStepCache()
    flow = linear(step("a"))
    execute(lane, make_executor([flow], calls.tools("a"), step_cache=cache))
    result = execute(lane, make_executor([flow], calls.tools("a"), step_cache=cache, guardrail_callback=block))
    assert [(r.error_type, r.outputs, r.cached) for r in result.execution_log] == [
        ("GuardrailViolationError", None, False)
    ]


@ON_BOTH_LANES
def test_changes_of_records_and_results_do_not_reach_the_cache(lane: str, cache: Cache) -> None:
    executor = make_executor([linear(step("a"))], Calls().tools("a"), step_cache=cache)
    for _ in range(3):
        result = execute(lane, executor)
        assert result.final_output == {"n": 2}
        assert result.execution_log[0].outputs == {"n": 2}
        result.final_output["n"] = 99
        result.execution_log[0].outputs["n"] = 98


# --- inputs whose JSON is not enough ---


class Secret(BaseModel):
    key: SecretStr


class Hidden(BaseModel):
    x: int = Field(exclude=True)


class Decimalised(BaseModel):
    x: float


class Blob(BaseModel):
    b: bytes


class Shout(BaseModel):
    y: str


def apart(model: type[BaseModel], show: Callable[[Any], str], *inputs: dict[str, Any]) -> Any:
    return pytest.param(model, show, inputs, id=model.__name__)


@ON_BOTH_LANES
@pytest.mark.parametrize(
    ("model", "show", "inputs"),
    [
        apart(Secret, lambda v: str(v.key.get_secret_value()), {"key": "mine"}, {"key": "yours"}),
        apart(Hidden, lambda v: str(v.x), {"x": 1}, {"x": 2}),
        apart(Decimalised, lambda v: repr(v.x), {"x": math.inf}, {"x": -math.inf}, {"x": math.nan}),
        apart(Anything, lambda v: repr(v.x), {"x": {1: 2}}, {"x": {"1": 2}}),
        apart(Anything, lambda v: repr(v.x), {"x": date(2024, 1, 2)}, {"x": "2024-01-02"}),
    ],
)
def test_inputs_that_share_their_json_never_share_an_output(
    lane: str, cache: Cache, model: type[BaseModel], show: Callable[[Any], str], inputs: Iterable[dict[str, Any]]
) -> None:
    tool = Tool(name="a", description="", input_schema=model, output_schema=Shout, fn=lambda v: {"y": show(v)})
    executor = make_executor([linear(step("a"))], [tool], step_cache=cache)
    shown = [execute(lane, executor, each).execution_log[0].outputs for each in inputs for _ in range(2)]
    assert shown == [{"y": show(model.model_validate(each))} for each in inputs for _ in range(2)]


@ON_BOTH_LANES
@pytest.mark.parametrize(
    ("model", "value", "warning"),
    [
        (Blob, {"b": b"\xff"}, "Step 0 'a': not cached, its input has no JSON form"),
        (Anything, {"b": object()}, "Step 0 'a': not cached, its input has no JSON form"),
        (Secret, {"key": "mine"}, "Step 0 'a': not cached, its input's JSON form leaves something out"),
    ],
    ids=["bytes", "object", "secret"],
)
def test_an_input_without_a_json_form_of_its_own_is_not_cached_and_a_warning_says_so(
    lane: str, model: type[BaseModel], value: dict[str, Any], warning: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = InMemoryStepCache()
    tool = Tool(name="a", description="", input_schema=model, output_schema=Shout, fn=lambda v: {"y": "ran"})
    executor = make_executor([linear(step("a"))], [tool], step_cache=cache)
    for _ in range(2):
        (record,) = execute(lane, executor, value).execution_log
        assert (record.success, record.cached, record.outputs) == (True, False, {"y": "ran"})
    said = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert len(said) == 2
    assert all(text.startswith(warning) for text in said)
    assert len(cache) == 0


# --- outputs that a file gives back otherwise ---


class Color(enum.Enum):
    RED = "red"


class Doubled(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def double(cls, n: int) -> int:
        return n * 2


class Aliased(BaseModel):
    when: date = Field(alias="When")
    inner: list["Aliased"] = Field(default=[], alias="Inner")


class AliasedOut(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    when: date = Field(alias="When")


class Typed(BaseModel):
    blob: bytes
    span: timedelta
    some: set[int]
    color: Color
    table: dict[tuple[int, int], int]


class Price(BaseModel):
    price: decimal.Decimal
    when: datetime
    ident: uuid.UUID
    keyed: dict[int, str]


DATED = {"When": date(2024, 1, 2), "Inner": [{"When": date(2024, 1, 3)}]}
PRICED = {
    "price": decimal.Decimal("1.20"),
    "when": datetime(2024, 1, 2, tzinfo=UTC),
    "ident": uuid.UUID(int=7),
    "keyed": {1: "one"},
}
TYPED = {"blob": b"\xff", "span": timedelta(days=1), "some": {3, 1}, "color": Color.RED, "table": {(1, 2): 3}}
DOCUMENT = {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}

# Output schema, what the tool returns, whether a file gives it back.
OUTPUTS: list[tuple[str, Any, dict[str, Any], bool]] = [
    ("dates under aliases", Aliased, DATED, True),
    ("aliases in the output", AliasedOut, {"When": date(2024, 1, 2)}, True),
    ("decimals, times, ids", Price, PRICED, True),
    ("JSON Schema", DOCUMENT, {"x": 1.5, "more": [{"deep": None}]}, True),
    ("a validator that changes its own result", Doubled, {"n": 3}, False),
    ("bytes, sets, enumerations, tuples", Typed, TYPED, False),
    ("open model with a date", Anything, {"when": date(2024, 1, 2)}, False),
    ("open model with a tuple", Anything, {"pair": (1, 2)}, False),
    ("object", Anything, {"it": Color}, False),
    ("a model that it knows by nothing but text", Anything, {"x": math.inf, "y": "inf"}, True),
]


@ON_BOTH_LANES
@pytest.mark.parametrize(("schema", "output", "kept"), [row[1:] for row in OUTPUTS], ids=[row[0] for row in OUTPUTS])
def test_a_hit_gives_the_values_of_a_miss_or_there_is_no_hit(
    lane: str, schema: Any, output: dict[str, Any], kept: bool, cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    tool = Tool(name="a", description="", input_schema=Number, output_schema=schema, fn=lambda v: output)
    executor = make_executor([linear(step("a"))], [tool], step_cache=cache)
    miss, hit = (execute(lane, executor).execution_log[0] for _ in range(2))
    assert hit.outputs == miss.outputs
    assert hit.outputs is not None
    assert miss.outputs is not None
    assert list(map(type, hit.outputs.values())) == list(map(type, miss.outputs.values()))
    in_memory = isinstance(cache, InMemoryStepCache)
    assert (miss.cached, hit.cached) == (False, kept or in_memory)
    said = [entry.getMessage() for entry in caplog.records if entry.levelname == "WARNING"]
    assert said == ([] if hit.cached else ["Tool 'a': not cached, its output would not come back as it is"] * 2)


DECIMALS = st.decimals(allow_nan=False, allow_infinity=False)
PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.dates(), DECIMALS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


class Anything2(Anything):
    x: Any
    when: date | None = None
    price: decimal.Decimal | None = Field(default=None, alias="Price")


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True, database=None
)
@given(
    value=PLAIN,
    when=st.none() | st.dates(),
    price=st.none() | DECIMALS,
    lane=st.sampled_from(LANES),
    in_file=st.booleans(),
)
def test_a_hit_equals_a_miss_for_any_input_and_output(
    tmp_path_factory: pytest.TempPathFactory, value: Any, when: Any, price: Any, lane: str, in_file: bool
) -> None:
    cache = FileStepCache(tmp_path_factory.mktemp("cache")) if in_file else InMemoryStepCache()
    back = {"x": value, "when": when, "Price": price}
    tool = Tool(name="a", description="", input_schema=Anything, output_schema=Anything2, fn=lambda v: back)
    executor = make_executor([linear(step("a"))], [tool], step_cache=cache)
    miss, hit = (execute(lane, executor, {"in": value}) for _ in range(2))
    assert miss.success
    assert hit.success
    assert repr(hit.execution_log[0].outputs) == repr(miss.execution_log[0].outputs)
    assert repr(hit.final_output) == repr(miss.final_output)


# --- caches of one's own ---


class Faulty:
    """A cache of which one method raises."""

    def __init__(self, method: str, error: BaseException) -> None:
        self.method, self.error = method, error

    def get(self, key: StepCacheKey) -> dict[str, Any] | None:
        if self.method == "get":
            raise self.error
        return None

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        raise self.error

    def clear(self) -> None:
        raise AssertionError("nobody clears a cache but its owner")


@ON_BOTH_LANES
@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("method", ["get", "set"])
def test_whatever_a_cache_raises_leaves_the_run_and_closes_its_hooks(lane: str, concurrency: int, method: str) -> None:
    error, calls, ends = OSError("disk full"), Calls(), []

    class Ends(dw.BaseMiddleware):
        def on_flow_end(self, ctx: Any) -> None:
            ends.append((ctx.result.success, ctx.result.final_output, len(ctx.result.execution_log)))

    executor = make_executor(
        [dag(node("a", "a", on_error="skip"))],
        calls.tools("a"),
        step_cache=Faulty(method, error),
        middleware=[Ends()],
        max_step_concurrency=concurrency,
    )
    with pytest.raises(OSError, match="disk full") as caught:
        execute(lane, executor)
    assert caught.value is error
    assert ends == [(False, None, 0)]
    assert calls.names == ([] if method == "get" else ["a"])


class Awaitable:
    """A cache whose methods are coroutine functions; it says that it never blocks, which is true of them."""

    inline = True

    def __init__(self) -> None:
        self.inner = InMemoryStepCache()

    async def get(self, key: StepCacheKey) -> dict[str, Any] | None:
        await asyncio.sleep(0)
        return self.inner.get(key)

    async def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        self.inner.set(key, output)

    async def clear(self) -> None:
        self.inner.clear()


@ON_BOTH_LANES
@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_cache_may_be_asynchronous(lane: str, concurrency: int) -> None:
    calls = Calls()
    flow = dag(*[node(f"s{i}", "a", input_mapping={"n": i}) for i in range(4)])
    executor = make_executor([flow], calls.tools("a"), step_cache=Awaitable(), max_step_concurrency=concurrency)
    miss, hit = execute(lane, executor), execute(lane, executor)
    assert [r.cached for r in miss.execution_log + hit.execution_log] == [False] * 4 + [True] * 4
    assert hit.final_output == miss.final_output
    assert calls.names == ["a"] * 4


class Blocking(InMemoryStepCache):
    """A cache in memory that waits until the loop has had a turn."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Event()

    def get(self, key: StepCacheKey) -> dict[str, Any] | None:
        assert self.turn.wait(timeout=10)
        return super().get(key)

    def set(self, key: StepCacheKey, output: dict[str, Any]) -> None:
        assert self.turn.wait(timeout=10)
        super().set(key, output)


async def test_a_cache_that_blocks_leaves_the_loop_free() -> None:
    cache = Blocking()
    executor = make_executor([linear(step("a"))], Calls().tools("a"), step_cache=cache)
    run = asyncio.create_task(executor.execute_flow_async("main", {"n": 1}))
    for _ in range(3):
        await asyncio.sleep(0)
    cache.turn.set()
    assert (await run).final_output == {"n": 2}
    assert len(cache) == 1
