"""Where the validation of a model looks for the values of its fields."""

from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo

Place = list[str | int]


def place_of(schema: type[BaseModel], name: str) -> Place:
    """Return the path at which a field's value is read: its own name wherever that is read, else its (first) alias."""
    config, alias = schema.model_config, schema.model_fields[name].validation_alias
    if alias is None or config.get("validate_by_name") or config.get("populate_by_name"):
        return [name]
    first = alias.choices[0] if isinstance(alias, AliasChoices) else alias
    return list(first.path) if isinstance(first, AliasPath) else [first]


def put(values: dict[str, Any], place: Place, value: Any) -> None:
    """Set the value at a path, and make what is not there above it; items of a list that no path names are None."""
    container: Any = values
    for part, below in zip(place, [*place[1:], None], strict=True):
        if isinstance(container, list) and isinstance(part, int):
            container += [None] * ((part + 1 if part >= 0 else -part) - len(container))
            missing = container[part] is None
        elif isinstance(container, dict):
            missing = part not in container
        else:
            # The value of another field is in the way; validation will say what is missing.
            return
        if below is None:
            container[part] = value
        elif missing:
            container[part] = [] if isinstance(below, int) else {}
        container = container[part]


def as_input(value: Any, dumped: Any) -> Any:
    """Return what was dumped of a value, with the fields of models at the places where they are read again."""
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        schema = type(value)
        fields = [name for name in schema.model_fields if name in dumped]
        keyed: dict[str, Any] = {}
        for name in fields:
            put(keyed, place_of(schema, name), as_input(getattr(value, name), dumped[name]))
        return keyed | {key: item for key, item in dumped.items() if key not in fields}
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {key: as_input(value.get(key), item) for key, item in dumped.items()}
    if isinstance(value, list) and isinstance(dumped, list) and len(value) == len(dumped):
        return [as_input(*pair) for pair in zip(value, dumped, strict=True)]
    return dumped


def field_at(schema: type[BaseModel], place: tuple[str | int, ...]) -> tuple[str, FieldInfo] | None:
    """Return the name of the field that an error's path leads to or into, and the field; None when there is none."""
    by_place = schema.model_config.get("loc_by_alias", True)
    found: tuple[str, FieldInfo] | None = None
    longest = 0
    for name, field in schema.model_fields.items():
        own = place_of(schema, name) if by_place else [name]
        if len(own) > longest and own == list(place[: len(own)]):
            found, longest = (name, field), len(own)
    return found
