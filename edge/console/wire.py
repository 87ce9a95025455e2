"""What the crew's page and the van's service say to each other, over a Unix socket of the service's.

One connection carries one question and one answer. Each is a length and so many bytes of JSON; an answer may be
followed by one picture, likewise with its length first. Both ends refuse what is longer than it may be. Nothing that is
made of a face travels but a picture in which nobody can be known, or an alert's: the page's process never sees a
template.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.config import Config
from edge.errors import EnvironmentFault, RecordInvalid
from edge.system.board import status_file
from edge.system.health import Health

__all__ = [
    "LONGEST_PICTURE",
    "LONGEST_TEXT",
    "PREFIX",
    "Answer",
    "AskEnd",
    "AskPicture",
    "AskReport",
    "AskSelfTest",
    "Camera",
    "Checks",
    "Done",
    "Fact",
    "Line",
    "NoteSignIn",
    "NoteSignInRefused",
    "NoteSignOut",
    "Picture",
    "Question",
    "Refused",
    "Report",
    "ServiceSilent",
    "decode_answer",
    "decode_question",
    "encode",
    "reachable",
    "socket_file",
]

LONGEST_TEXT = 256 * 1024
"""Bytes of a question or an answer."""
LONGEST_PICTURE = 1024 * 1024
"""Bytes of a picture."""
PREFIX = 4
"""Bytes of a length, the highest first."""
SOCKET_FILE = "crew.sock"

Words = Annotated[str, Meta(min_length=1, max_length=500)]
Number = Annotated[str, Meta(min_length=1, max_length=64)]


class ServiceSilent(EnvironmentFault):
    """The van's service does not answer the page."""


class AskReport(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """How does it stand?"""


class AskPicture(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """What does a camera see, with nobody to be known in it?

    Attributes:
        camera: its identifier.
        after: number of the picture that the page has; 0 for none. An older one is not sent again.
    """

    camera: Number
    after: int = 0


class AskSelfTest(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Try every part that can be tried while it runs."""


class AskEnd(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """End the deployment for good and destroy the list.

    Attributes:
        by: the officer's number.
        reason: in words; it goes into the receipt.
    """

    by: Number
    reason: Words


class NoteSignIn(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Somebody signs in: for the audit log, which has it before the page lets them in."""

    by: Number
    role: Number
    place: Words


class NoteSignInRefused(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """Somebody was refused; ``error`` is the kind of refusal, ``unlogged`` how many before were too many to note."""

    by: Number
    error: Number
    place: Words
    unlogged: int


class NoteSignOut(Struct, frozen=True, tag=True, forbid_unknown_fields=True):
    """A session has ended, and why."""

    by: Number
    cause: Words


Question = AskReport | AskPicture | AskSelfTest | AskEnd | NoteSignIn | NoteSignInRefused | NoteSignOut


class Camera(Struct, frozen=True):
    """One camera.

    Attributes:
        id: its identifier.
        name: as the crew knows it.
        matching: whether its pictures are matched, as far as the camera goes.
        why: what is wrong with it, in words; empty when nothing is.
    """

    id: str
    name: str
    matching: bool
    why: tuple[str, ...] = ()


class Fact(Struct, frozen=True):
    """One thing that the crew should know.

    Attributes:
        name: which, a word of the catalogue.
        value: in words; empty where it cannot be known.
        good: None where there is nothing to judge.
    """

    name: str
    value: str
    good: bool | None = None


class Report(Struct, frozen=True, tag=True):
    """How it stands.

    Attributes:
        health: state, reasons and counters.
        cameras: each of them.
        facts: place, list, broker, disk, temperature and so on.
        ends: when the authority ends; None without one.
        ready: whether it only waits for its authority to begin.
    """

    health: Health
    cameras: tuple[Camera, ...] = ()
    facts: tuple[Fact, ...] = ()
    ends: datetime | None = None
    ready: bool = False


class Line(Struct, frozen=True):
    """One part that was tried: what was found, or what is wrong and what to do."""

    name: str
    good: bool
    detail: str


class Checks(Struct, frozen=True, tag=True):
    """What a self-test has found."""

    lines: tuple[Line, ...]


class Picture(Struct, frozen=True, tag=True):
    """A picture follows, where ``number`` is another than the one that was asked after.

    Attributes:
        number: counts from 1.
    """

    number: int


class Done(Struct, frozen=True, tag=True):
    """It was done, or written down."""

    words: str = ""


class Refused(Struct, frozen=True, tag=True):
    """It was not done; says why and what to do."""

    why: str


Answer = Report | Checks | Picture | Done | Refused

_QUESTION = msgspec.json.Decoder(Question)
_ANSWER = msgspec.json.Decoder(Answer)


def socket_file(config: Config) -> Path:
    """Where the service listens for the page: beside its status."""
    return status_file(config).with_name(SOCKET_FILE)


@contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A socket's path that is short enough for the kernel, which takes 107 bytes, however deep its folder lies.

    Raises:
        OSError: the folder is not there.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def encode(message: Question | Answer) -> bytes:
    """A message with its length.

    Raises:
        RecordInvalid: it is too long.
    """
    text = msgspec.json.encode(message)
    if len(text) > LONGEST_TEXT:
        raise RecordInvalid("a message between service and page", "is too long", "Call the engineer")
    return len(text).to_bytes(PREFIX, "big") + text


def decode_question(text: bytes) -> Question:
    """A question.

    Raises:
        RecordInvalid: it is none.
    """
    try:
        question: Question = _QUESTION.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise RecordInvalid("a question of the page", "is not one", "Restart the page") from None
    return question


def decode_answer(text: bytes) -> Answer:
    """An answer.

    Raises:
        ServiceSilent: it is none.
    """
    try:
        answer: Answer = _ANSWER.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        raise ServiceSilent("the service", "answers what the page does not understand", "Restart both") from None
    return answer
