"""Who owns what: a controller's own objects, those that it may adopt, and those that it lets go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ostria.node.controllers.objects import (
    Document,
    Key,
    View,
    is_deleted,
    key_of,
    labels_of,
    selector_of,
    uid_of,
    with_metadata,
)
from ostria.node.controllers.writes import Update, Write
from ostria.resources import Kind


def controller_of(document: Document) -> Mapping[str, Any] | None:
    """The owner that controls it."""
    owners = document["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def owner_reference(owner: Document) -> dict[str, Any]:
    """The reference of an object that this owner controls."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def owned(view: View, kind: Kind, owner: Document) -> list[Document]:
    """The objects of a kind that an owner controls, by name."""
    uid = uid_of(owner)
    found = [
        item
        for item in view.list(kind, key_of(owner).namespace)
        if (control := controller_of(item)) is not None and control.get("uid") == uid
    ]
    return sorted(found, key=key_of)


def owner_key(document: Document, kind: Kind) -> Key | None:
    """The key of the owner of this kind that controls it, if there is one."""
    control = controller_of(document)
    if control is None or control.get("kind") != kind.name:
        return None
    return Key(key_of(document).namespace, str(control["name"]))


def owners_to_ask(view: View, document: Document, kind: Kind) -> Iterable[Key]:
    """Whose concern an object is: its owner's; an orphan's, everyone's of the kind beside it, as one may adopt it."""
    key = owner_key(document, kind)
    if key is not None:
        yield key
    elif controller_of(document) is None:
        yield from (key_of(each) for each in view.list(kind, key_of(document).namespace))


def claim(
    view: View, kind: Kind, owner: Document, is_adoptable: Callable[[Document], bool], writes: list[Write]
) -> list[Document]:
    """The objects of a kind that an owner has by its selector, by name; adds the writes that adopt and let go.

    What nobody controls is adopted if it matches and `is_adoptable`; what does not match any more is let go.
    """
    selector = selector_of(owner)
    if selector is None:
        return []
    found = []
    for item in sorted(view.list(kind, key_of(owner).namespace), key=key_of):
        control = controller_of(item)
        owners = item["metadata"].get("ownerReferences") or []
        matches = selector.matches(labels_of(item))
        if control is not None and control.get("uid") == uid_of(owner):
            if matches:
                found.append(item)
            elif not is_deleted(item) and not is_deleted(owner):
                others = [each for each in owners if each.get("uid") != uid_of(owner)]
                writes.append(Update(kind, with_metadata(item, ownerReferences=others or None)))
        elif control is None and matches and not is_deleted(owner) and is_adoptable(item):
            adopted = with_metadata(item, ownerReferences=[*owners, owner_reference(owner)])
            writes.append(Update(kind, adopted))
            found.append(adopted)
    return found
