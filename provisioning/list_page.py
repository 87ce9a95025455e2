"""The report of a list as people look at it: one HTML page with every picture, for the office and for the officer.

The page shows faces, so it is treated as the list is: marked on its face, written for its owner only, or encrypted to
named readers (``.age``), and destroyed with the list. It holds no script and fetches nothing, and says so to the
browser.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import msgspec
import pyrage

from edge.errors import BadInput, EnvironmentFault, KeyUnusable, SignatureInvalid
from edge.files import replace_file, replacing
from edge.parsing import json_as
from edge.trust.canonical import sha256
from edge.trust.keys import KnownSigners, SigningKey
from provisioning.album import Album
from provisioning.bundle import recipient
from provisioning.standard_terms import COMPONENTS

__all__ = ["DIGEST", "ListPage", "check_name", "page", "page_of_list", "read_page", "sign_page", "write_page"]

ENCRYPTED = ".age"
DIGEST = "lfr-list"
"""Name of the ``meta`` element that says of which list a page is."""
SIGNED = "lfr-list-page"
"""Type of what is signed, so that no other signature of that key passes for it."""
_LIST = re.compile(rb'<meta name="lfr-list" content="(sha256:[0-9a-f]{64})">')


class ListPage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the intelligence unit signs of a page.

    Attributes:
        deployment: for which the list is.
        watchlist: identity of the list.
        page: ``sha256:…`` of the page in the clear.
        signed_at: when.
    """

    deployment: str
    watchlist: str
    page: str
    signed_at: datetime


def check_name(out: Path, readers: Iterable[str]) -> None:
    """Refuse a name that does not say what the file will be, before anything is built.

    Raises:
        BadInput: the ending does not fit, or readers are missing.
        KeyUnusable: a reader's key is none.
    """
    kind = [suffix.lower() for suffix in out.suffixes[-2:]]
    readers = list(readers)
    if kind[-1:] == [ENCRYPTED] and kind[:1] == [".html"]:
        if not readers:
            raise BadInput(str(out), "is to be encrypted, and nobody may read it", "Name a reader: --reader age1…")
        for number, key in enumerate(readers, start=1):
            recipient(key, f"reader {number}")
    elif kind[-1:] != [".html"]:
        raise BadInput(str(out), "does not end in .html or .html.age", "Give another name")
    elif readers:
        raise BadInput(str(out), "is not to be encrypted, and readers are named", f"Call it {out.name}{ENCRYPTED}")


def page(report: dict[str, Any], album: Album | None, now: datetime | None = None) -> str:
    """The page.

    Args:
        report: of the list, as :func:`provisioning.review.review` made it; ``changes`` as
            :meth:`provisioning.changes.Changes.to_json` gave them, when there was a last list.
        album: the pictures; without one the page says where a picture would be.
        now: when it is written.
    """
    loader = jinja2.PackageLoader("provisioning", "pages")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters["day"] = lambda text: str(text)[:10]

    def shown(reference: str, file: str) -> str:
        data = album.picture(reference, file) if album is not None else None
        return "" if data is None else f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"

    def first(reference: str) -> str:
        record = report["records"].get(reference)
        return shown(reference, record["pictures"][0]["file"]) if record else ""

    written = (now or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M UTC")
    return environment.get_template("list.html").render(
        report=report,
        changes=report.get("changes"),
        components={each.name: each for each in COMPONENTS},
        shown=shown,
        first=first,
        name=lambda file: Path(file).name,
        written=written,
        digest_name=DIGEST,
        pictures=0 if album is None else len(album),
    )


def write_page(text: str, out: Path, readers: Iterable[str] = ()) -> str:
    """Write a page for its owner only, or encrypted to ``readers``; returns its SHA-256 in the clear, ``sha256:…``.

    Raises:
        BadInput, KeyUnusable: see :func:`check_name`.
        EnvironmentFault: the disk refuses.
    """
    readers = list(readers)
    check_name(out, readers)
    content = text.encode("utf-8")
    data = content
    if readers:
        keys = [recipient(key, f"reader {number}") for number, key in enumerate(readers, start=1)]
        data = pyrage.encrypt(content, keys)
    try:
        with replacing(out, mode=0o600) as file:
            file.write(data)
    except OSError as error:
        raise EnvironmentFault(str(out), f"cannot be written ({error.strerror})", "Give another folder") from None
    return sha256(content)


def read_page(path: Path, identity: Path | None = None) -> bytes:
    """A page as it was before it was encrypted; it is not written anywhere.

    Args:
        path: ``.html``, or ``.html.age``.
        identity: the reader's private age key; must be there for an encrypted page.

    Raises:
        BadInput: it cannot be read.
        KeyUnusable: the key is missing, is none, or opens another page.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(str(path), f"cannot be read ({error.strerror})", "Give the path of a list's page") from None
    if path.suffix.lower() != ENCRYPTED:
        return data
    if identity is None:
        raise KeyUnusable(str(path), "is encrypted", "Give your private key with --key")
    try:
        lines = identity.read_text(encoding="ascii").splitlines()
        secret = next(line.strip() for line in lines if line.startswith("AGE-SECRET-KEY-"))
        return bytes(pyrage.decrypt(data, [pyrage.x25519.Identity.from_str(secret)]))
    except (OSError, UnicodeDecodeError, StopIteration, pyrage.IdentityError):
        raise KeyUnusable(str(identity), "is not a private key (AGE-SECRET-KEY-…)", "Give the reader's own") from None
    except pyrage.DecryptError:
        raise KeyUnusable(str(path), f"was not written for {identity}, or is damaged", "Ask who wrote it") from None


def sign_page(report: dict[str, Any], out: Path, signer: SigningKey) -> Path:
    """Sign the page that was written for ``report``; the signature lies beside it as ``….jws``.

    Raises:
        EnvironmentFault: the disk refuses.
    """
    found = ListPage(
        deployment=report["deployment"],
        watchlist=report["digest"],
        page=report["page"]["sha256"],
        signed_at=datetime.now(UTC).replace(microsecond=0),
    )
    beside = _signature_of(out)
    try:
        replace_file(beside, signer.sign(msgspec.json.encode(found), SIGNED) + b"\n", mode=0o644)
    except OSError as error:
        raise EnvironmentFault(str(beside), f"cannot be written ({error.strerror})", "Give another folder") from None
    return beside


def page_of_list(path: Path, content: bytes, watchlist: str, unit: KnownSigners | None = None) -> str:
    """Check that a page is that of a list, and who made it; returns its ``sha256:…``, for the authority.

    Args:
        path: the page; its signature lies beside it.
        content: as :func:`read_page` gave it.
        watchlist: identity of the list that is to be signed for; empty for whichever it is.
        unit: keys of the intelligence unit; without them the signature is not asked for.

    Raises:
        BadInput: it is no page of a list, or that of another list.
        SignatureInvalid: the unit did not sign this page.
    """
    found = _LIST.search(content)
    if found is None:
        raise BadInput(str(path), "is not a page of a list", "Give what watchlist build --report wrote")
    if watchlist and found[1].decode("ascii") != watchlist:
        raise BadInput(str(path), "is the page of another list", "Look at the page of the list that is meant")
    digest = sha256(content)
    if unit is not None:
        beside = _signature_of(path)
        step = "Have the page made again with --sign-with"
        try:
            token = beside.read_bytes().strip()
        except OSError:
            raise SignatureInvalid(str(path), "is not signed by the unit: its .jws is missing", step) from None
        try:
            signed = unit.verify(token, SIGNED)
        except SignatureInvalid as error:
            raise SignatureInvalid(str(beside), error.cause, step) from None
        try:
            said = json_as(signed.payload, ListPage)
        except msgspec.DecodeError:
            raise SignatureInvalid(str(beside), "does not say which page was signed", step) from None
        if (said.page, said.watchlist) != (digest, watchlist):
            raise SignatureInvalid(str(path), "was changed after the unit signed it", step)
    return digest


def _signature_of(page_file: Path) -> Path:
    return page_file.with_name(f"{page_file.name}.jws")
