"""What the list of alerts and the history show of an alert beside its case: whom it names, why they are listed, where.

It lies beside the alert, in a row of its own, so that two hundred alerts can be listed without reading four hundred
pictures, and it lives exactly as long: the data base itself deletes it with the alert. Whoever reads it gets nothing
of an alert that has to be erased, erased already or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import msgspec

from edge.controlroom.cases import Case
from edge.errors import StoreUnavailable
from edge.records import Alert
from edge.trust.sealed import Connection, SealedStore
from edge.trust.sealing import Plain, Values

if TYPE_CHECKING:
    from edge.controlroom.shared import SharedStore

__all__ = ["TABLES", "Line", "Summaries", "Summary"]

TABLES = """
CREATE TABLE summaries (
    alert_id    TEXT PRIMARY KEY,
    received_at REAL NOT NULL,
    erase_at    REAL,
    body        BLOB NOT NULL
);
CREATE TRIGGER summary_goes_with_its_alert AFTER DELETE ON alerts
BEGIN DELETE FROM summaries WHERE alert_id = OLD.alert_id; END;
CREATE INDEX open_cases ON cases (open) WHERE open = 1;
"""
_ENCODER = msgspec.msgpack.Encoder()
_LINES = """
SELECT c.number, c.alert_id, c.body, s.received_at, s.erase_at, s.body
    FROM cases c LEFT JOIN summaries s ON s.alert_id = c.alert_id WHERE c.open = 1
UNION ALL
SELECT c.number, c.alert_id, c.body, s.received_at, s.erase_at, s.body
    FROM summaries s JOIN cases c ON c.alert_id = s.alert_id WHERE c.open = 0
ORDER BY 1
"""
Over = Callable[[float, float | None], bool]
"""Whether an alert with this arrival and this last moment (POSIX seconds, or none) may not be shown any more."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What may be said of an alert in a list.

    Attributes:
        reference: the subject's opaque reference.
        category: the subject's category.
        place: where the van stood, in words.
    """

    reference: str
    category: str
    place: str


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a list.

    Attributes:
        case: what people made of the alert.
        summary: None once the alert was erased, or has to be.
    """

    case: Case
    summary: Summary | None


_SUMMARY = msgspec.msgpack.Decoder(Summary)
_CASE = msgspec.msgpack.Decoder(Case)


class Summaries:
    """See the module. Its methods may be called from any thread.

    Args:
        sealed: the control room's store.
        over: whose retention is over.
        values: how values lie in it.

    Raises:
        StoreDamaged, StoreUnavailable: every method may.
    """

    def __init__(self, sealed: SealedStore | SharedStore, over: Over, values: Values | None = None) -> None:
        self._sealed = sealed
        self._values: Values = values or Plain()
        self._over = over

    def add(self, db: Connection, alert: Alert, received_at: float, erase_at: float | None) -> None:
        """Keep the summary of an alert; inside the transaction that stores it."""
        body = _ENCODER.encode(asdict(Summary(alert.reference, alert.category, alert.place)))
        row = (str(alert.ref), received_at, erase_at, self._values.seal(body, "summaries", str(alert.ref)))
        db.execute(
            "INSERT INTO summaries (alert_id, received_at, erase_at, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (alert_id) DO UPDATE SET received_at = excluded.received_at, erase_at = excluded.erase_at,"
            " body = excluded.body",
            row,
        )

    def lines(self) -> list[Line]:
        """Every open case, and the closed ones whose alert may still be held; in order of arrival."""
        rows = self._sealed.read(_LINES)
        found = [self._line(*row[1:]) for row in rows]
        return [line for line in found if line.case.closed_at is None or line.summary is not None]

    def _line(
        self, ref: str, case: bytes, received_at: float | None, erase_at: float | None, body: bytes | None
    ) -> Line:
        case = self._values.unseal(case, "cases", ref)
        body = self._values.unseal(body, "summaries", ref) if body is not None else None
        try:
            held = body is not None and received_at is not None and not self._over(received_at, erase_at)
            return Line(_CASE.decode(case), _SUMMARY.decode(body) if held and body is not None else None)
        except msgspec.DecodeError:
            raise StoreUnavailable(
                "the control room's store", "holds a case of another version", "Run the version that wrote it"
            ) from None
