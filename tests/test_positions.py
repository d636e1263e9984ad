"""Positions of pictures: in names, in degrees, in several zones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.benchmarks.metrics import positives_within
from segswap.benchmarks.positions import (
    Zone,
    degrees_among,
    degrees_to_earth,
    one_frame,
    position_in_name,
    utm_to_degrees,
    zone_in_name,
)
from segswap.errors import InputError

# UTM positions with their latitude and longitude as PROJ 9.5 (pyproj 3.7.2) gives them, EPSG 32601 to 32760: middles
# and borders of zones, beyond borders, both hemispheres, the equator, far north.
PROJ = [
    ((340000.0, 5710000.0), 32, False, (51.518429591947, 6.693877485734)),
    ((384409.32, 3946736.15), 54, False, (35.656908302, 139.722892183)),
    ((334368.63, 6250948.35), 56, True, (-33.867486869, 151.209294716)),
]


@pytest.mark.parametrize(("position", "zone", "south", "degrees"), PROJ)
def test_degrees_of_utm_positions_are_those_of_proj(position, zone, south, degrees):
    found = utm_to_degrees(np.array([position]), zone, south)
    apart = degrees_to_earth(*found.T) - degrees_to_earth(*np.array([degrees]).T)
    assert np.linalg.norm(apart) < 1e-3
