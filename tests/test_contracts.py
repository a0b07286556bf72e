import itertools
import pickle
from enum import Enum
from typing import Any

import pytest
from pydantic import ValidationError

from doubleweave.models.contracts import (
    DeterminismLevel,
    SideEffectLevel,
    StabilityLevel,
    ToolSafetyContract,
    merge_safety,
    side_effect_exceeds,
)

PERMISSIVE = {
    "side_effects": "none",
    "read_only": True,
    "stability": "stable",
    "determinism_level": "full",
    "idempotent": True,
    "cacheable": True,
    "safe_to_retry": True,
    "supports_dry_run": False,
    "requires_approval": False,
    "approval_reason": None,
}


@pytest.mark.parametrize(
    ("enum", "members"),
    [
        (
            SideEffectLevel,
            {
                "NONE": "none",
                "READ": "read",
                "WRITE": "write",
                "EXTERNAL": "external",
                "DESTRUCTIVE": "destructive",
            },
        ),
        (StabilityLevel, {"STABLE": "stable", "BEST_EFFORT": "best_effort", "UNSTABLE": "unstable"}),
        (DeterminismLevel, {"FULL": "full", "PARTIAL": "partial", "NONE": "none"}),
    ],
    ids=["SideEffectLevel", "StabilityLevel", "DeterminismLevel"],
)
def test_levels_are_texts_in_order_of_restriction(enum: type[Enum], members: dict[str, str]) -> None:
    assert [(level.name, level.value) for level in enum] == list(members.items())
    assert all(isinstance(level, str) for level in enum)


@pytest.mark.parametrize(("field", "value"), PERMISSIVE.items())
def test_c_5_a_contract_is_permissive_by_default(field: str, value: Any) -> None:
    assert ToolSafetyContract().model_dump(mode="json")[field] == value


def test_c_5_a_contract_has_exactly_the_known_fields_in_order() -> None:
    assert list(ToolSafetyContract.model_fields) == list(PERMISSIVE)


def test_a_contract_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ToolSafetyContract().cacheable = False  # type: ignore[misc]


def test_c_5_equal_contracts_compare_equal_and_different_ones_do_not() -> None:
    assert ToolSafetyContract(side_effects=SideEffectLevel.WRITE) == ToolSafetyContract(
        side_effects=SideEffectLevel.WRITE, read_only=False
    )
    assert ToolSafetyContract() != ToolSafetyContract(cacheable=False)


@pytest.mark.parametrize(
    ("level", "read_only"),
    [("none", True), ("read", True), ("write", False), ("external", False), ("destructive", False)],
)
class TestReadOnly:
    def test_c_1_follows_the_side_effects_when_omitted(self, level: str, read_only: bool) -> None:
        assert ToolSafetyContract.model_validate({"side_effects": level}).read_only is read_only
        assert ToolSafetyContract(side_effects=SideEffectLevel(level)).read_only is read_only

    def test_c_1_may_repeat_what_follows(self, level: str, read_only: bool) -> None:
        contract = ToolSafetyContract(side_effects=SideEffectLevel(level), read_only=read_only)
        assert contract.read_only is read_only

    def test_c_1_may_not_contradict_it(self, level: str, read_only: bool) -> None:
        with pytest.raises(ValidationError, match="conflicts"):
            ToolSafetyContract(side_effects=SideEffectLevel(level), read_only=not read_only)


def test_an_unknown_side_effect_is_a_validation_error() -> None:
    with pytest.raises(ValidationError, match="side_effects"):
        ToolSafetyContract.model_validate({"side_effects": "harmless"})


class TestRequiresReview:
    @pytest.mark.parametrize("value", [True, False])
    def test_c_2_is_read_as_requires_approval(self, value: bool) -> None:
        contract = ToolSafetyContract.model_validate({"requires_review": value})
        assert contract.requires_approval is value
        assert "requires_review" not in contract.model_dump()

    @pytest.mark.parametrize("value", [True, False])
    def test_c_2_may_agree_with_requires_approval(self, value: bool) -> None:
        contract = ToolSafetyContract.model_validate({"requires_review": value, "requires_approval": value})
        assert contract.requires_approval is value

    @pytest.mark.parametrize("value", [True, False])
    def test_c_2_may_not_contradict_requires_approval(self, value: bool) -> None:
        with pytest.raises(ValidationError, match="conflicts"):
            ToolSafetyContract.model_validate({"requires_review": value, "requires_approval": not value})

    def test_c_2_leaves_the_caller_s_dict_alone(self) -> None:
        data = {"requires_review": True}
        ToolSafetyContract.model_validate(data)
        assert data == {"requires_review": True}

    @pytest.mark.parametrize("value", [True, False])
    def test_c_2_as_a_property_warns_where_it_is_read_and_answers(self, value: bool) -> None:
        contract = ToolSafetyContract(requires_approval=value)
        with pytest.warns(DeprecationWarning, match="requires_approval") as caught:
            assert contract.requires_review is value
        assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("level", "ceiling", "exceeds"),
    [
        (level, ceiling, above > below)
        for (above, level), (below, ceiling) in itertools.product(enumerate(SideEffectLevel), repeat=2)
    ],
)
def test_c_3_side_effects_exceed_only_a_strictly_lower_ceiling(
    level: SideEffectLevel, ceiling: SideEffectLevel, exceeds: bool
) -> None:
    assert side_effect_exceeds(level, ceiling) is exceeds


class TestMergeSafety:
    def test_c_4_of_nothing_is_a_default_contract(self) -> None:
        assert merge_safety([]) == ToolSafetyContract()

    def test_c_4_of_nothing_is_the_given_default(self) -> None:
        default = ToolSafetyContract(cacheable=False)
        assert merge_safety(iter([]), default=default) is default

    def test_c_4_of_something_ignores_the_default(self) -> None:
        merged = merge_safety([ToolSafetyContract()], default=ToolSafetyContract(cacheable=False))
        assert merged == ToolSafetyContract()

    @pytest.mark.parametrize(
        ("field", "enum"),
        [
            ("side_effects", SideEffectLevel),
            ("stability", StabilityLevel),
            ("determinism_level", DeterminismLevel),
        ],
    )
    def test_c_4_takes_the_most_restrictive_level(self, field: str, enum: type[Enum]) -> None:
        order = list(enum)
        for first, second in itertools.product(order, repeat=2):
            members = [ToolSafetyContract.model_validate({field: level}) for level in (first, second)]
            assert getattr(merge_safety(members), field) is max(first, second, key=order.index)

    @pytest.mark.parametrize("field", ["idempotent", "cacheable", "safe_to_retry", "supports_dry_run"])
    @pytest.mark.parametrize(("first", "second"), list(itertools.product([True, False], repeat=2)))
    def test_c_4_grants_what_all_grant(self, field: str, first: bool, second: bool) -> None:
        members = [ToolSafetyContract.model_validate({field: value}) for value in (first, second)]
        assert getattr(merge_safety(members), field) is (first and second)

    @pytest.mark.parametrize(("first", "second"), list(itertools.product([True, False], repeat=2)))
    def test_c_4_requires_approval_when_one_does(self, first: bool, second: bool) -> None:
        members = [ToolSafetyContract(requires_approval=value) for value in (first, second)]
        assert merge_safety(members).requires_approval is (first or second)

    def test_c_4_derives_read_only_from_the_merged_side_effects(self) -> None:
        read = ToolSafetyContract(side_effects=SideEffectLevel.READ)
        assert merge_safety([read, ToolSafetyContract()]).read_only is True
        assert merge_safety([read, ToolSafetyContract(side_effects=SideEffectLevel.EXTERNAL)]).read_only is False

    def test_c_4_joins_distinct_reasons_in_first_seen_order(self) -> None:
        reasons = ["pays", "writes", None, "", "pays", "deletes"]
        members = [ToolSafetyContract(requires_approval=True, approval_reason=reason) for reason in reasons]
        assert merge_safety(members).approval_reason == "pays; writes; deletes"

    def test_c_4_ignores_the_reason_of_a_contract_that_needs_no_approval(self) -> None:
        members = [ToolSafetyContract(approval_reason="idle"), ToolSafetyContract(requires_approval=True)]
        merged = merge_safety(members)
        assert merged.requires_approval is True
        assert merged.approval_reason is None

    def test_c_4_takes_any_iterable_once(self) -> None:
        members = (ToolSafetyContract(side_effects=level) for level in SideEffectLevel)
        assert merge_safety(members).side_effects is SideEffectLevel.DESTRUCTIVE


@pytest.mark.parametrize("level", SideEffectLevel)
def test_a_contract_survives_json_and_pickle(level: SideEffectLevel) -> None:
    contract = ToolSafetyContract(side_effects=level, requires_approval=True, approval_reason="because")
    assert ToolSafetyContract.model_validate_json(contract.model_dump_json()) == contract
    assert pickle.loads(pickle.dumps(contract)) == contract
