# SPDX-License-Identifier: Apache-2.0
"""What libvirt reported to the agent, verbatim.

The agent reaches libvirtd by a proxy, where each answer to a bulk call is
read as it passes (``remote_connect_get_all_domain_stats_ret`` of libvirt's
remote_protocol.x). A counter grows between any two readings: only what the
agent itself received can be compared with what it publishes.
"""

import struct
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.rpc import GET_ALL_DOMAIN_STATS

# By ``enum virTypedParameterType``; a string is another matter.
_NUMBERS = {
    1: struct.Struct(">i"),
    2: struct.Struct(">I"),
    3: struct.Struct(">q"),
    4: struct.Struct(">Q"),
    5: struct.Struct(">d"),
    6: struct.Struct(">i"),
}
_STRING = 7
_INT = struct.Struct(">i")
_COUNT = struct.Struct(">I")
_UUID = struct.Struct("16s")

Stats = Mapping[str, Any]


@dataclass(frozen=True)
class Answer:
    """Statistics by instance UUID, as of seconds since 1970."""

    at: float
    stats: Mapping[str, Stats]


class Wire:
    """Keeps all answers; ``see`` is for the proxy's ``on_answer``."""

    def __init__(self) -> None:
        self._answers: list[Answer] = []
        self._lock = threading.Lock()

    def see(self, procedure: int, payload: bytes) -> None:
        """Note an answer that passes."""
        if procedure == GET_ALL_DOMAIN_STATS:
            answer = Answer(time.time(), dict(_records(_Reader(payload))))
            with self._lock:
                self._answers.append(answer)

    def told(self, uuid_: str, key: str) -> list[tuple[float, Stats]]:
        """All that had this key of an instance, oldest first, and when."""
        with self._lock:
            answers = list(self._answers)
        return [
            (answer.at, answer.stats[uuid_])
            for answer in answers
            if key in answer.stats.get(uuid_, {})
        ]


class _Reader:
    """XDR (RFC 4506), from the front."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def take(self, form: struct.Struct) -> Any:
        (value,) = form.unpack_from(self._payload, self._at)
        self._at += form.size
        return value

    def string(self) -> str:
        size = self.take(_COUNT)
        text = self._payload[self._at : self._at + size]
        self._at += -(-size // 4) * 4
        return text.decode()


def _records(reader: _Reader) -> Iterator[tuple[str, Stats]]:
    for _ in range(reader.take(_COUNT)):
        reader.string()  # the domain's name
        uuid_ = uuid.UUID(bytes=reader.take(_UUID))
        reader.take(_INT)  # its id
        yield str(uuid_), dict(_parameters(reader))


def _parameters(reader: _Reader) -> Iterator[tuple[str, Any]]:
    for _ in range(reader.take(_COUNT)):
        name = reader.string()
        kind = reader.take(_INT)
        if kind == _STRING:
            yield name, reader.string()
        else:
            yield name, reader.take(_NUMBERS[kind])
