"""What a tool is: its constructor, its fingerprints and what its limits mean. How it is called: test_tool_calls.py."""

import functools
import hashlib
import types
from typing import Any

import pytest
from pydantic import BaseModel, RootModel, ValidationError

import doubleweave as dw
from doubleweave import JsonSchema, SideEffectLevel, Tool, ToolSafetyContract
from doubleweave.tools import _is_async_callable  # type: ignore[attr-defined]  # its home in the contract
from executors_under_test import make_executor
from lanes_under_test import Anything, Case, Number, assert_same_on_both_lanes
from parity_scenarios import count_up, double, inc, linear, step


class Text(BaseModel):
    text: str


DOCUMENT = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
REQUIRED: dict[str, Any] = {
    "name": "t",
    "description": "d",
    "input_schema": Number,
    "output_schema": Number,
    "fn": inc,
}


def make(**options: Any) -> Tool:
    return Tool(**{**REQUIRED, **options})


# --- 1.1 constructor ------------------------------------------------------------------------------------------------


def test_the_required_arguments_are_kept_and_the_others_have_their_defaults() -> None:
    made = make()
    assert {key: getattr(made, key) for key in REQUIRED} == REQUIRED
    assert (made.timeout_seconds, made.max_output_size, made.schema_version) == (None, None, "0.0.0")
    assert (made.cacheable, made.safety, made.metadata, made.dry_run_fn) == (True, ToolSafetyContract(), {}, None)
    assert (made.safety_declared, made.supports_dry_run, made.is_async) == (False, False, False)


@pytest.mark.parametrize("name", ["", "with space", "a/b", "ümlaut", "'quoted'"])
def test_a_name_may_have_any_characters(name: str) -> None:
    assert make(name=name).name == name


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout_seconds", 1.5),
        ("max_output_size", 0),
        ("schema_version", "2.0.0"),
        ("safety", ToolSafetyContract(side_effects=SideEffectLevel.WRITE)),
        ("dry_run_fn", inc),
    ],
)
def test_an_optional_argument_is_kept(option: str, value: Any) -> None:
    assert getattr(make(**{option: value}), option) is value


@pytest.mark.parametrize("missing", REQUIRED)
def test_each_required_argument_is_required(missing: str) -> None:
    with pytest.raises(TypeError, match=missing):
        Tool(**{key: value for key, value in REQUIRED.items() if key != missing})


def test_arguments_are_keyword_only_and_known() -> None:
    with pytest.raises(TypeError, match="positional"):
        Tool(*REQUIRED.values())  # type: ignore[call-arg]  # what is refused
    with pytest.raises(TypeError, match="colour"):
        make(colour="red")


def test_metadata_is_a_shallow_copy() -> None:
    given: dict[str, Any] = {"deep": []}
    made = make(metadata=given)
    given["late"] = 1
    assert made.metadata == {"deep": []}
    assert made.metadata["deep"] is given["deep"]


def test_metadata_is_never_read_by_the_executor() -> None:
    made = make()
    del made.metadata
    seen = assert_same_on_both_lanes(Case([linear(step("t"))], lambda: [made]))
    assert seen.result is not None
    assert seen.result.final_output == {"n": 2}


def test_t_1_t_5_attributes_are_writable_and_new_ones_may_be_attached() -> None:
    made: Any = make()
    made.timeout_seconds, made.description, made.note = 3.0, "other", ["mine"]
    assert (made.timeout_seconds, made.description, made.note) == (3.0, "other", ["mine"])
    assert not isinstance(made, BaseModel)
    with pytest.raises(AttributeError):
        made.safety_declared = True


@pytest.mark.parametrize("name", ["plain", "with 'quote'", "line\nbreak"])
def test_t_2_the_repr_shows_the_name(name: str) -> None:
    @dw.tool(name=name)
    def decorated(n: int) -> Number:
        return Number(n=n)

    plain = make(name=name)
    flow = linear(step(name), name="flow")
    streaming = dw.StreamingTool(
        name=name, description="", input_schema=Number, output_schema=Number, stream_fn=count_up
    )
    from_flow = Tool.from_flow(flow, make_executor([flow], [plain]), name=name)
    for made in (plain, decorated, streaming, from_flow):
        assert repr(made) == f"Tool(name={name!r})"


@pytest.mark.parametrize(
    ("cacheable", "contract", "expected"),
    [
        (None, None, True),
        (True, None, True),
        (False, None, False),
        (None, True, True),
        (None, False, False),
        (True, True, True),
        (False, False, False),
    ],
)
def test_t_3_t_5_cacheable_and_safety_are_reconciled(
    cacheable: bool | None, contract: bool | None, expected: bool
) -> None:
    safety = None if contract is None else ToolSafetyContract(cacheable=contract, idempotent=False)
    made = make(cacheable=cacheable, safety=safety)
    assert (made.cacheable, made.safety_declared) == (expected, safety is not None)
    assert made.safety == (safety or ToolSafetyContract(cacheable=expected))


@pytest.mark.parametrize("cacheable", [True, False])
def test_t_3_a_contradiction_is_refused(cacheable: bool) -> None:
    with pytest.raises(ValueError, match="conflicting cacheable") as caught:
        make(name="mixed", cacheable=cacheable, safety=ToolSafetyContract(cacheable=not cacheable))
    assert str(caught.value) == (
        f"Tool 'mixed' has conflicting cacheable settings: cacheable={cacheable}, safety.cacheable={not cacheable}. "
        "Give only one of them, or make them equal."
    )


def test_t_4_t_7_a_promised_dry_run_needs_its_function() -> None:
    promise = ToolSafetyContract(supports_dry_run=True)
    with pytest.raises(dw.ToolDefinitionError) as caught:
        make(safety=promise)
    assert caught.value.function_name == "t"
    assert caught.value.detail == "safety.supports_dry_run is True but no dry_run_fn was given"
    assert make(safety=promise, dry_run_fn=inc).supports_dry_run
    assert not make(dry_run_fn=inc).supports_dry_run


class AsyncCall:
    async def __call__(self, v: Any) -> dict[str, int]:
        return {"n": v.n}

    async def method(self, v: Any) -> dict[str, int]:
        return {"n": v.n}

    def plain(self, v: Any) -> dict[str, int]:
        return {"n": v.n}


def shadowed(inside: Any, call: Any) -> Any:
    """Return an object with a `__call__` of its own that its class does not have."""
    inside.__call__ = call
    return inside


class Answering:
    """Has an async function for whatever it is asked, unless that is looked up on its class."""

    def __getattr__(self, name: str) -> Any:
        return double

    def __call__(self, v: Any) -> dict[str, int]:
        raise AssertionError("the probe must not call")


class PlainCall:
    def __call__(self, v: Any) -> dict[str, int]:
        raise AssertionError("the probe must not call")


class StaticAsyncCall:
    @staticmethod
    async def __call__(v: Any) -> dict[str, int]:
        return {"n": v.n}


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (inc, False),
        (double, True),
        (functools.partial(inc), False),
        (functools.partial(double), True),
        (AsyncCall().method, True),
        (AsyncCall().plain, False),
        (AsyncCall(), True),
        (PlainCall(), False),
        (StaticAsyncCall(), True),
        (types.SimpleNamespace(__call__=double), True),
        (types.SimpleNamespace(__call__=inc), False),
        (shadowed(AsyncCall(), inc), False),
        (shadowed(PlainCall(), double), True),
        (Answering(), False),
    ],
)
def test_t_6_async_functions_and_objects_are_recognised_without_a_call(fn: Any, expected: bool) -> None:
    assert _is_async_callable(fn) is expected
    assert make(fn=fn).is_async is expected


def test_t_6_is_async_is_computed_once() -> None:
    made = make(fn=double)
    made.fn = inc
    assert made.is_async is True


# --- 1.2 fingerprints -----------------------------------------------------------------------------------------------

NUMBER_HASH = hashlib.sha256(
    b'{"properties":{"n":{"title":"N","type":"integer"}},"required":["n"],"title":"Number","type":"object"}'
).hexdigest()[:16]
TEXT_HASH = hashlib.sha256(
    b'{"properties":{"text":{"title":"Text","type":"string"}},"required":["text"],"title":"Text","type":"object"}'
).hexdigest()[:16]
DOCUMENT_HASH = hashlib.sha256(
    b'{"additionalProperties":false,"properties":{"n":{"type":"integer"}},"required":["n"],"type":"object"}'
).hexdigest()[:16]
FINGERPRINTS = ["input_schema_hash", "output_schema_hash", "schema_hash"]


@pytest.mark.parametrize("version", ["0.0.0", "1.é"])
@pytest.mark.parametrize(
    ("output", "output_hash"), [(Text, TEXT_HASH), (DOCUMENT, DOCUMENT_HASH), (JsonSchema(DOCUMENT), DOCUMENT_HASH)]
)
def test_t_9_the_fingerprints_are_fixed(output: Any, output_hash: str, version: str) -> None:
    made = make(output_schema=output, schema_version=version)
    written = version.encode("ascii", "backslashreplace").replace(rb"\xe9", rb"\u00e9").decode()
    text = f'["{NUMBER_HASH}","{output_hash}","{written}"]'
    assert [getattr(made, name) for name in FINGERPRINTS] == [
        NUMBER_HASH,
        output_hash,
        hashlib.sha256(text.encode()).hexdigest()[:16],
    ]


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_t_8_fingerprints_are_computed_on_first_access_and_kept(name: str) -> None:
    made = make()
    assert not set(FINGERPRINTS) & set(vars(made))
    first = getattr(made, name)
    assert vars(made)[name] is first
    assert getattr(made, name) is first


def test_t_9_the_schema_hash_depends_on_both_schemas_and_the_version_alone() -> None:
    same = [make(), make(name="x", description="x", fn=double, max_output_size=1, metadata={"a": 1}, cacheable=False)]
    others = [make(input_schema=Text), make(output_schema=Text), make(schema_version="1"), make(input_schema=DOCUMENT)]
    assert len({made.schema_hash for made in same}) == 1
    assert len({made.schema_hash for made in [*same, *others]}) == 5


# --- schemas given as JSON Schema documents --------------------------------------------------------------------------


@pytest.mark.parametrize("document", [DOCUMENT, types.MappingProxyType(DOCUMENT), JsonSchema(DOCUMENT)])
@pytest.mark.parametrize("side", ["input_schema", "output_schema"])
def test_a_schema_may_be_a_json_schema_document(side: str, document: Any) -> None:
    assert getattr(make(**{side: document}), side) == JsonSchema(DOCUMENT)


@pytest.mark.parametrize("side", ["input_schema", "output_schema"])
@pytest.mark.parametrize(
    ("schema", "detail"),
    [
        (dict, "must be a pydantic model class or a JSON Schema document, not <class 'dict'>"),
        (Number(n=1), "must be a pydantic model class or a JSON Schema document, not Number(n=1)"),
        (None, "must be a pydantic model class or a JSON Schema document, not None"),
        ("{}", "must be a pydantic model class or a JSON Schema document, not '{}'"),
    ],
)
def test_what_is_no_schema_is_refused(side: str, schema: Any, detail: str) -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        make(**{side: schema})
    assert (caught.value.function_name, caught.value.detail) == ("t", f"{side} {detail}")
    assert caught.value.code == "CW-E007"


@pytest.mark.parametrize("side", ["input_schema", "output_schema"])
def test_a_wrong_json_schema_document_is_refused_with_its_path(side: str) -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        make(**{side: {"properties": {"n": {"type": "whole number"}}}})
    cause = caught.value.__cause__
    assert isinstance(cause, dw.JsonSchemaDefinitionError)
    assert cause.path == "$.properties.n.type"
    assert (caught.value.function_name, caught.value.detail) == ("t", f"{side}: {cause}")


@pytest.mark.parametrize("side", ["input_schema", "output_schema"])
def test_a_schema_may_be_assigned_and_a_refused_one_leaves_the_old(side: str) -> None:
    made = make()
    with pytest.raises(dw.ToolDefinitionError):
        setattr(made, side, 5)
    assert getattr(made, side) is Number
    setattr(made, side, Anything)
    assert getattr(made, side) is Anything
    assert made.run({"n": 1}) == {"n": 2}


def echo(data: Any) -> Any:
    assert type(data) is dict
    return data


@pytest.mark.parametrize(
    ("options", "inputs", "error"),
    [
        ({"output_schema": DOCUMENT}, {"n": "1"}, None),
        ({"input_schema": DOCUMENT, "fn": echo}, {"n": 1}, None),
        (
            {"input_schema": DOCUMENT, "fn": echo},
            {"n": "1"},
            "Value does not match the JSON Schema of input of tool 't': $.n: '1' is not of type 'integer'",
        ),
        (
            {"input_schema": {}, "output_schema": DOCUMENT, "fn": echo},
            {"n": 1, "extra": 2},
            "Value does not match the JSON Schema of output of tool 't': "
            "$: Additional properties are not allowed ('extra' was unexpected)",
        ),
    ],
)
def test_a_json_schema_tool_in_a_flow_is_checked_the_same_on_both_lanes(
    options: dict[str, Any], inputs: dict[str, Any], error: str | None
) -> None:
    seen = assert_same_on_both_lanes(Case([linear(step("t"))], lambda: [make(**options)], inputs))
    assert seen.result is not None
    (record,) = seen.result.execution_log
    if error is None:
        expected = {"n": 1} if "input_schema" in options else {"n": 2}
        assert (record.outputs, record.error_type) == (expected, None)
    else:
        assert (record.error_type, record.error_code) == ("SchemaValidationError", "CW-E004")
        assert str(record.error_message).startswith(
            f"Schema validation failed for tool 't' at step 0: {error}\nStep 0 of"
        )


# --- T-11: output ---------------------------------------------------------------------------------------------------


class Both(Number):
    more: int = 0


class Numbers(RootModel[list[int]]):
    pass


@pytest.mark.parametrize(
    ("raw", "outputs"),
    [
        ({"n": "3"}, {"n": 3}),
        ({"n": 3, "dropped": object()}, {"n": 3}),
        (Number(n=3), {"n": 3}),
        (Both(n=3, more=4), {"n": 3}),
    ],
)
def test_t_11_the_output_is_the_dump_of_the_validated_model(raw: Any, outputs: Any) -> None:
    assert make(fn=lambda v: raw).run({"n": 0}) == outputs


@pytest.mark.parametrize("raw", [None, 5, "text", [("n", 1)], {}, {"n": "many"}])
def test_t_18_any_other_result_fails_in_output_validation(raw: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        make(fn=lambda v: raw).run({"n": 0})
    assert caught.value.title == "Number"


def test_an_output_schema_of_something_else_than_an_object_is_told() -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        make(output_schema=Numbers, fn=lambda v: [1]).run({"n": 0})
    assert caught.value.detail == (
        "its output schema describes a list, but a tool's output is an object with named fields"
    )


@pytest.mark.parametrize(
    ("raw", "size"),
    [
        ({"n": 1}, 8),
        ({"n": 1, "dropped": "é"}, 29),  # counted as é is written in JSON, \u00e9, and before keys are dropped
        ({"n": 1, "o": Ellipsis}, 25),  # what JSON does not know counts as its text
        ("no dict", 9),
    ],
)
def test_t_11_the_size_limit_is_checked_first_and_may_be_reached(raw: Any, size: int) -> None:
    with pytest.raises(dw.ToolOutputSizeError) as caught:
        make(fn=lambda v: raw, max_output_size=size - 1).run({"n": 0})
    assert (caught.value.tool_name, caught.value.size, caught.value.max_size) == ("t", size, size - 1)
    assert str(caught.value) == f"Tool 't' output size {size} exceeds max {size - 1}."
    within = make(fn=lambda v: raw, max_output_size=size)
    if isinstance(raw, dict):
        assert within.run({"n": 0}) == {"n": 1}
    else:
        with pytest.raises(ValidationError):
            within.run({"n": 0})


# --- run_dry --------------------------------------------------------------------------------------------------------


def test_run_dry_calls_the_other_function_and_validates_like_run() -> None:
    def preview(v: Number) -> dict[str, Any]:
        return {"n": str(v.n + 100), "dropped": 1}

    made = make(dry_run_fn=preview, max_output_size=26)
    assert made.run_dry({"n": "1"}) == {"n": 101}
    with pytest.raises(ValidationError):
        made.run_dry({"n": "one"})
    with pytest.raises(dw.ToolOutputSizeError):
        made.run_dry({"n": 1000})


def test_run_dry_without_its_function_is_refused() -> None:
    with pytest.raises(dw.ToolDefinitionError) as caught:
        make().run_dry({"n": 1})
    assert (caught.value.function_name, caught.value.detail) == (
        "t",
        "it has no dry_run_fn, so it cannot be run dry",
    )


def test_dev_3_a_dry_run_shows_the_preview_on_both_lanes() -> None:
    safety = ToolSafetyContract(side_effects=SideEffectLevel.WRITE, supports_dry_run=True)

    def made() -> list[Tool]:
        return [make(fn=PlainCall(), dry_run_fn=lambda v: {"n": v.n + 100}, safety=safety)]

    seen = assert_same_on_both_lanes(Case([linear(step("t"))], made, run=lambda: {"dry_run": True}))
    assert seen.result is not None
    assert (seen.result.dry_run, seen.result.final_output) == (True, {"n": 101})
    assert seen.result.execution_log[0].skipped is False
