"""infra/kuberay/: each manifest, as the README's command fills it in, is what the operator takes, and what is promised.

The schema is KubeRay's own and lies outside of this repository; the rules that no schema states are kuberay_rules.py's.
"""

import gzip
import re
import shlex
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from jobs.__main__ import COMMANDS
from jobs.recipe import load_recipe
from tests.infra.kuberay_rules import groups, pod, violations

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "infra" / "kuberay").glob("*.yaml"))
CRD = ROOT.parent / "shared" / "kuberay" / "ray.io_rayjobs.yaml.gz"
YOURS = {
    "IMAGE": "example.com/me/distil:0f3a",
    "COMMIT": "0f3a",
    "TABLES": "s3://bucket/prefix",
    "NAME": "one",
}
LEFT_OPEN = {"x-kubernetes-preserve-unknown-fields", "additionalProperties"}


def filled_in(manifest: Path) -> str:
    """By the `sed` of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^sed (.+) infra/kuberay/score.yaml \| kubectl create -f -$", readme, re.MULTILINE)
    assert command, "the README no longer says how a manifest is sent"
    words = [re.sub(r"\$(\w+)", lambda found: YOURS[found[1]], word) for word in shlex.split(command[1])]
    return subprocess.run(["sed", *words, manifest], check=True, capture_output=True, text=True).stdout


@pytest.fixture(params=MANIFESTS, ids=lambda path: path.stem)
def job(request) -> dict[str, Any]:
    return yaml.safe_load(filled_in(request.param))


@pytest.fixture
def score() -> dict[str, Any]:
    return yaml.safe_load(filled_in(ROOT / "infra" / "kuberay" / "score.yaml"))


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    if not CRD.exists():
        pytest.skip("needs ../shared/kuberay, KubeRay's CustomResourceDefinition")
    with gzip.open(CRD) as file:
        versions = yaml.load(file, yaml.CSafeLoader)["spec"]["versions"]
    v1 = next(one for one in versions if one["name"] == "v1")
    return jsonschema.Draft202012Validator(closed(v1["schema"]["openAPIV3Schema"]))


def closed(schema: Any) -> Any:
    """Kubernetes' dialect as JSON Schema that refuses unknown fields, which the operator drops without a word."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: closed(inner) for name, inner in schema.items() if not name.startswith("x-kubernetes-")}
    if isinstance(schema.get("properties"), dict) and not schema.keys() & LEFT_OPEN:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string") is True:
        made["type"] = ["integer", "string"]
    return made


def resources(group: dict[str, Any]) -> dict[str, Any]:
    return pod(group)["containers"][0]["resources"]


def test_a_manifest_fits_the_operators_schema(job, schema):
    schema.validate(job)


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("spec.backoffLimits", 3, "'backoffLimits' was unexpected"),
        ("spec.rayClusterSpec.authOptions.mode", "tokens", "'tokens' is not one of"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", "none", "'none' is not of type 'integer'"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.toleration", [], "'toleration' was unexpected"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.resources.limits.memory", "16 GB", "not match"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.num-cpus", 0, "0 is not of type 'string'"),
    ],
)
def test_a_slip_of_the_pen_does_not_fit_the_schema(score, schema, path, value, told):
    with pytest.raises(jsonschema.ValidationError, match=re.escape(told)):
        schema.validate(changed(score, path, value))


def test_a_manifest_keeps_the_rules_that_no_schema_states(job):
    assert violations(job) == []


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("metadata.generateName", "s" * 43, "longer than 47"),
        ("metadata.generateName", "score-YOUR_NAME-", "no DNS-1035 label"),
        ("metadata.generateName", "1score-", "no DNS-1035 label"),
        ("spec.clusterSelector", {"ray.io/cluster": "one"}, "not exactly one of"),
        ("spec.clusterSelector", {"ray.io/cluster": "one"}, "clusterSelector with backoffLimit"),
        ("spec.shutdownAfterJobFinishes", False, "ttlSecondsAfterFinished is negative, or without"),
        ("spec.ttlSecondsAfterFinished", -1, "ttlSecondsAfterFinished is negative"),
        ("spec.deletionStrategy", {}, "deletionStrategy needs a feature gate"),
        ("spec.backoffLimit", -1, "backoffLimit is negative"),
        ("spec.activeDeadlineSeconds", 0, "activeDeadlineSeconds is not positive"),
        ("spec.runtimeEnvYAML", "a: [", "runtimeEnvYAML is no YAML"),
        ("spec.submissionMode", "InteractiveMode", "InteractiveMode with backoffLimit"),
        ("spec.rayClusterSpec.rayVersion", "2.51.0", "authOptions.mode token with rayVersion '2.51.0'"),
        ("spec.rayClusterSpec.rayVersion", "2.55.0", "priority with rayVersion '2.55.0'"),
        ("spec.rayClusterSpec.rayVersion", "", "authOptions.mode token with rayVersion ''"),
        ("spec.rayClusterSpec.authOptions.enableK8sTokenAuth", True, "Kubernetes token authentication"),
        ("spec.rayClusterSpec.autoscalerOptions.version", "v1", "gpu-spot: priority without autoscaler v2"),
        ("spec.rayClusterSpec.autoscalerOptions.idleTimeoutSeconds", -1, "idleTimeoutSeconds is negative"),
        ("spec.rayClusterSpec.enableInTreeAutoscaling", False, "gpu-spot: priority without autoscaler v2"),
        ("spec.rayClusterSpec.headGroupSpec.resources", {"CPU": "0"}, "head: resources in rayStartParams and in"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.labels", "a=b", "head: labels in rayStartParams"),
        ("spec.rayClusterSpec.headGroupSpec.rayStartParams.redis-password", "word", "redis-password outside of"),
        ("spec.rayClusterSpec.headGroupSpec.template.spec.restartPolicy", "Always", "head: restarts under"),
        (
            "spec.rayClusterSpec.headGroupSpec.template.spec.containers.0.env.0.name",
            "RAY_enable_autoscaler_v2",
            "the autoscaler's version in its options and in the head's environment",
        ),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.restartPolicy", "Always", "gpu-spot: restarts under"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.template.spec.containers", [], "gpu-spot: no container"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.minReplicas", 17, "gpu-spot: minReplicas 17 and maxReplicas 16"),
        ("spec.rayClusterSpec.workerGroupSpecs.0.suspend", True, "gpu-spot: suspended"),
    ],
)
def test_each_rule_is_found_broken(score, path, value, told):
    assert [one for one in violations(changed(score, path, value)) if told in one]


def test_sidecar_mode_has_rules_of_its_own(score):
    sidecar = changed(score, "spec.submissionMode", "SidecarMode")

    assert violations(sidecar) == []
    assert violations(changed(sidecar, "spec.submitterConfig", {})) == ["SidecarMode with submitterConfig"]


def test_a_manifest_runs_a_command_that_there_is_with_a_recipe_that_is_valid(job):
    words = shlex.split(job["spec"]["entrypoint"])

    assert words[:3] == ["python", "-m", "jobs"]
    assert words[3] in COMMANDS
    load_recipe("modernbert_small_v2", [words[at + 1] for at, word in enumerate(words) if word == "--set"])


def test_gpus_come_from_none_spot_first_and_suffice(job):
    cluster, sets = job["spec"]["rayClusterSpec"], job["spec"]["entrypoint"]
    spot, on_demand = cluster["workerGroupSpecs"]
    asked = int(re.search(r"(?:max_actors|num_workers)=(\d+)", sets)[1])

    assert cluster["enableInTreeAutoscaling"]
    assert (spot["groupName"], on_demand["groupName"]) == ("gpu-spot", "gpu-on-demand")
    assert spot["priority"] > on_demand["priority"]
    assert ".use_gpu=true" in sets  # the cluster has none when the command asks it
    for group in (spot, on_demand):
        assert (group["replicas"], group["minReplicas"]) == (0, 0)
        assert group["maxReplicas"] * int(resources(group)["limits"]["nvidia.com/gpu"]) == asked
        assert {"key": "nvidia.com/gpu", "operator": "Exists"} in pod(group)["tolerations"]
    assert pod(spot)["containers"] == pod(on_demand)["containers"]  # the same engine


def test_the_head_runs_the_command_alone_on_a_node_that_stays(job):
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
    terms = pod(head)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]

    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "nvidia.com/gpu" not in resources(head)["limits"]
    assert {one["operator"] for term in terms for one in term["matchExpressions"]} == {"NotIn"}
    assert len(terms) == 1  # any term of several would do


def test_every_node_has_shared_memory_for_its_objects_and_is_not_root(job):
    for group in groups(job["spec"]["rayClusterSpec"]).values():
        (volume,), (container,) = pod(group)["volumes"], pod(group)["containers"]
        gib = int(volume["emptyDir"]["sizeLimit"].removesuffix("Gi"))

        assert volume["emptyDir"]["medium"] == "Memory"
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": "/dev/shm"}]
        assert int(group["rayStartParams"]["object-store-memory"]) < gib << 30
        assert gib < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) / 2
        assert pod(group)["securityContext"]["runAsNonRoot"]


def test_results_are_on_object_storage_and_the_code_is_known(job):
    environment = yaml.safe_load(job["spec"]["runtimeEnvYAML"])
    images = {pod(group)["containers"][0]["image"] for group in groups(job["spec"]["rayClusterSpec"]).values()}

    told = {"TABLES": YOURS["TABLES"], "JOBS_GIT_COMMIT": YOURS["COMMIT"]}
    assert environment["env_vars"].items() >= told.items()
    assert environment["env_vars"].keys() <= {*told, "RAY_JOB_STOP_WAIT_TIME_S"}
    assert f"WORKDIR {environment['working_dir']}\n" in (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    assert images == {YOURS["IMAGE"]}


def test_tokens_are_asked_for_and_no_secret_stands_in_a_manifest(job):
    cluster = job["spec"]["rayClusterSpec"]
    told = [one for group in groups(cluster).values() for one in pod(group)["containers"][0]["env"]]

    assert cluster["authOptions"] == {"mode": "token"}
    assert {one["name"] for one in told} >= {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN"}
    assert [one for one in told if set(one) != {"name", "valueFrom"} or "secretKeyRef" not in one["valueFrom"]] == []


def test_the_cluster_has_the_ray_that_is_installed_here(job):
    lock = (ROOT / "infra" / "requirements.lock").read_text(encoding="utf-8")

    assert f"\nray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in lock


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_nothing_of_a_manifest_is_left_to_fill_in(manifest):
    assert "YOUR_" in manifest.read_text(encoding="utf-8")
    body = filled_in(manifest).partition("apiVersion:")[2]
    assert "YOUR_" not in body


def changed(job: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a dotted path; `containers.0` is the first of a list."""
    copy = inner = deepcopy(job)
    *parents, last = [int(part) if part.isdecimal() else part for part in path.split(".")]
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return copy
