"""``lfr-provision watchlist``: build a list from pictures and look at what was built."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from edge.errors import EdgeError, KeyUnusable, NothingToEnrol
from edge.trust.keys import SigningKey, write_private, write_public
from edge.trust.revocation import REVOCATION, Revocation
from edge.trust.secret import create_secret, read_secret
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WatchlistStore
from provisioning.bundle import recipient, write_bundle
from provisioning.encoder import make_encoder
from provisioning.enrol import Enrolment, FaceEncoder, enrol
from provisioning.policy import apply_policy
from provisioning.review import review
from provisioning.sources import Record, Source, read_csv, read_folder

__all__ = ["app", "build_store"]

app = typer.Typer(no_args_is_help=True, help="Build a watchlist from pictures and look at what was built.")
STORE = "watchlist.db"
KEY = "watchlist.key"
REPORT = "report.json"
MANIFEST = "manifest.json"


def build_store(
    source: Source,
    out: Path,
    deployment: str,
    encoder: FaceEncoder,
    *,
    quiet: bool,
    day: date | None = None,
    approved: tuple[str, ...] = (),
    budget_one_in: int = 6000,
) -> dict[str, Any]:
    """Enrol ``source`` into ``out/watchlist.db`` with a fresh ``out/watchlist.key``, and return the report.

    Args:
        source: what the intelligence unit handed in.
        out: folder for the store, its key and the report.
        deployment: which the list is for.
        encoder: the van's models.
        quiet: whether to leave the progress bar out.
        day: of the deployment: whoever must not be on a list then is left out. None leaves the policy out, for
            lists of nobody in particular.
        approved: categories that the authorising officer approved; any when empty.
        budget_one_in: the false-alert budget, for the report.

    Raises:
        NothingToEnrol: not one picture could be enrolled; nothing is left in ``out`` then.
        KeyUnusable, WatchlistUnreadable: ``out`` holds a list already.
        StoreUnavailable: the disk refuses.
    """
    if day is not None:
        source = apply_policy(source, day, approved)
    enrolment = _enrol_with_progress(source, encoder, quiet=quiet)
    if not enrolment.entries:
        first = enrolment.refused[0]
        raise NothingToEnrol(
            "the watchlist",
            f"not one of {enrolment.pictures} pictures could be enrolled; the first: {first.file} {first.reason}",
            first.next_step,
        )
    out.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    meta = ListMeta(deployment, encoder.model, encoder.dimension, now)
    key = create_secret(out / KEY)
    with WatchlistStore.create(out / STORE, key, meta) as store:
        store.add(enrolment.entries)
        matrix = store.matrix()
        report = review(
            enrolment, source, meta, store.digest, matrix, day=day or now.date(), budget_one_in=budget_one_in
        )
        matrix.erase()
    (out / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _enrol_with_progress(source: Source, encoder: FaceEncoder, *, quiet: bool) -> Enrolment:
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("enrol", total=len(source.subjects))
        return enrol(source, encoder, progress=lambda _: bar.update(task, advance=1))


_COUNTED = (
    ("Categories", "categories"),
    ("Pictures from", "image_sources"),
    ("Age of the pictures in years", "image_age_years"),
    ("Age bands", "age_bands"),
)


def _print_report(report: dict[str, Any], out: Path) -> None:
    console = Console()
    if report["refused"]:
        table = Table("reference", "file", "left out because", "next step", title="Left out")
        for refusal in report["refused"]:
            table.add_row(refusal["reference"], refusal["file"], refusal["reason"], refusal["next_step"])
        console.print(table)
    console.print(
        f"{report['entries']} people enrolled from {report['templates']} of {report['pictures']} pictures; "
        f"{len(report['refused'])} left out."
    )
    for title, name in _COUNTED:
        counts = ", ".join(f"{count} {what}" for what, count in report[name].items())
        console.print(f"{title}: {counts}.", markup=False, soft_wrap=True)
    console.print(
        f"Custody images: {report['custody_images']}. First date to run out: {report['first_date'] or 'none'}."
    )
    for reference, rationale in report["under_18"].items():
        console.print(f"{reference} is under 18: {rationale}", markup=False)
    for one, other, score in report["probably_one_person"]:
        console.print(f"{one} and {other} are probably one person (similarity {score}): merge or check.", markup=False)
    for one, other, score in report["lookalikes"]:
        console.print(f"{one} and {other} look alike (similarity {score}).", markup=False)
    console.print(
        f"At one false alert in {report['budget_one_in']}: "
        f"{report['false_alerts_per_10000_passages']} in 10,000 passages of people who are not on it."
    )
    console.print(f"List {report['digest']}", soft_wrap=True)
    console.print(f"Store {out / STORE}, key {out / KEY}, report {out / REPORT}", soft_wrap=True)


def fail(error: EdgeError) -> typer.Exit:
    """Print a one-line error and give the exit code that belongs to it."""
    Console(stderr=True).print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(error.exit_code)


@app.command("build")
def build(  # noqa: PLR0917
    out: Annotated[Path, typer.Option(help="folder for the store, its key and the report")],
    images: Annotated[Path | None, typer.Option(help="folder with one folder of pictures per reference")] = None,
    csv: Annotated[Path | None, typer.Option(help="CSV with the columns reference, path and the record")] = None,
    deployment: Annotated[str, typer.Option(help="the deployment the list is for")] = "unassigned",
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="its day; today when not given")] = None,
    approved: Annotated[list[str] | None, typer.Option(help="an approved category; repeat for several")] = None,
    budget: Annotated[int, typer.Option(min=1000, help="at most one false alert in so many passages")] = 6000,
    van: Annotated[list[str] | None, typer.Option(help="name=age1…: write a bundle for this van, too; repeat")] = None,
    embedder: Annotated[str, typer.Option(help="pack:variant of the embedder that the van runs")] = "",
    detector: Annotated[str, typer.Option(help="pack:variant of the detector")] = "",
    category: Annotated[str, typer.Option(help="category of everybody in --images")] = "",
    lawful_basis: Annotated[str, typer.Option(help="lawful basis of everybody in --images")] = "",
    image_source: Annotated[str, typer.Option(help="where the pictures of --images come from")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="print the report as JSON, nothing else")] = False,  # noqa: FBT002
) -> None:
    """Enrol people from pictures into an encrypted watchlist, and list what was left out and why."""
    if (images is None) == (csv is None):
        raise typer.BadParameter("give either --images or --csv")
    try:
        vans = _vans(van or [])
        if images is not None:
            record = Record(category=category, lawful_basis=lawful_basis, image_source=image_source)
            source = read_folder(images, record)
        else:
            assert csv is not None
            source = read_csv(csv)
        report = build_store(
            source,
            out,
            deployment,
            make_encoder(detector, embedder),
            quiet=as_json,
            day=(day or datetime.now(UTC)).date(),
            approved=tuple(approved or ()),
            budget_one_in=budget,
        )
        if vans:
            with WatchlistStore.open(out / STORE, read_secret(str((out / KEY).absolute()))) as store:
                manifest, content = write_bundle(store, vans, out)
            (out / MANIFEST).write_bytes(content)
            report["bundle"] = manifest.bundle
    except EdgeError as error:
        raise fail(error) from None
    if as_json:
        typer.echo(json.dumps(report, ensure_ascii=False))
    else:
        _print_report(report, out)


def _vans(pairs: list[str]) -> dict[str, str]:
    vans: dict[str, str] = {}
    for pair in pairs:
        name, equals, key = pair.partition("=")
        if not (name and equals and key):
            raise typer.BadParameter(f"--van {pair}: give name=age1…, as the van's enrolment said")
        recipient(key, name)
        vans[name] = key
    return vans


@app.command("revoke")
def revoke(
    key: Annotated[Path, typer.Option(help="the revoker's private key (JWK)")],
    reference: Annotated[str, typer.Option(help="who leaves the list")],
    cause: Annotated[str, typer.Option(help="why, for the audit log")],
    deployment: Annotated[str, typer.Option(help="whose list; * for every one")] = "*",
) -> None:
    """Sign a revocation. Publish the line it prints to the van's revocation topic, or put it into the repository."""
    try:
        signer = SigningKey.load(str(key.absolute()))
        found = Revocation(deployment=deployment, reference=reference, cause=cause, issued_at=datetime.now(UTC))
        typer.echo(signer.sign(msgspec.json.encode(found), REVOCATION).decode("ascii"))
    except EdgeError as error:
        raise fail(error) from None


@app.command("revoker-key")
def revoker_key(
    out: Annotated[Path, typer.Argument(help="where the private key goes; the public half lies beside it as .jwks")],
    owner: Annotated[str, typer.Option(help="whose it is, for the audit log")] = "intelligence-unit",
) -> None:
    """Make the key with which revocations are signed. Vans get the public half."""
    try:
        if out.exists():
            raise KeyUnusable(str(out), "exists already", "Remove it first if it really is to be replaced")
        key = SigningKey.generate()
        write_private(out, key.private_jwk())
        write_public(out.with_suffix(".jwks"), {"keys": [key.public_jwk(owner=owner)]})
    except EdgeError as error:
        raise fail(error) from None
    typer.echo(f"{out.with_suffix('.jwks')} goes into every van.")


@app.command("inspect")
def inspect(
    store: Annotated[Path, typer.Argument(help="the store, or the folder it was built in")],
    key: Annotated[Path | None, typer.Option(help="its key; beside the store when not given")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,  # noqa: FBT002
) -> None:
    """Show what is on a list: records and counts, never a template or a picture."""
    path = store / STORE if store.is_dir() else store
    try:
        secret = read_secret(str((key or path.with_name(KEY)).absolute()))
        with WatchlistStore.open(path, secret) as opened:
            opened.verify()
            rows = [_row(entry) for entry in opened.stream()]
            meta, digest = opened.meta, opened.digest
    except EdgeError as error:
        raise fail(error) from None
    if as_json:
        head = {"digest": digest, "deployment": meta.deployment, "model": meta.model, "entries": rows}
        typer.echo(json.dumps(head, ensure_ascii=False))
        return
    table = Table("reference", "category", "lawful basis", "image from", "taken", "review by", "delete by", "templates")
    for row in rows:
        table.add_row(*(str(row[name] or "–") for name in _SHOWN))
    console = Console()
    console.print(table)
    console.print(f"{len(rows)} people for deployment {meta.deployment}, list {digest}", soft_wrap=True)


_SHOWN = (
    "reference",
    "category",
    "lawful_basis",
    "image_source",
    "image_taken",
    "review_by",
    "delete_by",
    "templates",
)


def _row(entry: Any) -> dict[str, Any]:
    names = (*_SHOWN[:-1], "custody_image", "age_band")
    return {**{name: getattr(entry, name) for name in names}, "templates": len(entry.templates)}
