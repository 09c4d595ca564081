"""Serves the page to this machine: no telemetry, and nothing on it from another host, which the browser enforces."""

from __future__ import annotations

import os
import re
import signal
import socket
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from eggan.editor import Editor
from eggan.errors import EgganError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

__all__ = ["make_app", "serve"]

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
POLICY = (
    "default-src 'self' blob: data:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
"""What a browser loads for this page: from this server only."""
FOREIGN = re.compile(r"<meta\b[^>]*https?://[^>]*>")
"""Gradio's own picture and address, for social networks."""
LOCAL = ("localhost", "127.0.0.1", "::1")
CSS = Path(__file__).with_name("page.css")


def make_app(editor: Editor, folder: Path, host: str = "127.0.0.1") -> FastAPI:
    """The page as an application for any ASGI server.

    Args:
        editor: does the edits.
        folder: for uploads and results; its owner removes it.
        host: the address it will be bound to. Where that is this machine's own, requests for other names are refused,
            so that no site can reach the page through a name of its own.

    Raises:
        EgganError: Gradio is not installed.
    """
    os.environ |= {**QUIET, "GRADIO_TEMP_DIR": str(folder / "uploads")}  # read by Gradio as it is imported
    try:
        import gradio as gr
        from fastapi import FastAPI
        from starlette.responses import PlainTextResponse, Response
    except ImportError:
        raise EgganError('The page is made with Gradio: pip install "eggan[web]".') from None
    from eggan.page.desk import MAX_BYTES, Desk
    from eggan.page.layout import FACES, layout

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        if host in LOCAL and request.url.hostname not in LOCAL:
            return PlainTextResponse("This page is for the machine that serves it.", status_code=403)
        response = await call_next(request)
        if response.headers.get("content-type", "").startswith("text/html"):
            body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
            headers = {k: v for k, v in response.headers.items() if k not in ("content-length", "content-encoding")}
            response = Response(FOREIGN.sub("", body.decode()), response.status_code, headers)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    results = folder / "results"
    results.mkdir()
    gr.set_static_paths(results)
    font, mono = ("ui-sans-serif", "system-ui", "sans-serif"), ("ui-monospace", "monospace")
    return gr.mount_gradio_app(
        app,
        layout(Desk(editor, results)),
        "/",
        server_name=host,
        footer_links=[],
        run_history=False,
        allowed_paths=[str(FACES)],
        max_file_size=MAX_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(font=font, font_mono=mono).set(block_info_text_color="*neutral_600"),
        css=CSS.read_text(encoding="utf-8"),
    )


def serve(host: str, port: int, say: Callable[[str], object]) -> None:
    """Serve the page until it is interrupted.

    Raises:
        EgganError: Gradio is not installed, or the address cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="eggan-", ignore_cleanup_errors=True) as folder:
        listening = _listen(host, port)
        app = make_app(Editor.from_pretrained(), Path(folder), host)
        import uvicorn

        say(f"The page is at http://{host}:{port} (Ctrl-C ends it).")
        if host not in LOCAL:
            say("Everybody who can reach this machine can use it.")
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the folder goes then, too
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listening])


def _listen(host: str, port: int) -> socket.socket:
    """A socket of that address, taken before any work is done."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)  # who comes before the page is there waits for it
    except OSError as error:
        listening.close()
        raise EgganError(
            f"The page cannot be served at {host}:{port} ({error.strerror}): try another "
            f"{'--host' if isinstance(error, socket.gaierror) else '--port'}."
        ) from None
    return listening
