"""How long files may be."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
THIN = "src/doubleweave/_async/executor.py"
LANE = ("src/doubleweave/_async/", "src/doubleweave/_lanes/")
ENGINE = (*LANE, "src/doubleweave/core/")


def faults_of(root: Path) -> list[str]:
    files = [path for folder in ("src", "tests", "tools") for path in sorted((root / folder).rglob("*.py"))]
    names = {path.relative_to(root).as_posix(): path for path in files if "_sync" not in path.parts}
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in names.items()}
    found = [f"{name} has {count} lines" for name, count in lines.items() if count > (499 if name == THIN else 600)]
    for what, folders, most in (("lane", LANE, 1499), ("engine", ENGINE, 4500)):
        count = sum(count for name, count in lines.items() if name.startswith(folders))
        found += [f"the {what} has {count} lines"] if count > most else []
    return found


def test_no_file_and_no_lane_is_too_long() -> None:
    assert faults_of(ROOT) == []


@pytest.mark.parametrize(
    ("files", "faults"),
    [
        ({"src/doubleweave/core/a.py": 600, "tests/test_a.py": 600, "tools/a.py": 600}, []),
        ({"src/doubleweave/core/a.py": 601}, ["src/doubleweave/core/a.py has 601 lines"]),
        ({"tests/_async/test_a.py": 601}, ["tests/_async/test_a.py has 601 lines"]),
        ({"tools/a.py": 601}, ["tools/a.py has 601 lines"]),
        ({"src/doubleweave/_sync/a.py": 601, "tests/_sync/test_a.py": 601}, []),
        ({THIN: 499}, []),
        ({THIN: 500}, [f"{THIN} has 500 lines"]),
        ({"src/doubleweave/_async/a.py": 500, "src/doubleweave/_lanes/a.py": 500, "src/doubleweave/_lanes/b/c.py": 499}, []),
        (
            {"src/doubleweave/_async/a.py": 500, "src/doubleweave/_lanes/a.py": 500, "src/doubleweave/_lanes/b.py": 500},
            ["the lane has 1500 lines"],
        ),
        ({f"src/doubleweave/core/{number}.py": 500 for number in range(9)}, []),
        (
            {f"src/doubleweave/core/{number}.py": 500 for number in range(9)} | {"src/doubleweave/_lanes/a.py": 1},
            ["the engine has 4501 lines"],
        ),
    ],
)  # fmt: skip
def test_what_is_too_long_is_found(files: dict[str, int], faults: list[str], tmp_path: Path) -> None:
    for name, lines in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("#\n" * lines)
    assert faults_of(tmp_path) == faults
