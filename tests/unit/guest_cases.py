# SPDX-License-Identifier: Apache-2.0
"""The golden pairs: a domain, what is asked of it, what must come out."""

import dataclasses
import json
import pathlib
from typing import Any

from ceilometer_perf import guest
from ceilometer_perf.guest import domain, nova_conf, xml
from ceilometer_perf.guest.nova_files import NovaFiles

GOLDEN = pathlib.Path(__file__).with_name("golden")


@dataclasses.dataclass(frozen=True)
class Case:
    """One directory of ``golden``, named after the element it is about."""

    path: pathlib.Path

    @property
    def element(self) -> str:
        return self.path.name.partition("-")[0]

    @property
    def before(self) -> str:
        return (self.path / "before.xml").read_text()

    @property
    def after(self) -> str:
        return (self.path / "after.xml").read_text()

    @property
    def since(self) -> tuple[int, ...]:
        """The first libvirt that takes what comes out."""
        return tuple(self._asked.get("since", (0, 0, 0)))

    @property
    def _asked(self) -> dict[str, Any]:
        asked: dict[str, Any] = json.loads(
            (self.path / "asked.json").read_text()
        )
        return asked

    def requirements(self) -> guest.Requirements:
        asked = self._asked
        conf = self.path / "nova.conf"
        vcpus = domain.vcpu_count(xml.parse(self.before).getroot())
        return guest.resolve(
            guest.Asked(vcpus, asked["flavor"], asked["image"]),
            nova_conf.read(NovaFiles((conf,))) if conf.exists() else None,
            guest.HostFacts(libvirt=tuple(asked["libvirt"]))
            if "libvirt" in asked
            else None,
            monitors=asked.get("monitors", False),
        )


CASES = [Case(path) for path in sorted(GOLDEN.iterdir())]
