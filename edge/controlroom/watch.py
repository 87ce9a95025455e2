"""``lfr-control watch``: alerts as lines for people or for machines, pictures as files where a person asks for them.

What has been shown is kept no longer, but for its identifier: the store is only a queue. The pictures that
``--pictures`` writes lie outside it in plain files; they are erased when their retention is over, while a watch runs
and when the next one starts. A store that no watch has used for as long is erased by the control room
(:func:`edge.controlroom.recovery.erase_unused`).
"""

from __future__ import annotations

import contextlib
import os
import queue
import re
import sys
import threading
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

import msgspec
from rich.console import Console
from rich.text import Text

from edge.alert.publish import LinkState
from edge.clock import Clock, SystemClock
from edge.commandline import plain
from edge.controlroom import config as configuration
from edge.controlroom.numbering import Verdict
from edge.controlroom.receive import (
    Arrived,
    LinkChanged,
    Receiver,
    ReceiverEvent,
    Refused,
    VanHealth,
    VanState,
    connect,
)
from edge.controlroom.recovery import erase_kept, former_inbox, open_store
from edge.controlroom.store import AlertStore
from edge.custody.shred import shred
from edge.errors import BrokerUnavailable, EdgeError, EnvironmentFault, StoreDamaged
from edge.records import Alert, AlertRef
from edge.trust.secret import CREDENTIAL, read_secret
from edge.worker import Supervisor, Worker

__all__ = ["Watch"]

CHECK_S, ERASE_S = 1.0, 60.0
"""How often it is looked whether all is well, and for what is to be erased."""
PICTURE = re.compile(r".+-\d{6,}-[0-9a-f-]{36}-(probe|reference)\.jpg")
"""Names of the files that ``--pictures`` writes, and no others."""
MOST_WAITING = 100
"""Events that may wait to be printed; after a kill as many may be printed a second time."""


class Watch:
    """Prints what a receiver tells.

    Args:
        store: where alerts are, and marked when they have been shown.
        retention: how long they are kept there.
        pictures: folder for pictures, or None.
        as_json: JSON lines instead of text.
        health: whether to print counters.
        clock: for the retention.
    """

    def __init__(
        self,
        store: AlertStore,
        retention: timedelta,
        pictures: Path | None,
        *,
        as_json: bool,
        health: bool,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._retention = retention
        self._clock: Clock = clock or SystemClock()
        self._pictures = pictures
        self._as_json = as_json
        self._health = health
        self._waiting: queue.Queue[ReceiverEvent] = queue.Queue(MOST_WAITING)
        self._ending = threading.Event()
        self._printed: list[AlertRef] = []
        self._console = Console(highlight=False, soft_wrap=True)
        self._problems = Console(stderr=True, highlight=False, soft_wrap=True)
        self._receiver: Receiver | None = None
        self._trouble: EdgeError | None = None

    @classmethod
    def prepare(
        cls,
        config: Path,
        *,
        host: str | None,
        port: int | None,
        pictures: Path | None,
        as_json: bool,
        name: str,
        health: bool,
    ) -> Self:
        """Read configuration and keys and open the store.

        The watcher proves who it is with its own certificate: ``name`` with ``.crt`` and ``.key``, beside the control
        room's. Under the control room's own it is the control room, and gives receipts; every other only listens.

        Raises:
            ConfigInvalid: the configuration is wrong.
            KeyUnusable: a key or certificate is.
            StoreUnavailable: the store is.
        """
        settings = configuration.load(config)
        own = settings.broker.certificate
        certificate = _beside(own, f"{name}.crt")
        is_the_room = certificate in {own, str(Path(own))}
        broker = msgspec.structs.replace(
            settings.broker,
            host=host or settings.broker.host,
            port=port or settings.broker.port,
            certificate=certificate,
            certificate_key=_beside(settings.broker.certificate_key, f"{name}.key"),
        )
        settings = msgspec.structs.replace(settings, broker=broker)
        if pictures is not None:
            try:
                pictures.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise EnvironmentFault(
                    str(pictures), f"cannot be used for pictures ({error.strerror})", "Give another --pictures"
                ) from None
        key = read_secret(settings.store.key, Path(settings.base))
        folder, retention = settings.path(settings.store.directory), timedelta(hours=settings.store.retention_h)
        path = folder / f"{Path(name).name}.watch.db"
        with contextlib.suppress(OSError):
            os.utime(path)  # or the control room, to whom it is unused, might erase it this very moment
        store = open_store(
            path,
            key,
            opens_cases=False,
            former=[former_inbox(folder / f"{Path(name).name}.db")],
            retention=retention,
        )
        watch = cls(store, retention, pictures, as_json=as_json, health=health)
        watch._receiver = connect(settings, name, store, watch._hear, confirms=is_the_room)
        return watch

    def _hear(self, event: ReceiverEvent) -> None:
        """On the receiver's thread: a reader that is slow slows the receiver down, and the broker keeps the rest."""
        while not self._ending.is_set():
            with contextlib.suppress(queue.Full):
                self._waiting.put(event, timeout=0.2)
                return
            if self._receiver is not None:
                self._receiver.beat()

    def _erase(self, worker: Worker) -> None:
        while not worker.stopping:
            try:
                now = self._clock.now()
                os.utime(self._store.path)  # in use, however quiet it is
                self._store.erase_due(now)
                erase_kept(self._store, now, self._retention)
                self._erase_pictures(now)
            except StoreDamaged:
                raise
            except OSError as error:
                self._complain(f"what is old cannot be erased ({error.strerror}): check the disk")
            except EnvironmentFault as error:
                self._complain(error)
            worker.wait(ERASE_S)

    def _erase_pictures(self, now: datetime) -> None:
        """Erase the pictures that a watch wrote longer ago than the retention."""
        for path in self._pictures.glob("*.jpg") if self._pictures is not None else ():
            if PICTURE.fullmatch(path.name) and path.stat().st_mtime <= (now - self._retention).timestamp():
                shred(path)

    def run(self, count: int | None, timeout: float | None) -> None:
        """Print until ``count`` alerts were shown or ``timeout`` seconds have passed.

        Raises:
            BrokerUnavailable: fewer than ``count`` alerts came in time.
            EnvironmentFault: a picture cannot be written.
            WorkerFailed: the receiver or the erasure of old alerts failed.
        """
        assert self._receiver is not None
        deadline = None if timeout is None else time.monotonic() + timeout
        shown = 0
        supervisor = Supervisor()
        for damage in self._store.unaudited_damages():
            self._complain(
                f"{damage.store} was damaged and is kept as {damage.kept}; {damage.carried} rows of it were saved"
            )
            self._store.mark_audited(damage)
        self._receiver.start(supervisor)
        erasing = supervisor.start("retention", self._erase, silent_s=2 * ERASE_S)
        try:
            while count is None or shown < count:
                left = CHECK_S if deadline is None else min(CHECK_S, deadline - time.monotonic())
                if not supervisor.check() and supervisor.failure is not None:
                    raise supervisor.failure
                if left <= 0:
                    break
                try:
                    event = self._waiting.get(timeout=left)
                except queue.Empty:
                    continue
                shown += self._show(event)
                if self._waiting.empty() or len(self._printed) >= MOST_WAITING:
                    self._mark_shown()
        finally:
            self._ending.set()
            if all([self._receiver.stop(), erasing.stop()]):
                self._mark_shown()
                self._store.close()
        if count is not None and shown < count:
            raise self._trouble or BrokerUnavailable(
                "alerts", f"{shown} of {count} arrived within {timeout:g} s", "Check that the van and the broker run"
            )

    def _show(self, event: ReceiverEvent) -> int:
        match event:
            case Arrived():
                self._show_alert(event)
                return 1
            case Refused(topic, error):
                self._print(
                    {"event": "refused", "topic": topic, "kind": type(error).__name__, "reason": str(error)},
                    Text(plain(f"REFUSED  {topic}: {error}"), "bold red"),
                )
            case VanState(body):
                self._print(
                    {"event": "state", "van": body.van, "state": body.state, "since": body.since},
                    Text(f"van {body.van} is {body.state}", "red" if body.state == "lost" else "dim"),
                )
            case VanHealth(body) if self._health:
                content = msgspec.to_builtins(body)
                self._print({"event": "health", **content}, Text(plain(f"van {body.van}: {content}"), "dim"))
            case LinkChanged(state, trouble):
                self._trouble = trouble
                if trouble is not None:
                    self._complain(trouble)
                elif not self._as_json:
                    words = {
                        LinkState.ONLINE: "listening",
                        LinkState.AWAY: "the broker cannot be reached; trying again",
                    }
                    if state in words:
                        self._problems.print(words[state], style="dim")
            case _:
                pass
        return 0

    def _show_alert(self, arrived: Arrived) -> None:
        alert, acceptance = arrived.alert, arrived.acceptance
        paths = self._write_pictures(alert) if self._pictures else {}
        if acceptance.missing:
            first, last = acceptance.missing
            self._print(
                {"event": "gap", "van": alert.van, "first": first, "last": last},
                Text(f"GAP  van {alert.van}: alerts {first} to {last} have not arrived", "bold yellow"),
            )
        if acceptance.verdict is Verdict.RESTARTED:
            self._print(
                {"event": "restarted", "van": alert.van, "sequence": alert.sequence},
                Text(f"van {alert.van} counts its alerts from {alert.sequence} again", "yellow"),
            )
        fields = {name: getattr(alert, name) for name in alert.__slots__ if not name.endswith("_jpeg")}
        latency = (arrived.received_at - alert.raised_at).total_seconds() * 1000
        self._print(
            {
                "event": "alert", **fields, "received_at": arrived.received_at, "latency_ms": round(latency, 1),
                "late": acceptance.verdict is Verdict.LATE, **paths,
            },
            _for_people(alert, paths),
        )  # fmt: skip
        self._printed.append(alert.ref)

    def _mark_shown(self) -> None:
        if self._printed:
            self._store.forget_shown(*self._printed)
            self._printed.clear()

    def _write_pictures(self, alert: Alert) -> dict[str, str]:
        assert self._pictures is not None
        stem = f"{alert.van}-{alert.sequence:06d}-{alert.alert_id}"
        paths = {}
        for kind, content in (("probe", alert.probe_jpeg), ("reference", alert.reference_jpeg)):
            path = self._pictures / f"{stem}-{kind}.jpg"
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(content)
            except OSError as error:
                raise EnvironmentFault(
                    str(path), f"cannot be written ({error.strerror})", "Make room or give another --pictures"
                ) from None
            paths[f"{kind}_path"] = str(path)
        return paths

    def _complain(self, words: object) -> None:
        self._problems.print(f"lfr-control: {plain(words)}", style="red", markup=False)

    def _print(self, content: dict[str, Any], text: Text) -> None:
        if self._as_json:
            sys.stdout.write(msgspec.json.encode(content).decode() + "\n")
            sys.stdout.flush()
        else:
            self._console.print(text)


def _beside(spec: str, name: str) -> str:
    """``name`` where ``spec`` is: in the same folder, or a credential likewise."""
    return f"{CREDENTIAL}{name}" if spec.startswith(CREDENTIAL) else str(Path(spec).with_name(Path(name).name))


def _for_people(alert: Alert, paths: dict[str, str]) -> Text:
    seen = alert.seen_at.astimezone()
    reached = f"similarity {alert.similarity:.3f}"
    if alert.score is not None:
        reached += f", score {alert.score:.3f}"
    text = Text(f"ALERT  {plain(alert.reference)}", "bold")
    text.append(f"  {plain(alert.category)}", "default not bold")
    text.append(
        f"\n       {seen:%H:%M:%S}  van {alert.van} no. {alert.sequence}"
        f"{', ' + plain(alert.place) if alert.place else ''}"
        f"\n       {reached}, threshold {alert.threshold:.3f}; "
        f"{alert.votes} agreeing searches over {alert.frames} frames; eyes {alert.eye_distance:.0f} px apart",
        "default not bold",
    )
    if alert.lookalikes:
        text.append(f"\n       siblings or look-alikes: {plain('; '.join(alert.lookalikes))}", "default not bold")
    for name, path in paths.items():
        text.append(f"\n       {name.removesuffix('_path')}: {path}", "dim not bold")
    return text
