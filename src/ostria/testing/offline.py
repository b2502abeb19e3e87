"""A mesh that does not run: calls are found out, and what fails says whose doing it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ostria.analysis.simulation import (
    CallMode,
    CallTls,
    Failure,
    Trace,
    call_to,
    gateways,
    pod_of,
    simulate,
    told,
)
from ostria.apps.offline import OfflineMesh
from ostria.mesh.clients import traits_of


class CallFailed(AssertionError):
    """A call that was to succeed does not. Its text is the way it took, the object that decided and where that is."""

    def __init__(self, text: str, trace: Trace) -> None:
        super().__init__(text)
        self.trace = trace


class Found(NamedTuple):
    """What becomes of a call. `clusters` are where it goes, by share (0.0 to 1.0); `status` is what the proxy itself
    answers, 0 where it sends the call on."""

    trace: Trace

    @property
    def failure(self) -> Failure | None:
        """Why it fails; None if it does not."""
        return self.trace.failure

    @property
    def clusters(self) -> dict[str, float]:
        """Clusters by their share."""
        return {share.cluster: share.share for share in self.trace.sent.shares if share.share > 0}

    @property
    def subsets(self) -> dict[str, float]:
        """Subsets by their share, "" for a whole service."""
        found: dict[str, float] = {}
        for cluster, share in self.clusters.items():
            parts = cluster.split("|")
            name = parts[2] if len(parts) == 4 else ""
            found[name] = found.get(name, 0.0) + share
        return found

    @property
    def hosts(self) -> dict[str, float]:
        """Services by their share, with their full names."""
        found: dict[str, float] = {}
        for cluster, share in self.clusters.items():
            name = cluster.rpartition("|")[2]
            found[name] = found.get(name, 0.0) + share
        return found

    @property
    def status(self) -> int:
        """What the proxy itself answers."""
        return self.trace.sent.answer.status if self.trace.sent.answer else 0

    @property
    def location(self) -> str:
        """Where a redirect leads."""
        return dict(self.trace.sent.answer.headers).get("location", "") if self.trace.sent.answer else ""

    @property
    def route(self) -> str:
        """The route's name."""
        return self.trace.sent.route


class Mesh:
    """A mesh out of files. Make one with `of_paths`, or ask for the fixture `ostria_mesh`."""

    def __init__(self, offline: OfflineMesh) -> None:
        self._offline = offline
        assert not offline.errors, "\n".join(map(str, offline.errors))

    @classmethod
    def of_paths(cls, paths: Sequence[str], *, namespace: str = "default") -> Mesh:
        """The mesh that files and folders come to. Fails, with file and line, if one cannot be understood."""
        return cls(OfflineMesh.of_paths(paths, namespace=namespace))

    def call(
        self,
        source: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "",
        namespace: str = "default",
    ) -> Found:
        """A call from a workload (`productpage`, `deploy/productpage-v1`, `NAME.NAMESPACE`) that is to get through."""
        return self._through(self.simulate(source, url, headers=headers, method=method, namespace=namespace))

    def call_gateway(
        self, url: str, *, gateway: str = "", headers: Mapping[str, str] | None = None, method: str = ""
    ) -> Found:
        """A call from outside, through a gateway (`NAME.NAMESPACE`; the first one), that is to get through."""
        return self._through(self.simulate_gateway(url, gateway=gateway, headers=headers, method=method))

    def simulate(
        self,
        source: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        method: str = "",
        namespace: str = "default",
        to: bool = False,
        tls: str = "",
    ) -> Found:
        """The same, whatever comes of it: `failure` says why it fails. With `to` the call arrives at the workload."""
        mode = CallMode.INBOUND if to else CallMode.OUTBOUND
        return self._simulate(source, namespace, url, mode, headers or {}, method, tls)

    def simulate_gateway(
        self, url: str, *, gateway: str = "", headers: Mapping[str, str] | None = None, method: str = "", tls: str = ""
    ) -> Found:
        """A call from outside, whatever comes of it."""
        if not gateway:
            pods = gateways(self._offline.db)
            assert pods, "the mesh has no gateway"
            gateway = f"{pods[0].name}.{pods[0].namespace}"
        return self._simulate(gateway, "default", url, CallMode.GATEWAY, headers or {}, method, tls)

    def _simulate(
        self, word: str, namespace: str, url: str, mode: CallMode, headers: Mapping[str, str], method: str, tls: str
    ) -> Found:
        db = self._offline.db
        pod = pod_of(db, word, namespace)
        client = traits_of(db, pod)
        assert client is not None
        call = call_to(db, url, client, mode=mode)
        kept = tuple((name, value) for name, value in headers.items() if name.lower() != "host")
        host = next((value for name, value in headers.items() if name.lower() == "host"), call.host)
        call = call._replace(headers=(*call.headers, *kept), host=host, method=method or call.method)
        if tls:
            call = call._replace(tls=CallTls(tls))
        return Found(simulate(db, client, call, pod))

    def _through(self, found: Found) -> Found:
        __tracebackhide__ = True
        if found.failure is not None:
            raise CallFailed(f"the call fails\n{told(found.trace, self._offline.origin)}", found.trace)
        return found
