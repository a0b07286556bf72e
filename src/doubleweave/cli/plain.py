"""Any value as one that JSON has a form for, for the few that pydantic and `json` give up on."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

_DEEPEST = 100
"""How many levels of a value are kept. Traces that are nested much deeper cannot be read again."""


def plain(value: Any, level: int = 0) -> Any:
    """Return a value as JSON data. What JSON has no form for is text, also what lies too deep or contains itself."""
    if isinstance(value, str):
        # A half of a surrogate pair has no form in UTF-8.
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, int) and not isinstance(value, bool):
        return _number(value)
    if isinstance(value, BaseModel):
        return plain(dict(value), level)
    if isinstance(value, dict | list | tuple | set | frozenset):
        if level == _DEEPEST:
            return "..."
        if isinstance(value, dict):
            return {_key(key): plain(each, level + 1) for key, each in value.items()}
        return [plain(each, level + 1) for each in value]
    return _by_pydantic(value)


def _key(key: Any) -> str:
    return str(plain(key)) if isinstance(key, str | bytes) else _text(key)


def _number(value: int) -> Any:
    try:
        str(value)
    # Python writes and reads no decimals of this length.
    except ValueError:
        return hex(value)
    return value


def _by_pydantic(value: Any) -> Any:
    try:
        return to_jsonable_python(value, fallback=_text)
    except (ValueError, RecursionError):
        return _text(value)


def _text(value: Any) -> str:
    return str(value).encode(errors="backslashreplace").decode()
