"""Outlines to masks, readers to nodules: exact filling, clusters, the consensus and the ratings."""

import itertools
import random
from fractions import Fraction

import numpy as np
import pytest

from marks_fixture import SQUARE, box_at, drawn
from synthoma.errors import MarksError
from synthoma.formats.marks import (
    Contour,
    NoduleCluster,
    RatingSummary,
    cluster_nodules,
    consensus,
    contour_mask,
    fill_contour,
    summarise_ratings,
    suspicion_label,
)

# --- masks ----------------------------------------------------------------------------------------------------------


def strictly_inside(points: list[tuple[int, int]], x: int, y: int) -> bool:
    """Even-odd rule with exact fractions, one pixel at a time; the outline itself is outside."""
    inside = False
    for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True):
        in_box = min(ya, yb) <= y <= max(ya, yb) and min(xa, xb) <= x <= max(xa, xb)
        if in_box and (xb - xa) * (y - ya) == (yb - ya) * (x - xa):
            return False
        if (ya > y) != (yb > y) and x < xa + Fraction((y - ya) * (xb - xa), yb - ya):
            inside = not inside
    return inside


def test_filling_agrees_with_exact_arithmetic_for_any_polygon():
    draw = random.Random(3)
    filled = 0
    for _ in range(60):
        points = [(draw.randrange(11), draw.randrange(11)) for _ in range(draw.randrange(1, 9))]
        inside, outline = fill_contour(np.array(points))
        x0, y0 = min(x for x, _ in points), min(y for _, y in points)
        expected = [
            [strictly_inside(points, x0 + x, y0 + y) for x in range(inside.shape[1])] for y in range(inside.shape[0])
        ]
        assert inside.tolist() == expected
        assert not (inside & outline).any()
        assert all(outline[y - y0, x - x0] for x, y in points)
        filled += int(inside.sum())
    assert filled > 300


def test_the_outline_is_outside_the_nodule_and_holes_are_taken_away():
    outer, hole = np.array(box_at(10, 20, 8)), np.array(box_at(12, 22, 4))
    mask = contour_mask([Contour(2.0, hole, False), Contour(2.0, outer, True)], [4.0, 3.0, 2.0, 1.0])
    assert mask.start == (2, 20, 10)
    assert mask.mask.shape == (1, 9, 9)
    expected = np.zeros((9, 9), dtype=bool)
    expected[1:8, 1:8] = True
    expected[2:7, 2:7] = False
    assert np.array_equal(mask.mask[0], expected)


def test_two_parts_on_one_slice_are_both_kept_and_a_slice_between_stays_empty():
    parts = [Contour(z, np.array(box_at(x, 0)), True) for z, x in ((0.0, 0), (0.0, 4), (2.0, 0))]
    mask = contour_mask(parts, [0.0, 1.0, 2.0]).mask
    assert mask.shape == (3, 5, 9)
    assert mask.sum(axis=(1, 2)).tolist() == [18, 0, 9]


def test_a_contour_on_no_slice_is_an_error():
    contour = Contour(7.4, np.array(SQUARE), True)
    with pytest.raises(
        MarksError, match=r"z = 7.4 mm is on none of the 3 slices from 5 to 10 mm \(the nearest is 1.40 mm"
    ):
        contour_mask([contour], [5.0, 6.0, 10.0])
    assert contour_mask([contour], [5.0, 7.5, 10.0]).start == (1, 20, 10)
    for positions in ([], [1.0, 3.0, 2.0], [1.0, 1.0], [0.0, float("nan")]):
        with pytest.raises(ValueError, match="z_positions"):
            contour_mask([contour], positions)
    with pytest.raises(ValueError, match="at least one contour"):
        contour_mask([], [0.0])


def test_outlines_that_span_the_whole_body_are_refused():
    far = [Contour(float(z), np.array([(0, 0), (16000, 0), (16000, 16000)]), True) for z in range(2)]
    with pytest.raises(MarksError, match="2 x 16001 x 16001 voxels"):
        contour_mask(far, [0.0, 1.0])


# --- clusters, consensus, ratings -----------------------------------------------------------------------------------


def test_readers_who_drew_one_nodule_are_joined_in_mm():
    near = [drawn(1, box_at(0, 0)), drawn(2, box_at(6, 0)), drawn(3, box_at(0, 40))]
    # The first two are 2 pixels apart in x: 1 mm at spacing 0.5, 4 mm at 2.0. y has a spacing of its own.
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 0.5), 1.0)] == [2, 1]
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 2.0), 1.0)] == [1, 1, 1]
    assert [cluster.readers for cluster in cluster_nodules(near, (9.0, 2.0), 1.0, tolerance=4.0)] == [2, 1]
    apart = [drawn(1, SQUARE, (0.0,)), drawn(2, SQUARE, (2.5,)), drawn(3, SQUARE, (7.5,))]
    assert [len(cluster.nodules) for cluster in cluster_nodules(apart, (0.7, 0.7), 2.5)] == [2, 1]
    assert cluster_nodules([], (1.0, 1.0), 1.0) == ()
    with pytest.raises(ValueError, match="spacings"):
        cluster_nodules(near, (0.0, 1.0), 1.0)


def test_clusters_do_not_depend_on_the_order_of_readers():
    parts = [drawn(1, box_at(0, 0)), drawn(2, box_at(5, 0)), drawn(3, box_at(10, 0)), drawn(4, box_at(90, 0), (5.0,))]
    for order in itertools.permutations(parts):
        clusters = cluster_nodules(order, (1.0, 1.0), 1.0)
        assert [sorted(nodule.reader for nodule in cluster.nodules) for cluster in clusters] == [[1, 2, 3], [4]]


def test_a_cluster_with_too_many_outlines_is_parted_and_others_are_left_alone():
    # Two nodules 2 px apart, drawn by four readers each; a third one of two outlines that are 2 px apart as well.
    left = [drawn(reader, box_at(0, reader % 2)) for reader in (1, 2, 3, 4)]
    right = [drawn(reader, box_at(6, reader % 2)) for reader in (1, 2, 3, 4)]
    third = [drawn(1, box_at(100, 9)), drawn(2, box_at(106, 9))]
    clusters = cluster_nodules(left + right + third, (1.0, 1.0), 2.0)
    assert [(len(cluster.nodules), cluster.unresolved) for cluster in clusters] == [(4, False), (4, False), (2, False)]
    assert {id(nodule) for nodule in clusters[0].nodules} == {id(nodule) for nodule in left}


def test_two_nodules_of_one_reader_are_parted_or_told():
    apart = [drawn(1, box_at(0, 0)), drawn(1, box_at(6, 0)), drawn(2, box_at(0, 0))]
    clusters = cluster_nodules(apart, (1.0, 1.0), 2.0)
    assert [(cluster.readers, len(cluster.nodules)) for cluster in clusters] == [(2, 2), (1, 1)]
    touching = [drawn(1, box_at(0, 0)), drawn(1, box_at(4, 0)), drawn(2, box_at(0, 0))]
    (cluster,) = cluster_nodules(touching, (1.0, 1.0), 2.0)
    assert (cluster.readers, len(cluster.nodules), cluster.unresolved) == (2, 3, True)


def test_the_consensus_is_the_mean_of_the_masks_at_a_level():
    a, b = drawn(1, box_at(10, 10, 6), (0.0, 2.5)), drawn(2, box_at(12, 10, 6), (0.0,))
    c = drawn(3, box_at(14, 10, 6), (0.0,))
    cluster = NoduleCluster((a, b, c))
    sums = {}
    for level in (0.1, 1 / 3, 0.5, 2 / 3, 1.0):
        sums[level] = int(consensus(cluster, [-2.5, 0.0, 2.5], level).mask.mask.sum())
    # Insides are columns 11-15, 13-17, 15-19 of five rows, and 11-15 once more on the second slice.
    assert sums == {0.1: 45 + 25, 1 / 3: 45 + 25, 0.5: 25, 2 / 3: 25, 1.0: 5}
    at_half = consensus(cluster, [-2.5, 0.0, 2.5])
    assert at_half.mask.start == (1, 10, 10)
    assert at_half.mask.mask.shape == (2, 7, 11)
    assert at_half.center == (1.0, 13.0, 15.0)
    assert (at_half.center_z, at_half.readers) == (0.0, 3)
    with pytest.raises(ValueError, match="level"):
        consensus(cluster, [-2.5, 0.0, 2.5], 0.0)


def test_an_empty_consensus_has_no_center():
    far = NoduleCluster((drawn(1, box_at(0, 0)), drawn(2, box_at(8, 0)), drawn(3, box_at(20, 0))))
    empty = consensus(far, [0.0])
    assert not empty.mask.mask.any()
    assert empty.center is None
    assert empty.center_z is None


def test_one_reader_with_two_outlines_has_one_vote_and_one_rating():
    twice = [drawn(1, box_at(0, 0), malignancy=1), drawn(1, box_at(4, 0), malignancy=4)]
    cluster = NoduleCluster((*twice, drawn(2, box_at(4, 0), malignancy=5)))
    assert int(consensus(cluster, [0.0], 1.0).mask.mask.sum()) == 9
    assert summarise_ratings(cluster) == {"malignancy": RatingSummary(3.75, 2, 1.25)}


@pytest.mark.parametrize(
    ("grades", "median", "label"),
    [
        ((1, 2, 2, 5), 2.0, "rated_benign"),
        ((2, 3), 2.5, "rated_benign"),
        ((3, 3, 5), 3.0, None),
        ((2, 4), 3.0, None),
        ((3, 4), 3.5, "rated_suspicious"),
        ((5,), 5.0, "rated_suspicious"),
    ],
)
def test_malignancy_is_a_median_with_readers_and_spread(grades, median, label):
    cluster = NoduleCluster(tuple(drawn(i, SQUARE, malignancy=grade) for i, grade in enumerate(grades)))
    ratings = summarise_ratings(cluster)
    mean = sum(grades) / len(grades)
    spread = (sum((grade - mean) ** 2 for grade in grades) / len(grades)) ** 0.5
    assert ratings["malignancy"].median == median
    assert ratings["malignancy"].readers == len(grades)
    assert ratings["malignancy"].sd == pytest.approx(spread)
    assert suspicion_label(ratings) == label
    assert suspicion_label({}) is None
