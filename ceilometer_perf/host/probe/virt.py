# SPDX-License-Identifier: Apache-2.0
"""What libvirt says of itself and of the host's caches."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from ceilometer_perf.events import Version
from ceilometer_perf.guest import xml
from ceilometer_perf.host import domains
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.reading import SourceUnavailableError

UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
L3 = ".//cache/bank[@level='3']"
MONITORS = (
    ".//cache/monitor[@level='3']/feature",
    ".//memory_bandwidth/monitor/feature",
)


@dataclass(frozen=True, slots=True)
class CacheBank:
    """A last-level cache, and the CPUs that share it."""

    id: int
    size: int
    cpus: str


@dataclass(frozen=True, slots=True)
class Virt:
    """The libvirt library of this process, and the daemon behind a URI."""

    uri: str
    library: Version
    daemon: Version | None = None
    l3: tuple[CacheBank, ...] = ()
    #: What libvirt can monitor of them and of memory, by resctrl.
    monitors: tuple[str, ...] = ()
    #: Why the daemon said nothing.
    error: str | None = None
    #: QEMU's version; None if libvirt doesn't say.
    hypervisor: Version | None = None

    @property
    def is_remote(self) -> bool:
        """Whether it is another host's."""
        return is_remote(self.uri)


def is_remote(uri: str) -> bool:
    """Whether a URI of libvirt's names a host: ``qemu+ssh://host/system``."""
    try:
        return urlsplit(uri).hostname is not None
    except ValueError:  # libvirt reports malformed URIs better
        return False


def ask(uri: str) -> Virt:
    """Ask libvirt; no answer is a result, too."""
    library = domains.library_version()
    try:
        with Connection(uri) as connection:
            version, text, hypervisor = connection.call(_told)
    except SourceUnavailableError as error:
        return Virt(uri, library, error=str(error))
    l3, monitors = caches(text)
    return Virt(uri, library, version, l3, monitors, hypervisor=hypervisor)


def _told(session: Session) -> tuple[Version, str, Version | None]:
    capabilities = str(session.conn.getCapabilities())
    return session.version, capabilities, session.hypervisor


def caches(
    capabilities: str,
) -> tuple[tuple[CacheBank, ...], tuple[str, ...]]:
    """The L3 banks of a capabilities XML, and how they can be monitored."""
    root = xml.parse_any(capabilities).getroot()
    banks = tuple(
        CacheBank(
            id=int(bank.get("id", "0")),
            size=int(bank.get("size", "0")) * UNITS[bank.get("unit", "B")],
            cpus=bank.get("cpus", ""),
        )
        for bank in root.iterfind(L3)
    )
    found = (f for path in MONITORS for f in root.iterfind(path))
    features = (feature.get("name", "") for feature in found)
    return banks, tuple(features)
