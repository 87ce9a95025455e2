"""How alike strangers can look: from a measured impostor tail to the threshold for a false-alert budget.

For each of several list sizes the pack holds the tail of the best score (:mod:`edge.match.relative`) that a person who
is not on the list reached, as a generalised Pareto distribution above a high score (Coles, An Introduction to
Statistical Modeling of Extreme Values, 2001, chapter 4), with bootstrap replicates over people.

A longer list brings more people who may look alike, and it knows better who looks like many. With lists of lawful
length the second outweighs the first: the score that a budget needs falls with the length. So a list between two
measured sizes needs the higher of their two thresholds; one shorter than the shortest is judged as the shortest, which
needs the highest of all; and one N/M times as long as the longest measured is treated as N/M independent tries in it:
FPIR(N) = 1 − (1 − FPIR(M))^(N/M). People differ in how many look like them, so tries are not independent, and scores
are lower on the longer list: it errs towards the higher threshold.

A tail counts searches of one picture; a van judges passages. How many searches a passage counts as was measured with it
(:class:`Passages`); ``docs/decisions/0065-list-relative-scores.md`` says how.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from edge.config import DecisionSection, QualitySection
from edge.errors import ModelRejected, ThresholdUnsupported
from edge.match.relative import Relative
from edge.parsing import toml_as

__all__ = ["FILE_NAME", "ImpostorTail", "PassageRules", "Passages", "SizedTail", "ThresholdEstimate", "fit"]

FILE_NAME = "impostor-tail.toml"

REACH = 10.0
"""How many times rarer than the rarest thing seen a budget may be. Beyond, a fitted curve is a guess."""

WIDEST = 0.12
"""Score between the bounds of a threshold beyond which the data is called too little."""

SEVERAL = 2.0
"""Searches as which one counts where somebody on the list has several pictures: up to about so many times as many
strangers passed (docs/models.md, "Several pictures of a person")."""

Rate = Annotated[float, Meta(gt=0.0, le=1.0)]


@dataclass(frozen=True, slots=True)
class ThresholdEstimate:
    """A threshold and how sure it is.

    Attributes:
        threshold: score at which the budget is predicted to be met, -2..1.
        lower: 2.5 % bound of it over resampled people.
        upper: 97.5 % bound; the careful choice.
        fpir: the budget that was asked for.
        entries: the list size that was asked for.
        judged_entries: the list size that was put in its place, not smaller.
        searches: searches of one picture as which whatever passes was counted.
        measured_entries: the list size whose tail was used.
        extrapolation: how many times rarer the budget is than one search among all that were made; below 1 nothing is
            extrapolated.
    """

    threshold: float
    lower: float
    upper: float
    fpir: float
    entries: int
    judged_entries: int
    searches: float
    measured_entries: int
    extrapolation: float


class SizedTail(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The tail at one list size.

    Attributes:
        entries: people on the list, M.
        searches: non-mated searches that were made.
        start: score above which the tail is fitted.
        share: of the searches that lie above the start.
        scale: of the generalised Pareto distribution.
        shape: of it; negative when the score has an upper end.
        replicates: (share, scale, shape) for each resampling of people.
        quantiles: score that this share of searches reaches, for the part below the tail: share → score.
    """

    entries: Annotated[int, Meta(ge=1)]
    searches: Annotated[int, Meta(ge=1)]
    start: float
    share: Rate
    scale: Annotated[float, Meta(gt=0)]
    shape: float
    replicates: tuple[tuple[float, float, float], ...]
    quantiles: tuple[tuple[float, float], ...]

    def threshold(self, rate: float, fitted: tuple[float, float, float] | None = None) -> float:
        """Score that a share `rate` of searches reaches, by the fit or by one of its replicates."""
        share, scale, shape = fitted or (self.share, self.scale, self.shape)
        if rate >= share:
            shares, scores = zip(*self.quantiles, strict=True)
            return float(np.interp(math.log(rate), np.log(shares), scores))
        ratio = math.log(rate / share)
        if abs(shape) < 1e-9:
            return self.start - scale * ratio
        return self.start + scale / shape * math.expm1(-shape * ratio)


class PassageRules(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a passage was judged when it was shown to keep the budget: what an alert asks for, and of which faces.

    Fields as in :class:`edge.config.DecisionSection` and :class:`edge.config.QualitySection`.
    """

    votes: Annotated[int, Meta(ge=1)]
    window: Annotated[int, Meta(ge=1)]
    min_eye_distance: float
    max_yaw: float
    max_pitch: float
    min_sharpness: float
    min_brightness: float
    max_brightness: float
    min_score: float

    @classmethod
    def of(cls, decision: DecisionSection, quality: QualitySection) -> PassageRules:
        """The rules that a configuration sets."""
        return cls(votes=decision.votes, window=decision.window, **msgspec.structs.asdict(quality))

    def weaker(self, decision: DecisionSection, quality: QualitySection) -> str:
        """Which key of a configuration lets more false alerts through than these rules; empty when none does.

        Fewer votes, a longer window and lower limits on quality are weaker; the other way is always allowed.
        """
        wanted = PassageRules.of(decision, quality)
        for name in self.__struct_fields__:
            mine, theirs = getattr(self, name), getattr(wanted, name)
            most = name == "window" or name.startswith("max_")
            if theirs > mine if most else theirs < mine:
                table = "decision" if name in {"votes", "window"} else "quality"
                return f"{table}.{name} is {theirs:g}; the budget was shown to hold with {mine:g}"
        return ""


class Passages(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What whole passages of strangers did at thresholds for single pictures (:mod:`edge.evaluate.passages`).

    Attributes:
        searches: as so many searches of one picture a passage counts: the budget is divided by it.
        measured: ``(pictures in a passage, people who passed, of them people who alerted, entries, 1 / budget, multiple
            of the budget, its 2.5 % and 97.5 % bounds)`` of each measurement, over resampled people.
    """

    searches: Annotated[float, Meta(ge=1.0, le=100.0)]
    measured: tuple[tuple[int, int, int, int, int, float, float, float], ...]


class ImpostorTail(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What was measured of one embedder.

    Attributes:
        model_sha256: of the embedder whose templates were compared: a tail of another model says nothing.
        detector_sha256: of the detector that found the faces.
        data: which pictures, in words.
        closely: whose templates are of a closer look: ``none``, ``enrol`` or ``both``.
        people: how many different people were searched.
        relative: how scores were made of similarities.
        second: share of a second embedder's score in them (:mod:`edge.match.second`); ``model_sha256`` then names the
            pair, and the tail lies in the second's pack.
        passages: as how many searches a passage counts.
        scene_similarity: cosine that an alert needs besides its score. The list tells nothing of the camera, light and
            background that two faces share, and in one scene strangers are more alike than in any list's people.
        rules: by which a passage was judged when the budget was shown to hold.
        tails: by list size, ascending.
    """

    model_sha256: str
    detector_sha256: str
    data: str
    closely: Literal["none", "enrol", "both"]
    people: Annotated[int, Meta(ge=1)]
    relative: Relative
    passages: Passages
    scene_similarity: Annotated[float, Meta(ge=0.0, le=1.0)]
    rules: PassageRules
    tails: tuple[SizedTail, ...]
    second: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0

    @classmethod
    def load(cls, pack: Path, model_sha256: str | None = None) -> ImpostorTail:
        """Reads the tail of a model pack.

        Args:
            pack: the pack's folder, for example ``models/mobilefacenet``.
            model_sha256: digest of the embedder that will be run; None to read the tail without running anything.

        Raises:
            ThresholdUnsupported: the pack has none, or that of another variant, so no budget can be promised with it.
            ModelRejected: the file is damaged.
        """
        path = pack / FILE_NAME
        try:
            tail = toml_as(path.read_bytes(), cls)
        except FileNotFoundError as error:
            raise ThresholdUnsupported(
                str(path), "this pack's impostor tail was never measured", "Measure it with scripts/pack-model tail"
            ) from error
        except OSError as error:
            raise ModelRejected(str(path), f"it cannot be read ({error.strerror})", "Check the file") from error
        except msgspec.DecodeError as error:
            raise ModelRejected(str(path), f"it is not an impostor tail: {error}", "Measure it again") from error
        if not tail.tails:
            raise ModelRejected(str(path), "it holds no tail", "Measure it again")
        if model_sha256 is not None and model_sha256 != tail.model_sha256:
            raise ThresholdUnsupported(
                str(path),
                f"it was measured with the embedder {tail.model_sha256[:16]}…, and {model_sha256[:16]}… is to run",
                "Run the variant that it was measured with, or measure this one with scripts/pack-model tail",
            )
        return tail

    def threshold(self, fpir: float, entries: int, *, several: bool = False) -> ThresholdEstimate:
        """The score at which a share `fpir` of passages of people not on a list of `entries` may raise an alert.

        Args:
            fpir: false-alert budget per passage, 0 < fpir < 1.
            entries: people on the list; 0 for one that everybody has left.
            several: whether anybody on it has more than one picture.

        Raises:
            ThresholdUnsupported: the budget is too rare for the data, or the bounds are too far apart.
        """
        return self._estimate(fpir, entries, searches=self.passages.searches * (SEVERAL if several else 1.0))

    def of_one_picture(self, fpir: float, entries: int) -> ThresholdEstimate:
        """The same for single pictures: what was measured, and no van may run with.

        Raises:
            ThresholdUnsupported: as :meth:`threshold`.
        """
        return self._estimate(fpir, entries, searches=1.0)

    def _estimate(self, fpir: float, entries: int, *, searches: float) -> ThresholdEstimate:
        what = f"threshold for FPIR {fpir:.3g} at {entries} entries"
        if not 0 < fpir < 1 or entries < 0:
            raise ThresholdUnsupported(
                what, "the budget must lie between 0 and 1 and the length of the list cannot be negative", "Correct it"
            )
        sizes = [tail.entries for tail in self.tails]
        judged = max(entries, sizes[0])
        tries = max(judged / sizes[-1], 1.0)
        rate = -math.expm1(math.log1p(-fpir / searches) / tries)
        below, above = bisect_right(sizes, judged) - 1, min(bisect_left(sizes, judged), len(sizes) - 1)
        tail = max(self.tails[below], self.tails[above], key=lambda one: one.threshold(rate))
        extrapolation = 1 / (rate * tail.searches)
        if extrapolation > REACH:
            people = math.ceil(self.people * extrapolation / REACH / 100) * 100
            smallest = -math.expm1(math.log1p(-1 / (REACH * tail.searches)) * tries) * searches
            raise ThresholdUnsupported(
                what,
                f"it is {extrapolation:.0f} times rarer than one in the {tail.searches:,} searches that were measured",
                f"Allow a budget of {smallest:.2g} or more, or measure the pack on {people:,} people; these were "
                f"{self.people:,}",
            )
        at = [tail.threshold(rate, (share, scale, shape)) for share, scale, shape in tail.replicates]
        lower, upper = (float(np.percentile(at, q)) for q in (2.5, 97.5))
        if upper - lower > WIDEST:
            raise ThresholdUnsupported(
                what,
                f"the measurement can only place it between {lower:.3f} and {upper:.3f}",
                "Allow a larger budget, or measure the pack on more people",
            )
        threshold = tail.threshold(rate)
        return ThresholdEstimate(
            threshold=threshold,
            lower=min(lower, threshold),
            upper=max(upper, threshold),
            fpir=fpir,
            entries=entries,
            judged_entries=judged,
            searches=searches,
            measured_entries=tail.entries,
            extrapolation=extrapolation,
        )


def fit(excess: NDArray[np.float64]) -> tuple[float, float]:
    """Scale and shape of a generalised Pareto distribution by probability-weighted moments.

    Hosking and Wallis, Parameter and quantile estimation for the generalized Pareto distribution (1987), with the
    sign of the shape as in Coles. Closed form, and steadier than maximum likelihood on some hundred values.

    Args:
        excess: (n,) amounts by which values exceed the start of the tail, n ≥ 2, not all zero.
    """
    ordered = np.sort(excess)
    n = len(ordered)
    first = float(ordered.mean())
    second = float((ordered * (n - 1 - np.arange(n))).sum() / (n * (n - 1)))
    gap = max(first - 2 * second, 1e-9)
    return 2 * first * second / gap, 2 - first / gap
