"""What is kept, where, and for how long: one statement out of the configuration, the authority, the notice and the log.

Nothing in it is typed. What a machine enforces is read from the code that enforces it, what was allowed from the signed
authority, what the control room is set to from its configuration, and what happened from a verified audit log. Where
two of them contradict each other the statement says so, and the command that prints it fails.
"""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from edge.controlroom.config import ControlConfig
from edge.controlroom.store import MEMORY
from edge.controlroom.to_vans import COUNTS
from edge.custody.erase import LONGEST_MS
from edge.trust.audit import AuditEntry
from edge.trust.authority import Authority, authority_digest
from edge.trust.events import Event
from edge.trust.history import copies
from provisioning.notice import kept_for, notice_of

__all__ = ["Row", "Statement", "statement", "statement_html"]

LATE = timedelta(seconds=60)
"""A list may be destroyed so long after the authority's end: the log's own order, and a van that was busy."""
PEOPLE = "people"
"""Said of what no machine ends."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of data.

    Attributes:
        what: in words.
        where: on which machine, and in what.
        kept: at most so long.
        ends_by: what ends it: the name of the file of code, or :data:`PEOPLE`.
        shown: what the log shows of it; empty without a log.
    """

    what: str
    where: str
    kept: str
    ends_by: str
    shown: str = ""


@dataclass(frozen=True, slots=True)
class Statement:
    """The statement of one deployment.

    Attributes:
        deployment: its identifier.
        authority: digest of the authority it was made from.
        rows: kinds of data, passers-by first.
        contradictions: where two sources do not agree, in words; empty is as it must be.
    """

    deployment: str
    authority: str
    rows: tuple[Row, ...]
    contradictions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def statement(
    content: bytes,
    authority: Authority,
    room: ControlConfig | None,
    log: Iterable[AuditEntry] | None,
    *,
    now: datetime | None = None,
) -> Statement:
    """Make the statement.

    Args:
        content: the authority as it was signed.
        authority: the same, read.
        room: configuration of the control room; without it the authority's own limit is stated.
        log: entries of the van's verified audit log, or of several; None leaves out what it shows.
        now: of the clock; None asks it. Until the authority has ended, a list may well be there.
    """
    entries = None if log is None else [entry for entry in log if entry.deployment in {authority.deployment, ""}]
    rows = (
        _passers_by(entries),
        _list_on_the_van(authority, entries),
        Row("The list in the office, and the page with its pictures", "the office's computer",
            "until the deployment is over", f"{PEOPLE}: lfr-provision watchlist destroy"),
        _alerts_on_the_van(authority, entries),
        _alerts_in_the_room(authority, room),
        Row("That there was an alert: its number, no picture and no name", "control room",
            f"{MEMORY.days} days after the alert was erased", "edge/controlroom/store.py"),
        Row("Who left the list, by reference, and why", "broker",
            f"{COUNTS.days} days", "edge/controlroom/to_vans.py"),
        Row("The audit log: references and roles, no picture and no name", "van, control room, overseer",
            "as the force's policy says", PEOPLE),
    )  # fmt: skip
    found = [*_told_otherwise(authority, room)]
    if entries is not None:
        found += _done_otherwise(content, authority, entries, now or datetime.now(UTC))
    return Statement(authority.deployment, authority_digest(content), rows, tuple(found))


def _passers_by(entries: list[AuditEntry] | None) -> Row:
    shown = ""
    if entries is not None:
        totals = [entry.data for entry in entries if entry.event == Event.ERASURES]
        passages, overdue = sum(int(each["count"]) for each in totals), sum(int(each["overdue"]) for each in totals)
        longest = max((int(each["longest_ms"]) for each in totals), default=0)
        shown = f"{passages:,} passages forgotten, the longest after {longest:,} ms, {overdue} overdue"
    kept = f"{LONGEST_MS // 1000} seconds after the last picture of that person"
    what = "The face of somebody who is not on the list: picture, cut-out and template"
    return Row(what, "the van's memory, never a disk", kept, "edge/custody/erase.py", shown)


def _list_on_the_van(authority: Authority, entries: list[AuditEntry] | None) -> Row:
    shown = ""
    if entries is not None:
        found = copies(entries)
        gone = sum(copy.destroyed for copy in found.values())
        shown = f"{len(found)} imported, {gone} destroyed"
    kept = f"until the authority ends, {_moment(authority.ends)}"
    what = "The list: templates, pictures, records"
    return Row(what, "van, encrypted; its key is destroyed first", kept, "edge/watchlist/lifecycle.py", shown)


def _alerts_on_the_van(authority: Authority, entries: list[AuditEntry] | None) -> Row:
    shown = ""
    if entries is not None:
        sent = sum(entry.event == Event.ALERT_SENT for entry in entries)
        deleted: Counter[str] = Counter()
        for entry in entries:
            if entry.event == Event.ALERTS_DELETED:
                deleted[str(entry.data["cause"])] += int(entry.data["count"])
        lost = ", ".join(f"{count} {cause}" for cause, count in sorted(deleted.items()))
        shown = f"{sent} sent" + (f"; deleted: {lost}" if lost else "")
    kept = f"until the control room has signed for it, {kept_for(authority.retention_h)} at most"
    return Row(
        "An alert that waits to be sent, with both pictures", "van, sealed", kept, "edge/alert/retention.py", shown
    )


def _alerts_in_the_room(authority: Authority, room: ControlConfig | None) -> Row:
    hours = authority.retention_h if room is None else min(authority.retention_h, room.store.retention_h)
    kept = f"{kept_for(hours)} after the van raised it"
    return Row("An alert that arrived, with both pictures", "control room, sealed", kept, "edge/controlroom/store.py")


def _told_otherwise(authority: Authority, room: ControlConfig | None) -> Iterable[str]:
    """What people are told that the rest does not say."""
    if authority.notice is None:
        yield "the authority has no part [notice]: the public is not told how long anything is kept"
    else:
        told = " ".join(section.answer for section in notice_of(authority))
        for promise in (
            f"at the latest {LONGEST_MS // 1000} seconds",
            f"erased after {kept_for(authority.retention_h)}",
        ):
            if promise not in told:
                yield f"the public notice does not say: {promise}"
    if room is not None and room.store.retention_h > authority.retention_h:
        yield (
            f"the control room is set to keep alerts for {kept_for(room.store.retention_h)}, the authority allows "
            f"{kept_for(authority.retention_h)}: the authority's is kept to; set store.retention_h to it"
        )


def _done_otherwise(content: bytes, authority: Authority, entries: list[AuditEntry], now: datetime) -> Iterable[str]:
    """What the log shows that ought not to have happened."""
    accepted = [entry for entry in entries if entry.event == Event.AUTHORITY_ACCEPTED]
    digest = authority_digest(content)
    if not accepted:
        yield "the log does not say that a van has accepted this authority: it is of something else, or not whole"
    elif all(entry.data["digest"] != digest for entry in accepted):
        yield f"the log is of another authority than this one ({accepted[-1].data['digest']})"
    for entry in entries:
        if entry.event == Event.ERASURES and int(entry.data["overdue"]):
            yield f"{entry.at}: {entry.data['overdue']} faces were held longer than is allowed"
        elif entry.event == Event.ERASURES and int(entry.data["longest_ms"]) > LONGEST_MS:
            yield f"{entry.at}: a face was held for {entry.data['longest_ms']} ms"
        elif entry.event == Event.CUSTODY_BREACHED:
            yield f"{entry.at}: {entry.data['cause']}"
        elif entry.event == Event.LIST_DESTROYED and _time(entry.at) > authority.ends + LATE:
            yield f"the list was destroyed at {entry.at}, after the authority had ended ({_moment(authority.ends)})"
    last = max((_time(entry.at) for entry in entries), default=None)
    for copy in copies(entries).values():
        if not copy.destroyed and last is not None and now >= authority.ends:  # until then it may well be there
            goes = (
                "goes on after the authority's end"
                if last > authority.ends + LATE
                else "ends before the authority does,"
            )
            yield f"the log {goes} and does not say that list {copy.watchlist} was destroyed"


def _moment(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def statement_html(found: Statement) -> str:
    """The statement as one page that needs nothing else."""
    cells = [(row.what, row.where, row.kept, row.ends_by, row.shown or "–") for row in found.rows]
    lines = "\n".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in cells)
    wrong = "".join(f"<li>{html.escape(each)}</li>" for each in found.contradictions)
    agreed = f"<ul>{wrong}</ul>" if wrong else "<p>None: the sources agree.</p>"
    return f"""<!doctype html>
<html lang="en-GB"><head><meta charset="utf-8"><title>What is kept: {html.escape(found.deployment)}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.4 sans-serif; max-width: 72rem; margin: auto; padding: 1rem; color: #111; background: #fff }}
h1 {{ font-size: 1.5rem }} table {{ border-collapse: collapse; width: 100% }}
th, td {{ text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #ccc }}
code {{ overflow-wrap: anywhere }}
</style></head>
<body><main><h1>What is kept, where, and for how long: deployment {html.escape(found.deployment)}</h1>
<p>Made from the software, the control room's configuration, the audit log and the authority
<code>{html.escape(found.authority)}</code>.</p>
<table><thead><tr><th>What</th><th>Where</th><th>At most</th><th>Ended by</th><th>The log shows</th></tr></thead>
<tbody>
{lines}
</tbody></table>
<h2>Contradictions</h2>
{agreed}
</main></body></html>
"""
