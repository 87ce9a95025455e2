"""Where the page listens: its address and certificate, and how long a connection may take.

Whoever opens connections and says nothing, or says it byte by byte, holds none of them for long: a handshake, a request
and its answer must each be through in time, and where too many connections wait for their request, the one that has
waited longest is cut. A browser sends its request in one go and never meets any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import resource
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.errors import EnvironmentFault, KeyUnusable
from edge.trust.tls import server_names

__all__ = ["LOOPBACK", "Loop", "Tls", "host_names", "is_loopback", "listening", "server"]

HANDSHAKE_S = 5.0
REQUEST_S = 10.0
"""Longest time between two complete requests, but for the time that the answer takes."""
ANSWER_S = 30.0
"""For so long a browser may take nothing of an answer."""
MOST_WAITING = 200
"""Connections that wait for their request."""
FILES = 8192
"""Files and connections that the process asks for; an operating system gives 1,024 by itself."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")


Admits = Callable[[bytes], bool]
"""Judges a client's certificate, in DER, once its chain has been verified."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a page proves itself, and who may come.

    Attributes:
        certificate: of the page, in PEM.
        key: its private key.
        clients: certificate of the authority whose clients may connect, in PEM; None lets everybody connect.
    """

    certificate: Path
    key: Path
    clients: Path | None = None

    def check(self) -> None:
        """Find out before anything is begun whether the files are there.

        Raises:
            KeyUnusable: one is not.
        """
        for file in (self.certificate, self.key, self.clients):
            if file is not None and not file.is_file():
                raise KeyUnusable(str(file), "is not there", "Give the page's certificate and key")


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers wait for a TLS handshake no longer than :data:`HANDSHAKE_S`."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
        return await super().create_server(*args, **options)


class _Connection(H11Protocol):
    """uvicorn's, cut when its request or its answer takes too long."""

    def __init__(self, waiting: OrderedDict[_Connection, None], admits: Admits | None, **options: Any) -> None:
        super().__init__(**options)
        self._waiting = waiting
        self._admits = admits
        self._cut: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        if self._admits is not None:
            session = transport.get_extra_info("ssl_object")
            shown = session.getpeercert(binary_form=True) if session is not None else None
            if not shown or not self._admits(shown):
                self.transport.abort()
                return
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        asked = self.cycle is not None and not self.cycle.response_complete
        if asked and self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}:
            self.go_on()
        else:
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self._stuck or self.loop.call_later(ANSWER_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.go_on()
        if self._stuck is not None:
            self._stuck.cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        if self._cut is None and not self.transport.is_closing():
            self._cut = self.loop.call_later(REQUEST_S, self.transport.abort)
            self._waiting[self] = None
            if len(self._waiting) > MOST_WAITING:
                longest = next(iter(self._waiting))
                longest.go_on()
                longest.transport.abort()

    def go_on(self) -> None:
        """Its request is complete, or it is gone: nothing is waited for."""
        self._waiting.pop(self, None)
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


def server(app: Any, tls: Tls | None, *, admits: Admits | None = None) -> uvicorn.Server:
    """The web server of a page, not yet running.

    Args:
        app: the ASGI application.
        tls: how it proves itself; None on loopback.
        admits: judges each client's certificate; whoever it refuses is cut off before a byte is read.

    Raises:
        KeyUnusable: certificate and key are not there, or are no pair.
    """
    waiting: OrderedDict[_Connection, None] = OrderedDict()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    config = uvicorn.Config(
        app,
        http=lambda **given: _Connection(waiting, admits, **given),  # type: ignore[arg-type]  # any maker of a protocol
        ws="none",
        proxy_headers=False,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        **_options(tls),
    )
    if tls is not None and tls.clients is not None:
        try:
            config.load()
        except (ssl.SSLError, OSError):
            raise KeyUnusable(
                str(tls.certificate), "does not belong to its key, or one of the two is damaged", "Enrol again"
            ) from None
        assert config.ssl is not None  # there is a certificate
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_3
    return uvicorn.Server(config)


def _options(tls: Tls | None) -> dict[str, Any]:
    if tls is None:
        return {}
    tls.check()
    mine: dict[str, Any] = {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)}
    return (
        mine if tls.clients is None else {**mine, "ssl_ca_certs": str(tls.clients), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    )


def host_names(host: str, certificate: Path | None, names: tuple[str, ...] = ()) -> frozenset[str]:
    """Names and addresses under which a page is asked for: its certificate's, its own, and further ones.

    Raises:
        KeyUnusable: the certificate cannot be read.
    """
    known = server_names(certificate) if certificate is not None else frozenset(LOOPBACK)
    return frozenset({*known, *(name.lower() for name in names), host.lower()})


def listening(host: str, port: int, advice: str) -> socket.socket:
    """A page's address, taken before anything else is begun.

    Args:
        host: an address of this machine.
        port: TCP.
        advice: what to change where it is taken.

    Raises:
        EnvironmentFault: another program has it, or it is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise EnvironmentFault(
            f"the page's address {host}:{port}",
            f"cannot be used ({os.strerror(error.errno or 0)})",
            f"Stop the program that uses it, or {advice}",
        ) from None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
