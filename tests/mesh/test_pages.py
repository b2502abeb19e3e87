"""What the pages about destinations and Sidecars show is taken as it stands, and comes to what they say."""

from __future__ import annotations

import pathlib
import re

import pytest

from doubles.meshes import Mesh, service
from ostria.analysis.unsupported import unsupported
from ostria.base import ObjectKey
from ostria.mesh.destinations import traffic_policy
from ostria.mesh.model import LoadBalancing, OutboundMode, TlsMode
from ostria.mesh.outbound import outbound_clusters
from ostria.mesh.sidecars import outbound_policy, sidecar_of
from ostria.mesh.traits import ClientTraits
from ostria.resources import read_text

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGES = ("sidecar.md", "load-balancing.md", "circuit-breaking.md", "tls-origination.md")


def blocks(page: str) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def mesh_of(page: str, *more: str) -> Mesh:
    return Mesh(*blocks(page), *more)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_shown_is_taken_without_a_word_and_all_of_it_is_acted_on(page: str):
    assert blocks(page)
    mesh = mesh_of(page)
    for text in blocks(page):
        for change in read_text(text, page).changes:
            assert change.problems == ()
            assert unsupported(mesh.db, change.key) == ()


def test_sidecars_scope_what_their_page_says():
    more = [service(name, namespace=space, ip=f"10.96.1.{at}") for at, (name, space) in enumerate(
        (("cart", "shop"), ("secret", "shop"), ("reviews", "bookinfo"), ("istiod", "istio-system"), ("x", "default"))
    )]  # fmt: skip
    mesh = mesh_of("sidecar.md", *more)

    def known(namespace: str, labels: tuple[tuple[str, str], ...] = ()) -> set[str]:
        sidecar = sidecar_of(mesh.db, namespace, labels)
        client = ClientTraits(namespace=namespace, sidecar=sidecar)
        return {cluster.host.removesuffix(".svc.cluster.local") for cluster in outbound_clusters(mesh.db, client)}

    assert known("default") == {"x.default", "istiod.istio-system"}
    assert known("shop") == {"cart.shop", "reviews.bookinfo"}
    own = ObjectKey("", "Sidecar", "shop", "default")
    assert outbound_policy(mesh.db, own, "shop").mode is OutboundMode.REGISTRY_ONLY


def test_policies_are_what_their_pages_say():
    reviews = "reviews.bookinfo.svc.cluster.local"
    mesh = mesh_of("load-balancing.md", service("reviews", namespace="bookinfo", ip="10.96.1.1"))
    assert traffic_policy(mesh.db, reviews, "bookinfo", 9080, "").balancing is LoadBalancing.ROUND_ROBIN
    assert traffic_policy(mesh.db, reviews, "bookinfo", 9080, "sticky").balancing is LoadBalancing.MAGLEV
    ratings = "ratings.bookinfo.svc.cluster.local"
    mesh = mesh_of("circuit-breaking.md", service("ratings", namespace="bookinfo", ip="10.96.1.2"))
    found = traffic_policy(mesh.db, ratings, "default", 9080, "")
    assert (found.pool.max_connections, found.retry_budget and found.retry_budget.percent) == (100, 20.0)
    mesh = mesh_of("tls-origination.md")
    assert traffic_policy(mesh.db, "partner.example.com", "shop", 80, "").tls.mode is TlsMode.SIMPLE
