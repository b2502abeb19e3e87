"""The API over HTTP: lists in pages, watches by what they tell, forms of answers, and bad input."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import ip_network
from itertools import count
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

from ostria.kubeapi.allocation import Ranges
from ostria.kubeapi.api import SYSTEM, Api
from ostria.kubeapi.calls import Call, Surroundings
from ostria.kubeapi.requests import Document
from ostria.kubeapi.store import Store
from ostria.kubeapi.tokens import Issuer, new_key

MAPS = "/api/v1/namespaces/default/configmaps"
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "tester"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [{"kind": "ServiceAccount", "name": "tester", "namespace": "default"}],
}


class Client:
    """An administrator, with a token as programs have them."""

    def __init__(self, api: Api, http: TestClient[Any, Any], token: str) -> None:
        self.api = api
        self.http = http
        self.headers = {"Authorization": f"Bearer {token}"}

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {
            **self.headers,
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        async with self.http.request(method, path, data=data, headers=sent) as response:
            return response.status, await response.json(content_type=None)

    async def make(self, *names: str) -> Document:
        made: Document = {}
        for name in names:
            code, made = await self.ask("POST", MAPS, {"metadata": {"name": name}})
            assert code == 201, made
        return made

    async def watch(self, query: str, **headers: str) -> ClientResponse:
        response = await self.http.get(f"{MAPS}?watch=true&{query}", headers={**self.headers, **headers})
        assert response.status == 200, await response.text()
        return response


async def told(response: ClientResponse, number: int) -> list[tuple[str, str]]:
    """So many events of a watch, as type and name (of a bookmark: its mark, if it has one)."""
    found = []
    for _ in range(number):
        event = json.loads(await response.content.readline())
        metadata = event["object"]["metadata"]
        marked = (metadata.get("annotations") or {}).get("k8s.io/initial-events-end", "")
        found.append((event["type"], metadata.get("name") or marked))
    return found


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    numbers = count(1)
    around = Surroundings(lambda: datetime.now(UTC), lambda: f"uid-{next(numbers)}", lambda: f"{next(numbers):05}")
    store, key = Store(":memory:", history=20), new_key()
    api = Api(store, around, Ranges((ip_network("10.96.0.0/24"),)), key, "127.0.0.1:6443")
    await api.prepare()
    accounts = api.service.registry.find("", "v1", "serviceaccounts")
    bindings = api.service.registry.find("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
    assert accounts is not None
    assert bindings is not None
    await api.service.create(Call(SYSTEM, accounts, "default"), {"metadata": {"name": "tester"}})
    await api.service.create(Call(SYSTEM, bindings), BINDING)
    token = Issuer(key, store).issue("default", "tester", {}, around.now(), "1")["status"]["token"]
    async with TestClient(TestServer(api.server.app)) as http:
        yield Client(api, http, token)
        api.server.end()
    store.close()


async def test_pages_show_one_moment_however_much_happens_between(client: Client) -> None:
    await client.make("a", "b", "c", "d")
    _, first = await client.ask("GET", f"{MAPS}?limit=2")
    assert [each["metadata"]["name"] for each in first["items"]] == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 2
    await client.ask("DELETE", f"{MAPS}/c")
    await client.make("bb")
    _, second = await client.ask("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert [each["metadata"]["name"] for each in second["items"]] == ["c", "d"]
    assert second["metadata"] == {"resourceVersion": first["metadata"]["resourceVersion"]}


async def test_a_page_of_forgotten_times_must_be_begun_again(client: Client) -> None:
    await client.make("a", "b")
    _, first = await client.ask("GET", f"{MAPS}?limit=1")
    await client.make(*(f"n{number}" for number in range(25)))
    code, status = await client.ask("GET", f"{MAPS}?limit=1&continue={first['metadata']['continue']}")
    assert (code, status["reason"]) == (410, "Expired")


async def test_what_is_not_found_has_details_even_if_they_say_nothing(client: Client) -> None:
    """kubectl debug looks into them before it falls back, and ends with a fault of its own where there are none."""
    code, status = await client.ask("PATCH", "/api/v1/namespaces/default/pods/web/ephemeralcontainers", {})
    assert (code, status["reason"], status["details"]) == (404, "NotFound", {})


async def test_a_list_is_of_the_moment_that_is_asked_for(client: Client) -> None:
    then = (await client.make("a"))["metadata"]["resourceVersion"]
    await client.make("b")
    _, exact = await client.ask("GET", f"{MAPS}?resourceVersion={then}&resourceVersionMatch=Exact")
    assert [each["metadata"]["name"] for each in exact["items"]] == ["a"]
    _, newer = await client.ask("GET", f"{MAPS}?resourceVersion={then}&resourceVersionMatch=NotOlderThan")
    assert [each["metadata"]["name"] for each in newer["items"]] == ["a", "b"]
    code, status = await client.ask("GET", f"{MAPS}?resourceVersion=999999")
    assert (code, status["reason"]) == (504, "Timeout")
    code, _ = await client.ask("GET", f"{MAPS}?resourceVersionMatch=Exact")
    assert code == 422


async def test_a_watch_without_a_revision_begins_with_what_is_there(client: Client) -> None:
    await client.make("a")
    watch = await client.watch("")
    await client.make("b")
    assert await told(watch, 2) == [("ADDED", "a"), ("ADDED", "b")]


async def test_a_watch_goes_on_from_a_revision(client: Client) -> None:
    since = (await client.make("a"))["metadata"]["resourceVersion"]
    await client.make("b")
    watch = await client.watch(f"resourceVersion={since}")
    await client.ask("DELETE", f"{MAPS}/a")
    assert await told(watch, 2) == [("ADDED", "b"), ("DELETED", "a")]


async def test_a_watch_list_marks_the_end_of_the_beginning(client: Client) -> None:
    await client.make("a", "b")
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    watch = await client.watch(query)
    await client.make("c")
    assert await told(watch, 4) == [("ADDED", "a"), ("ADDED", "b"), ("BOOKMARK", "true"), ("ADDED", "c")]
    code, status = await client.ask("GET", f"{MAPS}?watch=1&sendInitialEvents=true")
    assert (code, status["details"]["causes"][0]["field"]) == (422, "resourceVersionMatch")


async def test_a_watch_ends_with_its_time(client: Client) -> None:
    watch = await client.watch("timeoutSeconds=1&allowWatchBookmarks=true")
    assert [name for kind, name in [(await told(watch, 1))[0]] if kind == "BOOKMARK"] == [""]
    assert await watch.content.read() == b""


async def test_what_begins_or_ceases_to_match_is_added_or_deleted_to_a_selection(client: Client) -> None:
    watch = await client.watch("labelSelector=seen%3Dyes")
    await client.make("a", "b")
    merge = {"Content_Type": "application/merge-patch+json"}
    await client.ask("PATCH", f"{MAPS}/a", {"metadata": {"labels": {"seen": "yes"}}}, **merge)
    await client.ask("PATCH", f"{MAPS}/a", {"data": {"a": "b"}}, **merge)
    await client.ask("PATCH", f"{MAPS}/a", {"metadata": {"labels": {"seen": None}}}, **merge)
    await client.ask("DELETE", f"{MAPS}/a")
    await client.ask("PATCH", f"{MAPS}/b", {"metadata": {"labels": {"seen": "yes"}}}, **merge)
    assert await told(watch, 4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "b")]


async def test_a_watch_of_forgotten_times_is_told_to_list_again(client: Client) -> None:
    since = (await client.make("a"))["metadata"]["resourceVersion"]
    await client.make(*(f"n{number}" for number in range(25)))
    code, status = await client.ask("GET", f"{MAPS}?watch=1&resourceVersion={since}")
    assert (code, status["reason"]) == (410, "Expired")


async def test_one_object_can_be_watched_by_its_path(client: Client) -> None:
    await client.make("a", "b")
    response = await client.http.get(f"{MAPS}/b?watch=1", headers=client.headers)
    await client.ask("DELETE", f"{MAPS}/a")
    await client.ask("DELETE", f"{MAPS}/b")
    assert await told(response, 2) == [("ADDED", "b"), ("DELETED", "b")]


async def test_metadata_alone_can_be_asked_for(client: Client) -> None:
    await client.ask("POST", MAPS, {"metadata": {"name": "a"}, "data": {"a": "b"}})
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
    _, listed = await client.ask("GET", MAPS, Accept=accept)
    assert listed["kind"] == "PartialObjectMetadataList"
    assert [(each["metadata"]["name"], "data" in each) for each in listed["items"]] == [("a", False)]
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
    _, one = await client.ask("GET", f"{MAPS}/a", Accept=accept)
    assert (one["kind"], "data" in one) == ("PartialObjectMetadata", False)
    code, _ = await client.ask("GET", MAPS, Accept="text/html")
    assert code == 406


async def test_a_generated_name_is_a_new_one(client: Client) -> None:
    names = set()
    for _ in range(3):
        _, made = await client.ask("POST", MAPS, {"metadata": {"generateName": "a-"}})
        names.add(made["metadata"]["name"])
    assert len(names) == 3
    assert all(name.startswith("a-") for name in names)


async def test_a_deletion_insists_on_what_it_is_told(client: Client) -> None:
    made = await client.make("a")
    code, status = await client.ask("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "another"}})
    assert (code, status["reason"]) == (409, "Conflict")
    code, _ = await client.ask("DELETE", f"{MAPS}/a", {"preconditions": {"uid": made["metadata"]["uid"]}})
    assert code == 200


async def test_a_finalizer_holds_an_object_until_it_is_taken_away(client: Client) -> None:
    await client.ask("POST", MAPS, {"metadata": {"name": "a", "finalizers": ["example.com/held"]}})
    _, waiting = await client.ask("DELETE", f"{MAPS}/a")
    assert waiting["metadata"]["deletionTimestamp"]
    patch = {"metadata": {"finalizers": None}}
    await client.ask("PATCH", f"{MAPS}/a", patch, Content_Type="application/merge-patch+json")
    code, _ = await client.ask("GET", f"{MAPS}/a")
    assert code == 404


async def test_nothing_is_made_of_a_definition_that_goes(client: Client) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    names = {"kind": "Widget", "plural": "widgets"}
    spec = {"group": "example.com", "names": names, "scope": "Namespaced", "versions": [version]}
    code, made = await client.ask("POST", definitions, {"metadata": {"name": "widgets.example.com"}, "spec": spec})
    assert code == 201, made
    widgets = "/apis/example.com/v1/namespaces/default/widgets"
    assert (await client.ask("POST", widgets, {"metadata": {"name": "a"}}))[0] == 201
    await client.ask("DELETE", f"{definitions}/widgets.example.com")
    code, status = await client.ask("POST", widgets, {"metadata": {"name": "b"}})
    assert (code, "is terminating" in status["message"]) == (405, True), status


async def test_a_running_pod_is_given_its_grace_and_goes_when_the_node_says_so(client: Client) -> None:
    pods = "/api/v1/namespaces/default/pods"
    spec = {"nodeName": "here", "containers": [{"name": "c", "image": "c"}], "terminationGracePeriodSeconds": 7}
    code, made = await client.ask("POST", pods, {"metadata": {"name": "a"}, "spec": spec})
    assert code == 201, made
    _, ending = await client.ask("DELETE", f"{pods}/a")
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 7
    code, _ = await client.ask("DELETE", f"{pods}/a", {"gracePeriodSeconds": 0})
    assert code == 200
    assert (await client.ask("GET", f"{pods}/a"))[0] == 404


async def test_events_are_the_same_in_both_groups(client: Client) -> None:
    event = {"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "reason": "R", "message": "why"}
    code, made = await client.ask("POST", "/api/v1/namespaces/default/events", event)
    assert code == 201, made
    _, same = await client.ask("GET", "/apis/events.k8s.io/v1/namespaces/default/events/e")
    assert (same["note"], same["regarding"]["name"], "message" in same) == ("why", "p", False)


NESTED = b'{"metadata":{"name":"a"},"data":' + b'{"a":' * 600 + b"1" + b"}" * 601
DEEP = b'{"metadata":' + b"[" * 5_000 + b"]" * 5_000 + b"}"


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b"", 400, "empty"),
        (b"{", 400, "no JSON"),
        (b"[]", 400, "not an object"),
        (DEEP, 400, "nests too deeply"),
        (NESTED, 400, "nests deeper than 100 levels at data.a.a.a"),
        (b'{"metadata": 3}', 400, "metadata"),
        (b'{"metadata": {"name": "A_B"}}', 422, "metadata.name"),
        (b'{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}', 400, "Pod"),
        (b'{"metadata": {"name": "a", "namespace": "other"}}', 400, "namespace"),
        (b'{"metadata": {"name": "a"}, "data": {"a": 3}}', 400, "data"),
        (b'{"metadata": {"name": "a"}, "date": {}}', 400, 'unknown field "date"'),
        (b" " * (3 * 1024 * 1024 + 1), 413, "too large"),
    ],
)
async def test_bad_input_is_refused_in_words(client: Client, body: bytes, code: int, words: str) -> None:
    answered, status = await client.ask("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert (answered, words in status["message"]) == (code, True), status


@pytest.mark.parametrize(
    ("container", "field"),
    [
        ({"name": "a", "image": ["x"]}, "spec.containers[0].image"),
        ({"name": "a", "imgae": "x"}, "spec.containers[0].imgae"),
    ],
)
async def test_what_cannot_be_read_names_its_field_for_programs_too(
    client: Client, container: Document, field: str
) -> None:
    pod = {"metadata": {"name": "a"}, "spec": {"containers": [container]}}
    code, status = await client.ask("POST", "/api/v1/namespaces/default/pods?fieldValidation=Strict", pod)
    assert (code, [cause["field"] for cause in status["details"]["causes"]]) == (400, [field]), status


async def test_patches_cannot_nest_an_object_step_by_step(client: Client) -> None:
    definition = {
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing"},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    code, status = await client.ask("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert code == 201, status
    things, deep = "/apis/example.com/v1/namespaces/default/things", json.loads('{"a":' * 90 + "1" + "}" * 90)
    code, status = await client.ask("POST", things, {"metadata": {"name": "t"}, "spec": deep})
    assert code == 201, status
    for media, patch in (
        ("application/json-patch+json", [{"op": "add", "path": "/spec" + "/a" * 90, "value": deep}]),
        ("application/json-patch+json", [{"op": "copy", "from": "/spec", "path": "/spec" + "/a" * 90}]),
    ):
        code, status = await client.ask("PATCH", f"{things}/t", patch, Content_Type=media)
        assert (code, "nests deeper than 100 levels at spec.a.a" in status["message"]) == (400, True), status


async def test_an_alias_bomb_is_refused(client: Client) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
    )
    yaml = {"Content_Type": "application/yaml"}
    code, status = await client.ask("POST", MAPS, bomb.encode(), **yaml)
    assert code == 400, status


async def test_no_token_and_a_wrong_one_open_nothing(client: Client) -> None:
    for token, code in (("", 403), ("Bearer wrong", 401)):
        headers = {"Authorization": token} if token else {}
        async with client.http.get(MAPS, headers=headers) as response:
            assert response.status == code
