"""Posts single tips over many kept-alive connections: `python -m bench.load URL SECONDS CONNECTIONS [PER_SECOND [TOKEN]]`.

Prints a line of JSON: how many were answered 202, in how many seconds, and each one's (tip, moment of its answer on the
monotonic clock, seconds it took). With a rate the requests leave by the clock whether or not answers came (open loop).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import uvloop

from tests.crowd import tip


class Sender:
    """One connection: a request, its answer, the next."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        self._host, self._port, self._token = parts.hostname, parts.port, token
        self._reader: Any = None
        self._writer: Any = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    async def post(self, body: bytes) -> tuple[int, bytes]:
        head = (
            f"POST /v1/tips HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {self._token}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        low = answer.lower()
        length = int(low.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        return int(answer[9:12]), await self._reader.readexactly(length)


async def run(url: str, seconds: float, connections: int, rate: float, token: str) -> dict[str, Any]:
    """The load; see above."""
    bodies = [
        json.dumps(tip(n, "wechat:bench"), ensure_ascii=False).encode() for n in range(int(seconds * (rate or 6000)))
    ]
    senders = [Sender(url, token) for _ in range(connections)]
    for sender in senders:
        await sender.open()
    numbers, answers = count(), list[tuple[str, float, float]]()
    other = list[int]()
    began = time.monotonic()
    end = began + seconds

    async def work(sender: Sender) -> None:
        while time.monotonic() < end:
            number = next(numbers)
            if number >= len(bodies):
                return
            due = began + number / rate if rate else 0.0
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            sent = max(due, time.monotonic()) if not rate else due  # waiting for a free connection counts
            status, body = await sender.post(bodies[number])
            now = time.monotonic()
            if status == 202:
                answers.append((json.loads(body)["tip_id"], now, now - sent))
            else:
                other.append(status)

    await asyncio.gather(*(work(sender) for sender in senders))
    return {"seconds": time.monotonic() - began, "accepted": len(answers), "other": other[:5], "answers": answers}


if __name__ == "__main__":
    told = sys.argv[1:]
    rate = float(told[3]) if len(told) > 3 else 0.0
    made = uvloop.run(run(told[0], float(told[1]), int(told[2]), rate, told[4] if len(told) > 4 else "bench"))
    print(json.dumps(made))
