"""What is installed, said once: the same manifests for one machine and for a cluster.

    profile, IstioOperator files, --set -> read -> Installation -> render -> manifests
        -> apply (server-side apply, in order; what is waited for; pruning) -> verify

Everything but `apply` is pure. Names, labels and words are those of `istioctl install`, so that what people look for is
where they look for it. Nothing here knows traffic.
"""

from ostria.install.installation import Installation, OneMachine, read
from ostria.install.manifests import Part, manifest_generate, render
from ostria.install.profiles import PROFILES
from ostria.install.verification import Report

__all__ = [
    "PROFILES",
    "Installation",
    "OneMachine",
    "Part",
    "Report",
    "manifest_generate",
    "read",
    "render",
]
