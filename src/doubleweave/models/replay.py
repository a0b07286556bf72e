"""What the repetition of a run says about the first one."""

from enum import Enum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from doubleweave.models.records import ExecutionResult


class ReplayMode(str, Enum):
    """Whether a replay compares its outputs with those of the run that it repeats."""

    VERIFY = "verify"
    STRICT = VERIFY
    EXECUTE = "execute"
    SKIP_VALIDATION = EXECUTE


class StepDiff(BaseModel):
    """One output field that differs; a missing one counts as `None`. `<record>` stands for a record without outputs.

    A NaN equals a NaN; values whose comparison raises or gives no truth value count as different.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step_index: int
    tool_name: str
    field: str
    expected: Any
    actual: Any


class ReplayResult(BaseModel):
    """The result of a replay and, in mode `VERIFY`, every difference of its steps' outputs in order."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    original_trace_id: str
    new_result: ExecutionResult
    mode: ReplayMode
    diffs: list[StepDiff] = Field(default_factory=list)
    all_steps_match: bool = True
