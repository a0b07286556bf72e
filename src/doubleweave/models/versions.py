"""Versions stamped on what the library writes, and the rule that decides whether it can read one back."""

FLOW_FORMAT_VERSION = "1"
TRACE_SCHEMA_VERSION = "1.1"
SNAPSHOT_VERSION = "1"
LEGACY_VERSION = "0"


def major(version: str | None) -> int:
    """Return the integer before the first dot; 0 when there is none."""
    head, _, _ = (version or "").partition(".")
    try:
        return int(head)
    except ValueError:
        return 0


def same_major(found: str | None, current: str) -> bool:
    """Say whether two versions have the same major number."""
    return major(found) == major(current)
