"""A Kubernetes-compatible API server for one machine: the kinds a mesh touches, and what kubectl asks of them.

    request -> who is it (authentication) -> may they (authorization) -> decode, default, check (schemas, strategy)
            -> admission webhooks -> Store (SQLite) -> watches

A conformant subset, not a distribution. It knows no kind of the mesh's: those come as CustomResourceDefinitions.
"""
