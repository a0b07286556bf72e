"""What the commands print: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from enum import Enum
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from doubleweave.errors import DoubleweaveError
from doubleweave.models.product import PRODUCT

if TYPE_CHECKING:
    from rich.table import Table

PROG = PRODUCT
"""The name of the program, as it stands before its messages."""
CLI_SCHEMA_VERSION = "1"
"""The version of the JSON documents that the commands print."""


class Format(str, Enum):
    """How a command prints what it found."""

    TABLE = "table"
    JSON = "json"


def emit_envelope(data: Any, *, status: str = "ok", errors: list[dict[str, Any]] | None = None) -> None:
    """Print a command's payload as one JSON document with `schema_version`, `status`, `data` and `errors`.

    What JSON has no form for is printed as text.
    """
    envelope = {"schema_version": CLI_SCHEMA_VERSION, "status": status, "data": data, "errors": errors or []}
    emit_json(envelope)


def emit_json(document: Any) -> None:
    """Print a JSON document; what JSON has no form for is printed as text."""
    typer.echo(json_text(document))


def json_text(value: Any, *, ensure_ascii: bool = True) -> str:
    """Return a value as indented JSON; what JSON has no form for is text in it."""
    try:
        return json.dumps(value, indent=2, default=str, ensure_ascii=ensure_ascii)
    # A key that is no text, an endless value, or a number longer than Python writes.
    except (TypeError, ValueError, RecursionError):
        from doubleweave.cli.plain import plain

        return json.dumps(plain(value), indent=2, ensure_ascii=ensure_ascii)


def error_entry(error: Exception) -> dict[str, Any]:
    """Return an error as the envelope has it: its code, if it has one, and what it says."""
    return {"code": getattr(error, "code", None), "message": detail_of(error)}


def detail_of(error: Exception) -> str:
    """Return what an error says, without what its class says each time."""
    return str(getattr(error, "detail", None) or error)


def warn(message: str) -> None:
    """Print a message on stderr, with the program's name before it."""
    typer.echo(f"{PROG}: {printable(message)}", err=True)


def fail(message: str, code: int = 1) -> NoReturn:
    """Print a message on stderr and end the command with an exit code."""
    warn(message)
    raise typer.Exit(code)


def _error_line(error: Exception) -> str:
    """Return the line that is printed for an error, with its code if it is one of the library's."""
    code = f"[{error.code}] " if isinstance(error, DoubleweaveError) else ""
    return f"{PROG}: {code}{printable(str(error))}"


def printable(text: str) -> str:
    """Return a text without what would steer a terminal; its lines stay lines."""
    return "".join(each if each.isprintable() or each == "\n" else repr(each)[1:-1] for each in text)


def write_what_can_be_encoded() -> None:
    """Let stdout and stderr write an escape for what their encoding has no form for, in place of giving up."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def prints_to_stderr() -> Iterator[None]:
    """Let what the user's own code prints go to stderr until the end of the block: stdout is for results alone.

    So does what the programs print that it starts, and what it writes to the descriptor of stdout.
    """
    with ExitStack() as until_end:
        target = sys.stderr or until_end.enter_context(open(os.devnull, "w", encoding="utf-8"))
        until_end.enter_context(redirect_stdout(target))
        until_end.enter_context(_descriptor_led_to_stderr())
        yield


@contextmanager
def _descriptor_led_to_stderr() -> Iterator[None]:
    stdout = sys.__stdout__
    try:
        saved = os.dup(1)
        os.fstat(2)
    # Without one of the two there is nothing to lead, or nowhere to lead it to.
    except OSError:
        yield
        return
    _flush(stdout)
    os.dup2(2, 1)
    try:
        yield
    finally:
        # What a buffer holds by now is not part of the result.
        _flush(stdout)
        os.dup2(saved, 1)
        os.close(saved)


def _flush(stream: TextIO | None) -> None:
    if stream is not None and not stream.closed:
        stream.flush()


def help_when_bare(ctx: typer.Context) -> None:
    """Print the help of a group of commands of which none is named."""
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
        raise typer.Exit


def say(message: str = "", *, err: bool = False) -> None:
    """Print lines of a result."""
    typer.echo(printable(message), err=err)


def say_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines of a result; a name or a message in one of them does not get a line of its own."""
    for line in lines:
        say(line.replace("\n", "\\n"), err=err)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print columns under their headings; numbers stand right, `ok` and its opposites are coloured on a terminal."""
    from rich.console import Console
    from rich.table import Table

    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    _add_columns(table, headers, cells)
    for row in cells:
        table.add_row(*(_cell(each) for each in row))
    # As wide as it is: whatever cuts a column makes the table useless for the next program.
    console = Console(width=100_000, soft_wrap=True)
    with console.capture() as captured:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


_COLOURS = {"ok": "green", "OK": "green", "ERR": "red", "DRIFT": "red", "issues": "red"}


def _add_columns(table: Table, headers: Sequence[str], cells: list[list[Any]]) -> None:
    for number, header in enumerate(headers):
        is_number = bool(cells) and all(isinstance(row[number], int | float) for row in cells)
        table.add_column(header, justify="right" if is_number else "left", no_wrap=True)


def _cell(value: Any) -> Any:
    from rich.text import Text

    text = f"{value:.1f}" if isinstance(value, float) else printable(str(value)).replace("\n", " ")
    return Text(text, style=_COLOURS.get(text, ""))
