"""What the pages for people tell them to type works, in this order, in an empty folder: one deployment from nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import provisioning.demo
from edge.config import parse

DOCS = Path(__file__).resolve().parent.parent / "docs"
PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PASSWORD = "correct horse battery staple"
ANSWERS = {"lfr-provision authority sign": "y\n"}
CODES = {"lfr-provision watchlist build": 6}
"""Commands that end otherwise than with 0, as their page says."""
NOT_HERE = ("lfr-control console",)
"""They run until they are told to stop; tests of their own start them."""


@dataclass(frozen=True)
class Typed:
    """A command as a page has it."""

    page: str
    line: str


def blocks(page: str, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall((DOCS / page).read_text("utf-8")) if kind == language]


def commands(page: str) -> list[Typed]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [Typed(page, line) for line in lines if line.strip() and not line.startswith("#")]


def in_order() -> Iterator[Typed]:
    """As the pages send people to each other: the list is published when the officer has signed."""
    yield from commands("control-room.md")
    unit = commands("intelligence-unit.md")
    publish = next(at for at, each in enumerate(unit) if each.line.startswith("lfr-provision publish"))
    yield from unit[:publish]
    officer = commands("authorising-officer.md")
    yield from officer
    yield from unit[publish:]
    yield from commands("overseer.md")


class Folder:
    """An empty folder that fills as the pages are followed."""

    def __init__(self, path: Path, codes: dict[str, int]) -> None:
        self.path = path
        self.codes = codes
        self.ran: list[str] = []

    def follow(self, typed: Typed) -> None:
        line = self.prepared(typed.line)
        known = next((name for name in (*ANSWERS, *self.codes) if line.startswith(name)), "")
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=self.path,
            input=ANSWERS.get(known, ""),
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == self.codes.get(known, 0), f"{typed.page}: {line}\n{done.stdout}{done.stderr}"
        self.ran.append(typed.line)

    def prepared(self, line: str) -> str:
        """What a person does by hand before the command, and what cannot be as on the page: names of other machines."""
        if line.startswith("lfr-control staff add"):
            return f"echo {PASSWORD!r} | {line.split('#', maxsplit=1)[0]} --password-stdin"
        if line.startswith("lfr-provision watchlist build"):
            self.write_list()
        elif line.startswith("lfr-provision authority sign"):
            self.write_authority()
        elif line.startswith("lfr-edge fetch"):
            self.make_van()
            return f"cd van-1 && {line.replace('/media/stick', '../stick')}"
        elif line.startswith("lfr-control audit"):
            for file in (self.path / "van-1" / "state").glob("audit.jsonl*"):
                shutil.copy2(file, self.path)
            shutil.copy2(self.path / "site" / "control-room" / "vans.jwks", self.path)
            shutil.copy2(self.path / "audit.jsonl.checkpoints", self.path / "received.txt")
        return line

    def write_list(self) -> None:
        (table,) = blocks("intelligence-unit.md", "csv")
        (self.path / "list.csv").write_text(table)
        (self.path / "pictures").mkdir(exist_ok=True)
        for number, portrait in (("1041", "biden"), ("1043", "obama2"), ("0007", "collins")):
            shutil.copy2(PORTRAITS / f"{portrait}.jpg", self.path / "pictures" / f"{number}.jpg")

    def write_authority(self) -> None:
        """The officer's paper as on the page, for today: a deployment of another day is refused, as it should be."""
        self.write_paper(blocks("authorising-officer.md", "toml")[0], timedelta(minutes=10))

    def write_paper(self, text: str, later: timedelta) -> None:
        starts = datetime.now(UTC).replace(microsecond=0) + later
        for name, moment in (("starts", starts), ("ends", starts + timedelta(hours=6))):
            text, count = re.subn(rf"^{name} = \S+", f"{name} = {moment.isoformat()}", text, flags=re.MULTILINE)
            assert count == 1
        (self.path / "authority.toml").write_text(text)

    def make_van(self) -> None:
        """What the engineer puts onto the van, and the stick that the unit hands over."""
        van = self.path / "van-1"
        shutil.copytree(self.path / "repository", self.path / "stick")
        for name, target in (
            ("repository/root.json", "root.json"),
            ("van-1.age.key", "van.age.key"),
            ("unit.jwks", "revokers.jwks"),
        ):
            shutil.copy2(self.path / name, van / target)
        (van / "lfr.toml").write_text(
            '[van]\nid = "van-1"\n[deployment]\nid = "D-2026-031"\n[camera]\nsource = "street.mp4"\n'
            "[position]\nfixed = [51.505, -0.125]\n[clock]\nrequire_confirmed = false\n",
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_the_pages_tell_people_to_type_works_in_their_order(tmp_path: Path) -> None:
    folder = Folder(tmp_path, CODES)
    for typed in in_order():
        if not typed.line.startswith(NOT_HERE):
            folder.follow(typed)
    assert len(folder.ran) >= 20
    report = json.loads((tmp_path / "D-2026-031" / "report.json").read_text())
    assert [refusal["reference"] for refusal in report["refused"]] == ["WW-1043"]
    assert (tmp_path / "notice.html").read_text().count("High Street") >= 1
    assert not list((tmp_path / "stick" / "targets" / "watchlists").glob("*.age")), "--wipe overwrote the list"


class FirstDeployment(Folder):
    """The page that has everything, followed in an empty folder."""

    def prepared(self, line: str) -> str:
        if line.startswith("lfr-control staff add"):
            return f"echo {PASSWORD!r} | {line} --password-stdin"
        if line.startswith("lfr-provision watchlist build"):
            (table,) = blocks("first-deployment.md", "csv")
            (self.path / "list.csv").write_text(table)
            shutil.copy2(PORTRAITS / "collins.jpg", self.path / "volunteer.jpg")
        if line.startswith("lfr-provision authority sign"):
            self.write_paper(blocks("first-deployment.md", "toml")[0], timedelta(seconds=5))
        if line.startswith("lfr-edge check-config"):
            (self.path / "van-1" / "lfr.toml").write_text(blocks("first-deployment.md", "toml")[1])
        return line


@pytest.mark.slow
def test_the_first_deployment_can_be_typed_from_the_page_in_an_empty_folder(tmp_path: Path) -> None:
    folder = FirstDeployment(tmp_path, {})
    for typed in commands("first-deployment.md"):
        folder.follow(typed)
    assert len(folder.ran) >= 18
    assert "The yard" in (tmp_path / "notice.html").read_text()
    assert not list((tmp_path / "D-1").glob("watchlist.*")), "destroyed at the end"
    assert not list((tmp_path / "van-1").rglob("watchlist*.db")), "the van's, too"


def test_the_configuration_on_the_engineers_page_is_one() -> None:
    (text,) = blocks("engineer.md", "toml")
    assert parse('van.id = "van-7"\n' + text).deployment.id == "D-2026-031"
