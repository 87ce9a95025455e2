"""Whoever holds the broker: it can hold messages back, repeat them, and say nonsense without end. It can read nothing.

==========================================  ===================================================================
attack                                      what is expected
==========================================  ===================================================================
a genuine decision, said again for ever     in the van's log once
nonsense on the van's topics, for ever      in the log by its first ones and a number; the van remembers no more
                                            of it than it must
an alert that is made to disappear          ``tests/integration/test_receipts.py``
==========================================  ===================================================================
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from edge.alert.adjudication import ADJUDICATION, AdjudicationBody
from edge.audit_trail import AuditTrail
from edge.errors import SignatureInvalid
from edge.trust.audit import AuditLog, read_log
from edge.trust.events import Event
from edge.trust.keys import KnownSigners, SigningKey
from edge.trust.refusals import MOST, SPAN_S
from tests.sim.clock import HandClock
from tests.test_mandate import Deployment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOM = SigningKey.generate()


def decision(**changes: object) -> bytes:
    said = {"alert_id": uuid4(), "van": "van-1", "state": "engage", "by": "op-1", "role": "operator", "at": NOW}
    return ADJUDICATION.sign(AdjudicationBody(**{**said, **changes}), ROOM)  # type: ignore[arg-type]


def test_a_decision_that_is_said_again_and_again_is_written_down_once(tmp_path: Path) -> None:
    rooms = KnownSigners.of([ROOM.public_jwk(owner="control-room")])
    with AuditLog(tmp_path / "log", van="van-1", clock=HandClock(NOW), signer=SigningKey.generate()) as log:
        trail, alert = AuditTrail(log, HandClock(NOW)), uuid4()
        messages = [
            decision(alert_id=alert),
            decision(alert_id=alert, state="closed", at=NOW - timedelta(seconds=3)),  # a clock that was set back
            decision(),
        ]
        for message in messages * 40:
            trail.adjudicated(ADJUDICATION.read(message, rooms, "van-1"))
        assert [entry.data["verdict"] for entry in read_log(log.path)] == ["engage", "closed", "engage"]


def test_a_flood_of_nonsense_is_counted_and_not_written_down(tmp_path: Path) -> None:
    clock = HandClock(NOW)
    with AuditLog(tmp_path / "log", van="van-1", clock=clock, signer=SigningKey.generate()) as log:
        trail = AuditTrail(log, clock)
        for number in range(5000):
            trail.disbelieved(SignatureInvalid("a revocation", f"no. {number}", "Find out who published it"))
        assert len(read_log(log.path)) == MOST
        clock.advance(SPAN_S)
        trail.disbelieved(SignatureInvalid("a revocation", "no. 5000", "Find out who published it"))
        last = read_log(log.path)[-1]
        assert last.event == Event.REFUSED
        assert last.data["cause"] == f"no. 5000; {5000 - MOST} before it were too many to be written down"


def test_what_was_said_without_end_is_not_remembered_without_end(tmp_path: Path) -> None:
    out = Deployment(tmp_path)
    mandate = out.mandate()
    mandate.start()
    for round_ in range(25):
        with pytest.raises(SignatureInvalid):
            mandate.revoke(b"\n".join(b"%d %d" % (round_, number) for number in range(500)))
    assert len(mandate._applied) <= 10_500
    with pytest.raises(SignatureInvalid, match="are too many: 501 lines"):
        mandate.revoke(b"x\n" * 501)
    out.keeper.close()
    out.audit.close()
