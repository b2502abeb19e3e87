"""The node's network: pods' links and addresses, Services' virtual addresses, names, the way out and the way in.

It lives in a network namespace of its own and never touches the host's. Three parties make it up:

    the kernel    links, routes and packet rules in that namespace, which stand as long as the zygote does
    resident      one process on the host that names, relays and listens; it outlives the node and is found again
    Network       the node's handle: it gives pods their addresses, and tells kernel and resident what has changed

What is inside the namespace is reached by sockets from the zygote (`broker`), so nothing here needs to enter it.
Nothing is imported here, so that the resident process loads what it needs and no more: use `network.Network`.
"""
