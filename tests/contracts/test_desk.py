"""The stations' desk, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import delete, select

from schemas.codec import decode_input
from schemas.errors import Rejected, Unavailable
from schemas.records import Closure, Correction, Tip
from schemas.times import DAY, HOUR, MINUTE, SECOND, format_time, parse_time
from schemas.validation import mistakes
from sinks.database import reading, upsert, writing
from sinks.outbox import put_input
from sinks.sink import apply_outputs
from sinks.station_queue import restore
from sinks.tables import assignment_cc, assignments, metadata, positions, station_events
from stations.escalate import BATCH
from stations.lifecycle import MOVES, RETURN_REASONS, NotAllowed, return_reason
from stations.outbox import TURN_MS, Hook, Outbox
from stations.status import of_incident, of_tip, settled_by_level
from streams.distributed.events import EventRelay
from streams.ports import Principal, Reply
from streams.stages.county import County
from tests.contracts.made import COUNTY, START, anping, decision, ident, revised
from tests.contracts.office import LIUCHU, MEDIATION, OFFICER, POLICE, Office, station
from tests.ports import free_port
from tipline.distributed import _show
from tipline.outside import poster, trusting


@pytest.fixture(scope="module")
def county() -> County:
    return anping()


@pytest.fixture
def office(database_url: str, county: County) -> Iterator[Office]:
    made = Office(database_url, county)
    yield made
    made.close()


def police(tip: str, incident: str, **changes: Any) -> Any:
    """A theft on the township police's queue: all its clocks are wall clocks."""
    given = {"category": "theft", "subtype": "burglary", "station": POLICE, "route_id": "police", "level": "township"}
    received = changes.get("received", START)
    return decision(tip, incident, **{**given, "due": received + 2 * HOUR, **changes})


def refused(status: int, slug: str | None = None) -> Any:
    """Expects a refusal."""

    class _Expected:
        def __enter__(self) -> None:
            return None

        def __exit__(self, kind: Any, error: Any, _trace: Any) -> bool:
            assert isinstance(error, Rejected), error
            assert (error.status, slug or error.slug) == (status, error.slug), error
            return True

    return _Expected()


# --- queue and claim
# ------------------------------------------------------------------------------------------------------


def test_the_queue_lists_urgent_first_then_by_due_time_in_pages(office: Office) -> None:
    for number in range(7):
        received = START + number * MINUTE
        office.decide(police(f"t{number}", f"i{number}", received=received, urgent=number == 5, position=number))
    office.decide(decision("cc", "cc", cc=(POLICE,), position=9))
    seen: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = office.desk.listed(station(POLICE), POLICE, cursor=cursor, limit=3)
        seen += page.items
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [item["incident_id"] for item in seen] == [ident(f"i{n}") for n in (5, 0, 1, 2, 3, 4, 6)] + [ident("cc")]
    assert [item["role"] for item in seen] == ["holder"] * 7 + ["cc"]
    assert not any(mistakes("assignment", item) for item in seen)
    assert seen[1]["due_at"] == "2026-10-07T11:00:00+08:00"


def test_a_list_filters_by_status_and_refuses_what_is_none(office: Office) -> None:
    office.decide(police("a", "a"), police("b", "b", position=2))
    office.claim(POLICE)
    assert len(office.desk.listed(station(POLICE), POLICE, statuses=["open"]).items) == 1
    assert len(office.desk.listed(station(POLICE), POLICE, statuses=["open", "claimed"]).items) == 2
    with refused(422):
        office.desk.listed(station(POLICE), POLICE, statuses=["done"])
    for cursor in ("x", "W10", "WzAsMCwiXHUwMDAwIl0", "令", "WzAsMTAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAsIiJd"):
        with refused(422):
            office.desk.listed(station(POLICE), POLICE, cursor=cursor)


def test_a_claim_takes_the_most_urgent_and_nobody_gets_the_same(office: Office) -> None:
    for number in range(6):
        office.decide(police(f"t{number}", f"i{number}", urgent=number == 4, position=number))
    first = office.claim(POLICE, 2)
    second = office.claim(POLICE, 10)
    assert first[0]["incident_id"] == ident("i4")
    assert len({item["id"] for item in (*first, *second)}) == 6
    assert not any(mistakes("assignment", item) for item in first)
    assert office.claim(POLICE) == []
    assert first[0]["lease"]["expires_at"] == format_time(START + 15 * MINUTE, 480)


def test_claims_side_by_side_share_nothing(office: Office) -> None:
    office.decide(*(police(f"t{n}", f"i{n}", position=n) for n in range(40)))
    taken: list[str] = []

    def work() -> None:
        while items := office.claim(POLICE, 3):
            taken.extend(item["id"] for item in items)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 40
    with reading(office.engine) as connection:
        numbers = connection.execute(
            select(station_events.c.number).where(station_events.c.station == POLICE)
        ).scalars()
        assert sorted(numbers) == list(range(1, 81))  # gapless: 40 dispatched, 40 claimed


def test_another_stations_queue_and_items_do_not_exist(office: Office) -> None:
    office.decide(police("a", "a"))
    stranger = station("police-madian")
    for act in (
        lambda: office.desk.listed(stranger, POLICE),
        lambda: office.desk.claim(stranger, POLICE, now=START),
        lambda: office.desk.stream(stranger, POLICE, 0),
        lambda: office.desk.get(stranger, office.row("a")["id"]),
        lambda: office.move("a", "note", by=stranger, text="x"),
        lambda: office.incidents.get(stranger, ident("a")),
        lambda: office.desk.listed(OFFICER, "police-nowhere"),
        lambda: office.desk.listed(Principal("x", "county", county="raoyang"), POLICE),
    ):
        with refused(404):
            act()


def test_a_cc_station_reads_and_changes_nothing(office: Office) -> None:
    office.decide(police("a", "a", cc=(MEDIATION,)))
    seen = office.desk.get(station(MEDIATION), office.row("a")["id"])
    assert seen["role"] == "cc"
    assert office.incidents.get(station(MEDIATION), ident("a")).document["assignment"]["role"] == "cc"
    assert office.claim(MEDIATION) == []
    with refused(403, "read_only"):
        office.move("a", "note", by=station(MEDIATION), text="x")
    with refused(403, "read_only"):
        office.correct("a", "relabel", by=station(MEDIATION), urgent=True, reason="x")


# --- moves
# ----------------------------------------------------------------------------------------------------------------


def test_the_whole_way_through(office: Office) -> None:
    office.decide(police("a", "a"))
    item = office.claim(POLICE)[0]
    assert item["due_at"] == format_time(START + DAY, 480)  # claimed: the act clock runs
    item = office.move("a", "acknowledge")
    assert (item["status"], item["lease"], item["owner"]) == ("acknowledged", None, f"token-{POLICE}")
    item = office.move("a", "start")
    assert (item["status"], item["due_at"]) == ("in_progress", format_time(START + 10 * DAY, 480))
    office.now += HOUR
    item = office.move("a", "resolve", outcome="settled", text="两家和解")
    assert (item["status"], item["outcome"], item["due_at"]) == ("resolved", "settled", None)
    assert office.kinds("a") == ["dispatched", "claimed", "acknowledged", "started", "resolved"]
    assert not mistakes("assignment", item)
    last = office.history("a")[-1]
    assert (last["actor"], last["role"], last["at"], last["data"]["text"]) == (
        f"token-{POLICE}",
        "station",
        office.now,
        "两家和解",
    )


def test_if_match_is_required_and_must_fit(office: Office) -> None:
    office.decide(police("a", "a"))
    with refused(428):
        office.move("a", "note", match=None, text="x")
    with refused(412):
        office.move("a", "note", match='"7"', text="x")
    for unquoted in ("1", 'W/"1"', "*", '"1", "2"', '"1'):
        with pytest.raises(Rejected) as caught:
            office.move("a", "note", match=unquoted, text="x")
        assert caught.value.status == 400
        assert "double quotes" in caught.value.mistakes[0].detail
    token = office.claim(POLICE)[0]["lease"]["token"]
    with refused(412):
        office.move("a", "acknowledge", match='"1"')
    office.move("a", "acknowledge", match=f'"{token}"')
    with refused(412):
        office.move("a", "start", match=f'"{token}"')


@pytest.mark.parametrize("given", [None, "1", '"77"'])
def test_a_refused_if_match_says_where_the_value_is_from_and_names_none(office: Office, given: str | None) -> None:
    office.decide(police("a", "a"))
    body = {"urgent": True, "reason": "x"}
    with pytest.raises(Rejected) as moved:
        office.move("a", "note", match=given, text="x")
    with pytest.raises(Rejected) as corrected:
        office.incidents.correct(OFFICER, ident("a"), "relabel", body, if_match=given, now=START)
    for caught, where in ((moved, "/v1/assignments/{id}"), (corrected, "/v1/incidents/{id}")):
        words = " ".join([str(caught.value), *(one.detail for one in caught.value.mistakes)])
        assert '"3"' not in words and not re.search(r'"\d', words)
        assert "read it again" in words if caught.value.status == 412 else f"GET {where}" in words, words


def test_no_stale_version_ever_passes_for_a_token(office: Office) -> None:
    office.decide(police("a", "a"))
    used: set[str] = {'"1"'}
    for _ in range(12):
        item = office.claim(POLICE)[0]
        token = f'"{item["lease"]["token"]}"'
        assert token not in used
        for stale in used:
            with refused(412):
                office.move("a", "acknowledge", match=stale)
        used |= {token}
        item = office.move("a", "release")
        assert f'"{item["revision"]}"' not in used
        used |= {f'"{item["revision"]}"'}


def test_a_move_that_is_not_allowed_lists_those_that_are(office: Office) -> None:
    office.decide(police("a", "a"))
    with pytest.raises(NotAllowed) as caught:
        office.move("a", "resolve", outcome="x")
    assert caught.value.status == 409
    assert caught.value.allowed == ("claim", "return", "transfer", "escalate", "note")
    assert office.kinds("a") == ["dispatched"]


@pytest.mark.parametrize(
    ("move", "body", "pointer"),
    [
        ("return", {}, "/reason"),
        ("return", {"reason": " "}, "/reason"),
        ("return", {"reason": "x\0"}, "/reason"),
        ("transfer", {"reason": "x"}, "/station"),
        ("transfer", {"reason": "x", "station": "police-nowhere"}, "/station"),
        ("transfer", {"reason": "x", "station": POLICE}, "/station"),
        ("resolve", {}, "/outcome"),
        ("resolve", {"outcome": "x", "text": 5}, "/text"),
        ("heartbeat", {"lease_s": 0}, "/lease_s"),
        ("heartbeat", {"lease_s": True}, "/lease_s"),
        ("heartbeat", {"lease_s": 10**30}, "/lease_s"),
        ("note", {"text": "x" * 4001}, "/text"),
        ("note", {"text": "x", "a/b": 1}, "/a~1b"),
    ],
)
def test_a_body_that_does_not_fit_changes_nothing(
    office: Office, move: Any, body: dict[str, Any], pointer: str
) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE)
    before = office.row("a")
    with pytest.raises(Rejected) as caught:
        office.move("a", move, **body)
    assert (caught.value.status, caught.value.mistakes[0].pointer) == (422, pointer)
    assert office.row("a") == before


def test_a_paused_holders_late_completion_is_refused(office: Office) -> None:
    office.decide(police("a", "a"))
    paused = office.claim(POLICE, lease_s=60)[0]
    office.now += 60 * SECOND
    # Refused at the very moment, whether or not anybody else has been by.
    with refused(412):
        office.move("a", "resolve", match=f'"{paused["lease"]["token"]}"', outcome="late")
    # Nobody else has been by: the claim itself ends the lapsed lease.
    other = office.claim(POLICE, lease_s=60)
    assert [item["id"] for item in other] == [paused["id"]]
    with refused(412):
        office.move("a", "resolve", match=f'"{paused["lease"]["token"]}"', outcome="late")
    done = office.move("a", "resolve", match=f'"{other[0]["lease"]["token"]}"', outcome="done")
    assert done["outcome"] == "done"
    assert office.kinds("a") == ["dispatched", "claimed", "expired", "claimed", "resolved"]
    assert office.history("a")[2]["at"] == START + 60 * SECOND


def test_a_claim_takes_what_a_lapsed_lease_left_in_the_queues_order(office: Office) -> None:
    office.decide(*(police(f"t{n}", f"i{n}", received=START - MINUTE * (9 - n), urgent=n == 3, position=n) for n in range(4)))
    office.claim(POLICE, 2, lease_s=60)  # the urgent one and the first
    office.now += 60 * SECOND
    office.metrics.counts.clear()
    taken = office.claim(POLICE, 3, lease_s=60)
    assert [item["incident_id"] for item in taken] == [ident("i3"), ident("i0"), ident("i1")]
    assert office.kinds("i3") == office.kinds("i0") == ["dispatched", "claimed", "expired", "claimed"]
    expired = office.history("i0")[2]
    assert (expired["at"], expired["actor"], expired["data"]) == (office.now, "tipline", {"holder": f"token-{POLICE}"})


def test_a_claim_takes_what_climbed_to_its_station_though_no_scan_has_been_by(office: Office) -> None:
    office.decide(decision("a", "a"))
    office.now = START + DAY
    assert [item["incident_id"] for item in office.claim(MEDIATION)] == [ident("a")]
    assert office.claim(LIUCHU) == []
    assert office.kinds("a") == ["dispatched", "escalated", "claimed"]
    assert office.metrics.counts["tipline_escalated_total", (("clock", "claim"), ("level", "township"))] == 1


def test_a_claim_sees_its_own_lapsed_leases_however_much_else_is_due(office: Office) -> None:
    office.decide(*(decision(f"t{n}", f"i{n}", position=n) for n in range(250)))
    office.now = START + DAY - MINUTE
    office.decide(police("p", "p", received=office.now, position=300))
    with writing(office.engine) as connection:  # nothing scans: the others fall due before the lease lapses
        waking = connection.execute(select(assignments.c.id).where(assignments.c.wake_at <= START + DAY)).all()
        assert BATCH < len(waking) == 250
    assert [item["incident_id"] for item in office.claim(POLICE, lease_s=90)] == [ident("p")]
    office.now = START + DAY + MINUTE
    assert [item["incident_id"] for item in office.claim(POLICE)] == [ident("p")]
    assert office.kinds("p") == ["dispatched", "claimed", "expired", "claimed"]


def test_a_reader_sees_no_lapsed_lease_and_reads_on_while_nothing_can_be_written(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE, lease_s=60)
    office.now += 60 * SECOND

    def full(_: object) -> Any:
        raise Unavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("stations.escalate.writing", full)
        office.desk.settle(office.now)
        assert office.desk.listed(station(POLICE), POLICE).items[0]["status"] == "claimed"
    office.desk.settle(office.now)
    assert office.desk.listed(station(POLICE), POLICE).items[0]["status"] == "open"


def test_a_heartbeat_keeps_a_lease(office: Office) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE, lease_s=60)
    for _ in range(5):
        office.now += 59 * SECOND
        assert office.tick() == 0
        office.move("a", "heartbeat", lease_s=60)
    assert office.row("a")["status"] == "claimed"


def test_restricted_items_stay_among_the_restricted(office: Office) -> None:
    given = {
        "category": "safety_hazard",
        "subtype": "drug_plant",
        "route_id": "restricted-drug",
        "station": "drug-county",
    }
    office.decide(police("a", "a", **given, level="county"))
    with refused(422):
        office.move("a", "transfer", station=POLICE, reason="x")
    with refused(409):
        office.move("a", "return", reason="属地不符")
    office.tick(START + 3 * DAY)
    assert (office.row("a")["station"], office.kinds("a")[-1]) == ("drug-county", "overdue")


@pytest.mark.parametrize("move", ["return", "transfer"])
def test_the_county_takes_back_what_came_to_a_restricted_station_by_mistake(office: Office, move: str) -> None:
    office.decide(police("a", "a"))
    office.move("a", "transfer", station="drug-county", reason="看错了")
    with pytest.raises(Rejected) as caught:
        office.move("a", "transfer", station=POLICE, reason="不是我们的")
    assert caught.value.status == 422 and "`return`" in caught.value.mistakes[0].detail
    with refused(404):  # whoever sent it there sees it no more
        office.move("a", move, by=station(POLICE), reason="发错了", **({"station": POLICE} if move == "transfer" else {}))
    office.move("a", move, by=OFFICER, reason="发错了", **({"station": POLICE} if move == "transfer" else {}))
    assert (office.row("a")["station"], office.row("a")["status"]) == (POLICE if move == "transfer" else "county-triage", "open")
    # What is restricted by its route stays so for the county too.
    office.decide(police("b", "b", category="safety_hazard", subtype="drug_plant", route_id="restricted-drug", station="drug-county", level="county", position=2))
    with refused(422):
        office.move("b", "transfer", by=OFFICER, station=POLICE, reason="x")


def test_whoever_hands_an_item_on_is_not_promised_to_read_along(office: Office) -> None:
    office.decide(police("a", "a", cc=(MEDIATION,)), police("b", "b", position=2))
    for incident, wanted in (("a", "supervision-county"), ("b", "police-madian")):
        moved = office.move(incident, "transfer", station=wanted, reason="与我所有关")
        assert moved["station"] == wanted and "role" not in moved
        assert not mistakes("assignment", moved)
        for who in (POLICE, MEDIATION):
            with refused(404):
                office.desk.get(station(who), moved["id"])
            with refused(404):
                office.incidents.get(station(who), ident(incident))


def test_a_later_tip_lets_nobody_read_along_what_was_handed_to_a_restricted_station(office: Office) -> None:
    first = police("a", "a", cc=(MEDIATION,))
    office.decide(first)
    office.move("a", "transfer", station="supervision-county", reason="与我所有关")
    more = police("b", "a", cc=("county-triage",), station="police-madian", link="duplicate", corroborations=2, position=2)
    office.decide(revised(first, cause="late_tip", cc=more.cc, station=more.station, corroborations=2, position=2), more)
    assert (office.row("a")["station"], office.row("a")["corroborations"]) == ("supervision-county", 2)
    for who in (POLICE, MEDIATION, "police-madian", "county-triage"):
        with refused(404):
            office.incidents.get(station(who), ident("a"))


def test_a_stations_topic_tells_what_went_and_nothing_of_what_became_restricted(office: Office) -> None:
    office.decide(police("a", "a", station="police-anping"), police("b", "b", station="police-anping", position=2))
    office.move("a", "transfer", station="supervision-county", reason="x")
    office.move("b", "transfer", station=POLICE, reason="x")
    topics = Topics()
    events = EventRelay(office.engine, topics, lambda: {COUNTY: office.county}, _show, lambda: office.now)  # type: ignore[arg-type]
    events.run_once()
    told = [msgspec.json.decode(value) for value in topics.sent["queue.police-anping"]]
    assert [(item["incident_id"], item["station"], item.get("role")) for item in told] == [
        (ident("a"), "police-anping", "holder"),
        (ident("b"), "police-anping", "holder"),
        (ident("b"), POLICE, None),
    ]
    assert events.run_once() == 0


class Topics:
    """A broker that keeps what is sent."""

    def __init__(self) -> None:
        self.sent: dict[str, list[bytes]] = {}

    def send(self, topic: str, partition: int, records: Any) -> None:
        self.sent.setdefault(topic, []).extend(value for _, value, _ in records)


# --- clocks and the ladder: rows 5, 6, 9, 27, 29
# ----------------------------------------------------------------------------


def test_row_5_a_dispute_unclaimed_for_24_h_escalates_at_that_second(office: Office) -> None:
    """Nobody was assigned and somebody commented a minute before: it climbs all the same, once, also across a
    restart."""
    office.decide(decision("a", "a"))
    office.now = START + DAY - MINUTE
    office.move("a", "note", text="在看")
    assert office.tick(START + DAY - 1) == 0
    office.restart()
    assert office.tick(START + DAY) == 1
    row = office.row("a")
    assert (row["station"], row["level"], row["status"]) == (MEDIATION, "township", "open")
    event = office.history("a")[-1]
    assert (event["kind"], format_time(event["at"], 480)) == ("escalated", "2026-10-08T09:00:00+08:00")
    assert (event["actor"], event["reason"], event["from_station"]) == ("tipline", "claim clock", LIUCHU)
    office.restart()
    assert office.tick(START + DAY + HOUR) == 0
    assert office.metrics.counts["tipline_escalated_total", (("clock", "claim"), ("level", "township"))] == 1


def test_escalations_missed_while_nothing_ran_are_dated_when_they_were_due(office: Office) -> None:
    office.decide(decision("a", "a"))
    office.tick(START + 10 * DAY)
    found = [(event["kind"], event["at"] - START, event["station"]) for event in office.history("a")[1:]]
    assert found == [
        ("escalated", DAY, MEDIATION),
        ("escalated", 2 * DAY, "county-final"),
        ("overdue", 3 * DAY, "county-final"),
    ]
    assert office.tick(START + 40 * DAY) == 0


def test_several_instances_escalate_once(office: Office) -> None:
    office.decide(*(decision(f"t{n}", f"i{n}", position=n) for n in range(60)))
    office.now = START + DAY
    others = [Office(office.url, office.county, office.now) for _ in range(4)]
    made: list[int] = []
    threads = [threading.Thread(target=lambda other=other: made.append(other.tick())) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    office.tick()
    assert all(office.kinds(f"i{n}") == ["dispatched", "escalated"] for n in range(60))
    assert sum(made) <= 60


def test_a_scan_goes_beyond_its_first_page(office: Office) -> None:
    office.decide(*(decision(f"t{n}", f"i{n}", position=n) for n in range(450)))
    assert office.tick(START + DAY) == 450


def test_a_clock_that_jumps_back_undoes_nothing(office: Office) -> None:
    office.decide(decision("a", "a"))
    office.tick(START + DAY)
    assert office.tick(START) == 0
    assert office.tick(START + DAY) == 0
    assert office.kinds("a") == ["dispatched", "escalated"]


@pytest.mark.parametrize("work", ["claim", "acknowledge", "start"])
def test_each_status_has_a_clock_that_only_work_stops(office: Office, work: str) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE, lease_s=24 * 3600)
    for move in {"claim": (), "acknowledge": ("acknowledge",), "start": ("start",)}[work]:
        office.move("a", move)
    limit = {"claim": DAY, "acknowledge": DAY, "start": 10 * DAY}[work]
    office.now = START + limit - MINUTE
    if work == "claim":
        office.now = START + DAY - 1  # the lease ends with the clock: the item opens, overdue for its claim, and climbs
    assert office.tick(office.now) == 0
    office.tick(START + limit)
    assert (office.row("a")["station"], office.row("a")["level"]) == ("police-county", "county")
    assert office.history("a")[-1]["at"] == START + limit


def test_claiming_again_and_again_does_not_stop_the_clock(office: Office) -> None:
    office.decide(police("a", "a"))
    while office.now < START + 23 * HOUR:
        office.tick()
        if office.row("a")["station"] != POLICE:
            break
        office.claim(POLICE, lease_s=1800)
        office.now += HOUR
    office.tick(START + DAY)
    assert office.row("a")["station"] == "police-county"


def test_row_6_levels_count_where_things_were_settled(office: Office) -> None:
    def settle(name: str) -> None:
        holder = office.row(name)["station"]
        office.claim(holder, 50)
        office.move(name, "resolve", outcome="settled")

    office.decide(*(decision(f"t{n}", f"i{n}", position=n) for n in range(11)))
    for n in range(8):
        settle(f"i{n}")
    office.move("i7", "reopen", reason="又吵起来了")
    office.move("i7", "escalate", reason="村里调不了")
    settle("i7")
    for name, times in (("i8", 1), ("i9", 2)):
        # The claim of fifty took these too.
        for _ in range(times):
            office.move(name, "escalate", reason="调不了")
        settle(name)
    office.decide(revised(decision("t10", "i10"), incident="i0", cause="merge", merged=(("i10", "i0"),), position=20))
    with reading(office.engine) as connection:
        found = settled_by_level(connection, COUNTY)
    assert [(row["level"], row["incidents"], row["share"]) for row in found] == [
        ("village", 7, 0.7),
        ("township", 2, 0.2),
        ("county", 1, 0.1),
    ]


def test_row_9_a_recurrence_is_worked_by_the_police_and_read_by_mediation(office: Office) -> None:
    office.decide(decision("t0", "feud"))
    office.claim(LIUCHU)
    office.move("feud", "start")
    later = START + 3 * DAY
    office.decide(
        decision(
            "t1", "tyre", received=later, link="recurrence", link_to=ident("feud"), station=POLICE, cc=(MEDIATION,),
            route_id="aggravated-damage", level="township", due=later + 2 * HOUR, position=2, title="宏某车胎被周某扎了",
        )
    )  # fmt: skip
    office.now = later
    assert office.claim(POLICE)[0]["incident_id"] == ident("tyre")
    seen = office.incidents.get(station(MEDIATION), ident("tyre")).document
    assert seen["linked"] == [{"link": "recurrence", "incident_id": ident("feud")}]
    assert office.row("feud")["station"] == LIUCHU


def test_row_27_an_urgent_item_has_fifteen_minutes(office: Office) -> None:
    office.decide(police("a", "a", urgent=True, route_id="urgent-known", due=START + 15 * MINUTE))
    assert office.tick(START + 15 * MINUTE - 1) == 0
    assert office.tick(START + 15 * MINUTE) == 1
    assert office.row("a")["station"] == "police-county"
    assert office.row("a")["due_at"] == START + 30 * MINUTE


def test_row_29_returned_twice_the_arbiter_has_it_and_the_clock_goes_on(office: Office) -> None:
    office.decide(decision("a", "a"))
    due = office.row("a")["due_at"]
    office.now = parse_time("2026-10-07T09:30:00+08:00")
    assert office.move("a", "return", reason="属地不符")["station"] == "county-triage"
    office.move("a", "transfer", station="police-madian", reason="看来在马店")
    office.now = parse_time("2026-10-07T10:10:00+08:00")
    item = office.move("a", "return", reason="职能交叉：也涉及交警")
    assert (item["station"], item["level"], item["status"]) == ("county-final", "county", "open")
    assert office.row("a")["due_at"] == due == START + DAY
    assert office.metrics.counts["tipline_bounced_total", (("reason", "wrong_area"), ("station", LIUCHU))] == 1
    assert (
        office.metrics.counts["tipline_bounced_total", (("reason", "overlapping_duties"), ("station", "police-madian"))]
        == 1
    )
    with refused(409):
        office.move("a", "return", reason="属地不符")


def test_a_return_goes_first_to_the_neighbour_who_reads_along(office: Office) -> None:
    office.decide(police("a", "a", cc=("police-madian",)))
    assert office.move("a", "return", reason="属地不符")["station"] == "police-madian"


def test_return_reasons_are_a_list_and_other_words_are_kept() -> None:
    assert [return_reason(zh) for zh in RETURN_REASONS.values()] == list(RETURN_REASONS)
    assert return_reason("wrong_area: over the border") == "wrong_area"
    assert return_reason("不归我们") == "other"


def test_handing_on_gains_no_time(office: Office) -> None:
    """A return after its claim clock has ended: a claim's time at the new place, never more than was left."""
    office.decide(police("a", "a"))
    office.claim(POLICE)
    office.move("a", "start")
    office.now = START + 5 * DAY
    office.move("a", "transfer", station="police-madian", reason="x")
    assert office.row("a")["due_at"] == office.now + 2 * HOUR
    office.claim("police-madian")
    office.move("a", "start")
    assert office.row("a")["due_at"] == START + 10 * DAY


def test_an_area_that_is_unknown_skips_what_cannot_be_filled(office: Office) -> None:
    office.decide(decision("a", "a", area=None, station="county-triage", level="county", route_id="triage"))
    office.tick(START + 10 * DAY)
    assert office.kinds("a")[-1] == "overdue"


def test_an_item_whose_route_a_newer_directory_dropped_keeps_a_ladder(office: Office) -> None:
    office.decide(police("a", "a", route_id="event-of-last-year", due=START + 2 * HOUR))
    office.claim(POLICE)
    office.move("a", "acknowledge")
    assert office.row("a")["due_at"] < START + 30 * DAY
    office.tick(START + 90 * DAY)
    assert office.kinds("a")[3:] == ["escalated", "overdue"]


def test_an_urgent_item_at_the_duty_desk_keeps_its_quarter_of_an_hour_when_it_is_handed_back(office: Office) -> None:
    given = {"station": "police-county", "level": "county", "route_id": "triage", "urgent": True}
    office.decide(decision("a", "a", due=START + 15 * MINUTE, **given))
    office.claim("police-county")
    office.move("a", "release")
    assert office.row("a")["due_at"] == START + 15 * MINUTE


# --- corrections
# ------------------------------------------------------------------------------------------------------------


def test_a_correction_goes_into_the_input_and_onto_the_timeline(office: Office) -> None:
    office.decide(decision("a", "a"), decision("b", "a", link="duplicate", corroborations=2, position=2))
    office.decide(decision("c", "c", position=3))
    office.now += MINUTE
    assert office.correct("a", "merge", into=ident("c"), reason="同一件事")["status"] == "accepted"
    office.correct("a", "split", tip_ids=[ident("b")], reason="另一件事")
    office.correct("a", "relabel", category="fraud", subtype="loan", urgent=True, reason="是诈骗")
    office.correct("a", "relocate", area="anping/madian", reason="在马店")
    office.correct("a", "relabel", subtype="debt_wage", reason="欠薪")
    sent = office.sent()
    assert [record.action for record in sent if isinstance(record, Correction)] == [
        "merge",
        "split",
        "relabel",
        "relocate",
        "relabel",
    ]
    for record in sent:
        assert not mistakes("correction", msgspec.json.decode(msgspec.json.encode(record)))
    merge, split, relabel, relocate, again = sent
    assert isinstance(merge, Correction) and (merge.into, merge.by, merge.at) == (
        ident("c"),
        "token-county",
        format_time(office.now),
    )
    assert isinstance(split, Correction) and split.tip_ids == (ident("b"),)
    assert isinstance(relabel, Correction) and (relabel.category, relabel.subtype, relabel.urgent) == (
        "fraud",
        "loan",
        True,
    )
    assert isinstance(relocate, Correction) and relocate.area == "anping/madian"
    assert isinstance(again, Correction) and (again.category, again.subtype) == ("dispute", "debt_wage")
    assert office.kinds("a").count("corrected") == 5
    assert office.kinds("c").count("corrected") == 1


@pytest.mark.parametrize(
    ("action", "body", "pointer"),
    [
        ("merge", {"into": ident("a")}, "/into"),
        ("merge", {"into": ident("nobody")}, "/into"),
        ("merge", {}, "/into"),
        ("merge", {"into": "\0"}, "/into"),
        ("split", {"tip_ids": []}, "/tip_ids"),
        ("split", {"tip_ids": [ident("a"), ident("b")]}, "/tip_ids"),
        ("split", {"tip_ids": [ident("z")]}, "/tip_ids"),
        ("split", {"tip_ids": [ident("a"), ident("a")]}, "/tip_ids"),
        ("relabel", {}, ""),
        ("relabel", {"category": "weather"}, "/category"),
        ("relabel", {"category": "fraud", "subtype": "neighbour"}, "/subtype"),
        ("relabel", {"urgent": 1}, "/urgent"),
        ("relocate", {"area": "nowhere"}, "/area"),
        ("relocate", {"area": "anping/madian", "x": 1}, ""),
    ],
)
def test_a_correction_that_makes_no_sense_changes_nothing(
    office: Office, action: Any, body: dict[str, Any], pointer: str
) -> None:
    office.decide(decision("a", "a"), decision("b", "a", link="duplicate", position=2))
    with pytest.raises(Rejected) as caught:
        office.correct("a", action, reason="x", **body)
    assert (caught.value.status, caught.value.mistakes[0].pointer) == (422, pointer)
    assert office.sent() == []
    assert office.kinds("a") == ["dispatched"]


def test_a_correction_needs_a_reason_and_the_version_it_was_made_for(office: Office) -> None:
    office.decide(decision("a", "a"))
    with refused(422):
        office.correct("a", "relabel", urgent=True)
    with refused(428):
        office.incidents.correct(
            OFFICER, ident("a"), "relabel", {"urgent": True, "reason": "x"}, if_match=None, now=START
        )
    tag = office.incidents.get(OFFICER, ident("a")).etag
    office.move("a", "note", text="x")
    with refused(412):
        office.incidents.correct(
            OFFICER, ident("a"), "relabel", {"urgent": True, "reason": "x"}, if_match=tag, now=START
        )


def test_a_merge_across_counties_is_refused(office: Office) -> None:
    office.decide(decision("a", "a"))
    with writing(office.engine) as connection:
        other = decision("r", "r", county="raoyang", position=1)
        apply_outputs(connection, "raoyang", [other], now=START, county_config=office.county)
    with refused(422):
        office.correct("a", "merge", into=ident("r"), reason="x")


def test_opposite_merges_at_once_are_both_on_record_and_one_survives(office: Office) -> None:
    a, b = decision("a", "a"), decision("b", "b", position=2)
    office.decide(a, b)
    other = Office(office.url, office.county)

    def merge(who: Office, mine: str, into: str) -> None:
        with contextlib.suppress(Rejected):  # 412: the other was quicker
            who.correct(mine, "merge", into=ident(into), reason="x")

    threads = [
        threading.Thread(target=merge, args=(office, "a", "b")),
        threading.Thread(target=merge, args=(other, "b", "a")),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.close()
    # Which of them come through depends on who read what when; never neither.
    assert 1 <= len(office.sent()) <= 2
    office.decide(
        revised(a, incident="b", cause="merge", corroborations=2, merged=(("a", "b"),), position=3),
        revised(b, cause="merge", corroborations=2, position=3),
    )
    assert (office.row("a")["merged_into"], office.row("b")["status"]) == (ident("b"), "open")
    assert office.incidents.get(OFFICER, ident("a")).document["merged_into"] == ident("b")
    with refused(409, "merged"):
        office.correct("a", "merge", into=ident("b"), reason="x")
    with refused(409):
        office.move("a", "reopen")


def test_a_merged_item_never_escalates_and_its_clock_goes_to_the_survivor(office: Office) -> None:
    office.decide(decision("a", "a"), decision("b", "b", received=START + 5 * HOUR, position=2))
    office.decide(revised(decision("a", "a"), incident="b", cause="merge", merged=(("a", "b"),), position=3))
    office.tick(START + DAY)
    assert office.kinds("a") == ["dispatched", "merged"]
    assert office.history("b")[-1]["at"] == START + DAY


def test_joining_a_suggested_duplicate_elsewhere_is_a_request_to_its_holder(office: Office) -> None:
    office.decide(police("a", "a", station="police-madian", area="anping/madian", title="秘密"))
    office.decide(decision("b", "b", link="suggested", link_to=ident("a"), position=2))
    for mine, other in (("b", "a"), ("a", "b")):
        holder = station(office.row(mine)["station"])
        shown = office.incidents.get(holder, ident(mine)).document["suggested"]
        assert set(shown[0]) == {"incident_id", "category", "township", "hour", "yours"}
        assert shown[0]["incident_id"] == ident(other)
        assert shown[0]["yours"] is False
    assert office.incidents.get(OFFICER, ident("b")).document["suggested"][0]["title"] == "秘密"
    answer = office.correct("b", "merge", by=station(LIUCHU), into=ident("a"), reason="同一件事")
    assert answer == {"status": "requested"}
    assert office.sent() == []
    assert office.history("a")[-1]["kind"] == "merge_requested"
    assert office.correct("b", "merge", into=ident("a"), reason="是")["status"] == "accepted"


def test_restricted_incidents_are_suggested_to_nobody(office: Office) -> None:
    given = {"station": "drug-county", "level": "county", "route_id": "restricted-drug"}
    office.decide(police("a", "a", category="safety_hazard", subtype="drug_plant", **given))
    office.decide(decision("b", "b", link="suggested", link_to=ident("a"), position=2))
    assert office.incidents.get(station(LIUCHU), ident("b")).document["suggested"] == []


def test_the_timeline_holds_every_reason(office: Office) -> None:
    office.decide(decision("a", "a"))
    office.move("a", "note", text="问过了")
    timeline = office.incidents.get(station(LIUCHU), ident("a")).document["timeline"]
    assert [entry["kind"] for entry in timeline] == ["decided", "dispatched", "noted"]
    assert list(timeline[0]["reasons"]) == [{"kind": "classify", "cue": "磨擦", "detail": "dispute/neighbour"}]
    assert timeline[2]["data"] == {"text": "问过了"}


# --- what leaves
# --------------------------------------------------------------------------------------------------------------


def test_closing_and_opening_again_are_told_to_the_fold_in_the_same_transaction(office: Office) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE)
    office.move("a", "resolve", outcome="settled")
    office.now += HOUR
    office.move("a", "reopen", reason="x")
    closed, opened = office.sent()
    assert isinstance(closed, Closure) and (closed.closed, closed.outcome, closed.at) == (
        True,
        "settled",
        format_time(START),
    )
    assert isinstance(opened, Closure) and (opened.closed, opened.at) == (False, format_time(START + HOUR))
    for record in (closed, opened):
        assert not mistakes("closure", msgspec.json.decode(msgspec.json.encode(record)))


class Log:
    """A county's input that may be away."""

    def __init__(self) -> None:
        self.away: set[str] = set()
        self.got: list[tuple[str, bool]] = []

    def append(self, county: str, key: str, value: bytes) -> int | None:
        if county in self.away:
            raise Unavailable("no log")
        record = decode_input(value)
        assert isinstance(record, Closure)
        self.got.append((county, record.closed))
        return len(self.got)


def outbox(office: Office) -> Outbox:
    return Outbox(office.engine, lambda: office.now)


def test_the_outbox_keeps_the_order_of_a_countys_records_whatever_fails(office: Office) -> None:
    log, out = Log(), outbox(office)
    log.away = {COUNTY}
    office.decide(police("a", "a"))
    office.claim(POLICE)
    office.move("a", "resolve", outcome="settled")
    assert out.input(log.append) == 0
    office.move("a", "reopen")
    log.away = set()
    # The later record does not overtake the one that waits.
    assert out.input(log.append) == 0
    office.now += SECOND
    assert out.input(log.append) == 2
    office.now += DAY
    assert out.input(log.append) == 0
    assert log.got == [(COUNTY, True), (COUNTY, False)]


def test_a_county_whose_log_is_away_holds_up_no_other(office: Office) -> None:
    log = Log()
    log.away = {COUNTY}
    now = office.now
    office.decide(police("a", "a"))
    office.claim(POLICE)
    office.move("a", "resolve", outcome="settled")
    with writing(office.engine) as connection:
        other = Closure(county="raoyang", closure_id="c", incident_id="i", closed=True, at=format_time(now))
        put_input(connection, other, "c", now=now)
    assert outbox(office).input(log.append) == 1
    assert log.got == [("raoyang", True)]


def test_of_several_instances_one_sends_and_a_dead_ones_turn_ends(office: Office) -> None:
    office.decide(*(police(f"t{n}", f"i{n}", position=n) for n in range(6)))
    office.claim(POLICE, 6)
    for n in range(6):
        office.move(f"i{n}", "resolve", outcome="settled")
    log, other, dying = Log(), outbox(office), outbox(office)

    def append(county: str, key: str, value: bytes) -> int | None:
        if len(log.got) == 2:
            assert other.input(log.append) == 0  # while this one is at it
        if len(log.got) == 3:
            raise KeyboardInterrupt  # as if killed: nothing after this line of ours runs ...
        return log.append(county, key, value)

    with pytest.raises(KeyboardInterrupt):
        dying.input(append)
    with writing(office.engine) as connection:  # ... not even the end of its turn
        held = {"consumer": "turn", "topic": "input", "part": "", "position": office.now + TURN_MS}
        upsert(connection, positions, [held])
    assert other.input(log.append) == 0
    office.now += TURN_MS
    assert other.input(log.append) == 3
    assert len(log.got) == 6


def test_a_rebuild_from_both_logs_puts_the_work_back(office: Office) -> None:
    decided = [police(f"t{n}", f"i{n}", position=n, cc=(MEDIATION,)) for n in range(5)]
    office.decide(*decided)
    office.claim(POLICE, 5)
    office.move("i0", "start")
    office.move("i4", "transfer", station="police-madian", reason="x")
    office.tick(START + 3 * HOUR)
    states = [event["state"] for n in range(5) for event in office.history(f"i{n}")]
    before = [office.row(f"i{n}") for n in range(5)]
    with writing(office.engine) as connection:
        cc = sorted(map(tuple, connection.execute(select(assignment_cc))))
        for table in reversed(metadata.sorted_tables):
            connection.execute(delete(table))
    # First the decisions, then the work.
    office.decide(*decided)
    with writing(office.engine) as connection:
        assert restore(connection, states) == 5
        assert sorted(map(tuple, connection.execute(select(assignment_cc)))) == cc
    assert [office.row(f"i{n}") for n in range(5)] == before


class Phone:
    """An outgoing channel that notes what it was asked to say."""

    def __init__(self) -> None:
        self.said: list[Reply] = []
        self.away: set[str] = set()
        self.mute: set[str] = set()

    def reaches(self, source: str) -> bool:
        return source not in self.mute

    def reply(self, reply: Reply) -> bool:
        if reply.source in self.away:
            raise Unavailable("no line")
        self.said.append(reply)
        return True


REPORTERS = {"a": "r1", "b": "r1", "c": None}


def tip_of(tip_id: str) -> Tip | None:
    name = next((name for name in REPORTERS if ident(name) == tip_id), None)
    if name is None:
        return None
    given = {"county": COUNTY, "source": "wechat:xiliangwa-3", "channel": "volunteer", "text": "x"}
    return Tip(
        tip_id=tip_id, message_id=name, reporter=REPORTERS[name], received_at=format_time(START), **given
    )  # type: ignore[arg-type]


def test_each_reporter_is_told_once_a_status(office: Office) -> None:
    office.decide(
        police("a", "i"), police("b", "i", link="duplicate", position=2), police("c", "i", link="duplicate", position=3)
    )
    phone, out = Phone(), outbox(office)
    tell = lambda: out.replies(phone, tip_of, {COUNTY: 480})  # noqa: E731
    assert (tell(), tell()) == (2, 0)
    assert sorted((reply.status, str(reply.reporter)) for reply in phone.said) == [("with_station", "None"), ("with_station", "r1")]
    phone.said.clear()
    office.claim(POLICE)
    office.move("i", "acknowledge")
    office.move("i", "start")
    assert (tell(), tell()) == (2, 0)
    assert sorted((reply.status, str(reply.reporter)) for reply in phone.said) == [("in_work", "None"), ("in_work", "r1")]
    assert {reply.message_id for reply in phone.said} <= {"a", "b", "c"}
    office.move("i", "resolve", outcome="settled")
    office.move("i", "reopen")
    office.claim(POLICE)
    office.move("i", "resolve", outcome="settled")
    tell()
    assert [reply.status for reply in phone.said[2:]] == ["closed", "closed"]
    assert len({reply.key for reply in phone.said}) == 4


def test_a_channel_that_is_away_repeats_no_reply_to_those_who_have_it(office: Office) -> None:
    office.decide(police("a", "i"), police("c", "i", source="hotline:1", link="duplicate", position=2))
    phone, out = Phone(), outbox(office)
    phone.away = {"hotline:1"}
    office.claim(POLICE)
    office.move("i", "acknowledge")
    for _ in range(3):
        out.replies(phone, tip_of, {COUNTY: 480})
        office.now += MINUTE
    assert [reply.source for reply in phone.said] == ["wechat:xiliangwa-3"]
    phone.away = set()
    assert out.replies(phone, tip_of, {COUNTY: 480}) == 1
    assert [reply.source for reply in phone.said] == ["wechat:xiliangwa-3", "hotline:1"]


def test_who_reports_what_is_in_work_already_hears_so_and_publicity_is_not_answered(office: Office) -> None:
    office.decide(police("a", "i"), police("n", "n", no_action=True, position=2))
    phone, out = Phone(), outbox(office)
    tell = lambda: out.replies(phone, tip_of, {COUNTY: 480})  # noqa: E731
    tell()
    office.claim(POLICE)
    office.move("i", "acknowledge")
    tell()
    office.decide(police("c", "i", link="duplicate", position=3))
    tell()
    said = [(reply.status, reply.message_id) for reply in phone.said]
    assert said == [("with_station", "a"), ("in_work", "a"), ("in_work", "c")]


def test_old_reports_and_sources_without_a_way_back_are_not_greeted(office: Office) -> None:
    office.decide(police("a", "a"), police("c", "c", source="hotline:1", position=2))
    phone, out = Phone(), outbox(office)
    phone.mute = {"hotline:1"}
    office.now = START + 4 * DAY
    assert out.replies(phone, tip_of, {COUNTY: 480}) == 0
    office.decide(police("b", "b", received_at=format_time(office.now), position=3))
    assert out.replies(phone, tip_of, {COUNTY: 480}) == 1
    assert [reply.message_id for reply in phone.said] == ["b"]


def test_a_stations_own_system_hears_every_event_once_in_order_and_signed(office: Office) -> None:
    office.decide(police("a", "a"), police("b", "b", position=2))
    hook, got, up = Hook(POLICE, "https://station.example/hook", b"secret"), list[dict[str, str]](), [200, 500]
    out = outbox(office)

    def post(url: str, headers: Any, body: bytes) -> int:
        status = up.pop(0) if up else 204
        if status < 300:
            signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
            digest = hmac.new(b"secret", signed, hashlib.sha256).digest()
            assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
            got.append(dict(headers))
        return status

    assert out.hook(office.desk, hook, post) == 1
    assert out.hook(office.desk, hook, post) == 0  # put off for a second
    office.now += SECOND
    assert out.hook(office.desk, hook, post) == 1
    assert out.hook(office.desk, hook, post) == 0
    office.claim(POLICE)
    assert out.hook(office.desk, hook, post) == 1
    assert [headers["webhook-id"] for headers in got] == [f"{POLICE}/{n}" for n in (1, 2, 3)]
    assert out.hook(office.desk, Hook("police-nowhere", hook.url, b"x"), post) == 0


def test_a_system_that_nobody_serves_is_logged_as_what_it_is(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    office.decide(police("a", "a"))
    hook = Hook(POLICE, f"http://127.0.0.1:{free_port()}/hook?key=s3cret", b"secret")
    assert outbox(office).hook(office.desk, hook, poster(trusting(""))) == 0
    (told,) = [record.getMessage() for record in caplog.records if record.name == "tipline.stations"]
    assert POLICE in told and "nobody answers (ConnectionRefusedError)" in told
    assert "503" not in told and "s3cret" not in told and "127.0.0.1" not in told


def test_an_event_tells_of_the_assignment_as_it_was_right_after_it(office: Office) -> None:
    office.decide(police("a", "a"))
    office.claim(POLICE)
    office.move("a", "acknowledge")
    office.move("a", "transfer", station="police-madian", reason="x")
    _, events = office.desk.stream(station(POLICE), POLICE, 0)
    told = [(event.kind, event.document["assignment"]) for event in events]
    assert [(kind, was and (was["station"], was["status"], was["revision"])) for kind, was in told] == [
        ("dispatched", (POLICE, "open", 1)),
        ("claimed", (POLICE, "claimed", 2)),
        ("acknowledged", (POLICE, "acknowledged", 3)),
        ("transferred", None),
    ]
    assert told[1][1]["lease"]["token"] == 2 and told[2][1]["lease"] is None
    assert [event.now for event in events] == [None] * 4
    hook, got = Hook(POLICE, "https://station.example/hook", b"secret"), list[Any]()

    def post(url: str, headers: Any, body: bytes) -> int:
        got.append(msgspec.json.decode(body)["data"])
        return 204

    assert outbox(office).hook(office.desk, hook, post) == 4
    assert got == [event.document for event in events]


def test_of_what_became_restricted_a_late_event_tells_nothing(office: Office) -> None:
    first = police("a", "a", category="safety_hazard", subtype="drug_plant")
    office.decide(first)
    office.decide(revised(first, cause="relabel", route_id="restricted-drug", station="drug-county", position=2))
    _, events = office.desk.stream(station(POLICE), POLICE, 0)
    assert [(event.kind, event.document["assignment"]) for event in events] == [("dispatched", None), ("rerouted", None)]
    _, events = office.desk.stream(station("drug-county"), "drug-county", 0)
    assert [event.document["assignment"]["station"] for event in events] == ["drug-county"]


def test_a_receipts_status_follows_the_work_through_merges(office: Office) -> None:
    def status(tip: str) -> Any:
        with reading(office.engine) as connection:
            found = of_tip(connection, ident(tip))
            return found.status, found.at

    assert status("a") == ("received", None)
    office.decide(police("a", "a"), police("n", "n", no_action=True, position=2))
    assert status("a") == ("with_station", START)
    assert status("n")[0] == "closed"
    office.now += HOUR
    office.claim(POLICE)
    assert status("a")[0] == "with_station"
    office.move("a", "acknowledge")
    assert status("a") == ("in_work", START + HOUR)
    office.decide(police("b", "b", position=3))
    office.decide(revised(police("b", "b"), incident="a", cause="merge", merged=(("b", "a"),), position=4))
    assert status("b") == ("in_work", START + HOUR)
    office.move("a", "resolve", outcome="settled")
    assert status("b")[0] == "closed"
    with reading(office.engine) as connection:
        assert of_incident(connection, ident("b")).status == "closed"


def test_additions_to_an_item_are_told_to_its_station(office: Office) -> None:
    office.decide(police("a", "a"))
    office.decide(police("b", "a", link="duplicate", corroborations=2, position=2))
    number, events = office.desk.stream(station(POLICE), POLICE, 0)
    assert (number, [event.kind for event in events]) == (2, ["dispatched", "updated"])
    assert events[1].document["assignment"]["corroborations"] == 2


def test_a_stream_shows_where_an_item_went_and_no_more(office: Office) -> None:
    office.decide(police("a", "a"))
    office.move("a", "transfer", station="police-madian", reason="x")
    _, events = office.desk.stream(station(POLICE), POLICE, 0)
    assert [event.kind for event in events] == ["dispatched", "transferred"]
    assert events[-1].document["assignment"] is None
    assert office.desk.stream(station(POLICE), POLICE, None) == (2, [])


def test_the_table_of_moves_in_the_contracts_is_that_of_the_program() -> None:
    page = Path(__file__).parents[2].joinpath("docs", "contracts.md").read_text("utf-8")
    lines = page.split("| move | from | to | body |\n")[1].split("\n\n")[0].splitlines()[1:]
    told = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    ours = []
    for move, rule in MOVES.items():
        body = ["limit", "lease_s"] if move == "claim" else [field.name for field in rule.body]
        target = rule.target or "as it is"
        ours.append((move, ", ".join(rule.sources), target, ", ".join(f"`{name}`" for name in body)))
    assert told == ours


def test_every_move_is_in_the_table_once() -> None:
    assert set(MOVES) == {
        "claim", "heartbeat", "acknowledge", "start", "release", "return", "transfer", "escalate", "resolve", "reopen", "note"
    }  # fmt: skip
