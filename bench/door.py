"""The door alone in a process, for measuring: `python -m bench.door on|off DIR`. `off` answers alike and stores nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from producers.http import Door, Limits, intake_routes
from producers.keyring import Keyring
from streams.embedded.intake import SqliteIntake
from streams.ports import Accepted, Admitted, Principal
from tipline.metrics import PrometheusMetrics


class Nowhere:
    """An intake that answers and keeps nothing."""

    def accept(self, admitted: Sequence[Admitted]) -> list[Accepted]:
        return [Accepted(one.tip.tip_id, one.receipt, "accepted") for one in admitted]


class Anyone:
    """Every token is an intake's."""

    def principal(self, token: str) -> Principal | None:
        return Principal("bench", "intake", None, None, "anping")


def main() -> None:
    stored, folder = sys.argv[1] == "on", Path(sys.argv[2])
    intake: Any = SqliteIntake(folder / "intake.db") if stored else Nowhere()
    door = Door(
        intake,
        Anyone(),
        Keyring.create(os.urandom),
        ("anping",),
        lambda: time.time_ns() // 1_000_000,
        os.urandom,
        PrometheusMetrics(),
        lambda _: None,
        lambda _: None,
        lambda _: None,
        Limits(per_second=1e9, burst=1e9),
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    app = Starlette(routes=intake_routes(door))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", loop="uvloop", http="httptools", lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign,assignment]
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
