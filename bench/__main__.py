"""Every measurement in one table: `python -m bench [--quick]`. Exit 1 when an aim is missed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec

from bench import accept, deliver, latency, pages, stations
from bench.machine import Figure, calibrate, machine

SECTIONS: dict[str, Callable[[bool], list[Figure]]] = {
    "what one accept is made of": lambda _: accept.parts(),
    "durable accepts": accept.durable,
    "a file against single posts": accept.file_against_posts,
    "accepted -> on the queue": latency.run,
    "decided and delivered": deliver.run,
    "the stations' desk": stations.run,
    "the console with 10,000 open items": pages.run,
}


def main() -> int:
    """Runs all -> exit code."""
    quick = "--quick" in sys.argv
    show("machine", [*machine(), Figure("calibration", f"{calibrate():.0f} k loops/s")])
    missed = 0
    for title, run in SECTIONS.items():
        figures = run(quick)
        show(title, figures)
        missed += sum(figure.held is False for figure in figures)
    if find_spec("bench.fold") is not None:
        print("\n# the fold", flush=True)
        missed += subprocess.run([sys.executable, "-m", "bench.fold", *sys.argv[1:]], check=False).returncode != 0
    print(f"\n{'every aim is met' if not missed else f'{missed} aim(s) missed'}")
    return 1 if missed else 0


def show(title: str, figures: list[Figure]) -> None:
    """One section of the table."""
    print(f"\n# {title}", flush=True)
    for figure in figures:
        mark = {None: "", True: "ok", False: "MISSED"}[figure.held]
        print(f"{figure.what:40} {figure.value:32} {figure.aim:10} {mark}".rstrip(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
