# SPDX-License-Identifier: Apache-2.0
"""Domain definitions in libvirt: read their XML, enable their events."""

import contextlib
import dataclasses
import functools
from collections.abc import Iterable

import libvirt

from ceilometer_perf.events import EVENTS, Version
from ceilometer_perf.host.connection import Connection, Session, version_of
from ceilometer_perf.reading import SourceUnavailableError

TRANSIENT = "a transient domain has no definition to enable it in"
READ_ONLY = (
    "libvirt changes nothing through its read-only socket: run this as root, "
    "with --connect qemu:///system or that of libvirt-sock"
)
UNKNOWN = "libvirt knows no event of that name"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome for one event of one domain."""

    uuid: str
    name: str
    event: str
    #: Why libvirt refused it; None if it didn't.
    refused: str | None = None


def library_version() -> Version:
    """The version of the libvirt library of this process."""
    return version_of(libvirt.getVersion())


def version(uri: str | None) -> Version:
    """Of the libvirt behind ``uri``; failing that, of the library here."""
    if uri is not None:
        with (
            contextlib.suppress(SourceUnavailableError),
            Connection(uri) as connection,
        ):
            return connection.call(lambda session: session.version)
    return library_version()


def domain_xml(uri: str, uuid: str, inactive: bool = True) -> str:
    """The XML of a domain, as it will boot next unless ``inactive`` is off.

    Passwords are left out, as libvirt does for every read-only connection.

    :raises SourceUnavailableError: libvirt doesn't say, or has no such domain.
    """
    flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
    with Connection(uri) as connection:
        return connection.call(
            lambda session: str(_lookup(session, uuid).XMLDesc(flags))
        )


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

    :raises SourceUnavailableError: libvirt does not answer, or has no such
        domain.
    """
    wanted = list(events)
    outcomes: list[Outcome] = []
    with Connection(uri, read_only=dry_run) as connection:
        for domain in connection.call(lambda s: _chosen(s, uuid)):
            for event in wanted:
                change = functools.partial(
                    _enable, domain, event, live=live, dry_run=dry_run
                )
                try:
                    outcomes.append(connection.call(change))
                except SourceUnavailableError as error:
                    if not outcomes:
                        raise
                    # What has been changed must be told.
                    outcome = _outcome(domain, event)
                    outcomes.append(
                        dataclasses.replace(outcome, refused=str(error))
                    )
    return outcomes


def _chosen(session: Session, uuid: str | None) -> list[libvirt.virDomain]:
    """The selected one, or all."""
    if uuid is not None:
        return [_lookup(session, uuid)]
    return list(session.conn.listAllDomains())


def _lookup(session: Session, uuid: str) -> libvirt.virDomain:
    return session.conn.lookupByUUIDString(uuid)


def _enable(
    domain: libvirt.virDomain,
    event: str,
    _session: Session,
    *,
    live: bool,
    dry_run: bool,
) -> Outcome:
    """Set one event, or only report that it would be set."""
    outcome = _outcome(domain, event)
    if event not in EVENTS:
        return dataclasses.replace(outcome, refused=UNKNOWN)
    try:
        if not domain.isPersistent():
            return dataclasses.replace(outcome, refused=TRANSIENT)
        if dry_run:
            return outcome
        _set(domain, event, live)
    # An older binding has fewer names in the table where it looks first.
    except LookupError:
        return dataclasses.replace(outcome, refused=UNKNOWN)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_OPERATION_DENIED:
            raise SourceUnavailableError(READ_ONLY) from error
        return dataclasses.replace(outcome, refused=str(error))
    return outcome


def _outcome(domain: libvirt.virDomain, event: str) -> Outcome:
    """libvirt is not asked: the handle has its names."""
    return Outcome(domain.UUIDString(), domain.name(), event)


def _set(domain: libvirt.virDomain, event: str, live: bool) -> None:
    """In the definition, and in the running guest too if that is wanted.

    The guest goes first: what it refuses would keep it from starting. libvirt
    accepts only one of the two at a time.
    """
    if live and domain.isActive():
        domain.setPerfEvents({event: True}, libvirt.VIR_DOMAIN_AFFECT_LIVE)
    domain.setPerfEvents({event: True}, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
