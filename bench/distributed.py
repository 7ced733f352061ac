"""The distributed runtime's speed in one run: against other frameworks, two workers against one, latency, recovery.

usage: python -m bench.distributed [--quick] [TIPS]

Needs Java and Kafka's jars (deploy/kafka/fetch.sh). Quix Streams, Bytewax and sentry-arroyo are measured where they can be
imported, and said to be missing where not. Exit 1 when an aim is missed. What is measured and how: bench/README-distributed.md.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import psutil

from bench import distributed_latency, engines, recovery
from bench import kafka_lab as lab
from bench.__main__ import show
from bench.machine import Figure, calibrate, machine

ROUNDS = 3
COUNTIES = ["north", "south"]


def measure(broker: lab.Broker, code: str, outputs: int, tips: int) -> tuple[float, float]:
    """Tips a second from the first output to the last, and the seconds of CPU that a thousand tips cost the process."""
    lab.forget_decisions(broker)
    with tempfile.TemporaryDirectory() as folder:
        environ = {"TIPLINE_LOG": broker.url, "TIPLINE_KEYS": lab.keys(folder)}
        process = lab.module("bench.engines", code, TIPLINE_DATA=folder, **environ)
        watched = [psutil.Process(process.pid)]
        try:
            first, began, spent = lab.wait_for(broker, "decisions", 1, watched)
            _, ended, in_all = lab.wait_for(broker, "decisions", outputs, watched)
        finally:
            process.kill()
            process.wait()
    measured = tips * (outputs - first) / outputs
    return measured / (ended - began), (in_all - spent) / measured * 1000


def against_others(tips: int) -> list[Figure]:
    """One worker of each framework over the same county, by turns."""
    found = engines.installed()
    rates: dict[str, list[float]] = {name: [] for name in found}
    costs: dict[str, list[float]] = {name: [] for name in found}
    with lab.broker() as broker:
        lab.fill(broker, ["anping"], tips)
        decided = [lab.fold_alone("anping", tips) for _ in range(ROUNDS)]
        outputs, alone = min(decided)
        for turn in range(ROUNDS):
            for name in found if turn % 2 == 0 else reversed(found):
                rate, cost = measure(broker, name, outputs, tips)
                rates[name].append(rate)
                costs[name].append(cost)
                print(f"round {turn + 1}: {name} {rate:.0f} tips/s, {cost:.2f} s of CPU for 1,000 tips", flush=True)
    figures = [Figure("the function alone", f"{alone / tips * 1000:.2f} s of CPU for 1,000 tips")]
    for name in found:
        # Round by round, for a neighbour that takes the cores away takes them from both.
        ratio = statistics.median(one / bare for one, bare in zip(rates[name], rates["bare"], strict=True))
        cpu = statistics.median(bare / one for one, bare in zip(costs[name], costs["bare"], strict=True))
        aim, held = (">= 0.90", ratio >= 0.90) if name == "faust" else ("", None)
        figures.append(Figure(f"{name} : bare", f"{ratio:.2f}, by CPU {cpu:.2f} ({statistics.median(rates[name]):.0f} tips/s)", aim, held))
    figures += [Figure(name, "not installed: not measured") for name in engines.ENGINES if name not in found]
    return figures


def two_against_one(tips: int) -> list[Figure]:
    """Two counties by one worker, then by two; all have joined before the first tip is written."""
    outputs = sum(lab.fold_alone(county, tips)[0] for county in COUNTIES)
    ratios, rates = [], []
    for turn in range(ROUNDS):
        one, two = shared(1, tips, outputs), shared(2, tips, outputs)
        print(f"round {turn + 1}: one worker {one:.0f} tips/s, two {two:.0f}", flush=True)
        ratios.append(two / one)
        rates.append((one, two))
    ratio = statistics.median(ratios)
    words = ", ".join(f"{one:.0f} and {two:.0f}" for one, two in rates)
    return [Figure("two workers : one, two counties", f"{ratio:.2f} ({words} tips/s)", ">= 1.3", ratio >= 1.3)]


def shared(workers: int, tips: int, outputs: int) -> float:
    """Tips a second of both counties, from the first one written to the last output."""
    with lab.broker() as broker, tempfile.TemporaryDirectory() as folder:
        lab.fill(broker, COUNTIES, 0)
        environ = {"TIPLINE_LOG": broker.url, "TIPLINE_KEYS": lab.keys(folder)}
        processes = [lab.module("bench.engines", "faust", TIPLINE_DATA=f"{folder}/{n}", **environ) for n in range(workers)]
        try:
            lab.all_have_joined(broker, workers)
            lab.wait_for(broker, "decisions", len(COUNTIES))  # the directories
            began = time.monotonic()
            lab.pour(broker, COUNTIES, tips)
            _, ended, _ = lab.wait_for(broker, "decisions", outputs)
        finally:
            for process in processes:
                process.kill()
                process.wait()
    return len(COUNTIES) * tips / (ended - began)


def main() -> int:
    """Prints all -> exit code."""
    quick = "--quick" in sys.argv
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    tips = numbers[0] if numbers else 2000 if quick else 8000
    show("machine", [*machine(), Figure("calibration", f"{calibrate():.0f} k loops/s")])
    sections: dict[str, Callable[[], list[Figure]]] = {
        f"one worker over {tips} tips, against the same loop without a framework": lambda: against_others(tips),
        f"two counties of {tips} tips": lambda: two_against_one(tips),
        "written to `tips` -> in the database": lambda: distributed_latency.run(300, 5 if quick else 20),
        "taking a county over": lambda: recovery.run(10_000 if quick else 100_000),
    }
    missed = 0
    for title, run in sections.items():
        figures = run()
        show(title, figures)
        missed += sum(figure.held is False for figure in figures)
    show("machine after", [Figure("calibration", f"{calibrate():.0f} k loops/s")])
    print(f"\n{'every aim is met' if not missed else f'{missed} aim(s) missed'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
