"""The Gradio page: what stands where, and which of the desk's answers goes where."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial, wraps
from pathlib import Path
from typing import Any

import gradio as gr

from eggan.action_units import ACTION_UNITS, EMOTIONS, MAX_INTENSITY
from eggan.errors import EgganError
from eggan.page.desk import KINDS, STEP, Desk, Start

__all__ = ["FACES", "layout"]

FACES = Path(__file__).parent / "faces"
REGIONS = tuple(dict.fromkeys(unit.region for unit in ACTION_UNITS))
COMMAND = "The same as a command"
FIRST = "Drop a photograph first, or click an example."
WAITING = 24
"""Requests that wait; one more is told that the page is busy."""
AT_ONCE = 2
USE = (
    "Not to deceive anybody about what a person felt, said or did; not without the person's consent; not to judge "
    "people by their faces. Every saved file says that it was edited by AI: leave that in. Your pictures never leave "
    "the machine that serves this page."
)


def layout(desk: Desk) -> gr.Blocks:
    """The page over a desk."""
    with gr.Blocks(title="eggan", analytics_enabled=False, delete_cache=(60, 7200)) as page:
        gr.HTML("<h1>eggan</h1><p>Change the expression in a photograph, and keep the person.</p>", elem_id="title")
        start = gr.State()
        with gr.Row(elem_id="pictures"):
            with gr.Column(elem_id="source", min_width=280):
                photo = _photo_box("Photograph", "photo", 300)
                gr.HTML("Or an example, somebody who does not exist:", elem_id="hint")
                with gr.Row(elem_id="examples"):
                    examples = {
                        path: gr.Button(f"Example {number}", icon=path, size="sm", min_width=40)
                        for number, path in enumerate(sorted(FACES.glob("*.webp")), 1)
                    }
            with gr.Column(elem_id="edited", min_width=280):
                with gr.Tabs():
                    with gr.Tab("Edited"):
                        result = gr.Image(
                            label="Edited",
                            elem_id="result",
                            alt_text="The edited photograph",
                            height=300,
                            interactive=False,
                            buttons=["fullscreen"],
                        )
                    with gr.Tab("Before and after"):
                        wipe = gr.ImageSlider(
                            label="Before and after", elem_id="wipe", max_height=300, interactive=False, buttons=[]
                        )
                message = gr.HTML(_said(FIRST), elem_id="message")
        with gr.Row(visible=False) as choice:
            numbered = gr.Image(
                label="Faces",
                alt_text="The faces with their numbers",
                interactive=False,
                buttons=[],
                height=240,
                min_width=280,
            )
            face = gr.Radio(_choices([0]), label="Which face", info="0 is the largest.", elem_id="face", min_width=280)
        with gr.Row(elem_id="emotions"):
            buttons = {
                name: gr.Button(name.capitalize(), size="sm", min_width=110) for name in EMOTIONS if name != "neutral"
            }
            own = gr.Button("As it was", size="sm", elem_id="own", min_width=110)
        strength = gr.Slider(0, 1, 1, step=0.05, label="Strength of the emotion", elem_id="strength", buttons=[])
        sliders = _sliders()
        with gr.Row(elem_id="more"):
            with gr.Column(min_width=280):
                other = _photo_box("Expression of another photograph", "other", 190)
            with gr.Column(min_width=280):
                kind = gr.Dropdown(
                    list(KINDS), value=next(iter(KINDS)), label="Save as", elem_id="kind", filterable=False
                )
                save = gr.Button("Make the file", variant="primary", elem_id="save")
                saved = gr.File(
                    label="Your file, marked as edited by AI",
                    elem_id="saved",
                    interactive=False,
                    height=90,
                    visible=False,
                )
        command = gr.Textbox(label=COMMAND, elem_id="command", interactive=False, buttons=["copy"], max_lines=4)
        gr.HTML(f"<h2>What it must not be used for</h2><p>{USE}</p>", elem_id="use")

        edited: list[Any] = [result, wipe, command, message]
        setting: list[Any] = [start, *sliders, *edited]
        answer = partial(_answer, desk)
        light: dict[str, Any] = {"concurrency_id": "edit", "concurrency_limit": AT_ONCE, "show_progress": "hidden"}

        @_says(len(setting) + 3)
        def opened(path: str | None) -> list[Any]:
            if path is None:
                return [
                    gr.update(visible=False),
                    None,
                    gr.update(choices=_choices([0]), value=None),
                    *_nothing(),
                    _said(FIRST),
                ]
            found = desk.open(Path(path))
            first = desk.own(Path(path), found.faces[0])
            radio = gr.update(choices=_choices(found.faces), value=found.faces[0])
            several = gr.update(visible=len(found.faces) > 1)
            return [several, found.numbered, radio, *_set(first), *answer(path, found.faces[0], first, first.sliders)]

        @_says(len(edited))
        def moved(path: str | None, face: int | None, start: Start | None, *values: float) -> list[Any]:
            return answer(path, face, start, values)

        @_says(len(setting))
        def as_it_was(path: str | None, face: int | None) -> list[Any]:
            first = desk.own(*_given(path, face))
            return [*_set(first), *answer(path, face, first, first.sliders)]

        @_says(len(setting))
        def like(other: str | None, path: str | None, face: int | None) -> list[Any]:
            _given(path, face)
            if other is None:
                return as_it_was(path, face)
            first = desk.like(Path(other))
            return [*_set(first), *answer(path, face, first, first.sliders)]

        @_says(len(setting))
        def stronger(strength: float, path: str | None, face: int | None, start: Start | None) -> list[Any]:
            emotion = start.option.removeprefix("--emotion ").partition(":")[0] if start is not None else ""
            if emotion not in EMOTIONS:
                return [gr.skip()] * len(setting)
            return felt(emotion, strength, path, face)

        @_says(len(setting))
        def felt(emotion: str, strength: float, path: str | None, face: int | None) -> list[Any]:
            _given(path, face)
            first = desk.emotion(emotion, strength)
            return [*_set(first), *answer(path, face, first, first.sliders)]

        @_says(2)
        def written(path: str | None, face: int | None, start: Start | None, kind: str, *values: float) -> list[Any]:
            place, number = _given(path, face)
            start = start or desk.own(place, number)
            file = str(desk.save(place, number, start, values, kind))
            return [gr.update(value=file, visible=True), _said("")]

        where = [photo, face]
        for path, button in examples.items():
            button.click(partial(str, path), None, photo, api_visibility="private", queue=False, show_progress="hidden")
        photo.change(opened, photo, [choice, numbered, face, *setting], api_name="open", **light)
        face.input(as_it_was, where, setting, api_name="face", **light)
        own.click(as_it_was, where, setting, api_name="as_it_was", **light)
        for name, button in buttons.items():
            button.click(partial(felt, name), [strength, *where], setting, api_name=name, **light)
        strength.input(
            stronger, [strength, *where, start], setting, api_name="strength", trigger_mode="always_last", **light
        )
        other.change(like, [other, *where], setting, api_name="like", **light)
        gr.on(
            [slider.input for slider in sliders],
            moved,
            [*where, start, *sliders],
            edited,
            api_name="edit",
            trigger_mode="always_last",
            **light,
        )
        save.click(
            written,
            [*where, start, kind, *sliders],
            [saved, message],
            api_name="save",
            concurrency_id="save",
            concurrency_limit=1,
        )
        page.load(js=f"() => document.querySelector('#command textarea').setAttribute('aria-label', '{COMMAND}')")
        for block in page.blocks.values():
            if isinstance(block, gr.Image | gr.ImageSlider | gr.File):
                block.example_payload = lambda: None  # type: ignore[method-assign]  # Gradio's are on other hosts
    page.queue(max_size=WAITING, default_concurrency_limit=AT_ONCE)
    return page


def _sliders() -> list[gr.Slider]:
    """One for each Action Unit, in the order of the vector, by the region of the face."""
    sliders = {}
    with gr.Row(elem_id="sliders"):
        for region in REGIONS:
            with gr.Group(elem_classes=["region", region.split()[0]]):
                gr.HTML(f"<h2>{region.capitalize()}</h2>")
                for unit in ACTION_UNITS:
                    if unit.region == region:
                        sliders[unit.number] = gr.Slider(
                            0,
                            MAX_INTENSITY,
                            0,
                            step=STEP,
                            label=f"AU {unit.number} {unit.name}",
                            info=unit.muscle,
                            elem_id=f"au{unit.number}",
                            buttons=[],
                        )
    return [sliders[unit.number] for unit in ACTION_UNITS]


def _photo_box(label: str, name: str, height: int) -> gr.Image:
    """A place to drop or take a photograph; its file is handed on as it came, and comes from the visitor only."""
    box: Any = gr.Image(  # what it does with a file is changed below
        label=label,
        elem_id=name,
        type="filepath",
        sources=["upload", "webcam", "clipboard"],
        height=height,
        buttons=[],
        webcam_options=gr.WebcamOptions(mirror=False),
    )
    take = box.async_move_resource_to_block_cache

    async def local(place: str | Path | None) -> str | None:
        if "://" in str(place):
            raise gr.Error("Give a file, not an address: nothing is fetched.", print_exception=False)
        return await take(place)

    box.async_move_resource_to_block_cache = local
    box.preprocess = lambda payload: payload.path if payload else None
    return box


def _answer(desk: Desk, path: str | None, face: int | None, start: Start | None, values: Sequence[float]) -> list[Any]:
    """What is shown of an edit: the picture, the wipe, the command and no message."""
    place, number = _given(path, face)
    start = start or desk.own(place, number)
    edited = str(desk.edit(place, number, start, values))
    before = str(desk.open(place).shown)
    return [edited, (before, edited), desk.command(place, number, start, values), _said("")]


def _given(path: str | None, face: int | None) -> tuple[Path, int]:
    if path is None or face is None:
        raise EgganError(FIRST)
    return Path(path), int(face)


def _says(count: int) -> Callable[[Callable[..., list[Any]]], Callable[..., list[Any]]]:
    """A user's mistake is one sentence in the last of so many outputs, and the others stay as they are."""

    def decorate(handler: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
        @wraps(handler)
        def safe(*given: Any) -> list[Any]:  # noqa: ANN401
            try:
                return handler(*given)
            except EgganError as error:
                return [*[gr.skip()] * (count - 1), _said(str(error))]

        return safe

    return decorate


def _said(sentence: str) -> str:
    return f'<p role="status">{html.escape(sentence)}</p>'


def _set(start: Start) -> list[Any]:
    return [start, *start.sliders]


def _nothing() -> list[Any]:
    """No start, sliders at 0, no picture, no wipe, no command."""
    return [None, *[0.0] * len(ACTION_UNITS), None, None, ""]


def _choices(faces: Sequence[int]) -> list[tuple[str, int]]:
    return [(f"Face {number}", number) for number in faces]
