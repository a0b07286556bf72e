"""What is built is looked at file by file; `make package-check` installs it, too."""

import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

import package_check


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=package_check.ROOT, check=True)
    [wheel], [sdist] = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def without(wheel: Path, gone: Callable[[str], bool], to: Path) -> Path:
    """Return a copy of a wheel that lacks some files."""
    path = to / wheel.name
    with ZipFile(wheel) as source, ZipFile(path, "w") as target:
        for name in source.namelist():
            if not gone(name):
                target.writestr(name, source.read(name))
    return path


def test_wheel_and_sdist_hold_the_package_and_its_licence(built: tuple[Path, Path]) -> None:
    package_check.check_contents(*built)
    with ZipFile(built[0]) as wheel, tarfile.open(built[1]) as sdist:
        assert {"doubleweave/py.typed", "doubleweave/pages/page.html", "pytest_doubleweave.py"} <= set(wheel.namelist())
        assert any(name.endswith("/docs/cli.md") for name in sdist.getnames())


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("doubleweave/py.typed", "the wheel lacks ['doubleweave/py.typed'] and should not have []"),
        (".dist-info/licenses/LICENSE", "wheel or sdist has no licence"),
        (
            ".dist-info/entry_points.txt",
            f"the wheel has the entry points [], not {list(package_check.ENTRY_POINTS)}",
        ),
    ],
)
def test_a_file_that_is_missing_is_found(built: tuple[Path, Path], tmp_path: Path, gone: str, message: str) -> None:
    wheel = without(built[0], lambda name: name.endswith(gone), tmp_path)
    with pytest.raises(package_check.PackageError) as caught:
        package_check.check_contents(wheel, built[1])
    assert str(caught.value) == message


def test_every_extra_is_tried_and_every_readme_program_is_one() -> None:
    assert sorted(package_check.MISSING) == sorted(set(package_check.PROBES) - {"jsonschema-rs"})
    blocking, awaited = package_check.readme_programs()
    assert "executor = FlowExecutor(registry)" in blocking
    assert "executor = AsyncFlowExecutor(registry)" in awaited
