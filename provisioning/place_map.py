"""A deployment's place as people check it before they sign: its size, its middle, and a small map without a network."""

from __future__ import annotations

from edge.trust.place import Place

__all__ = ["described", "drawn"]

WIDE, HIGH = 48, 16
"""Letters of the map. A letter is about twice as high as it is wide."""
NICE = (50, 100, 200, 500, 1000, 2000, 5000)
"""Lengths of the scale, metres."""


def described(place: Place) -> str:
    """Area, extent and middle in one line."""
    xs, ys = zip(*place.outline_m(), strict=True)
    north, east = place.middle
    return (
        f"{place.area_km2:.2f} km², {max(xs) - min(xs):,.0f} m from west to east and {max(ys) - min(ys):,.0f} m from "
        f"south to north, around {abs(north):.4f}° {'N' if north >= 0 else 'S'}, {abs(east):.4f}° "
        f"{'E' if east >= 0 else 'W'}"
    )


def drawn(place: Place) -> list[str]:
    """The map, north at the top: ``#`` inside, ``+`` the middle, and a line of scale."""
    outline = place.outline_m()
    xs, ys = zip(*outline, strict=True)
    metres = max((max(xs) - min(xs)) / WIDE, (max(ys) - min(ys)) / (2 * HIGH), 1e-6)
    middle_x, middle_y = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    rows = []
    for row in range(HIGH):
        y = middle_y + (HIGH / 2 - row - 0.5) * 2 * metres
        letters = [
            "#" if _inside(middle_x + (column - WIDE / 2 + 0.5) * metres, y, outline) else "." for column in range(WIDE)
        ]
        if row == HIGH // 2:
            letters[WIDE // 2] = "+"
        rows.append("".join(letters))
    length = max((each for each in NICE if each / metres <= WIDE / 2), default=NICE[0])
    return [*rows, f"|{'-' * max(1, round(length / metres) - 2)}| {length:,} m, north is up"]


def _inside(x: float, y: float, outline: list[tuple[float, float]]) -> bool:
    inside = False
    for (x1, y1), (x2, y2) in zip(outline, (*outline[1:], outline[0]), strict=True):
        if (y1 > y) != (y2 > y):
            inside ^= x < x1 + (y - y1) / (y2 - y1) * (x2 - x1)
    return inside
