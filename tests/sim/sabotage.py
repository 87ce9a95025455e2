"""``lfr-edge`` with one worker that dies of an exception nobody expected, once a file appears.

    python -m tests.sim.sabotage WORKER TRIGGER run --config lfr.toml

``WORKER`` is the worker's name, ``network`` for paho's own thread, or ``main``. Beside the trigger lie, afterwards,
``died`` (when the exception was raised) and ``left`` (what custody and index held when the service had put all away).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from paho.mqtt.client import Client

from edge import cli
from edge.appliance import Appliance
from edge.worker import Worker


class Sabotage(ZeroDivisionError):
    """Nobody expects it."""


def main() -> None:
    name, trigger = sys.argv[1], Path(sys.argv[2])
    sys.argv[1:] = sys.argv[3:]

    def strike() -> None:
        died = trigger.with_name("died")
        if trigger.exists() and not died.exists():
            died.write_text(str(time.time()))
            raise Sabotage("a secret that no log may hold")

    beat, report, loop, leave = Worker.beat, Appliance._report, Client._loop, Appliance.__exit__

    def beats(worker: Worker) -> None:
        if worker.name == name:
            strike()
        beat(worker)

    def reports(appliance: Appliance) -> None:
        if name == "main":
            strike()
        report(appliance)

    def loops(client: Client, *arguments: object) -> object:
        if name == "network":
            strike()
        return loop(client, *arguments)

    def leaves(appliance: Appliance, *arguments: object) -> None:
        leave(appliance, *arguments)
        live = appliance.van.custodian.totals().live
        left = {"live": live, "listed": appliance.van.pipeline.listed, "permit": appliance.van.permit.valid}
        trigger.with_name("left").write_text(json.dumps(left))

    Worker.beat, Appliance._report, Client._loop, Appliance.__exit__ = beats, reports, loops, leaves
    cli.main()


if __name__ == "__main__":
    main()
