# SPDX-License-Identifier: Apache-2.0
"""Placement over HTTP, as ``[placement]`` of nova.conf says."""

import contextlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from oslo_config import cfg

from ceilometer_perf import openstack
from ceilometer_perf.guest import nova_conf
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.placement import answers
from ceilometer_perf.slices.placement.errors import (
    ConflictError,
    NotThereError,
    PlacementError,
)

GROUP = "placement"
MICROVERSION = "1.39"
#: Of ``nova.conf.utils.register_ksa_opts``.
INTERFACES = ("internal", "public")

HOST_OPTS = [cfg.StrOpt("host")]

SERVICE = openstack.Service(
    "Placement",
    GROUP,
    "[placement] of nova.conf",
    lambda answer: answer["errors"][0]["detail"],
    {
        401: "are the credentials in [placement] of nova.conf right?",
        403: "has the user in [placement] of nova.conf the admin or service "
        "role?",
        404: "does the endpoint lead to Placement?",
        406: f"it must support microversion {MICROVERSION}, as from Yoga on",
    },
)

_ERRORS: Mapping[int | None, type[PlacementError]] = {
    404: NotThereError,
    409: ConflictError,
}


def host(where: NovaFiles) -> str:
    """``[DEFAULT] host``, which is the host's name unless set."""
    with nova_conf.opened(where, {"DEFAULT": HOST_OPTS}) as conf:
        return str(conf.DEFAULT.host or socket.gethostname())


def connect(where: NovaFiles) -> "Client":
    """A client; nothing is sent yet.

    :raises NovaRefusal: nova.conf can't be read.
    :raises PlacementError: ``[placement]`` leads nowhere.
    """
    opts = openstack.opts(SERVICE, *INTERFACES)
    with (
        nova_conf.opened(where, {GROUP: opts}) as conf,
        _refusals(f"{where}: "),
    ):
        return Client(
            openstack.connect(
                conf,
                GROUP,
                SERVICE,
                "nova-compute",
                default_microversion=MICROVERSION,
            )
        )


@contextlib.contextmanager
def _refusals(before: str = "") -> Iterator[None]:
    try:
        yield
    except openstack.ServiceError as error:
        kind = _ERRORS.get(error.status, PlacementError)
        raise kind(f"{before}{error}") from error


class Client:
    """Calls; every failure is one line."""

    def __init__(self, api: openstack.Api) -> None:
        self._api = api

    def get(self, path: str, key: str) -> Any:
        """What an answer has under a key."""
        answer = self.ask("GET", path)
        if key not in answer:
            raise PlacementError(
                f"Placement's answer to GET {path} has no {key!r}: does the "
                "endpoint lead to Placement?"
            )
        value = answer[key]
        fault = answers.fault(key, value)
        if fault is not None:
            raise PlacementError(
                f"The {key} in the answer to GET {path} are not "
                f"Placement's: {openstack.short(fault, 100)}; does the "
                "endpoint lead to Placement?"
            )
        return value

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Send a request; its answer, empty where Placement has none.

        :raises ConflictError: 409, or 404 for a known object.
        :raises PlacementError: any other failure.
        """
        with _refusals():
            answer: Mapping[str, Any] = self._api.ask(method, path, body)
        return answer
