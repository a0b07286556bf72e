"""Strategies for flows of tools with declared types, which may or may not fit together."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from itertools import cycle
from typing import Annotated, Any, Literal

from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, create_model
from typing_extensions import TypedDict

from doubleweave import AnyFlow, ConditionalEdge, DAGFlow, DAGFlowStep, Flow, FlowStep, Tool


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(BaseModel):
    x: int
    y: float = 0.5


class Place(BaseModel):
    x: float
    name: str | None = None


class Pair(TypedDict):
    left: int
    right: str


Small = Annotated[int, Field(ge=0, le=9)]
Word = Annotated[str, Field(min_length=1, max_length=5)]

# Each type with values that a tool may return for it: limits, and what converts.
SAMPLES: list[tuple[Any, list[Any]]] = [
    (int, [0, -7, 10**12, True]),
    (Small, [0, 9, 4]),
    (Annotated[int, Field(gt=-1, lt=100)], [0, 99]),
    (float, [0.0, -2.5, 3, 1e300]),
    (Annotated[float, Field(ge=0)], [0, 0.25]),
    (bool, [True, False]),
    (str, ["", "12", "true", "a long text of words"]),
    (Word, ["a", "12345"]),
    (Literal["red", "blue"], ["red", "blue"]),
    (Literal[1, "a"], [1, "a"]),
    (int | None, [None, 5]),
    (int | str, [3, "three"]),
    (list[int], [[], [1, 2, 2]]),
    (Annotated[list[Small], Field(min_length=1)], [[1], [3, 3, 9]]),
    (set[int], [set(), {1, 2}]),
    (tuple[int, str], [(1, "b")]),
    (dict[str, int], [{}, {"x": 1}, {"name": 3}]),
    (Point, [{"x": 1}, {"x": -4, "y": 2}]),
    (Place, [{"x": 1.5}, {"x": 2, "name": "here"}]),
    (Pair, [{"left": 1, "right": "r"}]),
    (list[Point], [[], [{"x": 3}]]),
    (Colour, ["red", Colour.BLUE]),
    (datetime, [datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02T03:04:05Z"]),
    (date, [date(2026, 1, 2)]),
    (bytes, [b"", b"raw"]),
    (Any, [None, 5, "five"]),
]
TYPES: list[int] = list(range(len(SAMPLES)))


class Start(BaseModel):
    a: int
    b: str
    c: float | None = None


class StrictStart(BaseModel):
    model_config = ConfigDict(strict=True)

    a: int
    b: str
    d: list[int]
    e: Point


# What a caller may hand in as JSON data, some of it only convertible.
INPUTS: dict[type[BaseModel], list[dict[str, Any]]] = {
    Start: [{"a": 1, "b": "x"}, {"a": "12", "b": "12", "c": "1.5"}, {"a": 3.0, "b": "", "c": None}],
    StrictStart: [
        {"a": 0, "b": "y", "d": [1], "e": {"x": 1}},
        {"a": -5, "b": "", "d": [], "e": {"x": 2, "y": 1.5, "z": 0}},
    ],
}
KEYS: dict[type[BaseModel], dict[str, Any]] = {
    Start: {"a": int, "b": str, "c": float | None},
    StrictStart: {"a": int, "b": str, "d": list[int], "e": Point},
}
PREDICATES = ["{} > 4", "{} == 'red'", "{}", "{} in ['red', 1]", "not {}", "{} != None", "{} and {} < 3"]
CONSTANTS: list[Any] = [0, 5, -1, 2.5, "red", "", True, None, [1, 2], {"x": 1}]


@dataclass
class Tooling:
    """A tool, the types of its fields, and whether it fails now and then."""

    name: str
    takes: dict[str, Any]
    gives: dict[str, Any]
    samples: dict[str, list[Any]]
    model_in: type[BaseModel]
    model_out: type[BaseModel]
    fails: bool
    is_async: bool

    def make(self) -> Tool:
        """Return the tool; it goes through its samples from the first on."""
        turns = cycle(range(12))

        def work(_: Any) -> dict[str, Any]:
            turn = next(turns)
            if self.fails and turn % 2:
                raise OSError("now and then")
            return {key: values[turn % len(values)] for key, values in self.samples.items()}

        async def work_awaited(value: Any) -> dict[str, Any]:
            return work(value)

        fn: Callable[[Any], Any] = work_awaited if self.is_async else work
        return Tool(name=self.name, description="", input_schema=self.model_in, output_schema=self.model_out, fn=fn)


@st.composite
def toolings(draw: st.DrawFn, name: str, known: dict[str, Any]) -> Tooling:
    """Draw a tool that mostly takes what is there."""
    there = [number for number in TYPES if SAMPLES[number][0] in known.values()]
    kinds = st.sampled_from(there) if there and draw(st.integers(0, 3)) > 0 else st.sampled_from(TYPES)
    takes = {f"p{i}": draw(kinds) for i in range(draw(st.integers(0, 2)))}
    gives = {draw(st.sampled_from(["k", "m", f"{name}_out"])): draw(st.sampled_from(TYPES)) for _ in range(2)}
    optional = {key for key in takes if not draw(st.integers(0, 3))}
    config = ConfigDict(extra="forbid") if takes and not draw(st.integers(0, 3)) else ConfigDict()
    fields_in: dict[str, Any] = {
        key: (SAMPLES[number][0], None if key in optional else ...) for key, number in takes.items()
    }
    model_in = create_model(f"{name}_in", __config__=config, **fields_in)
    fields_out: dict[str, Any] = {key: (SAMPLES[number][0], ...) for key, number in gives.items()}
    model_out = create_model(f"{name}_out", **fields_out)
    return Tooling(
        name,
        {key: SAMPLES[number][0] for key, number in takes.items()},
        {key: SAMPLES[number][0] for key, number in gives.items()},
        {key: SAMPLES[number][1] for key, number in gives.items()},
        model_in,
        model_out,
        draw(st.sampled_from([False, False, True])),
        draw(st.booleans()),
    )


@dataclass
class Typed:
    """A flow, what it needs, and inputs for it."""

    flow: AnyFlow
    toolings: list[Tooling]
    start: type[BaseModel]

    def tools(self) -> dict[str, Tool]:
        return {each.name: each.make() for each in self.toolings}


def _sources(draw: st.DrawFn, wanted: Any, known: dict[str, Any]) -> Any:
    """Draw where a value comes from: mostly from a key of the same type, sometimes from anywhere."""
    same = [key for key, each in known.items() if each == wanted]
    if same and draw(st.integers(0, 19)) > 0:
        return draw(st.sampled_from(same))
    anywhere = [*known, *(f"/{key}/x" for key in known), "/d/0", "nowhere"]
    pool: list[Any] = [*anywhere, *CONSTANTS] if draw(st.booleans()) else list(known)
    return draw(st.sampled_from(pool))


def _mapping(draw: st.DrawFn, tooling: Tooling, known: dict[str, Any]) -> dict[str, Any]:
    if not tooling.takes and draw(st.booleans()):
        return {}
    return {key: _sources(draw, each, known) for key, each in tooling.takes.items() if draw(st.integers(0, 19))}


@st.composite
def typed_flows(draw: st.DrawFn) -> Typed:
    """Draw a linear flow or a DAG of one to five tool steps, with fallbacks, skips, mappings and branches."""
    count = draw(st.integers(1, 5))
    tools: list[Tooling] = []
    start = draw(st.sampled_from(list(INPUTS)))
    known, is_dag = dict(KEYS[start]), draw(st.booleans())
    depends = [sorted(draw(st.sets(st.integers(0, i - 1), max_size=2))) if i else [] for i in range(count)]
    steps: list[Any] = []
    for i in range(count):
        tooling = draw(toolings(f"t{i}", known))
        tools.append(tooling)
        fields: dict[str, Any] = {"tool_name": tooling.name, "input_mapping": _mapping(draw, tooling, known)}
        fields["on_error"] = draw(
            st.sampled_from(["fail", "fail", "skip", f"fallback:t{draw(st.integers(0, count - 1))}"])
        )
        if is_dag or draw(st.booleans()):
            fields["output_mapping"] = {f"s{i}_{key}": key for key in tooling.gives}
            if not draw(st.integers(0, 19)):
                fields["output_mapping"]["odd"] = "gone"
        if not is_dag:
            steps.append(FlowStep(**fields))
        else:
            dependents = [f"n{j}" for j in range(count) if i in depends[j]]
            if dependents and draw(st.integers(0, 3)) > 0:
                fields |= _branches(draw, i, tooling, known, dependents)
            steps.append(DAGFlowStep(step_id=f"n{i}", depends_on=[f"n{j}" for j in depends[i]], **fields))
        known |= {target: tooling.gives.get(key) for target, key in (fields.get("output_mapping") or {}).items()}
        if not fields.get("output_mapping"):
            known |= tooling.gives
    common: dict[str, Any] = {
        "name": "typed",
        "description": "",
        "steps": steps,
        "on_context_collision": draw(st.sampled_from(["overwrite", "overwrite", "error"])),
        "input_schema_ref": f"{__name__}:{start.__name__}",
    }
    flow: AnyFlow = DAGFlow(version="1", **common) if is_dag else Flow(**common)
    return Typed(flow, tools, start)


def _branches(
    draw: st.DrawFn, number: int, tooling: Tooling, known: dict[str, Any], dependents: list[str]
) -> dict[str, Any]:
    names = [*known, *(f"s{number}_{key}" for key in tooling.gives)]
    predicates = []
    for _ in range(draw(st.integers(1, 2))):
        name = draw(st.sampled_from(names))
        predicates.append(draw(st.sampled_from(PREDICATES)).format(name, name))
    return {
        "branches": [
            ConditionalEdge(target_step_id=draw(st.sampled_from(dependents)), predicate=each) for each in predicates
        ],
        "default_next": draw(st.sampled_from([None, *dependents])),
    }
