"""What the mesh writes for the Gateway API: statuses, and the proxies of Gateways that name none.

    mesh.gateway_api (what was decided) -> conditions, attachedRoutes, addresses -> patches of what differs

Nothing is decided here a second time. Parts of a status that others write stay as they are.
"""
