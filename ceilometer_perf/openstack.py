# SPDX-License-Identifier: Apache-2.0
"""OpenStack's services over HTTP, as a section of a configuration file says.

Read with keystoneauth1's own loading, so that whatever works for the file's
owner works here: ``auth_type``, ``endpoint_override``, ``cafile``...
"""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from keystoneauth1 import adapter, exceptions, loading
from oslo_config import cfg

#: Whatever keystoneauth1 raises, for who has Nova's own clients ask.
ClientException = exceptions.ClientException
#: Seconds that a call may take, where the section's ``timeout`` isn't set.
TIMEOUT = 60


class ServiceError(Exception):
    """A service can't be asked, or refuses; one line.

    ``status`` is that of its answer, ``answer`` the JSON in it, if any.
    """

    def __init__(
        self, what: str, status: int | None = None, answer: Any = None
    ) -> None:
        """Keep the answer, for callers that can say more about it."""
        super().__init__(what)
        self.status = status
        self.answer = answer


@dataclass(frozen=True, slots=True)
class Service:
    """A service, and the wording of errors about it.

    ``section`` says where it is configured: ``[placement] of nova.conf``.
    ``detail`` takes what went wrong from the JSON of an error; a LookupError
    or a TypeError if it isn't there. ``remedies`` are for statuses that
    mean a wrong configuration.
    """

    name: str
    type: str
    section: str
    detail: Callable[[Any], object]
    remedies: Mapping[int, str]


def opts(service: Service, *interfaces: str) -> list[cfg.Opt]:
    """Those of a section, except for the authentication plugin's own."""
    opts = loading.get_adapter_conf_options(include_deprecated=False)
    cfg.set_defaults(
        opts,
        valid_interfaces=list(interfaces),
        service_type=service.type,
    )
    session = loading.get_session_conf_options()
    return [*session, *loading.get_auth_common_conf_options(), *opts]


def connect(
    conf: cfg.ConfigOpts,
    group: str,
    service: Service,
    like: str,
    **arguments: Any,
) -> "Api":
    """A client; nothing is sent yet. ``opts`` are registered.

    :param like: a service with the same settings, for error messages.
    :param arguments: of keystoneauth1's Adapter, before what conf says.
    :raises ServiceError: the section leads nowhere.
    """
    try:
        with _quiet("stevedore.named"):  # what it logs, it raises too
            auth = loading.load_auth_from_conf_options(conf, group)
        if auth is None:
            raise ServiceError(
                f"[{group}] auth_type is not set: set it and the options it "
                f"needs, as for {like}"
            )
        conf.set_default("timeout", TIMEOUT, group=group)
        session = loading.load_session_from_conf_options(
            conf, group, auth=auth
        )
        return Api(
            loading.load_adapter_from_conf_options(
                conf, group, session=session, raise_exc=False, **arguments
            ),
            service,
        )
    except exceptions.ClientException as error:
        raise ServiceError(f"[{group}]: {error}") from error


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


_KINDS: Mapping[type, str] = {dict: "object", list: "list"}


class Api:
    """Calls; every failure is one line."""

    def __init__(self, ksa: adapter.Adapter, service: Service) -> None:
        self.ksa = ksa
        self._service = service

    def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        kind: type = dict,
    ) -> Any:
        """Send a request; its answer, an empty ``kind`` where it has none.

        :raises ServiceError: any failure.
        """
        arguments = {} if body is None else {"json": body}
        try:
            with _quiet("keystoneauth.identity"):
                response = self.ksa.request(
                    path,
                    method,
                    params=parameters,
                    headers={"Accept": "application/json"},
                    **arguments,
                )
        except exceptions.ClientException as error:
            raise ServiceError(
                f"{self._service.name}: no answer to {method} {path}: "
                f"{short(error)}; does it run, and is "
                f"{self._service.section} right?"
            ) from error
        if response.status_code >= 300:
            raise self._refusal(method, path, response)
        if not response.content:
            return kind()
        found = _json(response)
        if not isinstance(found, kind):
            raise ServiceError(
                f"{self._service.name}'s answer to {method} {path} is not a "
                f"JSON {_KINDS[kind]} ({short(response.text, 40)!r}): does "
                f"the endpoint lead to {self._service.name}?"
            )
        return found

    def _refusal(
        self, method: str, path: str, response: requests.Response
    ) -> ServiceError:
        status, answer = response.status_code, _json(response)
        said = (
            f"{self._service.name} answered {status} to {method} {path}: "
            f"{self._detail(answer) or short(response.text, 60)}"
        ).removesuffix(": ")
        remedy = self._service.remedies.get(status)
        line = f"{said}; {remedy}" if remedy else said
        return ServiceError(line, status, answer)

    def _detail(self, answer: Any) -> str:
        """The message in the service's own error format, if it is that."""
        try:
            return short(self._service.detail(answer) or "")
        except (LookupError, TypeError):
            return ""


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def short(what: object, most: int = 300) -> str:
    """On one line, of limited length."""
    words = " ".join(str(what).split())
    return words if len(words) <= most else f"{words[:most]}..."
