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
def annotate(
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write, .csv.")],
    photos: Annotated[
        list[Path] | None,
        typer.Argument(help="Photographs, and folders with their sub-folders.", metavar="PHOTO-OR-FOLDER..."),
    ] = None,
    annotator: Annotated[
        Literal["builtin", "openface"],
        typer.Option("--with", help="Who reads them; OPENFACE_BIN says where OpenFace is."),
    ] = "builtin",
    face: Annotated[str, typer.Option(help="largest, all, or a number, 0 for the largest.")] = "largest",
    tables: Annotated[
        Path | None,
        typer.Option("--from", help="CSV of OpenFace made elsewhere, or a folder of them, and no photographs."),
    ] = None,
    people: Annotated[
        Path | None,
        typer.Option(help="CSV file,identity,emotion: subtract the person's neutral, AU by AU and not below 0."),
    ] = None,
) -> None:
    """Read the 17 Action Unit intensities of photographs into a table.

    One row a face, in OpenFace's column names. What cannot be read is a row with its reason in the last column.

    Try:

        eggan annotate photos/ -o aus.csv

        eggan annotate photos/ -o aus.csv --with openface --people people.csv

        eggan annotate --from openface_output/ -o aus.csv
    """
    from eggan.annotate import annotate as read
    from eggan.annotate import import_tables, less_neutral, list_photographs, write_rows
    from eggan.data.by_file import ByFile
    from eggan.data.folder import read_people
    from eggan.data.openface import OpenFace
    from eggan.estimator import ActionUnitEstimator
    from eggan.files import check_writable

    if bool(photos) == (tables is not None):
        raise EgganError("Give either photographs or, by --from, OpenFace's CSVs.")
    if out.suffix.lower() != ".csv" or out in (tables, people):
        raise EgganError(f"The table {out} must end in .csv, and be none of the tables that are read.")
    check_writable(out)
    persons = read_people(people) if people is not None else None
    if tables is not None:
        rows = import_tables(tables)
    else:
        reader = OpenFace() if annotator == "openface" else ActionUnitEstimator.from_pretrained()
        rows = read(list_photographs(photos or []), reader, face)
    if persons is not None:
        rows = less_neutral(rows, ByFile(persons))
    write_rows(rows, out)
    reasons = [row.reading.reason for row in rows if row.reading.reason]
    if len(reasons) == len(rows):
        raise EgganError(f"No face was read; {out} says why, first: {(reasons or ['the tables are empty'])[0]}")
    files = len({row.file for row in rows})
    typer.echo(
        f"{out}: {len(rows) - len(reasons)} faces read in {files} files; rows with a reason instead: {len(reasons)}"
    )


prepare_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(prepare_app, name="prepare", help="Make faces files of a dataset's pictures, to train and evaluate on.")
PreparedOption = Annotated[
    Path,
    typer.Option("-o", "--out", help="Faces file, .parquet; or a folder for train, val and test, with people apart."),
]
TablesOption = Annotated[
    Path | None,
    typer.Option("--aus", help="AUs read before: a CSV of OpenFace or eggan annotate, or a folder of them."),
]
AnnotatorOption = Annotated[
    Literal["builtin", "openface"], typer.Option("--with", help="Who reads the AUs where there is no --aus.")
]
SizeOption = Annotated[int, typer.Option(min=32, max=1024, help="Side of the crops in pixels.")]


@prepare_app.command("rafd")
def prepare_rafd(
    source: Annotated[Path, typer.Argument(help="Folder with RaFD's pictures, as they are.", metavar="SRC")],
    out: PreparedOption,
    aus: TablesOption = None,
    annotator: AnnotatorOption = "builtin",
    size: SizeOption = 128,
    camera: Annotated[list[str] | None, typer.Option(help="090 (in front) if not given. Repeatable.")] = None,
    gaze: Annotated[list[str] | None, typer.Option(help="frontal, left and right if not given. Repeatable.")] = None,
) -> None:
    """The Radboud Faces Database: Rafd090_01_Caucasian_female_angry_frontal.jpg and so on.

    Try:

        eggan prepare rafd RafD/ -o data/rafd --with openface
    """
    from eggan.data.rafd import CAMERAS, GAZES, list_rafd
    from eggan.prepare import choose_reader, prepare

    cameras, gazes = camera or ["090"], gaze or list(GAZES)
    for given, known in ((cameras, CAMERAS), (gazes, GAZES)):
        if not set(given) <= set(known):
            raise EgganError(f"{', '.join(given)}: choose among {', '.join(known)}.")
    typer.echo(prepare(list_rafd(source, cameras, gazes), source, out, *choose_reader(annotator, aus), size))


@prepare_app.command("mmi")
def prepare_mmi(
    source: Annotated[Path, typer.Argument(help="Folder with MMI's sessions, as they are.", metavar="SRC")],
    out: PreparedOption,
    aus: TablesOption = None,
    annotator: AnnotatorOption = "builtin",
    size: SizeOption = 128,
    step: Annotated[int, typer.Option(min=1, help="Take every so many frames of the apex.")] = 5,
) -> None:
    """The MMI Facial Expression Database: the first frame of each video and those of its apex.

    Try:

        eggan prepare mmi MMI/Sessions -o data/mmi --step 3
    """
    from eggan.data.mmi import list_mmi
    from eggan.prepare import choose_reader, prepare

    typer.echo(prepare(list_mmi(source, step), source, out, *choose_reader(annotator, aus), size))


@prepare_app.command("folder")
def prepare_folder(
    source: Annotated[
        Path, typer.Argument(help="Folder with a sub-folder a person, or a CSV file,identity,emotion.", metavar="SRC")
    ],
    out: PreparedOption,
    aus: TablesOption = None,
    annotator: AnnotatorOption = "builtin",
    size: SizeOption = 128,
) -> None:
    """Your own photographs.

    Try:

        eggan prepare folder people/ -o faces.parquet

        eggan prepare folder people.csv -o data/mine --aus aus.csv
    """
    from eggan.data.folder import list_folder
    from eggan.prepare import choose_reader, prepare

    root = source if source.is_dir() else source.parent
    typer.echo(prepare(list_folder(source), root, out, *choose_reader(annotator, aus), size))


@app.command()
def train(
    preset: Annotated[str, typer.Option(help="small, small-paper or paper.")] = "small",
    data: Annotated[Path | None, typer.Option(help="Faces file to learn from.")] = None,
    val: Annotated[Path | None, typer.Option(help="Faces file of other people, for the sample grids.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/PRESET if not given.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, as losses.identity=0.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and parameter counts only.")
    ] = False,
) -> None:
    """Train a model; the same command again goes on where it stopped.

    Try:

        eggan train --preset small --set steps=2000 --out runs/mine
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
