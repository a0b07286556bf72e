"""Where a flow stands between being noticed and being retired, and who said so."""

from enum import Enum
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field


class FlowLifecycle(str, Enum):
    """The stage of a flow's life. It does not decide whether the flow may run; `FlowStatus` does."""

    OBSERVED = "observed"
    SUGGESTED = "suggested"
    DRAFT = "draft"
    REVIEWED = "reviewed"
    ACTIVE = "active"
    IGNORED = "ignored"
    ARCHIVED = "archived"


_MOVES = {
    FlowLifecycle.OBSERVED: {FlowLifecycle.SUGGESTED, FlowLifecycle.IGNORED},
    FlowLifecycle.SUGGESTED: {FlowLifecycle.DRAFT, FlowLifecycle.IGNORED},
    FlowLifecycle.DRAFT: {FlowLifecycle.REVIEWED, FlowLifecycle.IGNORED},
    FlowLifecycle.REVIEWED: {FlowLifecycle.DRAFT, FlowLifecycle.ACTIVE, FlowLifecycle.ARCHIVED},
    FlowLifecycle.ACTIVE: {FlowLifecycle.ARCHIVED},
    FlowLifecycle.IGNORED: {FlowLifecycle.SUGGESTED},
    FlowLifecycle.ARCHIVED: {FlowLifecycle.REVIEWED},
}


class FlowGovernance(BaseModel):
    """Who answers for a flow, how far its review has come and what it is estimated to save."""

    model_config = ConfigDict(frozen=True)

    lifecycle: FlowLifecycle = FlowLifecycle.ACTIVE
    owner: str | None = None
    replaces_tools: tuple[str, ...] = ()
    estimated_model_calls_removed: int = Field(default=0, ge=0)
    estimated_token_savings: int | None = Field(default=None, ge=0)
    reviewed_by: str | None = None
    review_notes: str | None = None

    def transition_to(
        self, target: FlowLifecycle, *, reviewed_by: str | None = None, review_notes: str | None = None
    ) -> Self:
        """Return a copy at the stage `target`; what is not given keeps its value.

        Raises:
            ValueError: A flow cannot move from its stage to `target`; lists where it can move to.
        """
        # A text that names a stage is equal to it; what is kept is the stage.
        stage = next((each for each in _MOVES[self.lifecycle] if each == target), None)
        if stage is None:
            wanted = target.value if isinstance(target, FlowLifecycle) else target
            choices = ", ".join(f"'{each.value}'" for each in FlowLifecycle if each in _MOVES[self.lifecycle])
            raise ValueError(f"cannot transition from '{self.lifecycle.value}' to '{wanted}'; possible: {choices}")
        update: dict[str, Any] = {"lifecycle": stage}
        if reviewed_by is not None:
            update["reviewed_by"] = reviewed_by
        if review_notes is not None:
            update["review_notes"] = review_notes
        return self.model_copy(update=update)
