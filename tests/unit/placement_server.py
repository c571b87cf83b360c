# SPDX-License-Identifier: Apache-2.0
"""A server on loopback that answers as Placement should not."""

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from http import server


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

    class Handler(server.BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            self.close_connection = True
            if not self.raw_requestline or not self.parse_request():
                return
            if answer.status is None:
                ended.wait(30)
                return
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            ended.wait(answer.late)
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    with server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(
            target=serving.serve_forever, args=(0.01,), daemon=True
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}"
        finally:
            ended.set()
            serving.shutdown()
            thread.join()
