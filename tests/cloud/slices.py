# SPDX-License-Identifier: Apache-2.0
"""A host of a cloud that is divided: a whole, two halves, four quarters.

Two of the quarters share a CPU, as no machine must have more than two for it.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from ceilometer_perf.guest import compute_driver
from ceilometer_perf.slices.tree import Tree
from tests.chain.errors import ChainError
from tests.cloud.cloud import Cloud
from tests.cloud.virt import virt_type
from tests.unit.shell import run
from tests.unit.slice_trees import Row, specs

ROWS: list[Row] = [
    ("whole", "WHOLE", None),
    ("left", "HALF", "whole"),
    ("right", "HALF", "whole"),
    ("left-1", "QUARTER", "left"),
    ("left-2", "QUARTER", "left"),
    ("right-1", "QUARTER", "right"),
    ("right-2", "QUARTER", "right"),
]
TREE = Tree(specs(ROWS))
CPUS = {"whole": ("0", "1"), "left": ("0",), "right": ("1",)}
MIB = {"WHOLE": 128, "HALF": 96, "QUARTER": 64}

TEMPLATE = """\
<domain type='{virt}'>
  <name>{{{{ instance.name }}}}</name>
  <uuid>{{{{ instance.uuid }}}}</uuid>
  <memory unit='MiB'>{mib}</memory>
  <vcpu>{vcpus}</vcpu>
  <cputune>
    {pins}
    <emulatorpin cpuset='{first}'/>
  </cputune>
  <os>
    <type>hvm</type>
    <boot dev='hd'/>
  </os>
  <devices>
    {{% for disk in disks %}}
    <disk type='{{{{ disk.type }}}}' device='disk'>
      <driver name='qemu' type='{{{{ disk.format }}}}'/>
      <source file='{{{{ disk.source }}}}'/>
      <target dev='{{{{ disk.target }}}}' bus='{{{{ disk.bus }}}}'/>
    </disk>
    {{% endfor %}}
    <memballoon model='none'/>
  </devices>
</domain>
"""


def cpus(name: str) -> tuple[str, ...]:
    """Those that a slice has, one for each of its vCPUs."""
    return CPUS[name.partition("-")[0]]


def _template(name: str, end: str) -> str:
    mine = cpus(name)
    pins = "\n    ".join(
        f"<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>"
        for vcpu, cpu in enumerate(mine)
    )
    return TEMPLATE.format(
        virt=virt_type(), mib=MIB[end], vcpus=len(mine), pins=pins,
        first=mine[0],
    )  # fmt: skip


def write(folder: Path) -> list[str]:
    """The templates; the entries of ``slice_spec``."""
    entries = []
    for name, end, parent in ROWS:
        path = folder / f"{name}.xml"
        path.write_text(_template(name, end))
        entry = {
            "name": name,
            "resource_class": f"CUSTOM_{end}",
            "template_file": str(path),
        } | ({"conflict_parent": parent} if parent else {})
        entries.append(json.dumps(entry))
    return entries


def divide(cloud: Cloud, folder: Path) -> None:
    """Give all hosts of a cloud the slices, before it starts."""
    if compute_driver.is_missing():
        raise ChainError("the driver is not installed: pip install -e . again")
    entries = write(folder)
    for compute in cloud.computes:
        compute.driver = compute_driver.NAME
        compute.options["slice_spec"] = "\nslice_spec = ".join(entries)


def create_flavors(cloud: Cloud) -> Mapping[str, str]:
    """As ``slice flavors`` has them: the id by the end of the class."""
    admin = cloud.identity.admin.compute
    conf = str(cloud.computes[0].nova_conf)
    ran = run("slice", "flavors", "--nova-conf", conf, "-f", "json")
    assert ran.code == 0, ran.err
    made = {}
    for each in json.loads(ran.out):
        flavor = admin.create_flavor(
            name=each["name"], vcpus=each["vcpus"], ram=each["ram"],
            disk=each["disk"],
        )  # fmt: skip
        admin.create_flavor_extra_specs(flavor, each["properties"])
        made[each["name"].upper().replace("-", "_")] = flavor.id
    return made
