"""The public record of a deployment: the columns that the Home Office publishes, with what they can and cannot show.

Counts come from the cases, so from what people decided; facts that no alert knows (how long, how many faces,
the tally of volunteers) come from a small TOML file of the crew::

    id = "d-1"
    date = "2026-05-01"
    type = "overt, van"
    place = "Market Square"
    hours = 5.5
    cameras = 2
    watchlist = 1200
    faces_seen = 14000
    [blue_list]          # volunteers on the list, whose passes a crew member tallied
    passes = 40
    recognised = 34

Every share comes with its 95 % interval (Wilson, 1927; the exact bound when nothing was counted), beside the
figures of the Home Office's letter of 24 July 2019.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jinja2
import msgspec
from msgspec import Meta, Struct

from edge.cells import csv_text
from edge.controlroom.cases import Case, Result
from edge.errors import BadInput
from edge.parsing import toml_as

__all__ = ["BlueList", "Facts", "Record", "Share", "load_facts", "make_record"]

Z95 = 1.959964
Count = Annotated[int, Meta(ge=0, le=10**9)]
Text = Annotated[str, Meta(max_length=200)]
COLUMNS = (
    "deployment", "date", "type", "place", "duration_hours", "cameras", "watchlist", "threshold", "total_alerts",
    "positive_alerts", "positive_interventions", "incorrect_alerts", "incorrect_interventions", "alerts_never_settled",
    "arrests", "other_disposals", "faces_seen", "incorrect_alert_rate",
)  # fmt: skip


class BlueList(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Volunteers who are on the list on purpose and walk past."""

    passes: Count
    recognised: Count


class Facts(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the crew knows of the deployment."""

    id: Annotated[str, Meta(min_length=1, max_length=64)]
    date: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    type: Text
    place: Text = ""
    hours: Annotated[float, Meta(gt=0, le=10_000)]
    cameras: Annotated[int, Meta(ge=1, le=1000)]
    watchlist: Count
    faces_seen: Count
    blue_list: BlueList | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its 95 % interval.

    Attributes:
        name: what it is a share of.
        count: how often it happened.
        of: out of how many.
        low: lower bound, 0..1; 0 when nothing was counted.
        high: upper bound, 0..1; 1 when there was nothing to count.
        letter: what the letter of 2019 says of it, in words.
        mark: that figure as a share or a range, for the plot.
    """

    name: str
    count: int
    of: int
    low: float
    high: float
    letter: str
    mark: tuple[float, float]

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None


def share(name: str, count: int, of: int, letter: str, mark: tuple[float, float]) -> Share:
    """Wilson's interval; where nothing happened the exact one-sided bound 1 − 0.05^(1/n) (about 3/n)."""
    if count > of:
        raise BadInput(name, f"counts {count} of {of}", "Correct the facts of the deployment")
    if of == 0:
        return Share(name, 0, 0, 0.0, 1.0, letter, mark)
    if count == 0:
        return Share(name, 0, of, 0.0, 1 - 0.05 ** (1 / of), letter, mark)
    p, z2 = count / of, Z95 * Z95
    middle = (p + z2 / (2 * of)) / (1 + z2 / of)
    half = Z95 / (1 + z2 / of) * math.sqrt(p * (1 - p) / of + z2 / (4 * of * of))
    return Share(name, count, of, max(0.0, middle - half), min(1.0, middle + half), letter, mark)


@dataclass(frozen=True, slots=True)
class Record:
    """The record, ready to be written.

    Attributes:
        row: one value per column of :data:`COLUMNS`.
        shares: what can be said of the system with how much certainty.
        incorrect: anonymised demographics of the incorrect alerts, counted per field and value.
    """

    row: dict[str, Any]
    shares: tuple[Share, ...]
    incorrect: dict[str, dict[str, int]]

    def as_json(self) -> bytes:
        shares = [
            {
                "name": s.name,
                "count": s.count,
                "of": s.of,
                "value": s.value,
                "ci95": [s.low, s.high],
                "letter": s.letter,
            }
            for s in self.shares
        ]
        whole = {"record": self.row, "shares": shares, "incorrect_alert_demographics": self.incorrect}
        return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"

    def as_csv(self) -> str:
        return csv_text((COLUMNS, [self.row[name] for name in COLUMNS]))

    def as_page(self) -> str:
        folder = Path(__file__).parent / "page"
        templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder), autoescape=True, trim_blocks=True, lstrip_blocks=True
        )
        templates.filters["words"] = in_words
        return templates.get_template("record.html").render(record=self, style=(folder / "record.css").read_text())


def in_words(value: float | None) -> str:
    """A share as people say it: per cent, or one in so many when it is small."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    return f"{value:.1%}" if value >= 0.01 else f"1 in {1 / value:,.0f}"


def load_facts(path: Path) -> Facts:
    """Read the crew's file.

    Raises:
        BadInput: it cannot be read, or a value is missing, unknown or out of range.
    """
    try:
        return toml_as(path.read_bytes(), Facts)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise BadInput(
            str(path), f"is not a valid description of a deployment ({error})", "See docs/control-room.md"
        ) from None


def make_record(facts: Facts, cases: Iterable[Case]) -> Record:
    """Count the cases of the deployment that ``facts`` describe.

    Raises:
        BadInput: a case of it is still open, or a count contradicts another.
    """
    mine = [case for case in cases if case.deployment == facts.id]
    still_open = [case for case in mine if case.closed_at is None]
    if still_open:
        raise BadInput(
            f"deployment {facts.id}", f"has {len(still_open)} open cases", "Close them with their outcome first"
        )
    correct = [case for case in mine if case.correct is True]
    incorrect = [case for case in mine if case.correct is False]
    wrongly_engaged = sum(case.engaged for case in incorrect)
    row = dict(
        zip(
            COLUMNS,
            (
                facts.id,
                facts.date,
                facts.type,
                facts.place,
                facts.hours,
                facts.cameras,
                facts.watchlist,
                _thresholds(mine),
                len(mine),
                len(correct),
                sum(case.engaged for case in correct),
                len(incorrect),
                wrongly_engaged,
                len(mine) - len(correct) - len(incorrect),
                sum(case.result is Result.ARREST for case in mine),
                sum(case.result is Result.OTHER_DISPOSAL for case in mine),
                facts.faces_seen,
                len(incorrect) / facts.faces_seen if facts.faces_seen else None,
            ),
            strict=True,
        )
    )
    blue = facts.blue_list or BlueList(passes=0, recognised=0)
    engaged = sum(case.engaged for case in mine)
    shares = (
        share("faces seen that raised an incorrect alert", len(incorrect), facts.faces_seen, "1 in 1,000 at most",
              (0.001, 0.001)),
        share("alerts on which an officer acted", engaged, len(mine), "about a third", (1 / 3, 1 / 3)),
        share("faces seen that were approached and not on the list", wrongly_engaged, facts.faces_seen,
              "about 1 in 3,000", (1 / 3000, 1 / 3000)),
        share("passes of listed volunteers that raised an alert (TPIR)", blue.recognised, blue.passes,
              "66 to 89 %", (0.66, 0.89)),
    )  # fmt: skip
    known = [case.demographics for case in incorrect if case.demographics is not None]
    counted = {
        name: dict(sorted(Counter(getattr(each, name) for each in known).items()))
        for name in ("age_band", "sex", "ethnicity")
    }
    return Record(row, shares, counted)


def _thresholds(cases: list[Case]) -> str:
    """What alerts had to reach: a score; of a van of before contract 1.2 a similarity, which is another scale."""
    said = []
    for kind, mine in (
        ("", [case.threshold for case in cases if case.score is not None]),
        ("similarity ", [case.threshold for case in cases if case.score is None]),
    ):
        if mine:
            ends = sorted({round(min(mine), 4), round(max(mine), 4)})
            said.append(kind + " to ".join(f"{end:g}" for end in ends))
    return "; ".join(said)
