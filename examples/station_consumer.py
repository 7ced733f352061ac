"""A station's own system: takes each change of its queue as it comes. Needs only `pip install kafka-python`."""

import json
import sys

from kafka import KafkaConsumer

broker, station = sys.argv[1:]
seen: dict[str, int] = {}
for record in KafkaConsumer(f"queue.{station}", bootstrap_servers=broker, group_id=station, auto_offset_reset="earliest"):
    item = json.loads(record.value)
    if item["revision"] > seen.get(item["id"], 0):  # a repeat after a crash
        seen[item["id"]] = item["revision"]
        print(item["status"], item["due_at"], item["category"], item["title"], flush=True)  # noqa: T201
