"""Delivery, on SQLite and PostgreSQL alike: what the tables say after a log was applied, once or several times."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Table, delete, inspect, select, text, update

from schemas.codec import decode_input, decode_output
from schemas.records import Closure, Decision, Output
from schemas.times import DAY, HOUR, MINUTE, parse_time
from sinks import audit, dead_letters, statistics, tokens
from sinks.database import HEAD, FutureDatabase, migrate, migrations, open_database, reading, version, writing
from sinks.sink import AppliedEvents, apply_outputs, latest_decision, position, read_log, set_position
from sinks.station_queue import assignment_id
from sinks.tables import (
    assignment_cc,
    assignment_events,
    assignments,
    incident_sums,
    incidents,
    metadata,
    outbox,
    station_events,
)
from sinks.tables import audit as audit_table
from streams.ports import Principal
from streams.stages.county import County
from tests.contracts.made import COUNTY, START, anping, decision, ident, revised, state_change

LIUCHU = "village-xiliangwa-liuchu"


@pytest.fixture(scope="module")
def county() -> County:
    return anping()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    made = open_database(database_url)
    yield made
    made.dispose()


class Sink:
    """Applies outputs, a transaction a call."""

    def __init__(self, engine: Engine, county: County) -> None:
        self.engine, self.county = engine, county

    def __call__(self, *outputs: Output, now: int = START) -> AppliedEvents:
        with writing(self.engine) as connection:
            return apply_outputs(connection, COUNTY, outputs, now=now, county_config=self.county)

    def row(self, table: Any, **where: Any) -> dict[str, Any]:
        rows = self.rows(table, **where)
        assert len(rows) == 1, rows
        return rows[0]

    def rows(self, table: Any, **where: Any) -> list[dict[str, Any]]:
        statement = select(table)
        for name, value in where.items():
            statement = statement.where(table.c[name] == value)
        with reading(self.engine) as connection:
            return [dict(row) for row in connection.execute(statement).mappings()]

    def assignment(self, incident: str) -> dict[str, Any]:
        return self.row(assignments, incident_id=ident(incident))

    def history(self, incident: str) -> list[str]:
        rows = self.rows(assignment_events, incident_id=ident(incident))
        return [row["kind"] for row in sorted(rows, key=lambda row: row["number"])]


@pytest.fixture
def sink(engine: Engine, county: County) -> Sink:
    return Sink(engine, county)


def dump(engine: Engine, tables: Sequence[Table] = tuple(metadata.sorted_tables)) -> dict[str, list[Any]]:
    """The rows of tables, sorted."""
    with reading(engine) as connection:
        return {
            table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr) for table in tables
        }


def random_log(seed: int, tips: int = 60) -> list[Output]:
    """Tips, revisions, merges and splits as a fold might write them."""
    pick, latest, log = random.Random(seed), dict[str, Decision](), list[Output]()
    for number in range(tips):
        tip, received = f"t{number}", START + number * 7 * MINUTE
        log.append(state_change(number)) if number % 9 == 0 else None
        incident = f"i{pick.randrange(number + 1)}"
        latest[tip] = decision(
            tip,
            incident,
            received=received,
            occurred=received - pick.randrange(48) * HOUR,
            category=pick.choice(["dispute", "fraud", "theft"]),
            area=pick.choice([None, "anping/madian", "anping/xiliangwa/liuchu"]),
            link=pick.choice(["new", "duplicate", "update"]),
            station=pick.choice([LIUCHU, "police-madian"]),
            no_action=pick.random() < 0.1,
            position=number,
        )
        log.append(latest[tip])
        for other in pick.sample(sorted(latest), min(len(latest), pick.randrange(4))):
            moved = ident(f"i{pick.randrange(number + 1)}") if pick.random() < 0.3 else latest[other].incident_id
            area = pick.choice([None, "anping/madian"])
            latest[other] = revised(latest[other], incident_id=moved, area=area, position=number)
            log.append(latest[other])
    return log


def test_replaying_the_log_three_times_leaves_every_table_equal(sink: Sink) -> None:
    log = random_log(1)
    for start in range(0, len(log), 11):
        sink(*log[start : start + 11])
    once = dump(sink.engine)
    for size in (len(log), 5):
        # A record's changes of state come in one call; here none shares its position, so any cut will do.
        for start in range(0, len(log), size):
            assert not sink(*log[start : start + size]).decisions
        assert dump(sink.engine) == once


@pytest.mark.parametrize("seed", range(6))
def test_statistics_equal_a_recount_of_the_log(sink: Sink, seed: int) -> None:
    log = random_log(seed)
    for start in range(0, len(log), 7):
        sink(*log[start : start + 7])
    with reading(sink.engine) as connection:
        outputs = [decode_output(value) for _, value in read_log(connection, COUNTY, 0, 10_000)]
        assert outputs == log
        kept = statistics.stored(connection)
    assert kept == statistics.recount(outputs, sink.county.offset_minutes)
    assert sum(tips for tips, _ in kept.values()) == 60


def corrected_log(seed: int, tips: int = 50) -> list[list[Decision]]:
    """A few incidents that grow, and are merged, split, relabelled and relocated, as a fold writes it: a run a record."""
    pick, latest, runs = random.Random(seed), dict[str, Decision](), list[list[Decision]]()

    def of(incident: str) -> list[str]:
        return [tip for tip, said in latest.items() if said.incident_id == ident(incident)]

    def write(changed: dict[str, Decision]) -> None:
        latest.update(changed)
        runs.append(list(changed.values()))

    for number in range(tips):
        incident, at = f"i{pick.randrange(4)}", START + number * 7 * MINUTE
        others = of(incident)
        kinds = [("dispute", "neighbour"), ("theft", "shop"), ("theft", None), ("other", "noise")]
        category, subtype = pick.choice(kinds)
        new = decision(
            f"t{number}",
            incident,
            received=at - pick.randrange(3) * HOUR,
            occurred=at - pick.randrange(48) * HOUR,
            category=category,
            subtype=subtype,
            confidence=pick.choice([0.3, 0.6, 0.75, 1.0]),
            urgent=pick.random() < 0.05,
            area=pick.choice([None, "anping/madian", "anping/xiliangwa", "anping/xiliangwa/liuchu"]),
            title=f"第{number}条",
            corroborations=len(others) + 1,
            position=len(runs),
        )
        # Beside it the first of the incident, for the count; sometimes also one that now goes elsewhere.
        changed = {f"t{number}": new}
        for tip in others[:1]:
            changed[tip] = revised(latest[tip], cause="late_tip", corroborations=len(others) + 1, position=len(runs))
        if others[2:] and pick.random() < 0.2:
            away = others[pick.randrange(1, len(others))]
            changed[away] = revised(
                latest[away], cause="late_tip", incident=f"i{pick.randrange(4)}", position=len(runs)
            )
        write(changed)
        one, other = pick.sample([f"i{n}" for n in range(4)], 2)
        if not of(one) or not of(other):
            continue
        what, position = pick.choice(["", "", "merge", "split", "relabel", "urgent", "relocate"]), len(runs)
        if what == "merge":
            merged = [
                (tip, revised(latest[tip], cause="merge", incident=other, merged=((one, other),), position=position))
                for tip in of(one)
            ]
            write(dict(merged + [(tip, revised(latest[tip], cause="merge", position=position)) for tip in of(other)]))
        elif what == "split":
            write(
                {
                    tip: revised(latest[tip], cause="split", incident=f"i{pick.randrange(4)}", position=position)
                    for tip in of(one)[::2]
                }
            )
        elif what == "relabel":
            write(
                {
                    tip: revised(latest[tip], category="fraud", subtype="loan", confidence=1.0, position=position)
                    for tip in of(one)
                }
            )
        elif what:
            told = {"urgent": pick.random() < 0.3} if what == "urgent" else {"area": "anping/madian"}
            write({tip: revised(latest[tip], cause=what, position=position, **told) for tip in of(one)})
    return runs


def cut(runs: list[list[Decision]], seed: int) -> Iterator[list[Decision]]:
    """The runs in calls of one to six."""
    pick, start = random.Random(seed), 0
    while start < len(runs):
        size = pick.randrange(1, 7)
        yield [one for run in runs[start : start + size] for one in run]
        start += size


def recounted(log: Sequence[Decision]) -> dict[str, dict[str, Any]]:
    """What each incident must say: from the latest revision of all its tips, read one by one."""
    latest = {one.tip_id: one for one in log}
    said: dict[str, dict[str, Any]] = {}
    for incident in {one.incident_id for one in latest.values()}:
        tips = sorted(
            (d for d in latest.values() if d.incident_id == incident), key=lambda d: (d.occurred_at, d.tip_id)
        )

        def weigh(told: Sequence[Decision]) -> float:
            return round(sum(d.confidence * (0.5 if d.category == "other" else 1) for d in told), 6)

        category = max({d.category for d in tips}, key=lambda c: (weigh([d for d in tips if d.category == c]), c))
        alike = [d for d in tips if d.category == category]
        subtype = max(
            {d.subtype or "" for d in alike}, key=lambda s: (weigh([d for d in alike if (d.subtype or "") == s]), s)
        )
        areas = [d.area for d in tips if d.area is not None]
        said[incident] = {
            "category": category,
            "subtype": subtype or None,
            "urgent": any(d.urgent for d in tips),
            "area": max(areas, key=lambda a: (a.count("/"), areas.count(a), a), default=None),
            "title": next(d.title for d in alike if (d.subtype or "") == subtype),
            "tips": len(tips),
            "lead_tip": tips[0].tip_id,
            "occurred_at": parse_time(tips[0].occurred_at),
            "received_at": min(parse_time(d.received_at) for d in tips),
            "last_received_at": max(parse_time(d.received_at) for d in tips),
        }
    return said


@pytest.mark.parametrize("seed", range(4))
def test_sums_that_are_kept_say_what_all_the_tips_say(
    sink: Sink, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = open_database(f"sqlite:///{tmp_path / 'reads_all.db'}")
    migrate(other)
    reads_all, log = Sink(other, sink.county), list[Decision]()
    for call in cut(corrected_log(seed), seed):
        log += call
        monkeypatch.setattr("sinks.sink.KEPT", 2)
        sink(*call)
        monkeypatch.setattr("sinks.sink.KEPT", 10_000)
        reads_all(*call)
        expected = recounted(log)
        told = {one.incident_id for one in call}
        for row in sink.rows(incidents):
            incident = row["incident_id"]
            says = expected.get(incident, {"tips": 0, "lead_tip": None})
            # The rest of what it says is told anew when a decision of it is written.
            names = says if incident in told else ("tips", "lead_tip")
            assert {name: row[name] for name in names} == {name: says[name] for name in names}
            kept = sink.rows(incident_sums, incident_id=incident)
            assert sum(one["tips"] for one in kept) == (row["tips"] if row["tips"] > 2 else 0)
        tables = [table for table in metadata.sorted_tables if table is not incident_sums]
        assert dump(sink.engine, tables) == dump(other, tables)
    assert not reads_all.rows(incident_sums) and sink.rows(incident_sums)
    once = dump(sink.engine)
    for again in (1, 2):
        monkeypatch.setattr("sinks.sink.KEPT", 2)
        assert not any(sink(*call).decisions for call in cut(corrected_log(seed), seed + again))
        assert dump(sink.engine) == once
    other.dispose()


def test_sums_that_are_missing_are_made_when_a_tip_comes(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    # A large incident of a store that an older version wrote has none.
    monkeypatch.setattr("sinks.sink.KEPT", 2)
    told = [decision(f"t{n}", "i", confidence=0.5, position=n, title=f"{n}", occurred=START - n) for n in range(5)]
    sink(*told[:4])
    with writing(sink.engine) as connection:
        connection.execute(delete(incident_sums))
    sink(told[4])
    (row,) = sink.rows(incident_sums)
    assert (row["tips"], row["certainty"], row["first_at"], row["title"]) == (5, 2_500_000, START - 4, "4")
    assert sink.row(incidents)["title"] == sink.assignment("i")["title"] == "4"


def test_one_tip_more_costs_the_same_however_many_there_are(tmp_path: Path, county: County) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'storm.db'}")
    migrate(engine)
    first = decision("t0", "i")

    def costs(number: int) -> int:
        """Thousands of steps of the database's machine for a tip and the first one's next revision."""
        counted = 0

        def step() -> int:
            nonlocal counted
            counted += 1
            return 0

        with writing(engine) as connection:
            raw = connection.connection.dbapi_connection
            assert raw is not None
            raw.set_progress_handler(step, 10)
            more = decision(f"t{number}", "i", link="duplicate", corroborations=number + 1, position=number)
            counts = revised(first, cause="late_tip", corroborations=number + 1, position=number, revision=number + 1)
            apply_outputs(connection, COUNTY, [more, counts], now=START, county_config=county)
            raw.set_progress_handler(None, 10)
        return counted

    Sink(engine, county)(first)
    steps = [costs(number) for number in range(1, 400)]
    engine.dispose()
    assert max(steps[-20:]) < 1.5 * max(steps[40:60]), steps[::20]


def test_the_log_is_gapless_and_gives_back_the_latest_decision(sink: Sink) -> None:
    first = decision("a")
    assert sink(first, state_change(1)).seq == 2
    applied = sink(first, revised(first, title="x"), state_change(2))
    assert (applied.seq, applied.skipped, [d.revision for d in applied.decisions]) == (4, 1, [2])
    with reading(sink.engine) as connection:
        assert [seq for seq, _ in read_log(connection, COUNTY, 0, 9)] == [1, 2, 3, 4]
        value = latest_decision(connection, ident("a"))
        assert latest_decision(connection, ident("nobody")) is None
    assert value is not None and decode_output(value) == revised(first, title="x")


def test_two_changes_of_state_at_one_position_are_two(sink: Sink) -> None:
    assert sink(state_change(1), state_change(1)).seq == 2
    assert sink(state_change(1), state_change(1)).skipped == 2


def test_the_highest_revision_wins_in_any_order(sink: Sink) -> None:
    first = decision("a", "i")
    second = revised(first, category="theft", subtype="burglary")
    sink(second)
    sink(first)
    assert sink.row(incidents)["category"] == sink.assignment("i")["category"] == "theft"
    with reading(sink.engine) as connection:
        assert {cell[1] for cell in statistics.stored(connection)} == {"theft"}


def test_another_countys_record_is_refused_whole(sink: Sink) -> None:
    with pytest.raises(ValueError, match="anping"):
        sink(decision("a"), decision("b", county="raoyang"))
    assert sink.rows(assignments) == []


def test_a_forward_storm_is_one_item_with_three_corroborations(sink: Sink) -> None:
    sink(decision("a", "i"))
    sink(
        decision("b", "i", link="duplicate", corroborations=2, received=START + MINUTE, position=2),
        revised(decision("a", "i"), cause="late_tip", corroborations=2, position=2),
        decision("c", "i", link="duplicate", corroborations=3, received=START + 2 * MINUTE, position=3),
    )
    item = sink.assignment("i")
    assert (item["corroborations"], item["dispatched_at"], item["due_at"]) == (3, START, START + DAY)
    assert (item["id"], item["status"], item["revision"]) == (assignment_id(ident("i")), "open", 3)
    assert sink.history("i") == ["dispatched", "updated", "updated"]
    row = sink.row(incidents)
    # keep#2316: a full duplicate still moves the time it was last heard of.
    assert (row["tips"], row["last_received_at"], row["received_at"]) == (3, START + 2 * MINUTE, START)


def test_a_new_route_moves_what_nobody_touched(sink: Sink) -> None:
    first = decision("a", "i")
    sink(first)
    sink(revised(first, station="police-xiliangwa", level="township", route_id="police", cc=(LIUCHU,)))
    item = sink.assignment("i")
    assert (item["station"], item["level"], item["status"], item["revision"]) == (
        "police-xiliangwa",
        "township",
        "open",
        2,
    )
    assert [row["station"] for row in sink.rows(assignment_cc)] == [LIUCHU]
    assert sink.history("i") == ["dispatched", "rerouted"]
    assert {row["number"] for row in sink.rows(station_events, station="police-xiliangwa")} == {1}
    assert {row["number"] for row in sink.rows(station_events, station=LIUCHU)} == {1, 2}


def _work_on(sink: Sink, incident: str, **values: Any) -> None:
    with writing(sink.engine) as connection:
        where = assignments.c.incident_id == ident(incident)
        connection.execute(update(assignments).where(where).values(touched=True, **values))


def test_a_new_route_reads_along_where_somebody_works(sink: Sink) -> None:
    first = decision("a", "i")
    sink(first)
    _work_on(sink, "i", status="in_progress", clock="resolve", due_at=START + 7 * DAY)
    sink(revised(first, station="police-xiliangwa", level="township", route_id="police", urgent=True))
    item = sink.assignment("i")
    assert (item["station"], item["status"], item["due_at"], item["urgent"]) == (
        LIUCHU,
        "in_progress",
        START + 7 * DAY,
        True,
    )
    assert [row["station"] for row in sink.rows(assignment_cc)] == ["police-xiliangwa"]


def test_what_becomes_restricted_leaves_those_who_must_not_see_it(sink: Sink) -> None:
    first = decision("a", "i", cc=("police-xiliangwa",))
    sink(first)
    _work_on(sink, "i", status="in_progress")
    sink(revised(first, category="safety_hazard", subtype="drug_plant", station="drug-county", level="county", cc=()))
    item = sink.assignment("i")
    assert (item["station"], item["status"]) == ("drug-county", "open")
    assert sink.rows(assignment_cc) == []


def test_a_merge_closes_one_and_moves_its_clocks(sink: Sink) -> None:
    early, late = decision("a", "i"), decision("b", "j", received=START + HOUR)
    sink(early, late)
    sink(revised(early, incident="j", cause="merge", merged=(("i", "j"),), corroborations=2))
    lost, kept = sink.assignment("i"), sink.assignment("j")
    assert (lost["status"], lost["outcome"], lost["merged_into"]) == ("resolved", "merged", ident("j"))
    assert (kept["status"], kept["dispatched_at"], kept["due_at"]) == ("open", START, START + DAY)
    assert lost["wake_at"] > START + 100 * DAY  # zammad#904: a merged one never escalates
    assert sink.row(incidents, incident_id=ident("i"))["merged_into"] == ident("j")
    assert sink.row(incidents, incident_id=ident("j"))["tips"] == 2


def test_opposite_merges_leave_one_survivor(sink: Sink) -> None:
    a, b = decision("a", "i"), decision("b", "j")
    sink(a, b)
    # The fold makes both orders into one union; whichever came first, the other finds itself merged already.
    sink(revised(a, incident="j", cause="merge", merged=(("i", "j"),)))
    sink(revised(b, incident="j", cause="merge", corroborations=2))
    assert sorted(row["status"] for row in sink.rows(assignments)) == ["open", "resolved"]


def test_a_split_gives_the_second_incident_a_queue_item_of_its_own(sink: Sink) -> None:
    a, b = decision("a", "i"), decision("b", "i", link="duplicate", corroborations=2)
    sink(a, b)
    sink(
        revised(b, incident="k", cause="split", link="new", corroborations=1),
        revised(a, cause="split", corroborations=1),
    )
    assert sink.assignment("i")["corroborations"] == sink.assignment("k")["corroborations"] == 1
    assert sink.row(incidents, incident_id=ident("k"))["tips"] == 1


def test_an_incident_left_without_tips_is_closed(sink: Sink) -> None:
    a = decision("a", "i")
    sink(a)
    sink(revised(a, incident="k", cause="split"))
    assert (sink.assignment("i")["status"], sink.assignment("i")["outcome"]) == ("resolved", "moved")


def test_publicity_is_counted_and_queued_nowhere(sink: Sink) -> None:
    sink(decision("a", category="other", subtype="publicity", no_action=True, due=None))
    assert sink.rows(assignments) == []
    with reading(sink.engine) as connection:
        assert list(statistics.stored(connection).values()) == [(1, 1)]


def test_a_relabel_to_noise_closes_and_back_opens(sink: Sink) -> None:
    a = decision("a", "i")
    sink(a)
    noise = revised(a, category="other", subtype="noise", no_action=True, due_at=None)
    sink(noise)
    assert (sink.assignment("i")["status"], sink.assignment("i")["outcome"]) == ("resolved", "no_action")
    sink(revised(noise, category="dispute", subtype="neighbour", no_action=False, due_at=a.due_at))
    assert (sink.assignment("i")["status"], sink.assignment("i")["due_at"]) == ("open", START + DAY)


def test_a_settled_incident_opens_for_an_update_and_not_for_a_duplicate(sink: Sink) -> None:
    # keep#2481: a resolved incident must not swallow what is new.
    sink(decision("a", "i"))
    _work_on(sink, "i", status="resolved", outcome="settled", resolved_at=START, resolved_level="village")
    sink(decision("b", "i", link="duplicate", corroborations=2, received=START + HOUR, position=2))
    assert sink.assignment("i")["status"] == "resolved"
    sink(decision("c", "i", link="update", corroborations=3, received=START + 2 * HOUR, due=START + DAY, position=3))
    item = sink.assignment("i")
    assert (item["status"], item["since"], item["due_at"]) == ("open", START + 2 * HOUR, START + 2 * HOUR + DAY)
    assert sink.history("i")[-2:] == ["reopened", "updated"]
    # The fold is told, for it took the incident as closed.
    closure = decode_input(sink.row(outbox, kind="input")["value"])
    assert isinstance(closure, Closure) and (closure.incident_id, closure.closed) == (ident("i"), False)


def test_an_incident_says_what_its_tips_say_together(sink: Sink) -> None:
    sink(
        decision("a", "i", area="anping/xiliangwa", confidence=0.6, title="甲"),
        decision("b", "i", category="other", subtype="noise", confidence=1.0, urgent=True, area=None, position=2),
        decision("c", "i", confidence=0.8, area="anping/xiliangwa/liuchu", title="丙", position=3),
        decision("d", "i", confidence=0.3, area=None, title="丁", position=4),
    )
    item, row = sink.assignment("i"), sink.row(incidents)
    for found in (item, row):
        assert (found["category"], found["subtype"], found["urgent"]) == ("dispute", "neighbour", True)
        assert (found["area"], found["title"]) == ("anping/xiliangwa/liuchu", "甲")


def test_statistics_group_filter_and_count_incidents_once(sink: Sink) -> None:
    sink(
        decision("a", "i"),
        decision("b", "i", link="duplicate", channel="hotline", corroborations=2),
        decision("c", "k", category="fraud", subtype="loan", area=None, occurred=START - DAY - 20 * MINUTE),
    )
    with reading(sink.engine) as connection:

        def ask(*by: str, **where: Any) -> list[dict[str, Any]]:
            return statistics.query(connection, by, county=COUNTY, offset_minutes=480, **where)

        assert ask("category") == [
            {"category": "dispute", "tips": 2, "incidents": 1},
            {"category": "fraud", "tips": 1, "incidents": 1},
        ]
        assert ask() == [{"tips": 3, "incidents": 2}]
        assert ask("hour", "area") == [
            {"hour": "2026-10-06T08:00:00+08:00", "area": None, "tips": 1, "incidents": 1},
            {"hour": "2026-10-07T09:00:00+08:00", "area": "anping/xiliangwa/liuchu", "tips": 2, "incidents": 1},
        ]
        assert ask("township", "hour_of_day")[1] == {
            "township": "anping/xiliangwa", "hour_of_day": 9, "tips": 2, "incidents": 1
        }  # fmt: skip
        assert ask("category", from_ms=START) == [{"category": "dispute", "tips": 2, "incidents": 1}]
        assert ask("category", to_ms=START) == [{"category": "fraud", "tips": 1, "incidents": 1}]
        with pytest.raises(ValueError, match="choose among"):
            ask("weather")
    with reading(sink.engine) as connection:
        assert statistics.query(connection, [], county="nowhere") == []


def test_exported_cells_run_no_formula() -> None:
    for nasty in ("=1+1", "+1", "-1", "@x", "\tx", "\rx", "＝1", "－1", "\0"):
        assert statistics.safe_cell(nasty) == "'" + nasty
    assert statistics.to_csv([{"a": "=x", "b": -1}], ["a", "b"]) == "a,b\r\n'=x,-1\r\n"


def test_positions_are_kept_per_consumer(engine: Engine) -> None:
    with writing(engine) as connection:
        assert position(connection, "fold", "tips", COUNTY) == 0
        set_position(connection, "fold", "tips", COUNTY, 5)
        set_position(connection, "fold", "tips", COUNTY, 7)
        assert position(connection, "fold", "tips", COUNTY) == 7
        assert position(connection, "sink", "tips", COUNTY) == 0


def test_a_dead_letter_is_kept_once_and_settled_once(engine: Engine) -> None:
    letter = dead_letters.DeadLetter(
        id=dead_letters.dead_letter_id("tips", "0", 9),
        county=COUNTY,
        reason="invalid",
        detail="no text",
        topic="tips",
        part="0",
        position=9,
        record_id=None,
        sealed=b"\x00\x01",
        at=START,
    )
    with writing(engine) as connection:
        dead_letters.keep(connection, [letter])
        dead_letters.keep(connection, [letter])
        assert dead_letters.listed(connection) == [letter]
        assert dead_letters.find(connection, letter.id) == letter
        assert dead_letters.settle(connection, letter.id, "replayed", now=START + 1)
        assert not dead_letters.settle(connection, letter.id, "discarded", now=START + 2)
        assert dead_letters.listed(connection) == []
        assert dead_letters.counted(connection) == {("invalid", "replayed"): 1}


def _audited(connection: Connection, entries: int = 20) -> audit.Head:
    for number in range(entries):
        audit.append(connection, at=START, actor="ops", action="reveal", subject=f"tip-{number}", detail={"n": number})
    found = audit.head(connection)
    assert found is not None
    return found


def test_an_untouched_audit_trail_holds(engine: Engine) -> None:
    with writing(engine) as connection:
        anchor = _audited(connection)
        assert audit.verify(connection) is None
        assert audit.verify(connection, anchor) is None


@pytest.mark.parametrize("harm", ["edit", "delete", "swap", "truncate"])
def test_harm_to_the_audit_trail_shows(engine: Engine, harm: str) -> None:
    with writing(engine) as connection:
        anchor = _audited(connection)
        row = audit_table.c.seq
        if harm == "edit":
            connection.execute(update(audit_table).where(row == 7).values(actor="nobody"))
        elif harm == "delete":
            connection.execute(delete(audit_table).where(row == 7))
        elif harm == "truncate":
            connection.execute(delete(audit_table).where(row > 15))
        else:
            for old, new in ((7, 100), (8, 7), (100, 8)):
                connection.execute(update(audit_table).where(row == old).values(seq=new))
        assert audit.verify(connection, anchor) is not None


def _token(engine: Engine, seed: int, **changes: Any) -> str:
    who = {"token_id": "", "role": "intake", "source": "wechat:x", **changes}
    expires = who.pop("expires_at", None)
    with writing(engine) as connection:
        made = Principal(**who)
        entropy = random.Random(seed).randbytes(40)
        return tokens.create(connection, entropy=entropy, principal=made, now=START, expires_at=expires)


def test_a_token_is_known_until_it_ends(engine: Engine) -> None:
    now = [START]
    authority = tokens.DatabaseAuthority(engine, lambda: now[0])
    good, short = _token(engine, 1), _token(engine, 2, expires_at=START + MINUTE)
    found = authority.principal(good)
    assert found is not None and (found.role, found.source) == ("intake", "wechat:x")
    assert authority.principal(short) is not None
    for wrong in (
        good[:-1],
        good + "x",
        "",
        "tl__",
        "tl_x_y",
        "x" * 100,
        "tl_\0_a",
        "令牌",
        good.replace("tl_", "TL_"),
    ):
        assert authority.principal(wrong) is None
    with writing(engine) as connection:
        assert good.split("_", 2)[2] not in repr(dump(engine))
        assert tokens.revoke(connection, good.split("_")[1], now=START)
        assert not tokens.revoke(connection, good.split("_")[1], now=START)
    now[0] += tokens.CACHE_MS
    assert authority.principal(good) is None
    assert authority.principal(short) is not None
    now[0] = START + MINUTE
    assert authority.principal(short) is None


def test_a_stations_token_names_its_station(engine: Engine) -> None:
    with pytest.raises(ValueError, match="station"):
        _token(engine, 1, role="station", source=None)
    with pytest.raises(ValueError, match="station"):
        _token(engine, 1, role="intake", station="police-madian")
    assert _token(engine, 1, role="station", source=None, station="police-madian").startswith("tl_")


def test_migrations_make_what_the_metadata_says(engine: Engine) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with writing(engine) as connection:
        assert version(connection) == HEAD
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    migrate(engine)


@pytest.mark.parametrize("older", ["0001", "0002", "0003"])
def test_an_older_database_is_brought_up_with_all_it_holds(older: str, sink: Sink) -> None:
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    sink(*random_log(2, 20))
    with writing(sink.engine) as connection:
        command.downgrade(migrations(connection), older)
        assert version(connection) == older
        there = [table for table in metadata.sorted_tables if inspect(connection).has_table(table.name)]
    assert 0 < len(there) < len(metadata.sorted_tables)
    before = dump(sink.engine, there)
    assert before["decisions"] and before["assignments"] and before["statistics"]
    migrate(sink.engine)
    assert dump(sink.engine, there) == before
    with reading(sink.engine) as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_a_database_of_a_later_version_is_refused(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(FutureDatabase, match="9999"):
        migrate(engine)


def test_an_unknown_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="sqlite"):
        open_database("mysql://localhost/x")


def test_sqlite_commits_reach_the_disk(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'work.db'}")
    with reading(engine) as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
    engine.dispose()
