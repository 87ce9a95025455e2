"""``lfr-edge page``: the crew's page as a process of its own, on the van's screen and, over TLS, on its tablets.

Two listeners, one process. The screen in the van asks on loopback. Tablets and phones ask on the van's network, over
TLS 1.3, and only those that are enrolled: each shows a certificate of the site's authority that the list of the crew
names; whoever does not is cut off before a byte is read.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import uvicorn

from edge.config import Config, PageSection, load
from edge.console import wire
from edge.console.crew import Crew
from edge.console.pulse import Pulse
from edge.console.service import Service
from edge.console.web import CrewPage, create_app
from edge.errors import ConfigInvalid
from edge.system import journal
from edge.trust.tls import located
from edge.web.listen import LOOPBACK, Loop, Tls, host_names, listening, server
from edge.web.signals import Signals
from edge.worker import Supervisor, Worker

__all__ = ["serve"]

CHECK_S = 0.5
SILENT_S = 15.0
"""For so long the page's event loop may not come round."""


def serve(path: Path, *, port: int | None = None, ready: Callable[[tuple[str, ...]], None]) -> None:
    """Serve the page until it is interrupted or told to end.

    Args:
        path: the van's configuration.
        port: on this machine, in place of the configured one.
        ready: told of the addresses once they are taken.

    Raises:
        EnvironmentFault: an address cannot be used.
        KeyUnusable: the page's certificate or key is not there.
        WorkerFailed: it failed.
    """
    journal.configure()
    settings, config = _settings(path)
    here = settings.port if port is None else port
    tls = _tls(config) if config is not None and settings.host else None
    if tls is not None:
        tls.check()
    supervisor = Supervisor()
    with ExitStack() as parts:
        signals = parts.enter_context(Signals())
        near = parts.enter_context(listening("127.0.0.1", here, "give another --port"))
        addresses = [f"http://127.0.0.1:{here}/"]
        listeners: list[tuple[socket.socket, Tls | None, frozenset[str]]] = [(near, None, frozenset(LOOPBACK))]
        if tls is not None:
            advice = "change page.host or page.tls_port"
            far = parts.enter_context(listening(settings.host, settings.tls_port, advice))
            names = host_names(settings.host, tls.certificate, settings.names)
            listeners.append((far, tls, names))
            addresses.append(f"https://{min(names)}:{settings.tls_port}/")
        ready(tuple(addresses))
        body = _Body(path, settings, config, listeners)
        worker = supervisor.start("page", body, silent_s=SILENT_S)
        while not signals.end.is_set() and not supervisor.wait(CHECK_S):
            supervisor.check()
        body.end()
        worker.stop()
    if supervisor.failure is not None:
        raise supervisor.failure
    if signals.interrupted:
        raise KeyboardInterrupt


def _settings(path: Path) -> tuple[PageSection, Config | None]:
    """The page's settings; without a configuration that can be read, the page says what is wrong with it, here only."""
    try:
        config = load(path)
    except ConfigInvalid:
        return PageSection(), None
    return config.page, config


def _tls(config: Config) -> Tls:
    page, base = config.page, Path(config.base)
    return Tls(located(page.certificate, base), located(page.certificate_key, base), located(page.tablets, base))


class _Body:
    """What the page's worker runs."""

    def __init__(
        self,
        path: Path,
        settings: PageSection,
        config: Config | None,
        listeners: list[tuple[socket.socket, Tls | None, frozenset[str]]],
    ) -> None:
        self._path = path
        self._settings = settings
        self._crew = Crew(located(settings.crew, path.resolve().parent))
        self._socket = wire.socket_file(config) if config is not None else path.with_name("no-service")
        self._listeners = listeners
        self._servers: list[uvicorn.Server] = []
        self._pulse: Pulse | None = None

    def __call__(self, worker: Worker) -> None:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(self._serve(worker))

    def end(self) -> None:
        """Let go of whoever listens, so that the servers can end; from another thread."""
        if self._pulse is not None:
            self._pulse.ending = True
        for each in self._servers:
            each.should_exit = True

    async def _serve(self, worker: Worker) -> None:
        service = Service(self._socket)
        self._pulse = pulse = Pulse(self._path, service)
        pulse.beat = worker.beat
        for _, tls, names in self._listeners:
            page = CrewPage(self._settings, self._crew, service, pulse, secure=tls is not None, hosts=names)
            admits = None if tls is None else lambda shown: bool(self._crew.tablet(shown))
            self._servers.append(server(create_app(page), tls, admits=admits))
        if worker.stopping:
            return
        asking = asyncio.create_task(pulse.run())
        serving = [
            asyncio.create_task(each.serve(sockets=[listener]))
            for each, (listener, _, _) in zip(self._servers, self._listeners, strict=True)
        ]
        done, _ = await asyncio.wait([asking, *serving], return_when=asyncio.FIRST_COMPLETED)
        self.end()
        await asyncio.gather(*serving)
        asking.cancel()
        for each in done:
            each.result()  # what it died of, if it did
