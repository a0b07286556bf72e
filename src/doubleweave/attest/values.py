"""Inputs for flows, made at random from the annotations of a model."""

import random
import string
import types
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from doubleweave.attest.keys import place_of, put
from doubleweave.errors import DoubleweaveError

_DEEPEST = 4


class AttestationInputError(DoubleweaveError):
    """No input can be generated for a flow: `field_name` is of a type without a generator, or its value was refused."""

    code: ClassVar[str] = "CW-E039"

    def __init__(self, field_name: str, annotation_repr: str) -> None:
        self.field_name = field_name
        self.annotation_repr = annotation_repr
        super().__init__(
            f"Cannot generate an input for the field '{field_name}' ({annotation_repr}); "
            "give inputs with seed_inputs=, on the command line with --seed-input."
        )


class UnsupportedAnnotation(Exception):
    """There is no generator for an annotation."""

    def __init__(self, annotation_repr: str) -> None:
        self.annotation_repr = annotation_repr
        super().__init__(f"there is no generator for {annotation_repr}")


def generate_value(annotation: Any, rng: random.Random, *, depth: int = 0) -> Any:
    """Return a JSON value that fits an annotation, drawn from `rng`; None when `depth` is above 4.

    Raises:
        UnsupportedAnnotation: It is none of int, float, bool, str, None, list, dict, Literal, Annotated, a union, or a
            pydantic model class of such.
    """
    if depth > _DEEPEST:
        return None
    if isinstance(annotation, type) and annotation in _SCALARS:
        return _SCALARS[annotation](rng)
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin is Annotated:
        return generate_value(arguments[0], rng, depth=depth)
    if origin is Literal:
        return rng.choice(arguments)
    if origin in (Union, types.UnionType):
        return _of_union(arguments, rng, depth)
    if origin is list:
        item = arguments[0] if arguments else str
        return [generate_value(item, rng, depth=depth + 1) for _ in range(rng.randint(0, 3))]
    if origin is dict:
        key, item = arguments or (str, str)
        below = depth + 1
        return {
            generate_value(key, rng, depth=below): generate_value(item, rng, depth=below)
            for _ in range(rng.randint(0, 2))
        }
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _of_model(annotation, lambda name, field: generate_value(field.annotation, rng, depth=depth + 1))
    raise UnsupportedAnnotation(repr(annotation))


def generate_input(schema: type[BaseModel] | None, rng: random.Random) -> dict[str, Any]:
    """Return a value for every field of a flow's input schema, where its validation reads it; not validated.

    Raises:
        AttestationInputError: There is no schema, or a field is of a type without a generator.
    """
    if schema is None:
        raise AttestationInputError("input_schema", "the flow has none")

    def generate(name: str, field: FieldInfo) -> Any:
        try:
            return generate_value(field.annotation, rng)
        except UnsupportedAnnotation as error:
            raise AttestationInputError(name, error.annotation_repr) from error

    return _of_model(schema, generate)


def _of_model(schema: type[BaseModel], generate: Callable[[str, FieldInfo], Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in schema.model_fields.items():
        put(values, place_of(schema, name), generate(name, field))
    return values


def _of_union(arguments: tuple[Any, ...], rng: random.Random, depth: int) -> Any:
    if types.NoneType in arguments and rng.random() < 0.25:
        return None
    first = next((each for each in arguments if each is not types.NoneType), types.NoneType)
    return generate_value(first, rng, depth=depth)


def _word(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(0, 8)))


_SCALARS: dict[Any, Callable[[random.Random], Any]] = {
    bool: lambda rng: rng.random() < 0.5,
    int: lambda rng: rng.randint(-100, 100),
    float: lambda rng: rng.uniform(-100.0, 100.0),
    str: _word,
    types.NoneType: lambda rng: None,
}
