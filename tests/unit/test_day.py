"""The demo's texts and page by themselves: the day reads, its identities are known, its colours can be read."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from schemas.times import DAY, HOUR, parse_time
from schemas.validation import mistakes
from tipline.county import find_county, load_county
from tipline.demo.day import BadDay, _rows, identities, read_day, read_now
from tipline.demo.examples import EXAMPLES, FAKES, STORM, Seen, judge
from tipline.demo.hostile import attempts
from tipline.demo.traffic import _lanes

MIDNIGHT = parse_time("2026-11-22T00:00:00+08:00")
PAGE = files("tipline.demo").joinpath("report.html.j2").read_text("utf-8")


def test_the_day_has_hundreds_of_tips_that_a_channel_could_send() -> None:
    rows = read_day()
    assert len(rows) >= 350
    for row in rows:
        submission = row.submission(MIDNIGHT, 480)
        assert not mistakes("submission", submission), row.id
        assert MIDNIGHT - 4 * DAY < parse_time(submission["reported_at"]) < MIDNIGHT + DAY
    kinds = {row.source.partition(":")[0] for row in rows}
    assert {"wechat", "hotline", "bot", "web"} <= kinds
    assert sum(row.text.isascii() for row in rows) >= 8, "some are in English"
    assert sum(row.place is None and row.point is None for row in rows) >= 50, "many name no place"


def test_the_present_hour_has_tips_of_its_own() -> None:
    rows = read_now()
    assert {row.source for row in rows} <= {row.source for row in read_day()}, "they have their tokens"
    assert not {row.id for row in rows} & {row.id for row in read_day()} and not identities(rows)
    for row in rows:
        assert not mistakes("submission", row.submission(MIDNIGHT, 480)) and 0 <= row.at < HOUR, row.id


def test_texts_are_written_not_filled_in() -> None:
    """Apart from forwards no two are alike, and few begin alike."""
    texts = [row.text for row in read_day() if row.id not in STORM]
    own = [text for text in texts if "转发" not in text]
    assert len(set(own)) >= len(own) - 1, "only the two villages say the same words"
    starts = [text[:9] for text in own if not text.startswith("【")]
    assert len(set(starts)) > 0.9 * len(starts)


def test_every_named_example_has_its_rows() -> None:
    ids = {row.id for row in read_day()}
    assert {*STORM, *FAKES} <= ids and len({example.id for example in EXAMPLES}) == len(EXAMPLES)
    empty = Seen({}, {})
    assert all(not outcome.ok for outcome in judge(empty))


def test_sources_with_an_area_are_those_of_the_county() -> None:
    townships = {t["id"] for t in load_county(find_county("anping"))["areas"]["townships"]} | {"anpingzhen"}
    named = {row.source.split(":")[1].rsplit("-", 1)[0] for row in read_day() if re.match(r"wechat:\w+-\d", row.source)}
    assert named <= townships


def test_identities_are_found_wherever_they_stand() -> None:
    found = identities(read_day())
    assert {"13900010012", "6222020402001234560", "130123195203041227"} <= set(found)
    assert all(len(word) >= 4 for word in found) and len(found) > 40


def test_a_client_keeps_the_order_of_its_sources() -> None:
    rows = read_day()
    lanes = _lanes(rows)
    assert sum(map(len, lanes)) == len(rows)
    homes = [{row.source for row in lane} for lane in lanes]
    assert all(not a & b for n, a in enumerate(homes) for b in homes[n + 1 :])
    assert all([row.at for row in lane] == sorted(row.at for row in lane) for lane in lanes)


@pytest.mark.parametrize("line", ["a\tb", "x\tnoon\twechat:a\tv\t\ttext", "x\t25:00:0\twechat:a\tv\t\ttext"])
def test_a_row_that_cannot_be_read_is_named(line: str) -> None:
    with pytest.raises(BadDay, match=r"day\.tsv:1"):
        list(_rows(line))


def test_hostile_bodies_are_many_and_expect_a_refusal() -> None:
    made = attempts()
    assert len(made) >= 30 and len({one.name for one in made}) == len(made)
    assert {one.status for one in made} <= {400, 401, 403, 413, 415, 422}


# --- the page's colours --------------------------------------------------------------------------------------------------


def tokens(dark: bool) -> dict[str, str]:
    light, night = re.findall(r":root \{(.*?)\n\s*\}", PAGE, re.S)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", light))
    return {**found, **dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", night))} if dark else found


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(c * 2 for c in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    a, b = sorted((luminance(one), luminance(other)), reverse=True)
    return (a + 0.05) / (b + 0.05)


TEXTS = [
    ("ink", "page"), ("ink", "surface"), ("ink", "sunk"), ("muted", "page"), ("muted", "surface"), ("muted", "sunk"), ("accent", "page"), ("accent", "surface"),
    ("urgent", "surface"), ("urgent", "urgent-soft"), ("good", "surface"), ("on-deep", "shade-4"), ("on-deep", "shade-5"), *(("on-pale", f"shade-{n}") for n in range(4)),
]  # fmt: skip
GRAPHICS = ["dispute", "fraud", "theft", "safety_hazard", "other", "in_progress", "resolved", "urgent"]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_and_graphics_stand_out(dark: bool) -> None:
    found = tokens(dark)
    weak = {pair: round(contrast(found[pair[0]], found[pair[1]]), 2) for pair in TEXTS}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}
    shapes = {name: round(contrast(found[name], found["surface"]), 2) for name in GRAPHICS}
    assert {name: ratio for name, ratio in shapes.items() if ratio < 3} == {}


def test_the_page_needs_nothing_from_elsewhere() -> None:
    assert not re.search(r"<script|https?://|url\(|@import|<link|src=", PAGE)
