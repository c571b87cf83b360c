# SPDX-License-Identifier: Apache-2.0
"""Which hosts can give a guest a virtual PMU."""

from pathlib import Path

import pytest

from ceilometer_perf.host import virtual_pmu

KVM = {"module/kvm/parameters/enable_pmu": "Y\n"}
OLD = {"module/kvm/version": ""}
PMU = "bus/event_source/devices"
CPU = {f"{PMU}/cpu/type": "4\n"}


@pytest.mark.parametrize(
    ("files", "possible"),
    [
        (KVM | CPU, True),
        (OLD | CPU, True),
        ({"module/kvm/parameters/enable_pmu": "N\n"} | CPU, False),
        # No PMU at all, as in most virtual machines.
        (KVM | {f"{PMU}/software/type": "1\n"}, False),
        (KVM | {f"{PMU}/cpu_core/type": "4", f"{PMU}/cpu_atom/type": "10"},
         False),
        (CPU, False),
        (OLD | {f"{PMU}/armv8_pmuv3_0/type": "8"}, True),
        (OLD | {f"{PMU}/armv8_cortex_a72/type": "8",
                f"{PMU}/armv8_cortex_a53/type": "9"}, False),
    ],
)  # fmt: skip
def test_hosts(tmp_path: Path, files: dict[str, str], possible: bool) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert virtual_pmu.is_possible(tmp_path) is possible
