"""What the authorising officer reads before signing: who is on the list in numbers, how good, and what to doubt."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from datetime import date
from typing import Any

import numpy as np

from edge.match.doubles import ONE_PERSON
from edge.match.second import by_first
from edge.watchlist.bundle import MOST_LOOKALIKES
from edge.watchlist.identity import ListMeta
from edge.watchlist.store import TemplateMatrix
from provisioning.encoder import ENROLMENT
from provisioning.enrol import EncodedFace, Enrolment
from provisioning.sources import Record, Source
from provisioning.standard_terms import limits_of

__all__ = ["LOOKALIKE", "alike", "name_lookalikes", "review"]

LOOKALIKE = 0.45
"""Similarity from which two people on a list will be taken for each other now and then. Of pairs of different
people in LFW's calibration split, flip-averaged, one in a thousand lies above 0.458 (400 pictures, measured with
the shipped embedder)."""
BLOCK = 2000
MOST_PAIRS = 200


def alike(matrix: TemplateMatrix, *, above: float = LOOKALIKE) -> list[tuple[str, str, float]]:
    """Pairs of references whose best templates resemble each other by ``above`` or more, most alike first."""
    found: dict[tuple[str, str], float] = {}
    names = matrix.references
    for start in range(0, len(names), BLOCK):
        scores = matrix.vectors[start : start + BLOCK] @ matrix.vectors[start:].T
        rows, columns = np.nonzero(scores >= above)
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            one, other = sorted((names[start + row], names[start + column]))
            if one != other:
                key = (one, other)
                found[key] = max(found.get(key, -1.0), float(scores[row, column]))
    return sorted(((a, b, round(score, 3)) for (a, b), score in found.items()), key=lambda item: -item[2])


def name_lookalikes(enrolment: Enrolment, source: Source) -> list[tuple[str, str, float]]:
    """Write into each entry who looks like it: those whom the office knows, then the most alike on the same list.

    The references go with the list to the van and with an alert to whoever decides. Returns the pairs as
    :func:`alike` does.
    """
    rows = [(entry.reference, row) for entry in enrolment.entries for row in entry.templates]
    templates = by_first(np.stack([row for _, row in rows]), enrolment.searched)
    pairs = alike(TemplateMatrix(tuple(name for name, _ in rows), templates))
    known = {subject.reference: list(subject.record.lookalikes) for subject in source.subjects}
    for one, other, _ in pairs:
        known[one].append(other)
        known[other].append(one)
    enrolment.entries[:] = [
        replace(entry, lookalikes=tuple(dict.fromkeys(known[entry.reference]))[:MOST_LOOKALIKES])
        for entry in enrolment.entries
    ]
    return pairs


def review(
    enrolment: Enrolment,
    source: Source,
    meta: ListMeta,
    digest: str,
    pairs: list[tuple[str, str, float]],
    *,
    day: date,
    budget_one_in: int,
) -> dict[str, Any]:
    """The report as plain data: numbers, references and reasons; no template and no picture.

    Args:
        enrolment: what came of the pictures.
        source: everything that was handed in, before anybody was left out: the numbers add up to it.
        meta: of the list.
        digest: the list's identity.
        pairs: who looks alike, as :func:`name_lookalikes` found.
        day: of the deployment.
        budget_one_in: the false-alert budget.
    """
    entries = enrolment.entries
    records = {subject.reference: subject.record for subject in source.subjects}
    return {
        "deployment": meta.deployment,
        "digest": digest,
        "model": meta.model,
        "built": meta.created.isoformat(timespec="seconds"),
        "notes": list(source.notes),
        "people": len(source.references),
        "entries": len(entries),
        "people_left_out": len(source.references) - len(entries),
        "pictures": source.pictures,
        "templates": enrolment.used,
        "one_picture_only": sum(len(entry.templates) == 1 for entry in entries),
        "pictures_left_out": source.pictures - enrolment.used,
        "categories": _counts(entry.category or "not stated" for entry in entries),
        "image_sources": _counts(entry.image_source or "not stated" for entry in entries),
        "age_bands": _counts(entry.age_band for entry in entries),
        "custody_images": sum(entry.custody_image for entry in entries),
        "image_age_years": _counts(_age(entry.image_taken, day) for entry in entries),
        "first_date": min((d for e in entries for d in (e.review_by, e.delete_by) if d), default=None),
        "under_18": {
            entry.reference: records[entry.reference].age_rationale for entry in entries if entry.age_band == "under 18"
        },
        "records": {
            entry.reference: _record(entry.reference, records, enrolment.faces[entry.reference], day)
            for entry in entries
        },
        "limits": limits_of(ENROLMENT),
        "turned_upright": [list(each) for each in enrolment.turned],
        "probably_one_person": [list(pair) for pair in pairs if pair[2] >= ONE_PERSON][:MOST_PAIRS],
        "lookalikes": [list(pair) for pair in pairs if pair[2] < ONE_PERSON][:MOST_PAIRS],
        "known_lookalikes": {
            subject.reference: list(subject.record.lookalikes)
            for subject in source.subjects
            if subject.record.lookalikes and subject.reference in enrolment.faces
        },
        "budget_one_in": budget_one_in,
        "false_alerts_per_10000_passages": round(10_000 / budget_one_in, 2),
        "refused": [asdict(refusal) for refusal in enrolment.refused],
    }


def _record(reference: str, records: dict[str, Record], faces: list[EncodedFace], day: date) -> dict[str, Any]:
    """What is known of one entry, and how good each of its pictures is, in standard terms."""
    record = asdict(records[reference])
    return {
        **{name: value for name, value in record.items() if value not in ("", None, ())},
        "image_age": _age(record["image_taken"], day),
        "pictures": [
            {"file": face.file, "sha256": face.sha256, "turned": face.turned, "quality": dict(face.components)}
            for face in faces
        ],
    }


def _counts(values: Any) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _age(taken: str | None, day: date) -> str:
    if taken is None:
        return "not known"
    years = (day - date.fromisoformat(taken)).days / 365.25
    return next(name for limit, name in _AGES if years < limit)


_AGES = ((1, "under 1"), (2, "1 to 2"), (5, "2 to 5"), (10, "5 to 10"), (float("inf"), "10 and over"))
