"""Whether one type takes what another gives, for every pair of some eighty types, against what pydantic does with values."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID

import pytest
from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    IPvAnyAddress,
    Json,
    NonNegativeInt,
    PositiveInt,
    RootModel,
    Secret,
    SecretStr,
    StringConstraints,
    ValidationError,
    computed_field,
    create_model,
    field_serializer,
)
from typing_extensions import TypedDict

from doubleweave import JsonSchema, JsonSchemaMismatchError
from doubleweave.checking.fit import Level, fits
from doubleweave.checking.kinds import Declared, declared
from random_typed_flows import SAMPLES

T = TypeVar("T")


class Word(str, Enum):
    A = "a"


class Digit(IntEnum):
    ONE = 1


class Shade(StrEnum):
    R = "r"


class Cat(BaseModel):
    kind: Literal["cat"]
    n: int


class Dog(BaseModel):
    kind: Literal["dog"]
    m: str


class Aliased(BaseModel):
    foo: int = Field(alias="fooBar")


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    foo: int = Field(alias="fooBar")


class WritesAlias(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)

    foo: int = Field(alias="fooBar")


class Tree(BaseModel):
    v: int
    kids: list["Tree"] = []


class FloatTree(BaseModel):
    v: float
    kids: list["FloatTree"] = []


class Partly(TypedDict, total=False):
    a: int
    b: str


@dataclass
class Data:
    a: int
    b: str = "x"


class Forbids(BaseModel):
    model_config = ConfigDict(extra="forbid")

    a: int
    b: str | None = None


class Allows(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int


class Computed(BaseModel):
    a: int

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's documentation has it
    @property
    def c(self) -> int:
        return self.a + 1


class ForbidsComputed(Computed):
    model_config = ConfigDict(extra="forbid")


class Written(BaseModel):
    a: datetime

    @field_serializer("a")
    def write(self, value: datetime) -> str:
        return value.isoformat()


class WrittenToJson(BaseModel):
    a: datetime

    @field_serializer("a", when_used="json")
    def write(self, value: datetime) -> str:
        return value.isoformat()


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    a: int
    b: str
    c: datetime
    d: list[int]


class Shout(BaseModel):
    model_config = ConfigDict(str_max_length=2)

    a: str


class Stripped(BaseModel):
    model_config = ConfigDict(str_strip_whitespace=True)

    a: Annotated[str, Field(max_length=2)]


class Numbers(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    a: str


class Own(BaseModel):
    a: int

    @field_serializer("a")
    def write(self, value):  # type: ignore[no-untyped-def]  # nothing is declared of what it writes
        return f"#{value}"


class Sometimes(BaseModel):
    a: int = 0
    n: int = None  # type: ignore[assignment]  # a default is not validated


class Root(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    x: T


MOMENT = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
MORE: list[tuple[Any, list[Any]]] = [
    *((Word, ["a"]), (Digit, [1]), (time, [time(1, 2)]), (timedelta, [timedelta(1)]), (Decimal, [Decimal("1.5"), 2])),
    *((UUID, [UUID(int=5)]), (HttpUrl, ["http://example.org/"]), (Path, ["a/b"]), (IPv4Address, ["127.0.0.1"])),
    (datetime | None, [None, MOMENT]),
    (Annotated[Cat | Dog, Field(discriminator="kind")], [{"kind": "cat", "n": 1}, {"kind": "dog", "m": "x"}]),
    (Cat | Dog, [{"kind": "cat", "n": 1}, {"kind": "dog", "m": "x"}]),
    (Cat, [{"kind": "cat", "n": 1}]),
    *((Aliased, [{"fooBar": 1}]), (ByName, [{"foo": 1}]), (WritesAlias, [{"fooBar": 1}])),
    (Tree, [{"v": 1}, {"v": 1, "kids": [{"v": 2, "kids": []}]}]),
    (FloatTree, [{"v": 1.5}, {"v": 1, "kids": [{"v": 2.5}]}]),
    *((Partly, [{}, {"a": 1}, {"a": 1, "b": "x"}]), (Data, [{"a": 1}])),
    *((Forbids, [{"a": 1}]), (Allows, [{"a": 1}, {"a": 1, "b": 5, "z": []}])),
    *((Computed, [{"a": 1}]), (ForbidsComputed, [{"a": 1}])),
    *((Written, [{"a": MOMENT}]), (WrittenToJson, [{"a": MOMENT}])),
    (Strict, [{"a": 1, "b": "x", "c": MOMENT, "d": [1]}]),
    *((Stripped, [{"a": " x "}]), (Numbers, [{"a": 5}]), (Own, [{"a": 5}]), (Sometimes, [{}, {"n": 1}])),
    *(
        (Literal[Digit.ONE], [Digit.ONE]),
        (deque[int], [deque([1])]),
        (Sequence[int], [[1], (1, 2)]),
        (Secret[int], [5]),
    ),
    *((Shade, ["r"]), (Json[int], ["1"]), (IPvAnyAddress, ["::1"]), (Annotated[int, Field(strict=True)], [1])),
    *(
        (Annotated[datetime, Field(strict=True)], [MOMENT]),
        (dict[PositiveInt, str], [{1: "a"}]),
        (dict[float, str], [{1.5: "a"}]),
    ),
    *((Shout, [{"a": "xy"}]), (Root, [[1, 2], []]), (Box[int], [{"x": 1}]), (Box[str], [{"x": "1"}])),
    *(
        (dict[str, Any], [{}, {"a": None}]),
        (dict[str, datetime], [{}, {"a": MOMENT}]),
        (dict[int, str], [{}, {1: "a"}]),
    ),
    *(
        (list[Any], [[], [1, "a"]]),
        (tuple[int, ...], [(), (1, 2)]),
        (set[str], [set(), {"a"}]),
        (frozenset[int], [frozenset({1})]),
    ),
    *((Annotated[str, Field(pattern="^a")], ["ab"]), (Annotated[str, Field(pattern="^b")], ["b"])),
    (Annotated[Decimal, Field(max_digits=4, gt=0)], [Decimal("1.5")]),
    (Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)], ["a "]),
    (Annotated[int, Field(multiple_of=3)], [0, 9]),
    *((SecretStr, ["s"]), (type(None), [None]), (Literal["a", 1, None], ["a", 1, None]), (NonNegativeInt, [0, 5])),
    *(
        (AwareDatetime, [MOMENT]),
        (list[Cat | Dog], [[{"kind": "cat", "n": 1}]]),
        (Literal[True], [True]),
        (Literal["12"], ["12"]),
    ),
    (Annotated[set[int], Field(min_length=2)], [{1, 2}]),
    (Annotated[list[int], Field(min_length=2, max_length=3)], [[1, 1], [1, 2, 3]]),
    (tuple[int, str, float], [(1, "a", 2.5)]),
]
ALL = [*SAMPLES, *MORE]


def model_of(annotation: Any) -> type[BaseModel]:
    fields: dict[str, Any] = {"f": (annotation, ...)}
    return create_model("Model", **fields)


MODELS = [(model_of(annotation), samples) for annotation, samples in ALL]


def field_of(model: type[BaseModel], origin: Any) -> Declared:
    whole = declared(model, origin)
    return whole.part(whole.schema["properties"]["f"])


def accepts(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate({"f": value})
    except ValidationError:
        return False
    return True


def name_of(number: int) -> str:
    return f"{number} {getattr(ALL[number][0], '__name__', ALL[number][0])}"


@pytest.mark.parametrize("number", range(len(ALL)), ids=name_of)
def test_what_is_said_of_a_pair_of_types_is_what_pydantic_does(number: int) -> None:
    giver, samples = MODELS[number]
    values = [giver.model_validate({"f": each}).model_dump()["f"] for each in samples]
    for other, (taker, _) in enumerate(MODELS):
        said = fits(field_of(giver, "output"), field_of(taker, "input"))
        done = [accepts(taker, value) for value in values]
        if said.level is Level.FITS:
            assert all(done), (name_of(other), values)
        if said.level is Level.FAILS:
            assert not any(done), (name_of(other), values, said)


DIFFER_FROM_THEMSELVES = {Aliased, ForbidsComputed, Written, Own, Sometimes, Json[int]}


@pytest.mark.parametrize("number", range(len(ALL)), ids=name_of)
def test_a_type_takes_what_it_gives(number: int) -> None:
    giver, _ = MODELS[number]
    said = fits(field_of(giver, "output"), field_of(giver, "input"))
    assert (said.level is Level.FITS) is (ALL[number][0] not in DIFFER_FROM_THEMSELVES), said


DOCUMENTS: list[dict[str, Any]] = [
    {"type": "integer"},
    {"type": "integer", "minimum": 0, "maximum": 5},
    {"type": "number", "exclusiveMinimum": 0},
    {"type": ["string", "null"]},
    {"enum": ["red", 1]},
    {"const": None},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "array", "items": {"$ref": "#/$defs/word"}, "minItems": 1},
    {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"], "additionalProperties": False},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"anyOf": [{"type": "boolean"}, {"$ref": "#/$defs/word"}]},
    {"allOf": [{"type": "integer"}, {"minimum": 3}]},
    {"type": "string", "pattern": "^a"},
    {},
]


def document_of(field: dict[str, Any]) -> JsonSchema:
    defs = {"word": {"type": "string", "minLength": 1}}
    return JsonSchema({"type": "object", "properties": {"f": field}, "required": ["f"], "$defs": defs})


@pytest.mark.parametrize("number", range(len(ALL)), ids=name_of)
def test_what_is_said_of_a_type_and_a_json_schema_is_what_the_schema_does(number: int) -> None:
    giver, samples = MODELS[number]
    values = [giver.model_validate({"f": each}).model_dump()["f"] for each in samples]
    for field in DOCUMENTS:
        document = document_of(field)
        whole = declared(document, "input")
        said = fits(field_of(giver, "output"), whole.part(whole.schema["properties"]["f"]))
        done = []
        for value in values:
            try:
                document.validate({"f": value}, name="f")
                done.append(True)
            except JsonSchemaMismatchError:
                done.append(False)
        if said.level is Level.FITS:
            assert all(done), (field, values)
        if said.level is Level.FAILS:
            assert not any(done), (field, values, said)


@pytest.mark.parametrize("day", [date(2026, 1, 2)])
def test_what_json_has_not_is_told_by_the_name_of_its_type(day: date) -> None:
    said = fits(field_of(model_of(date), "output"), field_of(model_of(int), "input"))
    assert (said.level, said.reason) == (Level.MAY_FAIL, "date is given, integer is needed")
    assert not accepts(model_of(int), day)


RAW: list[tuple[Any, list[Any]]] = [
    (int, [1, "5", 3.0, True, "-2"]),
    (Annotated[int, Field(ge=0, le=9)], [0, "9", 4.0, False]),
    (float, [1.5, 2, "2.5", "7", True]),
    (bool, [True, "yes", "off", 1, 0, "true"]),
    (str, ["", "x", "12"]),
    (int | None, [None, "3"]),
    (int | str, [1, "x", "7"]),
    (list[int], [[], ["1", 2.0], [True]]),
    (set[int], [[1, 1], ["2"]]),
    (tuple[int, str], [["1", "a"]]),
    (dict[str, int], [{}, {"a": "1"}]),
    (dict[int, str], [{"1": "a"}]),
    (Cat, [{"kind": "cat", "n": "1"}, {"kind": "cat", "n": 1, "more": []}]),
    (Tree, [{"v": "1", "kids": [{"v": 2.0}]}]),
    (datetime, ["2026-01-02T03:04:05Z", 1700000000, "1700000000"]),
    (date, ["2026-01-02", "2026-01-02T00:00:00"]),
    (Decimal, ["1.5", 2, 2.5]),
    (UUID, ["00000000-0000-0000-0000-000000000005"]),
    (SAMPLES[21][0], ["red", "blue"]),
    (Literal["red", 1], ["red", 1]),
    (Any, [None, {}, "x"]),
    (Annotated[int, Field(strict=True)], [1, 5]),
    (Shout, [{"a": "xy"}]),
    (Stripped, [{"a": " x "}, {"a": "y"}]),
    (Numbers, [{"a": 5}, {"a": "y"}]),
]


@pytest.mark.parametrize("number", range(len(RAW)), ids=lambda number: str(RAW[number][0]))
def test_what_is_said_of_a_value_that_is_checked_but_not_converted_holds(number: int) -> None:
    annotation, values = RAW[number]
    giver = model_of(annotation)
    assert [accepts(giver, value) for value in values] == [True] * len(values)
    for other, (taker, _) in enumerate(MODELS):
        said = fits(field_of(giver, "raw"), field_of(taker, "input"))
        done = [accepts(taker, value) for value in values]
        if said.level is Level.FITS:
            assert all(done), (name_of(other), values)
        if said.level is Level.FAILS:
            assert not any(done), (name_of(other), values, said)
    for field in DOCUMENTS:
        document = document_of(field)
        whole = declared(document, "input")
        said = fits(field_of(giver, "raw"), whole.part(whole.schema["properties"]["f"]))
        for value in values:
            if said.level is Level.FITS:
                document.validate({"f": value}, name="f")
