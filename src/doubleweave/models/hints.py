"""What an error of a run says after its first sentence: which flow and field it is about, and what to do."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import islice
from typing import Any

from doubleweave.models.pointers import PointerResolutionError, is_pointer, parse_pointer, resolve_tokens

_SHOWN, _COMPARED = 5, 1000


def missing_tool_hint(flow_name: str, step_index: int, name: str, known: Iterable[str]) -> str:
    """Return what to do about a step of a flow whose tool is not among the `known` ones."""
    near = _nearest(name, known)
    instead = f", or name '{near}', which is registered" if near else ""
    return f"Step {step_index} of flow '{flow_name}' names it: register it with register_tool{instead}."


def missing_key_hint(flow_name: str, field: str, source: str, context: Mapping[str, Any], names: Iterable[Any]) -> str:
    """Return what to do about a field whose source, a key or a pointer, is not in `context`.

    `names` are the keys that the input and the steps before may have given.
    """
    start, name, there = _way_to(source, context, names)
    near = _nearest(name, there)
    if near:
        advice = f"take '{start}{near}'"
    elif there:
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        advice = f"known there are {', '.join(repr(start + each) for each in there[:_SHOWN])}{more}"
    else:
        advice = "give it in the flow's input, or write it in a step before"
    return f"Flow '{flow_name}' maps it to field '{field}': {advice}."


def misfit_hint(flow_name: str, step_index: int, tool_name: str) -> str:
    """Return what to do about values that do not match the schema of a tool."""
    return (
        f"Step {step_index} of flow '{flow_name}': change what the step is given or what tool '{tool_name}' declares; "
        "check_flow finds such faults before a run."
    )


def _way_to(source: str, context: Mapping[str, Any], names: Iterable[Any]) -> tuple[str, str, list[str]]:
    """Return how far `source` leads, the name that is missing there, and the names known there, as sources write them."""
    if not is_pointer(source):
        return "", source, sorted(key for key in names if isinstance(key, str) and not is_pointer(key))
    holder, passed = context, 0
    tokens = parse_pointer(source)
    with suppress(PointerResolutionError):
        for token in tokens:
            holder = resolve_tokens(holder, [token], source)
            passed += 1
    there: Iterable[Any] = names if passed == 0 else holder if isinstance(holder, Mapping) else ()
    start = "".join(f"/{_encoded(token)}" for token in tokens[:passed]) + "/"
    return start, _encoded(tokens[passed]), sorted(_encoded(key) for key in there if isinstance(key, str))


def _encoded(token: str) -> str:
    return token.replace("~", "~0").replace("/", "~1")


def _nearest(name: str, known: Iterable[str]) -> str | None:
    # Only where something is wrong already: the module is of no use to anybody else.
    from difflib import get_close_matches

    return next(iter(get_close_matches(name, islice(known, _COMPARED), n=1)), None)
