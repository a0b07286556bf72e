"""Prove that the committed sync lane is what its sources say: by bytes, and by means in which `unasync` has no part."""

import ast
import io
import re
import tokenize
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path

from lane_lint import LANE_WORD, Finding, line_of, lint, sync_name

Generate = Callable[[str, str, Mapping[str, str]], str]
Rules = Mapping[str, Mapping[str, str]]
RULES_FILE = "tools/lanes.py"


@dataclass(frozen=True)
class Pair:
    """One async source, its committed sync module, and the additional names of their trees."""

    source_path: str
    target_path: str
    source: str
    target: str
    names: Mapping[str, str]

    def finding(self, line: int, problem: str, expected: str) -> Finding:
        """Return a finding at a line, which has the same number in both files."""
        source, found = line_of(self.source, line), line_of(self.target, line)
        return Finding(self.target_path, line, problem, source, expected, found, self.source_path)


def check(root: Path, rules: Rules, generate: Generate) -> Finding | None:
    """Return the first finding below `root`, or None if the committed lane is what its sources say.

    `rules` has the additional names of each pair of trees by their parent folder; `generate` makes a sync module from
    a source, its path and those names.
    """
    return next(_findings(root, rules, generate), None)


def _findings(root: Path, rules: Rules, generate: Generate) -> Iterator[Finding]:
    yield from _version_findings(root)
    yield from source_findings(root, rules)
    for parent, names in rules.items():
        yield from _file_findings(root, parent)
        for pair in _pairs(root, parent, names):
            yield from _bytes_findings(pair, (root / pair.target_path).read_bytes(), generate)
            yield from independent_findings(pair)
    yield from rule_findings(root, rules)


def source_findings(root: Path, rules: Rules) -> Iterator[Finding]:
    """Yield what is wrong with the sources, before anything is generated."""
    for parent, names in rules.items():
        for name, content in read_tree(root / parent / "_async").items():
            path = f"{parent}/_async/{name}"
            text = content.decode("utf-8", errors="backslashreplace")
            if not name.endswith(".py") or text.encode("utf-8") != content:
                expected, found = "a Python file in UTF-8", line_of(text, 1)
                yield Finding(path, 1, "this is not a Python source", found, expected, found, path)
                continue
            yield from lint(path, text, names)


def rule_findings(root: Path, rules: Rules) -> Iterator[Finding]:
    """Yield the rules that match no name or that no source uses."""
    for parent, names in rules.items():
        texts = [content.decode("utf-8", errors="replace") for content in read_tree(root / parent / "_async").values()]
        for key in names:
            if not key.isidentifier():
                yield _rule_finding(root, key, "a rule that matches no name", "one name, without dots")
            elif not any(_uses(text, key) for text in texts):
                yield _rule_finding(root, key, "a rule that no source uses", f"a name used in {parent}/_async/")


def _uses(text: str, name: str) -> bool:
    if name not in text:
        return False
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return any(token.type == tokenize.NAME and token.string == name for token in tokens)


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by relative path, sorted, without bytecode; nothing if there is no folder.

    A symbolic link is not followed: it counts as a file that says where it leads, which no lane file may.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or path.is_file())
    files = [path for path in found if not (path.parent.name == "__pycache__" and path.suffix == ".pyc")]
    return {
        path.relative_to(folder).as_posix(): f"link to {path.readlink()}".encode()
        if path.is_symlink()
        else path.read_bytes()
        for path in files
    }


def _rule_finding(root: Path, key: str, problem: str, expected: str) -> Finding:
    path = root / RULES_FILE
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    line = text[: max(text.find(f'"{key}"'), 0)].count("\n") + 1
    return Finding(RULES_FILE, line, problem, line_of(text, line), expected, f"`{key}`", RULES_FILE)


def _version_findings(root: Path) -> Iterator[Finding]:
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    group = tomllib.loads(text).get("dependency-groups", {}).get("dev", [])
    pinned = next((entry for entry in group if str(entry).startswith("unasync")), "no pin in group `dev`")
    installed = f"unasync=={version('unasync')}"
    if pinned != installed:
        line = text[: max(text.find('"unasync'), 0)].count("\n") + 1
        problem = "the installed `unasync` is not the pinned one"
        yield Finding("pyproject.toml", line, problem, line_of(text, line), pinned, installed, "pyproject.toml")


def _file_findings(root: Path, parent: str) -> Iterator[Finding]:
    sources, targets = read_tree(root / parent / "_async"), read_tree(root / parent / "_sync")
    for name in sorted(sources.keys() ^ targets.keys()):
        source_path, target_path = f"{parent}/_async/{name}", f"{parent}/_sync/{name}"
        none, some = "(no such file)", "a generated file"
        if name in sources:
            first = line_of(sources[name].decode("utf-8"), 1)
            yield Finding(target_path, 1, "the generated file is missing", first, some, none, source_path)
        else:
            first = line_of(targets[name].decode("utf-8", errors="backslashreplace"), 1)
            yield Finding(target_path, 1, "this file has no source", none, none, first, source_path)


def _pairs(root: Path, parent: str, names: Mapping[str, str]) -> Iterator[Pair]:
    targets = read_tree(root / parent / "_sync")
    for name, content in read_tree(root / parent / "_async").items():
        target = targets[name].decode("utf-8", errors="backslashreplace")
        source_path, target_path = f"{parent}/_async/{name}", f"{parent}/_sync/{name}"
        yield Pair(source_path, target_path, content.decode("utf-8"), target, names)


def _bytes_findings(pair: Pair, committed: bytes, generate: Generate) -> Iterator[Finding]:
    try:
        generated = generate(pair.source, pair.source_path, pair.names)
    except SyntaxError as error:
        yield pair.finding(error.lineno or 1, "the generated module does not compile", "a module that compiles")
        return
    wanted = generated.encode("utf-8").split(b"\n")
    for line, (left, right) in enumerate(zip_longest(wanted, committed.split(b"\n")), start=1):
        if left != right:
            yield pair.finding(line, "this is not what the source generates", line_of(generated, line))


def independent_findings(pair: Pair) -> Iterator[Finding]:
    """Yield where the sync module is not the async one without its lane words, judged without `unasync`."""
    for line, text in enumerate(pair.target.split("\n"), start=1):
        if line > 1 and LANE_WORD.search(text):
            yield pair.finding(line, "a word of the async lane is left", "words that are true on both lanes")
    try:
        target = ast.parse(pair.target)
    except SyntaxError as error:
        yield pair.finding(error.lineno or 1, "the generated module does not compile", "a module that compiles")
        return
    source = ast.parse(pair.source)
    yield from _parity_findings(pair)
    yield from _signature_findings(pair, source, target)
    parting = _difference(source, target, pair.names, 1)
    if parting is not None:
        yield pair.finding(parting, "the two syntax trees differ", _expected_line(pair, parting))


def _parity_findings(pair: Pair) -> Iterator[Finding]:
    wanted, found = pair.source.count("\n"), pair.target.count("\n")
    if wanted != found:
        yield pair.finding(min(wanted, found) + 1, "the two files differ in length", f"{wanted} lines, not {found}")
    for left, right in zip_longest(_definition_lines(pair.source), _definition_lines(pair.target)):
        if left != right:
            line = min(number for number in (left, right) if number)
            yield pair.finding(line, "a definition is on another line", _expected_line(pair, line))


def _definition_lines(text: str) -> list[int]:
    lines = enumerate(text.split("\n"), start=1)
    return [number for number, line in lines if line.lstrip().startswith(("def ", "class ", "async def "))]


def _expected_line(pair: Pair, line: int) -> str:
    bare = re.sub(r"\b(async|await) ", "", line_of(pair.source, line))
    return re.sub(r"\w+", lambda word: sync_name(word[0], pair.names), bare)


def _signature_findings(pair: Pair, source: ast.Module, target: ast.Module) -> Iterator[Finding]:
    def mapped(match: re.Match[str]) -> str:
        return sync_name(match[0], pair.names)

    wanted = [(line, re.sub(r"\w+", mapped, text)) for line, text in _signatures(source.body)]
    for left, right in zip_longest(wanted, _signatures(target.body)):
        if left != right:
            line, text = left or (1, "no more public names")
            yield pair.finding(line, "a public signature differs", text)


def _signatures(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    for node in body:
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.target).startswith("_"):
            yield node.lineno, f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if node.name.startswith("_") and not node.name.endswith("__"):
            continue
        marks = "".join(f"@{ast.unparse(mark)} " for mark in node.decorator_list)
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base) for base in (*node.bases, *node.keywords)]
            yield node.lineno, f"{marks}class {node.name}({', '.join(bases)})"
            yield from _signatures(node.body)
        else:
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield node.lineno, f"{marks}def {node.name}({ast.unparse(node.args)}){returns}"


_SYNC_KINDS: dict[type, type] = {
    ast.AsyncFunctionDef: ast.FunctionDef,
    ast.AsyncFor: ast.For,
    ast.AsyncWith: ast.With,
}


def _difference(source: object, target: object, names: Mapping[str, str], line: int) -> int | None:
    """Return the line of the innermost node where `target` is not `source` without its lane words, or None."""
    if isinstance(source, ast.Await):
        source = source.value
    elif isinstance(source, ast.comprehension):
        source.is_async = 0
    line = getattr(source, "lineno", line)
    if _SYNC_KINDS.get(type(source), type(source)) is not type(target):
        return line
    if isinstance(source, ast.Constant) and isinstance(target, ast.Constant):
        same = type(source.value) is type(target.value) and source.value == target.value
        return None if same else line
    parts: Iterable[tuple[object, object]]
    if isinstance(source, ast.AST):
        parts = [(getattr(source, field), getattr(target, field)) for field in source._fields]
    elif isinstance(source, list) and isinstance(target, list):
        parts = zip_longest(source, target)
    elif isinstance(source, str):
        return None if ".".join(sync_name(name, names) for name in source.split(".")) == target else line
    else:
        return None if source == target else line
    for left, right in parts:
        found = _difference(left, right, names, line)
        if found is not None:
            return found
    return None
