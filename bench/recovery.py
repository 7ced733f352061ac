"""How long a worker takes to take up a county's state from the log `decisions`, by the number of remembered tips.

usage: python -m bench.recovery [TIPS]

5,000 tips over 80 days are decided once; their outputs are written again and again under other ids until the log holds as
many tips as asked for, all of them within the fold's memory of ninety days.
"""

from __future__ import annotations

import re
import resource
import sys
import time
import uuid
from collections.abc import Iterator

from kafka import KafkaProducer

from bench import kafka_lab as lab
from bench.__main__ import show
from bench.machine import Figure
from schemas.records import Decision
from streams.breaker import Breaker
from streams.distributed import topics
from streams.distributed.decider import Decider
from streams.distributed.envelope import of_outputs
from streams.distributed.past import read_through, rebuild
from streams.pipeline import Fold
from streams.ports import Recall
from tests.tips_made import tips
from tipline.model import load_model

_ONCE = 5000
_SPACE = uuid.UUID(int=29)
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_POSITION = re.compile(rb'"position":(\d+)')


def _once(fold: Fold, latest: dict[str, Decision]) -> Iterator[tuple[bytes | None, bytes, list[tuple[str, bytes]]]]:
    for position, tip in enumerate(tips(_ONCE), start=2):
        outputs = fold.apply([(position, tip)])
        latest.update({output.tip_id: output for output in outputs if isinstance(output, Decision)})
        for key, value, headers in of_outputs(outputs):
            yield key, value, list(headers)


def _under_other_ids(value: bytes, turn: int, known: dict[bytes, bytes]) -> bytes:
    def other(found: re.Match[bytes]) -> bytes:
        identity = found.group()
        if identity not in known:
            known[identity] = str(uuid.uuid5(_SPACE, f"{turn}/{identity.decode()}")).encode()
        return known[identity]

    moved = _UUID.sub(other, value)
    return _POSITION.sub(lambda m: b'"position":%d' % (int(m.group(1)) + turn * _ONCE), moved)


def run(count: int) -> list[Figure]:
    """Writes the log and rebuilds from it."""
    model = load_model()

    def make(recall: Recall) -> Fold:
        return Fold(lab.anping(), model, recall)

    with lab.broker() as broker:
        lab.fill(broker, ["anping"], 0)
        servers = topics.servers_of(broker.url)
        latest: dict[str, Decision] = {}
        told = list(_once(make(latest.get), latest))
        producer = KafkaProducer(bootstrap_servers=servers, batch_size=262144, linger_ms=5)
        for turn in range(count // _ONCE):
            known: dict[bytes, bytes] = {}
            for key, value, headers in told:
                producer.send("decisions", _under_other_ids(value, turn, known), key=key, partition=0, headers=headers)
            producer.flush(300)
        written, size = len(told) * (count // _ONCE), sum(len(value) for _, value, _ in told) / len(told)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        began = time.perf_counter()
        for _ in read_through(servers, "decisions", 0):
            pass
        read = time.perf_counter() - began
        decider = Decider("anping", make, Breaker())
        began, cpu = time.perf_counter(), time.process_time()
        rebuild(servers, 0, decider)
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
        remembered = len(decider.fold.groups.tips)
    return [
        Figure("the log", f"{written} outputs of {size:.0f} bytes for {count} tips"),
        Figure("reading it alone", f"{read:.1f} s"),
        Figure("the state rebuilt from it", f"{took:.1f} s ({cpu:.1f} s of CPU)", "< 20 s" if count == 100_000 else "", took < 20 if count == 100_000 else None),
        Figure("remembered", f"{remembered} tips, {grown:.0f} MB"),
    ]


if __name__ == "__main__":
    show("taking a county over", run(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000))
