"""One open-set evaluation from manifest to report."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.cells import csv_text
from edge.evaluate import manifest as manifests
from edge.evaluate.differentials import Draws, Events, Groups, Values, compare
from edge.evaluate.extract import Acquired, Acquisition, Recipe, extract
from edge.evaluate.manifest import Picture, Roles
from edge.evaluate.measure import Point, Searches, points, search
from edge.evaluate.strangers import Second
from edge.match.relative import Relative

__all__ = ["Closely", "Report", "evaluate"]

Closely = Literal["none", "enrol", "both"]


CSV_COLUMNS = (
    "group",
    "value",
    "mated_searches",
    "nonmated_searches",
    "fpir_target",
    "threshold",
    "fpir",
    "fpir_low",
    "fpir_high",
    "tpir",
    "tpir_low",
    "tpir_high",
    "can_be_shown",
    "fnir",
    "fnir_low",
    "fnir_high",
    "failure_to_enrol",
    "failure_to_acquire",
    "mated_shift",
    "mated_shift_low",
    "mated_shift_high",
    "nonmated_shift",
    "nonmated_shift_low",
    "nonmated_shift_high",
    "threshold_shift",
    "threshold_shift_low",
    "threshold_shift_high",
    "fpir_ratio",
    "fpir_ratio_low",
    "fpir_ratio_high",
    "fpir_ratio_shown",
    "fnir_ratio",
    "fnir_ratio_low",
    "fnir_ratio_high",
    "fnir_ratio_shown",
)
"""Ratios are of the whole column, highest group to lowest, and stand on the line of each of its groups."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured.

    Attributes:
        roles: who was enrolled and who searched.
        n_fill: people enrolled from the gallery fill only.
        acquisitions: what each picture gave, by path.
        mated: their searches.
        nonmated: theirs.
        overall: one point per target.
        rank1: share of mated searches whose first candidate is right, whatever its score.
        groups: column → value → (mated, non-mated, points at the overall thresholds).
        model: what was run.
        differentials: column → how its groups compare.
    """

    roles: Roles
    n_fill: int
    acquisitions: Mapping[Path, Acquired]
    mated: Searches
    nonmated: Searches
    overall: list[Point]
    rank1: float
    groups: dict[str, dict[str, tuple[Searches, Searches, list[Point]]]]
    model: dict[str, Any]
    differentials: dict[str, Groups] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as plain values; rates 0..1, null where nothing was searched."""
        enrolled, probed = self.roles.gallery, self.roles.mated + self.roles.nonmated
        not_enrolled, not_acquired = self._failed(enrolled), self._failed(probed)
        return {
            "n_gallery": len({p.identity for p in enrolled}) + self.n_fill,
            "n_gallery_fill": self.n_fill,
            "n_mated": len(self.mated.best),
            "n_nonmated": len(self.nonmated.best),
            "nonmated_searches": "own person left out" if self.roles.left_out else "people not enrolled",
            "failure_to_enrol": len(not_enrolled) / len(enrolled),
            "failure_to_acquire": len(not_acquired) / max(len(probed), 1),
            "failures": {
                status.value: sorted(str(p) for p, s in self.acquisitions.items() if s is status)
                for status in Acquired
                if status is not Acquired.TEMPLATE
            },
            "rank1": _number(self.rank1),
            "points": [_point(p) for p in self.overall],
            "groups": {
                column: {
                    value: {
                        "n_mated": len(mated.best),
                        "n_nonmated": len(nonmated.best),
                        "failure_to_acquire": _number(_share(np.concatenate([mated.best, nonmated.best]) < -1)),
                        "points": [_point(p) for p in at],
                    }
                    for value, (mated, nonmated, at) in values.items()
                }
                for column, values in self.groups.items()
            },
            "differentials": {column: msgspec.to_builtins(found) for column, found in self.differentials.items()},
            "model": self.model,
        }

    def to_csv(self) -> str:
        """One line for everybody and one for each group, at each threshold; empty where nothing was searched."""
        rows: list[tuple[object, ...]] = [CSV_COLUMNS]
        everybody = ("everybody", "", self.mated, self.nonmated, self.overall)
        groups = [
            (column, value, mated, other, at)
            for column, values in self.groups.items()
            for value, (mated, other, at) in values.items()
        ]
        for column, value, mated, other, at in (everybody, *groups):
            apart = self.differentials.get(column) if value else None  # everybody has no value
            for index, (whole, point) in enumerate(zip(self.overall, at, strict=True)):
                target = whole.fpir_target
                enough = target is None or math.floor(target * len(other.best) + 1e-9) >= 1
                rates = (point.fpir, *point.fpir_ci95, point.tpir, *point.tpir_ci95)
                cells = ["" if math.isnan(rate) else f"{rate:.6f}" for rate in rates]
                counts = (len(mated.best), len(other.best))
                written = "" if target is None else f"{target:g}"
                row = (column, value, *counts, written, f"{point.threshold:.6f}", *cells, _yes(enough))
                rows.append((*row, *_misses(point), *_compared(apart, value, index)))
        return csv_text(rows)

    def _failed(self, pictures: Sequence[Picture]) -> list[Picture]:
        return [p for p in pictures if self.acquisitions[p.path] is not Acquired.TEMPLATE]


def evaluate(
    manifest: Path,
    recipe: Recipe,
    *,
    gallery_fill: Path | None = None,
    where: Mapping[str, str] | None = None,
    without: Path | None = None,
    closely: Closely = "both",
    relative: Relative | None = None,
    second: float | None = None,
    targets: Sequence[float] = (0.1, 0.03, 0.01, 0.003, 0.001),
    threshold: float | None = None,
    seed: int = 0,
    replicates: int = 1000,
    workers: int | None = None,
    cache: Path | None = None,
    started: Callable[[int], Callable[[int], object]] = lambda _: lambda _: None,
) -> Report:
    """Runs an evaluation.

    Args:
        manifest: see :mod:`edge.evaluate.manifest`.
        recipe: the models; with two embedders and no ``second`` the first makes the probes and the other the gallery,
            which only makes sense for two variants of one model.
        gallery_fill: manifest of people who are enrolled only, to make the list longer; people who are in the manifest
            too are left aside.
        where: keep only rows with these values.
        without: CSV of people who are left out, and why.
        closely: whose faces are looked at more closely (:mod:`edge.sight.closer`): nobody's, those of the gallery, or
            both sides'. A van does so with whoever comes near somebody on the list: at its thresholds, both sides'.
        relative: score by likeness beyond the rest of the list, instead of by the cosine.
        second: share of the recipe's second embedder in a score; None where it has no such part.
        targets: FPIR to report at.
        threshold: report at this score instead.
        seed: of the split and of the resampling.
        replicates: bootstrap resamplings of people; 0 for none.
        workers: processes; None for one per core.
        cache: folder to keep templates in, in the clear, so that a run can be resumed; None keeps nothing.
        started: called with the number of pictures; what it returns is called with 1 for each that is done.

    Raises:
        BadInput: a manifest is wrong.
        ModelRejected: a model is not what its card says.
    """
    pictures = manifests.read(manifest, where, without)
    roles = manifests.assign(pictures, seed)
    known = {p.identity for p in pictures}
    fill = [p for p in manifests.read(gallery_fill, without=without) if p.identity not in known] if gallery_fill else []
    if relative is not None:  # one picture of each: several would count as so many neighbours
        fill = list({p.identity: p for p in reversed(fill)}.values())[::-1]
    used = list(dict.fromkeys(p.path for p in (*roles.gallery, *roles.mated, *roles.nonmated, *fill)))
    found = extract(used, recipe, workers=workers, cache=cache, progress=started(len(used)))
    by_path = dict(zip(used, found, strict=True))

    number = {name: i for i, name in enumerate(sorted(known | {p.identity for p in fill}))}
    enrolled = [p for p in (*roles.gallery, *fill) if by_path[p.path].templates]
    both = (0, 1) if second is not None else (0,)
    which = both if second is not None else (len(recipe.embedders) - 1,)
    gallery = _templates([by_path[p.path] for p in enrolled], which, closely=closely != "none")
    opinion = None
    if second is not None:
        opinion = Second(_templates([by_path[p.path] for p in enrolled], (0,), closely=False).shape[1], second)
        relative = relative or Relative(probe=0.0, entry=0.0)
    owner = np.array([number[p.identity] for p in enrolled], np.int64)

    def searched(probes: Sequence[Picture], *, leave_out: bool = False) -> Searches:
        mine = [by_path[p.path] for p in probes]
        made = np.array([bool(a.templates) for a in mine], bool)
        person = np.array([number[p.identity] for p in probes], np.int64)
        templates = _templates(mine, both, closely=closely == "both")
        return search(templates, made, person, gallery, owner, leave_out=leave_out, relative=relative, second=opinion)

    mated = searched(roles.mated)
    nonmated = searched(_others(roles), leave_out=roles.left_out)
    overall = points(mated, nonmated, targets, threshold=threshold, replicates=replicates, seed=seed)
    return Report(
        roles=roles,
        n_fill=len({p.identity for p in fill}),
        acquisitions={path: a.status for path, a in by_path.items()},
        mated=mated,
        nonmated=nonmated,
        overall=overall,
        rank1=_share(mated.right),
        groups=_grouped(roles, mated, nonmated, overall),
        model=_about(recipe, closely, relative, second),
        differentials=_apart(roles, (mated, nonmated), overall, by_path, number, replicates=replicates, seed=seed),
    )


def _misses(point: Point) -> list[str]:
    low, high = point.tpir_ci95
    return [_figure(None if math.isnan(point.tpir) else 1 - rate) for rate in (point.tpir, high, low)]


def _compared(apart: Groups | None, value: str, index: int) -> list[str]:
    """What a group's line says of differentials; empty where nothing can be said."""
    if apart is None:
        return [""] * 19
    group = apart.groups[value]
    cells = [_figure(group.failure_to_enrol.rate), _figure(group.failure_to_acquire.rate)]
    for shift in (group.mated_shift, group.nonmated_shift, group.threshold_shift[index]):
        cells += [_figure(number) for number in (shift.difference, *(shift.ci95 or (None, None)))]
    for ratio in (apart.fpir[index], apart.fnir[index]):
        cells += [_figure(number) for number in (ratio.ratio, *ratio.ratio_ci95)]
        cells.append(_yes(ratio.shown))
    return cells


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.6f}"


def _templates(found: Sequence[Acquisition], embedders: Sequence[int], *, closely: bool) -> NDArray[np.float32]:
    """(n, d): each embedder's template, of length 1, behind the one before; zeros where there is none."""
    lengths = [next((a.templates[e].shape[1] for a in found if a.templates), 1) for e in embedders]
    rows = np.zeros((len(found), sum(lengths)), np.float32)
    for row, acquisition in zip(rows, found, strict=True):
        if acquisition.templates:
            row[:] = np.concatenate([acquisition.templates[e][int(closely)] for e in embedders])
    return rows


def _grouped(
    roles: Roles, mated: Searches, nonmated: Searches, overall: Sequence[Point]
) -> dict[str, dict[str, tuple[Searches, Searches, list[Point]]]]:
    """Each group at the thresholds of everybody: the same threshold is what a street has."""
    groups: dict[str, dict[str, tuple[Searches, Searches, list[Point]]]] = {}
    for column, bands in _bands(roles).items():
        mine = np.array([bands[p.groups[column]] for p in roles.mated], np.str_)
        theirs = np.array([bands[p.groups[column]] for p in _others(roles)], np.str_)
        groups[column] = {}
        for value in sorted({*mine.tolist(), *theirs.tolist()}):
            a, b = mated.take(mine == value), nonmated.take(theirs == value)
            at = [points(a, b, (), threshold=p.threshold)[0] for p in overall]
            groups[column][value] = (a, b, at)
    return groups


def _others(roles: Roles) -> tuple[Picture, ...]:
    """Whose searches are non-mated."""
    return roles.mated if roles.left_out else roles.nonmated


def _bands(roles: Roles) -> dict[str, dict[str, str]]:
    """How each column's values are reported, the same in every table."""
    everybody = roles.gallery + roles.mated + roles.nonmated
    columns = (roles.mated + roles.nonmated)[0].groups
    return {column: manifests.band_ages(p.groups[column] for p in everybody) for column in columns}


def _apart(
    roles: Roles,
    searched: tuple[Searches, Searches],
    overall: Sequence[Point],
    found: Mapping[Path, Acquisition],
    number: Mapping[str, int],
    *,
    replicates: int,
    seed: int,
) -> dict[str, Groups]:
    """How the groups of each column compare; every picture counts once, whatever it was used for."""
    probes = roles.mated + roles.nonmated
    everybody = roles.gallery + probes
    draws = Draws.make(np.array([number[p.identity] for p in everybody], np.int64), replicates, seed)
    wanted = [(p.threshold, p.fpir if p.fpir_target is None else p.fpir_target) for p in overall]
    wanted = [(at, 0.0 if math.isnan(fpir) else fpir) for at, fpir in wanted]
    apart = {}
    for column, bands in _bands(roles).items():

        def events(pictures: Sequence[Picture], bands: Mapping[str, str] = bands, column: str = column) -> Events:
            failed = np.array([not found[p.path].templates for p in pictures], bool)
            person = np.array([number[p.identity] for p in pictures], np.int64)
            return Events(failed, person, np.array([bands[p.groups[column]] for p in pictures], np.str_))

        timed = [p for p in {p.path: p for p in everybody}.values() if found[p.path].seconds is not None]
        took, those = [1000 * (found[p.path].seconds or 0.0) for p in timed], events(timed)
        apart[column] = compare(
            mated=(searched[0], events(roles.mated).group),
            nonmated=(searched[1], events(_others(roles)).group),
            enrolled=events(roles.gallery),
            acquired=events(probes),
            milliseconds=Values(np.array(took, np.float64), those.person, those.group),
            wanted=wanted,
            draws=draws,
        )
    return apart


def _about(recipe: Recipe, closely: Closely, relative: Relative | None, second: float | None) -> dict[str, Any]:
    from edge.sight import card  # noqa: PLC0415 - only the cards are read again here

    about: dict[str, Any] = {"runtime": recipe.runtime, "closely": closely}
    about["score"] = "cosine" if relative is None else msgspec.structs.asdict(relative)
    if second is not None:
        about["second_share"] = second
    names = ("detector", "embedder", "gallery_embedder" if second is None else "second")
    for name, reference in zip(names, (recipe.detector, *recipe.embedders), strict=False):
        pack, variant = card.split(reference)
        read = card.read((recipe.directory or card.default_directory()) / pack)
        about[name] = reference
        about[f"{name}_sha256"] = read.variants[variant].sha256
    return about


def _share(which: NDArray[np.bool_]) -> float:
    return float(which.mean()) if len(which) else math.nan


def _yes(value: bool) -> str:  # noqa: FBT001
    return "yes" if value else "no"


def _point(point: Point) -> dict[str, Any]:
    fields = {name: _number(value) for name, value in asdict(point).items()}
    return {**fields, "shown": point.shown, "searches_needed": point.needed}


def _number(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, tuple):
        return [_number(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value
