"""The MQTT topics of one van; the broker ties each to the van's certificate.

====================================  ==============  ========  ================================================
topic                                 from → to       retained  content
====================================  ==============  ========  ================================================
``lfr/1/<van>/alert``                 van → control   no        one sealed alert (:mod:`edge.alert.message`)
``lfr/1/<van>/state``                 van → control   yes       birth, last will and changes of state
``lfr/1/<van>/health``                van → control   no        counters only
``lfr/1/<van>/checkpoint``            van → control   no        signed checkpoints of the van's audit log
``lfr/1/control-room/checkpoint``     control → all   no        signed checkpoints of the control room's audit log
``lfr/1/<van>/receipt``               control → van   no        which alerts the control room holds, signed
``lfr/1/<van>/adjudication``          control → van   no        what a person decided on an alert, signed
``lfr/1/<van>/revocation``            control → van   yes       who must leave the list now, or that all is over
====================================  ==============  ========  ================================================

The ``1`` is the version of the contract: a change that an old reader would misunderstand takes another.
"""

from __future__ import annotations

import re

from edge.errors import AlertRejected
from edge.names import NAME

__all__ = [
    "ADJUDICATION",
    "ALERT",
    "CHECKPOINT",
    "CONTROL_ROOM",
    "HEALTH",
    "KINDS",
    "RECEIPT",
    "RETAINED",
    "REVOCATION",
    "ROOT",
    "STATE",
    "of_all",
    "parse",
    "topic",
]

ROOT = "lfr/1"
CONTROL_ROOM = "control-room"
"""In the place of a van, in whose topic the control room publishes its own checkpoints. No van may be called so."""
ALERT = "alert"
STATE = "state"
HEALTH = "health"
CHECKPOINT = "checkpoint"
RECEIPT = "receipt"
ADJUDICATION = "adjudication"
REVOCATION = "revocation"
KINDS = (ALERT, STATE, HEALTH, CHECKPOINT, RECEIPT, ADJUDICATION, REVOCATION)

RETAINED = (STATE, REVOCATION)
"""Kinds of which the broker keeps the newest; of another kind, what somebody had it keep is nothing that we want."""

_TOPIC = re.compile(rf"{ROOT}/({NAME})/({'|'.join(KINDS)})")


def topic(van: str, kind: str) -> str:
    """The topic of one kind of message of one van.

    Raises:
        AlertRejected: the van's name or the kind could not be one (it might reach another van's topic).
    """
    name = f"{ROOT}/{van}/{kind}"
    parse(name)
    return name


def of_all(kind: str) -> str:
    """The filter that matches this kind of message of every van."""
    return f"{ROOT}/+/{kind}"


def parse(name: str) -> tuple[str, str]:
    """The van and the kind of a topic.

    Raises:
        AlertRejected: it is no topic of this contract.
    """
    found = _TOPIC.fullmatch(name)
    if found is None:
        raise AlertRejected(f"topic {name[:120]!r}", "is not one of LFR Edge", "Check who publishes there")
    return found[1], found[2]
