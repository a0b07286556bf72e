import copy
import importlib
import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

import doubleweave.flow
from doubleweave.errors import FlowSerializationError, SchemaRefPolicyError
from doubleweave.flow import (
    ConditionalEdge,
    DAGFlow,
    DAGFlowStep,
    DriftInfo,
    Flow,
    FlowGovernance,
    FlowLifecycle,
    FlowStatus,
    FlowStep,
    RetryPolicy,
    SchemaRefAllowlist,
    schema_ref_policy,
)
from doubleweave.models.contracts import DeterminismLevel, ToolSafetyContract
from doubleweave.models.step_index import FLOW_INPUT_STEP_INDEX, flow_output_step_index
from doubleweave.models.versions import (
    FLOW_FORMAT_VERSION,
    LEGACY_VERSION,
    SNAPSHOT_VERSION,
    TRACE_SCHEMA_VERSION,
    major,
    same_major,
)


class Schema(BaseModel):
    value: int

    class Inner(BaseModel):
        text: str


def linear(**fields: Any) -> Flow:
    return Flow.model_validate({"name": "f", "description": "d", "steps": [], **fields})


def dag(**fields: Any) -> DAGFlow:
    return DAGFlow.model_validate({"name": "f", "version": "1.0", "description": "d", "steps": [], **fields})


BOTH = pytest.mark.parametrize("make", [linear, dag])

DEFAULTS = {
    "deterministic": True,
    "status": FlowStatus.ACTIVE,
    "trigger_conditions": None,
    "input_schema_ref": None,
    "output_schema_ref": None,
    "context_schema_ref": None,
    "tool_schema_hashes": None,
    "capability_id": None,
    "governance": FlowGovernance(),
    "safety": None,
    "on_context_collision": "warn",
    "dynamic_params": (),
}


def test_statuses_are_texts() -> None:
    assert [(status.name, status.value) for status in FlowStatus] == [
        ("ACTIVE", "active"),
        ("NEEDS_REVIEW", "needs_review"),
        ("DISABLED", "disabled"),
    ]
    assert isinstance(FlowStatus.ACTIVE, str)


class TestFlows:
    @BOTH
    @pytest.mark.parametrize(("field", "value"), DEFAULTS.items())
    def test_have_defaults(self, make: Any, field: str, value: Any) -> None:
        assert getattr(make(), field) == value

    @pytest.mark.parametrize("cls", [Flow, DAGFlow])
    def test_have_their_fields_in_order(self, cls: type[BaseModel]) -> None:
        assert list(cls.model_fields) == ["name", "version", "description", "steps", *DEFAULTS]

    @pytest.mark.parametrize(
        ("cls", "required"),
        [(Flow, ["name", "description", "steps"]), (DAGFlow, ["name", "version", "description", "steps"])],
    )
    def test_require_what_has_no_default(self, cls: type[BaseModel], required: list[str]) -> None:
        with pytest.raises(ValidationError) as caught:
            cls.model_validate({})
        assert [error["loc"] for error in caught.value.errors()] == [(name,) for name in required]
        assert {error["type"] for error in caught.value.errors()} == {"missing"}

    def test_have_a_first_version_when_linear(self) -> None:
        assert linear().version == "0.1.0"

    @BOTH
    def test_f_1_may_have_no_steps(self, make: Any) -> None:
        assert make(steps=[]).steps == []
        registry = doubleweave.FlowRegistry()
        registry.register_flow(make(steps=[]))
        assert registry.get_flow("f").steps == []

    @BOTH
    def test_f_1_take_any_version_text(self, make: Any) -> None:
        assert make(version="not a version").version == "not a version"

    @BOTH
    def test_ignore_unknown_fields(self, make: Any) -> None:
        assert "colour" not in make(colour="blue").model_dump()

    @BOTH
    def test_can_be_changed(self, make: Any) -> None:
        flow = make()
        flow.status = FlowStatus.DISABLED
        flow.steps.append(DAGFlowStep(step_id="s", tool_name="t"))
        assert flow.model_dump(mode="json")["status"] == "disabled"
        assert flow.model_dump()["steps"][0]["tool_name"] == "t"

    @BOTH
    @pytest.mark.parametrize("policy", ["overwrite", "warn", "error"])
    def test_accept_each_collision_policy(self, make: Any, policy: str) -> None:
        assert make(on_context_collision=policy).on_context_collision == policy

    @BOTH
    @pytest.mark.parametrize(
        "fields", [{"on_context_collision": "ignore"}, {"status": "retired"}, {"name": 1}, {"steps": None}]
    )
    def test_reject_wrong_values(self, make: Any, fields: dict[str, Any]) -> None:
        with pytest.raises(ValidationError, match=next(iter(fields))):
            make(**fields)

    def test_d_2_do_not_check_the_topology(self) -> None:
        step = DAGFlowStep(step_id="a", tool_name="t", depends_on=["a", "nowhere"])
        assert dag(steps=[step, step]).steps == [step, step]

    def test_are_of_two_separate_kinds(self) -> None:
        assert not isinstance(dag(), Flow)
        assert not isinstance(linear(), DAGFlow)

    def test_keep_the_kind_of_their_steps(self) -> None:
        step = {"tool_name": "t", "step_id": "s"}
        assert type(linear(steps=[step]).steps[0]) is FlowStep
        assert type(dag(steps=[step]).steps[0]) is DAGFlowStep


class TestSchemaRefs:
    @pytest.mark.parametrize("cls", [Flow, DAGFlow])
    @pytest.mark.parametrize(("schema", "qualname"), [(Schema, "Schema"), (Schema.Inner, "Schema.Inner")])
    def test_f_2_name_a_class_by_module_and_qualname(self, cls: Any, schema: type[BaseModel], qualname: str) -> None:
        assert cls.schema_ref_from(schema) == f"{__name__}:{qualname}"

    @BOTH
    @pytest.mark.parametrize("name", ["input_schema", "output_schema", "context_schema"])
    def test_f_3_lead_to_their_class(self, make: Any, name: str) -> None:
        assert getattr(make(**{f"{name}_ref": f"{__name__}:Schema.Inner"}), name) is Schema.Inner

    @BOTH
    @pytest.mark.parametrize("name", ["input_schema", "output_schema", "context_schema"])
    def test_f_3_give_none_when_unset(self, make: Any, name: str) -> None:
        assert getattr(make(), name) is None

    @BOTH
    @pytest.mark.parametrize("name", ["input_schema", "output_schema", "context_schema"])
    def test_f_3_must_lead_to_a_model(self, make: Any, name: str) -> None:
        flow = make(**{f"{name}_ref": "builtins:int"})
        with pytest.raises(FlowSerializationError, match="not a subclass"):
            getattr(flow, name)

    @BOTH
    @pytest.mark.parametrize("name", ["input_schema", "output_schema", "context_schema"])
    def test_f_3_are_resolved_anew_on_every_access(self, make: Any, name: str) -> None:
        flow = make(**{f"{name}_ref": f"{__name__}:Schema"})
        assert getattr(flow, name) is Schema
        with schema_ref_policy(SchemaRefAllowlist([])), pytest.raises(SchemaRefPolicyError):
            getattr(flow, name)
        setattr(flow, f"{name}_ref", f"{__name__}:Schema.Inner")
        assert getattr(flow, name) is Schema.Inner

    @BOTH
    def test_f_1_are_not_imported_when_a_flow_is_made_or_loaded(
        self, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "flows_untouched_module.py").write_text("class X: ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        ref = "flows_untouched_module:X"
        flow = make(input_schema_ref=ref, output_schema_ref=ref, context_schema_ref=ref)
        type(flow).model_validate_json(flow.model_dump_json())
        assert "flows_untouched_module" not in sys.modules


CHOICE = {"step_id": "s", "tool_name": "t", "decision_candidates": ["t"]}
BRANCH = {"step_id": "s", "tool_name": "t", "branches": [{"target_step_id": "x", "predicate": "a"}]}
PLAIN = {"step_id": "s", "tool_name": "t"}


@pytest.mark.parametrize(
    ("flow", "level"),
    [
        (linear(), DeterminismLevel.FULL),
        (linear(steps=[PLAIN]), DeterminismLevel.FULL),
        (linear(steps=[PLAIN, CHOICE]), DeterminismLevel.PARTIAL),
        (linear(steps=[PLAIN], deterministic=False), DeterminismLevel.NONE),
        (linear(steps=[CHOICE], deterministic=False), DeterminismLevel.NONE),
        (dag(), DeterminismLevel.FULL),
        (dag(steps=[PLAIN]), DeterminismLevel.FULL),
        (dag(steps=[PLAIN, CHOICE]), DeterminismLevel.PARTIAL),
        (dag(steps=[PLAIN, BRANCH]), DeterminismLevel.PARTIAL),
        (dag(steps=[CHOICE, BRANCH]), DeterminismLevel.PARTIAL),
        (dag(steps=[BRANCH], deterministic=False), DeterminismLevel.NONE),
    ],
)
def test_f_4_determinism_follows_from_the_flag_and_the_choices(flow: Flow | DAGFlow, level: DeterminismLevel) -> None:
    assert flow.determinism_level is level


@pytest.mark.parametrize(
    ("flow", "ascii_text", "mermaid", "dot"),
    [
        (
            linear(steps=[PLAIN, {"flow_name": "g"}]),
            "[t] → [g]",
            ["  S0[t]", "  S1[g]", "  S0 --> S1"],
            'digraph f {\n  S0 [label="t"];\n  S1 [label="g"];\n  S0 -> S1;\n}\n',
        ),
        (
            dag(steps=[PLAIN, {**PLAIN, "step_id": "r", "depends_on": ["s"]}]),
            "[t] → [t]",
            ["  S_s[t]", "  S_r[t]", "  S_s --> S_r"],
            'digraph f {\n  S_s [label="t"];\n  S_r [label="t"];\n  S_s -> S_r;\n}\n',
        ),
    ],
)
def test_f_5_flows_draw_themselves(flow: Any, ascii_text: str, mermaid: list[str], dot: str) -> None:
    assert flow.to_ascii() == ascii_text
    assert flow.to_mermaid() == "\n".join(["graph LR", *mermaid])
    assert flow.to_mermaid(direction="TD", show_schemas=True) == "\n".join(["graph TD", *mermaid])
    assert flow.to_dot() == dot
    with pytest.raises(TypeError, match="positional"):
        flow.to_mermaid("TD")


class CustomFlow(Flow):
    team: str = "none"


class CustomDAG(DAGFlow):
    first: FlowStep
    weight: int = 0


STEP = DAGFlowStep(
    step_id="s",
    tool_name="t",
    retry=RetryPolicy(retryable_errors=("builtins:OSError",)),
    branches=[ConditionalEdge(target_step_id="x", predicate="a")],
)
COMMON: dict[str, Any] = {
    "name": "n",
    "version": "2.0",
    "description": "d",
    "deterministic": False,
    "status": FlowStatus.NEEDS_REVIEW,
    "trigger_conditions": {"k": [1, 2]},
    "input_schema_ref": "m:A",
    "tool_schema_hashes": {"t": "0123"},
    "governance": FlowGovernance(lifecycle=FlowLifecycle.DRAFT, replaces_tools=("a", "b")),
    "safety": ToolSafetyContract(cacheable=False),
    "on_context_collision": "error",
    "dynamic_params": ("p",),
}
SAMPLES = [
    Flow(**COMMON, steps=[FlowStep(tool_name="t"), FlowStep(flow_name="g")]),
    DAGFlow(**COMMON, steps=[STEP]),
    CustomFlow(**COMMON, steps=[FlowStep(tool_name="t")], team="blue"),
    CustomDAG(**COMMON, steps=[STEP], first=FlowStep(tool_name="t"), weight=3),
]


@pytest.mark.parametrize("flow", SAMPLES, ids=lambda flow: type(flow).__name__)
class TestCopies:
    def test_json_keeps_everything(self, flow: Flow | DAGFlow) -> None:
        assert type(flow).model_validate_json(flow.model_dump_json()) == flow

    def test_pickle_and_copy_keep_everything(self, flow: Flow | DAGFlow) -> None:
        for twin in (pickle.loads(pickle.dumps(flow)), copy.copy(flow), copy.deepcopy(flow), flow.model_copy()):
            assert type(twin) is type(flow)
            assert twin == flow

    def test_a_deep_copy_shares_no_steps(self, flow: Flow | DAGFlow) -> None:
        twin = copy.deepcopy(flow)
        twin.steps[0].input_mapping["new"] = 1
        assert flow.steps[0].input_mapping == {}

    def test_a_rebuilt_class_still_loads_and_checks(self, flow: Flow | DAGFlow) -> None:
        cls = type(flow)
        assert cls.model_rebuild(force=True) is True
        assert cls.model_validate_json(flow.model_dump_json()) == flow
        with pytest.raises(ValidationError, match="requires exactly one of"):
            cls.model_validate({**flow.model_dump(), "steps": [{"step_id": "s"}]})


@pytest.mark.parametrize("cls", [FlowStep, DAGFlowStep, Flow, DAGFlow])
def test_a_rebuilt_class_is_the_same_in_the_schema_of_a_user_s_model(cls: type[BaseModel]) -> None:
    assert cls.model_rebuild(force=True) is True

    class Holder(BaseModel):
        step: FlowStep
        dag_step: DAGFlowStep
        flow: Flow
        dag: DAGFlow

    definitions = Holder.model_json_schema()["$defs"]
    assert {"FlowStep", "DAGFlowStep", "Flow", "DAGFlow"} <= set(definitions)
    assert not [name for name in definitions if "__" in name]


CLASSES = {
    "ConditionalEdge",
    "DAGFlow",
    "DAGFlowStep",
    "DriftInfo",
    "Flow",
    "FlowGovernance",
    "FlowLifecycle",
    "FlowStatus",
    "FlowStep",
    "RetryPolicy",
    "SchemaRefAllowlist",
}
FUNCTIONS = {
    "get_schema_ref_policy",
    "resolve_class_ref",
    "schema_ref_policy",
    "set_schema_ref_policy",
    "validate_dag_topology",
}
HOMES = ["compatibility", "flows", "governance", "refs", "steps", "topology"]


class TestFlowPackage:
    def test_f_8_offers_exactly_the_flow_names(self) -> None:
        aliases = {"AnyFlow", "ContextCollisionPolicy", "SchemaRefPolicy"}
        assert set(doubleweave.flow.__all__) == CLASSES | FUNCTIONS | aliases
        assert inspect.ismodule(doubleweave.flow)
        assert doubleweave.flow.__path__

    @pytest.mark.parametrize("name", sorted(CLASSES | FUNCTIONS))
    def test_f_8_is_where_its_members_say_they_live(self, name: str) -> None:
        assert getattr(doubleweave.flow, name).__module__ == "doubleweave.flow"

    @pytest.mark.parametrize("name", sorted(CLASSES | FUNCTIONS))
    def test_f_8_members_are_pickled_by_reference(self, name: str) -> None:
        member = getattr(doubleweave.flow, name)
        data = pickle.dumps(member)
        assert pickle.loads(data) is member
        assert b"doubleweave.flow" in data
        assert len(data) < 100

    @pytest.mark.parametrize("name", sorted(CLASSES | FUNCTIONS))
    def test_f_8_members_are_the_same_objects_wherever_they_can_be_imported(self, name: str) -> None:
        homes = [importlib.import_module(f"doubleweave.models.{home}") for home in HOMES]
        found = [vars(home)[name] for home in homes if name in vars(home)]
        assert found
        if name in doubleweave.__all__:
            found.append(getattr(doubleweave, name))
        assert all(member is getattr(doubleweave.flow, name) for member in found)

    @pytest.mark.parametrize(
        "value", [FlowStatus.DISABLED, FlowLifecycle.DRAFT, SchemaRefAllowlist(["a"]), DriftInfo("f", "t", "0", "1")]
    )
    def test_values_of_its_members_survive_pickle(self, value: Any) -> None:
        assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (FLOW_FORMAT_VERSION, "1"),
        (TRACE_SCHEMA_VERSION, "1.1"),
        (SNAPSHOT_VERSION, "1"),
        (LEGACY_VERSION, "0"),
    ],
)
def test_version_stamps_are_fixed(name: str, value: str) -> None:
    assert name == value


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("1", 1),
        ("1.1", 1),
        ("12.3.4", 12),
        ("0", 0),
        (None, 0),
        ("", 0),
        ("garbage", 0),
        ("v1", 0),
        (".5", 0),
        ("1a.0", 0),
    ],
)
def test_the_major_version_is_the_number_before_the_first_dot(version: str | None, number: int) -> None:
    assert major(version) == number


@pytest.mark.parametrize(
    ("found", "current", "same"),
    [("1", "1.1", True), ("1.9", "1", True), ("2", "1", False), (None, "0", True), (None, "1", False)],
)
def test_versions_are_compared_by_their_major_number(found: str | None, current: str, same: bool) -> None:
    assert same_major(found, current) is same


def test_the_records_of_a_whole_flow_come_before_and_after_its_steps() -> None:
    assert FLOW_INPUT_STEP_INDEX == -1
    assert flow_output_step_index(linear()) == 0
    assert flow_output_step_index(linear(steps=[PLAIN, PLAIN])) == 2
    assert flow_output_step_index(dag(steps=[PLAIN])) == 1
