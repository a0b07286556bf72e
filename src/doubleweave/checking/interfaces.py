"""The keys that a tool takes and gives, read off its schemas."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from doubleweave.checking.kinds import ANYTHING, NOTE_BY_NAME, NOTE_UNSERIALISABLE, Declared, declared
from doubleweave.checking.scope import Known
from doubleweave.models.tools import ToolBase


@dataclass(frozen=True)
class Interface:
    """The keys of an object: which there can be, which there must be, and what others may be; None for no others.

    An interface that is not known is that of a schema that says more than is looked into. With two names, a field may be given
    under its alias, too.
    """

    is_known: bool
    keys: dict[str, Declared] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    others: Declared | None = None
    drops_others: bool = False
    has_two_names: bool = False
    invites_others: bool = False

    @classmethod
    def of(cls, root: Declared) -> "Interface":
        """Read the interface of a schema."""
        alternatives = list(root.alternatives())
        if len(alternatives) == 1 and alternatives[0].kind == "any":
            return cls(True, others=root.part(ANYTHING))
        if len(alternatives) != 1 or alternatives[0].kind != "object":
            return cls(False)
        schema = alternatives[0].schema
        keys = {name: root.part(each) for name, each in schema.get("properties", {}).items()}
        silent = "additionalProperties" not in schema
        extra = schema.get("additionalProperties", root.origin != "output")
        others = None if extra is False else root.part(extra)
        required, drops = frozenset(schema.get("required", ())), silent and root.origin == "input"
        invites = others is not None and not silent
        return cls(True, keys, required, others, drops, bool(schema.get(NOTE_BY_NAME)), invites)


@dataclass(frozen=True)
class Outputs:
    """What a call adds to the context; when it is open, there may be more."""

    keys: dict[str, Known]
    is_open: bool


def outputs_of(tool: ToolBase) -> Outputs:
    """Return what a tool's output schema declares."""
    interface = Interface.of(declared(tool.output_schema, "output"))
    keys = {name: Known((each,), name in interface.required) for name, each in interface.keys.items()}
    return Outputs(keys, not interface.is_known or interface.others is not None)


def combined(found: list[Outputs]) -> Outputs:
    """Return what there is when one of several calls was made, nobody knows which."""
    names = dict.fromkeys(name for each in found for name in each.keys)
    keys = {}
    for name in names:
        known = [each.keys[name] for each in found if name in each.keys]
        sure = len(known) == len(found) and all(each.is_sure for each in known)
        keys[name] = Known(tuple(one for each in known for one in each.types), sure)
    return Outputs(keys, any(each.is_open for each in found))


def part_at(known: Known, token: str) -> Known:
    """Return what is known of a part of a value, which a token of a JSON pointer leads to."""
    parts = [_part(alternative, token) for one in known.types for alternative in one.alternatives()]
    types = tuple(one for part in parts for one in part.types)
    return Known(types, known.is_sure and all(part.is_sure for part in parts), known.is_declared)


def _part(each: Declared, token: str) -> Known:
    schema = each.schema
    if each.kind in ("any", "opaque"):
        return Known((each.part(ANYTHING),), False)
    if each.kind == "object":
        if token in schema.get("properties", {}):
            return Known((each.part(schema["properties"][token]),), token in schema.get("required", ()))
        extra = schema.get("additionalProperties", each.origin in ("document", "raw"))
        return Known() if extra is False else Known((each.part(extra),), False)
    if each.kind == "array" and (position := _position(token)) >= 0:
        places = schema.get("prefixItems", ())
        item = places[position] if position < len(places) else schema.get("items", True)
        return Known() if item is False else Known((each.part(item),), position < schema.get("minItems", 0))
    return Known()


def _position(token: str) -> int:
    """Return the position that a token stands for, as a run reads it; -1 when it stands for none."""
    try:
        return int(token)
    except ValueError:
        return -1


def is_plain(each: Declared) -> bool:
    """Say whether values of a type can be written as JSON."""
    return not any(schema.get(NOTE_UNSERIALISABLE) for schema in _all_schemas(each))


def _all_schemas(each: Declared) -> Iterator[dict[str, object]]:
    """Yield every schema inside a schema, through its references."""
    pending, seen = [each.schema], set()
    while pending:
        schema = pending.pop()
        if isinstance(schema, list):
            pending += schema
        elif isinstance(schema, dict):
            yield schema
            ref = schema.get("$ref")
            if isinstance(ref, str) and ref not in seen:
                seen.add(ref)
                pending += [alternative.schema for alternative in each.part(schema).alternatives()]
            pending += [value for key, value in schema.items() if key not in ("default", "const", "enum", "examples")]
