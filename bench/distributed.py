"""One Faust worker against a bare aiokafka loop: the same function, the same records, in one run. Median of three rounds.

usage: python -m bench.distributed [TIPS]

Both read the same partition of `tips` from its beginning and write `decisions` (each run to a log of its own), with the
same batches, an idempotent producer and acks=all. The bare loop keeps no state beyond the run, commits nothing that it need
wait for, and survives nothing: it is what the work costs without a framework.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import psutil

from bench import kafka_lab as lab

WORKER = """
import os
from tipline.distributed import logging_to_stderr, run_worker
from tipline.settings import load_settings
from tipline.store import Store
logging_to_stderr('warning')
run_worker(Store(load_settings(os.environ)), None, None, lambda _: None)
"""

BARE = """
import asyncio, os
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from schemas.records import Decision
from streams.breaker import Breaker
from streams.distributed.decider import Decider
from streams.distributed.app import BATCH, _rows
from streams.distributed.past import first_bundle
from tipline.distributed import fold_maker
from tipline.settings import load_settings
from tipline.store import Store

async def main():
    store = Store(load_settings(os.environ))
    server = store.settings.log.removeprefix('kafka://')
    decider = Decider('anping', fold_maker(store, first_bundle([server], 0)), Breaker())
    consumer = AIOKafkaConsumer(bootstrap_servers=server, enable_auto_commit=False, max_partition_fetch_bytes=8 << 20)
    producer = AIOKafkaProducer(bootstrap_servers=server, acks='all', enable_idempotence=True, max_batch_size=512 << 10, max_request_size=8 << 20)
    await consumer.start(); await producer.start()
    part = TopicPartition('tips', 0)
    consumer.assign([part]); await consumer.seek_to_beginning(part)
    waiting = []
    while True:
        found = await consumer.getmany(part, timeout_ms=1000, max_records=BATCH)
        rows = _rows(found.get(part, []))
        decided = decider.decide(rows)
        batch = producer.create_batch()
        for key, value, headers in decided.sendables:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                waiting.append(await producer.send_batch(batch, 'decisions', partition=0))
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value, headers=headers)
        if batch.record_count():
            waiting.append(await producer.send_batch(batch, 'decisions', partition=0))
        while len(waiting) > 8:
            await waiting.pop(0)

asyncio.run(main())
"""


def measure(code: str, count: int, outputs: int | None) -> tuple[float, float, int]:
    """Tips a second from the first output to the last, the process's own seconds of CPU, and how many outputs there were."""
    with lab.broker() as broker, tempfile.TemporaryDirectory() as folder:
        lab.fill(broker, ["anping"], count)
        process = lab.child(code, TIPLINE_LOG=broker.url, TIPLINE_DATA=folder, TIPLINE_KEYS=lab.keys(folder))
        try:
            if outputs is None:
                outputs = _settled(broker)
                return 0.0, 0.0, outputs
            began, ended = lab.wait_for(broker, "decisions", outputs)
            spent = psutil.Process(process.pid).cpu_times()
        finally:
            process.kill()
            process.wait()
    return count / (ended - began), spent.user + spent.system, outputs


def _settled(broker: lab.Broker) -> int:
    """The number of outputs once it does not grow any more."""
    last, since = -1, time.monotonic()
    while time.monotonic() - since < 5 or last <= 0:
        now = sum(lab.ends(broker, "decisions").values())
        if now != last:
            last, since = now, time.monotonic()
        time.sleep(0.5)
    return last


def main() -> None:
    """Prints each round and the medians."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    _, _, outputs = measure(BARE, count, None)
    print(f"{count} tips, {outputs} outputs")
    rates: dict[str, list[float]] = {"faust": [], "bare": []}
    spent: dict[str, list[float]] = {"faust": [], "bare": []}
    for turn in range(3):
        for name, code in (("bare", BARE), ("faust", WORKER)):
            rate, cpu, _ = measure(code, count, outputs)
            rates[name].append(rate)
            spent[name].append(cpu)
            print(f"round {turn + 1}: {name} {rate:.0f} tips/s, {cpu:.1f} s of CPU with its start", flush=True)
    bare, faust = statistics.median(rates["bare"]), statistics.median(rates["faust"])
    print(f"median: bare {bare:.0f}, faust {faust:.0f} tips/s, ratio {faust / bare:.2f}")
    print(f"median CPU: ratio {statistics.median(spent['bare']) / statistics.median(spent['faust']):.2f}")


if __name__ == "__main__":
    main()
