# SPDX-License-Identifier: Apache-2.0
"""What slices ask of a host: who has which, and what hardware there is."""

import dataclasses
from collections.abc import Iterable, Mapping

import libvirt

from ceilometer_perf.guest import errors, slice_metadata
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.reading import SourceUnavailableError


def taken(uri: str) -> Mapping[str, tuple[str, ...]]:
    """The slices that domains have, each with their UUIDs.

    Also of those that don't run: they start again with what they have.

    :raises SourceUnavailableError: libvirt doesn't say, or not clearly: what
        is overlooked here would be allocated twice.
    """
    with Connection(uri) as connection:
        return connection.call(_taken)


def _taken(session: Session) -> Mapping[str, tuple[str, ...]]:
    return held(session.conn.listAllDomains())


def held(
    domains: Iterable[libvirt.virDomain],
) -> Mapping[str, tuple[str, ...]]:
    """The slices of some domains, each with the UUIDs of those in it."""
    found: dict[str, tuple[str, ...]] = {}
    for domain in domains:
        name = _slice(domain)
        if name is not None:
            found[name] = (*found.get(name, ()), domain.UUIDString())
    return {name: tuple(sorted(uuids)) for name, uuids in found.items()}


def _slice(domain: libvirt.virDomain) -> str | None:
    """The slice of a domain; None if it has none or is gone."""
    try:
        return slice_metadata.read(domain.XMLDesc(0))
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
            return None
        raise
    except errors.DomainXMLError as error:
        raise SourceUnavailableError(
            f"domain {domain.UUIDString()}: {error}"
        ) from error


@dataclasses.dataclass(frozen=True)
class Hardware:
    """What libvirt says of a host, as it says it."""

    capabilities: str
    #: An XML document for each node device that may be assigned to a guest;
    #: None from a libvirt without a driver for them.
    devices: tuple[str, ...] | None


def hardware(uri: str) -> Hardware:
    """The capabilities and the node devices of a host.

    :raises SourceUnavailableError: libvirt doesn't say.
    """
    with Connection(uri) as connection:
        return connection.call(_hardware)


def _hardware(session: Session) -> Hardware:
    capabilities = str(session.conn.getCapabilities())
    return Hardware(capabilities, _devices(session))


def _devices(session: Session) -> tuple[str, ...] | None:
    flags = (
        libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_PCI_DEV
        | libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_MDEV
    )
    try:
        found = session.conn.listAllDevices(flags)
        return tuple(str(device.XMLDesc(0)) for device in found)
    except libvirt.libvirtError as error:
        if error.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT:
            return None
        raise
