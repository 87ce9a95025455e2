"""The crew's page as it is served: who may reach it, who may sign in, and what it does for a real van."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edge.console import wire
from edge.console.hatch import Hatch
from edge.console.wire import Answer, Done, Question, Refused, Report, decode_answer
from edge.errors import BadInput
from edge.system.health import Health, write_status
from edge.worker import Supervisor
from tests.crew import Keys, officer, page_of, write_crew

CONFIG = """
van.id = "van-1"
deployment.id = "op-1"
camera.source = "street.mp4"
store.runtime = "run"
"""
TLS = """
page.host = "127.0.0.1"
page.tls_port = TLS_PORT
"""


def health(**changes: object) -> Health:
    return Health(**{"van": "van-1", "deployment": "op-1", "state": "matching", "at": datetime.now(UTC), **changes})


class Desk:
    """What the service answers, and what it was told."""

    def __init__(self) -> None:
        self.told: list[Question] = []

    def answer(self, question: Question) -> tuple[Answer, bytes]:
        if isinstance(question, wire.AskReport):
            return Report(health()), b""
        if isinstance(question, wire.AskEnd) and question.reason == "the weather":
            raise BadInput("the deployment", "has ended already", "Do nothing")
        self.told.append(question)
        return Done(), b""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir(mode=0o700)
    return tmp_path


@pytest.fixture
def desk(folder: Path) -> Iterator[Desk]:
    """A service that listens for the page where a van's does."""
    made, workers = Desk(), Supervisor()
    hatch = Hatch(folder / "run" / "crew.sock", made.answer)
    hatch.start(workers)
    yield made
    hatch.stop()
    assert workers.failure is None


def test_a_tablet_is_let_in_by_its_certificate_and_nobody_else_is(folder: Path, desk: Desk) -> None:
    keys = Keys(folder)
    write_crew(folder, officer(), tablets=(keys.tablet,))
    with page_of(folder, CONFIG + TLS) as page:
        assert "Matching" in page.words(tls=keys.context("tablet"))
        assert page.headers["cache-control"] == "no-store"
        assert "max-age" in page.headers["strict-transport-security"]
        for stranger in (None, "foreign", "stray"):
            with pytest.raises((ssl.SSLError, OSError)):
                page.ask("GET", "/", tls=keys.context(stranger))
        write_crew(folder, officer())  # the tablet was lost, and taken off the list
        with pytest.raises((ssl.SSLError, OSError)):
            page.ask("GET", "/", tls=keys.context("tablet"))


def test_whoever_signs_in_is_in_the_audit_log_first_and_a_lapsed_training_keeps_them_out(
    folder: Path, desk: Desk
) -> None:
    write_crew(folder, officer(), officer("op-2", days=-1))
    with page_of(folder, CONFIG) as page:
        assert page.ask("GET", "/end")[0] == 303
        assert page.sign_in(pin="000000")[0] == 403
        status, body = page.sign_in("op-2")
        assert status == 403
        assert "was trained until" in body
        assert page.sign_in()[0] == 303
        assert desk.told[-1] == wire.NoteSignIn("op-1", "operator", "127.0.0.1")
        assert [each.error for each in desk.told if isinstance(each, wire.NoteSignInRefused)] == [
            "PinRefused",
            "TrainingLapsed",
        ]
        assert page.ask("GET", "/end")[0] == 200
        write_crew(folder, officer("op-2"))
        assert page.ask("GET", "/end")[0] == 303, "whoever is taken off the list is out"


def test_five_wrong_pins_are_enough(folder: Path, desk: Desk) -> None:
    write_crew(folder, officer())
    with page_of(folder, CONFIG) as page:
        assert [page.sign_in(pin=f"00000{number}")[0] for number in range(6)] == [403] * 5 + [429]
        assert page.sign_in()[0] == 429


def test_nobody_signs_in_while_the_audit_log_cannot_have_it(folder: Path) -> None:
    write_crew(folder, officer())
    with page_of(folder, CONFIG) as page:
        status, body = page.sign_in()
        assert status == 503
        assert "nobody can sign in" in body
        assert page.ask("GET", "/end")[0] == 303


def test_the_end_needs_a_reason_a_tick_and_an_officer(folder: Path, desk: Desk) -> None:
    write_crew(folder, officer())
    good = {"reason": "a technical fault", "sure": "yes"}
    with page_of(folder, CONFIG) as page:
        assert page.ask("POST", "/end", good)[0] == 303
        page.sign_in()
        for form in ({"sure": "yes"}, {"reason": "a technical fault"}, {"reason": "because", "sure": "yes"}):
            assert page.ask("POST", "/end", form)[0] == 400
        status, body = page.ask("POST", "/end", {"reason": "the weather", "sure": "yes"})
        assert status == 403
        assert "has ended already" in body
        assert not [each for each in desk.told if isinstance(each, wire.AskEnd)]
        assert page.ask("POST", "/end", good)[0] == 200
        assert desk.told[-1] == wire.AskEnd("op-1", "a technical fault")


def test_a_service_that_does_not_answer_is_shown_as_it_last_was_and_a_wrong_configuration_is_named(
    folder: Path,
) -> None:
    with page_of(folder, CONFIG) as page:
        assert "No word from the service" in page.words()
        assert "is not there" in page.words()
        write_status(folder / "run/status.json", health())
        assert "Matching" in page.words()
        assert page.headers["content-security-policy"].startswith("default-src 'none'")
        (folder / "run/status.json").write_bytes(b"{")
        assert "is damaged" in page.words()
        (folder / "lfr.toml").write_text(CONFIG + "camera.sauce = 1\n")
        assert "camera.sauce" in page.words()


def asked(folder: Path, content: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        with wire.reachable(folder / "run/crew.sock") as short:
            connection.connect(short)
        connection.sendall(content)
        found = b""
        while part := connection.recv(65536):
            found += part
        return found


def test_the_hatch_survives_nonsense_and_reads_no_more_than_it_should(folder: Path, desk: Desk) -> None:
    assert asked(folder, (wire.LONGEST_TEXT + 1).to_bytes(4, "big")) == b""
    for nonsense in (b"{}", b"[" * 100_000, b"\xff" * 9, b'{"type":"AskEnd","by":"","reason":""}'):
        answer = asked(folder, len(nonsense).to_bytes(4, "big") + nonsense)
        assert isinstance(decode_answer(answer[4:-4]), Refused)
    good = wire.encode(wire.AskReport())
    assert isinstance(decode_answer(asked(folder, good)[4:-4]), Report)
    assert (folder / "run/crew.sock").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to ask as somebody else")
def test_the_hatch_turns_other_accounts_away_before_it_reads(folder: Path, desk: Desk) -> None:
    for each in (folder, folder / "run", *folder.parents):
        if each != Path("/"):
            each.chmod(each.stat().st_mode | 0o055)
    (folder / "run/crew.sock").chmod(0o666)
    child = os.fork()
    if child == 0:
        found = b"?"
        try:
            os.setuid(65534)
            found = asked(folder, wire.encode(wire.AskReport()))
        except OSError:
            found = b""
        finally:
            os._exit(1 if found else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
