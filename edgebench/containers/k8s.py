"""A run as manifests for Kubernetes: a pod for the server, a job a part, and policies that keep sites apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from edgebench.containers.exported import (
    RUNS_FOLDER,
    TOKEN,
    TOKEN_FOLDER,
    TOKENS_FOLDER,
    Exported,
    Program,
    part_program,
    server_program,
)
from edgebench.containers.images import HOME, USER_ID
from edgebench.containers.plan import SERVER, ContainerPlan
from edgebench.fabric.listening import PORTS
from edgebench.lab.messages import DEFAULT_PORT

Fields = dict[str, Any]

_KIND = "edgebench/kind"
_SITE = "site.edgebench"
_LONGEST = 63
_LAB_PORT = {"protocol": "TCP", "port": DEFAULT_PORT}
_PARTS_PORTS = {"protocol": "TCP", "port": PORTS[0], "endPort": PORTS[1]}
_NAMES_PORTS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
_HOME_SIZE = "1Gi"
_SMALL_SIZE = "1Mi"
_TIGHT = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def namespace_of(exported: Exported) -> str:
    """Where all of it is."""
    return f"edgebench-{exported.name}"[:_LONGEST].rstrip("-")


def manifests(exported: Exported) -> dict[str, list[Fields]]:
    """The objects by the file that they are in; `kustomization` says their namespace and whence images come."""
    return {
        "namespace.yaml": [_namespace(namespace_of(exported))],
        "network.yaml": list(_policies(exported)),
        "server.yaml": [_service(), _server(exported)],
        **{f"parts/{part.name}.yaml": list(_part(exported, part)) for part in exported.parts},
    }


def kustomization(exported: Exported) -> Fields:
    """What `kubectl apply -k` applies."""
    images = [image.partition(":")[0] for image in exported.images.values()]
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": namespace_of(exported),
        "resources": list(manifests(exported)),
        "images": [{"name": image, "newName": image} for image in images],
    }


def _namespace(name: str) -> Fields:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }


def _service() -> Fields:
    """Without an address of its own: parts speak to the pod itself, and nothing stands between."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVER},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {_KIND: SERVER},
            "ports": [{"name": "lab", **_LAB_PORT}],
        },
    }


class _Mount(NamedTuple):
    path: str
    volume: Fields


def _server(exported: Exported) -> Fields:
    """A pod, since a run takes place once. Its second container keeps the report at hand until all is deleted."""
    mounts = {
        "home": _Mount(HOME, {"emptyDir": {}}),
        "runs": _Mount(RUNS_FOLDER, {"emptyDir": {}}),
        "tokens": _Mount(TOKENS_FOLDER, {"emptyDir": {"medium": "Memory", "sizeLimit": _SMALL_SIZE}}),
    }
    spec = _pod(exported, server_program(), mounts, "Never")
    results = {
        "name": "results",
        "image": exported.images["server"],
        "command": ["sleep", "infinity"],
        "securityContext": _TIGHT,
        "volumeMounts": [{"name": "runs", "mountPath": RUNS_FOLDER, "readOnly": True}],
    }
    spec["containers"].append(results)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": SERVER, "labels": {_KIND: SERVER}}, "spec": spec}


def _part(exported: Exported, part: ContainerPlan) -> Iterator[Fields]:
    """Its token's place, what it keeps of its identity, and the job."""
    secret, identity = f"token-{part.name}", f"identity-{part.name}"
    yield {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret}, "type": "Opaque"}
    yield {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": identity},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": _HOME_SIZE}}},
    }
    mounts = {
        "home": _Mount(HOME, {"persistentVolumeClaim": {"claimName": identity}}),
        "token": _Mount(TOKEN_FOLDER, {"secret": {"secretName": secret, "defaultMode": 0o440}}),
    }
    labels = {_KIND: part.kind, **{_label(site): "true" for site in part.sites}}
    spec = _pod(exported, part_program(part), mounts, "OnFailure")
    yield {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": part.name},
        "spec": {"template": {"metadata": {"labels": labels}, "spec": spec}},
    }


def _pod(exported: Exported, program: Program, mounts: Mapping[str, _Mount], restart: str) -> Fields:
    limits = program.limits
    tmp = _Mount("/tmp", {"emptyDir": {"medium": "Memory", "sizeLimit": str(limits.tmp_bytes)}})  # noqa: S108
    mounts = {**mounts, "tmp": tmp}
    container: Fields = {
        "name": program.kind,
        "image": exported.images[program.kind],
        "args": list(program.arguments),
        "securityContext": _TIGHT,
        "readinessProbe": {
            "exec": {"command": ["sh", "-c", limits.health]},
            "periodSeconds": limits.health_every_s,
            "timeoutSeconds": 10,
        },
        "volumeMounts": [{"name": name, "mountPath": mount.path} for name, mount in mounts.items()],
    }
    if limits.environment:
        container["env"] = [{"name": name, "value": value} for name, value in limits.environment.items()]
    if limits.memory_bytes is not None:
        memory = {"memory": str(limits.memory_bytes)}
        container["resources"] = {"requests": memory, "limits": memory}
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # So that somebody takes in the processes whose parents have ended.
        "shareProcessNamespace": True,
        "hostname": limits.hostname,
        "restartPolicy": restart,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": name, **mount.volume} for name, mount in mounts.items()],
    }


def _policies(exported: Exported) -> Iterator[Fields]:
    """Nobody reaches anything but the cluster's names, and what the others say."""
    system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    server, edges = {_KIND: SERVER}, {_KIND: "edge"}
    yield _policy("nobody", {}, ingress=[], egress=[{"to": [system], "ports": _NAMES_PORTS}])
    yield _policy(
        "server",
        server,
        ingress=[{"from": [_pods({})], "ports": [_LAB_PORT, _PARTS_PORTS]}],
        egress=[{"to": [_pods(edges)], "ports": [_PARTS_PORTS]}],
    )
    for site in exported.sites:
        members = {_label(site): "true"}
        edge = {**edges, **members}
        reached = [
            {"to": [_pods(server)], "ports": [_LAB_PORT, _PARTS_PORTS]},
            {"to": [_pods(edge)], "ports": [_PARTS_PORTS]},
        ]
        yield _policy(f"from-{site}", members, egress=reached)
        yield _policy(f"to-{site}", edge, ingress=[{"from": [_pods(members), _pods(server)], "ports": [_PARTS_PORTS]}])


def _policy(name: str, labels: Fields, **rules: list[Fields]) -> Fields:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name},
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": [direction.capitalize() for direction in rules],
            **rules,
        },
    }


def _pods(labels: Fields) -> Fields:
    return {"podSelector": {"matchLabels": labels}}


def _label(site: str) -> str:
    return f"{_SITE}/{site}"


def enrolment(exported: Exported) -> str:
    """The script by which whoever runs it hands each part its token."""
    names = " ".join(part.name for part in exported.parts)
    return f"""\
#!/bin/sh
# Hands each part the token that the server has laid ready for it, as a Secret. A token serves once, for five minutes.
set -eu
kubectl="kubectl -n {namespace_of(exported)}"
$kubectl wait --for=condition=Ready pod/{SERVER} --timeout=30m
for part in {names}; do
    token=$($kubectl exec {SERVER} -c server -- cat {TOKENS_FOLDER}/$part/{TOKEN})
    printf %s "$token" |
        $kubectl create secret generic token-$part --from-file={TOKEN}=/dev/stdin --dry-run=client -o yaml |
        $kubectl apply -f -
done
"""


def readme(exported: Exported) -> str:
    """For a stranger."""
    kubectl = f"kubectl -n {namespace_of(exported)}"
    builds = "\n".join(
        f"docker build -t $REGISTRY/{image} images/{kind} && docker push $REGISTRY/{image}"
        for kind, image in exported.images.items()
    )
    return f"""\
# {exported.name}, on Kubernetes

A run of edgebench's topology `{exported.name}`: a pod for the server and a job for each of {len(exported.parts)} parts,
in the namespace `{namespace_of(exported)}`. It wants a cluster with {exported.arch} nodes, a default StorageClass and
a network that enforces NetworkPolicies (else nothing keeps sites apart).

The images, from what is in `images/`. A build needs no network but for the base image, `{exported.base_image}`; another
one with Python {exported.python} is taken by `--build-arg BASE_IMAGE=NAME`:

```sh
REGISTRY=registry.example/lab    # where your cluster gets images
{builds}
sed -i "s|newName: |newName: $REGISTRY/|" kustomization.yaml
```

The run. `enrol.sh` goes at once, since the server waits for five minutes:

```sh
kubectl apply -k .
sh enrol.sh
{kubectl} logs -f {SERVER} -c server
```

When that ends, the run is over. The report, and all of it away:

```sh
{kubectl} cp {SERVER}:{RUNS_FOLDER} runs -c results
kubectl delete -k .
```

`runs/<time>-{exported.name}/report.html` is the report. The same commands, from `kubectl apply` on, run it again.

## Who may what

There is no secret in this folder. The server makes a certificate authority when it starts, and lays a token ready for
each part; `enrol.sh` puts each into the Secret that its part alone mounts. A token serves once. A part keeps its key
and certificate in a volume of its own ({_HOME_SIZE} each, of the default StorageClass; one on the nodes' own disks
disturbs a measurement least), so one that is restarted, on another node too, is in the lab again as who it was; the run
that it was part of is invalid, and says so.

A site's parts reach their edge and the server, no other site, and nothing outside but the cluster's names. No container
is root, can get more rights, write to its root file system, or speak to the cluster; the namespace enforces the
*restricted* standard.
"""
