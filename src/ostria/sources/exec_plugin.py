"""A program that gives credentials, as kubeconfigs name them: run, read, remembered until it runs out.

See https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ostria.base.clock import Clock, SystemClock

VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
TIMEOUT = 60.0
# What is about to run out is not shown any more: the request takes time to arrive.
_MARGIN = 10.0


class Answer(msgspec.Struct, frozen=True, rename="camel"):
    """What the program gives: a token, or a certificate and its key as PEM, until a time."""

    token: str = ""
    certificate: str = msgspec.field(name="clientCertificateData", default="")
    key: str = msgspec.field(name="clientKeyData", default="")
    expiration_timestamp: datetime | None = None


class _ExecCredential(msgspec.Struct, rename="camel"):
    api_version: str
    kind: str
    status: Answer


class ExecPlugin:
    """One program. It is run once however many ask, and again only after its answer has run out or was refused."""

    def __init__(
        self, command: list[str], env: Mapping[str, str], version: str, hint: str = "", clock: Clock | None = None
    ):
        self._command = command
        self._env = dict(env)
        self._version = version
        self._hint = hint
        self._clock = clock or SystemClock()
        self._answer: Answer | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def of(
        cls, section: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any], env: Mapping[str, str]
    ) -> ExecPlugin:
        """The plugin that a kubeconfig's `exec` section describes. Raises ValueError for one that cannot be run."""
        command, version = section.get("command"), section.get("apiVersion")
        if not isinstance(command, str) or not command:
            raise ValueError("it names no command")
        if version not in VERSIONS:
            raise ValueError(f'its apiVersion is "{version}": it must be one of {", ".join(VERSIONS)}')
        if section.get("interactiveMode") == "Always":
            raise ValueError("it asks for a terminal (interactiveMode: Always)")
        # A name is looked for in PATH, a path is relative to the file that says it.
        if "/" in command:
            command = str(folder / command)
        added = {str(entry["name"]): str(entry["value"]) for entry in section.get("env") or ()}
        spec: dict[str, Any] = {"interactive": False}
        if section.get("provideClusterInfo") is True:
            told = (
                "server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url",
            )  # fmt: skip
            spec["cluster"] = {name: cluster[name] for name in told if name in cluster}
        info = {"apiVersion": version, "kind": "ExecCredential", "spec": spec}
        environment = {**env, **added, "KUBERNETES_EXEC_INFO": msgspec.json.encode(info).decode()}
        hint = section.get("installHint")
        return cls(
            [command, *map(str, section.get("args") or ())], environment, version, hint if isinstance(hint, str) else ""
        )

    async def get(self) -> Answer:
        """What the program gives. Raises ValueError, with its own words, if it fails."""
        async with self._lock:
            if self._answer is None or self._has_run_out(self._answer):
                self._answer = await self._run()
            return self._answer

    def forget(self) -> None:
        """What it gave has been refused."""
        self._answer = None

    def _has_run_out(self, answer: Answer) -> bool:
        if answer.expiration_timestamp is None:
            return False
        end = answer.expiration_timestamp
        return (end if end.tzinfo else end.replace(tzinfo=UTC)).timestamp() - _MARGIN <= self._clock.now()

    async def _run(self) -> Answer:
        name = self._command[0]
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, env=self._env, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
            )
        except OSError as error:
            raise ValueError(f"{name} cannot be run: {error.strerror}. {self._hint}".strip()) from None
        try:
            async with asyncio.timeout(TIMEOUT):
                output, errors = await process.communicate()
        except TimeoutError:
            raise ValueError(f"{name} has not answered within {TIMEOUT:.0f} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            raise ValueError(
                f"{name} failed with {process.returncode}: {errors.decode(errors='replace').strip()[:500]}"
            )
        try:
            credential = msgspec.json.decode(output, type=_ExecCredential)
        except ValueError as error:
            raise ValueError(f"{name} gave no ExecCredential: {error}") from None
        if credential.kind != "ExecCredential" or credential.api_version != self._version:
            raise ValueError(f"{name} answered with {credential.api_version} {credential.kind}, not {self._version}")
        return credential.status
