"""The command line: `main(argv)` is what the command `doubleweave` runs, `app` the Typer application behind it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from doubleweave.models.product import PRODUCT

try:
    import typer
except ImportError as error:
    raise ImportError(f'{__name__} needs typer and rich: pip install "{PRODUCT}[cli]"', name=error.name) from error

from doubleweave.cli.app import app
from doubleweave.cli.sources import _import_tools_from as _import_tools_from
from doubleweave.cli.sources import get_default_registry, sanitize_path_component, set_default_registry
from doubleweave.cli.text import CLI_SCHEMA_VERSION, PROG, emit_envelope, warn, write_what_can_be_encoded
from doubleweave.cli.text import _error_line as _error_line
from doubleweave.errors import DoubleweaveError

__all__ = [
    "CLI_SCHEMA_VERSION",
    "PROG",
    "app",
    "emit_envelope",
    "get_default_registry",
    "main",
    "sanitize_path_component",
    "set_default_registry",
]
_INTERRUPTED = 130
"""The exit code of what Ctrl-C has ended, as shells have it."""


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit code; what goes wrong is told on stderr, and nothing is raised.

    Args:
        argv: The arguments without the program's name; None for those of the process.

    Returns:
        0 for success, 1 for what failed, 2 for a missing file, directory or module and for wrong usage.
    """
    write_what_can_be_encoded()
    try:
        outcome: Any = app(args=argv, prog_name=PROG)
    except typer.Exit as stop:
        return stop.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    # Some errors of the user's own code derive from no other class.
    except BaseException as error:
        _tell(error)
        return 1
    return outcome if isinstance(outcome, int) else 0


def _tell(error: BaseException) -> None:
    # Stderr may be what the error is about.
    with suppress(OSError, ValueError):
        if isinstance(error, DoubleweaveError):
            typer.echo(_error_line(error), err=True)
        else:
            warn(f"error: {str(error) or type(error).__name__}")
