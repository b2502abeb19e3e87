"""The mesh: services, endpoints, destinations, routes, gateways and who must prove who they are, in its own words.

    resources -> services, workloads -> endpoints, destinations -> routes, gateways, inbound -> what a client is sent

Every module holds the queries of one subject; `model` holds the nouns. What may differ between proxies is told by
`traits`: a value is shared by all clients that nothing tells apart. VirtualServices have a reader here, and so has
every kind that opens ports on gateways (`gateway_readers`); nothing below knows which it was.

This room knows no protobuf, no Kubernetes JSON, no sockets and no clocks.
"""
