"""``lfr-provision watchlist look`` and ``destroy``: a list's page on the screen, and its end in the office."""

from __future__ import annotations

import secrets
import webbrowser
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Annotated

import typer

from edge.commandline import AsJson, say, show
from edge.custody.shred import shred
from edge.errors import BadInput, EnvironmentFault
from provisioning.list_page import page_of_list, read_page
from provisioning.watchlist import KEY, MANIFEST, REPORT, STORE

__all__ = ["PageServer", "register"]

Json = Annotated[bool, AsJson]
PAGE = {".html", ".age"}


def register(app: typer.Typer) -> None:
    """Add these commands to ``watchlist``."""
    for command in (look, destroy):
        app.command(command.__name__)(command)


class PageServer(HTTPServer):
    """Serves one page from memory on this machine's loopback, under an address that nobody can guess.

    Args:
        content: the page.
        port: 0 for any that is free.

    Attributes:
        address: where it is.
    """

    def __init__(self, content: bytes, port: int = 0) -> None:
        path = f"/{secrets.token_urlsafe(32)}"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                there = secrets.compare_digest(self.path.encode(), path.encode())
                self.send_response(200 if there else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content) if there else 0))
                self.send_header("Cache-Control", "no-store")
                self.send_header("X-Content-Type-Options", "nosniff")
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()
                if there:
                    self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nobody needs to know who looked at what is on the screen."""

        super().__init__(("127.0.0.1", port), Handler)
        self.address = f"http://127.0.0.1:{self.server_address[1]}{path}"


def look(
    page: Annotated[Path, typer.Argument(help="page that watchlist build --report wrote: .html or .html.age")],
    key: Annotated[Path | None, typer.Option(help="your private age key, for an encrypted page")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="port on this machine; any that is free")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="open it")] = True,
    as_json: Json = False,
) -> None:
    """Show a list's page in the browser, without writing it in the clear anywhere. Ctrl-C ends it."""
    content = read_page(page, key)
    page_of_list(page, content, "")
    try:
        server = PageServer(content, port)
    except OSError as error:
        raise EnvironmentFault(f"port {port}", f"cannot be used ({error.strerror})", "Leave --port out") from None
    lines = [server.address, "Ctrl-C ends it. Close the browser's window, too: it holds the pictures until then."]
    show({"address": server.address}, lines, as_json=as_json)
    if browser:
        webbrowser.open(server.address)
    with server:
        server.serve_forever()


def destroy(
    what: Annotated[list[Path], typer.Argument(help="folders that watchlist build wrote, and pages")],
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: Json = False,
) -> None:
    """Destroy a list in the office, or a page: its key first, then everything that shows who was on it.

    The folder's report.json and manifest.json stay, for the next list's comparison: they hold no picture and no
    template. The pictures that were handed in are not touched.
    """
    doomed = [file for path in what for file in _doomed(path)]
    if not yes:
        for file in doomed:
            say(str(file))
        typer.confirm(f"Destroy these {len(doomed)} files? Nothing brings them back", abort=True, err=as_json)
    gone = [str(file) for file in doomed if shred(file)]
    lines = [
        *(f"{file} is destroyed." for file in gone),
        "On flash an overwritten block may live on. A list is noise without its key; a page in the clear is not.",
    ]
    show({"destroyed": gone}, lines, as_json=as_json)


def _doomed(path: Path) -> list[Path]:
    """What is to be destroyed of a folder or of a page, the key first.

    Raises:
        BadInput: it is neither.
    """
    if path.is_dir():
        key, rest = path / KEY, [path / STORE]
        if not (key.is_file() or rest[0].is_file()):
            raise BadInput(str(path), "holds no list", "Give the folder that watchlist build wrote")
        kept = {path / REPORT, path / MANIFEST, key, *rest}
        others = [file for file in sorted(path.iterdir()) if file.is_file() and file not in kept]
        rest += [file for file in others if file.suffix in {*PAGE, ".jws"} or file.name.startswith(f"{STORE}-")]
        return [file for file in (key, *rest) if file.is_file() and not file.is_symlink()]
    page_of_list(path, read_page(path), "") if path.suffix == ".html" else _is_encrypted(path)
    return [file for file in (path, path.with_name(f"{path.name}.jws")) if file.is_file()]


def _is_encrypted(path: Path) -> None:
    try:
        with path.open("rb") as file:
            begins = file.read(21)
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Give a folder of a list or a page") from None
    if path.suffix != ".age" or begins != b"age-encryption.org/v1":
        raise BadInput(
            str(path), "is neither a list nor a page", "Give the folder that watchlist build wrote, or a page"
        )
