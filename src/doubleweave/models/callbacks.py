"""Callbacks that a run consults: decisions, approvals and guardrails, and what they are given and leave behind.

Every callback may be a plain function or return an awaitable; both work wherever a callback is accepted.
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from pydantic import BaseModel, ConfigDict, field_validator

from doubleweave.models.contracts import ToolSafetyContract

GuardrailStage: TypeAlias = Literal["input", "output"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class DecisionContext(_Frozen):
    """What a decision callback is given: the candidates and a shallow copy of the run's context."""

    trace_id: str
    flow_name: str
    step_index: int
    step_id: str | None
    default_tool_name: str
    candidates: list[str]
    context: dict[str, Any]


class DecisionRecord(_Frozen):
    """The decision taken for a step; ``duration_ms`` covers the callback alone."""

    candidates: list[str]
    chosen: str
    default_tool_name: str
    duration_ms: float
    timed_out: bool = False


class DecisionPolicy(_Frozen):
    """Limits for decisions: seconds for each (``timeout_s``), number for each run (``max_decisions_per_flow``).

    ``on_timeout`` says whether a decision that is late fails the step or falls back to the step's own tool.
    """

    timeout_s: float | None = None
    max_decisions_per_flow: int | None = None
    on_timeout: Literal["error", "default"] = "error"

    @field_validator("timeout_s")
    @classmethod
    def _timeout_is_positive(cls, value: float | None) -> float | None:
        if value is not None and not value > 0:
            raise ValueError("timeout_s must be positive")
        return value

    @field_validator("max_decisions_per_flow")
    @classmethod
    def _budget_is_at_least_one(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError("max_decisions_per_flow must be >= 1")
        return value


class ApprovalDecision(str, Enum):
    """The two answers of an approval callback."""

    APPROVE = "approve"
    DENY = "deny"


class ApprovalContext(_Frozen):
    """What an approval callback is given: the tool about to run, its (redacted) inputs and its safety contract."""

    trace_id: str
    flow_name: str
    step_index: int
    step_id: str | None
    tool_name: str
    inputs: dict[str, Any]
    safety: ToolSafetyContract


class ApprovalRecord(_Frozen):
    """The approval asked for a step; ``reason`` is set when it was denied."""

    decision: ApprovalDecision
    reason: str | None = None


class GuardrailContext(_Frozen):
    """What a guardrail callback is given: the tool about to run and a (redacted) copy of its inputs."""

    trace_id: str
    flow_name: str
    step_index: int
    step_id: str | None
    tool_name: str
    stage: GuardrailStage
    inputs: dict[str, Any]
    outputs: dict[str, Any] | None = None


DecisionCallable: TypeAlias = Callable[[DecisionContext], str | Awaitable[str]]
ApprovalCallable: TypeAlias = Callable[[ApprovalContext], ApprovalDecision | Awaitable[ApprovalDecision]]
GuardrailCallable: TypeAlias = Callable[[GuardrailContext], Awaitable[None] | None]


@runtime_checkable
class DecisionCallback(Protocol):
    """Chooses the tool of a step among its candidates."""

    def decide(self, ctx: DecisionContext) -> str | Awaitable[str]:
        """Return the name of one of ``ctx.candidates``."""
        ...


@runtime_checkable
class ApprovalCallback(Protocol):
    """Answers whether a tool that requires approval may run."""

    def approve(self, ctx: ApprovalContext) -> ApprovalDecision | Awaitable[ApprovalDecision]:
        """Return the answer; an exception counts as a denial."""
        ...


@runtime_checkable
class GuardrailCallback(Protocol):
    """Looks at a tool's inputs before it runs."""

    def check(self, ctx: GuardrailContext) -> Awaitable[None] | None:
        """Raise to block the tool; return to let it run."""
        ...


class BaseDecisionCallback:
    """Base class for decision callbacks; override :meth:`decide`."""

    def decide(self, ctx: DecisionContext) -> str | Awaitable[str]:
        """Return the name of one of ``ctx.candidates``."""
        raise NotImplementedError(f"{type(self).__name__} must override decide()")


class BaseApprovalCallback:
    """Base class for approval callbacks; override :meth:`approve`."""

    def approve(self, ctx: ApprovalContext) -> ApprovalDecision | Awaitable[ApprovalDecision]:
        """Return the answer; an exception counts as a denial."""
        raise NotImplementedError(f"{type(self).__name__} must override approve()")


class BaseGuardrailCallback:
    """Base class for guardrail callbacks; override :meth:`check`."""

    def check(self, ctx: GuardrailContext) -> Awaitable[None] | None:
        """Raise to block the tool; return to let it run."""
        raise NotImplementedError(f"{type(self).__name__} must override check()")


# The wrappers hold the given callable itself as their method, so that an inspection of the method (is it a coroutine
# function?) answers for what the user wrote.


class _DecideWith:
    __slots__ = ("decide",)

    def __init__(self, decide: DecisionCallable) -> None:
        self.decide = decide


class _ApproveWith:
    __slots__ = ("approve",)

    def __init__(self, approve: ApprovalCallable) -> None:
        self.approve = approve


class _CheckWith:
    __slots__ = ("check",)

    def __init__(self, check: GuardrailCallable) -> None:
        self.check = check


def coerce_decision_callback(callback: DecisionCallback | DecisionCallable | None) -> DecisionCallback | None:
    """Return an object with ``decide``: the given one, or one that wraps the given callable; ``None`` stays ``None``.

    Raises:
        TypeError: the argument is neither.
    """
    if callback is None or isinstance(callback, DecisionCallback):
        return callback
    if callable(callback):
        return _DecideWith(callback)
    raise _neither("decision_callback", "decide", callback)


def coerce_approval_callback(callback: ApprovalCallback | ApprovalCallable | None) -> ApprovalCallback | None:
    """Return an object with ``approve``: the given one, or one that wraps the given callable; ``None`` stays ``None``.

    Raises:
        TypeError: the argument is neither.
    """
    if callback is None or isinstance(callback, ApprovalCallback):
        return callback
    if callable(callback):
        return _ApproveWith(callback)
    raise _neither("approval_callback", "approve", callback)


def coerce_guardrail_callback(callback: GuardrailCallback | GuardrailCallable | None) -> GuardrailCallback | None:
    """Return an object with ``check``: the given one, or one that wraps the given callable; ``None`` stays ``None``.

    Raises:
        TypeError: the argument is neither.
    """
    if callback is None or isinstance(callback, GuardrailCallback):
        return callback
    if callable(callback):
        return _CheckWith(callback)
    raise _neither("guardrail_callback", "check", callback)


def _neither(parameter: str, method: str, given: object) -> TypeError:
    return TypeError(
        f"{parameter} must be an object with a {method}(ctx) method, a callable taking ctx, or None, "
        f"not {type(given).__name__}"
    )
