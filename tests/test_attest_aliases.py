"""Attesting flows whose input models read fields under other names: AT-2."""

import re
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from attest_under_test import attested, each_lane, tool_of
from doubleweave import AttestationInputError
from lanes_under_test import number_tool
from parity_scenarios import inc, linear, step


class Street(BaseModel):
    number: int = Field(alias="houseNumber")


class Aliased(BaseModel):
    n: int = Field(alias="theNumber", serialization_alias="otherwise")
    optional: int | None = Field(None, validation_alias="maybeThere")
    first: int = Field(validation_alias=AliasPath("deep", "items", 1))
    second: int = Field(validation_alias=AliasPath("deep", "items", 2))
    chosen: int = Field(validation_alias=AliasChoices(AliasPath("other", "chosen"), "chosen"))
    streets: list[Street] = Field(alias="theStreets", min_length=0)
    by_word: dict[str, Street] = Field(alias="byWord")
    plain: bool


class ByGenerator(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    the_number: int


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True)

    the_number: int = Field(alias="theNumber")


class ByNameAlone(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)

    the_number: int = Field(alias="theNumber")


class ByEither(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    the_number: int = Field(alias="theNumber")


class AliasedAndRefused(BaseModel):
    n: Annotated[int, Field(ge=1000, alias="theNumber")]


class DeepAndRefused(BaseModel):
    n: Annotated[int, Field(ge=1000, validation_alias=AliasPath("deep", 0))]


class RefusedByName(BaseModel):
    model_config = ConfigDict(loc_by_alias=False)

    n: Annotated[int, Field(ge=1000, alias="theNumber")]


class ByNameAndRefused(BaseModel):
    model_config = ConfigDict(validate_by_name=True)

    n: Annotated[int, Field(ge=1000, alias="theNumber")]


class ChosenAndRefused(BaseModel):
    n: Annotated[int, Field(ge=1000, validation_alias=AliasChoices("theNumber", "number"))]


class Last(BaseModel):
    n: int = Field(validation_alias=AliasPath("items", -1))


class InTheWay(BaseModel):
    items: int
    n: int = Field(validation_alias=AliasPath("items", 0))


KEYS: dict[str, tuple[type[BaseModel], set[str]]] = {
    "alias": (Aliased, {"theNumber", "maybeThere", "deep", "other", "theStreets", "byWord", "plain"}),
    "the end of a list": (Last, {"items"}),
    "alias_generator": (ByGenerator, {"theNumber"}),
    "validate_by_name": (ByName, {"the_number"}),
    "validate_by_name alone": (ByNameAlone, {"the_number"}),
    "populate_by_name": (ByEither, {"the_number"}),
}


@each_lane
@pytest.mark.parametrize(("schema", "keys"), KEYS.values(), ids=KEYS)
def test_at_2_inputs_are_generated_under_the_keys_that_validation_reads(
    lane: str, schema: type[BaseModel], keys: set[str]
) -> None:
    seen: list[Any] = []

    def note(value: Any) -> dict[str, Any]:
        seen.append(value.model_dump())
        return {}

    flow = linear(step("t"), input_schema_ref=f"test_attest_aliases:{schema.__name__}")
    report = attested(lane, flow, [tool_of(note)], n=20)
    assert (report.n, report.observed_deterministic, report.divergences) == (20, True, [])
    assert all(set(each) == keys for each in seen)
    assert all(schema.model_fields.keys() == schema.model_validate(each).model_fields_set for each in seen)


def test_at_2_the_keys_of_nested_values_are_those_that_validation_reads() -> None:
    seen: list[Any] = []

    def note(value: Any) -> dict[str, Any]:
        seen.append(value.model_dump())
        return {}

    attested("attest_flow", linear(step("t"), input_schema_ref="test_attest_aliases:Aliased"), [tool_of(note)], n=20)
    assert all(list(each["deep"]) == ["items"] and len(each["deep"]["items"]) == 3 for each in seen)
    assert all(each["deep"]["items"][0] is None for each in seen)
    streets = [street for each in seen for street in (*each["theStreets"], *each["byWord"].values())]
    assert streets
    assert all(list(street) == ["houseNumber"] for street in streets)


@pytest.mark.parametrize(
    "name", ["AliasedAndRefused", "DeepAndRefused", "RefusedByName", "ByNameAndRefused", "ChosenAndRefused"]
)
@each_lane
def test_at_2_a_refused_value_is_told_by_the_name_of_its_field(lane: str, name: str) -> None:
    with pytest.raises(AttestationInputError) as caught:
        attested(lane, linear(step("t"), input_schema_ref=f"test_attest_aliases:{name}"), [number_tool("t", inc)])
    assert caught.value.field_name == "n"
    assert re.fullmatch(
        r"<class 'int'>: -?\d+ is refused, Input should be greater than or equal to 1000", caught.value.annotation_repr
    )


def test_at_2_a_field_whose_value_is_in_the_way_of_another_one_is_told() -> None:
    with pytest.raises(AttestationInputError) as caught:
        attested(
            "attest_flow", linear(step("t"), input_schema_ref="test_attest_aliases:InTheWay"), [number_tool("t", inc)]
        )
    assert caught.value.field_name == "n"
    assert caught.value.annotation_repr.endswith("is refused, Field required")
