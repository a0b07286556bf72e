"""One face for the two kinds of schema that a tool may have: a pydantic model class or a JSON Schema document."""

from typing import Any, Protocol

from pydantic import BaseModel

from doubleweave.models.fingerprints import schema_fingerprint
from doubleweave.models.json_schema import JsonSchema

SchemaSource = type[BaseModel] | JsonSchema


class BoundSchema(Protocol):
    """A schema with its validator and serializer looked up once."""

    source: Any

    def accept(self, raw: Any) -> Any:
        """Return the value that the tool function receives; raise when `raw` does not match."""

    def serialize(self, accepted: Any) -> Any:
        """Return an accepted value as plain data."""

    def restore(self, plain: Any) -> Any:
        """Return serialized data that has been JSON as it was before; raise when it does not match."""

    def fingerprint(self) -> str:
        """Return the first 16 hex digits of the schema's SHA-256."""

    def declared_keys(self) -> frozenset[str] | None:
        """Return every key that serialized data can have, or None when that cannot be known."""

    def field_types(self) -> dict[str, str]:
        """Return the name of each declared field's type."""


class ModelSchema:
    """A pydantic model class as a tool's schema."""

    __slots__ = ("_is_plain", "accept", "serialize", "source")

    def __init__(self, model: type[BaseModel]) -> None:
        self.source = model
        # Bound validators cost a third of the class methods, but a class that overrides the method, or that still
        # waits for a forward reference, must be asked through it.
        complete = model.__pydantic_complete__
        plain_validate = getattr(model.model_validate, "__func__", None) is getattr(
            BaseModel.model_validate, "__func__", model
        )
        plain_dump = model.model_dump is BaseModel.model_dump
        self.accept = (
            model.__pydantic_validator__.validate_python if complete and plain_validate else model.model_validate
        )
        self._is_plain = complete and plain_dump
        # An instance of a subclass passes validation as it is. It is written out as one of the declared class, because
        # what else it has is not part of the schema, and steps are ordered by the keys that the schema declares.
        self.serialize = model.__pydantic_serializer__.to_python if self._is_plain else model.model_dump

    def restore(self, plain: Any) -> Any:
        return self.serialize(self.source.model_validate(plain, **field_names(self.source)))

    def fingerprint(self) -> str:
        return schema_fingerprint(self.source)

    def declared_keys(self) -> frozenset[str] | None:
        model = self.source
        decorators = model.__pydantic_decorators__
        wrapped = any(item.info.mode == "wrap" for item in decorators.model_validators.values())
        if (
            model.__pydantic_root_model__
            or wrapped
            or decorators.model_serializers
            or model.model_config.get("extra") == "allow"
            or model.model_config.get("serialize_by_alias")
            or not self._is_plain
        ):
            return None
        return frozenset(model.model_fields) | frozenset(model.model_computed_fields)

    def field_types(self) -> dict[str, str]:
        annotations = {name: field.annotation for name, field in self.source.model_fields.items()}
        return {name: getattr(each, "__name__", None) or str(each) for name, each in annotations.items()}


class DocumentSchema:
    """A JSON Schema document as a tool's schema; values are plain data on both sides."""

    __slots__ = ("_name", "source")

    def __init__(self, document: JsonSchema, name: str) -> None:
        self.source = document
        self._name = name

    def accept(self, raw: Any) -> Any:
        return self.source.validate(raw, name=self._name)

    def serialize(self, accepted: Any) -> Any:
        return accepted

    def restore(self, plain: Any) -> Any:
        return self.source.validate(plain, name=self._name)

    def fingerprint(self) -> str:
        return self.source.fingerprint

    def declared_keys(self) -> frozenset[str] | None:
        return self.source.declared_keys()

    def field_types(self) -> dict[str, str]:
        return self.source.field_types()


def field_names(model: type[BaseModel]) -> dict[str, Any]:
    """Return how to validate what `model_dump` has written: by the names of the fields, unless the model writes aliases."""
    aliases = bool(model.model_config.get("serialize_by_alias"))
    return {"by_alias": aliases, "by_name": not aliases}


def bind_schema(source: SchemaSource, name: str) -> BoundSchema:
    """Bind a tool's schema; `name` says in errors whose schema it is."""
    return DocumentSchema(source, name) if isinstance(source, JsonSchema) else ModelSchema(source)
