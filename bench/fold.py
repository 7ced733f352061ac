"""How fast the fold decides, how little that falls with what it remembers, and what a remembered tip weighs.

usage: python -m bench.fold [--quick] [--tips N] [--remembered N]

The stream tells the training's incidents and texts again in other villages, by other reporters, at other times, as many a
day as fill 90 days with the remembered ones. Everything is on: classify, locate, group, route, reasons, revisions of earlier tips; decisions are kept as
a runtime keeps them, but not written. What is remembered goes in through the same door as after a restart, from its JSON.
"""

from __future__ import annotations

import argparse
import gc
import random
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from bench.machine import Figure, calibrate
from schemas.records import Decision, Input, Place, Tip
from schemas.times import DAY, MINUTE, format_time, parse_time
from streams.pipeline import Fold, analyse
from streams.stages.group import REMEMBERED, Incident
from streams.stages.traits import Traits
from tipline.county import find_county, load_county
from tipline.model import load_model

START = parse_time("2026-01-01T00:00:00+08:00")
BATCH = 500
#: Tips a second that one core must decide, and what must be left of it with a full memory.
AIM, LEFT = 4000, 0.65
BYTES_AIM = 1000
LONGEST_MINUTES = 2 * 24 * 60
_TRAINING = Path(__file__).parents[1] / "training"
_SYLLABLES = "李王张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯董程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田姜范方石姚谭廖邹熊金陆郝孔白崔康毛邱秦江史顾侯邵孟龙段雷钱汤尹黎易常武乔贺赖龚文"
_CHANNELS: dict[str, Any] = {"wechat": "volunteer"}


class Line(NamedTuple):
    """One line of the training files: minutes after its incident began, and what was said."""

    minutes: int
    channel: str
    reporter: str
    machine: bool
    text: str


def incidents() -> list[list[Line]]:
    """What the training files tell, incident by incident; a text of its own is an incident of one."""
    found: dict[str, list[Line]] = {}
    began: dict[str, int] = {}
    for path in sorted(_TRAINING.glob("incidents/*.tsv")):
        for line in path.read_text("utf-8").splitlines():
            name, time_, channel, reporter, _, latitude, _, _, _, text = line.split("\t")
            at = parse_time(time_)
            key = f"{path.name}/{name}"
            minutes = (at - began.setdefault(key, at)) // MINUTE
            if minutes > LONGEST_MINUTES:
                continue  # It would lie days ahead of all others at the stream's end.
            told = Line(minutes, _CHANNELS.get(channel, channel), reporter, latitude != "-", text)
            found.setdefault(key, []).append(told)
    for path in sorted(_TRAINING.glob("texts/*.tsv")):
        for number, line in enumerate(path.read_text("utf-8").splitlines()):
            found[f"{path.name}/{number}"] = [Line(0, line.split("\t")[2], "one", False, line.split("\t")[6])]
    return list(found.values())


def stream(count: int, begin: int, per_day: float, seed: int = 0) -> list[Tip]:
    """`count` tips from `begin` (ms) on, so many a day, in order of time: the training's incidents in other villages.

    Of an incident's tips two in five name the village in the text, two in five give it as their place, one does neither.
    """
    chance = random.Random(seed)
    told = incidents()
    tips: list[tuple[int, Tip]] = []
    at, every = begin, DAY / per_day
    while len(tips) < count:
        incident = chance.choice(told)
        village = "".join(chance.choices(_SYLLABLES, k=2)) + "村"
        latitude, longitude = 38.05 + chance.random() * 0.35, 115.4 + chance.random() * 0.25
        for line in incident:
            moment = at + line.minutes * MINUTE
            named = chance.randrange(5)
            place = Place(text=village) if named in (2, 3) else None
            if line.machine:
                place = Place(lat=latitude, lon=longitude)
            tip = Tip(
                county="anping",
                tip_id=f"{seed:04}-{len(tips):08}-{chance.getrandbits(64):016x}",
                source=f"wechat:group-{chance.randrange(200)}",
                channel=line.channel,  # type: ignore[arg-type]
                text=f"{village}{line.text}" if named < 2 else line.text,
                received_at=format_time(moment, 480),
                reported_at=format_time(moment, 480),
                reporter=f"{line.reporter}-{at}",
                place=place,
            )
            tips.append((moment, tip))
        at += int(every * len(incident))
    tips.sort(key=lambda item: (item[0], item[1].tip_id))
    return [tip for _, tip in tips[:count]]


class Runtime:
    """A fold and the decisions it may ask for again."""

    def __init__(self) -> None:
        self.decisions: dict[str, Decision] = {}
        #: Decisions of the tips that the remembered ones are made of.
        self._samples: list[Decision] = []
        self.fold = Fold(load_county(find_county("anping")), load_model(), self._recall)

    def _recall(self, tip_id: str) -> Decision | None:
        known = self.decisions.get(tip_id)
        if known is None and tip_id.startswith("memory-"):
            sample = self._samples[int(tip_id[7:]) % len(self._samples)]
            known = msgspec.structs.replace(sample, tip_id=tip_id, incident_id=self.fold.groups.tips[tip_id].incident)
        return known

    def run(self, tips: list[Tip]) -> float:
        """Decides them in batches -> tips a second of this process's own time."""
        position = self.fold.position
        records: list[tuple[int, Input]] = [(position + i, tip) for i, tip in enumerate(tips, 1)]
        # As `serve` does once it has started: what is there stays, and is not looked through again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        began = time.process_time()
        for i in range(0, len(records), BATCH):
            for output in self.fold.apply(records[i : i + BATCH]):
                if isinstance(output, Decision):
                    self.decisions[output.tip_id] = output
        taken = time.process_time() - began
        gc.unfreeze()
        return len(tips) / taken

    def remember(self, count: int, until: int) -> None:
        """Fills the memory with `count` tips of the 90 days before `until`, each an incident of its own."""
        tips, sampled = stream(2000, START, 2000, 1), Runtime()
        sampled.run(tips)
        self._samples = [sampled.decisions[tip.tip_id] for tip in tips]
        fold = sampled.fold
        dumped = [msgspec.json.encode(fold.traits(analyse(fold.county, fold.model, tip)).dump()) for tip in tips]
        groups = self.fold.groups
        for number in range(count):
            traits = Traits.load(f"memory-{number:029}", msgspec.json.decode(dumped[number % len(dumped)]))
            seen = until - REMEMBERED + (number + 1) * REMEMBERED // (count + 1)
            traits.at, traits.seen = seen, seen
            traits.reporter = f"wechat:group-{number % 200}/r-{number % 20_000}"
            groups.restore(traits, ())
            incident = groups.adopt(Incident(f"incident-{number:027}", traits.tip_id, number))
            groups.assign(traits, incident)


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * 4096


def measure(tips: int, remembered: int) -> list[Figure]:
    """Speed with an empty and with a full memory, and the weight of what is remembered."""
    per_day = remembered / 90
    begin = START + 100 * DAY
    some = stream(tips, begin, per_day, 2)
    sparse = stream(tips, begin, per_day / 10, 2)
    # Rounds alternate, so that neighbours on the machine slow both alike; the best of each counts.
    empty_rates, sparse_rates, loops = [], [], []
    for _ in range(2):
        loops.append(calibrate())
        runtime = Runtime()
        runtime.run(stream(500, begin - DAY, per_day, 3))
        empty_rates.append(runtime.run(some))
        sparse_rates.append(Runtime().run(sparse))
    gc.collect()
    full = Runtime()
    full.run(stream(500, START, 1000, 4))
    gc.collect()
    before = resident()
    full.remember(remembered, begin)
    gc.collect()
    weight = (resident() - before) / remembered
    full_rate = full.run(some)
    loops.append(calibrate())
    empty_rate, loop = max(empty_rates), max(loops)
    return [
        Figure("calibration", f"{loop:.1f} k loops/s"),
        Figure(f"decided, empty memory, {per_day:,.0f} a day", f"{empty_rate:,.0f} tips/s = {empty_rate / loop:.1f} per k loops", f">= {AIM:,}", empty_rate >= AIM),
        Figure(f"decided, {per_day / 10:,.0f} a day", f"{max(sparse_rates):,.0f} tips/s", "", None),
        Figure(f"decided, {remembered:,} remembered", f"{full_rate:,.0f} tips/s", "", None),
        Figure("left of the speed", f"{full_rate / empty_rate:.2f}", f">= {LEFT}", full_rate / empty_rate >= LEFT),
        Figure("weight of a remembered tip", f"{weight:,.0f} bytes", f"<= {BYTES_AIM}", weight <= BYTES_AIM),
    ]  # fmt: skip


def main() -> int:
    """Prints the table -> exit code."""
    arguments = argparse.ArgumentParser(description="Speed and memory of the fold.")
    arguments.add_argument("--quick", action="store_true", help="a tenth of everything")
    arguments.add_argument("--tips", type=int)
    arguments.add_argument("--remembered", type=int)
    given = arguments.parse_args()
    share = 10 if given.quick else 1
    figures = measure(given.tips or 10_000 // share, given.remembered or 1_000_000 // share)
    for figure in figures:
        mark = {None: "", True: "ok", False: "MISSED"}[figure.held]
        print(f"{figure.what:40} {figure.value:40} {figure.aim:10} {mark}".rstrip(), flush=True)
    return 1 if any(figure.held is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
