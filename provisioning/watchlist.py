"""``lfr-provision watchlist``: build a list from pictures and look at what was built."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge.commandline import PARTLY, AsJson, commands, complain, counted, say, several, show, table
from edge.errors import NothingToEnrol
from edge.trust.keys import SigningKey
from edge.trust.secret import create_secret, read_secret
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import WatchlistStore
from provisioning.album import Album
from provisioning.bundle import recipient, write_bundle
from provisioning.changes import compare, read_report
from provisioning.encoder import make_encoder
from provisioning.enrol import Enrolment, FaceEncoder, enrol
from provisioning.list_page import check_name, page, sign_page, write_page
from provisioning.pick import cut_out, marked, write_picture
from provisioning.policy import apply_policy, same
from provisioning.reading import PictureReader
from provisioning.review import name_lookalikes, review
from provisioning.rows import read_list
from provisioning.sources import Record, Refusal, Source, custody_source, read_folder
from provisioning.template import write_template

__all__ = ["app", "build_store"]

app = commands("Build a watchlist from pictures and look at what was built.")
Json = Annotated[bool, AsJson]
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
    last: dict[str, Any] | None = None,
    album: Album | None = None,
    on_nobody: Callable[[list[Refusal]], None] | None = None,
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
        approved: categories that the authorising officer approved; nobody of another one is on the list.
        budget_one_in: the false-alert budget, for the report.
        last: report of the last list, to say what changed.
        album: takes a small copy of every picture, for the page.
        on_nobody: told of everything that was left out when nobody could be enrolled.

    Raises:
        NothingToEnrol: not one picture could be enrolled; nothing is left in ``out`` then.
        KeyUnusable, WatchlistUnreadable: ``out`` holds a list already.
        StoreUnavailable: the disk refuses.
    """
    handed_in = source
    if day is not None:
        source = apply_policy(source, day, approved)
    enrolment = _enrol_with_progress(source, encoder, quiet=quiet, album=album)
    if not enrolment.entries:
        first = enrolment.refused[0]
        if on_nobody is not None:
            on_nobody(enrolment.refused)
        raise NothingToEnrol(
            "the watchlist",
            f"not one of {handed_in.pictures} pictures could be enrolled; the first: {first.file} {first.reason}",
            first.next_step,
        )
    out.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    meta = ListMeta(deployment, encoder.model, encoder.dimension, now)
    key = create_secret(out / KEY)
    with WatchlistStore.create(out / STORE, key, meta) as store:
        pairs = name_lookalikes(enrolment, source)
        store.add(enrolment.entries)
        report = review(
            enrolment, handed_in, meta, store.digest, pairs, day=day or now.date(), budget_one_in=budget_one_in
        )
    if last is not None:
        report["changes"] = compare(last, report).to_json()
    (out / REPORT).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def _enrol_with_progress(source: Source, encoder: FaceEncoder, *, quiet: bool, album: Album | None) -> Enrolment:
    columns = (TextColumn("enrolling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("enrol", total=len(source.subjects))
        return enrol(source, encoder, progress=lambda _: bar.update(task, advance=1), album=album)


_COUNTED = (
    ("Categories", "categories"),
    ("Pictures from", "image_sources"),
    ("Age of the pictures in years", "image_age_years"),
    ("Age bands", "age_bands"),
)


def _print_refused(refused: Iterable[Refusal]) -> None:
    rows = [(each.reference, each.file, each.reason, each.next_step) for each in refused]
    table(("reference", "file", "left out because", "next step"), rows, title="Left out")


def _print_report(report: dict[str, Any], out: Path) -> None:
    for note in report["notes"]:
        say(note)
    if report["refused"]:
        _print_refused(Refusal(**refusal) for refusal in report["refused"])
    say(
        f"{report['entries']} of {report['people']} people are on the list, "
        f"with {report['templates']} of {report['pictures']} pictures."
    )
    if report["refused"]:
        people = several(report["people_left_out"], "person", "people")
        say(f"Left out: {people} and {several(report['pictures_left_out'], 'picture', 'pictures')}, listed above.")
    if alone := report["one_picture_only"]:
        say(
            f"{several(alone, 'person has', 'people have')} one picture only. Another one, from another year or "
            "camera, is the surest way to miss fewer: on video, five pictures found a fifth more people than one."
        )
    for title, name in _COUNTED:
        say(f"{title}: {counted(report[name])}.")
    say(f"Custody images: {report['custody_images']}. First date to run out: {report['first_date'] or 'none'}.")
    for reference, rationale in report["under_18"].items():
        say(f"{reference} is under 18: {rationale}")
    for reference, file, degrees in report["turned_upright"]:
        say(f"{reference}: {file} lay {'upside down' if degrees == 180 else 'on its side'} and was turned upright.")
    for one, other, score in report["probably_one_person"]:
        say(f"{one} and {other} are probably one person (similarity {score}): merge or check.")
    for one, other, score in report["lookalikes"]:
        say(f"{one} and {other} look alike (similarity {score}).")
    if changes := report.get("changes"):
        _print_changes(changes)
    say(
        f"At one false alert in {report['budget_one_in']}: "
        f"{report['false_alerts_per_10000_passages']} in 10,000 passages of people who are not on it."
    )
    say(f"List {report['digest']}")
    if shown := report.get("page"):
        say(f"Page {shown['file']} shows every picture: look at it, and destroy it with the list.")
    say(f"Store {out / STORE}, key {out / KEY}, report {out / REPORT}")


def _print_changes(changes: dict[str, Any]) -> None:
    say(
        f"Since the last list: {len(changes['added'])} new, {len(changes['removed'])} gone, "
        f"{len(changes['changed'])} changed, {changes['unchanged']} as they were."
    )
    for title, references in (("New", changes["added"]), ("Gone", changes["removed"])):
        if references:
            say(f"{title}: {', '.join(references)}.")
    for reference, lines in changes["changed"].items():
        say(f"{reference}: {'; '.join(lines)}.")


@app.command("build")
def build(
    out: Annotated[Path, typer.Option(help="folder for the store, its key and the report")],
    images: Annotated[Path | None, typer.Option(help="folder with one folder of pictures per reference")] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", "--sheet", help="CSV file or Excel workbook (.xlsx); begin with: watchlist template"),
    ] = None,
    deployment: Annotated[str, typer.Option(help="the deployment the list is for")] = "unassigned",
    day: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="its day; today when not given")] = None,
    approved: Annotated[
        list[str] | None, typer.Option(help="a category that the authorising officer approved; once for each")
    ] = None,
    budget: Annotated[int, typer.Option(min=1000, help="at most one false alert in so many passages")] = 6000,
    van: Annotated[list[str] | None, typer.Option(help="name=age1…: write a bundle for this van, too; repeat")] = None,
    embedder: Annotated[str, typer.Option(help="pack:variant of the embedder that the van runs")] = "",
    second: Annotated[str, typer.Option(help="pack:variant of the second embedder, where the van runs one")] = "",
    detector: Annotated[str, typer.Option(help="pack:variant of the detector")] = "",
    category: Annotated[str, typer.Option(help="category of everybody in --images")] = "",
    lawful_basis: Annotated[str, typer.Option(help="lawful basis of everybody in --images")] = "",
    image_source: Annotated[str, typer.Option(help="where the pictures of --images come from")] = "",
    review_by: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="last day without a review, for --images")
    ] = None,
    report_page: Annotated[
        Path | None,
        typer.Option("--report", help="page with every picture, to look at: .html, or .html.age for --reader"),
    ] = None,
    reader: Annotated[list[str] | None, typer.Option(help="age1…: who may open the page; repeat")] = None,
    sign_with: Annotated[Path | None, typer.Option(help="the unit's private key (JWK): signs the page")] = None,
    last: Annotated[Path | None, typer.Option(help="folder or report.json of the last list: says what changed")] = None,
    as_they_lie: Annotated[
        bool, typer.Option("--as-they-lie", help="every picture is upright: look at no other turn of it")
    ] = False,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help=f"end with 0, not {PARTLY}, although something was left out")
    ] = False,
    as_json: Json = False,
) -> None:
    """Enrol people from pictures into an encrypted watchlist, and list what was left out and why.

    Ends with 0 when everything that was handed in is on the list, with 6 when the list was built and something was
    left out.
    """
    if (images is None) == (csv is None):
        raise typer.BadParameter("give either --images or --csv")
    vans = _vans(van or [])
    readers = reader or []
    if report_page is not None:
        check_name(report_page, readers)
    elif readers or sign_with is not None:
        raise typer.BadParameter("--reader and --sign-with are about the page: name it with --report")
    signer = SigningKey.load(str(sign_with.absolute())) if sign_with is not None else None
    before = read_report(last) if last is not None else None
    if images is not None:
        record = Record(
            category=category,
            lawful_basis=lawful_basis,
            image_source=image_source,
            custody_image=custody_source(image_source),
            review_by=review_by.date().isoformat() if review_by else None,
        )
        source = read_folder(images, record, names=False)
    else:
        assert csv is not None
        source = read_list(csv)
    if not approved:
        there = sorted({same(subject.record.category) or "none" for subject in source.subjects})
        raise typer.BadParameter(
            "name each category that the authorising officer approved with --approved; "
            f"the categories in this list are: {', '.join(there) or 'none'}"
        )
    album = Album() if report_page is not None else None
    report = build_store(
        source,
        out,
        deployment,
        make_encoder(detector, embedder, second=second, turns=(0,) if as_they_lie else range(4)),
        quiet=as_json,
        day=(day or datetime.now(UTC)).date(),
        approved=tuple(approved),
        budget_one_in=budget,
        last=before,
        album=album,
        on_nobody=None if as_json else _print_refused,
    )
    if vans:
        with WatchlistStore.open(out / STORE, read_secret(str((out / KEY).absolute()))) as store:
            manifest, content = write_bundle(store, vans, out)
        (out / MANIFEST).write_bytes(content)
        report["bundle"] = manifest.bundle
    if report_page is not None:
        report["page"] = {"file": str(report_page), "sha256": write_page(page(report, album), report_page, readers)}
        if signer is not None:
            report["page"]["signature"] = str(sign_page(report, report_page, signer))
    if as_json:
        show(report, (), as_json=True)
    else:
        _print_report(report, out)
    if report["refused"] and not allow_partial:
        complain(
            "lfr-provision",
            f"the list {out}: is built, and {several(len(report['refused']), 'thing was', 'things were')} left out. "
            "Read why; if that is meant, say --allow-partial.",
        )
        raise typer.Exit(PARTLY)


@app.command("face")
def face(
    picture: Annotated[Path, typer.Argument(help="a picture of several people")],
    out: Annotated[Path, typer.Option(help="file to write: .jpg or .png")],
    number: Annotated[int | None, typer.Option("--face", min=1, help="which one to cut out, as numbered")] = None,
    detector: Annotated[str, typer.Option(help="pack:variant of the detector")] = "",
    as_json: Json = False,
) -> None:
    """Number the faces of a group picture, or cut one of them out with --face for the list.

    First without --face: look at the numbers. Then with it: what is written shows that face only.
    """
    with PictureReader() as reader:
        image = reader.read(picture)
    upright, found = make_encoder(detector).faces(image, str(picture))
    if number is None:
        write_picture(marked(upright, found), out)
        faces = several(len(found), "face", "faces")
        lines = [f"{out}: {faces}, numbered from the left. Cut one out with --face and another --out."]
    else:
        write_picture(cut_out(upright, found, number, str(picture)), out)
        lines = [f"{out}: face {number} of {len(found)}, with the others painted over."]
    show({"file": str(out), "faces": len(found), "face": number}, lines, as_json=as_json)


@app.command("template")
def template(
    out: Annotated[Path | None, typer.Argument(help="file to write: .csv or .xlsx; list.csv when not given")] = None,
    xlsx: Annotated[bool, typer.Option("--xlsx", help="write list.xlsx, an Excel workbook")] = False,
    as_json: Json = False,
) -> None:
    """Write an empty list to fill in, as CSV or as an Excel workbook that offers the choices."""
    file = out or Path("list.xlsx" if xlsx else "list.csv")
    if xlsx and file.suffix.lower() != ".xlsx":
        raise typer.BadParameter(f"{file} does not end in .xlsx")
    write_template(file)
    show({"file": str(file)}, [f"Fill in {file}; then: lfr-provision watchlist build --csv {file}"], as_json=as_json)


def _vans(pairs: list[str]) -> dict[str, str]:
    vans: dict[str, str] = {}
    for pair in pairs:
        name, equals, key = pair.partition("=")
        if not (name and equals and key):
            raise typer.BadParameter(f"--van {pair}: give name=age1…, as the van's enrolment said")
        recipient(key, name)
        vans[name] = key
    return vans


@app.command("inspect")
def inspect(
    store: Annotated[Path, typer.Argument(help="the store, or the folder it was built in")],
    key: Annotated[Path | None, typer.Option(help="its key; beside the store when not given")] = None,
    as_json: Json = False,
) -> None:
    """Show what is on a list: records and counts, never a template or a picture."""
    path = store / STORE if store.is_dir() else store
    secret = read_secret(str((key or path.with_name(KEY)).absolute()))
    with WatchlistStore.open(path, secret) as opened:
        opened.verify()
        rows = [_row(entry) for entry in opened.stream()]
        meta, digest = opened.meta, opened.digest
    if as_json:
        head = {"digest": digest, "deployment": meta.deployment, "model": meta.model, "entries": rows}
        show(head, (), as_json=True)
        return
    columns = ("reference", "category", "lawful basis", "image from", "taken", "review by", "delete by", "templates")
    table(columns, [[row[name] or "–" for name in _SHOWN] for row in rows])
    say(f"{len(rows)} people for deployment {meta.deployment}, list {digest}")


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
