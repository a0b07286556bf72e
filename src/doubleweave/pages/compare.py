"""Two runs side by side: which step of one is which of the other, and what differs."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from doubleweave.models.json_values import json_path
from doubleweave.models.records import ExecutionResult, StepRecord
from doubleweave.pages.data import Curtain, Data, rows_data, text_of

_MOST = 50
_MISSING = object()


def compared_rows(first: ExecutionResult, second: ExecutionResult, curtain: Curtain) -> list[Data]:
    """Return the rows of the first run, each with its row of the second as `b`, what differs, and rows of one run alone.

    Steps are the same when index and tool are; among the rest, when they are the same tool's next call. A row that only the
    second run has stands after the one that precedes it there.
    """
    rows, others = rows_data(first, curtain), rows_data(second, curtain)
    records = dict(zip((row["id"] for row in rows), _records(first), strict=True))
    other_records = dict(zip((row["id"] for row in others), _records(second), strict=True))
    pairs = _pairs(rows, others)
    by_first = {mine: theirs for theirs, mine in pairs.items()}
    others_by_id = {row["id"]: row for row in others}
    for row in rows:
        theirs = by_first.get(row["id"])
        if theirs is None:
            row["only"] = "a"
            continue
        row["b"] = others_by_id[theirs]
        row["diff"] = list(_differences(row, records[row["id"]], row["b"], other_records[theirs], curtain))
    return list(_merged(rows, others, pairs))


def _records(result: ExecutionResult) -> Iterator[StepRecord]:
    for record in result.execution_log:
        yield record
        if record.sub_result is not None:
            yield from _records(record.sub_result)


def _pairs(rows: list[Data], others: list[Data]) -> dict[str, str]:
    """Return the id of the first run's row for that of each row of the second that has one."""
    names = {row["id"]: row["name"] for row in rows}
    pairs = {row["id"]: row["id"] for row in others if names.get(row["id"]) == row["name"]}
    taken = set(pairs.values())
    waiting: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row in reversed(rows):
        if row["id"] not in taken:
            waiting[row["name"], row["depth"]].append(row["id"])
    for row in others:
        candidates = waiting[row["name"], row["depth"]]
        if row["id"] not in pairs and candidates:
            pairs[row["id"]] = candidates.pop()
    return pairs


def _merged(rows: list[Data], others: list[Data], pairs: dict[str, str]) -> Iterator[Data]:
    after: dict[str | None, list[Data]] = defaultdict(list)
    place = None
    for row in others:
        if row["id"] in pairs:
            place = pairs[row["id"]]
        else:
            after[place].append({**row, "id": f"b:{row['id']}", "only": "b"})
    yield from after[None]
    for row in rows:
        yield row
        yield from after[row["id"]]


def _differences(
    row: Data, record: StepRecord, other: Data, other_record: StepRecord, curtain: Curtain
) -> Iterator[Data]:
    if row["state"] != other["state"]:
        yield {"path": "outcome", "a": row["state"], "b": other["state"]}
    if row.get("error") != other.get("error"):
        yield {"path": "error", "a": _error_text(row), "b": _error_text(other)}
    found = _value_differences(curtain.plain(record.outputs), curtain.plain(other_record.outputs), ())
    for number, (path, mine, theirs) in enumerate(found):
        if number == _MOST:
            yield {"path": "more differences than are shown"}
            return
        yield {"path": path, "a": _shown(mine), "b": _shown(theirs)}


def _error_text(row: Data) -> str | None:
    error = row.get("error")
    return error and ": ".join(filter(None, (error["code"], error["type"], error["message"])))


def _shown(value: Any) -> str | None:
    return None if value is _MISSING else text_of(value)


def _value_differences(mine: Any, theirs: Any, trail: tuple[str | int, ...]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the place of each difference between two plain values, and what stands there in each."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in [*mine, *(key for key in theirs if key not in mine)]:
            yield from _value_differences(mine.get(key, _MISSING), theirs.get(key, _MISSING), (*trail, key))
    elif isinstance(mine, list) and isinstance(theirs, list):
        for number in range(max(len(mine), len(theirs))):
            left, right = (each[number] if number < len(each) else _MISSING for each in (mine, theirs))
            yield from _value_differences(left, right, (*trail, number))
    elif mine is _MISSING or theirs is _MISSING or _shown(mine) != _shown(theirs):
        yield json_path(("outputs", *trail)).removeprefix("$."), mine, theirs
