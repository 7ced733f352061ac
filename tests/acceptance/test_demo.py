"""The demo as a whole: what it promises holds, and its page stands by itself."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.pages_made import Browser
from tipline.demo.report import render
from tipline.demo.run import Demo, Result, Steps, everything
from tipline.testing import Client

#: What the desk of the service that stayed up showed for each text of the present hour.
KNOWN: dict[str, str] = {}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, str, int]:
    """One run; and, of the service that stayed up, the status of a queue. What the desk knew is in KNOWN."""
    status = [0]

    def look(demo: Demo, result: Result) -> None:
        access = demo.serve_again()
        with Client(access.url, access.tokens["county"]) as client:
            status[0] = client.get("/v1/stations/police-anping/assignments").status
        desk = Browser(urlsplit(access.url).port or 0)
        desk.log_in(access.tokens["hotline"])
        token = desk.get("/desk").form_token
        KNOWN.update(
            {row.text: desk.post("/desk/preview", {"form_token": token, "text": row.text}).text for row in access.now}
        )

    result = everything(tmp_path_factory.mktemp("demo"), Steps(), look)
    return result, render(result), status[0]


def test_nothing_is_lost_doubled_or_let_in(played: tuple[Result, str, int]) -> None:
    result, _, _ = played
    figures = result.figures
    assert not result.report.findings and (result.lost, result.doubled) == (0, 0)
    assert figures.accepted == figures.sent >= 350
    assert figures.redelivered == figures.redelivered_alike >= 30
    assert figures.refused >= 30 and not figures.refused_wrongly and not figures.moves_refused
    assert figures.moves["resolve"] > 20
    assert len(figures.queue_seconds) + len(figures.across_seconds) == figures.accepted
    assert result.report.facts["canaries"] > 40 and result.report.facts["replayed"] > 350


def test_every_example_comes_out_as_a_duty_officer_expects(played: tuple[Result, str, int]) -> None:
    missed = {outcome.id: outcome.missed for outcome in played[0].outcomes if not outcome.ok}
    assert missed == {}
    assert played[0].faults == []


def test_it_is_over_within_a_minute(played: tuple[Result, str, int]) -> None:
    assert played[0].figures.seconds < 60


def test_the_page_is_whole_and_stands_by_itself(played: tuple[Result, str, int], tmp_path: Path) -> None:
    _, page, _ = played
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert not re.search(r"<script[ >]|(?:src|href)=|url\(|@import|<link", page)
    assert "&lt;script&gt;" in page or "<script" not in page
    assert page.count("<svg") >= 5 and "安平县的一天" in page and "SIGKILL" in page
    # What stands in the clear nowhere in the store stands nowhere in the page either.
    assert not re.search(r"(?<!\d)(139000100\d\d|6222020402001234560)(?!\d)", page)


def test_it_can_stay_up_with_the_days_data(played: tuple[Result, str, int]) -> None:
    assert played[2] == 200


def test_the_desk_of_the_demo_that_stays_up_knows_what_is_typed(played: tuple[Result, str, int]) -> None:
    assert len(KNOWN) >= 10
    assert [text for text, page in KNOWN.items() if '<ul class="likely">' not in page] == []
