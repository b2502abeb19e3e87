"""What the pages on routing have people write is taken as it stands, and nothing is wrong with it."""

from __future__ import annotations

import pathlib
import re

import pytest

from doubles.meshes import Mesh
from ostria import samples
from ostria.analysis.findings import findings

DOCS = pathlib.Path(__file__).parents[2] / "docs"
MANIFESTS = pathlib.Path(samples.__file__).parent / "manifests"
PAGES = ("request-routing", "traffic-shifting", "fault-injection", "mirroring", "tcp-traffic-shifting")
TCP_ECHO = """
apiVersion: v1
kind: Service
metadata: {name: tcp-echo}
spec: {clusterIP: 10.96.1.1, selector: {app: tcp-echo}, ports: [{name: tcp, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tcp-echo}
spec: {host: tcp-echo, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}
"""


def written(page: str) -> list[str]:
    """The manifests that a page shows, or has people type."""
    text = (DOCS / f"{page}.md").read_text()
    return re.findall(r"(?:```yaml|<<EOF)\n(.*?)(?:```|\nEOF)", text, re.DOTALL)


def bookinfo() -> Mesh:
    """Services and subsets of the samples."""
    texts = [
        text for path in sorted(MANIFESTS.glob("*.yaml")) for text in re.split(r"^---$", path.read_text(), flags=re.M)
    ]
    return Mesh(TCP_ECHO, *(text for text in texts if re.search(r"^kind: (Service|DestinationRule)$", text, re.M)))


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_has_people_write_is_right(page: str) -> None:
    found = written(page)
    assert found
    for text in found:
        assert [f"{each.code} {each.field}" for each in findings(bookinfo().apply(text).db)] == []
