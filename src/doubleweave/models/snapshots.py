"""What a checkpointer keeps of a run, so that it can be resumed."""

from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from doubleweave.models.records import StepRecord
from doubleweave.models.trusted import trusted
from doubleweave.models.versions import SNAPSHOT_VERSION


class ExecutionSnapshot(BaseModel):
    """The state of a run after a finished step of a linear flow, or a finished level of a DAG."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, ser_json_inf_nan="constants")

    snapshot_version: str = SNAPSHOT_VERSION
    trace_id: str
    flow_name: str
    flow_version: str
    initial_input: dict[str, Any]
    started_at: datetime
    context: dict[str, Any]
    execution_log: list[StepRecord] = Field(default_factory=list)
    completed_steps: int = 0
    completed_dag_levels: int = 0
    tool_schema_hashes: dict[str, str] = Field(default_factory=dict)


@runtime_checkable
class Checkpointer(Protocol):
    """Keeps the newest snapshot of each run.

    Methods may be plain or coroutine functions; plain ones are called where they may block. A store that never blocks may
    say so with a class attribute `inline = True`, and is then called on the thread that drives the run; one that gives back
    the objects themselves, not what JSON made of them, with `keeps_objects = True`. A store may also have
    `has(trace_id) -> bool`, which tells a snapshot that cannot be read from one that is not there.
    """

    def save(self, snapshot: ExecutionSnapshot) -> Any:
        """Keep a snapshot in the place of the one before it with the same trace id."""
        ...

    def load(self, trace_id: str) -> Any:
        """Return the snapshot, or None."""
        ...

    def delete(self, trace_id: str) -> Any:
        """Forget the snapshot; nothing happens when there is none."""
        ...

    def list_trace_ids(self) -> list[str]:
        """Return the trace ids that there are snapshots of."""
        ...


_FIELDS = set(ExecutionSnapshot.model_fields)


def trusted_snapshot(
    *,
    trace_id: str,
    flow_name: str,
    flow_version: str,
    initial_input: dict[str, Any],
    started_at: datetime,
    context: dict[str, Any],
    execution_log: list[StepRecord],
    completed_steps: int,
    completed_dag_levels: int,
    tool_schema_hashes: dict[str, str],
) -> ExecutionSnapshot:
    """Return a snapshot without validating; the values are kept themselves, not copied."""
    values = {
        "snapshot_version": SNAPSHOT_VERSION,
        "trace_id": trace_id,
        "flow_name": flow_name,
        "flow_version": flow_version,
        "initial_input": initial_input,
        "started_at": started_at,
        "context": context,
        "execution_log": execution_log,
        "completed_steps": completed_steps,
        "completed_dag_levels": completed_dag_levels,
        "tool_schema_hashes": tool_schema_hashes,
    }
    return trusted(ExecutionSnapshot, values, _FIELDS)
