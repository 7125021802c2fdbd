"""Deployments among the examples: valid by Kubernetes' own schemas and systemd, and in agreement with the server.

Schemas know fields and their types. What goes with what (ports, paths, times, volumes) is compared with the settings
that the server itself reads of the same file.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import kubernetes_validate
import pytest
import yaml

from support.cli import rankport
from support.metric_pages import metric_page

FOLDER = Path(__file__).parents[2] / "examples" / "deploy"
KUBERNETES = {
    file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in (FOLDER / "kubernetes").glob("*.yaml")
}
AUTOSCALED = {
    file.stem: yaml.safe_load(file.read_text(encoding="utf-8"))
    for file in (FOLDER / "autoscaled").glob("*.yaml")
}
POD = KUBERNETES["deployment"]["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
END_S = 0.5 + 1  # in which a server's port refuses, and its connections close


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Settings of the file, as the server reads them; its paths are not here."""
    result = rankport("serve", "--config", FOLDER / "server.toml", "--check-config")
    assert result.returncode == 1, result.stderr
    told = json.loads(result.stdout)  # by its own json-log
    assert [check for check in told["checks"] if check["what"].startswith("host") and check["error"]] == []
    return {each["key"]: each["value"] for each in told["settings"]}


@pytest.mark.parametrize("name", [*sorted(set(KUBERNETES) - {"kustomization"}), "autoscaler"])
@pytest.mark.parametrize("version", ["1.30", "1.34"])
def test_manifests_are_valid_by_the_schemas_of_kubernetes(name: str, version: str) -> None:
    kubernetes_validate.validate((KUBERNETES | AUTOSCALED)[name], version, strict=True)


def test_a_field_that_kubernetes_does_not_have_is_found() -> None:
    wrong = json.loads(json.dumps(KUBERNETES["deployment"]))
    wrong["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"] = {"sleeps": 3}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.34", strict=True)


def test_a_pod_has_the_time_that_a_stop_takes(settings: dict[str, Any]) -> None:
    needs_s = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    needs_s += settings["lame_duck_s"] + settings["grace_s"] + END_S
    assert needs_s + 5 <= POD["terminationGracePeriodSeconds"]


def test_ports_are_those_that_the_server_has(settings: dict[str, Any]) -> None:
    ports = {each["name"]: each["containerPort"] for each in CONTAINER["ports"]}
    assert ports == {
        "grpc": settings["port"],
        "http": settings["http_port"],
        "metrics": settings["metrics_port"],
    }
    assert {each["targetPort"]: each["port"] for each in KUBERNETES["service"]["spec"]["ports"]} == ports
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert (asked["port"], asked["scheme"]) == (
            "http",
            "HTTPS",
        )  # TLS is on, and no client's certificate asked for
        assert asked["path"] in ("/health/live", "/health/ready")
    assert settings["tls_client_ca"] is None


def test_all_ports_but_that_for_admin_calls_are_open_to_somebody() -> None:
    policy = KUBERNETES["network"]["spec"]
    assert sorted(policy["policyTypes"]) == ["Egress", "Ingress"]
    open_to_some = [each["port"] for rule in policy["ingress"] for each in rule["ports"]]
    assert sorted(open_to_some) == sorted(each["name"] for each in CONTAINER["ports"])
    assert all(rule["from"] for rule in policy["ingress"])  # none: from everywhere


def test_paths_of_the_settings_are_mounted_and_the_store_can_only_be_read(settings: dict[str, Any]) -> None:
    mounts = {PurePosixPath(each["mountPath"]): each for each in CONTAINER["volumeMounts"]}
    paths = [settings[key] for key in ("store", "tls_cert", "tls_key", "token_file")]
    for path in (*paths, *settings["bundles"], *settings["model_root"], CONTAINER["args"][1]):
        place = PurePosixPath(path)
        mount = next(mounts[each] for each in (place, *place.parents) if each in mounts)
        assert mount["readOnly"]
        assert "subPath" not in mount
    assert settings["frozen"]
    assert {each["name"] for each in POD["volumes"]} == {each["name"] for each in mounts.values()}


def test_the_page_names_the_secrets_and_claims_that_their_owner_makes() -> None:
    page = (FOLDER.parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
    made = [each.get("secret", {}).get("secretName") for each in POD["volumes"]]
    made += [each.get("persistentVolumeClaim", {}).get("claimName") for each in POD["volumes"]]
    (endpoint,) = AUTOSCALED["monitor"]["spec"]["endpoints"]
    made += [endpoint["authorization"]["credentials"]["name"], endpoint["tlsConfig"]["ca"]["secret"]["name"]]
    assert set(re.findall(r"`(rankport-[a-z]+)`", page)) == set(filter(None, made))


def test_variables_of_the_container_are_settings() -> None:
    (variable,) = CONTAINER["env"]
    result = rankport("serve", "--help")
    name = variable["name"].removeprefix("RANKPORT_SERVE_").lower().replace("_", "-")
    assert f"--{name}" in result.stdout
    assert POD["enableServiceLinks"] is False


def test_labels_select_the_pods() -> None:
    labels = KUBERNETES["deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["service"]["spec"]["selector"] == labels
    assert KUBERNETES["disruption"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["network"]["spec"]["podSelector"]["matchLabels"] == labels
    resources = KUBERNETES["kustomization"]["resources"]
    assert sorted(resources) == sorted(f"{name}.yaml" for name in KUBERNETES if name != "kustomization")


def test_the_autoscaler_asks_for_the_metric_that_the_adapter_makes() -> None:
    spec = AUTOSCALED["autoscaler"]["spec"]
    deployment = KUBERNETES["deployment"]
    target = {key: deployment[key] for key in ("apiVersion", "kind")} | {
        "name": deployment["metadata"]["name"]
    }
    assert spec["scaleTargetRef"] == target
    assert spec["minReplicas"] == deployment["spec"]["replicas"]
    (metric,) = spec["metrics"]
    (rule,) = AUTOSCALED["adapter-values"]["rules"]["custom"]
    assert metric["pods"]["metric"]["name"] == rule["name"]["as"]
    series, labels = rule["seriesQuery"].removesuffix("}").split("{")
    assert f"\n{series}{{" in metric_page()
    assert re.findall(r"(\w+)!=", labels) == [*rule["resources"]["overrides"]]


def test_the_monitor_scrapes_the_port_of_metrics_behind_tls_and_tokens(settings: dict[str, Any]) -> None:
    monitor, service = AUTOSCALED["monitor"], KUBERNETES["service"]
    assert monitor["spec"]["selector"]["matchLabels"] == service["metadata"]["labels"]
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [each["name"] for each in service["spec"]["ports"]]
    assert (endpoint["scheme"], "authorization" in endpoint) == ("https", settings["token_file"] is not None)
    # Its job is the service's name, by which the alerts find servers.
    alerts = (FOLDER / "observability" / "alerts.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r'job="([^"]+)"', alerts)) == {service["metadata"]["name"]}


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="needs kubectl")
def test_an_autoscaled_deployment_has_no_number_of_pods() -> None:
    command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", FOLDER / "autoscaled"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    manifests = {each["kind"]: each for each in yaml.safe_load_all(made)}
    assert "replicas" not in manifests["Deployment"]["spec"]
    assert {"ConfigMap", "Service", "HorizontalPodAutoscaler", "ServiceMonitor"} <= manifests.keys()


def test_the_unit_waits_as_long_as_a_stop_takes(settings: dict[str, Any]) -> None:
    unit = (FOLDER / "rankport.service").read_text(encoding="utf-8")
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert settings["lame_duck_s"] + settings["grace_s"] + END_S + 5 <= float(stop_s)


def test_the_unit_has_folders_to_write_to_where_all_others_are_closed() -> None:
    lines = (FOLDER / "rankport.service").read_text(encoding="utf-8").splitlines()
    assert {"ProtectSystem=strict", "ProtectHome=yes"} <= set(lines)
    assert {"StateDirectory=rankport", "RuntimeDirectory=rankport"} <= set(lines)


def test_the_unit_has_a_watchdog_that_a_server_tells_in_time() -> None:
    unit = (FOLDER / "rankport.service").read_text(encoding="utf-8")
    (within_s,) = re.findall(r"^WatchdogSec=(\d+)$", unit, re.MULTILINE)
    assert "\nType=notify\n" in unit  # the kind that listens to what a server tells
    assert float(within_s) >= 10.0  # it tells twice a second, and may be kept from a core meanwhile


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_unit_is_valid_by_systemd(tmp_path: Path) -> None:
    unit = tmp_path / "rankport.service"
    text = (FOLDER / "rankport.service").read_text(encoding="utf-8")
    # The program is not there, which is told as well; any other is.
    unit.write_text(text.replace("/opt/rankport/bin/rankport", "/bin/true"), encoding="utf-8")
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    told = [line for line in result.stderr.splitlines() if "rankport.service" in line]
    assert (result.returncode, told) == (0, [])
    exposure = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)]  # of 100
    assert subprocess.run(exposure, capture_output=True, check=False).returncode == 0


HOLDS_CONNECTIONS = """
import socket
server = socket.create_server(("::1", 8500), family=socket.AF_INET6)
held = []
try:
    while len(held) < 200:
        held.append(socket.create_connection(("::1", 8500), 5))
except ConnectionRefusedError:
    print(len(held))
"""


def test_connections_are_limited_at_the_ports_of_the_server(settings: dict[str, Any]) -> None:
    rules = (FOLDER / "connections.nft").read_text(encoding="utf-8")
    ports = f"{{ {settings['port']}, {settings['http_port']} }}"
    assert rules.count(f"tcp dport {ports} ct state new add ") == 2


@pytest.mark.skipif(
    shutil.which("nft") is None or os.geteuid() != 0, reason="needs nft, and a network of its own"
)
def test_an_address_holds_as_many_connections_as_the_rules_say() -> None:
    steps = 'ip link set lo up && nft -f "$0" && exec "$1" -c "$2"'
    command = [
        "unshare",
        "-n",
        "sh",
        "-c",
        steps,
        FOLDER / "connections.nft",
        sys.executable,
        HOLDS_CONNECTIONS,
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout == "100\n"


def test_the_image_runs_the_server_itself_and_not_as_root() -> None:
    lines = (FOLDER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert 'ENTRYPOINT ["rankport", "serve"]' in lines
    assert f"CMD {json.dumps(CONTAINER['args'])}" in lines
    (user,) = (line.split()[1] for line in lines if line.startswith("USER "))
    assert int(user) == POD["securityContext"]["runAsUser"] > 0
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--from" not in line]
    sources = {source for line in copied for source in line}
    assert all((FOLDER.parents[1] / source).exists() for source in sources)
    sent = (FOLDER.parents[1] / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in sent
    assert {line.removeprefix("!") for line in sent if line.startswith("!")} == sources
