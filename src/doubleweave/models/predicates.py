"""Branch predicates: one Python expression over a run's context, interpreted here and never executed as code.

Names, literals, comparisons, `and`, `or`, `not`, signs and subscripts are understood; calls, attributes, arithmetic and
everything else are refused when evaluation reaches them. The text is parsed once and turned into nested closures, one
for each node of the syntax tree.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any, NamedTuple

from doubleweave.errors import PredicateSyntaxError

MAX_LENGTH = 10_000
MAX_DEPTH = 400
_CACHED_PREDICATES = 512

_TOO_LONG = f"longer than the limit of {MAX_LENGTH} characters"
_TOO_DEEP = f"nested deeper than the limit of {MAX_DEPTH} levels"
_OUT_OF_STACK = f"nested deeper than the stack has room for; the limit is {MAX_DEPTH} levels"

_Evaluator = Callable[[Mapping[str, Any]], Any]
_Done = dict[ast.AST, _Evaluator]
_Fail = Callable[[str], PredicateSyntaxError]


def evaluate_predicate(predicate: str, context: dict[str, Any]) -> bool:
    """Return the truth of `predicate` on `context`, whose top-level keys are its names. The context is not changed.

    `and` and `or` short-circuit and comparisons chain as in Python; tuples and lists both evaluate to lists. Raises
    `PredicateSyntaxError` for a text that does not parse, is longer than 10,000 characters or nested deeper than 400
    levels, and, when evaluation gets there, for a construct that is not allowed, a name that is not in the context, a
    subscript that finds nothing and any exception out of an operator (kept as `__cause__`).
    """
    try:
        return _truth(_compiled(predicate).evaluate(context), partial(PredicateSyntaxError, predicate))
    except (RecursionError, MemoryError) as error:
        raise PredicateSyntaxError(predicate, _OUT_OF_STACK) from error


def predicate_names(predicate: str) -> frozenset[str]:
    """Return the context names that `predicate` can read; none when it cannot be parsed."""
    try:
        return _compiled(predicate).names
    except PredicateSyntaxError:
        return frozenset()


def predicate_tree(predicate: str) -> ast.expr:
    """Return the syntax tree of `predicate`; raises `PredicateSyntaxError` as `evaluate_predicate` does before it evaluates."""
    root = _parse(predicate)
    _parents_first(predicate, root)
    return root


class _Compiled(NamedTuple):
    evaluate: _Evaluator
    names: frozenset[str]


@lru_cache(maxsize=_CACHED_PREDICATES)
def _compiled(predicate: str) -> _Compiled:
    root = _parse(predicate)
    nodes = _parents_first(predicate, root)
    fail = partial(PredicateSyntaxError, predicate)
    done: _Done = {}
    for node in reversed(nodes):
        build = _BUILDERS.get(type(node))
        done[node] = build(node, done, fail) if build else _refused(node, fail)
    return _Compiled(done[root], frozenset(node.id for node in nodes if isinstance(node, ast.Name)))


def _parse(predicate: str) -> ast.expr:
    if len(predicate) > MAX_LENGTH:
        raise PredicateSyntaxError(predicate, _TOO_LONG)
    try:
        return ast.parse(predicate, "<predicate>", mode="eval").body
    except (RecursionError, MemoryError) as error:
        raise PredicateSyntaxError(predicate, _OUT_OF_STACK) from error
    except SyntaxError as error:
        raise PredicateSyntaxError(predicate, f"syntax error: {error.msg}") from error
    except Exception as error:  # ValueError for NUL and surrogates, and warnings that a filter makes errors
        raise PredicateSyntaxError(predicate, f"syntax error: {_text_of(error)}") from error


def _parents_first(predicate: str, root: ast.expr) -> list[ast.AST]:
    """List the nodes that are no operators or contexts, each before its children. Needs no recursion."""
    nodes: list[ast.AST] = []
    pending: list[tuple[ast.AST, int]] = [(root, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise PredicateSyntaxError(predicate, _TOO_DEEP)
        nodes.append(node)
        pending.extend((child, depth + 1) for child in ast.iter_child_nodes(node) if not isinstance(child, _NO_VALUE))
    return nodes


_NO_VALUE = (ast.expr_context, ast.boolop, ast.unaryop, ast.cmpop, ast.operator)


def _text_of(error: Exception) -> str:
    """Describe an exception, also one whose own text cannot be had."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def _truth(value: Any, fail: _Fail) -> bool:
    try:
        return bool(value)
    except Exception as error:
        raise fail(f"truth value of {_type_name(value)} failed: {_text_of(error)}") from error


def _type_name(value: Any) -> str:
    return f"'{type(value).__name__}'"


def _contains(item: Any, container: Any) -> bool:
    if hasattr(type(container), "__next__"):
        raise TypeError("searching an iterator would consume it")
    return item in container


def _contains_not(item: Any, container: Any) -> bool:
    return not _contains(item, container)


_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", operator.eq),
    ast.NotEq: ("!=", operator.ne),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.In: ("in", _contains),
    ast.NotIn: ("not in", _contains_not),
}
_SIGNS: dict[type[ast.unaryop], tuple[str, Callable[[Any], Any]]] = {
    ast.USub: ("-", operator.neg),
    ast.UAdd: ("+", operator.pos),
}


def _refused(node: ast.AST, fail: _Fail) -> _Evaluator:
    def refuse(_: Mapping[str, Any]) -> Any:
        raise fail(f"{type(node).__name__} is not allowed in a predicate")

    return refuse


def _constant(node: ast.Constant, _: _Done, __: _Fail) -> _Evaluator:
    value = node.value
    return lambda _: value


def _name(node: ast.Name, _: _Done, fail: _Fail) -> _Evaluator:
    name = node.id

    def look_up(context: Mapping[str, Any]) -> Any:
        if name not in context:
            raise fail(f"name '{name}' is not in the execution context")
        return context[name]

    return look_up


def _boolean(node: ast.BoolOp, done: _Done, fail: _Fail) -> _Evaluator:
    *operands, last = [done[value] for value in node.values]
    deciding = isinstance(node.op, ast.Or)

    def decide(context: Mapping[str, Any]) -> Any:
        for operand in operands:
            value = operand(context)
            if _truth(value, fail) is deciding:
                return value
        return last(context)

    return decide


def _unary(node: ast.UnaryOp, done: _Done, fail: _Fail) -> _Evaluator:
    operand = done[node.operand]
    if isinstance(node.op, ast.Not):
        return lambda context: not _truth(operand(context), fail)
    if type(node.op) not in _SIGNS:
        return _refused(node.op, fail)
    symbol, apply = _SIGNS[type(node.op)]

    def sign(context: Mapping[str, Any]) -> Any:
        value = operand(context)
        try:
            return apply(value)
        except Exception as error:
            raise fail(f"operator '{symbol}' failed for {_type_name(value)}: {_text_of(error)}") from error

    return sign


def _comparison(node: ast.Compare, done: _Done, fail: _Fail) -> _Evaluator:
    first = done[node.left]
    links = [
        (op, *_COMPARISONS.get(type(op), ("", None)), done[value])
        for op, value in zip(node.ops, node.comparators, strict=True)
    ]

    def compare(context: Mapping[str, Any]) -> Any:
        left = first(context)
        result: Any = True
        for op, symbol, apply, operand in links:
            if result is not True and not _truth(result, fail):
                return result
            if apply is None:
                return _refused(op, fail)(context)
            right = operand(context)
            try:
                result = apply(left, right)
            except Exception as error:
                types = f"{_type_name(left)} and {_type_name(right)}"
                raise fail(f"operator '{symbol}' failed for {types}: {_text_of(error)}") from error
            left = right
        return result

    return compare


def _subscript(node: ast.Subscript, done: _Done, fail: _Fail) -> _Evaluator:
    whole, part = done[node.value], done[node.slice]

    def look_up(context: Mapping[str, Any]) -> Any:
        container = whole(context)
        key = part(context)
        try:
            if isinstance(container, dict) and key not in container:
                raise KeyError(key)  # a dict that fills in missing keys must not be changed by looking
            return container[key]
        except Exception as error:
            raise fail(f"subscript lookup failed: {_text_of(error)}") from error

    return look_up


def _list(node: ast.List | ast.Tuple, done: _Done, _: _Fail) -> _Evaluator:
    elements = [done[element] for element in node.elts]
    return lambda context: [element(context) for element in elements]


def _set(node: ast.Set, done: _Done, fail: _Fail) -> _Evaluator:
    elements = [done[element] for element in node.elts]

    def collect(context: Mapping[str, Any]) -> Any:
        values = [element(context) for element in elements]
        try:
            return set(values)
        except Exception as error:
            types = ", ".join(_type_name(value) for value in values)
            raise fail(f"set of {types} failed: {_text_of(error)}") from error

    return collect


_BUILDERS: dict[type[ast.AST], Callable[[Any, _Done, _Fail], _Evaluator]] = {
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.Constant: _constant,
    ast.List: _list,
    ast.Name: _name,
    ast.Set: _set,
    ast.Subscript: _subscript,
    ast.Tuple: _list,
    ast.UnaryOp: _unary,
}
