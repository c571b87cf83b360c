# SPDX-License-Identifier: Apache-2.0
"""``<cputune>``: ``<emulatorpin>`` and ``<iothreadpin>`` of a realtime guest.

Nova writes them in ``LibvirtDriver._get_guest_numa_config``, both for the
CPUs of ``_get_emulatorpin_cpuset``, so that QEMU's own threads stay off the
host CPUs of the realtime vCPUs. They are computed from the pins that stand.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from ceilometer_perf import cpus
from ceilometer_perf.guest import cpu_policy, domain, errors, xml
from ceilometer_perf.guest.elements.base import REMEDY, Element
from ceilometer_perf.guest.realtime import Realtime
from ceilometer_perf.guest.requirements import Requirements

WHY = "QEMU's own threads must not delay the vCPUs of hw:cpu_realtime"


@dataclasses.dataclass(frozen=True)
class ThreadPool:
    """Host CPUs for QEMU's own threads."""

    cpus: frozenset[int]
    #: Fewer will do, since CPUs of a shared pool may be offline.
    fewer_will_do: bool = False

    def holds(self, found: frozenset[int]) -> bool:
        """Whether threads pinned to ``found`` are where they belong."""
        if self.fewer_will_do:
            return bool(found) and found <= self.cpus
        return found == self.cpus


def _pool(root: xml.Element, wanted: Realtime) -> ThreadPool:
    """Where the emulator's threads belong, by policy."""
    pins = domain.pins(root)
    if wanted.pool:
        return ThreadPool(wanted.pool, fewer_will_do=True)
    if wanted.emulator_threads:
        # Its own CPU, or a pool that only the host's nova.conf knows.
        return ThreadPool(_standing(root, pins, wanted))
    return ThreadPool(_union(pins[vcpu] for vcpu in wanted.housekeeping))


def _standing(
    root: xml.Element, pins: dict[int, frozenset[int]], wanted: Realtime
) -> frozenset[int]:
    """The CPUs that Nova chose, if they are none that it must not choose."""
    isolated = wanted.emulator_threads == cpu_policy.ISOLATE
    taken = _union(pins[v] for v in (pins if isolated else wanted.vcpus))
    pin = root.find("cputune/emulatorpin")
    found = frozenset() if pin is None else domain.cpu_set(pin, "cpuset")
    if found and not found & taken:
        return found
    what = (
        f"<emulatorpin> puts QEMU's threads on CPU {cpus.text(found & taken)} "
        "of the guest's vCPUs"
        if found
        else "There is no <emulatorpin>"
    )
    raise errors.NotInXMLError(
        f"{what}, although hw:emulator_threads_policy="
        f"{wanted.emulator_threads}",
        "Only Nova knows which host CPU is free for them: hard-reboot or "
        "migrate the instance"
        if isolated
        else "The pool is [compute] cpu_shared_set: give the host's nova.conf",
    )


def _union(sets: Iterable[frozenset[int]]) -> frozenset[int]:
    return frozenset().union(*sets)


def _wanted_pool(root: xml.Element, asked: Requirements) -> ThreadPool | None:
    return _pool(root, asked.realtime) if asked.realtime else None


def _faults_emulator(root: xml.Element, pool: ThreadPool) -> Iterator[str]:
    pin = root.find("cputune/emulatorpin")
    if pin is None:
        yield f"QEMU's threads are not pinned to CPU {cpus.text(pool.cpus)}"
    elif not pool.holds(domain.cpu_set(pin, "cpuset")):
        yield (
            f"QEMU's threads are pinned to CPU {pin.get('cpuset')} instead "
            f"of {cpus.text(pool.cpus)}"
        )


def _merge_emulator(root: xml.Element, pool: ThreadPool) -> None:
    cputune = domain.container(root, "cputune")
    pin = cputune.find("emulatorpin")
    if pin is None:
        pin = xml.insert(cputune, "emulatorpin", domain.CPUTUNE)
    pin.set("cpuset", cpus.text(pool.cpus))


@dataclasses.dataclass(frozen=True)
class IOThreads:
    """The I/O threads of a domain, and where they belong."""

    ids: tuple[int, ...]
    pool: ThreadPool


def _wanted_iothreads(
    root: xml.Element, asked: Requirements
) -> IOThreads | None:
    if asked.realtime is None:
        return None
    ids = tuple(domain.iothread_ids(root))
    return IOThreads(ids, _pool(root, asked.realtime)) if ids else None


def _io_pins(root: xml.Element) -> dict[int, xml.Element]:
    """For each I/O thread the element that pins it."""
    return domain.by_number(root, "cputune/iothreadpin", "iothread")


def _unpinned(root: xml.Element, wanted: IOThreads) -> Iterator[int]:
    pins = _io_pins(root)
    for thread in wanted.ids:
        if thread not in pins or not wanted.pool.holds(
            domain.cpu_set(pins[thread], "cpuset")
        ):
            yield thread


def _faults_iothreads(root: xml.Element, wanted: IOThreads) -> Iterator[str]:
    lost = cpus.text(_unpinned(root, wanted))
    if lost:
        yield (
            f"I/O thread {lost} is not pinned to CPU "
            f"{cpus.text(wanted.pool.cpus)}"
        )


def _merge_iothreads(root: xml.Element, wanted: IOThreads) -> None:
    cputune = domain.container(root, "cputune")
    pins = _io_pins(root)
    for thread in list(_unpinned(root, wanted)):
        pin = pins.get(thread)
        if pin is None:
            pin = xml.insert(cputune, "iothreadpin", domain.CPUTUNE)
            pin.set("iothread", str(thread))
        pin.set("cpuset", cpus.text(wanted.pool.cpus))


EMULATORPIN = Element(
    name="emulatorpin",
    where="/domain/cputune/emulatorpin",
    why=WHY,
    remedy=REMEDY,
    wanted=_wanted_pool,
    faults=_faults_emulator,
    merge=_merge_emulator,
)

IOTHREADPIN = Element(
    name="iothreadpin",
    where="/domain/cputune/iothreadpin",
    why=WHY,
    remedy=REMEDY,
    wanted=_wanted_iothreads,
    faults=_faults_iothreads,
    merge=_merge_iothreads,
)
