"""The repository over HTTPS, where the server misbehaves. Real TLS on loopback."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import edge.trust.repository
from edge.errors import (
    RepositoryInvalid,
    RepositoryUnavailable,
    TargetMissing,
)
from edge.trust.repository import VanRepository
from tests.test_repository import LIST, World, begun, world

__all__ = ["begun", "world"]


class Server:
    """HTTPS on loopback that answers as it is told and counts what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.certificate = folder / "server.crt"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", folder / "server.key", "-out", self.certificate],
            check=True,
            capture_output=True,
        )  # fmt: skip
        self.asked: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] = lambda _: None
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, folder / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.address = f"https://localhost:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.close()


def over_https(server: Server, world: World) -> VanRepository:
    return VanRepository(world.folder / "van", server.address, world.root, ca=server.certificate)


def files_of(folder: Path) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        path = folder / request.path.lstrip("/")
        if not path.is_file():
            request.send_error(404)
            return
        content = path.read_bytes()
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content)

    return answer


def with_status(status: int) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", "0")
        request.end_headers()

    return answer


def test_an_address_may_end_with_a_slash(server: Server, world: World) -> None:
    server.answer = files_of(world.stick)
    van = VanRepository(world.folder / "van", server.address + "/", world.root, ca=server.certificate)
    assert van.read(LIST) == b"first list"
    assert not any("//" in path for path in server.asked)


@pytest.mark.parametrize("status", [403, 404])
def test_a_file_that_the_server_does_not_have_or_give_is_missing(status: int, server: Server, world: World) -> None:
    whole = files_of(world.stick)
    server.answer = lambda request: (with_status(status) if "targets/" in request.path else whole)(request)
    with pytest.raises(TargetMissing):
        over_https(server, world).read(LIST)


@pytest.mark.parametrize("status", [500, 503, 401, 204])
def test_a_server_that_fails_is_unavailable_and_is_asked_once(status: int, server: Server, world: World) -> None:
    server.answer = with_status(status)
    with pytest.raises(RepositoryUnavailable):
        over_https(server, world).refresh()
    assert len(server.asked) == 1


def test_a_server_that_sends_elsewhere_is_not_followed(server: Server, world: World) -> None:
    """Whoever may answer once must not choose whom the van asks next."""

    def elsewhere(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", f"{server.address}/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    server.answer = elsewhere
    with pytest.raises(RepositoryUnavailable, match="302"):
        over_https(server, world).refresh()
    assert not any("elsewhere" in path for path in server.asked)


def test_a_server_that_says_nothing_is_given_up(server: Server, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge.trust.repository, "TIMEOUT_S", 0.3)
    done = threading.Event()
    server.answer = lambda _: done.wait(20)  # type: ignore[assignment,return-value]
    try:
        with pytest.raises(RepositoryUnavailable):
            over_https(server, world).refresh()
    finally:
        done.set()


def test_a_server_that_hangs_up_is_not_asked_again(server: Server, world: World) -> None:
    def hang_up(request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True

    server.answer = hang_up
    with pytest.raises(RepositoryUnavailable):
        over_https(server, world).refresh()
    assert len(server.asked) == 1


def test_a_server_that_breaks_off_is_unavailable(server: Server, world: World) -> None:
    def half(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "5000")
        request.end_headers()
        request.wfile.write(b'{"signed"')
        request.wfile.flush()
        request.connection.close()

    server.answer = half
    with pytest.raises((RepositoryUnavailable, RepositoryInvalid)):
        over_https(server, world).refresh()


def test_a_server_that_is_not_there_is_unavailable(world: World, server: Server) -> None:
    address = server.address
    server.close()
    van = VanRepository(world.folder / "van", address, world.root, ca=server.certificate)
    with pytest.raises(RepositoryUnavailable):
        van.refresh()
    server._server.server_close = lambda: None  # type: ignore[method-assign]
    server._server.shutdown = lambda: None  # type: ignore[method-assign]
