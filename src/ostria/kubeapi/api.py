"""One whole API, put together: store, pipeline, access, server, housekeeping. What it stands on is passed in."""

from __future__ import annotations

from ostria.kubeapi.access import Access
from ostria.kubeapi.admission import Admission, Caller
from ostria.kubeapi.allocation import Ranges
from ostria.kubeapi.authentication import Authenticator
from ostria.kubeapi.authorization import Authorizer, bootstrap
from ostria.kubeapi.calls import Call, Options, Surroundings
from ostria.kubeapi.documents import documents
from ostria.kubeapi.forming import Forming
from ostria.kubeapi.gate import Gate
from ostria.kubeapi.housekeeping import Housekeeper
from ostria.kubeapi.namespaces import FIRST
from ostria.kubeapi.registry import Registry
from ostria.kubeapi.requests import Document, User
from ostria.kubeapi.reviews import Reviews
from ostria.kubeapi.schemas import Schemas
from ostria.kubeapi.server import Passage, Server, Settings
from ostria.kubeapi.service import Service
from ostria.kubeapi.store import Store
from ostria.kubeapi.subresources import Subresources
from ostria.kubeapi.tokens import Issuer

SYSTEM = User("system:apiserver", ("system:masters",))


class Api:
    """An API over one store. `server.app` is served, `keep_house` runs beside it; `server.end` comes first."""

    def __init__(
        self,
        store: Store,
        surroundings: Surroundings,
        ranges: Ranges,
        token_key: bytes,
        address: str,
        passage: Passage | None = None,
        caller: Caller | None = None,
    ) -> None:
        """`token_key` is a PEM for `tokens.Issuer`, `address` is where clients reach the server (HOST:PORT).

        Without a passage there is no way into pods: their logs, exec and the like answer that no node runs. Without a
        caller no webhook can be asked, and admission is by what is built in.
        """
        registry, schemas = Registry(), Schemas.load()
        issuer, authorizer = Issuer(token_key, store), Authorizer(store)
        forming = Forming(registry, schemas, surroundings, ranges)
        uid, suffix = surroundings.uid, surroundings.suffix
        asking = Admission(store, registry, authorizer, caller, uid, suffix) if caller is not None else None
        self.service = Service(store, registry, forming, asking or Gate(store), surroundings)
        self.server = Server(
            self.service,
            Access(Authenticator(issuer, surroundings.now), authorizer),
            Reviews(authorizer, issuer, surroundings.now),
            Subresources(self.service, issuer),
            passage,
            documents(registry, schemas, issuer, address),
            Settings(address),
        )
        self._housekeeper = Housekeeper(self.service)

    async def prepare(self) -> None:
        """Make what is there from the first start on, where it is missing: namespaces, roles and their bindings."""
        first: list[Document] = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in FIRST
        ]
        for document in (*first, *bootstrap()):
            group, _, version = document["apiVersion"].rpartition("/")
            found = self.service.registry.of_kind(group, document["kind"])
            assert found is not None, f"{document['kind']} in {version} is not served"
            metadata = document["metadata"]
            namespace = metadata.get("namespace", "") if found.namespaced else ""
            if self.service.store.get(found.key, namespace, metadata["name"]) is None:
                call = Call(SYSTEM, found, namespace, options=Options(manager="apiserver"))
                await self.service.create(call, document)

    async def keep_house(self) -> None:
        """Do what follows from deletions, until cancelled."""
        await self._housekeeper.run()
