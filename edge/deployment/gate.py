"""The one question the appliance asks before it matches and every second while it does: may I?

The gate holds the verified authority and answers with it or with the exact refusal. It is fail closed:
an error of any kind is a refusal, and once a clock has been seen to run backwards it is not believed
again until the appliance is restarted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from edge.errors import AuthorityMissing, ThresholdUnsupported
from edge.records import NOBODY, Limits
from edge.trust.authority import CLOCK_BACK, Authority, Facts, authority_digest, judge, parse_authority
from edge.trust.place import Position

__all__ = ["Calibration", "Gate", "ListFacts"]


class Estimate(Protocol):
    """A threshold that a calibration predicts."""

    @property
    def threshold(self) -> float: ...


class Calibration(Protocol):
    """What the embedder's measured tail says; :class:`edge.match.calibration.ImpostorTail` is one."""

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> Estimate:
        """The score at which a share ``fpir`` of passages of people who are not listed raises an alert.

        ``several``: whether anybody on the list has more than one picture, each of which a stranger may resemble.

        Raises:
            ThresholdUnsupported: the measurement does not reach that far.
        """
        ...

    @property
    def scene_similarity(self) -> float:
        """The similarity that an alert needs besides, because strangers in one scene are more alike than elsewhere."""
        ...


@dataclass(frozen=True, slots=True)
class ListFacts:
    """The list as the van holds it: identity as it was built; how many people are on it now, and pictures of them."""

    digest: str
    entries: int
    pictures: int

    @property
    def several(self) -> bool:
        """Whether anybody has more than one picture."""
        return self.pictures > self.entries


class Gate:
    """Asked at the start and every second. Holds one authority at a time.

    Args:
        van: the van's identity.
        calibration: of the embedder; None refuses every deployment, since no budget can be shown to hold.
        weaker_rules: which key of the configuration asks less of a passage than the calibration's rules, as a sentence;
            empty when none does.
        clock_floor: the latest moment that certainly lies in the past, when the gate is made.
        clock_confirmed: whether the clock can be believed at all:
            :meth:`edge.deployment.clock_trust.ClockTrust.confirmed`.
    """

    def __init__(
        self,
        van: str,
        *,
        calibration: Calibration | None,
        weaker_rules: str,
        clock_floor: datetime,
        clock_confirmed: Callable[[], bool] = lambda: True,
    ) -> None:
        self._van = van
        self._calibration = calibration
        self._weaker_rules = weaker_rules
        self._floor = clock_floor
        self.clock_confirmed = clock_confirmed
        """Whether anything vouches for the clock: without that nothing may be destroyed by its word."""
        self._authority: Authority | None = None
        self._digest = ""
        self._required: dict[tuple[int, bool], Limits | None] = {}

    def load(self, content: bytes, name: str = "the authority") -> Authority:
        """Take up a verified authority, in place of the one before.

        Raises:
            AuthorityInvalid: see :func:`edge.trust.authority.parse_authority`. The one before is dropped as well.
        """
        self.unload()
        authority = parse_authority(content, name)
        self._authority, self._digest = authority, authority_digest(content)
        return authority

    def unload(self) -> None:
        """Forget the authority: from now on every check refuses."""
        self._authority, self._digest = None, ""
        self._required = {}

    @property
    def authority(self) -> Authority | None:
        """The authority that is held, judged or not."""
        return self._authority

    @property
    def digest(self) -> str:
        """By which the audit log names the authority; empty without one."""
        return self._digest

    def check(
        self, now: datetime, position: Position | None, watchlist: ListFacts | None, *, model: str, limits: Limits
    ) -> Authority:
        """Return the authority when matching is allowed at this moment.

        Args:
            now: wall clock, UTC.
            position: where the van is; None when it does not know.
            watchlist: the list in the store; None without one.
            model: digest of the embedder that runs.
            limits: that are in force.

        Raises:
            PolicyRefusal: one of its kinds, with the exact cause; see :func:`edge.trust.authority.judge`.
        """
        authority = self._authority
        if authority is None:
            raise AuthorityMissing(
                "the deployment",
                "nobody has authorised it",
                "Plug in the stick with the signed authority, or connect the network",
            )
        judge(
            authority,
            Facts(
                now=now,
                clock_floor=self._floor,
                clock_confirmed=self.clock_confirmed(),
                van=self._van,
                position=position,
                watchlist=watchlist.digest if watchlist else None,
                entries=watchlist.entries if watchlist else 0,
                model=model,
                limits=limits,
                several=watchlist is not None and watchlist.several,
                required=self._require(
                    authority,
                    watchlist.entries if watchlist else 0,
                    several=watchlist is not None and watchlist.several,
                ),
                weaker_rules=self._weaker_rules,
            ),
        )
        # Time only goes forward: what has been seen once is past from now on.
        self._floor = max(self._floor, now - CLOCK_BACK)
        return authority

    def lowest(self, entries: int, *, several: bool = False) -> Limits:
        """The lowest score and similarity that authority and calibration allow with so many people on the list.

        Where the calibration does not reach so far nobody reaches them, and :meth:`check` says why.

        Raises:
            AuthorityMissing: there is no authority.
        """
        authority = self._authority
        if authority is None:
            raise AuthorityMissing(
                "the threshold",
                "cannot be known without an authority",
                "Plug in the stick with the signed authority, or connect the network",
            )
        required = self._require(authority, entries, several=several)
        if required is None:
            return NOBODY
        return Limits(required.score, max(required.similarity, authority.threshold_floor))

    def _require(self, authority: Authority, entries: int, *, several: bool) -> Limits | None:
        if self._calibration is None:
            return None
        required, key = self._required, (entries, several)  # an authority that is given up takes another dictionary
        if key in required:
            return required[key]
        found: Limits | None = None
        try:
            score = self._calibration.threshold(1 / authority.budget_one_in, entries, several=several).threshold
            found = Limits(score, self._calibration.scene_similarity)
        except ThresholdUnsupported:
            pass
        required[key] = found
        return found
