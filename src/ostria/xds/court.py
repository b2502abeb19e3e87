"""The inquiry that runs: between the dialogue of `refusal`, the model that withholds, and the stream that judges.

One inquiry runs at a time; whoever refuses something meanwhile is served again when it ends, and may be the next
judge. While it runs, names under suspicion are sent to nobody but the judge, and what the model's trial epochs change
is put off: only what a trial touched waits, and it waits for milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

from ostria.base import ObjectKey
from ostria.engine import Watch
from ostria.envoy.fragments import Fragment, ResourceType
from ostria.xds.clients import Client
from ostria.xds.refusal import Dialogue, Offer, Outcome, Quarantine, Suspects, Verdict, inquire

T = TypeVar("T")

TRIAL_BOUND = 2.0
"""How long (seconds) a judge may take to refuse. Envoy refuses at once, and withholds an acceptance while it warms."""

Apply = Callable[[Iterable[Watch[Any]]], None]


class Court(Generic[T]):
    """`flush` fetches the engine's changed watches, `apply` takes them over, `newest(client, type, name)` asks the
    engine past what was applied.
    """

    def __init__(
        self,
        quarantine: Quarantine,
        flush: Callable[[], Iterable[Watch[Any]]],
        apply: Apply,
        newest: Callable[[Client[T], ResourceType, str], Fragment | None],
    ) -> None:
        self._quarantine = quarantine
        self._flush = flush
        self._apply = apply
        self._newest = newest
        self._dialogue: Dialogue | None = None
        self._withholding = False
        self._withheld: frozenset[ObjectKey] = frozenset()
        self._deferred: dict[Watch[Any], None] = {}
        self._frozen: set[str] = set()
        self.judge: Client[T] | None = None
        self.type = ResourceType.CLUSTER
        # When the judge's silence counts as acceptance.
        self.until: float | None = None

    def tries(self, client: Client[T], type: ResourceType) -> bool:
        """Whether the stream's channel is the one that the inquiry is held on."""
        return self.judge is client and self.type is type

    def suspects(self, type: ResourceType, name: str) -> bool:
        """Whether nobody may be sent this now."""
        return self.judge is not None and self.type is type and name in self._frozen

    def take(self, watches: Iterable[Watch[Any]]) -> None:
        """Take over changes, but put off those that a trial has made or has mixed with."""
        if self._withholding:
            self._deferred.update(dict.fromkeys(watches))
        else:
            self._apply([watch for watch in watches if watch not in self._deferred])

    def open(
        self, judge: Client[T], type: ResourceType, names: tuple[str, ...], message: str, suspects: Suspects
    ) -> Offer | Verdict:
        """Begin; what comes back is to be offered to the judge (or, at last, the verdict)."""
        assert self.judge is None
        self.judge, self.type = judge, type
        self._frozen = set(names)
        self._dialogue = inquire(names, message, suspects, once=type is ResourceType.EXTENSION)
        return self._converse(None)

    def answer(self, outcome: Outcome, names: tuple[str, ...]) -> Offer | Verdict:
        """Go on with the judge's answer to what was offered."""
        if outcome.accepted and not self._withheld:
            self._frozen.difference_update(names)
        return self._converse(outcome)

    def close(self) -> None:
        """End it. Without a verdict nobody is to blame, and nothing stays withheld."""
        if self._dialogue is not None:
            self._dialogue.close()
            self._withhold(frozenset(), "")
        self._end()

    def _end(self) -> None:
        self._dialogue = self.judge = self.until = None
        self._withheld = frozenset()
        self._frozen = set()
        deferred, self._deferred = self._deferred, {}
        self._apply(deferred)

    def _converse(self, answer: Any) -> Offer | Verdict:
        assert self._dialogue is not None
        assert self.judge is not None
        while True:
            try:
                question = self._dialogue.send(answer)
            except StopIteration as stop:
                verdict: Verdict = stop.value
                self._dialogue = None
                return verdict
            if isinstance(question, Offer):
                return question
            self._withhold(question.keys, question.message)
            answer = self._newest(self.judge, self.type, question.name)

    def _withhold(self, keys: frozenset[ObjectKey], message: str) -> None:
        if keys == self._withheld:
            return
        # What had changed before is real, and told apart from the trial's changes by being taken over first.
        self.take(self._flush())
        self._withholding = True
        try:
            for key in sorted(keys - self._withheld):
                self._quarantine.withdraw(key, message)
            for key in sorted(self._withheld - keys):
                self._quarantine.restore(key)
            self._withheld = keys
            self.take(self._flush())
        finally:
            self._withholding = False
