"""The readers of the Gateway API: what its Gateways serve, which routes are theirs, and what was wrong with either.

    Gateway, ListenerSet -> listeners (certificates, conflicts) -> servers
    a route's parentRefs -> parents (which listeners took it, and why the others did not)
    its rules            -> http_rules, connections -> the same routes that every other reader yields

A verdict is a value like any other: statuses are written from what was decided here, and nothing decides it again.
What the API leaves open is as in Istio: https://istio.io/latest/docs/tasks/traffic-management/ingress/gateway-api/.
"""
