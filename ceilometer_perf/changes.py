# SPDX-License-Identifier: Apache-2.0
"""Log a condition when it begins, changes or ends, not in every cycle."""

import logging
import threading
from collections.abc import Container


class Changes:
    """Logs a message about a subject unless it equals the last one.

    Safe to call from several threads.
    """

    def __init__(self, log: logging.Logger | logging.LoggerAdapter) -> None:  # type: ignore[type-arg]
        self._log = log
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()

    def trouble(self, subject: str, text: str) -> None:
        """Warn, unless the subject's last message was the same."""
        if self._is_new(subject, text):
            self._log.warning("%s", text)

    def fine(self, subject: str, text: str) -> None:
        """Log that a problem is over; nothing if there was none."""
        with self._lock:
            was_trouble = self._last.pop(subject, None) is not None
        if was_trouble:
            self._log.info("%s", text)

    def forget_all_but(self, subjects: Container[str]) -> None:
        """Forget subjects that are gone."""
        with self._lock:
            self._last = {s: t for s, t in self._last.items() if s in subjects}

    def _is_new(self, subject: str, text: str) -> bool:
        with self._lock:
            if self._last.get(subject) == text:
                return False
            self._last[subject] = text
            return True
