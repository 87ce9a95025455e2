"""When does a resemblance become an alert? Pure: searches in, decisions out; time is an argument.

Three rules, in this order:

1. *Threshold.* The score of the track's template with the subject reaches the threshold, and the similarity what
   authority and calibration ask for besides.
2. *k of n.* The same subject was first and above the threshold in ``votes`` of the last ``window``
   searches of the track, this one included. One lucky frame raises nothing.
3. *Cool-down.* A subject that was just alerted raises no second alert, and one track raises one alert.

An alert asks a person to look; it decides nothing about anybody.
"""

from __future__ import annotations

from collections import deque
from uuid import UUID

from edge.clock import NS_PER_S
from edge.config import DecisionSection
from edge.records import Decision, Limits, Outcome, SearchResult

__all__ = ["NEAR", "Decider"]

NEAR = 0.06
"""How far below its limits a candidate is worth a closer look. Of 5,618 searches for listed people of LFW, that lost
none whom a closer look at everybody found at the thresholds in force (docs/decisions/0067-a-closer-look.md)."""


class Decider:
    """Applies the rules, track by track.

    Args:
        settings: votes, window and cool-down.
        limits: what a candidate must reach.
        near: how far below them a candidate is worth a closer look. With a second embedder it is 0: limits of a mixed
            score lie far below those of the first embedder's alone, and whoever does not reach even these by the first
            alone does not reach them by both (docs/decisions/0073-a-second-opinion.md).
    """

    def __init__(self, settings: DecisionSection, *, limits: Limits, near: float = NEAR) -> None:
        self._settings = settings
        self._near = near
        self.limits = limits
        """What a candidate must reach from the next search on; another list may need another score."""
        self._votes: dict[UUID, deque[str | None]] = {}
        self._alerted_tracks: set[UUID] = set()
        self._alerted_at: dict[str, int] = {}

    def near(self, track_id: UUID, result: SearchResult, now_ns: int) -> bool:
        """Whether a closer look could decide: the best candidate has nearly reached its limits, or has.

        Never of a track that has raised its alert, nor of a subject that cools down: there is nothing to decide.
        """
        best = result.best
        if best is None or track_id in self._alerted_tracks or self._cools(best.reference, now_ns):
            return False
        limits = self.limits
        return best.score >= limits.score - self._near and best.similarity >= limits.similarity - NEAR

    def decide(self, track_id: UUID, result: SearchResult, now_ns: int) -> Decision:
        """Count one search of a track. What is found while its subject cools down is no vote for later.

        Args:
            track_id: the passage.
            result: what the list's search found for the track's template.
            now_ns: monotonic time of the frame.
        """
        best = result.best
        vote = best.reference if best is not None and self.limits.reached_by(best) else None
        votes = self._votes.setdefault(track_id, deque(maxlen=self._settings.window))
        cools = vote is not None and self._cools(vote, now_ns)
        votes.append(None if cools else vote)
        agreeing = sum(1 for name in votes if vote is not None and name == vote)
        outcome = Outcome.COOLING_DOWN if cools else self._outcome(track_id, vote, agreeing)
        if outcome is Outcome.ALERT and vote is not None:
            self._alerted_tracks.add(track_id)
            self._alerted_at[vote] = now_ns
        return Decision(
            track_id=track_id,
            outcome=outcome,
            reference=vote,
            similarity=None if best is None else best.similarity,
            score=None if best is None else best.score,
            threshold=self.limits.score,
            votes=agreeing,
            window=len(votes),
        )

    def _outcome(self, track_id: UUID, vote: str | None, agreeing: int) -> Outcome:
        if vote is None:
            return Outcome.NO_MATCH
        if agreeing < self._settings.votes:
            return Outcome.GATHERING
        return Outcome.COOLING_DOWN if track_id in self._alerted_tracks else Outcome.ALERT

    def _cools(self, reference: str, now_ns: int) -> bool:
        last = self._alerted_at.get(reference)
        return last is not None and now_ns - last < self._settings.cooldown_s * NS_PER_S

    def withdraw(self, decision: Decision) -> None:
        """An alert could not be raised after all: its track and its subject may alert again with the next frame."""
        self._alerted_tracks.discard(decision.track_id)
        if decision.reference is not None:
            self._alerted_at.pop(decision.reference, None)

    def forget_votes(self, track_id: UUID, *, contradicted: bool = False) -> None:
        """The track's template was begun anew: what was counted before may have been another person.

        Args:
            track_id: the passage.
            contradicted: by an embedding; whom the track has alerted for was another person too, and this one may be
                on the list as well. The first one's cool-down goes on.
        """
        self._votes.pop(track_id, None)
        if contradicted:
            self._alerted_tracks.discard(track_id)

    def forget(self, track_id: UUID) -> None:
        """The passage has ended: nothing of it is kept."""
        self._votes.pop(track_id, None)
        self._alerted_tracks.discard(track_id)
