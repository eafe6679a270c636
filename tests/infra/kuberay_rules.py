"""What KubeRay's operator refuses in a RayJob though the schema allows it, as far as our manifests could break it.

Read in ray-operator/controllers/ray/utils/validation.go at feeaf72fa. Ray versions here are newer than any it asks for.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

LONGEST_NAME = 47
GENERATED_CHARS = 5  # that generateName is completed by
RESOURCES = {"num-cpus", "num-gpus", "memory", "resources"}
NEEDS = {"authOptions.mode token": (2, 52), "priority": (2, 56)}
Manifest = dict[str, Any]


def violations(job: Manifest) -> list[str]:
    """One sentence for each rule that a RayJob breaks."""
    spec, cluster = job["spec"], job["spec"].get("rayClusterSpec")
    found = [*_of_name(job["metadata"]), *_of_job(spec), *_of_submission(spec)]
    if cluster:
        found += [*_of_versions(cluster), *_of_fault_tolerance(job["metadata"], cluster), *_of_autoscaler(cluster)]
        for name, group in groups(cluster).items():
            found += [f"{name}: {one}" for one in _of_group(group)]
        for group in cluster.get("workerGroupSpecs", ()):
            found += [f"{group['groupName']}: {one}" for one in _of_replicas(group, is_autoscaled(cluster))]
    return found


def groups(cluster: Manifest) -> dict[str, Manifest]:
    """Head and workers by name."""
    return {"head": cluster["headGroupSpec"]} | {group["groupName"]: group for group in cluster["workerGroupSpecs"]}


def is_autoscaled(cluster: Manifest) -> bool:
    return bool(cluster.get("enableInTreeAutoscaling"))


def pod(group: Manifest) -> Manifest:
    return group["template"]["spec"]


def variables(group: Manifest) -> set[str]:
    """Names of the environment of the group's Ray container."""
    return {one["name"] for container in pod(group)["containers"][:1] for one in container.get("env", ())}


def _of_name(metadata: Manifest) -> Iterator[str]:
    name = metadata.get("name") or metadata.get("generateName", "") + "x" * GENERATED_CHARS
    if len(name) > LONGEST_NAME:
        yield f"the name {name} is longer than {LONGEST_NAME}"
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield f"the name {name} is no DNS-1035 label"


def _of_job(spec: Manifest) -> Iterator[str]:
    shuts_down, selects = spec.get("shutdownAfterJobFinishes"), bool(spec.get("clusterSelector"))
    if selects == ("rayClusterSpec" in spec):
        yield "not exactly one of rayClusterSpec and clusterSelector"
    if selects and (spec.get("backoffLimit") or spec.get("suspend")):
        yield "clusterSelector with backoffLimit or suspend"
    if spec.get("suspend") and not shuts_down:
        yield "suspend without shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished", 0) < 0 or (spec.get("ttlSecondsAfterFinished") and not shuts_down):
        yield "ttlSecondsAfterFinished is negative, or without shutdownAfterJobFinishes"
    if "deletionStrategy" in spec:
        yield "deletionStrategy needs a feature gate"
    if spec.get("backoffLimit", 0) < 0:
        yield "backoffLimit is negative"
    for field in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(field, 1) <= 0:
            yield f"{field} is not positive"
    try:
        yaml.safe_load(spec.get("runtimeEnvYAML", ""))
    except yaml.YAMLError:
        yield "runtimeEnvYAML is no YAML"


def _of_submission(spec: Manifest) -> Iterator[str]:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield "InteractiveMode with backoffLimit"
    if mode == "SidecarMode":
        yield from (
            f"SidecarMode with {field}" for field in ("submitterPodTemplate", "submitterConfig") if field in spec
        )
        if spec.get("clusterSelector"):
            yield "SidecarMode with clusterSelector"
        elif pod(spec["rayClusterSpec"]["headGroupSpec"]).get("restartPolicy", "Never") != "Never":
            yield "SidecarMode with a head that restarts"


def _of_versions(cluster: Manifest) -> Iterator[str]:
    auth, version = cluster.get("authOptions", {}), str(cluster.get("rayVersion", ""))
    numbers = tuple(int(part) for part in version.split(".")[:2]) if re.fullmatch(r"\d+\.\d+\.\d+", version) else (0, 0)
    asked = {"authOptions.mode token": auth.get("mode") == "token"}
    asked["priority"] = any(group.get("priority") for group in cluster.get("workerGroupSpecs", ()))
    for what, is_asked in asked.items():
        if is_asked and numbers < NEEDS[what]:
            yield f"{what} with rayVersion {version!r}, which is older than {NEEDS[what]} or none"
    if auth.get("enableK8sTokenAuth"):
        yield "Kubernetes token authentication in a RayJob"


def _of_fault_tolerance(metadata: Manifest, cluster: Manifest) -> Iterator[str]:
    head, annotations = cluster["headGroupSpec"], metadata.get("annotations", {})
    if annotations.get("ray.io/ft-enabled") and "gcsFaultToleranceOptions" in cluster:
        yield "fault tolerance by annotation and by options"
    redis = {name for name in variables(head) if "REDIS" in name} | {
        name for name in head.get("rayStartParams", {}) if name.startswith("redis-")
    }
    yield from (f"{name} outside of gcsFaultToleranceOptions" for name in sorted(redis))


def _of_autoscaler(cluster: Manifest) -> Iterator[str]:
    options, head = cluster.get("autoscalerOptions", {}), cluster["headGroupSpec"]
    by_variable = "RAY_enable_autoscaler_v2" in variables(head)
    is_v2 = is_autoscaled(cluster) and (options.get("version") == "v2" or by_variable)
    if options.get("version") and by_variable:
        yield "the autoscaler's version in its options and in the head's environment"
    if by_variable and not is_autoscaled(cluster):
        yield "autoscaler v2 without enableInTreeAutoscaling"
    if options.get("idleTimeoutSeconds", 0) < 0:
        yield "autoscalerOptions.idleTimeoutSeconds is negative"
    for name, group in groups(cluster).items():
        if is_v2 and pod(group).get("restartPolicy", "Never") != "Never":
            yield f"{name}: restarts under autoscaler v2"
        for field in ("priority", "idleTimeoutSeconds"):
            if group.get(field) and not is_v2:
                yield f"{name}: {field} without autoscaler v2"


def _of_group(group: Manifest) -> Iterator[str]:
    parameters = group.get("rayStartParams", {})
    if not pod(group).get("containers"):
        yield "no container"
    if parameters.keys() & RESOURCES and group.get("resources"):
        yield "resources in rayStartParams and in the group"
    if "labels" in parameters:
        yield "labels in rayStartParams"


def _of_replicas(group: Manifest, is_autoscaled: bool) -> Iterator[str]:
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if not is_autoscaled and (least is None or most is None):
        yield "no minReplicas or maxReplicas, without an autoscaler"
    if min(least or 0, most or 0) < 0 or (least is not None and most is not None and least > most):
        yield f"minReplicas {least} and maxReplicas {most}"
    if group.get("suspend"):
        yield "suspended"
