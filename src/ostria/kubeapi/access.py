"""The server's door: who asks, as whom, and whether they may. Pure.

    (headers, certificate) -> Authenticator -> [impersonation, if they may] -> User -> Authorizer -> in, or 401 or 403

Impersonation: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from urllib.parse import unquote

from ostria.kubeapi.authentication import AUTHENTICATED, Authenticator
from ostria.kubeapi.authorization import Authorizer, refused
from ostria.kubeapi.errors import bad_request
from ostria.kubeapi.kinds import AUTHENTICATION
from ostria.kubeapi.requests import Attributes, User

_AS = "impersonate-"
_ACCOUNT = "system:serviceaccount:"


class Access:
    """Authentication and authorization of one server's requests."""

    def __init__(self, authenticator: Authenticator, authorizer: Authorizer) -> None:
        self._authenticator = authenticator
        self.authorizer = authorizer

    def authenticate(self, headers: Mapping[str, str], certificate: bytes | None) -> User:
        """The caller, or whom they speak for. Raises StatusError (401, and 403 if they may not speak for them)."""
        user = self._authenticator.identify(headers, certificate)
        wished: defaultdict[str, list[str]] = defaultdict(list)
        for name, value in headers.items():
            if name.lower().startswith(_AS):
                wished[name.lower().removeprefix(_AS)].append(value)
        return self._impersonate(user, wished) if wished else user

    def authorize(self, user: User, about: Attributes) -> None:
        """Raises StatusError (403) if they may not."""
        if not self.authorizer.decide(user, about).allowed:
            raise refused(user, about)

    def _impersonate(self, user: User, wished: Mapping[str, list[str]]) -> User:
        name = "".join(wished.get("user", ())[:1])
        if not name:
            raise bad_request("requested to impersonate groups, a uid or extra values, but no user")
        groups = list(wished.get("group", ()))
        extra = {
            unquote(key.removeprefix("extra-")): tuple(values)
            for key, values in wished.items()
            if key.startswith("extra-")
        }
        asked = []
        if name.startswith(_ACCOUNT):
            namespace, _, account = name.removeprefix(_ACCOUNT).partition(":")
            asked.append(Attributes("impersonate", "", "v1", "serviceaccounts", "", namespace, account))
            groups = groups or ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
        else:
            asked.append(Attributes("impersonate", "", "v1", "users", name=name))
        asked += [Attributes("impersonate", "", "v1", "groups", name=each) for each in wished.get("group", ())]
        uids = wished.get("uid", [])
        asked += [Attributes("impersonate", AUTHENTICATION, "v1", "uids", name=each) for each in uids]
        asked += [
            Attributes("impersonate", AUTHENTICATION, "v1", "userextras", key, name=value)
            for key, values in extra.items()
            for value in values
        ]
        for about in asked:
            self.authorize(user, about)
        # Only the one user that stands for nobody is not authenticated.
        if AUTHENTICATED not in groups and name != "system:anonymous":
            groups.append(AUTHENTICATED)
        elif name == "system:anonymous" and "system:unauthenticated" not in groups:
            groups.append("system:unauthenticated")
        return User(name, tuple(groups), "".join(uids[:1]), tuple(sorted(extra.items())))
