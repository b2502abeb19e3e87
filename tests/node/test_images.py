"""Image maps, variables and roots: what a container is made of, without making it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ostria.node import security
from ostria.node.assembly import resolv_conf_of
from ostria.node.environment import Addresses, Capacity, Objects, Unresolved, expand, field_of, quantity, variables_of
from ostria.node.images import NotMapped, command_of, read_images
from ostria.node.pods import Container, Pod, read_pod
from ostria.node.roots import Machine, Mount, Program, plan_of
from ostria.node.security import Identity

FIRST = """
images:
  "docker.io/istio/examples-bookinfo-reviews-*":
    command: ["${python}", -m, reviews]
    env: {HOME: "${python}/home"}
    workingDir: /srv
  nginx: {command: [nginx], args: [-g, "daemon off;"]}
"""
SECOND = """
images:
  "docker.io/istio/examples-bookinfo-reviews-v3": {command: [other]}
"""


def check(image: str, container: Container | None = None) -> tuple[str, ...]:
    images, problems = read_images([("first.yaml", FIRST), ("second.yaml", SECOND)])
    assert not problems
    container = container or Container("app", image)
    found = command_of(container, images, {"python": "/py"})
    return (*found.command, *found.args)


def test_an_image_is_found_by_glob_and_the_later_map_wins() -> None:
    assert check("docker.io/istio/examples-bookinfo-reviews-v1:1.20") == ("/py", "-m", "reviews")
    assert check("docker.io/istio/examples-bookinfo-reviews-v3:1.20") == ("other",)
    assert check("nginx@sha256:abc") == ("nginx", "-g", "daemon off;")
    assert check("", Container("app", "nginx", args=["-v"])) == ("nginx", "-v")
    assert check("", Container("app", "nginx", command=["${python}"])) == ("${python}",)


def test_an_image_that_is_not_found_says_what_to_add_and_where() -> None:
    with pytest.raises(NotMapped) as refused:
        check("registry:5000/team/app:v1")
    assert 'add to second.yaml:\n---\nimages:\n  "registry:5000/team/app":\n    command: [' in str(refused.value)


def test_a_bad_map_leaves_the_others_standing() -> None:
    images, problems = read_images([("bad.yaml", "images: {x: {comand: [y]}}"), ("good.yaml", SECOND)])
    assert [problem.code for problem in problems] == ["image-map"]
    assert len(images.entries) == 1


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(B) $A $", "$(B) $A $"),
        ("$(A)$(A)", "11"),
        ("$(", "$("),
    ],
)
def test_references_are_replaced_as_kubernetes_does(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@pytest.mark.parametrize(
    ("text", "value"), [("250m", "0.25"), ("1Gi", str(1 << 30)), ("1.5k", "1500"), ("2e3", "2000"), (3, "3")]
)
def test_quantities(text: str | int, value: str) -> None:
    assert quantity(text) == Decimal(value)


def test_what_is_no_quantity_or_field_is_refused() -> None:
    with pytest.raises(Unresolved):
        quantity("lots")
    with pytest.raises(Unresolved):
        field_of(a_pod(), "spec.secret", Addresses())


def test_a_later_variable_sees_an_earlier_one_and_not_the_other_way() -> None:
    pod = a_pod()
    container = read_pod(
        {
            "metadata": {"name": "x"},
            "spec": {
                "containers": [{"name": "c", "env": [{"name": "A", "value": "$(B)"}, {"name": "B", "value": "b$(A)"}]}]
            },
        }
    ).spec.containers[0]
    assert variables_of(pod, container, Objects(), Addresses(), {"P": "/bin"}, Capacity()) == {
        "P": "/bin",
        "A": "$(B)",
        "B": "b$(B)",
    }


MACHINE = Machine(("/usr", "/etc", "/opt"), (("/bin", "usr/bin"),), ("/home/me/venv",), 41)
PLAIN = Identity(0, 0, (), nested=True, identity=True, dropped=(1, 60), no_new_privileges=False, read_only=False)


def test_a_volume_finds_a_place_that_the_machine_lacks() -> None:
    mounts = [
        Mount("/v/one", "/usr/share/lacking/html", writable=True),
        Mount("/v/two", "/anywhere/at/all", writable=False),
        Mount("/v/three", "/anywhere", writable=False),
        Mount("/v/file", "/bin/lacking", writable=False),
    ]
    folders = {"/v/one": True, "/v/two": True, "/v/three": True, "/v/file": False, "/usr/share": True}
    plan, skeleton = plan_of(
        MACHINE, PLAIN, Program(("x",), {}, "/"), mounts, root="/r", skeleton="/s", is_folder=folders.get, own_pids=True
    )
    assert skeleton.folders == ("/usr/share/lacking/html",)
    assert skeleton.files == ("/usr/bin/lacking",)
    assert plan["overlays"] == [(("/s/usr", "/usr"), "/usr"), (("/s/etc", "/etc"), "/etc")]
    assert plan["binds"] == [("/opt", "/opt", False), ("/home/me/venv", "/home/me/venv", False)]
    assert [mount.path for mount in plan["volumes"]] == [
        "/anywhere",
        "/anywhere/at/all",
        "/usr/bin/lacking",
        "/usr/share/lacking/html",
    ]
    assert plan["dropped"] == [1], "a capability that the kernel does not know cannot be dropped"


def test_a_volume_over_our_installation_does_not_hide_it() -> None:
    """A checkout below /tmp, and a pod with a /tmp of its own."""
    mounts = [Mount("/v/home", "/home", writable=True), Mount("/v/tmp", "/home/me/venv/tmp", writable=True)]
    plan, _ = plan_of(
        MACHINE,
        PLAIN,
        Program(("x",), {}, "/"),
        mounts,
        root="/r",
        skeleton="/s",
        is_folder=lambda _: True,
        own_pids=True,
    )
    assert plan["volumes"] == [
        Mount("/v/home", "/home", writable=True),
        Mount("/home/me/venv", "/home/me/venv", writable=False),
        Mount("/v/tmp", "/home/me/venv/tmp", writable=True),
    ]
    assert [path for path, _, _ in plan["binds"]] == ["/usr", "/opt"]


def test_what_is_not_honoured_is_said() -> None:
    container = {"name": "c", "ports": [{"containerPort": 1, "hostPort": 2}], "resources": {"limits": {"cpu": 1}}}
    pod = read_pod(
        {"metadata": {"name": "p"}, "spec": {"hostPID": True, "hostNetwork": True, "containers": [container]}}
    )
    said = security.decide(pod, pod.spec.containers[0], rootless=True).unhonoured
    assert [words.split()[0].strip(",") for words in said] == ["resources.limits", "hostNetwork", "hostPID", "hostPort"]


@pytest.mark.parametrize(
    ("context", "uid", "gid", "nested"),
    [
        ({}, 0, 0, True),
        ({"runAsUser": 5}, 5, 0, True),
        ({"runAsUser": 1337, "capabilities": {"add": ["NET_ADMIN"]}}, 1337, 0, False),
        ({"privileged": True}, 0, 0, False),
    ],
)
def test_who_a_program_is(context: dict[str, object], uid: int, gid: int, nested: bool) -> None:
    spec = {"containers": [{"name": "c", "securityContext": context}]}
    pod = read_pod({"metadata": {"name": "p"}, "spec": spec})
    identity = security.decide(pod, pod.spec.containers[0], rootless=False).identity
    assert (identity.uid, identity.gid, identity.nested) == (uid, gid, nested)
    kept = {name for number, name in enumerate(security.CAPABILITIES) if number not in identity.dropped}
    assert ("NET_ADMIN" in kept) is not nested
    assert ("MKNOD" in kept) is (nested or "privileged" in context)


CLUSTER = "nameserver 10.96.0.10\nsearch default.svc.cluster.local svc.cluster.local\noptions ndots:5\n"


def test_a_pod_adds_to_its_name_service_or_replaces_it() -> None:
    def check(spec: dict[str, object]) -> str:
        return resolv_conf_of(read_pod({"metadata": {"name": "p"}, "spec": spec}), CLUSTER)

    assert check({}) == CLUSTER
    config = {"nameservers": ["1.2.3.4"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}]}
    assert check({"dnsConfig": config}) == (
        "nameserver 10.96.0.10\nnameserver 1.2.3.4\n"
        "search default.svc.cluster.local svc.cluster.local x\noptions ndots:2\n"
    )
    assert check({"dnsPolicy": "None", "dnsConfig": config}) == "nameserver 1.2.3.4\nsearch x\noptions ndots:2\n"


def a_pod() -> Pod:
    return read_pod({"metadata": {"name": "p"}, "spec": {"containers": []}})
