"""County directories: the example is sound, and every kind of mistake is found with its file, line and key."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from schemas import validation
from schemas.errors import BadCounty
from streams.stages.county import compile_county
from tipline.commands.county import county, routes
from tipline.county import check_county, county_digest, find_county, load_county

ANPING = find_county()


@pytest.fixture
def copy_of(tmp_path: Path) -> Path:
    """A copy of the example to spoil."""
    target = tmp_path / "anping"
    shutil.copytree(ANPING, target)
    return target


def spoil(directory: Path, file: str, old: str, new: str) -> int:
    """Replaces the first `old` by `new`; returns the line where it stood."""
    path = directory / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def test_the_example_has_no_mistakes() -> None:
    bundle, mistakes, warnings = check_county(ANPING)
    assert mistakes == []
    assert any("小王庄" in line for line in warnings)
    assert validation.is_valid("county", bundle)
    assert orjson.loads(orjson.dumps(bundle)) == bundle


def test_the_example_holds_what_the_contract_names() -> None:
    compiled = compile_county(load_county(ANPING))
    townships = [a for a in compiled.areas.values() if a.level == "township"]
    assert [a.township for a in townships] == [
        "anping", "madian", "nanwangzhuang", "daziwen", "donghuangcheng", "dahezhuang", "chengyouzi", "xiliangwa",
    ]  # fmt: skip
    for area in compiled.areas.values():
        if area.level == "township":
            assert {f"police-{area.township}", f"mediation-{area.township}"} <= compiled.stations.keys()
        if area.level == "village":
            assert f"village-{area.township}-{area.village}" in compiled.stations
    assert compiled.areas["anping/xiliangwa/dashaocun"].zh == "大邵村"
    assert (compiled.offset_minutes, compiled.desks["triage"]) == (480, "county-triage")


def test_the_digest_follows_the_content() -> None:
    bundle = load_county(ANPING)
    assert county_digest(bundle) == county_digest(orjson.loads(orjson.dumps(bundle))) == compile_county(bundle).digest
    changed = copy.deepcopy(bundle)
    changed["county"]["thresholds"]["ambiguity_band_m"] = 51
    assert county_digest(changed) != county_digest(bundle)


MISTAKES = [
    ("county.yaml", "desks: {triage: county-triage,", "desks: {triage: county-traige,", "did you mean county-triage"),
    ("county.yaml", 'utc_offset: "+08:00"', "utc_offset: Beijing", "utc_offset"),
    ("county.yaml", 'utc_offset: "+08:00"', 'utc_offset: "+25:00"', "-14:00 to +14:00"),
    ("county.yaml", "urgent_ladder: urgent ", "urgent_ladder: fast ", "unknown ladder fast"),
    ("county.yaml", "thresholds:", "tresholds:", "did you mean thresholds"),
    ("areas.yaml", "{id: dongguan,", "{id: xiguan,", "village xiguan stands twice"),
    ("areas.yaml", "area: anping/anping", "area: anping/nowhere", "unknown area anping/nowhere"),
    ("areas.yaml", "desk: county-triage", "desk: county-x", "unknown station county-x"),
    ("stations.yaml", "areas: [anping/madian]", "areas: []", "serves no area"),
    ("stations.yaml", "areas: [anping/madian]", "areas: [anping/madain]", "did you mean anping/madian"),
    ("stations.yaml", "id: police-madian", "id: police-anping", "station police-anping stands twice"),
    ("stations.yaml", "restricted: true}", "restricted: maybe}", "must be of type boolean"),
    ("routes.yaml", "station: drug-county", "station: drugs-county", "did you mean drug-county"),
    ("routes.yaml", "station: village-{township}-{village}", "station: hamlet-{township}-{village}", "do not exist"),
    ("routes.yaml", "ladder: restricted", "ladder: restrictive", "unknown ladder restrictive"),
    ("routes.yaml", "cue: damage", "cue: damages", "unknown cue list damages"),
    ("routes.yaml", "flag: restricted", "flag: secret", "'secret' is not known"),
    ("routes.yaml", "id: uncertain", "id: no-action", "stands 2 times"),
    ("routes.yaml", "subtype: drug_plant", "subtype: burglary", "can never match"),
    ("routes.yaml", "subtype: traffic_accident", "subtype: loan", "can never match"),
    ("routes.yaml", "area_known: village}", "area_knwon: village}", "did you mean area_known"),
    ("routes.yaml", "within: siwang-expo", "within: siwang-exp", "did you mean siwang-expo"),
    ("routes.yaml", 'to: "2026-10-24T20:00:00+08:00"', 'to: "2026-10-24T20:00:00"', "no offset"),
    ("routes.yaml", 'to: "2026-10-24', 'to: "2025-10-24', "must lie after"),
    ("routes.yaml", "match: {flag: uncertain}", "match: {}", "can never match: uncertain before it"),
    ("routes.yaml", "root:", "tree:", "root"),
    ("ladders.yaml", "limit: 24h", "limit: 24 hours", "is no limit"),
    ("ladders.yaml", "level: township\n        station: med", "level: county\n        station: med", "must go upwards"),
    ("ladders.yaml", "arbiter: county-final", "arbiter: county-finale", "did you mean county-final"),
    ("ladders.yaml", "clock: working", "clock: lunar", "'lunar' is not known"),
    ("calendar.yaml", '"08:30-12:00"', '"12:00-08:30"', "must end after it begins"),
    ("calendar.yaml", "from: 2025-01-28", "from: 2025-02-30", "calendar"),
    ("calendar.yaml", "to: 2025-02-04", "to: 2025-01-04", "must not lie before"),
    ("sources.yaml", "area: anping/madian", "area: anping/madianx", "did you mean anping/madian"),
    ("lexicon.yaml", "@officer*@graft", "@officers*@graft", "unknown list @officers"),
    ("lexicon.yaml", "lists:", "lists:\n  empty: ['!a']", "never found"),
    ("boundaries.geojson", '"zone": "siwang-expo"', '"zone": "siwang"', "unknown zone siwang"),
    ("boundaries.geojson", "115.4705, 38.1502", "115.4305, 38.1502", "overlaps"),
    ("boundaries.geojson", "115.62, 38.165", "115.72, 38.165", "outline of anping/xiliangwa/dashaocun"),
]


@pytest.mark.parametrize(("file", "old", "new", "words"), MISTAKES)
def test_a_mistake_is_found(copy_of: Path, file: str, old: str, new: str, words: str) -> None:
    spoil(copy_of, file, old, new)
    with pytest.raises(BadCounty) as caught:
        load_county(copy_of)
    assert any(words in line for line in caught.value.mistakes), caught.value.mistakes
    assert all(line.split(":")[1].isdigit() for line in caught.value.mistakes)


def test_a_mistake_names_its_file_and_line(copy_of: Path) -> None:
    line = spoil(copy_of, "routes.yaml", "station: drug-county", "station: drugs-county")
    _, mistakes, _ = check_county(copy_of)
    assert next(m for m in mistakes if "drugs-county" in m).startswith(f"routes.yaml:{line}: root.routes[4].station: ")


def test_all_mistakes_come_at_once(copy_of: Path) -> None:
    spoil(copy_of, "county.yaml", "thresholds:", "tresholds:")
    spoil(copy_of, "stations.yaml", "areas: [anping/madian]", "areas: []")
    spoil(copy_of, "routes.yaml", "cue: damage", "cue: damages")
    spoil(copy_of, "calendar.yaml", '"08:30-12:00"', '"12:00-08:30"')
    _, mistakes, _ = check_county(copy_of)
    assert {m.split(":")[0] for m in mistakes} == {"county.yaml", "stations.yaml", "routes.yaml", "calendar.yaml"}


@pytest.mark.parametrize("text", ["id: [", "", "id: a\nid: b\n", "&a [*a]", "\t- x", "- 1\n- 2\n", "id: \x00"])
def test_bad_yaml_is_a_mistake_and_no_crash(copy_of: Path, text: str) -> None:
    (copy_of / "county.yaml").write_text(text, encoding="utf-8")
    _, mistakes, _ = check_county(copy_of)
    assert any(m.startswith("county.yaml:") for m in mistakes)


def test_duplicate_keys_name_the_second(copy_of: Path) -> None:
    line = spoil(copy_of, "county.yaml", "id: anping\n", "id: anping\nid: other\n")
    _, mistakes, _ = check_county(copy_of)
    assert mistakes == [f"county.yaml:{line + 1}: id: stands twice; keep one"]


def test_missing_and_unknown_files_are_told(copy_of: Path) -> None:
    (copy_of / "ladders.yaml").rename(copy_of / "ladder.yaml")
    _, mistakes, _ = check_county(copy_of)
    assert any(m.startswith("ladders.yaml:1: file: missing") for m in mistakes)
    assert any("did you mean ladders.yaml" in m for m in mistakes)


@pytest.mark.parametrize("name", ["stations.yaml", "boundaries.geojson"])
def test_what_cannot_be_read_is_a_mistake_and_no_crash(copy_of: Path, name: str) -> None:
    (copy_of / name).unlink()
    (copy_of / name).mkdir()
    _, mistakes, _ = check_county(copy_of)
    assert any(m.startswith(f"{name}:1: file: cannot be read") for m in mistakes)


def test_boundaries_may_be_left_out(copy_of: Path) -> None:
    (copy_of / "boundaries.geojson").unlink()
    _, mistakes, warnings = check_county(copy_of)
    assert mistakes == []
    assert any("boundaries.geojson" in w for w in warnings)


def test_a_gap_between_townships_is_found(copy_of: Path) -> None:
    path = copy_of / "boundaries.geojson"
    document = orjson.loads(path.read_bytes())
    feature = next(f for f in document["features"] if f["properties"].get("area") == "anping/madian")
    feature["geometry"]["coordinates"] = [
        [[115.39, 38.16], [115.44, 38.16], [115.44, 38.2], [115.39, 38.2], [115.39, 38.16]]
    ]
    path.write_bytes(orjson.dumps(document))
    _, mistakes, _ = check_county(copy_of)
    assert any("leave a gap" in m for m in mistakes)


def test_a_self_crossing_outline_is_invalid(copy_of: Path) -> None:
    path = copy_of / "boundaries.geojson"
    document = orjson.loads(path.read_bytes())
    feature = next(f for f in document["features"] if "zone" in f["properties"])
    feature["geometry"]["coordinates"] = [
        [[115.5, 38.2], [115.51, 38.21], [115.51, 38.2], [115.5, 38.21], [115.5, 38.2]]
    ]
    path.write_bytes(orjson.dumps(document))
    _, mistakes, _ = check_county(copy_of)
    assert any("is invalid" in m for m in mistakes)


@pytest.mark.parametrize("name", [None, "anping", str(ANPING)])
def test_the_example_is_found_by_name_or_path(name: str | None) -> None:
    assert find_county(name).joinpath("county.yaml").is_file()


def test_an_unknown_county_says_what_to_do() -> None:
    with pytest.raises(BadCounty, match="give the directory"):
        find_county("atlantis")


def test_county_check_lists_mistakes_and_exits_1(copy_of: Path) -> None:
    assert CliRunner().invoke(county, ["check", str(copy_of)]).exit_code == 0
    spoil(copy_of, "routes.yaml", "cue: damage", "cue: damages")
    result = CliRunner().invoke(county, ["check", str(copy_of)])
    assert (result.exit_code, "unknown cue list" in result.output) == (1, True)
    first, *between, last = result.output.splitlines()
    assert first.startswith("routes.yaml:") and last == f"1 mistake, {len(between)} warnings"
    assert between and all(line.startswith("warning: ") for line in between)
    answer = orjson.loads(CliRunner().invoke(county, ["check", "--json", str(copy_of)]).stdout)
    assert len(answer["mistakes"]) == 1


def test_county_show_prints_the_document() -> None:
    assert "police-xiliangwa" in CliRunner().invoke(county, ["show"]).output
    assert orjson.loads(CliRunner().invoke(county, ["show", "--json"]).stdout) == load_county(ANPING)


def test_routes_test_explains() -> None:
    result = CliRunner().invoke(routes, ["test", "大邵村两家吵架", "--category", "dispute"])
    assert result.exit_code == 0, result.output
    assert "village-xiliangwa-dashaocun" in result.output
    assert "+ dispute-village" in result.output
    answer = orjson.loads(
        CliRunner().invoke(routes, ["test", "着火", "--area", "anping/madian", "--urgent", "--json"]).stdout
    )
    assert answer["routed"]["station"] == "police-madian"


@pytest.mark.parametrize("options", [["--lat", "38.2"], ["--area", "nowhere"], ["--at", "noon"], ["--subtype", "loan"]])
def test_routes_test_refuses_nonsense(options: list[str]) -> None:
    assert CliRunner().invoke(routes, ["test", "x", *options]).exit_code == 2
