# SPDX-License-Identifier: Apache-2.0
"""Domains as libvirt holds them: read their XML, turn their events on."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable, Iterator

import libvirt

from ceilometer_perf.guest.events import SINCE
from ceilometer_perf.guest.host_facts import Version
from ceilometer_perf.host.connection import quieten, version_of
from ceilometer_perf.host.deadline import within

TRANSIENT = "a transient domain has no definition to enable it in"
READ_ONLY = (
    "libvirt changes nothing through its read-only socket: run this as root, "
    "with --connect qemu:///system or that of libvirt-sock"
)
UNKNOWN = "libvirt knows no event of that name"


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


def library_version() -> Version:
    """The version of the libvirt library of this process."""
    return version_of(libvirt.getVersion())


def daemon_version(connection: libvirt.virConnect) -> Version:
    """The version of the libvirt at the other end of a connection."""
    return version_of(connection.getLibVersion())


def version(uri: str | None) -> Version:
    """Of the libvirt behind ``uri``; failing that, of the library here."""
    if uri is not None:
        with (
            contextlib.suppress(HostError),
            connected(uri, read_only=True) as connection,
        ):
            return within(lambda: daemon_version(connection))
    return library_version()


def domain_xml(uri: str, uuid: str, inactive: bool = True) -> str:
    """The XML of a domain, as it will boot next unless ``inactive`` is off.

    Passwords are left out, as libvirt does for every read-only connection.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    with connected(uri, read_only=True) as connection:
        return within(lambda: str(_lookup(connection, uuid).XMLDesc(flags)))


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
    with connected(uri, read_only=dry_run) as connection:
        return [
            within(functools.partial(_enable, domain, event, live, dry_run))
            for domain in within(lambda: _chosen(connection, uuid))
            for event in wanted
        ]


def _chosen(
    connection: libvirt.virConnect, uuid: str | None
) -> list[libvirt.virDomain]:
    """The one that is meant, or all."""
    if uuid is not None:
        return [_lookup(connection, uuid)]
    return list(connection.listAllDomains())


def _lookup(connection: libvirt.virConnect, uuid: str) -> libvirt.virDomain:
    return connection.lookupByUUIDString(uuid)


def _enable(
    domain: libvirt.virDomain, event: str, live: bool, dry_run: bool
) -> Outcome:
    """Set one event, or say only that it would be set."""
    outcome = Outcome(domain.UUIDString(), domain.name(), event)
    if event not in SINCE:
        return dataclasses.replace(outcome, refused=UNKNOWN)
    if not domain.isPersistent():
        return dataclasses.replace(outcome, refused=TRANSIENT)
    if dry_run:
        return outcome
    try:
        _set(domain, event, live)
    # An older binding has fewer names in the table where it looks first.
    except LookupError:
        return dataclasses.replace(outcome, refused=UNKNOWN)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED:
            raise HostError(READ_ONLY) from error
        return dataclasses.replace(outcome, refused=str(error))
    return outcome


def _set(domain: libvirt.virDomain, event: str, live: bool) -> None:
    """In the definition, and in the running guest too if that is wanted.

    The guest goes first: what it refuses would keep it from starting. libvirt
    takes one of the two at a time.
    """
    if live and domain.isActive():
        domain.setPerfEvents({event: True}, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    domain.setPerfEvents({event: True}, libvirt.VIR_DOMAIN_AFFECT_CONFIG)


@contextlib.contextmanager
def connected(uri: str, *, read_only: bool) -> Iterator[libvirt.virConnect]:
    """A connection for one command, with libvirt's errors as HostError."""
    quieten()
    connect = libvirt.openReadOnly if read_only else libvirt.open
    try:
        connection = within(lambda: connect(uri))
        yield connection
        # Not after an error: closing what hangs would hang as well.
        within(connection.close)
    except (libvirt.libvirtError, TimeoutError) as error:
        raise HostError(f"libvirt at {uri}: {error}") from error
