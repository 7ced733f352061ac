"""What survives: SIGKILL in mid-traffic, every named crash point, SIGTERM under load, a full disk, a pause past a lease, a
clock that jumps. After each, `verify` compares what the clients were told with what the store holds.

Clients are four threads with a ledger outside the store; an answer that never came is asked for again with the same
message_id until there is one.
"""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from schemas.times import DAY, HOUR
from schemas.vocabulary import Role
from sinks.failpoints import EXIT_STATUS, NAMES
from tests.crowd import CLIENTS, Crowd, checked, settle, tip
from tests.ports import free_port
from tipline.settings import load_settings
from tipline.store import Store, now_ms
from tipline.testing import Client, Ledger, Lost, Sender, Served, make_token
from tipline.verify import Report


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A service, not yet started."""
    made = Served(tmp_path / "data", {"TIPLINE_RATE": "100000"}, port=free_port())
    yield made
    made.close()


@pytest.fixture
def client(served: Served) -> Iterator[Callable[..., Client]]:
    """Makes clients of the service, by role."""
    made: list[Client] = []

    def make(role: Role = "intake", **scope: str) -> Client:
        made.append(Client(served, make_token(served.data, role, **scope)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def kill_many(served: Served, folder: Path, kills: int) -> tuple[Report, int, int]:
    """SIGKILLs in mid-traffic -> (report, how many of them were, items that stations settled)."""
    dice = random.Random(kills)
    served.start()
    crowd = Crowd(served, folder, stations=True)
    felt = 0
    for _ in range(kills):
        crowd.wait_for(1 + dice.randrange(4))
        time.sleep(dice.uniform(0, 0.3))
        before = crowd.accepted
        felt += crowd.working() and served.alive
        served.kill()
        assert served.start() < 30
        crowd.wait_for(1)
        assert crowd.accepted > before
    crowd.wait_for(CLIENTS)
    crowd.finish()
    settle(served)
    assert served.stop() == 0
    canary = folder / "canary"
    canary.write_text("13800138127\n")
    report = checked(served.data, crowd.ledger.path, canary=canary)
    assert report.facts["ledger_ok"] == report.facts["tips"] == report.facts["decided"]
    return report, felt, crowd.settled


def test_kills_in_mid_traffic_lose_and_double_nothing(served: Served, tmp_path: Path) -> None:
    report, felt, settled = kill_many(served, tmp_path, 6)
    assert felt == 6 and report.facts["tips"] >= 6 * 2 and settled > 0


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_hundred_kills_lose_and_double_nothing(served: Served, tmp_path: Path) -> None:
    report, felt, settled = kill_many(served, tmp_path, 100)
    print(f"\n{felt} of 100 kills in mid-traffic, {report.facts}, {settled} settled by stations")
    assert felt >= 90 and report.facts["tips"] >= 500 and settled > 0


#: `move.*` have a test of their own: they are passed when a station works.
POINTS = sorted(name for name in NAMES if not name.startswith("move."))


def test_every_named_crash_point_is_survived(served: Served, client: Callable[..., Client], tmp_path: Path) -> None:
    ledger, numbers = Ledger(tmp_path / "ledger.ndjson"), count()
    for turn, point in enumerate(POINTS):
        # The first passes are those of the start: the county and the model are put in force.
        served.start({"TIPLINE_FAILPOINT": f"{point}:{5 + turn % 3}"})
        sender = Sender(client(), ledger, lambda: not served.alive)
        end = time.monotonic() + 30
        while served.alive:
            assert time.monotonic() < end, point
            try:
                sender.post(tip(next(numbers), "wechat:a"))
            except Lost:
                break
        assert served.wait(10) == EXIT_STATUS, point
    told = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    unresolved = [e["message_id"] for e in told if e["outcome"] == "unknown"]
    served.start()
    sender = Sender(client(), ledger)
    for message_id in unresolved:
        sender.post(tip(int(message_id[1:]), "wechat:a") | {"message_id": message_id})
    settle(served)
    assert served.stop() == 0
    report = checked(served.data, ledger.path)
    assert report.facts["tips"] == report.facts["decided"] >= len(POINTS)


#: What a station's three moves make of an item, from one to the next.
STATES = ("open", "claimed", "acknowledged", "resolved")


def test_every_crash_point_of_a_stations_move_is_survived(
    served: Served, client: Callable[..., Client], tmp_path: Path
) -> None:
    """Killed just before or after the commit of each move: it was made not at all or wholly, and work goes on from there."""
    ledger, queue = Ledger(tmp_path / "ledger.ndjson"), "/v1/stations/police-xiliangwa"
    villages = ("大邵村", "留楚村", "西两洼村", "东两洼村", "小王庄村", "南白村")
    cases = [(point, move) for point in ("move.before_commit", "move.after_commit") for move in (1, 2, 3)]
    sender, officer = Sender(client(), ledger), client("county")
    done = 3  # moves made on the item of the case before
    for number, ((point, move), village) in enumerate(zip(cases, villages, strict=True)):
        served.start({"TIPLINE_FAILPOINT": f"{point}:{3 - done + move}"})
        if number:
            check_and_finish(officer, queue, villages[number - 1], STATES[done])
        text = f"西两洼乡{village}东头柴火垛着了，离房子就十来米，快来人"
        sender.post({"message_id": village, "source": "wechat:xiliangwa-3", "text": text})
        with pytest.raises(Lost):
            while True:
                work_on(officer, queue)
        assert served.wait(10) == EXIT_STATUS
        done = move if point == "move.after_commit" else move - 1
    served.start()
    check_and_finish(officer, queue, villages[-1], STATES[done])
    settle(served)
    assert served.stop() == 0
    checked(served.data, ledger.path)


def check_and_finish(officer: Client, queue: str, village: str, status: str) -> None:
    """The village's item stands at `status`, and can be worked on to its end."""

    def item() -> str:
        items = officer.get(f"{queue}/assignments?status={','.join(STATES)}&limit=100").document["items"]
        (found,) = (str(one["status"]) for one in items if village in one["title"])
        return found

    assert item() == status
    while item() != "resolved":
        work_on(officer, queue)


def work_on(officer: Client, queue: str) -> None:
    """The next move on what stands on the queue. Raises Lost."""
    for item in officer.get(f"{queue}/assignments?limit=100").document["items"]:
        path, version = f"/v1/assignments/{item['id']}", {"if-match": f'"{item["revision"]}"'}
        if item["status"] == "open":
            officer.send(f"{queue}/claim", {"limit": 1, "lease_s": 60})
        elif item["status"] == "claimed":
            officer.send(f"{path}/acknowledge", {}, {"if-match": f'"{item["lease"]["token"]}"'})
        elif item["status"] == "acknowledged":
            officer.send(f"{path}/resolve", {"outcome": "settled", "text": "扑灭"}, version)


def test_an_end_in_order_under_load_answers_everyone_within_ten_seconds(served: Served, tmp_path: Path) -> None:
    served.start()
    crowd = Crowd(served, tmp_path)
    crowd.wait_for(40)
    began = time.monotonic()
    assert served.stop(10) == 0
    assert time.monotonic() - began < 10
    # A request that was under way got its answer; at most one a client crossed the closing of its idle connection.
    assert crowd.ledger.counts["unknown"] <= CLIENTS
    served.start()
    crowd.wait_for(CLIENTS)
    crowd.finish()
    settle(served)
    served.stop()
    checked(served.data, crowd.ledger.path)


def test_a_full_disk_is_503_and_what_was_accepted_stays(
    served: Served, client: Callable[..., Client], tmp_path: Path
) -> None:
    served.start({"TIPLINE_MAX_BYTES": "200000"})
    ledger = Ledger(tmp_path / "ledger.ndjson")
    link, numbers = client(), count()

    def refused() -> bool:
        answer = link.send("/v1/tips", tip(number := next(numbers), "wechat:a"))
        assert answer.status in (202, 503)
        if answer.status == 202:
            ledger.note("ok", "wechat:a", f"m{number}", answer.document["tip_id"])
        else:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["content-type"] == "application/problem+json"
            ledger.note("refused", "wechat:a", f"m{number}")
        return answer.status == 503

    while not refused():
        assert ledger.counts["ok"] < 2000
    assert ledger.counts["ok"] > 20
    # Full stays full: a long text finds no room, and decisions of what was accepted go on.
    big = {**tip(0, "wechat:a"), "text": "大" * 4000}
    assert {link.send("/v1/tips", {**big, "message_id": f"big{n}"}).status for n in range(10)} == {503}
    settle(served)
    assert served.stop() == 0
    served.start()
    sender = Sender(link, ledger)
    for _ in range(20):
        sender.post(tip(next(numbers), "wechat:a"))
    settle(served)
    assert served.stop() == 0
    assert checked(served.data, ledger.path).facts["ledger_ok"] == ledger.counts["ok"]


def test_a_pause_past_the_lease_ends_the_claim(served: Served, client: Callable[..., Client], tmp_path: Path) -> None:
    served.start()
    ledger = Ledger(tmp_path / "ledger.ndjson")
    fire = {"text": "大邵村东头柴火垛着了，离房子就十来米，快来人", "source": "wechat:a", "message_id": "m"}
    Sender(client(), ledger).post(fire)
    settle(served)
    station = client("station", station="police-xiliangwa")
    claim = "/v1/stations/police-xiliangwa/claim"
    first = station.send(claim, {"limit": 1, "lease_s": 1}).document["items"][0]
    path = f"/v1/assignments/{first['id']}"
    served.signal(signal.SIGSTOP)
    time.sleep(1.3)
    served.signal(signal.SIGCONT)
    late = station.send(f"{path}/acknowledge", {}, {"if-match": f'"{first["lease"]["token"]}"'})
    assert late.status == 412
    second = station.send(claim, {"limit": 1, "lease_s": 60}).document["items"][0]
    assert second["id"] == first["id"] and second["lease"]["token"] > first["lease"]["token"]
    again = station.send(f"{path}/acknowledge", {}, {"if-match": f'"{first["lease"]["token"]}"'})
    assert again.status == 412
    taken = station.send(f"{path}/acknowledge", {}, {"if-match": f'"{second["lease"]["token"]}"'})
    assert taken.status == 200
    served.stop()
    checked(served.data, ledger.path)


@pytest.mark.parametrize("jump", [-DAY, DAY, -HOUR], ids=["a day back", "a day on", "an hour back"])
def test_a_clock_that_jumps_breaks_nothing(jump: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's clock is set while the service runs: no negative figure, nothing lost, due times still follow."""
    from streams.ports import Principal
    from tipline import serve

    ahead = [0]
    monkeypatch.setattr(serve, "now_ms", lambda: now_ms() + ahead[0])
    embedded = serve.Embedded(Store(load_settings({}, {"data": str(tmp_path / "data")})))
    ledger = Ledger(tmp_path / "ledger.ndjson")
    principal = Principal("t", "intake", None, None, "anping")
    for number in range(30):
        ahead[0] = jump if number >= 10 else 0
        submission = tip(number, "wechat:a")
        admitted = embedded.door.admit(submission, principal, embedded.door.clock())
        (accepted,) = embedded.store.intake.accept([admitted])
        ledger.note("ok", "wechat:a", submission["message_id"], accepted.tip_id)
        if number % 3 == 0:
            for runtime in embedded.runtimes:
                runtime.run_once()
    for runtime in embedded.runtimes:
        while runtime.run_once():
            pass
    figures = embedded.metrics.render().decode()
    sums = [float(line.split()[-1]) for line in figures.splitlines() if "_seconds_sum" in line]
    assert sums and min(sums) >= 0
    embedded.stop()
    checked(tmp_path / "data", ledger.path)
