"""The commands under one name each."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from doubleweave.cli import (
    checking,
    comparing,
    doctor,
    evidence,
    flows,
    pages,
    profiling,
    running,
    serving,
    showing,
    starting,
)
from doubleweave.cli.text import PROG, _error_line, help_when_bare
from doubleweave.errors import DoubleweaveError
from doubleweave.models.product import __version__


class _Commands(TyperGroup):
    """Commands whose errors of the library end in a line and exit code 1, however they are called."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DoubleweaveError as error:
            typer.echo(_error_line(error), err=True)
            raise typer.Exit(1) from error


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROG} {__version__}")
        raise typer.Exit


app = typer.Typer(name=PROG, cls=_Commands, invoke_without_command=True, pretty_exceptions_enable=False)


@app.callback()
def _main(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_show_version, help="Print the version and end.")
    ] = False,
) -> None:
    """Run, check, look at and compare flows of typed tools."""
    help_when_bare(ctx)


app.command("init")(starting.init)
app.command("run")(running.run)
app.command("resume")(running.resume)
app.command("serve")(serving.serve)
app.command("validate")(checking.validate)
app.command("check")(checking.check)
app.command("dump-schema")(checking.dump_schema)
app.command("inspect")(showing.inspect)
app.command("viz")(showing.viz)
app.command("explain")(showing.explain)
app.command("diff")(comparing.diff)
app.command("report")(pages.report)
app.command("watch")(pages.watch)
app.command("profile")(profiling.profile)
app.command("attest")(evidence.attest)
app.command("fuzz")(evidence.fuzz)
app.add_typer(flows.flows, name="flows")
app.add_typer(doctor.doctor, name="doctor")
