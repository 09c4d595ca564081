"""The command line: a thin face over editor, training and evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from eggan.errors import EgganError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def _about() -> None:
    """Edit the facial expression in a photograph by Action Units, and keep the person."""


@app.command()
def train(
    preset: Annotated[str, typer.Option(help="small, small-paper or paper.")] = "small",
    data: Annotated[Path | None, typer.Option(help="Faces file to learn from.")] = None,
    val: Annotated[Path | None, typer.Option(help="Faces file of other people, for the sample grids.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/PRESET if not given.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, as losses.identity=0.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the configuration and sizes; train nothing.")] = False,
) -> None:
    """Train a model. The same command again goes on where it stopped.

    Example: eggan train --preset small --set steps=2000 --out runs/mine
    """
    from eggan.training.config import load_config
    from eggan.training.loop import Stopped, describe
    from eggan.training.loop import train as run

    files = [f"{key}={path}" for key, path in (("data", data), ("val", val)) if path is not None]
    config = load_config(preset, [*(changes or []), *files])
    if dry_run:
        typer.echo(describe(config), nl=False)
        return
    try:
        typer.echo(run(config, out or Path("runs") / preset))
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(130) from None


def main() -> None:
    """Entry point of `eggan`: a user's mistake is one sentence on standard error and exit code 1."""
    try:
        app()
    except EgganError as error:
        typer.echo(f"eggan: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
