"""``lfr-provision image flash`` and ``image ledger``: one medium or many, and what was written down of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.commandline import AsJson, say, show, table
from edge.errors import BadInput
from edge.files import replace_file

if TYPE_CHECKING:
    from provisioning.image.flash import Flashed
    from provisioning.image.many import Done

__all__ = ["flash", "ledger"]

LEDGER = Path("flash-ledger.jsonl")
WRITTEN = 0.9
"""How far the bar is when a medium is written; it has still to be read back."""
Json = Annotated[bool, AsJson]
Ledger = Annotated[Path, typer.Option(help="file that gets a line for every medium")]


def flash(
    folder: Annotated[Path | None, typer.Argument(help="the image's folder")] = None,
    keyring: Annotated[Path | None, typer.Option(help="whom to trust")] = None,
    to: Annotated[Path | None, typer.Option(help="device, loop device or file")] = None,
    many: Annotated[
        Path | None, typer.Option(help="several at once: a CSV file with the columns to,serial,van")
    ] = None,
    serial: Annotated[str, typer.Option(help="the medium's serial number; asked for when not given")] = "",
    force_serial: Annotated[str, typer.Option(help="serial of a built-in disk that is meant all the same")] = "",
    van: Annotated[str, typer.Option(help="the van it is for")] = "",
    ledger: Ledger = LEDGER,
    labels: Annotated[
        Path | None, typer.Option(help="write labels to print, as HTML: the van's name, the medium, a QR code")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="list media and why each may or may not be written")] = False,
    as_json: Json = False,
) -> None:
    """Write a verified image to a medium, or to many, and read each back. Without a target: list media.

    A medium that gives back something else is written down in the ledger and never written again.
    """
    if listing or folder is None or keyring is None or (to is None) == (many is None):
        _list(folder, as_json=as_json)
        if not listing:
            typer.echo("Give: image flash FOLDER --keyring KEYRING --to DEVICE, or --many PLAN.csv", err=True)
            raise typer.Exit(2)
        return
    if many is not None:
        if serial or force_serial or van:
            raise typer.BadParameter("the plan gives serial and van of each; a built-in disk is flashed alone")
        _many(folder, keyring, many, ledger, labels, as_json=as_json)
        return
    assert to is not None
    from provisioning.image import flash as flashes

    if not serial:
        serial = typer.prompt(f"Everything on {to} will be lost. Its serial number, from the label", err=True)
    with _progress() as bar:
        task = bar.add_task("writing", total=100)
        line = flashes.flash(
            folder, keyring, to, serial=serial, forced_serial=force_serial, van=van, ledger=ledger,
            progress=lambda percent: bar.update(task, completed=percent),
        )  # fmt: skip
    _print_labels([line], labels)
    lines = [
        f"{to} holds version {line.version}; {len(line.partitions)} partitions were read back and are right.",
        f"{ledger} holds its one-time secret: keep it to yourself until the van is enrolled.",
        "Start the van with it once; then: lfr-provision image enrol",
    ]
    show(_without_secret(line), lines, as_json=as_json)


def ledger(
    file: Annotated[Path, typer.Argument(help="the ledger that flash wrote")] = LEDGER,
    out: Annotated[Path | None, typer.Option("--csv", help="write it as CSV, without the secrets")] = None,
    as_json: Json = False,
) -> None:
    """Show which media were flashed, enrolled or found faulty; the one-time secrets are never shown."""
    from provisioning.image import ledger as ledgers

    if not file.exists():
        raise BadInput(str(file), "is not there", "Give the ledger that flash wrote")
    rows = ledgers.rows(file)
    if out is not None:
        replace_file(out, ledgers.as_csv(file).encode(), mode=0o644)
        show({"csv": str(out), "lines": len(rows)}, [f"{out} has {len(rows)} lines."], as_json=as_json)
        return
    if as_json:
        show([dict(zip(ledgers.COLUMNS, row, strict=True)) for row in rows], (), as_json=True)
        return
    table(ledgers.COLUMNS, rows)


def _list(folder: Path | None, *, as_json: bool) -> None:
    from provisioning.image import devices
    from provisioning.image import flash as flashes

    found = devices.candidates(flashes.size_needed(folder) if folder else 0)
    rows = [
        {"path": str(d.path), "size": d.size, "serial": d.serial, "model": d.model, "refused": why} for d, why in found
    ]
    lines = (
        f"{device.path}  {device.size / 1e9:.1f} GB  {device.model}  serial {device.serial or '-'}  "
        + (f"no: {why}" if why else "may be written")
        for device, why in found
    )
    show(rows, lines, as_json=as_json)


def _many(folder: Path, keyring: Path, plan: Path, ledger: Path, labels: Path | None, *, as_json: bool) -> None:
    from provisioning.image import many

    wanted = many.read_plan(plan)
    with _progress() as bar:
        tasks = {line: bar.add_task(f"{line.van}  {line.to}", total=100) for line in wanted}

        def finished(done: Done) -> None:
            bar.update(tasks[done.wanted], completed=100)
            if not as_json:
                bar.console.print(_outcome(done), markup=False, highlight=False, soft_wrap=True)

        found = many.flash_many(
            folder, keyring, wanted, ledger=ledger, finished=finished,
            progress=lambda line, percent: bar.update(tasks[line], completed=WRITTEN * percent),
        )  # fmt: skip
    good = [done.flashed for done in found if done.flashed is not None]
    _print_labels(good, labels)
    document = [
        {"to": str(done.wanted.to), "van": done.wanted.van, "serial": done.wanted.serial}
        | ({"flashed": _without_secret(done.flashed)} if done.flashed else {"error": str(done.error)})
        for done in found
    ]
    lines = [f"{len(good)} of {len(found)} media were written, read back, and are right."]
    show(document, lines, as_json=as_json)
    if failed := next((done.error for done in found if done.error is not None), None):
        raise typer.Exit(failed.exit_code)


def _outcome(done: Done) -> str:
    if done.flashed is not None:
        return f"{done.wanted.van}  {done.wanted.to}  right: version {done.flashed.version}"
    return f"{done.wanted.van}  FAILED  {done.error}"


def _print_labels(lines: Iterable[Flashed], target: Path | None) -> None:
    if target is not None:
        from provisioning.image.label import labels_page

        replace_file(target, labels_page(lines).encode(), mode=0o644)
        say(f"{target} has the labels: print it at 100 %.")


def _without_secret(line: Flashed) -> dict[str, Any]:
    return {name: value for name, value in asdict(line).items() if name != "secret"}


def _progress() -> Any:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True)
