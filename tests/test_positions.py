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

# UTM positions with latitude and longitude as PROJ 9.5 gives them (EPSG 32601 to 32760): middles and borders of zones,
# beyond borders, both hemispheres, the equator, far north.
PROJ = [
    ((340000.0, 5710000.0), 32, False, (51.5184295927, 6.6938774865)),
    ((384409.32, 3946736.15), 54, False, (35.6577154221, 139.7230074725)),
    ((334368.63, 6250948.35), 56, True, (-33.8687999578, 151.2092999614)),
    ((500000.0, 0.0), 31, False, (0.0000000000, 3.0000000000)),
    ((166021.44, 0.0), 31, False, (0.0000000000, -0.0000000276)),
    ((833978.56, 9999990.0), 23, True, (-0.0000903483, -41.9999999724)),
    ((880000.0, 5411000.0), 31, False, (48.7359121461, 8.1689802503)),
    ((120000.0, 5411000.0), 32, False, (48.7359121461, 3.8310197497)),
    ((441867.78, 9270000.0), 33, False, (83.4589445121, 10.4243981135)),
    ((585000.0, 4477000.0), 17, False, (40.4393061547, -79.9977699544)),
]

# Latitude and longitude with points as PROJ 9.5 gives them (EPSG 4979 to 4978).
POINTS = [
    ((48.8583701, 2.2944813), (4200938.375407363, 168321.83131977863, 4780210.854654358)),
    ((-33.8567844, 151.2152967), (-4646969.335208105, 2553077.6520151636, -3533265.690552014)),
    ((0, 0), (6378137.0, 0.0, 0.0)),
    ((90, 0), (0.0, 0.0, 6356752.314245179)),
]


@pytest.mark.parametrize(("position", "zone", "south", "degrees"), PROJ)
def test_degrees_of_utm_positions_are_those_of_proj(position, zone, south, degrees):
    found = utm_to_degrees(np.array([position]), zone, south)
    apart = degrees_to_earth(*found.T) - degrees_to_earth(*np.array([degrees]).T)
    assert np.linalg.norm(apart) < 1e-4, "metres"


@pytest.mark.parametrize(("degrees", "point"), POINTS)
def test_points_of_degrees_are_those_of_proj(degrees, point):
    np.testing.assert_allclose(degrees_to_earth(*np.array([degrees], float).T), [point], atol=1e-6)


@given(st.floats(200_000, 800_000), st.floats(1e5, 9e6), st.floats(-50, 50), st.floats(-50, 50), st.booleans())
def test_near_positions_are_as_far_apart_on_the_earth_as_on_the_map(east, north, right, up, south):
    pair = np.array([[east, north], [east + right, north + up]])
    points = degrees_to_earth(*utm_to_degrees(pair, 32, south).T)
    # The scale of a zone is 0.9996 in its middle and 1.0007 three hundred kilometres beside it.
    assert np.linalg.norm(points[1] - points[0]) == pytest.approx(np.hypot(right, up), rel=1e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "position", "zone"),
    [
        (
            "@0584744.96@4476709.91@17@T@040.43667@-080.00070@pano@00@@@@@201508@@.jpg",
            (584744.96, 4476709.91),
            (17, "T"),
        ),
        ("a/b@c/@0334368.63@6250948.35@56@h@@@.jpg", (334368.63, 6250948.35), (56, "H")),
        ("a\\@334368@6250948@56H@.jpg", (334368, 6250948), (56, "H")),
        ("@334368@6250948@56@@-33.87@151.2@.jpg", (334368, 6250948), (56, "M")),
        ("@334368@6250948@56@@33.87@151.2@.jpg", (334368, 6250948), (56, "N")),
        ("@334368@6250948@56@@@@.jpg", (334368, 6250948), (56, "")),
        ("@48.85@2.35@house@.jpg", (48.85, 2.35), None),
        ("@550000@4470000@7.jpg", (550000, 4470000), None),
        ("@550000@4470000@61@T@.jpg", (550000, 4470000), None),
        ("@550000@4470000@17@O@.jpg", (550000, 4470000), None),
        ("@550000@4470000", (550000, 4470000), None),
        ("@nan@4470000@17@T@.jpg", None, (17, "T")),
        ("@@@17@T@.jpg", None, (17, "T")),
        ("plain.jpg", None, None),
    ],
)
def test_names_hold_positions_and_zones(name, position, zone):
    assert position_in_name(name) == position
    assert zone_in_name(name) == (Zone(*zone) if zone else None)


@given(st.text())
def test_any_name_may_be_asked(name):
    for each in (name, f"@1@2@{name}", f"@1@2@17@{name}", f"@{name}@{name}@.jpg"):
        assert position_in_name(each) is None or np.isfinite(position_in_name(each)).all()
        assert zone_in_name(each) is None or 1 <= zone_in_name(each).number <= 60


def named(positions, zone: str) -> list[str]:
    return [f"@{east:.2f}@{north:.2f}@{zone}@@@@.jpg" for east, north in positions]


def at_border(north: float, south: bool) -> float:
    """Return how far east of a zone's middle its border is, three degrees, in metres."""
    offsets = np.linspace(1e5, 4e5, 30_001)
    grid = np.stack([500_000 + offsets, np.full_like(offsets, north)], 1)
    return float(np.interp(6, utm_to_degrees(grid, 31, south)[:, 1], offsets))


@pytest.mark.parametrize(("north", "bands"), [(5_411_000.0, "UU"), (6_250_948.0, "HH"), (1_000.0, "NN")])
def test_positions_on_both_sides_of_a_border_of_zones_are_near_each_other(north, bands):
    offset = at_border(north, bands < "N")
    west = [(500_000 + offset - 5, north), (500_000 + offset - 100, north)]
    east = [(500_000 - offset + 5, north), (500_000 - offset + 100, north)]
    names = named(west, f"31@{bands[0]}") + named(east, f"32@{bands[1]}")
    points, note = one_frame(names, np.array(west + east), None)
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    expected = np.abs(np.subtract.outer(*[np.array([-5, -100, 5, 100.0])] * 2))
    np.testing.assert_allclose(distances, expected, rtol=2e-3, atol=0.02)
    assert "brought into one frame" in note and "31" in note and "32" in note
    assert [each.tolist() for each in positives_within(points[2:], points[:2], 25)] == [[0], []]


def test_positions_on_both_sides_of_the_equator_are_near_each_other():
    positions = np.array([[500_000.0, 3.0], [500_000.0, 9_999_998.0]])
    names = named(positions[:1], "31@N") + named(positions[1:], "31@M")
    points, _ = one_frame(names, positions, None)
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(5, rel=1e-3)


def test_equal_numbers_in_zones_far_apart_are_far_apart():
    positions = np.array([[384_000.0, 3_946_000.0]] * 2)
    points, _ = one_frame(named(positions[:1], "54@S") + named(positions[:1], "17@S"), positions, None)
    assert np.linalg.norm(points[0] - points[1]) > 1e6


@pytest.mark.parametrize("zones", [("17@T", "17@S"), ("", ""), ("17@T", "")])
def test_positions_of_one_zone_stay_as_they_are(zones):
    positions = np.array([[584_744.96, 4_476_709.91], [584_800.0, 4_427_000.0]])
    names = named(positions[:1], zones[0]) + named(positions[1:], zones[1])
    found, note = one_frame(names, positions, None)
    np.testing.assert_array_equal(found, positions)
    assert note is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("31@U", "", "of no known UTM zone, while other pictures are of several zones"),
        ("31@U", "33@", "of no known UTM zone"),
        ("31@U", "32@S", r"does not lie in UTM zone 32S; .* \(Sydney is in 56H"),
        ("31@U", "32@H", "does not lie in UTM zone 32H"),
    ],
)
def test_zones_that_cannot_be_joined_are_errors(first, second, message):
    positions = np.array([[700_000.0, 5_411_000.0], [280_000.0, 5_411_000.0], [300_000.0, 5_411_000.0]])
    names = named(positions[:1], first) + named(positions[1:2], second) + named(positions[2:], "32@U")
    with pytest.raises(InputError, match=message):
        one_frame(names, positions, None)


PARIS = np.array([[48.8584, 2.2945], [48.8585, 2.2946], [48.87, 2.31]])
DEGREES = [
    PARIS,
    PARIS[:, ::-1],
    -PARIS,
    PARIS * [1, 70],
    PARIS * [0.001, 0.001],
    np.array([[0, 0], [48.8584, 2.2945]]),
]
METRES = [
    np.array([[550_000.0, 4_470_000.5], [550_100.2, 4_470_000.0], [0, 0]]),
    np.array([[0.0, 0], [3, 0], [12, 80]]),
    np.array([[0.5, 0.25], [1000.5, 3], [5003.1, 0]]),
    np.array([[-170.5, 95.5], [3.5, 1.5]]),
]


@pytest.mark.parametrize("positions", DEGREES)
def test_degrees_are_recognised(positions):
    assert degrees_among(positions).any()
    names = [f"{n}.jpg" for n in range(len(positions))]
    with pytest.raises(
        InputError, match=r"look like degrees, the first is .* Set files\.coordinates to latitude_longitude"
    ):
        one_frame(names, positions, None)
    found, note = one_frame(names, positions, "metres")
    np.testing.assert_array_equal(found, positions)
    assert note is None


def test_degrees_among_metres_are_recognised():
    mixed = np.concatenate([METRES[0], PARIS[:1]])
    assert degrees_among(mixed).tolist() == [False, False, False, True]
    with pytest.raises(InputError, match=r"1 of 4 positions look like degrees, .* of 'd'"):
        one_frame(list("abcd"), mixed, None)


@pytest.mark.parametrize("positions", METRES)
def test_metres_are_no_degrees(positions):
    assert not degrees_among(positions).any()
    np.testing.assert_array_equal(one_frame(["a"] * len(positions), positions, None)[0], positions)


def test_degrees_are_projected_when_they_are_said_to_be():
    for coordinates, given_as in (("latitude_longitude", PARIS), ("longitude_latitude", PARIS[:, ::-1])):
        points, note = one_frame(list("abc"), given_as, coordinates)
        # 0.0001 degrees are 11.12 m to the north, and 7.34 m to the east at this latitude.
        assert np.linalg.norm(points[0] - points[1]) == pytest.approx(np.hypot(11.12, 7.34), abs=0.02)
        assert np.linalg.norm(points[0] - points[2]) > 1_000
        assert "projected" in note
    with pytest.raises(InputError, match=r"1 of 1 positions are not degrees .* of 'a'; expected a latitude"):
        one_frame(["a"], np.array([[550_000.0, 4_470_000.0]]), "latitude_longitude")
    with pytest.raises(InputError, match="expected one of metres, latitude_longitude, longitude_latitude"):
        one_frame(["a"], PARIS[:1], "feet")


def test_pictures_around_the_date_line_are_near_each_other():
    points, _ = one_frame(["a", "b"], np.array([[-16.5, 179.99999], [-16.5, -179.99999]]), "latitude_longitude")
    assert np.linalg.norm(points[0] - points[1]) < 3
