"""The command line: a thin face over editor, training and evaluation."""

from __future__ import annotations

import json
import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eggan import __version__
from eggan.action_units import NUMBERS, parse_action_unit, parse_emotion, whole_expression
from eggan.errors import EgganError

if TYPE_CHECKING:
    from eggan.edit_files import Job
    from eggan.editor import Editor
    from eggan.provenance import Provenance

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)
ModelOption = Annotated[
    str, typer.Option("--model", help="A shipped name, a training run, a folder with weights, or an .onnx file.")
]
AuOption = Annotated[list[str] | None, typer.Option("--au", help="AU and intensity 0..5, as 12=4. Repeatable.")]
EmotionOption = Annotated[
    str | None, typer.Option("--emotion", help="An emotion, as happy or happy:0.8; it sets all 17 AUs.")
]
LikeOption = Annotated[
    Path | None, typer.Option("--like", help="The expression of another photograph: all its 17 AUs.")
]
OnlyOption = Annotated[bool, typer.Option("--only", help="Set AUs that are not named to 0.")]
RelativeOption = Annotated[bool, typer.Option("--relative", help="Add the values to the face's own.")]
CropOption = Annotated[bool, typer.Option("--crop", help="Write the face alone, upright and square.")]
FaceOption = Annotated[str, typer.Option("--face", help="largest, all, or a number: 0 is the largest.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu or cuda; auto takes a GPU where there is one.")]

SignOption = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        "--sign", metavar="CERT KEY", help="Sign Content Credentials (C2PA) with a certificate chain and its key."
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster", metavar="auto|ADDRESS", help="Work on a Ray cluster: the one on this machine, or at an address."
    ),
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"eggan {__version__}")
        raise typer.Exit


@app.callback()
def _about(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version)] = False,
) -> None:
    """Edit the facial expression in a photograph by Action Units, and keep the person."""


def _explain(path: Path | None) -> None:
    if path is not None:
        from eggan.provenance import explain

        typer.echo(json.dumps(explain(path), indent=2))
        raise typer.Exit


@app.command()
def edit(
    photos: Annotated[list[str], typer.Argument(help="Photographs, or folders of them.", metavar="PHOTO...")],
    out: Annotated[str, typer.Option("-o", "--out", help="Picture to write; a folder for several.")],
    au: AuOption = None,
    emotion: EmotionOption = None,
    like: LikeOption = None,
    only: OnlyOption = False,
    relative: RelativeOption = False,
    model: ModelOption = "portrait",
    crop: CropOption = False,
    face: FaceOption = "largest",
    device: DeviceOption = "auto",
    sign: SignOption = None,
    shards: Annotated[
        bool,
        typer.Option("--shards", help="Write Parquet shards with the edits; videos, shards and addresses may go in."),
    ] = False,
    cluster: ClusterOption = None,
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Print what was done to a file that eggan wrote.", callback=_explain, is_eager=True
        ),
    ] = None,
) -> None:
    """Edit the expression of the face in a photograph.

    Several photographs, or a folder of them, are written into a folder, with `edits.csv`: what was done to each.

    Try:

        eggan edit me.jpg -o smile.jpg --au 12=4 --au 6=2.5

        eggan edit me.jpg -o happy.jpg --emotion happy:0.8

        eggan edit me.jpg -o likeher.jpg --like her.jpg

        eggan edit group.jpg -o group2.jpg --face all --au 4=1.5 --relative

        eggan edit photos/ -o edited/ --emotion surprised

        eggan edit me.jpg -o signed.jpg --au 12=4 --sign chain.pem key.pem

        eggan edit --explain smile.jpg

        eggan edit "s3://faces/*.parquet" -o s3://faces/happy --emotion happy --shards --cluster auto
    """
    from eggan.credentials import Credentials
    from eggan.edit_files import TABLE, check_kept, edit_file, edit_files, find_jobs
    from eggan.editor import Editor, check_request

    targets = _targets(au, emotion, like, relative)
    if shards or cluster is not None:
        from eggan.bulk import Change
        from eggan.bulk import edit as edit_all
        from eggan.provenance import FORMATS

        if sign is not None:
            raise EgganError("--sign signs files one by one: leave out --shards and --cluster.")
        if Path(out).suffix.lower() in FORMATS and not Path(out).is_dir():
            raise EgganError(f"--shards and --cluster write a folder, and {out} is a picture's name: give a folder.")
        if like is not None:
            targets = _like(Editor.from_pretrained(model, device=device), like) | targets
        change = Change(model, targets, only, relative, face, crop, device)
        typer.echo(edit_all(photos, out, change, files=not shards, cluster=cluster))
        return
    check_request(targets, only, relative, face, crop)
    _check_local(out, *photos)
    folder = Path(out)
    jobs = find_jobs([Path(photo) for photo in photos], folder)
    check_kept(jobs, like)
    credentials = Credentials(*sign) if sign is not None else None
    editor = Editor.from_pretrained(model, device=device)
    targets = _like(editor, like) | targets
    to_edit = partial(editor.edit_photograph, targets=targets, only=only, relative=relative, face=face, crop=crop)
    if len(jobs) == 1 and jobs[0].output == folder:
        edit_file(jobs[0], to_edit, _say, credentials)
        _written(folder)
        return
    failed = edit_files(
        jobs, lambda job: edit_file(job, to_edit, _say, credentials).provenance, folder / TABLE, _written, _say
    )
    if failed:
        _say(f"{failed} of {len(jobs)} photographs were not edited: {folder / TABLE} says why.")
        raise typer.Exit(1)


@app.command()
def interpolate(
    photos: Annotated[list[Path], typer.Argument(help="Photographs, or folders of them.", metavar="PHOTO...")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="A strip .png or an animation .gif, .webp, .mp4; a folder for several."),
    ],
    kind: Annotated[
        Literal["png", "gif", "webp", "mp4"] | None,
        typer.Option("--as", help="What to write into a folder; png is a strip. gif if not given."),
    ] = None,
    au: AuOption = None,
    emotion: EmotionOption = None,
    like: LikeOption = None,
    only: OnlyOption = False,
    relative: RelativeOption = False,
    track: Annotated[
        Path | None,
        typer.Option(
            "--track", help="A CSV with AU01_r … AU45_r, as OpenFace writes it of a video: it drives the face."
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=2, max=1000, help="Pictures from the face's own to the target; 9.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, max=600, help="Length of an animation, there and back; 2.")
    ] = None,
    fps: Annotated[
        float | None, typer.Option("--fps", min=1, max=60, help="Frames a second of an animation; 25, or the track's.")
    ] = None,
    model: ModelOption = "portrait",
    crop: CropOption = False,
    face: FaceOption = "largest",
    device: DeviceOption = "auto",
    sign: SignOption = None,
) -> None:
    """Go from a face's own expression to another: a labelled strip of the face, or an animation there and back.

    Several photographs, or a folder of them, are written into a folder, with `edits.csv`: what was done to each.

    Try:

        eggan interpolate me.jpg -o strip.png --emotion happy --steps 9

        eggan interpolate me.jpg -o smile.mp4 --au 12=4 --au 6=2 --seconds 3

        eggan interpolate me.jpg -o likeher.gif --like her.jpg --crop

        eggan interpolate me.jpg -o driven.mp4 --track openface.csv

        eggan interpolate photos/ -o moving/ --emotion happy --as mp4
    """
    from eggan.credentials import Credentials
    from eggan.data.track import read_track
    from eggan.edit_files import TABLE, Job, check_kept, edit_files, find_jobs
    from eggan.editor import Editor, check_request
    from eggan.faces import open_photograph
    from eggan.interpolation import Timing, check_output, drive, morph

    timing = Timing(steps, seconds, fps)
    if track is not None and (au or emotion or like or only or relative):
        raise EgganError("--track sets all Action Units at every moment: give no other target with it.")
    targets = {} if track is not None else _targets(au, emotion, like, relative)
    check_request(targets, only, relative, face, crop)
    _check_local(str(out), *map(str, photos))
    single = len(photos) == 1 and not photos[0].is_dir() and bool(out.suffix) and not out.is_dir()
    if single and kind is not None and out.suffix.lower() != f".{kind}":
        raise EgganError(f"--as {kind} says what to write into a folder, and {out} is one file: leave one of them out.")
    jobs = [Job(photos[0], out)] if single else find_jobs(photos, out, f".{kind or 'gif'}")
    check_kept(jobs, like, track)
    check_output(jobs[0].photo, jobs[0].output, timing, track)
    driven = read_track(track) if track is not None else None
    credentials = Credentials(*sign) if sign is not None else None
    editor = Editor.from_pretrained(model, device=device)
    targets = _like(editor, like) | targets

    def make(job: Job) -> Provenance:
        opened = open_photograph(job.photo)
        signing = partial(credentials.sign, original=job.photo) if credentials else None
        for note in opened.notes:
            _say(f"{job.photo}: {note}.")
        if driven is not None:
            return drive(editor, opened, driven, job.output, timing, face=face, crop=crop, sign=signing)
        return morph(
            editor, opened, targets, job.output, timing,
            only=only, relative=relative, face=face, crop=crop, sign=signing,
        )  # fmt: skip

    if single:
        make(jobs[0])
        _written(out)
    elif failed := edit_files(jobs, make, out / TABLE, _written, _say):
        _say(f"{failed} of {len(jobs)} photographs were left out: {out / TABLE} says why.")
        raise typer.Exit(1)


@app.command()
def annotate(
    out: Annotated[str, typer.Option("-o", "--out", help="Table to write, .csv; or a folder for Parquet shards.")],
    photos: Annotated[
        list[str] | None,
        typer.Argument(
            help="Photographs, and folders with their sub-folders; for shards also videos, shards and addresses.",
            metavar="PHOTO-OR-FOLDER...",
        ),
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
    cluster: ClusterOption = None,
) -> None:
    """Read the 17 Action Unit intensities of photographs into a table.

    One row a face, in OpenFace's column names. What cannot be read is a row with its reason in the last column. Where
    -o is a folder or an address, it holds Parquet shards, the same command goes on where it stopped, and what cannot
    be read is in rejected.parquet.

    Try:

        eggan annotate photos/ -o aus.csv

        eggan annotate photos/ -o aus.csv --with openface --people people.csv

        eggan annotate --from openface_output/ -o aus.csv

        eggan annotate s3://faces/ -o s3://faces-aus --cluster auto
    """
    from eggan.annotate import annotate as read
    from eggan.annotate import import_tables, less_neutral, list_photographs, write_rows
    from eggan.data.by_file import VIDEOS, ByFile
    from eggan.data.folder import read_people
    from eggan.data.openface import OpenFace
    from eggan.estimator import ActionUnitEstimator
    from eggan.files import check_writable, is_same

    if bool(photos) == (tables is not None):
        raise EgganError("Give either photographs or, by --from, OpenFace's CSVs.")
    table = Path(out)
    if cluster is not None or not table.suffix:
        from eggan.bulk import annotate as annotate_all

        if table.suffix or annotator != "builtin" or tables is not None or people is not None:
            raise EgganError("Shards go into a folder, and --with openface, --from and --people into a .csv.")
        typer.echo(annotate_all(photos or [], out, face, cluster))
        return
    if table.suffix.lower() != ".csv" or any(
        path == table or (path is not None and is_same(path, table)) for path in (tables, people)
    ):
        raise EgganError(f"The table {out} must end in .csv, and be none of the tables that are read.")
    _check_local(out, *(photos or []))
    if videos := [photo for photo in photos or [] if Path(photo).suffix.lower() in VIDEOS]:
        raise EgganError(f"{videos[0]} is a video: give a folder as -o, for shards with a row a face of each frame.")
    check_writable(table)
    persons = read_people(people) if people is not None else None
    if tables is not None:
        rows = import_tables(tables)
    else:
        reader = OpenFace() if annotator == "openface" else ActionUnitEstimator.from_pretrained()
        rows = read(list_photographs([Path(photo) for photo in photos or []]), reader, face)
    if persons is not None:
        rows = less_neutral(rows, ByFile(persons))
    reasons = [row.reading.reason for row in rows if row.reading.reason]
    first = (reasons or ["the tables are empty"])[0]
    nothing = len(reasons) == len(rows)
    if nothing and table.exists():
        raise EgganError(f"No face was read, and the table {out} stays as it was. First reason: {first}")
    write_rows(rows, table)
    if nothing:
        raise EgganError(f"No face was read; {out} says why, first: {first}")
    files = len({row.file for row in rows})
    typer.echo(
        f"{out}: {len(rows) - len(reasons)} faces read in {files} files; rows with a reason instead: {len(reasons)}"
    )


prepare_app = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(prepare_app, name="prepare", help="Make faces files of a dataset's pictures, to train and evaluate on.")
PreparedOption = Annotated[
    str,
    typer.Option(
        "-o",
        "--out",
        help="Faces file, .parquet; or a folder for train, val and test, with people apart. Here or at an address.",
    ),
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
    cluster: ClusterOption = None,
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
    typer.echo(prepare(list_rafd(source, cameras, gazes), source, out, *choose_reader(annotator, aus), size, cluster))


@prepare_app.command("mmi")
def prepare_mmi(
    source: Annotated[Path, typer.Argument(help="Folder with MMI's sessions, as they are.", metavar="SRC")],
    out: PreparedOption,
    aus: TablesOption = None,
    annotator: AnnotatorOption = "builtin",
    size: SizeOption = 128,
    cluster: ClusterOption = None,
    step: Annotated[int, typer.Option(min=1, help="Take every so many frames of the apex.")] = 5,
) -> None:
    """The MMI Facial Expression Database: the first frame of each video and those of its apex.

    Try:

        eggan prepare mmi MMI/Sessions -o data/mmi --step 3
    """
    from eggan.data.mmi import list_mmi
    from eggan.prepare import choose_reader, prepare

    typer.echo(prepare(list_mmi(source, step), source, out, *choose_reader(annotator, aus), size, cluster))


@prepare_app.command("folder")
def prepare_folder(
    source: Annotated[
        str,
        typer.Argument(
            help="Folder with a sub-folder a person, Parquet shards with columns image, identity and emotion, here or "
            "at an address; or a CSV file,identity,emotion.",
            metavar="SRC",
        ),
    ],
    out: PreparedOption,
    aus: TablesOption = None,
    annotator: AnnotatorOption = "builtin",
    size: SizeOption = 128,
    cluster: ClusterOption = None,
) -> None:
    """Your own photographs, videos and shards.

    Try:

        eggan prepare folder people/ -o faces.parquet

        eggan prepare folder people.csv -o data/mine --aus aus.csv

        eggan prepare folder "s3://lab/shards/*.parquet" -o data/lab
    """
    from eggan.data.folder import list_folder
    from eggan.prepare import choose_reader, prepare

    typer.echo(prepare(list_folder(source, out), source, out, *choose_reader(annotator, aus), size, cluster))


@app.command()
def train(
    preset: Annotated[
        str,
        typer.Option(
            help="small, portrait-pairs, portrait, small-paper-autoencoder, small-paper or paper; of a rival small or "
            "paper."
        ),
    ] = "small",
    method: Annotated[str, typer.Option(help="eggan, stargan, homointerpgan or ganimation.")] = "eggan",
    data: Annotated[Path | None, typer.Option(help="Faces file to learn from.")] = None,
    val: Annotated[Path | None, typer.Option(help="Faces file of other people, for the sample grids.")] = None,
    init: Annotated[
        str | None, typer.Option(help="Start from these weights: a shipped name, a run or a folder.", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Run folder; runs/PRESET or runs/METHOD-PRESET.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="A setting, as losses.identity=0.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and parameter counts only.")
    ] = False,
) -> None:
    """Train a model; the same command again goes on where it stopped.

    Try:

        eggan train --preset small --set steps=2000 --out runs/mine

        eggan train --preset portrait --init portrait --data mine.parquet --val others.parquet --out runs/tuned

        eggan train --method stargan --preset small --set network.labels=action_units
    """
    from eggan.training.config import load_config, load_rival_config
    from eggan.training.loop import Stopped, describe
    from eggan.training.loop import train as run

    own = [f"{key}={value}" for key, value in (("data", data), ("val", val), ("init", init)) if value is not None]
    settings = [*(changes or []), *own]
    config = load_config(preset, settings) if method == "eggan" else load_rival_config(method, preset, settings)
    if dry_run:
        typer.echo(describe(config), nl=False)
        return
    try:
        typer.echo(run(config, out or Path("runs") / (preset if method == "eggan" else f"{method}-{preset}")))
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
    from eggan.rivals import load_model

    loaded = {name: load_model(name) for name in models}
    typer.echo(run_evaluation(loaded, data, choose_judges(judge, verify, data), out, protocol=protocol, quick=quick))


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A shipped name, or a folder with weights.", metavar="MODEL")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, .onnx.")],
) -> None:
    """Write a model as one ONNX file: the whole edit at the model's size, any batch, opset 20.

    The module `eggan.export` says what its inputs and outputs are. Wherever a MODEL is asked for to edit with, such a
    file may be given.

    Try:

        eggan export small -o small.onnx

        eggan edit me.jpg -o smile.jpg --au 12=4 --model small.onnx
    """
    from eggan.export import export_onnx
    from eggan.model import EGGAN

    if out.suffix.lower() != ".onnx":
        raise EgganError(f"{out} must end in .onnx.")
    export_onnx(EGGAN.from_pretrained(model), out)
    _written(out)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to serve at; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
) -> None:
    """Edit photographs on a page in the browser; nothing leaves this machine.

    Try:

        eggan serve

        eggan serve --port 8000
    """
    from eggan.page.server import serve as run

    run(host, port, _say)


@app.command()
def models() -> None:
    """List the models that come with the package, the default first."""
    from eggan.editor import shipped_models

    for name, model in shipped_models().items():
        parameters = sum(p.numel() for p in model.parameters())
        typer.echo(
            f"{name:14}{model.config.network.form:9}{model.config.image_size:4} px{parameters / 1e6:8.2f} M parameters"
        )


def _targets(au: list[str] | None, emotion: str | None, like: Path | None, relative: bool) -> dict[int, float]:
    """What is asked for by name; what `--like` asks for is read when the editor is there."""
    if not au and emotion is None and like is None:
        raise EgganError("Say what to change: --au 12=4, --emotion happy, or --like OTHER.jpg.")
    if emotion is not None and like is not None:
        raise EgganError("--emotion and --like both set all Action Units: give one of them.")
    if (emotion is not None or like is not None) and relative:
        which = "--emotion" if emotion is not None else "--like"
        raise EgganError(f"{which} sets all Action Units, so --relative does not go with it; name AUs by --au.")
    targets = whole_expression(parse_emotion(emotion)) if emotion is not None else {}
    named: dict[int, float] = {}
    for number, value in (parse_action_unit(text, relative=relative) for text in au or []):
        if number in named:
            raise EgganError(f"AU {number} is given twice, as {named[number]:g} and as {value:g}: give it once.")
        named[number] = value
    return targets | named


def _check_local(*places: str) -> None:
    """Refuse addresses where files are meant; `Path` has made one slash of two."""
    for place in places:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", place):
            raise EgganError(
                f"{place} is an address, and this works on files: copy it to this machine, or write shards "
                "(docs/bulk.md)."
            )


def _like(editor: Editor, photo: Path | None) -> dict[int, float]:
    """All 17 Action Units of the largest face of another photograph."""
    return {} if photo is None else dict(zip(NUMBERS, editor.action_units(photo), strict=True))


def _written(path: Path) -> None:
    typer.echo(os.fsencode(path))  # as bytes: not every file's name is UTF-8


def _say(line: str) -> None:
    typer.echo(f"eggan: {line}", err=True)


def main() -> None:
    """Entry point of `eggan`: a user's mistake is one sentence on standard error and exit code 1."""
    try:
        app()
    except EgganError as error:
        _say(str(error))
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        _say(f"{os.fsdecode(error.filename)}: {error.strerror}.")
        sys.exit(1)


if __name__ == "__main__":
    main()
