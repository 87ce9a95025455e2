"""``lfr-edge evaluate`` and ``lfr-edge threshold``: what they take and how they print."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge.commandline import AsJson, complain, say, table
from edge.errors import StoreUnavailable
from edge.match.doubles import ONE_PERSON

if TYPE_CHECKING:
    from edge.evaluate.report import Closely, Report

__all__ = ["evaluate", "rate", "threshold"]

DETECTOR = "centerface:640x384-int8"
EMBEDDER = "mobilefacenet:dynamic-int8"
SECOND_SHARE = 0.6
"""Of a second embedder in a score; docs/decisions/0073-a-second-opinion.md says how it was chosen."""
MODELS = typer.Option(help="folder of model packs; those that ship with LFR Edge if left out")


def rate(text: str) -> float:
    """Reads a rate as people write it: ``0.001``, ``0.1%`` or ``1/6000``.

    Raises:
        typer.BadParameter: it is none, or does not lie between 0 and 1.
    """
    try:
        if "/" in text:
            above, below = text.split("/")
            value = float(above) / float(below)
        elif text.endswith("%"):
            value = float(text[:-1]) / 100
        else:
            value = float(text)
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"'{text}' is not a rate between 0 and 1: write 0.001, 0.1% or 1/6000")
    return value


def evaluate(
    manifest: Annotated[Path, typer.Option(help="CSV: identity,path[,role][,group…]; paths relative to it")],
    gallery_fill: Annotated[Path | None, typer.Option(help="manifest of people who are enrolled only")] = None,
    where: Annotated[list[str] | None, typer.Option(help="keep rows with COLUMN=VALUE; may be repeated")] = None,
    without: Annotated[
        Path | None, typer.Option(help="CSV identity,why: people who are left out, as one person under two names")
    ] = None,
    detector: Annotated[str, typer.Option(help="pack:variant")] = DETECTOR,
    embedder: Annotated[str, typer.Option(help="pack:variant")] = EMBEDDER,
    gallery_embedder: Annotated[
        str | None, typer.Option(help="another variant of the same model for the gallery")
    ] = None,
    second: Annotated[
        str | None, typer.Option(help="pack:variant of a second embedder, whose list-relative score is mixed in")
    ] = None,
    second_share: Annotated[float, typer.Option(min=0, max=1, help="its share of the score")] = SECOND_SHARE,
    models: Annotated[Path | None, MODELS] = None,
    runtime: Annotated[str, typer.Option(help="litert or tflite-runtime")] = "litert",
    closely: Annotated[
        str, typer.Option(help="whom to look at more closely: none, enrol (the list) or both, as a van does in effect")
    ] = "both",
    score: Annotated[
        str, typer.Option(help="list-relative, as a van does it: likeness beyond the rest of the list; or cosine")
    ] = "list-relative",
    share: Annotated[float, typer.Option(min=0, max=1, help="list-relative: how much of that is taken off")] = 0.4,
    nearest: Annotated[int, typer.Option(min=1, help="list-relative: how many others count")] = 10,
    one_person: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="list-relative: likeness from which two entries are probably one person"),
    ] = ONE_PERSON,
    fpir: Annotated[list[str] | None, typer.Option(help="report at this FPIR: 0.01, 1% or 1/6000; repeatable")] = None,
    threshold: Annotated[float | None, typer.Option(min=-1, max=1, help="report at this score instead")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the split and the bootstrap")] = 0,
    bootstrap: Annotated[int, typer.Option(min=0, help="resamplings of people; 0 for none")] = 1000,
    workers: Annotated[int | None, typer.Option(min=1, help="processes; one per core if left out")] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="keep templates in this folder, in the clear, to resume a run; delete it afterwards"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="draw the DET curve and the groups: .png, .svg or .pdf; needs matplotlib")
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="write every rate with its bounds, by group, as CSV")
    ] = None,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Measure accuracy in an open-set search: FPIR, TPIR, failures, by group, with 95 % intervals."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edge.evaluate.extract import Recipe
    from edge.evaluate.plot import check, draw
    from edge.evaluate.report import evaluate as run
    from edge.match.relative import Relative

    if second and gallery_embedder:
        raise typer.BadParameter("--second and --gallery-embedder cannot be combined: name one of them")
    other = second or gallery_embedder
    recipe = Recipe(
        detector=detector,
        embedders=(embedder, other) if other else (embedder,),
        directory=models,
        runtime=_one_of(runtime, "runtime", ("litert", "tflite-runtime")),
    )
    sides: Closely = _one_of(closely, "closely", ("none", "enrol", "both"))
    how = _one_of(score, "score", ("cosine", "list-relative"))
    targets = tuple(rate(text) for text in fpir) if fpir else (0.1, 0.03, 0.01, 0.003, 0.001)
    if plot is not None:
        check(plot)
    condition = dict(_pair(text) for text in where or ())
    err = Console(stderr=True)
    if cache is not None:
        complain("lfr-edge", f"{cache} will hold templates of every face, in the clear. Delete it when you are done.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, disable=not err.is_terminal)
    with progress if err.is_terminal else nullcontext():

        def started(count: int) -> Any:
            task = progress.add_task("pictures", total=count)
            return lambda n: progress.advance(task, n)

        report = run(
            manifest,
            recipe,
            gallery_fill=gallery_fill,
            where=condition,
            without=without,
            closely=sides,
            relative=Relative(probe=share, entry=share, nearest=nearest, one_person=one_person)
            if how == "list-relative"
            else None,
            second=second_share if second else None,
            targets=targets,
            threshold=threshold,
            seed=seed,
            replicates=bootstrap,
            workers=workers,
            cache=cache,
            started=started,
        )
    if plot is not None:
        draw(report, plot, f"{embedder}, {detector}: {manifest.parent.name}/{manifest.name}")
    if csv is not None:
        try:
            csv.write_text(report.to_csv(), encoding="utf-8")
        except OSError as error:
            raise StoreUnavailable(str(csv), f"cannot be written ({error.strerror})", "Check the path") from None
    if as_json:
        print(json.dumps(report.to_json(), indent=2))
    else:
        _print(report)


def threshold(
    fpir: Annotated[str, typer.Option(help="false-alert budget per person who passes: 1/6000, 0.1% or 0.001")],
    entries: Annotated[int, typer.Option(min=1, help="people on the list")],
    several: Annotated[bool, typer.Option("--several", help="somebody on it has several pictures")] = False,
    pack: Annotated[str, typer.Option(help="the embedder's pack")] = "mobilefacenet",
    models: Annotated[Path | None, MODELS] = None,
    as_json: Annotated[bool, AsJson] = False,
) -> None:
    """Give the score at which a false-alert budget is met at a list's size, and how sure that is."""
    from dataclasses import asdict

    from edge.match.calibration import ImpostorTail
    from edge.sight.card import default_directory

    tail = ImpostorTail.load((models or default_directory()) / pack)
    found = tail.threshold(rate(fpir), entries, several=several)
    if as_json:
        about = {"model_sha256": tail.model_sha256, "data": tail.data, "people": tail.people}
        about["scene_similarity"] = tail.scene_similarity
        print(json.dumps(asdict(found) | about, indent=2))
        return
    say(f"threshold {found.threshold:.3f}   (95 % of resamplings: {found.lower:.3f} to {found.upper:.3f})")
    say(
        f"of the score: the likeness to one entry, less {tail.relative.probe:g} of the face's and "
        f"{tail.relative.entry:g} of the entry's likeness to the {tail.relative.nearest} others nearest on the list."
    )
    if tail.second:
        say(f"{tail.second:.0%} of it is the second embedder's, {1 - tail.second:.0%} the first's.")
    say(f"One false alert in {1 / found.fpir:,.0f} people who pass, with {found.entries:,} on the list.")
    if found.judged_entries > found.entries:
        say(
            f"A list of {found.entries:,} is judged as one of {found.judged_entries:,}, the shortest that was measured."
        )
    say(
        f"A passage counts as {found.searches:g} searches of one picture: the highest bound of what passages raised "
        "where the pack was measured."
    )
    say(
        f"The likeness itself must reach {tail.scene_similarity:.3f} besides: strangers who share camera and light are "
        "more alike than any list can tell."
    )
    say(f"From lists of {found.measured_entries:,} of {tail.people:,} people: {tail.data}.")
    if found.extrapolation > 1:
        say(f"It is {found.extrapolation:.1f} times rarer than one in all searches measured: extrapolated.")
    typer.echo("Benchmark faces are not your street: measure on your own recordings before you rely on it.")


def _print(report: Report) -> None:
    from edge.evaluate.tables import print_differentials

    facts = report.to_json()
    say(
        f"{facts['n_gallery']:,} enrolled · {facts['n_mated']:,} mated · {facts['n_nonmated']:,} non-mated searches "
        f"({facts['nonmated_searches']}) · failure to enrol {facts['failure_to_enrol']:.2%} · "
        f"failure to acquire {facts['failure_to_acquire']:.2%} · rank 1 {_percent(facts['rank1'])}"
    )
    for status, paths in facts["failures"].items():
        if paths:
            listed = ", ".join(paths[:5]) + (" …" if len(paths) > 5 else "")
            say(f"{status}: {len(paths)}: {listed}")
    rows = []
    for point in facts["points"]:
        target = "–" if point["fpir_target"] is None else f"{point['fpir_target']:.4g}"
        row = [target, f"{point['threshold']:.4f}"]
        for name in ("fpir", "tpir"):
            row += [_percent(point[name]), _between(point[f"{name}_ci95"])]
        rows.append([*row, _between(point["tpir_ci95_person"])])
    table(("FPIR target", "threshold", "FPIR", "95 %", "TPIR", "95 %", "95 % by person"), rows)
    for point in facts["points"]:
        if not point["shown"]:
            say(
                f"An FPIR of {point['fpir_target']:.4g} cannot be shown with {point['searches']:,} searches: it takes "
                f"{point['searches_needed']:,} at least. Its threshold is the lowest at which nobody alerted."
            )
    at = [f"{point['threshold']:.3f}" for point in facts["points"]]
    for column, values in facts["groups"].items():
        rows = []
        for value, group in values.items():
            rates = [
                f"{_percent(p['tpir'])} / {_percent(p['fpir'])}{_doubt(group['n_nonmated'], whole)}"
                for p, whole in zip(group["points"], facts["points"], strict=True)
            ]
            rows.append([value, group["n_mated"], group["n_nonmated"], *rates])
        title = f"TPIR / FPIR at each threshold, by {column}"
        table((column, "mated", "non-mated", *at), rows, title=title)
    if facts["groups"]:
        say("* cannot be shown with so few non-mated searches.")
    for column, apart in report.differentials.items():
        print_differentials(column, apart, report.overall)


def _doubt(searches: int, whole: dict[str, Any]) -> str:
    """A mark behind an FPIR that a group's searches cannot show."""
    return " *" if searches < whole["searches_needed"] else ""


def _between(interval: list[float] | None) -> str:
    return "–" if interval is None else f"{_percent(interval[0])} to {_percent(interval[1])}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _pair(text: str) -> tuple[str, str]:
    column, sign, value = text.partition("=")
    if not (column and sign):
        raise typer.BadParameter(f"'{text}' is not COLUMN=VALUE")
    return column, value


def _one_of(text: str, option: str, allowed: tuple[str, ...]) -> Any:
    if text not in allowed:
        raise typer.BadParameter(f"--{option} is one of {', '.join(allowed)}, not '{text}'")
    return text
