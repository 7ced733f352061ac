"""What is shipped to run it: the compose file against the compose specification, alerts with their runbooks, the dashboard."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from streams.ports import METRICS
from tests.conftest import missing
from tipline.cli import root

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
ALERTS = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text("utf-8"))
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "tipline.json").read_text("utf-8"))


def _rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def test_the_compose_file_is_valid() -> None:
    found = importlib.util.find_spec("check_jsonschema")
    if found is None or not found.submodule_search_locations:
        missing("check-jsonschema, which carries the compose specification")
    path = Path(found.submodule_search_locations[0]) / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(path.read_text("utf-8"))
    document = {name: value for name, value in COMPOSE.items() if not name.startswith("x-")}
    jsonschema.validate(document, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "services": {"x": {"enviroment": {}}}}, schema)


def test_every_service_is_watched_and_none_has_a_default_password() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"kafka", "postgres", "topics", "gateway", "worker-1", "worker-2", "sink", "prometheus", "grafana"}
    for name, service in services.items():
        assert name == "topics" or "healthcheck" in service, name
        assert service["restart"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|DATABASE", key):
                assert re.search(r"\$\{[A-Z_]+:\?", value), f"{name}: {key}"
    named = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ()) if not volume.startswith(".")}
    assert named == set(COMPOSE["volumes"])


def test_the_image_runs_without_rights() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").splitlines()
    assert "USER 10001" in lines
    assert any("--require-hashes" in line for line in lines)


def test_the_image_holds_what_the_wheel_is_made_of() -> None:
    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "deploy" / "Dockerfile").read_text("utf-8"), re.M))
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert copied == {*wheel["packages"], *(path.split("/")[0] for path in wheel["force-include"])}
    assert "hatchling==" in (ROOT / "requirements" / "runtime.lock").read_text("utf-8")  # the image builds without isolation


def test_the_services_run_commands_of_ours_with_options_that_there_are() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            continue
        context = click.Context(root)
        command: click.Command | None = root
        words = list(service["command"])
        while isinstance(command, click.Group):
            command = command.get_command(context, words.pop(0))
        assert command is not None, name
        command.make_context(name, words)  # raises for an option that there is not
        assert set(service["environment"]) == {"TIPLINE_LOG", "TIPLINE_DATABASE", "TIPLINE_KEYS", "TIPLINE_LOG_LEVEL"}


def test_prometheus_scrapes_the_services_where_they_listen() -> None:
    document = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text("utf-8"))
    targets = {target for job in document["scrape_configs"] for one in job["static_configs"] for target in one["targets"]}
    listening = set()
    for name, service in COMPOSE["services"].items():
        words = service.get("command", [])
        listening |= {f"{name}:{words[at + 1]}" for at, word in enumerate(words) if word in ("--port", "--metrics-port")}
    assert targets == listening


def test_every_required_variable_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    example = (ROOT / "deploy" / "compose.env.example").read_text("utf-8")
    wanted = set(re.findall(r"\$\{([A-Z_]+)", text))
    assert wanted == set(re.findall(r"^([A-Z_]+)=", example, re.M))


def test_every_alert_has_its_runbook() -> None:
    headings = set(re.findall(r"^### (\w+)$", (ROOT / "docs" / "operations.md").read_text("utf-8"), re.M))
    alerts = {rule["alert"] for rule in _rules()}
    assert alerts <= headings
    for rule in _rules():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def _expressions() -> list[str]:
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return [*(rule["expr"] for rule in _rules()), *panels]


def test_alerts_and_dashboard_ask_for_metrics_that_there_are() -> None:
    for expression in _expressions():
        for name in re.findall(r"tipline_\w+", expression):
            assert re.sub(r"_(bucket|count|sum)$", "", name) in METRICS, expression


def test_the_dashboard_reads_the_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((ROOT / "deploy" / "grafana" / "provisioning" / "datasources" / "prometheus.yml").read_text("utf-8"))["datasources"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"] for source in sources}


def test_promtool_takes_rules_and_settings(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        missing("promtool")
    rules = tmp_path / "panels.yml"
    recorded = [{"record": f"panel:n{n}", "expr": expression} for n, expression in enumerate(_expressions())]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}), "utf-8")
    for path in (ROOT / "deploy" / "alerts.yml", rules):
        done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    settings = tmp_path / "prometheus.yml"
    token = tmp_path / "token"
    token.touch()
    text = (ROOT / "deploy" / "prometheus.yml").read_text("utf-8")
    settings.write_text(text.replace("/etc/prometheus/", f"{ROOT}/deploy/").replace("/run/secrets/ops_token", str(token)), "utf-8")
    done = subprocess.run([promtool, "check", "config", str(settings)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
