# SPDX-License-Identifier: Apache-2.0
"""An API that openstacksdk has no client for, as one user asks it."""

from typing import Any

from keystoneauth1.adapter import Adapter


def api(connection: Any, service_type: str) -> Adapter:
    """Takes paths of the API; ``connection``: openstacksdk's."""
    return Adapter(
        connection.session, service_type=service_type, interface="public"
    )
