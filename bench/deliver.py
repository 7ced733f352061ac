"""From the log to the committed queue: deciding and delivering, one thread, in batches of several sizes.

usage: python -m bench.deliver [--quick]

What a batch costs besides its tips - reading what it touches, statements, the commit - shows as the distance between the
small batches and the large ones. Counted is this process's own time, which leaves out waiting for the disk.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from bench.fold import START, stream
from bench.machine import Figure, calibrate
from schemas.codec import encode
from schemas.records import Tip
from schemas.times import DAY
from streams.ports import Admitted
from tipline.serve import Embedded
from tipline.settings import load_settings
from tipline.store import Store

SIZES = (8, 64, 256)
PER_DAY = 2_000


def run(quick: bool) -> list[Figure]:
    """Tips a second by size of batch; each size has a store of its own and the same tips."""
    count = 400 if quick else 2_000
    tips = stream(count + 200, START + 100 * DAY, PER_DAY, 5)
    figures = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            embedded = Embedded(Store(load_settings({}, {"data": str(Path(folder) / "data")})))
            (runtime,) = embedded.runtimes
            while runtime.run_once():
                pass
            embedded.store.intake.accept([_admitted(tip) for tip in tips])
            done = 0
            while done < 200:  # statements are compiled, pages are in the cache
                done += runtime.run_once(size)
            loop, began = calibrate(), time.process_time()
            left = len(tips) - done
            while runtime.run_once(size):
                pass
            rate = left / (time.process_time() - began)
            embedded.stop()
        figures.append(Figure(f"decided and delivered, batches of {size}", f"{rate:,.0f} tips/s = {rate / loop:.1f} per k loops"))
    return figures


def _admitted(tip: Tip) -> Admitted:
    return Admitted(tip, encode(tip)[:32], f"r-{tip.tip_id}")


if __name__ == "__main__":
    for figure in run("--quick" in sys.argv):
        print(f"{figure.what:44} {figure.value}")
