"""The parts of a pod that injection adds: for a workload its sidecar, for a gateway its proxy.

A template is a function from the pod and its parameters to a partial pod, which is laid over the pod; what the pod's
author wrote of the same containers is laid over that. Names, paths and variables are Istio's, so that what people
look for in a pod is where they look for it. Nothing here knows whether a pod should be injected.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from ostria.capture import options
from ostria.envoy.bootstrap import ROOT_FILE, TOKEN_FILE
from ostria.envoy.secrets import SECRET_FILES, WORKLOAD_CREDENTIALS
from ostria.injection.owner import (
    NAME_LABEL,
    REVISION_LABEL,
    Owner,
    canonical_name,
    canonical_revision,
    workload_name,
)
from ostria.injection.parameters import HEALTH_PORT, INTERCEPTION_MODE, STATS_PORT, Parameters
from ostria.injection.select import annotations_of, labels_of
from ostria.injection.settings import AGENT_PORT
from ostria.mesh.workloads import DNS_ANNOTATION, GATEWAY_TEMPLATE, TLS_MODE_LABEL

PROXY, INIT, VALIDATION = "istio-proxy", "istio-init", "istio-validation"
OURS = (PROXY, INIT, VALIDATION)
NETWORK = "topology.istio.io/network"
DEFAULT_CONTAINER, DEFAULT_LOGS = (
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/default-logs-container",
)
MULTUS = "k8s.v1.cni.cncf.io/networks"
_CNI_NETWORK = "default/istio-cni"

Pod = Mapping[str, Any]
Partial = dict[str, Any]
Template = Callable[[Pod, Owner, Parameters], Partial]

# Volume, its source, and where the proxy sees it.
_VOLUMES: tuple[tuple[str, Partial, str], ...] = (
    ("workload-socket", {"emptyDir": {}}, "/var/run/secrets/workload-spiffe-uds"),
    ("credential-socket", {"emptyDir": {}}, "/var/run/secrets/credential-uds"),
    # A private key lies here, which is nothing for a disk.
    ("workload-certs", {"emptyDir": {"medium": "Memory"}}, WORKLOAD_CREDENTIALS),
    ("istiod-ca-cert", {"configMap": {"name": "istio-ca-root-cert"}}, str(PurePosixPath(ROOT_FILE).parent)),
    ("istio-data", {"emptyDir": {}}, "/var/lib/istio/data"),
    ("istio-envoy", {"emptyDir": {"medium": "Memory"}}, SECRET_FILES),
    (
        "istio-token",
        {
            "projected": {
                "sources": [
                    {
                        "serviceAccountToken": {
                            "audience": "istio-ca",
                            "expirationSeconds": 43200,
                            "path": PurePosixPath(TOKEN_FILE).name,
                        }
                    }
                ]
            }
        },
        str(PurePosixPath(TOKEN_FILE).parent),
    ),
    (
        "istio-podinfo",
        {
            "downwardAPI": {
                "items": [
                    {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
                    {"path": "annotations", "fieldRef": {"fieldPath": "metadata.annotations"}},
                ]
            }
        },
        "/etc/istio/pod",
    ),
)


def sidecar(pod: Pod, owner: Owner, parameters: Parameters) -> Partial:
    """The proxy of a workload, and the step that sends the pod's traffic through it."""
    proxy = _proxy(pod, owner, parameters, role="sidecar")
    proxy["resources"] = parameters.resources
    # A mark may be set only by who has power over the pod's network, and keeps it as user 0 alone.
    marks = parameters.capture.mark is not None
    proxy["securityContext"] = {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": not marks,
        "runAsUser": 0 if marks else parameters.user,
        "runAsGroup": 0 if marks else parameters.group,
        "capabilities": {"drop": ["ALL"]} | ({"add": ["NET_ADMIN"]} if marks else {}),
    }
    if parameters.status_port and parameters.settings.startup_failures:
        # What starts after the proxy waits for this, so it is asked often.
        proxy["startupProbe"] = {
            **_health(),
            "periodSeconds": 1,
            "failureThreshold": parameters.settings.startup_failures,
        }
    agent = parameters.settings.agent
    if parameters.native:
        drain = [*agent, "request", f"--debug-port={parameters.agent_port}", "POST", "drain"]
        proxy |= {"restartPolicy": "Always", "lifecycle": {"preStop": {"exec": {"command": drain}}}}
    elif parameters.hold_application:
        proxy["lifecycle"] = {"postStart": {"exec": {"command": [*agent, "wait"]}}}
    first = [proxy] if parameters.native else []
    if parameters.capture.mode != "NONE":
        first.insert(0, _redirection(parameters))
    labels = _labels(pod, owner, parameters)
    labels[TLS_MODE_LABEL] = labels_of(pod).get(TLS_MODE_LABEL, "istio")
    return {
        "metadata": {"labels": labels, "annotations": _annotations(pod, parameters)},
        "spec": {
            "initContainers": first,
            "containers": [] if parameters.native else [proxy],
            **_volumes(parameters),
        },
    }


def gateway(pod: Pod, owner: Owner, parameters: Parameters) -> Partial:
    """The proxy of a gateway, which is all there is in the pod and receives its traffic unredirected."""
    proxy = _proxy(pod, owner, parameters, role="router")
    proxy["securityContext"] = {"runAsUser": parameters.user, "runAsGroup": parameters.group}
    return {
        "metadata": {"labels": _labels(pod, owner, parameters)},
        "spec": {
            "containers": [proxy],
            # An ordinary user may then listen on 80 and 443.
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            **_volumes(parameters),
        },
    }


TEMPLATES: Mapping[str, Template] = {"sidecar": sidecar, GATEWAY_TEMPLATE: gateway}


def _labels(pod: Pod, owner: Owner, parameters: Parameters) -> dict[str, str]:
    labels = {NAME_LABEL: canonical_name(pod, owner), REVISION_LABEL: canonical_revision(pod)}
    if parameters.settings.network:
        labels[NETWORK] = labels_of(pod).get(NETWORK, parameters.settings.network)
    return labels


def _annotations(pod: Pod, parameters: Parameters) -> dict[str, str]:
    own = annotations_of(pod)
    found: dict[str, str] = {}
    application = next(iter(_applications(pod)), None)
    if application is not None:
        # kubectl logs and exec mean the application.
        for name in (DEFAULT_CONTAINER, DEFAULT_LOGS):
            found[name] = own.get(name, application["name"])
    if parameters.capture.dns_servers:
        found[DNS_ANNOTATION] = "true"
    if parameters.settings.cni:
        found |= _for_plugin(parameters)
    if parameters.settings.cni == "multus":
        found[MULTUS] = _with_network(own.get(MULTUS, ""))
    return found


def _for_plugin(parameters: Parameters) -> dict[str, str]:
    """What a network plugin reads of a pod to redirect its traffic."""
    arguments = options.arguments(parameters.capture)
    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    excluded = [port for port in given["-d"].split(",") if port not in (str(STATS_PORT), str(HEALTH_PORT))]
    prefix = "traffic.sidecar.istio.io"
    names = {
        f"{prefix}/includeOutboundIPRanges": given["-i"],
        f"{prefix}/excludeOutboundIPRanges": given["-x"],
        f"{prefix}/includeInboundPorts": given["-b"],
        f"{prefix}/excludeInboundPorts": ",".join(excluded),
        f"{prefix}/includeOutboundPorts": given.get("-q", ""),
        f"{prefix}/excludeOutboundPorts": given.get("-o", ""),
        f"{prefix}/kubevirtInterfaces": given.get("-k", ""),
        f"{prefix}/excludeInterfaces": given.get("-c", ""),
    }
    return {INTERCEPTION_MODE: given["-m"]} | {name: value for name, value in names.items() if value}


def _with_network(networks: str) -> str:
    """A list of networks in either of Multus' spellings, with Istio's among them."""
    if not networks or _CNI_NETWORK in networks or "istio-cni" in networks.split(","):
        return networks or _CNI_NETWORK
    if networks.lstrip().startswith("["):
        return networks.rstrip().removesuffix("]") + ', {"name": "istio-cni", "namespace": "default"}]'
    return f"{networks}, {_CNI_NETWORK}"


def _redirection(parameters: Parameters) -> Partial:
    """The step before all others: as root, with nothing but the right to change the pod's own network."""
    plugged = bool(parameters.settings.cni)
    given = [options.COMMAND, *options.arguments(parameters.capture)]
    given.append(f"--log_output_level={parameters.agent_log_level}")
    capabilities: Partial = {"drop": ["ALL"]}
    if plugged:
        given += ["--run-validation", "--skip-rule-apply"]
    else:
        capabilities["add"] = ["NET_ADMIN", "NET_RAW"]
    return {
        "name": VALIDATION if plugged else INIT,
        **_image(parameters, parameters.init_image),
        "args": given,
        **({"env": _metadata(parameters)} if parameters.metadata else {}),
        "resources": parameters.resources,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": capabilities,
            "readOnlyRootFilesystem": plugged,
            "runAsNonRoot": plugged,
            "runAsUser": parameters.user if plugged else 0,
            "runAsGroup": parameters.group if plugged else 0,
        },
    }


def _proxy(pod: Pod, owner: Owner, parameters: Parameters, *, role: str) -> Partial:
    settings = parameters.settings
    proxy: Partial = {
        "name": PROXY,
        **_image(parameters, parameters.image),
        "args": [
            *("proxy", role, "--domain", f"$(POD_NAMESPACE).svc.{settings.domain_suffix}"),
            f"--proxyLogLevel={parameters.log_level}",
            f"--proxyComponentLogLevel={parameters.component_log_level}",
            f"--log_output_level={parameters.agent_log_level}",
        ],
        "ports": [{"name": "http-envoy-prom", "containerPort": STATS_PORT, "protocol": "TCP"}],
        "env": _environment(pod, owner, parameters, role=role),
        "volumeMounts": [
            *({"name": name, "mountPath": path} for name, _, path in _VOLUMES),
            *parameters.volume_mounts,
        ],
    }
    if parameters.status_port:
        delay = parameters.readiness_initial_delay
        proxy["readinessProbe"] = {
            **_health(),
            **({"initialDelaySeconds": delay} if delay else {}),
            "periodSeconds": parameters.readiness_period,
            "failureThreshold": parameters.readiness_failures,
        }
    return proxy


def _image(parameters: Parameters, image: str) -> Partial:
    policy = parameters.settings.pull_policy
    return {"image": image} | ({"imagePullPolicy": policy} if policy else {})


def _health() -> Partial:
    return {"httpGet": {"path": "/healthz/ready", "port": HEALTH_PORT}, "timeoutSeconds": 3}


def _environment(pod: Pod, owner: Owner, parameters: Parameters, *, role: str) -> list[Partial]:
    settings = parameters.settings
    config = dict(parameters.proxy_config)
    if parameters.agent_port != config.get("statusPort", AGENT_PORT):
        config["statusPort"] = parameters.agent_port
    applications = _applications(pod)
    ports = [port for container in applications for port in container.get("ports") or ()]
    variables: list[Partial] = [
        _given("PILOT_CERT_PROVIDER", "istiod"),
        _given("CA_ADDR", settings.discovery_address),
        _of_pod("POD_NAME", "metadata.name"),
        _of_pod("POD_NAMESPACE", "metadata.namespace"),
        _of_pod("INSTANCE_IP", "status.podIP"),
        # Ours: the addresses of both families.
        _of_pod("INSTANCE_IPS", "status.podIPs"),
        _of_pod("SERVICE_ACCOUNT", "spec.serviceAccountName"),
        _of_pod("HOST_IP", "status.hostIP"),
        {
            "name": "ISTIO_CPU_LIMIT",
            "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1"}},
        },
        _given("PROXY_CONFIG", _json(config)),
        _given("ISTIO_META_POD_PORTS", _json(ports)),
        _given("ISTIO_META_APP_CONTAINERS", ",".join(container["name"] for container in applications)),
        _given("ISTIO_META_CLUSTER_ID", settings.cluster),
        _of_pod("ISTIO_META_NODE_NAME", "spec.nodeName"),
        _given("ISTIO_META_INTERCEPTION_MODE", str(parameters.capture.mode)),
    ]
    workload = workload_name(pod, owner)
    if workload:
        variables.append(_given("ISTIO_META_WORKLOAD_NAME", workload))
    if owner.name:
        variables.append(_given("ISTIO_META_OWNER", str(owner)))
    variables += [
        _given("ISTIO_META_MESH_ID", settings.mesh_id or settings.trust_domain),
        _given("TRUST_DOMAIN", settings.trust_domain),
    ]
    if settings.network:
        variables.append(_given("ISTIO_META_NETWORK", settings.network))
    if settings.local_inbound:
        # Applications that listen on loopback only are probed there.
        variables.append(_given("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION", "true"))
    if parameters.capture.mark is not None and role == "sidecar":
        # Ours: Envoy sets this mark on its own packets, and capture lets them pass. Nobody captures a gateway's.
        variables.append(_given("OSTRIA_SOCKET_MARK", str(parameters.capture.mark)))
    return variables + _metadata(parameters)


def _metadata(parameters: Parameters) -> list[Partial]:
    return [_given(name, value) for name, value in sorted(parameters.metadata.items())]


def _applications(pod: Pod) -> list[Mapping[str, Any]]:
    """The containers that are the application's own."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return [container for container in containers if container["name"] not in OURS]


def _volumes(parameters: Parameters) -> Partial:
    volumes = [{"name": name, **source} for name, source, _ in _VOLUMES]
    secrets = parameters.settings.pull_secrets
    return {
        "volumes": [*volumes, *parameters.volumes],
        **({"imagePullSecrets": [{"name": name} for name in secrets]} if secrets else {}),
    }


def _given(name: str, value: str) -> Partial:
    return {"name": name, "value": value}


def _of_pod(name: str, path: str) -> Partial:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
