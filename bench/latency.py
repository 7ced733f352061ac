"""From the 202 to the station's queue, at a steady rate: the whole service, watched from outside.

usage: python -m bench.latency [--quick]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import Figure, calibrate, percentile

RATE = 300
CONNECTIONS = 32


def run(quick: bool) -> list[Figure]:
    """p50 and p99 of accepted -> on the queue at RATE tips a second."""
    from tipline.demo.traffic import Watch
    from tipline.testing import Served, make_token

    seconds = 6 if quick else 25
    with tempfile.TemporaryDirectory() as folder, Served(Path(folder) / "data", {"TIPLINE_RATE": "1000000"}) as served:
        token = make_token(served.data, "intake")
        watch = Watch(served.data / "work.db", every=0.003)
        before = calibrate()
        command = [sys.executable, "-m", "bench.load", served.url, str(seconds), str(CONNECTIONS), str(RATE), token]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        assert not told["other"], told["other"]
        answers = [(tip, at, took) for tip, at, took in told["answers"]]
        end = time.monotonic() + 60
        while len(watch.seen) < len(answers) and time.monotonic() < end:
            time.sleep(0.05)
        watch.stop()
        after = calibrate()
    # The first second warms up caches and statements.
    first = answers[0][1] + 1
    waits = watch.seconds([one for one in answers if one[1] > first])
    takes = [took for _, at, took in answers if at > first]
    late = percentile(waits, 0.99) * 1000
    return [
        Figure("offered", f"{RATE} tips/s, {seconds} s, {len(answers)} accepted"),
        Figure("202 after (p50, p99)", f"{percentile(takes, 0.5) * 1000:.0f}, {percentile(takes, 0.99) * 1000:.0f} ms"),
        Figure("202 -> on the queue, p50", f"{percentile(waits, 0.5) * 1000:.0f} ms"),
        Figure("202 -> on the queue, p99", f"{late:.0f} ms", "< 250 ms", late < 250),
        Figure("calibration beside it", f"{(before + after) / 2:.0f} k loops/s"),
    ]


if __name__ == "__main__":
    for figure in run("--quick" in sys.argv):
        print(f"{figure.what:40} {figure.value:24} {figure.aim}")
