"""YAML texts that mean what a JSON text means. The package `pyyaml` is imported when one is read or written."""

from collections.abc import Callable
from typing import Any

from doubleweave.models.json_text import LONGEST_NUMBER, json_fault
from doubleweave.models.json_values import json_path, shortened
from doubleweave.models.parse_limits import FlowParseLimits, Meter, StructureError, check_bytes

_TAG = "tag:yaml.org,2002:"
_AWAITED: Any = object()
_UNLIKE_JSON = "\ufeff\x85\u2028\u2029"


def dump_yaml(value: Any) -> str:
    """Return JSON data as YAML in block style, with sorted keys and without aliases.

    Raises:
        ImportError: `pyyaml` is not installed.
        RecursionError: `value` is nested too deeply.
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """The one in Python: what libyaml writes breaks its lines elsewhere."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    return str(yaml.dump(value, Dumper=Dumper, default_flow_style=False, sort_keys=True))


def parse_yaml(text: str, limits: FlowParseLimits) -> Any:
    """Return the value of a YAML text; None when it is empty.

    The text is read event by event, up to the first that is refused, so that what is small in the text is small in memory and
    nothing is nested on the stack. Accepted is what JSON can say too: mappings with texts as keys, lists, texts, booleans,
    numbers and null, all as YAML 1.1 writes them: `yes` is true, `012` is ten, and an exponent needs a dot and a sign, `1.0e+3`,
    for `1e3` is a text.

    Raises:
        ImportError: `pyyaml` is not installed.
        ValueError: It is no YAML, or it has what JSON has not: an alias, a merge key (`<<`), a date, a set, binary data, any
            other tag, a key that is no text or stands twice, a number that is infinite, none (`.nan`) or too long.
        RecursionError: It is nested too deeply for the parser.
        StructureError: It passes a limit. What follows in the text has not been looked at.
    """
    import yaml

    check_bytes(text, limits)
    for each in _UNLIKE_JSON:
        if each in text:
            raise ValueError(
                f"{each!r} stands in the text, which YAML drops or takes for the end of a line, and JSON does not: "
                "save the file without it, or write it as an escape in double quotes"
            )
    reader = _Reader(yaml, limits)
    # The parser in C reads the same, forty times as fast; it is not part of every `pyyaml`.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for event in yaml.parse(text, Loader=loader):
            reader.take(event)
    except yaml.YAMLError as error:
        if "maximum nesting depth" in str(error):
            raise RecursionError(str(error)) from error
        raise ValueError(shortened(" ".join(str(error).split()))) from error
    except StructureError:
        # What is no mapping is refused for that, whatever else is in it.
        if isinstance(reader.root, dict):
            raise
    return reader.root


class _Reader:
    """Builds the value of the events that it is given, in the order of the text."""

    def __init__(self, yaml: Any, limits: FlowParseLimits) -> None:
        self.root: Any = None
        self._yaml = yaml
        self._scalars = _Scalars(yaml)
        self._limits = limits
        self._meter = Meter(limits)
        self._documents = 0
        # The mappings and lists that are not at their end, and for each of them the key or index of what is read.
        self._open: list[Any] = []
        self._trail: list[Any] = []

    def take(self, event: Any) -> None:
        """Go on with the next event; `ValueError` or `StructureError` when it is refused."""
        yaml = self._yaml
        if isinstance(event, yaml.AliasEvent):
            raise _fault(
                event,
                f"the alias *{event.anchor[:80]} is refused, since a few aliases can stand for any number of values "
                "(max_nodes): write the value out",
            )
        if isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise _fault(event, "a second document begins, and a file has one")
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()
            self._trail.pop()
            self._await_next()
        elif isinstance(event, yaml.NodeEvent):
            self._take_node(event)

    def _take_node(self, event: Any) -> None:
        value = self._value_of(event)
        owner = self._open[-1] if self._open else None
        if isinstance(owner, dict) and self._trail[-1] is _AWAITED:
            self._take_key(event, value, owner)
            return
        if owner is None:
            self.root = value
        self._meter.count(self._trail, value)
        if isinstance(owner, dict):
            owner[self._trail[-1]] = value
        elif isinstance(owner, list):
            owner.append(value)
            self._check_steps(len(owner))
        if isinstance(value, dict | list):
            self._open.append(value)
            self._trail.append(_AWAITED if isinstance(value, dict) else 0)
        else:
            self._await_next()

    def _check_steps(self, count: int) -> None:
        # Later steps are not built only to be refused.
        most = self._limits.max_steps
        if most is not None and count > most and len(self._trail) == 2 and self._trail[0] == "steps":
            raise StructureError(f"$.steps has more steps than max_steps={most} allows")

    def _await_next(self) -> None:
        if self._open:
            self._trail[-1] = _AWAITED if isinstance(self._open[-1], dict) else self._trail[-1] + 1

    def _take_key(self, event: Any, key: Any, owner: dict[str, Any]) -> None:
        if not isinstance(key, str):
            raise _fault(event, f"a key is of the type {type(key).__name__}, and keys are texts: put it in quotes")
        if key in owner:
            raise _fault(event, f"the key {key[:80]!r} stands twice in {json_path(tuple(self._trail[:-1]))}")
        self._trail[-1] = key

    def _value_of(self, event: Any) -> Any:
        """Return the value of a scalar, or a mapping or list that is still empty."""
        if isinstance(event, self._yaml.ScalarEvent):
            return self._scalars.value_of(event)
        is_mapping = isinstance(event, self._yaml.MappingStartEvent)
        if event.tag not in (None, "!", f"{_TAG}map" if is_mapping else f"{_TAG}seq"):
            raise _fault(event, f"{_tag_name(event.tag)} is none of the types that JSON has")
        return {} if is_mapping else []


class _Scalars:
    """What scalars mean. Programs may have given loaders further tags and patterns; those do not count."""

    def __init__(self, yaml: Any) -> None:
        self._node = yaml.ScalarNode
        self._resolve = yaml.resolver.Resolver().resolve
        constructor = yaml.constructor.SafeConstructor()
        self._construct: dict[str, Callable[[Any], Any]] = {
            f"{_TAG}null": constructor.construct_yaml_null,
            f"{_TAG}bool": constructor.construct_yaml_bool,
            f"{_TAG}int": constructor.construct_yaml_int,
            f"{_TAG}float": constructor.construct_yaml_float,
            f"{_TAG}str": constructor.construct_yaml_str,
        }

    def value_of(self, event: Any) -> Any:
        tag = self._tag_of(event)
        construct = self._construct.get(tag)
        if construct is None:
            raise _fault(
                event,
                f"{event.value[:80]!r} is read as {_tag_name(tag)}, which is none of the types that JSON has: "
                "put it in quotes, or write out what it stands for",
            )
        if tag == f"{_TAG}str":
            return event.value
        if len(event.value.lstrip("+-")) > LONGEST_NUMBER:
            raise _fault(event, f"a number is longer than {LONGEST_NUMBER} characters")
        try:
            value = construct(self._node(tag, event.value))
        except (ValueError, LookupError, ArithmeticError) as error:
            raise _fault(event, f"{event.value[:80]!r} is no {_tag_name(tag)}") from error
        fault = json_fault(value)
        if fault is not None:
            raise _fault(event, f"{event.value[:80]!r} {fault.removeprefix('$ ')}")
        return value

    def _tag_of(self, event: Any) -> Any:
        if event.tag is None:
            return self._resolve(self._node, event.value, event.implicit)
        # The tag `!` says that what looks like a number is none.
        if event.tag == "!":
            return f"{_TAG}str"
        if event.tag in self._construct and event.tag != f"{_TAG}str":
            self._check_tagged(event)
        return event.tag

    def _check_tagged(self, event: Any) -> None:
        """Refuse a text that would not have its tag's type by itself: a null of any text loses what the text says."""
        found = self._resolve(self._node, event.value, (True, False))
        if found != event.tag and (found, event.tag) != (f"{_TAG}int", f"{_TAG}float"):
            raise _fault(event, f"{event.value[:80]!r} is no {_tag_name(event.tag)}")


def _tag_name(tag: str) -> str:
    return shortened(f"!!{tag.removeprefix(_TAG)}" if tag.startswith(_TAG) else tag)


def _fault(event: Any, text: str) -> ValueError:
    mark = event.start_mark
    return ValueError(f"line {mark.line + 1}, column {mark.column + 1}: {text}")
