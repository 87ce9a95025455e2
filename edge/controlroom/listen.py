"""Where the page listens: its address and certificate, and how long a connection may take.

Whoever opens connections and says nothing, or says it byte by byte, holds none of them for long: a handshake, a request
and its answer must each be through in time, and where too many connections wait for their request, the one that has
waited longest is cut. A browser sends its request in one go and never meets any of this.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import resource
import socket
from collections import OrderedDict
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.controlroom.config import ConsoleSection, ControlConfig
from edge.errors import ConfigInvalid, EnvironmentFault, KeyUnusable
from edge.trust.tls import server_names

__all__ = ["Loop", "host_names", "listening", "server", "tls"]

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


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose servers wait for a TLS handshake no longer than :data:`HANDSHAKE_S`."""

    async def create_server(self, *args: Any, **options: Any) -> Any:
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S)
        return await super().create_server(*args, **options)


class _Connection(H11Protocol):
    """uvicorn's, cut when its request or its answer takes too long."""

    def __init__(self, waiting: OrderedDict[_Connection, None], **options: Any) -> None:
        super().__init__(**options)
        self._waiting = waiting
        self._cut: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
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


def server(app: Any, config: ControlConfig) -> uvicorn.Server:
    """The web server of the page, not yet running.

    Raises:
        ConfigInvalid, KeyUnusable: see :func:`tls`.
    """
    waiting: OrderedDict[_Connection, None] = OrderedDict()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    options: dict[str, Any] = tls(config)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=lambda **given: _Connection(waiting, **given),  # type: ignore[arg-type]  # any maker of a protocol
            ws="none",
            proxy_headers=False,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=2,
            **options,
        )
    )


def tls(config: ControlConfig) -> dict[str, str]:
    """What the page needs for TLS; nothing when it listens on this machine only.

    Raises:
        ConfigInvalid: it would be open to others without TLS.
        KeyUnusable: its certificate or key is not there.
    """
    console = config.console
    if not console.certificate:
        if not _loopback(console):
            raise ConfigInvalid(
                "key console.host",
                f"is {console.host}: beyond this machine the page needs TLS",
                "Set console.certificate and console.certificate_key, or listen on 127.0.0.1",
            )
        return {}
    certificate, key = config.path(console.certificate), config.path(console.certificate_key)
    for file in (certificate, key):
        if not file.is_file():
            raise KeyUnusable(str(file), "is not there", "Give the page's certificate and key")
    return {"ssl_certfile": str(certificate), "ssl_keyfile": str(key)}


def host_names(config: ControlConfig) -> frozenset[str]:
    """Names and addresses under which the page is asked for: its certificate's, its own, those of ``console.names``.

    Raises:
        KeyUnusable: the certificate cannot be read.
    """
    console = config.console
    names = {name.lower() for name in console.names}
    names.update(server_names(config.path(console.certificate)) if console.certificate else LOOPBACK)
    return frozenset(names | {console.host.lower()})


def listening(console: ConsoleSection) -> socket.socket:
    """The page's address, taken before anything else is begun.

    Raises:
        EnvironmentFault: another program has it, or it is not this machine's.
    """
    family = socket.AF_INET6 if ":" in console.host else socket.AF_INET
    try:
        return socket.create_server((console.host, console.port), family=family, backlog=1024)
    except OSError as error:
        raise EnvironmentFault(
            f"the page's address {console.host}:{console.port}",
            f"cannot be used ({error.strerror})",
            "Stop the program that uses it, or change console.host or console.port",
        ) from None


def _loopback(console: ConsoleSection) -> bool:
    try:
        return ipaddress.ip_address(console.host).is_loopback
    except ValueError:
        return console.host == "localhost"
