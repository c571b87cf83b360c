# SPDX-License-Identifier: Apache-2.0
"""Domains as libvirt holds them: read their XML, turn their events on."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator

import libvirt


class HostError(Exception):
    """Libvirt can't be asked, or doesn't know the domain."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one event of one domain."""

    uuid: str
    name: str
    event: str
    #: Why libvirt refused it; None if it didn't.
    refused: str | None = None


def library_version() -> tuple[int, int, int]:
    """The version of the libvirt library; 9001002 is 9.1.2."""
    version = libvirt.getVersion()
    return version // 1_000_000, version // 1_000 % 1_000, version % 1_000


def domain_xml(uri: str, uuid: str, inactive: bool = True) -> str:
    """The XML of a domain, as it will boot next unless ``inactive`` is off.

    Passwords are left out, as libvirt does for every read-only connection.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    with _connected(uri, read_only=True) as connection:
        return str(connection.lookupByUUIDString(uuid).XMLDesc(flags))


def enable(
    uri: str,
    uuid: str | None,
    events: Iterable[str],
    *,
    live: bool = False,
    dry_run: bool = False,
) -> list[Outcome]:
    """Turn events on in the definition of one domain, or of all.

    Each is set by itself, since libvirt drops a whole set for one event that
    it refuses. They count from the next boot: ``live`` opens them now too,
    but then the vCPUs that run already are not counted.
    """
    wanted = list(events)
    with _connected(uri, read_only=dry_run) as connection:
        domains = (
            [connection.lookupByUUIDString(uuid)]
            if uuid
            else connection.listAllDomains(
                libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT
            )
        )
        return [
            _enable(domain, event, None if dry_run else _flags(domain, live))
            for domain in domains
            for event in wanted
        ]


def _flags(domain: libvirt.virDomain, live: bool) -> int:
    """The definition, and the running guest too if that is wanted."""
    flags: int = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    if live and domain.isActive():
        flags |= libvirt.VIR_DOMAIN_AFFECT_LIVE
    return flags


def _enable(
    domain: libvirt.virDomain, event: str, flags: int | None
) -> Outcome:
    """Set one event; without flags say only what would be set."""
    outcome = Outcome(domain.UUIDString(), domain.name(), event)
    if flags is None:
        return outcome
    try:
        domain.setPerfEvents({event: True}, flags)
    # The binding looks a name up in its own table before it calls libvirt.
    except (libvirt.libvirtError, LookupError) as error:
        return dataclasses.replace(outcome, refused=str(error))
    return outcome


@contextlib.contextmanager
def _connected(uri: str, *, read_only: bool) -> Iterator[libvirt.virConnect]:
    """A connection for one command, with libvirt's errors as HostError."""
    libvirt.registerErrorHandler(_errors_are_raised, None)
    connect = libvirt.openReadOnly if read_only else libvirt.open
    try:
        with contextlib.closing(connect(uri)) as connection:
            yield connection
    except libvirt.libvirtError as error:
        raise HostError(f"libvirt at {uri}: {error}") from error


def _errors_are_raised(_context: object, _error: object) -> None:
    """Keep libvirt from writing each error to stderr as well."""
