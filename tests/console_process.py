"""``lfr-control console`` as a process, with a fault that begins when it is told to: what its tests share.

``python -m tests.console_process FAULT --config control.toml`` runs the real command after one of ``FAULTS`` has
been put in place; SIGUSR1 begins it. Nothing of this is known to the program itself.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[1]
PASSWORD = "correct horse battery"
begun = threading.Event()
"""Set by SIGUSR1."""


def raising(owner: Any, name: str, error: Callable[[], BaseException]) -> None:
    """Let ``owner.name`` raise once the fault has begun."""
    before = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        if begun.is_set():
            raise error()
        return before(*args, **options)

    setattr(owner, name, wrapped)


def killed(owner: Any, name: str, *, after: bool) -> None:
    """Let SIGKILL end the process right before ``owner.name``, or right after it."""
    before = getattr(owner, name)

    def wrapped(*args: Any, **options: Any) -> Any:
        if begun.is_set() and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        result = before(*args, **options)
        if begun.is_set():
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


def fault(name: str) -> None:
    import uvicorn

    from edge.controlroom import service
    from edge.controlroom.intake import Intake
    from edge.controlroom.receive import Receiver
    from edge.controlroom.service import ControlRoom
    from edge.controlroom.store import AlertStore

    def unforeseen() -> RuntimeError:
        return RuntimeError("nobody thought of this")

    match name:
        case "receiver":
            raising(Intake, "judge", unforeseen)
        case "network callback":
            raising(Receiver, "_queue", unforeseen)
        case "escalation":
            raising(ControlRoom, "escalate", unforeseen)
        case "retention":
            service.RETENTION_S = 0.2
            raising(ControlRoom, "erase_due", unforeseen)
        case "page":
            raising(uvicorn.Server, "on_tick", unforeseen)
        case "escalation hangs":
            service.SILENT_S = 1.0
            escalate = ControlRoom.escalate

            def hangs(room: ControlRoom) -> None:
                if begun.is_set():
                    threading.Event().wait()
                escalate(room)

            ControlRoom.escalate = hangs  # type: ignore[method-assign]
        case "escalation hangs with the log":
            from edge.controlroom import serve

            service.SILENT_S, serve.END_S = 1.0, 6.0
            looks = ControlRoom.escalate

            def keeps(room: ControlRoom) -> None:
                if begun.is_set():
                    with room._audit._lock:  # type: ignore[attr-defined]
                        threading.Event().wait()
                looks(room)

            ControlRoom.escalate = keeps  # type: ignore[method-assign]
        case "a library's thread":
            tick = ControlRoom.escalate

            def starts_one(room: ControlRoom) -> None:
                if begun.is_set():
                    threading.Thread(target=dict.popitem, args=({},), name="a library's thread").start()
                    begun.clear()
                tick(room)

            ControlRoom.escalate = starts_one  # type: ignore[method-assign]
        case "killed before the receipt":
            killed(Receiver, "_confirm", after=False)
        case "killed after the receipt":
            killed(Receiver, "_confirm", after=True)
        case "killed before the acknowledgement":
            killed(ControlRoom, "hear", after=True)
        case "small cache":  # as a large store has
            opened = AlertStore.__init__

            def shrinks(store: AlertStore, *args: Any, **options: Any) -> None:
                opened(store, *args, **options)
                store.sealed.read("PRAGMA cache_size = 10")

            AlertStore.__init__ = shrinks  # type: ignore[method-assign]
        case "quick retention":
            service.RETENTION_S = 0.2
        case "":
            pass


class ConsoleProcess:
    """A running control room, and an officer who is signed in over HTTP."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.cookie = ""

    def begin(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        headers = {"cookie": self.cookie, "origin": self.url}
        connection.request(method, path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        for given in answer.headers.get_all("set-cookie") or []:
            if given.startswith("lfr_session="):
                self.cookie = given.split(";")[0]
        body = answer.read().decode("utf-8", "replace")
        connection.close()
        return answer.status, body

    def queue(self) -> str:
        """What stands beside every alert: the state of the control room, and the list. Plain text."""
        status, body = self.ask("GET", "/queue")
        assert status == 200, body
        return " ".join(re.sub(r"<[^>]*>", " ", body).replace("&#39;", "'").split())

    def until(self, *words: str, seconds: float = 15.0) -> str:
        """Ask until every one of ``words`` is on the page."""
        deadline = time.monotonic() + seconds
        while True:
            text = self.queue()
            if all(each in text for each in words):
                return text
            assert time.monotonic() < deadline, f"the page never said {words}: {text}"
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Wait for the end; exit code and standard error."""
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@contextmanager
def console(folder: Path, port: int, what: str = "") -> Iterator[ConsoleProcess]:
    """Run the control room of ``folder``, whose file must say ``console.port``; sign in as op-1."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.console_process", what, "--config", str(folder / "control.toml")],
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    made = ConsoleProcess(process, port)
    try:
        deadline = time.monotonic() + 30
        while not made.cookie:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the page does not answer"
            try:
                made.ask("POST", "/signin", {"number": "op-1", "password": PASSWORD})
            except OSError:
                time.sleep(0.05)
        yield made
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.communicate(timeout=30)
            finally:
                process.kill()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda *_: begun.set())
    fault(sys.argv.pop(1))
    sys.argv = ["lfr-control", "console", *sys.argv[1:]]
    from edge.controlroom.cli import main

    main()
