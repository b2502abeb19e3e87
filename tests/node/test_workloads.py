"""Workloads as people handle them: kubectl, the real API server, the real node, real pods."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from doubles import netns
from doubles.local_cluster import LocalCluster, local_cluster

JOB = """
apiVersion: batch/v1
kind: Job
metadata: {name: sums}
spec:
  completions: 2
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{name: sum, image: none, command: [sh, -c, "expr 2 + 3"]}]
"""


@pytest.fixture
async def cluster(tmp_path: pathlib.Path) -> AsyncIterator[LocalCluster]:
    netns.require(ordinary=os.geteuid() != 0)
    async with local_cluster(tmp_path) as cluster:
        yield cluster


async def shown(cluster: LocalCluster, what: str) -> Any:
    return json.loads(await cluster.do(f"get {what} -o json"))


async def images(cluster: LocalCluster) -> list[str]:
    pods = (await shown(cluster, "pods -l app=web"))["items"]
    return sorted(
        each["spec"]["containers"][0]["image"] for each in pods if "deletionTimestamp" not in each["metadata"]
    )


async def test_a_deployment_is_made_scaled_rolled_out_and_undone(cluster: LocalCluster) -> None:
    await cluster.do("create deployment web --image=web:1 --replicas=2")
    assert "successfully rolled out" in await cluster.do("rollout status deployment/web --timeout=50s")
    await cluster.do("scale deployment/web --replicas=3")
    await cluster.do("wait --for=jsonpath={.status.availableReplicas}=3 deployment/web --timeout=50s")
    await cluster.do("set image deployment/web web=web:2")
    await cluster.do("rollout status deployment/web --timeout=50s")
    assert await images(cluster) == ["web:2"] * 3
    history = await cluster.do("rollout history deployment/web")
    assert [line.split()[0] for line in history.splitlines() if line[:1].isdigit()] == ["1", "2"]
    await cluster.do("rollout undo deployment/web")
    await cluster.do("rollout status deployment/web --timeout=50s")
    assert await images(cluster) == ["web:1"] * 3
    before = {each["metadata"]["uid"] for each in (await shown(cluster, "pods"))["items"]}
    await cluster.do("rollout restart deployment/web")
    await cluster.do("rollout status deployment/web --timeout=50s")
    sets = (await shown(cluster, "replicasets"))["items"]
    assert len(sets) == 3, "a restart is a template of its own"
    after = {
        each["metadata"]["uid"]
        for each in (await shown(cluster, "pods"))["items"]
        if "deletionTimestamp" not in each["metadata"]
    }
    assert not before & after
    assert await cluster.do("exec deploy/web -- expr 2 + 3") == "5\n"
    described = await cluster.do("describe deployment web")
    assert "ScalingReplicaSet" in described


async def test_a_deployment_is_exposed_on_this_machine_and_goes_with_what_belongs_to_it(cluster: LocalCluster) -> None:
    await cluster.do("create deployment web --image=web:1")
    await cluster.do("expose deployment web --port=80 --target-port=8000 --type=LoadBalancer")
    await cluster.do("rollout status deployment/web --timeout=50s")
    await cluster.do("wait --for=jsonpath={.status.loadBalancer.ingress[0].ip}=127.0.0.1 service/web --timeout=50s")
    service = await shown(cluster, "service web")
    port = json.loads(service["metadata"]["annotations"]["ostria.dev/host-ports"])["80"]
    for each in (port, service["spec"]["ports"][0]["nodePort"]):
        reader, writer = await asyncio.open_connection("127.0.0.1", each)
        with contextlib.closing(writer):
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200 OK" in await reader.read()
    assert "127.0.0.1" in await cluster.do("get service web")
    await cluster.do("delete deployment,service web")
    await cluster.do("wait --for=delete pod -l app=web --timeout=50s")
    assert (await shown(cluster, "replicasets,endpointslices -l app=web"))["items"] == []


async def test_a_job_comes_to_its_end(cluster: LocalCluster) -> None:
    await cluster.do("apply -f -", JOB)
    await cluster.do("wait --for=condition=complete job/sums --timeout=50s")
    (_, line) = (await cluster.do("get job sums")).splitlines()
    assert "Complete" in line
    assert "2/2" in line
    assert await cluster.do("logs job/sums") == "5\n"
    pods = (await shown(cluster, "pods -l job-name=sums"))["items"]
    assert [each["status"]["phase"] for each in pods] == ["Succeeded"] * 2


async def test_a_cluster_has_its_node_its_accounts_and_its_api(cluster: LocalCluster) -> None:
    await cluster.do("wait --for=create node/ostria --timeout=50s")
    await cluster.do("wait --for=condition=Ready node/ostria --timeout=50s")
    assert " Ready " in await cluster.do("get nodes")
    await cluster.do("wait --for=create lease/ostria -n kube-node-lease --timeout=50s")
    await cluster.do("create namespace shop")
    await cluster.do("wait --for=create serviceaccount/default -n shop --timeout=50s")
    await cluster.do("wait --for=create configmap/kube-root-ca.crt -n shop --timeout=50s")
    await cluster.do("wait --for=create endpointslice/kubernetes --timeout=50s")
    assert (await shown(cluster, "service kubernetes"))["spec"]["clusterIP"] == "10.96.0.1"
    await cluster.do("delete namespace shop --timeout=50s")


async def test_killed_processes_are_succeeded_and_pods_do_not_notice(cluster: LocalCluster) -> None:
    await cluster.do("create deployment web --image=web:1")
    await cluster.do("rollout status deployment/web --timeout=50s")
    (before,) = (await shown(cluster, "pods"))["items"]
    await cluster.node.kill()
    await cluster.apiserver.kill()
    await cluster.begin()
    await cluster.do("wait --for=condition=Available deployment/web --timeout=50s")
    await cluster.do("scale deployment/web --replicas=2")
    await cluster.do("wait --for=jsonpath={.status.availableReplicas}=2 deployment/web --timeout=50s")
    after = {each["metadata"]["name"]: each for each in (await shown(cluster, "pods"))["items"]}
    again = after[before["metadata"]["name"]]["status"]["containerStatuses"][0]
    assert again["containerID"] == before["status"]["containerStatuses"][0]["containerID"]
    assert again["restartCount"] == 0


ASK = """
import json, os, ssl, urllib.error, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
context = ssl.create_default_context(cafile=f"{folder}/ca.crt")
headers = {"Authorization": "Bearer " + open(f"{folder}/token").read()}
for path in ("/version", "/api/v1/namespaces/default/secrets"):
    request = urllib.request.Request(f"https://kubernetes.default{path}", headers=headers)
    try:
        print(urllib.request.urlopen(request, context=context, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)["message"])
"""


async def test_a_pod_asks_the_api_as_its_account_which_may_read_nothing(cluster: LocalCluster) -> None:
    await cluster.do("create deployment web --image=web:1")
    await cluster.do("rollout status deployment/web --timeout=50s")
    done = await cluster.kubectl("exec", "deploy/web", "--", sys.executable, "-c", ASK)
    assert done.out.splitlines()[0] == "200", f"{done.out}{done.err}\n{await cluster.why()}"
    assert done.out.splitlines()[1].startswith('403 secrets is forbidden: User "system:serviceaccount:default:default"')
