# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that answers as Placement should not."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator

from tests.unit import serving


@dataclasses.dataclass
class Answer:
    """What every request gets; no status: nothing, until it hangs up."""

    status: int | None
    body: bytes = b""
    #: Seconds that the body takes to come.
    late: float = 0.0


@contextlib.contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """The address of a server that gives this answer."""
    ended = threading.Event()

    class Handler(serving.Handler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            self.close_connection = True
            if not self.raw_requestline or not self.parse_request():
                return
            if answer.status is None:
                ended.wait(30)
                return
            self.head(answer.status, len(answer.body))
            ended.wait(answer.late)
            self.wfile.write(answer.body)

    with serving.serving(Handler) as url:
        try:
            yield url
        finally:
            ended.set()
