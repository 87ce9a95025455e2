"""Nothing dies in silence: whatever ends in a van, it matches nobody, says why everywhere, and leaves with an error."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from html import unescape
from pathlib import Path

import msgspec
import pytest

from edge.alert.outbox import Outbox
from edge.console.views import crew_page
from edge.errors import EdgeError
from edge.system.health import Health, read_status
from edge.worker import Supervisor
from tests.broker import Site
from tests.sim.rtsp import RtspCamera
from tests.van_process import Eavesdropper, Van, audit_of, office, started, van, wait_for_event  # noqa: F401

pytestmark = [pytest.mark.broker, pytest.mark.slow]

WITHIN_S = 5.0


def status(van: Van) -> Health | None:
    try:
        return read_status(van.folder / "run" / "status.json")
    except EdgeError:
        return None


def wait_for(van: Van, is_so: Callable[[Health], bool], seconds: float = 30.0) -> Health:
    """What the page would show, once it is so."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown = status(van)
        if shown is not None and is_so(shown):
            return shown
        time.sleep(0.02)
    raise AssertionError(f"it never came to that; last: {status(van)}")


def page_of(van: Van) -> str:
    shown = status(van)
    assert shown is not None
    return unescape(crew_page(shown, "", datetime.now(UTC)))


def parts(health: Health) -> set[str]:
    return {reason.part for reason in health.reasons}


@pytest.fixture
def sabotaged(van: Van, request: pytest.FixtureRequest):
    """A van that matches, whose named worker dies when the returned function is called."""
    van.fetches().watches("biden.jpg", frames=900)
    van.content["camera"]["pace"] = "live"
    if request.param == "position":
        van.content["position"] = {"gpsd": "127.0.0.1:9"}
    van.write()
    trigger = van.folder / "trigger"
    with (van.folder / "journal").open("w") as journal:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim.sabotage", request.param, str(trigger), "run", "--config",
             str(van.config)],
            stdout=subprocess.DEVNULL, stderr=journal, cwd=Path(__file__).parents[2],
        )  # fmt: skip
    yield process, trigger, request.param
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    "sabotaged",
    ["guard", "custody", "retention", "camera", "pipeline", "publisher", "report", "position", "network", "main"],
    indirect=True,
)
def test_a_worker_that_dies_stops_the_van_says_why_and_leaves_nothing(site: Site, van: Van, sabotaged) -> None:
    process, trigger, name = sabotaged
    listening = Eavesdropper(site)
    if name == "position":
        wait_for(van, lambda health: health.state == "not matching")
    else:
        wait_for(van, lambda health: health.state == "matching" and not health.reasons)
    trigger.touch()
    if name == "network":  # a connection that breaks is made again: nothing is lost by it, and nobody is told to act
        wait_for(van, lambda health: "link" in parts(health) or health.state == "failed")
        if status(van).state != "failed":
            wait_for(van, lambda health: health.state == "matching" and not health.reasons)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            return
    shown = wait_for(van, lambda health: health.state == "failed")
    code = process.wait(WITHIN_S + 10)
    died = float((van.folder / "died").read_text())
    seen = shown.at.timestamp() - died
    ended = time.time() - died
    failed = [entry["data"] for entry in audit_of(van) if entry["event"] == "service.failed"]
    journal = (van.folder / "journal").read_text()
    print(f"{name}: page after {seen:.2f} s, ended after {ended:.2f} s with {code}; {failed}")
    assert seen < WITHIN_S
    assert ended < WITHIN_S
    assert code == 5
    assert [entry["part"] for entry in failed] == [f"the {name} part"]
    assert "Sabotage" in failed[0]["cause"]
    assert f"the {name} part" in shown.why
    assert "Stopped: something is wrong" in page_of(van)
    assert "worker_failed" in journal
    assert "Traceback" not in journal
    assert "a secret that no log may hold" not in journal + page_of(van) + str(failed)
    assert json.loads((van.folder / "left").read_text()) == {"live": 0, "listed": 0, "permit": False}
    heard = [msgspec.json.decode(payload) for topic, payload in listening.stop() if topic.endswith("/state")]
    if name != "publisher":
        assert heard[-1]["condition"] == "failed"
        assert name in heard[-1]["detail"]


@pytest.mark.parametrize("sabotaged", ["slow guard"], indirect=True)
def test_a_guard_that_gives_no_answer_for_a_while_is_a_no_and_then_a_yes_again(van: Van, sabotaged) -> None:
    process, trigger, _ = sabotaged
    wait_for(van, lambda health: health.state == "matching" and not health.reasons)
    trigger.touch()
    shown = wait_for(van, lambda health: health.state == "not matching", seconds=6)
    assert shown.why == "Nobody has confirmed that matching is allowed."
    wait_for(van, lambda health: health.state == "matching")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0


@pytest.mark.parametrize("sabotaged", ["stuck end"], indirect=True)
def test_a_van_that_hangs_while_it_puts_everything_away_is_ended_and_its_memory_with_it(van: Van, sabotaged) -> None:
    process, _, _ = sabotaged
    wait_for(van, lambda health: health.state == "matching" and not health.reasons)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 5
    assert "ended by force" in (van.folder / "journal").read_text()


def test_a_van_that_is_told_to_stop_while_it_starts_stops_and_says_so(van: Van) -> None:
    van.fetches().watches("biden.jpg", frames=900)
    process = subprocess.Popen(van.command("run"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=van.folder)
    wait_for(van, lambda health: health.state == "starting" and bool(health.why))
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    shown = status(van)
    assert shown is not None
    assert shown.state == "ended"
    assert "told to stop" in shown.why
    assert "lfr.started" not in [entry["event"] for entry in audit_of(van)]


def test_a_guard_that_cannot_read_the_list_does_not_hide_that_the_authority_is_over(van: Van) -> None:
    """The list file is damaged while the van runs; the van matches nobody, and the next start has no list."""
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    wait_for(van, lambda health: health.state == "matching")
    store = next(path for path in van.list_files if path.name == "watchlist.db")
    with store.open("r+b") as file:
        os.ftruncate(file.fileno(), 100)
    shown = wait_for(van, lambda health: health.state in {"not matching", "failed"})
    assert "watchlist" in shown.why
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    process.stdout.close()


def test_a_camera_that_comes_back_does_not_make_a_refused_van_green(van: Van) -> None:
    van.fetches()
    van.content["position"]["fixed"] = [52.0, -1.0]
    with RtspCamera("crew:s3cret-word") as camera:
        van.content["camera"] = {"source": camera.address, "stall_s": 0.6, "reconnect_s": 1}
        van.write()
        with (van.folder / "journal").open("w") as journal:
            process = subprocess.Popen(van.command("run"), stdout=subprocess.DEVNULL, stderr=journal, cwd=van.folder)
        try:
            wait_for(van, lambda health: parts(health) - {"link"} == {"permission"})
            camera.mute()
            wait_for(van, lambda health: {"permission", "camera"} <= parts(health))
            camera.speak()
            shown = wait_for(van, lambda health: "camera" not in parts(health))
            assert shown.state == "not matching"
            assert "is outside" in shown.why
            camera.gone()
            shown = wait_for(van, lambda health: "camera" in parts(health))
            everything = page_of(van) + (van.folder / "run/status.json").read_text()
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        everything += (van.folder / "journal").read_text() + (van.folder / "state/audit.jsonl").read_text()
    assert f"127.0.0.1:{camera.port}" in everything
    assert "s3cret" not in everything
    assert "crew:" not in everything


@pytest.mark.parametrize(
    ("broken", "words", "code"),
    [
        (lambda van: van.content["camera"].update(source="/dev/video77"), "there is no such camera", 5),
        (lambda van: van.content["decision"].update(min_similarity=0.21), "below the authority's floor", 3),
        (lambda van: (van.folder / "van-signing.jwk").unlink(), "van-signing.jwk", 4),
        (lambda van: van.content["models"].update(embedder="nobody:none"), "nobody", 4),
    ],
    ids=["no camera", "a lax threshold", "no key", "no model"],
)
def test_why_a_van_does_not_start_is_on_the_page(van: Van, broken, words: str, code: int) -> None:
    van.fetches().watches("biden.jpg", frames=4)
    broken(van)
    van.write()
    ended = van.run("run")
    assert ended.returncode == code
    assert words in ended.stderr
    shown = status(van)
    assert shown.state == "failed"
    assert words in shown.why
    assert words in page_of(van)
    assert words in van.run("status").stdout


def test_a_van_without_a_stick_or_an_authority_says_so_on_the_page(van: Van) -> None:
    van.content["repository"]["source"] = "no-stick"
    van.write()
    van.watches("biden.jpg", frames=4)
    assert van.run("run").returncode == 3
    assert "has no authority on this van" in page_of(van)


def test_a_van_whose_broker_is_gone_goes_on_but_is_not_plainly_green(site: Site, van: Van) -> None:
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    wait_for(van, lambda health: health.state == "matching" and not health.reasons)
    assert ">Matching<" in page_of(van)
    site.stop_broker()
    shown = wait_for(van, lambda health: "link" in parts(health))
    assert shown.state == "matching"
    assert "alerts wait in the van" in shown.why
    assert ">Matching, but<" in page_of(van)
    site.start_broker()
    wait_for(van, lambda health: not health.reasons)
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_a_start_by_a_clock_that_nothing_vouches_for_destroys_nothing_and_poisons_nothing(
    site: Site, van: Van, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start 36 h ahead, then one at the right time: the list is there, and it matches."""
    van.fetches().watches("biden.jpg", frames=100)
    files = sorted(van.list_files)
    van.content["clock"]["require_confirmed"] = True
    van.write()
    ahead = "+129600"
    driver = (
        "import sys, datetime, edge.clock, edge.deployment.clock_trust as trust, pathlib\n"
        f"shift = datetime.timedelta(seconds=int({ahead!r}))\n"
        "now = edge.clock.SystemClock.now\n"
        "edge.clock.SystemClock.now = lambda self: now(self) + shift\n"
        "trust.kernel_says_synchronised = lambda: False\n"
        "trust.ClockTrust.__init__.__kwdefaults__['rtc'] = pathlib.Path('/nowhere')\n"
        "from edge.cli import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", driver, "run", "--config", str(van.config)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    shown = wait_for(van, lambda health: "clock" in parts(health) and health.state == "not matching")
    assert "has not been set since this van was switched on" in shown.why
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert sorted(van.list_files) == files
    assert "clock.unconfirmed" in [entry["event"] for entry in audit_of(van)]

    van.content["clock"]["require_confirmed"] = False
    van.write()
    process = started(van)
    wait_for(van, lambda health: health.state == "matching")
    assert "clock.confirmed" in [entry["event"] for entry in audit_of(van)]
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_the_page_tells_the_truth_although_the_disk_is_full(van: Van, tmp_path: Path) -> None:
    """The van's folder lies on a disk of a few megabytes that fills up while it matches."""
    van.fetches().watches("obama2.jpg", frames=600)
    process = started(van)
    wait_for(van, lambda health: health.state == "matching")
    limit = subprocess.run(
        ["prlimit", "--fsize=4096", "--pid", str(process.pid)], capture_output=True, text=True, check=False
    )
    assert limit.returncode == 0, limit.stderr
    shown = wait_for(van, lambda health: health.state == "failed", seconds=60)
    assert process.wait(60) == 5
    assert "state" in shown.why
    process.stdout.close()


def test_two_vans_with_one_certificate_do_not_fight_in_silence(site: Site, van: Van) -> None:
    """The second one is a copy of the first: whoever is thrown out says so, on the page and in the log, and waits."""
    van.fetches().watches("biden.jpg", frames=900)
    process = started(van)
    wait_for(van, lambda health: health.state == "matching" and not health.reasons)
    outbox = Outbox(van.folder / "copy.db", bytes(32), "van-1")
    copy = site.publisher(outbox, backoff_s=(0.05, 0.1))
    copies = Supervisor()
    copy.start(copies)
    shown = wait_for(van, lambda health: "another machine may be using the same certificate" in health.why)
    assert shown.state == "matching"
    refused = wait_for_event(van, "lfr.refused")["data"]
    assert "another machine" in refused["cause"]
    began = time.monotonic()
    while time.monotonic() - began < 12:
        assert "another machine" in status(van).why
        time.sleep(0.2)
    taken = [e for e in audit_of(van) if e["event"] == "lfr.refused" and "another machine" in e["data"]["cause"]]
    assert len(taken) == 1, "said once, and not every time"
    copy.stop()
    outbox.close()
    process.send_signal(signal.SIGTERM)
    process.communicate()
