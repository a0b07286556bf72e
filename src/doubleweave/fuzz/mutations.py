"""Changing one thing in an input or an output. What is put in is JSON."""

import random
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

_STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**63, 0.5, -1e308),
    *("", "fuzz", "0", "ü\u2028\x00", "x" * 1000, [], [None], {}, {"fuzz": None}),
)

Slot = tuple[Any, Any]
"""A container and the key or index of one of its values."""


def mutated(data: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """Return a deep copy with one change: a key dropped or added, or a value, which may be nested, replaced by another one."""
    twin = deepcopy(data)
    values = [(twin, key) for key in twin]
    scalars = [(twin, key) for key in twin if not isinstance(twin[key], dict | list)]
    nested = [slot for key in twin for slot in _slots(twin[key])]
    ways: list[Callable[[], None]] = [lambda: _add_key(twin, rng)]
    if values:
        ways.append(lambda: _drop(rng.choice(values)))
    if scalars:
        ways.append(lambda: _corrupt(rng.choice(scalars), rng))
    if nested:
        ways.append(lambda: _corrupt(rng.choice(nested), rng))
    rng.choice(ways)()
    return twin


def _slots(value: Any) -> Iterator[Slot]:
    """Yield the place of every value below a container."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in pairs:
        yield value, key
        yield from _slots(item)


def _add_key(data: dict[str, Any], rng: random.Random) -> None:
    number = rng.randrange(1000)
    while f"__fuzz_{number}" in data:
        number += 1
    data[f"__fuzz_{number}"] = deepcopy(rng.choice(_STRANGE))


def _drop(slot: Slot) -> None:
    container, key = slot
    del container[key]


def _corrupt(slot: Slot, rng: random.Random) -> None:
    container, key = slot
    value = container[key]
    others = [other for other in (*_near(value), *_STRANGE) if type(other) is not type(value) or other != value]
    container[key] = deepcopy(rng.choice(others))


def _near(value: Any) -> tuple[Any, ...]:
    """Return values of the same type: what looks right is looked at further."""
    if type(value) is int:
        return (value + 1, -value, value * 1000)
    if type(value) is float and abs(value) < 1e300:
        return (value + 1.0, -value, value * 1000.0)
    if type(value) is str:
        return (f"{value} ", value[1:], value.swapcase())
    return ()
