"""What happens in the middle of the demo's deployment: somebody leaves the list, and the broker is lost and comes back.

Both begin with something that the control room has heard, not at a second of the film, so that they happen in the same
order on a machine of any speed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Incidents"]

AFTER_REVOCATION_S = 5.0
"""From the revocation to the loss of the broker: the van has it within seconds."""
BACK_AFTER_S = 3.0
"""How long the broker stays away once the van has raised an alert that it cannot send."""


@dataclass(slots=True)
class Incidents:
    """The incidents of one run, and what is known of them afterwards.

    Attributes:
        leaves: reference of who leaves the list at their first alert; empty when nothing is to happen.
        revoke: takes that person off the list.
        lose_broker: ends the broker.
        bring_broker_back: starts it again.
        revoked_at: when the revocation was handed over, POSIX seconds.
        lost_at: when the broker ended.
        back_at: when it was started again.
    """

    leaves: str
    revoke: Callable[[str], None]
    lose_broker: Callable[[], None]
    bring_broker_back: Callable[[], None]
    clock: Callable[[], float] = time.time
    revoked_at: float | None = None
    lost_at: float | None = None
    back_at: float | None = None
    _due: float | None = field(default=None, repr=False)

    def heard(self, reference: str) -> None:
        """The control room shows an alert."""
        if reference == self.leaves and self.revoked_at is None:
            self.revoke(reference)
            self.revoked_at = self.clock()
            self._due = self.revoked_at + AFTER_REVOCATION_S

    def raised(self) -> None:
        """The van has raised an alert."""
        if self.away:
            self._due = self.clock() + BACK_AFTER_S

    def turn(self) -> None:
        """Called often; does what is due."""
        if self._due is None or self.clock() < self._due:
            return
        self._due = None
        if self.lost_at is None:
            self.lose_broker()
            self.lost_at = self.clock()
        elif self.back_at is None:
            self._back()

    def finish(self) -> None:
        """The film is over: the broker comes back at the latest now, for what the van still has to send."""
        self._due = None
        if self.away:
            self._back()

    @property
    def away(self) -> bool:
        """Whether the broker is lost."""
        return self.lost_at is not None and self.back_at is None

    def while_away(self, at: float) -> bool:
        """Whether the broker was lost at a moment, POSIX seconds."""
        if self.lost_at is None:
            return False
        return self.lost_at <= at and (self.back_at is None or at <= self.back_at)

    def _back(self) -> None:
        self.bring_broker_back()
        self.back_at = self.clock()
