"""What `kubectl get` prints, to the letter."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from ostria.kubeapi import jsonpath, kinds
from ostria.kubeapi.requests import Column
from ostria.kubeapi.tables import table
from ostria.kubeapi.tables.printing import duration

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()
MADE = "2026-11-21T11:55:00Z"


def ago(seconds: int) -> str:
    return datetime.fromtimestamp(NOW - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def printed(resource: str, text: str, *, wide: bool = False) -> str:
    """One object as a row, its heading above, with two spaces between cells."""
    group, _, plural = resource.rpartition("/")
    found = kinds.find(group, "v2" if group == "autoscaling" else "v1", plural)
    assert found is not None
    document = yaml.safe_load(text)
    document.setdefault("metadata", {}).setdefault("creationTimestamp", MADE)
    document["metadata"].setdefault("name", "web")
    return rows(table(found, [document], NOW), wide=wide)


def rows(found: Any, *, wide: bool = False) -> str:
    shown = [at for at, column in enumerate(found["columnDefinitions"]) if wide or not column["priority"]]
    lines = [[found["columnDefinitions"][at]["name"].upper() for at in shown]]
    for row in found["rows"]:
        assert len(row["cells"]) == len(found["columnDefinitions"])
        lines.append(["" if row["cells"][at] is None else str(row["cells"][at]) for at in shown])
    return "\n".join("  ".join(line) for line in lines)


def pod(status: str, spec: str = "{containers: [{name: a}, {name: b}]}", metadata: str = "{}") -> str:
    text = printed("pods", f"{{metadata: {metadata}, spec: {spec}, status: {status}}}")
    heading, line = text.split("\n")
    assert heading == "NAME  READY  STATUS  RESTARTS  AGE"
    return line


UP = "{name: a, ready: true, restartCount: 0, state: {running: {}}}"
SIDECAR = "{containers: [{name: a}], initContainers: [{name: i}, {name: p, restartPolicy: Always}]}"
DONE = "{name: i, restartCount: 0, state: {terminated: {exitCode: 0, reason: Completed}}}"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("{phase: Pending}", "web  0/2  Pending  0  5m"),
        (f"{{phase: Running, containerStatuses: [{UP}, {UP}]}}", "web  2/2  Running  0  5m"),
        ("{phase: Pending, containerStatuses: [{state: {waiting: {reason: ContainerCreating}}}]}",
         "web  0/2  ContainerCreating  0  5m"),
        ("{phase: Pending, containerStatuses: [{state: {waiting: {reason: ImageNotMapped}}}]}",
         "web  0/2  ImageNotMapped  0  5m"),
        (f"{{phase: Running, containerStatuses: [{UP}, {{restartCount: 3, state: {{waiting: {{reason: "
         f"CrashLoopBackOff}}}}, lastState: {{terminated: {{finishedAt: '{ago(20)}'}}}}}}]}}",
         "web  1/2  CrashLoopBackOff  3 (20s ago)  5m"),
        ("{phase: Succeeded, containerStatuses: [{state: {terminated: {exitCode: 0, reason: Completed}}}]}",
         "web  0/2  Completed  0  5m"),
        ("{phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 3}}}]}", "web  0/2  ExitCode:3  0  5m"),
        ("{phase: Failed, containerStatuses: [{state: {terminated: {exitCode: 137, signal: 9}}}]}",
         "web  0/2  Signal:9  0  5m"),
        (f"{{phase: Running, containerStatuses: [{{state: {{terminated: {{reason: Completed}}}}}}, {UP}]}}",
         "web  1/2  NotReady  0  5m"),
        ("{phase: Failed, reason: Evicted}", "web  0/2  Evicted  0  5m"),
    ],
)  # fmt: skip
def test_a_pod_says_how_it_is(status: str, line: str) -> None:
    assert pod(status) == line


@pytest.mark.parametrize(
    ("status", "line"),
    [
        ("{phase: Pending, initContainerStatuses: [{name: i, state: {running: {}}}]}", "web  0/2  Init:0/2  0  5m"),
        ("{phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {terminated: {exitCode: 1}}}]}",
         "web  0/2  Init:ExitCode:1  2  5m"),
        ("{phase: Pending, initContainerStatuses: [{name: i, state: {waiting: {reason: CrashLoopBackOff}}}]}",
         "web  0/2  Init:CrashLoopBackOff  0  5m"),
        (f"{{phase: Pending, initContainerStatuses: [{DONE}, {{name: p, state: {{waiting: "
         "{reason: PodInitializing}}}]}", "web  0/2  Init:1/2  0  5m"),
        (f"{{phase: Pending, initContainerStatuses: [{DONE}, {{name: p, started: true, ready: true}}],"
         " containerStatuses: [{state: {waiting: {reason: PodInitializing}}}]}", "web  1/2  PodInitializing  0  5m"),
        (f"{{phase: Running, initContainerStatuses: [{DONE}, {{name: p, started: true, ready: true, restartCount: 1}}],"
         f" containerStatuses: [{UP}]}}", "web  2/2  Running  1  5m"),
    ],
)  # fmt: skip
def test_a_pod_with_a_native_sidecar_counts_it(status: str, line: str) -> None:
    assert pod(status, SIDECAR) == line


def test_a_pod_that_goes_says_so_until_it_has_ended() -> None:
    going = f"{{deletionTimestamp: '{MADE}'}}"
    assert pod("{phase: Running}", metadata=going) == "web  0/2  Terminating  0  5m"
    assert pod("{phase: Succeeded}", metadata=going) == "web  0/2  Succeeded  0  5m"


def test_a_pod_tells_more_when_asked() -> None:
    text = printed("pods", "{spec: {nodeName: here}, status: {phase: Running, podIPs: [{ip: 10.244.0.7}]}}", wide=True)
    assert text == (
        "NAME  READY  STATUS  RESTARTS  AGE  IP  NODE  NOMINATED NODE  READINESS GATES\n"
        "web  0/0  Running  0  5m  10.244.0.7  here  <none>  <none>"
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"), (10_799, "179m"),
        (10_800, "3h"), (10_860, "3h1m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"), (180_000, "2d2h"),
        (691_200, "8d"), (63_071_999, "729d"), (63_072_000, "2y"), (63_158_400, "2y1d"), (-5, "<invalid>"),
    ],
)  # fmt: skip
def test_an_age_is_the_coarser_the_longer(seconds: int, text: str) -> None:
    assert duration(seconds) == text


WORKLOAD = (
    "selector: {matchLabels: {app: web}}, template: {spec: {containers: [{name: a, image: x}, {name: b, image: y}]}}"
)


@pytest.mark.parametrize(
    ("resource", "text", "lines"),
    [
        ("apps/deployments",
         f"{{spec: {{replicas: 3, {WORKLOAD}}}, status: {{readyReplicas: 1, updatedReplicas: 2, "
         "availableReplicas: 1}}",
         "NAME  READY  UP-TO-DATE  AVAILABLE  AGE  CONTAINERS  IMAGES  SELECTOR\n"
         "web  1/3  2  1  5m  a,b  x,y  app=web"),
        ("apps/replicasets", f"{{spec: {{replicas: 3, {WORKLOAD}}}, status: {{replicas: 2, readyReplicas: 1}}}}",
         "NAME  DESIRED  CURRENT  READY  AGE  CONTAINERS  IMAGES  SELECTOR\nweb  3  2  1  5m  a,b  x,y  app=web"),
        ("apps/statefulsets", f"{{spec: {{replicas: 1, {WORKLOAD}}}}}",
         "NAME  READY  AGE  CONTAINERS  IMAGES\nweb  0/1  5m  a,b  x,y"),
        ("batch/jobs",
         f"{{spec: {{completions: 2, {WORKLOAD}}}, status: {{startTime: '{ago(90)}', succeeded: 1}}}}",
         "NAME  STATUS  COMPLETIONS  DURATION  AGE  CONTAINERS  IMAGES  SELECTOR\n"
         "web  Running  1/2  90s  5m  a,b  x,y  app=web"),
        ("services",
         "{spec: {type: NodePort, clusterIP: 10.96.0.7, ports: [{port: 80, nodePort: 30080, protocol: TCP}, "
         "{port: 53, protocol: UDP}], selector: {b: c, a: b}}}",
         "NAME  TYPE  CLUSTER-IP  EXTERNAL-IP  PORT(S)  AGE  SELECTOR\n"
         "web  NodePort  10.96.0.7  <none>  80:30080/TCP,53/UDP  5m  a=b,b=c"),
        ("services", "{spec: {type: LoadBalancer, clusterIPs: [10.96.0.7], ports: [{port: 80, protocol: TCP}]}}",
         "NAME  TYPE  CLUSTER-IP  EXTERNAL-IP  PORT(S)  AGE  SELECTOR\n"
         "web  LoadBalancer  10.96.0.7  <pending>  80/TCP  5m  <none>"),
        ("services", "{spec: {type: LoadBalancer, clusterIP: 10.96.0.7}, status: {loadBalancer: {ingress: "
         "[{ip: 127.0.0.1}]}}}",
         "NAME  TYPE  CLUSTER-IP  EXTERNAL-IP  PORT(S)  AGE  SELECTOR\n"
         "web  LoadBalancer  10.96.0.7  127.0.0.1  <none>  5m  <none>"),
        ("services", "{spec: {type: ExternalName, externalName: example.com}}",
         "NAME  TYPE  CLUSTER-IP  EXTERNAL-IP  PORT(S)  AGE  SELECTOR\n"
         "web  ExternalName  <none>  example.com  <none>  5m  <none>"),
        ("endpoints", "{subsets: [{addresses: [{ip: 10.0.0.1}, {ip: 10.0.0.2}], ports: [{port: 80}, {port: 81}]}]}",
         "NAME  ENDPOINTS  AGE\nweb  10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...  5m"),
        ("discovery.k8s.io/endpointslices",
         "{addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}",
         "NAME  ADDRESSTYPE  PORTS  ENDPOINTS  AGE\nweb  IPv4  80  10.0.0.1,10.0.0.2  5m"),
        ("namespaces", "{status: {phase: Active}}", "NAME  STATUS  AGE\nweb  Active  5m"),
        ("nodes",
         "{metadata: {labels: {node-role.kubernetes.io/control-plane: ''}}, spec: {unschedulable: true}, status: "
         "{conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: 10.0.0.1}], "
         "nodeInfo: {kubeletVersion: v1.33.0, osImage: Debian}}}",
         "NAME  STATUS  ROLES  AGE  VERSION  INTERNAL-IP  EXTERNAL-IP  OS-IMAGE  KERNEL-VERSION  CONTAINER-RUNTIME\n"
         "web  Ready,SchedulingDisabled  control-plane  5m  v1.33.0  10.0.0.1  <none>  Debian  <unknown>  <unknown>"),
        ("secrets", "{type: Opaque, data: {a: b}}", "NAME  TYPE  DATA  AGE\nweb  Opaque  1  5m"),
        ("configmaps", "{data: {a: b}, binaryData: {c: d}}", "NAME  DATA  AGE\nweb  2  5m"),
        ("serviceaccounts", "{}", "NAME  SECRETS  AGE\nweb  0  5m"),
        ("rbac.authorization.k8s.io/roles", "{}", f"NAME  CREATED AT\nweb  {MADE}"),
        ("rbac.authorization.k8s.io/rolebindings",
         "{roleRef: {kind: ClusterRole, name: view}, subjects: [{kind: User, name: ann}, {kind: ServiceAccount, "
         "name: x, namespace: y}]}",
         "NAME  ROLE  AGE  USERS  GROUPS  SERVICEACCOUNTS\nweb  ClusterRole/view  5m  ann    y/x"),
        ("admissionregistration.k8s.io/mutatingwebhookconfigurations", "{webhooks: [{name: a}, {name: b}]}",
         "NAME  WEBHOOKS  AGE\nweb  2  5m"),
        ("apiextensions.k8s.io/customresourcedefinitions", "{}", f"NAME  CREATED AT\nweb  {MADE}"),
        ("coordination.k8s.io/leases", "{spec: {holderIdentity: istiod-1}}", "NAME  HOLDER  AGE\nweb  istiod-1  5m"),
        ("policy/poddisruptionbudgets", "{spec: {minAvailable: 1}}",
         "NAME  MIN AVAILABLE  MAX UNAVAILABLE  ALLOWED DISRUPTIONS  AGE\nweb  1  N/A  0  5m"),
        ("networking.k8s.io/ingresses", "{spec: {ingressClassName: istio, rules: [{host: a.example}, {}], tls: [{}]}}",
         "NAME  CLASS  HOSTS  ADDRESS  PORTS  AGE\nweb  istio  a.example    80, 443  5m"),
        ("networking.k8s.io/networkpolicies",
         "{spec: {podSelector: {matchLabels: {b: c}, matchExpressions: [{key: a, operator: In, values: [y, x]}]}}}",
         "NAME  POD-SELECTOR  AGE\nweb  a in (x,y),b=c  5m"),
        ("autoscaling/horizontalpodautoscalers",
         "{spec: {scaleTargetRef: {kind: Deployment, name: web}, minReplicas: 1, maxReplicas: 5, metrics: [{type: "
         "Resource, resource: {name: cpu, target: {averageUtilization: 80}}}]}}",
         "NAME  REFERENCE  TARGETS  MINPODS  MAXPODS  REPLICAS  AGE\n"
         "web  Deployment/web  cpu: <unknown>/80%  1  5  0  5m"),
    ],
)  # fmt: skip
def test_each_kind_has_its_own_columns(resource: str, text: str, lines: str) -> None:
    assert printed(resource, text, wide=True) == lines


@pytest.mark.parametrize(
    "text",
    [
        "{type: Warning, reason: BackOff, involvedObject: {kind: Pod, name: web}, message: 'Back-off\n', count: 4, "
        f"firstTimestamp: '{ago(600)}', lastTimestamp: '{ago(20)}', source: {{component: kubelet, host: here}}}}",
        "{type: Warning, reason: BackOff, regarding: {kind: Pod, name: web}, note: Back-off, "
        f"eventTime: '{ago(600)}', series: {{count: 4, lastObservedTime: '{ago(20)}'}}, "
        "reportingController: kubelet, reportingInstance: here}",
    ],
)
def test_an_event_reads_the_same_in_both_groups(text: str) -> None:
    assert printed("events", text, wide=True) == (
        "LAST SEEN  TYPE  REASON  OBJECT  SUBOBJECT  SOURCE  MESSAGE  FIRST SEEN  COUNT  NAME\n"
        "20s  Warning  BackOff  pod/web    kubelet, here  Back-off  10m  4  web"
    )


def test_a_definitions_objects_are_printed_by_its_columns() -> None:
    gateways = kinds.EVENT._replace(
        group="shop.example",
        crd="gateways.shop.example",
        columns=(
            Column("Hosts", "string", ".spec.hosts"),
            Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
            Column("Size", "integer", ".spec.size"),
            Column("Last", "date", ".status.last"),
            Column("Owner", "string", r".metadata.annotations.shop\.example/owner", 1),
        ),
    )
    document = {
        "metadata": {"name": "web", "annotations": {"shop.example/owner": "ann"}},
        "spec": {"hosts": ["a", "b"], "size": 3},
        "status": {"conditions": [{"type": "Other", "status": "No"}, {"type": "Ready", "status": "True"}]},
    }
    bare: dict[str, Any] = {"metadata": {"name": "bare"}, "spec": {"size": "many"}}
    assert rows(table(gateways, [document, bare], NOW), wide=True) == (
        'NAME  HOSTS  READY  SIZE  LAST  OWNER\nweb  ["a","b"]  True  3    ann\nbare          '
    )


def test_a_row_carries_as_much_of_its_object_as_is_asked_for() -> None:
    document = {"metadata": {"name": "web"}, "data": {}}
    resource = kinds.find("", "v1", "configmaps")
    assert resource is not None
    by_metadata, whole, nothing = (
        table(resource, [document], NOW, include)["rows"][0] for include in ("Metadata", "Object", "None")
    )
    assert by_metadata["object"]["kind"] == "PartialObjectMetadata"
    assert by_metadata["object"]["metadata"] == document["metadata"]
    assert whole["object"] == document
    assert "object" not in nothing


def test_what_has_run_to_its_end_is_marked() -> None:
    pods = kinds.find("", "v1", "pods")
    assert pods is not None
    row = table(pods, [{"metadata": {"name": "a"}, "status": {"phase": "Succeeded"}}], NOW)["rows"][0]
    assert [(each["type"], each["reason"]) for each in row["conditions"]] == [("Completed", "Succeeded")]


@pytest.mark.parametrize("path", ["spec", ".spec[", ".spec[?(@", "..a", ".a[?(@.b>1)]"])
def test_a_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="invalid json path"):
        jsonpath.parse(path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".a[*].b", [1, 2]), (".a[-1].b", [2]), (".a[5].b", []), ("['a'][0].b", [1]), (".a[?(@.b!=1)].b", [2]),
        (".a[?(@.c)].b", [2]), (".a[?(@.c==true)].b", [2]), (".c.*", [3, 4]), (".a.b", []),
    ],
)  # fmt: skip
def test_a_path_leads_to_what_is_there(path: str, found: list[Any]) -> None:
    document = {"a": [{"b": 1}, {"b": 2, "c": True}], "c": {"x": 3, "y": 4}}
    assert jsonpath.values(jsonpath.parse(path), document) == found
