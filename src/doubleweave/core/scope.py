"""What a run hands down to the runs that its tools start."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Scope:
    """The settings of a run that nested runs inherit."""

    dry_run: bool = False
    dry_run_unsupported: str = "skip"
    dynamic_params: Mapping[str, Any] = field(default_factory=dict)
    replay: bool = False
    middleware: tuple[Any, ...] = ()


# Set only inside the context copy in which a run's tools are called, so that nothing needs to be reset in the caller's.
CURRENT_SCOPE: ContextVar[Scope | None] = ContextVar("doubleweave_scope", default=None)


def inherited_scope(dry_run: bool, dry_run_unsupported: str, dynamic_params: Mapping[str, Any] | None) -> Scope:
    """Return the scope of a run that is asked for here: its own terms on top of those of the run that it is called from.

    Raises:
        ValueError: `dry_run_unsupported` is neither `"skip"` nor `"abort"`.
    """
    if dry_run_unsupported not in ("skip", "abort"):
        raise ValueError(f"dry_run_unsupported must be 'skip' or 'abort', got {dry_run_unsupported!r}")
    outer = CURRENT_SCOPE.get() or _NO_SCOPE
    if not dry_run and not dynamic_params:
        return outer
    return Scope(
        dry_run=dry_run or outer.dry_run,
        dry_run_unsupported=dry_run_unsupported if dry_run else outer.dry_run_unsupported,
        dynamic_params={**outer.dynamic_params, **(dynamic_params or {})},
        replay=outer.replay,
        middleware=outer.middleware,
    )


_NO_SCOPE = Scope()
