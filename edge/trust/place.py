"""Where a van may watch, and whether a position lies in it. Pure geometry on WGS 84 degrees.

A deployment's place is a few streets, so a polygon is treated as flat: over 5 km at British latitudes
the error of that is below a metre, far less than a satellite receiver's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from msgspec import Struct

__all__ = ["EARTH_RADIUS_M", "Place", "Position", "distance_m"]

EARTH_RADIUS_M = 6_371_008.8
"""Mean radius of the Earth (IUGG)."""

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
        if self.centre is not None and not 0 < (self.radius_m or 0) <= 20_000:
            return "has a circle without a radius of 1 m to 20 km"
        corners = (*self.polygon, *([self.centre] if self.centre is not None else []))
        if any(not (-90 <= lat <= 90 and -180 <= lon <= 180) for lat, lon in corners):
            return "has a corner that is not on Earth"
        return None

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


def distance_m(one: Point, other: Point) -> float:
    """Great-circle distance in metres (haversine)."""
    lat1, lon1, lat2, lon2 = map(math.radians, (*one, *other))
    half = math.sin((lat2 - lat1) / 2) ** 2 + math.cos(lat1) * math.cos(lat2) * math.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(half)))
