"""Whether an alert could be made of an entry: what of it goes into one has the limits of the contract.

Where it has not, the van would find out when the person passes: no alert could be sent, and matching would stop. So the
office builds no such list, and no van takes one in.
"""

from __future__ import annotations

from edge.alert.message import LONGEST_DATE, LONGEST_WORDS, MAX_PICTURE, MOST_LOOKALIKES
from edge.errors import RecordInvalid
from edge.records import WatchlistEntry

__all__ = ["require_alertable"]


def require_alertable(entry: WatchlistEntry) -> None:
    """Refuse an entry that no alert could be made of.

    Raises:
        RecordInvalid: something is longer than an alert may carry, or too much; says what.
    """
    sizes = [
        ("reference", len(entry.reference), LONGEST_WORDS, "characters"),
        ("category", len(entry.category), LONGEST_WORDS, "characters"),
        ("image_taken", len(entry.image_taken or ""), LONGEST_DATE, "characters"),
        ("lookalikes", max(map(len, entry.lookalikes), default=0), LONGEST_WORDS, "characters"),
        ("lookalikes", len(entry.lookalikes), MOST_LOOKALIKES, "references"),
        ("the picture", len(entry.reference_jpeg), MAX_PICTURE, "bytes"),
    ]
    for name, size, most, unit in sizes:
        if size > most:
            raise RecordInvalid(
                f"entry {entry.reference[:LONGEST_WORDS]}",
                f"has {size} {unit} in {name}, {most} are allowed",
                "Correct it and build the list again",
            )
    if not all(entry.lookalikes):
        raise RecordInvalid(f"entry {entry.reference}", "has a look-alike without a reference", "Build the list again")
