"""The manifests of ``deploy/``: they hang together, and the real command line and configuration take them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from servers import free_port

from detectors import artifact, registry
from detectors.base import Feature
from monitor import cli, configuration
from monitor.events import SIDES
from monitor.settings import KafkaTransportSettings, Settings, parse_size
from monitor.transport.kafka.options import TopicLayout
from sinks.cloudevents import TYPES

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
FILES = sorted(DEPLOY.glob("**/*.yaml"))
RESOURCES = Path(__file__).parent / "custom_resources.yaml"
OURS = "registry.example/offpath"

Manifest = dict[str, Any]


class Pod(NamedTuple):
    """A pod's template, and of which manifest."""

    file: Path
    owner: Manifest
    spec: Manifest

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def manifests(file: Path) -> list[Manifest]:
    return [told for told in yaml.safe_load_all(file.read_text()) if told is not None]


def pods() -> list[Pod]:
    found = []
    for file in FILES:
        for told in manifests(file):
            template = told.get("spec", {}).get("template")
            if template and "containers" in template.get("spec", {}):
                found.append(Pod(file, told, template["spec"]))
    return found


PODS = pods()
CONTAINERS = [
    pytest.param(pod, container, id=f"{pod.file.relative_to(DEPLOY)}:{container['name']}")
    for pod in PODS
    for container in pod.containers
]
OFFPATHS = [param for param in CONTAINERS if str(param.values[1]["image"]).startswith(OURS)]  # type: ignore[index]


def config_of(pod: Pod) -> tuple[str, str]:
    """The configuration that the pod mounts, and its ConfigMap's name."""
    (name,) = [volume["configMap"]["name"] for volume in pod.spec["volumes"] if "configMap" in volume]
    for file in FILES:
        for told in manifests(file):
            if told["kind"] == "ConfigMap" and told["metadata"]["name"] == name:
                return told["data"]["offpath.yaml"], name
    raise AssertionError(f"{pod.file}: there is no ConfigMap {name}")


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that stands for a pod's root: fitted detectors and secrets where the manifests have them."""
    root = tmp_path_factory.mktemp("pod")
    features = (Feature("age"), Feature("hours"), Feature("sex", "categorical", ("Female", "Male")))
    rows = np.random.default_rng(0).normal(size=(500, 3))
    rows[:, 2] = rows[:, 2] > 0
    detector: Any = registry.create("TabularDrift")
    (root / "var/lib/offpath/artefacts").mkdir(parents=True)
    artifact.save(detector.fit(rows, features), root / "var/lib/offpath/artefacts/income-drift")
    for name in ("ca.crt", "password"):
        (root / "etc/offpath-kafka").mkdir(parents=True, exist_ok=True)
        (root / "etc/offpath-kafka" / name).write_text("x")
    return root


def settings_of(pod: Pod, container: Manifest, host: Path) -> Settings:
    """As the container reads them, its variables included; every mistake fails the test."""
    text, name = config_of(pod)
    file = host / f"{name}.yaml"
    file.write_text(re.sub(r"(?<![\w.])/(var|etc)/", rf"{host}/\1/", text))
    environ = {variable["name"]: variable.get("value", "given") for variable in container.get("env", ())}
    report = configuration.examine(file, environ)
    assert report.mistakes == ()
    assert report.warnings == ()
    assert report.settings is not None
    return report.settings


def test_there_is_something_to_test() -> None:
    assert {file.parent.name for file in FILES} == {"kafka", "strimzi", "knative", "examples"}
    assert len(OFFPATHS) >= 6
    for folder in ("", "kafka", "knative", "examples"):
        assert (DEPLOY / folder / "README.md").is_file()


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_containers_are_locked_down_bounded_and_probed(pod: Pod, container: Manifest) -> None:
    knative = pod.owner["apiVersion"].startswith("serving.knative.dev/")
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    whose = security if knative else pod.spec["securityContext"]  # Knative takes no security context of pods
    assert (whose["runAsNonRoot"], whose["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert container.get("readinessProbe") or container.get("startupProbe")
    assert knative or pod.spec["automountServiceAccountToken"] is False
    assert not container["image"].endswith(":latest")


@pytest.mark.parametrize(("pod", "container"), OFFPATHS)
def test_the_command_line_and_the_configuration_are_taken(pod: Pod, container: Manifest, host: Path) -> None:
    args = cli._parser((container["args"][0],)).parse_args(container["args"])
    assert str(args.config) == "/etc/offpath/offpath.yaml"
    assert pod.spec["enableServiceLinks"] is False, "a Service's variables would be taken for settings"
    assert whose_user(pod, container) == dockerfile_user()
    settings = settings_of(pod, container, host)
    listens = {
        "ingest": (settings.ingest.listen,),
        "worker": (settings.worker.listen,),
        "capture": (settings.capture.listen, settings.capture.admin),
    }[args.command]
    ports = [port["containerPort"] for port in container["ports"]]
    assert [int(listen.rpartition(":")[2]) for listen in listens] == ports
    assert all(listen.startswith("0.0.0.0:") for listen in listens), "the pod's address, not its loopback"


def whose_user(pod: Pod, container: Manifest) -> int:
    return int({**pod.spec.get("securityContext", {}), **container["securityContext"]}["runAsUser"])


def dockerfile_user() -> int:
    found = re.search(r"^USER (\d+):\d+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found, "Kubernetes knows of a number that it is not root, of a name not"
    return int(found[1])


@pytest.mark.parametrize(("pod", "container"), OFFPATHS)
def test_every_path_is_mounted_and_what_is_written_is_writable(pod: Pod, container: Manifest, host: Path) -> None:
    settings = settings_of(pod, container, host)
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    volumes = {volume["name"] for volume in pod.spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", ())}
    assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    reads, writes = ["/etc/offpath/offpath.yaml"], []
    command = container["args"][0]
    if command == "capture":
        writes.append(settings.capture.spool)
    elif isinstance(settings.transport, KafkaTransportSettings):
        reads += [settings.transport.security.ca, settings.transport.security.password_file]
    else:
        writes.append(settings.transport.path)
    if command == "worker":
        writes += [path for sink in settings.sinks if (path := getattr(sink, "path", None))]
    for path, written in [(path, False) for path in reads] + [(path, True) for path in writes]:
        inside = str(path).removeprefix(str(host))
        (mount,) = [known for known in mounts if inside.startswith(known + "/")]
        assert not (written and mounts[mount]), f"{inside} is written, but {mount} is mounted to be read"


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_secrets_are_referred_to_and_probes_ask_ports_that_are_there(pod: Pod, container: Manifest) -> None:
    for variable in container.get("env", ()):
        if re.search("token|password|key", variable["name"], re.IGNORECASE):
            assert "secretKeyRef" in variable["valueFrom"]
    ports = {port.get("name") for port in container["ports"]} | {port["containerPort"] for port in container["ports"]}
    for name, probe in container.items():
        if name.endswith("Probe"):
            asked = probe.get("httpGet") or probe["tcpSocket"]
            assert asked["port"] in ports


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(DEPLOY)))
def test_services_reach_pods_and_references_lead_somewhere(file: Path) -> None:
    everything = [told for other in FILES for told in manifests(other)]
    names = {(told["kind"], told["metadata"]["name"]) for told in everything}
    for told in manifests(file):
        if told["apiVersion"] == "v1" and told["kind"] == "Service":
            selector = told["spec"]["selector"].items()
            of = [
                pod
                for pod in PODS
                if selector <= pod.owner["spec"]["template"].get("metadata", {}).get("labels", {}).items()
            ]
            assert of
            ports = {port.get("name") for pod in of for container in pod.containers for port in container["ports"]}
            assert {port["targetPort"] for port in told["spec"]["ports"]} <= ports
        for ref in found_in(told, "ref"):
            assert (ref["kind"], ref["name"]) in names
        for url in found_in(told, "url"):
            service, namespace = re.match(r"http://([\w-]+)\.([\w-]+)\.svc\.cluster\.local", url).groups()  # type: ignore[union-attr]
            assert ("Service", service) in names
            assert namespace == "offpath"


def found_in(told: Any, key: str) -> Iterator[Any]:
    """Every value of the key, however deep."""
    if isinstance(told, dict):
        for name, value in told.items():
            if name == key:
                yield value
            yield from found_in(value, key)
    elif isinstance(told, list):
        for value in told:
            yield from found_in(value, key)


def test_the_trigger_takes_all_inference_traffic_and_no_finding() -> None:
    trigger = next(told for told in manifests(DEPLOY / "knative/broker.yaml") if told["kind"] == "Trigger")
    (any_of,) = trigger["spec"]["filters"]

    def passes(kind: str) -> bool:
        return any(
            kind == told["exact"]["type"] if "exact" in told else kind.startswith(told["prefix"]["type"])
            for told in any_of["any"]
        )

    assert {kind for kind in SIDES if not passes(kind)} == set()
    assert not any(map(passes, TYPES.values()))
    assert trigger["metadata"]["annotations"]["kafka.eventing.knative.dev/delivery.order"] == "ordered"


def test_topics_are_those_of_the_configuration_as_it_would_make_them(host: Path) -> None:
    topics = {
        told["metadata"]["name"]: told["spec"]
        for told in manifests(DEPLOY / "kafka/strimzi/topics.yaml")
        if told["kind"] == "KafkaTopic"
    }
    worker = next(pod for pod in PODS if pod.file.name == "worker.yaml")
    settings = settings_of(worker, worker.containers[0], host)
    transport = settings.transport
    assert isinstance(transport, KafkaTransportSettings)
    findings = {topic for sink in settings.sinks if (topic := getattr(sink, "topic", None))}
    assert topics.keys() == {transport.topic, transport.dead_letters, transport.state, transport.summaries, *findings}
    readme = (DEPLOY / "kafka/README.md").read_text().replace("\\\n", "")
    for name, spec in topics.items():
        layout = TopicLayout(compact=name == transport.state)
        expected = {"cleanup.policy": "delete", **layout.config(parse_size(transport.max_record))}
        told = {key: str(value) for key, value in spec["config"].items() if key != "min.insync.replicas"}
        assert {"cleanup.policy": "delete", **told} == expected
        (line,) = [line for line in readme.splitlines() if f"--create --topic {name} " in line]
        by_hand = dict(pair.split("=") for pair in re.findall(r"--config (\S+)", line))
        assert {"cleanup.policy": "delete", **by_hand} == expected
        assert f"--partitions {spec['partitions']} " in line


def test_static_membership_is_each_pods_own(host: Path) -> None:
    worker = next(pod for pod in PODS if pod.file.name == "worker.yaml")
    assert worker.owner["kind"] == "StatefulSet"
    assert settings_of(worker, worker.containers[0], host).transport.instance_id == "given"  # type: ignore[union-attr]
    (variable,) = worker.containers[0]["env"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
    topics = manifests(DEPLOY / "kafka/strimzi/topics.yaml")
    assert worker.owner["spec"]["replicas"] <= topics[0]["spec"]["partitions"]


def test_the_image_builds_from_what_it_copies(tmp_path: Path) -> None:
    """Docker is not needed: the wheel is built from the copied files alone, and what pip installs has its versions."""
    text = (DEPLOY / "Dockerfile").read_text()
    kept = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            assert source in kept, f"{source} is not sent to the builder"
            at = tmp_path / target / (source if target.endswith("./") else "")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, at, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, at)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tmp_path]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert len(list((tmp_path / "dist").glob("offpath-*.whl"))) == 1
    assert 'ENTRYPOINT ["offpath"]' in text
    stages = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert all(first == second for first, second in pairwise(stages)), "a virtual environment moves with its Python"


KUBERNETES = "no Kubernetes: set OFFPATH_TEST_KUBERNETES to a folder with bin/kube-up, and install kubectl"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The environment in which kubectl speaks to a real API server, without nodes."""
    named = os.environ.get("OFFPATH_TEST_KUBERNETES")
    starter = (Path(named) if named else ROOT.parent / "shared" / "kubernetes") / "bin" / "kube-up"
    if not starter.is_file() or not shutil.which("kubectl"):
        pytest.skip(KUBERNETES)
    folder = tmp_path_factory.mktemp("kubernetes")
    log = folder / "kube-up.log"
    ports = [str(free_port()) for _ in range(3)]
    with log.open("w") as out:
        process = subprocess.Popen([starter, folder, *ports], stdout=out, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 120
        while not (found := re.search(r"^ready (\S+)$", log.read_text(), re.MULTILINE)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield {**os.environ, "KUBECONFIG": found[1], "HOME": str(folder)}
    finally:
        process.terminate()
        process.wait(60)


def kubectl(cluster: Mapping[str, str], *arguments: str, stdin: str = "") -> str:
    done = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, env=dict(cluster))
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, "of Pod Security, or of a field that will go"
    return done.stdout


def schema(told: Any) -> Manifest:
    """The OpenAPI schema of what ``custom_resources.yaml`` tells of a field."""
    if isinstance(told, list):
        return {"type": "array", "items": schema(told[0])}
    if isinstance(told, str):
        if told == "any":
            return {"x-kubernetes-preserve-unknown-fields": True}
        if told == "quantity":
            return {"x-kubernetes-int-or-string": True}
        if told in ("string", "integer", "boolean"):
            return {"type": told}
        return {"type": "string", "enum": told.split("|")}
    if told.keys() == {"*"}:
        return {"type": "object", "additionalProperties": schema(told["*"])}
    fields = {name.rstrip("!"): schema(of) for name, of in told.items()}
    return {"type": "object", "properties": fields, "required": [name[:-1] for name in told if name.endswith("!")]}


def definitions() -> str:
    """Of the kinds that others define, as far as the manifests use them."""
    told = []
    for named, spec in yaml.safe_load(RESOURCES.read_text()).items():
        resource, kind = named.split()
        name, version = resource.split("/")
        plural, group = name.split(".", 1)
        whole = {"type": "object", "properties": {"spec": schema(spec)}}
        told.append({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"group": group, "scope": "Namespaced",
                     "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
                     "versions": [{"name": version, "served": True, "storage": True,
                                   "schema": {"openAPIV3Schema": whole}}]},
        })  # fmt: skip
    return yaml.safe_dump_all(told)


def test_a_real_api_server_takes_them(cluster: Mapping[str, str]) -> None:
    kubectl(cluster, "apply", "-f", "-", stdin=definitions())
    kubectl(cluster, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
    for name in ("offpath", "models"):
        (namespace,) = manifests(DEPLOY / "kafka/00-namespace.yaml")
        namespace["metadata"]["name"] = name  # warned of, what violates Pod Security, in both
        kubectl(cluster, "apply", "-f", "-", stdin=yaml.safe_dump(namespace))
    for folder in ("kafka", "kafka/strimzi", "knative", "examples"):
        told = kubectl(cluster, "apply", "--validate=strict", "--dry-run=server", "-f", str(DEPLOY / folder))
        wanted = sum(len(manifests(file)) for file in FILES if file.parent == DEPLOY / folder)
        assert told.count("(server dry run)") == wanted
    broker = (DEPLOY / "knative/broker.yaml").read_text().replace("backoffDelay", "backofDelay")
    command = ["kubectl", "apply", "--validate=strict", "--dry-run=server", "-f", "-"]
    done = subprocess.run(command, input=broker, capture_output=True, text=True, env=dict(cluster))
    assert 'unknown field "spec.delivery.backofDelay"' in done.stderr, "the fields are looked at"
