"""One machine's kubelet without containers: pods are Linux namespaces, images are names of commands.

It is no container runtime and no distribution of Kubernetes: what it runs are programs of this machine, seen through a
root of read-only binds. What a pod means to a mesh is never known here.

Resident modules (`zygote`, `pod_init` and what they import) are kept to the standard library, because every pod pays
for what they load; nothing is therefore imported here.
"""
