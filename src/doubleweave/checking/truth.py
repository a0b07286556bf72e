"""What a branch predicate can come to, given what is declared of the values that it reads."""

import ast
from collections.abc import Callable
from dataclasses import dataclass

from doubleweave.checking.fit import Level, kind_of
from doubleweave.checking.kinds import Declared
from doubleweave.errors import PredicateSyntaxError
from doubleweave.models.predicates import predicate_tree

LookUp = Callable[[str], "Value"]
"""Returns what is known of the value of a context key."""


@dataclass(frozen=True)
class Value:
    """What is known of a value: what kinds it can be of, and which values it can be; None for "not known".

    `schemas` are what is declared of it, for subscripts. `trouble` is what evaluating it may come to.
    """

    kinds: frozenset[str] | None = None
    constants: tuple[object, ...] | None = None
    schemas: tuple[Declared, ...] = ()
    trouble: tuple[tuple[Level, str], ...] = ()
    known_truth: bool | None = None

    @property
    def truth(self) -> bool | None:
        """Whether it counts as true; None when that depends."""
        if self.known_truth is not None:
            return self.known_truth
        if self.constants is not None and len({bool(each) for each in self.constants}) == 1:
            return bool(self.constants[0])
        return False if self.kinds == _NULL else None


def value_of(declared: list[Declared]) -> Value:
    """Return what is known of a value that is of one of these types."""
    alternatives = [each for one in declared for each in one.alternatives()]
    # Before it is converted, a value may be of any type that converts.
    known = all(each.kind not in ("any", "opaque", "python", "JSON") and not each.is_loose for each in alternatives)
    if not known or not alternatives:
        return Value(schemas=tuple(alternatives))
    constants = tuple(each.schema["const"] for each in alternatives if each.kind == "const")
    kinds = frozenset(kind_of(each.schema["const"]) if each.kind == "const" else each.kind for each in alternatives)
    kinds = frozenset("number" if kind == "integer" else kind for kind in kinds)
    if kinds == _NULL:
        constants = (None,)
    return Value(kinds, constants if len(constants) == len(alternatives) else None, tuple(alternatives))


@dataclass(frozen=True)
class Outlook:
    """What a predicate can come to: true, false, or an error, `trouble`, with how certain it is."""

    truth: bool | None
    trouble: tuple[tuple[Level, str], ...] = ()


def outlook(predicate: str, look_up: LookUp) -> Outlook:
    """Say what `predicate` can come to. Nothing is evaluated."""
    try:
        found = _Reader(look_up).read(predicate_tree(predicate))
    except PredicateSyntaxError as error:
        return Outlook(None, ((Level.FAILS, error.detail),))
    except RecursionError:
        return Outlook(None, ((Level.UNPROVEN, "it is nested too deeply to be looked into"),))
    return Outlook(found.truth, found.trouble)


class _Reader:
    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up

    def read(self, node: ast.expr) -> Value:
        """Return what is known of the value of an expression."""
        match node:
            case ast.Constant(value=value):
                return _constant(value)
            case ast.Name(id=name):
                return self._look_up(name)
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                return self._collection("array", elements)
            case ast.Set(elts=elements):
                return self._set(elements)
            case ast.BoolOp():
                return self._boolean(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.Compare():
                return self._comparison(node)
            case ast.Subscript():
                return self._subscript(node)
        return Value(trouble=((Level.FAILS, f"{type(node).__name__} is not allowed in a predicate"),))

    def _collection(self, kind: str, elements: list[ast.expr]) -> Value:
        values = [self.read(element) for element in elements]
        trouble = tuple(each for value in values for each in value.trouble)
        known = all(value.constants is not None and len(value.constants) == 1 for value in values)
        constants = ([value.constants[0] for value in values if value.constants],) if known else None
        return Value(frozenset((kind,)), constants, trouble=trouble)

    def _set(self, elements: list[ast.expr]) -> Value:
        values = [self.read(element) for element in elements]
        trouble = [each for value in values for each in (*value.trouble, *_unless(value, _HASHABLE, "to be in a set"))]
        whole = self._collection("set", elements)
        return Value(whole.kinds, whole.constants, trouble=tuple(trouble))

    def _boolean(self, node: ast.BoolOp) -> Value:
        deciding = isinstance(node.op, ast.Or)
        trouble: list[tuple[Level, str]] = []
        values: list[Value] = []
        for part in node.values:
            value = self.read(part)
            certain = all(each.truth is (not deciding) for each in values)
            trouble += [(level if certain else min(level, Level.MAY_FAIL), text) for level, text in value.trouble]
            values.append(value)
            if value.truth is deciding:
                break
        truths = {each.truth for each in values}
        # It is the value of one of them.
        kinds = (
            None
            if any(each.kinds is None for each in values)
            else frozenset().union(*(each.kinds or () for each in values))
        )
        truth = deciding if deciding in truths else None if None in truths else not deciding
        return Value(kinds, trouble=tuple(trouble), known_truth=truth)

    def _unary(self, node: ast.UnaryOp) -> Value:
        operand = self.read(node.operand)
        if isinstance(node.op, ast.Not):
            truth = operand.truth
            return Value(frozenset(("boolean",)), None if truth is None else (not truth,), trouble=operand.trouble)
        if isinstance(node.op, ast.Invert):
            return Value(trouble=(*operand.trouble, (Level.FAILS, "Invert is not allowed in a predicate")))
        constants = operand.constants
        if constants is not None and all(isinstance(each, int | float) for each in constants):
            sign = -1 if isinstance(node.op, ast.USub) else 1
            return Value(frozenset(("number",)), tuple(sign * each for each in constants), trouble=operand.trouble)  # type: ignore[operator]  # numbers, as tested above
        return Value(frozenset(("number",)), trouble=(*operand.trouble, *_unless(operand, _NUMBERS, "a sign")))

    def _comparison(self, node: ast.Compare) -> Value:
        left = self.read(node.left)
        trouble = list(left.trouble)
        truths: list[bool | None] = []
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.read(comparator)
            truth, problems = _compare(operator, left, right)
            if any(level is Level.FAILS for level, _ in (*trouble, *right.trouble)):
                # It does not get as far as the comparison.
                problems = []
            certain = all(each is True for each in truths)
            found = [*right.trouble, *problems]
            trouble += [(level if certain else min(level, Level.MAY_FAIL), text) for level, text in found]
            truths.append(truth)
            if truth is False:
                break
            left = right
        truth = False if False in truths else True if all(truths) else None
        return Value(frozenset(("boolean",)), None if truth is None else (truth,), trouble=tuple(trouble))

    def _subscript(self, node: ast.Subscript) -> Value:
        whole, part = self.read(node.value), self.read(node.slice)
        trouble = (*whole.trouble, *part.trouble)
        if whole.schemas and part.constants and isinstance(part.constants[0], str) and len(part.constants) == 1:
            found = [_property(each, part.constants[0]) for each in whole.schemas]
            if None not in found:
                inner = value_of([each for each in found if each is not None])
                return Value(inner.kinds, inner.constants, inner.schemas, trouble)
        if whole.kinds is not None and whole.kinds <= {"number", "boolean", "null"}:
            return Value(trouble=(*trouble, (Level.FAILS, "what is subscripted has no parts")))
        return Value(trouble=(*trouble, (Level.UNPROVEN, "it is not certain that the subscript finds something")))


_NULL, _ARRAY, _STRING, _SET = (frozenset((kind,)) for kind in ("null", "array", "string", "set"))
_NUMBERS = frozenset(("number", "boolean"))
_HASHABLE = _NUMBERS | _NULL | _STRING
_ORDERED = (_NUMBERS, _STRING)
# What can be searched for what; in an array, anything can.
_SEARCHED: list[tuple[frozenset[str], frozenset[str] | None]] = [
    (_STRING, _STRING),
    (frozenset(("object",)), _HASHABLE),
    (_SET, _HASHABLE | _SET),
    (_NUMBERS | _NULL, None),
]


def _constant(value: object) -> Value:
    kind = kind_of(value)
    kinds = None if kind == "other" else frozenset(("number" if kind == "integer" else kind,))
    return Value(kinds, (value,))


def _unless(value: Value, kinds: frozenset[str], what: str) -> list[tuple[Level, str]]:
    """Return the trouble with a value that has to be of certain kinds."""
    if value.kinds is None:
        return [(Level.UNPROVEN, f"it is not known whether {what} is possible, for the type of the value is not")]
    if value.kinds <= kinds:
        return []
    level = Level.FAILS if value.kinds.isdisjoint(kinds) else Level.MAY_FAIL
    return [(level, f"{what} is not possible for {' or '.join(sorted(value.kinds - kinds))}")]


def _compare(operator: ast.cmpop, left: Value, right: Value) -> tuple[bool | None, list[tuple[Level, str]]]:
    match operator:
        case ast.Eq() | ast.NotEq():
            equal = _equal(left, right)
            return (equal if isinstance(operator, ast.Eq) or equal is None else not equal), []
        case ast.In() | ast.NotIn():
            contained, problems = _contained(left, right)
            return (contained if isinstance(operator, ast.In) or contained is None else not contained), problems
        case ast.Lt() | ast.LtE() | ast.Gt() | ast.GtE():
            return _ordered(operator, left, right)
    return None, [(Level.FAILS, f"{type(operator).__name__} is not allowed in a predicate")]


def _equal(left: Value, right: Value) -> bool | None:
    if _SET in (left.kinds, right.kinds):
        return None
    if left.constants is not None and right.constants is not None:
        found = {one == other for one in left.constants for other in right.constants}
        return found.pop() if len(found) == 1 else None
    if left.kinds is None or right.kinds is None:
        return None
    mine, theirs = (each | {"number"} if "boolean" in each else each for each in (left.kinds, right.kinds))
    return None if mine & theirs else False


def _contained(left: Value, right: Value) -> tuple[bool | None, list[tuple[Level, str]]]:
    items = right.constants[0] if right.constants is not None and len(right.constants) == 1 else None
    if isinstance(items, list):
        problems = _unless(left, _HASHABLE | _SET, "to be searched for in a set") if right.kinds == _SET else []
        found = {_equal(left, _constant(item)) for item in items}
        if left.constants is not None:
            found = {each in items for each in left.constants}
        return (found.pop() if len(found) == 1 and None not in found else False if not items else None), problems
    if right.kinds is None:
        return None, [(Level.UNPROVEN, "it is not known whether it can be searched")]
    problems = []
    for kinds, wanted in _SEARCHED:
        if right.kinds & kinds:
            found_here = (
                _unless(left, wanted, "to be searched for") if wanted else [(Level.FAILS, "it cannot be searched")]
            )
            problems += [
                (level if right.kinds <= kinds else min(level, Level.MAY_FAIL), text) for level, text in found_here
            ]
    return None, problems


def _ordered(operator: ast.cmpop, left: Value, right: Value) -> tuple[bool | None, list[tuple[Level, str]]]:
    if left.kinds is None or right.kinds is None:
        return None, [(Level.UNPROVEN, "it is not known whether the two can be ordered")]
    if left.kinds == right.kinds == _SET:
        return None, []
    for kinds in _ORDERED:
        if left.kinds <= kinds and right.kinds <= kinds:
            return _order_of_constants(operator, left, right), []
    possible = any(left.kinds & kinds and right.kinds & kinds for kinds in (*_ORDERED, _ARRAY, _SET))
    level = Level.MAY_FAIL if possible else Level.FAILS
    words = (" or ".join(sorted(each.kinds or ())) for each in (left, right))
    return None, [(level, " and ".join(words) + " cannot be ordered")]


def _order_of_constants(operator: ast.cmpop, left: Value, right: Value) -> bool | None:
    if left.constants is None or right.constants is None:
        return None
    found = {_ORDERS[type(operator)](one, other) for one in left.constants for other in right.constants}
    return found.pop() if len(found) == 1 else None


_ORDERS: dict[type[ast.cmpop], Callable[[object, object], bool]] = {
    ast.Lt: lambda one, other: one < other,  # type: ignore[operator]  # both numbers, or both texts
    ast.LtE: lambda one, other: one <= other,  # type: ignore[operator]  # both numbers, or both texts
    ast.Gt: lambda one, other: one > other,  # type: ignore[operator]  # both numbers, or both texts
    ast.GtE: lambda one, other: one >= other,  # type: ignore[operator]  # both numbers, or both texts
}


def _property(each: Declared, key: str) -> Declared | None:
    """Return what is declared of a key that an object certainly has."""
    schema = each.schema
    if each.kind != "object" or key not in schema.get("required", ()) or key not in schema.get("properties", {}):
        return None
    return each.part(schema["properties"][key])
