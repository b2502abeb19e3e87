"""A pod in, a pod with its proxy out.

    pod -> what an earlier injection added taken away -> templates -> the author's own words over them
        -> order of containers -> probes and metrics through the agent -> a note of what was added

Injecting an injected pod gives the same pod. Pods are JSON throughout: what this room does not know of a pod passes
through it unchanged. Nothing here reads labels of namespaces, sockets or clocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ostria.base import Level, Problem
from ostria.base.yaml import Document, field_path, read_documents
from ostria.injection import metrics, probes
from ostria.injection.merge import merge, named, without
from ostria.injection.owner import Owner, owner_of
from ostria.injection.parameters import Parameters, read_parameters
from ostria.injection.select import REVISION, annotations_of, decide
from ostria.injection.settings import Settings
from ostria.injection.template import INIT, OURS, PROXY, TEMPLATES, VALIDATION
from ostria.mesh.workloads import TEMPLATES_ANNOTATION

STATUS, OVERRIDES = "sidecar.istio.io/status", "proxy.istio.io/overrides"
_HOMES = ("containers", "initContainers")
_NOTED = ("initContainers", "containers", "volumes", "imagePullSecrets")

Pod = dict[str, Any]


class Injection(NamedTuple):
    """What became of a pod: with its proxy, or None with the reason why it is left as it is.

    With an error among the problems the pod can have no proxy as it is and should not run without. `contrary` says
    that it asks for one and is left alone all the same.
    """

    pod: Pod | None = None
    reason: str = ""
    contrary: bool = False
    problems: tuple[Problem, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a pod that should have a proxy cannot."""
        return any(problem.level is Level.ERROR for problem in self.problems)


def inject(pod: Mapping[str, Any], namespace: str, settings: Settings, owner: Owner | None = None) -> Injection:
    """Give a pod its proxy, if it is to have one.

    `namespace` is where the pod will be; `owner` is the workload it stands for, if others than the pod know it.
    """
    problem = _misshapen(pod)
    if problem:
        return Injection(reason="it is not shaped as a pod", problems=(problem,))
    decision = decide(pod, namespace, settings.policy)
    if not decision.inject:
        return Injection(reason=decision.reason, contrary=decision.contrary)
    bare = take_out(pod)
    parameters, problems = read_parameters(bare, settings, namespace)
    partial, unknown = _partial(bare, owner or owner_of(bare, namespace), parameters)
    problems = (*problems, *unknown)
    if any(each.level is Level.ERROR for each in problems):
        return Injection(reason="what it says of its proxy cannot be followed", problems=problems)
    whole = _lay(bare, partial)
    whole["spec"] = _ordered(whole["spec"], parameters)
    if named(whole["spec"].get("initContainers"), PROXY) or named(whole["spec"].get("containers"), PROXY):
        whole = _through_agent(whole, parameters)
    return Injection(_noted(whole, bare, partial, settings), problems=problems)


def take_out(pod: Mapping[str, Any]) -> Pod:
    """The pod without what an earlier injection added, as far as its note tells."""
    annotations = annotations_of(pod)
    status = _read_note(annotations.get(STATUS, ""))
    if not status:
        return dict(pod)
    spec: Pod = dict(pod.get("spec") or {})
    environment = _environment(spec)
    overrides = _read_note(annotations.get(OVERRIDES, ""))
    for home in _NOTED:
        if home in spec:
            spec[home] = without(spec[home], _texts(status.get(home)))
    probers = probes.decode(environment.get(probes.PROBERS, ""))
    for home in _HOMES:
        own = overrides.get(home)
        found = [probes.restore(each, probers) for each in spec.get(home) or ()]
        found += [dict(each) for each in (own if isinstance(own, list) else ()) if isinstance(each, Mapping)]
        if found or home in spec:
            spec[home] = found
    changes: dict[str, str | None] = {STATUS: None, OVERRIDES: None, REVISION: None}
    if environment:
        changes |= metrics.original(pod, environment.get(metrics.ENVIRONMENT, ""))
    taken = merge(pod, {"metadata": {"annotations": changes}})
    taken["spec"] = {name: value for name, value in spec.items() if value or name not in (*_NOTED, *_HOMES)}
    return taken


def _partial(pod: Pod, owner: Owner, parameters: Parameters) -> tuple[Pod, tuple[Problem, ...]]:
    """All templates that the pod asks for, the later over the earlier."""
    settings = parameters.settings
    asked = annotations_of(pod).get(TEMPLATES_ANNOTATION, "")
    names = [name.strip() for name in asked.split(",") if name.strip()] or list(settings.default_templates)
    whole: Pod = {}
    for name in names:
        template = TEMPLATES.get(name)
        if template:
            whole = _combined(whole, template(pod, owner, parameters))
            continue
        overlay = _overlay(name, settings)
        if isinstance(overlay, Problem):
            return {}, (overlay,)
        whole = _combined(whole, overlay)
    return whole, ()


def _overlay(name: str, settings: Settings) -> Mapping[str, Any] | Problem:
    field = field_path(("metadata", "annotations", TEMPLATES_ANNOTATION))
    text = settings.templates.get(name)
    if text is None:
        known = ", ".join(sorted({*TEMPLATES, *settings.templates}))
        return Problem(
            "unknown-template", Level.ERROR, f'there is no template "{name[:60]}"', field=field, hint=f"use {known}"
        )
    if "{{" in text:
        message = f'template "{name[:60]}" is a Go template, which Ostria does not run'
        hint = "write it as a plain overlay of a pod, in YAML"
        return Problem("unsupported-template", Level.ERROR, message, field=field, hint=hint)
    for document in read_documents(text, name):
        if isinstance(document, Document) and isinstance(document.value, Mapping):
            problem = _misshapen(document.value)
            return problem._replace(message=f'template "{name[:60]}": {problem.message}') if problem else document.value
    return Problem("unsupported-template", Level.ERROR, f'template "{name[:60]}" is no map in YAML', field=field)


def _combined(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> Pod:
    """A template over another; a container is one thing wherever they write it, and stays where the earlier put it."""
    spec = dict(later.get("spec") or {})
    homes = _homes(earlier)
    containers = [(homes.get(each["name"], home), each) for home in _HOMES for each in spec.get(home) or ()]
    for home in _HOMES:
        spec[home] = [each for place, each in containers if place == home]
    return merge(earlier, {**later, "spec": {name: value for name, value in spec.items() if value}})


def _lay(pod: Mapping[str, Any], partial: Mapping[str, Any]) -> Pod:
    """A partial pod over a pod, but what the pod says of the same containers over that, where the partial has them."""
    spec, over = dict(pod.get("spec") or {}), dict(partial.get("spec") or {})
    homes = _homes(partial)
    own = {each["name"]: each for home in _HOMES for each in spec.get(home) or ()}
    for home in _HOMES:
        if home in spec:
            spec[home] = [each for each in spec[home] or () if homes.get(each["name"], home) == home]
        if home in over:
            over[home] = [_written_over(each, own.get(each["name"])) for each in over[home]]
    whole = merge({**pod, "spec": spec}, {**partial, "spec": over})
    whole["spec"] = {name: value for name, value in whole["spec"].items() if value or name != "initContainers"}
    return whole


def _homes(pod: Mapping[str, Any]) -> dict[str, str]:
    """In which list each container stands."""
    return {each["name"]: home for home in _HOMES for each in (pod.get("spec") or {}).get(home) or ()}


def _written_over(template: Mapping[str, Any], own: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if own is None:
        return template
    # The image "auto" asks for the template's (istio.io: Customizing injection).
    return merge(template, {name: value for name, value in own.items() if name != "image" or value != "auto"})


def _ordered(spec: Mapping[str, Any], parameters: Parameters) -> Pod:
    """The order in which containers start.

    A proxy that is an init container comes right after redirection, so that all others have it. Where it is not,
    redirection comes last, because init containers before it have no proxy to send to.
    """
    ordered = dict(spec)
    first = spec.get("initContainers") or []
    leading, trailing = ((INIT, VALIDATION, PROXY), ()) if named(first, PROXY) else ((VALIDATION,), (INIT,))
    if first:
        ordered["initContainers"] = _sorted(first, leading, trailing)
    held = parameters.hold_application
    ordered["containers"] = _sorted(spec.get("containers") or [], (PROXY,) if held else (), () if held else (PROXY,))
    return ordered


def _sorted(containers: Sequence[Any], leading: Sequence[str], trailing: Sequence[str]) -> list[Any]:
    def of(names: Sequence[str]) -> list[Any]:
        return [found for name in names if (found := named(containers, name))]

    return [*of(leading), *without(containers, (*leading, *trailing)), *of(trailing)]


def _through_agent(pod: Pod, parameters: Parameters) -> Pod:
    """Probes and metrics of the application by way of the agent."""
    spec: Pod = dict(pod["spec"])
    environment: list[dict[str, str]] = []
    changes: dict[str, str | None] = {}
    if parameters.rewrite_probes and parameters.status_port:
        rewritten: probes.Probers = {}
        for home in _HOMES:
            found = []
            for container in spec.get(home) or ():
                own = container["name"] in OURS
                changed, probers = (container, {}) if own else probes.rewrite(container, parameters.agent_port)
                found.append(changed)
                rewritten |= probers
            if found:
                spec[home] = found
        if rewritten:
            environment.append({"name": probes.PROBERS, "value": probes.encode(rewritten)})
    if parameters.merge_metrics:
        changes, application = metrics.merged(pod, parameters.agent_port)
        if application:
            environment.append({"name": metrics.ENVIRONMENT, "value": application})
    if environment:
        for home in _HOMES:
            if named(spec.get(home), PROXY):
                spec[home] = [
                    merge(each, {"env": environment}) if each["name"] == PROXY else each for each in spec[home]
                ]
    return merge({**pod, "spec": spec}, {"metadata": {"annotations": changes}})


def _noted(pod: Pod, bare: Pod, partial: Pod, settings: Settings) -> Pod:
    """The pod with a note of what was added, which tells people what happened and the next injection what to undo."""
    revision = settings.revision or "default"
    added = partial.get("spec") or {}
    status = {name: [each["name"] for each in added.get(name) or ()] or None for name in _NOTED}
    templated = {name for home in _HOMES for name in status[home] or ()}
    own = bare.get("spec") or {}
    overrides = {home: [each for each in own.get(home) or () if each["name"] in templated] for home in _HOMES}
    overrides = {home: containers for home, containers in overrides.items() if containers}
    annotations = {REVISION: revision, STATUS: _json({**status, "revision": revision})}
    if overrides:
        annotations[OVERRIDES] = _json(overrides)
    return merge(pod, {"metadata": {"annotations": annotations}})


def _environment(spec: Mapping[str, Any]) -> dict[str, str]:
    proxy = named(spec.get("initContainers"), PROXY) or named(spec.get("containers"), PROXY) or {}
    return {each["name"]: str(each.get("value") or "") for each in proxy.get("env") or ()}


def _read_note(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text) if text else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> list[str]:
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


# --- the shape of a pod, as far as it is touched here -------------------------------------------------------------


class _Named(msgspec.Struct):
    name: str


class _Owner(msgspec.Struct):
    kind: str | None = None
    name: str | None = None


class _Port(msgspec.Struct):
    name: str | None = None


class _Container(_Named):
    image: str | None = None
    ports: list[_Port] | None = None
    env: list[_Named] | None = None
    volume_mounts: list[dict[str, Any]] | None = msgspec.field(name="volumeMounts", default=None)
    security_context: dict[str, Any] | None = msgspec.field(name="securityContext", default=None)
    lifecycle: dict[str, Any] | None = None


class _Metadata(msgspec.Struct):
    name: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owners: list[_Owner] | None = msgspec.field(name="ownerReferences", default=None)


class _Spec(msgspec.Struct):
    containers: list[_Container] | None = None
    init_containers: list[_Container] | None = msgspec.field(name="initContainers", default=None)
    volumes: list[_Named] | None = None
    pull_secrets: list[_Named] | None = msgspec.field(name="imagePullSecrets", default=None)
    security_context: dict[str, Any] | None = msgspec.field(name="securityContext", default=None)


class _Shape(msgspec.Struct):
    spec: _Spec | None = None
    metadata: _Metadata | None = None


def _misshapen(pod: Any) -> Problem | None:
    """What of a pod is not even of the right type: everything after this may take the shape for granted."""
    try:
        msgspec.convert(pod, _Shape)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        return Problem("wrong-type", Level.ERROR, message, field=place.rstrip("`").lstrip("."))
    return None
