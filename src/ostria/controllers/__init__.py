"""What the mesh itself writes, and the one way of writing it.

    pure query of desired writes -> Desk (what differs, once each) -> Writer (memory, a Kubernetes API, a folder)

A controller here is a query; nothing but `writer` writes, and it never writes what it has read as equal.
"""
