"""The few controllers that a cluster of one machine has, so that what people write comes to pods.

    objects (a View, read through one list-watch) -> reconcile(view, key, now) -> writes, and when to look again

Each controller is a module of pure functions. `runner` is the only one that touches the API: it keeps the View, queues
the keys that a change concerns, and makes the writes. `table` names them all. What a controller decides follows
https://kubernetes.io/docs/concepts/workloads/ and its neighbours; nothing of a mesh is known here.
"""
