"""Where a van may watch, and whether a position lies in it. Pure geometry on WGS 84 degrees.

A deployment's place is a few streets, so a polygon is treated as flat: over 5 km at British latitudes
the error of that is below a metre, far less than a satellite receiver's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

__all__ = ["EARTH_RADIUS_M", "MAX_AREA_KM2", "Place", "Position", "distance_m"]

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth (IUGG)."""

MAX_AREA_KM2 = 20.0
"""A deployment is bound to a place that is specific (College of Policing APP): some streets, not a town."""
MAX_LENGTH_KM = 10.0

Point = tuple[float, float]
"""Latitude and longitude in degrees, north and east positive."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where the van is.

    Attributes:
        latitude: degrees, north positive.
        longitude: degrees, east positive.
        accuracy_m: radius within which the true position lies at 95 %, in metres; 0 for a fixed site.
        at: when it was measured, UTC.
    """

    latitude: float
    longitude: float
    accuracy_m: float
    at: datetime


class Place(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a van may watch: a polygon, or a circle.

    Attributes:
        name: in words, for the crew and the public notice.
        polygon: corners in order, latitude and longitude in degrees; closed by itself.
        centre: of the circle, latitude and longitude in degrees.
        radius_m: of the circle, metres.
    """

    name: str
    polygon: tuple[Point, ...] = ()
    centre: Point | None = None
    radius_m: float | None = None

    def flaw(self) -> str | None:
        """Why this is no place, or None when it is one."""
        if bool(self.polygon) == (self.centre is not None):
            return "must be either a polygon or a circle"
        if self.polygon and len(self.polygon) < 3:
            return "has a polygon of fewer than three corners"
        if self.centre is not None and not (self.radius_m or 0) > 0:
            return "has a circle without a radius of more than 0 m"
        corners = (*self.polygon, *([self.centre] if self.centre is not None else []))
        if any(not (-90 <= lat <= 90 and -180 <= lon <= 180) for lat, lon in corners):
            return "has a corner that is not on Earth"
        longest = max(distance_m(corners[0], corner) for corner in corners) / 1000
        if self.area_km2 > MAX_AREA_KM2 or longest > MAX_LENGTH_KM:
            size = f"covers {self.area_km2:,.0f} km²" if longest <= MAX_LENGTH_KM else f"is {longest:,.0f} km long"
            return (
                f"{size}; {MAX_AREA_KM2:.0f} km² and {MAX_LENGTH_KM:.0f} km are the most: "
                "latitude and longitude of a corner may be the wrong way round"
            )
        if any(_cross(*one, *other) for one, other in _apart(self.polygon)):
            return "has an outline that crosses itself: give the corners in their order"
        return None

    @property
    def area_km2(self) -> float:
        """Square kilometres inside."""
        if self.centre is not None:
            return math.pi * (self.radius_m or 0.0) ** 2 / 1e6
        metres = self.outline_m()
        pairs = zip(metres, (*metres[1:], metres[0]), strict=True)
        return abs(sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in pairs)) / 2e6

    @property
    def middle(self) -> Point:
        """The circle's centre, or the middle of the box around the polygon."""
        if self.centre is not None:
            return self.centre
        latitudes, longitudes = zip(*self.polygon, strict=True)
        return (min(latitudes) + max(latitudes)) / 2, (min(longitudes) + max(longitudes)) / 2

    def outline_m(self) -> list[Point]:
        """The outline in metres east and north of :attr:`middle`; a circle as 72 corners."""
        if self.centre is not None:
            radius, steps = self.radius_m or 0.0, [2 * math.pi * step / 72 for step in range(72)]
            return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in steps]
        north, east = self.middle
        degree = math.radians(1) * EARTH_RADIUS_M
        wide = degree * math.cos(math.radians(north))
        return [((longitude - east) * wide, (latitude - north) * degree) for latitude, longitude in self.polygon]

    def contains(self, latitude: float, longitude: float) -> bool:
        """Whether the point lies inside; a point on the edge may fall either way."""
        if self.centre is not None:
            return distance_m(self.centre, (latitude, longitude)) <= (self.radius_m or 0.0)
        inside = False
        corners = self.polygon
        for (lat1, lon1), (lat2, lon2) in zip(corners, (*corners[1:], corners[0]), strict=True):
            # Even-odd rule: count the edges that a ray to the east crosses.
            if (lat1 > latitude) != (lat2 > latitude):
                crossing = lon1 + (latitude - lat1) / (lat2 - lat1) * (lon2 - lon1)
                inside ^= longitude < crossing
        return inside


def _apart(corners: tuple[Point, ...]) -> list[tuple[tuple[Point, Point], tuple[Point, Point]]]:
    """Pairs of edges that have no corner in common."""
    edges = list(zip(corners, (*corners[1:], *corners[:1]), strict=True))
    return [(one, other) for at, one in enumerate(edges) for other in edges[at + 2 :] if not set(one) & set(other)]


def _cross(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether the edges ab and cd cross."""

    def side(p: Point, q: Point, r: Point) -> bool:
        return (r[1] - p[1]) * (q[0] - p[0]) > (q[1] - p[1]) * (r[0] - p[0])

    return side(a, c, d) != side(b, c, d) and side(a, b, c) != side(a, b, d)


def distance_m(one: Point, other: Point) -> float:
    """Great-circle distance in metres (haversine)."""
    lat1, lon1, lat2, lon2 = map(math.radians, (*one, *other))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))
