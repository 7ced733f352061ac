"""What must have become of the day's named examples: the outcome a duty officer would expect of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

Decided = Mapping[str, Mapping[str, Any]]


class Seen(msgspec.Struct, frozen=True):
    """What the outcome is judged by: each row's decision, and the queue's items by incident."""

    decided: Decided
    queue: Mapping[str, Mapping[str, Any]]

    def __getitem__(self, name: str) -> Mapping[str, Any]:
        return self.decided[name]

    def incidents(self, *names: str) -> set[str]:
        """The incidents that the rows belong to."""
        return {self.decided[name]["incident_id"] for name in names}

    def on_queue(self, name: str) -> Mapping[str, Any] | None:
        """The queue's item of a row's incident."""
        return self.queue.get(self.decided[name]["incident_id"])


class Example(msgspec.Struct, frozen=True):
    """One example: its title, what must hold, and each condition by name."""

    id: str
    zh: str
    en: str
    holds: Callable[[Seen], Mapping[str, bool]]


class Outcome(msgspec.Struct, frozen=True):
    """How an example came out; `missed` are the conditions that do not hold."""

    id: str
    zh: str
    en: str
    missed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all of it holds."""
        return not self.missed


#: The storm's forwards, without the hotline's call and the later news.
STORM: Final = tuple(f"storm-{n}" for n in (*range(1, 19), 20, 22))
FAKES: Final = tuple(f"fake-{n}" for n in range(1, 6))
LOST: Final = 32_700.0


def _storm(seen: Seen) -> Mapping[str, bool]:
    item = seen.on_queue("storm-1")
    return {
        "one incident": len(seen.incidents(*STORM)) == 1,
        "gas, urgent": all(seen[n]["subtype"] == "gas" and seen[n]["urgent"] for n in STORM),
        "one item that counts them": item is not None and item["corroborations"] >= len(STORM),
        "at the township's police": item is not None and item["station"] == "police-anping",
    }


def _congestion(seen: Seen) -> Mapping[str, bool]:
    return {
        "one incident": len(seen.incidents("queue-1", "queue-2")) == 1,
        "moved on, not new": seen["queue-2"]["link"] == "update",
        "traffic": seen["queue-1"]["subtype"] == "traffic",
    }


def _cable(seen: Seen) -> Mapping[str, bool]:
    names = ("cable-1", "cable-2", "cable-3", "cable-4")
    lengths = [(q["value"], q["unit"]) for n in names for q in seen[n]["quantities"]]
    return {
        "forwards and the hotline's words are one": len(seen.incidents(*names)) == 1,
        "theft of cable": seen["cable-1"]["subtype"] == "cable_industrial",
        "300 m read": any(value == 300 for value, _ in lengths),
        "four corroborations": seen["cable-1"]["corroborations"] >= 4,
    }


def _villages(seen: Seen) -> Mapping[str, bool]:
    return {
        "two incidents": len(seen.incidents("tree-1", "tree-2")) == 2,
        "each to its own village": (seen["tree-1"]["station"], seen["tree-2"]["station"])
        == ("village-xiliangwa-dashaocun", "village-madian-peijiaying"),
    }


def _recurrence(seen: Seen) -> Mapping[str, bool]:
    later = seen["land-2"]
    return {
        "not merged": len(seen.incidents("land-1", "land-2")) == 2,
        "linked to the quarrel": later["link"] in ("recurrence", "suggested")
        and later["link_to"] == seen["land-1"]["incident_id"],
        "known as a recurrence": later["link"] == "recurrence",
        "now with the police": later["station"] == "police-xiliangwa",
        "mediation reads along": "mediation-xiliangwa" in later["cc"],
    }


def _pattern(seen: Seen) -> Mapping[str, bool]:
    patterns = {seen[n]["pattern_id"] for n in FAKES}
    lost = {n: max((q["value"] for q in seen[n]["quantities"] if q["unit"] == "元"), default=0.0) for n in FAKES}
    return {
        "five incidents": len(seen.incidents(*FAKES)) == 5,
        "one pattern": len(patterns) == 1 and None not in patterns,
        "false customer service": all(seen[n]["subtype"] == "fake_customer_service" for n in FAKES),
        "the loss added up": sum(lost.values()) == LOST,
    }


def _wallet(seen: Seen) -> Mapping[str, bool]:
    return {
        "lost and found": seen["wallet-1"]["subtype"] == "lost_found",
        "the card's number is sealed": "6222020402001234560" not in str(seen["wallet-1"]),
        "suggested, a person decides": seen["wallet-2"]["link"] == "suggested",
    }


def _poppy(seen: Seen) -> Mapping[str, bool]:
    told = seen["poppy-1"]
    return {
        "drug plants": told["subtype"] == "drug_plant",
        "the drug squad alone": told["station"] == "drug-county" and not told["cc"],
    }


def _graft(seen: Seen) -> Mapping[str, bool]:
    told = seen["graft-1"]
    return {"not to the accused": told["station"] == "supervision-county" and "police-xiliangwa" not in told["cc"]}


def _threat(seen: Seen) -> Mapping[str, bool]:
    return {
        "the knife is urgent": seen["knife-1"]["urgent"],
        "the reason quotes it": any("刀" in r["cue"] for r in seen["knife-1"]["reasons"]),
        "knife-cut noodles are not": not seen["noodle-1"]["urgent"],
    }


def _publicity(seen: Seen) -> Mapping[str, bool]:
    told = [seen[n] for n in ("adv-1", "adv-2")]
    return {
        "no fraud": all(t["category"] == "other" for t in told),
        "nobody is bothered": all(t["no_action"] for t in told),
    }


def _harvest(seen: Seen) -> Mapping[str, bool]:
    told = seen["autumn-1"]
    return {
        "a traffic hazard": (told["category"], told["subtype"]) == ("safety_hazard", "traffic"),
        "police, traffic police along": told["station"] == "police-chengyouzi" and "traffic-county" in told["cc"],
        "a helmet is none": seen["helmet-1"]["category"] == "other",
    }


def _child(seen: Seen) -> Mapping[str, bool]:
    told = seen["game-1"]
    return {
        "fraud": told["category"] == "fraud",
        "500 yuan read": any(q["value"] == 500 for q in told["quantities"]),
        "police, the school liaison along": told["station"] == "police-anping" and "school-county" in told["cc"],
    }


def _twins(seen: Seen) -> Mapping[str, bool]:
    found = {c["area"] for c in seen["twin-1"]["area_candidates"]}
    return {
        "both named": {"anping/madian/xiaowangzhuang", "anping/xiliangwa/xiaowangzhuang"} <= found,
        "a person decides": seen["twin-1"]["station"] == "county-triage",
    }


def _bank(seen: Seen) -> Mapping[str, bool]:
    told = seen["bank-1"]
    return {
        "urgent": told["urgent"],
        "straight to the police": str(told["station"]).startswith("police-"),
        "impersonated prosecutors": told["subtype"] == "impersonate_police",
    }


def _blank(seen: Seen) -> Mapping[str, bool]:
    told = seen["blank-1"]
    return {"kept by itself": told["link"] in ("new", "suggested"), "with the desk": told["station"] == "county-triage"}


def _border(seen: Seen) -> Mapping[str, bool]:
    told = seen["border-1"]
    return {
        "the side that holds it": told["area"] == "anping/anping",
        "the other reads along": "police-chengyouzi" in told["cc"],
    }


def _markup(seen: Seen) -> Mapping[str, bool]:
    return {"kept as it was written": "<script>" in seen["xss-1"]["title"]}


EXAMPLES: Final = (
    Example("storm", "一条消息转遍二十个群，只派一次警", "One message through twenty groups: one item", _storm),
    Example("congestion", "同一处拥堵，从一公里到两公里，是进展不是新警", "A jam that grew is the same jam", _congestion),
    Example("cable", "三百米电话线，换了说法也认得", "300 m of cable, told in other words", _cable),
    Example("villages", "一字不差，两个村，两件事", "The same words from two villages are two cases", _villages),
    Example("recurrence", "地界纠纷三天后变成扎车胎，前因后果连得上", "A boundary quarrel turned to slashed tyres", _recurrence),
    Example("pattern", "五个人被同一套话术骗，是五件案子、一个套路", "Five victims, one script", _pattern),
    Example("wallet", "捡到与丢失只作提示，银行卡号不落库", "Found and lost: suggested only, card number sealed", _wallet),
    Example("poppy", "罂粟线索只给禁毒，不抄送任何人", "Poppies: the drug squad alone", _poppy),
    Example("graft", "举报民警，不经被举报的所", "An officer accused: never to his own station", _graft),
    Example("threat", "“拿刀砍人”是急事，“刀削面”不是", "A knife is urgent, knife-cut noodles are not", _threat),
    Example("publicity", "反诈宣传不算诈骗，不派单", "Publicity is no fraud and no work", _publicity),
    Example("harvest", "三轮车拉人收秋：派出所主办，交警知情", "Riding on a cart: police, traffic police along", _harvest),
    Example("child", "孩子买游戏号被骗五百", "A child cheated of 500 yuan", _child),
    Example("twins", "两个小王庄，不猜，交人定", "Two villages of one name: no guess", _twins),
    Example("bank", "正在转账的骗局，不等分流台", "A transfer under way does not wait", _bank),
    Example("blank", "“请派人来一下”，没地点，不与任何事合并", "No place, no facts: kept by itself", _blank),
    Example("border", "乡镇交界五十米内，一家主办，一家知情", "Near a border: one acts, the other knows", _border),
    Example("markup", "夹带脚本的文字原样保存，永不执行", "Script in a text is kept as text", _markup),
)  # fmt: skip


def judge(seen: Seen) -> list[Outcome]:
    """Every example's outcome."""
    outcomes = []
    for example in EXAMPLES:
        try:
            held = example.holds(seen)
        except KeyError as missing:
            held = {f"no decision for {missing}": False}
        missed = tuple(name for name, ok in held.items() if not ok)
        outcomes.append(Outcome(example.id, example.zh, example.en, missed))
    return outcomes
