"""Who may do what, and how often: keys by role, and a rate for each key.

Everything is refused that is not known to be allowed: a route that is not listed
here needs the role `admin` to be written to, and some key to be read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from starlette.types import Scope

from fraud_kedro.serving.answers import Reply, refusal
from fraud_kedro.serving.settings import ServingSettings

Role = Literal["score", "feedback", "admin"]

# What an orchestrator asks, without a key.
OPEN = frozenset({"/livez", "/readyz"})
_READING = frozenset({"GET", "HEAD"})
_ROLES: Mapping[str, Role] = {
    "/predict": "score",
    "/predict/batch": "score",
    "/predict/batch/template": "score",
    # BentoML's native methods.
    "/score": "score",
    "/score_batch": "score",
    "/feedback": "feedback",
}

# A browser asks for a key by Basic; its user name is not looked at.
_CHALLENGE = (
    (b"www-authenticate", b"Bearer"),
    (b"www-authenticate", b'Basic realm="fraud_kedro", charset="UTF-8"'),
)


@dataclass
class Caller:
    """One key, and what is left of its rate.

    Attributes
    ----------
    name : str
        Start of the key's digest: tells callers apart in logs, and reveals nothing.
    roles : set of str
        `admin` includes the others.
    """

    name: str
    roles: set[str]
    allowance: float = 0.0
    seen: float = field(default_factory=time.monotonic)


class Guard:
    """Admits or refuses requests by their headers.

    Parameters
    ----------
    settings : ServingSettings
        Without keys everyone may do everything; the rate holds for all together.
    clock : callable
        Seconds that only grow.
    """

    def __init__(self, settings: ServingSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._callers: dict[bytes, Caller] = {}
        for role, keys in settings.keys_by_role.items():
            for key in keys:
                digest = _digest(key)
                caller = self._callers.setdefault(digest, Caller(digest.hex()[:8], set()))
                caller.roles.add(role)
        self._anyone = Caller("anyone", {"admin"})
        # Each worker gives out its part.
        self._rate = None if settings.rate_limit is None else settings.rate_limit / settings.workers
        self._burst = 1.0 if self._rate is None else max(1.0, self._rate)
        self._clock = clock
        for caller in (*self._callers.values(), self._anyone):
            caller.allowance, caller.seen = self._burst, clock()

    @property
    def is_open(self) -> bool:
        """Whether everyone is admitted, as often as they like."""
        return not self._callers and self._rate is None

    def refuse(self, scope: Scope) -> Reply | None:
        """Look at who asks for what.

        Parameters
        ----------
        scope : mapping
            Of an HTTP or WebSocket connection.

        Returns
        -------
        Reply or None
            401 without a known key, 403 where the key has another role, 429 above
            its rate; None to go on.
        """
        path = scope["path"]
        if path in OPEN:
            return None
        caller = self._caller(scope["headers"]) if self._callers else self._anyone
        if caller is None:
            return refusal(
                401,
                "A key is needed: send Authorization: Bearer <key>, or X-API-Key: <key>.",
                headers=_CHALLENGE,
            )
        needed = self._needed(scope.get("method", "GET"), path)
        if needed is not None and not caller.roles & {needed, "admin"}:
            return refusal(403, f"This key may not do that; a key with the role {needed} may.")
        return self._spend(caller)

    def _needed(self, method: str, path: str) -> Role | None:
        role = _ROLES.get(path)
        if role is None and method not in _READING:
            # The page scores for whoever may score.
            return "score" if path.startswith("/ui/") else "admin"
        return role

    def _caller(self, headers: Iterable[tuple[bytes, bytes]]) -> Caller | None:
        given = _given(headers)
        if given is None:
            return None
        digest = _digest(given)
        found = None
        # All of them, whichever fits: the time taken says nothing.
        for known, caller in self._callers.items():
            if hmac.compare_digest(known, digest):
                found = caller
        return found

    def _spend(self, caller: Caller) -> Reply | None:
        """Take one request off the caller's token bucket."""
        if self._rate is None:
            return None
        now = self._clock()
        caller.allowance = min(self._burst, caller.allowance + (now - caller.seen) * self._rate)
        caller.seen = now
        if caller.allowance < 1.0:
            seconds = (1.0 - caller.allowance) / self._rate
            return refusal(429, "More requests than the rate limit allows.", retry_after=int(seconds) + 1)
        caller.allowance -= 1.0
        return None


def _given(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    for name, value in headers:
        if name == b"x-api-key":
            return value.strip()
        if name == b"authorization":
            scheme, _, rest = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return rest.strip()
            if scheme.lower() == b"basic":
                return _password(rest.strip())
    return None


def _password(encoded: bytes) -> bytes | None:
    try:
        _, colon, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return None
    return password if colon else None


def _digest(key: str | bytes) -> bytes:
    return hashlib.sha256(key.encode() if isinstance(key, str) else key).digest()
