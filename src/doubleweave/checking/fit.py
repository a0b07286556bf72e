"""Whether every value of one declared type is accepted by another."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

from pydantic_core import SchemaValidator, core_schema

from doubleweave.checking.kinds import (
    ANYTHING,
    NOTE_BY_NAME,
    NOTE_COERCES,
    NOTE_LIMITS,
    NOTE_PYTHON,
    NOTE_STRICT,
    NOTE_STRIPS,
    Declared,
)


class Level(IntEnum):
    """How a value and its taker go together; a higher level takes precedence over a lower one."""

    FITS = 0
    UNPROVEN = 1
    MAY_FAIL = 2
    FAILS = 3


@dataclass(frozen=True)
class Fit:
    """A level and, unless all fits, where in the value the trouble is and what it is."""

    level: Level
    path: str = ""
    reason: str = ""

    def under(self, step: str) -> "Fit":
        """Return the same, seen from one level further out."""
        return self if self.level is Level.FITS else Fit(self.level, f"{step}{self.path}", self.reason)

    def at_most(self, level: Level) -> "Fit":
        """Return the same, no worse than `level`."""
        return Fit(min(self.level, level), self.path, self.reason)


GOOD = Fit(Level.FITS)


class _Round:
    """One pass over the pairs of schemas that a comparison comes to, each of which is compared once.

    What contains itself is taken for what the round before made of it, at first for good.
    """

    def __init__(self, before: "_Round | None") -> None:
        # The schemas are kept, for a pair is known by their identities.
        self.found: dict[tuple[int, int], tuple[Fit, Any, Any]] = {}
        self.before = {} if before is None else before.found
        self.assumed: set[tuple[int, int]] = set()
        self.open: set[tuple[int, int]] = set()

    def is_settled(self) -> bool:
        """Say whether what was assumed is what was found."""
        return all(self.assumption(pair).level is self.found[pair][0].level for pair in self.assumed)

    def assumption(self, pair: tuple[int, int]) -> Fit:
        """Return what a pair is taken for while it is looked at."""
        return self.before[pair][0] if pair in self.before else GOOD


_MOST_ROUNDS = 20


def fits(given: Declared, taker: Declared) -> Fit:
    """Compare what is given with what is taken.

    `FAILS` when no value of the given type is accepted, `MAY_FAIL` when some are not, `UNPROVEN` when that cannot be told.
    Numbers are taken as finite and within the range of a float; what validators of one's own add is not looked into.
    """
    met = None
    try:
        for _ in range(_MOST_ROUNDS):
            met = _Round(met)
            found = _fits(given, taker, met)
            if met.is_settled():
                return found
    except Exception as error:
        # Schemas and constants can be nested too deeply, and constants may be of any class.
        return Fit(Level.UNPROVEN, "", f"they cannot be compared ({type(error).__name__})")
    return Fit(Level.UNPROVEN, "", "they contain themselves in too many ways")


def _fits(given: Declared, taker: Declared, met: _Round) -> Fit:
    pair = (id(given.schema), id(taker.schema))
    if pair in met.found:
        return met.found[pair][0]
    if pair in met.open:
        met.assumed.add(pair)
        return met.assumption(pair)
    met.open.add(pair)
    if given.origin == taker.origin == "document" and _is_same_text(given.schema, taker.schema):
        fit = GOOD
    else:
        takers = list(taker.alternatives())
        nothing = Fit(Level.FAILS, "", "nothing is accepted")
        found = [
            min((_one(each, other, met) for other in takers), key=_level, default=nothing)
            for each in given.alternatives()
        ]
        fit = any_of(found)
    met.found[pair] = (fit, given.schema, taker.schema)
    return fit


def _is_same_text(one: Any, other: Any) -> bool:
    """Say whether two documents say the same; a reference may mean something else in each."""
    text = json.dumps(one, sort_keys=True)
    return "$ref" not in text and "$dynamicRef" not in text and text == json.dumps(other, sort_keys=True)


def _level(fit: Fit) -> Level:
    return fit.level


def any_of(fits_of_alternatives: list[Fit]) -> Fit:
    """Combine the fits of values that are one or the other: some of them fail, or all."""
    worst = max(fits_of_alternatives, key=_level, default=GOOD)
    some_do = any(fit.level is not Level.FAILS for fit in fits_of_alternatives)
    return worst.at_most(Level.MAY_FAIL) if some_do else worst


def _all_of(fits_of_parts: Iterable[Fit]) -> Fit:
    """Combine the fits of the parts of one value: all of them have to."""
    return max(fits_of_parts, key=_level, default=GOOD)


def _one(given: Declared, taker: Declared, met: _Round) -> Fit:
    mine, theirs = given.kind, taker.kind
    if theirs == "any":
        return _as_json(given) if taker.origin == "document" else GOOD
    if theirs == "JSON":
        return _as_json(given)
    if mine == "JSON":
        return Fit(Level.UNPROVEN, "", f"any JSON is given, and {described(taker)} is needed")
    if "opaque" in (mine, theirs):
        return Fit(Level.UNPROVEN, "", "its schema says more than is looked into here")
    if mine == "any":
        return Fit(Level.UNPROVEN, "", f"nothing is declared of a value that has to be {described(taker)}")
    if mine == "const":
        return _known_value(given, taker, met)
    if given.is_loose and _may_be_of_another_type(given, taker):
        return Fit(
            Level.UNPROVEN, "", f"{described(given)} is checked but not converted before, and not converted here"
        )
    if theirs == "const":
        return _as_constant(given, taker)
    if "python" in (mine, theirs):
        return _python(given, taker, met)
    if mine == theirs:
        return _same_kind(given, taker, met)
    return _converted(given, taker)


def _may_be_of_another_type(given: Declared, taker: Declared) -> bool:
    """Say whether a value that has only been checked can be one that is converted, where the taker does not convert it."""
    if given.kind == "string":
        return NOTE_COERCES in given.schema and NOTE_COERCES not in taker.schema
    return given.kind in ("integer", "number", "boolean", "python") and not taker.converts


def _mismatch(level: Level, given: Declared, taker: Declared) -> Fit:
    return Fit(level, "", f"{described(given)} is given, {described(taker)} is needed")


def described(each: Declared) -> str:
    """Say in a few words what an alternative is."""
    schema = each.schema
    if each.kind == "python":
        name = str(schema[NOTE_PYTHON])
        return name.partition(" ")[0] if set(name) & set("{[") else name.rpartition(" ")[2]
    if each.kind == "const":
        return f"the value {schema['const']!r}"
    return {"any": "anything", "null": "None", "opaque": "something"}.get(each.kind, each.kind)


def _converted(given: Declared, taker: Declared) -> Fit:
    """Compare two different JSON types."""
    pair = (given.kind, taker.kind)
    if pair == ("integer", "number"):
        return _limits(given, taker)
    if taker.kind == "string" and NOTE_COERCES in taker.schema and given.kind in ("integer", "number"):
        return Fit(Level.UNPROVEN, "", "the length of a number is not known") if _bounds(taker.schema) else GOOD
    # In JSON, 1.0 is an integer and 1 a number.
    if pair == ("number", "integer") and (given.origin == "document" or not taker.schema.get(NOTE_STRICT)):
        return _mismatch(Level.MAY_FAIL, given, taker)
    if taker.converts and pair in (("boolean", "integer"), ("boolean", "number")) and not given.is_loose:
        return _limits(given, taker) if _bounds(taker.schema) else GOOD
    if taker.converts and pair in _SOMETIMES:
        return _mismatch(Level.MAY_FAIL, given, taker)
    # A raw value has only been found to be convertible: it may be a text of digits.
    return _mismatch(Level.MAY_FAIL if given.is_loose else Level.FAILS, given, taker)


_SCALARS = ("boolean", "integer", "number", "string")
# What pydantic converts when the value happens to allow it.
_SOMETIMES = {(mine, theirs) for mine in _SCALARS for theirs in _SCALARS if mine != theirs and theirs != "string"}


def _same_kind(given: Declared, taker: Declared, met: _Round) -> Fit:
    if given.origin == "document" and given.kind == "integer" and taker.schema.get(NOTE_STRICT):
        return Fit(Level.MAY_FAIL, "", "an integer of JSON may be written as 1.0")
    if given.kind == "array":
        return _all_of((_limits(given, taker), _items(given, taker, met)))
    if given.kind == "object":
        return _object(given, taker, met)
    return _limits(given, taker)


def _bounds(schema: dict[str, Any]) -> set[str]:
    return schema.keys() & {*_LOWER, *_UPPER, "multipleOf", "pattern", "uniqueItems", NOTE_LIMITS}


_LOWER = {"minimum": ("maximum", False), "exclusiveMinimum": ("maximum", True), "minLength": ("maxLength", False)}
_LOWER["minItems"] = ("maxItems", False)
_UPPER = {"maximum": ("minimum", False), "exclusiveMaximum": ("minimum", True), "maxLength": ("minLength", False)}
_UPPER["maxItems"] = ("minItems", False)


def _limits(given: Declared, taker: Declared) -> Fit:
    """Compare the bounds of two types of one kind."""
    mine, theirs = given.schema, taker.schema
    found = [_bound(mine, key, theirs[key]) for key in (*_LOWER, *_UPPER) if key in theirs]
    for key in ("multipleOf", "pattern", NOTE_LIMITS):
        if key in theirs and theirs[key] != mine.get(key):
            found.append(Fit(Level.UNPROVEN, "", f"{key.strip(chr(0))} {theirs[key]} is not promised"))
    if (given.is_loose and NOTE_STRIPS in mine and _bounds(theirs)) or (
        NOTE_STRIPS in theirs and NOTE_STRIPS not in mine and "minLength" in theirs
    ):
        found.append(Fit(Level.UNPROVEN, "", "it is stripped of blanks or rewritten before it is measured"))
    if theirs.get("uniqueItems") and not mine.get("uniqueItems") and not taker.converts:
        found.append(Fit(Level.MAY_FAIL, "", "items that are not unique"))
    return _all_of(found)


def _bound(mine: dict[str, Any], key: str, limit: Any) -> Fit:
    lower = key in _LOWER
    strict = key.startswith("exclusive")
    names = _LOWER if lower else _UPPER
    own = [(mine[name], name.startswith("exclusive")) for name in names if name in mine and _same_measure(name, key)]
    if any(
        (value > limit if lower else value < limit) or (value == limit and (closed or not strict))
        for value, closed in own
    ):
        return GOOD
    opposite, word = _UPPER if lower else _LOWER, "below" if lower else "above"
    ends = [
        (mine[name], name.startswith("exclusive")) for name in opposite if name in mine and _same_measure(name, key)
    ]
    none_left = any(
        (end < limit if lower else end > limit) or (end == limit and (strict or closed)) for end, closed in ends
    )
    measure = {"L": "length ", "I": "number of items "}.get(key[3], "")
    return Fit(Level.FAILS if none_left else Level.MAY_FAIL, "", f"a {measure}{word} {limit} is possible")


def _same_measure(name: str, key: str) -> bool:
    return name.removeprefix("exclusive").lower()[3:] == key.removeprefix("exclusive").lower()[3:]


def _items(given: Declared, taker: Declared, met: _Round) -> Fit:
    mine, theirs = given.schema, taker.schema
    ours, places = mine.get("prefixItems", ()), theirs.get("prefixItems", ())
    found = []
    # Position by position, and last what may follow on both sides.
    for position in range(max(len(ours), len(places)) + 1):
        item = ours[position] if position < len(ours) else mine.get("items", True)
        place = places[position] if position < len(places) else theirs.get("items", True)
        if item is False:
            continue
        if place is False:
            each = Fit(Level.FAILS, f"[{position}]", "so many items are not allowed")
        else:
            each = _fits(given.part(item), taker.part(place), met).under(f"[{position}]" if places or ours else "[]")
        found.append(each if mine.get("minItems", 0) > position else each.at_most(Level.MAY_FAIL))
    return _all_of(found)


def _object(given: Declared, taker: Declared, met: _Round) -> Fit:
    mine, theirs = given.schema, taker.schema
    offered, always = mine.get("properties", {}), set(mine.get("required", ()))
    wanted, needed = theirs.get("properties", {}), set(theirs.get("required", ()))
    others, extra = (
        mine.get("additionalProperties", given.origin in ("document", "raw")),
        theirs.get("additionalProperties", True),
    )
    found = []
    two_names = Level.UNPROVEN if theirs.get(NOTE_BY_NAME) else Level.FAILS
    for name in wanted.keys() | needed:
        if name in offered:
            each = _fits(given.part(offered[name]), taker.part(wanted.get(name, ANYTHING)), met).under(f".{name}")
            found.append(each if name in always else each.at_most(Level.MAY_FAIL))
        if name in needed and name not in always:
            missing = Level.MAY_FAIL if name in offered or others is not False else two_names
            found.append(Fit(missing, f".{name}", "it is missing" if missing is Level.FAILS else "it may be missing"))
        if name not in offered and others is not False:
            each = _fits(given.part(others), taker.part(wanted.get(name, ANYTHING)), met).under(f".{name}")
            found.append(each.at_most(Level.MAY_FAIL))
    for name in offered.keys() - wanted.keys():
        each = _extra(given.part(offered[name]), taker, extra, met).under(f".{name}")
        if theirs.get(NOTE_BY_NAME):
            each = Fit(Level.UNPROVEN, f".{name}", "it may be another name of a field")
        found.append(each if name in always else each.at_most(Level.MAY_FAIL))
    if others is not False:
        found.append(_extra(given.part(others), taker, extra, met).at_most(Level.MAY_FAIL))
    return _all_of(found)


def _extra(given: Declared, taker: Declared, extra: Any, met: _Round) -> Fit:
    if extra is False:
        return Fit(Level.FAILS, "", "no such key is allowed")
    return _fits(given, taker.part(extra), met)


def _python(given: Declared, taker: Declared, met: _Round) -> Fit:
    """Compare where a value is none of JSON's."""
    mine, theirs = _sort(given), _sort(taker)
    if {mine, theirs} <= _SEQUENCES and (mine == theirs or taker.converts):
        if given.is_loose and mine in _SETS and theirs not in _SETS and _bounds(taker.schema):
            return Fit(Level.UNPROVEN, "", "duplicates are not taken out before")
        return _all_of((_limits(given, taker), _items(given, taker, met), _without_duplicates(given, taker)))
    if theirs == _ANY_DICT and (mine == "object" or mine.startswith("dict")):
        return _all_of((_limits(given, taker), _object(given, taker, met)))
    if mine == theirs:
        same = taker.schema.get(NOTE_LIMITS) in (None, given.schema.get(NOTE_LIMITS))
        fit = GOOD if same else Fit(Level.UNPROVEN, "", f"{taker.schema[NOTE_LIMITS]} is not promised")
        return _all_of((fit, _object(given, taker, met))) if mine.startswith("dict") else fit
    if taker.converts and not given.is_loose and (mine, theirs) in _ALWAYS and NOTE_LIMITS not in taker.schema:
        return GOOD
    # Some are instances of what JSON has, too, and an empty dict has no keys of the wrong kind.
    certain: Any = taker.origin == "document" and mine in _NEVER_JSON
    certain = certain or ({mine, theirs} & {"object", "null"} and {mine, theirs} & _SCALAR_TYPES)
    return _mismatch(Level.FAILS if certain and not given.is_loose else Level.MAY_FAIL, given, taker)


_SCALAR_TYPES = {"datetime", "date", "time", "timedelta", "uuid", "decimal", "bytes", "complex"}
_NEVER_JSON = _SCALAR_TYPES | {"set", "frozenset", "tuple"}
_ALWAYS = {("integer", "decimal"), ("date", "datetime")}


def _as_json(given: Declared, seen: dict[int, tuple[Fit, Any]] | None = None) -> Fit:
    """Compare with a JSON Schema that takes anything: it has to be JSON."""
    schema, seen = given.schema, {} if seen is None else seen
    if given.origin in ("document", "plain", "raw"):
        return GOOD
    if id(schema) not in seen:
        seen[id(schema)] = (GOOD, schema)
        seen[id(schema)] = (_all_parts_as_json(given, seen), schema)
    return seen[id(schema)][0]


def _all_parts_as_json(given: Declared, seen: dict[int, tuple[Fit, Any]]) -> Fit:
    schema, parts = given.schema, []
    match given.kind:
        case "any" | "opaque":
            return Fit(Level.UNPROVEN, "", "nothing is declared of a value that has to be JSON")
        case "python":
            level = Level.FAILS if _sort(given) in _NEVER_JSON else Level.MAY_FAIL
            return Fit(level, "", f"{described(given)} is given, JSON is needed")
        case "object":
            always = set(schema.get("required", ()))
            parts = [(each, name in always) for name, each in schema.get("properties", {}).items()]
            parts.append((schema.get("additionalProperties", False), False))
        case "array":
            items = [*schema.get("prefixItems", ()), schema.get("items", True)]
            parts = [(each, position < schema.get("minItems", 0)) for position, each in enumerate(items)]
    found = [
        any_of([_as_json(each, seen) for each in given.part(part).alternatives()]).at_most(
            Level.FAILS if certain else Level.MAY_FAIL
        )
        for part, certain in parts
        if part is not False
    ]
    return _all_of(found)


_SETS = {"set", "frozenset"}
_SEQUENCES = {"array", "tuple", *_SETS}
_ANY_DICT = "dict of any"


def _sort(each: Declared) -> str:
    return str(each.schema[NOTE_PYTHON]) if each.kind == "python" else each.kind


def _without_duplicates(given: Declared, taker: Declared) -> Fit:
    """Compare the items of what becomes a set: they have to be hashable, and those that are equal count once."""
    if _sort(taker) not in _SETS or _sort(given) in _SETS:
        return GOOD
    items = [*given.schema.get("prefixItems", ()), given.schema.get("items", True)]
    kinds = {each.kind for item in items if item is not False for each in given.part(item).alternatives()}
    if kinds & {"object", "array"}:
        return Fit(Level.MAY_FAIL, "[]", "an item of a set has to be hashable")
    if kinds & {"any", "opaque"}:
        return Fit(Level.UNPROVEN, "[]", "nothing says that its items are hashable")
    fewer = taker.schema.get("minItems", 0) > 1
    return Fit(Level.MAY_FAIL, "", "duplicates count once in a set") if fewer else GOOD


def _as_constant(given: Declared, taker: Declared) -> Fit:
    """Compare a type with one value of it."""
    value = taker.schema["const"]
    if given.kind == "null" and value is None:
        return GOOD
    kinds = {given.kind, kind_of(value)}
    possible = len(kinds) == 1 or kinds <= {"boolean", "integer", "number"} or given.kind == "python"
    return _mismatch(Level.MAY_FAIL if possible or given.is_loose else Level.FAILS, given, taker)


def kind_of(value: Any) -> str:
    """Return the JSON type of a value, or `other`."""
    if value is None:
        return "null"
    return next((name for cls, name in _KINDS if isinstance(value, cls)), "other")


_KINDS: list[tuple[type, str]] = [
    *((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
]


def is_json(value: Any) -> bool:
    """Say whether a value is JSON data, through and through, and not nested beyond what can be written."""
    pending = [(value, 0)]
    while pending:
        each, depth = pending.pop()
        if isinstance(each, dict):
            if not all(isinstance(key, str) for key in each):
                return False
            pending += [(item, depth + 1) for item in each.values()]
        elif isinstance(each, list):
            pending += [(item, depth + 1) for item in each]
        elif kind_of(each) == "other":
            return False
        if depth > _DEEPEST:
            return False
    return True


_DEEPEST = 200


def _known_value(given: Declared, taker: Declared, met: _Round) -> Fit:
    """Compare a value that is known."""
    value, kind = given.schema["const"], kind_of(given.schema["const"])
    if taker.kind == "const":
        other = taker.schema["const"]
        if value != other:
            return _mismatch(Level.FAILS, given, taker)
        if given.is_loose and not taker.converts and not isinstance(value, str):
            return Fit(Level.UNPROVEN, "", f"what is equal to {value!r} has been checked, and not converted")
        # 1 and True are equal, and for some takers the same.
        return GOOD if type(value) is type(other) else _mismatch(Level.MAY_FAIL, given, taker)
    if taker.kind == "python" and _sort(taker) not in _SEQUENCES:
        known = value in taker.schema.get("enum", ()) and taker.converts and _sort(taker).startswith("enum")
        return GOOD if known else _mismatch(Level.UNPROVEN, given, taker)
    if kind == "other" or isinstance(value, Enum):
        return _mismatch(Level.UNPROVEN, given, taker)
    if kind == "boolean" and taker.kind in ("integer", "number") and taker.converts:
        value, kind = int(value), "integer"
    return _one(given.part(_schema_of(value, kind)), taker.part(_without_what_holds(taker, value, kind)), met)


def _without_what_holds(taker: Declared, value: Any, kind: str) -> dict[str, Any]:
    """Return a schema without the limits of which the value itself says that they hold."""
    schema: dict[str, Any] = taker.schema
    held = set()
    if kind == "string" and "pattern" in schema and _matches(schema["pattern"], value, taker.origin):
        held.add("pattern")
    if kind in ("integer", "number") and "multipleOf" in schema and value % schema["multipleOf"] == 0:
        held.add("multipleOf")
    return {key: limit for key, limit in schema.items() if key not in held}


def _matches(pattern: str, text: str, origin: str) -> bool:
    if origin == "document":
        return re.search(pattern, text) is not None
    # pydantic's patterns are those of another engine.
    return SchemaValidator(core_schema.str_schema(pattern=pattern)).isinstance_python(text)


def _schema_of(value: Any, kind: str) -> dict[str, Any]:
    """Return the narrowest schema of a value that is known."""
    if kind in ("integer", "number"):
        return {"type": kind, "minimum": value, "maximum": value}
    if kind == "string":
        return {"type": kind, "minLength": len(value), "maxLength": len(value)}
    if kind == "array":
        return {
            "type": kind,
            "prefixItems": [{"const": item} for item in value],
            "minItems": len(value),
            "items": False,
        }
    if kind == "object":
        properties = {name: {"const": item} for name, item in value.items()}
        return {"type": kind, "properties": properties, "required": list(value), "additionalProperties": False}
    return {"type": kind}
