"""Services that answer as Istio's samples do, so that the samples' own manifests run without their images.

Each is a program: `python -m ostria.samples NAME [ARGUMENT…]`; `images.yaml` says which image stands for which. They
use the standard library alone, start in a blink and know nothing of the mesh they run in: what a service mesh adds
must be seen to come from the mesh.
"""
