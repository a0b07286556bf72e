"""What is in a recording, in which order it is served, and how its files are read: RR-5 to RR-10."""

import asyncio
import copy
import inspect
import json
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import doubleweave as dw
from doubleweave import (
    DoubleweaveError,
    ExecutionResult,
    RedactionPolicy,
    RetryPolicy,
)
from doubleweave.testing import FixtureStaleError, FlowTestRunner, record_then_replay
from doubleweave.testing.replay import (
    RECORD_ENV_VAR,
    _canonical_key,
    _consume_recording,
    _load_fixture,
    _save_fixture,
)
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import number_tool
from parity_scenarios import dag, linear, node, step
from recordings_under_test import Backend, document, entry, kinds, recording, replaying, write


@pytest.fixture(autouse=True)
def _replaying_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    replaying(monkeypatch)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recorded.json"


# --- RR-5 and RR-6: recording and serving -----------------------------------------------------------------------------


def test_rr_5_the_file_is_written_in_call_order_into_new_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, backend = tmp_path / "deep" / "er" / "f.json", Backend()
    second_has_begun = asyncio.Event()

    async def slow(value: Any) -> dict[str, int]:
        await second_has_begun.wait()
        return {"n": 100}

    async def quick(value: Any) -> dict[str, int]:
        second_has_begun.set()
        return {"n": 200}

    flow = dag(node("a", "slow"), node("b", "quick"), node("c", "t", "a b", source="a"))
    tools = [number_tool("slow", slow), number_tool("quick", quick), number_tool("t", backend.plain)]
    recording(monkeypatch)

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(make_executor([flow], tools, max_step_concurrency=2), "async")

    assert run().success
    expected = [entry(1, 100, "slow"), entry(1, 200, "quick"), entry(100, 101)]
    assert document(path)["interactions"] == expected


@pytest.mark.parametrize("awaited", [False, True])
def test_rr_5_nothing_is_written_when_the_function_raises(
    awaited: bool, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("old")
    recording(monkeypatch)
    tool = Backend().tools()["plain"]

    @record_then_replay(path)
    def fail() -> None:
        tool.run({"n": 1})
        raise KeyError("mine")

    @record_then_replay(path)
    async def fail_awaited() -> None:
        await tool.run_async({"n": 1})
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(fail_awaited()) if awaited else fail()
    assert path.read_text() == "old"


@lanes
def test_rr_5_calls_that_fail_are_not_recorded(lane: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = iter([OSError("away"), OSError("away"), None])

    def flaky(value: Any) -> dict[str, int]:
        error = next(attempts)
        if error is not None:
            raise error
        return {"n": 5}

    executor = make_executor(
        [linear(step("t", retry=RetryPolicy(max_retries=2, backoff_seconds=0.0)))], [number_tool("t", flaky)]
    )

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(executor, lane)

    recording(monkeypatch)
    assert (run().execution_log[0].retry_count, document(path)["interactions"]) == (2, [entry(1, 5)])
    replaying(monkeypatch)
    result = run()
    assert (result.final_output, result.execution_log[0].retry_count) == ({"n": 5}, 0)


@pytest.mark.parametrize("how", ["run", "run_async"])
def test_rr_5_recordings_are_served_in_order_for_each_tool_and_input(how: str, path: Path) -> None:
    write(path, entry(1, 10), entry(2, 20), entry(1, 11), entry(1, 50, "u"), entry(2, 21))
    tools = {name: number_tool(name, Backend().plain) for name in "tu"}

    @record_then_replay(path)
    def ask(*calls: tuple[str, int]) -> list[int]:
        if how == "run":
            return [tools[name].run({"n": n})["n"] for name, n in calls]
        return [asyncio.run(tools[name].run_async({"n": n}))["n"] for name, n in calls]

    calls = (("t", 2), ("t", 1), ("u", 1), ("t", 1), ("t", 2))
    assert ask(*calls) == [20, 10, 50, 11, 21]
    assert ask(*reversed(calls)) == [20, 10, 50, 11, 21]


@given(st.lists(st.tuples(st.sampled_from("tu"), st.integers(0, 2), st.integers()), max_size=8), st.randoms())
def test_rr_5_any_order_of_calls_gets_each_answer_once_and_in_order(recorded: Any, rng: Any) -> None:
    interactions = [entry(n, out, tool) for tool, n, out in recorded]
    calls = [(tool, n) for tool, n, _ in recorded]
    rng.shuffle(calls)
    cursors: dict[tuple[str, str], int] = {}
    served: dict[tuple[str, int], list[int]] = {}
    for tool, n in calls:
        output = _consume_recording(
            interactions=interactions,
            cursor_by_key=cursors,
            tool_name=tool,
            attempted_input={"n": n},
            fixture_path="f",
        )
        served.setdefault((tool, n), []).append(output["n"])
    for key, outputs in served.items():
        assert outputs == [out for tool, n, out in recorded if (tool, n) == key]


def test_rr_5_what_is_done_to_an_answer_does_not_reach_the_next_replay(path: Path) -> None:
    write(path, {"tool_name": "t", "input": {}, "output": {"items": ["a"]}})
    interactions = _load_fixture(path)

    def take() -> Any:
        return _consume_recording(
            interactions=interactions, cursor_by_key={}, tool_name="t", attempted_input={}, fixture_path=path
        )

    take()["items"].append("b")
    assert take() == {"items": ["a"]}


def test_rr_5_calls_at_once_share_the_recording(path: Path) -> None:
    write(path, *(entry(1, out) for out in range(100)))
    barrier = threading.Barrier(5)

    def first(value: Any) -> Any:
        raise AssertionError("really called")

    served: list[int] = []

    def after(value: Any) -> None:
        barrier.wait(10)
        served.extend(tool.run({"n": 1})["n"] for _ in range(20))

    tool = number_tool("t", first)

    @record_then_replay(path)
    def ask() -> None:
        threads = [threading.Thread(target=after, args=(None,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ask()
    assert sorted(served) == list(range(100))


def stale(path: Path, *calls: int) -> FixtureStaleError:
    tool = number_tool("t", Backend().plain)

    @record_then_replay(path)
    def ask() -> None:
        for n in calls:
            tool.run({"n": n})

    with pytest.raises(FixtureStaleError) as caught:
        ask()
    return caught.value


def test_rr_6_a_call_without_a_recording_says_whether_there_ever_was_one(path: Path) -> None:
    write(path, entry(1, 10), entry(2, 20, "u"))
    assert "not in the recording" in stale(path, 7).detail
    assert "not in the recording" in stale(path, 2).detail
    used_up = stale(path, 1, 1)
    assert "no more recordings" in used_up.detail
    assert (used_up.tool_name, used_up.attempted_input, used_up.fixture_path) == ("t", {"n": 1}, path)


@lanes
@kinds
def test_rr_6_in_a_flow_it_is_a_failed_step(kind: str, lane: str, path: Path) -> None:
    write(path, entry(1, 2))
    backend = Backend()
    executor = make_executor([linear(step("t"), step("t"))], [backend.tools()[kind]])

    @record_then_replay(path)
    def run() -> ExecutionResult:
        return execute(executor, lane)

    result = run()
    assert [record.success for record in result.execution_log] == [True, False]
    message = result.execution_log[1].error_message
    assert message is not None
    assert "Fixture is stale for tool 't': this input is not in the recording" in message
    assert backend.calls == 0


def test_fixture_stale_error_says_what_to_do() -> None:
    made = FixtureStaleError(tool_name="t", fixture_path="a/b.json", attempted_input={"n": 1}, detail="it is gone")
    for error in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (type(error), error.code) == (FixtureStaleError, "CW-E040")
        assert (error.tool_name, error.fixture_path) == ("t", "a/b.json")
        assert (error.attempted_input, error.detail) == ({"n": 1}, "it is gone")
        assert str(error) == (
            "Fixture is stale for tool 't': it is gone; run again with DOUBLEWEAVE_RECORD=1 to record a/b.json anew."
        )
    assert FixtureStaleError.__bases__ == (DoubleweaveError,)
    assert dw.FixtureStaleError is FixtureStaleError
    with pytest.raises(TypeError):
        FixtureStaleError("t", "p", {}, "d")  # type: ignore[call-arg]  # keyword only


# --- RR-7 and RR-8: the file ------------------------------------------------------------------------------------------

SECRETS = {"tool_name": "t", "input": {"n": 1, "token": "abc"}, "output": {"n": 2, "deep": {"Password": "abc"}}}
MASK = "***REDACTED***"


def test_rr_7_a_plain_policy_masks_inputs_and_outputs_by_default(path: Path) -> None:
    _save_fixture(path, [SECRETS], None)
    assert _load_fixture(path) == [
        {"tool_name": "t", "input": {"n": 1, "token": MASK}, "output": {"n": 2, "deep": {"Password": MASK}}}
    ]


def test_rr_7_another_policy_takes_its_place(path: Path) -> None:
    _save_fixture(path, [SECRETS], RedactionPolicy(redact_keys=frozenset({"deep"})))
    assert _load_fixture(path) == [{**SECRETS, "output": {"n": 2, "deep": MASK}}]


@lanes
def test_rr_7_an_input_with_a_masked_key_is_not_found_again(
    lane: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(redaction: RedactionPolicy | None) -> ExecutionResult:
        runner = FlowTestRunner(linear(step("t")))
        runner.fake_tool("t", {"found": True})

        @record_then_replay(path, redaction=redaction)
        def ask() -> ExecutionResult:
            return execute(runner.executor, lane, {"token": "abc"})

        return ask()

    for redaction, success in ((None, False), (RedactionPolicy(redact_keys=frozenset()), True)):
        recording(monkeypatch)
        assert run(redaction).success
        replaying(monkeypatch)
        assert run(redaction).success is success


def test_rr_8_the_file_has_sorted_keys_an_indent_and_a_final_newline(path: Path) -> None:
    _save_fixture(path, [{"tool_name": "t", "output": {"b": 1, "a": "ü"}, "input": {}}], None)
    assert path.read_text(encoding="utf-8") == (
        "{\n"
        '  "interactions": [\n'
        "    {\n"
        '      "input": {},\n'
        '      "output": {\n'
        '        "a": "\\u00fc",\n'
        '        "b": 1\n'
        "      },\n"
        '      "tool_name": "t"\n'
        "    }\n"
        "  ],\n"
        '  "version": 1\n'
        "}\n"
    )


# The rows of the table of load failures, by their first cells.
MALFORMED: dict[str, tuple[Any, str]] = {
    "not an object": ([1], "expected an object"),
    "other version": ({"version": 2, "interactions": []}, "unsupported version"),
    "other version, true": ({"version": True, "interactions": []}, "unsupported version True, expected 1"),
    "other version, a float": ({"version": 1.0, "interactions": []}, "unsupported version 1.0, expected 1"),
    "other version, a text": ({"version": "1", "interactions": []}, "unsupported version '1', expected 1"),
    "no version": ({"interactions": []}, "unsupported version"),
    "interactions not a list": ({"version": 1, "interactions": {}}, "must be a list"),
    "no interactions": ({"version": 1}, "must be a list"),
    "entry not an object": ({"version": 1, "interactions": [entry(1, 2), 3]}, r"interactions\[1\] must be an object"),
    "entry lacks tool_name, input or output": ({"version": 1, "interactions": [{}]}, "missing key 'tool_name'"),
    "entry lacks input": ({"version": 1, "interactions": [{"tool_name": "t"}]}, "missing key 'input'"),
    "entry lacks output": ({"version": 1, "interactions": [{"tool_name": "t", "input": {}}]}, "missing key 'output'"),
    "tool_name not a string": ({"version": 1, "interactions": [{**entry(1, 2), "tool_name": 1}]}, "must be a string"),
    "input or output not objects": ({"version": 1, "interactions": [{**entry(1, 2), "input": []}]}, "must be objects"),
    "output not an object": ({"version": 1, "interactions": [{**entry(1, 2), "output": None}]}, "must be objects"),
}


@pytest.mark.parametrize(("content", "fragment"), MALFORMED.values(), ids=MALFORMED)
def test_rr_8_a_malformed_file_is_refused_before_anything_runs(content: Any, fragment: str, path: Path) -> None:
    path.write_text(json.dumps(content))
    ran: list[int] = []

    @record_then_replay(path)
    def run() -> None:
        ran.append(1)

    with pytest.raises(ValueError, match=fragment) as caught:
        run()
    assert str(path) in str(caught.value)
    assert RECORD_ENV_VAR in str(caught.value)
    assert ran == []


@pytest.mark.parametrize("opening", ["[", '{"version": '])
def test_rr_8_a_file_nested_too_deeply_is_refused(opening: str, path: Path) -> None:
    path.write_text(opening * 200_000)
    with pytest.raises(ValueError, match="nested too deeply") as caught:
        _load_fixture(path)
    assert str(caught.value) == f"{path}: nested too deeply; record it anew with {RECORD_ENV_VAR}=1"


@pytest.mark.parametrize("content", [b"{", b"", b"\xff"])
def test_rr_8_a_file_that_is_no_json_is_refused(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(str(path))):
        _load_fixture(path)


def test_file_missing_names_the_variable(path: Path) -> None:
    @record_then_replay(str(path))
    def run() -> None:
        raise AssertionError("there is nothing to run with")

    with pytest.raises(FileNotFoundError, match=RECORD_ENV_VAR):
        run()


# --- RR-9 and RR-10 ---------------------------------------------------------------------------------------------------


def test_rr_9_a_key_does_not_depend_on_the_order_of_keys_but_on_types() -> None:
    assert _canonical_key("t", {"a": 1, "b": {"c": 2, "d": 3}}) == _canonical_key("t", {"b": {"d": 3, "c": 2}, "a": 1})
    keys = [_canonical_key("t", {"a": value}) for value in (1, 1.0, True, "1", None, [1])]
    assert len(set(keys)) == 6
    assert _canonical_key("t", {}) != _canonical_key("u", {})
    assert all(isinstance(part, str) for part in _canonical_key("t", {}))


def test_rr_9_the_order_of_keys_does_not_matter_when_an_answer_is_looked_for() -> None:
    interactions = [
        {"tool_name": "t", "input": {"a": 1, "b": 2}, "output": {"n": 1}},
        {"tool_name": "t", "input": {"a": True, "b": 2}, "output": {"n": 2}},
    ]
    cursors: dict[tuple[str, str], int] = {}

    def take(attempted: dict[str, Any]) -> Any:
        return _consume_recording(
            interactions=interactions,
            cursor_by_key=cursors,
            tool_name="t",
            attempted_input=attempted,
            fixture_path="f",
        )

    assert take({"b": 2, "a": True}) == {"n": 2}
    assert take({"b": 2, "a": 1}) == {"n": 1}
    with pytest.raises(FixtureStaleError, match="no more recordings"):
        take({"a": 1, "b": 2})
    with pytest.raises(FixtureStaleError, match="not in the recording"):
        take({"a": 1.0, "b": 2})


def test_rr_10_one_session_at_a_time(path: Path) -> None:
    write(path, entry(1, 2))

    @record_then_replay(path)
    def ask() -> int:
        return 1

    @record_then_replay(path)
    def nested() -> None:
        ask()

    with pytest.raises(RuntimeError, match="one at a time"):
        nested()
    assert ask() == 1


async def test_rr_10_the_session_spans_the_awaits_of_an_async_function(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Backend()
    runner = FlowTestRunner(linear(step("t")))
    runner.passthrough_tool(backend.tools()["async"])

    @record_then_replay(path)
    async def ask() -> Any:
        """Ask."""
        await asyncio.sleep(0)
        first = (await runner.execute_async("main", {"n": 1})).final_output
        await asyncio.sleep(0)
        return first, runner.execute("main", {"n": 5}).final_output

    assert inspect.iscoroutinefunction(ask)
    assert ask.__doc__ == "Ask."
    recording(monkeypatch)
    assert await ask() == ({"n": 2}, {"n": 6})
    replaying(monkeypatch)
    assert await ask() == ({"n": 2}, {"n": 6})
    assert backend.calls == runner.calls_to("t") == 2


def test_the_wrapped_signature_is_kept(path: Path) -> None:
    write(path)

    @record_then_replay(path)
    def add(a: int, *, b: int = 2) -> int:
        """Add."""
        return a + b

    assert (add.__name__, add.__doc__, str(inspect.signature(add))) == ("add", "Add.", "(a: int, *, b: int = 2) -> int")
    assert (add(1), add(1, b=5)) == (3, 6)
