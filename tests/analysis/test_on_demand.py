"""A call of a workload whose sidecar is configured on demand is simulated as it is answered: as in full."""

from __future__ import annotations

from doubles.meshes import Mesh, service
from ostria.analysis.simulation.holdings import Holdings
from ostria.mesh.traits import ClientTraits


def test_a_proxy_on_demand_is_simulated_with_its_whole_tables() -> None:
    mesh = Mesh(service("reviews", ip="10.96.0.1"))
    client = ClientTraits(namespace="default")
    tables = [Holdings.of_client(mesh.db, each).table("9080") for each in (client, client._replace(on_demand=True))]
    assert tables[0] is not None
    assert tables[0] == tables[1]
