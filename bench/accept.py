"""How fast tips are accepted: durable against storing switched off, a file against single posts, and where the limits lie.

usage: python -m bench.accept [--quick]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.machine import Figure, calibrate, sync_ms, timed
from tests.crowd import tip

CONNECTIONS = 64


@contextmanager
def door(stored: str) -> Iterator[str]:
    """The door alone, in a process of its own -> its URL."""
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.door", stored, folder], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def accepts(url: str, seconds: float) -> float:
    """Tips a second that single posts over many connections got accepted."""
    command = [sys.executable, "-m", "bench.load", url, str(seconds), str(CONNECTIONS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert not told["other"], told["other"]
    return float(told["accepted"] / told["seconds"])


def durable(quick: bool) -> list[Figure]:
    """Accepts a second with storing and without, by turns in one run."""
    rounds, seconds = (2, 2.0) if quick else (5, 4.0)
    got: dict[str, list[float]] = {"on": [], "off": []}
    loops = [calibrate()]
    for _ in range(rounds):
        for stored in ("off", "on"):
            with door(stored) as url:
                time.sleep(0.2)
                got[stored].append(accepts(url, seconds))
        loops.append(calibrate())
    on, off = (statistics.median(got[name]) for name in ("on", "off"))
    share = on / off
    return [
        Figure("single posts, storing off", f"{off:,.0f}/s"),
        Figure("single posts, durable", f"{on:,.0f}/s"),
        Figure("durable : off", f"{share:.2f}", ">= 0.5", share >= 0.5),
        Figure("calibration beside it", f"{statistics.median(loops):.0f} k loops/s"),
    ]


def parts() -> list[Figure]:
    """What one accept is made of, in this process."""
    import os

    from producers.admission import admit
    from producers.keyring import Keyring
    from producers.parsing import strict_json
    from schemas.codec import encode
    from schemas.validation import is_valid
    from streams.ports import Principal

    bodies = [json.dumps(tip(n, "wechat:bench"), ensure_ascii=False).encode() for n in range(2_000)]
    documents = [strict_json(body) for body in bodies]
    keyring, principal = Keyring.create(os.urandom), Principal("bench", "intake", None, None, "anping")
    now = time.time_ns() // 1_000_000
    each = 1e6 / len(bodies)

    def median(work: object) -> float:
        assert callable(work)
        return statistics.median(timed(work) for _ in range(5)) * each

    parsing = median(lambda: [strict_json(body) for body in bodies])
    valid = median(lambda: [is_valid("submission", document) for document in documents])
    fresh = iter([[strict_json(body) for body in bodies] for _ in range(5)])
    admitting = median(lambda: [admit(d, principal, "anping", now, keyring, os.urandom) for d in next(fresh)])
    admitted = [admit(strict_json(body), principal, "anping", now, keyring, os.urandom) for body in bodies[:500]]
    encoding = statistics.median(timed(lambda: [encode(a.tip) for a in admitted]) for _ in range(5)) * 1e6 / 500
    return [
        Figure("strict parse", f"{parsing:.1f} µs a tip"),
        Figure("validate", f"{valid:.1f} µs a tip"),
        Figure("admit, with all of it and sealing", f"{admitting:.0f} µs a tip"),
        Figure("encode", f"{encoding:.1f} µs a tip"),
        Figure("one fsynced commit", f"{sync_ms():.2f} ms"),
    ]


def file_against_posts(quick: bool) -> list[Figure]:
    """`tipline submit` of a file against single posts one after the other, to the whole service."""
    from producers.client import Server, submit
    from producers.parsing import Parsed
    from tipline.testing import Client, Served, make_token

    rows = 600 if quick else 3_000
    posts = 100 if quick else 400
    with tempfile.TemporaryDirectory() as folder, Served(Path(folder) / "data", {"TIPLINE_RATE": "1000000"}) as served:
        token = make_token(served.data, "intake")
        with Client(served, token) as client:
            client.send("/v1/tips", tip(0, "wechat:warm"))
            single = posts / timed(lambda: [client.send("/v1/tips", tip(n, "wechat:single")) for n in range(posts)])
        file = [Parsed(n, tip(n, "wechat:file")) for n in range(rows)]
        whole = rows / timed(lambda: list(submit(file, Server(served.url, token), time.sleep)))
    share = whole / single
    return [
        Figure("single posts, one after the other", f"{single:,.0f}/s"),
        Figure("submit of a file", f"{whole:,.0f}/s"),
        Figure("file : single posts", f"{share:.1f}", ">= 5", share >= 5),
    ]


def run(quick: bool) -> list[Figure]:
    """All figures of this file."""
    return [*parts(), *durable(quick), *file_against_posts(quick)]


if __name__ == "__main__":
    for figure in run("--quick" in sys.argv):
        print(f"{figure.what:40} {figure.value:24} {figure.aim}")
