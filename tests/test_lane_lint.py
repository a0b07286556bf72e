"""What the source of a lane may not contain is refused at its line, before anything is generated."""

from pathlib import Path

import pytest

import lanes
from lane_lint import lint, visible
from lane_workspace import RULES, make_workspace

PATH = "src/doubleweave/_async/case.py"
NAMES = RULES["src/doubleweave"]

SPACE_AWAIT = ("`await` is not followed by one space and the rest", "`await`, one space, and the rest on the same line")
SPACE_ASYNC = ("`async` is not followed by one space and the rest", "`async`, one space, and the rest on the same line")
FSTRING = ("an f-string contains a lane word", "a variable, set before the f-string")
STARTS = ("a string starts with `Async`", "a string that cannot be taken for a name")
EQUALS = ("a string equals a mapped name", "a string that cannot be taken for a name")
QUOTED = ("a quoted annotation", "the bare name")
COMMENT = ("a comment names a lane", "words that are true on both lanes")
STRING = ("a string names a lane", "words that are true on both lanes")
NAME = ("no rule maps this name of one lane", "a twin `AsyncX`, or a name that fits both lanes")
ASKS = ("lane code asks which lane it is", "a pair of twins in `_lanes/`")
FIRST = ("line 1 is not a comment", "a line that the header can replace: `# ...`")
PYTHON = ("this is not valid Python", "a module that compiles")
COOKIE = ("a comment declares an encoding", "UTF-8, undeclared")
ENDINGS = ("a line does not end with LF alone", "LF line endings")

# What the source says after its first line, the line that must be named, the rule, what must be shown as found.
REFUSED = [
    ("an encoding", "# vim: set fileencoding=latin-1 :", 2, COOKIE, "# vim: set fileencoding=latin-1 :"),
    ("await and two blanks", "async def f(): return await  g()", 2, SPACE_AWAIT, "await  g()"),
    ("await and a tab", "async def f(): return await\tg()", 2, SPACE_AWAIT, r"await\tg()"),
    ("await and a parenthesis", "async def f(): return await(g())", 2, SPACE_AWAIT, "await(g())"),
    ("await and a continuation line", "async def f():\n    await \\\n        g()", 3, SPACE_AWAIT, r"await \\"[:-1]),
    ("await and the next line", "async def f(): return (await\n    g())", 2, SPACE_AWAIT, "await"),
    ("await and a comment", "async def f(): return (await # why\n    g())", 2, SPACE_AWAIT, "await # why"),
    ("async and two blanks", "async  def f(): pass", 2, SPACE_ASYNC, "async  def f(): pass"),
    ("async and a continuation line", "async \\\n    def f(): pass", 2, SPACE_ASYNC, r"async \\"[:-1]),
    ("await in an f-string", "async def f(): return f'{await g()}'", 2, FSTRING, "`await`"),
    ("a twin in an f-string", "x = f'{AsyncLock()!r}'", 2, FSTRING, "`AsyncLock`"),
    ("a twin in the format of an f-string", "x = f'{1:{AsyncLock.width}}'", 2, FSTRING, "`AsyncLock`"),
    ("a mapped name in an f-string", "x = f'{y.aclose}'", 2, FSTRING, "`aclose`"),
    ("a mapped method in an f-string", "x = f'{y.__aenter__}'", 2, FSTRING, "`__aenter__`"),
    ("a lane word in the text of an f-string", "x = f'awaited {1}'", 2, FSTRING, "`awaited`"),
    ("a long f-string", 'x = f"""\n{1}\n{await_it}"""', 2, FSTRING, "`await_it`"),
    ("an f-string beside a string", "x = ('a'\n     f'{AsyncLock}')", 2, FSTRING, "`AsyncLock`"),
    ("a string that starts with Async", "x = 'AsyncLock'", 2, STARTS, "'AsyncLock'"),
    ("a raw string that starts with Async", "x = r'AsyncLock'", 2, STARTS, "r'AsyncLock'"),
    ("a docstring that starts with Async", "'''Async by nature.\n'''", 2, STARTS, "'''Async by nature."),
    ("an export", "__all__ = ['AsyncLock']", 2, STARTS, "'AsyncLock'"),
    ("a dict key equal to a mapped name", "x = {'aclose': 1}", 2, EQUALS, "'aclose'"),
    ("a string equal to a mapped method", "x = getattr(y, '__aenter__')", 2, EQUALS, "'__aenter__'"),
    ("part of a string equal to a mapped name", "x = ('a'\n     'aclose')", 3, EQUALS, "'aclose'"),
    ("a quoted parameter", "def f(x: 'int'): pass", 2, QUOTED, "'int'"),
    ("a quoted part of a parameter", "def f(x: list['Lock']): pass", 2, QUOTED, "'Lock'"),
    ("a quoted result", "def f() -> 'Lock': pass", 2, QUOTED, "'Lock'"),
    ("a quoted result of a coroutine", "async def f() -> 'Lock': pass", 2, QUOTED, "'Lock'"),
    ("a quoted attribute", "class A:\n    x: 'Lock'", 3, QUOTED, "'Lock'"),
    ("a quoted rest", "def f(*x: 'int', **y: 'str'): pass", 2, QUOTED, "'str'"),
    ("a comment about a lane", "x = 1\n# awaits x", 3, COMMENT, "# awaits x"),
    ("a comment in capitals", "x = 1  # ASYNC", 2, COMMENT, "# ASYNC"),
    ("a docstring about a lane", "def f():\n    '''Do it.\n\n    A coroutine.\n    '''", 5, STRING, "A coroutine."),
    ("a string about a lane", "x = 'use asyncio'", 2, STRING, "'use asyncio'"),
    ("bytes about a lane", "x = b'asyncio'", 2, STRING, "b'asyncio'"),
    ("a name of one lane", "x = run_async()", 2, NAME, "`run_async`"),
    ("a module of one lane", "import asyncio", 2, NAME, "`asyncio`"),
    ("the folder of one lane", "from doubleweave._async import x", 2, NAME, "`_async`"),
    ("a twin in the middle of a name", "class MyAsyncLock: pass", 2, NAME, "`MyAsyncLock`"),
    ("a twin in small letters", "class Asynclock: pass", 2, NAME, "`Asynclock`"),
    ("asking for the lane", "if is_async: pass", 2, ASKS, "`is_async`"),
    ("asking an attribute for the lane", "x = 1 if tool.is_async else 2", 2, ASKS, "`is_async`"),
    ("broken syntax", "x = 1\nx = = 2", 3, PYTHON, "x = = 2"),
    ("CRLF", "x = 1\r\ny = 2", 2, ENDINGS, "a carriage return"),
]


@pytest.mark.parametrize(
    ("text", "line", "rule", "found"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
@pytest.mark.parametrize("command", ["check", "generate"])
def test_a_source_that_breaks_a_rule_is_refused(
    command: str,
    text: str,
    line: int,
    rule: tuple[str, str],
    found: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_workspace(tmp_path)
    source = f"# Source.\n{text}\n"
    (root / PATH).write_text(source, encoding="utf-8", newline="")
    assert lanes.main([command], root, RULES) == 1
    assert capsys.readouterr().out == (
        f"{PATH}:{line}: {rule[0]}\n"
        f"source:   {visible(source.split(chr(10))[line - 1])}\n"
        f"expected: {rule[1]}\n"
        f"found:    {found}\n"
        f"edit `{PATH}`, run `make generate`\n"
    )
    assert not (root / "src/doubleweave/_sync/case.py").exists()


@pytest.mark.parametrize(
    ("source", "rule", "found"),
    [
        ("", FIRST, ""),
        ("\n# Source.\n", FIRST, ""),
        ('"""Source."""\n', FIRST, '"""Source."""'),
        ("import os\n", FIRST, "import os"),
        ("\ufeff# Source.\n", FIRST, "\ufeff# Source."),
        ("# Source.\r\n", ENDINGS, "a carriage return"),
    ],
    ids=["empty", "blank line", "docstring", "import", "byte order mark", "CRLF"],
)
def test_the_first_line_must_be_a_plain_comment(source: str, rule: tuple[str, str], found: str) -> None:
    [finding] = lint(PATH, source, NAMES)
    assert (finding.line, finding.problem, finding.expected, finding.found) == (1, *rule, found)


@pytest.mark.parametrize(
    "text",
    [
        "async def f(): return await g() if await h() else [await i async for i in j]",
        "async def f():\n    await g(\n        1,\n    )",
        "async def f():\n    async with AsyncLock() as a, b: pass",
        "from contextlib import asynccontextmanager",
        "x = f'{y!r:>{width}} {z[0]}' f'a'",
        "x: Literal['a', 'b'] = 'a'",
        "def f(x: typing.Literal['a'] = 'b') -> None: pass",
        "x = {'key': 1}",
        "x = y.aclose()",
        "try: pass\nexcept StopAsyncIteration: pass",
        "x = b'\\xff'",
    ],
)
def test_what_the_generator_maps_rightly_is_allowed(text: str) -> None:
    assert lint(PATH, f"# The lane that awaits, so line 1 may say async.\n{text}\n", NAMES) == []


def test_the_findings_of_one_source_come_in_the_order_of_its_lines() -> None:
    source = "# Source.\ndef f(x: 'int'): pass\n# async\nx = f'{AsyncLock}'\ny = is_async\n"
    assert [(finding.line, finding.problem) for finding in lint(PATH, source, NAMES)] == [
        (2, QUOTED[0]),
        (3, COMMENT[0]),
        (4, FSTRING[0]),
        (5, ASKS[0]),
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("    plain é 日本", "    plain é 日本"),
        ("end  ", r"end\x20\x20"),
        ("a\tb\rc", r"a\tb\rc"),
        ("a\u200bb\u00a0c\ufeff", r"a\u200bb\xa0c\ufeff"),
        ("", ""),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown
