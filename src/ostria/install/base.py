"""What every revision shares: the namespace, and the kinds."""

from __future__ import annotations

from ostria.install import stored
from ostria.install.installation import Installation
from ostria.install.objects import Document, made
from ostria.resources import schemas


def documents(installation: Installation) -> tuple[Document, ...]:
    """The namespace and the CRDs, of kinds that are acted on and of those that are stored only.

    A cluster's CRDs of the Gateway API are not a mesh's to bring: it has them, or whoever wants them adds them (as in
    Istio). On one machine there is nobody else.
    """
    standard = schemas.crds(standard=True) if installation.machine is not None else []
    return (made("Namespace", installation.namespace), *schemas.crds(), *stored.crds(), *standard)
