"""The sync lane is generated line by line, the same on every Python, and written without a moment of half a file."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import unasync

from lane_guard import read_tree
from lane_workspace import DRIVER, DRIVER_SYNC, ROOT, RULES, SAMPLER, make_workspace
from lanes import generate, main, regenerate, write_atomically

ORIGIN = "src/doubleweave/_async/driver.py"
NAMES = RULES["src/doubleweave"]


def test_a_source_becomes_its_sync_twin_word_for_word() -> None:
    assert generate(DRIVER, ORIGIN, NAMES) == DRIVER_SYNC


def test_the_header_replaces_line_one_and_names_the_source() -> None:
    assert generate("# anything\n", "tests/_async/a.py") == (
        '# Generated from tests/_async/a.py by "make generate". Do not edit.\n'
    )


def test_a_source_of_one_line_without_its_newline_gets_one() -> None:
    assert generate("# anything", "a") == '# Generated from a by "make generate". Do not edit.\n'


@pytest.mark.parametrize("source", [DRIVER, SAMPLER], ids=["driver", "sampler"])
def test_line_n_of_the_result_comes_from_line_n_of_the_source(source: str) -> None:
    def bare(text: str) -> list[str]:
        lane_words = re.sub(r"\b(async|await) ", "", text).replace("aclose", "close").replace("asynccontext", "context")
        dunders = re.sub(r"__a(enter|exit|iter|next)__", r"__\1__", lane_words).replace("StopAsyncI", "StopI")
        return dunders.replace("AsyncIterator", "Iterator").replace("Async", "Sync").split("\n")[1:]

    assert generate(source, ORIGIN, NAMES).split("\n")[1:] == bare(source)


@pytest.mark.parametrize("source", ["", "\n", '"""A docstring."""\n', "import os\n", " # indented\n"])
def test_a_source_whose_first_line_is_no_comment_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match=r"^_async/a\.py:1: line 1 must be a comment"):
        generate(source, "_async/a.py")


def test_a_result_that_does_not_compile_is_refused() -> None:
    with pytest.raises(SyntaxError) as raised:
        generate("# a\ndef f(AsyncA, SyncA): pass\n", "src/_async/a.py")
    assert raised.value.filename == "src/_sync/a.py"
    assert raised.value.lineno == 2


def test_generating_depends_on_nothing_but_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = tmp_path / "_async"
    trap.mkdir()
    (trap / "module.py").write_text("# untouched\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(trap))
    assert generate(DRIVER, ORIGIN, NAMES) == generate(DRIVER, ORIGIN, NAMES) == DRIVER_SYNC
    assert read_tree(tmp_path) == {"_async/module.py": b"# untouched\n"}


def test_both_lanes_compute_the_same() -> None:
    class Lock:
        closed = 0

        def __enter__(self) -> None: ...
        def __exit__(self, *error: object) -> None: ...
        async def __aenter__(self) -> None: ...
        async def __aexit__(self, *error: object) -> None: ...

        def close(self) -> None:
            self.closed += 1

        async def aclose(self) -> None:
            self.closed += 1

    def lane(source: str, name: str) -> tuple[object, Lock]:
        lock = Lock()
        space: dict[str, Any] = {"AsyncLock": Lock, "SyncLock": Lock}
        exec(re.sub(r"from doubleweave.*", "", source), space)
        result = space[name](lock).run([1, -5, 2])
        return (asyncio.run(result) if asyncio.iscoroutine(result) else result), lock

    for source, name in ((DRIVER, "AsyncDriver"), (generate(DRIVER, ORIGIN, NAMES), "SyncDriver")):
        result, lock = lane(source, name)
        assert (result, lock.closed) == ([4, 8], 1)


def test_a_second_run_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_workspace(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.py")}
    assert main(["generate"], root, RULES) == 0
    assert capsys.readouterr().out == "the generated files are what their sources say\n"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.py")} == before


def test_generating_mends_the_trees_and_lists_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_workspace(tmp_path)
    clean = read_tree(root)
    lane = root / "src/doubleweave/_sync"
    (lane / "driver.py").write_text("edited\n")
    (lane / "parts/sampler.py").unlink()
    (lane / "old").mkdir()
    (lane / "old/stale.py").write_text("stale\n")
    (root / "tests/_sync/notes.txt").write_text("stale\n")
    assert main(["generate"], root, RULES) == 0
    assert capsys.readouterr().out.split() == [
        "src/doubleweave/_sync/driver.py",
        "src/doubleweave/_sync/parts/sampler.py",
        "src/doubleweave/_sync/old/stale.py",
        "tests/_sync/notes.txt",
    ]
    assert read_tree(root) == clean


def test_one_bad_source_leaves_every_generated_file_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_workspace(tmp_path)
    (root / "src/doubleweave/_async/driver.py").write_text(DRIVER.replace("LIMIT = 3", "LIMIT = 4"))
    (root / "tests/_async/test_driver.py").write_text("# Cases.\nx = await(1)\n")
    before = read_tree(root)
    assert main(["generate"], root, RULES) == 1
    assert capsys.readouterr().out.startswith("tests/_async/test_driver.py:2: `await` is not followed by one space")
    assert read_tree(root) == before


def test_a_source_that_fails_late_leaves_every_generated_file_as_it_was(tmp_path: Path) -> None:
    root = make_workspace(tmp_path)
    (root / "src/doubleweave/_async/driver.py").write_text(DRIVER.replace("LIMIT = 3", "LIMIT = 4"))
    (root / "tests/_async/test_driver.py").write_text("# Cases.\ndef f(AsyncA, SyncA): pass\n")
    before = read_tree(root)
    with pytest.raises(SyntaxError):
        regenerate(root, RULES)
    assert read_tree(root) == before


def test_a_tree_that_does_not_exist_yet_is_no_error(tmp_path: Path) -> None:
    assert regenerate(tmp_path, RULES) == []
    assert list(tmp_path.iterdir()) == []


def test_a_reader_keeps_the_old_file_while_the_new_one_is_put_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    write_atomically(path, "old\n")
    with path.open(encoding="utf-8") as reader:
        write_atomically(path, "new é\n")
        assert reader.read() == "old\n"
    assert path.read_bytes() == b"new \xc3\xa9\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["module.py"]


def test_a_write_that_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    write_atomically(path, "old\n")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "half \ud800")
    assert path.read_bytes() == b"old\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["module.py"]


def find_pythons() -> dict[tuple[int, int], str]:
    """Return a command for each Python 3.11 or later of this machine, this one included, by version."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    folders += Path.home().glob(".pyenv/versions/*/bin")
    candidates = [path for folder in folders for path in sorted(folder.glob("python3.[1-9][0-9]"))]
    found = {sys.version_info[:2]: sys.executable}
    for path in candidates:
        named = (3, int(path.name.removeprefix("python3.")))
        if named < (3, 11) or named in found:
            continue
        probe = "import sys; print(sys.version_info[1], sys.version_info.releaselevel)"
        answer = subprocess.run([path, "-c", probe], capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.split() == [str(named[1]), "final"]:
            found[named] = str(path)
    return found


def test_every_python_here_generates_and_checks_the_same_bytes(tmp_path: Path) -> None:
    pythons = find_pythons()
    print("compared:", ", ".join(f"{major}.{minor}" for major, minor in sorted(pythons)))
    # The generator needs pure Python packages only, so the ones of this interpreter serve every other.
    packages = str(Path(unasync.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    outcomes: list[list[Any]] = []
    for version, python in pythons.items():
        root = tmp_path / f"{version[0]}.{version[1]}"
        make_workspace(root)
        for tree in ("src/doubleweave/_async", "tests/_async"):
            if (ROOT / tree).exists():
                shutil.copytree(
                    ROOT / tree, root / tree, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
        table = root / "tools/lanes.py"
        table.write_text(table.read_text().replace('"src/doubleweave": {', '"src/doubleweave": {"aclose": "close", '))
        for tree in ("src/doubleweave/_sync", "tests/_sync"):
            shutil.rmtree(root / tree)
        outcome: list[Any] = []
        for command in ("generate", "check"):
            run = subprocess.run(
                [python, "tools/lanes.py", command], cwd=root, env=environment, capture_output=True, check=False
            )
            assert (run.returncode, run.stderr) == (0, b""), (version, run)
            outcome.append(run.stdout)
        driver = root / "src/doubleweave/_sync/driver.py"
        driver.write_text(DRIVER_SYNC.replace("item + LIMIT", "item - LIMIT"))
        outcome.append(read_tree(root))
        red = subprocess.run(
            [python, "tools/lanes.py", "check"], cwd=root, env=environment, capture_output=True, check=False
        )
        assert (red.returncode, red.stderr) == (1, b"")
        outcome.append(red.stdout)
        outcomes.append(outcome)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert outcomes[0][-1].startswith(b"src/doubleweave/_sync/driver.py:21: ")
