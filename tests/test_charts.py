"""Charts and words of the report: scales, escaping, numbers a person reads, and names that stay out."""

import re

import pytest

from synthoma.report.charts import Series, Strip, interval_strip, line_chart, nice_ticks, thinned
from synthoma.report.data import _near_duplicates
from synthoma.report.words import count, decimals_of, duration, fixed, number, share, without_people


def test_nice_ticks_are_round_and_inside() -> None:
    assert nice_ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert nice_ticks(-0.013, 0.22) == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert nice_ticks(3, 3) == [3]
    for low, high in ((0, 1e-5), (-7, 93), (1234, 98765)):
        ticks = nice_ticks(low, high)
        assert 2 <= len(ticks) <= 7
        assert low <= ticks[0] < ticks[-1] <= high


def test_thinning_keeps_means_and_is_bounded() -> None:
    points = [(float(i), float(i % 2)) for i in range(1000)]
    thin = thinned(points, 100)
    assert len(thin) == 100
    assert thin[0] == (4.5, 0.5)
    assert thinned(points[:3]) == points[:3]


def test_charts_escape_their_words_and_stay_in_their_frame() -> None:
    chart = str(
        line_chart(
            [Series("<s>", [(0, 1), (5, 3)], band=[0.5, 0.1])], unit="<u>", x_unit="x", label='"l"', mark=(5, "<m>")
        )
    )
    assert "<s>" not in chart
    assert "&lt;s&gt;: 3.00 ± 0.10" in chart
    assert "<u>" not in chart
    assert 'aria-label="&#34;l&#34;"' in chart
    xs = [float(x) for x in re.findall(r'cx="([\d.]+)"', chart)]
    assert xs[0] == 46
    assert max(xs) == 508


def test_a_single_flat_point_can_be_drawn() -> None:
    assert "polyline" in line_chart([Series("a", [(1.0, 0.0)])], unit="u", x_unit="x", label="l")


def test_strip_draws_to_scale_and_clips() -> None:
    strip = str(interval_strip(Strip((0.4, 0.5, 0.6), (0.0, 0.0, 0.1), (0.0, 1.0), yardstick=7.0)))
    assert 'class="interval" x="40.60" y="7" width="18.80"' in strip
    assert 'class="value" x1="50.00"' in strip
    assert 'class="yardstick" x1="97.00"' in strip


def test_a_logarithmic_axis_shows_decades_at_equal_steps() -> None:
    series = Series("KID", [(0, 1000.0), (1, 10.0), (2, 0.1)], "accent", [1.0, 0.1, 0.01])
    drawing = str(line_chart([series], unit="KID", x_unit="kimg", label="x", logarithmic=True))
    heights = [float(y) for y in re.findall(r'class="dot accent" cx="[\d.]+" cy="([\d.]+)"', drawing)]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=0.2)
    assert [
        text for text in ("0.01", "100", "10 000") if f">{text}<" in drawing.replace("\u202f", " ").replace("\xa0", " ")
    ]


def test_numbers_in_words() -> None:
    assert [number(v) for v in (0, 0.0123, 1.5, 9.996, -2.0)] == ["0", "0.0123", "1.50", "10.0", "−2.00"]
    assert number(2.5e-6) == "2.50e−6".replace("−6", "−06")
    assert count(1234567.4) == "1\u202f234\u202f567"
    assert (fixed(-0.0004, 3), fixed(-0.5, 1)) == ("0.000", "−0.5")
    assert (decimals_of(0.15, 0.21), decimals_of(10, 14), decimals_of(100, 900)) == (3, 1, 0)
    assert (share(0.034), share(0.34), share(0)) == ("3.4\u202f%", "34\u202f%", "0\u202f%")
    assert (duration(4.2), duration(300), duration(7300)) == ("4.2 s", "5 min 0 s", "2 h 1 min")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("group G00012 is large", "group (a group) is large"),
        ("read /data/Jane Doe", "read (a path) Doe"),
        ("in scans/doe_jane/1.png twice", "in (a path) twice"),
        ("doe_jane.dcm is damaged", "(a path) is damaged"),
        (r"see C:\scans\doe", "see (a path)"),
        ("Train/ and Test/ were pooled, 70/15/15", "Train/ and Test/ were pooled, 70/15/15"),
        ("groups.csv names 3 files; precision/recall", "groups.csv names 3 files; precision/recall"),
    ],
)
def test_people_and_paths_stay_private(text: str, shown: str) -> None:
    assert without_people(text) == shown


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({}, "not looked for"),
        ({"near_duplicate_groups": 0, "near_duplicate_pairs": 0}, "none found"),
        ({"near_duplicate_groups": 3, "near_duplicate_pairs": 3}, "3 sets kept in one split"),
        (
            {"near_duplicate_groups": 0, "near_duplicate_pairs": 12, "near_duplicates_apart": 2},
            "2 pairs that given groups or splits hold apart",
        ),
        ({"near_duplicate_groups": 0, "near_duplicate_pairs": 12}, "12 pairs within groups that were given"),
    ],
)
def test_near_duplicates_are_told(found: dict[str, int], told: str) -> None:
    assert told in _near_duplicates(found)
