"""Steps of a flow: which tool or flow runs, where its input comes from and what happens when it fails."""

import random
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from doubleweave.models.refs import class_ref_from, get_schema_ref_policy, resolve_class_ref

_DEFAULT_RETRYABLE = ("builtins:Exception",)
_FALLBACK = "fallback:"


def fallback_tool(on_error: str) -> str | None:
    """Return the tool that an `on_error` text falls back to; None for every other text."""
    if not on_error.startswith(_FALLBACK):
        return None
    return on_error[len(_FALLBACK) :] or None


class RetryPolicy(BaseModel):
    """How often a failed tool call is repeated, after which delay, and for which errors.

    `max_retries` counts the calls after the first, `backoff_seconds` is the delay before the first of them, and
    `backoff_multiplier` is the growth of the delay from one to the next. `retryable_errors` holds class refs, which are
    not imported before a run needs them.

    Raises:
        pydantic.ValidationError: A number is out of bounds; `retryable_errors` is empty or holds a malformed ref.
    """

    model_config = ConfigDict(frozen=True)

    max_retries: int = Field(default=3, ge=0)
    backoff_seconds: float = Field(default=1.0, ge=0)
    backoff_multiplier: float = Field(default=2.0, ge=1.0)
    jitter: bool = False
    retryable_errors: tuple[str, ...] = _DEFAULT_RETRYABLE

    @field_validator("retryable_errors")
    @classmethod
    def _check_refs(cls, refs: tuple[str, ...]) -> tuple[str, ...]:
        if not refs:
            raise ValueError("retryable_errors must hold at least one class ref")
        for ref in refs:
            if ":" not in ref:
                raise ValueError(f"retryable error '{ref}' must be in 'module:qualname' form")
        return refs

    def compute_delay(self, attempt: int) -> float:
        """Return the seconds to wait before retry `attempt`, the first being 1; 0.0 for anything below 1.

        With `jitter` the delay is multiplied by a random factor of at least 0.5 and less than 1.5.
        """
        if attempt < 1 or self.backoff_seconds == 0:
            return 0.0
        delay = self.backoff_seconds * self.backoff_multiplier ** (attempt - 1)
        return delay * (0.5 + random.random()) if self.jitter else delay

    def resolved_retryable_errors(self) -> tuple[type[BaseException], ...]:
        """Import and return the classes of `retryable_errors`, in order.

        Raises:
            SchemaRefPolicyError: The current policy refuses one of their modules.
            FlowSerializationError: A ref does not lead to an exception class.
        """
        if self.retryable_errors == _DEFAULT_RETRYABLE and get_schema_ref_policy() is None:
            return (Exception,)
        return tuple(resolve_class_ref(ref, expected_base=BaseException) for ref in self.retryable_errors)


class FlowStep(BaseModel):
    """One step: a tool call, or the run of another flow.

    Exactly one of `tool_name` and `flow_name` is given. A text in `input_mapping` names a context key or is a JSON
    pointer into the context, anything else is a constant; an empty mapping passes the whole context. `output_mapping`
    maps context keys to output keys; None merges every output under its own name. `on_error` is `fail`, `skip` or
    `fallback:<tool name>`. `decision_candidates` are the tools a decision may choose from. Contracts are refs of model
    classes, which are not imported before they are needed.

    Raises:
        pydantic.ValidationError: The fields contradict each other.
    """

    tool_name: str | None = None
    flow_name: str | None = None
    input_mapping: dict[str, Any] = Field(default_factory=dict)
    output_mapping: dict[str, str] | None = None
    retry: RetryPolicy | None = None
    on_error: str = "fail"
    decision_candidates: list[str] | None = None
    input_contract: str | None = None
    output_contract: str | None = None

    @field_validator("on_error")
    @classmethod
    def _check_on_error(cls, on_error: str) -> str:
        if on_error not in ("fail", "skip") and fallback_tool(on_error) is None:
            raise ValueError(f"on_error must be 'fail', 'skip' or 'fallback:<tool name>', not {on_error!r}")
        return on_error

    @model_validator(mode="after")
    def _check_target(self) -> Self:
        if (self.tool_name is None) == (self.flow_name is None):
            raise ValueError("a step requires exactly one of 'tool_name' or 'flow_name'")
        return self

    @model_validator(mode="after")
    def _check_candidates(self) -> Self:
        candidates = self.decision_candidates
        if candidates is None:
            return self
        if self.tool_name is None:
            raise ValueError("decision_candidates are only valid for tool steps")
        if not candidates:
            raise ValueError("decision_candidates must hold at least one tool name")
        if len(set(candidates)) != len(candidates):
            raise ValueError("decision_candidates must not hold duplicates")
        if self.tool_name not in candidates:
            raise ValueError(f"tool_name '{self.tool_name}' must be a member of decision_candidates")
        return self

    @property
    def display_name(self) -> str:
        """The name of the step's tool or, for a sub-flow step, of its flow."""
        name = self.flow_name if self.tool_name is None else self.tool_name
        return name or ""

    @staticmethod
    def contract_ref_from(cls: type[BaseModel]) -> str:
        """Return the ref that names `cls`, for `input_contract` and `output_contract`."""
        return class_ref_from(cls)

    @property
    def resolved_input_contract(self) -> type[BaseModel] | None:
        """The class of `input_contract`, imported now; None when unset. Raises as `resolve_class_ref`."""
        return _resolve_model(self.input_contract)

    @property
    def resolved_output_contract(self) -> type[BaseModel] | None:
        """The class of `output_contract`, imported now; None when unset. Raises as `resolve_class_ref`."""
        return _resolve_model(self.output_contract)


def _resolve_model(ref: str | None) -> type[BaseModel] | None:
    return None if ref is None else resolve_class_ref(ref, expected_base=BaseModel)


class ConditionalEdge(BaseModel):
    """A branch: the step to take when `predicate` holds. The predicate is parsed when the branch is chosen."""

    model_config = ConfigDict(frozen=True)

    target_step_id: str
    predicate: str


class DAGFlowStep(FlowStep):
    """A step with an id and dependencies; it may choose among the steps that depend on it.

    The first branch whose predicate holds selects its target, otherwise `default_next` is selected, when set. Steps of
    the type `capability` are run by an executor that supports them.

    Raises:
        pydantic.ValidationError: The fields contradict each other.
    """

    step_id: str
    depends_on: list[str] = Field(default_factory=list)
    step_type: Literal["tool", "capability"] = "tool"
    capability_id: str | None = None
    branches: list[ConditionalEdge] = Field(default_factory=list)
    default_next: str | None = None

    @model_validator(mode="after")
    def _check_step_type(self) -> Self:
        if self.step_type == "tool" and self.capability_id is not None:
            raise ValueError("capability_id must be None for a step of type 'tool'")
        if self.step_type == "capability" and self.branches:
            raise ValueError("branches are not allowed on a step of type 'capability'")
        if self.default_next is not None and not self.branches:
            raise ValueError("default_next needs at least one branch")
        return self
