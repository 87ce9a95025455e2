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

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from edge.errors import EnvironmentFault, VideoUnreadable
from provisioning.broker import write_broker
from provisioning.demo.footage import LEAVING, Footage
from provisioning.demo.incidents import Incidents
from provisioning.demo.office import Office
from provisioning.demo.script import PORTRAITS
from provisioning.demo.show import OFFICER, Pages
from provisioning.demo.vans import DEPLOYMENT, SECOND_FPS, Van
from provisioning.site import CONTROL_ROOM, enrol_van, init_site
from provisioning.sources import Record, Source, Subject, read_folder

__all__ = ["Deployment", "Result"]

VAN, SECOND = "van-demo", "van-demo-2"
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
        folder: where pictures and logs lie.
        vans: every van that came, the first one first.
        alerts: what the control room printed for each alert.
        refused: messages that the control room refused.
        incomplete: what of the video could not be read, in words; empty when all of it was.
        live: whether the film played at its own speed, and frames were dropped rather than watched late.
    """

    folder: Path
    vans: list[Van]
    alerts: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    incomplete: str = ""
    live: bool = True


class Deployment:
    """Sets everything up on entering; ends every process on leaving, whatever happened.

    Args:
        folder: empty; everything goes here.
        footage: what is watched and who is looked for.
        console: where a person reads along.
        threshold: score that raises an alert; None for the van's default.
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
        self.vans = [Van(VAN, folder / "van", footage.fps)]
        if footage.leaves and live:
            self.vans.append(Van(SECOND, folder / "van-2", SECOND_FPS))
        self._result = Result(folder, self.vans, live=live)
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
        say("[bold]1  Keys.[/bold] A site, its control room and its vans; certificates for mutual TLS.")
        self._port = _free_port()
        init_site(folder / "site", ("localhost", "127.0.0.1"), self._port)
        for van in self.vans:
            enrol_van(van.name, folder / "site", van.folder)

        say("[bold]2  The office.[/bold] A list from photographs, encrypted to the van, and a signed authority.")
        self._office = office = Office(folder / "office", DEPLOYMENT, *(van.name for van in self.vans))
        for van in self.vans:
            office.enrol_van(van.folder, van.name)
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
        if len(self.vans) > 1:
            self._bring_second_van()

    def _lose_broker(self) -> None:
        _end(self._broker)
        self._console.print(
            "   [bold blue]LOST[/bold blue]   The broker is gone. The vans go on, and keep their alerts."
        )

    def _bring_broker_back(self) -> None:
        self._start_broker(self._ends)
        self._console.print("   [bold blue]BACK[/bold blue]   The broker is there again.")

    def _bring_second_van(self) -> None:
        """It fetches by itself, and hears with its connection who has left the list meanwhile."""
        van = self.vans[1]
        self._console.print(f"   [bold blue]COMES[/bold blue]  A second van: {van.name}.")
        self._watch(self._ends, van)

    def _watch(self, ends: ExitStack, van: Van) -> None:
        command = [_command("lfr-edge"), "run", "--events", "--config", str(van.config)]
        van.process = self._start(ends, van.name, command, van.name)

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
        """Let the vans watch the whole video, then destroy the lists.

        Raises:
            EdgeError: a part could not start or ended early; its log is named.
        """
        first = self.vans[0]
        for van in self.vans:
            van.configure(self._footage, self._port, live=self._live, threshold=self._threshold)
        self._console.print("[bold]5  The van[/bold] fetches authority and list, and checks every signature.")
        fetched = self._ask("lfr-edge", "fetch", "--config", str(first.config))
        self._console.print(f"   {fetched['entries']} subject(s), {fetched['watchlist'][:23]}…")
        self._console.print(f"[bold]6  The street.[/bold] The van watches {self._footage.video.name}.")
        columns = (TextColumn("  "), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with ExitStack() as ends:
            self._watch(ends, first)
            bar = ends.enter_context(Progress(*columns, console=self._console, transient=True))
            self._follow(bar, bar.add_task("starting …", total=self._footage.frames / self._footage.fps))
            for van in self._running:
                self._ended(van)
        self._console.print(
            "[bold]7  The end.[/bold] The list's key and store are destroyed; an overseer checks the log."
        )
        keys = str(self._folder / "site" / CONTROL_ROOM / "vans.jwks")
        for van in self._running:
            van.receipt = self._ask("lfr-edge", "retire", "--config", str(van.config), "--cause", "end of the demo")
            van.verified = self._ask("lfr-control", "audit", "verify", str(van.audit_log), "--keys", keys)
        return self._result

    @property
    def _running(self) -> list[Van]:
        """The vans that came."""
        return [van for van in self.vans if van.process is not None]

    def _ended(self, van: Van) -> None:
        assert van.process is not None
        code, log = van.process.wait(timeout=START_S), self._folder / f"{van.name}.log"
        last = log.read_text(encoding="utf-8").strip().splitlines()[-1:]
        if code == VideoUnreadable.exit_code and van.health.get("unreadable"):
            self._result.incomplete = last[0].removeprefix("lfr-edge: ")
            self._console.print(f"   {self._result.incomplete}", markup=False, style="red")
        elif code != 0:
            cause = f"ended with exit code {code}: {' '.join(last).rstrip('.')}"
            raise EnvironmentFault(van.name, cause, f"Read {log}")

    def _follow(self, bar: Progress, task: TaskID) -> None:
        result, first = self._result, self.vans[0]
        by_name = {van.name: van for van in self.vans}
        ended_at = 0.0
        while True:
            try:
                voice, said = self._said.get(timeout=0.1 if ended_at else 0.25)
            except queue.Empty:
                voice, said = "", None
            if said is None and voice in by_name:
                by_name[voice].ended = True
                if all(van.ended for van in self._running):
                    ended_at = time.monotonic()
                    self.incidents.finish()
            elif said is None and voice == "control":
                raise EnvironmentFault("the control room", "has ended", f"Read {self._folder / 'control.log'}")
            elif said is not None and voice in by_name:
                self._heard_of_van(by_name[voice], said)
            elif said is not None:
                self._heard_of_room(said, bar)
            last = max(self._running, key=lambda van: van.began)
            if first.began:
                elapsed = time.time() - last.began if last.began else 0.0
                forgotten = sum(len(van.forgotten) for van in self._running)
                line = f"{len(result.alerts)} alert(s), {forgotten} passage(s) forgotten"
                bar.update(task, completed=elapsed, description=line)
            self.incidents.turn()
            if ended_at:
                expected = sum(van.health.get("alerts", 0) for van in self._running)
                if len(result.alerts) >= expected or time.monotonic() - ended_at > TAIL_S:
                    return

    def _heard_of_van(self, van: Van, said: dict[str, Any]) -> None:
        match said.get("event"):
            case "watching":
                van.began = time.time()
            case "forgotten":
                van.forgotten.append(said)
            case "alert":
                self.incidents.raised()
            case None:
                van.health = said

    def _heard_of_room(self, said: dict[str, Any], bar: Progress) -> None:
        result = self._result
        if said.get("event") == "refused":
            result.refused.append(said)
            bar.console.print(f"   refused: {said['reason']}", markup=False)
        elif said.get("event") == "alert":
            result.alerts.append(said)
            bar.console.print(
                f"   [bold red]ALERT[/bold red]  {said['reference']}: score {said['score']:.2f} against "
                f"{said['threshold']:.2f}, {said['van']}, in {said['frames']} frames → {Path(said['probe_path']).name}"
            )
            if said["lookalikes"]:
                bar.console.print(f"          beware of: {'; '.join(said['lookalikes'])}", markup=False)
            self.incidents.heard(said["reference"])

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
