"""Where a flow stands, who answers for it, and which moves there are."""

from typing import Any

import pytest
from pydantic import ValidationError

from doubleweave import Flow, FlowGovernance, FlowLifecycle, FlowStatus

MOVES = {
    "observed": ["suggested", "ignored"],
    "suggested": ["draft", "ignored"],
    "draft": ["reviewed", "ignored"],
    "reviewed": ["draft", "active", "archived"],
    "active": ["archived"],
    "ignored": ["suggested"],
    "archived": ["reviewed"],
}


def test_there_are_seven_stages() -> None:
    assert [(stage.name, stage.value) for stage in FlowLifecycle] == [
        ("OBSERVED", "observed"),
        ("SUGGESTED", "suggested"),
        ("DRAFT", "draft"),
        ("REVIEWED", "reviewed"),
        ("ACTIVE", "active"),
        ("IGNORED", "ignored"),
        ("ARCHIVED", "archived"),
    ]
    assert isinstance(FlowLifecycle.DRAFT, str)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("lifecycle", FlowLifecycle.ACTIVE),
        ("owner", None),
        ("replaces_tools", ()),
        ("estimated_model_calls_removed", 0),
        ("estimated_token_savings", None),
        ("reviewed_by", None),
        ("review_notes", None),
    ],
)
def test_governance_has_defaults(field: str, value: Any) -> None:
    assert getattr(FlowGovernance(), field) == value


def test_governance_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FlowGovernance().owner = "me"  # type: ignore[misc]  # the point of the test


@pytest.mark.parametrize("field", ["estimated_model_calls_removed", "estimated_token_savings"])
def test_flow_governance_rejects_a_negative_estimate(field: str) -> None:
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        FlowGovernance.model_validate({field: -1})
    assert getattr(FlowGovernance.model_validate({field: 0}), field) == 0


@pytest.mark.parametrize(("source", "targets"), MOVES.items(), ids=MOVES)
def test_only_the_listed_moves_are_allowed_from(source: str, targets: list[str]) -> None:
    before = FlowGovernance(
        lifecycle=FlowLifecycle(source),
        owner="me",
        replaces_tools=("a", "b"),
        estimated_model_calls_removed=3,
        estimated_token_savings=400,
        reviewed_by="you",
        review_notes="fine",
    )
    kept = before.model_copy()
    for target in FlowLifecycle:
        if target.value in targets:
            moved = before.transition_to(target)
            assert moved.lifecycle is target
            assert moved.model_copy(update={"lifecycle": before.lifecycle}) == before
        else:
            with pytest.raises(ValueError, match="cannot transition") as caught:
                before.transition_to(target)
            choices = ", ".join(f"'{stage.value}'" for stage in FlowLifecycle if stage.value in targets)
            assert str(caught.value) == f"cannot transition from '{source}' to '{target.value}'; possible: {choices}"
        assert before == kept


def test_a_stage_may_be_named_by_its_text() -> None:
    draft: Any = "draft"
    moved = FlowGovernance(lifecycle=FlowLifecycle.SUGGESTED).transition_to(draft)
    assert moved.lifecycle is FlowLifecycle.DRAFT
    nowhere: Any = "nowhere"
    with pytest.raises(
        ValueError, match=r"^cannot transition from 'draft' to 'nowhere'; possible: 'reviewed', 'ignored'$"
    ):
        moved.transition_to(nowhere)


def test_a_move_notes_who_reviewed_and_what() -> None:
    draft = FlowGovernance(lifecycle=FlowLifecycle.DRAFT, owner="me", reviewed_by="them", review_notes="not yet")
    by_you = draft.transition_to(FlowLifecycle.REVIEWED, reviewed_by="you")
    assert (by_you.owner, by_you.reviewed_by, by_you.review_notes) == ("me", "you", "not yet")
    noted = draft.transition_to(FlowLifecycle.REVIEWED, review_notes="fine")
    assert (noted.owner, noted.reviewed_by, noted.review_notes) == ("me", "them", "fine")


def test_the_lifecycle_is_independent_of_the_status() -> None:
    flow = Flow(name="f", description="d", steps=[], governance=FlowGovernance(lifecycle=FlowLifecycle.ARCHIVED))
    assert flow.status is FlowStatus.ACTIVE
    flow.status = FlowStatus.DISABLED
    assert flow.governance.lifecycle is FlowLifecycle.ARCHIVED
    assert (
        Flow(name="f", description="d", steps=[]).governance is not Flow(name="f", description="d", steps=[]).governance
    )
