"""The commands of people's guides to Istio, typed as they are printed, inside `ostria shell`; Istio's files unmodified.

The mesh begins with the profile `minimal`; `istioctl install --set profile=demo -y` makes it what the guides expect.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from doubles import conformance, netns
from doubles.api_process import kubectls
from doubles.local_mesh import LocalMesh, Ran, local_mesh

pytestmark = [
    pytest.mark.envoy,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.xdist_group("live-seeds"),
    pytest.mark.timeout(240),
]

BOUND = 120.0
BOOKINFO = conformance.DATA / "samples" / "samples" / "bookinfo"
NETWORKING = BOOKINFO / "networking"
needs_samples = pytest.mark.skipif(
    not NETWORKING.is_dir(),
    reason=f"Istio's samples are not at {BOOKINFO}: set OSTRIA_CONFORMANCE to the data's folder",
)
# Subsets and hosts of services that the files bring themselves, or that other files of the sample bring.
ELSEWHERE = {
    'details.default.svc.cluster.local has no subset "v2"',
    'ratings.default.svc.cluster.local has no subset "v2-mysql-vm"',
    'ratings.default.svc.cluster.local has no subset "v2-mysql"',
    'ratings.default.svc.cluster.local has no subset "v2"',
    'no service has the host "cert-manager-resolver.istio-system.svc.cluster.local"',
}
CERTIFICATE = """
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: bookinfo-example-com, namespace: istio-system}
spec: {secretName: bookinfo-example-com-cert, commonName: bookinfo.example.com}
"""
GATEWAY = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: example}
spec:
  selector: {app: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [example.com]}]
"""


async def typed(mesh: LocalMesh, line: str, *, code: int | None = 0, stdin: str = "") -> Ran:
    """One line, as a shell inside `ostria shell` takes it."""
    return await mesh.ostria("shell", "--", "sh", "-c", line, code=code, stdin=stdin, bound=BOUND)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bare() -> AsyncIterator[LocalMesh]:
    netns.require(ordinary=os.geteuid() != 0)
    if not kubectls():
        pytest.skip("there is no kubectl on PATH, nor in KUBECTL")
    async with local_mesh(profile="minimal") as mesh:
        # What the shell sets is not there outside of it.
        inside = {name: mesh.env.pop(name) for name in ("KUBECONFIG", "OSTRIA_MESH")}
        ran = await typed(mesh, "kubectl get pods -n istio-system")
        assert re.search(r"^istiod-\S+ +1/1 +Running", ran.output, re.MULTILINE)
        await typed(mesh, "kubectl label namespace default istio-injection=enabled")
        ran = await typed(mesh, "istioctl install --set profile=demo -y")
        assert "✔ Installation complete" in ran.errors
        mesh.env |= inside
        yield mesh


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(bare: LocalMesh) -> LocalMesh:
    """With Istio's own bookinfo.yaml in it, and what the guide says to apply next."""
    for file in (
        "platform/kube/bookinfo.yaml",
        "networking/bookinfo-gateway.yaml",
        "networking/destination-rule-all.yaml",
    ):
        await typed(bare, f"kubectl apply -f {BOOKINFO / file}")
    await bare.rolled_out(*[f"deploy/{name}" for name in await bare.names("deployments")])
    service = await bare.get("service", "istio-ingressgateway", "istio-system")
    ports = json.loads(service["metadata"]["annotations"]["ostria.dev/host-ports"])
    bare.gateway = f"http://127.0.0.1:{ports['80']}"
    async with asyncio.timeout(BOUND):
        while "★" not in (await bare.page())[1]:
            await asyncio.sleep(0.05)
    return bare


async def test_the_installation_is_as_the_guides_show_it(bare: LocalMesh):
    ran = await typed(bare, "kubectl get pods -n istio-system")
    for name in ("istiod", "istio-ingressgateway", "istio-egressgateway"):
        assert re.search(rf"^{name}-\S+ +1/1 +Running", ran.output, re.MULTILINE), ran.output
    ran = await typed(bare, "istioctl verify-install")
    assert "✔ Istio is installed and verified successfully" in ran.output
    assert "ostria" in (await typed(bare, "istioctl version")).output


@pytest.mark.parametrize(
    "line",
    [
        "istioctl analyze --timeout 60s",
        "istioctl analyze -n default",
        "istioctl dashboard kiali",
        "istioctl x describe pod x",
    ],
)
async def test_what_comes_later_says_so(bare: LocalMesh, line: str):
    ran = await typed(bare, line, code=69)
    verb = line.split()[1]
    assert ran.errors.startswith(f"error: istioctl {verb} is not there yet\n")
    assert ran.output == ""


async def test_a_label_on_a_namespace_brings_sidecars(bare: LocalMesh):
    await typed(bare, "kubectl create namespace yournamespace")
    try:
        ran = await typed(bare, "kubectl label ns/yournamespace istio-injection=enabled")
        assert ran.output == "namespace/yournamespace labeled\n"
        await typed(bare, "kubectl run web -n yournamespace --image=curl --command -- /bin/sleep infinity")
        await typed(bare, "kubectl wait -n yournamespace --for=condition=Ready pod/web --timeout=60s")
        assert re.search(r"^web +2/2 +Running", (await typed(bare, "kubectl get pods -n yournamespace")).output, re.M)
        await typed(bare, "kubectl logs web -c istio-proxy -n yournamespace")
        assert "istio-proxy" in (await typed(bare, "kubectl describe pod web -n yournamespace")).output
    finally:
        await typed(bare, "kubectl delete namespace yournamespace --wait=false")


async def test_a_kind_that_is_not_served_and_a_gateway_that_nothing_serves_are_told(bare: LocalMesh):
    ran = await typed(bare, "kubectl apply -f -", stdin=CERTIFICATE, code=1)
    assert 'no matches for kind "Certificate" in version "cert-manager.io/v1"' in ran.errors
    await typed(bare, "kubectl apply -f -", stdin=GATEWAY)
    try:
        (problem,) = json.loads((await bare.ostria("status", "-o", "json", code=79)).output)["problems"]
        assert problem["object"] == {"kind": "Gateway", "namespace": "default", "name": "example"}
        # The labels that are nearest.
        assert "istio-ingressgateway" in json.dumps(problem), problem
    finally:
        await typed(bare, "kubectl delete gateway.networking.istio.io example")


@needs_samples
async def test_bookinfo_runs_with_sidecars_and_its_page_is_served(mesh: LocalMesh):
    ran = await typed(mesh, "kubectl get pods")
    rows = [line.split() for line in ran.output.splitlines()[1:]]
    apps = ("details-v1", "productpage-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")
    assert sorted(row[0].rsplit("-", 2)[0] for row in rows) == sorted(apps)
    assert {tuple(row[1:3]) for row in rows} == {("2/2", "Running")}
    ran = await typed(mesh, "kubectl exec deploy/ratings-v1 -c ratings -- curl -sS productpage:9080/productpage")
    assert "<title>Simple Bookstore App</title>" in ran.output


@needs_samples
async def test_weights_of_90_and_10_are_kept_over_10000_requests(mesh: LocalMesh):
    text = (NETWORKING / "virtual-service-reviews-90-10.yaml").read_text()
    await mesh.enforce(text, "VirtualService default/reviews")
    try:
        url = "http://reviews:9080/reviews/0"
        ran = await mesh.ostria("call", "productpage-v1", url, "-n", "10000", "-o", "json", bound=BOUND)
    finally:
        await mesh.withdraw("VirtualService", "reviews")
    found = json.loads(ran.output)
    assert (found["statuses"], found["failures"]) == ({"200": 10000}, {})
    split = {who.split()[-1]: count for who, count in found["split"].items()}
    assert set(split) == {"v1", "v2"}, split
    assert abs(split["v2"] / 100 - 10) < 1.5, split


@needs_samples
async def test_jason_has_his_version_and_waits_for_the_delay(mesh: LocalMesh):
    names = [f"VirtualService default/{name}" for name in ("productpage", "reviews", "ratings", "details")]
    await mesh.enforce((NETWORKING / "virtual-service-all-v1.yaml").read_text(), *names)
    try:
        await mesh.enforce((NETWORKING / "virtual-service-reviews-test-v2.yaml").read_text(), names[1])
        seen = {await version(mesh, "") for _ in range(5)}, {await version(mesh, "jason") for _ in range(5)}
        assert seen == ({"reviews-v1"}, {"reviews-v2"})

        await mesh.enforce((NETWORKING / "virtual-service-ratings-test-delay.yaml").read_text(), names[2])
        # The sample's page gives reviews 3 seconds, twice; ratings itself answers after the delay.
        (after, code), (page_after, page) = await asyncio.gather(timed(mesh), jasons_page(mesh))
        assert (code, after >= 7.0, after < 9.0) == ("200", True, True), after
        assert page_after >= 6.0
        assert "product reviews are currently unavailable" in page
        assert (await timed(mesh, "somebody"))[0] < 3.0

        await mesh.enforce((NETWORKING / "virtual-service-ratings-test-abort.yaml").read_text(), names[2])
        assert (await timed(mesh))[1] == "500"
        assert (await timed(mesh, "somebody"))[1] == "200"
        assert "Ratings service is currently unavailable" in (await jasons_page(mesh))[1]
    finally:
        for name in names:
            await mesh.withdraw("VirtualService", name.rpartition("/")[2])


async def version(mesh: LocalMesh, user: str) -> str:
    """Which version of reviews answers a user."""
    headers = ["-H", f"end-user: {user}"] if user else []
    ran = await mesh.curl("-sS", *headers, "http://reviews:9080/reviews/0")
    return str(json.loads(ran.output)["podname"]).rsplit("-", 2)[0]


async def timed(mesh: LocalMesh, user: str = "jason") -> tuple[float, str]:
    """How long ratings takes to answer a user, and with what status."""
    ran = await mesh.curl(
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{time_total} %{http_code}",
        "-H",
        f"end-user: {user}",
        "http://ratings:9080/ratings/0",
    )
    seconds, code = ran.output.split()
    return float(seconds), code


async def jasons_page(mesh: LocalMesh) -> tuple[float, str]:
    """The page that jason sees once he has signed in, through the gateway, and how long it took."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, timeout=aiohttp.ClientTimeout(total=30)) as session:
        sign_in = session.post(f"{mesh.gateway}/login", data={"username": "jason", "passwd": ""}, allow_redirects=False)
        async with sign_in as answer:
            assert answer.status in (302, 303), answer.status
        began = asyncio.get_running_loop().time()
        async with session.get(f"{mesh.gateway}/productpage") as answer:
            text = await answer.text()
        return asyncio.get_running_loop().time() - began, text


@needs_samples
async def test_a_token_from_inside_an_app_opens_nothing(mesh: LocalMesh):
    """What an app's own token may ask of the API is what anybody may."""
    inside = (
        "T=$(cat /var/run/secrets/kubernetes.io/serviceaccount/token); A=https://kubernetes.default; "
        "for p in /api/v1/secrets /api/v1/namespaces/default/pods /apis/networking.istio.io/v1/virtualservices; do "
        'curl -sk -o /dev/null -w "%{http_code} " -H "Authorization: Bearer $T" $A$p; done; '
        'curl -sk -o /dev/null -w "%{http_code} " -H "Authorization: Bearer $T" -H "Content-Type: application/json" '
        '-d \'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"mine"}}\' '
        "$A/api/v1/namespaces/default/configmaps"
    )
    ran = await mesh.exec("deploy/ratings-v1", "sh", "-c", inside, container="ratings")
    assert ran.output.split() == ["403"] * 4, ran
    assert "mine" not in await mesh.names("configmaps")


@needs_samples
async def test_everything_of_networking_applies_unmodified(mesh: LocalMesh):
    assert len(list(NETWORKING.glob("*.yaml"))) > 15
    try:
        await typed(mesh, f"kubectl apply -f {NETWORKING}")
        status = json.loads((await mesh.ostria("status", "-o", "json", code=None)).output)
        words = {problem["message"].partition(":")[0] for problem in status["problems"] if problem["level"] == "error"}
        assert words <= ELSEWHERE, words - ELSEWHERE
        assert status["troubles"] == []
        # What every proxy was sent, it has taken.
        synced = json.loads((await mesh.ostria("proxy-status", "-o", "json")).output)
        assert "NACK" not in json.dumps(synced)
    finally:
        await typed(mesh, f"kubectl delete --ignore-not-found -f {NETWORKING}")
        for name in ("bookinfo-gateway", "destination-rule-all"):
            await typed(mesh, f"kubectl apply -f {NETWORKING / name}.yaml")
