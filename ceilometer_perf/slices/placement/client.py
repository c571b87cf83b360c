# SPDX-License-Identifier: Apache-2.0
"""Placement over HTTP, as ``[placement]`` of nova.conf says.

Read with keystoneauth1's own loading, so that whatever works for Nova works
here: ``auth_type``, ``endpoint_override``, ``valid_interfaces``, ``cafile``...
"""

import contextlib
import logging
import pathlib
import socket
from collections.abc import Iterator, Mapping
from typing import Any

import requests
from keystoneauth1 import adapter, exceptions, loading
from oslo_config import cfg

from ceilometer_perf.guest import nova_conf
from ceilometer_perf.slices.placement import answers
from ceilometer_perf.slices.placement.errors import (
    ConflictError,
    NotThereError,
    PlacementError,
)

GROUP = "placement"
MICROVERSION = "1.39"
#: Seconds that a call may take, where ``[placement] timeout`` isn't set.
TIMEOUT = 60

HOST_OPTS = [cfg.StrOpt("host")]

#: What mends an answer that Placement gives to nobody who is set up well.
_REMEDIES = {
    401: "are the credentials in [placement] of nova.conf right?",
    403: "has the user in [placement] of nova.conf the admin or service role?",
    404: "does the endpoint lead to Placement?",
    406: f"it must know microversion {MICROVERSION}, as from Yoga on",
}


def _opts() -> list[cfg.Opt]:
    """Nova's, of ``nova.conf.utils.register_ksa_opts``."""
    opts = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(
        opts, valid_interfaces=["internal", "public"], service_type=GROUP
    )
    session = loading.get_session_conf_options()
    return [*session, *loading.get_auth_common_conf_options(), *opts]


def host(path: str | pathlib.Path) -> str:
    """``[DEFAULT] host``, which is the host's name unless set."""
    with nova_conf.opened(path, {"DEFAULT": HOST_OPTS}) as conf:
        return str(conf.DEFAULT.host or socket.gethostname())


def connect(path: str | pathlib.Path) -> "Client":
    """A client; nothing is sent yet.

    :raises ConfigurationError: nova.conf can't be read.
    :raises PlacementError: ``[placement]`` leads nowhere.
    """
    with nova_conf.opened(path, {GROUP: _opts()}) as conf:
        try:
            with _quiet("stevedore.named"):  # what it logs, it raises too
                auth = loading.load_auth_from_conf_options(conf, GROUP)
            if auth is None:
                raise PlacementError(
                    f"{path}: [placement] auth_type is not set: give it, and "
                    "what belongs to it, as for nova-compute"
                )
            conf.set_default("timeout", TIMEOUT, group=GROUP)
            session = loading.load_session_from_conf_options(
                conf, GROUP, auth=auth
            )
            return Client(
                loading.load_adapter_from_conf_options(
                    conf,
                    GROUP,
                    session=session,
                    raise_exc=False,
                    default_microversion=MICROVERSION,
                )
            )
        except exceptions.ClientException as error:
            raise PlacementError(f"{path}: [placement]: {error}") from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


class Client:
    """Calls whose every failure is one line."""

    def __init__(self, ksa: adapter.Adapter) -> None:
        self._ksa = ksa

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
                f"The {key} in the answer to GET {path} are unlike "
                f"Placement's: {_short(fault, 100)}; does the endpoint lead "
                "to Placement?"
            )
        return value

    def ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any]:
        """Send a request; its answer, empty where Placement has none.

        :raises ConflictError: 409, or 404 for a thing of which we knew.
        :raises PlacementError: any other failure.
        """
        arguments = {} if body is None else {"json": body}
        try:
            response = self._ksa.request(path, method, **arguments)
        except exceptions.ClientException as error:
            raise PlacementError(
                f"Placement: no answer to {method} {path}: "
                f"{_short(error)}; does it run, and is [placement] of "
                "nova.conf right?"
            ) from error
        if response.status_code >= 300:
            raise _refusal(method, path, response)
        return {} if not response.content else _json(method, path, response)


def _json(
    method: str, path: str, response: requests.Response
) -> Mapping[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise PlacementError(
            f"Placement's answer to {method} {path} is no JSON object "
            f"({_short(response.text, 40)!r}): does the endpoint lead to "
            "Placement?"
        )
    return found


def _refusal(
    method: str, path: str, response: requests.Response
) -> PlacementError:
    status, detail = response.status_code, _detail(response)
    said = f"Placement answered {status} to {method} {path}: {detail}"
    if status == 409:
        return ConflictError(said)
    remedy = _REMEDIES.get(status)
    line = f"{said}; {remedy}" if remedy else said
    return NotThereError(line) if status == 404 else PlacementError(line)


def _detail(response: requests.Response) -> str:
    """Of Placement's own format for errors, or whatever came instead."""
    try:
        return _short(response.json()["errors"][0]["detail"])
    except (ValueError, LookupError, TypeError):
        return _short(response.text, 60) or "nothing else"


def _short(what: object, most: int = 300) -> str:
    words = " ".join(str(what).split())
    return words if len(words) <= most else f"{words[:most]}..."
