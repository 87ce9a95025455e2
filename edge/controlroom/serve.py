"""``lfr-control console``: the page and the workers behind it, from their start to the end of the process.

The main thread looks after the others. When the first of them fails, the page has a moment to say so, and then the
process ends with the exit code of an environment fault, so that a service manager starts it anew. A worker that hangs
cannot hold that up.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import uvicorn

from edge.controlroom import config as configuration
from edge.controlroom.listen import host_names, tls
from edge.controlroom.service import ControlRoom
from edge.controlroom.web import Page, create_app
from edge.errors import EdgeError, EnvironmentFault, WorkerFailed
from edge.system import journal
from edge.web.listen import Loop, listening, server
from edge.web.signals import Signals
from edge.worker import JOIN_S, Supervisor, Worker

__all__ = ["serve"]

CHECK_S = 0.5
SHOW_S = 2.0
"""How long the page goes on after a failure: every browser has fetched it by then."""
FAILED_S = 3.0
"""How long a worker may take to end after another has failed."""
END_S = 20.0
"""When the process is over after a failure, whatever holds a lock that the others wait for."""
SILENT_S = 15.0
"""For so long the page's event loop may not come round."""


def serve(path: Path) -> None:
    """Run the control room until it is interrupted or told to end.

    Raises:
        ConfigInvalid: the file is wrong, or the page would be open to others without TLS.
        EdgeError: a key, a store, the log or the page's address cannot be used.
        WorkerFailed: a part of it failed.
    """
    config = configuration.load(path)
    encryption = tls(config)
    hosts = host_names(config)
    journal.configure()
    advice = "change console.host or console.port"
    with listening(config.console.host, config.console.port, advice) as listener, Signals() as signals:
        room = ControlRoom.open(config)

        def failed(failure: WorkerFailed) -> None:
            supervisor.end_in_time(END_S, EnvironmentFault.exit_code)
            room.fail(failure)

        supervisor = Supervisor(failed)
        page = Page(room, secure=bool(config.console.certificate), hosts=hosts)
        web_server = server(create_app(page), encryption)
        with supervisor.strangers():
            room.start(supervisor)
            web = supervisor.start("page", _serving(page, web_server, listener), silent_s=SILENT_S)
            while not signals.end.is_set() and not supervisor.wait(CHECK_S):
                supervisor.check()
            if supervisor.failure is not None:
                signals.end.wait(SHOW_S)
            page.end()
            web_server.should_exit = True
            web.stop(FAILED_S if supervisor.failure is not None else JOIN_S)
            _stop(room, supervisor)
            supervisor.call_off()
    if supervisor.failure is not None:
        raise supervisor.failure
    if signals.interrupted:
        raise KeyboardInterrupt


def _serving(page: Page, web_server: uvicorn.Server, listener: socket.socket) -> Callable[[Worker], None]:
    def body(worker: Worker) -> None:
        page.beat = worker.beat
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(web_server.serve(sockets=[listener]))

    return body


def _stop(room: ControlRoom, supervisor: Supervisor) -> None:
    """End the workers. After a failure nothing that a store or a worker does may keep the process from ending."""
    failure = supervisor.failure
    try:
        room.stop(FAILED_S if failure is not None else JOIN_S)
    except EdgeError:
        if failure is None:
            raise
    if supervisor.workers:
        code = EnvironmentFault.exit_code
        if failure is not None:
            print(f"lfr-control: {failure}", file=sys.stderr, flush=True)  # noqa: T201 - nobody above will
        os._exit(code)
