"""Generate the sync lane from the async lane, and check that the committed files are what the sources say.

Usage: python tools/lanes.py generate | check
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import unasync

from lane_guard import check, read_tree, source_findings

ROOT = Path(__file__).resolve().parent.parent

# Parent folder of each pair of trees -> additional names that `unasync` replaces there. Its own rules (`AsyncX` to
# `SyncX`, `__aenter__`, `AsyncIterator`, ...) need no entry; an entry that no source uses fails the check.
RULES: dict[str, dict[str, str]] = {
    "src/doubleweave": {},
    "tests": {"AsyncFlowExecutor": "FlowExecutor"},
}


def generate(source: str, origin: str = "_async/module.py", names: Mapping[str, str] | None = None) -> str:
    """Return the sync module for an async one, line by line: line N of the result comes from line N of `source`.

    Line 1 becomes the header, which names `origin`. Raises `ValueError` if line 1 is not a comment and `SyntaxError` if
    the result does not compile.
    """
    if not source.startswith("#"):
        raise ValueError(f"{origin}:1: line 1 must be a comment, it becomes the header of the generated file")
    with tempfile.TemporaryDirectory() as folder:
        home = os.path.abspath(folder)
        written = Path(home, "_async", "module.py")
        written.parent.mkdir()
        written.write_text(source, encoding="utf-8", newline="")
        rule = unasync.Rule(f"{home}/_async/", f"{home}/_sync/", additional_replacements=names)
        unasync.unasync_files([str(written)], [rule])
        result = Path(home, "_sync", "module.py").read_bytes().decode("utf-8")
    _, newline, rest = result.partition("\n")
    generated = f'# Generated from {origin} by "make generate". Do not edit.{newline or chr(10)}{rest}'
    compile(generated, origin.replace("_async/", "_sync/", 1), "exec", dont_inherit=True)
    return generated


def write_atomically(path: Path, text: str) -> None:
    """Replace the file in one step: a reader sees the old text or the new one, in UTF-8 with LF, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def regenerate(root: Path, rules: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Bring every `_sync/` tree up to date and return the paths that changed; a bad source changes nothing."""
    wanted: dict[str, str] = {}
    present: dict[str, bytes] = {}
    for parent, names in rules.items():
        for name, content in read_tree(root / parent / "_async").items():
            text = generate(content.decode("utf-8"), f"{parent}/_async/{name}", names)
            wanted[f"{parent}/_sync/{name}"] = text
        for name, content in read_tree(root / parent / "_sync").items():
            present[f"{parent}/_sync/{name}"] = content
    changed = [path for path, text in wanted.items() if present.get(path) != text.encode("utf-8")]
    stale = [path for path in present if path not in wanted]
    for path in changed:
        write_atomically(root / path, wanted[path])
    for path in stale:
        (root / path).unlink()
    return changed + stale


def main(arguments: list[str], root: Path = ROOT, rules: Mapping[str, Mapping[str, str]] = RULES) -> int:
    """Run one command; return 0 if all is well and 1 after printing the first finding."""
    parser = argparse.ArgumentParser(description="Generate and check the sync lane.")
    parser.add_argument("command", choices=["generate", "check"])
    checking = parser.parse_args(arguments).command == "check"
    finding = check(root, rules, generate) if checking else next(source_findings(root, rules), None)
    if finding is not None:
        print(finding)
        return 1
    changed = [] if checking else regenerate(root, rules)
    print("\n".join(changed) or "the generated files are what their sources say")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
