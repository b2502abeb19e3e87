"""The node's handle of its network: it makes it or finds it again, gives pods their addresses, and tells what changed.

    async with Network.create(folder, namespaces) as network:
        addresses = await network.attach("default/web-0", net_fd)
        await network.update(services, slices)

Leaving the block leaves the network as it is, for the node that comes next; `Network.remove` takes it down.
What is kept in the folder: who has which address (addresses.json) and which port of the host is whose (ports.json).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable

import msgspec

from ostria.capture.netlink import Message
from ostria.node import linux
from ostria.node.network import addresses, balancer, conntrack, control, links, outbound
from ostria.node.network.addresses import Leases, Plan, PodAddresses
from ostria.node.network.balancer import Rules
from ostria.node.network.broker import NETLINK_NETFILTER, NETLINK_ROUTE, Broker
from ostria.node.network.control import Command, Entry, Reply, Settings
from ostria.node.network.inbound import Exposure, PortTaken
from ostria.node.network.netlink import Netlink, NetlinkError
from ostria.node.network.services import (
    EndpointSlice,
    Service,
    ServiceKey,
    Tables,
    Version,
    VirtualPort,
    tables,
    virtual_ports,
)
from ostria.node.userns import NodeNamespaces, run_in

log = logging.getLogger(__name__)

ADDRESSES = "addresses.json"
LOG = "network.log"
END_BOUND = 5.0
"""Seconds that the resident has to end before it is killed."""
_VERSIONS: tuple[Version, ...] = (4, 6)
_BATCH = 64
"""Virtual ports in one transaction, which has to fit into a socket's buffer."""
_LOOKS, _BETWEEN_LOOKS = 1000, 0.002
_SWITCHES = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/forwarding": "1",
    # Pods reach each other through the gateway on purpose: nobody is told of a shorter way.
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/default/send_redirects": "0",
    "ipv4/conf/all/rp_filter": "0",
    "ipv4/conf/default/rp_filter": "0",
    # Refusals are told at once, however many.
    "ipv4/icmp_ratelimit": "0",
    "ipv6/icmp/ratelimit": "0",
    "ipv4/ip_unprivileged_port_start": "0",
}
_OPTIONAL_SWITCHES = {
    # Where it exists, packets would pass the rules once as frames of the bridge and bypass the routes.
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}


class Network:
    """See the module. Its methods may be called from one event loop only."""

    def __init__(self, folder: pathlib.Path, namespaces: NodeNamespaces, settings: Settings) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.plan = settings.plan
        self._folder = folder
        self._namespaces = namespaces
        self._settings = settings
        self._broker = Broker(namespaces.folder)
        self._leases = Leases()
        self._bridge = 0
        self._ruled: set[str] = set()
        self._rules: dict[Version, Rules] = {}
        self._programmed: dict[tuple[Version, ServiceKey], tuple[VirtualPort, ...]] = {}
        self._tables = Tables()
        self._exposures: dict[str, Exposure] = {}
        self._reply = Reply(settings)
        self._control: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._talking = asyncio.Lock()
        self._updated = False

    @classmethod
    @contextlib.asynccontextmanager
    async def create(
        cls,
        folder: pathlib.Path,
        namespaces: NodeNamespaces,
        plan: Plan | None = None,
        *,
        allow_host: bool = False,
        resolvers: tuple[tuple[str, int], ...] = (),
    ) -> AsyncIterator[Network]:
        """Make the network of these namespaces, or take over the one that an earlier node has made.

        `allow_host` lets pods reach the host's loopback as host.ostria.internal. `resolvers` (address, port) stand
        in for the host's own. Raises NetlinkError or OSError if the machine refuses.
        """
        network = cls(folder, namespaces, Settings(plan or Plan(), allow_host, resolvers))
        with contextlib.ExitStack() as stack:
            stack.callback(network._close)
            network._route = stack.enter_context(network._broker.netlink(NETLINK_ROUTE))
            network._filter = stack.enter_context(network._broker.netlink(NETLINK_NETFILTER))
            network._build()
            network._exposures = {each.name: each for each in (await network._converse(Command())).exposures}
            yield network

    _route: Netlink
    _filter: Netlink

    @staticmethod
    async def remove(folder: pathlib.Path) -> None:
        """End what outlives the node and forget the addresses; the namespaces end with the zygote."""
        with contextlib.suppress(OSError):
            _, writer = await control.connect(folder)
            with contextlib.closing(writer):
                process = control.peer(writer)
                try:
                    await control.write_frame(writer, msgspec.json.encode(Command(stop=True)))
                    if not await _ended(process):
                        signal.pidfd_send_signal(process, signal.SIGKILL)
                        await _ended(process)
                finally:
                    os.close(process)
        for name in (control.SOCKET, ADDRESSES, LOG, "network.lock"):
            (folder / name).unlink(missing_ok=True)

    async def keep(self) -> None:
        """Start the resident anew whenever it ends, before anybody asks; never returns, and is run beside the rest."""
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await control.connect(self._folder)
                with contextlib.closing(writer):
                    # It never speaks on its own: this ends when it does.
                    await reader.read()
            log.warning("the network's resident process has ended: starting it again")
            await self._converse(Command())

    async def attach(self, pod: str, namespace_fd: int) -> PodAddresses:
        """Connect a pod's network namespace. It has the addresses that it had before, if it had some.

        Idempotent. Raises addresses.NoAddressLeft, NetlinkError.
        """
        leases, number = addresses.lease(self._leases, self.plan, pod)
        given = addresses.addresses_of(self.plan, number)
        if leases != self._leases:
            self._remember(leases)
        with self._broker.netlink(NETLINK_ROUTE, namespace_fd) as inside:
            link = inside.get(links.link_info(links.POD_LINK))
            if link is None:
                # The pair of an earlier pod of this key may still stand, in a namespace that nobody has any more.
                with contextlib.suppress(NetlinkError):
                    self._route.send([links.remove_link(links.pod_link(number))])
                self._route.send(links.make_pair(given, self._bridge, namespace_fd))
                link = inside.get(links.link_info(links.POD_LINK))
                assert link is not None, "it has just been made"
            inside.send(links.set_up_pod(given, links.link_index(link)))
            await _until_ready(inside, links.POD_LINK)
            await _until_ready(self._route, links.pod_link(number))
        # The bridge itself comes up with its first port.
        await _until_ready(self._route, links.BRIDGE)
        self._route.send(links.reach_pod(given, self._bridge))
        if pod not in self._ruled:
            for version, rules in self._rules.items():
                self._filter.commit(rules.add_pod(_packed(given, version)))
            self._ruled.add(pod)
        return given

    async def detach(self, pod: str) -> None:
        """Take a pod's link and addresses back. It is no error if it has none."""
        number = self._leases.pods.get(pod)
        if number is None:
            return
        given = addresses.addresses_of(self.plan, number)
        # The link ends with the pod's namespace, and routes and neighbours may be gone with an earlier attempt.
        with contextlib.suppress(NetlinkError):
            self._route.send([*links.forget_pod(given, self._bridge), links.remove_link(links.pod_link(number))])
        # An attempt to attach it may have failed before it came to the rules.
        if pod in self._ruled:
            for version, rules in self._rules.items():
                self._filter.commit(rules.remove_pod(_packed(given, version)))
            self._ruled.discard(pod)
        self._remember(addresses.release(self._leases, pod))

    def pods(self) -> dict[str, PodAddresses]:
        """The pods that have addresses, by key."""
        return {pod: addresses.addresses_of(self.plan, number) for pod, number in self._leases.pods.items()}

    def resolv_conf(self, namespace: str) -> str:
        """The /etc/resolv.conf of a pod of a namespace."""
        return addresses.resolv_conf(self.plan, namespace)

    async def update(self, services: Iterable[Service], slices: Iterable[EndpointSlice]) -> None:
        """Serve these Services and no others. Costs the kernel what has changed since the last call."""
        new = tables(services, slices)
        old, self._tables = self._tables, new
        keys = {*old.services, *old.slices, *new.services, *new.slices}
        changed = [
            key
            for key in keys
            if old.services.get(key) != new.services.get(key) or old.slices.get(key) != new.slices.get(key)
        ]
        # The first time what an earlier node has told is replaced as a whole.
        first, self._updated = not self._updated, True
        if changed or first:
            self._program(changed)
            await self._converse(Command(full=first, entries=tuple(map(self._entry, sorted(changed)))))

    async def expose(self, exposure: Exposure) -> int:
        """Open a port of the host's loopback; the port that it is. Raises PortTaken."""
        self._exposures[exposure.name] = exposure
        reply = await self._converse(Command(exposures=tuple(self._exposures.values())))
        if exposure.name in reply.refused:
            del self._exposures[exposure.name]
            raise PortTaken(reply.refused[exposure.name])
        return reply.ports[exposure.name]

    async def withdraw(self, name: str) -> None:
        """Close an exposed port."""
        if self._exposures.pop(name, None) is not None:
            await self._converse(Command(exposures=tuple(self._exposures.values())))

    @property
    def ports(self) -> dict[str, int]:
        """The host's port of each exposure and of each node port (as "NAMESPACE/SERVICE:PORT")."""
        return self._reply.ports

    @property
    def refused(self) -> dict[str, str]:
        """The exposures and node ports that have no port, and why."""
        return self._reply.refused

    async def connect(self, target: str, port: int) -> socket.socket:
        """A connection to a pod (by key or address) or to a virtual address. Raises OSError."""
        number = self._leases.pods.get(target)
        address = target if number is None else str(addresses.addresses_of(self.plan, number).v4)
        return await self._broker.connect(address, port)

    def listen(self, port: int, version: Version = 4) -> socket.socket:
        """A listening socket on the gateway's address, which pods reach, for a process outside. Raises OSError."""
        return self._broker.listen(str(self.plan.gateway[_VERSIONS.index(version)]), port)

    def _build(self) -> None:
        run_in(self._namespaces, _switch)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.json.decode((self._folder / ADDRESSES).read_bytes(), type=Leases)
            if addresses.valid(found, self.plan):
                self._leases = found
        bridge = self._route.get(links.link_info(links.BRIDGE))
        if bridge is None:
            self._route.send(links.make_bridge(self.plan))
            bridge = self._route.get(links.link_info(links.BRIDGE))
            assert bridge is not None, "it has just been made"
        self._bridge = links.link_index(bridge)
        self._route.send(links.set_up_node(self.plan, self._bridge))
        self._before = [balancer.table_name(body) for body in self._filter.dump(balancer.list_tables())]
        taken = {name for _, name in self._before}
        name = next(name for place in range(3) if (name := f"{balancer.TABLE}{place}") not in taken)
        for version in _VERSIONS:
            rules = self._rules[version] = Rules(version, name)
            messages = rules.make(self.plan, outbound.PORT, allow_host=self._settings.allow_host)
            for given in self.pods().values():
                messages += rules.add_pod(_packed(given, version))
            self._filter.commit(messages)
        self._ruled = set(self._leases.pods)

    _before: list[tuple[int, str]]

    def _program(self, changed: Iterable[ServiceKey]) -> None:
        """Bring the packet rules of these Services up to date."""
        for version, rules in self._rules.items():
            gone: list[list[Message]] = []
            come: list[list[Message]] = []
            altered: list[tuple[VirtualPort, VirtualPort | None]] = []
            for key in changed:
                service = self._tables.services.get(key)
                slices = self._tables.slices.get(key, ())
                after = () if service is None else virtual_ports(service, slices, self.plan, version)
                before = self._programmed.pop((version, key), ())
                if after:
                    self._programmed[version, key] = after
                old, new = ({port.chain: port for port in ports} for ports in (before, after))
                gone.extend([rules.replace(old[chain], None) for chain in old.keys() - new.keys()])
                come.extend([rules.replace(old.get(chain), new[chain]) for chain in new])
                altered += [(port, new.get(chain)) for chain, port in old.items()]
            # What goes first: an address may move from one Service to another.
            parts = [part for part in (*gone, *come) if part]
            for start in range(0, len(parts), _BATCH):
                self._filter.commit([message for part in parts[start : start + _BATCH] for message in part])
            if any(port.protocol == "UDP" and port != after for port, after in altered):
                self._forget_stale(version, altered)
        self._drop_older_tables()

    def _forget_stale(self, version: Version, altered: list[tuple[VirtualPort, VirtualPort | None]]) -> None:
        entries = self._filter.dump(conntrack.list_entries(version))
        for message in conntrack.forget_stale(version, entries, altered):
            # It may have ended in between.
            with contextlib.suppress(NetlinkError):
                self._filter.send([message])

    def _drop_older_tables(self) -> None:
        """Only now the rules of the node before us go: until ours were complete theirs have decided."""
        for family, name in self._before:
            version: Version = 4 if family == balancer.FAMILIES[4].number else 6
            if name.startswith(balancer.TABLE):
                self._filter.commit(Rules(version, name).remove())
        self._before = []

    def _entry(self, key: ServiceKey) -> Entry:
        return Entry(*key, self._tables.services.get(key), self._tables.slices.get(key, ()))

    def _remember(self, leases: Leases) -> None:
        self._leases = leases
        new = self._folder / f"{ADDRESSES}.new"
        new.write_bytes(msgspec.json.encode(leases))
        new.replace(self._folder / ADDRESSES)

    async def _converse(self, command: Command) -> Reply:
        """Tell the resident; if it is not there start it, and tell it everything."""
        async with self._talking:
            if self._control is not None:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    return await self._exchange(command)
            await self._find_resident()
            keys = sorted({*self._tables.services, *self._tables.slices})
            everything = Command(
                full=bool(keys),
                entries=tuple(map(self._entry, keys)),
                exposures=tuple(self._exposures.values()) or None,
            )
            return await self._exchange(everything)

    async def _exchange(self, command: Command) -> Reply:
        assert self._control is not None
        reader, writer = self._control
        try:
            await control.write_frame(writer, msgspec.json.encode(command))
            self._reply = msgspec.json.decode(await control.read_frame(reader), type=Reply)
        except BaseException:
            self._hang_up()
            raise
        return self._reply

    async def _find_resident(self) -> None:
        self._hang_up()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, msgspec.MsgspecError):
            self._control = await control.connect(self._folder)
            if (await self._exchange(Command())).settings == self._settings:
                return
            await self._exchange(Command(stop=True))
        self._hang_up()
        await asyncio.to_thread(self._start_resident)
        self._control = await control.connect(self._folder)

    def _start_resident(self) -> None:
        ready, tell = os.pipe()
        module = "ostria.node.network.resident"
        arguments = [str(self._folder), str(self._namespaces.folder), msgspec.json.encode(self._settings).decode()]
        try:
            with (self._folder / LOG).open("ab") as errors:
                subprocess.Popen(  # noqa: S603 - Our own interpreter and module.
                    [sys.executable, "-m", module, *arguments, str(tell)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(tell,),
                )
            os.close(tell)
            tell = -1
            if os.read(ready, 1) != b"1":
                lines = (self._folder / LOG).read_text(errors="replace").strip().splitlines()
                raise OSError(f"the network's resident process did not start: {lines[-1] if lines else 'no message'}")
        finally:
            os.close(ready)
            if tell >= 0:
                os.close(tell)

    def _hang_up(self) -> None:
        if self._control is not None:
            self._control[1].close()
            self._control = None

    def _close(self) -> None:
        self._hang_up()
        self._broker.close()


async def _ended(process: int) -> bool:
    """Wait for the end of the process of a descriptor; False if it takes too long."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(process, ended.set)
    try:
        async with asyncio.timeout(END_BOUND):
            await ended.wait()
        return True
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(process)


async def _until_ready(namespace: Netlink, name: str) -> None:
    """A link drops what is sent until the kernel has noticed that it is up: milliseconds; a bridge, up to a second."""
    for _ in range(_LOOKS):
        body = namespace.get(links.link_info(name))
        if body is None or links.is_ready(body):
            return
        await asyncio.sleep(_BETWEEN_LOOKS)
    log.warning("the link %s does not come up", name)


def _packed(given: PodAddresses, version: Version) -> bytes:
    return (given.v4 if version == 4 else given.v6).packed


def _switch() -> None:
    """In a child inside the network: set what only files of /proc can set."""
    for name, value in _SWITCHES.items():
        linux.write(f"/proc/sys/net/{name}", value)
    for name, value in _OPTIONAL_SWITCHES.items():
        with contextlib.suppress(FileNotFoundError):
            linux.write(f"/proc/sys/net/{name}", value)
