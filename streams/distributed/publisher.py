"""A producer for relays: all of a batch on the broker's word, or Unavailable within a bounded time.

Two traps of kafka-python 3.0 are kept out here. Once a batch of an idempotent producer passes `delivery_timeout_ms`, that
producer hangs for good: on the first failure it is thrown away, unflushed, and the next call makes a new one. And with the
broker away its buffer grows without bound: never more than one call's records are in it, for every call waits for its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from schemas.errors import Unavailable
from streams.distributed.envelope import Sendable
from streams.distributed.topics import MAX_MESSAGE_BYTES

_log = logging.getLogger("tipline.publisher")

TIMEOUT_S: Final = 10.0
_STEP_S: Final = 0.25
#: A broker that is away is found out so soon: whoever wants to close need not wait for longer.
_BOOTSTRAP_MS: Final = 2_000


class Publisher:
    """Sends batches to one partition at a time, in order, acks=all, idempotent. Safe for threads: one sends at a time."""

    def __init__(self, servers: Sequence[str], timeout_s: float = TIMEOUT_S) -> None:
        """Connects at the first call."""
        self._servers = list(servers)
        self._timeout = timeout_s
        self._producer: Any = None
        self._lock = threading.Lock()
        self._closed = False

    def send(self, topic: str, partition: int, records: Sequence[Sendable]) -> list[int]:
        """The offsets of the records, once all are safe. Raises Unavailable: then some may be there and some not, and the
        same call again writes them again."""
        with self._lock:
            try:
                return self._send(topic, partition, records)
            except (KafkaError, TimeoutError) as error:
                self._throw_away()
                if isinstance(error, MessageSizeTooLargeError):
                    raise
                raise Unavailable(f"Kafka at {', '.join(self._servers)} does not take records for {topic}: {type(error).__name__}") from None

    def _send(self, topic: str, partition: int, records: Sequence[Sendable]) -> list[int]:
        if self._producer is None:
            self._producer = self._make()
        deadline = time.monotonic() + self._timeout
        futures = [self._producer.send(topic, value, key=key, partition=partition, headers=list(headers)) for key, value, headers in records]
        return [self._offset(future, deadline) for future in futures]

    def _offset(self, future: Any, deadline: float) -> int:
        """Waits in short steps, so that `close` need not wait for the whole time."""
        while not future.is_done:
            left = deadline - time.monotonic()
            if left <= 0 or self._closed:
                raise TimeoutError
            with contextlib.suppress(KafkaTimeoutError):
                future.get(min(left, _STEP_S))
        offset: int = future.get(0).offset
        return offset

    def _make(self) -> Any:
        milliseconds = int(self._timeout * 1000)
        return KafkaProducer(
            bootstrap_servers=self._servers,
            acks="all",
            enable_idempotence=True,
            batch_size=128 * 1024,
            linger_ms=2,
            max_request_size=MAX_MESSAGE_BYTES,
            max_block_ms=milliseconds,
            request_timeout_ms=milliseconds,
            # Longer than we wait: giving up is ours, and then the producer goes with it.
            delivery_timeout_ms=milliseconds * 2,
            bootstrap_timeout_ms=min(_BOOTSTRAP_MS, milliseconds),
            reconnect_backoff_max_ms=1000,
        )

    def _throw_away(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            # In a thread of its own: closing one that hangs may hang as well.
            threading.Thread(target=_close, args=(producer,), name="publisher-close", daemon=True).start()

    def close(self) -> None:
        """Ends the producer; a call that waits gets Unavailable."""
        self._closed = True
        with self._lock:
            self._throw_away()


def _close(producer: Any) -> None:
    with contextlib.suppress(Exception):
        producer.close(timeout=0)
