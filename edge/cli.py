"""``lfr-edge``: what runs on the van."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edge.commandline import AsJson, commands, show
from edge.commandline import run as run_app
from edge.evaluate.cli import evaluate, threshold

__all__ = ["app", "main"]

app = commands(
    "Watch a street for the people on a short, lawful, encrypted list; forget everybody else within seconds.",
    name="lfr-edge",
)
app.command()(evaluate)
app.command()(threshold)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="the van's configuration (TOML)", show_default=True)]
Json = Annotated[bool, AsJson]


@app.command("check-config")
def check_config(
    file: Annotated[Path, typer.Argument(help="the configuration file")],
    as_json: Json = False,
) -> None:
    """Check a configuration file and name the key at fault. Exit 0 when it is good, 4 when it is not."""
    from edge.config import load

    config = load(file)
    summary = {"file": str(file), "van": config.van.id, "deployment": config.deployment.id, "good": True}
    show(summary, [f"{file}: good. Van {config.van.id}, deployment {config.deployment.id}."], as_json=as_json)


@app.command()
def run(
    config: ConfigFile = Path("lfr.toml"),
    as_json: Json = False,
    events: Annotated[bool, typer.Option("--events", help="one JSON line per alert and erasure on stdout")] = False,
) -> None:
    """Run the service until the source ends or it is told to stop (SIGTERM, Ctrl-C).

    Nothing runs unless memory is protected, the models are what their cards say, the list opens, and the
    keys are there. The last line on standard output is the run in numbers.
    """
    from edge.appliance import Appliance
    from edge.config import load
    from edge.records import Alert, ErasureReceipt
    from edge.system import journal

    journal.configure()

    def tell(kind: str, **fields: Any) -> None:
        if events:
            print(json.dumps({"event": kind, **fields}), flush=True)

    settings = load(config)

    def on_receipt(receipt: ErasureReceipt) -> None:
        tell(
            "forgotten",
            track=str(receipt.track_id),
            matched=receipt.matched,
            cause=receipt.cause.value,
            after_ms=round(receipt.held_after_last_seen_ms, 1),
        )

    def on_alert(alert: Alert) -> None:
        figures = {"similarity": round(alert.similarity, 4), "score": round(alert.score or 0.0, 4)}
        tell("alert", id=str(alert.alert_id), reference=alert.reference, **figures)

    made = Appliance(settings, on_receipt=on_receipt, on_alert=on_alert)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: made.stop())
    with made as appliance:
        tell("watching", people=appliance.van.pipeline.listed)
        health = appliance.run()
        incomplete = appliance.incomplete
    show(health, _health_lines(health), as_json=as_json or events)
    if incomplete is not None:
        raise incomplete


@app.command()
def fetch(
    config: ConfigFile = Path("lfr.toml"),
    source: Annotated[str | None, typer.Option("--from", help="a stick's folder, or https://…")] = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="overwrite the list on the stick after the import")] = False,
    as_json: Json = False,
) -> None:
    """Bring authority, list and revocations onto the van, after checking every signature. Exit 3 when refused."""
    from edge.assembly.mandate import at_rest
    from edge.config import load
    from edge.deployment.guard import MAY_PASS
    from edge.system import journal

    journal.configure()
    with at_rest(load(config), source=source, wipe=wipe) as held:
        try:
            held.mandate.start()
        except MAY_PASS as error:
            print(f"lfr-edge: not yet: {error}", file=sys.stderr)
        authority, store = held.mandate.authority, held.lists.open()
        document = {
            "deployment": authority.deployment if authority else "",
            "starts": authority.starts if authority else None,
            "ends": authority.ends if authority else None,
            "place": authority.place.name if authority else "",
            "entries": len(store),
            "watchlist": store.digest,
            "threshold": held.mandate.limits.score,
            "min_similarity": held.mandate.limits.similarity,
        }
    needs = f"score {document['threshold']:.3f} and similarity {document['min_similarity']:.3f}"
    lines = [
        f"Deployment {document['deployment']}, {document['place']}",
        f"  from {document['starts']:%Y-%m-%d %H:%M %Z} to {document['ends']:%Y-%m-%d %H:%M %Z}",
        f"  on the list {document['entries']}; an alert needs {needs}",
    ]
    show(document, lines, as_json=as_json)


@app.command("self-test")
def self_test(config: ConfigFile = Path("lfr.toml"), as_json: Json = False) -> None:
    """Check every part without watching anybody. Exit 0 when the van could start now."""
    from edge.config import load
    from edge.selftest import self_test as examine
    from edge.system import journal

    journal.configure()
    checks = examine(load(config))
    lines = [f"{'ok  ' if check.good else 'FAIL'}  {check.name}: {check.detail}" for check in checks]
    show(checks, lines, as_json=as_json)
    if not all(check.good for check in checks):
        raise typer.Exit(max(check.exit_code for check in checks))


@app.command()
def status(config: ConfigFile = Path("lfr.toml"), as_json: Json = False) -> None:
    """What the running service last said of itself."""
    from edge.config import load
    from edge.system.board import status_file
    from edge.system.health import read_status

    health = read_status(status_file(load(config)))
    show(health, _health_lines(health), as_json=as_json)


@app.command()
def page(
    config: ConfigFile = Path("lfr.toml"),
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="TCP port on this machine")] = None,
    as_json: Json = False,
) -> None:
    """Serve the crew's page: on this machine, and over TLS to enrolled tablets where page.host is set."""
    from edge.console.serve import serve

    serve(config, port=port, ready=lambda addresses: show({"addresses": addresses}, list(addresses), as_json=as_json))


@app.command()
def retire(
    config: ConfigFile = Path("lfr.toml"),
    cause: Annotated[str, typer.Option(help="why, in words; it goes into the receipt")] = "the deployment has ended",
    as_json: Json = False,
) -> None:
    """Destroy the list: its key first, then the store. The receipt keeps digest, time, cause and references."""
    from edge.assembly.mandate import retire as destroy
    from edge.config import load

    receipt = destroy(load(config), cause)
    lines = [
        f"The list {receipt.digest} is destroyed ({receipt.cause}): {', '.join(receipt.files)}.",
        f"For the record remains who was on it: {', '.join(receipt.references) or 'unknown'}.",
    ]
    show(receipt, lines, as_json=as_json)


@app.command()
def bench(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="take models and threads from here")] = None,
    rounds: Annotated[int, typer.Option(min=5, help="measurements per stage")] = 50,
    scene: Annotated[bool, typer.Option("--scene", help="watch a labelled street made of the --faces instead")] = False,
    faces: Annotated[Path | None, typer.Option(help="folder with one folder of pictures per person")] = None,
    people: Annotated[float, typer.Option(min=1, help="of the street: people a minute")] = 60.0,
    seconds: Annotated[float, typer.Option(min=1, help="of the street: its length")] = 20.0,
    fps: Annotated[float, typer.Option(min=1, help="of the street: frames a second")] = 10.0,
    listed: Annotated[int, typer.Option(min=0, help="of the street: how many are on the list")] = 5,
    size: Annotated[tuple[int, int], typer.Option(min=10, help="of the street: width of faces, pixels")] = (40, 160),
    seed: Annotated[int, typer.Option(min=0, help="of the street")] = 2019,
    entries: Annotated[int, typer.Option(min=1, help="length of the list; filled up with made-up entries")] = 1000,
    live: Annotated[
        bool, typer.Option("--live", help="play the street at its own rate; the newest frame wins")
    ] = False,
    minutes: Annotated[float, typer.Option(min=0, help="repeat the street for so long: does memory grow?")] = 0.0,
    as_json: Json = False,
) -> None:
    """Measure each stage on this machine, on made-up pixels; or the whole pipeline on a street of real faces."""
    from edge.bench import bench as measure
    from edge.config import load

    if scene:
        from edge.bench_scene import bench_scene
        from edge.evaluate.scene_report import SceneSettings, lines
        from edge.evaluate.street import StreetPlan
        from edge.system.journal import configure

        if faces is None:
            raise typer.BadParameter("--scene needs --faces FOLDER, with one folder of pictures per person")
        plan = StreetPlan(seed=seed, seconds=seconds, fps=fps, people_per_minute=people, listed=listed, size_px=size)
        settings = SceneSettings(faces=str(faces), plan=plan, live=live, entries=entries, minutes=minutes)
        configure("json")  # on standard error: the report has standard output for itself
        models = load(config).models if config else None
        if models is not None and models.second:
            raise typer.BadParameter("--scene does not measure a second embedder yet: give a configuration without one")
        of_street = bench_scene(settings, models)
        show(of_street, lines(of_street), as_json=as_json)
        return
    report = measure(load(config) if config else None, rounds=rounds)
    head = f"{report.machine}, {report.runtime}, {report.threads} thread(s), medians of {report.rounds}:"
    show(report, [head, *(f"  {stage:<32}{ms:8.2f} ms" for stage, ms in report.median_ms.items())], as_json=as_json)


def _health_lines(health: Any) -> list[str]:
    erased = health.erasure_ms
    after = "nobody yet" if erased.max is None else f"{erased.p50:.0f} ms median, {erased.max:.0f} ms at most"
    return [
        f"{health.van}, deployment {health.deployment}: {health.state}{': ' + health.why if health.why else ''}",
        *(f"  {reason.part}: {reason.why}" for reason in health.reasons if reason.why != health.why),
        f"  frames {health.frames} at {health.fps} per second, {health.dropped} overtaken by newer ones",
        *([f"  frames that cannot be read {health.unreadable}"] if health.unreadable else []),
        f"  faces {health.faces_seen}, alerts {health.alerts}, waiting for the broker {health.undelivered}",
        f"  forgotten after the last frame: {after}; overdue {health.nonmatch_overdue}",
    ]


def main() -> None:
    """Entry point of ``lfr-edge``."""
    run_app(app, "lfr-edge")
