"""The process `istiod`: the control plane on a Kubernetes API, with its authority, its webhook and its own certificate.

    Kubernetes API <- source, token reviews, writer      15012 (TLS): proxies' streams, certificate requests
                                                         15017 (TLS): the API server's webhook calls
                                                         15014 (plain): metrics

Everything is read from the API at the start; nothing is kept on disk. The keys that sign live in a Secret of the root
namespace and in this process, and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import logging
import os
import pathlib
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ostria.admission.server import Address as WebhookAddress
from ostria.admission.server import Certificate as WebhookCertificate
from ostria.admission.server import Server as WebhookServer
from ostria.apps.addresses import AddressRules, networks
from ostria.apps.control_plane import ControlPlane
from ostria.apps.key_sets import KeySettings
from ostria.apps.mesh_authority import MeshAuthority, Terms, terms_from
from ostria.apps.monitoring import Metric, Monitoring
from ostria.base import ObjectKey, durations, footprint, logs
from ostria.base.clock import SystemClock
from ostria.capture import Capture, marked
from ostria.controllers.writer import KubernetesWriter
from ostria.identity.authority import AuthorityError, split
from ostria.identity.joining import Joining
from ostria.identity.keeping import Answer, Send
from ostria.identity.registration import Registration
from ostria.identity.server import CertificateService, Sign
from ostria.identity.serving import keep_serving, make, serving_names
from ostria.identity.spiffe import SpiffeId
from ostria.identity.tokens import TokenIdentity, TokenReviewer
from ostria.injection import Settings as InjectionSettings
from ostria.injection import with_mesh_config
from ostria.injection.values import read_values, settings_of
from ostria.mesh.proxy_configs import proxy_starts
from ostria.mesh.settings import KeyFetching, ca_certificates, mesh_config, trust_domain
from ostria.mesh.settings import Settings as MeshSettings
from ostria.resources import by_kind, objects
from ostria.resources.kubernetes import Pod, Secret
from ostria.sources.access import Access, from_kubeconfig, in_cluster, kubeconfig_paths
from ostria.sources.api import FAILURES, Api, ApiError
from ostria.sources.kubernetes import KubernetesSource
from ostria.xds import Identity, Verified
from ostria.xds.server import Address, Certificate

INJECTION_VALUES = "/etc/istio/inject/values"
"""Where the ConfigMap `istio-sidecar-injector` is mounted, with the values that `ostria install` was given."""

log = logging.getLogger("ostria.istiod")


class ExternalSigner(NamedTuple):
    """A signer of Kubernetes' certificates API, and the domain of those that requests may name instead."""

    signer: str
    domain: str = ""


class Settings(NamedTuple):
    """All that a person or a manifest decides about this process.

    `plugged_in` is the folder of a Secret `cacerts` (root-cert.pem, ca-cert.pem, ca-key.pem, cert-chain.pem), mounted
    where somebody brings the mesh's authority along and the Secret itself is not there. `trusted_nodes` are accounts
    (namespace/name) that may ask for certificates of the pods of their node.
    """

    mesh: MeshSettings = MeshSettings()
    injection: InjectionSettings = InjectionSettings()
    envoy_version: str = ""
    xds: tuple[str, ...] = ("[::]:15012",)
    webhook: tuple[str, int] = ("", 15017)
    monitoring: tuple[str, int] = ("", 15014)
    plugged_in: str = "/etc/cacerts"
    names: tuple[str, ...] = ()
    terms: Terms = Terms()
    keys: KeySettings = KeySettings()
    trusted_nodes: frozenset[str] = frozenset()
    external: ExternalSigner | None = None


def settings_from(environ: Mapping[str, str], values: str = "") -> Settings:
    """The settings that the environment spells, under the names that istiod has (istio.io: pilot-discovery).

    `values` are those of the charts that injection reads, as `ostria install` writes them; "" leaves their defaults.
    Raises ValueError, with a message for people.
    """
    mark = environ.get("OSTRIA_SOCKET_MARK", "")
    if mark and not mark.isdigit():
        raise ValueError(f'OSTRIA_SOCKET_MARK is a number, not "{mark}"')
    mesh = MeshSettings(
        root_namespace=environ.get("POD_NAMESPACE", "istio-system"),
        domain_suffix=environ.get("DOMAIN_SUFFIX", "cluster.local"),
        revision=environ.get("REVISION", ""),
        socket_mark=int(mark) if mark else None,
        ipv6=environ.get("OSTRIA_IPV6", "true") == "true",
        http10=environ.get("PILOT_HTTP10", "false") in ("true", "1"),
        scope_gateways=environ.get("PILOT_SCOPE_GATEWAY_TO_NAMESPACE", "false") == "true",
        strict_tenancy=environ.get("OSTRIA_STRICT_TENANCY", "false") == "true",
        keys=_key_fetching(environ.get("PILOT_JWT_ENABLE_REMOTE_JWKS", "false")),
        on_demand=environ.get("OSTRIA_ON_DEMAND_XDS", "false") == "true",
    )
    defaults = InjectionSettings()
    injection = InjectionSettings(
        revision=mesh.revision,
        domain_suffix=mesh.domain_suffix,
        native_sidecars=environ.get("ENABLE_NATIVE_SIDECARS", "true") == "true",
        cluster=environ.get("CLUSTER_ID", defaults.cluster),
        discovery_address=f"istiod{f'-{mesh.revision}' if mesh.revision else ''}.{mesh.root_namespace}.svc:15012",
        capture=Capture() if mesh.socket_mark is None else msgspec.structs.replace(marked(), mark=mesh.socket_mark),
    )
    if values:
        injection = settings_of(read_values(values), injection)
    return Settings(
        mesh=mesh,
        injection=injection,
        envoy_version=environ.get("OSTRIA_ENVOY_VERSION", ""),
        plugged_in=environ.get("ROOT_CA_DIR", "/etc/cacerts"),
        names=tuple(name for name in environ.get("ISTIOD_CUSTOM_HOST", "").split(",") if name),
        terms=terms_from(environ),
        external=_external_signer(environ),
        trusted_nodes=frozenset(name for name in environ.get("CA_TRUSTED_NODE_ACCOUNTS", "").split(",") if name),
        keys=_key_settings(environ),
    )


def _key_fetching(word: str) -> KeyFetching:
    known = {"": KeyFetching.ISTIOD, "false": KeyFetching.ISTIOD, "true": KeyFetching.ENVOY}
    found = known.get(word.lower()) or next((each for each in KeyFetching if each == word.lower()), None)
    if found is None:
        raise ValueError(f'PILOT_JWT_ENABLE_REMOTE_JWKS is false, hybrid or envoy, not "{word}"')
    return found


def _key_settings(environ: Mapping[str, str]) -> KeySettings:
    refresh = durations.parse(environ.get("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", "20m")).seconds
    if refresh < 1:
        raise ValueError("PILOT_JWT_PUB_KEY_REFRESH_INTERVAL is at least 1s")
    return KeySettings(
        refresh=refresh,
        rules=AddressRules(
            allowed=networks(environ.get("OSTRIA_ALLOWED_CIDRS_IN_JWKS_URIS", "")),
            blocked=networks(environ.get("BLOCKED_CIDRS_IN_JWKS_URIS", "")),
        ),
    )


def _external_signer(environ: Mapping[str, str]) -> ExternalSigner | None:
    kind, signer, domain = (environ.get(name, "") for name in ("EXTERNAL_CA", "K8S_SIGNER", "CERT_SIGNER_DOMAIN"))
    if not kind:
        return None
    if kind != "ISTIOD_RA_KUBERNETES_API":
        raise ValueError(f'EXTERNAL_CA is ISTIOD_RA_KUBERNETES_API, not "{kind}"')
    if "/" not in signer and not domain:
        raise ValueError("EXTERNAL_CA needs K8S_SIGNER, as DOMAIN/NAME, or CERT_SIGNER_DOMAIN")
    return ExternalSigner(signer, domain)


def access_from(environ: Mapping[str, str]) -> Access:
    """The API that this process is to use: the cluster's that it runs in, else the kubeconfig's. Raises AccessError."""
    if "KUBERNETES_SERVICE_HOST" in environ:
        return in_cluster(environ)
    return from_kubeconfig(kubeconfig_paths(environ), environ)


class Istiod:
    """The process's parts; `run` until cancelled. `plane.serving` is set once proxies are answered."""

    def __init__(self, api: Api, access: Access, settings: Settings, authority: MeshAuthority) -> None:
        self._settings = settings
        self._authority = authority
        self._told: tuple[str, ...] = ()
        self._reviewer = TokenReviewer(lambda path, body: api.send("POST", path, body))
        self._names = serving_names(settings.mesh.root_namespace, settings.mesh.revision, *settings.names)
        self._first = make(authority.authority, self._names, time.time(), chain=authority.serving_chain)
        self._xds_certificate = Certificate(self._first.key, self._first.chain)
        self._webhook_certificate = WebhookCertificate(self._first.key, self._first.chain)
        self._signing = CertificateService(
            lambda: authority.authority,
            self._reviewer.identify,
            lambda: trust_domain(self.plane.db),
            policy=settings.terms.policy,
            joining=Joining(answering(api), settings.mesh.root_namespace),
            impersonate=self._may_impersonate,
            clusters=frozenset((settings.mesh.cluster, settings.injection.cluster)),
            more_roots=self._more_roots,
            sign=self._external(answering(api)),
        )
        credentials = self._xds_certificate.credentials()
        self.plane = ControlPlane(
            KubernetesSource(access, cluster=settings.mesh.cluster),
            self._verify,
            [Address(text, credentials) for text in settings.xds],
            settings=settings.mesh,
            envoy_version=settings.envoy_version,
            writer=KubernetesWriter(api),
            services=[self._signing],
            modules=True,
            woken=[self._woken],
            keys=settings.keys,
        )
        host, port = settings.webhook
        self.webhook = WebhookServer(
            self._injection,
            self._webhook_certificate,
            [WebhookAddress(host, port)],
            ready=lambda: self.plane.serving.is_set() and not authority.expired,
        )
        self.monitoring = Monitoring(self._metrics, *settings.monitoring)

    async def run(self) -> None:
        """Serve until cancelled."""
        authority = self._authority
        self._trust()
        async with asyncio.TaskGroup() as group, self.webhook, self.monitoring:
            keeping = keep_serving(
                self._first,
                lambda: authority.authority,
                self._names,
                self._replace,
                chain=lambda: authority.serving_chain,
            )
            group.create_task(keeping, name="certificate")
            group.create_task(self.plane.run(), name="control plane")
            await self.plane.serving.wait()
            group.create_task(authority.run(self._stored, self._trust), name="authority")
            await asyncio.get_running_loop().create_future()

    def _may_impersonate(self, caller: TokenIdentity, other: SpiffeId) -> bool:
        """Whether a node's agent asks for a workload that runs on its node."""
        if f"{caller.namespace}/{caller.service_account}" not in self._settings.trusted_nodes:
            return False
        db, cluster = self.plane.db, self._settings.mesh.cluster
        own = objects(db, ObjectKey(cluster, "Pod", caller.namespace, caller.pod))
        if not isinstance(own, Pod) or not own.spec.node_name:
            return False
        here = (objects(db, key) for key in by_kind(db, "Pod") if key.namespace == other.namespace)
        return other.trust_domain == trust_domain(db) and any(
            isinstance(pod, Pod)
            and (pod.spec.node_name, pod.spec.service_account_name) == (own.spec.node_name, other.service_account)
            for pod in here
        )

    def _metrics(self) -> list[Metric]:
        counted = self._signing.statistics()
        name = "citadel_server_csr_count"
        issued = Metric("citadel_server_success_cert_issuance_count", "counter", "Certificates.", counted.issued)
        asked = Metric(name, "counter", "Requests for certificates.", counted.issued + counted.refused)
        refused = [
            Metric(
                "ostria_certificates_refused_total", "counter", "Refusals, by gRPC's code.", count, (("code", code),)
            )
            for code, count in counted.by_code
        ]
        return [*self._authority.metrics(), issued, asked, *refused]

    def _external(self, send: Send) -> Sign | None:
        """Who signs in the place of our own authority, if anybody does."""
        external = self._settings.external
        if external is None:
            return None
        roots = lambda: self._authority.authority.roots + self._more_roots()  # noqa: E731
        return Registration(send, external.signer, roots, SystemClock(), domain=external.domain).sign

    def _more_roots(self) -> bytes:
        """What workloads alone trust and check against: MeshConfig's authorities, and the lists of who is revoked.

        Envoy takes revocation lists from among the authorities.
        """
        found: list[bytes] = []
        for pem in ca_certificates(self.plane.db):
            try:
                found += split(pem.encode(), "caCertificates")
            except AuthorityError as error:
                log.warning("MeshConfig's caCertificates are not used", extra={"reason": str(error)})
        more = b"".join(dict.fromkeys(found))
        return more + self._authority.revocations(more)

    def _trust(self) -> None:
        """Tell everybody whom to trust. What workloads trust beyond that comes with their certificates."""
        roots, more = self._authority.authority.roots, self._more_roots()
        if more:
            # Text between certificates has no meaning but that it changes: agents then ask for everything anew.
            roots += f"# Workloads trust others too: {hashlib.sha256(more).hexdigest()}\n".encode()
        self._told = ca_certificates(self.plane.db)
        self.plane.trust(roots.decode())

    def _woken(self) -> None:
        self._authority.wake()
        if self.plane.serving.is_set() and ca_certificates(self.plane.db) != self._told:
            self._trust()

    def _stored(self, name: str) -> Mapping[str, bytes] | None:
        """The content of a Secret of the root namespace, as it is known now."""
        mesh = self._settings.mesh
        secret = objects(self.plane.db, ObjectKey(mesh.cluster, "Secret", mesh.root_namespace, name))
        return secret.data if isinstance(secret, Secret) else None

    def _replace(self, key: bytes, chain: bytes) -> None:
        self._xds_certificate.replace(key, chain)
        self._webhook_certificate.replace(key, chain)

    def _injection(self) -> InjectionSettings:
        settings = with_mesh_config(self._settings.injection, mesh_config(self.plane.db))
        return msgspec.structs.replace(settings, proxy_starts=proxy_starts(self.plane.db))

    async def _verify(self, token: str) -> Verified | None:
        found = await self._reviewer.identify(token)
        if found is None:
            return None
        identity = Identity(found.namespace, found.service_account, found.pod, found.pod_uid)
        return Verified(identity, found.expires)


def answering(api: Api) -> Send:
    """An API whose refusals are answers."""

    async def send(method: str, path: str, body: bytes | None) -> Answer:
        try:
            return Answer(200, await api.send(method, path, body))
        except ApiError as error:
            return Answer(error.status, b"")

    return send


async def run(settings: Settings, access: Access) -> None:
    """The whole process, until cancelled."""
    async with Api(access) as api:
        folder = pathlib.Path(settings.plugged_in)
        authority = await MeshAuthority.start(
            answering(api), settings.mesh.root_namespace, folder=folder, terms=settings.terms
        )
        await Istiod(api, access, settings, authority).run()


async def _until_told(settings: Settings, access: Access) -> None:
    """The process, until SIGTERM or SIGINT: streams end in order, so that proxies find another istiod at once."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(run(settings, access), name="istiod")
        waiting = group.create_task(told.wait(), name="signals")
        await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if told.is_set():
            log.info("told to end")
            serving.cancel()


def listening(settings: Settings, arguments: Sequence[str]) -> Settings:
    """The settings with the addresses that a command line names, by pilot-discovery's flags.

    Ends the process with a usage message if it makes no sense.
    """
    parser = argparse.ArgumentParser(prog="istiod", description="The mesh's control plane.", allow_abbrev=False)
    parser.add_argument("--secureGRPCAddr", dest="xds", default="[::]:15012", metavar="HOST:PORT", help="for proxies")
    parser.add_argument("--httpsAddr", dest="webhook", type=_address, default=":15017", metavar="HOST:PORT",
                        help="for webhook calls")  # fmt: skip
    parser.add_argument("--monitoringAddr", dest="monitoring", type=_address, default=":15014", metavar="HOST:PORT",
                        help="for metrics")  # fmt: skip
    given = parser.parse_args(arguments)
    return settings._replace(xds=(given.xds,), webhook=given.webhook, monitoring=given.monitoring)


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal():
        raise argparse.ArgumentTypeError(f'"{text}" is not HOST:PORT')
    return host.strip("[]"), int(port)


def main(environ: Mapping[str, str] = os.environ, arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0 when it was told to end, 65 for settings that make no sense, else 1."""
    try:
        levels = logs.parse_levels(environ.get("OSTRIA_LOG", ""))
        logs.configure(sys.stderr, levels, as_json=not sys.stderr.isatty())
        settings = settings_from(environ, _values(pathlib.Path(INJECTION_VALUES)))
        settings = listening(settings, sys.argv[1:] if arguments is None else arguments)
        access = access_from(environ)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 65
    footprint.keep_small()
    code = 0
    try:
        asyncio.run(_until_told(settings, access))
    except* (ApiError, *FAILURES) as errors:
        # The API may not be there yet: who started this process starts it again.
        log.error("cannot serve: %s", _first(errors))
        code = 1
    return code


def _values(file: pathlib.Path) -> str:
    return file.read_text() if file.exists() else ""


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main())
