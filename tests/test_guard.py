"""The guard finds every way in which the committed sync lane can differ from its sources, and says where."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import lanes
from lane_guard import Pair, check, independent_findings
from lane_lint import line_of
from lane_workspace import DRIVER, DRIVER_SYNC, ROOT, RULES, SAMPLER, TEST, make_workspace

LANE = "src/doubleweave"
SOURCE, TARGET = f"{LANE}/_async/driver.py", f"{LANE}/_sync/driver.py"
TEST_SOURCE, TEST_TARGET = "tests/_async/test_driver.py", "tests/_sync/test_driver.py"
HEADER = '# Generated from src/doubleweave/_async/driver.py by "make generate". Do not edit.'
FIRST = "# One run, from its start to its end."
DRIFT = "this is not what the source generates"
MISSING = "the generated file is missing"
ORPHAN = "this file has no source"
FOREIGN = "this is not a Python source"
PIN = "the installed `unasync` is not the pinned one"
NO_LINE, NO_FILE = "(no such line)", "(no such file)"


def message(place: str, problem: str, source: str, expected: str, found: str, edit: str) -> str:
    return (
        f"{place}: {problem}\n"
        f"source:   {source}\n"
        f"expected: {expected}\n"
        f"found:    {found}\n"
        f"edit `{edit}`, run `make generate`\n"
    )


def test_the_committed_lane_is_what_its_sources_say() -> None:
    finding = check(ROOT, lanes.RULES, lanes.generate)
    assert finding is None, str(finding)


def test_the_check_takes_less_than_a_second() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "tools/lanes.py", "check"], cwd=ROOT, capture_output=True, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 1


def test_a_clean_copy_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lanes.main(["check"], make_workspace(tmp_path), RULES) == 0
    assert capsys.readouterr().out == "the generated files are what their sources say\n"


def test_trees_that_do_not_exist_yet_pass(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert check(tmp_path, {LANE: {}, "tests": {}}, lanes.generate) is None


def test_bytecode_beside_the_generated_files_is_no_finding(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    for lane in ("_async", "_sync"):
        (root / LANE / lane / "__pycache__").mkdir()
        (root / LANE / lane / "__pycache__/driver.cpython-311.pyc").write_bytes(b"\0")
    assert check(root, RULES, lanes.generate) is None


def once(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda content: content.replace(old.encode(), new.encode(), 1)


WITH = "        with self._lock:  # one at a time\n"
# What is done to the committed file, the line that must be named, and what must be shown as found there.
EDITS: list[tuple[str, Callable[[bytes], bytes], int, str]] = [
    ("append a line", lambda c: c + b"x = 1\n", 32, "x = 1"),
    ("append an empty line", lambda c: c + b"\n", 33, ""),
    ("empty the file", lambda c: b"", 1, ""),
    ("cut off the end", lambda c: c[: c.rindex(b"    def _call")], 30, ""),
    ("drop a with", once("with self._lock:", "if True:"), 19, "        if True:  # one at a time"),
    ("delete the line of a with", once(WITH, ""), 19, "            for item in self._stream(items):"),
    ("swap an operator", once("+", "-"), 21, "                if item - LIMIT > 0:"),
    ("re-indent a line", once("        return item * 2", "    return item * 2"), 31, "    return item * 2"),
    ("indent by a tab", once("        return item * 2", "\treturn item * 2"), 31, r"\treturn item * 2"),
    ("edit by hand", once("return item * 2", "return item * 3"), 31, "        return item * 3"),
    (
        "rename a parameter",
        once("_call(self, item:", "_call(self, part:"),
        30,
        "    def _call(self, part: int) -> int:",
    ),
    ("change a string", once("Runs", "Starts"), 2, '"""Starts a flow."""'),
    ("change only a comment", once("one at a time", "all at once"), 19, "        with self._lock:  # all at once"),
    ("change a number", once("LIMIT = 3", "LIMIT = 4"), 8, "LIMIT = 4"),
    (
        "change an import",
        once("import SyncLock", "import SyncLocks"),
        6,
        "from doubleweave._lanes.locks import SyncLocks",
    ),
    ("change the header", once("Do not edit", "Do edit"), 1, HEADER.replace("not ", "")),
    ("drop the header", once(HEADER + "\n", ""), 1, '"""Runs a flow."""'),
    ("insert a blank line", once("LIMIT = 3\n", "\nLIMIT = 3\n"), 8, ""),
    ("delete a blank line", once("\n\n\nclass", "\n\nclass"), 10, "class SyncDriver:"),
    ("add a space at the end", once("LIMIT = 3", "LIMIT = 3 "), 8, r"LIMIT = 3\x20"),
    ("swap two lines", once("found = []\n" + WITH, WITH + "found = []\n"), 18, "        " + WITH.rstrip()),
    ("duplicate a line", once("LIMIT = 3\n", "LIMIT = 3\nLIMIT = 3\n"), 9, "LIMIT = 3"),
    ("end lines with CRLF", lambda c: c.replace(b"\n", b"\r\n"), 1, HEADER + r"\r"),
    ("end one line with CRLF", once("LIMIT = 3\n", "LIMIT = 3\r\n"), 8, r"LIMIT = 3\r"),
    ("drop the last newline", lambda c: c[:-1], 32, NO_LINE),
    ("put a byte order mark in front", lambda c: b"\xef\xbb\xbf" + c, 1, r"\ufeff" + HEADER),
    ("break the encoding", lambda c: c.replace(b"LIMIT = 3", b"LIMIT = 3\xff"), 8, r"LIMIT = 3\xff"),
    ("use a blank of no width", once("LIMIT = 3", "LIMIT\u200b = 3"), 8, r"LIMIT\u200b = 3"),
    ("use a letter that looks alike", once("LIMIT = 3", "LIMI\u0422 = 3"), 8, "LIMI\u0422 = 3"),
    ("leave an await", once("append(self", "append(await self"), 22, " " * 20 + "found.append(await self._call(item))"),
    ("leave an async name", once("class Sync", "class Async"), 11, "class AsyncDriver:"),
    ("copy the source over it", lambda c: DRIVER.encode(), 1, FIRST),
]


@pytest.mark.parametrize(("change", "line", "found"), [row[1:] for row in EDITS], ids=[row[0] for row in EDITS])
def test_an_edit_of_a_generated_file_is_caught(
    change: Callable[[bytes], bytes], line: int, found: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_workspace(tmp_path)
    before = (root / TARGET).read_bytes()
    (root / TARGET).write_bytes(change(before))
    assert (root / TARGET).read_bytes() != before
    source, expected = line_of(DRIVER, line), line_of(DRIVER_SYNC, line)
    assert lanes.main(["check"], root, RULES) == 1
    assert capsys.readouterr().out == message(f"{TARGET}:{line}", DRIFT, source, expected, found, SOURCE)


def edit(path: str, old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / path).write_bytes(once(old, new)((root / path).read_bytes()))


def link(path: str, target: str) -> Callable[[Path], object]:
    return lambda root: (root / path).symlink_to(target)


def add(path: str, content: bytes) -> Callable[[Path], object]:
    def mutate(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)

    return mutate


def move(old: str, new: str) -> Callable[[Path], object]:
    return lambda root: (root / old).rename(root / new)


def swap_two_files(root: Path) -> None:
    move(TARGET, "kept")(root)
    move(f"{LANE}/_sync/parts/sampler.py", TARGET)(root)
    move("kept", f"{LANE}/_sync/parts/sampler.py")(root)


def orphan(path: str, found: str) -> str:
    return message(f"{path}:1", ORPHAN, NO_FILE, NO_FILE, found, path.replace("_sync", "_async"))


def missing(path: str, source: str) -> str:
    return message(f"{path}:1", MISSING, source, "a generated file", NO_FILE, path.replace("_sync", "_async"))


def drift_of_a_test(line: int, expected: str, found: str, change: Callable[[bytes], bytes] = bytes) -> str:
    source = line_of(change(TEST.encode()).decode(), line)
    return message(f"{TEST_TARGET}:{line}", DRIFT, source, expected, found, TEST_SOURCE)


def foreign(path: str, first: str) -> str:
    return message(f"{path}:1", FOREIGN, first, "a Python file in UTF-8", first, path)


SAMPLER_HEADER = HEADER.replace("driver", "parts/sampler")
CHANGES: list[tuple[str, Callable[[Path], object], str]] = [
    ("delete a generated file", lambda root: (root / TARGET).unlink(), missing(TARGET, FIRST)),
    (
        "delete the generated tree",
        lambda root: shutil.rmtree(root / LANE / "_sync"),
        missing(f"{LANE}/_sync/__init__.py", "# The lane that waits."),
    ),
    ("rename a generated file", move(TARGET, f"{LANE}/_sync/Driver.py"), orphan(f"{LANE}/_sync/Driver.py", HEADER)),
    ("swap two generated files", swap_two_files, message(f"{TARGET}:1", DRIFT, FIRST, HEADER, SAMPLER_HEADER, SOURCE)),
    ("add a stale file", add(f"{LANE}/_sync/old.py", b"x = 1\n"), orphan(f"{LANE}/_sync/old.py", "x = 1")),
    ("add an empty stale file", add(f"{LANE}/_sync/old.py", b""), orphan(f"{LANE}/_sync/old.py", "")),
    ("add a stale folder", add(f"{LANE}/_sync/old/a.py", b"\xff"), orphan(f"{LANE}/_sync/old/a.py", r"\xff")),
    ("add a stale text", add(f"{LANE}/_sync/notes.txt", b"note"), orphan(f"{LANE}/_sync/notes.txt", "note")),
    ("add a link", link(f"{LANE}/_sync/old.py", "/gone.py"), orphan(f"{LANE}/_sync/old.py", "link to /gone.py")),
    ("add a linked folder", link(f"{LANE}/_sync/old", "../.."), orphan(f"{LANE}/_sync/old", "link to ../..")),
    (
        "hide a module among the bytecode",
        add(f"{LANE}/_sync/__pycache__/a.py", b"x = 1\n"),
        orphan(f"{LANE}/_sync/__pycache__/a.py", "x = 1"),
    ),
    ("delete a source", lambda root: (root / SOURCE).unlink(), orphan(TARGET, HEADER)),
    ("rename a source", move(SOURCE, f"{LANE}/_async/a.py"), missing(f"{LANE}/_sync/a.py", FIRST)),
    ("add a source", add(f"{LANE}/_async/new.py", b"# New.\n"), missing(f"{LANE}/_sync/new.py", "# New.")),
    (
        "change a source",
        edit(SOURCE, "await self._lock.aclose()", "await self._lock.release()"),
        message(
            f"{TARGET}:23",
            DRIFT,
            "        await self._lock.release()",
            "        self._lock.release()",
            "        self._lock.close()",
            SOURCE,
        ),
    ),
    ("add a text to the sources", add(f"{LANE}/_async/a.txt", b"note\n"), foreign(f"{LANE}/_async/a.txt", "note")),
    ("add a source in Latin-1", add(f"{LANE}/_async/a.py", b"# \xe9\n"), foreign(f"{LANE}/_async/a.py", r"# \xe9")),
    (
        "edit a generated test",
        edit(TEST_TARGET, "[2]", "[3]"),
        drift_of_a_test(6, "    assert executor.run([1]) == [2]", "    assert executor.run([1]) == [3]"),
    ),
    (
        "generate a test without its rule",
        edit(TEST_TARGET, "import FlowExecutor", "import SyncFlowExecutor"),
        drift_of_a_test(2, "from doubleweave import FlowExecutor", "from doubleweave import SyncFlowExecutor"),
    ),
    (
        "change the source of a test",
        edit(TEST_SOURCE, "[2]", "[4]"),
        drift_of_a_test(
            6, "    assert executor.run([1]) == [4]", "    assert executor.run([1]) == [2]", once("[2]", "[4]")
        ),
    ),
    ("delete a generated test", lambda root: (root / TEST_TARGET).unlink(), missing(TEST_TARGET, line_of(TEST, 1))),
    ("add a stale test", add("tests/_sync/test_a.py", b"x = 1\n"), orphan("tests/_sync/test_a.py", "x = 1")),
    (
        "delete the tests of both lanes but not the generated ones",
        lambda root: shutil.rmtree(root / "tests/_async"),
        orphan(TEST_TARGET, HEADER.replace(SOURCE, TEST_SOURCE)),
    ),
    (
        "pin another version of unasync",
        add("pyproject.toml", b'[dependency-groups]\ndev = [\n    "unasync==0.5.0",\n]\n'),
        message("pyproject.toml:3", PIN, '    "unasync==0.5.0",', "unasync==0.5.0", "unasync==0.6.0", "pyproject.toml"),
    ),
    (
        "pin a range of unasync",
        add("pyproject.toml", b'[dependency-groups]\ndev = ["unasync>=0.6"]\n'),
        message("pyproject.toml:2", PIN, 'dev = ["unasync>=0.6"]', "unasync>=0.6", "unasync==0.6.0", "pyproject.toml"),
    ),
    (
        "pin no unasync",
        add("pyproject.toml", b"[project]\n"),
        message("pyproject.toml:1", PIN, "[project]", "no pin in group `dev`", "unasync==0.6.0", "pyproject.toml"),
    ),
]


@pytest.mark.parametrize(("mutate", "expected"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_change_of_the_trees_is_caught(
    mutate: Callable[[Path], object], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_workspace(tmp_path)
    mutate(root)
    assert lanes.main(["check"], root, RULES) == 1
    assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
    ("key", "problem", "expected"),
    [
        ("athrow", "a rule that no source uses", f"a name used in {LANE}/_async/"),
        # a comment alone has this word
        ("time", "a rule that no source uses", f"a name used in {LANE}/_async/"),
        ("locks.aclose", "a rule that matches no name", "one name, without dots"),
    ],
)
def test_a_rule_that_does_nothing_is_caught(
    key: str, problem: str, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_workspace(tmp_path)
    (root / "tools/lanes.py").write_text(f'RULES = {{\n    "{LANE}": {{\n        "{key}": "x",\n    }},\n}}\n')
    rules = {**RULES, LANE: {"aclose": "close", key: "x"}}
    assert lanes.main(["check"], root, rules) == 1
    assert capsys.readouterr().out == message(
        "tools/lanes.py:3", problem, f'        "{key}": "x",', expected, f"`{key}`", "tools/lanes.py"
    )


def test_a_rule_of_one_pair_of_trees_must_be_used_in_that_pair(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    finding = check(root, {**RULES, "tests": {**RULES["tests"], "aclose": "close"}}, lanes.generate)
    assert finding is not None
    assert (finding.problem, finding.expected) == ("a rule that no source uses", "a name used in tests/_async/")


def test_the_command_fails_with_the_message_on_its_standard_output(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    (root / "tools/lanes.py").write_text(
        (root / "tools/lanes.py").read_text().replace(f'"{LANE}": {{', f'"{LANE}": {{"aclose": "close", ')
    )
    (root / TARGET).write_text(DRIVER_SYNC.replace("item * 2", "item ** 2"))
    run = subprocess.run([sys.executable, "tools/lanes.py", "check"], cwd=root, capture_output=True, check=False)
    expected = message(
        f"{TARGET}:31", DRIFT, "        return item * 2", "        return item * 2", "        return item ** 2", SOURCE
    )
    assert (run.returncode, run.stdout.decode(), run.stderr) == (1, expected, b"")


WORD, BROKEN = "a word of the async lane is left", "the generated module does not compile"
LENGTH, PLACE = "the two files differ in length", "a definition is on another line"
SIGNATURE, TREE = "a public signature differs", "the two syntax trees differ"
NEUTRAL = "words that are true on both lanes"
RUN = "def run(self, items: list[int]) -> list[int]"
# A generator with a fault writes the fault, so the bytes agree: only judges that have no part in it can tell.
FAULTS: list[tuple[str, str, str, int, str, str]] = [
    ("keeps an await", "return item *", "return await item *", 31, WORD, NEUTRAL),
    ("keeps a name", "SyncDriver", "AsyncDriver", 11, WORD, NEUTRAL),
    ("keeps a comment", "one at a time", "Awaits", 19, WORD, NEUTRAL),
    ("keeps a docstring", "Runs", "A coroutine that runs", 2, WORD, NEUTRAL),
    ("keeps a string", "LIMIT = 3", "LIMIT = 'ASYNCIO'", 8, WORD, NEUTRAL),
    ("breaks the syntax", "item * 2", "item * 2)", 31, BROKEN, "a module that compiles"),
    ("adds a line", "item * 2\n", "item * 2\n\n", 32, LENGTH, "31 lines, not 32"),
    ("drops a line", "\n        return item * 2\n", " return item * 2\n", 31, LENGTH, "31 lines, not 30"),
    ("moves a class", "\n\nclass SyncDriver:", "\nclass SyncDriver:\n", 10, PLACE, ""),
    ("renames a public method", "def run", "def start", 17, SIGNATURE, RUN),
    ("changes a public parameter", "run(self, items: list[int]", "run(self, items: int", 17, SIGNATURE, RUN),
    ("adds a public default", "list[int]) -> list[int]", "list[int] = ()) -> list[int]", 17, SIGNATURE, RUN),
    ("drops a return type", ") -> list[int]:", "):", 17, SIGNATURE, RUN),
    ("adds a base", "class SyncDriver:", "class SyncDriver(object):", 11, SIGNATURE, "class SyncDriver()"),
    ("changes a private parameter", "_call(self, item", "_call(self, part", 30, TREE, "    def _call(self, item: int) -> int:"),
    ("drops a with", "with self._lock:", "if self._lock:", 19, TREE, "        with self._lock:  # one at a time"),
    ("swaps an operator", "+", "-", 21, TREE, "                if item + LIMIT > 0:"),
    ("changes a number to its equal", "LIMIT = 3", "LIMIT = 3.0", 8, TREE, "LIMIT = 3"),
    ("changes a string", "Runs", "Starts", 2, TREE, '"""Runs a flow."""'),
    ("maps a name wrongly", "import Iterator", "import Iterable", 4, TREE, "from collections.abc import Iterator"),
    ("drops a statement", "found = []", "pass", 18, TREE, "        found = []"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "problem", "expected"), [row[1:] for row in FAULTS], ids=[row[0] for row in FAULTS]
)
def test_a_fault_of_the_generator_itself_is_caught(
    old: str, new: str, line: int, problem: str, expected: str, tmp_path: Path
) -> None:
    def faulty(source: str, origin: str, names: Mapping[str, str]) -> str:
        text = lanes.generate(source, origin, names)
        return text.replace(old, new, 1) if origin == SOURCE else text

    root = make_workspace(tmp_path)
    committed = faulty(DRIVER, SOURCE, RULES[LANE])
    (root / TARGET).write_text(committed)
    finding = check(root, RULES, faulty)
    assert str(finding) + "\n" == message(
        f"{TARGET}:{line}", problem, line_of(DRIVER, line), expected, line_of(committed, line), SOURCE
    )


def test_a_source_whose_result_does_not_compile_is_a_finding(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    source = "# A.\ndef f(AsyncA, SyncA): pass\n"
    (root / SOURCE).write_text(source)
    (root / TARGET).write_text(source)
    finding = check(root, {LANE: {}, "tests": {}}, lanes.generate)
    signature = "def f(AsyncA, SyncA): pass"
    assert str(finding) + "\n" == message(f"{TARGET}:2", BROKEN, signature, "a module that compiles", signature, SOURCE)


def test_the_independent_judges_accept_what_the_generator_makes_of_every_construct() -> None:
    generated = lanes.generate(SAMPLER, SOURCE)
    assert list(independent_findings(Pair(SOURCE, TARGET, SAMPLER, generated, {}))) == []
