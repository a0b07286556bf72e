"""What the source of a lane may not contain, because `unasync` would miss it, break it or differ between Pythons."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

# Spelled out here and not read from `unasync`, so that the guard is a second opinion.
_STANDARD_NAMES = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "asynccontextmanager": "contextmanager",
    "AsyncIterable": "Iterable",
    "AsyncIterator": "Iterator",
    "AsyncGenerator": "Generator",
    "StopAsyncIteration": "StopIteration",
}
_TWIN = re.compile(r"^Async(?=[A-Z])")
LANE_WORD = re.compile(r"async|await|coroutine", re.IGNORECASE)
_FSTRING_START = getattr(tokenize, "FSTRING_START", None)  # Python 3.12 and later split f-strings into tokens
_FSTRING_END = getattr(tokenize, "FSTRING_END", None)


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong; `str()` is the message: four lines, then what to do."""

    path: str
    line: int
    problem: str
    source: str
    expected: str
    found: str
    edit: str

    def __str__(self) -> str:
        return (
            f"{self.path}:{self.line}: {self.problem}\n"
            f"source:   {visible(self.source)}\n"
            f"expected: {visible(self.expected)}\n"
            f"found:    {visible(self.found)}\n"
            f"edit `{self.edit}`, run `make generate`"
        )


def visible(text: str) -> str:
    """Return the text with what cannot be seen (control characters, spaces at the end) as escapes."""
    bare = text.rstrip(" ")
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in bare)
    return escaped + r"\x20" * (len(text) - len(bare))


def line_of(text: str, number: int) -> str:
    """Return line `number`, counted from 1, or a note that there is none."""
    lines = text.split("\n")
    return lines[number - 1] if number <= len(lines) else "(no such line)"


def sync_name(name: str, names: Mapping[str, str]) -> str:
    """Return what a name of the async lane is called on the sync lane."""
    if name in names:
        return names[name]
    if name in _STANDARD_NAMES:
        return _STANDARD_NAMES[name]
    return _TWIN.sub("Sync", name)


# As in PEP 263: Python would read the source in that encoding, and the generated file, whose header replaces it, not.
_COOKIE = re.compile(r"[ \t\f]*#.*?coding[:=][ \t]*[-\w.]+")


def lint(path: str, source: str, names: Mapping[str, str]) -> list[Finding]:
    """Return what breaks a rule of lane sources, in the order of the lines."""

    def finding(line: int, problem: str, expected: str, found: str) -> Finding:
        return Finding(path, line, problem, line_of(source, line), expected, found, path)

    if "\r" in source:
        line = source[: source.index("\r")].count("\n") + 1
        return [finding(line, "a line does not end with LF alone", "LF line endings", "a carriage return")]
    if not source.startswith("#"):
        return [
            finding(1, "line 1 is not a comment", "a line that the header can replace: `# ...`", line_of(source, 1))
        ]
    for line in (1, 2):
        if _COOKIE.match(line_of(source, line)):
            return [finding(line, "a comment declares an encoding", "UTF-8, undeclared", line_of(source, line))]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        return [finding(line, "this is not valid Python", "a module that compiles", line_of(source, line))]
    found = [
        *(finding(*item) for item in _token_problems(source, names)),
        *(finding(*item) for item in _tree_problems(tree, source, names)),
    ]
    return sorted(found, key=lambda item: item.line)


_Problem = tuple[int, str, str, str]


def _token_problems(source: str, names: Mapping[str, str]) -> Iterator[_Problem]:
    depth = 0  # inside an f-string: `_fstring_problems` judges those, the same way on every Python
    for token, following in pairwise(tokenize.generate_tokens(io.StringIO(source).readline)):
        if token.type == _FSTRING_START:
            depth += 1
        elif token.type == _FSTRING_END:
            depth -= 1
        elif depth:
            continue
        elif token.type == tokenize.NAME and token.string in ("async", "await"):
            if not _one_space(token, following):
                rest = line_of(source, token.start[0])[token.start[1] :]
                rule = f"`{token.string}`, one space, and the rest on the same line"
                yield token.start[0], f"`{token.string}` is not followed by one space and the rest", rule, rest
        elif token.type == tokenize.NAME:
            yield from _name_problems(token, names)
        elif token.type == tokenize.STRING:
            yield from _string_problems(token, names)
        elif token.type == tokenize.COMMENT and token.start[0] > 1 and LANE_WORD.search(token.string):
            yield token.start[0], "a comment names a lane", "words that are true on both lanes", token.string


def _one_space(token: tokenize.TokenInfo, following: tokenize.TokenInfo) -> bool:
    row, column = token.end
    blank = following.type in (tokenize.NL, tokenize.NEWLINE, tokenize.COMMENT)
    return not blank and following.start == (row, column + 1) and token.line[column] == " "


def _name_problems(token: tokenize.TokenInfo, names: Mapping[str, str]) -> Iterator[_Problem]:
    if token.string == "is_async":
        yield token.start[0], "lane code asks which lane it is", "a pair of twins in `_lanes/`", "`is_async`"
    elif LANE_WORD.search(token.string) and LANE_WORD.search(sync_name(token.string, names)):
        expected = "a twin `AsyncX`, or a name that fits both lanes"
        yield token.start[0], "no rule maps this name of one lane", expected, f"`{token.string}`"


def _string_problems(token: tokenize.TokenInfo, names: Mapping[str, str]) -> Iterator[_Problem]:
    row = token.start[0]
    prefix = re.split("['\"]", token.string, maxsplit=1)[0].lower()
    if "f" in prefix:
        return
    value = str(ast.literal_eval(token.string))
    if value.startswith("Async"):
        yield (
            row,
            "a string starts with `Async`",
            "a string that cannot be taken for a name",
            token.string.split("\n")[0],
        )
    elif sync_name(value, names) != value:
        yield row, "a string equals a mapped name", "a string that cannot be taken for a name", token.string
    else:
        for offset, line in enumerate(token.string.split("\n")):
            if LANE_WORD.search(line):
                yield row + offset, "a string names a lane", "words that are true on both lanes", line.strip()


def _tree_problems(tree: ast.Module, source: str, names: Mapping[str, str]) -> Iterator[_Problem]:
    lines = source.encode("utf-8").split(b"\n")
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.JoinedStr):
            yield from _fstring_problems(node, lines, names)
            continue  # positions inside an f-string differ between Pythons
        if isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield from _annotation_problems(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is not None:
            yield from _annotation_problems(node.returns)
        pending.extend(ast.iter_child_nodes(node))


def _fstring_problems(node: ast.JoinedStr, lines: list[bytes], names: Mapping[str, str]) -> Iterator[_Problem]:
    assert node.end_lineno is not None
    part = lines[node.lineno - 1 : node.end_lineno]
    part[-1] = part[-1][: node.end_col_offset]
    part[0] = part[0][node.col_offset :]
    for word in re.findall(r"\w+", b"\n".join(part).decode("utf-8")):
        if LANE_WORD.search(word) or sync_name(word, names) != word:
            yield node.lineno, "an f-string contains a lane word", "a variable, set before the f-string", f"`{word}`"
            return


def _annotation_problems(annotation: ast.expr) -> Iterator[_Problem]:
    pending: list[ast.AST] = [annotation]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, "a quoted annotation", "the bare name", repr(node.value)
        elif not (isinstance(node, ast.Subscript) and ast.unparse(node.value).endswith("Literal")):
            pending.extend(ast.iter_child_nodes(node))
