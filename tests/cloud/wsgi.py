# SPDX-License-Identifier: Apache-2.0
"""Serve a WSGI application on the loopback: wsgi.py MODULE PORT THREADS.

It listens once the application is there. Unlike uWSGI, waitress takes
uploads in chunks, as nova-compute sends its snapshots.
"""

import importlib
import sys

import waitress


def main(module: str, port: str, threads: str) -> None:
    """Import the module's ``application``, and serve it."""
    # The services read their command line, too.
    del sys.argv[1:]
    application = importlib.import_module(module).application
    if module.startswith("neutron"):
        # Else its first requests map classes side by side, and fail.
        from sqlalchemy import orm

        orm.configure_mappers()
    waitress.serve(
        application, host="127.0.0.1", port=int(port), threads=int(threads)
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
