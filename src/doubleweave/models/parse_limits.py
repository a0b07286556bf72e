"""How much a flow file may hold, and the walk that says where it holds more."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from doubleweave.models.json_values import json_path, shortened


@dataclass(frozen=True)
class FlowParseLimits:
    """The most that a flow file may hold; a value equal to a limit passes, and None switches a limit off.

    Args:
        max_bytes: UTF-8 bytes of the text.
        max_nodes: Mappings, lists and scalars, the whole document being one of them; keys are not counted. What several
            places share is counted at each of them.
        max_depth: Levels of nesting; the whole document is at level 1, and a scalar has a level of its own.
        max_string_length: Characters of any text or key.
        max_steps: Steps of a flow.

    Raises:
        ValueError: A limit is neither a positive integer nor None.
    """

    max_bytes: int | None = 5_242_880
    max_nodes: int | None = 100_000
    max_depth: int | None = 64
    max_string_length: int | None = 100_000
    max_steps: int | None = 1_000

    def __post_init__(self) -> None:
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and (type(limit) is not int or limit <= 0):
                raise ValueError(f"{field.name} must be a positive integer or None, got {limit!r}")

    @classmethod
    def unlimited(cls) -> Self:
        """Return limits that are all switched off."""
        return cls(**{field.name: None for field in fields(cls)})


DEFAULT_PARSE_LIMITS = FlowParseLimits()


class StructureError(Exception):
    """A document holds more than a limit allows, or what is no Unicode; the text says which, and where."""


class Meter:
    """Counts the values of a document, one at a time, against the limits of its structure."""

    __slots__ = ("_limits", "_nodes")

    def __init__(self, limits: FlowParseLimits) -> None:
        self._limits = limits
        self._nodes = 0

    def count(self, trail: list[Any], value: Any) -> None:
        """Count one value, which stands behind the keys and indices of `trail`.

        Raises:
            StructureError: It is one value too many or nested too deep, or it or its key is too long or no Unicode.
        """
        limits = self._limits
        self._nodes += 1
        if limits.max_nodes is not None and self._nodes > limits.max_nodes:
            raise StructureError(f"{_place(trail)} is one value more than max_nodes={limits.max_nodes} allows")
        if limits.max_depth is not None and len(trail) >= limits.max_depth:
            raise StructureError(f"{_place(trail)} is nested deeper than max_depth={limits.max_depth} allows")
        if isinstance(value, str):
            self._check_text(value, trail, "is a text of")
        if trail and isinstance(trail[-1], str):
            self._check_text(trail[-1], trail[:-1], "has a key of")

    def _check_text(self, text: str, trail: list[Any], role: str) -> None:
        longest = self._limits.max_string_length
        if longest is not None and len(text) > longest:
            raise StructureError(
                f"{_place(trail)} {role} {len(text)} characters, more than max_string_length={longest} allows"
            )
        if not is_unicode(text):
            raise StructureError(f"{_place(trail)} {role} half a surrogate pair, which is no Unicode")


def is_unicode(text: str) -> bool:
    """Say whether a text has a UTF-8 form: one with half a surrogate pair has none."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def check_bytes(text: str, limits: FlowParseLimits) -> None:
    """Refuse a text whose UTF-8 form is longer than `max_bytes`.

    Raises:
        StructureError: It is.
    """
    limit = limits.max_bytes
    # A character has at least one byte, so what is far too long is not encoded.
    if limit is not None and (len(text) > limit or len(text.encode("utf-8", "surrogatepass")) > limit):
        raise StructureError(f"the text has more bytes than max_bytes={limit} allows")


def check_structure(document: Any, limits: FlowParseLimits) -> None:
    """Visit the values of a document, in their order, up to the first that passes a limit or is no Unicode.

    Raises:
        StructureError: One does.
    """
    bounded = limits.max_nodes is not None or limits.max_depth is not None
    meter = Meter(limits)
    # Values that contain themselves have no end, unless values or levels are counted.
    for trail, value in walk(document, once=not bounded):
        meter.count(trail, value)


def walk(root: Any, *, once: bool = False) -> Iterator[tuple[list[Any], Any]]:
    """Yield every value in `root`, itself first, with the keys and indices that lead to it.

    The list of keys is one object that changes as the walk goes on. Nesting uses no stack, and with `once` no list or mapping
    is entered twice.
    """
    trail: list[Any] = []
    yield trail, root
    entered: set[int] = set()
    unfinished = [_items(root)]
    trail.append(None)
    while unfinished:
        for key, value in unfinished[-1]:
            trail[-1] = key
            yield trail, value
            if isinstance(value, Mapping | list | tuple) and id(value) not in entered:
                if once:
                    entered.add(id(value))
                unfinished.append(_items(value))
                trail.append(None)
                break
        else:
            unfinished.pop()
            trail.pop()


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return iter(value.items())
    return enumerate(value) if isinstance(value, list | tuple) else iter(())


def _place(trail: list[Any]) -> str:
    return shortened(json_path(tuple(trail)))
