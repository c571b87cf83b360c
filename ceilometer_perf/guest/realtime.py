# SPDX-License-Identifier: Apache-2.0
"""Which vCPUs run under a realtime scheduler.

The rule is ``nova.virt.hardware.get_realtime_cpu_constraint``, and, on the
compute host, ``LibvirtDriver._get_guest_memory_backing_config``, which
refuses shared emulator threads where there is no pool to share, and
``_get_emulatorpin_cpuset``, which leaves out CPUs that are off.
"""

import dataclasses

from ceilometer_perf import cpus
from ceilometer_perf.guest import cpu_policy, errors
from ceilometer_perf.guest.asked import Asked
from ceilometer_perf.guest.host_facts import HostFacts
from ceilometer_perf.guest.nova_conf import NovaConf


@dataclasses.dataclass(frozen=True)
class Realtime:
    """A guest with realtime vCPUs, and its housekeeping vCPUs."""

    vcpus: frozenset[int]
    housekeeping: frozenset[int]
    priority: int = 1
    emulator_threads: str | None = None
    #: The pool of host CPUs for emulator threads that share, if known.
    pool: frozenset[int] | None = None


def realtime_vcpus(asked: Asked) -> frozenset[int] | None:
    """The realtime vCPUs, None without realtime.

    No mask means every vCPU. Older Nova required a mask, and old documents
    still say so; today it only requires something to be left for QEMU's
    threads.
    """
    if not asked.flavor_bool("hw:cpu_realtime"):
        return None
    # An image's mask replaces the flavor's: it knows its own workload.
    mask = asked.image.get("hw_cpu_realtime_mask") or asked.flavor.get(
        "hw:cpu_realtime_mask"
    )
    everyone = frozenset(range(asked.vcpus))
    chosen = cpu_policy.masked(mask, asked.vcpus) if mask else everyone
    if not chosen:
        raise errors.NovaRefusal(
            "RealtimeMaskNotFoundOrInvalid",
            f"The realtime mask {mask!r} leaves no realtime vCPU: name at "
            "least one, or unset hw:cpu_realtime",
        )
    threads = cpu_policy.emulator_threads(asked)
    if chosen == everyone and not threads:
        raise errors.NovaRefusal(
            "RealtimeMaskNotFoundOrInvalid",
            "Every vCPU is realtime, which leaves no housekeeping vCPU: "
            "exclude one with hw:cpu_realtime_mask=^0, or set "
            "hw:emulator_threads_policy",
        )
    if not chosen <= everyone:
        raise errors.NovaRefusal(
            "RealtimeMaskNotFoundOrInvalid",
            f"The realtime mask {mask!r} names vCPUs beyond "
            f"0-{asked.vcpus - 1}: name only those that the flavor has",
        )
    return chosen


def _pool(conf: NovaConf, host: HostFacts) -> frozenset[int]:
    """The host's pool for emulator threads, without CPUs that are off."""
    if not conf.shared_cpus:
        raise errors.NovaRefusal(
            "RealtimeMaskNotFoundOrInvalid",
            "hw:emulator_threads_policy=share with realtime vCPUs needs "
            "[compute] cpu_shared_set in nova.conf",
        )
    if host.online is None:
        return conf.shared_cpus
    if not conf.shared_cpus & host.online:
        raise errors.NovaRefusal(
            "Invalid",
            f"[compute] cpu_shared_set = {cpus.text(conf.shared_cpus)} "
            f"contains no online CPU; online are {cpus.text(host.online)}",
        )
    return conf.shared_cpus & host.online


def realtime(
    asked: Asked,
    vcpus: frozenset[int] | None,
    conf: NovaConf | None,
    host: HostFacts,
) -> Realtime | None:
    """What a realtime guest needs of a host with this nova.conf."""
    if vcpus is None:
        return None
    policy = cpu_policy.emulator_threads(asked)
    # Without a nova.conf the host's pool is unknown.
    shares = policy == cpu_policy.SHARE and conf is not None
    conf = conf or NovaConf()
    return Realtime(
        vcpus=vcpus,
        housekeeping=frozenset(range(asked.vcpus)) - vcpus,
        priority=conf.realtime_priority,
        emulator_threads=policy,
        pool=_pool(conf, host) if shares else None,
    )
