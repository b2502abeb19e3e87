"""Who is asked by CUSTOM policies: MeshConfig's extensionProviders that authorize (istio.io: External Authorization).

    MeshConfig.extensionProviders -> providers() -> authorizer(name, namespace)

A provider that cannot be asked has a fault, and what it would be asked about is denied.
"""

from __future__ import annotations

from ostria.engine import Engine, query
from ostria.mesh.model import ClusterRef
from ostria.mesh.model.authorization import Authorizer, Body
from ostria.mesh.services import service
from ostria.mesh.settings import mesh_config
from ostria.resources.mesh_config import ExtAuthzBody, ExtAuthzGrpc, ExtAuthzHttp, ExtensionProvider

# What Envoy may answer with (envoyproxy.io: StatusCode).
_STATUSES = frozenset(
    {100, *range(200, 209), 226, *range(300, 306), 307, 308, *range(400, 419), *range(421, 425), 426, 428, 429, 431,
     *range(500, 509), 510, 511}
)  # fmt: skip


@query
def providers(db: Engine) -> tuple[ExtensionProvider, ...]:
    """What MeshConfig has; more than one of a name can be asked for by none."""
    return mesh_config(db).extension_providers


@query
def _named(db: Engine, name: str) -> tuple[ExtensionProvider, ...]:
    return tuple(each for each in providers(db) if each.name == name)


@query
def authorizer(db: Engine, name: str, namespace: str) -> Authorizer:
    """The provider of a name, as a workload of a namespace asks it."""
    found = _named(db, name)
    if len(found) != 1:
        reason = "is there more than once" if found else "does not exist"
        return Authorizer(name, f'the provider "{name}" {reason} in meshConfig.extensionProviders')
    spec = found[0].envoy_ext_authz_http or found[0].envoy_ext_authz_grpc
    if spec is None:
        return Authorizer(name, f'the provider "{name}" of meshConfig authorizes nothing')
    fault = _fault(spec)
    place, _, host = spec.service.rpartition("/")
    host = host.lower()
    known = None if fault else service(db, host, namespace)
    if not fault and known is None:
        fault = f'the service "{host}" is not known'
    elif known is not None and place and known.namespace != place:
        fault = f'the service "{host}" is not of the namespace "{place}"'
    elif known is not None and known.port(spec.port) is None:
        fault = f'the service "{host}" has no port {spec.port}'
    if fault:
        return Authorizer(name, f'the provider "{name}" cannot be asked: {fault}')
    made = Authorizer(
        name,
        cluster=ClusterRef(host, spec.port),
        grpc=isinstance(spec, ExtAuthzGrpc),
        timeout=round(spec.timeout.milliseconds) if spec.timeout is not None else 600_000,
        fails_open=spec.fail_open,
        status_on_error=int(spec.status_on_error or "0"),
        clears_route=spec.clear_route_cache,
        body=_body(spec.include_request_body_in_check),
    )
    return _of_http(made, spec) if isinstance(spec, ExtAuthzHttp) else made


def _fault(spec: ExtAuthzHttp | ExtAuthzGrpc) -> str:
    if not spec.service:
        return "it names no service"
    if "*" in spec.service:
        return f'"{spec.service}" is no single service'
    if not 1 <= spec.port <= 65535:
        return f"{spec.port} is no port"
    status = spec.status_on_error
    if status and not (status.isascii() and status.isdigit() and int(status) in _STATUSES):
        return f'statusOnError: "{status}" is no status that can be answered'
    if isinstance(spec, ExtAuthzHttp) and spec.path_prefix and not spec.path_prefix.startswith("/"):
        return f'pathPrefix: "{spec.path_prefix}" does not begin with /'
    body = spec.include_request_body_in_check
    if body is not None and body.max_request_bytes == 0:
        return "includeRequestBodyInCheck.maxRequestBytes is 0"
    return ""


def _body(written: ExtAuthzBody | None) -> Body | None:
    if written is None:
        return None
    return Body(written.max_request_bytes, written.allow_partial_message, written.pack_as_bytes)


def _of_http(made: Authorizer, spec: ExtAuthzHttp) -> Authorizer:
    return made._replace(
        path_prefix=spec.path_prefix,
        # The older field counts where the newer one is not written.
        request_headers=spec.include_request_headers_in_check or spec.include_headers_in_check,
        add_headers=tuple(sorted(spec.include_additional_headers_in_check.items())),
        to_upstream_on_allow=spec.headers_to_upstream_on_allow,
        to_client_on_deny=spec.headers_to_downstream_on_deny,
        to_client_on_allow=spec.headers_to_downstream_on_allow,
    )
