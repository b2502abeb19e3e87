"""Ingress and IngressClass: https://kubernetes.io/docs/reference/kubernetes-api/service-resources/ingress-v1/."""

from __future__ import annotations

import msgspec

from ostria.resources.kubernetes import LoadBalancerStatus
from ostria.resources.shapes import Lenient, Object


class ServiceBackendPort(Lenient, frozen=True):
    """A port of a service, by number or by name."""

    number: int = 0
    name: str = ""


class IngressServiceBackend(Lenient, frozen=True):
    """A service in the Ingress' own namespace."""

    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class IngressBackend(Lenient, frozen=True):
    """Where requests go; one that names another resource than a service has none."""

    service: IngressServiceBackend | None = None


class HTTPIngressPath(Lenient, frozen=True):
    """Requests whose path is so, and where they go. `path_type` "" is ImplementationSpecific."""

    backend: IngressBackend = IngressBackend()
    path: str = ""
    path_type: str = ""


class HTTPIngressRuleValue(Lenient, frozen=True):
    """The paths of a host."""

    paths: tuple[HTTPIngressPath, ...] = ()


class IngressRule(Lenient, frozen=True):
    """What is done with requests for a host; "" is any."""

    host: str = ""
    http: HTTPIngressRuleValue | None = None


class IngressTLS(Lenient, frozen=True):
    """Hosts whose TLS is opened with the certificate of a Secret; none is every host."""

    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Lenient, frozen=True):
    """Rules, and whose they are to be."""

    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTLS, ...] = msgspec.field(name="tls", default=())
    rules: tuple[IngressRule, ...] = ()


class IngressStatus(Lenient, frozen=True):
    """Where the Ingress is reached."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Ingress(Object, frozen=True):
    """Requests from outside, by host and path, to services."""

    spec: IngressSpec = IngressSpec()
    status: IngressStatus = IngressStatus()


class IngressClassSpec(Lenient, frozen=True):
    """Who serves the Ingresses of the class."""

    controller: str = ""


class IngressClass(Object, frozen=True):
    """A class of Ingresses."""

    spec: IngressClassSpec = IngressClassSpec()
