"""A station's own system follows its queue on Kafka: python examples/station_consumer.py HOST:9092 police-anping"""

import json
import sys

from kafka import KafkaConsumer

server, station = sys.argv[1:3]
known: dict[str, int] = {}
queue = KafkaConsumer(f"queue.{station}", bootstrap_servers=server, group_id=f"{station}-system", auto_offset_reset="earliest", enable_auto_commit=False)
for record in queue:
    item = json.loads(record.value)
    if item["revision"] > known.get(item["id"], -1):  # after a crash some come again: the highest revision counts
        known[item["id"]] = item["revision"]
        print(item["id"], item["revision"], item["status"], item["title"], flush=True)  # here your own work begins
    queue.commit()
