"""What the law and the policy keep off a list, checked entry by entry before anything is enrolled. Pure.

Rows are those of the requirements the project follows: 4 (lawful, approved, source recorded), 5 (custody
images: presumption of deletion for people not convicted; dates enforced by the system) and 9 (under 18s
need a rationale).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import date

from provisioning.sources import Record, Refusal, Source, Subject, custody_source

__all__ = ["apply_policy", "refusal_of", "same"]

UNSTATED = {"", "not stated", "unspecified", "unknown", "none", "n/a", "tbc"}


def refusal_of(record: Record, day: date, approved: Collection[str]) -> tuple[str, str] | None:
    """Why somebody must not be on a list that is used on ``day``, and what to do; None when they may.

    Args:
        record: what is known of them.
        day: of the deployment.
        approved: categories that the authorising officer approved; nobody is on a list of no category.
    """
    today = day.isoformat()
    if same(record.category) in UNSTATED:
        return "states no category", "Fill in category with one that the authorising officer approved"
    if same(record.category) not in {same(each) for each in approved}:
        return (
            f"has the category {record.category!r}, which was not approved",
            "Ask the authorising officer, or drop it",
        )
    if same(record.lawful_basis) in UNSTATED:
        return "states no lawful basis", "Fill in lawful_basis"
    if same(record.image_source) in UNSTATED:
        return "does not say where the picture comes from", "Fill in image_source"
    custody = custody_source(record.image_source)
    if custody != record.custody_image:
        said = "a custody image" if record.custody_image else "not a custody image"
        return (
            f"is recorded as {said}, and the picture comes from {record.image_source!r}",
            "Correct image_source or custody_image: the two must agree",
        )
    if record.image_taken is not None and record.image_taken > today:
        return f"has a picture that was taken on {record.image_taken}, in the future", "Correct image_taken"
    if record.deletion_requested is not None and record.custody_image and record.conviction != "convicted":
        state = "has not been convicted" if record.conviction == "not convicted" else "is not known to be convicted"
        return (
            f"{state} and asked on {record.deletion_requested} for the custody image to be deleted",
            "Delete the image; the presumption is deletion",
        )
    if record.delete_by is not None and record.delete_by < today:
        return f"had to be deleted by {record.delete_by}", "Delete the entry and its pictures"
    if record.review_by is not None and record.review_by < today:
        return f"had to be reviewed by {record.review_by}", "Review it and set a new date, or delete it"
    if record.custody_image and record.review_by is None and record.delete_by is None:
        return "is a custody image without a date by which it is reviewed or deleted", "Set review_by or delete_by"
    if record.age_band == "under 18" and not record.age_rationale.strip():
        return "is under 18, and no rationale is recorded", "Record one in age_rationale, or drop the entry"
    return None


def apply_policy(source: Source, day: date, approved: Collection[str]) -> Source:
    """The same source without those who must not be on a list, each of them listed with the reason."""
    kept: list[Subject] = []
    refused = list(source.refused)
    for subject in source.subjects:
        found = refusal_of(subject.record, day, approved)
        if found is None:
            kept.append(subject)
        else:
            refused.append(Refusal(subject.reference, subject.reference, *found, pictures=len(subject.pictures)))
    return Source(kept, refused, source.notes)


def same(category: str) -> str:
    """A category without what people vary: capitals and blanks."""
    return " ".join(category.casefold().split())
