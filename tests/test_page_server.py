"""`eggan serve` over HTTP, as a stranger and as a client sees it: to this machine alone, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import PATIENCE, Page
from gradio_client import Client, handle_file
from PIL import Image

from eggan.action_units import NUMBERS
from eggan.page.desk import MAX_BYTES
from eggan.page.layout import AT_ONCE, FACES, WAITING
from eggan.page.server import _listen
from eggan.provenance import explain

EXAMPLE = FACES / "face-0123.webp"
http = httpx.Client(timeout=PATIENCE)


class Visitor:
    """Somebody with the page open: a session of their own, as a browser has one."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.client = Client(page.url, verbose=False, download_files=str(folder), httpx_kwargs={"timeout": PATIENCE})

    def open(self, path: Path) -> dict[str, Any]:
        _, _, *sliders, result, wipe, command, message = self.client.predict(handle_file(str(path)), api_name="/open")
        return {"sliders": sliders, "result": result, "wipe": wipe, "command": command, "message": message}

    def ask(self, name: str, path: Path, *given: object) -> Sequence[Any]:
        return self.client.predict(*given, handle_file(str(path)), 0, api_name=f"/{name}")


@pytest.fixture
def visitor(page: Page, tmp_path: Path) -> Visitor:
    return Visitor(page, tmp_path / "downloads")


def test_the_page_listens_to_this_machine_only(page: Page) -> None:
    with socket.create_connection(("127.0.0.1", page.port), timeout=PATIENCE):
        pass
    with pytest.raises(OSError):  # a server bound to every address would answer here too
        socket.create_connection(("127.0.0.2", page.port), timeout=PATIENCE)


def test_nothing_that_is_served_names_another_host(page: Page) -> None:
    html = http.get(page.url).text
    assert "eggan" in html
    texts = [html, http.get(f"{page.url}/config").text, http.get(f"{page.url}/gradio_api/info").text]
    texts.append(http.get(f"{page.url}/theme.css").text)
    for text in texts:
        hosts = set(re.findall(r"https?:\\?/\\?/([^/\\\"'\s)?:]+)", text))
        assert hosts <= {"127.0.0.1", "www.w3.org"}, hosts


def test_a_browser_is_told_to_load_nothing_from_elsewhere(page: Page) -> None:
    policy = http.get(page.url).headers["content-security-policy"]
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert sources <= {"'self'", "blob:", "data:", "'unsafe-inline'", "'unsafe-eval'"}


def test_requests_by_another_name_are_refused(page: Page) -> None:
    assert http.get(page.url, headers={"Host": f"localhost:{page.port}"}).status_code == 200
    assert http.get(page.url, headers={"Host": "evil.example"}).status_code == 403


def test_a_visitor_edits_and_saves_a_marked_file(page: Page, visitor: Visitor) -> None:
    opened = visitor.open(EXAMPLE)
    assert opened["message"] == '<p role="status"></p>' and opened["command"] == ""
    *sliders, result, _, command, _ = visitor.ask("happy", EXAMPLE, 1)
    assert dict(zip(NUMBERS, sliders, strict=True))[12] == 4.5
    assert command == "eggan edit face-0123.webp -o face-0123-edited.jpg --emotion happy"
    sliders[NUMBERS.index(4)] = 2.0
    result, wipe, command, _ = visitor.client.predict(handle_file(str(EXAMPLE)), 0, *sliders, api_name="/edit")
    assert command.endswith("--emotion happy --au 4=2")
    target = explain(Path(result))["edits"][0]["target"]
    assert (target["AU04_r"], target["AU12_r"], target["AU20_r"]) == (2.0, 4.5, 0.0)
    with Image.open(wipe[0]) as before, Image.open(wipe[1]) as after:
        assert before.size == after.size and before.tobytes() != after.tobytes()
    saved, _ = visitor.client.predict(handle_file(str(EXAMPLE)), 0, "Picture, PNG", *sliders, api_name="/save")
    assert explain(Path(saved["value"]))["edits"][0]["target"] == target
    *sliders, _, _, command, _ = visitor.ask("as_it_was", EXAMPLE)
    assert (sliders, command) == (opened["sliders"], "")


def test_the_expression_of_another_photograph(visitor: Visitor) -> None:
    visitor.open(EXAMPLE)
    other = FACES / "face-0114.webp"
    *sliders, _, _, command, _ = visitor.client.predict(
        handle_file(str(other)), handle_file(str(EXAMPLE)), 0, api_name="/like"
    )
    assert sliders == visitor.open(other)["sliders"]
    assert command.endswith("--like face-0114.webp")


def test_the_strength_changes_the_emotion_that_was_chosen(visitor: Visitor) -> None:
    visitor.open(EXAMPLE)
    visitor.ask("sad", EXAMPLE, 1)
    given = (0.5, handle_file(str(EXAMPLE)), 0)
    *_, command, _ = visitor.client.predict(*given, api_name="/strength")
    assert command.endswith("--emotion sad:0.5")


def test_bad_uploads_are_one_sentence_and_the_page_goes_on(visitor: Visitor, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    Image.new("RGB", (8000, 5000)).save(tmp_path / "forty.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "black.png")
    said = {
        "notes.txt": "cannot be read",
        "broken.jpg": "cannot be read",
        "forty.png": "more than 25 million pixels",
        "black.png": "No face was found",
    }
    for name, words in said.items():
        message = visitor.open(tmp_path / name)["message"]
        assert words in message and name in message and "/" not in message.replace("</p>", ""), message
    assert visitor.open(EXAMPLE)["result"]


def test_an_upload_that_is_too_large_is_refused(page: Page) -> None:
    file = {"files": ("large.jpg", b"0" * (MAX_BYTES + 1), "image/jpeg")}
    assert http.post(f"{page.url}/gradio_api/upload", files=file).status_code == 413


def test_an_address_is_not_fetched(page: Page) -> None:
    place = {"path": "http://127.0.0.9/face.jpg", "url": None, "meta": {"_type": "gradio.FileData"}}
    answer = _called(page, "open", [place])
    assert answer.status_code == 200 and "event: error" in answer.text
    assert "127.0.0.9" not in page.contacts.read_text()


def test_a_crowd_gets_results_or_hears_that_the_page_is_busy(page: Page, visitor: Visitor) -> None:
    visitor.open(EXAMPLE)
    with EXAMPLE.open("rb") as file:
        (path,) = http.post(f"{page.url}/gradio_api/upload", files={"files": file}).json()
    crowd = 3 * (WAITING + AT_ONCE)
    with ThreadPoolExecutor(crowd) as threads:
        photo = {"path": path, "meta": {"_type": "gradio.FileData"}}
        answers = list(threads.map(lambda k: _called(page, "edit", [photo, 0, *[k % 6] * 17]), range(crowd)))
    done = [answer for answer in answers if answer.status_code == 200]
    assert done and all("event: complete" in answer.text and "-edited.jpg" in answer.text for answer in done)
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert visitor.open(EXAMPLE)["result"]


def test_the_server_asked_for_no_other_host(page: Page, visitor: Visitor) -> None:
    visitor.open(EXAMPLE)
    assert page.contacts.read_text() == ""


def test_a_port_that_is_taken_is_one_sentence(page: Page, eggan: Any) -> None:
    code, out, err = eggan("serve", "--port", page.port)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"eggan: The page cannot be served at 127\.0\.0\.1:\d+ \(.*\): try another --port\.\n", err)


def test_localhost_is_the_default() -> None:
    with _listen("127.0.0.1", 0) as listening:
        assert listening.getsockname()[0] == "127.0.0.1"


def _called(page: Page, name: str, data: list[Any]) -> httpx.Response:
    """What the page's plain interface answers: the refusal, or the events of the request."""
    asked = http.post(f"{page.url}/gradio_api/call/{name}", json={"data": data})
    if asked.status_code != 200:
        return asked
    return http.get(f"{page.url}/gradio_api/call/{name}/{json.loads(asked.text)['event_id']}")
