"""What validation says, and about which field; the verdicts themselves are held by the conformance suite."""

from __future__ import annotations

import pytest
import yaml

from ostria.base import Level
from ostria.resources import read_text

VERSIONS = {
    "PeerAuthentication": "security.istio.io/v1",
    "AuthorizationPolicy": "security.istio.io/v1",
    "EnvoyFilter": "networking.istio.io/v1alpha3",
    "WasmPlugin": "extensions.istio.io/v1alpha1",
    "TrafficExtension": "extensions.istio.io/v1alpha1",
}


def check(kind: str, spec: str, *expected: str) -> None:
    """The problems of an object with this spec, each as "level code field"."""
    head = f"apiVersion: {VERSIONS.get(kind, 'networking.istio.io/v1')}\nkind: {kind}\nmetadata: {{name: a}}\n"
    (change,) = read_text(head + yaml.safe_dump({"spec": yaml.safe_load(spec)}), "f.yaml", namespace="own").changes
    assert [f"{problem.level} {problem.code} {problem.field}" for problem in change.problems] == list(expected)
    assert all(problem.origin is not None and problem.origin.line for problem in change.problems)
    assert (change.object is None) == any(problem.level is Level.ERROR for problem in change.problems)


TO_B = "route: [{destination: {host: b}}]"


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        (f"{{{TO_B}, timeout: 0s}}", ()),
        (f"{{{TO_B}, timeout: 1us}}", ("error invalid-value spec.http[0].timeout",)),
        (f"{{{TO_B}, timeout: 1.5ms}}", ("error invalid-value spec.http[0].timeout",)),
        (f"{{{TO_B}, redirect: {{uri: /a}}}}", ("error conflicting-fields spec.http[0].redirect",)),
        ("{redirect: {redirectCode: 200}}", ("error invalid-value spec.http[0].redirect.redirectCode",)),
        ("{match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b}}", ()),
        (
            "{match: [{uri: {exact: /a}}], redirect: {uri: /c, prefixRewrite: /b}}",
            (
                "error conflicting-fields spec.http[0].redirect.prefixRewrite",
                "error conflicting-fields spec.http[0].redirect.prefixRewrite",
            ),
        ),
        (f"{{{TO_B}, match: [{{withoutHeaders: {{x: {{regex: '*'}}}}}}]}}", ()),
        ("{redirect: {uri: /}, rewrite: {uri: /}}", ("error conflicting-fields spec.http[0].rewrite",)),
        ("{match: [{uri: {exact: /}}]}", ("error required-field spec.http[0]",)),
        (
            "{route: [{destination: {host: b}}, {destination: {host: c}}]}",
            ("error invalid-value spec.http[0].route",),
        ),
        (
            f"{{{TO_B}, match: [{{headers: {{x.y: {{regex: '('}}}}}}]}}",
            ('error invalid-value spec.http[0].match[0].headers["x.y"].regex',),
        ),
        (f"{{{TO_B}, match: [{{uri: {{regex: '\\pL+(?i)a'}}}}]}}", ()),
        (f"{{{TO_B}, retries: {{perTryTimeout: 1s}}}}", ("error conflicting-fields spec.http[0].retries.attempts",)),
        (
            f"{{{TO_B}, retries: {{attempts: 2, retryOn: '5xx, 503,bad'}}}}",
            ("error invalid-value spec.http[0].retries.retryOn",),
        ),
        (
            f"{{{TO_B}, fault: {{abort: {{percentage: {{value: 101}}, httpStatus: 99}}}}}}",
            (
                "error invalid-value spec.http[0].fault.abort.percentage.value",
                "error invalid-value spec.http[0].fault.abort.httpStatus",
            ),
        ),
        (
            f"{{{TO_B}, fault: {{delay: {{percent: 10, fixedDelay: 5s}}}}}}",
            ("warning deprecated-field spec.http[0].fault.delay.percent",),
        ),
        (
            f"{{{TO_B}, headers: {{response: {{set: {{':status': '200'}}}}, request: {{remove: [host]}}}}}}",
            (
                "error invalid-value spec.http[0].headers.request.remove[0]",
                'error invalid-value spec.http[0].headers.response.set[":status"]',
            ),
        ),
        (
            f"{{{TO_B}, mirror: {{host: c}}, mirrors: [{{destination: {{host: d}}}}]}}",
            ("error conflicting-fields spec.http[0].mirrors",),
        ),
    ],
)
def test_an_http_route(http: str, expected: tuple[str, ...]) -> None:
    check("VirtualService", f"{{hosts: [a], http: [{http}]}}", *expected)


def test_a_route_behind_one_that_takes_everything() -> None:
    spec = f"{{hosts: [a], http: [{{{TO_B}}}, {{{TO_B}, match: [{{uri: {{exact: /}}}}]}}]}}"
    check("VirtualService", spec, "warning no-effect spec.http[1]")


@pytest.mark.parametrize(
    ("field", "first", "second", "found"),
    [
        ("http", "{uri: {prefix: /a}}", "{uri: {exact: /a/b}}", "http[1]"),
        ("http", "{uri: {exact: /a/b}}", "{uri: {prefix: /a}}", ""),
        ("http", "{uri: {prefix: /}}", "{method: {exact: GET}}", "http[1]"),
        ("http", "{port: 80}", "{uri: {prefix: /a}}", ""),
        ("http", "{uri: {prefix: /a}, port: 80}", "{uri: {prefix: /a}}", ""),
        ("http", "{headers: {x: {exact: a}}}", "{headers: {z: {exact: a}}}", ""),
        ("http", "{headers: {x: {}}}", "{headers: {x: {exact: a}}}", "http[1]"),
        ("http", "{withoutHeaders: {x: {}}}", "{uri: {prefix: /a}}", ""),
        ("http", "{uri: {regex: /a.*}}", "{name: again, uri: {regex: /a.*}}, {uri: {exact: /b}}", "http[1].match[0]"),
        ("http", "{sourceLabels: {a: b}}", "{sourceLabels: {a: c}}", ""),
        ("http", "{gateways: [mesh]}", "{uri: {prefix: /a}}", ""),
        ("tls", "{sniHosts: [a]}", "{sniHosts: [a], port: 443}", "tls[1]"),
        ("tls", "{sniHosts: [a], port: 443}", "{sniHosts: [a]}", ""),
        ("tcp", "", "{port: 9000}", "tcp[1]"),
        ("tcp", "{port: 9000}", "{destinationSubnets: [10.0.0.0/8]}", ""),
        ("tcp", "{sourceLabels: {a: b}}", "{sourceLabels: {a: b}, destinationSubnets: [10.0.0.0/8]}", "tcp[1]"),
    ],
)
def test_rules_that_nothing_comes_to(field: str, first: str, second: str, found: str) -> None:
    rules = ", ".join(f"{{{TO_B}, match: [{match}]}}" for match in (first, second))
    check(
        "VirtualService", f"{{hosts: [a], {field}: [{rules}]}}", *([f"warning no-effect spec.{found}"] if found else ())
    )


def test_what_is_delegated_may_be_a_part_of_the_requests_only() -> None:
    check("VirtualService", f"{{hosts: [a], http: [{{delegate: {{name: x}}}}, {{{TO_B}}}]}}")


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ("['*']", ()),
        ("[., other]", ()),
        ("[., own]", ("error duplicate-value spec.exportTo[1]",)),
        ("['*', other]", ("error conflicting-fields spec.exportTo[0]",)),
        ("['~']", ("error invalid-value spec.exportTo[0]",)),
        ("[A_b]", ("error invalid-value spec.exportTo[0]",)),
    ],
)
def test_export_to(scopes: str, expected: tuple[str, ...]) -> None:
    check("DestinationRule", f"{{host: a, exportTo: {scopes}}}", *expected)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("{}", ("error required-field spec.trafficPolicy",)),
        ("{connectionPool: {}}", ("error required-field spec.trafficPolicy.connectionPool",)),
        (
            "{connectionPool: {http: {maxRetries: -1}}}",
            ("error invalid-value spec.trafficPolicy.connectionPool.http.maxRetries",),
        ),
        (
            "{outlierDetection: {maxEjectionPercent: 120, consecutiveErrors: 1}}",
            (
                "error invalid-value spec.trafficPolicy.outlierDetection.maxEjectionPercent",
                "warning deprecated-field spec.trafficPolicy.outlierDetection.consecutiveErrors",
            ),
        ),
        (
            "{loadBalancer: {simple: RANDOM, warmup: {duration: 1s}}}",
            ("error conflicting-fields spec.trafficPolicy.loadBalancer.warmup",),
        ),
        (
            "{loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 60, c: 30}}]}}}",
            ("error invalid-value spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to",),
        ),
        (
            "{portLevelSettings: [{tls: {mode: SIMPLE}}]}",
            ("error required-field spec.trafficPolicy.portLevelSettings[0].port",),
        ),
        ("{tls: {mode: MUTUAL, clientCertificate: a}}", ("error required-field spec.trafficPolicy.tls",)),
        (
            "{tls: {mode: ISTIO_MUTUAL, caCertificates: a}}",
            ("warning no-effect spec.trafficPolicy.tls.caCertificates",),
        ),
    ],
)
def test_a_traffic_policy(policy: str, expected: tuple[str, ...]) -> None:
    check("DestinationRule", f"{{host: a, trafficPolicy: {policy}}}", *expected)


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("{port: {number: 80, name: a, protocol: HTTP}, hosts: [ns/a.com, ./b.com, '*']}", ()),
        (
            "{port: {number: 0, name: a, protocol: HTTP}, hosts: [a.com]}",
            ("error invalid-value spec.servers[0].port.number",),
        ),
        (
            "{port: {number: 1, name: a, protocol: FTP}, hosts: [a.com]}",
            ("error invalid-value spec.servers[0].port.protocol",),
        ),
        (
            "{port: {number: 1, name: a, protocol: HTTPS}, hosts: [a.com]}",
            ("error required-field spec.servers[0].tls",),
        ),
        (
            "{port: {number: 1, name: a, protocol: HTTPS}, hosts: [a.com], tls: {mode: SIMPLE}}",
            ("error required-field spec.servers[0].tls", "error required-field spec.servers[0].tls"),
        ),
        (
            "{port: {number: 1, name: a, protocol: TCP}, hosts: [a.com], tls: {httpsRedirect: true}}",
            ("error conflicting-fields spec.servers[0].tls",),
        ),
        ("{port: {number: 1, name: a, protocol: TCP}, hosts: []}", ("error required-field spec.servers[0].hosts",)),
        (
            "{port: {number: 1, name: a, protocol: TCP}, hosts: [a.com], bind: localhost}",
            ("error invalid-value spec.servers[0].bind",),
        ),
    ],
)
def test_a_server(server: str, expected: tuple[str, ...]) -> None:
    check("Gateway", f"{{servers: [{server}]}}", *expected)


SUITES = "spec.servers[0].tls.cipherSuites"


@pytest.mark.parametrize(
    ("tls", "expected"),
    [
        ("{cipherSuites: [AES128-SHA, TLS_RSA_WITH_AES_128_CBC_SHA]}", (f"warning duplicate-value {SUITES}[1]",)),
        ("{cipherSuites: [ALL]}", ()),
        ("{cipherSuites: [AES128-SHA, RC4-SHA]}", (f"warning unknown-cipher-suite {SUITES}[1]",)),
        (
            "{cipherSuites: [TLS_AES_128_GCM_SHA256]}",
            (f"warning unknown-cipher-suite {SUITES}[0]", f"warning no-effect {SUITES}"),
        ),
        ("{cipherSuites: [AES128-SHA], maxProtocolVersion: TLSV1_3}", (f"info cipher-suites-of-older-tls {SUITES}",)),
        ("{cipherSuites: [AES128-SHA], minProtocolVersion: TLSV1_3}", (f"warning no-effect {SUITES}",)),
        ("{cipherSuites: [AES128-SHA], mode: PASSTHROUGH}", ("warning no-effect spec.servers[0].tls.mode",)),
    ],
)
def test_cipher_suites(tls: str, expected: tuple[str, ...]) -> None:
    given = {"mode": "SIMPLE", "credentialName": "a", "maxProtocolVersion": "TLSV1_2"} | yaml.safe_load(tls)
    if given["mode"] == "PASSTHROUGH":
        del given["credentialName"], given["maxProtocolVersion"]
    if given.get("minProtocolVersion"):
        del given["maxProtocolVersion"]
    server = {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": ["a.example"], "tls": given}
    check("Gateway", yaml.safe_dump({"servers": [server]}), *expected)


def test_the_seeds_list_is_taken_and_each_unknown_name_has_a_nearest() -> None:
    """As it is printed: without a mode, and with four names that Envoy does not know."""
    text = """
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: foo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: https, protocol: HTTPS}
    hosts: [foo.example.com]
    tls:
      cipherSuites:
      - CHACHA20-POLY1305-SHA256
      - ECDHE-ECDSA-AES256-GCM-SHA384
      - ECDHE-ECDSA-AES128-GCM-SHA256
      - ECDHE-RSA-AES128-GCM-SHA256
      - ECDHE-ECDSA-AES256-SHA384
      - ECDHE-ECDSA-AES256-SHA256
      - ECDHE-RSA-AES256-SHA256
      - ECDHE-ECDSA-AES256-SHA
      - ECDHE-RSA-AES256-SHA
      - ECDHE-RSA-AES256-GCM-SHA384
      - AES256-GCM-SHA384
      - AES128-GCM-SHA256
"""
    (change,) = read_text(text, "f.yaml").changes
    assert change.object is not None
    said = [
        (problem.level, problem.field.removeprefix("spec.servers[0].tls."), problem.hint) for problem in change.problems
    ]
    near = "the nearest that it knows is "
    assert said == [
        (
            Level.WARNING,
            "cipherSuites[0]",
            f"{near}ECDHE-RSA-CHACHA20-POLY1305 or ECDHE-ECDSA-CHACHA20-POLY1305",
        ),
        (Level.WARNING, "cipherSuites[4]", f"{near}ECDHE-ECDSA-AES256-GCM-SHA384, which the list has"),
        (Level.WARNING, "cipherSuites[5]", f"{near}ECDHE-ECDSA-AES256-GCM-SHA384, which the list has"),
        (Level.WARNING, "cipherSuites[6]", f"{near}ECDHE-RSA-AES256-GCM-SHA384, which the list has"),
        (Level.WARNING, "mode", "write mode: SIMPLE, and credentialName for the certificate"),
    ]


def test_a_service_entry_tells_all_at_once() -> None:
    check(
        "ServiceEntry",
        "{hosts: ['*'], addresses: [1.2.3.4/33], resolution: STATIC, ports: [{number: 0, name: A, protocol: HTTP}],"
        " endpoints: [{address: a.com, ports: {b: 1}, labels: {'': x}}]}",
        "error invalid-value spec.hosts[0]",
        "error invalid-value spec.addresses[0]",
        "error invalid-value spec.ports[0].name",
        "error invalid-value spec.ports[0].number",
        "error invalid-value spec.endpoints[0].address",
        "error invalid-value spec.endpoints[0].ports.b",
        "error invalid-value spec.endpoints[0].labels",
    )


def test_a_peer_authentication() -> None:
    check("PeerAuthentication", "{mtls: {mode: STRICT}}")
    check(
        "PeerAuthentication",
        "{selector: {matchLabels: {app: 'a*'}}, portLevelMtls: {'70000': {}, http: {}}}",
        "error invalid-value spec.selector.matchLabels.app",
        "error invalid-value spec.portLevelMtls.70000",
        "error invalid-value spec.portLevelMtls.http",
    )


ACCESS = "spec.rules[0]"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{}", ()),
        ("{action: DENY}", ("error required-field spec.rules",)),
        ("{action: DENY, rules: [{}]}", ()),
        ("{action: CUSTOM, rules: [{}], provider: {name: opa}}", ()),
        ("{action: CUSTOM, rules: [{}]}", ("error required-field spec.provider.name",)),
        ("{rules: [{}], provider: {name: opa}}", ("error conflicting-fields spec.provider",)),
        (
            "{selector: {matchLabels: {app: a}}, targetRefs: [{kind: Service, name: b}]}",
            ("error conflicting-fields spec.targetRefs",),
        ),
        ("{rules: [{from: [{}]}]}", (f"error required-field {ACCESS}.from[0].source",)),
        (
            "{rules: [{to: [{operation: {ports: ['70000']}}]}]}",
            (f"error invalid-value {ACCESS}.to[0].operation.ports[0]",),
        ),
        (
            "{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8, 10.0.0.256]}}]}]}",
            (f"error invalid-value {ACCESS}.from[0].source.ipBlocks[1]",),
        ),
        (
            "{rules: [{from: [{source: {serviceAccounts: [a/b/c, n/a], namespaces: [ns]}}]}]}",
            (
                f"error conflicting-fields {ACCESS}.from[0].source.serviceAccounts",
                f"error invalid-value {ACCESS}.from[0].source.serviceAccounts[0]",
            ),
        ),
        ("{rules: [{to: [{operation: {paths: ['/a/{*}/b/{**}', '/{**}/c', '/plain*']}}]}]}", ()),
        *(
            (
                f"{{rules: [{{to: [{{operation: {{paths: ['{path}']}}}}]}}]}}",
                (f"error invalid-value {ACCESS}.to[0].operation.paths[0]",),
            )
            for path in (
                "/a/{*}x",
                "/{**}/{*}",
                "/{**}/{**}",
                "/{*}/*",
                "/{*}/{name}",
                "/{*}/{name=*}",
                "{*}",
                "/{*}/a b",
                "/{*}//",
                "//{*}",
            )
        ),
        ("{rules: [{when: [{key: 'request.headers[x-a]', values: [a]}]}]}", ()),
        ("{rules: [{when: [{key: 'request.auth.claims[a][b]', notValues: [a]}]}]}", ()),
        ("{rules: [{when: [{key: source.serviceAccount, values: [n/a]}]}]}", ()),
        ("{rules: [{when: [{key: 'experimental.envoy.filters.a.b[c]', values: ['[a]']}]}]}", ()),
        *(
            (f"{{rules: [{{when: [{{key: '{key}', values: [a]}}]}}]}}", (f"error invalid-value {ACCESS}.when[0].key",))
            for key in (
                "request.headers",
                "request.headersx[a]",
                "request.headers[]",
                "source.ipx",
                "destination.labels[a]",
            )
        ),
        ("{rules: [{when: [{key: source.ip}]}]}", (f"error required-field {ACCESS}.when[0].values",)),
        (
            "{action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
            (f"warning selects-everything {ACCESS}",),
        ),
        ("{action: DENY, rules: [{to: [{operation: {methods: [GET], ports: ['80']}}]}]}", ()),
    ],
)
def test_an_authorization_policy(spec: str, expected: tuple[str, ...]) -> None:
    check("AuthorizationPolicy", spec, *expected)


PATCH = "spec.configPatches[0]"
CORS = "'@type': type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ("{applyTo: CLUSTER, patch: {operation: REMOVE}}", ()),
        ("{patch: {operation: REMOVE}}", (f"error required-field {PATCH}.applyTo",)),
        ("{applyTo: CLUSTER}", (f"error required-field {PATCH}.patch",)),
        ("{applyTo: CLUSTER, patch: {value: {}}}", (f"error required-field {PATCH}.patch.operation",)),
        ("{applyTo: CLUSTER, patch: {operation: MERGE}}", (f"error required-field {PATCH}.patch.value",)),
        (
            "{applyTo: CLUSTER, match: {listener: {}}, patch: {operation: REMOVE}}",
            (f"error conflicting-fields {PATCH}.match.listener",),
        ),
        (
            "{applyTo: LISTENER, match: {cluster: {}}, patch: {operation: REMOVE}}",
            (f"error conflicting-fields {PATCH}.match.cluster",),
        ),
        (
            "{applyTo: CLUSTER, match: {proxy: {proxyVersion: '('}}, patch: {operation: REMOVE}}",
            (f"error invalid-value {PATCH}.match.proxy.proxyVersion",),
        ),
        (
            "{applyTo: NETWORK_FILTER, match: {listener: {filterChain: {filter: {name: a, subFilter: {name: b}}}}},"
            " patch: {operation: REMOVE}}",
            (f"error conflicting-fields {PATCH}.match.listener.filterChain.filter.subFilter",),
        ),
        (
            "{applyTo: FILTER_CHAIN, match: {listener: {filterChain: {filter: {name: envoy.router}}}},"
            " patch: {operation: REMOVE}}",
            (
                f"warning no-effect {PATCH}.match.listener.filterChain.filter",
                f"warning deprecated-field {PATCH}.match.listener.filterChain.filter.name",
            ),
        ),
        (
            "{applyTo: ROUTE_CONFIGURATION, patch: {operation: REMOVE}}",
            (f"warning no-effect {PATCH}.patch.operation",),
        ),
        (
            "{applyTo: CLUSTER, patch: {operation: ADD, value: {name: a, connect_timeout: soon, lbPolicy: BEST}}}",
            (
                f"error invalid-value {PATCH}.patch.value.connect_timeout",
                f"error invalid-value {PATCH}.patch.value.lbPolicy",
            ),
        ),
        (
            "{applyTo: CLUSTER, patch: {operation: ADD, value: {load_assignment: {endpoints: [{lb_endpoints: 1}]}}}}",
            (f"error invalid-value {PATCH}.patch.value.load_assignment.endpoints[0].lb_endpoints",),
        ),
        (
            f"{{applyTo: HTTP_FILTER, patch: {{operation: ADD, value: {{name: a, typed_config: {{{CORS}, b: 1}}}}}}}}",
            (f"warning unknown-field {PATCH}.patch.value.typed_config.b",),
        ),
        (
            "{applyTo: HTTP_FILTER, patch: {operation: ADD, value: {typed_config:"
            " {'@type': type.googleapis.com/envoy.config.filter.http.lua.v2.Lua}}}}",
            (f'error invalid-value {PATCH}.patch.value.typed_config["@type"]',),
        ),
        (
            "{applyTo: HTTP_FILTER, patch: {operation: ADD, value: {typed_config:"
            " {'@type': type.googleapis.com/envoy.extensions.filters.http.tomorrow.v3.Config, a: 1}}}}",
            (f'warning unknown-field {PATCH}.patch.value.typed_config["@type"]',),
        ),
    ],
)
def test_patches(patch: str, expected: tuple[str, ...]) -> None:
    check("EnvoyFilter", f"{{configPatches: [{patch}]}}", *expected)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (f"{{url: a, sha256: '{'g' * 64}'}}", ("error invalid-value spec.sha256",)),
        (f"{{url: 'oci://a@sha256:{'a' * 64}', sha256: '{'b' * 64}'}}", ("error conflicting-fields spec.sha256",)),
        ("{url: 'ftp://a'}", ("error invalid-value spec.url",)),
        ("{url: a, imagePullSecret: ''}", ("error invalid-value spec.imagePullSecret",)),
        (
            "{url: a, selector: {matchLabels: {app: a}}, targetRefs: [{kind: Service, name: a}]}",
            ("error conflicting-fields spec.targetRefs",),
        ),
        ("{url: a, targetRefs: [{kind: Pod}]}", (
            "error invalid-value spec.targetRefs[0].kind", "error required-field spec.targetRefs[0].name"
        )),
        ("{url: a, match: [{ports: [{number: 1}, {number: 1}]}]}", (
            "error duplicate-value spec.match[0].ports[1].number",
        )),
        ("{url: a, verificationKey: k}", ("warning no-effect spec.verificationKey",)),
    ],
)  # fmt: skip
def test_modules(spec: str, expected: tuple[str, ...]) -> None:
    check("WasmPlugin", spec, *expected)


def test_an_extension_is_either_a_module_or_a_script() -> None:
    check("TrafficExtension", "{}", "error required-field spec")
    check("TrafficExtension", "{lua: {inlineCode: ''}}", "error required-field spec.lua.inlineCode")
    check("TrafficExtension", "{wasm: {url: 'ftp://a'}}", "error invalid-value spec.wasm.url")
