"""Hostile flow files and predicates, one after the other in a process of its own that is watched while it reads them.

    python tests/fuzzed_input.py SEED COUNT

prints what each case did that it must not do, as JSON: an error of another class than is specified, too much time or memory, an
import, a file, a socket, a process, code that is executed.
"""

import json
import random
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from doubleweave import (
    DAGDefinitionError,
    FlowRegistry,
    FlowSerializationError,
    InvalidFlowVersionError,
    PredicateSyntaxError,
    SchemaRefAllowlist,
    SchemaRefPolicyError,
    check_flow,
    compile_flow,
    evaluate_predicate,
    flow_from_dict,
    flow_from_json,
    flow_from_yaml,
    flow_to_ascii,
    flow_to_dict,
    flow_to_dot,
    flow_to_json,
    flow_to_mermaid,
    flow_to_yaml,
    resolve_class_ref,
    schema_ref_policy,
)

SECONDS, BYTES = 0.1, 50 * 2**20

HOSTILE = [
    *("os:system", "subprocess:Popen", "builtins:eval", "builtins:__import__", "sys:modules", "a_module_on_the_path:X"),
    *(
        "doubleweave.errors:__builtins__.eval",
        "builtins:object.__subclasses__",
        "../../etc/passwd:x",
        ":x",
        "os:",
        "os",
    ),
    *(
        "__class__",
        "__init__.__globals__",
        "/__class__/__bases__",
        "/a~2b",
        "/",
        "//",
        "/0/-1",
        "",
        "\x00",
        "\ud800",
        "a" * 5000,
    ),
    *(
        "name\u202egnp.exe",
        "ﬀlow",
        "Å",
        "Å",
        "\u200b",
        "💥",
        "a\nb",
        "fallback:",
        "fallback:x",
        "skip",
        "1.0.0",
        "1!2.0+x",
    ),
]
EXPRESSIONS = [
    *(
        "__import__('os').system('id')",
        "().__class__.__bases__[0].__subclasses__()",
        "open('/etc/passwd').read()",
        "a.b",
    ),
    *(
        "(lambda: 1)()",
        "[x for x in a]",
        "f'{a}'",
        "(y := 1)",
        "9**9**9",
        "'a'*10**9",
        "a if a else b",
        "*a",
        "{**a}",
        "...",
    ),
    *(
        "a[::2]",
        "await a",
        "yield a",
        "exec('1')",
        "print(a)",
        "a @ b",
        "~a",
        "a is b",
        "1_000",
        "0x_f",
        "1e999",
        "b'\\xff'",
    ),
]
NAMES = ["a", "b", "text", "items", "table", "nothing", "gone", "True", "__builtins__", "a" * 300]
CONTEXT: dict[str, Any] = {
    "a": 1,
    "b": 2.5,
    "text": "some text",
    "items": [1, "two", None],
    "table": {"x": {"y": [1]}},
    "nothing": None,
}


def predicate(draw: random.Random, depth: int = 4) -> str:
    """Return an expression, of which some parts are allowed."""
    turn = draw.randrange(12 if depth else 4)
    if turn < 2:
        return draw.choice(NAMES)
    if turn == 2:
        return draw.choice(["1", "-2.5", "'x'", "[]", "()", "{1}", "None", "b''", "9" * draw.randrange(1, 5000)])
    if turn == 3:
        return draw.choice(EXPRESSIONS)
    one, other = predicate(draw, depth - 1), predicate(draw, depth - 1)
    word = draw.choice(["and", "or", "==", "!=", "<", ">=", "in", "not in", "is", "+", ",", "=", ":", "if"])
    return draw.choice(
        [f"({one} {word} {other})", f"not {one}", f"-{one}", f"{one}[{other}]", f"[{one}, {other}]", f"{{{one}}}"]
    )


def long_predicate(draw: random.Random) -> str:
    """Return an expression that goes deep or far."""
    count = draw.choice([10, 390, 401, 5000, 100_000])
    return draw.choice(
        [
            "(" * count + "a" + ")" * count,
            "not " * count + "a",
            "-" * count + "a",
            " and ".join(["a"] * min(count, 3000)),
            "a" + "[0]" * count,
            "a" + " < a" * min(count, 3000),
            "[" * count + "]" * count,
            "'" + "x" * count + "'",
            "1" * count,
        ]
    )


def value(draw: random.Random, depth: int = 3) -> Any:
    """Return a value that may stand anywhere in a file."""
    turn = draw.randrange(10 if depth else 7)
    if turn == 0:
        return draw.choice(HOSTILE)
    if turn == 1:
        return draw.choice([0, -1, 1.5, 10**30, True, None, "", "x"])
    if turn in (2, 3):
        return draw.choice(HOSTILE + EXPRESSIONS)
    if turn < 7:
        return draw.choice(["t0", "t1", "n", "/n", "s0", "s1", "typed"])
    if turn == 7:
        return [value(draw, depth - 1) for _ in range(draw.randrange(3))]
    return {draw.choice([*HOSTILE[:12], "n", "x"]): value(draw, depth - 1) for _ in range(draw.randrange(3))}


def flow_data(draw: random.Random) -> dict[str, Any]:
    """Return the data of a flow, most of it as it should be."""
    is_dag = draw.random() < 0.5
    steps = []
    for number in range(draw.randrange(4)):
        step: dict[str, Any] = {
            "tool_name": f"t{draw.randrange(2)}",
            "input_mapping": {"n": draw.choice(["n", "/n", 1])},
        }
        if is_dag:
            step |= {"step_id": f"s{number}", "depends_on": [f"s{number - 1}"] if number else []}
        steps.append(step)
    kind = "DAGFlow" if is_dag else "Flow"
    return {"type": kind, "name": "typed", "version": "1.0.0", "description": "", "steps": steps}


def broken(draw: random.Random, data: Any) -> Any:
    """Return data with something put in, taken out or replaced, somewhere inside."""
    place = data
    for _ in range(draw.randrange(4)):
        inner = [
            each for each in (place.values() if isinstance(place, dict) else place) if isinstance(each, dict | list)
        ]
        if not inner:
            break
        place = draw.choice(inner)
    if isinstance(place, list):
        place.insert(draw.randrange(len(place) + 1), value(draw))
        return data
    fields = [
        *(
            "retry",
            "on_error",
            "branches",
            "default_next",
            "step_type",
            "capability_id",
            "output_mapping",
            "governance",
        ),
        *(
            "input_schema_ref",
            "input_contract",
            "decision_candidates",
            "safety",
            "dynamic_params",
            "format_version",
            "flow_name",
        ),
        *("status", "tool_schema_hashes", "trigger_conditions", "on_context_collision", *place),
    ]
    key = draw.choice(fields)
    if draw.random() < 0.2:
        place.pop(key, None)
    else:
        place[key] = value(draw)
    return data


def mangled(draw: random.Random, text: str) -> str:
    """Return a text with pieces cut out, doubled or put in."""
    pieces = [
        "\x00",
        "\t",
        "\ufeff",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "&a ",
        "*a",
        "<<: ",
        "!!python/object:os.system ",
        "---\n",
    ]
    pieces += [
        "? ",
        "- ",
        "'",
        '"',
        "\\",
        "\ud800",
        "1e999",
        "NaN",
        "-Infinity",
        "!!binary ",
        "2026-11-24",
        "0o7",
        "1" + ":59" * 200 + ".5",
        "-1" + ":59" * 200,
        "!!null ",
        "!!float ",
        "! ",
        "%YAML 1.1\n",
    ]
    for _ in range(draw.randrange(1, 4)):
        start = draw.randrange(len(text) + 1)
        end = min(len(text), start + draw.randrange(20))
        text = text[:start] + draw.choice([draw.choice(pieces), text[start:end] * 2, ""]) + text[end:]
    return text


def bomb(draw: random.Random) -> str:
    """Return a text that is small and means much, or goes deep."""
    count = draw.choice([50, 1000, 30_000])
    aliases = "".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(10))
    return draw.choice(
        [
            aliases,
            "[" * count,
            "[" * count + "]" * count,
            '{"a":' * count + "1" + "}" * count,
            "{a: " * count,
            "- " * count,
            "? " * count,
            '{"type": "Flow", "steps": [' + "{}," * count + "{}]}",
            '{"type": "Flow", "name": "' + "x" * count * 5 + '"}',
            "1" * count * 5,
            '{"a": ' + "9" * count + "}",
            "a: 1" + ":59" * count,
            "a: 1" + ":59" * min(count, 1000) + ".5",
            "".join(f"a{n}: 1\n" for n in range(min(count, 7000))),
            "a: !!set {" + ", ".join("x" * (n % 7) for n in range(count)) + "}",
        ]
    )


def read_predicate(draw: random.Random) -> Callable[[], object]:
    text = long_predicate(draw) if draw.random() < 0.05 else predicate(draw)
    text = mangled(draw, text) if draw.random() < 0.2 else text
    return lambda: evaluate_predicate(text, CONTEXT)


def read_file(draw: random.Random) -> Callable[[], object]:
    data = flow_data(draw)
    for _ in range(draw.randrange(4)):
        data = broken(draw, data)
    form = draw.randrange(4)
    if form == 0:
        return lambda: look_at(flow_from_dict(data))
    text = bomb(draw) if form == 1 and draw.random() < 0.3 else json.dumps(data)
    text = mangled(draw, text) if draw.random() < 0.4 else text
    reader = flow_from_json if form == 2 else flow_from_yaml
    return lambda: look_at(reader(text))


def look_at(flow: Any) -> None:
    """Do with a flow all that is done before it runs."""
    registry = FlowRegistry()
    try:
        registry.register_flow(flow)
    except (DAGDefinitionError, InvalidFlowVersionError):
        assert len(registry) == 0
    report = check_flow(flow, {}, registry=registry)
    assert report.flow_name == flow.name
    with suppress(SchemaRefPolicyError, FlowSerializationError), schema_ref_policy(SchemaRefAllowlist([])):
        compile_flow(flow, {})
    drawn = [flow_to_mermaid(flow), flow_to_dot(flow), flow_to_ascii(flow)]
    assert all(drawn)
    with schema_ref_policy(SchemaRefAllowlist([])):
        for ref in (flow.input_schema_ref, *(step.input_contract for step in flow.steps)):
            if ref is not None:
                try:
                    resolve_class_ref(ref)
                except (SchemaRefPolicyError, FlowSerializationError):
                    continue
                raise AssertionError(f"{ref!r} was resolved")
    if flow_to_dict(flow) != flow_to_dict(flow_from_json(flow_to_json(flow))):
        raise AssertionError("it is not read back as it was written")
    if flow_to_dict(flow) != flow_to_dict(flow_from_yaml(flow_to_yaml(flow))):
        raise AssertionError("it is not read back from YAML as it was written")


SPECIFIED = (PredicateSyntaxError, FlowSerializationError)
FORBIDDEN = (
    "import",
    "open",
    "exec",
    "os.",
    "socket.",
    "subprocess.",
    "shutil.",
    "ctypes.",
    "urllib.",
    "tempfile.",
    "winreg.",
)


class Watch:
    """Notes what a process does that reading must not do."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.is_on = False
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on or not event.startswith(FORBIDDEN):
            return
        if event == "import" and arguments[0] in sys.modules:
            return
        self.events.append(f"{event} {str(arguments[0])[:80] if arguments else ''}")


def faults_of(read: Callable[[], object], watch: Watch) -> list[str]:
    """Read one case; return what it did that it must not do."""
    watch.events.clear()
    start, found = time.thread_time(), []
    watch.is_on = True
    try:
        read()
    except SPECIFIED as error:
        len(str(error))
    except BaseException as error:
        found.append(f"{type(error).__name__}: {str(error)[:200]}")
    watch.is_on = False
    seconds = time.thread_time() - start
    if seconds > SECONDS:
        found.append(f"took {seconds:.3f} s")
    return [*found, *watch.events]


def memory_of(read: Callable[[], object]) -> int:
    """Return the bytes that reading a case takes at most."""
    tracemalloc.start()
    with suppress(*SPECIFIED):
        read()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main(seed: int, count: int) -> None:
    warnings.simplefilter("ignore", SyntaxWarning)
    watch = Watch()
    warm_up = random.Random(0)
    # What is imported at the first use is imported now.
    for _ in range(300):
        for make in (read_predicate, read_file):
            faults_of(make(warm_up), watch)
    faults = 0
    for number in range(seed, seed + count):
        make = read_predicate if number % 2 else read_file
        found = faults_of(make(random.Random(number)), watch)
        # Tracing makes everything five times as slow.
        if number % 10 < 2 and (size := memory_of(make(random.Random(number)))) > BYTES:
            found.append(f"took {size / 2**20:.0f} MB")
        if found:
            faults += 1
            print(json.dumps({"seed": number, "faults": found}), flush=True)
    print(json.dumps({"cases": count, "faults": faults}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
