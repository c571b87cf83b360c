# SPDX-License-Identifier: Apache-2.0
"""Serve Placement on a socket that is open already, with so many threads."""

import socket
import sys

import waitress
from placement.wsgi import api

if __name__ == "__main__":
    descriptor, threads = map(int, sys.argv[1:])
    waitress.serve(
        api.application,
        sockets=[socket.socket(fileno=descriptor)],
        threads=threads,
    )
