import hashlib
import json
from dataclasses import dataclass, fields

import pytest
from pydantic import BaseModel, Field

from doubleweave.flow import DAGFlow, DAGFlowStep, DriftInfo, Flow, FlowStep
from doubleweave.models.compatibility import CompatibilityIssue, check_flow_compatibility
from doubleweave.models.fingerprints import schema_dict_fingerprint, schema_fingerprint


class Amount(BaseModel):
    value: float
    currency: str = "EUR"


class TestSchemaDictFingerprint:
    @pytest.mark.parametrize(
        ("schema", "fingerprint"),
        [
            # The first 16 digits of SHA-256 over the texts `{}`, `{"a":1,"b":[true,null]}` and `{"title":"\u00e9"}`.
            ({}, "44136fa355b3678a"),
            ({"b": [True, None], "a": 1}, "1cc69c7fa23616ca"),
            ({"title": "é"}, "cbb1c4d4d26b7c04"),
        ],
    )
    def test_k_1_the_fingerprint_of_a_dict_is_fixed(self, schema: dict[str, object], fingerprint: str) -> None:
        assert schema_dict_fingerprint(schema) == fingerprint

    def test_does_not_depend_on_the_order_of_keys_at_any_depth(self) -> None:
        first = {"a": {"x": 1, "y": 2}, "b": 3}
        second = {"b": 3, "a": {"y": 2, "x": 1}}
        assert schema_dict_fingerprint(first) == schema_dict_fingerprint(second)

    def test_depends_on_the_order_of_lists_and_on_values(self) -> None:
        prints = {schema_dict_fingerprint({"required": value}) for value in (["a", "b"], ["b", "a"], ["a"], "a")}
        assert len(prints) == 4


class TestSchemaFingerprint:
    def test_k_1_is_the_start_of_the_hash_of_the_sorted_compact_json_schema(self) -> None:
        text = (
            '{"properties":{"currency":{"default":"EUR","title":"Currency","type":"string"},'
            '"value":{"title":"Value","type":"number"}},"required":["value"],"title":"Amount","type":"object"}'
        )
        assert json.loads(text) == Amount.model_json_schema()
        assert schema_fingerprint(Amount) == hashlib.sha256(text.encode()).hexdigest()[:16]

    def test_is_that_of_the_model_s_schema(self) -> None:
        assert schema_fingerprint(Amount) == schema_dict_fingerprint(Amount.model_json_schema())

    def test_changes_with_each_part_of_the_schema(self) -> None:
        def variant(name: str, annotation: type, default: object) -> type[BaseModel]:
            return type(
                name, (BaseModel,), {"__annotations__": {"x": annotation}, "x": default, "__module__": __name__}
            )

        variants = [
            variant("A", int, Field()),
            variant("B", int, Field()),
            variant("A", str, Field()),
            variant("A", int, Field(default=1)),
            variant("A", int, Field(description="a number")),
        ]
        assert len({schema_fingerprint(model) for model in variants}) == len(variants)
        assert schema_fingerprint(variant("A", int, Field())) == schema_fingerprint(variants[0])


@dataclass
class StubTool:
    schema_hash: str


TOOLS = {"a": StubTool("hash-a"), "b": StubTool("hash-b")}
STEPS = [
    {"step_id": "1", "tool_name": "a"},
    {"step_id": "2", "flow_name": "gone"},
    {"step_id": "3", "tool_name": "b"},
]


def both_kinds(steps: list[dict[str, str]], hashes: dict[str, str] | None) -> list[Flow | DAGFlow]:
    return [
        Flow(
            name="f",
            description="d",
            steps=[FlowStep.model_validate(step) for step in steps],
            tool_schema_hashes=hashes,
        ),
        DAGFlow(
            name="f",
            version="1",
            description="d",
            steps=[DAGFlowStep.model_validate(step) for step in steps],
            tool_schema_hashes=hashes,
        ),
    ]


class TestCompatibility:
    @pytest.mark.parametrize(
        "hashes",
        [None, {}, {"a": "hash-a"}, {"a": "hash-a", "b": "hash-b"}, {"somebody else": "x", "gone": "x"}],
    )
    def test_k_2_finds_nothing_when_the_tools_are_there_and_unchanged(self, hashes: dict[str, str] | None) -> None:
        for flow in both_kinds(STEPS, hashes):
            assert check_flow_compatibility(flow, TOOLS) == []

    def test_k_2_reports_every_issue_in_list_order(self) -> None:
        steps = [*STEPS, {"step_id": "4", "tool_name": "c"}, {"step_id": "5", "tool_name": "a"}]
        for flow in both_kinds(steps, {"a": "old", "b": "hash-b", "c": "old"}):
            issues = check_flow_compatibility(flow, TOOLS)
            assert [(issue.flow_name, issue.step_index, issue.tool_name, issue.issue_type) for issue in issues] == [
                ("f", 0, "a", "schema_mismatch"),
                ("f", 3, "c", "missing_tool"),
                ("f", 4, "a", "schema_mismatch"),
            ]
            assert "hash-a" in issues[0].detail
            assert "old" in issues[0].detail
            assert "'c'" in issues[1].detail

    def test_k_2_reports_an_absent_tool_without_a_snapshot_too(self) -> None:
        for flow in both_kinds(STEPS, None):
            assert [issue.issue_type for issue in check_flow_compatibility(flow, {})] == ["missing_tool"] * 2


def test_k_2_an_issue_has_its_fields_in_order() -> None:
    names = [field.name for field in fields(CompatibilityIssue)]
    assert names == ["flow_name", "step_index", "tool_name", "issue_type", "detail"]


def test_k_3_drift_has_its_fields_in_order() -> None:
    assert [field.name for field in fields(DriftInfo)] == ["flow_name", "tool_name", "expected_hash", "actual_hash"]
    assert DriftInfo("f", "t", "old", "new") == DriftInfo(
        flow_name="f", tool_name="t", expected_hash="old", actual_hash="new"
    )
