"""Whether a computer has what the package needs, and which of its extras are installed."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from doubleweave.models.product import PRODUCT, __version__

# Distributions whose module has another name.
_MODULES = {"opentelemetry-api": "opentelemetry", "pyyaml": "yaml"}


def readiness(is_writable: Callable[[Path], bool]) -> dict[str, Any]:
    """Return what was found, as `doctor flow --profile first-run` prints it; `is_writable` probes a directory."""
    python = _python()
    paths = {"cwd": _probe(os.getcwd, is_writable), "tempdir": _probe(_tempdir, is_writable)}
    is_importable = _is_core_importable()
    return {
        "ok": python["ok"] and is_importable and all(each["writable"] for each in paths.values()),
        "python": python,
        "writable_paths": paths,
        "import_health": {f"{PRODUCT}_version": __version__, "core_importable": is_importable},
        "extras": extras(),
    }


def readiness_lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the table for what `readiness` has returned."""
    python, health = found["python"], found["import_health"]
    checks = [
        (python["ok"], f"Python {python['version']} (required: {python['required'] or 'unknown'})"),
        *((each["writable"], f"{name} is writable: {each['path']}") for name, each in found["writable_paths"].items()),
        (health["core_importable"], f"{PRODUCT} can be imported"),
    ]
    yield f"{PRODUCT} {health[f'{PRODUCT}_version']}: first-run readiness"
    yield from (f"{'ok' if is_ok else 'FAILED':<8}{text}" for is_ok, text in checks)
    for each in found["extras"]:
        missing = f" (missing: {', '.join(each['missing_modules'])}): {each['install']}"
        yield f"{'ok' if each['available'] else '-':<8}extra {each['extra']}{'' if each['available'] else missing}"
    failed = sum(not is_ok for is_ok, _ in checks)
    yield f"NOT READY: {failed} of {len(checks)} checks failed" if failed else "READY"


def extras() -> list[dict[str, Any]]:
    """Return each extra of the installed package with what is missing of it and how to install it."""
    return [
        {
            "extra": name,
            "available": not missing,
            "missing_modules": missing,
            "install": f'pip install "{PRODUCT}[{name}]"',
        }
        for name in _metadata("Provides-Extra")
        for missing in [_missing_modules(name)]
    ]


def _metadata(field: str) -> list[str]:
    """Return the values of a field of the package's metadata; none when it runs without being installed."""
    from importlib.metadata import PackageNotFoundError, metadata

    try:
        return metadata(PRODUCT).get_all(field) or []
    except PackageNotFoundError:
        return []


def _missing_modules(extra: str) -> list[str]:
    from packaging.requirements import Requirement

    requirements = [Requirement(text) for text in _metadata("Requires-Dist")]
    wanted = [
        each
        for each in requirements
        if each.marker and each.marker.evaluate({"extra": extra}) and not each.marker.evaluate({"extra": ""})
    ]
    missing: list[str] = []
    for each in wanted:
        if each.name == PRODUCT:
            # An extra may be made of others.
            missing += [module for name in sorted(each.extras) for module in _missing_modules(name)]
        elif not _is_installed(each):
            missing.append(_MODULES.get(each.name.lower(), each.name.replace("-", "_")))
    return list(dict.fromkeys(missing))


def _is_installed(requirement: Any) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(requirement.specifier.contains(version(requirement.name), prereleases=True))
    except PackageNotFoundError:
        return False


def _python() -> dict[str, Any]:
    from packaging.specifiers import SpecifierSet

    version = platform.python_version()
    required = next(iter(_metadata("Requires-Python")), None)
    # A release candidate is no release, but runs what the release runs. A build from source may have a `+` at its end.
    is_ok = SpecifierSet(required or "").contains(version.rstrip("+"), prereleases=True)
    return {"version": version, "ok": is_ok, "required": required}


def _probe(find: Callable[[], str], is_writable: Callable[[Path], bool]) -> dict[str, Any]:
    try:
        path = find()
    # The current directory may be gone, and there may be no directory for temporary files.
    except OSError as error:
        return {"path": f"({error.strerror})", "writable": False}
    return {"path": path, "writable": is_writable(Path(path))}


def _tempdir() -> str:
    from tempfile import gettempdir

    return gettempdir()


def _is_core_importable() -> bool:
    from importlib import import_module

    try:
        import_module(f"{PRODUCT}.executor")
    except Exception:
        return False
    return True
