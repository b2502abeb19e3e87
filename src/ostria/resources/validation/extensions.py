"""WasmPlugin and TrafficExtension: https://istio.io/latest/docs/reference/config/proxy_extensions/."""

from __future__ import annotations

import re

from ostria.resources.extensions import EnvVar, TrafficExtension, TrafficSelector, WasmConfig, WasmPlugin
from ostria.resources.validation.findings import (
    CONFLICT,
    INVALID,
    MISSING,
    NO_EFFECT,
    Findings,
    check_port,
    check_selector,
    check_unique,
    error,
    warning,
)
from ostria.resources.validation.policy_targets import check_reach, check_targets

SCHEMES = ("oci", "http", "https", "file")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SHA256 = re.compile(r"[a-f0-9]{64}")
_IN_URL = re.compile(r"@sha256:([a-f0-9]+)$")
_LONGEST_SCRIPT = 65536


def validate_wasm_plugin(plugin: WasmPlugin) -> Findings:
    """Everything that is wrong with one plugin."""
    spec = plugin.spec
    yield from check_reach(spec)
    yield from _match("spec.match", spec.match)
    yield from _wasm("spec", spec)


def validate_traffic_extension(extension: TrafficExtension) -> Findings:
    """Everything that is wrong with one extension."""
    spec = extension.spec
    if spec.selector is not None:
        yield from check_selector("spec.selector.matchLabels", spec.selector.match_labels)
    yield from check_targets("spec.targetRefs", spec.target_refs, selector=spec.selector is not None)
    yield from _match("spec.match", spec.match)
    if spec.wasm is None and spec.lua is None:
        yield error(MISSING, "spec", "exactly one of wasm and lua must be set")
    if spec.wasm is not None:
        yield from _wasm("spec.wasm", spec.wasm)
    if spec.lua is not None:
        place = "spec.lua.inlineCode"
        if not spec.lua.inline_code:
            yield error(MISSING, place, "the script is empty")
        elif len(spec.lua.inline_code) > _LONGEST_SCRIPT:
            yield error(INVALID, place, "the script is longer than 64 KiB", "write a WebAssembly module instead")


def _match(field: str, match: tuple[TrafficSelector, ...]) -> Findings:
    for index, selector in enumerate(match):
        ports = [port.number for port in selector.ports]
        place = f"{field}[{index}].ports"
        for at, number in enumerate(ports):
            yield from check_port(f"{place}[{at}].number", number)
        yield from check_unique(place, ports, "port", ".number")


def _wasm(field: str, wasm: WasmConfig) -> Findings:
    yield from _url(f"{field}.url", wasm.url)
    if wasm.sha256:
        if len(wasm.sha256) != 64:
            yield error(INVALID, f"{field}.sha256", "a SHA-256 checksum has 64 digits")
        elif not _SHA256.fullmatch(wasm.sha256):
            yield error(INVALID, f"{field}.sha256", "a checksum is written in lower-case hexadecimal digits")
        else:
            named = _IN_URL.search(wasm.url)
            if named and named[1] != wasm.sha256:
                yield error(CONFLICT, f"{field}.sha256", "the URL names another checksum")
    if wasm.image_pull_secret == "":
        yield error(INVALID, f"{field}.imagePullSecret", "the name of the Secret is empty")
    if wasm.plugin_name is not None and not 1 <= len(wasm.plugin_name) <= 256:
        yield error(INVALID, f"{field}.pluginName", "a plugin's name has 1 to 256 characters")
    if wasm.verification_key:
        yield warning(NO_EFFECT, f"{field}.verificationKey", "signatures are not checked, in Istio neither")
    yield from _environment(f"{field}.vmConfig.env", wasm.vm_config.env if wasm.vm_config else ())


def _url(field: str, url: str) -> Findings:
    scheme = _SCHEME.match(url)
    if not url:
        yield error(MISSING, field, "the module's URL is empty")
    elif scheme and scheme[1].lower() not in SCHEMES:
        yield error(INVALID, field, f'"{scheme[1][:60]}" is no scheme for modules: one of {", ".join(SCHEMES)}')
    elif re.search(r"\s", url) or url.endswith("://"):
        yield error(INVALID, field, f'"{url[:100]}" is no URL')


def _environment(field: str, variables: tuple[EnvVar, ...]) -> Findings:
    yield from check_unique(field, (variable.name for variable in variables if variable.name), "variable", ".name")
    for index, variable in enumerate(variables):
        place = f"{field}[{index}]"
        if not variable.name:
            yield error(MISSING, f"{place}.name", "the variable needs a name")
        elif len(variable.name) > 256:
            yield error(INVALID, f"{place}.name", "longer than 256 characters")
        if variable.value and variable.value_from == "HOST":
            yield error(CONFLICT, f"{place}.value", "with valueFrom: HOST the value is the proxy's own")
