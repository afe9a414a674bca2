"""deploy/kubernetes/ray.yaml: what Kubernetes knows of it is of its form, and its parts fit together."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "deploy" / "kubernetes" / "ray.yaml").read_text(encoding="utf-8")
CLOUD = (ROOT / "deploy" / "kubernetes" / "cloud.yaml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
# The fields of the RayCluster that are used here; KubeRay's schema has more.
CLUSTER = {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
HEAD = {"rayStartParams", "template"}
GROUP = {*HEAD, "groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.fixture
def objects():
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(TEXT)}


@pytest.fixture
def cluster(objects):
    return objects["RayCluster", "gradfec"]["spec"]


@pytest.fixture
def templates(cluster, objects):
    machines = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    gateway = objects["Deployment", "gradfec-gateway"]["spec"]["template"]
    return [*(machine["template"] for machine in machines), gateway]


def test_what_kubernetes_knows_of_it_is_of_its_form(objects, templates, tmp_path):
    known = [one for (kind, _), one in objects.items() if kind != "RayCluster"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", **one, "metadata": {"name": f"pod-{n}", **one["metadata"]}}
        for n, one in enumerate(templates)
    ]
    file = tmp_path / "known.yaml"
    file.write_text(yaml.safe_dump_all([*known, *pods]), encoding="utf-8")
    validate = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", file]
    said = subprocess.run(validate, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_cluster_has_the_fields_of_kuberay_and_parameters_that_ray_start_takes(cluster, objects):
    assert objects["RayCluster", "gradfec"]["apiVersion"] == "ray.io/v1"
    assert {*cluster} == CLUSTER
    assert {*cluster["headGroupSpec"]} == HEAD
    pytest.importorskip("ray")
    ray = [Path(sys.executable).with_name("ray"), "start", "--help"]
    said = subprocess.run(ray, capture_output=True, text=True, check=True).stdout
    options = {*re.findall(r"--([a-z-]+)", said)}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {*group["rayStartParams"]} <= options
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    for group in cluster["workerGroupSpecs"]:
        assert {*group} == GROUP


def test_the_image_has_the_version_of_ray_that_the_cluster_names(cluster):
    assert f"ray=={cluster['rayVersion']}\n" in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "-r ray.txt" in DOCKERFILE


def test_every_pod_keeps_to_the_restricted_standard(templates):
    for pod in (one["spec"] for one in templates):
        context = pod["securityContext"]
        assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert f"useradd --system --uid {context['runAsUser']} " in DOCKERFILE
        for container in pod.get("initContainers", []) + pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {*container["resources"]} == {"requests", "limits"}
            assert container["image"] == "gradfec-cluster:0.1.0"


def test_nobody_but_gateways_and_machines_reaches_the_cluster(objects, templates):
    policy = objects["NetworkPolicy", "gradfec-ray"]["spec"]
    *machines, gateway = (one["metadata"]["labels"] for one in templates)
    assert all(labels == policy["podSelector"]["matchLabels"] for labels in machines)
    ((source,),) = (rule["from"] for rule in policy["ingress"])
    (allowed,) = source["podSelector"]["matchExpressions"]
    assert {*allowed["values"]} == {one["app.kubernetes.io/component"] for one in (*machines, gateway)}


def test_gateways_find_the_head_and_edges_stay_with_a_gateway(objects, templates):
    (gateway,) = templates[-1]["spec"]["containers"]
    assert {"name": "GRADFEC_RAY", "value": "gradfec-head-svc:6379"} in gateway["env"]  # as KubeRay calls it
    service = objects["Service", "gradfec-gateway"]["spec"]
    assert service["sessionAffinity"] == "ClientIP"
    assert service["selector"] == templates[-1]["metadata"]["labels"]
    assert "secretName: gradfec-key" in CLOUD and templates[-1]["spec"]["volumes"][0]["secret"]["secretName"] == (
        "gradfec-key"
    )
    options = re.findall(r"--[a-z-]+", " ".join(gateway["args"]))
    settings = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    assert all(f"| `{option[2:].replace('-', '_')}`" in settings for option in options)
