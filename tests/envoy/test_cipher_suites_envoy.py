"""The names of cipher suites and curves, asked of a real Envoy: it takes all of ours, and none that we leave out."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess

import pytest

from doubles.certificates import Authority
from doubles.file_envoy import envoy_path
from ostria.resources.cipher_suites import ALL, CURVES, SUITES, servable

pytestmark = pytest.mark.envoy

SEED = [
    "CHACHA20-POLY1305-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-SHA384",
    "ECDHE-ECDSA-AES256-SHA256",
    "ECDHE-RSA-AES256-SHA256",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
]
"""The list that operators of EKS copy from one another."""

# Suites of OpenSSL's, of the registry's and of TLS 1.3's names that are in use, beyond those of the table.
OTHERS = [
    "ECDHE-RSA-AES256-SHA384",
    "ECDHE-RSA-CHACHA20-POLY1305-SHA256",
    "AES128-SHA256",
    "AES256-SHA256",
    "RC4-SHA",
    "ECDHE-RSA-DES-CBC3-SHA",
    "DHE-RSA-AES256-GCM-SHA384",
    "DHE-RSA-AES128-GCM-SHA256",
    "DHE-RSA-AES256-SHA",
    "AES256-CCM",
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "AEAD-AES128-GCM-SHA256",
    "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_RC4_128_SHA",
    "ecdhe-rsa-aes128-gcm-sha256",
]
OTHER_CURVES = ("X448", "P-224", "secp256r1", "p-256", "MLKEM768")


def refused_by_envoy(folder: pathlib.Path, **parameters: list[str]) -> str:
    """What Envoy says of a listener with these TLS parameters; "" if it takes them."""
    identity = Authority().issue("a.example")
    certificate = {
        "certificate_chain": {"inline_string": identity.certificate.decode()},
        "private_key": {"inline_string": identity.key.decode()},
    }
    base = "type.googleapis.com/envoy.extensions"
    socket = {
        "@type": f"{base}.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_params": parameters, "tls_certificates": [certificate]},
    }
    proxy = {"@type": f"{base}.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "a"}
    chain = {
        "filters": [{"name": "a", "typed_config": proxy}],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": socket},
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    resources = {
        "listeners": [{"name": "a", "address": address, "filter_chains": [chain]}],
        "clusters": [{"name": "a"}],
    }
    file = folder / "envoy.json"
    file.write_text(json.dumps({"static_resources": resources}))
    command = [envoy_path(), "--mode", "validate", "-c", str(file), "--disable-hot-restart"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_envoy_takes_every_suite_of_the_table_and_each_curve(tmp_path: pathlib.Path) -> None:
    suites = [*SUITES, *SUITES.values(), ALL]
    assert refused_by_envoy(tmp_path, cipher_suites=suites, ecdh_curves=sorted(CURVES)) == ""


def test_envoy_takes_none_of_those_that_are_left_out(tmp_path: pathlib.Path) -> None:
    said = refused_by_envoy(tmp_path, cipher_suites=[*OTHERS, *SEED])
    tried = re.search(r"rejected when tried individually: ([^\n]*)", said)
    assert tried is not None, said
    refused = {name.strip() for name in tried[1].split(",")}
    assert refused == {name for name in (*OTHERS, *SEED) if not servable((name,))}
    assert refused & set(SEED) == {
        "CHACHA20-POLY1305-SHA256",
        "ECDHE-ECDSA-AES256-SHA384",
        "ECDHE-ECDSA-AES256-SHA256",
        "ECDHE-RSA-AES256-SHA256",
    }


@pytest.mark.parametrize("curve", OTHER_CURVES)
def test_a_curve_that_envoy_does_not_take_is_not_of_the_table(curve: str, tmp_path: pathlib.Path) -> None:
    assert curve not in CURVES
    assert "ECDH curves" in refused_by_envoy(tmp_path, ecdh_curves=[curve])
