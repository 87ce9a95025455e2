"""What people look at before they sign for a list: a page with every picture, what changed, and the list's end."""

from __future__ import annotations

import json
import re
import shutil
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from typer.testing import CliRunner

import provisioning.demo
from edge.errors import BadInput, KeyUnusable, SignatureInvalid
from edge.trust.canonical import sha256
from edge.trust.keys import KnownSigners
from edge.trust.secret import read_secret
from edge.watchlist.store import WatchlistStore
from provisioning.changes import compare, read_report
from provisioning.cli import app
from provisioning.cli_look import PageServer
from provisioning.list_page import check_name, page, page_of_list, read_page
from tests.browser import TABLET, chromium

PORTRAITS = Path(provisioning.demo.__file__).parent / "portraits"
COLUMNS = "reference,path,category,lawful_basis,image_source,image_taken,review_by,age_band,age_rationale"
FIRST = f"""{COLUMNS}
WW-1,obama2.jpg,wanted,Warrant 1,custody,2016-01-01,2099-01-01,45-54,
WW-1,obama3.jpg,wanted,Warrant 1,custody,2016-01-01,2099-01-01,45-54,
WW-2,biden.jpg,wanted,Warrant <b>2</b>,custody,2025-01-01,2099-01-01,under 18,"At risk & missing"
WW-3,broken.jpg,wanted,Warrant 3,custody,2025-01-01,2099-01-01,25-34,
"""
SECOND = f"""{COLUMNS}
WW-1,obama2.jpg,wanted,Warrant 1,custody,2016-01-01,2099-06-01,45-54,
WW-4,collins.jpg,wanted,Warrant 4,custody,2025-01-01,2099-01-01,55-64,
"""


def run(*arguments: str, code: int = 0, answer: str = "") -> str:
    done = CliRunner().invoke(app, list(arguments), input=answer)
    assert done.exit_code == code, f"{done.output}{done.exception!r}"
    return done.output


class Office:
    """A folder with two lists of one deployment, the second a week later."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for portrait in PORTRAITS.glob("*.jpg"):
            shutil.copy2(portrait, folder)
        (folder / "broken.jpg").write_bytes((folder / "hopper.jpg").read_bytes()[:9000])
        (folder / "first.csv").write_text(FIRST)
        (folder / "second.csv").write_text(SECOND)
        run("watchlist", "revoker-key", str(folder / "unit.jwk"))
        self.officer = run("repository", "van-key", str(folder / "officer.key")).strip().split()[-1]
        self.unit = KnownSigners.load(folder / "unit.jwks")
        signing = ("--sign-with", str(folder / "unit.jwk"))
        self.build("first", "--report", str(folder / "first.html"), *signing, code=6)
        encrypted = ("--report", str(folder / "second.html.age"), "--reader", self.officer, *signing)
        self.build("second", *encrypted, "--last", str(folder / "first"))

    def build(self, name: str, *more: str, code: int = 0) -> None:
        listed = ("--csv", str(self.folder / f"{name}.csv"), "--out", str(self.folder / name), "--approved", "wanted")
        run("watchlist", "build", *listed, "--deployment", "D-1", *more, code=code)

    def report(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / name / "report.json").read_text()))


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Office:
    return Office(tmp_path_factory.mktemp("office"))


def test_the_page_shows_everybody_what_to_doubt_and_what_was_left_out(office: Office) -> None:
    with chromium(TABLET) as browser:
        browser.get((office.folder / "first.html").as_uri())
        people = browser.find_elements(By.CSS_SELECTOR, ".person")
        assert [each.find_element(By.TAG_NAME, "h3").text for each in people] == ["WW-1", "WW-2"]
        assert len(people[0].find_elements(By.TAG_NAME, "img")) == 2
        assert "Warrant <b>2</b>" in people[1].text, "what people typed is text and nothing else"
        assert "picture 10 and over years old" in people[0].text
        doubt = browser.find_element(By.CSS_SELECTOR, "section[aria-labelledby=doubt]").text
        assert "under 18" in doubt
        assert "At risk & missing" in doubt
        left = browser.find_element(By.CSS_SELECTOR, "section[aria-labelledby=left-out]").text
        assert "broken.jpg" in left
        assert "is cut off" in left
        assert "SENSITIVE" in browser.find_element(By.CLASS_NAME, "marking").text
        script = "return [...document.images].every(i => { i.loading = 'eager'; return i.src.startsWith('data:'); })"
        assert browser.execute_script(script)
        assert not browser.execute_script("return document.documentElement.scrollWidth > innerWidth")


def test_the_page_fetches_nothing_and_runs_nothing(office: Office) -> None:
    text = (office.folder / "first.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"<script|\bon\w+=|https?://|url\(|@import", text)
    assert (office.folder / "first.html").stat().st_mode & 0o077 == 0


def test_quality_is_said_in_the_terms_of_the_standard(office: Office) -> None:
    (picture,) = office.report("first")["records"]["WW-2"]["pictures"]
    assert {"InterEyeDistance", "HeadPoseYaw", "Sharpness", "DynamicRange"} <= set(picture["quality"])
    assert picture["quality"]["SingleFacePresent"] < 0.5
    assert 0 < picture["quality"]["LuminanceMean"] < 1
    assert 0 <= picture["quality"]["IlluminationUniformity"] <= 1
    assert "ISO/IEC 29794-5:2025" in (office.folder / "first.html").read_text()


def test_no_picture_and_no_template_is_in_the_report_that_stays(office: Office) -> None:
    text = (office.folder / "first" / "report.json").read_text()
    assert "base64" not in text
    assert not re.search(r"[A-Za-z0-9+/]{120,}", text)


def test_a_later_list_says_what_changed_since_the_last(office: Office) -> None:
    changes = office.report("second")["changes"]
    assert changes["added"] == ["WW-4"]
    assert changes["removed"] == ["WW-2"]
    assert changes["changed"] == {
        "WW-1": ["review by: 2099-01-01 → 2099-06-01", "pictures: 1 taken out, 0 put in"],
    }
    text = read_page(office.folder / "second.html.age", office.folder / "officer.key").decode()
    for said in ("What changed since the last list", "WW-4", "1 new, 1 gone, 1 changed, 0 as they were"):
        assert said in text


def test_who_looks_alike_goes_with_the_list(tmp_path: Path) -> None:
    for portrait in PORTRAITS.glob("*.jpg"):
        shutil.copy2(portrait, tmp_path)
    rows = (
        "WW-1,obama2.jpg,wanted,Warrant,court,,,45-54,,",
        "WW-2,obama3.jpg,wanted,Warrant,court,,,45-54,,",
        "WW-3,biden.jpg,wanted,Warrant,court,,,45-54,,WW-9; WW-1",
    )
    (tmp_path / "list.csv").write_text("\n".join((f"{COLUMNS},lookalikes", *rows)) + "\n")
    listed = ("--csv", str(tmp_path / "list.csv"), "--out", str(tmp_path / "out"), "--approved", "wanted")
    run("watchlist", "build", *listed)
    with WatchlistStore.open(
        tmp_path / "out" / "watchlist.db", read_secret(str(tmp_path / "out" / "watchlist.key"))
    ) as store:
        found = {entry.reference: entry.lookalikes for entry in store.stream()}
    assert found == {"WW-1": ("WW-2",), "WW-2": ("WW-1",), "WW-3": ("WW-9", "WW-1")}


def test_two_lists_that_are_alike_have_no_difference(office: Office) -> None:
    report = office.report("first")
    found = compare(report, report)
    assert (found.added, found.removed, found.changed, found.unchanged) == ((), (), {}, 2)


@pytest.mark.parametrize(
    "content",
    [None, b"", b"[]", b"{}", b'{"records": {"WW-1": 5}}', b'{"records": {"WW-1": {"pictures": 0.5}}}', b"[" * 100_000],
)
def test_what_is_no_report_of_a_list_is_refused_in_words(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(BadInput, match=r"report\.json"):
        read_report(tmp_path)


def test_an_encrypted_page_opens_for_its_reader_and_for_nobody_else(office: Office, tmp_path: Path) -> None:
    encrypted = office.folder / "second.html.age"
    assert b"<html" not in encrypted.read_bytes()
    run("repository", "van-key", str(tmp_path / "other.key"))
    for key, cause in (
        (tmp_path / "other.key", "was not written for"),
        (office.folder / "unit.jwk", "is not a private"),
    ):
        with pytest.raises(KeyUnusable, match=cause):
            read_page(encrypted, key)
    with pytest.raises(KeyUnusable, match="is encrypted"):
        read_page(encrypted)
    (tmp_path / "cut.html.age").write_bytes(encrypted.read_bytes()[:-100])
    with pytest.raises(KeyUnusable, match="damaged"):
        read_page(tmp_path / "cut.html.age", office.folder / "officer.key")


@pytest.mark.parametrize(
    ("name", "readers", "cause"),
    [
        ("list.pdf", [], "does not end in"),
        ("list.age", [], "does not end in"),
        ("list.html.age", [], "nobody may read it"),
        ("list.html", ["age1x"], "is not to be encrypted"),
    ],
)
def test_a_page_whose_name_does_not_say_what_it_is_is_refused_before_anything_is_built(
    tmp_path: Path, name: str, readers: list[str], cause: str
) -> None:
    with pytest.raises(BadInput, match=cause):
        check_name(tmp_path / name, readers)


def test_the_page_of_this_list_that_the_unit_signed_is_believed(office: Office) -> None:
    for name, key in (("first.html", None), ("second.html.age", office.folder / "officer.key")):
        content = read_page(office.folder / name, key)
        digest = office.report(name.split(".")[0])["digest"]
        assert page_of_list(office.folder / name, content, digest, office.unit) == sha256(content)


def test_another_lists_page_and_one_that_was_changed_or_not_signed_are_not(office: Office, tmp_path: Path) -> None:
    shutil.copy2(office.folder / "first.html", tmp_path)
    content = (tmp_path / "first.html").read_bytes()
    first, second = (office.report(name)["digest"] for name in ("first", "second"))
    with pytest.raises(BadInput, match="another list"):
        page_of_list(tmp_path / "first.html", content, second)
    with pytest.raises(BadInput, match="not a page of a list"):
        page_of_list(tmp_path / "first.html", b"<html></html>", first)
    with pytest.raises(SignatureInvalid, match="is not signed"):
        page_of_list(tmp_path / "first.html", content, first, office.unit)
    shutil.copy2(office.folder / "first.html.jws", tmp_path)
    with pytest.raises(SignatureInvalid, match="was changed after"):
        page_of_list(tmp_path / "first.html", content.replace(b"under 18", b"over 18"), first, office.unit)
    shutil.copy2(office.folder / "second.html.age.jws", tmp_path / "first.html.jws")
    with pytest.raises(SignatureInvalid, match="was changed after"):
        page_of_list(tmp_path / "first.html", content, first, office.unit)


@pytest.fixture
def shown() -> Iterator[PageServer]:
    server = PageServer(b"<html>the page</html>")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_page_is_shown_from_memory_to_whoever_knows_its_address(shown: PageServer) -> None:
    with urllib.request.urlopen(shown.address) as answer:
        assert answer.read() == b"<html>the page</html>"
        assert answer.headers["Cache-Control"] == "no-store"
    for wrong in ("/", "/favicon.ico", f"{shown.address[-20:]}"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{shown.server_address[1]}/{wrong.lstrip('/')}")
        refused.value.close()
        assert refused.value.code == 404


def test_a_list_is_destroyed_in_the_office_and_its_report_stays(office: Office, tmp_path: Path) -> None:
    shutil.copytree(office.folder / "first", tmp_path / "first")
    for name in ("first.html", "first.html.jws", "second.html.age"):
        shutil.copy2(office.folder / name, tmp_path)
    said = run("watchlist", "destroy", str(tmp_path / "first"), str(tmp_path / "first.html"), answer="n\n", code=130)
    assert "watchlist.key" in said
    assert (tmp_path / "first" / "watchlist.key").exists(), "nothing before the answer"
    whole = [str(tmp_path / name) for name in ("first", "first.html", "second.html.age")]
    gone = json.loads(run("watchlist", "destroy", *whole, "--yes", "--json"))["destroyed"]
    assert Path(gone[0]).name == "watchlist.key", "the key first"
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["report.json"]


@pytest.mark.parametrize("name", ["biden.jpg", "nowhere", "notes.html", "notes.age"])
def test_destroying_takes_nothing_that_is_not_a_list_or_its_page(office: Office, tmp_path: Path, name: str) -> None:
    for file, content in (("notes.html", b"<html>mine</html>"), ("notes.age", b"mine")):
        (tmp_path / file).write_bytes(content)
    shutil.copy2(office.folder / "biden.jpg", tmp_path)
    done = CliRunner().invoke(app, ["watchlist", "destroy", str(tmp_path / name), "--yes"])
    assert done.exit_code != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["biden.jpg", "notes.age", "notes.html"]


def test_a_page_without_pictures_says_where_they_would_be(office: Office) -> None:
    text = page(office.report("first"), None)
    assert "data:image" not in text
    assert "no picture that can be shown" in text
