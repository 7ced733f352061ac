"""Which county is in force: what a record of the store says outranks the packaged default, and yields to one that is named."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from schemas.codec import encode
from schemas.errors import BadCounty
from streams.embedded.runtime import Runtime
from tests.fold_made import tip
from tipline.apply import apply_county
from tipline.cli import root
from tipline.county import county_digest, find_county, load_county
from tipline.in_force import in_force
from tipline.serve import Embedded
from tipline.settings import load_settings
from tipline.store import Store

STATION = "village-xiliangwa-xincun"
AREA = "anping/xiliangwa/xincun"

Open = Callable[..., Store]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Opens one store again and again, as the commands of one installation do; `counties` are named, as by --county."""
    made: list[Store] = []

    def open_(*counties: Path) -> Store:
        made.append(Store(load_settings({}, {"data": str(tmp_path / "data"), "county": ":".join(map(str, counties))})))
        return made[-1]

    yield open_
    for store in made:
        store.close()


@pytest.fixture
def grown(tmp_path: Path) -> Path:
    """Anping with one village more, and its committee."""
    folder = tmp_path / "grown"
    shutil.copytree(find_county(), folder)
    _add(folder / "areas.yaml", "{id: dashaocun,", "      - {id: xincun, names: {zh: 新村村, en: Xin Village}}")
    station = f"  - {{id: {STATION}, kind: village, names: {{zh: 新村村委会, en: Xin village committee}}, areas: [{AREA}]}}"
    _add(folder / "stations.yaml", "{id: village-xiliangwa-dashaocun,", station)
    return folder


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A second county."""
    folder = tmp_path / "yuxian"
    shutil.copytree(find_county(), folder)
    for path in folder.iterdir():
        path.write_text(re.sub(r"(?<![/\w-])anping/", "yuxian/", path.read_text("utf-8")), "utf-8")
    head = folder / "county.yaml"
    head.write_text(re.sub(r"^id: anping$", "id: yuxian", head.read_text("utf-8"), flags=re.M), "utf-8")
    outline = folder / "boundaries.geojson"
    outline.write_text(re.sub(r'"area": ?"anping"', '"area": "yuxian"', outline.read_text("utf-8")), "utf-8")
    stations = folder / "stations.yaml"
    stations.write_text(re.sub(r"(areas: \[)anping(?=[\],])", r"\1yuxian", stations.read_text("utf-8")), "utf-8")
    return folder


def _add(path: Path, mark: str, line: str) -> None:
    lines = path.read_text("utf-8").splitlines()
    at = next(i for i, one in enumerate(lines) if mark in one)
    path.write_text("\n".join([*lines[:at], line, *lines[at:]]) + "\n", "utf-8")


def served(store: Store) -> Embedded:
    """Starts, decides upon all that waits, and ends."""
    embedded = Embedded(store)
    for runtime in embedded.runtimes:
        while runtime.run_once():
            pass
    return embedded


def digests(bundles: list[Any]) -> dict[str, str]:
    return {bundle["county"]["id"]: county_digest(bundle) for bundle in bundles}


def packaged() -> str:
    return county_digest(load_county(find_county()))


def test_a_restart_keeps_what_was_applied(opened: Open, grown: Path) -> None:
    first = served(opened())
    assert (first.origin, digests(first.store.bundles())) == ("package", {"anping": packaged()})
    store = opened()
    refusals, position = apply_county(store, load_county(grown))
    assert (refusals, position) == ([], first.store.intake.end("anping"))
    for _ in range(2):
        again = served(opened())
        assert again.origin == "store"
        assert again.counties["anping"].digest == again.runtimes[0].fold.county.digest == county_digest(load_county(grown))
        assert AREA in again.counties["anping"].areas
        assert again.store.intake.end("anping") == position
    (line,) = again.told_counties()
    assert again.counties["anping"].digest[:12] in line
    assert "record of this store" in line
    assert packaged()[:12] in line


def test_what_waits_in_the_log_counts_already(opened: Open, grown: Path) -> None:
    """`county apply` while nothing is served, or a moment before the running service has read it."""
    served(opened())
    apply_county(opened(), load_county(grown))
    assert digests(opened().bundles()) == {"anping": county_digest(load_county(grown))}
    assert apply_county(opened(), load_county(grown)) == ([], None)
    # An older one that is named at the start comes after it, not before.
    named = served(opened(find_county()))
    assert named.runtimes[0].fold.county.digest == packaged()


def test_a_named_county_comes_into_force_at_start(opened: Open, grown: Path) -> None:
    served(opened())
    named = served(opened(grown))
    assert (named.origin, named.runtimes[0].fold.county.digest) == ("settings", county_digest(load_county(grown)))
    assert "--county" in named.told_counties()[0]
    # Without a name it stays; the packaged one takes its name to come back.
    assert served(opened()).origin == "store"
    assert served(opened(find_county())).runtimes[0].fold.county.digest == packaged()


def test_open_work_holds_off_a_named_county_only(opened: Open, grown: Path) -> None:
    embedded = served(opened())
    apply_county(opened(), load_county(grown))
    runtime: Runtime = embedded.runtimes[0]
    while runtime.run_once():
        pass
    embedded.store.intake.append("anping", "a", encode(tip("a", "西两洼乡新村村两家为宅基地吵起来了")))
    assert runtime.run_once() == 1
    with pytest.raises(BadCounty, match=STATION):
        Embedded(opened(find_county()))
    assert in_force(opened())["anping"].digests["county"] == county_digest(load_county(grown))
    assert served(opened()).origin == "store"


def test_a_newer_package_waits_to_be_applied(opened: Open, grown: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served(opened())
    monkeypatch.setattr("tipline.county.find_county", lambda _=None: grown)
    monkeypatch.setattr("tipline.serve.find_county", lambda _=None: grown)
    again = served(opened())
    assert again.counties["anping"].digest == packaged()
    assert f"another, {county_digest(load_county(grown))[:12]}" in again.told_counties()[0]


def test_several_counties_stay_in_force(opened: Open, grown: Path, other: Path) -> None:
    both = served(opened(other, find_county()))
    assert list(both.counties) == ["yuxian", "anping"]
    apply_county(opened(), load_county(grown))
    again = served(opened())
    assert digests(again.store.bundles()) == {"anping": county_digest(load_county(grown)), "yuxian": county_digest(load_county(other))}
    assert [runtime.fold.county.digest for runtime in again.runtimes] == [county_digest(load_county(f)) for f in (grown, other)]
    assert len(again.told_counties()) == 2
    one = served(opened(other))
    assert list(one.counties) == ["yuxian"]


def test_a_gateway_asks_the_shared_tables(opened: Open, grown: Path, tmp_path: Path) -> None:
    served(opened())
    apply_county(opened(), load_county(grown))
    served(opened())
    shared = {"log": "kafka://localhost:9", "database": f"sqlite:///{tmp_path / 'data' / 'work.db'}", "data": str(tmp_path / "gateway")}
    for county, expected in (("", "store"), (str(find_county()), "settings")):
        gateway = Store(load_settings({}, {**shared, "county": county}))
        try:
            bundles, origin = gateway.counties()
            assert (origin, digests(bundles)) == (expected, {"anping": packaged() if county else county_digest(load_county(grown))})
        finally:
            gateway.close()
    # A machine with Kafka alone (a worker's, or where topics are made) has nothing to ask.
    lone = Store(load_settings({}, {"log": "kafka://localhost:9", "data": str(tmp_path / "lone")}))
    assert lone.counties()[1] == "package"


def run(data: Path, *arguments: str, password: str | None = None) -> Result:
    return CliRunner(env={"TIPLINE_DATA": str(data), "TIPLINE_COUNTY": ""}).invoke(root, arguments, input=password)


def test_local_commands_know_what_was_applied(opened: Open, grown: Path, other: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    create = ("user", "create", "wangjun", "--role", "station", "--station", STATION)
    assert orjson.loads(run(data, "county", "show", "--json").stdout) == load_county(find_county())
    assert not data.exists()
    served(opened())
    assert run(data, *create, password="correct horse battery\n").exit_code == 2
    assert run(data, "county", "apply", str(grown)).exit_code == 0
    assert orjson.loads(run(data, "county", "show", "--json").stdout) == load_county(grown)
    made = run(data, *create, password="correct horse battery\n")
    assert made.exit_code == 0, made.output
    assert AREA in run(data, "routes", "test", "新村村两家为宅基地吵起来了").stdout
    assert orjson.loads(run(data, "county", "show", "--json", "--county", str(find_county())).stdout) == load_county(find_county())
    # With two in force a command that takes one says so.
    assert run(data, "county", "apply", str(other)).exit_code == 0
    shown = run(data, "county", "show")
    assert shown.exit_code == 2
    assert "anping, yuxian" in shown.stderr
