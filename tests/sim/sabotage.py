"""``lfr-edge`` with one worker that dies of an exception nobody expected, once a file appears.

    python -m tests.sim.sabotage WORKER TRIGGER run --config lfr.toml

``WORKER`` is the worker's name, ``network`` for paho's own thread, or ``main``; ``slow guard`` asks once for four
seconds instead, and ``stuck end`` puts nothing away when the service is to end. Beside the trigger lie, afterwards,
``died`` (when the exception was raised) and ``left`` (what custody and index held when the service had put all away).
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

from paho.mqtt.client import Client

from edge import appliance, cli
from edge.appliance import Appliance
from edge.custody.erase import ErasureCause
from edge.custody.retention import Custodian
from edge.deployment.mandate import Mandate
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

    beat, watch, loop, leave = Worker.beat, Appliance._watch_permit, Client._loop, Appliance.__exit__

    def beats(worker: Worker) -> None:
        if worker.name == name:
            strike()
        beat(worker)

    def watches(service: Appliance) -> None:
        if name == "main":
            strike()
        watch(service)

    def loops(client: Client, *arguments: object) -> object:
        if name == "network":
            strike()
        return loop(client, *arguments)

    def leaves(service: Appliance, *arguments: object) -> None:
        leave(service, *arguments)
        live = service.van.custodian.totals().live
        left = {"live": live, "listed": service.van.pipeline.listed, "permit": service.van.permit.valid}
        trigger.with_name("left").write_text(json.dumps(left))

    check, purge = Mandate.check, Custodian.purge

    def checks(mandate: Mandate) -> object:
        if name == "slow guard" and trigger.exists() and not trigger.with_name("died").exists():
            trigger.with_name("died").write_text(str(time.time()))
            time.sleep(4)
        return check(mandate)

    def purges(custodian: Custodian, *arguments: ErasureCause) -> None:
        if name == "stuck end":
            threading.Event().wait()
        purge(custodian, *arguments)

    if name == "stuck end":
        appliance.PUT_AWAY_S = 1.0
    Mandate.check, Custodian.purge = checks, purges  # type: ignore[method-assign]
    Worker.beat, Appliance._watch_permit, Client._loop, Appliance.__exit__ = beats, watches, loops, leaves
    cli.main()


if __name__ == "__main__":
    main()
