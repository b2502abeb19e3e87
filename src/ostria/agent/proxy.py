"""`proxy sidecar|router`: everything that an agent does beside its Envoy, put together on one loop.

identity ready --> Envoy runs --> (SIGTERM, /quitquitquit) --> drain --> Envoy ends --> the agent ends
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from ostria.agent.identity import IdentityKeeper
from ostria.agent.lines import log
from ostria.agent.loop import Flag, Loop, readable, wait
from ostria.agent.probes import Probes
from ostria.agent.settings import Settings, SettingsError, read
from ostria.agent.status import StatusServer
from ostria.agent.supervision import Envoy


def run(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Be the agent until it is told to end; returns its exit code."""
    try:
        settings = read(argv, env)
    except SettingsError as error:
        log("error", str(error))
        return 65
    # Whoever forked us may have switched it off, to keep memory shared; ours would grow without it.
    gc.enable()
    agent = _Agent(Envoy(settings, env), IdentityKeeper(argv, env, settings.root_file))
    status = StatusServer(settings, agent.envoy, agent.identity, Probes(settings, argv, env), agent)
    loop = Loop()
    port = settings.agent_port
    try:
        listening = status.listen()
        port = settings.dns_port
        answer_names = _name_server(settings) if settings.dns_capture else None
    except OSError as error:
        log("error", "the agent's port cannot be had", port=port, error=error)
        return 69
    try:
        loop.start(status.serve(loop, listening))
        if answer_names:
            answer_names(loop)
        loop.start(agent.identity.keep())
        loop.start(agent.heed(_signals()))
        loop.start(agent.end_when_told())
        return loop.run(agent.envoy_life())
    finally:
        agent.envoy.close()
        agent.identity.close()


def _name_server(settings: Settings) -> Callable[[Loop], None]:
    """Listen for questions of names, which what is returned starts to answer. Raises OSError."""
    # Most proxies are asked none, and what is loaded counts in each of them.
    from ostria.agent.dns import NameServer, resolvers
    from ostria.agent.names import Names, NameStream

    names = Names()
    server = NameServer(names, resolvers(), mark=settings.mark)
    asked = server.listen(settings.dns_port)

    def start(loop: Loop) -> None:
        server.start(loop, asked)
        loop.start(NameStream(settings, names).keep())

    return start


class _Agent:
    def __init__(self, envoy: Envoy, identity: IdentityKeeper) -> None:
        self.envoy = envoy
        self.identity = identity
        self._told = Flag()

    def stop(self) -> None:
        """Drain and end."""
        self._told.set()

    async def heed(self, signals: int) -> None:
        """End when asked; whoever asks twice does not want to wait."""
        while True:
            await readable(signals)
            os.read(signals, 64)
            if self._told.is_set:
                self.envoy.kill()
            self.stop()

    async def end_when_told(self) -> None:
        """The drain, once it is time."""
        await wait(self._told)
        log("info", "the proxy drains and ends")
        await self.envoy.end()
        # Where no Envoy has been started there is none that would end.
        self.identity.ready.set()

    async def envoy_life(self) -> int:
        """Envoy's whole life; it begins once there is an identity to show."""
        await wait(self.identity.ready)
        code = 0 if self._told.is_set else await self.envoy.run(self.identity.envoy, self.identity.envoy_env)
        log("info", "the agent ends", code=code)
        return code


def _signals() -> int:
    """A descriptor that can be read once somebody wants the agent to end."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return reading
