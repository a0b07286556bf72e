"""The wiring check: each issue type with its place, what a step sees, which classes fit, and that wiring never raises."""

from datetime import datetime
from typing import Annotated, Any, Literal, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, RootModel, computed_field

import doubleweave as dw
from doubleweave import (
    AnyFlow,
    CompilationError,
    CompilationResult,
    CompilationWarning,
    DAGFlow,
    DAGFlowStep,
    Flow,
    FlowStep,
    RetryPolicy,
    SideEffectLevel,
    Tool,
    ToolSafetyContract,
    compile_flow,
)
from executors_under_test import execute, lanes, make_executor

HERE = __name__
Issue = tuple[int, str, str, str | None]


class Start(BaseModel):
    amount: int
    note: str = ""


class Amount(BaseModel):
    amount: int


class Price(BaseModel):
    price: float


class Text(BaseModel):
    text: str


class Offer(BaseModel):
    amount: int
    price: float
    label: str = ""


class Whole(BaseModel):
    price: int
    extra: str


class Label(BaseModel):
    label: str = ""


class Nested(BaseModel):
    inner: Text


class Sized(BaseModel):
    amount: int

    @computed_field  # type: ignore[prop-decorator]  # mypy knows no decorated property
    @property
    def size(self) -> str:
        return "big"


def never(_: Any) -> dict[str, Any]:
    raise AssertionError("the check called a tool")


def tool(name: str, takes: Any, gives: Any, **options: Any) -> Tool:
    return Tool(name=name, description="", input_schema=takes, output_schema=gives, fn=never, **options)


def contract(**fields: Any) -> ToolSafetyContract:
    return ToolSafetyContract(**fields)


TOOLS = {
    each.name: each
    for each in (
        tool("price", Amount, Price),
        tool("offer", Offer, Offer),
        tool("whole", Amount, Whole),
        tool("say", Text, Text),
        tool("label", Label, Label),
        tool("nest", Amount, Nested),
        tool("sized", Amount, Sized),
        tool("both", Amount, Offer),
        tool("once", Amount, Price, safety=contract(safe_to_retry=False)),
        tool("sends", Amount, Price, safety=contract(idempotent=False, side_effects=SideEffectLevel.WRITE)),
        tool("reads", Amount, Price, safety=contract(idempotent=False, side_effects=SideEffectLevel.READ)),
    )
}


def step(tool_name: str, **fields: Any) -> FlowStep:
    return FlowStep(tool_name=tool_name, **fields)


def node(step_id: str, tool_name: str, *depends_on: str, **fields: Any) -> DAGFlowStep:
    return DAGFlowStep(step_id=step_id, tool_name=tool_name, depends_on=list(depends_on), **fields)


def linear(*steps: FlowStep, start: str | None = "Start", gives: str | None = None, **fields: Any) -> Flow:
    return Flow(name="f", description="", steps=list(steps), **refs(start, gives), **fields)


def dag(*steps: DAGFlowStep, start: str | None = "Start", gives: str | None = None, **fields: Any) -> DAGFlow:
    return DAGFlow(name="f", version="1", description="", steps=list(steps), **refs(start, gives), **fields)


def refs(start: str | None, gives: str | None) -> dict[str, Any]:
    named = {"input_schema_ref": start, "output_schema_ref": gives}
    return {key: name and f"{HERE}:{name}" for key, name in named.items()}


def errors(flow: AnyFlow, tools: dict[str, Tool] | None = None) -> list[Issue]:
    """Return the errors that are found, each as index, tool, issue type and field."""
    return [as_tuple(each) for each in compile_flow(flow, TOOLS if tools is None else tools).errors]


def issues(flow: AnyFlow, tools: dict[str, Tool] | None = None) -> list[Issue]:
    """Return the errors that are found, then the warnings."""
    warnings = compile_flow(flow, TOOLS if tools is None else tools).warnings
    return errors(flow, tools) + [as_tuple(each) for each in warnings]


def as_tuple(found: CompilationError | CompilationWarning) -> Issue:
    return found.step_index, found.tool_name, found.issue_type, found.field_name


# --- The table of issue types ---------------------------------------------------------------------------------------

ERRORS: list[tuple[str, AnyFlow, list[Issue]]] = [
    ("missing_tool", linear(step("gone", on_error="fallback:gone too", retry=RetryPolicy())), [
        (0, "gone", "missing_tool", None),
    ]),
    ("missing_fallback_tool", linear(step("price", on_error="fallback:gone")), [
        (0, "gone", "missing_fallback_tool", None),
    ]),
    ("unknown_target_key", linear(step("price", input_mapping={"amount": "amount", "other": "note"})), [
        (0, "price", "unknown_target_key", "other"),
    ]),
    ("unknown_target_key of a literal", linear(step("price", input_mapping={"amount": 1, "other": 2})), [
        (0, "price", "unknown_target_key", "other"),
    ]),
    ("missing_mapping_key", linear(step("price", input_mapping={"amount": "gone"})), [
        (0, "price", "missing_mapping_key", "gone"),
    ]),
    ("missing_mapping_key of a pointer", linear(step("price", input_mapping={"amount": "/go~1ne/amount"})), [
        (0, "price", "missing_mapping_key", "/go~1ne/amount"),
    ]),
    ("type_mismatch", linear(step("price", input_mapping={"amount": "note"})), [(0, "price", "type_mismatch", "amount")]),
    ("missing_required_input", linear(step("offer", input_mapping={"label": "note"})), [
        (0, "offer", "missing_required_input", "amount"), (0, "offer", "missing_required_input", "price"),
    ]),
    ("missing_required_input in the context", linear(step("offer")), [
        (0, "offer", "missing_required_input", "price"),
    ]),
    ("fallback_unknown_target_key", linear(step("price", on_error="fallback:label", input_mapping={"amount": 1})), [
        (0, "label", "fallback_unknown_target_key", "amount"),
    ]),
    ("fallback_type_mismatch", linear(
        step("label", on_error="fallback:takes_label", input_mapping={"label": "note"}, output_mapping={}),
    ), [(0, "takes_label", "fallback_type_mismatch", "label")]),
    ("fallback_missing_required_input", linear(step("label", on_error="fallback:offer")), [
        (0, "offer", "fallback_missing_required_input", "price"),
    ]),
    ("fallback_missing_required_input of the mapping", linear(
        step("label", on_error="fallback:offer", input_mapping={"label": "note"})
    ), [
        (0, "offer", "fallback_missing_required_input", "amount"),
        (0, "offer", "fallback_missing_required_input", "price"),
    ]),
    ("fallback_output_missing_mapped_key", linear(step("both", on_error="fallback:price", output_mapping={"l": "label"})), [
        (0, "price", "fallback_output_missing_mapped_key", "label"),
    ]),
    ("unknown_output_key", linear(step("price", output_mapping={"a": "gone", "b": "price", "c": "gone"})), [
        (0, "price", "unknown_output_key", "gone"),
    ]),
    ("output_schema_gap", linear(step("price"), gives="Offer"), [(1, "f", "output_schema_gap", "label")]),
    ("output_schema_gap of a flow without steps", linear(gives="Price"), [(0, "f", "output_schema_gap", "price")]),
    ("output_type_mismatch", linear(step("price"), gives="Priced"), [(1, "f", "output_type_mismatch", "price")]),
]  # fmt: skip
WARNINGS: list[tuple[str, AnyFlow, list[Issue]]] = [
    ("unsafe_retry", linear(step("once", retry=RetryPolicy())), [(0, "once", "unsafe_retry", None)]),
    ("unsafe_retry of what is not idempotent", linear(step("sends", retry=RetryPolicy())), [
        (0, "sends", "unsafe_retry", None),
    ]),
    ("shadowed_key", linear(step("label", input_mapping={"label": "note"}), step("say", input_mapping={"text": "note"}),
                            step("offer", input_mapping={"amount": "amount", "price": 1, "label": "note"},
                                 output_mapping={})), [(2, "offer", "shadowed_key", "label")]),
    ("fallback_output_type_mismatch", linear(step("price", on_error="fallback:text_price")), [
        (0, "text_price", "fallback_output_type_mismatch", "price"),
    ]),
    ("fallback_output_type_mismatch of a mapped output", linear(
        step("both", on_error="fallback:text_price", output_mapping={"p": "price"})
    ), [(0, "text_price", "fallback_output_type_mismatch", "price")]),
    ("fallback_output_shape_divergence", linear(step("both", on_error="fallback:price"), on_context_collision="overwrite"), [
        (0, "price", "fallback_output_shape_divergence", "amount"),
        (0, "price", "fallback_output_shape_divergence", "label"),
    ]),
    ("context_collision", linear(step("both"), start="Amount"), [(0, "both", "context_collision", "amount")]),
    ("context_collision of a mapped key", linear(step("price", output_mapping={"note": "price"})), [
        (0, "price", "context_collision", "note"),
    ]),
    ("context_collision under the policy error", linear(step("both"), start="Amount", on_context_collision="error"), [
        (0, "both", "context_collision", "amount"),
    ]),
]  # fmt: skip


class Priced(BaseModel):
    price: str


class TakesLabel(BaseModel):
    label: int


TOOLS |= {each.name: each for each in (tool("takes_label", TakesLabel, Label), tool("text_price", Amount, Priced))}


@pytest.mark.parametrize(("flow", "expected"), [row[1:] for row in ERRORS], ids=[row[0] for row in ERRORS])
def test_an_error_is_found(flow: AnyFlow, expected: list[Issue]) -> None:
    result = compile_flow(flow, TOOLS)
    assert (result.success, errors(flow)) == (False, expected)
    assert isinstance(result.errors[0], CompilationError)


@pytest.mark.parametrize(("flow", "expected"), [row[1:] for row in WARNINGS], ids=[row[0] for row in WARNINGS])
def test_a_warning_is_found(flow: AnyFlow, expected: list[Issue]) -> None:
    assert issues(flow) == expected
    result = compile_flow(flow, TOOLS)
    assert (result.success, result.errors) == (True, [])
    assert isinstance(result.warnings[0], CompilationWarning)


def test_each_issue_type_is_of_one_kind() -> None:
    error_types = {issue_type for _, flow, _ in ERRORS for _, _, issue_type, _ in errors(flow)}
    assert len(error_types) == 13
    assert error_types == {name for name, _, _ in ERRORS if " " not in name}
    assert {name for name, _, _ in WARNINGS if " " not in name} == WARNING_TYPES


WARNING_TYPES = {
    *("unsafe_retry", "shadowed_key", "context_collision"),
    *("fallback_output_type_mismatch", "fallback_output_shape_divergence"),
}


def test_a_flow_whose_wiring_fits_has_nothing() -> None:
    flow = linear(
        step("price", retry=RetryPolicy(), on_error="fallback:price"),
        step("say", input_mapping={"text": "note"}, output_mapping={"said": "text"}),
        step("offer", input_mapping={"amount": 1, "price": "price", "label": "said"}, output_mapping={}),
        gives="Price",
    )
    assert compile_flow(flow, TOOLS) == CompilationResult(True, [], [])
    assert CompilationResult(True) == CompilationResult(True, [], [])


def test_what_is_found_says_what_to_look_at() -> None:
    flow = linear(step("price", input_mapping={"amount": "note"}), step("say", input_mapping={"text": "gone"}))
    assert [each.detail for each in compile_flow(flow, TOOLS).errors] == [
        "Input 'amount' of tool 'price' is int, but 'note' is str.",
        "Input 'text' is read from 'gone', which no step before this one writes.",
    ]


@pytest.mark.parametrize("retry", [None, RetryPolicy(max_retries=0)])
def test_without_a_second_call_no_retry_is_unsafe(retry: RetryPolicy | None) -> None:
    assert issues(linear(step("once", retry=retry))) == []


def test_a_tool_that_only_reads_may_be_retried() -> None:
    assert issues(linear(step("reads", retry=RetryPolicy()))) == []


def test_a_fallback_is_compared_in_what_is_mapped_only() -> None:
    mapped = step("both", on_error="fallback:price", output_mapping={"p": "price"})
    assert issues(linear(mapped)) == []
    wider = linear(step("price", on_error="fallback:both"))
    assert issues(wider) == []


# --- L-1: what a step sees ------------------------------------------------------------------------------------------


def test_l_1_a_linear_flow_grows_in_list_order() -> None:
    early = linear(step("offer", output_mapping={}), step("price"))
    assert issues(early) == [(0, "offer", "missing_required_input", "price")]
    assert issues(linear(step("price"), step("offer", output_mapping={}))) == []


def test_l_1_without_an_input_schema_the_context_starts_empty() -> None:
    assert issues(linear(step("price"), start=None)) == [(0, "price", "missing_required_input", "amount")]
    assert issues(linear(step("price", input_mapping={"amount": "amount"}), start=None)) == [
        (0, "price", "missing_mapping_key", "amount")
    ]


def test_l_1_a_dag_step_sees_its_transitive_ancestors_only() -> None:
    reads = {"amount": 1, "price": "price"}
    last = node("last", "offer", "middle", input_mapping=reads, output_mapping={})
    middle = node("middle", "say", "first", input_mapping={"text": "note"})
    first = node("first", "price")
    assert issues(dag(last, middle, first)) == []
    apart = node("middle", "say", input_mapping={"text": "note"})
    assert issues(dag(last, apart, first)) == [(0, "offer", "missing_mapping_key", "price")]


def test_l_1_siblings_do_not_see_each_other_but_the_output_sees_all() -> None:
    flow = dag(node("a", "price"), node("b", "price"), gives="Price")
    assert issues(flow) == []
    assert issues(dag(node("a", "price"), node("b", "price", "a"))) == [(1, "price", "context_collision", "price")]


def test_l_1_of_two_ancestors_the_later_level_decides_on_the_type() -> None:
    early = node("early", "price")
    late = node("late", "text_price", "early", on_error="fail")
    last = node("last", "say", "late", "early", input_mapping={"text": "price"})
    flow = dag(last, late, early, on_context_collision="overwrite")
    assert issues(flow) == []
    turned = [node("early", "text_price"), node("late", "price", "early"), last]
    assert issues(dag(*turned, on_context_collision="overwrite")) == [(2, "say", "type_mismatch", "text")]


def test_l_1_a_cycle_falls_back_to_list_order() -> None:
    reads = {"amount": 1, "price": "price"}
    first, last = node("a", "price", "b"), node("b", "offer", "a", input_mapping=reads, output_mapping={})
    assert issues(dag(first, last)) == []
    assert issues(dag(last, first)) == [(0, "offer", "missing_mapping_key", "price")]
    alone = node("a", "offer", "a", input_mapping={"amount": 1, "price": "label"}, output_mapping={"label": "label"})
    assert issues(dag(alone)) == [(0, "offer", "missing_mapping_key", "label")]


def test_l_1_unknown_dependencies_are_skipped() -> None:
    assert issues(dag(node("a", "price", "gone"))) == []


# --- L-2: what is skipped -------------------------------------------------------------------------------------------


def test_l_2_sub_flows_and_capabilities_are_skipped_and_contribute_nothing() -> None:
    sub = FlowStep(flow_name="gone", input_mapping={"x": "gone"}, output_mapping={"price": "price"})
    reads = step("offer", input_mapping={"amount": 1, "price": "price"}, output_mapping={})
    assert issues(linear(sub, reads)) == [(1, "offer", "missing_mapping_key", "price")]
    capability = node("a", "gone", step_type="capability", capability_id="c", output_mapping={"price": "price"})
    inside = DAGFlowStep(step_id="b", depends_on=["a"], **reads.model_dump())
    assert issues(dag(capability, inside)) == [(1, "offer", "missing_mapping_key", "price")]


# --- L-3: types -----------------------------------------------------------------------------------------------------


def between(source: Any, target: Any) -> list[Issue]:
    """Return what is found when a value of one type is mapped to a field of another."""
    gives, takes = (pydantic_model(annotation) for annotation in (source, target))
    tools = {each.name: each for each in (tool("gives", Label, gives), tool("takes", takes, Label))}
    flow = linear(step("gives"), step("takes", input_mapping={"value": "value"}), start=None)
    return issues(flow, tools)


def pydantic_model(annotation: Any) -> type[BaseModel]:
    settings = {"arbitrary_types_allowed": True}
    return type("Made", (BaseModel,), {"__annotations__": {"value": annotation}, "model_config": settings})


class Child(Text):
    pass


@pytest.mark.parametrize(
    ("source", "target", "fits"),
    [
        (int, int, True),
        (int, float, True),
        (int, complex, True),
        (float, complex, True),
        (float, int, False),
        (complex, float, False),
        (bool, int, False),
        (int, bool, False),
        (str, bytes, False),
        (Text, Text, True),
        (Child, Text, False),
        (int, object, False),
        (datetime, str, False),
        (Optional[int], int, True),  # noqa: UP045  # the other way to write it
        (int | None, float, True),
        (None | str, int, False),
        (int | str, bytes, True),
        (bytes, Union[int, str, None], True),  # noqa: UP007  # the other way to write it
        (list[int], list[str], True),
        (list[int], list, True),
        (list[int] | None, dict[str, int], False),
        (dict[str, int], list, False),
        (Annotated[int, Field(ge=0)], str, False),
        (Literal["a"], int, True),
        (Any, int, True),
        (int, Any, True),
    ],
)
def test_l_3_types_fit_when_they_are_one_class_unknown_or_wider_numbers(source: Any, target: Any, fits: bool) -> None:
    expected = [] if fits else [(1, "takes", "type_mismatch", "value")]
    assert between(source, target) == expected


# --- L-4: contributions ---------------------------------------------------------------------------------------------


def test_l_4_a_step_contributes_its_outputs_or_the_mapped_ones_with_their_types() -> None:
    whole = linear(step("price"), step("say", input_mapping={"text": "price"}))
    assert issues(whole) == [(1, "say", "type_mismatch", "text")]
    mapped = linear(step("price", output_mapping={"p": "price"}), step("say", input_mapping={"text": "p"}))
    assert issues(mapped) == [(1, "say", "type_mismatch", "text")]
    left = linear(step("price", output_mapping={"p": "price"}), step("say", input_mapping={"text": "price"}))
    assert issues(left) == [(1, "say", "missing_mapping_key", "price")]
    nothing = linear(step("price", output_mapping={}), step("say", input_mapping={"text": "price"}))
    assert issues(nothing) == [(1, "say", "missing_mapping_key", "price")]


def test_l_4_outputs_that_a_model_computes_are_contributed() -> None:
    flow = linear(step("sized", output_mapping={"size": "size"}), step("say", input_mapping={"text": "size"}))
    assert issues(flow) == []


def test_l_4_outputs_that_a_model_keeps_to_itself_are_not() -> None:
    class Secretive(BaseModel):
        amount: int
        key: str = Field(default="", exclude=True)

    flow = linear(step("secret"), step("say", input_mapping={"text": "key"}))
    tools = {**TOOLS, "secret": tool("secret", Amount, Secretive)}
    found = [(each.issue_type, each.field_name) for each in compile_flow(flow, tools).errors]
    assert found == [("missing_mapping_key", "key")]


@pytest.mark.parametrize("tool_name", ["gone", "price"])
def test_a_mapped_key_whose_output_is_not_there_is_reported_once(tool_name: str) -> None:
    flow = linear(step(tool_name, output_mapping={"x": "lost"}), step("say", input_mapping={"text": "x"}))
    assert [each.step_index for each in compile_flow(flow, TOOLS).errors] == [0]


# --- L-5 and L-6 ----------------------------------------------------------------------------------------------------


def test_l_5_pointers_and_literals_are_not_type_checked() -> None:
    mapping = {"amount": "/note", "price": [1], "label": {"no": "text"}}
    assert issues(linear(step("offer", input_mapping=mapping, output_mapping={}))) == []
    deep = linear(step("nest"), step("say", input_mapping={"text": "/inner/nowhere"}))
    assert issues(deep) == []


@pytest.mark.parametrize("field", ["input_schema_ref", "output_schema_ref"])
def test_l_6_a_schema_ref_that_does_not_resolve_is_raised(field: str) -> None:
    flow = linear(step("price"))
    with pytest.raises(dw.FlowSerializationError, match="Cannot import module"):
        compile_flow(flow.model_copy(update={field: "nowhere:Model"}), TOOLS)
    with dw.schema_ref_policy(dw.SchemaRefAllowlist([])), pytest.raises(dw.SchemaRefPolicyError):
        compile_flow(flow.model_copy(update={field: f"{HERE}:Price"}), TOOLS)


# --- Tools with JSON Schemas ----------------------------------------------------------------------------------------

CLOSED = {"type": "object", "additionalProperties": False}
DOCUMENT = {"properties": {"amount": {"type": "integer"}, "note": {"type": ["string", "null"]}}, "required": ["amount"]}
DOCUMENTS = {
    "closed": tool("closed", CLOSED | DOCUMENT, CLOSED | DOCUMENT),
    "open": tool("open", DOCUMENT, DOCUMENT),
    "loose": tool("loose", {"properties": {"amount": {}, "note": True}}, {"properties": {"amount": {"type": "array"}}}),
    **TOOLS,
}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([step("closed", input_mapping={"amount": "note", "other": 1})], [
            (0, "closed", "type_mismatch", "amount"), (0, "closed", "unknown_target_key", "other"),
        ]),
        ([step("closed", input_mapping={"note": "note"})], [(0, "closed", "missing_required_input", "amount")]),
        ([step("closed", output_mapping={"x": "gone"})], [(0, "closed", "unknown_output_key", "gone")]),
        ([step("open", input_mapping={"amount": 1, "other": 2}, output_mapping={"x": "y"}),
          step("say", input_mapping={"text": "x"})], []),
        ([step("price", on_error="fallback:open")], []),
        ([step("price", on_error="fallback:closed")], [(0, "closed", "fallback_output_shape_divergence", "price")]),
        ([step("closed", output_mapping={"n": "note"}), step("price", input_mapping={"amount": "n"})], [
            (1, "price", "type_mismatch", "amount"),
        ]),
        ([step("loose", input_mapping={"amount": "note", "note": "amount"}), step("say", input_mapping={"text": "amount"})],
         []),
    ],
)  # fmt: skip
def test_a_json_schema_has_its_properties_as_fields(steps: list[FlowStep], expected: list[Issue]) -> None:
    found = issues(linear(*steps, on_context_collision="overwrite"), DOCUMENTS)
    assert [each for each in found if each[2] != "shadowed_key"] == expected


def test_a_root_model_takes_and_gives_any_key() -> None:
    root = RootModel[dict[str, int]]
    tools = {"root": tool("root", root, root), **TOOLS}
    flow = linear(
        step("root", input_mapping={"any": "amount"}, output_mapping={"x": "any"}),
        step("price", input_mapping={"amount": "x"}),
    )
    assert errors(flow, tools) == []


def test_a_model_that_allows_more_has_its_fields_only() -> None:
    class More(BaseModel):
        model_config = ConfigDict(extra="allow")

    tools = {"more": tool("more", More, More)}
    assert issues(linear(step("more", input_mapping={"x": 1}), start=None), tools) == [
        (0, "more", "unknown_target_key", "x")
    ]


# --- What it says is what happens, and it never raises --------------------------------------------------------------


@lanes
def test_an_error_is_where_the_run_fails(lane: str) -> None:
    work = Tool(name="price", description="", input_schema=Amount, output_schema=Price, fn=lambda _: {"price": 1.5})
    flow = linear(step("price"), step("say", input_mapping={"text": "price"}))
    executor = make_executor([flow], [work, TOOLS["say"]])
    error = compile_flow(flow, executor.registered_tools).errors[0]
    record = execute(executor, lane, {"amount": 1, "note": ""}, name="f").execution_log[-1]
    assert (error.step_index, error.tool_name) == (record.step_index, record.tool_name)
    assert record.error_type == "SchemaValidationError"


names = st.sampled_from([*DOCUMENTS, "gone"])
keys = st.sampled_from(["amount", "note", "price", "text", "label", "gone", "", "x"])
sources = st.one_of(keys, keys.map("/{}".format), st.just("/"), st.text(max_size=5), st.integers(), st.none())
ids = st.sampled_from("abcd")
wiring = st.fixed_dictionaries(
    {
        "input_mapping": st.dictionaries(keys, sources, max_size=3),
        "output_mapping": st.none() | st.dictionaries(keys, keys, max_size=3),
        "on_error": st.sampled_from(["fail", "skip"]) | names.map("fallback:{}".format),
        "retry": st.none() | st.just(RetryPolicy()),
    }
)
targets = st.one_of(
    st.fixed_dictionaries({"tool_name": names}),
    st.just({"flow_name": "gone"}),
)
links = st.fixed_dictionaries({"step_id": ids, "depends_on": st.lists(ids | st.just("gone"), max_size=3)})
any_refs = st.sampled_from([refs("Start", None), refs(None, "Offer"), refs("Offer", "Start")])
linear_steps = st.lists(st.builds(lambda a, b: FlowStep(**a, **b), wiring, targets), max_size=5)
dag_steps = st.lists(st.builds(lambda a, b, c: DAGFlowStep(**a, **b, **c), wiring, targets, links), max_size=6)
policies = st.sampled_from(["overwrite", "warn", "error"])
wrong_flows = st.one_of(
    st.builds(lambda s, r, p: Flow(name="f", description="", steps=s, on_context_collision=p, **r),
              linear_steps, any_refs, policies),
    st.builds(lambda s, r, p: DAGFlow(name="f", version="1", description="", steps=s, on_context_collision=p, **r),
              dag_steps, any_refs, policies),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(wrong_flows)
def test_wiring_of_any_kind_is_returned_and_never_raised(flow: AnyFlow) -> None:
    before = flow.model_dump()
    result = compile_flow(flow, DOCUMENTS)
    assert result.success is not bool(result.errors)
    assert {each.issue_type for each in result.warnings} <= WARNING_TYPES
    assert not {each.issue_type for each in result.errors} & WARNING_TYPES
    found: list[CompilationError | CompilationWarning] = [*result.errors, *result.warnings]
    assert all(0 <= each.step_index <= len(flow.steps) for each in found)
    known = {*DOCUMENTS, "gone", flow.name}
    assert all(each.tool_name in known and each.detail.endswith(".") for each in found)
    gone = [index for index, each in enumerate(flow.steps) if each.tool_name == "gone"]
    assert [each.step_index for each in result.errors if each.issue_type == "missing_tool"] == gone
    assert (compile_flow(flow, DOCUMENTS), flow.model_dump()) == (result, before)
