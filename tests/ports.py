"""Loopback ports for what must know its port before it listens, or listen on it again after a kill.

Where a kernel picks the port (`--port 0`) nobody else can have it; these are for the rest. They lie below the range from
which kernels take ports by themselves, so that no connection of another process, nor a client's own call to a service that
is away, takes one in between; and a lock on a file keeps them from other tests, in this run or another, until this process
ends.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

_RANGE = range(20_000, 32_000)
_FOLDER = Path(tempfile.gettempdir()) / f"tl-ports-{os.getuid()}"
#: Open as long as the process lives: closing one would give its port away.
_held: list[int] = []


def free_port() -> int:
    """A port that is this process's own."""
    _FOLDER.mkdir(exist_ok=True)
    for port in random.sample(_RANGE, len(_RANGE)):
        lock = os.open(_FOLDER / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.create_server(("127.0.0.1", port)):
                pass
        except OSError:  # held by another test, or by somebody who is no test
            os.close(lock)
            continue
        _held.append(lock)
        return port
    raise RuntimeError(f"no free port in {_RANGE}")


def free_ports(count: int) -> list[int]:
    """So many of them."""
    return [free_port() for _ in range(count)]
