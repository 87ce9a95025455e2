"""Could this van start now? Every part is tried without watching anybody, and each answer says what to do."""

from __future__ import annotations

import queue
from collections.abc import Callable
from pathlib import Path

import numpy as np
from msgspec import Struct

from edge.alert import topics
from edge.alert.link import Broker, Link, LinkLost
from edge.alert.publish import SESSION_S
from edge.assembly.mandate import AUDIT_FILE, at_rest, load_models, load_second
from edge.clock import SystemClock
from edge.config import Config
from edge.custody.memory import protect
from edge.custody.retention import Custodian
from edge.errors import BrokerUnavailable, CameraUnavailable, EdgeError
from edge.sight.capture import Capture
from edge.trust.audit import in_use
from edge.trust.keys import Recipients, SigningKey
from edge.trust.tls import client_context
from edge.worker import Supervisor

__all__ = ["Check", "self_test"]

FIRST_FRAME_S = 5.0


class Check(Struct, frozen=True):
    """One part, tried.

    Attributes:
        name: the part.
        good: whether it would work.
        detail: what was found, or what is wrong and what to do.
        exit_code: the exit code of the failure, 0 when good.
    """

    name: str
    good: bool
    detail: str
    exit_code: int = 0


def self_test(config: Config) -> list[Check]:
    """Try every part, in the order in which the service starts them; later parts are tried all the same."""
    return [
        _try("memory", lambda: _memory(config)),
        _try("models", lambda: _models(config)),
        _try("deployment", lambda: _deployment(config)),
        _try("keys", lambda: _keys(config)),
        _try("broker", lambda: _broker(config)),
        _try("camera", lambda: _camera(config)),
    ]


def _try(name: str, part: Callable[[], str]) -> Check:
    try:
        return Check(name, good=True, detail=part())
    except EdgeError as error:
        return Check(name, good=False, detail=str(error), exit_code=error.exit_code)


def _memory(config: Config) -> str:
    granted = protect(config.memory)
    return f"{'locked' if granted.locked else 'not locked, and this machine has no swap'}; core dumps are off"


def _models(config: Config) -> str:
    detector, embedder = load_models(config)
    looks = [look for look in (detector, detector.close) if look is not None]
    found = sum(len(look.detect(np.zeros((*look.model.size[::-1], 3), np.uint8))) for look in looks)
    embedders = [each for each in (embedder, load_second(config)) if each is not None]
    grey = [np.full((each.chip_size, each.chip_size, 3), 127, np.uint8) for each in embedders]
    lengths = [float(np.linalg.norm(each.embed(chip))) for each, chip in zip(embedders, grey, strict=True)]
    wrong = [length for length in lengths if abs(length - 1.0) > 1e-3]
    if found or wrong:
        raise EdgeError(
            "the models",
            f"answer wrongly ({found} faces in a black picture, a template of length {(wrong or lengths)[0]:.3f})",
            "Check this machine's memory and processor, or choose the other runtime in models.runtime",
        )
    models = config.models
    names = (models.detector, models.close_up, models.embedder, models.second)
    return f"{', '.join(filter(None, names))} on {config.models.runtime}"


def _deployment(config: Config) -> str:
    with at_rest(config) as held:
        store = held.mandate.start()
        authority = held.mandate.check()
        return (
            f"{authority.deployment}: {len(store)} people, an alert needs score {held.mandate.limits.score:.3f}, "
            f"until {authority.ends:%Y-%m-%d %H:%M %Z}"
        )


def _keys(config: Config) -> str:
    base = Path(config.base)
    alert = config.alert
    SigningKey.load(alert.signing_key, base)
    Recipients.load(config.path(alert.recipients))
    client_context(alert.ca, alert.certificate, alert.certificate_key, base)
    return "alerts can be signed, sealed and sent"


def _broker(config: Config) -> str:
    # Connected as the service connects, not only greeted: with TLS 1.3 a broker judges our certificate after the
    # handshake, and its access rules when we subscribe. A certificate is one connection, so a service that runs would
    # lose its own; and what the broker keeps for the van stays there, because nothing is acknowledged.
    alert, van = config.alert, config.van.id
    if in_use(config.path(config.store.directory) / AUDIT_FILE):
        raise BrokerUnavailable(
            f"the broker {alert.host}:{alert.port}",
            "was not tried: the service is running and has this van's connection",
            "Look at the crew's page, or stop the service first",
        )
    context = client_context(alert.ca, alert.certificate, alert.certificate_key, Path(config.base))
    link = Link(Broker(alert.host, alert.port, context), van, queue.SimpleQueue(), session_s=SESSION_S, manual_ack=True)
    try:
        link.open()
        link.subscribe(topics.topic(van, topics.RECEIPT))
    except LinkLost as error:
        raise BrokerUnavailable(
            f"the broker {alert.host}:{alert.port}", f"does not answer ({error})", "Check the network and the address"
        ) from None
    finally:
        link.close()
    return f"{alert.host}:{alert.port} accepts this van's certificate"


def _camera(config: Config) -> str:
    clock = SystemClock()
    custodian = Custodian(clock)
    source = config.camera_name()
    capture = Capture(config.camera, custodian, clock, source=config.source())
    try:
        capture.start(Supervisor())
        frame = capture.next(FIRST_FRAME_S)
        if frame is None:
            raise capture.error or CameraUnavailable(
                source, "opens but delivers no picture", "Check its cable and its lens cap"
            )
        height, width = frame.pixels.array.shape[:2]
        frame.pixels.erase()
        less = f"; it {capture.shortfall}" if capture.shortfall else ""
        return f"{source} delivers {width}x{height}{less}"
    finally:
        capture.stop()
        custodian.purge()
