# SPDX-License-Identifier: Apache-2.0
"""Serve Placement on a socket that is open already, with so many threads.

Each request makes Placement ask whether its own schemas are schemas, for a
third of its time: that is looked up once here.
"""

import functools
import json
import socket
import sys
from typing import Any

import waitress
from jsonschema import Draft202012Validator
from placement.wsgi import api


@functools.cache
def _check(schema: str, check: Any) -> None:
    check(json.loads(schema))


def _check_once() -> None:
    check = Draft202012Validator.check_schema
    Draft202012Validator.check_schema = lambda schema, **_: _check(
        json.dumps(schema), check
    )


if __name__ == "__main__":
    descriptor, threads = map(int, sys.argv[1:])
    _check_once()
    waitress.serve(
        api.application,
        sockets=[socket.socket(fileno=descriptor)],
        threads=threads,
    )
