# SPDX-License-Identifier: Apache-2.0
"""vCPUs and memory that the templates of a class have, for its flavor."""

import dataclasses
from collections.abc import Iterable, Mapping

from ceilometer_perf import guest
from ceilometer_perf.guest import domain, xml
from ceilometer_perf.guest.errors import DomainXMLError
from ceilometer_perf.slices import build
from ceilometer_perf.slices.context import SAMPLE
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.footprint import kibibytes
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.template import Rendered


@dataclasses.dataclass(frozen=True)
class Size:
    """None for what a template takes from the flavor, or doesn't say."""

    vcpus: int | None = None
    memory_mib: int | None = None


def sizes(specs: Iterable[SliceSpec]) -> Mapping[str, Size]:
    """By resource class; its first slice speaks for the others.

    :raises TemplateError: a template can't be rendered.
    """
    first: dict[str, SliceSpec] = {}
    for spec in specs:
        first.setdefault(spec.resource_class, spec)
    one, other = (
        map(
            _size, build.render(first.values(), instance, guest.Requirements())
        )
        for instance in (SAMPLE, _LARGER)
    )
    return {
        name: Size(
            vcpus=a.vcpus if a.vcpus == b.vcpus else None,
            memory_mib=a.memory_mib if a.memory_mib == b.memory_mib else None,
        )
        for name, a, b in zip(first, one, other, strict=True)
    }


#: What is the same for both of them is the template's own.
_LARGER = {
    **SAMPLE,
    "instance": {
        **SAMPLE["instance"],
        "vcpus": SAMPLE["instance"]["vcpus"] + 1,
        "memory_mib": SAMPLE["instance"]["memory_mib"] + 1,
    },
}


def _size(rendered: Rendered) -> Size:
    root = rendered.root()
    try:
        return Size(
            None if root.find("vcpu") is None else domain.vcpu_count(root),
            _mebibytes(root.find("memory")),
        )
    except DomainXMLError as error:
        raise TemplateError(f"{rendered.file}: {error}") from error


def _mebibytes(memory: xml.Element | None) -> int | None:
    if memory is None:
        return None
    return -(-kibibytes(memory, memory.text or "") // 1024)
