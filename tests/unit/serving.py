# SPDX-License-Identifier: Apache-2.0
"""Serve HTTP on loopback, for clients whose servers have to misbehave."""

import contextlib
import threading
from collections.abc import Iterator
from http import server


class Handler(server.BaseHTTPRequestHandler):
    """Answers in JSON, and logs nothing."""

    def reply(self, status: int, body: bytes) -> None:
        """The whole answer."""
        self.head(status, len(body))
        self.wfile.write(body)

    def head(self, status: int, length: int) -> None:
        """What comes before a body of so many bytes."""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(handler: type[Handler]) -> Iterator[str]:
    """The address at which it answers."""
    with server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(
            target=made.serve_forever, args=(0.01,), daemon=True
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{made.server_port}"
        finally:
            made.shutdown()
            thread.join()
