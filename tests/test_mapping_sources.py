"""What a step's `input_mapping` and `output_mapping` read and write: keys, pointers and literal values."""

import copy
from typing import Any

import pytest
from pydantic import BaseModel

import doubleweave as dw
from doubleweave import Tool
from doubleweave.models import pointers
from doubleweave.models.pointers import PointerResolutionError, resolve_pointer
from executors_under_test import execute, lanes, make_executor
from lanes_under_test import Anything, Case, Number, Seen, assert_same_on_both_lanes, number_tool
from parity_scenarios import dag, double, inc, linear, node, step

CONTEXT: dict[str, Any] = {
    "n": 1,
    "a": {"b": [10, {"c": None}], "x/y": 5},
    "a/b": "flat with a slash",
    "a.b": "flat with a dot",
    "/raw": "starts with a slash",
    "": "empty key",
    "text": "7",
    "none": None,
}


class Holder(BaseModel):
    value: Any


def keep(v: Any) -> dict[str, Any]:
    return {"kept": v.value}


def tools() -> list[Tool]:
    return [
        Tool(name="keep", description="", input_schema=Holder, output_schema=Anything, fn=keep),
        number_tool("inc", inc),
        number_tool("double", double),
    ]


def kept(source: Any) -> Seen:
    """Run a step whose input `value` has a source, on a linear flow and in a DAG, which show the same."""
    mapping = {"value": source}
    runs = [
        assert_same_on_both_lanes(Case([flow], tools, copy.deepcopy(CONTEXT)))
        for flow in (
            linear(step("keep", input_mapping=mapping)),
            dag(node("a", "keep", input_mapping=mapping, output_mapping=None)),
        )
    ]
    first, second = (seen.result for seen in runs)
    assert first is not None
    assert second is not None
    assert first.final_output == second.final_output
    return runs[0]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("a", {"b": [10, {"c": None}], "x/y": 5}),
        ("a/b", "flat with a slash"),
        ("a.b", "flat with a dot"),
        ("", "empty key"),
        ("/a/b/0", 10),
        ("/a/b/1", {"c": None}),
        ("/a/x~1y", 5),
        ("/", "empty key"),
        ("/~1raw", "starts with a slash"),
    ],
)
def test_jp_1_jp_2_a_source_is_a_pointer_exactly_when_it_starts_with_a_slash(source: str, value: Any) -> None:
    seen = kept(source)
    assert seen.result is not None
    assert seen.result.execution_log[0].inputs == {"value": value}
    assert seen.result.final_output == {**CONTEXT, "kept": value}


@pytest.mark.parametrize("literal", [5, 2.5, True, None, ["/a/b/0", "n"], {"k": "/a"}, ("n",)], ids=repr)
def test_s_6_any_other_type_is_a_literal_value(literal: Any) -> None:
    seen = kept(literal)
    assert seen.result is not None
    assert seen.result.execution_log[0].outputs == {"kept": literal}


# --- JP-3, JP-4: values that pointers do not enter ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    ["text", 5, None, (1, 2), Number(n=1), {1, 2}],
    ids=lambda document: f"anything else (str, int, None, tuple, model): {type(document).__name__}",
)
def test_jp_3_anything_else_than_dicts_and_lists_is_not_entered(document: Any) -> None:
    for token in ("0", "n", ""):
        with pytest.raises(PointerResolutionError) as caught:
            resolve_pointer({"x": document}, f"/x/{token}/further")
        assert (caught.value.pointer, caught.value.failed_at) == (f"/x/{token}/further", f"/x/{token}")
        assert caught.value.detail == f"cannot descend into {type(document).__name__}"


def test_jp_4_the_error_of_a_pointer_is_private() -> None:
    assert "PointerResolutionError" not in dw.__all__
    assert not issubclass(PointerResolutionError, dw.DoubleweaveError)
    with pytest.raises(PointerResolutionError, match="must start with '/'"):
        resolve_pointer(CONTEXT, "a/b")


# --- in a step --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "key", "detail"),
    [
        ("gone", "gone", None),
        ("a/b/0", "a/b/0", None),
        ("raw", "raw", None),
        ("/gone", "/gone", "key 'gone' not found"),
        ("/gone/b/c", "/gone", "key 'gone' not found"),
        ("/a/b/2/c", "/a/b/2", "list index 2 is out of range for list of length 2"),
        ("/a/b/-", "/a/b/-", "list index '-' is not an integer"),
        ("/a/z~1z/b", "/a/z/z", "key 'z/z' not found"),
        ("/text/0", "/text/0", "cannot descend into str"),
    ],
)
@lanes
def test_jp_5_a_miss_is_an_input_mapping_error_that_names_where_it_failed(
    lane: str, source: str, key: str, detail: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    def note(v: Any) -> dict[str, Any]:
        calls.append(v)
        return {}

    note_tool = Tool(name="note", description="", input_schema=Holder, output_schema=Anything, fn=note)
    raised: list[dw.InputMappingError] = []
    original = dw.InputMappingError.__init__

    def noted(self: dw.InputMappingError, *args: Any, **hint: Any) -> None:
        original(self, *args, **hint)
        raised.append(self)

    monkeypatch.setattr(dw.InputMappingError, "__init__", noted)
    flow = linear(step("keep", input_mapping={"value": "n"}), step("note", input_mapping={"value": source}))
    result = execute(make_executor([flow], [*tools(), note_tool]), lane, CONTEXT)
    record = result.execution_log[1]
    assert (record.error_type, record.error_code, record.inputs) == ("InputMappingError", "CW-E005", {})
    assert str(record.error_message).startswith(f"Input mapping key '{key}' not found for tool 'note' at step 1. ")
    assert (result.success, calls) == (False, [])
    (error,) = raised
    assert (error.tool_name, error.step_index, error.key) == ("note", 1, key)
    cause = error.__cause__
    assert isinstance(cause, PointerResolutionError) is (detail is not None)
    if isinstance(cause, PointerResolutionError):
        assert (cause.pointer, cause.failed_at, cause.detail) == (source, key, detail)


class Marker:
    """A value with an identity."""


@lanes
def test_jp_6_a_value_is_passed_as_it_is_and_may_be_coerced_by_the_tool_s_input(lane: str) -> None:
    received: list[Any] = []
    marker = Marker()

    def note(v: Any) -> dict[str, Any]:
        received.append(v.value)
        return {}

    note_tool = Tool(name="note", description="", input_schema=Holder, output_schema=Anything, fn=note)
    flow = linear(
        step("note", input_mapping={"value": "/deep/0/marker"}),
        step("inc", input_mapping={"n": "/deep/1"}),
    )
    context = {"deep": [{"marker": marker}, "41"]}
    result = execute(make_executor([flow], [*tools(), note_tool]), lane, context)
    assert received[0] is marker
    assert result.execution_log[1].inputs == {"n": "41"}
    assert result.execution_log[1].outputs == {"n": 42}


@pytest.mark.parametrize("source", ["none", "/none", "/a/b/1/c"])
def test_jp_7_none_is_a_value_like_any_other(source: str) -> None:
    seen = kept(source)
    assert seen.result is not None
    assert seen.result.success
    assert seen.result.execution_log[0].outputs == {"kept": None}


def test_jp_8_an_output_mapping_takes_plain_names() -> None:
    """A slash at the start means nothing there, neither in the key that is written nor in the one that is read."""

    def slashed(v: Any) -> dict[str, Any]:
        return {"/out": v.n, "deep": {"x": 5}}

    def made() -> list[Tool]:
        return [Tool(name="slashed", description="", input_schema=Number, output_schema=Anything, fn=slashed)]

    seen = assert_same_on_both_lanes(Case([linear(step("slashed", output_mapping={"/in": "/out"}))], made))
    assert seen.result is not None
    assert seen.result.final_output == {"n": 1, "/in": 1}
    seen = assert_same_on_both_lanes(Case([linear(step("slashed", output_mapping={"x": "/deep/x"}))], made))
    assert isinstance(seen.error, dw.OutputMappingError)
    assert (seen.error.output_key, sorted(seen.error.available)) == ("/deep/x", ["/out", "deep"])


def test_jp_8_a_predicate_takes_plain_names_and_subscripts() -> None:
    context = {"a": {"b": 1}, "/a/b": 2}
    assert dw.evaluate_predicate("a['b'] == 1", context) is True
    assert dw.evaluate_predicate("'/a/b' == 2", context) is False
    with pytest.raises(dw.PredicateSyntaxError, match="syntax error"):
        dw.evaluate_predicate("/a/b == 1", context)


def test_jp_9_the_names_of_the_module() -> None:
    names = ["is_pointer", "parse_pointer", "resolve_pointer", "PointerResolutionError", "POINTER_PREFIX"]
    assert [name for name in names if not hasattr(pointers, name)] == []
    assert pointers.POINTER_PREFIX == "/"


@lanes
@pytest.mark.parametrize("mapping", [{"b": "gone_b", "a": "gone_a"}, {"b": "/gone_b", "a": "/gone_a", "n": 1}])
def test_of_several_missing_sources_the_same_is_told_whatever_the_order_of_the_mapping(
    lane: str, mapping: dict[str, Any]
) -> None:
    told = []
    for each in (mapping, dict(reversed(mapping.items()))):
        result = execute(make_executor([linear(step("inc", input_mapping=each))], tools()), lane)
        told.append(result.execution_log[0].error_message)
    source = mapping["a"]
    assert told[0] == told[1]
    assert told[0] is not None
    assert told[0].startswith(
        f"Input mapping key '{source}' not found for tool 'inc' at step 0. Flow 'main' maps it to field 'a'"
    )


@lanes
def test_of_several_missing_outputs_the_same_is_told_whatever_the_order_of_the_mapping(lane: str) -> None:
    for mapping in ({"y": "gone_y", "x": "gone_x"}, {"x": "gone_x", "y": "gone_y"}):
        executor = make_executor([linear(step("inc", output_mapping=mapping))], tools())
        with pytest.raises(dw.OutputMappingError, match="gone_x"):
            execute(executor, lane)
