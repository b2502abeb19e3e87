"""What ProxyConfig objects make of a proxy's start, between MeshConfig and the pod's own annotation."""

from __future__ import annotations

import msgspec

from doubles.meshes import Mesh
from ostria.injection.parameters import effective_config, image_of_type
from ostria.injection.settings import Settings
from ostria.mesh.proxy_configs import proxy_starts


def config(name: str, namespace: str, spec: str, since: str = "2026-01-01T00:00:00Z") -> str:
    return f"""
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {{name: {name}, namespace: {namespace}, creationTimestamp: "{since}"}}
spec: {spec}
"""


def settings(*texts: str) -> Settings:
    plain = Settings(proxy_config={"concurrency": 1, "proxyMetadata": {"A": "mesh", "B": "mesh"}})
    return msgspec.structs.replace(plain, proxy_starts=proxy_starts(Mesh(*texts).db))


def test_the_narrower_goes_before_the_wider_and_the_annotation_stands_between():
    found = settings(
        config("root", "istio-system", "{concurrency: 2, environmentVariables: {A: root}}"),
        config("own", "shop", "{concurrency: 3}"),
        config("cart", "shop", "{concurrency: 4, selector: {matchLabels: {app: cart}}, image: {imageType: debug}}"),
        config("late", "shop", "{concurrency: 9}", "2027-01-01T00:00:00Z"),
    )
    assert effective_config({}, found, "default", {})["concurrency"] == 2
    assert effective_config({}, found, "shop", {})["concurrency"] == 3
    assert effective_config({"concurrency": 5}, found, "shop", {})["concurrency"] == 5
    cart = effective_config({"concurrency": 5}, found, "shop", {"app": "cart"})
    assert cart["concurrency"] == 4
    assert cart["proxyMetadata"] == {"A": "root", "B": "mesh"}
    assert image_of_type("hub/proxy:1.0", cart) == "hub/proxy:1.0-debug"


def test_one_with_a_selector_in_the_root_namespace_is_for_workloads_there():
    found = settings(config("root", "istio-system", "{concurrency: 2, selector: {matchLabels: {app: cart}}}"))
    assert effective_config({}, found, "shop", {"app": "cart"})["concurrency"] == 1
    assert effective_config({}, found, "istio-system", {"app": "cart"})["concurrency"] == 2


def test_an_images_variant_is_the_end_of_its_tag():
    distroless = {"image": {"imageType": "distroless"}}
    assert image_of_type("hub/proxy:1.0-debug", distroless) == "hub/proxy:1.0-distroless"
    assert image_of_type("localhost:5000/proxy", distroless) == "localhost:5000/proxy"
    assert image_of_type("hub/proxy@sha256:abc", distroless) == "hub/proxy@sha256:abc"
    assert image_of_type("hub/proxy:1.0", {"image": {"imageType": "default"}}) == "hub/proxy:1.0"
