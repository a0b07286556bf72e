"""JSON texts, read more strictly than the standard parser reads them, and what can be written as one."""

import json
import math
from itertools import accumulate, islice
from typing import Any

from doubleweave.models.json_values import json_path
from doubleweave.models.parse_limits import FlowParseLimits, StructureError, check_bytes, is_unicode, walk

LONGEST_NUMBER = 4_300
"""How many characters a number may have: Python, as it is set up by default, writes integers of this many digits."""

DEEPEST = 200
"""How many levels a value may be nested to be written."""

_TOO_LARGE = 10**LONGEST_NUMBER
_FAR = 100_000
_LONG = 100_000
_SPACES = " \t\n\r"
_LEVELS = {"[": 1, "{": 1, "]": -1, "}": -1}


def parse_json(text: str, limits: FlowParseLimits) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is no JSON, an object has a key twice, or a number is one that cannot be written again.
        RecursionError: It is nested too deeply for the parser.
        StructureError: It has more bytes than the limit allows, or is long and has more values; whether it is JSON is not looked
            at then. No other limit is.
    """
    check_bytes(text, limits)
    # The values of a shorter one are built as quickly as they are counted, and can be named.
    if len(text) > _LONG and limits.max_nodes is not None:
        try:
            _check_count(text, limits.max_nodes, limits.max_depth)
        except StructureError:
            # What is no mapping is refused for that, whatever else is in it.
            if text.lstrip(_SPACES).startswith("["):
                return []
            raise
    repeated: list[tuple[dict[str, Any], str]] = []

    def make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs) and not repeated:
            repeated.append((made, _first_repeated(pairs)))
        return made

    value = json.loads(
        text, object_pairs_hook=make_object, parse_constant=_refuse, parse_int=parse_integer, parse_float=parse_float
    )
    for owner, key in repeated:
        places = (json_path(tuple(trail)) for trail, found in islice(walk(value), _FAR) if found is owner)
        raise ValueError(f"the key {key[:80]!r} stands twice in {next(places, 'an object')}")
    return value


def _check_count(text: str, most: int, deepest: int | None) -> None:
    """Refuse a JSON text of more than `most` values, none of which is built.

    A value follows each comma, each bracket of a list or mapping that is not empty, and nothing.
    """
    # Without the quotes in it, a string ends at the next one.
    quoted = text.replace("\\\\", "").replace('\\"', "")
    # A string has two quotes, and a value is a string at most and has one as its key.
    parts = quoted.split('"', 4 * most)
    # A quote is left of each string, so that no list looks empty that has one.
    structure = '"'.join(parts[::2])
    for space in _SPACES:
        structure = structure.replace(space, "")
    opened = structure.count("[") + structure.count("{") - structure.count("[]") - structure.count("{}")
    if len(parts) <= 4 * most and 1 + structure.count(",") + opened <= most:
        return
    levels = accumulate(_LEVELS.get(each, 0) for each in structure[:most])
    if deepest is not None and any(level > deepest for level in levels):
        raise StructureError(f"the text is nested deeper than max_depth={deepest} allows")
    raise StructureError(f"the text has more values than max_nodes={most} allows")


def _first_repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            break
        seen.add(key)
    return key


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")


def parse_integer(text: str) -> int:
    """Return an integer; `ValueError` when it is too long to be written again."""
    if len(text.lstrip("-")) > LONGEST_NUMBER:
        raise ValueError(f"the number {text[:20]}... is longer than {LONGEST_NUMBER} digits")
    return int(text)


def parse_float(text: str) -> float:
    """Return a float; `ValueError` when it is larger than floats are."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is larger than a float can be")
    return number


def json_fault(root: Any, path: tuple[str | int, ...] = ()) -> str | None:
    """Say where in `root`, which stands at `path`, the first value is that a JSON text does not give back, and why."""
    for trail, value in walk(root):
        fault = "is nested too deeply to be written" if len(trail) > DEEPEST else _fault_of(value)
        if fault is not None:
            return f"{json_path((*path, *trail))} {fault}"
    return None


def _fault_of(value: Any) -> str | None:
    if isinstance(value, str):
        return None if is_unicode(value) else "is no Unicode: it has half a surrogate pair"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"is {value!r}, which is not a JSON number"
    if isinstance(value, int):
        return None if abs(value) < _TOO_LARGE else f"is an integer of more than {LONGEST_NUMBER} digits"
    if isinstance(value, dict):
        odd = next((key for key in value if not isinstance(key, str) or not is_unicode(key)), None)
        return None if odd is None else f"has the key {odd!r}; JSON keys are Unicode texts"
    if value is None or isinstance(value, list):
        return None
    return f"is a {type(value).__name__}, which JSON does not give back: use its JSON form"
