"""What a tool promises about its effects, its stability and its repeatability."""

import warnings
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SideEffectLevel(str, Enum):
    """What a call does to the world, from least to most restrictive."""

    NONE = "none"
    READ = "read"
    WRITE = "write"
    EXTERNAL = "external"
    DESTRUCTIVE = "destructive"


class StabilityLevel(str, Enum):
    """How reliably a tool answers, from least to most restrictive."""

    STABLE = "stable"
    BEST_EFFORT = "best_effort"
    UNSTABLE = "unstable"


class DeterminismLevel(str, Enum):
    """How far equal inputs give equal outputs, from least to most restrictive."""

    FULL = "full"
    PARTIAL = "partial"
    NONE = "none"


_LevelT = TypeVar("_LevelT", bound=Enum)


def _severity(level: Enum) -> int:
    return list(type(level)).index(level)


def _most_restrictive(levels: Iterable[_LevelT]) -> _LevelT:
    return max(levels, key=_severity)


def _only_reads(level: SideEffectLevel | None) -> bool:
    return level in (SideEffectLevel.NONE, SideEffectLevel.READ)


class ToolSafetyContract(BaseModel):
    """What a tool does to the world and how far a call may be repeated, cached or previewed.

    `read_only` follows from `side_effects` when it is left out. `requires_review` is accepted as an old name of
    `requires_approval`.

    Raises:
        pydantic.ValidationError: `read_only` contradicts `side_effects`, or `requires_review` contradicts
            `requires_approval`.
    """

    model_config = ConfigDict(frozen=True)

    side_effects: SideEffectLevel = SideEffectLevel.NONE
    read_only: bool = Field(default_factory=lambda data: _only_reads(data.get("side_effects")))
    stability: StabilityLevel = StabilityLevel.STABLE
    determinism_level: DeterminismLevel = DeterminismLevel.FULL
    idempotent: bool = True
    cacheable: bool = True
    safe_to_retry: bool = True
    supports_dry_run: bool = False
    requires_approval: bool = False
    approval_reason: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _rename_requires_review(cls, data: Any) -> Any:
        if not isinstance(data, Mapping) or "requires_review" not in data:
            return data
        renamed = {key: value for key, value in data.items() if key != "requires_review"}
        review = data["requires_review"]
        approval = renamed.setdefault("requires_approval", review)
        if approval != review:
            raise ValueError(f"requires_review={review!r} conflicts with requires_approval={approval!r}")
        return renamed

    @model_validator(mode="after")
    def _check_read_only(self) -> Self:
        if self.read_only != _only_reads(self.side_effects):
            raise ValueError(f"read_only={self.read_only} conflicts with side_effects={self.side_effects.value!r}")
        return self

    @property
    def requires_review(self) -> bool:
        """The old name of `requires_approval`; warns with `DeprecationWarning`."""
        warnings.warn("requires_review is deprecated; use requires_approval", DeprecationWarning, stacklevel=2)
        return self.requires_approval


def side_effect_exceeds(level: SideEffectLevel, ceiling: SideEffectLevel) -> bool:
    """Say whether `level` is strictly more restrictive than `ceiling`."""
    return _severity(level) > _severity(ceiling)


def merge_safety(
    contracts: Iterable[ToolSafetyContract], *, default: ToolSafetyContract | None = None
) -> ToolSafetyContract:
    """Return the contract of something that calls every tool of `contracts`.

    Each level is the most restrictive one; a permission holds when all grant it; approval is required when one requires
    it, with the distinct reasons joined by `; `. Without contracts the result is `default`, or an all-default contract.
    """
    members = list(contracts)
    if not members:
        return ToolSafetyContract() if default is None else default
    reasons = dict.fromkeys(
        member.approval_reason for member in members if member.requires_approval and member.approval_reason
    )
    return ToolSafetyContract(
        side_effects=_most_restrictive(member.side_effects for member in members),
        stability=_most_restrictive(member.stability for member in members),
        determinism_level=_most_restrictive(member.determinism_level for member in members),
        idempotent=all(member.idempotent for member in members),
        cacheable=all(member.cacheable for member in members),
        safe_to_retry=all(member.safe_to_retry for member in members),
        supports_dry_run=all(member.supports_dry_run for member in members),
        requires_approval=any(member.requires_approval for member in members),
        approval_reason="; ".join(reasons) or None,
    )
