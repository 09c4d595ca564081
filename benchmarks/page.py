"""`eggan serve` under a crowd on this machine, and how long a slider takes to become a picture.

    OMP_NUM_THREADS=1 python benchmarks/page.py [--clients 50] [--seconds 60]

Each client is a thread with a session of its own: it uploads an example, then moves a slider again and again, as fast
as the answers come; told that the page is busy, it waits a second. Everything goes over 127.0.0.1.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image

from eggan import Editor
from eggan.action_units import NUMBERS
from eggan.page.desk import Desk
from eggan.page.layout import FACES

EXAMPLES = sorted(FACES.glob("*.webp"))


def start() -> tuple[subprocess.Popen, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "eggan.cli", "serve", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    while "The page is at" not in (line := server.stderr.readline()):
        assert line, "eggan serve ended"
    return server, f"http://127.0.0.1:{port}"


def upload(client: httpx.Client, path: Path) -> dict:
    with path.open("rb") as file:
        (place,) = client.post("/gradio_api/upload", files={"files": (path.name, file)}).json()
    return {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}


def ask(client: httpx.Client, name: str, data: list, session: str) -> str:
    """`result`, `busy`, or what went wrong."""
    asked = client.post(f"/gradio_api/call/{name}", json={"data": data, "session_hash": session})
    if asked.status_code == 503:
        return "busy"
    if asked.status_code != 200:
        return f"HTTP {asked.status_code}"
    events = client.get(f"/gradio_api/call/{name}/{json.loads(asked.text)['event_id']}").text
    return "result" if "event: complete" in events and "-edited.jpg" in events else events[-200:]


def visit(url: str, number: int, until: float) -> list[tuple[str, float]]:
    chance = random.Random(number)
    answers = []
    with httpx.Client(base_url=url, timeout=120) as client:
        photo = upload(client, EXAMPLES[number % len(EXAMPLES)])
        sliders = [0.0] * len(NUMBERS)
        while time.monotonic() < until:
            sliders[chance.randrange(len(sliders))] = chance.randrange(51) / 10
            begun = time.monotonic()
            try:
                answer = ask(client, "edit", [photo, 0, *sliders], f"visitor{number}")
            except httpx.HTTPError as error:
                answer = repr(error)
            answers.append((answer, time.monotonic() - begun))
            if answer == "busy":
                time.sleep(1)
    return answers


def memory(pid: int) -> int:
    """Resident megabytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))


def crowd(clients: int, seconds: int) -> None:
    server, url = start()
    assert server.stderr is not None
    threading.Thread(target=server.stderr.read, daemon=True).start()
    try:
        visit(url, 0, time.monotonic() + 5)  # warm
        megabytes = [memory(server.pid)]
        begun = time.monotonic()
        with ThreadPoolExecutor(clients) as threads:
            visits = [threads.submit(visit, url, number, begun + seconds) for number in range(clients)]
            while not all(done.done() for done in visits):
                time.sleep(5)
                megabytes.append(memory(server.pid))
        took = time.monotonic() - begun
    finally:
        server.terminate()
        server.wait()
    answers = [answer for done in visits for answer in done.result()]
    counted = Counter(answer for answer, _ in answers)
    waits = sorted(wait for answer, wait in answers if answer == "result")
    print(f"## {clients} clients for {seconds} s\n")
    print(f"results {counted.pop('result', 0)} ({len(waits) / took:.1f}/s), busy {counted.pop('busy', 0)}, ", end="")
    print(f"errors {sum(counted.values())} {dict(counted) or ''}")
    print(f"wait for a result: median {statistics.median(waits):.2f} s, 95 % {waits[len(waits) * 95 // 100]:.2f} s")
    print(f"resident memory every 5 s, MB: {' '.join(map(str, megabytes))}\n")


def slider() -> None:
    """Time of the desk: the generator's pass, putting back, writing the marked file; the wall's and the processor's."""
    desk = Desk(Editor.from_pretrained(device="cpu"), Path(tempfile.mkdtemp()))
    print("## Slider to picture, alone\n\n| photograph | median ms | least ms | processor ms |\n|---|---|---|---|")
    for side in (128, 256, 512, 1280):
        path = Path(tempfile.mkdtemp()) / "face.png"
        with Image.open(EXAMPLES[3]) as photo:
            photo.convert("RGB").resize((side, side), Image.Resampling.BICUBIC).save(path)
        first = desk.own(path, 0)
        times, used = [], time.process_time()
        for k in range(51):
            sliders = [*first.sliders[:-1], k / 10]
            begun = time.perf_counter()
            desk.edit(path, 0, first, sliders)
            times.append(1000 * (time.perf_counter() - begun))
        used = time.process_time() - used
        print(
            f"| {side} × {side} | {statistics.median(times):.0f} | {min(times):.0f} | {1000 * used / len(times):.0f} |"
        )
    print()


def alone() -> None:
    """One client's whole round trip over HTTP."""
    server, url = start()
    try:
        visit(url, 3, time.monotonic() + 5)
        waits = [wait for answer, wait in visit(url, 3, time.monotonic() + 15) if answer == "result"]
    finally:
        server.terminate()
        server.wait()
    with Image.open(EXAMPLES[3]) as photo:
        size = photo.size
    print(f"## One client\n\n{len(waits)} edits of {size[0]} × {size[1]} pixels one after another over HTTP: ", end="")
    print(f"median {1000 * statistics.median(waits):.0f} ms, least {1000 * min(waits):.0f} ms\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    slider()
    alone()
    crowd(arguments.clients, arguments.seconds)


if __name__ == "__main__":
    main()
