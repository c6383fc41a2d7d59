"""Work in threads that single requests hardly notice."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager

# Python lets another thread run after 5 ms, which a single request meets several times.
_SWITCH_SECONDS = 0.0002


class QuickSwitches(AbstractContextManager[None]):
    """Makes threads take turns quickly while one of them is in a block of this."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 0.0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(_SWITCH_SECONDS)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                sys.setswitchinterval(self._before)


#: One for the process: the interval is the interpreter's.
quick_switches = QuickSwitches()
