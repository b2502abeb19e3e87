"""The first process of a pod: holds its namespaces, starts its containers, reaps them, and keeps their logs."""

from __future__ import annotations

from ostria.node.messages import Message


def main(folder: str, settings: Message) -> None:
    """Serve one pod from its folder until killed."""
