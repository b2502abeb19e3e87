"""Requests for certificates: whoever asks is who the API server knows, and kubectl approves and denies them."""

from __future__ import annotations

import base64
import json

from doubles.api_process import Session
from doubles.authorities import csr

REQUEST = """
apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec:
  request: {request}
  signerName: example.com/test
  usages: [client auth]
  username: somebody-else
  expirationSeconds: 3600
"""


def test_kubectl_approves_and_denies_requests(kubectl: Session) -> None:
    request = base64.b64encode(csr()).decode()
    one, two = f"one-{kubectl.namespace}", f"two-{kubectl.namespace}"
    for name, verb in ((one, "approve"), (two, "deny")):
        made = kubectl("create", "-f", "-", stdin=REQUEST.format(name=name, request=request))
        assert made.code == 0, made.err
        assert "Pending" in kubectl("get", "csr", name).out
        done = kubectl("certificate", verb, name)
        assert done.code == 0, done.err
    shown = json.loads(kubectl("get", "csr", one, "-o", "json").out)
    assert [each["type"] for each in shown["status"]["conditions"]] == ["Approved"]
    # Who asks is who the API server knows them to be, and what they ask does not change.
    assert shown["spec"]["username"] != "somebody-else"
    assert "Denied" in kubectl("get", "csr", two).out
    refused = kubectl("certificate", "approve", two)
    assert "Denied" in kubectl("get", "csr", two).out, refused.err
