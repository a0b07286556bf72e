"""JSON pointers (RFC 6901), which address values inside a run's context."""

from collections.abc import Sequence
from typing import Any

POINTER_PREFIX = "/"


class PointerResolutionError(Exception):
    """A pointer does not lead to a value.

    `failed_at` is the pointer up to and including the token that failed, with its tokens decoded. Callers translate
    this error into one of the public ones.
    """

    def __init__(self, pointer: str, failed_at: str, detail: str) -> None:
        super().__init__(pointer, failed_at, detail)
        self.pointer = pointer
        self.failed_at = failed_at
        self.detail = detail

    def __str__(self) -> str:
        return f"Pointer '{self.pointer}' failed at '{self.failed_at}': {self.detail}"


def is_pointer(source: str) -> bool:
    """Tell whether a mapping's source text is a pointer: it starts with `/`."""
    return source.startswith(POINTER_PREFIX)


def parse_pointer(pointer: str) -> list[str]:
    """Return the decoded tokens of a pointer; none for `""`, which addresses the whole document.

    Raises `PointerResolutionError` for any other text that does not start with `/`.
    """
    if not pointer:
        return []
    if not is_pointer(pointer):
        raise PointerResolutionError(pointer, pointer, f"must start with '{POINTER_PREFIX}'")
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer[1:].split("/")]


def resolve_pointer(data: Any, pointer: str) -> Any:
    """Return the value itself, not a copy, that `pointer` addresses in `data`; `None` is a value like any other.

    Dicts are entered by exact key, lists by index from 0, nothing else is entered. Raises `PointerResolutionError` when
    there is no such value.
    """
    return resolve_tokens(data, parse_pointer(pointer), pointer)


def resolve_tokens(data: Any, tokens: Sequence[str], pointer: str) -> Any:
    """Do what `resolve_pointer` does with a pointer whose tokens are known already."""
    current = data
    for position, token in enumerate(tokens):
        if isinstance(current, dict):
            detail = None if token in current else f"key '{token}' not found"
            key: Any = token
        elif isinstance(current, list):
            key, detail = _list_index(token, len(current))
        else:
            key, detail = None, f"cannot descend into {type(current).__name__}"
        if detail is not None:
            raise PointerResolutionError(pointer, "/" + "/".join(tokens[: position + 1]), detail)
        current = current[key]
    return current


def _list_index(token: str, length: int) -> tuple[int, str | None]:
    """Return the index that a token means in a list of `length`, and what is wrong with it, if anything."""
    try:
        index = int(token)
    except ValueError:
        return 0, f"list index '{token}' is not an integer"
    if not 0 <= index < length:
        return index, f"list index {token} is out of range for list of length {length}"
    return index, None
