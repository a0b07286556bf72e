"""Keeping a run's state as it goes, so that it can be resumed."""

from collections.abc import Callable
from typing import Any

from doubleweave.core.effects import Invoke, Life
from doubleweave.core.plan import Level
from doubleweave.core.run import Run
from doubleweave.models.product import PRODUCT
from doubleweave.models.snapshots import ExecutionSnapshot, trusted_snapshot


def take_snapshot(run: Run, level: Level) -> Callable[[], ExecutionSnapshot]:
    """Return what makes a snapshot of a run in which `level` has just been merged, now or at any later time.

    A run only ever appends to what it keeps for snapshots, so that neither this nor the context need be copied before somebody
    asks for it.
    """
    kept, earlier = run.kept, run.earlier_log
    # The log itself holds what the result will show, which is the caller's to change.
    kept += [step.kept() for step in run.log[len(kept) :]]
    records, hashes = len(kept), run.tool_schema_hashes()
    first_context, merged, merges = run.first_context, run.merged, len(run.merged)
    done, is_dag = level.number + 1, run.plan.is_dag
    flow, trace_id, started_at, initial_input = run.flow, run.trace_id, run.flow_started_at, run.initial_input

    def snapshot() -> ExecutionSnapshot:
        context = first_context.copy()
        for outputs in merged[:merges]:
            context.update(outputs)
        return trusted_snapshot(
            trace_id=trace_id,
            flow_name=flow.name,
            flow_version=flow.version,
            initial_input=initial_input.copy(),
            started_at=started_at,
            context=context,
            execution_log=[*earlier, *(step.record for step in kept[:records])],
            completed_steps=0 if is_dag else done,
            completed_dag_levels=done if is_dag else 0,
            tool_schema_hashes=hashes.copy(),
        )

    return snapshot


def save_snapshot(run: Run, snapshot: Callable[[], ExecutionSnapshot]) -> Life[None]:
    """Hand a snapshot to the checkpointer; whatever that raises leaves the run."""
    store: Any = run.checkpointer
    if run.defers is None:
        run.defers = _defers(store)
    if run.defers:
        yield from call_store(run.call_context, store, "save_deferred", run.trace_id, snapshot)
    else:
        yield from call_store(run.call_context, store, "save", snapshot())


def _defers(store: Any) -> bool:
    """Say whether a store's `save_deferred` goes with its `save`: neither a subclass nor the instance has another `save`."""
    cls = type(store)
    owner = next((owner for owner in cls.__mro__ if "save_deferred" in owner.__dict__), None)
    of_instance = "save" in getattr(store, "__dict__", ())
    return owner is not None and not of_instance and cls.save is owner.__dict__.get("save")


def forget_snapshot(run: Run) -> Life[None]:
    """Let the checkpointer delete the snapshot of a run that has succeeded."""
    yield from call_store(run.call_context, run.checkpointer, "delete", run.trace_id)


def call_store(context: Any, store: Any, method: str, *arguments: Any) -> Life[Any]:
    """Call a method of a store and return its result: at once when the store says that it never blocks."""
    function = getattr(store, method)
    name = f"{PRODUCT}-store"
    # Of the class, for an object that stands for another one passes on attributes, but its own methods may block.
    if not getattr(type(store), "inline", False):
        return (yield Invoke(function, arguments, context, name, finish=True))
    result = function(*arguments)
    if hasattr(result, "__await__"):
        return (yield Invoke(lambda: result, (), context, name, finish=True))
    return result
