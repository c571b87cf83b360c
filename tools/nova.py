# SPDX-License-Identifier: Apache-2.0
"""Nova's functional tests of libvirt, with its driver and with ours.

``python -m tools.nova FOLDER`` in an environment of ``tools/nova.sh``; what
went wrong in the tests is in a log of each driver there.
"""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

NOVAS = "nova.virt.libvirt.driver.LibvirtDriver"
OURS = "ceilometer_perf.nova.driver.SlicesDriver"

TESTS = "nova.tests.functional.libvirt"
NUMA = "test_numa_servers.NUMAServers"
CHOSEN = (
    # Boot, reboot, stop and start, rebuild, resize, delete.
    "test_machine_type",
    "test_uefi",
    "test_power_manage.PowerManagementTests",
    # Shelve, cold migration, evacuation, rescue.
    "test_stateless_firmware",
    "test_rescue_deleted_base",
    # XML of many kinds.
    "test_rt_servers",
    "test_vif_model",
    "test_device_bus_migration",
    "test_vpmem",
    f"{NUMA}Test.test_create_server_with_numa_topology",
    f"{NUMA}Test.test_create_server_with_hugepages",
    f"{NUMA}Test.test_create_server_with_mixed_policy",
    f"{NUMA}Test.test_resize_revert_server_with_numa",
    f"{NUMA}Test.test_resize_vcpu_to_pcpu",
    f"{NUMA}WithNetworksTest.test_cold_migrate_with_physnet",
    f"{NUMA}RebuildTests",
)

Outcomes = dict[str, str]
"""Of each test by its id."""

PASSED, ABSENT = "success", "not run"


def main() -> int:
    """Run both at a time; 1 unless ours passes what Nova's passes."""
    folder = Path(sys.argv[1])
    began = time.monotonic()
    novas, ours = _run(folder, [f"{TESTS}.{name}" for name in CHOSEN])
    # On a busy machine some wait in vain.
    if names := failed(novas, ours):
        novas_again, ours_again = _run(folder, names)
        novas |= novas_again
        ours |= ours_again
    for name in failed(novas, ours):
        print(
            f"{name}: {novas.get(name, ABSENT)} with Nova's driver, "
            f"{ours.get(name, ABSENT)} with ours"
        )
    counts = count(novas, ours)
    print(
        f"{counts[True, True]} of Nova's tests pass with both drivers, "
        f"{counts[False, False]} with neither, "
        f"{counts[True, False]} with Nova's alone, "
        f"{counts[False, True]} with ours alone, "
        f"in {time.monotonic() - began:.0f} s"
    )
    return 1 if counts[True, False] or not counts[True, True] else 0


def _run(folder: Path, names: list[str]) -> tuple[Outcomes, Outcomes]:
    files, running = [], []
    for driver in NOVAS, OURS:
        file = folder / f"{driver.rpartition('.')[2]}.txt"
        file.unlink(missing_ok=True)
        files.append(file)
        command = [sys.executable, "-m", "tools.nova_tests", driver, str(file)]
        with file.with_suffix(".log").open("w") as log:
            running.append(
                subprocess.Popen(
                    [*command, *names], stdout=log, stderr=subprocess.STDOUT
                )
            )
    ends = [process.wait() for process in running]
    if any(ends):
        sys.exit(f"the tests were not run to their end: see {folder}/*.log")
    novas, ours = map(_read, files)
    return novas, ours


def _read(file: Path) -> Outcomes:
    lines = (line.split(" ", 1) for line in file.read_text().splitlines())
    return {name: outcome for outcome, name in lines}


def failed(novas: Outcomes, ours: Outcomes) -> list[str]:
    """Tests that do not pass with both."""
    return sorted(
        name
        for name in novas.keys() | ours.keys()
        if not novas.get(name) == ours.get(name) == PASSED
    )


def count(novas: Outcomes, ours: Outcomes) -> Counter[tuple[bool, bool]]:
    """How many pass or not with Nova's, and with ours."""
    return Counter(
        (novas.get(name) == PASSED, ours.get(name) == PASSED)
        for name in novas.keys() | ours.keys()
    )


if __name__ == "__main__":
    sys.exit(main())
