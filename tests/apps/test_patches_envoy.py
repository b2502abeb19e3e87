"""EnvoyFilters end to end: what real Envoys take, and what becomes of what they refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib

import pytest

from doubles.agents import ANSWERING_GATEWAY, ground
from doubles.control_planes import control_plane
from doubles.envoy_process import EnvoyProcess
from doubles.meshes import pod, service
from doubles.patched import envoy_filter, key

pytestmark = pytest.mark.envoy

MESH = "---".join(
    (service("reviews", ip="10.96.0.1"), pod("client", "10.0.0.77", {"app": "reviews"})),
)


def lua(code: str, context: str = "ANY") -> str:
    return f"""
    - applyTo: HTTP_FILTER
      match: {{context: {context}}}
      patch:
        operation: INSERT_FIRST
        value:
          name: mine
          typed_config:
            "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
            default_source_code: {{inline_string: "{code}"}}
    """


GOOD = lua("function envoy_on_request(handle) end -- good")
# Our descriptions of Envoy cannot tell that this is no Lua; Envoy can.
BROKEN = lua("function envoy_on_request( -- broken")


async def held(envoy: EnvoyProcess) -> str:
    """Everything that an Envoy has taken, as text."""
    return json.dumps(await envoy.config())


@pytest.mark.parametrize("namespace", ["default", "istio-system"])
async def test_a_broken_filter_is_set_aside_and_harms_no_other(tmp_path: pathlib.Path, namespace: str) -> None:
    guilty = key("broken", namespace)
    documents = (envoy_filter(GOOD, "good"), envoy_filter(BROKEN, "broken", namespace=namespace))
    async with asyncio.timeout(60), control_plane(tmp_path, MESH) as ground, ground.proxy("client") as sidecar:
        await sidecar.wait_ready()
        ground.source.apply("---".join(documents))
        await ground.until(lambda: "ostria.dev/refused" in str(ground.source.document(guilty)))
        await ground.settled()
        assert [problem.object for problem in ground.istiod.problems()] == [guilty]
        found = await held(sidecar)
        assert ("-- good" in found, "-- broken" in found) == (True, False)
        remembered = ground.source.changes()
    # Neither a new control plane nor a new Envoy meets it again.
    async with asyncio.timeout(60), control_plane(tmp_path, "", authority=ground.authority) as back:
        back.source.apply([change.object for change in remembered if change.object])
        async with back.proxy("client-2", claims="client", token="client") as sidecar:
            await sidecar.wait_ready()
            await back.settled()
            assert back.refusals() == []
            found = await held(sidecar)
            assert ("-- good" in found, "-- broken" in found) == (True, False)
            # Set right, it takes effect.
            back.source.apply(envoy_filter(lua("-- right"), "broken", namespace=namespace))
            while "-- right" not in await held(sidecar):
                await asyncio.sleep(0.02)
            assert back.istiod.problems() == ()


BAD_CLUSTER = """
- applyTo: CLUSTER
  match: {context: SIDECAR_OUTBOUND}
  patch: {operation: ADD, value: {name: mine, type: STRICT_DNS, lb_policy: RING_HASH, connect_timeout: -1s}}
"""
BAD_ROUTES = """
- applyTo: VIRTUAL_HOST
  match: {context: SIDECAR_OUTBOUND, routeConfiguration: {name: '9080'}}
  patch: {operation: ADD, value: {name: mine, domains: [reviews]}}
"""
BAD_LISTENER = """
- applyTo: LISTENER
  match: {context: SIDECAR_OUTBOUND}
  patch: {operation: ADD, value: {name: mine}}
"""


@pytest.mark.parametrize("patch", [BAD_CLUSTER, BAD_ROUTES, BAD_LISTENER], ids=["cluster", "routes", "listener"])
async def test_whatever_is_broken_only_its_filter_is_set_aside(tmp_path: pathlib.Path, patch: str) -> None:
    async with asyncio.timeout(60), control_plane(tmp_path, MESH) as ground, ground.proxy("client") as sidecar:
        await sidecar.wait_ready()
        ground.source.apply("---".join((envoy_filter(GOOD, "good"), envoy_filter(patch, "broken"))))
        await ground.until(lambda: "ostria.dev/refused" in str(ground.source.document(key("broken"))))
        await ground.settled()
        assert [problem.object for problem in ground.istiod.problems()] == [key("broken")]
        assert "-- good" in await held(sidecar)


DISCOVERED = """
- applyTo: HTTP_FILTER
  match: {context: SIDECAR_INBOUND}
  patch:
    operation: INSERT_FIRST
    value:
      name: discovered
      config_discovery:
        config_source: {ads: {}}
        type_urls: [type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua]
- applyTo: EXTENSION_CONFIG
  patch:
    operation: ADD
    value:
      name: discovered
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
        default_source_code: {inline_string: "-- %s"}
"""


async def test_an_extension_comes_by_its_name_and_changes_without_its_listener(tmp_path: pathlib.Path) -> None:
    modified = "listener_manager.listener_modified"
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        ground = await stack.enter_async_context(control_plane(tmp_path, MESH))
        sidecar = await stack.enter_async_context(ground.proxy("client"))
        ground.source.apply(envoy_filter(DISCOVERED % "first"))
        await sidecar.wait_ready()
        assert "-- first" in await extensions(sidecar)
        before = (await sidecar.stats(modified))[modified]
        ground.source.apply(envoy_filter(DISCOVERED % "second"))
        while "-- second" not in await extensions(sidecar):
            await asyncio.sleep(0.02)
        assert (await sidecar.stats(modified))[modified] == before
        assert ground.refusals() == []
        # What the filter that asks for it does not expect.
        ground.source.apply(envoy_filter(DISCOVERED.replace("lua.v3.Lua\n        def", "cors.v3.Cors\n      #") % "x"))
        await ground.until(lambda: "ostria.dev/refused" in str(ground.source.document(key())))
        await ground.settled()
        # The last good one stands in.
        assert "-- second" in await extensions(sidecar)


async def extensions(envoy: EnvoyProcess) -> str:
    return await envoy.admin("/config_dump?resource=ecds_filters")


LIMIT = """
- applyTo: HTTP_FILTER
  match:
    context: GATEWAY
    listener:
      portNumber: 8080
      filterChain:
        filter:
          name: envoy.filters.network.http_connection_manager
          subFilter: {name: envoy.filters.http.router}
  patch:
    operation: INSERT_BEFORE
    value:
      name: envoy.filters.http.local_ratelimit
      typed_config:
        "@type": type.googleapis.com/udpa.type.v1.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
        value:
          stat_prefix: limit
          token_bucket: {max_tokens: 2, tokens_per_fill: 2, fill_interval: 3600s}
          filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
          filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
- applyTo: VIRTUAL_HOST
  match: {context: GATEWAY, routeConfiguration: {portNumber: 8080}}
  patch:
    operation: MERGE
    value: {response_headers_to_add: [{header: {key: x-patched, value: "yes"}}]}
"""


async def test_a_filter_and_a_header_as_istios_pages_write_them_do_what_they_say(tmp_path: pathlib.Path) -> None:
    text = "---".join((ANSWERING_GATEWAY, envoy_filter(LIMIT)))
    async with asyncio.timeout(60), ground(tmp_path, text) as mesh, mesh.agent("edge", role="router") as edge:
        await edge.ready()
        while not await edge.status(8080, "/"):
            await asyncio.sleep(0.02)
        # The first token is gone; one is left.
        first, second = await edge.request(8080, "/"), await edge.request(8080, "/")
        assert (first.status, first.headers["x-patched"], second.status) == (200, "yes", 429)
        assert mesh.plane.problems() == ()
