# SPDX-License-Identifier: Apache-2.0
"""What is asked of a guest, and what Nova 34 makes of it.

Two tests read this table: one holds the companion to it, the other Nova.
"""

import dataclasses
import shlex
from collections.abc import Mapping

from ceilometer_perf import cpus, guest
from ceilometer_perf.guest import errors

Extras = Mapping[str, str]
#: vCPUs, flavor, image, and [compute] cpu_shared_set.
Case = tuple[int, Extras, Extras, str | None]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What came out of it: the name of an error, or what is required."""

    error: str | None = None
    pmu: bool | None = None
    realtime: frozenset[int] | None = None
    locked: bool = False
    unshared: bool = False


def ours(case: Case) -> Verdict:
    """The companion's."""
    vcpus, flavor, image, shared = case
    conf = guest.NovaConf(shared_cpus=cpus.parse(shared) if shared else None)
    try:
        found = guest.resolve(guest.Asked(vcpus, flavor, image), conf)
    except errors.NovaRefusal as error:
        return Verdict(error=error.nova_class)
    return Verdict(
        pmu=found.pmu,
        realtime=found.realtime.vcpus if found.realtime else None,
        locked=found.locked,
        unshared=found.realtime is not None,
    )


def case(text: str) -> Case:
    """A guest of four vCPUs; ``hw:`` is its flavor's and ``hw_`` its image's.

    ``shared`` is ``[compute] cpu_shared_set``.
    """
    words = dict(word.split("=", 1) for word in shlex.split(text))
    shared = words.pop("shared", None)
    image = {k: v for k, v in words.items() if k.startswith("hw_")}
    flavor = {k: v for k, v in words.items() if k not in image}
    return 4, flavor, image, shared


ACCEPTED = Verdict()
PMU, NO_PMU = Verdict(pmu=True), Verdict(pmu=False)
LOCKED = Verdict(locked=True)
RT = "hw:cpu_realtime=yes hw:cpu_policy=dedicated"


def realtime(*vcpus: int) -> Verdict:
    chosen = frozenset(vcpus)
    return Verdict(realtime=chosen, locked=True, unshared=True)


RULES: Mapping[str, Verdict | errors.NovaClass] = {
    "": ACCEPTED,
    # The PMU
    "hw:pmu=yes": PMU,
    "hw_pmu=yes": PMU,
    "hw:pmu=no": NO_PMU,
    "hw_pmu=no": NO_PMU,
    "hw:pmu=no hw_pmu=no": NO_PMU,
    "hw:pmu=yes hw_pmu=no": "FlavorImageConflict",
    "hw:pmu=no hw_pmu=yes": "FlavorImageConflict",
    # Page sizes
    "hw:mem_page_size=small": ACCEPTED,
    "hw:mem_page_size=large": ACCEPTED,
    "hw:mem_page_size=any": ACCEPTED,
    "hw:mem_page_size=2048": ACCEPTED,
    "hw:mem_page_size=2MB": ACCEPTED,
    "hw:mem_page_size=huge": "MemoryPageSizeInvalid",
    "hw:mem_page_size=Large": "MemoryPageSizeInvalid",
    "hw:mem_page_size=1.5": "MemoryPageSizeInvalid",
    "hw_mem_page_size=2048": "MemoryPageSizeForbidden",
    "hw:mem_page_size=small hw_mem_page_size=2048": "MemoryPageSizeForbidden",
    "hw:mem_page_size=2048 hw_mem_page_size=2048": "MemoryPageSizeForbidden",
    "hw:mem_page_size=any hw_mem_page_size=2048": ACCEPTED,
    "hw:mem_page_size=large hw_mem_page_size=any": ACCEPTED,
    "hw:mem_page_size=any hw_mem_page_size=huge": "MemoryPageSizeInvalid",
    # Locked memory
    "hw:locked_memory=yes": "LockMemoryForbidden",
    "hw_locked_memory=yes": "LockMemoryForbidden",
    "hw:locked_memory=no": ACCEPTED,
    "hw_locked_memory=no": ACCEPTED,
    "hw:locked_memory=yes hw:mem_page_size=2048": LOCKED,
    "hw_locked_memory=yes hw:mem_page_size=2048": LOCKED,
    "hw:locked_memory=no hw:mem_page_size=2048": ACCEPTED,
    "hw:locked_memory=no hw_locked_memory=no": ACCEPTED,
    "hw:locked_memory=yes hw_locked_memory=yes hw:mem_page_size=4": LOCKED,
    "hw:locked_memory=yes hw_locked_memory=no hw:mem_page_size=4":
        "FlavorImageLockedMemoryConflict",
    "hw:locked_memory=no hw_locked_memory=yes hw:mem_page_size=4":
        "FlavorImageLockedMemoryConflict",
    # CPU policies
    "hw:cpu_policy=Dedicated": "InvalidCPUAllocationPolicy",
    "hw_cpu_policy=Dedicated": "InvalidRequest",
    "hw:cpu_policy=shared hw_cpu_policy=dedicated": "ImageCPUPinningForbidden",
    "hw:cpu_policy=shared hw_cpu_policy=mixed": "ImageCPUPinningForbidden",
    "hw:cpu_policy=mixed hw_cpu_policy=dedicated": "ImageCPUPinningForbidden",
    "hw:cpu_policy=dedicated hw_cpu_policy=dedicated": ACCEPTED,
    "hw:cpu_policy=dedicated hw_cpu_policy=shared": ACCEPTED,
    "hw:cpu_policy=mixed hw:cpu_dedicated_mask=0-1": ACCEPTED,
    "hw_cpu_policy=mixed hw:cpu_dedicated_mask=^0": ACCEPTED,
    "hw:cpu_policy=mixed": "RequiredMixedOrRealtimeCPUMask",
    "hw:cpu_policy=mixed hw:cpu_dedicated_mask=0-3":
        "InvalidMixedInstanceDedicatedMask",
    "hw:cpu_policy=mixed hw:cpu_dedicated_mask=^0-3":
        "InvalidMixedInstanceDedicatedMask",
    "hw:cpu_policy=mixed hw:cpu_dedicated_mask=3-4":
        "InvalidMixedInstanceDedicatedMask",
    "hw:cpu_policy=mixed hw:cpu_dedicated_mask=4":
        "InvalidMixedInstanceDedicatedMask",
    "hw:cpu_dedicated_mask=0": "RequiredMixedInstancePolicy",
    "hw:cpu_policy=dedicated hw:cpu_dedicated_mask=0":
        "RequiredMixedInstancePolicy",
    # Emulator threads
    "hw:emulator_threads_policy=Share": "InvalidEmulatorThreadsPolicy",
    "hw:emulator_threads_policy=share": ACCEPTED,
    "hw:emulator_threads_policy=isolate":
        "BadRequirementEmulatorThreadsPolicy",
    "hw:emulator_threads_policy=isolate hw:cpu_policy=dedicated": ACCEPTED,
    "hw:emulator_threads_policy=isolate hw:cpu_policy=mixed "
    "hw:cpu_dedicated_mask=0": ACCEPTED,
    # Resources that the flavor asks of Placement itself
    "resources:VCPU=4": ACCEPTED,
    "resources:VCPU=0": ACCEPTED,
    "resources:VCPU=x": ACCEPTED,
    "resources:PCPU=4": ACCEPTED,
    "resources12:PCPU=4": ACCEPTED,
    "resources:PCPU=2 resources1:PCPU=2": ACCEPTED,
    "resources:PCPU=x resources1:PCPU=4": ACCEPTED,
    "resources0:PCPU=3": ACCEPTED,
    "resources:PCPU=3": "InvalidRequest",
    "resources:PCPU=5": "InvalidRequest",
    "resources:PCPU=4 resources:VCPU=4": "InvalidRequest",
    "resources:PCPU=4 hw:cpu_policy=dedicated": "InvalidRequest",
    "resources:VCPU=4 hw:cpu_policy=shared": "InvalidRequest",
    "resources:PCPU=5 hw:emulator_threads_policy=isolate": ACCEPTED,
    "resources:PCPU=4 hw:emulator_threads_policy=isolate": "InvalidRequest",
    "resources:VCPU=4 hw:emulator_threads_policy=isolate":
        "BadRequirementEmulatorThreadsPolicy",
    # Realtime
    f"{RT} hw:cpu_realtime_mask=^0": realtime(1, 2, 3),
    f"{RT} hw:cpu_realtime_mask=' ^0-1'": realtime(2, 3),
    f"{RT} hw:cpu_realtime_mask=2-3,^3": realtime(2),
    f"{RT} hw_cpu_realtime_mask=^3": realtime(0, 1, 2),
    f"{RT} hw:cpu_realtime_mask=^0 hw_cpu_realtime_mask=1": realtime(1),
    f"{RT} hw:cpu_realtime_mask=^0 hw_cpu_realtime_mask=": realtime(1, 2, 3),
    f"{RT} hw:emulator_threads_policy=isolate": realtime(0, 1, 2, 3),
    f"{RT} hw:emulator_threads_policy=share shared=0-1":
        realtime(0, 1, 2, 3),
    f"{RT} hw:emulator_threads_policy=share": "RealtimeMaskNotFoundOrInvalid",
    f"{RT}": "RealtimeMaskNotFoundOrInvalid",
    f"{RT} hw:cpu_realtime_mask=0-3": "RealtimeMaskNotFoundOrInvalid",
    f"{RT} hw:cpu_realtime_mask=^0-3": "RealtimeMaskNotFoundOrInvalid",
    f"{RT} hw:cpu_realtime_mask=3-4": "RealtimeMaskNotFoundOrInvalid",
    f"{RT} hw:cpu_realtime_mask=x": "Invalid",
    "hw:cpu_realtime=no hw:cpu_realtime_mask=x": ACCEPTED,
    "hw:cpu_realtime=yes hw:cpu_realtime_mask=^0":
        "RealtimeConfigurationInvalid",
    "hw:cpu_realtime=yes hw:cpu_policy=mixed hw:cpu_realtime_mask=^0":
        realtime(1, 2, 3),
    "hw:cpu_realtime=yes hw:cpu_policy=mixed hw:cpu_realtime_mask=^0 "
    "hw:cpu_dedicated_mask=^0": "RequiredMixedOrRealtimeCPUMask",
}  # fmt: skip


def expected(text: str) -> Verdict:
    """Of the table."""
    found = RULES[text]
    return found if isinstance(found, Verdict) else Verdict(error=found)
