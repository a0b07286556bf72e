"""Flow files: what is written comes back equal and runs the same, and what is malformed is refused in a fixed order."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import doubleweave as dw
from doubleweave import AnyFlow, DAGFlow, Flow, FlowStatus, FlowStep, RetryPolicy
from executors_under_test import execute, lanes, make_executor
from flow_files_under_test import DAG, FORMS, FULL, LINEAR, any_flows, forms, read, refusal, refused, text_forms
from lanes_under_test import Case, number_tool, observe
from random_flows import INNER, dag_flows, linear_flows, tools

slow = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)


def same(first: AnyFlow, second: AnyFlow) -> bool:
    return type(first) is type(second) and first == second and first.model_dump() == second.model_dump()


@forms
@slow
@given(flow=any_flows)
def test_fl_1_any_flow_comes_back_equal_field_by_field(form: str, flow: AnyFlow) -> None:
    write, reader = FORMS[form]
    assert same(reader(write(flow)), flow)


@forms
def test_fl_1_everything_survives(form: str) -> None:
    write, reader = FORMS[form]
    back = reader(write(FULL))
    assert same(back, FULL)
    assert back.status is FlowStatus.NEEDS_REVIEW
    assert back.dynamic_params == ("tenant",)
    assert back.governance.replaces_tools == ("x",)
    assert back.steps[0].retry == RetryPolicy(max_retries=1, jitter=True, retryable_errors=("no.such.module:Error",))


@pytest.mark.parametrize("lane", ["sync", "async"])
@pytest.mark.parametrize("form", ["json", "yaml"])
@slow
@given(flow=st.one_of(linear_flows(), dag_flows()), start=st.integers(0, 9))
def test_fl_1_any_flow_runs_to_the_same_result_before_and_after(
    form: str, lane: str, flow: AnyFlow, start: int
) -> None:
    write, reader = FORMS[form]
    before = observe(Case([flow, INNER], tools, {"n": start}), lane)
    after = observe(Case([reader(write(flow)), reader(write(INNER))], tools, {"n": start}), lane)
    assert before.comparable(True) == after.comparable(True)


def test_flow_to_dict_is_the_dump_of_the_model_with_type_and_format_version() -> None:
    for flow, kind in ((FULL, "DAGFlow"), (INNER, "Flow")):
        data = dw.flow_to_dict(flow)
        assert data == {"type": kind, "format_version": "1", **flow.model_dump(mode="json")}
        assert list(data)[:3] == ["type", "format_version", "name"]


def test_the_dict_shares_nothing_with_the_flow() -> None:
    flow = Flow(name="f", description="", steps=[FlowStep(tool_name="t", input_mapping={"x": [1]})])
    data = dw.flow_to_dict(flow)
    data["steps"][0]["input_mapping"]["x"].append(2)
    back = dw.flow_from_dict(data)
    data["steps"][0]["input_mapping"]["y"] = 3
    assert flow.steps[0].input_mapping == {"x": [1]}
    assert back.steps[0].input_mapping == {"x": [1, 2]}


def test_flow_to_json_has_sorted_keys_and_takes_an_indent() -> None:
    data = dw.flow_to_dict(FULL)
    assert dw.flow_to_json(FULL) == json.dumps(data, indent=2, sort_keys=True)
    assert dw.flow_to_json(FULL, indent=4) == json.dumps(data, indent=4, sort_keys=True)
    assert dw.flow_to_json(FULL, indent=None) == json.dumps(data, sort_keys=True)
    assert "\n" not in dw.flow_to_json(FULL, indent=None)


def test_fl_2_the_text_is_the_same_in_every_process() -> None:
    code = "from flow_files_under_test import *; import sys; sys.stdout.write(flow_to_json(FULL) + flow_to_yaml(FULL))"
    written = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert written == {dw.flow_to_json(FULL) + dw.flow_to_yaml(FULL)}


def test_fl_3_classes_are_written_as_refs() -> None:
    flow = Flow(
        name="f",
        description="",
        input_schema_ref=Flow.schema_ref_from(FlowStep),
        steps=[
            FlowStep(
                tool_name="t",
                input_contract=FlowStep.contract_ref_from(FlowStep),
                retry=RetryPolicy(retryable_errors=("builtins:OSError",)),
            )
        ],
    )
    data = dw.flow_to_dict(flow)
    assert data["input_schema_ref"] == data["steps"][0]["input_contract"] == "doubleweave.flow:FlowStep"
    assert data["steps"][0]["retry"]["retryable_errors"] == ["builtins:OSError"]
    assert "<class" not in dw.flow_to_yaml(flow)


@forms
def test_fl_4_no_module_is_imported_and_no_schema_ref_is_checked(form: str) -> None:
    module = "this_module_would_be_imported"
    refs = {f"{kind}_schema_ref": f"{module}:X" for kind in ("input", "output")}
    step = {"tool_name": "t", "input_contract": "no ref at all", "retry": {"retryable_errors": [f"{module}:X"]}}
    data = {**LINEAR, **refs, "context_schema_ref": "antigravity:fly", "steps": [step]}
    read(form, data)
    before = set(sys.modules)
    flow = read(form, data)
    assert set(sys.modules) == before
    assert (flow.input_schema_ref, flow.context_schema_ref) == (f"{module}:X", "antigravity:fly")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_f_6_the_methods_do_what_the_functions_do(form: str) -> None:
    write, _ = FORMS[form]
    for flow in (FULL, INNER):
        text = flow.to_json() if form == "json" else flow.to_yaml()
        assert text == write(flow)
        assert same(type(flow).from_json(text) if form == "json" else type(flow).from_yaml(text), flow)
    assert FULL.to_json(indent=None) == dw.flow_to_json(FULL, indent=None)


@pytest.mark.parametrize(("kind", "other"), [(Flow, FULL), (DAGFlow, INNER)])
def test_rj_2_f_6_the_methods_refuse_the_other_kind(kind: type[AnyFlow], other: AnyFlow) -> None:
    detail = f"Expected a {kind.__name__} payload but got {type(other).__name__}"
    for source in (None, "shop.flow.json"):
        assert refusal(kind.from_json, other.to_json(), source=source).detail == detail
        assert refusal(kind.from_yaml, other.to_yaml(), source=source).detail == detail


@pytest.mark.parametrize("name", ["flow_from_dict", "flow_from_json", "flow_from_yaml"])
def test_the_readers_take_a_source_and_limits(name: str) -> None:
    reader = getattr(dw, name)
    text = LINEAR if name == "flow_from_dict" else json.dumps(LINEAR)
    assert reader(text) == reader(text, source="s", limits=dw.FlowParseLimits.unlimited())
    assert refusal(reader, text, limits=dw.FlowParseLimits(max_depth=1)).source is None
    assert refusal(reader, text, source="s", limits=dw.FlowParseLimits(max_depth=1)).source == "s"


@text_forms
def test_ff_2_unknown_keys_are_passed_over_at_every_level(form: str) -> None:
    step = {"tool_name": "t", "x": 1, "retry": {"max_retries": 1, "x": 1}}
    flow = read(form, {**LINEAR, "x": {"y": 1}, "governance": {"x": 1}, "safety": {"x": 1}, "steps": [step]})
    assert flow == Flow(
        name="f",
        description="",
        safety=dw.ToolSafetyContract(),
        steps=[FlowStep(tool_name="t", retry=RetryPolicy(max_retries=1))],
    )
    assert "x" not in dw.flow_to_dict(flow)


@forms
@pytest.mark.parametrize("version", [None, "1", "1.5", "1.0.0", 1, 1.5])
def test_ff_3_a_format_version_of_this_major_is_read(form: str, version: Any) -> None:
    assert read(form, {**LINEAR, "format_version": version}) == read(form, LINEAR)


@forms
@pytest.mark.parametrize("version", ["2", "0", "999.0.0", "garbage", "", 2, 0, -1, True, [1], {"major": 1}, 10**4000])
def test_ff_3_order_9_another_format_version_is_refused(form: str, version: Any) -> None:
    error = refused(form, {**LINEAR, "format_version": version}, source="s")
    has_text = isinstance(version, str | bool) or version in (2, 0, -1)
    shown = repr(version) if has_text else f"of the type {type(version).__name__}"
    assert error.detail == f"Unsupported flow file format_version {shown}: this release reads 1.x"


@forms
@pytest.mark.parametrize(
    ("data", "key"),
    [
        *((LINEAR, key) for key in ("type", "name", "description", "steps")),
        *((DAG, key) for key in ("type", "name", "description", "steps", "version")),
    ],
)
def test_ff_4_the_required_keys(form: str, data: dict[str, Any], key: str) -> None:
    less = {name: value for name, value in data.items() if name != key}
    detail = (
        "Missing or invalid 'type' discriminator: $.type is None, and must be 'Flow' or 'DAGFlow'"
        if key == "type"
        else f"Validation failed while reconstructing {data['type']}: $.{key}: Field required"
    )
    assert refused(form, less).detail == detail
    read(form, data)


def test_ff_4_a_step_of_a_dag_needs_its_id() -> None:
    error = refusal(dw.flow_from_dict, {**DAG, "steps": [{"tool_name": "t"}]})
    assert error.detail == "Validation failed while reconstructing DAGFlow: $.steps[0].step_id: Field required"


def test_ff_4_what_is_left_out_has_its_default() -> None:
    flow = dw.flow_from_dict(LINEAR)
    assert same(flow, Flow(name="f", description="", steps=[FlowStep(tool_name="t")]))
    assert flow.version == "0.1.0"


@forms
def test_ff_5_types_are_those_of_pydantic(form: str) -> None:
    data = {**LINEAR, "status": "disabled", "deterministic": "no", "dynamic_params": ["a"], "steps": []}
    flow = read(form, data)
    assert (flow.status, flow.deterministic, flow.dynamic_params) == (FlowStatus.DISABLED, False, ("a",))
    error = refused(form, {**data, "name": 123, "version": 1})
    assert error.detail == (
        "Validation failed while reconstructing Flow: $.name: Input should be a valid string; "
        "$.version: Input should be a valid string"
    )


def test_ff_5_a_dict_may_hold_what_the_models_take() -> None:
    data = {**LINEAR, "status": FlowStatus.DISABLED, "dynamic_params": ("a",), "steps": (FlowStep(tool_name="t"),)}
    flow = dw.flow_from_dict(data)
    assert (flow.status, flow.dynamic_params, flow.steps) == (FlowStatus.DISABLED, ("a",), [FlowStep(tool_name="t")])


def test_ff_6_every_field_is_written_also_defaults_and_nulls() -> None:
    data = dw.flow_to_dict(Flow(name="f", description="", steps=[FlowStep(tool_name="t", retry=RetryPolicy())]))
    assert set(data) == {"type", "format_version", *Flow.model_fields}
    assert set(data["steps"][0]) == set(FlowStep.model_fields)
    assert set(data["steps"][0]["retry"]) == set(RetryPolicy.model_fields)
    assert data["governance"] == dw.FlowGovernance().model_dump(mode="json")
    assert (data["status"], data["safety"], data["dynamic_params"]) == ("active", None, [])
    full = dw.flow_to_dict(FULL)
    assert set(full["steps"][0]) == set(dw.DAGFlowStep.model_fields)
    assert set(full["safety"]) == set(dw.ToolSafetyContract.model_fields)
    assert full["steps"][0]["branches"] == [{"target_step_id": "b", "predicate": "n > 2"}]


@forms
def test_rj_4_f_1_d_2_versions_topology_tools_predicates_and_refs_are_checked_later(form: str) -> None:
    steps = [
        {"step_id": "a", "tool_name": "no such tool", "depends_on": ["a", "gone"], "branches": BRANCHES},
        {"step_id": "a", "tool_name": "t", "input_contract": "::"},
    ]
    flow = read(form, {**DAG, "version": "not a version", "steps": steps})
    with pytest.raises(dw.InvalidFlowVersionError):
        dw.FlowRegistry().register_flow(flow)
    with pytest.raises(dw.DAGDefinitionError):
        dw.FlowRegistry().register_flow(flow.model_copy(update={"version": "1"}))


BRANCHES = [{"target_step_id": "nowhere", "predicate": "import os"}]


@lanes
def test_tb_1_running_a_file_imports_what_its_refs_name_and_a_policy_restricts_it(
    lane: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"imported_by_a_run_on_the_{lane}_lane"
    (tmp_path / f"{module}.py").write_text("from pydantic import BaseModel\nclass Number(BaseModel):\n    n: int\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "f.flow.json"
    path.write_text(json.dumps({**LINEAR, "name": "main", "input_schema_ref": f"{module}:Number"}))
    executor = make_executor([dw.load_flow_file(path)], [number_tool("t", lambda v: {"n": v.n + 1})])
    assert module not in sys.modules
    with dw.schema_ref_policy(dw.SchemaRefAllowlist(["my_shop"])), pytest.raises(dw.SchemaRefPolicyError):
        execute(executor, lane)
    assert module not in sys.modules
    assert execute(executor, lane).final_output == {"n": 2}
    assert sys.modules.pop(module).Number


def test_tb_1_the_documentation_says_whom_one_trusts() -> None:
    page = " ".join((Path(__file__).parent.parent / "docs" / "files.md").read_text(encoding="utf-8").split())
    assert "**Running a flow file imports the modules that its refs name**" in page
    assert "`set_schema_ref_policy(" in page
    assert "`--schema-ref-allow`" in page
    assert "**Loading and validating a file imports nothing**" in page


def with_constant(value: Any) -> Flow:
    return Flow(
        name="f", description="", steps=[FlowStep(tool_name="t"), FlowStep(tool_name="t", input_mapping={"x": value})]
    )


ITSELF: list[Any] = []
ITSELF.append(ITSELF)


@forms
@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ((1, 2), "$.steps[1].input_mapping.x is a tuple, which JSON does not give back: use its JSON form"),
        ({"at": {1, 2}}, "$.steps[1].input_mapping.x.at is a set, which JSON does not give back: use its JSON form"),
        ([b"x"], "$.steps[1].input_mapping.x[0] is a bytes, which JSON does not give back: use its JSON form"),
        (FlowStep, "$.steps[1].input_mapping.x is a ModelMetaclass, which JSON does not give back: use its JSON form"),
        ({1: "x"}, "$.steps[1].input_mapping.x has the key 1; JSON keys are Unicode texts"),
        (float("nan"), "$.steps[1].input_mapping.x is nan, which is not a JSON number"),
        (float("-inf"), "$.steps[1].input_mapping.x is -inf, which is not a JSON number"),
        ([10**4300], "$.steps[1].input_mapping.x[0] is an integer of more than 4300 digits"),
        ("\ud800", "$.steps[1].input_mapping.x is no Unicode: it has half a surrogate pair"),
        ({"\udfff": 1}, "$.steps[1].input_mapping.x has the key '\\udfff'; JSON keys are Unicode texts"),
        (ITSELF, f"$.steps[1].input_mapping.x{'[0]' * 200} is nested too deeply to be written"),
    ],
)
def test_fl_1_a_constant_that_would_come_back_changed_is_not_written(form: str, value: Any, fault: str) -> None:
    with pytest.raises(dw.FlowSerializationError) as caught:
        FORMS[form][0](with_constant(value))
    assert caught.value.detail == f"Flow 'f' cannot be written: {fault}"


def test_fl_1_so_is_one_of_the_trigger_conditions_and_a_number_without_json_form() -> None:
    flow = Flow(name="f", description="", steps=[], trigger_conditions={"since": with_constant})
    with pytest.raises(dw.FlowSerializationError, match=r"\$\.trigger_conditions\.since is a function, which"):
        dw.flow_to_dict(flow)
    endless = FlowStep(tool_name="t", retry=RetryPolicy(backoff_seconds=float("inf")))
    with pytest.raises(dw.FlowSerializationError, match=r"\$\.steps\[0\]\.retry\.backoff_seconds is inf"):
        dw.flow_to_json(Flow(name="f", description="", steps=[endless]))


def test_fl_1_integers_up_to_what_can_be_read_again_are_written() -> None:
    for number in (10**4300 - 1, 1 - 10**4300):
        flow = with_constant(number)
        for write, reader in FORMS.values():
            assert reader(write(flow)) == flow


def test_a_flow_that_was_changed_into_what_its_checks_refuse_is_not_written() -> None:
    flow = with_constant(1)
    flow.steps[0].tool_name = None
    with pytest.raises(dw.FlowSerializationError, match=r"\$\.steps\[0\]: Value error, a step requires exactly one of"):
        dw.flow_to_json(flow)
    flow = with_constant(1)
    flow.deterministic = "perhaps"  # type: ignore[assignment]  # pydantic does not check assignments
    with pytest.raises(dw.FlowSerializationError, match="Flow 'f' cannot be written: Pydantic serializer warnings"):
        dw.flow_to_yaml(flow)


def test_what_is_no_flow_is_not_written_and_what_is_no_text_is_not_read() -> None:
    for write, _ in FORMS.values():
        with pytest.raises(TypeError, match=r"^a Flow or a DAGFlow is written, not \{\}$"):
            write({})  # type: ignore[arg-type]  # what is refused
    for form in ("json", "yaml"):
        with pytest.raises(TypeError, match=rf"^{form.upper()} is read from a text, not from bytes$"):
            FORMS[form][1](b"{}")


def test_control_characters_of_a_file_do_not_reach_the_terminal_through_an_error() -> None:
    error = refusal(
        dw.flow_from_dict, {**LINEAR, "steps": [{"tool_name": "\x1b[2J\u202e", "decision_candidates": ["t"]}]}
    )
    assert error.detail == (
        "Validation failed while reconstructing Flow: $.steps[0]: "
        "Value error, tool_name '\\x1b[2J\\u202e' must be a member of decision_candidates"
    )


def test_order_10_of_very_many_errors_the_first_are_listed() -> None:
    error = refusal(dw.flow_from_dict, {**LINEAR, "steps": [{"tool_name": 1}] * 100})
    cause = error.__cause__
    assert isinstance(cause, ValidationError)
    assert cause.error_count() == 100
    head = "Validation failed while reconstructing Flow: $.steps[0].tool_name: Input should be a valid string; "
    assert error.detail.startswith(head)
    assert error.detail.endswith("; and 80 more")
