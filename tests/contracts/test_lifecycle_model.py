"""The life cycle against a simple model of it, driven by hypothesis, on SQLite and PostgreSQL.

The model knows the police's ladder by heart (claim 2 h, act 24 h, resolve 10 d and at the county 30 d, all wall
clocks) and nothing of the code: a status, a place, a few times.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from schemas.errors import Rejected
from schemas.times import DAY, HOUR, MINUTE, SECOND
from sinks.tables import NEVER
from streams.stages.county import County
from tests.contracts.made import START, anping, decision
from tests.contracts.office import POLICE, Office

LIMITS = {"claim": 2 * HOUR, "act": DAY}
RESOLVE = {"township": 10 * DAY, "county": 30 * DAY}
CLOCKS = {"open": "claim", "claimed": "act", "acknowledged": "act", "in_progress": "resolve"}
ALLOWED = {
    "open": {"claim", "return", "transfer", "escalate", "note"},
    "claimed": {"heartbeat", "acknowledge", "start", "release", "return", "transfer", "escalate", "resolve", "note"},
    "acknowledged": {"start", "release", "return", "transfer", "escalate", "resolve", "note"},
    "in_progress": {"release", "return", "transfer", "escalate", "resolve", "note"},
    "resolved": {"reopen", "note"},
}
BODIES: dict[str, dict[str, Any]] = {
    "return": {"reason": "属地不符"},
    "transfer": {"reason": "x"},
    "escalate": {"reason": "x"},
    "resolve": {"outcome": "settled"},
    "note": {"text": "x"},
}


class Model:
    """What ought to be so."""

    def __init__(self, now: int) -> None:
        self.status, self.station, self.level, self.returns = "open", POLICE, "township", 0
        self.since = now
        self.due = now + LIMITS["claim"]
        self.lease = NEVER
        self.overdue = False
        self.returned: set[str] = set()
        self.history = ["dispatched"]

    def settle(self, now: int) -> None:
        while self.status != "resolved":
            clock = NEVER if self.overdue else self.due
            lease = self.lease if self.status == "claimed" else NEVER
            if min(clock, lease) > now:
                return
            if lease <= self.due or self.overdue:
                self.lay_open(lease)
                self.history.append("expired")
            elif self.top():
                self.overdue = True
                self.history.append("overdue")
            else:
                self.climb(self.due)
                self.history.append("escalated")

    def top(self) -> bool:
        return self.level == "county"

    def climb(self, at: int) -> None:
        self.station, self.level, self.since = "police-county", "county", at
        self.status, self.due, self.overdue = "open", at + LIMITS["claim"], False

    def lay_open(self, now: int) -> None:
        if self.status == "open":
            return
        first = self.since + LIMITS["claim"]
        self.due = first if now < first else min(self.due, now + LIMITS["claim"])
        self.status = "open"
        self.overdue = self.overdue and self.due <= now

    def run(self, status: str, now: int) -> None:
        self.status, self.overdue = status, False
        last = self.since + RESOLVE[self.level]
        self.due = last if CLOCKS[status] == "resolve" else self.since + LIMITS[CLOCKS[status]]
        if CLOCKS[status] == "act" and self.due <= now:
            self.due = min(now + LIMITS["act"], last) if last > now else now + LIMITS["act"]

    def allows(self, move: str) -> bool:
        if move == "return" and self.station == "county-final":
            return False
        if move == "escalate" and self.top():
            return False
        return move in ALLOWED[self.status]

    def make(self, move: str, now: int, argument: Any) -> None:
        if move in ("claim", "heartbeat"):
            self.lease = now + argument * SECOND
            if move == "claim":
                self.run("claimed", now)
        elif move in ("acknowledge", "start"):
            self.run({"acknowledge": "acknowledged", "start": "in_progress"}[move], now)
        elif move == "resolve":
            self.status, self.due, self.overdue = "resolved", NEVER, False
        elif move == "reopen":
            self.since = now
            self.run("open", now)
        elif move == "escalate":
            self.climb(now)
        elif move in ("release", "return", "transfer"):
            self.lay_open(now)
            self.go(move, argument)
        self.history.append(
            {"claim": "claimed", "acknowledge": "acknowledged", "start": "started", "release": "released", "return": "returned",
             "transfer": "transferred", "escalate": "escalated", "resolve": "resolved", "reopen": "reopened", "note": "noted"}.get(move, move)
        )  # fmt: skip

    def go(self, move: str, argument: Any) -> None:
        if move == "transfer":
            self.station = argument
            self.level = "county" if argument in ("police-county", "county-triage") else "township"
        elif move == "return":
            self.returns += 1
            self.returned.add(self.station)
            first = self.returns < 2 and "county-triage" not in self.returned
            self.station, self.level = ("county-triage" if first else "county-final"), "county"


_names = count()


def machine(office: Office) -> type[RuleBasedStateMachine]:  # noqa: C901
    class Life(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.name = f"model-{next(_names)}"
            self.model = Model(office.now)
            self.stale: list[str] = []
            given = {
                "station": POLICE,
                "route_id": "police",
                "level": "township",
                "category": "theft",
                "subtype": "burglary",
            }
            # Claims take the most urgent first: this one is urgent, those of earlier runs are moved out of the way.
            office.decide(
                decision(
                    self.name, self.name, received=office.now, due=office.now + 2 * HOUR, position=next(_names), **given
                )
            )

        def teardown(self) -> None:
            """Leaves no open item to the next run."""
            office.tick()
            self.model.settle(office.now)
            if office.row(self.name)["status"] == "open":
                self._claim_mine(60)
            if office.row(self.name)["status"] != "resolved":
                office.move(self.name, "resolve", outcome="end")

        def _claim_mine(self, lease_s: int) -> None:
            items = office.claim(self.model.station, 100, lease_s=lease_s)
            assert office.row(self.name)["id"] in [item["id"] for item in items]

        @rule(step=st.sampled_from([SECOND, MINUTE, HOUR, 2 * HOUR - 1, DAY, 10 * DAY]), scan=st.booleans())
        def time_passes(self, step: int, scan: bool) -> None:
            office.now += step
            if scan:
                self.model.settle(office.now)
                office.tick()

        @rule()
        def restart(self) -> None:
            office.restart()

        @rule(lease_s=st.sampled_from([1, 60, 7200]))
        def claim(self, lease_s: int) -> None:
            # No scan has been by: a claim settles what came due, on its queue and on those below.
            self.model.settle(office.now)
            if self.model.status == "open":
                self.model.make("claim", office.now, lease_s)
                self._claim_mine(lease_s)

        @rule(
            move=st.sampled_from(
                ["heartbeat", "acknowledge", "start", "release", "return", "escalate", "resolve", "reopen", "note"]
            ),
        )
        def move(self, move: str) -> None:
            self._attempt(
                move,
                {"heartbeat": 60}.get(move),
                {**BODIES.get(move, {}), **({"lease_s": 60} if move == "heartbeat" else {})},
            )

        @rule(to=st.sampled_from([POLICE, "police-madian", "police-county", "county-triage"]))
        @precondition(lambda self: True)
        def transfer(self, to: str) -> None:
            if to != self.model.station:
                self._attempt("transfer", to, {**BODIES["transfer"], "station": to})

        def _attempt(self, move: str, argument: Any, body: dict[str, Any]) -> None:
            row = office.row(self.name)
            due_now = self._comes_due()
            try:
                office.move(self.name, move, **body)
            except Rejected as error:
                # 412: something came due first, so the caller has not read what is so now.
                assert error.status == (412 if due_now else 409), error
                assert due_now or not self.model.allows(move)
                assert office.row(self.name) == row
            else:
                self.model.settle(office.now)
                assert self.model.allows(move), move
                self.model.make(move, office.now, argument)

        def _comes_due(self) -> bool:
            lease = self.model.lease if self.model.status == "claimed" else NEVER
            clock = NEVER if self.model.overdue else self.model.due
            return self.model.status != "resolved" and min(lease, clock) <= office.now

        @rule(index=st.integers(0, 20))
        def a_stale_version_is_refused(self, index: int) -> None:
            row = office.row(self.name)
            current = f'"{row["lease_token"] if row["status"] == "claimed" else row["revision"]}"'
            old = [match for match in self.stale if match != current]
            if old:
                with pytest.raises(Rejected) as caught:
                    office.move(self.name, "note", match=old[index % len(old)], text="x")
                assert caught.value.status == 412
            self.stale.append(current)

        @invariant()
        def they_agree(self) -> None:
            row = office.row(self.name)
            if not self._comes_due():
                found = (row["status"], row["station"], row["level"], row["due_at"], row["overdue"], row["returns"])
                model = self.model
                assert found == (model.status, model.station, model.level, model.due, model.overdue, model.returns)
            assert office.kinds(self.name) == self.model.history
            assert [event["number"] for event in office.history(self.name)] == list(
                range(1, len(self.model.history) + 1)
            )

    return Life


@pytest.fixture(scope="module")
def county() -> County:
    return anping()


def _drive(url: str, county: County, examples: int, steps: int) -> None:
    office = Office(url, county, START)
    limits = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine(office), settings=limits)
    finally:
        office.close()


def test_the_life_cycle_does_what_the_model_says(database_url: str, county: County) -> None:
    _drive(database_url, county, 40, 30)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_life_cycle_does_what_the_model_says_at_length(database_url: str, county: County) -> None:
    _drive(database_url, county, 200, 50)
