"""Build wheel and sdist and try them as a user would: each in fresh environments, without extras and with each extra alone.

Usage: python tools/package_check.py
"""

import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import venv
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
# What each extra is for, tried with nothing else installed; a line of `python -m` when it begins with `-m`.
PROBES = {
    "cli": ["-m", "doubleweave", "check", "."],
    "jsonschema-rs": ["-c", "import doubleweave as d; import jsonschema_rs; d.JsonSchema({'type': 'object'})"],
    "mcp": ["-c", "import doubleweave.mcp"],
    "otel": ["-c", "import doubleweave.integrations.opentelemetry"],
    "yaml": [
        "-c",
        "import doubleweave as d; d.flow_from_yaml('type: Flow\\nname: n\\ndescription: d\\nsteps: []')",
    ],
}
# Without its extra each of them says what to install.
MISSING = {
    "cli": 'doubleweave.cli needs typer and rich: pip install "doubleweave[cli]"',
    "mcp": '"doubleweave[mcp]"',
    "otel": '"doubleweave[otel]"',
    "yaml": '"doubleweave[yaml]"',
}
# The command, and the plugin that pytest loads by itself.
ENTRY_POINTS = (
    "[console_scripts]\ndoubleweave = doubleweave.__main__:main\n",
    "[pytest11]\ndoubleweave = pytest_doubleweave\n",
)


class PackageError(Exception):
    """What was built is not what users need; says what is wrong."""


class Environment:
    """A fresh virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self._python = folder / "bin" / "python"
        self._folder = folder

    def install(self, *what: str) -> None:
        """Install distributions."""
        _run([str(self._python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what], self._folder)

    def python(self, *arguments: str, fails: bool = False) -> str:
        """Return what Python prints, warnings being errors; raises when it ends otherwise than it should."""
        return _run([str(self._python), "-W", "error", *arguments], self._folder, fails=fails)

    def command(self, name: str, *arguments: str) -> str:
        """Return what an installed command prints."""
        return _run([str(self._python.with_name(name)), *arguments], self._folder)


def _run(command: list[str], folder: Path, *, fails: bool = False) -> str:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if fails is (done.returncode == 0):
        raise PackageError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def main() -> int:
    """Run every check and say what was tried; return 1 at the first thing that is wrong."""
    with tempfile.TemporaryDirectory() as name:
        try:
            _check(Path(name))
        except PackageError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _check(folder: Path) -> None:
    _run([sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")], ROOT)
    [wheel], [sdist] = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    check_contents(wheel, sdist)
    _say("wheel and sdist hold what they should")
    bare = Environment(folder / "bare")
    bare.install(str(sdist))
    check_bare(bare)
    _say("the sdist, without extras: README and example run; what needs an extra names it")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    if set(extras) != set(PROBES):
        raise PackageError(f"there is no probe for {sorted(set(extras) ^ set(PROBES))}")
    for extra, probe in PROBES.items():
        environment = Environment(folder / extra)
        environment.install(f"{wheel}[{extra}]")
        environment.python(*probe)
        _say(f"the wheel with the extra {extra} alone: {' '.join(probe)}")
        if extra == "cli":
            _say(environment.command("doubleweave", "--version").strip())


def check_contents(wheel: Path, sdist: Path) -> None:
    """Raise when a file is missing from what was built, or is in it and should not be."""
    package = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    with ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
        entry_points = [
            archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt")
        ]
        licences = [name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE")]
    with tarfile.open(sdist) as archive_of_source:
        in_sdist = {name.partition("/")[2] for name in archive_of_source.getnames()}
    _require_same(in_wheel, package, "wheel")
    if not licences or "LICENSE" not in in_sdist:
        raise PackageError("wheel or sdist has no licence")
    if not entry_points or any(each not in entry_points[0] for each in ENTRY_POINTS):
        raise PackageError(f"the wheel has the entry points {entry_points}, not {list(ENTRY_POINTS)}")
    missing = {f"src/{name}" for name in package} - in_sdist
    if missing:
        raise PackageError(f"the sdist lacks {sorted(missing)}")


def _require_same(found: set[str], wanted: set[str], where: str) -> None:
    if found != wanted:
        raise PackageError(f"the {where} lacks {sorted(wanted - found)} and should not have {sorted(found - wanted)}")


def check_bare(bare: Environment) -> None:
    """Raise unless the package works without extras, and says which extra is missing where one is needed."""
    for program in readme_programs():
        bare.python("-c", program)
    bare.python("-m", "doubleweave.examples.audit")
    told = {
        "cli": bare.python("-m", "doubleweave", fails=True),
        "mcp": bare.python("-c", "import doubleweave.mcp", fails=True),
        "otel": bare.python("-c", "import doubleweave.integrations.opentelemetry", fails=True),
        "yaml": bare.python(*PROBES["yaml"], fails=True),
    }
    for extra, message in MISSING.items():
        if message not in told[extra]:
            raise PackageError(f"without the extra {extra} users read:\n{told[extra]}")


def readme_programs() -> Iterable[str]:
    """Return the programs of the README's two lanes, each with what both share."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shared, blocking, awaited, *_ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return (f"{shared}\n{blocking}", f"{shared}\n{awaited}")


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
