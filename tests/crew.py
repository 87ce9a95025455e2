"""The crew's page as a real process, with tablets and officers of its own: what its tests share."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from cryptography.hazmat.primitives import serialization

from edge.web import passwords
from provisioning.site import issue, make_authority, pem
from tests.broker import free_port

PIN = "271828"
COMMANDS = Path(sys.executable).parent


def officer(number: str = "op-1", *, days: int = 10, role: str = "operator") -> dict[str, str]:
    until = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    return {"number": number, "role": role, "trained_until": until, "pin": passwords.derive(PIN.encode())}


class Keys:
    """An authority, the page's certificate, and those of two tablets of which one is enrolled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = make_authority()
        self.put("ca", authority)
        self.put("page", issue(authority, "page", timedelta(days=1), hosts=["127.0.0.1"]))
        self.tablet = self.put("tablet", issue(authority, "tablet-1", timedelta(days=1)))
        self.put("stray", issue(authority, "tablet-2", timedelta(days=1)))
        self.put("foreign", issue(make_authority(), "tablet-1", timedelta(days=1)))

    def put(self, name: str, pair: tuple) -> str:
        certificate, key = pair
        (self.folder / f"{name}.crt").write_bytes(pem(certificate))
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (self.folder / f"{name}.key").write_bytes(key.private_bytes(*form))
        (self.folder / f"{name}.key").chmod(0o600)
        return sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest()

    def context(self, who: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        if who is not None:
            context.load_cert_chain(self.folder / f"{who}.crt", self.folder / f"{who}.key")
        return context


def write_crew(folder: Path, *officers: dict[str, str], tablets: tuple[str, ...] = ()) -> None:
    named = [{"name": f"tablet-{number}", "sha256": each} for number, each in enumerate(tablets, 1)]
    (folder / "crew.json").write_text(json.dumps({"officers": officers, "tablets": named}))


class PageProcess:
    """A running page, and what a browser would keep of it."""

    def __init__(self, process: subprocess.Popen[str], port: int, tls_port: int) -> None:
        self.process = process
        self.port = port
        self.tls_port = tls_port
        self.cookies: dict[str, str] = {}

    def ask(
        self, method: str, path: str, form: dict[str, str] | None = None, *, tls: ssl.SSLContext | None = None
    ) -> tuple[int, str]:
        status, body = self.raw(path, method, form, tls=tls)
        return status, body.decode("utf-8")

    def raw(
        self, path: str, method: str = "GET", form: dict[str, str] | None = None, *, tls: ssl.SSLContext | None = None
    ) -> tuple[int, bytes]:
        port = self.tls_port if tls else self.port
        connection: http.client.HTTPConnection
        if tls:
            connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=tls)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers = {"origin": f"http{'s' if tls else ''}://127.0.0.1:{port}", "cookie": cookie}
            if form is not None:
                headers["content-type"] = "application/x-www-form-urlencoded"
            connection.request(method, path, urlencode(form) if form is not None else None, headers)
            answer = connection.getresponse()
            self.headers = answer.headers
            for given in answer.headers.get_all("set-cookie") or []:
                name, _, value = given.split(";")[0].partition("=")
                self.cookies[name] = value
            return answer.status, answer.read()
        finally:
            connection.close()

    def words(self, path: str = "/", **how: ssl.SSLContext) -> str:
        _, body = self.ask("GET", path, **how)
        return " ".join(re.sub(r"<[^>]*>", " ", body).replace("&#39;", "'").split())

    def sign_in(self, number: str = "op-1", pin: str = PIN, **how: ssl.SSLContext) -> tuple[int, str]:
        return self.ask("POST", "/signin", {"number": number, "pin": pin}, **how)


@contextmanager
def page_of(folder: Path, text: str | None = None) -> Iterator[PageProcess]:
    """``lfr-edge page`` for the van of this folder; ``text`` is its configuration, else the file that is there."""
    port, tls_port = free_port(), free_port()
    if text is not None:
        (folder / "lfr.toml").write_text(text.replace("TLS_PORT", str(tls_port)))
    process = subprocess.Popen(
        [str(COMMANDS / "lfr-edge"), "page", "--config", str(folder / "lfr.toml"), "--port", str(port)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        made = PageProcess(process, port, tls_port)
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the page does not answer"
            try:
                made.ask("GET", "/")
                break
            except OSError:
                time.sleep(0.05)
        yield made
    finally:
        process.terminate()
        try:
            process.communicate(timeout=30)
        finally:
            process.kill()
