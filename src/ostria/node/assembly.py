"""A pod's files and its containers' plans, made from the pod, the objects that it names and this machine.

    Pod + Cluster -> volumes on disk, /etc's own files -> plan of each container, ready for the sandbox

What is missing or must not be is an Unresolved or NotMapped, with words for the pod's status; it is tried again.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from ostria.node import environment, images, roots, security
from ostria.node.cluster import Token
from ostria.node.environment import Addresses, Objects, Unresolved
from ostria.node.ground import IMAGE_VARIABLES, Ground, capacity_of_machine
from ostria.node.pods import Container, Pod, Volume, VolumeMount
from ostria.node.volumes import files_of, wanted_by, within, write_files

_ROTATE_AT = 0.8
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\n"
_LAST_WORDS_LIMIT = 4096
_OF_API = ("KUBERNETES_SERVICE_", "KUBERNETES_PORT")


class Refused(Unresolved):
    """The container's own configuration forbids its start."""


class Assembly:
    """One pod's files, in `folder`."""

    def __init__(self, ground: Ground, folder: pathlib.Path) -> None:
        self._ground = ground
        self._folder = folder
        self._objects = Objects()
        self._tokens: dict[tuple[str, int], Token] = {}
        self._issued: dict[tuple[str, int], float] = {}
        self._capacity = capacity_of_machine()

    @property
    def refresh_at(self) -> float | None:
        """When a token must be renewed: at 80 % of its life, as kubelet does."""
        return min((self._due(key) for key in self._tokens), default=None)

    def _due(self, key: tuple[str, int]) -> float:
        issued = self._issued[key]
        return issued + _ROTATE_AT * (self._tokens[key].expires - issued)

    def sandbox_settings(self, pod: Pod) -> dict[str, Any]:
        """What the pod's first process is told."""
        memory = [volume for volume in pod.spec.volumes if volume.empty_dir and volume.empty_dir.medium == "Memory"]
        for volume in memory:
            self._place(volume).mkdir(parents=True, exist_ok=True)
        sysctls = {"net.ipv4.ip_unprivileged_port_start": "0"}
        sysctls |= {each.name: each.value for each in pod.spec.security_context.sysctls}
        return {
            "hostname": (pod.spec.hostname or pod.metadata.name)[:63],
            "sysctls": sysctls,
            "tmpfs": [(str(self._place(volume)), f"mode=0777{_size(volume)}") for volume in memory],
        }

    def write_etc(self, pod: Pod, ips: tuple[str, ...]) -> None:
        """The files of /etc that are the pod's own, as kubelet writes them."""
        hostname = pod.spec.hostname or pod.metadata.name
        names = hostname
        if pod.spec.subdomain:
            names = f"{hostname}.{pod.spec.subdomain}.{pod.metadata.namespace}.svc.cluster.local\t{hostname}"
        lines = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
        lines += [f"{ip}\t{names}" for ip in ips]
        lines += [f"{alias.ip}\t{' '.join(alias.hostnames)}" for alias in pod.spec.host_aliases]
        etc = self._folder / "skeleton" / "etc"
        etc.mkdir(parents=True, exist_ok=True)
        etc.parent.chmod(0o755)
        for name, text in (
            ("hosts", "\n".join(lines) + "\n"),
            ("hostname", f"{hostname}\n"),
            ("resolv.conf", resolv_conf_of(pod, self._ground.network.resolv_conf(pod.metadata.namespace))),
            ("nsswitch.conf", _NSSWITCH),
        ):
            # What lies below a mounted overlay must not be replaced, only written again.
            if not (etc / name).exists() or (etc / name).read_text() != text:
                (etc / name).write_text(text)

    async def prepare(self, pod: Pod, addresses: Addresses) -> None:
        """Ask for what the pod names and bring its volumes up to date. Raises Unresolved and OSError."""
        wanted, namespace = wanted_by(pod), pod.metadata.namespace
        cluster, now = self._ground.cluster, self._ground.clock.now()
        config_maps = {name: await cluster.get_config_map(namespace, name) for name in sorted(wanted.config_maps)}
        secrets = {name: await cluster.get_secret(namespace, name) for name in sorted(wanted.secrets)}
        self._objects = Objects(
            {name: held for name, held in config_maps.items() if held is not None},
            {name: held for name, held in secrets.items() if held is not None},
        )
        for key in sorted(wanted.tokens):
            if key not in self._tokens or self._due(key) <= now:
                account = pod.spec.service_account_name
                self._tokens[key] = await cluster.request_token(namespace, account, key[0], key[1], pod.key)
                self._issued[key] = now
        gid = None if self._ground.settings.rootless else pod.spec.security_context.fs_group
        for volume in pod.spec.volumes:
            files = files_of(pod, volume, self._objects, self._tokens, addresses, self._capacity)
            if files is not None:
                write_files(self._place(volume), files, gid)
            elif volume.empty_dir is not None:
                self._make_empty(volume, gid)
            elif volume.host_path is not None:
                self._check_host_path(volume.host_path.path, volume.host_path.type)
            else:
                raise Unresolved(f'volume "{volume.name}" is of a kind that this node does not have')

    def _place(self, volume: Volume) -> pathlib.Path:
        return self._folder / "volumes" / volume.name

    def _make_empty(self, volume: Volume, gid: int | None) -> None:
        place = self._place(volume)
        if not place.exists():
            place.mkdir(parents=True)
            place.chmod(0o777)
            if gid is not None:
                os.chown(place, -1, gid)
                place.chmod(0o2777)

    def _check_host_path(self, path: str, kind: str) -> None:
        real, settings = os.path.realpath(path), self._ground.settings
        if not _is_below(real, (*settings.host_paths, *settings.shared_paths)):
            raise Unresolved(f"hostPath {path} is not among the folders that pods may see")
        if kind in ("Directory", "File") or not kind:
            there = os.path.isfile(real) if kind == "File" else os.path.isdir(real) if kind else os.path.exists(real)
            if not there:
                raise Unresolved(f"hostPath {path} does not exist as {kind or 'file or folder'}")

    def plan(self, pod: Pod, container: Container, addresses: Addresses) -> dict[str, Any]:
        """The container's plan. Raises Unresolved, Refused and images.NotMapped. `prepare` has been called."""
        decision = security.decide(pod, container, rootless=self._ground.settings.rootless)
        if decision.refused:
            raise Refused(decision.refused)
        command = images.command_of(container, self._ground.images(), IMAGE_VARIABLES)
        base = {
            "PATH": roots.DEFAULT_PATH,
            "HOME": "/root" if decision.identity.uid == 0 else "/",
            "HOSTNAME": (pod.spec.hostname or pod.metadata.name)[:63],
            **command.env,
            **self._service_variables(pod),
        }
        variables = environment.variables_of(pod, container, self._objects, addresses, base, self._capacity)
        argv = environment.argv_of(command.command, command.args, variables)
        mounts = [self._mount(pod, container, mount, variables) for mount in container.volume_mounts]
        words = self._last_words(container)
        words.parent.mkdir(exist_ok=True)
        words.write_bytes(b"")
        words.chmod(0o666)
        mounts.append(roots.Mount(str(words), container.termination_message_path, writable=True))
        skeleton = self._folder / "skeleton"
        plan, made = roots.plan_of(
            self._ground.machine,
            decision.identity,
            roots.Program(argv, variables, command.working_dir),
            mounts,
            root=str(self._folder / "root"),
            skeleton=str(skeleton),
            is_folder=_is_folder,
            own_pids=not pod.spec.share_process_namespace,
        )
        for path in (*(folder for _, folder in plan["overlays"]), *made.folders):
            (skeleton / path[1:]).mkdir(parents=True, exist_ok=True)
        for path in made.files:
            (skeleton / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            (skeleton / path[1:]).touch()
        return plan

    def _service_variables(self, pod: Pod) -> Mapping[str, str]:
        """The variables of Services; a pod that wants no links has those of the API all the same."""
        found = self._ground.service_variables(pod.metadata.namespace)
        if pod.spec.enable_service_links:
            return found
        return {name: value for name, value in found.items() if name.startswith(_OF_API)}

    def _mount(self, pod: Pod, container: Container, mount: VolumeMount, variables: Mapping[str, str]) -> roots.Mount:
        volume = next((volume for volume in pod.spec.volumes if volume.name == mount.name), None)
        if volume is None:
            raise Unresolved(f'container "{container.name}" mounts "{mount.name}", which is no volume of the pod')
        if volume.host_path is not None:
            real = os.path.realpath(volume.host_path.path)
            shared = _is_below(real, self._ground.settings.shared_paths)
            source, writable = pathlib.Path(real), shared and not mount.read_only
        else:
            source, writable = self._place(volume), volume.empty_dir is not None and not mount.read_only
        sub_path = mount.sub_path or environment.expand(mount.sub_path_expr, variables)
        if sub_path:
            if volume.empty_dir is not None and volume.empty_dir.medium == "Memory":
                raise Unresolved("a subPath of an emptyDir in memory is not supported")
            source = within(source, sub_path)
        return roots.Mount(str(source), mount.mount_path, writable)

    def _last_words(self, container: Container) -> pathlib.Path:
        return self._folder / "last-words" / container.name

    def last_words(self, container: Container) -> str:
        """What the program has left in its termination message file."""
        try:
            with self._last_words(container).open("rb") as file:
                return file.read(_LAST_WORDS_LIMIT).decode(errors="replace")
        except FileNotFoundError:
            return ""


def resolv_conf_of(pod: Pod, cluster: str) -> str:
    """The pod's resolv.conf: the cluster's with what the pod adds, or with policy None only that."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in cluster.splitlines() if pod.spec.dns_policy != "None" else ():
        word, *values = line.split()
        found.setdefault(word, []).extend(values)
    given = pod.spec.dns_config
    found["nameserver"] += given.nameservers
    found["search"] += given.searches
    for option in given.options:
        # An option that the pod gives stands for the cluster's of that name.
        found["options"] = [each for each in found["options"] if each.partition(":")[0] != option.name]
        found["options"].append(f"{option.name}:{option.value}" if option.value else option.name)
    lines = [f"nameserver {address}" for address in dict.fromkeys(found.pop("nameserver"))]
    lines += [f"{word} {' '.join(dict.fromkeys(values))}" for word, values in found.items() if values]
    return "".join(f"{line}\n" for line in lines)


def _is_below(real: str, folders: tuple[str, ...]) -> bool:
    allowed = map(os.path.realpath, folders)
    return any(real == each or real.startswith(each.rstrip("/") + "/") for each in allowed)


def _is_folder(path: str) -> bool | None:
    return os.path.isdir(path) if os.path.exists(path) else None


def _size(volume: Volume) -> str:
    limit = volume.empty_dir.size_limit if volume.empty_dir else ""
    return f",size={int(environment.quantity(limit))}" if limit else ""
