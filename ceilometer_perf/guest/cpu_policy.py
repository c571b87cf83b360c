# SPDX-License-Identifier: Apache-2.0
"""Which vCPUs have a host CPU of their own.

The rules are ``get_cpu_policy_constraint``, ``get_dedicated_cpu_constraint``,
``get_emulator_thread_policy_constraint`` and the sanity checks of
``numa_get_constraints`` in ``nova.virt.hardware``.
"""

import re

from ceilometer_perf.guest import cpu_sets, errors
from ceilometer_perf.guest.asked import CPU_POLICIES, Asked

ISOLATE = "isolate"
SHARE = "share"


def masked(mask: str, vcpus: int) -> frozenset[int]:
    """A mask of vCPUs; one that begins with ``^`` means all but those."""
    if mask.strip().startswith("^"):
        mask = f"0-{vcpus - 1},{mask}"
    return cpu_sets.parse(mask)


def emulator_threads(asked: Asked) -> str | None:
    """Where QEMU's own threads go; None leaves them with the vCPUs."""
    policy = asked.flavor.get("hw:emulator_threads_policy") or None
    if policy not in (None, SHARE, ISOLATE):
        raise errors.NovaRefusal(
            "InvalidEmulatorThreadsPolicy",
            f"hw:emulator_threads_policy={policy} must be {SHARE} or "
            f"{ISOLATE}",
        )
    return policy


def cpu_policy(asked: Asked) -> str | None:
    """The named policy: an image may ask for less than its flavor has."""
    flavor = asked.flavor.get("hw:cpu_policy") or None
    image = asked.image.get("hw_cpu_policy") or None
    if flavor is not None and flavor not in CPU_POLICIES:
        raise errors.NovaRefusal(
            "InvalidCPUAllocationPolicy",
            f"hw:cpu_policy={flavor} must be one of {', '.join(CPU_POLICIES)}",
        )
    rank = CPU_POLICIES.index
    if flavor and image and rank(image) > rank(flavor):
        raise errors.NovaRefusal(
            "ImageCPUPinningForbidden",
            f"The image's hw_cpu_policy={image} asks for more than the "
            f"flavor's hw:cpu_policy={flavor}: use another flavor or unset "
            "the image's",
        )
    return flavor or image


def dedicated_mask(asked: Asked) -> frozenset[int] | None:
    """The vCPUs that a mixed guest pins."""
    mask = asked.flavor.get("hw:cpu_dedicated_mask")
    if not mask:
        return None
    dedicated = masked(mask, asked.vcpus)
    everyone = frozenset(range(asked.vcpus))
    if not dedicated or not dedicated < everyone:
        raise errors.NovaRefusal(
            "InvalidMixedInstanceDedicatedMask",
            f"hw:cpu_dedicated_mask={mask} must name some, but not all, of "
            f"the vCPUs 0-{asked.vcpus - 1}",
        )
    return dedicated


def _resources(asked: Asked, name: str) -> int:
    """How many of a resource class the flavor asks Placement for itself."""
    # Nova matches the beginning of the key only; so do we.
    key = re.compile(f"resources([1-9][0-9]*)?:{name}")
    counts = [v for k, v in asked.flavor.items() if key.match(k)]
    return sum(int(count) for count in counts if _is_int(count))


def _is_int(text: str) -> bool:
    try:
        int(text)
    except ValueError:
        return False
    return True


def _with_resources(
    policy: str | None, asked: Asked, threads: str | None
) -> str | None:
    """The policy after ``resources:VCPU`` and ``resources:PCPU``."""
    shared, pinned = _resources(asked, "VCPU"), _resources(asked, "PCPU")
    if not shared and not pinned:
        return policy
    if policy or (shared and pinned):
        raise errors.NovaRefusal(
            "InvalidRequest",
            "resources:VCPU, resources:PCPU and a CPU policy exclude each "
            "other: keep one of them",
        )
    if shared:
        return "shared"
    needed = asked.vcpus + (threads == ISOLATE)
    if pinned != needed:
        raise errors.NovaRefusal(
            "InvalidRequest",
            f"resources:PCPU={pinned}, but this flavor needs exactly {needed}",
        )
    return "dedicated"


def check(asked: Asked, realtime: frozenset[int] | None) -> None:
    """Refuse a CPU policy that conflicts with other requests."""
    named = cpu_policy(asked)
    dedicated = dedicated_mask(asked)
    threads = emulator_threads(asked)
    policy = _with_resources(named, asked, threads)
    if policy == "mixed":
        _check_mixed(dedicated, realtime)
        return
    pinned = policy == "dedicated"
    if threads == ISOLATE and not pinned:
        raise errors.NovaRefusal(
            "BadRequirementEmulatorThreadsPolicy",
            "hw:emulator_threads_policy=isolate needs hw:cpu_policy dedicated "
            "or mixed",
        )
    if dedicated:
        raise errors.NovaRefusal(
            "RequiredMixedInstancePolicy",
            "hw:cpu_dedicated_mask needs hw:cpu_policy=mixed",
        )
    if realtime and not pinned:
        raise errors.NovaRefusal(
            "RealtimeConfigurationInvalid",
            "hw:cpu_realtime needs hw:cpu_policy dedicated or mixed",
        )


def _check_mixed(
    dedicated: frozenset[int] | None, realtime: frozenset[int] | None
) -> None:
    """One mask says which vCPUs of a mixed guest are pinned."""
    if bool(dedicated) == bool(realtime):
        raise errors.NovaRefusal(
            "RequiredMixedOrRealtimeCPUMask",
            "hw:cpu_policy=mixed needs one of hw:cpu_dedicated_mask and "
            "hw:cpu_realtime with its mask, and not both",
        )
