"""deploy/'s alerts and dashboard: they query existing metrics, and Prometheus's own tool accepts them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client.core import Metric
from tests.exported import Cloud, Edge, families

DEPLOY = Path(__file__).parents[2] / "deploy"
UNIT_TESTS = Path(__file__).with_name("alerts.test.yml")
OF_SCRAPE = {"job", "instance"}  # labels that Prometheus adds
OPEN = {"camera", "edge", "version", "job", "instance"}  # labels of any value
AGGREGATED = re.compile(r"\b(?:by|without|ignoring|on)\s*\(([^)]*)\)")

rules = [rule for group in yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
dashboard = json.loads((DEPLOY / "grafana/dashboards/gradfec.json").read_text())
panels: list[dict[str, Any]] = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed: it is in Debian's package prometheus"
)


class Query(NamedTuple):
    """An expression, and what is said with the labels of its result."""

    where: str
    expr: str
    said: str


class Selector(NamedTuple):
    """What an expression asks for."""

    name: str
    matchers: list[tuple[str, str]]  # label and value


OF_ALERTS = [Query(rule["alert"], rule["expr"], " ".join(rule["annotations"].values())) for rule in rules]
OF_DASHBOARD = [
    Query(panel["title"], target["expr"], target["legendFormat"]) for panel in panels for target in panel["targets"]
]
QUERIES = OF_ALERTS + OF_DASHBOARD
each_query = pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"{query.where}: {query.expr}")


def everything() -> dict[str, Metric]:
    cloud, edge = Cloud(), Edge()
    of_process = {
        family.name + ("_total" if family.type == "counter" else ""): family for family in cloud.registry.collect()
    }
    return {**of_process, **families(cloud.registry), **families(edge.registry)}


EXPORTED = everything()


def selectors(expr: str) -> Iterator[Selector]:
    for name, braces in re.findall(r"\b(gradfec_\w+|process_\w+|up)\b(\{[^}]*\})?", expr):
        yield Selector(name, re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"', braces))


def samples_labels(name: str) -> dict[str, set[str]]:
    """Return the labels of a sample's name, and the values of each."""
    if name == "up":
        return {label: set() for label in OF_SCRAPE}
    family = EXPORTED.get(name) or EXPORTED[re.sub(r"_(bucket|sum|count)$", "", name)]
    found = [sample for sample in family.samples if sample.name == name]
    assert found, f"{name} is the name of no sample"
    values = {label: {sample.labels[label] for sample in found} for label in found[0].labels}
    return values | {label: set() for label in OF_SCRAPE}


@each_query
def test_every_query_asks_for_what_is_exported(query: Query) -> None:
    asked = [*selectors(query.expr)]
    assert asked
    for name, matchers in asked:
        known = samples_labels(name)
        for label, value in matchers:
            assert label in known, f"{name} has no label {label}"
            if label not in OPEN:
                assert {*value.split("|")} <= known[label], f"{name} has no such {label}"


@each_query
def test_every_query_groups_by_existing_labels_and_names_those_that_remain(query: Query) -> None:
    known = set().union(*(samples_labels(name) for name, _ in selectors(query.expr)))
    grouped = {label.strip() for labels in AGGREGATED.findall(query.expr) for label in labels.split(",")}
    assert grouped <= known
    said = {*re.findall(r"\{\{ ?(?:\$labels\.)?(\w+) ?\}\}", query.said)} - {"value"}
    by = {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", query.expr) for label in labels.split(",")}
    assert said <= (by or known)


@pytest.mark.parametrize("rule", rules, ids=lambda rule: rule["alert"])
def test_every_alert_says_how_bad_it_is_what_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["annotations"].keys() == {"summary", "description"}
    assert len(rule["annotations"]["summary"]) < 100
    assert rule["annotations"]["description"].endswith(".")


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    fired: set[str] = set()
    for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        fired |= {one["alertname"] for one in case.get("alert_rule_test", []) if one.get("exp_alerts")}
        for query in case.get("promql_expr_test", []):
            for sample in query.get("exp_samples", []):
                fired |= {*re.findall(r'alertname="(\w+)"', sample["labels"])}
    assert fired == {rule["alert"] for rule in rules}


def test_prometheus_scrapes_the_jobs_that_the_alerts_know() -> None:
    config = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())
    asked = {*re.findall(r'job="([^"]+)"', " ".join(query.expr for query in QUERIES))}
    assert asked == {job["job_name"] for job in config["scrape_configs"]} == {"gradfec-cloud", "gradfec-edge"}
    assert config["rule_files"] == ["alerts.yml"]


def test_the_dashboard_has_no_two_panels_in_one_place_and_asks_the_source_that_is_chosen() -> None:
    places = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in dashboard["panels"]
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(places) == len({*places})
    assert max(x for x, _ in places) == 23
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len({*ids})
    sources = {json.dumps(target["datasource"]) for panel in panels for target in (panel, *panel["targets"])}
    assert sources == {'{"type": "prometheus", "uid": "${datasource}"}'}


def test_the_dashboards_variables_are_labels_of_metrics_and_all_of_them_are_used() -> None:
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    asked = {*re.findall(r"\$(\w+)", " ".join(query.expr for query in OF_DASHBOARD))}
    assert asked == {"__rate_interval", *variables.keys() - {"datasource"}}
    for name in variables.keys() - {"datasource"}:
        query = re.fullmatch(r"label_values\((\w+), (\w+)\)", variables[name]["query"]["query"])
        assert query
        assert query[2] == name in samples_labels(query[1])


def test_grafana_finds_dashboards_where_they_are_mounted_and_the_source_that_they_ask() -> None:
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["jsonData"]["timeInterval"]) == ("prometheus", "15s")
    assert yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["global"]["scrape_interval"] == "15s"
    (provider,) = yaml.safe_load((provisioning / "dashboards/gradfec.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"


# --- Prometheus's own tool ---


def run_promtool(*arguments: object) -> None:
    done = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


@promtool
def test_the_configuration_and_the_rules_are_valid() -> None:
    run_promtool("check", "config", DEPLOY / "prometheus.yml")
    run_promtool("check", "rules", "--lint=all", "--lint-fatal", DEPLOY / "alerts.yml")


@promtool
def test_every_alert_fires_when_it_should_and_not_when_all_is_well() -> None:
    run_promtool("test", "rules", UNIT_TESTS)


@promtool
def test_every_query_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    filled_in = (re.sub(r"\$(camera|edge)\b", ".*", query.expr) for query in OF_DASHBOARD)
    queries = [expr.replace("$__rate_interval", "1m") for expr in filled_in]
    recorded = [{"record": f"query:{number}", "expr": expr} for number, expr in enumerate(queries)]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    run_promtool("check", "rules", tmp_path / "queries.yml")
