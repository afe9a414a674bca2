"""deploy/kubernetes: the manifest agrees with the image and keeps its promises."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "deploy" / "kubernetes" / "cloud.yaml"
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")


@pytest.fixture
def objects():
    found = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    return {one["kind"]: one for one in found}


@pytest.fixture
def pod(objects):
    return objects["Deployment"]["spec"]["template"]


def test_every_object_is_of_a_kind_and_form_that_kubernetes_knows():
    validate = [Path(sys.executable).with_name("kubernetes-validate"), "--strict", MANIFEST]
    said = subprocess.run(validate, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stdout + said.stderr


def test_the_pod_keeps_to_the_restricted_standard_and_cannot_write_to_its_image(objects, pod):
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    context = pod["spec"]["securityContext"]
    assert context["runAsNonRoot"] and context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert f"useradd --system --uid {context['runAsUser']} " in DOCKERFILE
    for container in pod["spec"]["initContainers"] + pod["spec"]["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container["resources"]) == {"requests", "limits"}


def test_the_key_goes_from_the_secret_to_where_the_cloud_looks_readable_for_its_user_alone(pod):
    path = Path(re.search(r"^ENV GRADFEC_KEY_FILE=(\S+)$", DOCKERFILE, re.MULTILINE)[1])
    (copy,) = pod["spec"]["initContainers"]
    assert copy["command"] == ["install", "-m", "600", "/secret/key", str(path)]
    (cloud,) = pod["spec"]["containers"]
    mounts = {mount["mountPath"]: mount for mount in cloud["volumeMounts"]}
    assert mounts[str(path.parent)]["readOnly"]
    assert "/secret" not in mounts


def test_an_edge_stays_with_one_replica_and_a_new_cloud_never_stands_beside_the_old_one(objects):
    assert objects["Deployment"]["spec"]["replicas"] == 1
    assert objects["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    assert objects["Service"]["spec"]["sessionAffinity"] == "ClientIP"


def test_service_policy_and_probes_name_ports_that_the_cloud_listens_on(objects, pod):
    (cloud,) = pod["spec"]["containers"]
    ports = {port["name"]: (port["protocol"], port["containerPort"]) for port in cloud["ports"]}
    arguments = cloud["args"]
    assert ports["features"] == ("UDP", int(arguments[arguments.index("--listen") + 1]))
    assert arguments[arguments.index("--metrics") + 1] == f"0.0.0.0:{ports['metrics'][1]}"
    assert ports["metrics"][0] == "TCP"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert cloud[probe]["httpGet"]["port"] == "metrics"
    (service,) = objects["Service"]["spec"]["ports"]
    assert (service["targetPort"], service["protocol"]) == ("features", "UDP")
    allowed = [port for rule in objects["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert {(port["port"], port["protocol"]) for port in allowed} == {("features", "UDP"), ("metrics", "TCP")}


def test_everything_belongs_together_by_the_same_labels(objects, pod):
    labels = pod["metadata"]["labels"]
    assert objects["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
