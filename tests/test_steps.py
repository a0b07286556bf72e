import copy
import pickle
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from doubleweave.errors import FlowSerializationError, SchemaRefPolicyError
from doubleweave.flow import (
    ConditionalEdge,
    DAGFlowStep,
    FlowStep,
    RetryPolicy,
    SchemaRefAllowlist,
    schema_ref_policy,
)
from doubleweave.models.steps import fallback_tool


class Contract(BaseModel):
    value: int

    class Inner(BaseModel):
        text: str


class TestRetryPolicy:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("max_retries", 3),
            ("backoff_seconds", 1.0),
            ("backoff_multiplier", 2.0),
            ("jitter", False),
            ("retryable_errors", ("builtins:Exception",)),
        ],
    )
    def test_has_defaults(self, field: str, value: Any) -> None:
        assert getattr(RetryPolicy(), field) == value

    def test_is_frozen(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            RetryPolicy().max_retries = 1  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("fields", "fragment"),
        [
            ({"retryable_errors": ()}, "at least one"),
            ({"retryable_errors": ("ValueError",)}, "'module:qualname' form"),
            ({"retryable_errors": ("builtins:ValueError", "KeyError")}, "'module:qualname' form"),
            ({"max_retries": -1}, "greater than or equal to 0"),
            ({"backoff_seconds": -0.1}, "greater than or equal to 0"),
            ({"backoff_multiplier": 0.99}, "greater than or equal to 1"),
        ],
    )
    def test_rejects(self, fields: dict[str, Any], fragment: str) -> None:
        with pytest.raises(ValidationError, match=fragment):
            RetryPolicy.model_validate(fields)

    @pytest.mark.parametrize("fields", [{"max_retries": 0}, {"backoff_seconds": 0}, {"backoff_multiplier": 1}])
    def test_accepts_the_bounds_themselves(self, fields: dict[str, Any]) -> None:
        assert RetryPolicy.model_validate(fields).model_dump().items() >= fields.items()

    @pytest.mark.parametrize(("attempt", "delay"), [(-1, 0.0), (0, 0.0), (1, 0.5), (2, 1.5), (3, 4.5), (4, 13.5)])
    def test_s_1_grows_the_delay_from_retry_to_retry(self, attempt: int, delay: float) -> None:
        assert RetryPolicy(backoff_seconds=0.5, backoff_multiplier=3.0).compute_delay(attempt) == delay

    def test_s_1_keeps_the_delay_under_a_multiplier_of_one(self) -> None:
        policy = RetryPolicy(backoff_seconds=0.25, backoff_multiplier=1.0)
        assert [policy.compute_delay(attempt) for attempt in (1, 2, 50)] == [0.25, 0.25, 0.25]

    def test_s_1_has_no_delay_without_backoff_however_many_retries_there_were(self) -> None:
        policy = RetryPolicy(backoff_seconds=0.0)
        assert [policy.compute_delay(attempt) for attempt in (1, 2, 5000)] == [0.0, 0.0, 0.0]

    def test_s_1_jitter_scales_the_delay_by_a_factor_from_one_half_up_to_one_and_a_half(self) -> None:
        policy = RetryPolicy(backoff_seconds=10.0, jitter=True)
        random.seed(20240229)
        delays = [policy.compute_delay(2) for _ in range(2000)]
        assert all(10.0 <= delay < 30.0 for delay in delays)
        assert min(delays) < 10.5
        assert max(delays) > 29.5

    @pytest.mark.parametrize("attempt", [-1, 0])
    def test_s_1_jitter_makes_no_delay_where_there_is_none(self, attempt: int) -> None:
        assert RetryPolicy(jitter=True).compute_delay(attempt) == 0.0

    def test_s_1_without_jitter_uses_no_random_number(self) -> None:
        before = random.getstate()
        RetryPolicy().compute_delay(3)
        assert random.getstate() == before

    def test_s_2_resolves_its_errors_in_order(self) -> None:
        policy = RetryPolicy(retryable_errors=("builtins:TimeoutError", "builtins:KeyboardInterrupt"))
        assert policy.resolved_retryable_errors() == (TimeoutError, KeyboardInterrupt)

    def test_s_2_retries_every_exception_by_default(self) -> None:
        assert RetryPolicy().resolved_retryable_errors() == (Exception,)

    def test_s_2_imports_nothing_when_made(self) -> None:
        policy = RetryPolicy(retryable_errors=("no_such_module_here:Broken",))
        with pytest.raises(FlowSerializationError, match="Cannot import module"):
            policy.resolved_retryable_errors()

    def test_s_2_retries_exception_classes_only(self) -> None:
        with pytest.raises(FlowSerializationError, match="not a subclass"):
            RetryPolicy(retryable_errors=("builtins:int",)).resolved_retryable_errors()

    @pytest.mark.parametrize("refs", [("builtins:Exception",), ("builtins:OSError",)])
    def test_s_2_asks_the_policy_of_the_moment_each_time(self, refs: tuple[str, ...]) -> None:
        policy = RetryPolicy(retryable_errors=refs)
        resolved = policy.resolved_retryable_errors()
        with schema_ref_policy(SchemaRefAllowlist(["elsewhere"])), pytest.raises(SchemaRefPolicyError):
            policy.resolved_retryable_errors()
        with schema_ref_policy(SchemaRefAllowlist(["builtins"])):
            assert policy.resolved_retryable_errors() == resolved
        assert policy.resolved_retryable_errors() == resolved


@pytest.mark.parametrize(
    ("on_error", "tool"),
    [
        ("fallback:backup", "backup"),
        ("fallback:a:b", "a:b"),
        ("fallback:fallback:x", "fallback:x"),
        ("fallback:", None),
        ("fallback", None),
        ("fail", None),
        ("skip", None),
        ("Fallback:backup", None),
        ("something else", None),
        ("", None),
    ],
)
def test_only_a_fallback_text_names_a_fallback_tool(on_error: str, tool: str | None) -> None:
    assert fallback_tool(on_error) == tool


class TestFlowStep:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("tool_name", "t"),
            ("flow_name", None),
            ("input_mapping", {}),
            ("output_mapping", None),
            ("retry", None),
            ("on_error", "fail"),
            ("decision_candidates", None),
            ("input_contract", None),
            ("output_contract", None),
        ],
    )
    def test_has_defaults(self, field: str, value: Any) -> None:
        assert getattr(FlowStep(tool_name="t"), field) == value

    def test_does_not_share_default_mappings(self) -> None:
        first, second = FlowStep(tool_name="a"), FlowStep(tool_name="b")
        first.input_mapping["x"] = 1
        assert second.input_mapping == {}

    @pytest.mark.parametrize(
        ("fields", "fragment"),
        [
            ({}, "requires exactly one of 'tool_name' or 'flow_name'"),
            ({"tool_name": "a", "flow_name": "b"}, "requires exactly one of 'tool_name' or 'flow_name'"),
            ({"tool_name": "", "flow_name": ""}, "requires exactly one of 'tool_name' or 'flow_name'"),
            ({"flow_name": "f", "decision_candidates": ["f"]}, "only valid for tool steps"),
            ({"flow_name": "f", "decision_candidates": []}, "only valid for tool steps"),
            ({"tool_name": "a", "decision_candidates": []}, "at least one"),
            ({"tool_name": "a", "decision_candidates": ["a", "b", "a"]}, "duplicates"),
            ({"tool_name": "a", "decision_candidates": ["b"]}, "must be a member of decision_candidates"),
            ({"tool_name": "a", "on_error": "explode"}, "on_error must be"),
            ({"tool_name": "a", "on_error": ""}, "on_error must be"),
            ({"tool_name": "a", "on_error": "FAIL"}, "on_error must be"),
            ({"tool_name": "a", "on_error": "fallback"}, "on_error must be"),
            ({"tool_name": "a", "on_error": "fallback:"}, "on_error must be"),
        ],
    )
    def test_s_3_s_4_s_5_rejects(self, fields: dict[str, Any], fragment: str) -> None:
        with pytest.raises(ValidationError, match=fragment):
            FlowStep.model_validate(fields)
        with pytest.raises(ValidationError, match=fragment):
            DAGFlowStep.model_validate({"step_id": "s", **fields})

    @pytest.mark.parametrize("on_error", ["fail", "skip", "fallback:b"])
    def test_s_4_accepts_each_error_policy(self, on_error: str) -> None:
        assert FlowStep(tool_name="a", on_error=on_error).on_error == on_error

    @pytest.mark.parametrize("candidates", [["a"], ["b", "a"]])
    def test_s_5_accepts_candidates_that_include_its_tool(self, candidates: list[str]) -> None:
        assert FlowStep(tool_name="a", decision_candidates=candidates).decision_candidates == candidates

    def test_s_7_an_empty_output_mapping_is_not_an_absent_one(self) -> None:
        assert FlowStep(tool_name="a", output_mapping={}).output_mapping == {}

    def test_ignores_unknown_fields(self) -> None:
        step = FlowStep.model_validate({"tool_name": "a", "colour": "blue"})
        assert "colour" not in step.model_dump()

    def test_can_be_changed(self) -> None:
        step = FlowStep(tool_name="a")
        step.on_error = "skip"
        assert step.model_dump()["on_error"] == "skip"

    @pytest.mark.parametrize(
        ("fields", "name"), [({"tool_name": "t"}, "t"), ({"flow_name": "f"}, "f"), ({"tool_name": ""}, "")]
    )
    def test_s_3_s_8_is_displayed_by_the_name_of_its_one_tool_or_flow(self, fields: dict[str, Any], name: str) -> None:
        assert FlowStep.model_validate(fields).display_name == name

    @pytest.mark.parametrize(("cls", "qualname"), [(Contract, "Contract"), (Contract.Inner, "Contract.Inner")])
    def test_s_9_names_a_contract_class_by_module_and_qualname(self, cls: type[BaseModel], qualname: str) -> None:
        assert FlowStep.contract_ref_from(cls) == f"{__name__}:{qualname}"

    def test_s_9_resolves_its_contracts_when_asked(self) -> None:
        step = FlowStep(
            tool_name="t",
            input_contract=FlowStep.contract_ref_from(Contract),
            output_contract=FlowStep.contract_ref_from(Contract.Inner),
        )
        assert step.resolved_input_contract is Contract
        assert step.resolved_output_contract is Contract.Inner

    def test_s_9_has_no_contract_classes_when_none_are_named(self) -> None:
        step = FlowStep(tool_name="t")
        assert step.resolved_input_contract is None
        assert step.resolved_output_contract is None

    @pytest.mark.parametrize("attribute", ["input_contract", "output_contract"])
    @pytest.mark.parametrize(
        ("ref", "fragment"), [("builtins:int", "not a subclass"), ("no_such_module_here:X", "Cannot import module")]
    )
    def test_s_9_raises_for_a_bad_contract_only_when_asked(self, attribute: str, ref: str, fragment: str) -> None:
        step = FlowStep.model_validate({"tool_name": "t", attribute: ref})
        with pytest.raises(FlowSerializationError, match=fragment):
            getattr(step, f"resolved_{attribute}")

    def test_imports_nothing_when_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "steps_untouched_module.py").write_text("class X: ...\n")
        monkeypatch.syspath_prepend(tmp_path)
        FlowStep(
            tool_name="t",
            input_contract="steps_untouched_module:X",
            output_contract="steps_untouched_module:X",
            retry=RetryPolicy(retryable_errors=("steps_untouched_module:X",)),
        )
        assert "steps_untouched_module" not in sys.modules


class TestDAGFlowStep:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("depends_on", []),
            ("step_type", "tool"),
            ("capability_id", None),
            ("branches", []),
            ("default_next", None),
            ("on_error", "fail"),
        ],
    )
    def test_has_defaults(self, field: str, value: Any) -> None:
        assert getattr(DAGFlowStep(step_id="s", tool_name="t"), field) == value

    def test_is_a_flow_step_whose_own_fields_come_last(self) -> None:
        assert list(DAGFlowStep.model_fields) == [
            *FlowStep.model_fields,
            "step_id",
            "depends_on",
            "step_type",
            "capability_id",
            "branches",
            "default_next",
        ]

    @pytest.mark.parametrize(
        ("fields", "fragment"),
        [
            ({"step_id": "s", "capability_id": "c"}, "capability_id must be None"),
            ({"step_id": "s", "default_next": "x"}, "default_next"),
            (
                {"step_id": "s", "step_type": "capability", "branches": [{"target_step_id": "x", "predicate": "a"}]},
                "capability",
            ),
            ({"step_id": "s", "step_type": "capability", "default_next": "x"}, "default_next"),
            ({"step_id": "s", "step_type": "magic"}, "step_type"),
            ({}, "step_id"),
        ],
    )
    def test_s_10_rejects(self, fields: dict[str, Any], fragment: str) -> None:
        with pytest.raises(ValidationError, match=fragment):
            DAGFlowStep.model_validate({"tool_name": "t", **fields})

    @pytest.mark.parametrize("capability_id", [None, "c"])
    def test_s_10_may_be_a_capability(self, capability_id: str | None) -> None:
        step = DAGFlowStep(step_id="s", tool_name="t", step_type="capability", capability_id=capability_id)
        assert step.capability_id == capability_id

    def test_s_11_keeps_predicates_unparsed(self) -> None:
        edge = ConditionalEdge(target_step_id="x", predicate="this is ( not a predicate")
        step = DAGFlowStep(step_id="s", tool_name="t", branches=[edge], default_next="y")
        assert step.branches == [edge]
        assert step.default_next == "y"

    def test_s_11_has_frozen_edges(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            ConditionalEdge(target_step_id="x", predicate="a").predicate = "b"  # type: ignore[misc]


class CustomStep(DAGFlowStep):
    weight: int = 1


FULL_STEP = CustomStep(
    step_id="s",
    tool_name="t",
    input_mapping={"a": "key", "b": "/pointer", "c": [1, None]},
    output_mapping={"x": "y"},
    retry=RetryPolicy(max_retries=1, jitter=True, retryable_errors=("builtins:OSError",)),
    on_error="fallback:u",
    decision_candidates=["t", "u"],
    input_contract="m:A",
    output_contract="m:B",
    depends_on=["r"],
    branches=[ConditionalEdge(target_step_id="x", predicate="a > 1")],
    default_next="x",
    weight=7,
)


class TestSubclass:
    def test_survives_json(self) -> None:
        assert CustomStep.model_validate_json(FULL_STEP.model_dump_json()) == FULL_STEP

    def test_survives_pickle_and_copy(self) -> None:
        for twin in (pickle.loads(pickle.dumps(FULL_STEP)), copy.copy(FULL_STEP), copy.deepcopy(FULL_STEP)):
            assert type(twin) is CustomStep
            assert twin == FULL_STEP

    def test_keeps_the_checks_of_its_base_after_a_rebuild(self) -> None:
        assert CustomStep.model_rebuild(force=True) is True
        with pytest.raises(ValidationError, match="on_error must be"):
            CustomStep(step_id="s", tool_name="t", on_error="explode")
