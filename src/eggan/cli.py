"""The command line: a thin face over editor, training and evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from eggan.action_units import parse_action_unit, parse_emotion
from eggan.errors import EgganError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)
ModelOption = Annotated[str, typer.Option("--model", help="A shipped name, or a folder with weights.")]


@app.callback()
def _about() -> None:
    """Edit the facial expression in a photograph by Action Units, and keep the person."""


@app.command()
def edit(
    photos: Annotated[list[Path], typer.Argument(help="Square pictures of one frontal face.", metavar="PHOTO...")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write; a folder for several photos.")],
    au: Annotated[list[str] | None, typer.Option("--au", help="AU and intensity 0..5, as 12=4. Repeatable.")] = None,
    emotion: Annotated[
        str | None, typer.Option("--emotion", help="An emotion, as happy or happy:0.8; it sets all 17 AUs.")
    ] = None,
    only: Annotated[bool, typer.Option("--only", help="Set AUs that are not named to 0.")] = False,
    relative: Annotated[bool, typer.Option("--relative", help="Add the values to the face's own.")] = False,
    model: ModelOption = "small",
) -> None:
    """Edit the expression of a face.

    Try:

        eggan edit face.png -o smile.png --au 12=4 --au 6=2.5

        eggan edit face.png -o happy.png --emotion happy:0.8

        eggan edit a.png b.png -o edited/ --au 4=1.5 --relative
    """
    from eggan.editor import Editor, open_photo, whole_expression
    from eggan.provenance import save_picture

    if not au and emotion is None:
        raise EgganError("Say what to change: --au 12=4, or --emotion happy.")
    if emotion is not None and relative:
        raise EgganError("--emotion sets all Action Units, so --relative does not go with it; name AUs by --au.")
    targets = whole_expression(parse_emotion(emotion)) if emotion is not None else {}
    targets |= dict(parse_action_unit(text, relative=relative) for text in au or [])
    outputs = _outputs(photos, out)
    editor = Editor.from_pretrained(model)
    for photo, output in zip(photos, outputs, strict=True):
        picture = open_photo(photo)
        try:
            edited = editor.edit(picture, targets, only=only, relative=relative)
        except EgganError as error:
            raise EgganError(f"{photo}: {error}") from None
        save_picture(edited, output, edited.info["eggan"])
        typer.echo(output)


@app.command()
def train(
    preset: Annotated[str, typer.Option(help="small, small-paper or paper.")] = "small",
    data: Annotated[Path | None, typer.Option(help="Faces file to learn from.")] = None,
    val: Annotated[Path | None, typer.Option(help="Faces file of other people, for the sample grids.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from these weights: a shipped name, a run or a folder.", metavar="MODEL")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/PRESET if not given.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, as losses.identity=0.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and parameter counts only.")
    ] = False,
) -> None:
    """Train a model; the same command again goes on where it stopped.

    Try:

        eggan train --preset small --set steps=2000 --out runs/mine

        eggan train --init small --data mine.parquet --val others.parquet --out runs/tuned
    """
    from eggan.training.config import load_config
    from eggan.training.loop import Stopped, describe
    from eggan.training.loop import train as run

    own = [f"{key}={value}" for key, value in (("data", data), ("val", val), ("init", init)) if value is not None]
    config = load_config(preset, [*(changes or []), *own])
    if dry_run:
        typer.echo(describe(config), nl=False)
        return
    try:
        typer.echo(run(config, out or Path("runs") / preset))
    except Stopped as stopped:
        typer.echo(str(stopped), err=True)
        raise typer.Exit(130) from None


@app.command()
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Shipped names or folders with weights.", metavar="MODEL...")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder for the report.")],
    data: Annotated[Path, typer.Option(help="Faces file to measure on.")] = Path("data/facsynth/test.parquet"),
    quick: Annotated[bool, typer.Option("--quick", help="Eight people only, no intensity sweep.")] = False,
    protocol: Annotated[
        Literal["own", "paper"],
        typer.Option(help="paper: targets from train.parquet beside --data, as in the paper's Sec. 4.2."),
    ] = "own",
    judge: Annotated[Literal["builtin", "openface"], typer.Option("--with", help="Who reads the AUs.")] = "builtin",
    verify: Annotated[
        str, typer.Option(help="Who recognises people: builtin, dlib, none, or a file with LightCNN-29 v2 weights.")
    ] = "builtin",
) -> None:
    """Measure models against the true images of a faces file.

    Try:

        eggan evaluate small small-paper -o report/

        eggan evaluate small --quick -o report/ --verify dlib
    """
    from eggan.evaluation.run import choose_judges, run_evaluation
    from eggan.model import EGGAN

    loaded = {name: EGGAN.from_pretrained(name) for name in models}
    typer.echo(run_evaluation(loaded, data, choose_judges(judge, verify, data), out, protocol=protocol, quick=quick))


@app.command()
def models() -> None:
    """List the models that come with the package, the default first."""
    from eggan.editor import shipped_models

    for name, model in shipped_models().items():
        parameters = sum(p.numel() for p in model.parameters())
        typer.echo(
            f"{name:14}{model.config.network.form:9}{model.config.image_size:4} px{parameters / 1e6:8.2f} M parameters"
        )


def _outputs(photos: list[Path], out: Path) -> list[Path]:
    """Where each edit goes: to `out` itself for one photo and a picture's name, else into the folder `out`."""
    from eggan.provenance import FORMATS

    if out.suffix and not out.is_dir():
        if len(photos) > 1:
            raise EgganError(f"{out} is one picture, and there are {len(photos)} photos: give a folder.")
        outputs = [out]
    else:
        endings = [photo.suffix if photo.suffix.lower() in FORMATS else ".png" for photo in photos]
        outputs = [out / f"{photo.stem}{ending}" for photo, ending in zip(photos, endings, strict=True)]
    if len(set(outputs)) < len(outputs):
        raise EgganError("Two photos have the same name and would be written to one file: rename one.")
    for photo, output in zip(photos, outputs, strict=True):
        if output.suffix.lower() not in FORMATS:
            raise EgganError(f"{output} must end in one of {', '.join(FORMATS)}.")
        if output.resolve() == photo.resolve():
            raise EgganError(f"The edit would overwrite the photo {photo}: give another -o.")
    return outputs


def main() -> None:
    """Entry point of `eggan`: a user's mistake is one sentence on standard error and exit code 1."""
    try:
        app()
    except EgganError as error:
        typer.echo(f"eggan: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
