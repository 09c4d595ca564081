"""The page as a person uses it: Chromium, by mouse and by keyboard, on a desk and on a phone.

Debian's `apt-get install chromium` brings the browser. Without it these tests are left out, except in CI, where they
fail: the page must not land unseen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import PATIENCE, Page
from PIL import Image
from playwright.sync_api import Browser, Locator, expect, sync_playwright
from playwright.sync_api import Page as Tab

from eggan.action_units import NUMBERS
from eggan.editor import Editor
from eggan.page.layout import FACES
from eggan.provenance import explain

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "CI" not in os.environ, reason="there is no Chromium: apt-get install chromium"
)
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
expect.set_options(timeout=1000 * PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM, "CI must have Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Browser, page: Page, size: dict[str, int]) -> Tab:
    tab = browser.new_page(viewport=size)
    tab.set_default_timeout(1000 * PATIENCE)
    tab.goto(page.url)
    expect(tab.get_by_role("button", name="Example 1")).to_be_visible()
    return tab


@pytest.fixture
def tab(browser: Browser, page: Page) -> Iterator[Tab]:
    tab = opened(browser, page, DESK)
    yield tab
    tab.close()


def command(tab: Tab) -> Locator:
    return tab.get_by_label("The same as a command")


def slider(tab: Tab, number: int) -> Locator:
    return tab.locator(f"#au{number}").get_by_role("slider")


def example(tab: Tab, number: int = 5) -> str:
    """Click an example; its edited picture, which is as it was."""
    tab.get_by_role("button", name=f"Example {number}").click()
    return picture(tab, after=None)


def picture(tab: Tab, after: str | None) -> str:
    """The address of the edited picture once it is another one."""
    image = tab.locator("#result img")
    if after is not None:
        expect(image).not_to_have_attribute("src", after)
    return str(image.get_attribute("src"))


def seen(tab: Tab) -> np.ndarray:
    """The pixels of the edited picture as the browser has them."""
    drawn = tab.locator("#result img").evaluate(
        """async image => {
            await image.decode();
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const pen = canvas.getContext("2d");
            pen.drawImage(image, 0, 0);
            return [canvas.width, canvas.height, ...pen.getImageData(0, 0, canvas.width, canvas.height).data];
        }"""
    )
    return np.array(drawn[2:], dtype=int).reshape(drawn[1], drawn[0], 4)[..., :3]


def test_an_example_made_happy_with_lowered_brows_is_downloaded_with_its_mark(tab: Tab, tmp_path: Path) -> None:
    first = example(tab)
    before = seen(tab)
    tab.get_by_role("button", name="Happy").click()
    second = picture(tab, after=first)
    happy = seen(tab)
    assert (np.abs(happy - before).max(axis=2) > 30).mean() > 0.01
    expect(command(tab)).to_have_value("eggan edit face-0123.webp -o face-0123-edited.jpg --emotion happy")
    expect(slider(tab, 12)).to_have_value("4.5")
    slider(tab, 4).focus()
    tab.keyboard.press("End")
    picture(tab, after=second)
    expect(command(tab)).to_have_value("eggan edit face-0123.webp -o face-0123-edited.jpg --emotion happy --au 4=5")
    assert (np.abs(seen(tab) - happy).max(axis=2) > 15).mean() > 0.005
    tab.get_by_role("button", name="Make the file").click()
    with tab.expect_download() as download:
        tab.locator("#saved a[download]").first.click()
    download.value.save_as(tmp_path / "saved.jpg")
    record = explain(tmp_path / "saved.jpg")
    target = record["edits"][0]["target"]
    assert record["ai_edited"] and (target["AU04_r"], target["AU12_r"]) == (5.0, 4.5)
    assert b"compositeWithTrainedAlgorithmicMedia" in (tmp_path / "saved.jpg").read_bytes()


def test_an_animation_is_exported(tab: Tab, tmp_path: Path) -> None:
    first = example(tab)
    tab.get_by_role("button", name="Surprised").click()
    picture(tab, after=first)
    tab.get_by_label("Save as").click()
    tab.get_by_role("option", name="Animation, GIF").click()
    tab.get_by_role("button", name="Make the file").click()
    with tab.expect_download() as download:
        tab.locator("#saved a[download]").first.click()
    download.value.save_as(tmp_path / "saved.gif")
    with Image.open(tmp_path / "saved.gif") as gif:
        assert gif.n_frames > 10
    assert explain(tmp_path / "saved.gif")["ai_edited"]


def test_a_bad_upload_is_one_sentence_and_the_page_goes_on(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "notes.jpg").write_text("no picture")
    Image.new("RGB", (8000, 5000)).save(tmp_path / "forty.png")
    upload = tab.locator("#photo input[type=file]")
    message = tab.locator("#message [role=status]")
    upload.set_input_files(tmp_path / "notes.jpg")
    expect(message).to_contain_text("notes.jpg cannot be read")
    tab.locator("#photo").get_by_label("Clear").or_(tab.locator("#photo button[title*=emove]")).first.click()
    upload.set_input_files(tmp_path / "forty.png")
    expect(message).to_contain_text("more than 25 million pixels")
    assert example(tab)
    expect(message).to_have_text("")


def test_the_wipe_holds_both_pictures(tab: Tab) -> None:
    first = example(tab)
    tab.get_by_role("button", name="Angry").click()
    second = picture(tab, after=first)
    tab.get_by_role("tab", name="Before and after").click()
    sources = {tab.locator("#wipe img").nth(k).get_attribute("src") for k in range(2)}
    assert second in sources and len(sources) == 2


def test_of_several_faces_one_is_chosen(tab: Tab, group: Image.Image, tmp_path: Path) -> None:
    group.save(tmp_path / "group.png")
    tab.locator("#photo input[type=file]").set_input_files(tmp_path / "group.png")
    tab.get_by_label("Face 1").click()
    own = Editor.from_pretrained().action_units(group, face=1)
    for number, value in zip(NUMBERS, own, strict=True):
        expect(slider(tab, number)).to_have_value(f"{round(value, 1):g}")
    expect(tab.locator("#message [role=status]")).to_have_text("")
    slider(tab, 26).focus()
    tab.keyboard.press("End")
    expect(command(tab)).to_have_value("eggan edit group.png -o group-edited.jpg --au 26=5 --face 1")


def test_everything_is_reached_by_keyboard_and_has_a_name(tab: Tab) -> None:
    example(tab)
    reached = set()
    for _ in range(120):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.closest('[id]')?.id ?? ''"))
    assert sum(name.startswith("range_id") for name in reached) == 18  # seventeen and the strength
    nameless = tab.evaluate(
        """[...document.querySelectorAll("button, input, textarea, select")].filter(e => {
            if (!e.checkVisibility() || e.type === "file") return false;
            const labels = [...(e.labels ?? [])].map(l => l.textContent).join("");
            const drawn = e.querySelector("img")?.alt;
            return !(drawn || e.getAttribute("aria-label") || e.textContent.trim() || labels.trim() || e.title);
        }).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert nameless == []


def test_the_browser_asks_this_server_only(browser: Browser, page: Page) -> None:
    tab = browser.new_page(viewport=DESK)
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.url)
    example(tab)
    assert asked and all(url.startswith((page.url, "data:", "blob:")) for url in asked)
    tab.close()


def test_a_phone_shows_it_without_scrolling_sideways_and_keeps_the_result_in_sight(
    browser: Browser, page: Page
) -> None:
    tab = opened(browser, page, PHONE)
    example(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    slider(tab, 26).scroll_into_view_if_needed()
    tab.locator("#au26").evaluate("element => element.scrollIntoView({block: 'end'})")
    expect(tab.locator("#result img")).to_be_in_viewport()
    tab.close()


def test_every_example_is_one_click_away(tab: Tab) -> None:
    assert tab.get_by_role("button", name="Example").count() == len(list(FACES.glob("*.webp")))
