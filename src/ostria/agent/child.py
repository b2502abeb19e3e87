"""What the agent has done by a process that ends: `python -m ostria.agent.child WHAT …`, with the agent's environment.

    start ARGUMENTS    write Envoy's bootstrap, and its secrets from what an earlier start left, or as renew does
    renew ARGUMENTS    get a new certificate and put it in the old one's place
    probe PATH ARGUMENTS    ask the application over TLS, in the kubelet's place

It says on standard output what the agent has to know, a word and its values a line. Here may be loaded what must not
stay resident: protobuf, cryptography, TLS.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from ostria.agent.children import CERTIFICATE, ENVOY, STATUS
from ostria.agent.lines import log
from ostria.agent.settings import Prober, Settings, SettingsError, read

FAILED = 75
"""The exit code for "not this time" (sysexits.h, EX_TEMPFAIL)."""


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Do one thing and end."""
    what, *rest = argv
    path = rest.pop(0) if what == "probe" else ""
    try:
        settings = read(rest, env)
    except SettingsError as error:
        log("error", str(error))
        return 65
    if what == "probe":
        return _probe(dict(settings.probers)[path], settings)
    if what == "start":
        code = _prepare(settings, env)
        if code or _still_good(settings):
            return code
    return _renew(settings)


def _prepare(settings: Settings, env: Mapping[str, str]) -> int:
    from ostria.agent.start import bootstrap_of
    from ostria.envoy.binary import EnvoyNotFoundError, envoy_path
    from ostria.envoy.peers import PEER_VARIABLE, peer_of

    try:
        envoy = envoy_path(env)
    except EnvoyNotFoundError as error:
        log("error", str(error))
        return 69
    labels = dict(settings.labels) | dict(_labels(pathlib.Path(settings.labels_file)))
    content = bootstrap_of(
        settings,
        labels,
        dict(settings.annotations) | dict(_labels(pathlib.Path(settings.annotations_file))),
        ipv6=_has_ipv6(),
    )
    if settings.asks_for_bootstrap:
        content = _patched(settings, content, envoy, env)
    _replace(settings.bootstrap_file, json.dumps(content))
    told = peer_of(settings.workload, settings.namespace, settings.cluster, labels)
    print(ENVOY, envoy, f"{PEER_VARIABLE}={told.text}", flush=True)
    return 0


def _patched(
    settings: Settings, content: dict[str, Any], envoy: pathlib.Path, env: Mapping[str, str]
) -> dict[str, Any]:
    """The bootstrap as EnvoyFilters want it; as it was, where they cannot be had or Envoy does not start with it."""
    from ostria.agent.enrolment import EnrolmentError, ask
    from ostria.envoy.bootstrap_patches import METHOD, BootstrapPatch, patched

    told = {name: value for name, value in content["node"]["metadata"].items() if isinstance(value, str)}
    try:
        token = pathlib.Path(settings.token_file).read_text().strip()
        answer = json.loads(ask(settings, METHOD, f"Bearer {token}", json.dumps(told).encode()))
        patches = [BootstrapPatch(value, replace_lists) for value, replace_lists in answer]
        changed = patched(content, patches) if patches else content
    except (EnrolmentError, OSError, ValueError) as error:
        log("warn", "the bootstrap is as it was: patches cannot be had", error=error)
        return content
    if changed is not content:
        trial = f"{settings.bootstrap_file}.trial"
        _replace(trial, json.dumps(changed))
        command = [str(envoy), "--mode", "validate", "-c", trial]
        tried = subprocess.run(command, env=env, capture_output=True, text=True, check=False)  # noqa: S603
        if tried.returncode:
            words = (tried.stderr or tried.stdout).strip().splitlines()[-1:]
            log("error", "the bootstrap is as it was: Envoy refuses it with its patches", error=" ".join(words))
            return content
    return changed


def _still_good(settings: Settings) -> bool:
    """Whether a start before this one has left a certificate whose renewal is not due; it is told of then."""
    from cryptography import x509

    from ostria.agent.enrolment import life
    from ostria.agent.identity_files import content
    from ostria.envoy.secrets import CERTIFICATE_CHAIN, PRIVATE_KEY, ROOTS
    from ostria.identity.rotation import renewal

    folder = pathlib.Path(settings.credentials)
    chain, key, roots = (content(folder, name) or b"" for name in (CERTIFICATE_CHAIN, PRIVATE_KEY, ROOTS))
    try:
        begin, end = life(x509.load_pem_x509_certificate(chain))
    except ValueError:
        return False
    if time.time() >= end:
        return False
    _tell_envoy(settings, chain, key, roots)
    # The last good one is told of even where a newer one is asked for: Envoy can start with it.
    print(CERTIFICATE, begin, end, flush=True)
    return time.time() < renewal(begin, end, 1.0)


def _renew(settings: Settings) -> int:
    from ostria.agent.enrolment import EnrolmentError, enrol
    from ostria.agent.identity_files import publish
    from ostria.envoy.secrets import CERTIFICATE_CHAIN, PRIVATE_KEY, ROOTS

    try:
        made = enrol(settings)
        publish(
            pathlib.Path(settings.credentials),
            {CERTIFICATE_CHAIN: made.chain, PRIVATE_KEY: made.key, ROOTS: made.roots},
        )
        _tell_envoy(settings, made.chain, made.key, made.roots)
    except (EnrolmentError, OSError) as error:
        log("warn", "no certificate this time", error=error)
        return FAILED
    # It begins earlier than it was made, for clocks that are behind; its life is counted from now.
    print(CERTIFICATE, max(made.not_before, min(time.time(), made.not_after)), made.not_after, flush=True)
    return 0


def _tell_envoy(settings: Settings, chain: bytes, key: bytes, roots: bytes) -> None:
    from ostria.envoy.secrets import identity_secrets

    for name, text in identity_secrets(chain, key, roots, secret_files=settings.secret_files).items():
        _replace(name, text)


def _replace(name: str, text: str) -> None:
    """Write a file of Envoy's in one step; it may hold a key, and is its owner's alone."""
    file = pathlib.Path(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    staged = file.with_name(f"{file.name}.new")
    staged.unlink(missing_ok=True)
    with os.fdopen(os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as content:
        content.write(text)
    staged.rename(file)


def _probe(prober: Prober, settings: Settings) -> int:
    import http.client
    import ssl

    # Kubernetes does not check certificates of probes either (kubernetes.io: configure probes).
    context = ssl._create_unverified_context()  # noqa: S323
    connection = http.client.HTTPSConnection(
        prober.host or settings.probed, prober.port, timeout=prober.timeout, context=context
    )
    try:
        connection.request("GET", prober.path, headers=dict(prober.headers))
        print(STATUS, connection.getresponse().status, flush=True)
    except (OSError, http.client.HTTPException) as error:
        log("debug", "a probe failed", path=prober.path, error=error)
        return FAILED
    finally:
        connection.close()
    return 0


def _labels(file: pathlib.Path) -> tuple[tuple[str, str], ...]:
    """The pod's labels as the downward API writes them, key="value" a line."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return ()
    pairs = (line.partition("=") for line in lines if "=" in line)
    return tuple(sorted((key, json.loads(value)) for key, _, value in pairs))


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
