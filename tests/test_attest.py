"""Attesting that a flow is deterministic: AT-1 to AT-6."""

import asyncio
import copy
import hashlib
import json
import pickle
import random
import re
from collections.abc import Callable
from datetime import date, datetime
from itertools import count
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError, field_validator

import doubleweave as dw
from attest_under_test import LANES, attested, each_lane, tool_of
from doubleweave import (
    AsyncFlowExecutor,
    AttestationInputError,
    AttestationReport,
    DoubleweaveError,
    Flow,
    FlowExecutor,
    FlowRegistry,
    Tool,
    attest,
    attest_flow,
    attest_flow_async,
)
from doubleweave.attest import UnsupportedAnnotation, generate_value
from lanes_under_test import Number, number_tool
from parity_scenarios import dag, inc, linear, node, step

NUMBER = "lanes_under_test:Number"


def counting_inputs(seen: list[Any]) -> Tool:
    def fn(value: Any) -> dict[str, int]:
        seen.append(value.n)
        return {"n": value.n + 1}

    return number_tool("t", fn, inline=True)


# --- AT-1 and AT-2 ----------------------------------------------------------------------------------------------------


@each_lane
@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"repeats": 1}, "repeats must be >= 2"),
        ({"repeats": 0, "n": 0}, "repeats must be >= 2"),
        ({"n": 0}, "n must be >= 1"),
        ({"n": -1}, "n must be >= 1"),
        ({"seed_inputs": []}, "n must be >= 1"),
    ],
)
def test_at_1_numbers_out_of_range_are_refused(lane: str, options: dict[str, Any], fragment: str) -> None:
    seen: list[Any] = []
    with pytest.raises(ValueError, match=fragment):
        attested(lane, linear(step("t"), input_schema_ref=NUMBER), [counting_inputs(seen)], **options)
    assert seen == []


@each_lane
def test_at_2_seed_inputs_are_copied_and_take_the_place_of_generated_ones(lane: str) -> None:
    inputs: list[dict[str, Any]] = [{"items": ["a"]}, {"items": ["b"]}]

    class Adding(dw.BaseMiddleware):
        def on_flow_start(self, ctx: dw.FlowStartContext) -> None:
            ctx.initial_input["items"].append("more")

    def size(value: Any) -> dict[str, Any]:
        inputs[0]["items"].append("outside")
        return {"size": len(value.items)}

    report = attested(
        lane, linear(step("t")), [tool_of(size)], n=0, seed=7, seed_inputs=iter(inputs), middleware=[Adding()]
    )
    assert (report.n, report.seed, report.observed_deterministic) == (2, -1, True)
    assert inputs == [{"items": ["a", *["outside"] * 4]}, {"items": ["b"]}]


class Rich(BaseModel):
    n: int
    word: str
    maybe: float | None
    kind: Literal["a", "b"]
    items: list[int]
    inner: Number
    has_default: bool = True


@each_lane
def test_at_2_inputs_are_generated_for_every_field_and_the_seed_decides(lane: str) -> None:
    runs: list[list[Any]] = []
    for seed in (1, 1, 2):
        seen: list[Any] = []
        flow = linear(step("t"), input_schema_ref="test_attest:Rich")

        def note(value: Any, seen: list[Any] = seen) -> dict[str, Any]:
            seen.append(value.model_dump())
            return {}

        report = attested(lane, flow, [tool_of(note)], n=5, repeats=2, seed=seed)
        assert (report.n, report.seed, report.observed_deterministic) == (5, seed, True)
        assert len(seen) == 10
        assert all(set(each) == set(Rich.model_fields) for each in seen)
        assert [Rich.model_validate(each).model_dump() for each in seen] == seen
        runs.append(seen)
    assert runs[0] == runs[1] != runs[2]


class Dated(BaseModel):
    n: int
    day: date


class Positive(BaseModel):
    n: Annotated[int, Field(ge=1000)]


class Refusing(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def refuse(cls, value: int) -> int:
        raise ValueError("never")


@each_lane
@pytest.mark.parametrize(
    ("ref", "field", "annotation"),
    [
        (None, "input_schema", "the flow has none"),
        ("test_attest:Dated", "day", "<class 'datetime.date'>"),
        ("test_attest:Positive", "n", "<class 'int'>: "),
        ("test_attest:Refusing", "n", "never"),
    ],
    ids=["no input schema", "no generator", "rejected", "rejected by a validator"],
)
def test_at_2_an_input_that_cannot_be_generated_is_named(
    lane: str, ref: str | None, field: str, annotation: str
) -> None:
    with pytest.raises(AttestationInputError) as caught:
        attested(lane, linear(step("t"), input_schema_ref=ref), [number_tool("t", inc)])
    assert caught.value.field_name == field
    assert annotation in caught.value.annotation_repr


def test_attestation_input_error_says_what_to_do() -> None:
    made = AttestationInputError("day", "<class 'datetime.date'>")
    for error in (made, pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (type(error), error.code) == (AttestationInputError, "CW-E039")
        assert (error.field_name, error.annotation_repr) == ("day", "<class 'datetime.date'>")
        assert str(error) == (
            "Cannot generate an input for the field 'day' (<class 'datetime.date'>); "
            "give inputs with seed_inputs=, on the command line with --seed-input."
        )
    assert AttestationInputError.__bases__ == (DoubleweaveError,)


# --- AT-3 and AT-4 ----------------------------------------------------------------------------------------------------


@each_lane
def test_at_3_each_input_runs_repeats_times_in_order(lane: str) -> None:
    seen: list[int] = []
    inputs = [{"n": 5}, {"n": 3}, {"n": 4}]
    report = attested(lane, linear(step("t")), [counting_inputs(seen)], repeats=3, seed_inputs=inputs)
    assert seen == [5, 5, 5, 3, 3, 3, 4, 4, 4]
    assert (report.observed_deterministic, report.divergences, report.repeats) == (True, [], 3)


@each_lane
def test_at_3_the_fingerprint_is_that_of_canonical_json(lane: str) -> None:
    outputs = {"z": {3, 1, 2}, "a": {"y": (1, 2), "x": date(2026, 1, 2)}, "s": frozenset({"b", "a"})}
    report = attested(lane, linear(step("t")), [tool_of(lambda value: outputs)], seed_inputs=[{}])
    text = '{"a":{"x":"2026-01-02","y":[1,2]},"s":["a","b"],"z":[1,2,3]}'
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    assert report.aggregate_fingerprint == hashlib.sha256(fingerprint.encode()).hexdigest()
    assert report.observed_deterministic


@each_lane
def test_at_4_inputs_whose_outputs_differ_are_listed_with_the_step(lane: str) -> None:
    numbers = count()

    def draw(value: Any) -> dict[str, Any]:
        return {"drawn": next(numbers) if value.n == 1 else 0}

    flow = linear(step("first"), step("draw"), step("last"))
    tools = [tool_of(lambda value: {"first": True}, "first"), tool_of(draw, "draw"), tool_of(lambda value: {}, "last")]
    report = attested(lane, flow, tools, repeats=4, seed_inputs=[{"n": 0}, {"n": 1}, {"n": 2}])
    assert not report.observed_deterministic
    assert report.divergences == [
        {
            "input_index": 1,
            "input_payload": {"n": 1},
            "diverging_step": 1,
            "error_message": "4 runs of the same input disagreed: 4 different outputs",
        }
    ]


@each_lane
def test_at_4_the_step_is_none_when_two_more_runs_agree(lane: str) -> None:
    numbers = iter([0, 1, 1, 1])
    report = attested(lane, linear(step("t")), [tool_of(lambda value: {"n": next(numbers)})], seed_inputs=[{}])
    (divergence,) = report.divergences
    assert "disagreed" in divergence["error_message"]
    assert divergence["diverging_step"] is None


@each_lane
def test_at_4_a_failed_run_is_listed_with_its_first_failed_record(lane: str) -> None:
    attempts = count()

    def fail_once(value: Any) -> dict[str, Any]:
        if next(attempts) == 1:
            raise OSError("away")
        return {}

    flow = linear(step("skipped", on_error="skip"), step("t"))
    tools = [tool_of(lambda value: {"n": 1 // 0}, "skipped"), tool_of(fail_once)]
    report = attested(lane, flow, tools, repeats=3, seed_inputs=[{}, {}])
    assert report.divergences == [
        {
            "input_index": 0,
            "input_payload": {},
            "diverging_step": 1,
            "error_message": "Execution error in tool 't' at step 1: away",
        }
    ]
    assert next(attempts) == 6


@each_lane
def test_at_4_a_run_that_raises_is_a_failed_one(lane: str) -> None:
    flow = linear(step("t", output_mapping={"a": "missing"}))
    report = attested(lane, flow, [tool_of(lambda value: {})], seed_inputs=[{}])
    (divergence,) = report.divergences
    assert divergence["diverging_step"] == 0
    assert "missing" in divergence["error_message"]
    assert not report.observed_deterministic


@each_lane
def test_at_4_an_error_from_before_a_run_is_raised(lane: str) -> None:
    flow = linear(step("t"), status=dw.FlowStatus.DISABLED)
    with pytest.raises(dw.FlowStatusError):
        attested(lane, flow, [number_tool("t", inc)], seed_inputs=[{}])


# --- AT-5 -------------------------------------------------------------------------------------------------------------

HEX = re.compile(r"[0-9a-f]{64}")


@each_lane
def test_at_5_the_report_says_what_was_attested_where_and_when(lane: str) -> None:
    flow = Flow(name="main", version="2.1", description="", steps=[step("t")], input_schema_ref=NUMBER)
    tools = [number_tool("t", inc), number_tool("unused", inc)]
    report = attested(lane, flow, tools, n=4, repeats=3, seed=9)
    assert (report.doubleweave_version, report.flow_name, report.flow_version) == (dw.__version__, "main", "2.1")
    assert (report.n, report.repeats, report.seed) == (4, 3, 9)
    assert report.tool_schema_hashes == {tool.name: tool.schema_hash for tool in tools}
    assert set(report.host_info) == {"python_version", "platform", "machine"}
    assert HEX.fullmatch(report.aggregate_fingerprint)
    assert HEX.fullmatch(report.flow_schema_fingerprint)
    started, ended = (datetime.fromisoformat(text) for text in (report.started_at_iso, report.ended_at_iso))
    assert started <= ended
    assert started.tzname() == ended.tzname() == "UTC"
    assert report.total_duration_ms > 0
    assert AttestationReport.model_validate_json(report.model_dump_json()) == report


@each_lane
def test_at_5_the_same_flow_tools_and_seed_give_the_same_fingerprint(lane: str) -> None:
    flow = linear(step("t"), input_schema_ref=NUMBER)

    def fingerprint(seed: int, fn: Callable[[Any], Any] = inc) -> str:
        return attested(lane, flow, [number_tool("t", fn)], n=5, seed=seed).aggregate_fingerprint

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)
    assert fingerprint(1) != fingerprint(1, lambda value: {"n": value.n + 2})


def test_at_5_every_lane_gives_the_same_report() -> None:
    flow = dag(node("a", "t"), node("b", "t", "a", source="a"), input_schema_ref=NUMBER)
    reports = [attested(lane, flow, [number_tool("t", inc)]) for lane in LANES]
    differing = {"started_at_iso", "ended_at_iso", "total_duration_ms"}
    first, *others = [report.model_dump(exclude=differing) for report in reports]
    assert all(other == first for other in others)


def test_at_5_the_aggregate_is_made_of_the_sorted_fingerprints() -> None:
    tool = tool_of(lambda value: {})
    inputs: list[dict[str, Any]] = [{"n": 2}, {"n": 1}]
    digests = sorted(hashlib.sha256(json.dumps(each, separators=(",", ":")).encode()).hexdigest() for each in inputs)
    expected = hashlib.sha256("|".join(digests).encode()).hexdigest()
    for order in (inputs, inputs[::-1]):
        report = attested("attest_flow", linear(step("t")), [tool], seed_inputs=order)
        assert report.aggregate_fingerprint == expected


def shape_of(flow: Any) -> str:
    return attested("attest_flow", flow, [number_tool("t", inc)], seed_inputs=[{"n": 1}]).flow_schema_fingerprint


def test_at_5_the_flow_fingerprint_depends_on_kind_name_version_and_steps() -> None:
    flows = [
        linear(step("t")),
        linear(step("t"), name="other"),
        linear(step("t"), version="2"),
        linear(step("t"), step("t")),
        linear(step("t", input_mapping={"n": "n"})),
        dag(node("a", "t", output_mapping=None)),
        dag(node("b", "t", output_mapping=None)),
        dag(node("a", "t", output_mapping=None), node("b", "t", output_mapping=None, on_error="skip", after="a")),
        dag(node("a", "t"), node("b", "t", source="n")),
    ]
    assert len({shape_of(flow) for flow in flows}) == len(flows)
    assert shape_of(linear(step("t"))) == shape_of(linear(step("t"), trigger_conditions={"x": 1}))


# --- AT-6 -------------------------------------------------------------------------------------------------------------

SUPPORTED: dict[str, Any] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "None": type(None),
    "list": list,
    "list of int": list[int],
    "dict": dict,
    "dict of lists": dict[str, list[bool]],
    "literal": Literal["a", 1, None],
    "optional": Optional[int],  # noqa: UP045  # the older spelling is to be understood too
    "union": Union[str, int],  # noqa: UP007  # the older spelling is to be understood too
    "new union": None | float | str,
    "annotated": Annotated[list[Annotated[int, "n"]], {"not": "hashable"}],
    "model": Rich,
    "list of models": list[Number],
}


@pytest.mark.parametrize("annotation", SUPPORTED.values(), ids=SUPPORTED)
@given(seed=st.integers(0, 2**32))
def test_at_6_values_fit_their_annotation_and_the_seed_decides(annotation: Any, seed: int) -> None:
    value = generate_value(annotation, random.Random(seed))
    TypeAdapter(annotation).validate_python(value, strict=annotation is not Rich)
    assert json.loads(json.dumps(value)) == value
    assert generate_value(annotation, random.Random(seed)) == value


def drawn(annotation: Any, number: int = 400) -> list[Any]:
    rng = random.Random(0)
    return [generate_value(annotation, rng) for _ in range(number)]


def test_at_6_bounds_of_what_is_drawn() -> None:
    assert all(-100 <= value <= 100 for value in drawn(int) + drawn(float))
    assert {type(value) for value in drawn(int)} == {int}
    assert {type(value) for value in drawn(float)} == {float}
    assert set(drawn(bool)) == {True, False}
    assert all(re.fullmatch("[a-z]{0,8}", value) for value in drawn(str))
    assert {len(value) for value in drawn(str)} == set(range(9))
    assert {len(value) for value in drawn(list[int])} == {0, 1, 2, 3}
    assert {len(value) for value in drawn(dict[str, int])} == {0, 1, 2}
    assert set(drawn(Literal["a", "b", 3])) == {"a", "b", 3}
    assert 0.2 < drawn(int | None, 2000).count(None) / 2000 < 0.3
    assert {type(value) for value in drawn(None | int | str)} == {int, type(None)}
    assert {type(value) for value in drawn(str | int)} == {str}


class Deep(BaseModel):
    below: "Deep | None" = None


def test_at_6_nothing_is_drawn_deeper_than_four_levels() -> None:
    rng = random.Random(0)
    assert [generate_value(int, rng, depth=depth) is None for depth in (4, 5, 6)] == [False, True, True]
    assert [generate_value(object, rng, depth=depth) for depth in (5,)] == [None]

    def depth_of(value: Any) -> int:
        return 0 if value is None else 1 + depth_of(value["below"])

    assert max(depth_of(value) for value in drawn(Deep)) == 5


@pytest.mark.parametrize("annotation", [date, tuple[int, ...], set[int], Any, object, Callable[[], int], bytes])
def test_at_6_other_annotations_are_refused(annotation: Any) -> None:
    with pytest.raises(UnsupportedAnnotation) as caught:
        generate_value(annotation, random.Random(0))
    assert caught.value.annotation_repr == repr(annotation)
    assert UnsupportedAnnotation.__bases__ == (Exception,)


def test_at_6_a_field_of_a_model_inside_is_named_by_the_field_outside() -> None:
    class Outer(BaseModel):
        first: int
        second: list[Dated]

    found = set()
    for seed in range(20):
        try:
            attest.values.generate_input(Outer, random.Random(seed))
        except AttestationInputError as error:
            found.add((error.field_name, error.annotation_repr))
    assert found == {("second", "<class 'datetime.date'>")}


# --- the two kinds of executor ----------------------------------------------------------------------------------------


def test_a_blocking_attestation_of_an_awaited_executor_says_what_to_do() -> None:
    flow = linear(step("t"))
    executor: Any = AsyncFlowExecutor(FlowRegistry())
    with pytest.raises(TypeError, match=r"use `await attest_flow_async\(\.\.\.\)`, or a FlowExecutor"):
        attest_flow(flow=flow, executor=executor, n=1, repeats=2, seed=0)


@each_lane
def test_the_executor_is_not_changed_and_the_version_is_that_of_the_flow(lane: str) -> None:
    middleware = dw.BaseMiddleware()
    registry = FlowRegistry()
    old = linear(step("t"), version="1.0", input_schema_ref=NUMBER)
    for flow in (old, linear(step("missing"), version="2.0")):
        registry.register_flow(flow)
    kind = AsyncFlowExecutor if lane == "AsyncFlowExecutor" else FlowExecutor
    executor: Any = kind(registry, middleware=[middleware])
    executor.register_tool(number_tool("t", inc))
    options: dict[str, Any] = {"flow": old, "executor": executor, "n": 2, "repeats": 2, "seed": 0}
    report = attest_flow(**options) if lane == "attest_flow" else asyncio.run(attest_flow_async(**options))
    assert report.observed_deterministic
    assert executor.middleware == (middleware,)
    assert list(executor.registered_tools) == ["t"]


def test_what_is_public() -> None:
    assert set(attest.__all__) - set(dw.__all__) == {"generate_value", "UnsupportedAnnotation"}
    report = attested("attest_flow", linear(step("t")), [number_tool("t", inc)], seed_inputs=[{"n": 1}])
    with pytest.raises(ValidationError, match="frozen"):
        report.n = 5  # type: ignore[misc]  # a report is frozen
