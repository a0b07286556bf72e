"""How long files may be."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANES = ROOT / "src" / "doubleweave"


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_no_hand_written_file_is_longer_than_600_lines() -> None:
    files = [path for folder in ("src", "tests", "tools") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if "_sync" not in path.parts and lines_of(path) > 600] == []


def test_the_lane_source_stays_thin() -> None:
    assert lines_of(LANES / "_async" / "executor.py") < 500
    assert sum(lines_of(path) for name in ("_async", "_lanes") for path in (LANES / name).glob("*.py")) < 1500
