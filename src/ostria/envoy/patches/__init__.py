"""What people change of the configuration that is generated: EnvoyFilter's patches, on the smallest part that they own.

    EnvoyFilter -> compiled (once) -> in effect for a client and a resource -> cluster | listener | virtual host | table

`places` finds the objects that may concern one resource from its name alone, so that an object costs only what it
names; `compiled` reads their patches; `clusters`, `listeners` and `routes` change messages, and know no engine; `hook`
is what generation passes through. A resource that nothing concerns passes as the bytes that it is.
"""
