"""The whole way: keys, list, report, authority, stick, van, revocation, end, receipt, overseer. By the commands."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import provisioning.demo
from edge.clock import SystemClock
from edge.controlroom.audit_cli import app as audit_app
from edge.deployment.fetch import accept_authority, fetch_list, fetch_revocations
from edge.deployment.gate import Gate, ListFacts
from edge.errors import AuthorityInvalid, BadInput, EdgeError, PolicyRefusal, TargetMissing, WatchlistGone
from edge.records import Limits
from edge.sight.embed import Embedder
from edge.sight.runtime import load
from edge.trust.audit import AuditLog
from edge.trust.authority import Authority, parse_authority
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey, write_private, write_public
from edge.trust.place import Position
from edge.trust.repository import VanRepository
from edge.trust.revocation import apply_all
from edge.watchlist.bundle import identity_of
from edge.watchlist.lifecycle import ListLifecycle
from provisioning.cli import app
from provisioning.notice import notice_html, notice_pdf, write_notice
from provisioning.notice_welsh import read_welsh

PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"
AUTHORITY = """
deployment = "D-1"
purpose = "To find people who are wanted on warrant for violence"
legal_basis = "Common law; the force's policy on live facial recognition"
authorised_by = "Superintendent, authorising officer"
starts = {starts}
ends = {ends}
vans = ["van-1"]
threshold_floor = 0.45
budget_one_in = 6000
retention_h = 24

[place]
name = "High Street, between the station and the market"
polygon = [[51.50, -0.13], [51.50, -0.12], [51.51, -0.12], [51.51, -0.13]]

[grounds]
use_case = "People wanted on warrant for violence"
necessity = "Visits to their addresses found nobody"
why_here = "They were seen there"
seriousness = "Five years or more"
rank = "Superintendent"

[notice]
controller = "Example Police"
contact = "Data protection officer, Example Police, dpo@police.example"
complaints = "Write to the officer above, or to the Information Commissioner, ico.org.uk"
deletion = "Ask at any station or at www.police.example/custody-images"
web = "police.example/lfr/D-1"
phone = "101"
"""


class Measured:
    """What a calibration said."""

    threshold = 0.47


class Calibration:
    """A stand-in for a pack's measured tail, whose own tests are elsewhere."""

    scene_similarity = 0.3

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Measured:
        return Measured()


def office(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What intelligence unit and authorising officer leave behind, by the commands of their pages in docs/."""
    folder = tmp_path_factory.mktemp("office")
    repository = ("--repository", folder / "repository", "--keys", folder / "keys")
    office("repository", "init", *repository)
    public = office("repository", "van-key", folder / "van-1.age.key").strip()
    table = "reference,path,category,lawful_basis,image_source,image_taken\n" + "".join(
        f"{reference},{PORTRAITS / name}.jpg,wanted on warrant,warrant,court,2020-01-01\n"
        for reference, name in (("R-1", "obama2"), ("R-2", "biden"), ("R-3", "collins"))
    )
    (folder / "list.csv").write_text(table)
    built = folder / "list"
    office("watchlist", "build", "--csv", folder / "list.csv", "--out", built, "--deployment", "D-1", "--van",
           f"van-1={public}", "--approved", "wanted on warrant")  # fmt: skip
    now = datetime.now(UTC).replace(microsecond=0)
    times = {"starts": (now + timedelta(minutes=1)).isoformat(), "ends": (now + timedelta(hours=6)).isoformat()}
    (folder / "authority.toml").write_text(AUTHORITY.format(**times))
    shown = office("authority", "sign", folder / "authority.toml", "--manifest", built / "manifest.json", *repository,
                   "--yes")  # fmt: skip
    assert "List 3 people" in shown
    office("publish", *repository, "--list", built)
    assert "authorities  authorities/D-1.json" in office("repository", "show", *repository)
    return folder


class Van:
    """One van on the way to its deployment."""

    def __init__(self, folder: Path, prepared: Path) -> None:
        self.stick = folder / "stick"
        shutil.copytree(prepared / "repository", self.stick)
        self.signing = SigningKey.generate()
        self.log = folder / "audit.jsonl"
        self.audit = AuditLog(self.log, van="van-1", clock=SystemClock(), signer=self.signing)
        self.keeper = ListLifecycle(folder / "lists", clock=SystemClock(), audit=self.audit)
        root = (self.stick / "root.json").read_bytes()
        self.repository = VanRepository(folder / "tuf", str(self.stick), root)
        floor = datetime(2026, 1, 1, tzinfo=UTC)
        self.gate = Gate("van-1", calibration=Calibration(), weaker_rules="", clock_floor=floor)
        self.identity = identity_of((prepared / "van-1.age.key").read_bytes(), "van-1.age.key")
        self.model = Embedder(load("mobilefacenet:dynamic-int8", kind="embedder")).digest
        self.folder = folder

    def accept(self, deployment: str) -> Authority:
        name = f"authorities/{deployment}.json"
        return accept_authority(self.repository.read(name), self.gate, self.audit, name)


@pytest.fixture
def van(tmp_path: Path, prepared: Path) -> Iterator[Van]:
    made = Van(tmp_path, prepared)
    yield made
    made.keeper.close()
    made.audit.close()


def revoked_from(van: Van, known: KnownSigners) -> list[str]:
    """Apply what the repository revokes; who left the list."""
    said = fetch_revocations(van.repository, "D-1")
    done = apply_all(said, known, deployment="D-1", remove=van.keeper.remove, withdraw=lambda *_: pytest.fail("of all"))
    return [each.reference for each in done]


def test_the_whole_way_from_the_office_to_the_overseer(van: Van, prepared: Path) -> None:
    authority = van.accept("D-1")
    store = fetch_list(
        van.repository, van.keeper, authority, van.identity, van="van-1", model=van.model, work=van.folder
    )
    assert store.references() == ("R-1", "R-2", "R-3")
    assert not (van.folder / "incoming.age").exists()

    facts = ListFacts(store.digest, len(store), store.pictures())
    now = authority.starts + timedelta(minutes=5)
    here = Position(51.505, -0.125, 8.0, now)
    assert van.gate.check(now, here, facts, model=van.model, limits=Limits(0.48, 0.48)) is authority
    with pytest.raises(PolicyRefusal):
        van.gate.check(authority.ends, here, facts, model=van.model, limits=Limits(0.48, 0.48))

    unit = SigningKey.generate()
    write_private(van.folder / "unit.jwk", unit.private_jwk())
    revoked = office("watchlist", "revoke", "--key", van.folder / "unit.jwk", "--reference", "R-2", "--cause",
                     "deletion was granted", "--deployment", "D-1")  # fmt: skip
    (van.folder / "revocations").write_text(revoked)
    copied = van.folder / "office"
    shutil.copytree(prepared, copied)
    office("publish", "--repository", copied / "repository", "--keys", copied / "keys", "--revocations",
           van.folder / "revocations", "--deployment", "D-1")  # fmt: skip
    shutil.rmtree(van.stick)
    shutil.copytree(copied / "repository", van.stick)
    van.repository.refresh()
    known = KnownSigners.of([unit.public_jwk(owner="intelligence-unit")])
    assert revoked_from(van, known) == ["R-2"]
    assert revoked_from(van, known) == []
    # The list is in force already: fetching again changes nothing, and brings nobody back.
    again = fetch_list(
        van.repository, van.keeper, authority, van.identity, van="van-1", model=van.model, work=van.folder
    )
    assert again.references() == ("R-1", "R-3")

    van.keeper.destroy("the authority ended")
    van.audit.record(Event.STOPPED, {"cause": "the authority ended"})
    van.audit.close()
    with pytest.raises(WatchlistGone):
        van.keeper.open()

    write_public(van.folder / "vans.jwks", {"keys": [van.signing.public_jwk(owner="van-1")]})
    keys = ["--keys", str(van.folder / "vans.jwks"), "--json"]
    verified = CliRunner().invoke(audit_app, ["verify", str(van.log), *keys])
    assert verified.exit_code == 0, verified.output
    assert json.loads(verified.stdout)["closed"]
    for reference, cause in (("R-1", "the authority ended"), ("R-2", "revoked: deletion was granted")):
        answer = CliRunner().invoke(audit_app, ["was-listed", str(van.log), "--reference", reference, *keys])
        (time,) = json.loads(answer.stdout)["times"]
        assert (time["deployment"], time["cause"]) == ("D-1", cause)


def test_a_stick_for_one_van_is_wiped_after_the_import(van: Van) -> None:
    authority = van.accept("D-1")
    bundles = van.stick / "targets" / "watchlists"
    before = len(list(bundles.glob("*.age")))
    fetch_list(
        van.repository, van.keeper, authority, van.identity, van="van-1", model=van.model, work=van.folder,
        wipe=van.stick,
    )  # fmt: skip
    assert (before, len(list(bundles.glob("*.age")))) == (1, 0)


def test_a_deployment_without_an_authority_is_refused(van: Van) -> None:
    with pytest.raises(TargetMissing, match=r"authorities/D-2.json: has not been published"):
        van.accept("D-2")
    assert fetch_revocations(van.repository, "D-2") == []


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ('deployment = "D-1"', 'deployment = "D-2"', AuthorityInvalid, "is D-2, the list is for D-1"),
        ('["van-1"]', '["van-1", "van-2"]', AuthorityInvalid, "names van-2, for which the list is not encrypted"),
        ("[place]", 'model = "' + "0" * 64 + '"\n[place]', AuthorityInvalid, "is not that of the reviewed list"),
        ("retention_h = 24", "retention_h = 999", AuthorityInvalid, "retention_h"),
        ("purpose = ", "purpose ", BadInput, "is not valid TOML"),
    ],
    ids=["another deployment", "a van without a bundle", "another model", "kept too long", "not TOML"],
)
def test_an_authority_that_does_not_fit_the_reviewed_list_is_not_signed(
    old: str, new: str, error: type[EdgeError], message: str, prepared: Path, tmp_path: Path
) -> None:
    text = (prepared / "authority.toml").read_text()
    assert old in text
    (tmp_path / "authority.toml").write_text(text.replace(old, new, 1))
    arguments = ("authority", "sign", tmp_path / "authority.toml", "--manifest", prepared / "list" / "manifest.json",
                 "--repository", prepared / "repository", "--keys", prepared / "keys", "--yes")  # fmt: skip
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == error.exit_code
    assert message in done.stderr


def signed(prepared: Path) -> bytes:
    (found,) = (prepared / "repository" / "targets" / "authorities").iterdir()
    return found.read_bytes()


def test_the_notice_says_what_the_public_must_know(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "authority.json").write_bytes(signed(prepared))
    office("authority", "notice", tmp_path / "authority.json", "--out", tmp_path / "notice.html")
    page = (tmp_path / "notice.html").read_text()
    for words in (
        "Example Police",
        "wanted on warrant",
        "High Street",
        "at the latest 3 seconds",
        "one passer-by in 6,000",
    ):
        assert words in page
    for words in ("Information Commissioner", "custody-images", "24 hours"):
        assert words in page
    assert "<script" not in page
    assert "Telephone: 101" in page
    assert page.count("<svg") == 2, "a symbol, and the record's address to be read by a telephone"


@pytest.mark.parametrize("easy", [False, True])
def test_the_codes_address_is_read_off_the_notice(prepared: Path, easy: bool) -> None:
    pytest.importorskip("segno", reason="segno is not installed here")
    page = notice_html(parse_authority(signed(prepared)), easy=easy)
    side, path = re.findall(r'<svg class="code" viewBox="0 0 (\d+) .*<path d="([^"]+)"', page)[0]
    image = np.full((int(side), int(side)), 255, np.uint8)
    for x, y in re.findall(r"M(\d+) (\d+)h", path):
        image[int(y), int(x)] = 0
    large = cv2.resize(image, None, fx=8, fy=8, interpolation=cv2.INTER_NEAREST)
    assert cv2.QRCodeDetector().detectAndDecode(large)[0] == "https://police.example/lfr/D-1"


def test_the_easy_notice_says_the_same_in_short_sentences(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "authority.json").write_bytes(signed(prepared))
    office("authority", "notice", tmp_path / "authority.json", "--out", tmp_path / "easy.html", "--easy-read")
    page = (tmp_path / "easy.html").read_text()
    for words in ("Example Police", "High Street", "3 seconds", "24 hours", "Information Commissioner", "101"):
        assert words in page
    ours = [line for line in re.findall(r"<p>(.*?)</p>", page) if "computer" in line]
    assert max(len(sentence.split()) for line in ours for sentence in line.split(". ")) <= 18


WELSH = """
deployment = "D-1"
purpose = "Dod o hyd i bobl y mae gwarant i'w harestio am drais"
legal_basis = "Y gyfraith gyffredin; polisi'r heddlu"
authorised_by = "Uwcharolygydd"
place = "Y Stryd Fawr"
controller = "Heddlu Enghraifft"
contact = "Swyddog diogelu data, dpo@police.example"
complaints = "Y Comisiynydd Gwybodaeth, ico.org.uk"
deletion = "Gofynnwch mewn unrhyw orsaf"
"""


def test_the_notice_in_welsh_has_the_words_that_a_person_translated_and_the_same_numbers(
    prepared: Path, tmp_path: Path
) -> None:
    (tmp_path / "authority.json").write_bytes(signed(prepared))
    (tmp_path / "cy.toml").write_text(WELSH)
    for out in (tmp_path / "cy.html", tmp_path / "cy.pdf"):
        said = office("authority", "notice", tmp_path / "authority.json", "--out", out, "--welsh", tmp_path / "cy.toml")
        assert "somebody who speaks Welsh" in said
    assert (tmp_path / "cy.pdf").read_bytes().count(b"/Type /Page\n") == 1
    text = (tmp_path / "cy.html").read_text()
    assert '<html lang="cy">' in text
    for words in ("Mae adnabod wynebau byw ar waith yma", "Heddlu Enghraifft", "3 eiliad", "24 awr", "6,000", "Dydd "):
        assert words in text
    assert "Example Police" not in text


@pytest.mark.parametrize("changed", ["D-2", None])
def test_a_translation_that_is_another_deployments_or_lacks_words_is_refused(
    prepared: Path, tmp_path: Path, changed: str | None
) -> None:
    authority = parse_authority(signed(prepared))
    text = WELSH.replace('"D-1"', f'"{changed}"') if changed else WELSH.replace("purpose", "porpose")
    (tmp_path / "cy.toml").write_text(text)
    with pytest.raises(BadInput, match=r"deployment D-2|porpose|purpose"):
        read_welsh(tmp_path / "cy.toml", authority)


def test_markup_in_an_authority_stays_words_in_the_notice(prepared: Path) -> None:
    content = signed(prepared).replace(b"Example Police", b"<script>alert(1)</script>", 1)
    assert "<script" not in notice_html(parse_authority(content))


def test_the_notice_fits_one_a4_page_of_pdf(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("fpdf", reason="fpdf2 is not installed here")
    assert notice_pdf(parse_authority(signed(prepared)), easy=True).count(b"/Type /Page\n") == 1
    content = notice_pdf(parse_authority(signed(prepared)))
    assert content.startswith(b"%PDF")
    assert content.count(b"/Type /Page\n") == 1
    if shutil.which("pdftotext"):
        (tmp_path / "notice.pdf").write_bytes(content)
        text = subprocess.run(
            ["pdftotext", "-layout", tmp_path / "notice.pdf", "-"], check=True, capture_output=True, text=True
        ).stdout
        assert "Live facial recognition is in use here" in text
        assert "Information Commissioner" in text


def test_a_notice_needs_somebody_to_turn_to(prepared: Path, tmp_path: Path) -> None:
    raw = json.loads(signed(prepared))
    del raw["notice"]
    authority = parse_authority(json.dumps(raw).encode())
    with pytest.raises(AuthorityInvalid, match="has no part"):
        notice_html(authority)
    with pytest.raises(BadInput, match=r"does not end in .html or .pdf"):
        write_notice(authority, tmp_path / "notice.txt")
