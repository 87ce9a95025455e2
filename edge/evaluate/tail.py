"""Measuring an embedder's impostor tail: how high the best stranger scores, at several list sizes. No I/O."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import BadInput
from edge.evaluate.strangers import Both, List, Second, first, listed
from edge.match.calibration import ImpostorTail, SizedTail, fit
from edge.match.relative import Relative

__all__ = ["SIZES", "measure", "to_toml"]

SIZES = (
    *(10, 12, 15, 20, 25, 30, 40, 50, 70, 100, 150, 220, 330, 500, 700),
    *(1000, 1500, 2200, 3300, 5000, 10_000, 30_000),
)
"""List sizes that are measured, as far as the people suffice; the longest possible list is added. Between two of them
the higher threshold holds, so they lie close where it falls fast."""

TAIL = 0.05
"""The share of searches that counts as the tail, at most."""

MOST_EXCEEDANCES = 5000
"""With more, the tail starts higher: it is the far end that is asked about."""

FEWEST_EXCEEDANCES = 100
BLOCKS = 40
"""Disjoint lists that each probe is searched in, at most."""

REPLICATES = 100


def measure(
    probes: NDArray[np.float32],
    probe_person: NDArray[np.int64],
    gallery: NDArray[np.float32],
    gallery_person: NDArray[np.int64],
    relative: Relative,
    *,
    second: Second | None = None,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> tuple[SizedTail, ...]:
    """Searches every probe in lists that never hold its own person, and fits the tail of the best scores.

    Args:
        probes: (n, d) of length 1.
        probe_person: (n,) number of the person shown.
        gallery: (m, d) of length 1, one row per person.
        gallery_person: (m,) numbers, all different.
        relative: how scores are made.
        second: a second embedder's part in them.
        sizes: of lists; the longest possible one is added.
        seed: of the order in which people are put on lists, and of the resampling.

    Raises:
        BadInput: there are too few people for any list size.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(gallery))
    gallery, gallery_person = gallery[order], gallery_person[order]
    tails = []
    for size in [s for s in sizes if s < len(gallery) * 0.8] + [len(gallery)]:
        blocks = min(len(gallery) // size, BLOCKS)
        lists = [slice(block * size, (block + 1) * size) for block in range(blocks)]
        best = np.concatenate(
            [_best(probes, probe_person, listed(gallery[one], relative, second), gallery_person[one]) for one in lists]
        )
        tail = _fit(best, np.tile(probe_person, blocks), size, random)
        if tail is not None:
            tails.append(tail)
    if not tails:
        raise BadInput("impostor tail", "there are too few people to fit one", "Measure with some thousand people")
    return tuple(tails)


def _best(
    probes: NDArray[np.float32], person: NDArray[np.int64], on: List | Both, enrolled: NDArray[np.int64]
) -> NDArray[np.float32]:
    row = {int(number): at for at, number in enumerate(enrolled)}
    return first(on, probes, np.array([row.get(int(number), -1) for number in person], np.int64))[0]


def _fit(
    best: NDArray[np.float32], person: NDArray[np.int64], entries: int, random: np.random.Generator
) -> SizedTail | None:
    count = min(int(TAIL * len(best)), MOST_EXCEEDANCES)
    if count < FEWEST_EXCEEDANCES:
        return None
    ordered = np.sort(best.astype(np.float64))
    start = float(ordered[-count - 1])
    above = best > start
    excess = best[above].astype(np.float64) - start
    scale, shape = fit(excess)
    people, owner = np.unique(person, return_inverse=True)
    replicates = []
    for _ in range(REPLICATES):
        weight = random.multinomial(len(people), np.full(len(people), 1 / len(people)))[owner]
        drawn = np.repeat(excess, weight[above])
        replicates.append((float(weight[above].sum() / weight.sum()), *fit(drawn)))
    # From rare to common, ending at everybody; np.interp wants rising shares.
    shares = np.exp(np.linspace(np.log(count / len(best)), 0, 40))
    positions = np.clip(np.round((1 - shares) * (len(ordered) - 1)).astype(int), 0, len(ordered) - 1)
    return SizedTail(
        entries=entries,
        searches=len(best),
        start=start,
        share=count / len(best),
        scale=scale,
        shape=shape,
        replicates=tuple(replicates),
        quantiles=tuple((float(s), float(v)) for s, v in zip(shares, ordered[positions], strict=True)),
    )


def to_toml(tail: ImpostorTail) -> str:
    """The text of ``impostor-tail.toml``: rates and similarities of crowds, nothing of any person."""
    about = {name: value for name, value in msgspec.structs.asdict(tail).items() if isinstance(value, int | str)}
    lines = ["# Measured by `scripts/pack-model tail`; see edge/match/calibration.py for what it means."]
    lines += [f"{key} = {value}" if isinstance(value, int) else f'{key} = "{value}"' for key, value in about.items()]
    lines += [f"scene_similarity = {tail.scene_similarity:.3f}"]
    if tail.second:
        lines += [f"second = {tail.second:g}"]
    for name, table in (("rules", tail.rules), ("relative", tail.relative)):
        lines += ["", f"[{name}]", *(f"{key} = {value}" for key, value in msgspec.structs.asdict(table).items())]
    measured = ",\n    ".join(str(list(row)) for row in tail.passages.measured)
    lines += ["", "[passages]", f"searches = {tail.passages.searches:.2f}", f"measured = [{measured}]"]
    for sized in tail.tails:
        lines += ["", "[[tails]]", f"entries = {sized.entries}", f"searches = {sized.searches}"]
        lines += [f"{name} = {getattr(sized, name):.6f}" for name in ("start", "share", "scale", "shape")]
        lines.append("replicates = [" + ", ".join(f"[{a:.6f}, {b:.5f}, {c:.4f}]" for a, b, c in sized.replicates) + "]")
        lines.append("quantiles = [" + ", ".join(f"[{s:.6f}, {v:.4f}]" for s, v in sized.quantiles) + "]")
    return "\n".join(lines) + "\n"
