# SPDX-License-Identifier: Apache-2.0
"""Serve Gnocchi's API: its WSGI application, in the server at hand.

``gnocchi-api`` is a wrapper of uWSGI, which the tests can do without.
"""

import sys

import waitress
from gnocchi import opts, service
from gnocchi.rest import app


def main(port: str, config: str) -> None:
    """On the loopback interface."""
    opts.set_defaults()
    conf = service.prepare_service([], default_config_files=[config])
    waitress.serve(app.load_app(conf), host="127.0.0.1", port=int(port))


if __name__ == "__main__":
    main(*sys.argv[1:])
