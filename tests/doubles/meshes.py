"""A mesh from YAML text, as a user would write it, without a source: the fixture language of mesh/ and envoy/."""

from __future__ import annotations

from ostria.base import ObjectKey
from ostria.engine import Engine
from ostria.mesh.settings import Settings, settings_input
from ostria.resources import Change, Store
from ostria.resources.parse import read_text

POD = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: {namespace}
  labels: {labels}
spec:
  serviceAccountName: {account}
  nodeName: node
  containers: [{{name: app}}]
status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}]}}
"""

SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}
  namespace: {namespace}
  labels: {{kubernetes.io/service-name: {service}}}
addressType: IPv4
ports: [{{name: {port_name}, port: {port}, protocol: TCP}}]
endpoints: [{endpoints}]
"""


class Mesh:
    """An engine with a store; `apply` and `delete` take what kubectl would."""

    def __init__(self, *texts: str, settings: Settings | None = None, namespace: str = "default") -> None:
        self.db = Engine()
        self.store = Store(self.db, envoy_version="1.40.0")
        self.namespace = namespace
        if settings is not None:
            with self.db.write() as write:
                write.set(settings_input, "", settings)
        self.apply(*texts)

    def apply(self, *texts: str) -> Mesh:
        """Apply YAML; a document that is refused fails the test."""
        changes: list[Change] = []
        for text in texts:
            reading = read_text(text, "mesh.yaml", namespace=self.namespace)
            assert not reading.problems, reading.problems
            assert not any(change.problems and change.object is None for change in reading.changes), reading.changes
            changes += reading.changes
        self.store.apply(changes)
        return self

    def take(self, text: str) -> Mesh:
        """Apply YAML as a source does, whatever is wrong with it."""
        self.store.apply(read_text(text, "mesh.yaml", namespace=self.namespace).changes)
        return self

    def delete(self, kind: str, name: str, namespace: str | None = None) -> Mesh:
        """Take one object away."""
        key = ObjectKey("", kind, self.namespace if namespace is None else namespace, name)
        self.store.apply([Change(key, None)])
        return self

    def ran(self) -> list[str]:
        """The queries that ran since the last call, by name."""
        names = [execution.query for execution in self.db.log]
        self.db.log.clear()
        return names


def labels_text(labels: dict[str, str]) -> str:
    """Labels as a YAML flow mapping."""
    return "{" + ", ".join(f'"{key}": "{value}"' for key, value in labels.items()) + "}"


def pod(
    name: str,
    ip: str,
    labels: dict[str, str],
    *,
    namespace: str = "default",
    account: str = "default",
    sidecar: bool = True,
) -> str:
    """A running pod, by default with a sidecar."""
    own = {**labels, "security.istio.io/tlsMode": "istio"} if sidecar else labels
    return POD.format(name=name, namespace=namespace, labels=labels_text(own), account=account, ip=ip)


def endpoint_slice(
    service: str, pods: dict[str, str], *, port: int, port_name: str = "http", namespace: str = "default"
) -> str:
    """The EndpointSlice of a service: pod name -> address, all ready."""
    endpoints = ", ".join(
        f"{{addresses: ['{ip}'], conditions: {{ready: true}}, "
        f"targetRef: {{kind: Pod, name: {name}, namespace: {namespace}}}}}"
        for name, ip in pods.items()
    )
    return SLICE.format(
        name=f"{service}-abcde",
        namespace=namespace,
        service=service,
        port_name=f"'{port_name}'",
        port=port,
        endpoints=endpoints,
    )


def service(
    name: str,
    port: int = 9080,
    *,
    namespace: str = "default",
    ip: str = "",
    port_name: str = "http",
    target: int | str | None = None,
    selector: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
) -> str:
    """A ClusterIP service with one port."""
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}, annotations: {labels_text(annotations or {})}}}
spec:
  clusterIP: {ip or "None"}
  ports: [{{port: {port}, name: '{port_name}', targetPort: {port if target is None else target}}}]
  selector: {labels_text(selector or {"app": name})}
"""
