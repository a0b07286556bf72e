"""What the check says of a predicate, against what the predicate comes to with values of the declared types."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import create_model

from doubleweave import PredicateSyntaxError, evaluate_predicate
from doubleweave.checking.fit import Level
from doubleweave.checking.kinds import declared
from doubleweave.checking.truth import Value, outlook, value_of
from random_typed_flows import SAMPLES

LITERALS = ["1", "0", "-2.5", "'red'", "''", "True", "None", "[1, 'a']", "{1, 2}", "('x',)", "[]", "'x'"]

SHAPES = [
    *("{} == {}", "{} != {}", "{} < {}", "{} >= {}", "{} in {}", "{} not in {}", "{} and {}", "{} or {}", "{} + {}"),
    *("not {}", "-{}", "[{}, {}]", "{{{}, {}}}", "{}['x']", "{}[{}]", "{} < {} < 5"),
]


@st.composite
def expressions(draw: st.DrawFn, names: list[str], depth: int = 3) -> str:
    leaf = st.sampled_from([*names, *names, *LITERALS])
    if depth == 0 or not draw(st.integers(0, 2)):
        return draw(leaf)
    parts = [draw(expressions(names, depth - 1)) for _ in range(2)]
    shape = draw(st.sampled_from(SHAPES))
    return f"({shape.format(*parts)})"


@st.composite
def cases(draw: st.DrawFn) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Draw a predicate, what is declared of its names, and contexts that are as declared."""
    names = ["a", "b", "c"]
    numbers = {name: draw(st.integers(0, len(SAMPLES) - 1)) for name in names}
    fields: dict[str, Any] = {name: (SAMPLES[number][0], ...) for name, number in numbers.items()}
    model = create_model("Context", **fields)
    schema = declared(model, "output")
    known = {name: schema.part(schema.schema["properties"][name]) for name in names}
    samples = [SAMPLES[numbers[name]][1] for name in names]
    turns = range(max(map(len, samples)))
    raw = [{name: each[turn % len(each)] for name, each in zip(names, samples, strict=True)} for turn in turns]
    return draw(expressions(names)), known, [model.model_validate(each).model_dump() for each in raw]


@settings(max_examples=1500, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_it_comes_to_what_was_said(case: tuple[str, dict[str, Any], list[dict[str, Any]]]) -> None:
    predicate, known, contexts = case

    def look_up(name: str) -> Value:
        return value_of([known[name]])

    said = outlook(predicate, look_up)
    levels = {level for level, _ in said.trouble}
    for context in contexts:
        try:
            truth = evaluate_predicate(predicate, context)
        except PredicateSyntaxError:
            assert levels, (predicate, context)
        else:
            assert Level.FAILS not in levels, (predicate, context, said)
            assert said.truth in (None, truth), (predicate, context, said)
