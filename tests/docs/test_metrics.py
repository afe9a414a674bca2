"""The metrics page agrees with the code: each exported metric, with type, labels and their values, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from prometheus_client.core import Metric
from tests.exported import Cloud, Edge, families, labels

from gradfec_cloud.metrics import FATES as OF_CLOUD
from gradfec_cloud.metrics import LIMITS
from gradfec_common.session.events import CloudLimits
from gradfec_edge.metrics import FATES as OF_EDGE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/reference/metrics.md").read_text()
SECURITY = (ROOT / "docs/explanation/security.md").read_text()


class Row(NamedTuple):
    """A metric, as the page has it."""

    name: str
    kind: str
    labels: set[str]
    meaning: str


ROWS = [
    Row(name, kind, {*filter(None, labels.split(", "))}, meaning)
    for name, kind, labels, meaning in re.findall(
        r"^\| `(gradfec_\w+)` \| (\w+) \| ([\w, ]*?) ?\| (.+?) \| .*\|$", TEXT, re.MULTILINE
    )
]
EXPORTED: dict[str, Metric] = {**families(Cloud().registry), **families(Edge().registry)}


def test_the_page_has_each_exported_metric_once_and_no_other() -> None:
    assert sorted(row.name for row in ROWS) == sorted(EXPORTED)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_types_and_labels_are_those_of_the_code(row: Row) -> None:
    family = EXPORTED[row.name]
    kind = "gauge" if family.type == "info" else family.type
    assert (row.kind, row.labels) == (kind, {*labels(family)})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_value_of_a_short_list_is_explained(row: Row) -> None:
    values = {
        sample.labels[label]
        for sample in EXPORTED[row.name].samples
        for label in ("fate", "outcome", "reason", "stage", "kind")
        if label in sample.labels
    }
    if values not in ({*OF_CLOUD}, {*OF_EDGE}) and not row.meaning.startswith("as "):
        assert values <= {*re.findall(r"`(\w+)`", row.meaning)}


def test_every_fate_of_a_datagram_is_explained() -> None:
    section = TEXT.partition("## What becomes of a datagram")[2].partition("\n## ")[0]
    assert {*OF_CLOUD, *OF_EDGE, "fate"} == {*re.findall(r"`(\w+)`", section)}


def test_every_limit_is_one_of_those_that_security_names() -> None:
    named = {*re.findall(r"^\| `(\w+)` \|", SECURITY, re.MULTILINE)}
    assert {*LIMITS} <= named
    assert {*LIMITS} - {"credit"} <= {*vars(CloudLimits())}


def test_the_alerts_that_it_names_exist() -> None:
    rules = yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {*re.findall(r"`(Gradfec\w+)`", TEXT)} <= alerts


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda page: page.stem)
def test_every_metric_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"\bgradfec_(?:cloud|edge|build)_\w+\b(?!/)", page.read_text())  # with a slash: a package
    assert {name.removesuffix("_bucket") for name in named} <= {*EXPORTED}
