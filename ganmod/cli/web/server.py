"""A server of the page for this machine alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import TCPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from ganmod.cli.web.page import Content

HOST = "127.0.0.1"
MIME_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".onnx": "application/octet-stream",
    ".params": "application/octet-stream",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    "": "text/plain; charset=utf-8",
}
HEADERS = {
    # Both let WebAssembly use threads (SharedArrayBuffer).
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; "
        "img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class PageHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of the page, 404 for everything else, and 403 for other hosts."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    server_version = "ganmod"
    sys_version = ""

    def __init__(self, content: Mapping[str, Content], *args: Any) -> None:
        self.content = content
        super().__init__(*args)

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(self.wfile.write)

    def do_HEAD(self) -> None:
        """Send the headers of a file."""
        self._answer(lambda data: None)

    def _answer(self, send: Callable[[bytes], Any]) -> None:
        name = unquote(urlsplit(self.path).path).removeprefix("/") or "index.html"
        kind = MIME_TYPES[".txt"]
        # Another site's name may lead to this machine, and its page would then be allowed to read the files.
        if self.headers["Host"] not in self.server.hosts:
            status, data = HTTPStatus.FORBIDDEN, f"open {self.server.address}\n".encode()
        elif (found := self._read(name)) is None:
            status, data = HTTPStatus.NOT_FOUND, b"not a file of this page\n"
        else:
            status, data = HTTPStatus.OK, found
            kind = MIME_TYPES.get(Path(name).suffix, "application/octet-stream")
        self.send_response(status)
        for header, text in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(data))}.items():
            self.send_header(header, text)
        self.end_headers()
        send(data)

    def _read(self, name: str) -> bytes | None:
        """A file of the page; None if it is not one, or has vanished since."""
        value = self.content.get(name)
        try:
            return value.read_bytes() if isinstance(value, Path) else value
        except OSError:
            return None

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a line per file would bury the address."""


class PageServer(ThreadingHTTPServer):
    """Serves the page on HOST; port 0 takes a free one, see `address`."""

    daemon_threads = True

    def __init__(self, content: Mapping[str, Content], port: int = 0) -> None:
        super().__init__((HOST, port), partial(PageHandler, content))

    def server_bind(self) -> None:
        """Bind without asking the system for the machine's name, which may take seconds without a network."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> list[str]:
        """What a browser on this machine calls the server; it leaves out the port 80."""
        port = "" if self.server_port == 80 else f":{self.server_port}"
        return [f"{HOST}{port}", f"localhost{port}"]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that closed its connection, as it does when a page is left."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
