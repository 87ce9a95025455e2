"""``lfr-provision authority``: what the authorising officer signs, and what the public reads of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.commandline import AsJson, commands, say, show

__all__ = ["register"]

authority_app = commands("Sign a deployment's authority, look at one, print its notice.")

CONTRADICTED = 3
"""As a broken audit log: something is not as it was said to be."""
JsonOption = Annotated[bool, AsJson]
RepositoryOption = Annotated[Path, typer.Option("--repository", help="the repository's folder")]
KeysOption = Annotated[Path, typer.Option("--keys", help="folder with the keyring")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.add_typer(authority_app, name="authority")


@authority_app.command()
def sign(
    file: Annotated[Path, typer.Argument(help="the authority as TOML; docs/authorising-officer.md has one to copy")],
    manifest: Annotated[Path, typer.Option(help="manifest.json of the list whose report you have read")],
    repository: RepositoryOption,
    keys: KeysOption,
    page: Annotated[
        Path | None, typer.Option("--report", help="the page you looked at: it must be that list's, and is signed for")
    ] = None,
    page_key: Annotated[Path | None, typer.Option("--key", help="your private age key, for an encrypted page")] = None,
    unit: Annotated[Path | None, typer.Option(help="the unit's public keys (.jwks): the page must be theirs")] = None,
    within: Annotated[Path | None, typer.Option(help="the force's area as TOML: a place outside is refused")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check an authority against the reviewed list, show what it allows, and sign it."""
    from edge.errors import BadInput
    from edge.watchlist.bundle import parse_manifest
    from provisioning.authority import draft_authority, publish_authority, read_force
    from provisioning.keyring import Keyring
    from provisioning.repository import AUTHORITIES, Repository

    now = datetime.now(UTC)
    try:
        described = parse_manifest(manifest.read_bytes(), str(manifest))
    except OSError as error:
        raise BadInput(str(manifest), f"cannot be read ({error.strerror})", "Give the list's manifest.json") from None
    if page is None and (page_key is not None or unit is not None):
        raise typer.BadParameter("--key and --unit are about the page: name it with --report")
    looked_at = _looked_at(page, page_key, unit, described.watchlist) if page is not None else ""
    force = read_force(within) if within is not None else None
    authority, content = draft_authority(file, described, now, report=_report(manifest), page=looked_at, force=force)
    if not as_json:
        _show(content, described.entries)
    if not yes:
        typer.confirm("Sign it?", abort=True, err=as_json)
    opened = Repository(repository, Keyring(keys))
    name = publish_authority(opened, authority, content, now)
    waiting = opened.pending(AUTHORITIES)
    lines = [f"Signed as {name}. Vans see it after lfr-provision publish."]
    if waiting is not None:
        left = waiting.need - waiting.have
        lines = [
            f"Signed as {name}. Now {left} more must sign: lfr-provision authority countersign {authority.deployment}"
        ]
    show({"signed": name, "authority": authority, "waits_for": 0 if waiting is None else left}, lines, as_json=as_json)


@authority_app.command()
def countersign(
    deployment: Annotated[str, typer.Argument(help="whose authority waits for another officer's signature")],
    repository: RepositoryOption,
    keys: KeysOption,
    page: Annotated[
        Path | None, typer.Option("--report", help="the page you looked at: it must be the one that was signed for")
    ] = None,
    page_key: Annotated[Path | None, typer.Option("--key", help="your private age key, for an encrypted page")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at what another officer has signed, on your own, and sign it with your own key.

    Where the force asks for several signatures (lfr-provision repository init --officers 3 --signatures 2), vans see an
    authority when enough officers have signed it and it is published.
    """
    from edge.errors import BadInput
    from edge.trust.authority import parse_authority
    from provisioning.authority import require_dated, target_name
    from provisioning.keyring import Keyring
    from provisioning.list_page import page_of_list, read_page
    from provisioning.repository import AUTHORITIES, Repository

    opened = Repository(repository, Keyring(keys))
    seen = opened.waits_as(AUTHORITIES)
    waiting = opened.pending(AUTHORITIES)
    name = target_name(deployment)
    if waiting is None or name not in waiting.names:
        there = ", ".join(waiting.names) if waiting is not None else "nothing"
        raise BadInput(name, f"does not wait for a signature; what waits: {there}", "Check the deployment")
    content = opened.content(name)
    authority = parse_authority(content, name)
    require_dated(authority, name, datetime.now(UTC))
    if page is not None:
        digest = page_of_list(page, read_page(page, page_key), authority.watchlist)
        if digest != authority.report:
            raise BadInput(str(page), "is not the page that was signed for", "Have the page sent again")
    if not as_json:
        _show(content, None)
        for other in waiting.names:
            if other != name:
                say(f"Your signature is for {other}, too: it was changed at the same time. Look at it first.")
    if not yes:
        typer.confirm("Sign it?", abort=True, err=as_json)
    have = opened.countersign(AUTHORITIES, seen)
    left = max(0, waiting.need - have)
    after = f"{left} more must sign." if left else "Vans see it after lfr-provision publish."
    show({"signed": name, "signatures": have, "needed": waiting.need}, [f"Signed as {name}. {after}"], as_json=as_json)


def _looked_at(page: Path, key: Path | None, unit: Path | None, watchlist: str) -> str:
    from edge.trust.keys import KnownSigners
    from provisioning.list_page import page_of_list, read_page

    known = KnownSigners.load(unit) if unit is not None else None
    return page_of_list(page, read_page(page, key), watchlist, known)


def _report(manifest: Path) -> dict[str, Any]:
    """The report that lies beside a manifest, or nothing."""
    try:
        found = json.loads((manifest.parent / "report.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _show(content: bytes, entries: int | None) -> None:
    from edge.trust.authority import authority_digest, parse_authority
    from provisioning.place_map import described, drawn

    authority = parse_authority(content)
    people = "" if entries is None else "1 person, " if entries == 1 else f"{entries} people, "
    grounds = authority.grounds
    weighed = (
        ()
        if grounds is None
        else (
            f"Use case {grounds.use_case}",
            f"Necessary because {grounds.necessity}",
            f"Here because {grounds.why_here}",
            f"Seriousness {grounds.seriousness}",
            f"Rank {grounds.rank}",
            *((f"Protest {grounds.protest}",) if grounds.protest else ()),
            *((f"Children {grounds.children}",) if grounds.children else ()),
        )
    )
    for line in (
        f"Deployment {authority.deployment}: {authority.purpose}",
        *weighed,
        f"Authorised by {authority.authorised_by} on {authority.authorised_at:%Y-%m-%d %H:%M %Z}",
        f"Where {authority.place.name}",
        f"  {described(authority.place)}",
        *(f"  {row}" for row in drawn(authority.place)),
        f"When {authority.starts:%Y-%m-%d %H:%M %Z} to {authority.ends:%Y-%m-%d %H:%M %Z}",
        f"Vans {', '.join(authority.vans)}",
        f"List {people}{authority.watchlist}",
        *((f"Page of that list, looked at {authority.report}",) if authority.report else ()),
        f"Model {authority.model}",
        f"Threshold {authority.threshold_floor:.3f} at least, one false alert in {authority.budget_one_in:,} at most",
        f"Alerts are kept for {authority.retention_h} hours",
        f"Digest of this authority {authority_digest(content)}",
    ):
        say(line)


@authority_app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="an authority as it was signed (JSON)")], as_json: JsonOption = False
) -> None:
    """Show what an authority allows, and check that it does not contradict itself."""
    from edge.trust.authority import parse_authority

    content = _read(file)
    if as_json:
        show(parse_authority(content, str(file)), (), as_json=True)
    else:
        _show(content, None)


@authority_app.command()
def notice(
    file: Annotated[Path, typer.Argument(help="an authority as it was signed (JSON)")],
    out: Annotated[Path, typer.Option(help="where to write it; .html or .pdf")],
    easy_read: Annotated[bool, typer.Option("--easy-read", help="short sentences and large letters")] = False,
    welsh: Annotated[
        Path | None, typer.Option(help="the authority's words in Welsh as TOML: writes the notice in Welsh")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the public notice of a deployment."""
    from edge.trust.authority import parse_authority
    from provisioning.notice import write_notice
    from provisioning.notice_welsh import read_welsh

    if easy_read and welsh is not None:
        raise typer.BadParameter("--easy-read is there in English only")
    authority = parse_authority(_read(file), str(file))
    write_notice(authority, out, easy=easy_read, welsh=read_welsh(welsh, authority) if welsh is not None else None)
    said = f"{out} goes to the street and to the web."
    if welsh is not None:
        said = f"{out}: have it read by somebody who speaks Welsh before it goes to the street and to the web."
    show({"notice": str(out)}, [said], as_json=as_json)


@authority_app.command()
def retention(
    file: Annotated[Path, typer.Argument(help="an authority as it was signed (JSON)")],
    control_room: Annotated[Path | None, typer.Option(help="the control room's control.toml")] = None,
    log: Annotated[list[Path] | None, typer.Option(help="a van's audit log; repeat")] = None,
    keys: Annotated[Path | None, typer.Option(help="the vans' public keys (vans.jwks): logs are verified")] = None,
    out: Annotated[Path | None, typer.Option(help="write the statement as .html")] = None,
    as_json: JsonOption = False,
) -> None:
    """State what is kept, where and for how long, and whether software, authority, notice, settings and log agree.

    Ends with 3 when they do not.
    """
    from edge.commandline import table
    from edge.controlroom.config import load
    from edge.trust.audit import verify
    from edge.trust.authority import parse_authority
    from edge.trust.keys import KnownSigners
    from provisioning.retention import statement, statement_html

    if (log is None) != (keys is None):
        raise typer.BadParameter("give --log and --keys together: a log is believed once it is verified")
    content = _read(file)
    entries = None
    if log is not None and keys is not None:
        known = KnownSigners.load(keys)
        entries = [entry for each in log for entry in verify(each, known).entries]
    room = load(control_room) if control_room is not None else None
    found = statement(content, parse_authority(content, str(file)), room, entries)
    if out is not None:
        _write(out, statement_html(found))
    if as_json:
        show(found, (), as_json=True)
    else:
        rows = [(row.what, row.where, row.kept, row.ends_by, row.shown or "–") for row in found.rows]
        table(("what", "where", "at most", "ended by", "the log shows"), rows, title=f"Deployment {found.deployment}")
        for each in found.contradictions or ("The sources agree.",):
            say(each)
    if found.contradictions:
        raise typer.Exit(CONTRADICTED)


def _write(out: Path, text: str) -> None:
    from edge.errors import BadInput, StoreUnavailable

    if out.suffix.lower() != ".html":
        raise BadInput(str(out), "does not end in .html", "Give a name that does")
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreUnavailable(str(out), f"cannot be written ({error.strerror})", "Give another path") from None


def _read(file: Path) -> bytes:
    from edge.errors import BadInput

    try:
        return file.read_bytes()
    except OSError as error:
        raise BadInput(str(file), f"cannot be read ({error.strerror})", "Give the path of an authority") from None
