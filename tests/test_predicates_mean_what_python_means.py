"""Random branch predicates give what Python itself gives."""

import copy
import warnings
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from doubleweave.errors import PredicateSyntaxError
from doubleweave.models.predicates import evaluate_predicate

_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, "", "a", "ab", b"a"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", 0, 1, None]), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=5,
)
_contexts = st.dictionaries(st.sampled_from(["a", "b", "c"]), _values, max_size=3)

_Texts = tuple[str, str]
"""A predicate, and the Python expression of the same meaning: a tuple literal is a list."""


def _both(text: str) -> _Texts:
    return text, text


def _joined(parts: list[_Texts], separator: str, around: str = "") -> _Texts:
    opening, closing = (around[0], around[1:]) if around else ("", "")
    ours, pythons = (separator.join(side) for side in zip(*parts, strict=True)) if parts else ("", "")
    return f"{opening}{ours}{closing}", f"{opening}{pythons}{closing}"


def _tuple(parts: list[_Texts]) -> _Texts:
    ours = "".join(f"{part[0]}, " for part in parts)
    return f"({ours})" if parts else "()", _joined(parts, ", ", "[]")[1]


_atoms = st.sampled_from(
    ["a", "b", "c", "missing", "True", "False", "None", "...", "0", "1", "2", "1.0", "0.5", "''", "'a'", "'ab'", "b'a'"]
).map(_both)
_operators = st.sampled_from([" == ", " != ", " < ", " <= ", " > ", " >= ", " in ", " not in "])


def _larger(inner: st.SearchStrategy[_Texts]) -> st.SearchStrategy[_Texts]:
    parts = st.lists(inner, max_size=3)
    some = st.lists(inner, min_size=1, max_size=3)
    several = st.lists(inner, min_size=2, max_size=3)
    bracketed = inner.map(lambda part: _joined([part], "", "()"))
    return st.one_of(
        bracketed,
        several.map(lambda found: _joined(found, " or ")),
        several.map(lambda found: _joined(found, " and ")),
        inner.map(lambda part: _joined([_both("not"), part], " ")),
        st.tuples(st.sampled_from("+-"), inner).map(lambda pair: _joined([_both(pair[0]), pair[1]], " ")),
        st.tuples(inner, _operators, inner).map(lambda link: _joined([link[0], link[2]], link[1])),
        st.tuples(bracketed, _operators, inner, _operators, inner).map(
            lambda chain: _joined([_joined([chain[0], chain[2]], chain[1]), chain[4]], chain[3])
        ),
        st.tuples(bracketed | _atoms, inner).map(lambda pair: _joined([pair[0], _joined([pair[1]], "", "[]")], "")),
        parts.map(lambda found: _joined(found, ", ", "[]")),
        parts.map(_tuple),
        some.map(lambda found: _joined(found, ", ", "{}")),
    )


_predicates = st.recursive(_atoms, _larger, max_leaves=12)


def _outcome_in_python(expression: str, context: dict[str, Any]) -> bool | None:
    """Return what Python finds; `None` when it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return bool(eval(expression, {"__builtins__": {}}, dict(context)))
        except (SyntaxError, NameError, TypeError, KeyError, IndexError):
            return None


def _outcome(predicate: str, context: dict[str, Any]) -> bool | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return evaluate_predicate(predicate, context)
        except PredicateSyntaxError:
            return None


@settings(max_examples=1000, deadline=None)
@given(_predicates, _contexts)
def test_a_predicate_gives_what_python_gives(texts: _Texts, context: dict[str, Any]) -> None:
    predicate, expression = texts
    before = copy.deepcopy(context)
    assert _outcome(predicate, context) is _outcome_in_python(expression, context)
    assert context == before


@settings(max_examples=500, deadline=None)
@given(st.text(alphabet="ab01 '\"()[]{},.<>=!+-*~#:\\\n\0andornotinisf", max_size=30), _contexts)
def test_any_text_gives_a_bool_or_the_typed_error(predicate: str, context: dict[str, Any]) -> None:
    assert _outcome(predicate, context) in (True, False, None)
