"""Where pictures were taken: positions in names, degrees told from metres, zones of UTM brought into one frame."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segswap.errors import InputError
from segswap.lists import shown

COORDINATES = ("metres", "latitude_longitude", "longitude_latitude")

_RADIUS, _FLATTENING = 6_378_137.0, 1 / 298.257223563
"""Of WGS 84: half the longer axis in metres, flattening."""

_SCALE, _EAST, _NORTH = 0.9996, 500_000.0, 10_000_000.0
"""Of UTM: scale on the middle of a zone, east of that middle, north of the equator in the southern hemisphere."""

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
"""Letters of UTM: bands of 8 degrees from 80 degrees south on; the last one is of 12."""


@dataclass(frozen=True)
class Zone:
    """A zone of UTM: its number, 1 to 60, and its letter, that of a band of latitude; "" where none is given."""

    number: int
    letter: str

    @property
    def frame(self) -> tuple[int, bool]:
        """Number, and whether it is in the south: what positions with equal values share."""
        return self.number, bool(self.letter) and self.letter < "N"


def _last(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def position_in_name(name: str) -> tuple[float, float] | None:
    """Return the two numbers that a file name holds, ``@<east>@<north>@...``; None without them."""
    try:
        first, second = map(float, _last(name).split("@")[1:3])
    except ValueError:
        return None
    return (first, second) if math.isfinite(first) and math.isfinite(second) else None


def zone_in_name(name: str) -> Zone | None:
    """Return the zone in ``@<east>@<north>@<zone>@<letter>@<latitude>@...``, as VPR-datasets-downloader writes it.

    Without a letter the latitude says which hemisphere it is. None where the name holds no zone.
    """
    parts = [*_last(name).split("@"), "", "", ""][3:6]
    match = re.fullmatch(r"(\d\d?)([A-Za-z]?)", parts[0], re.ASCII)
    if match is None or not 1 <= int(match[1]) <= 60:
        return None
    letter = (match[2] or parts[1]).upper()
    if letter == "":
        with contextlib.suppress(ValueError):
            letter = "N" if float(parts[2]) >= 0 else "M"
    return Zone(int(match[1]), letter) if letter == "" or letter in _BANDS else None


def degrees_to_earth(latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Return points on the ellipsoid of WGS 84, in metres from the middle of the Earth, (n, 3).

    Distances of near points are those on the ground: of two that are a kilometre apart they differ by 1 micrometre.

    Args:
        latitude, longitude: in degrees, (n,).
    """
    latitude, longitude = np.radians(latitude), np.radians(longitude)
    square = _FLATTENING * (2 - _FLATTENING)
    normal = _RADIUS / np.sqrt(1 - square * np.sin(latitude) ** 2)
    across = normal * np.cos(latitude)
    along = normal * (1 - square) * np.sin(latitude)
    return np.stack([across * np.cos(longitude), across * np.sin(longitude), along], axis=1)


def utm_to_degrees(positions: np.ndarray, zone: int, south: bool) -> np.ndarray:
    """Return latitude and longitude in degrees, (n, 2), of UTM positions (n, 2) in metres: east, north.

    Series of Krueger to the fourth order in the third flattening (EPSG's guidance note 7-2, method 9807): within a
    millimetre inside of a zone and its neighbours.
    """
    n = _FLATTENING / (2 - _FLATTENING)
    radius = _RADIUS / (1 + n) * (1 + n**2 / 4 + n**4 / 64)
    series = (
        n / 2 - 2 * n**2 / 3 + 37 * n**3 / 96 - n**4 / 360,
        n**2 / 48 + n**3 / 15 - 437 * n**4 / 1440,
        17 * n**3 / 480 - 37 * n**4 / 840,
        4397 * n**4 / 161280,
    )
    east, north = positions.T
    along = (north - (_NORTH if south else 0.0)) / (radius * _SCALE)
    across = (east - _EAST) / (radius * _SCALE)
    xi, eta = along.copy(), across.copy()
    for k, factor in enumerate(series, 1):
        xi -= factor * np.sin(2 * k * along) * np.cosh(2 * k * across)
        eta -= factor * np.cos(2 * k * along) * np.sinh(2 * k * across)
    conformal = np.arcsin(np.sin(xi) / np.cosh(eta))
    # The geodetic latitude of a conformal one: a fixed point, each round a hundredth nearer.
    eccentricity = math.sqrt(_FLATTENING * (2 - _FLATTENING))
    target = isometric = np.arcsinh(np.tan(conformal))
    for _ in range(8):
        isometric = target + eccentricity * np.arctanh(eccentricity * np.tanh(isometric))
    latitude = np.degrees(np.arctan(np.sinh(isometric)))
    return np.stack([latitude, 6 * zone - 183 + np.degrees(np.arctan2(np.sinh(eta), np.cos(xi)))], axis=1)


def degrees_among(positions: np.ndarray) -> np.ndarray:
    """Return which positions (n, 2) look like degrees, bool (n,); none where others cannot be degrees or UTM.

    Whole numbers are metres, as a receiver's degrees never are; (0, 0) is what many write for an unknown position.
    """
    size = np.abs(positions)
    small = (size.max(1) <= 180) & (size.min(1) <= 90)
    whole = (positions == np.round(positions)).all(1)
    unknown, far = (positions == 0).all(1), size.max(1) >= 100_000
    degrees = small & ~whole
    return degrees if (degrees | unknown | far).all() else np.zeros(len(positions), bool)


def one_frame(names: Sequence[str], positions: np.ndarray, coordinates: str | None) -> tuple[np.ndarray, str | None]:
    """Return positions between which distances are metres, and in words what was done to them, if anything was.

    Args:
        names: of the pictures; zones are read from them.
        positions: (n, 2), finite.
        coordinates: one of ``COORDINATES``; None: metres, and what looks like degrees is refused.

    Returns:
        (n, 2) as given where all are metres of one frame, else (n, 3) from the middle of the Earth.

    Raises:
        InputError: when positions look like degrees, are not what they are said to be, or are of several zones that
            cannot be joined.
    """
    if coordinates not in (None, *COORDINATES):
        raise InputError(f"coordinates {coordinates!r}: expected one of {', '.join(COORDINATES)}")
    if coordinates in COORDINATES[1:]:
        return _projected(names, positions, coordinates), f"positions are degrees ({coordinates}), projected to metres"
    if coordinates is None and (degrees := degrees_among(positions)).any():
        first = int(np.argmax(degrees))
        raise InputError(
            f"{degrees.sum()} of {len(names)} positions look like degrees, the first is {_pair(positions[first])} of "
            f"{shown(names[first])}; expected metres (UTM). Set files.coordinates to latitude_longitude or "
            "longitude_latitude, as they are written, and they are projected; or to metres, where they are metres of a "
            "small place"
        )
    zones = [zone_in_name(name) if position_in_name(name) else None for name in names]
    frames = sorted({zone.frame for zone in zones if zone is not None})
    if len(frames) < 2:
        return positions, None
    known = ", ".join(f"{number} {'south' if south else 'north'}" for number, south in frames)
    return _joined(names, positions, zones), f"positions of the UTM zones {known}, brought into one frame"


def _pair(position: np.ndarray) -> str:
    return f"({position[0]:.10g}, {position[1]:.10g})"


def _projected(names: Sequence[str], positions: np.ndarray, coordinates: str) -> np.ndarray:
    latitude, longitude = positions.T if coordinates == "latitude_longitude" else positions.T[::-1]
    wrong = (np.abs(latitude) > 90) | (np.abs(longitude) > 180)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise InputError(
            f"{wrong.sum()} of {len(names)} positions are not degrees in the order {coordinates}, the first is "
            f"{_pair(positions[first])} of {shown(names[first])}; expected a latitude of -90 to 90 and a longitude of "
            "-180 to 180. Set files.coordinates to what they are"
        )
    return degrees_to_earth(latitude, longitude)


def _joined(names: Sequence[str], positions: np.ndarray, zones: Sequence[Zone | None]) -> np.ndarray:
    """Return the positions of several zones in one frame, (n, 3)."""
    for name, zone in zip(names, zones, strict=True):
        if zone is None or not zone.letter:
            raise InputError(
                f"{shown(name)}: of no known UTM zone, while other pictures are of several zones; name pictures "
                "@<east>@<north>@<zone>@<letter>@..."
            )
    degrees = np.zeros_like(positions)
    for number, south in {zone.frame for zone in zones if zone is not None}:
        rows = np.array([zone.frame == (number, south) for zone in zones if zone is not None])
        degrees[rows] = utm_to_degrees(positions[rows], number, south)
    for name, position, zone, (latitude, _) in zip(names, positions, zones, degrees, strict=True):
        if zone is not None and not _fits(zone, position, latitude):
            raise InputError(
                f"{shown(name)}: {_pair(position)} does not lie in UTM zone {zone.number}{zone.letter}; expected "
                "metres east and north, and the letter of the band of latitude (Sydney is in 56H; S is 32 to 40 "
                "degrees north)"
            )
    return degrees_to_earth(*degrees.T)


def _fits(zone: Zone, position: np.ndarray, latitude: float) -> bool:
    """Return whether a position can be one of its zone: half a degree outside of its band, where N is all the north."""
    start = -80 + 8 * _BANDS.index(zone.letter)
    end = 84 if zone.letter in "NX" else start + 8
    inside = 0 <= position[0] <= 2 * _EAST and 0 <= position[1] <= _NORTH
    return inside and start - 0.5 <= latitude <= end + 0.5
