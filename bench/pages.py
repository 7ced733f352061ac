"""The console under load: a queue of 10,000 open items, live arrivals, and what Chromium makes of it.

usage: python -m bench.pages [--quick]
"""

from __future__ import annotations

import http.client
import re
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from bench.machine import Figure, calibrate, percentile

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

OPEN = 10_000
STATION, EMPTY = "police-anping", "police-dahezhuang"
#: Urgent, so that it stands on the first page of the queue; days from all others, so that none joins another.
TEXT = "第{n}号：安平镇有人拿刀追着人砍，快来人"
#: New tips of one run: each three days before the last, and none so old that its time would be clamped.
TIPS = 28

#: Notes when a text is on the screen: after it stands in the page, at the next frame.
WATCH = """
window.__seen = {};
new MutationObserver(() => requestAnimationFrame(() => {
  for (const title of document.querySelectorAll('#items .title')) window.__seen[title.textContent.match(/第[0-9]+号/)] ??= Date.now();
})).observe(document.getElementById('queue'), {childList: true, subtree: true});
"""
FILTER = """
const done = arguments[1], field = document.querySelector('#filters [name=category]'), began = performance.now();
document.addEventListener('htmx:afterSettle', () => requestAnimationFrame(() => done(performance.now() - began)), {once: true});
field.value = arguments[0];
field.dispatchEvent(new Event('change', {bubbles: true}));
"""
STEP = """
const done = arguments[0], began = performance.now();
document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'j', bubbles: true}));
requestAnimationFrame(() => done(performance.now() - began));
"""


class Officer:
    """Somebody logged in at the console, by plain HTTP."""

    def __init__(self, url: str, token: str) -> None:
        self._where = urlsplit(url).netloc
        self.cookies: dict[str, str] = {}
        page = self.ask("GET", "/login")[1]
        form = re.search(r'name="form_token" value="([^"]+)"', page)
        assert form is not None
        status, _ = self.ask("POST", "/login", {"form_token": form.group(1), "token": token})
        assert status == 303, status

    def ask(self, method: str, path: str, fields: dict[str, str] | None = None) -> tuple[int, str]:
        """One request -> status and page."""
        connection = http.client.HTTPConnection(self._where, timeout=30)
        connection.request(method, path, urlencode(fields) if fields else None, self._headers(fields is not None))
        answer = connection.getresponse()
        page = answer.read().decode()
        for name, value in answer.getheaders():
            if name.lower() == "set-cookie":
                key, _, rest = value.partition("=")
                self.cookies[key] = rest.partition(";")[0]
        connection.close()
        return answer.status, page

    def listen(self, path: str) -> http.client.HTTPResponse:
        """A live connection."""
        connection = http.client.HTTPConnection(self._where, timeout=30)
        connection.request("GET", path, headers=self._headers(form=False))
        return connection.getresponse()

    def _headers(self, form: bool) -> dict[str, str]:
        found = {"Cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        return {**found, "Content-Type": "application/x-www-form-urlencoded"} if form else found


def run(quick: bool) -> list[Figure]:
    """Server time of a large queue, and how long a new tip takes to the live connection and to the screen."""
    from schemas.times import DAY, format_time
    from tipline.testing import Client, Served, make_token

    rounds = 20 if quick else 60
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        served = stack.enter_context(Served(folder / "data", {"TIPLINE_RATE": "1000000"}))
        admin, intake = make_token(served.data, "admin"), make_token(served.data, "intake")
        fill(served.data)
        officer, client = Officer(served.url, admin), stack.enter_context(Client(served, intake))
        before = calibrate()
        large, small = [], []
        for _ in range(rounds):  # by turns: a neighbour's noise falls on both
            large.append(timed(lambda: officer.ask("GET", f"/console?station={STATION}")))
            small.append(timed(lambda: officer.ask("GET", f"/console?station={EMPTY}")))
        numbers = iter(range(TIPS))

        def tell() -> tuple[str, float]:
            number = next(numbers)
            at = format_time(int(time.time() * 1000) - (number + 1) * 3 * DAY, 480)
            tip = {"text": TEXT.format(n=number), "source": "bench:pages", "place": {"area": "anping/anping"}, "reported_at": at}
            answer = client.send("/v1/tips", tip)
            assert answer.status == 202, answer
            return tip["text"], time.time()  # type: ignore[return-value]

        live = arrivals(officer, tell, TIPS // 2)
        figures = [
            Figure(f"queue page, {OPEN:,} open (p50, p99)", f"{ms(large, 0.5)}, {ms(large, 0.99)} ms", "< 300 ms", percentile(large, 0.99) < 0.3),
            Figure("the same : an empty queue (p50)", f"{percentile(large, 0.5) / percentile(small, 0.5):.1f} ({ms(small, 0.5)} ms)"),
            Figure("202 -> live connection (p50, p99)", f"{ms(live, 0.5)}, {ms(live, 0.99)} ms", "< 1 s", percentile(live, 0.99) < 1),
        ]
        if shutil.which("chromium") and shutil.which("chromedriver"):
            figures += on_screen(served.url, admin, tell, TIPS // 2)
        else:
            figures.append(Figure("in Chromium", "not measured: no chromium with chromedriver"))
        after = calibrate()
    return [*figures, Figure("calibration beside it", f"{(before + after) / 2:.0f} k loops/s")]


def ms(seconds: list[float], share: float) -> str:
    """A percentile in ms."""
    return f"{percentile(seconds, share) * 1000:.0f}"


def timed(act: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def fill(data: Path) -> None:
    """Open items on one station's queue that no tip made; one in fifty urgent."""
    from schemas.times import MINUTE
    from schemas.vocabulary import CATEGORIES
    from sinks.database import writing
    from sinks.tables import assignments
    from tipline.settings import load_settings
    from tipline.store import Store, now_ms

    store, now = Store(load_settings({}, {"data": str(data)})), now_ms()
    rows = []
    for number in range(OPEN):
        identity, urgent = str(uuid.UUID(int=number)), number % 50 == 0
        rows.append({
            "id": identity, "incident_id": identity, "county": "anping", "station": STATION, "status": "open", "level": "township",
            "category": CATEGORIES[number % 5], "subtype": None, "urgent": urgent, "area": "anping/anping", "title": f"第{number}件：路灯坏了，晚上看不见路",
            "corroborations": 1, "route_id": "bench", "dispatched_at": now, "since": now, "clock": "claim", "due_at": now + MINUTE * (number + 600),
            "overdue": False, "wake_at": now + 10**9, "revision": 1, "events": 0, "returns": 0, "returned_by": "", "touched": False, "rank": 0 if urgent else 1,
        })  # fmt: skip
    with writing(store.engine) as connection:
        connection.execute(assignments.insert(), rows)
    store.close()


def arrivals(officer: Officer, tell: Callable[[], tuple[str, float]], rounds: int) -> list[float]:
    """Seconds from each 202 to the news of it on the station's live connection."""
    stream = officer.listen(f"/console/events?station={STATION}")
    assert stream.readline().startswith(b"retry")
    found = []
    for _ in range(rounds):
        _, told = tell()
        while not stream.readline().startswith(b"event: changed"):
            pass
        found.append(max(0.0, time.time() - told))
    stream.close()
    return found


def on_screen(url: str, token: str, tell: Callable[[], tuple[str, float]], rounds: int) -> list[Figure]:
    """Seconds in Chromium: from a 202 to the item's frame, and from a touch of the officer to its frame."""
    with ExitStack() as stack:
        driver = chromium(stack)
        driver.get(url + "/login")
        driver.execute_script("document.querySelector('[name=token]').value = arguments[0]; document.querySelector('[name=token]').form.submit()", token)
        wait(lambda: "/login" not in driver.current_url)
        driver.get(f"{url}/console?station={STATION}&lang=zh")
        wait(lambda: driver.execute_script("return document.getElementById('live').textContent !== ''"))
        driver.execute_script(WATCH)
        seen = []
        for _ in range(rounds):
            text, told = tell()
            at = wait(lambda text=text: driver.execute_script("return window.__seen[arguments[0]]", text.partition("：")[0]))  # type: ignore[misc]
            seen.append(max(0.0, at / 1000 - told))
        filters = [driver.execute_async_script(FILTER, category) / 1000 for category in ("theft", "fraud", "", "dispute", "other") * 4]
        keys = [driver.execute_async_script(STEP) / 1000 for _ in range(20)]
    return [
        Figure("202 -> on the screen (p50, p99)", f"{ms(seen, 0.5)}, {ms(seen, 0.99)} ms", "< 1 s", percentile(seen, 0.99) < 1),
        Figure("a filter -> its frame (p50, p99)", f"{ms(filters, 0.5)}, {ms(filters, 0.99)} ms", "< 100 ms", percentile(filters, 0.5) < 0.1),
        Figure("a key -> its frame (p50, p99)", f"{ms(keys, 0.5)}, {ms(keys, 0.99)} ms", "< 100 ms", percentile(keys, 0.5) < 0.1),
    ]


def chromium(stack: ExitStack) -> Chrome:
    """A browser of its own, ended with the stack."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    profile = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
    flags = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    for flag in (*flags, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium") or ""
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    stack.callback(driver.quit)
    return driver


def wait(question: Callable[[], Any], seconds: float = 30) -> Any:
    """Asks until the answer is truthy."""
    end = time.monotonic() + seconds
    while not (found := question()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
    return found


if __name__ == "__main__":
    for figure in run("--quick" in sys.argv):
        print(f"{figure.what:40} {figure.value:24} {figure.aim}")
