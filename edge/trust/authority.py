"""The written authority: who may watch, why, where, when, for whom and how strictly. And the rules it sets.

An authority is a target of the repository, signed by the authorising officer's role; what arrives here
has already been verified (:mod:`edge.trust.repository`). :func:`judge` is pure: it compares an authority
with facts and either returns or raises the one reason that a crew and an overseer will read.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from edge.errors import (
    AuthorityEnded,
    AuthorityInvalid,
    AuthorityNotYet,
    ClockUntrusted,
    ModelNotNamed,
    OutsidePlace,
    PlaceUnknown,
    RulesTooWeak,
    ThresholdTooLow,
    ThresholdUnsupported,
    VanNotNamed,
    WatchlistGone,
    WatchlistNotNamed,
)
from edge.fields import in_words
from edge.names import Name
from edge.parsing import json_as
from edge.records import Limits
from edge.trust.canonical import sha256
from edge.trust.place import Place, Position

__all__ = ["CLOCK_BACK", "Authority", "Facts", "Grounds", "Notice", "authority_digest", "judge", "parse_authority"]

Time = Annotated[datetime, Meta(tz=True)]
Words = Annotated[str, Meta(min_length=3, max_length=1000)]

LONGEST = timedelta(hours=24)
"""A deployment is bound to a day (College of Policing APP: specific in time); longer needs a new authority."""
POSITION_AGE = timedelta(seconds=30)
"""A position older than this says where the van was."""
POSITION_ACCURACY_M = 100.0
"""A position vaguer than this cannot tell one street from the next."""
CLOCK_BACK = timedelta(seconds=5)
"""A clock may be set back by so much by an honest time server without being doubted."""


class Notice(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the public notice must say besides the authority itself.

    Attributes:
        controller: the police force that answers for the processing.
        contact: its data protection officer: address, telephone or e-mail.
        complaints: how to complain, the regulator included.
        deletion: how to ask for the deletion of a custody image.
        web: page with the public record; the notice shows it as a QR code, too.
        phone: number to call with questions.
    """

    controller: Words
    contact: Words
    complaints: Words
    deletion: Words
    web: str = ""
    phone: str = ""


class Grounds(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Why this deployment and no other: what the officer weighed (College of Policing APP, Data Protection Act part 3).

    Attributes:
        use_case: for what the force's policy allows it, for example people wanted on warrant.
        necessity: why less intrusive means are not enough.
        why_here: why at this place and at this time: the information that it rests on.
        seriousness: of the offences, or of the risk to people who are missing.
        rank: of who authorises it.
        protest: why it is needed although people protest or assemble there; empty where they do not.
        children: why under 18s are on the list, or why it is needed where many children pass; empty where neither is.
    """

    use_case: Words
    necessity: Words
    why_here: Words
    seriousness: Words
    rank: Words
    protest: str = ""
    children: str = ""


class Authority(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One deployment's authority, as the authorising officer signed it.

    Attributes:
        schema: version of this record.
        deployment: its identifier.
        purpose: why, in words that the public reads.
        legal_basis: the law and the policy it rests on.
        authorised_by: role and rank, never a name.
        authorised_at: when it was signed.
        place: where.
        starts: when matching may begin.
        ends: when it must have stopped.
        vans: who may match.
        watchlist: identity of the list that the officer reviewed, ``sha256:…``.
        model: digest of the embedder.
        threshold_floor: lowest similarity that may raise an alert, 0..1, whatever the score.
        budget_one_in: at most one false alert in so many passages of people who are not on the list.
        retention_h: how long alerts are kept, hours; 31 days at most.
        notice: what the public notice says besides.
        grounds: what the officer weighed; whoever signs one today must state it.
        report: ``sha256:…`` of the page with the pictures that the officer looked at; empty where no page was.
    """

    schema: Annotated[int, Meta(ge=1, le=1)]
    deployment: Name
    purpose: Words
    legal_basis: Words
    authorised_by: Words
    authorised_at: Time
    place: Place
    starts: Time
    ends: Time
    vans: Annotated[tuple[Name, ...], Meta(min_length=1)]
    watchlist: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
    model: Annotated[str, Meta(pattern=r"^(sha256:)?[0-9a-f]{64}$")]
    threshold_floor: Annotated[float, Meta(ge=0.2, le=1.0)]
    budget_one_in: Annotated[int, Meta(ge=1000)]
    retention_h: Annotated[int, Meta(ge=1, le=744)] = 24
    notice: Notice | None = None
    grounds: Grounds | None = None
    report: Annotated[str, Meta(pattern=r"^(sha256:[0-9a-f]{64})?$")] = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the van knows of itself at the moment it asks.

    Attributes:
        now: wall clock, UTC.
        clock_floor: the latest moment that certainly lies in the past: the image's build, the last audit
            entry, the repository's metadata.
        clock_confirmed: whether a time source has set the clock since the start, or it kept running.
        van: the van's identity.
        position: where it is; None when it does not know.
        watchlist: identity of the list in the store; None without one.
        entries: how many people are on it: each of them is a chance of a false alert.
        several: whether any of them has more than one picture.
        model: digest of the embedder that runs.
        limits: what a candidate must reach.
        required: what the model's measurement asks for: the score at which its tail meets the budget at this list's
            size, and the similarity that strangers of one scene reach; None when it does not go that far.
        weaker_rules: which key of the configuration asks less of a passage than the rules with which the budget was
            shown to hold, as a sentence; empty when none does.
    """

    now: datetime
    clock_floor: datetime
    clock_confirmed: bool
    van: str
    position: Position | None
    watchlist: str | None
    entries: int
    several: bool
    model: str
    limits: Limits
    required: Limits | None
    weaker_rules: str


def parse_authority(content: bytes, name: str = "the authority") -> Authority:
    """Read an authority and refuse one that contradicts itself.

    Raises:
        AuthorityInvalid: not an authority, an unknown or missing field, or a contradiction; says which.
    """
    try:
        authority = json_as(content, Authority)
    except msgspec.DecodeError as error:
        raise AuthorityInvalid(name, in_words(error), "Ask the authorising officer to sign a corrected one") from None
    flaw = authority.place.flaw()
    if flaw is not None:
        flaw = f"its place {flaw}"
    elif authority.ends <= authority.starts:
        flaw = "it ends before it starts"
    elif authority.ends - authority.starts > LONGEST:
        flaw = f"it lasts longer than {LONGEST.total_seconds() / 3600:.0f} hours"
    elif authority.authorised_at > authority.starts:
        flaw = "it was signed after its start"
    if flaw is not None:
        raise AuthorityInvalid(name, flaw, "Ask the authorising officer to sign a corrected one")
    return authority


def authority_digest(content: bytes) -> str:
    """By which the audit log names an authority: SHA-256 of the file as it was signed."""
    return sha256(content)


def judge(authority: Authority, facts: Facts) -> None:
    """Compare an authority with the facts; return when matching is allowed.

    The order is part of the contract, because a crew is told one reason at a time and must not be sent
    to mend something that a wrong clock or a wrong paper made look wrong:

    1. the clock: everything with a date rests on it;
    2. the van: another van's paper says nothing about this one;
    3. not yet, 4. over;
    5. the place: known, then inside;
    6. the list: present, then the one that was reviewed;
    7. the model;
    8. the similarity that an alert needs against the floor;
    9. the score that it needs against what the budget needs at this list's size;
    10. votes, window and quality limits against those with which the budget was shown to hold.

    Raises:
        PolicyRefusal: one of its kinds per rule, with the exact cause.
    """
    name = f"authority {authority.deployment}"
    _judge_clock(facts)
    if facts.van not in authority.vans:
        raise VanNotNamed(
            name,
            f"names {', '.join(authority.vans)} and not {facts.van}",
            "Ask the intelligence unit for this van's stick",
        )
    if facts.now < authority.starts:
        raise AuthorityNotYet(name, f"begins at {_clock(authority.starts)}", "Wait until then; nothing is matched")
    if facts.now >= authority.ends:
        raise AuthorityEnded(name, f"ended at {_clock(authority.ends)}", "Drive back; the list is being destroyed")
    _judge_place(name, authority.place, facts)
    if facts.watchlist is None:
        raise WatchlistGone("the watchlist", "is not on this van", "Plug in the stick from the intelligence unit")
    if facts.watchlist != authority.watchlist:
        raise WatchlistNotNamed(
            name,
            f"names list {_short(authority.watchlist)}, this van holds {_short(facts.watchlist)}",
            "Ask the intelligence unit for the list that the authorising officer reviewed",
        )
    if _bare(facts.model) != _bare(authority.model):
        raise ModelNotNamed(
            name,
            f"names model {_short(authority.model)}, this van runs {_short(facts.model)}",
            "Put the model that was authorised into the configuration",
        )
    if facts.limits.similarity < authority.threshold_floor:
        raise ThresholdTooLow(
            "the similarity that an alert needs",
            f"is {facts.limits.similarity:.3f}, below the authority's floor of {authority.threshold_floor:.3f}",
            "Raise decision.min_similarity in the configuration, or take it out",
        )
    _judge_budget(authority, facts)
    if facts.weaker_rules:
        raise RulesTooWeak("the configuration", facts.weaker_rules, "Take that key out of the configuration")


def _judge_clock(facts: Facts) -> None:
    if facts.now < facts.clock_floor - CLOCK_BACK:
        raise ClockUntrusted(
            "the clock",
            f"shows {_clock(facts.now)}, which is too early: {_clock(facts.clock_floor)} has certainly passed",
            "Wait until a time server or satellites set it; if they do not, call the engineer",
        )
    if not facts.clock_confirmed:
        raise ClockUntrusted(
            "the clock",
            "has not been set since this van was switched on",
            "Wait until a time server or satellites set it",
        )


def _judge_place(name: str, place: Place, facts: Facts) -> None:
    position = facts.position
    if position is None:
        raise PlaceUnknown(
            "the van's position", "is not known", "Wait for satellites; if none are found, call the engineer"
        )
    if facts.now - position.at > POSITION_AGE:
        seconds = (facts.now - position.at).total_seconds()
        raise PlaceUnknown(
            "the van's position",
            f"is {seconds:.0f} s old",
            "Move to where the sky is open; if that does not help, call the engineer",
        )
    if position.accuracy_m > POSITION_ACCURACY_M:
        raise PlaceUnknown(
            "the van's position",
            f"is only accurate to {position.accuracy_m:.0f} m, {POSITION_ACCURACY_M:.0f} m is needed",
            "Wait, or move to where the sky is open",
        )
    if not place.contains(position.latitude, position.longitude):
        raise OutsidePlace(
            name,
            f"is for {place.name}; {position.latitude:.5f}, {position.longitude:.5f} is outside",
            "Drive into the place, or ask for another authority",
        )


def _judge_budget(authority: Authority, facts: Facts) -> None:
    budget = f"one false alert in {authority.budget_one_in}"
    listed = f"with {facts.entries} on the list{', some with several pictures' if facts.several else ''}"
    if facts.required is None:
        raise ThresholdUnsupported(
            "the threshold",
            f"cannot be shown to keep {budget} {listed}: the model was not measured that far",
            "Ask the intelligence unit for a shorter list, or for one picture of each person",
        )
    if facts.limits.score < facts.required.score:
        raise ThresholdUnsupported(
            "the threshold",
            f"is {facts.limits.score:.3f}; {budget} {listed} needs {facts.required.score:.3f}",
            "Raise decision.threshold in the configuration, or take it out",
        )
    if facts.limits.similarity < facts.required.similarity:
        raise ThresholdUnsupported(
            "the similarity that an alert needs",
            f"is {facts.limits.similarity:.3f}; strangers in one scene may reach {facts.required.similarity:.3f}",
            "Raise decision.min_similarity in the configuration, or take it out",
        )


def _clock(moment: datetime) -> str:
    return moment.astimezone(tz=None).strftime("%Y-%m-%d %H:%M %Z")


def _bare(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _short(digest: str) -> str:
    return _bare(digest)[:12]
