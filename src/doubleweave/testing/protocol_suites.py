"""What every backend has to do, as tests to inherit. Needs pytest.

Subclass a suite in a test module, under a name that begins with `Test`, and override its fixture to give a fresh, empty
backend. Backends whose methods are coroutine functions are awaited, all of a test on one event loop.
"""

import functools
from collections.abc import Callable, Generator
from contextvars import copy_context
from datetime import UTC, datetime
from inspect import isawaitable
from typing import Any

from doubleweave._sync.executor import drive
from doubleweave.core.effects import Invoke, Lane, Life
from doubleweave.errors import FlowAlreadyExistsError, FlowNotFoundError
from doubleweave.models.flows import DAGFlow, Flow
from doubleweave.models.product import PRODUCT
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.models.snapshots import Checkpointer, ExecutionSnapshot
from doubleweave.models.step_cache import StepCache, StepCacheKey
from doubleweave.models.steps import DAGFlowStep, FlowStep
from doubleweave.models.storage import RegistryStore
from doubleweave.stores.traces import TraceStore

try:
    import pytest
except ImportError as error:
    raise ImportError(f"{__name__} needs pytest: pip install pytest", name=error.name) from error

__all__ = ["CheckpointerConformance", "RegistryStoreConformance", "StepCacheConformance", "TraceStoreConformance"]

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

Steps = Generator[Any, Any, None]
"""A test that yields what a backend's method returned and is sent what that was, or came to."""


def _awaiting(test: Callable[..., Steps]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        drive(lambda lane: _settling(lane, test(*args, **kwargs)))

    return run


def _settling(lane: Lane, steps: Steps) -> Life[None]:
    send, value = steps.send, None
    while True:
        try:
            returned = send(value)
        except StopIteration:
            return
        send, value = steps.send, returned
        if isawaitable(returned):
            try:
                value = yield Invoke(_given, (returned,), copy_context(), f"{PRODUCT}-testing")
            except Exception as error:
                send, value = steps.throw, error


def _given(awaitable: Any) -> Any:
    return awaitable


def _linear(version: str = "1.0.0", description: str = "first", name: str = "linear") -> Flow:
    return Flow(name=name, version=version, description=description, steps=[FlowStep(tool_name="one")])


# Keys of flows that are easily taken for each other: joined without a separator, with one that both parts may have, shortened.
_CLOSE_KEYS = [
    *(("linear", "10.0"), ("linear1", "0.0")),
    *(("linear", "1.0"), ("linear.1", "0")),
    *(("linear", "1-0"), ("linear-1", "0")),
    *(("linear", "1"), ("linear", "1.0.0")),
]

# Ids of runs, each the beginning of the next ones.
_CLOSE_IDS = ["a", "ab", "abc", "ab-c"]


def _dag() -> DAGFlow:
    steps = [DAGFlowStep(step_id="a", tool_name="one"), DAGFlowStep(step_id="b", tool_name="two", depends_on=["a"])]
    return DAGFlow(name="dag", version="2.0.0", description="two steps", steps=steps)


class RegistryStoreConformance:
    """What a `RegistryStore` has to do. Override the fixture `store`."""

    @pytest.fixture
    def store(self) -> RegistryStore:
        """A fresh, empty store."""
        raise NotImplementedError("override the fixture 'store' to give a fresh, empty RegistryStore")

    def test_round_trip(self, store: RegistryStore) -> None:
        """What was saved is loaded, both kinds of flow."""
        store.save_flow(_linear())
        store.save_flow(_dag())
        assert store.load_flow("linear", "1.0.0") == _linear()
        assert store.load_flow("dag", "2.0.0") == _dag()

    def test_presence(self, store: RegistryStore) -> None:
        """A flow is there by name and version, once it was saved."""
        assert not store.has_flow("linear", "1.0.0")
        store.save_flow(_linear())
        assert store.has_flow("linear", "1.0.0")
        assert not store.has_flow("linear", "9.0.0")
        assert not store.has_flow("other", "1.0.0")

    def test_load_missing_raises(self, store: RegistryStore) -> None:
        """Neither another name nor another version is loaded."""
        store.save_flow(_linear())
        for name, version in (("other", "1.0.0"), ("linear", "9.0.0")):
            with pytest.raises(FlowNotFoundError) as caught:
                store.load_flow(name, version)
            assert (caught.value.flow_name, caught.value.version) == (name, version)

    def test_duplicate_save_raises(self, store: RegistryStore) -> None:
        """A refused save leaves what was there."""
        store.save_flow(_linear())
        with pytest.raises(FlowAlreadyExistsError):
            store.save_flow(_linear(description="second"))
        assert store.load_flow("linear", "1.0.0").description == "first"

    def test_overwrite_replaces(self, store: RegistryStore) -> None:
        """Saving with `overwrite` replaces the flow, and also saves one that is new."""
        store.save_flow(_linear(), overwrite=True)
        store.save_flow(_linear(description="second"), overwrite=True)
        assert store.load_flow("linear", "1.0.0").description == "second"
        assert store.list_keys() == [("linear", "1.0.0")]

    def test_keys_are_complete_and_sorted(self, store: RegistryStore) -> None:
        """Every version of every flow is listed, sorted as texts."""
        assert store.list_keys() == []
        for flow in (_linear("2.0.0"), _linear("10.0.0"), _dag(), _linear("1.0.0")):
            store.save_flow(flow)
        versions = ["1.0.0", "10.0.0", "2.0.0"]
        assert store.list_keys() == [("dag", "2.0.0"), *(("linear", version) for version in versions)]

    def test_delete(self, store: RegistryStore) -> None:
        """Only the version that was named is gone."""
        store.save_flow(_linear("1.0.0"))
        store.save_flow(_linear("2.0.0"))
        store.delete_flow("linear", "1.0.0")
        assert not store.has_flow("linear", "1.0.0")
        assert store.list_keys() == [("linear", "2.0.0")]

    def test_delete_missing_raises(self, store: RegistryStore) -> None:
        """Neither another name nor another version is deleted."""
        store.save_flow(_linear())
        for name, version in (("other", "1.0.0"), ("linear", "9.0.0")):
            with pytest.raises(FlowNotFoundError) as caught:
                store.delete_flow(name, version)
            assert (caught.value.flow_name, caught.value.version) == (name, version)
        assert store.has_flow("linear", "1.0.0")

    def test_keys_are_independent(self, store: RegistryStore) -> None:
        """Name and version tell flows apart as a pair, whatever they have in common when put together."""
        for number, (name, version) in enumerate(_CLOSE_KEYS):
            assert not store.has_flow(name, version)
            store.save_flow(_linear(version, str(number), name))
        assert store.list_keys() == sorted(_CLOSE_KEYS)
        for number, (name, version) in enumerate(_CLOSE_KEYS):
            assert store.load_flow(name, version) == _linear(version, str(number), name)
            store.delete_flow(name, version)
            assert not store.has_flow(name, version)
            assert store.list_keys() == sorted(_CLOSE_KEYS[number + 1 :])


def _key(tool: str = "t", schema: str = "0123456789abcdef", value: str = "a" * 64) -> StepCacheKey:
    return StepCacheKey(tool_name=tool, schema_hash=schema, input_value_hash=value)


class StepCacheConformance:
    """What a `StepCache` has to do, blocking or awaited. Override the fixture `cache`."""

    @pytest.fixture
    def cache(self) -> StepCache:
        """A fresh, empty cache."""
        raise NotImplementedError("override the fixture 'cache' to give a fresh, empty StepCache")

    @_awaiting
    def test_miss_is_none(self, cache: StepCache) -> Steps:
        """Nothing is kept at first."""
        assert (yield cache.get(_key())) is None

    @_awaiting
    def test_set_then_get(self, cache: StepCache) -> Steps:
        """What was set is given back; an empty output is no miss."""
        yield cache.set(_key(), {"n": 1, "deep": {"items": ["a", None]}})
        yield cache.set(_key("empty"), {})
        assert (yield cache.get(_key())) == {"n": 1, "deep": {"items": ["a", None]}}
        assert (yield cache.get(_key("empty"))) == {}

    @_awaiting
    def test_get_returns_a_copy(self, cache: StepCache) -> Steps:
        """What is done to an output outside does not reach the cache."""
        output = {"n": 1}
        yield cache.set(_key(), output)
        output["n"] = 2
        found = yield cache.get(_key())
        assert found == {"n": 1}
        found["n"] = 3
        assert (yield cache.get(_key())) == {"n": 1}

    @_awaiting
    def test_overwrite(self, cache: StepCache) -> Steps:
        """The output that was set last counts, whole."""
        yield cache.set(_key(), {"n": 1, "old": True})
        yield cache.set(_key(), {"n": 2})
        assert (yield cache.get(_key())) == {"n": 2}

    @_awaiting
    def test_keys_are_independent(self, cache: StepCache) -> Steps:
        """Each of the three parts of a key tells outputs apart, whole, whatever they have in common when put together."""
        keys = [
            *(_key(), _key(tool="u"), _key(schema="f" * 16), _key(value="b" * 64)),
            *(_key(tool="T"), _key(schema="0123456789abcdee"), _key(value="a" * 63 + "b")),
            *(_key(tool="t0", schema="1"), _key(tool="t", schema="01")),
            *(_key(schema="0a", value="a"), _key(schema="0", value="aa")),
            *(_key("aa", "bb", "cc"), _key("cc", "bb", "aa"), _key("bb", "aa", "cc"), _key("aa", "cc", "bb")),
        ]
        for number, key in enumerate(keys):
            assert (yield cache.get(key)) is None
            yield cache.set(key, {"n": number})
        for number, key in enumerate(keys):
            assert (yield cache.get(key)) == {"n": number}

    @_awaiting
    def test_clear(self, cache: StepCache) -> Steps:
        """Nothing is left, and the cache can be used on."""
        yield cache.set(_key(), {"n": 1})
        yield cache.set(_key("u"), {"n": 2})
        yield cache.clear()
        assert (yield cache.get(_key())) is None
        assert (yield cache.get(_key("u"))) is None
        yield cache.set(_key(), {"n": 3})
        assert (yield cache.get(_key())) == {"n": 3}


def _record(number: int) -> StepRecord:
    return StepRecord(
        step_index=0,
        tool_name="t",
        inputs={"n": number},
        outputs={"n": number + 1},
        started_at=_NOW,
        ended_at=_NOW,
        duration_ms=1.5,
    )


def _snapshot(trace_id: str, steps: int = 1) -> ExecutionSnapshot:
    return ExecutionSnapshot(
        trace_id=trace_id,
        flow_name="linear",
        flow_version="1.0.0",
        initial_input={"n": 0},
        started_at=_NOW,
        context={"n": steps, "word": "ü"},
        execution_log=[_record(number) for number in range(steps)],
        completed_steps=steps,
        tool_schema_hashes={"t": "0123456789abcdef"},
    )


class CheckpointerConformance:
    """What a `Checkpointer` has to do, blocking or awaited. Override the fixture `checkpointer`."""

    @pytest.fixture
    def checkpointer(self) -> Checkpointer:
        """A fresh, empty checkpointer."""
        raise NotImplementedError("override the fixture 'checkpointer' to give a fresh, empty Checkpointer")

    @_awaiting
    def test_load_missing_is_none(self, checkpointer: Checkpointer) -> Steps:
        """A run without a snapshot has none, also beside one that has."""
        assert (yield checkpointer.load("a")) is None
        yield checkpointer.save(_snapshot("a"))
        assert (yield checkpointer.load("b")) is None

    @_awaiting
    def test_round_trip(self, checkpointer: Checkpointer) -> Steps:
        """What was saved is loaded, records included."""
        yield checkpointer.save(_snapshot("a", 3))
        assert (yield checkpointer.load("a")) == _snapshot("a", 3)

    @_awaiting
    def test_overwrite(self, checkpointer: Checkpointer) -> Steps:
        """The snapshot that was saved last counts, and is the only one of its run."""
        yield checkpointer.save(_snapshot("a", 1))
        yield checkpointer.save(_snapshot("a", 2))
        assert (yield checkpointer.load("a")) == _snapshot("a", 2)
        assert (yield checkpointer.list_trace_ids()) == ["a"]

    @_awaiting
    def test_delete(self, checkpointer: Checkpointer) -> Steps:
        """Only the snapshot of the run that was named is gone."""
        yield checkpointer.save(_snapshot("a"))
        yield checkpointer.save(_snapshot("b"))
        yield checkpointer.delete("a")
        assert (yield checkpointer.load("a")) is None
        assert (yield checkpointer.load("b")) == _snapshot("b")

    @_awaiting
    def test_delete_missing_does_nothing(self, checkpointer: Checkpointer) -> Steps:
        """Deleting what is not there is no error."""
        yield checkpointer.save(_snapshot("a"))
        yield checkpointer.delete("b")
        assert (yield checkpointer.list_trace_ids()) == ["a"]

    @_awaiting
    def test_ids_are_listed(self, checkpointer: Checkpointer) -> Steps:
        """Every run that has a snapshot is listed once."""
        assert (yield checkpointer.list_trace_ids()) == []
        for trace_id in ("b", "a", "c", "a"):
            yield checkpointer.save(_snapshot(trace_id))
        yield checkpointer.delete("c")
        assert sorted((yield checkpointer.list_trace_ids())) == ["a", "b"]

    @_awaiting
    def test_ids_are_independent(self, checkpointer: Checkpointer) -> Steps:
        """An id that begins another one names its own snapshot alone."""
        for number, trace_id in enumerate(_CLOSE_IDS):
            assert (yield checkpointer.load(trace_id)) is None
            yield checkpointer.save(_snapshot(trace_id, number))
        for number, trace_id in enumerate(_CLOSE_IDS):
            assert (yield checkpointer.load(trace_id)) == _snapshot(trace_id, number)
            yield checkpointer.delete(trace_id)
            assert (yield checkpointer.load(trace_id)) is None
            assert sorted((yield checkpointer.list_trace_ids())) == sorted(_CLOSE_IDS[number + 1 :])


def _result(trace_id: str, number: int = 0) -> ExecutionResult:
    return ExecutionResult(
        flow_name="linear",
        flow_version="1.0.0",
        success=True,
        final_output={"n": number + 1},
        execution_log=[_record(number)],
        trace_id=trace_id,
        started_at=_NOW,
        ended_at=_NOW,
        total_duration_ms=2.5,
        initial_input={"n": number, "word": "ü"},
    )


class TraceStoreConformance:
    """What a `TraceStore` has to do. Override the fixture `trace_store`."""

    @pytest.fixture
    def trace_store(self) -> TraceStore:
        """A fresh, empty store."""
        raise NotImplementedError("override the fixture 'trace_store' to give a fresh, empty TraceStore")

    def test_load_missing_is_none(self, trace_store: TraceStore) -> None:
        """A run without a result has none, also beside one that has."""
        assert trace_store.load("a") is None
        trace_store.save(_result("a"))
        assert trace_store.load("b") is None

    def test_round_trip(self, trace_store: TraceStore) -> None:
        """What was saved is loaded, records included."""
        trace_store.save(_result("a"))
        assert trace_store.load("a") == _result("a")

    def test_overwrite_makes_the_newest(self, trace_store: TraceStore) -> None:
        """A result that is saved again takes the place of the one before it, behind the others."""
        for trace_id, number in (("a", 1), ("b", 2), ("a", 3)):
            trace_store.save(_result(trace_id, number))
        assert trace_store.load("a") == _result("a", 3)
        assert trace_store.list_trace_ids() == ["b", "a"]

    def test_ids_are_listed_oldest_first(self, trace_store: TraceStore) -> None:
        """Every result is listed, in the order of saving."""
        assert trace_store.list_trace_ids() == []
        for trace_id in ("c", "a", "b"):
            trace_store.save(_result(trace_id))
        assert trace_store.list_trace_ids() == ["c", "a", "b"]

    def test_delete(self, trace_store: TraceStore) -> None:
        """Only the result that was named is gone."""
        trace_store.save(_result("a"))
        trace_store.save(_result("b"))
        trace_store.delete("a")
        assert trace_store.load("a") is None
        assert trace_store.list_trace_ids() == ["b"]

    def test_delete_missing_does_nothing(self, trace_store: TraceStore) -> None:
        """Deleting what is not there is no error."""
        trace_store.save(_result("a"))
        trace_store.delete("b")
        assert trace_store.list_trace_ids() == ["a"]

    def test_ids_are_independent(self, trace_store: TraceStore) -> None:
        """An id that begins another one names its own result alone."""
        for number, trace_id in enumerate(_CLOSE_IDS):
            assert trace_store.load(trace_id) is None
            trace_store.save(_result(trace_id, number))
        for number, trace_id in enumerate(_CLOSE_IDS):
            assert trace_store.load(trace_id) == _result(trace_id, number)
            trace_store.delete(trace_id)
            assert trace_store.load(trace_id) is None
            assert trace_store.list_trace_ids() == _CLOSE_IDS[number + 1 :]
