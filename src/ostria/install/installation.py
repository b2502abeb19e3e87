"""What is to be installed: a profile, files and `--set` laid over each other, each checked where it was written.

profile < files in order < --set in order -> one spec -> Installation, or the problems with their places
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from ostria.base import Level, Origin, Problem
from ostria.base.yaml import Document, Path, field_path, read_documents
from ostria.injection.settings import Settings as InjectionSettings
from ostria.injection.values import Injected, settings_of
from ostria.install.operator import API_VERSION, ENVIRONMENT, KIND, Operator
from ostria.install.profiles import KNOWN, PROFILES
from ostria.install.trees import alone, overlay, put, scalar, steps_of
from ostria.resources import mesh_config
from ostria.resources.fields import Fault, check, decode_duration, fields_of, nearest, type_of

ROOT_NAMESPACE = "istio-system"
_AT_THE_TOP = ("apiVersion", "kind", "metadata", "spec", "status")


class OneMachine(NamedTuple):
    """Where the mesh is to stand if that is one machine: what tells Envoy's packets apart.

    Images are names of programs there, so that `hub` and `tag` mean nothing.
    """

    mark: int = 1337
    envoy_version: str = ""

    def spec(self) -> Mapping[str, Any]:
        """What this comes to, as an IstioOperator's spec."""
        environment = {"OSTRIA_SOCKET_MARK": str(self.mark)}
        if self.envoy_version:
            environment["OSTRIA_ENVOY_VERSION"] = self.envoy_version
        # Nobody holds programs to limits there, and each pod would be told so; a laptop has no 2 GiB to promise.
        small = {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": None}}
        still = {"autoscaleEnabled": False}
        return {
            "values": {
                # One machine has no second node to move to, and nobody who scales.
                "global": {
                    "defaultPodDisruptionBudget": {"enabled": False},
                    "proxy": {"resources": {"requests": {"cpu": "10m", "memory": "40Mi"}}},
                },
                "gateways": {"istio-ingressgateway": still | small, "istio-egressgateway": still | small},
                "pilot": {**still, "resources": {"requests": {"cpu": "10m", "memory": "100Mi"}}, "env": environment},
            }
        }


class Installation(NamedTuple):
    """One control plane with its gateways. `spec` is the whole as plain values, from which it can be read again."""

    operator: Operator
    spec: Mapping[str, Any]
    machine: OneMachine | None = None

    @property
    def revision(self) -> str:
        """The revision, "" for the default one."""
        said = self.operator.revision or self.operator.values.revision
        return "" if said == "default" else said

    @property
    def namespace(self) -> str:
        """Where istiod runs."""
        operator = self.operator
        own = operator.components.pilot.namespace or operator.namespace
        return own or operator.values.global_.istio_namespace or ROOT_NAMESPACE

    @property
    def tags(self) -> tuple[str, ...]:
        """Other names by which namespaces and pods may ask for this revision."""
        return tuple(tag for tag in self.operator.values.revision_tags if tag not in (self.revision, "default"))

    @property
    def suffix(self) -> str:
        """What a revision adds to names."""
        return f"-{self.revision}" if self.revision else ""

    @property
    def is_default(self) -> bool:
        """Whether `istio-injection=enabled` means this revision."""
        values = self.operator.values
        return not self.revision or values.default_revision == self.revision or "default" in values.revision_tags


def read(
    files: Iterable[tuple[str, str]] = (),
    sets: Sequence[str] = (),
    *,
    machine: OneMachine | None = None,
) -> tuple[Installation | None, tuple[Problem, ...]]:
    """The installation that files (name, text) and the words after `--set` describe, and everything wrong with them.

    It is None if there is an error; warnings tell what Istio has and what has no effect here.
    """
    layers: list[tuple[Mapping[str, Any], Origin]] = []
    problems: list[Problem] = []
    for name, text in files:
        for spec, origin, found in _documents(name, text):
            problems += found
            layers.append((spec, origin))
    assignments = []
    for word in sets:
        steps, value, found = _assignment(word)
        problems += found
        if steps:
            assignments.append((word, steps, value))
    tree, failed = _profile(layers, assignments)
    problems += failed
    if machine is not None:
        tree = overlay(tree, machine.spec())
    for spec, _ in layers:
        tree = overlay(tree, spec)
    for word, steps, value in assignments:
        try:
            tree = put(tree, steps, value)
        except ValueError as error:
            problems.append(_on_command_line(word, Fault("invalid-value", (), str(error))))
    if any(problem.level is Level.ERROR for problem in problems):
        return None, tuple(problems)
    return _whole(tree, machine, problems)


def restore(spec: Mapping[str, Any], machine: OneMachine | None) -> Installation:
    """An installation out of the `spec` of an earlier one. Raises ValueError if it cannot be read (any more)."""
    return Installation(msgspec.convert(spec, Operator, dec_hook=decode_duration), spec, machine)


def _whole(
    tree: Mapping[str, Any], machine: OneMachine | None, problems: list[Problem]
) -> tuple[Installation | None, tuple[Problem, ...]]:
    """The spec as types. Parts that were well when alone may still not fit together."""
    # What a single --set holds of fields without effect has been told already.
    checked, faults = check(Operator, _acted_on(type_of(Operator), tree, (), []), ("spec",))
    problems += [_problem(fault, None) for fault in faults]
    if any(problem.level is Level.ERROR for problem in problems):
        return None, tuple(problems)
    operator = msgspec.convert(checked, Operator, dec_hook=decode_duration)
    injected = Injected(operator.values.global_, operator.values.sidecar_injector_webhook)
    try:
        settings_of(injected, InjectionSettings())
    except ValueError as error:
        problems.append(_problem(Fault("invalid-value", ("spec", "values", "global", "proxy"), str(error)), None))
        return None, tuple(problems)
    nameless = [
        each for each in (*operator.components.ingress_gateways, *operator.components.egress_gateways) if not each.name
    ]
    if nameless:
        message = "a gateway has no name"
        problems.append(_problem(Fault("required-field", ("spec", "components"), message, "give each a `name`"), None))
        return None, tuple(problems)
    if machine is not None and (operator.hub or operator.tag or injected.global_.hub or injected.global_.tag):
        problems.append(
            Problem(
                "not-acted-on",
                Level.WARNING,
                "hub and tag have no effect on one machine, where images are names of programs",
                field="spec.hub",
            )
        )
    return Installation(operator, checked, machine), tuple(problems)


def _profile(
    layers: Sequence[tuple[Mapping[str, Any], Origin]], assignments: Sequence[tuple[str, tuple[Any, ...], Any]]
) -> tuple[Mapping[str, Any], list[Problem]]:
    """What the last word about the profile names; "default" where there is none."""
    name, origin = "default", Origin("the default")
    for spec, place in layers:
        if spec.get("profile"):
            name, origin = str(spec["profile"]), place
    for word, steps, value in assignments:
        if steps == ("profile",):
            name, origin = str(value), Origin(f"--set {word}")
    if name in PROFILES:
        return PROFILES[name], []
    words = (
        f'profile "{name[:60]}" brings what is not there yet' if name in KNOWN else f'there is no profile "{name[:60]}"'
    )
    hint = nearest(name, PROFILES) or f"use one of {', '.join(PROFILES)}"
    return PROFILES["empty"], [Problem("invalid-value", Level.ERROR, words, None, "spec.profile", origin, hint)]


# --- one layer --------------------------------------------------------------------------------------------------------


def _documents(name: str, text: str) -> Iterable[tuple[Mapping[str, Any], Origin, list[Problem]]]:
    """The specs of a file's documents, with what is wrong with each."""
    for document in read_documents(text, name):
        if isinstance(document, Problem):
            yield {}, Origin(name), [document]
            continue
        value = document.value
        if not isinstance(value, Mapping) or (value.get("apiVersion"), value.get("kind")) != (API_VERSION, KIND):
            message = f"expected a document of kind {KIND}, apiVersion {API_VERSION}"
            yield {}, Origin(name), [Problem("unknown-kind", Level.ERROR, message, origin=document.origin())]
            continue
        faults = [
            Fault("unknown-field", (field,), f'unknown field "{field[:60]}"', nearest(field, _AT_THE_TOP), unknown=True)
            for field in value
            if field not in _AT_THE_TOP
        ]
        spec, found = _layer(value.get("spec") or {}, ("spec",))
        told = [_problem(fault, document) for fault in (*faults, *found)]
        metadata = value.get("metadata")
        namespace = metadata.get("namespace") if isinstance(metadata, Mapping) else None
        if namespace and "namespace" not in spec:
            spec = {**spec, "namespace": namespace}
        yield spec, document.origin("spec.profile"), told


def _assignment(word: str) -> tuple[tuple[Any, ...], Any, list[Problem]]:
    """One `--set path=value`."""
    path, equals, text = word.partition("=")
    if not equals:
        return (), None, [_on_command_line(word, Fault("invalid-value", (), "expected PATH=VALUE"))]
    try:
        steps = steps_of(path.strip())
    except ValueError as error:
        return (), None, [_on_command_line(word, Fault("invalid-value", (), str(error)))]
    if steps[0] == "spec" and len(steps) > 1:
        steps = steps[1:]
    value = scalar(text)
    _, faults = _layer(alone(steps, value))
    misread = [fault.code for fault in faults] == ["wrong-type"] and not isinstance(value, str | list | Mapping)
    if misread and not _layer(alone(steps, text))[1]:
        # `--set hub=1234` means the text: a command line has no quotes left.
        value, faults = text, []
    return steps, value, [_on_command_line(word, fault) for fault in faults]


def _layer(spec: Any, path: Path = ()) -> tuple[Mapping[str, Any], list[Fault]]:
    """One spec without what has no effect, and what is to be said of it."""
    faults: list[Fault] = []
    acted_on = _acted_on(type_of(Operator), spec, path, faults)
    _, wrong = check(Operator, acted_on, path)
    for place in (("meshConfig",), ("values", "meshConfig")):
        settings = _below(acted_on, *place)
        if isinstance(settings, Mapping):
            faults += _mesh_config(settings, (*path, *place))
    if not isinstance(acted_on, Mapping):
        return {}, [*faults, *wrong]
    return acted_on, [*faults, *wrong, *_environment(acted_on, path)]


def _environment(spec: Mapping[str, Any], path: Path) -> list[Fault]:
    """Variables for istiod that it does not read: Istio has hundreds, and each changes something there."""
    given = _below(spec, "values", "pilot", "env")
    places: list[tuple[Any, Path]] = []
    if isinstance(given, Mapping):
        places += [(name, ("values", "pilot", "env", name)) for name in given]
    for place in (("components", "pilot", "k8s", "env"), ("values", "pilot", "envVarFrom")):
        listed = _below(spec, *place)
        for at, each in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(each, Mapping):
                places.append((each.get("name"), (*place, at)))
    return [_without_effect((*path, *place)) for name, place in places if name not in ENVIRONMENT]


def _below(tree: Any, *names: str) -> Any:
    for name in names:
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return tree


def _acted_on(info: Any, value: Any, path: Path, faults: list[Fault]) -> Any:
    """The value without the fields that Istio has and that have no effect here; a fault tells of each."""
    if isinstance(info, inspect.UnionType):
        options = [option for option in info.types if not isinstance(option, inspect.NoneType)]
        return _acted_on(options[0], value, path, faults) if len(options) == 1 else value
    if isinstance(info, inspect.VarTupleType) and isinstance(value, list):
        return [_acted_on(info.item_type, item, (*path, at), faults) for at, item in enumerate(value)]
    if not isinstance(info, inspect.StructType) or not isinstance(value, Mapping):
        return value
    fields = fields_of(info.cls)
    accepted: frozenset[str] = getattr(info.cls, "ACCEPTED", frozenset())
    kept = {}
    for name, item in value.items():
        if name in fields:
            kept[name] = _acted_on(fields[name].type, item, (*path, name), faults)
        elif name in accepted:
            if item not in (None, {}, [], "", {"enabled": False}):
                faults.append(_without_effect((*path, name)))
        else:
            kept[name] = item
    return kept


def _mesh_config(value: Mapping[str, Any], path: Path) -> list[Fault]:
    known = fields_of(mesh_config.MeshConfig)
    faults = []
    for name in value:
        if name in mesh_config.ACCEPTED:
            faults.append(_without_effect((*path, name)))
        elif name not in known:
            hint = nearest(name, known.keys() | mesh_config.ACCEPTED.keys())
            faults.append(Fault("unknown-field", (*path, name), f'unknown field "{name[:60]}"', hint, unknown=True))
    return faults + check(mesh_config.MeshConfig, value, path)[1]


def _without_effect(path: Path) -> Fault:
    return Fault("not-acted-on", path, "Istio has this field; it is not acted on in this version")


def _problem(fault: Fault, document: Document | None) -> Problem:
    level = Level.WARNING if fault.code == "not-acted-on" else Level.ERROR
    origin = document.origin(fault.path) if document else None
    return Problem(fault.code, level, fault.message, None, field_path(fault.path), origin, fault.hint)


def _on_command_line(word: str, fault: Fault) -> Problem:
    return _problem(fault, None)._replace(origin=Origin(f"--set {word}"))
