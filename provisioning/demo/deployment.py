"""A site, a broker, a control room and a van on loopback, each as the process that it is in the field."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import tomli_w
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from edge.assembly.mandate import AUDIT_FILE
from edge.errors import EnvironmentFault, VideoUnreadable
from provisioning.broker import write_broker
from provisioning.demo.footage import LEAVING, Footage
from provisioning.demo.incidents import Incidents
from provisioning.demo.office import PLACE, Office
from provisioning.demo.script import PORTRAITS
from provisioning.demo.show import OFFICER, Pages
from provisioning.site import CONTROL_ROOM, enrol_van, init_site
from provisioning.sources import Record, Source, Subject, read_folder

__all__ = ["Deployment", "Result"]

VAN = "van-demo"
DEPLOYMENT = "demo-deployment"
SIBLING = "SUBJECT-001's brother, SUBJECT-009"
"""As the office records a sibling: it goes with the list, and with an alert to whoever decides."""
START_S = 30.0
"""How long a part may take to say that it is up."""
TAIL_S = 10.0
"""How long the control room may take for the last alert after the van has ended."""


@dataclass(slots=True)
class Result:
    """What came out of a deployment.

    Attributes:
        alerts: what the control room printed for each alert.
        refused: messages that the control room refused.
        health: the van's own counters at the end.
        forgotten: passages that were forgotten, as the van reported them.
        incomplete: what of the video could not be read, in words; empty when all of it was.
        began: wall clock (POSIX seconds) at which the van began to watch.
        receipt: the destruction of the list.
        verified: what verifying the audit log found.
        folder: where pictures and logs lie.
    """

    folder: Path
    alerts: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    health: dict[str, Any] = field(default_factory=dict)
    forgotten: list[dict[str, Any]] = field(default_factory=list)
    incomplete: str = ""
    began: float = 0.0
    receipt: dict[str, Any] = field(default_factory=dict)
    verified: dict[str, Any] = field(default_factory=dict)

    @property
    def audit_log(self) -> Path:
        """The van's audit log."""
        return self.folder / "van" / "state" / AUDIT_FILE


class Deployment:
    """Sets everything up on entering; ends every process on leaving, whatever happened.

    Args:
        folder: empty; everything goes here.
        footage: what is watched and who is looked for.
        console: where a person reads along.
        threshold: cosine similarity; None for the van's default.
        live: play the video at its own speed.
        pages: where their addresses go.
    """

    def __init__(
        self,
        folder: Path,
        footage: Footage,
        console: Console,
        *,
        threshold: float | None,
        live: bool,
        pages: Pages | None = None,
    ) -> None:
        self._folder = folder
        self._footage = footage
        self._console = console
        self._threshold = threshold
        self._live = live
        self._said: queue.SimpleQueue[tuple[str, dict[str, Any] | None]] = queue.SimpleQueue()
        self._ends = ExitStack()
        self._result = Result(folder)
        self._pages = pages or Pages(console, opened=False)
        self.incidents = Incidents(footage.leaves, self._revoke, self._lose_broker, self._bring_broker_back)
        """What happened in the middle."""

    def __enter__(self) -> Self:
        with ExitStack() as ends:
            self._set_up(ends)
            self._ends = ends.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    # -- setting up --------------------------------------------------------------------------------

    def _set_up(self, ends: ExitStack) -> None:
        folder, say = self._folder, self._console.print
        say("[bold]1  Keys.[/bold] A site, its control room and one van; certificates for mutual TLS.")
        self._port = _free_port()
        init_site(folder / "site", ("localhost", "127.0.0.1"), self._port)
        enrol_van(VAN, folder / "site", folder / "van")

        say("[bold]2  The office.[/bold] A list from photographs, encrypted to the van, and a signed authority.")
        self._office = office = Office(folder / "office", DEPLOYMENT, VAN)
        office.enrol_van(folder / "van")
        report = office.build_list(self._source())
        counts = f"{report['entries']} subject(s) from {report['templates']} of {report['pictures']} picture(s)"
        say(f"   {counts}; {report['digest'][:23]}…", markup=False)
        for left_out in report["refused"]:
            say(f"   left out: {left_out['file']}: {left_out['reason']}", markup=False)
        authority = office.authorise()
        say(f"   Authority until {authority.ends.astimezone():%H:%M}, for {authority.place.name}.", markup=False)
        say(f"   Public notice: {folder / 'office' / 'notice.html'}", markup=False)
        self._pages.show("The list, to be looked at before it is signed", (folder / "office" / "list.html").as_uri())
        office.publish()

        say("[bold]3  The broker[/bold], which lets each van write to its own topics only.")
        user = "root" if os.geteuid() == 0 else ""
        self._broker_conf = write_broker(folder / "site", port=self._port, address="127.0.0.1", user=user, log="stderr")
        self._start_broker(ends)

        say("[bold]4  The control room[/bold], which verifies, decrypts and shows.")
        self._control = control = folder / "site" / CONTROL_ROOM / "control.toml"
        page = _free_port()
        control.write_text(f"{control.read_text(encoding='utf-8')}\n[console]\nport = {page}\n", encoding="utf-8")
        self._pages.enrol_officer(_command("lfr-control"), control)
        self._start(ends, "console", [_command("lfr-control"), "console", "--config", str(control)], None)
        self._wait_for_port(page, "console")
        watch = ["watch", "--config", str(control), "--pictures", str(folder / "pictures"), "--json"]
        self._start(ends, "control", [_command("lfr-control"), *watch], "control")
        say(f"   Sign in as {OFFICER} with the password {self._pages.password}", markup=False)
        self._pages.show("The control room's page", f"http://127.0.0.1:{page}/")

    def _source(self) -> Source:
        """Who is on the list: everybody of the footage's folder, and whoever is to leave it."""
        record = Record(category="demonstration", lawful_basis="consent, or public domain", image_source="photograph")
        source = read_folder(self._footage.enrol, record)
        if self._footage.leaves:
            source.subjects[:] = [
                replace(subject, record=replace(record, lookalikes=(SIBLING,))) for subject in source.subjects
            ]
            source.subjects.append(Subject(self._footage.leaves, (PORTRAITS / LEAVING,), record))
        return source

    def _start_broker(self, ends: ExitStack) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise EnvironmentFault("mosquitto", "is not installed", "Run: scripts/setup")
        self._broker = self._start(ends, "broker", [program, "-c", str(self._broker_conf)], None)
        self._wait_for_port(self._port, "broker")

    # -- what happens in the middle --------------------------------------------------------------

    def _revoke(self, reference: str) -> None:
        file = self._office.revocation(reference, "the demonstration asked for it")
        self._ask("lfr-control", "revoke", str(file), "--config", str(self._control))
        self._console.print(
            f"   [bold blue]LEAVES[/bold blue] {reference} is taken off the list by a signed revocation."
        )

    def _lose_broker(self) -> None:
        _end(self._broker)
        self._console.print(
            "   [bold blue]LOST[/bold blue]   The broker is gone. The van goes on, and keeps its alerts."
        )

    def _bring_broker_back(self) -> None:
        self._start_broker(self._ends)
        self._console.print("   [bold blue]BACK[/bold blue]   The broker is there again.")

    def _write_config(self) -> Path:
        decision: dict[str, float] = {"cooldown_s": self._footage.cooldown_s}
        if self._threshold is not None:
            decision["threshold"] = self._threshold
        content = {
            "van": {"id": VAN},
            "deployment": {"id": DEPLOYMENT, "place": "a street on this machine"},
            "camera": {
                "source": str(self._footage.video),
                "pace": "live" if self._live else "every-frame",
                "max_fps": min(60.0, max(1.0, self._footage.fps)),
            },
            "decision": decision,
            "position": {"fixed": list(PLACE)},
            "clock": {"require_confirmed": False},
            "store": {"runtime": "run"},
            "repository": {"source": "../office/repository"},
            "alert": {"host": "localhost", "port": self._port},
        }
        path = self._folder / "van" / "lfr.toml"
        path.write_bytes(tomli_w.dumps(content).encode())
        return path

    def _start(self, ends: ExitStack, name: str, command: list[str], voice: str | None) -> subprocess.Popen[str]:
        log = ends.enter_context((self._folder / f"{name}.log").open("a", encoding="utf-8"))
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE if voice else log, stderr=log, text=True, cwd=self._folder
            )
        except OSError as error:
            raise EnvironmentFault(command[0], f"cannot be started ({error.strerror})", "Run: scripts/setup") from None
        ends.callback(_end, process)
        if voice is not None:
            threading.Thread(target=self._listen, args=(voice, process), daemon=True).start()
        return process

    def _listen(self, voice: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self._said.put((voice, json.loads(line)))
            except json.JSONDecodeError:
                continue
        self._said.put((voice, None))

    def _wait_for_port(self, port: int, name: str) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                probe.settimeout(0.2)
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise EnvironmentFault(f"the demo's {name}", "did not start", f"Read {self._folder / name}.log")

    # -- the deployment ----------------------------------------------------------------------------

    def run(self) -> Result:
        """Let the van watch the whole video, then destroy the list.

        Raises:
            EdgeError: a part could not start or ended early; its log is named.
        """
        config = self._write_config()
        self._console.print("[bold]5  The van[/bold] fetches authority and list, and checks every signature.")
        fetched = self._ask("lfr-edge", "fetch", "--config", str(config))
        self._console.print(f"   {fetched['entries']} subject(s), {fetched['watchlist'][:23]}…")
        self._console.print(f"[bold]6  The street.[/bold] The van watches {self._footage.video.name}.")
        with ExitStack() as ends:
            van = self._start(ends, "van", [_command("lfr-edge"), "run", "--events", "--config", str(config)], "van")
            bar = ends.enter_context(
                Progress(
                    TextColumn("  "),
                    BarColumn(),
                    TextColumn("{task.description}"),
                    TimeRemainingColumn(),
                    console=self._console,
                    transient=True,
                )
            )
            self._follow(bar, bar.add_task("starting …", total=self._footage.frames / self._footage.fps))
            code = van.wait(timeout=START_S)
        last = (self._folder / "van.log").read_text(encoding="utf-8").strip().splitlines()[-1:]
        if code == VideoUnreadable.exit_code and self._result.health.get("unreadable"):
            self._result.incomplete = last[0].removeprefix("lfr-edge: ")
            self._console.print(f"   {self._result.incomplete}", markup=False, style="red")
        elif code != 0:
            raise EnvironmentFault(
                "the van",
                f"ended with exit code {code}: {' '.join(last).rstrip('.')}",
                f"Read {self._folder / 'van.log'}",
            )
        self._console.print(
            "[bold]7  The end.[/bold] The list's key and store are destroyed; an overseer checks the log."
        )
        self._result.receipt = self._ask("lfr-edge", "retire", "--config", str(config), "--cause", "end of the demo")
        keys = str(self._folder / "site" / CONTROL_ROOM / "vans.jwks")
        self._result.verified = self._ask("lfr-control", "audit", "verify", str(self._result.audit_log), "--keys", keys)
        return self._result

    def _follow(self, bar: Progress, task: TaskID) -> None:
        result = self._result
        van_ended: float | None = None
        while True:
            wait = 0.25 if van_ended is None else 0.1
            try:
                voice, said = self._said.get(timeout=wait)
            except queue.Empty:
                voice, said = "", None
            if said is None and voice == "van":
                van_ended = time.monotonic()
                self.incidents.finish()
            elif said is None and voice == "control":
                raise EnvironmentFault("the control room", "has ended", f"Read {self._folder / 'control.log'}")
            elif said is not None:
                self._note(said, bar)
            if result.began:
                elapsed = time.time() - result.began
                line = f"{len(result.alerts)} alert(s), {len(result.forgotten)} passage(s) forgotten"
                bar.update(task, completed=elapsed, description=line)
            self.incidents.turn()
            if van_ended is not None:
                expected = result.health.get("alerts", 0)
                if len(result.alerts) >= expected or time.monotonic() - van_ended > TAIL_S:
                    return

    def _note(self, said: dict[str, Any], bar: Progress) -> None:
        result = self._result
        match said.get("event"):
            case "watching":
                result.began = time.time()
            case "forgotten":
                result.forgotten.append(said)
            case "alert" if "received_at" not in said:
                self.incidents.raised()
            case "alert":
                result.alerts.append(said)
                bar.console.print(
                    f"   [bold red]ALERT[/bold red]  {said['reference']}: {said['similarity']:.2f} against "
                    f"{said['threshold']:.2f}, seen in {said['frames']} frames → {Path(said['probe_path']).name}"
                )
                if said["lookalikes"]:
                    bar.console.print(f"          beware of: {'; '.join(said['lookalikes'])}", markup=False)
                self.incidents.heard(said["reference"])
            case "refused":
                result.refused.append(said)
                bar.console.print(f"   refused: {said['reason']}", markup=False)
            case None:
                result.health = said

    def _ask(self, command: str, *arguments: str) -> dict[str, Any]:
        """Run one of our commands with ``--json`` and return what it printed."""
        done = subprocess.run([_command(command), *arguments, "--json"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise EnvironmentFault(
                f"{command} {arguments[0]}",
                f"ended with exit code {done.returncode}: {last[0].rstrip('.')}",
                "Read above",
            )
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def _command(name: str) -> str:
    """An LFR Edge command of this Python environment."""
    return str(Path(sys.executable).parent / name)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
