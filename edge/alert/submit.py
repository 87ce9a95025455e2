"""Where the pipeline hands an alert over: after :meth:`AlertSubmitter.submit` returns, it cannot be lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge.alert.message import seal
from edge.alert.outbox import Outbox
from edge.records import Alert
from edge.trust.keys import Recipients, SigningKey

__all__ = ["AlertSubmitter", "Wakeable"]


class Wakeable(Protocol):
    """What the submitter asks of a publisher."""

    def wake(self) -> None:
        """Look into the outbox: there is something new."""
        ...


class AlertSubmitter:
    """Numbers, signs, encrypts and commits an alert, then wakes the publisher.

    Args:
        outbox: where it is committed.
        signing_key: the van's.
        recipients: the control rooms that may read it.
        publisher: who sends it.
        allowed: called last before the alert is committed; what it raises keeps the alert from being made.
    """

    def __init__(
        self,
        outbox: Outbox,
        signing_key: SigningKey,
        recipients: Recipients,
        publisher: Wakeable,
        *,
        allowed: Callable[[], None] = lambda: None,
    ) -> None:
        self._outbox = outbox
        self._signing_key = signing_key
        self._recipients = recipients
        self._publisher = publisher
        self._allowed = allowed

    def submit(self, make: Callable[[int], Alert]) -> Alert:
        """Commit the alert that ``make`` builds for the sequence number it is given, and return it.

        Raises:
            OutboxFull: too many undelivered alerts wait.
            StoreUnavailable: the disk refuses.
            AlertRejected: the alert breaks the contract. In each case no number is used up.
        """
        alert = self._outbox.append(make, lambda alert: seal(alert, self._signing_key, self._recipients), self._allowed)
        self._publisher.wake()
        return alert
