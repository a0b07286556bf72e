"""How a step's inputs are taken from the context of the run."""

from collections.abc import Callable, Mapping
from typing import Any

from doubleweave.models.pointers import PointerResolutionError, is_pointer, parse_pointer, resolve_pointer

Resolver = Callable[[dict[str, Any]], dict[str, Any]]


class Unresolved(Exception):
    """A mapping's source is not in the context; `key` is the key, or the pointer up to the token that failed.

    `field` is the tool's field that it is for, `source` what the mapping says of that.
    """

    field = source = ""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def compile_mapping(mapping: Mapping[str, Any]) -> Resolver:
    """Return a function from context to inputs for an input mapping.

    An empty mapping passes a shallow copy of the whole context. Otherwise a string that starts with `/` is a JSON pointer
    (RFC 6901) into the context, another string one of its keys, and anything else a literal.
    The function raises `Unresolved` for a key or pointer that does not resolve.
    """
    if not mapping:
        return dict
    if all(isinstance(source, str) and not is_pointer(source) for source in mapping.values()):
        return _key_resolver(tuple(mapping.items()))
    return _general_resolver(dict(mapping))


def mapped_keys(mapping: Mapping[str, Any]) -> frozenset[str] | None:
    """Return the context keys that an input mapping can read; None stands for all of them."""
    if not mapping:
        return None
    sources = [source for source in mapping.values() if isinstance(source, str)]
    return frozenset(parse_pointer(source)[0] if is_pointer(source) else source for source in sources)


def _key_resolver(pairs: tuple[tuple[str, str], ...]) -> Resolver:
    def resolve(context: dict[str, Any]) -> dict[str, Any]:
        inputs = {}
        try:
            # A loop, because a comprehension is one more call on Python 3.11.
            for target, source in pairs:
                inputs[target] = context[source]
        except KeyError:
            raise _first_unresolved(dict(pairs), context) from None
        return inputs

    return resolve


def _general_resolver(mapping: dict[str, Any]) -> Resolver:
    def resolve(context: dict[str, Any]) -> dict[str, Any]:
        try:
            return {target: _value_of(source, context) for target, source in mapping.items()}
        except Unresolved:
            found = _first_unresolved(mapping, context)
            raise found from found.__cause__

    return resolve


def _first_unresolved(mapping: Mapping[str, Any], context: dict[str, Any]) -> Unresolved:
    """Return what is told of several sources that are not there: in the order of the fields, for files keep no other one."""
    for target in sorted(mapping):
        try:
            _value_of(mapping[target], context)
        except Unresolved as error:
            error.field, error.source = target, mapping[target]
            return error
    raise AssertionError("unreachable")


def _value_of(source: Any, context: dict[str, Any]) -> Any:
    if not isinstance(source, str):
        return source
    try:
        return resolve_pointer(context, source) if is_pointer(source) else context[source]
    except PointerResolutionError as error:
        raise Unresolved(error.failed_at) from error
    except KeyError:
        raise Unresolved(source) from None
