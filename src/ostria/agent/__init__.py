"""What runs beside a workload: its identity's files, Envoy's life, readiness, probes, and the drain at the end.

    main -> settings -> proxy: status server (:15020), identity keeper, Envoy's supervisor, on one small loop;
                         |     where DNS is captured the name server (:15053), with names from the control plane
                         |
                         +-- short-lived children do what needs libraries: keys, requests, Envoy's bootstrap

One such process is resident in every pod, so its memory is counted: what stays loaded is the standard library's
sockets and JSON and no more; no asyncio, no TLS, no protobuf. `main(argv, env)` can be called in a process that was
forked from one in which this room is loaded already. It must never know the mesh model.
"""
