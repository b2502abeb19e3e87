"""What a Gateway listens for: its own listeners and those of ListenerSets, each with a verdict.

    Gateway, ListenerSets that name it -> listeners(gateway), the Gateway's own first, then the oldest sets'

Where two claim one port for one name, or for protocols that cannot share it, the first has it and the others conflict.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ostria.base import ObjectKey
from ostria.base.selectors import of_expressions
from ostria.engine import Engine, Index, query
from ostria.mesh.credentials import Authorities, authorities_text
from ostria.mesh.gateway_api.addresses import refused_addresses
from ostria.mesh.gateway_api.certificates import authorities, certificate
from ostria.mesh.gateway_api.classes import Role, role_of
from ostria.mesh.gateway_api.declared import by_age, gateway_spec, key_of, labelled, listener_set_spec
from ostria.mesh.gateway_api.references import GATEWAY, LISTENER_SET, GroupKind, Referrer, group_kind
from ostria.mesh.model import Verdict
from ostria.resources import Object, objects
from ostria.resources import gateway_api as api

HTTP, HTTPS, TLS, TCP = "HTTP", "HTTPS", "TLS", "TCP"
HBONE = "HBONE"
PROTOCOLS = (HTTP, HTTPS, TLS, TCP)

# Which protocols can share a port: TLS is told apart by the name that the client asks for.
_SHARING = {HTTPS: TLS}

HTTP_ROUTES = ((api.GROUP, "HTTPRoute"), (api.GROUP, "GRPCRoute"))
TLS_ROUTE, TCP_ROUTE = (api.GROUP, "TLSRoute"), (api.GROUP, "TCPRoute")

# istio.io: what a listener's TLS options may say.
TERMINATE_MODE = "gateway.istio.io/tls-terminate-mode"
LISTENER_PROTOCOL = "gateway.istio.io/listener-protocol"
GATEWAY_PORT = "networking.istio.io/gatewayPort"
NETWORK = "topology.istio.io/network"


class ListenerTls(NamedTuple):
    """TLS of a listener.

    `certificates` are Secrets, () where it passes through or is the mesh's own. `signers` are who signs clients'
    certificates in PEM.
    """

    passthrough: bool = False
    auto: bool = False
    mutual: bool = False
    optional: bool = False
    mesh: bool = False
    certificates: tuple[ObjectKey, ...] = ()
    signers: str = ""


class Listener(NamedTuple):
    """One listener. `owner` is the Gateway or the ListenerSet that it stands in, at `position`.

    `hostname` "*" is every name. The verdicts are None where all is well; a listener with one of them serves nothing.
    """

    gateway: ObjectKey
    owner: ObjectKey
    position: int
    name: str
    port: int
    protocol: str
    hostname: str
    kinds: tuple[GroupKind, ...]
    tls: ListenerTls | None = None
    unknown_kinds: Verdict | None = None
    unsupported: Verdict | None = None
    unresolved: Verdict | None = None
    conflict: Verdict | None = None

    @property
    def valid(self) -> bool:
        """Whether it is accepted."""
        return self.unsupported is None and self.unresolved is None and self.conflict is None

    @property
    def served(self) -> bool:
        """Whether something can be served by it; TLS without settings cannot."""
        return self.valid and not (self.protocol in (HTTPS, TLS) and self.tls is None)


# --- ListenerSets -------------------------------------------------------------------------------------------------


def _parent(key: ObjectKey, value: Object) -> Iterator[tuple[str, str]]:
    if isinstance(value, api.ListenerSet):
        reference = value.spec.parent_ref
        if group_kind(reference.group, reference.kind, GATEWAY) == GATEWAY:
            yield reference.namespace or key.namespace, reference.name


sets_of = Index("mesh.gateway_api.listener_sets", objects, _parent)


@query
def listener_sets(db: Engine, gateway: ObjectKey) -> tuple[ObjectKey, ...]:
    """The ListenerSets that a Gateway lets in, the oldest first."""
    keys = (key for key in sets_of(db, (gateway.namespace, gateway.name)) if refusal_of_set(db, key) is None)
    return tuple(sorted(keys, key=lambda key: by_age(db, key)))


def parent_of_set(db: Engine, key: ObjectKey) -> ObjectKey | None:
    """The Gateway that a ListenerSet names; None where it names something else."""
    spec = listener_set_spec(db, key)
    if spec is None or group_kind(spec.parent_ref.group, spec.parent_ref.kind, GATEWAY) != GATEWAY:
        return None
    return key_of(db, api.GATEWAY, spec.parent_ref.namespace or key.namespace, spec.parent_ref.name)


@query
def refusal_of_set(db: Engine, key: ObjectKey) -> Verdict | None:
    """Why a ListenerSet is not let in by its Gateway, whatever its listeners are."""
    gateway = parent_of_set(db, key)
    spec = gateway_spec(db, gateway) if gateway else None
    if gateway is None or spec is None:
        return Verdict("ParentNotAccepted", "the parent Gateway is not there")
    if role_of(db, gateway) is not Role.GATEWAY:
        return Verdict("NotAllowed", f'Gateways of class "{spec.gateway_class_name}" take no ListenerSets')
    namespaces = spec.allowed_listeners.namespaces if spec.allowed_listeners else None
    word = namespaces.from_ if namespaces and namespaces.from_ else "None"
    if not _from_namespace(db, word, namespaces.selector if namespaces else None, gateway.namespace, key.namespace):
        return Verdict("NotAllowed", "the parent Gateway does not allow this ListenerSet: see its allowedListeners")
    return refused_addresses(db, gateway)


# --- namespaces ---------------------------------------------------------------------------------------------------


@query
def allows_namespace(db: Engine, owner: ObjectKey, position: int, namespace: str) -> bool:
    """Whether routes of a namespace may attach to a listener."""
    spec = gateway_spec(db, owner) if owner.kind == api.GATEWAY else listener_set_spec(db, owner)
    if spec is None or position >= len(spec.listeners):
        return False
    allowed = spec.listeners[position].allowed_routes
    namespaces = allowed.namespaces if allowed else None
    word = (namespaces.from_ if namespaces else None) or "Same"
    return _from_namespace(db, word, namespaces.selector if namespaces else None, owner.namespace, namespace)


def _from_namespace(db: Engine, word: str, selector: api.LabelSelector | None, own: str, namespace: str) -> bool:
    if word == "Selector":
        return selector is not None and _selects(db, selector, namespace)
    return word == "All" or (word == "Same" and own == namespace)


def _selects(db: Engine, selector: api.LabelSelector, namespace: str) -> bool:
    # Every namespace has its name for a label, also where no API server has written it.
    labels = {"kubernetes.io/metadata.name": namespace} | dict(
        labelled(db, key_of(db, "Namespace", "", namespace)).labels
    )
    expressions = ((each.key, each.operator, each.values) for each in selector.match_expressions)
    try:
        return of_expressions(selector.match_labels, expressions).matches(labels)
    except ValueError:
        return False


# --- listeners ----------------------------------------------------------------------------------------------------


@query
def listeners_of(db: Engine, gateway: ObjectKey) -> tuple[Listener, ...]:
    """All listeners of a Gateway: its own in their order, then those of the ListenerSets that it lets in."""
    found: list[Listener] = []
    for owner in (gateway, *listener_sets(db, gateway)):
        for listener in _declared(db, gateway, owner):
            conflict = next((clash for other in found if (clash := _clash(other, listener))), None)
            found.append(listener._replace(conflict=conflict))
    return tuple(found)


def listeners_in(db: Engine, gateway: ObjectKey, owner: ObjectKey) -> tuple[Listener, ...]:
    """The listeners of a Gateway that stand in one object."""
    return tuple(listener for listener in listeners_of(db, gateway) if listener.owner == owner)


def _clash(one: Listener, other: Listener) -> Verdict | None:
    """What the later of two listeners cannot have because the earlier one has it."""
    if one.port != other.port or one.conflict is not None:
        return None
    words = f"listener {one.name} of {one.owner.namespace}/{one.owner.name} has port {one.port}"
    if _SHARING.get(one.protocol, one.protocol) != _SHARING.get(other.protocol, other.protocol):
        return Verdict("ProtocolConflict", f"{words} for protocol {one.protocol}")
    if one.hostname == other.hostname and one.protocol == other.protocol:
        return Verdict("HostnameConflict", f'{words} for the hostname "{one.hostname}"')
    return None


@query
def _declared(db: Engine, gateway: ObjectKey, owner: ObjectKey) -> tuple[Listener, ...]:
    spec = gateway_spec(db, owner) if owner.kind == api.GATEWAY else listener_set_spec(db, owner)
    whole = gateway_spec(db, gateway)
    if spec is None or whole is None:
        return ()
    waypoint = role_of(db, gateway) in (Role.WAYPOINT, Role.EAST_WEST)
    return tuple(
        _listener(db, whole, gateway, owner, position, each, waypoint=waypoint)
        for position, each in enumerate(spec.listeners)
    )


def _listener(
    db: Engine,
    spec: api.GatewaySpec,
    gateway: ObjectKey,
    owner: ObjectKey,
    position: int,
    each: api.Listener,
    *,
    waypoint: bool,
) -> Listener:
    kinds, unknown = supported_kinds(each)
    tls, unresolved = _tls(db, spec, gateway, owner, each)
    return Listener(
        gateway,
        owner,
        position,
        each.name,
        each.port,
        each.protocol,
        (each.hostname or "*").lower(),
        kinds,
        tls,
        unknown_kinds=unknown,
        unsupported=_unsupported(each.protocol, waypoint=waypoint),
        unresolved=unresolved,
    )


def supported_kinds(listener: api.Listener) -> tuple[tuple[GroupKind, ...], Verdict | None]:
    """The kinds of routes that can attach to a listener, and what is wrong with those that it allows."""
    tls = listener.tls
    if listener.protocol in (HTTP, HTTPS):
        kinds: tuple[GroupKind, ...] = HTTP_ROUTES
    elif listener.protocol == TCP:
        kinds = (TCP_ROUTE,)
    elif listener.protocol == TLS:
        kinds = (TLS_ROUTE,) if tls and tls.mode == "Passthrough" else (TLS_ROUTE, TCP_ROUTE)
    else:
        kinds = ()
    allowed = listener.allowed_routes.kinds if listener.allowed_routes else ()
    if not allowed:
        return kinds, None
    wanted = [group_kind(each.group, each.kind, (api.GROUP, "")) for each in allowed]
    found = tuple(kind for kind in kinds if kind in wanted)
    wrong = next((kind for kind in wanted if kind not in kinds), None)
    if wrong is None:
        return found, None
    return found, Verdict("InvalidRouteKinds", f"no {wrong[1]} can attach to protocol {listener.protocol}")


def _unsupported(protocol: str, *, waypoint: bool) -> Verdict | None:
    if protocol in PROTOCOLS or (waypoint and protocol == HBONE):
        return None
    words = f'protocol "{protocol}" is not supported'
    upper = protocol.upper()
    return Verdict("UnsupportedProtocol", f"{words}: {upper} would be" if upper in PROTOCOLS else words)


# --- TLS ----------------------------------------------------------------------------------------------------------


def _tls(
    db: Engine, spec: api.GatewaySpec, gateway: ObjectKey, owner: ObjectKey, listener: api.Listener
) -> tuple[ListenerTls | None, Verdict | None]:
    tls = listener.tls
    if tls is None:
        return None, None
    if tls.mode == "Passthrough":
        return ListenerTls(passthrough=True, auto=_auto_passthrough(db, gateway, listener)), None
    mode = tls.options.get(TERMINATE_MODE)
    if mode == "ISTIO_MUTUAL":
        return ListenerTls(mesh=True), None
    referrer = Referrer(GATEWAY if owner.kind == api.GATEWAY else LISTENER_SET, owner.namespace)
    if not tls.certificate_refs:
        return None, Verdict("InvalidCertificateRef", "TLS that ends here needs a certificateRef")
    found: list[ObjectKey] = []
    for reference in tls.certificate_refs:
        key, wrong = certificate(db, reference, referrer, reason="InvalidCertificateRef", what="certificateRef")
        if key is None:
            return None, wrong
        found.append(key)
    validation = _validation(spec, listener)
    signers: Authorities | None = None
    if validation is not None:
        # What the Gateway asks of clients is the Gateway's own reference, also for the listeners of a set.
        signers, wrong = authorities(db, validation.ca_certificate_refs, Referrer(GATEWAY, gateway.namespace))
        if wrong is not None:
            return None, wrong
    return ListenerTls(
        mutual=signers is not None or mode == "MUTUAL",
        optional=validation is not None and validation.mode == "AllowInsecureFallback",
        certificates=tuple(found),
        signers=(authorities_text(db, signers) or "") if signers else "",
    ), None


def _validation(spec: api.GatewaySpec, listener: api.Listener) -> api.FrontendValidation | None:
    frontend = spec.tls.frontend if spec.tls else None
    asked = None
    if frontend is not None:
        own = next((each.tls for each in frontend.per_port if each.port == listener.port), None)
        asked = (own or frontend.default).validation
    if listener.tls is not None and listener.tls.frontend_validation is not None:
        asked = listener.tls.frontend_validation
    return asked if asked and asked.ca_certificate_refs else None


def _auto_passthrough(db: Engine, gateway: ObjectKey, listener: api.Listener) -> bool:
    """Whether names lead straight to services of that name: said by an option, or for the port between networks."""
    if listener.tls is not None and listener.tls.options.get(LISTENER_PROTOCOL) == "auto-passthrough":
        return True
    labels = dict(labelled(db, gateway).labels)
    return NETWORK in labels and labels.get(GATEWAY_PORT, "15443") == str(listener.port)
