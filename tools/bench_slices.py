# SPDX-License-Identifier: Apache-2.0
"""How long a tree of slices takes to read and validate, and one to render.

Run with the project's Python, on a machine with libvirt's schemas.
"""

import argparse
import pathlib
import tempfile
import time
from collections.abc import Callable
from typing import TypeVar

from ceilometer_perf import guest
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices import spec
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.context import SAMPLE
from ceilometer_perf.slices.footprint import Pool
from ceilometer_perf.slices.generate import propose, snippet
from ceilometer_perf.slices.machine import Device, Machine
from ceilometer_perf.slices.schema import Schema
from ceilometer_perf.slices.split import Plan
from ceilometer_perf.slices.tree import Tree
from ceilometer_perf.slices.validate import validate
from tools.usage.numbers import at_least

T = TypeVar("T")

MODEL = "10de:2330"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--slices", type=at_least(8), default=1000, metavar="N",
        help="how many (default: 1000)",
    )  # fmt: skip
    wanted = parser.parse_args().slices
    with tempfile.TemporaryDirectory() as name:
        for what, seconds in measure(pathlib.Path(name), wanted).items():
            print(f"{what:40} {seconds * 1000:9.1f} ms")


def measure(folder: pathlib.Path, wanted: int) -> dict[str, float]:
    """Seconds that each step takes."""
    parents = wanted // 8 * 2  # as many on each of two NUMA nodes
    machine = _machine(3 * parents)
    plan = Plan((parents, 3 * parents), (MODEL,))
    proposals = propose(machine, plan, folder)
    for each in proposals:
        pathlib.Path(each.spec.template_file).write_text(each.text)
    conf = folder / "nova.conf"
    conf.write_text("".join(snippet(proposals)))
    builder = Builder(Schema(), guest.NovaConf())
    found: dict[str, float] = {}

    def timed(what: str, call: Callable[[], T]) -> T:
        begun = time.perf_counter()
        result = call()
        found[what] = time.perf_counter() - begun
        return result

    specs = timed(
        f"{len(proposals)} slices: read", lambda: spec.read(NovaFiles((conf,)))
    )
    timed("made a tree", lambda: list(Tree(specs)))
    breaches = timed(
        "rendered, held to the schema, validated",
        lambda: validate(specs, builder, machine),
    )
    if breaches:
        raise SystemExit(breaches[0].what)
    timed("one slice rendered", lambda: builder.build(specs[-1], SAMPLE))
    return found


def _machine(slices: int) -> Machine:
    """Of two NUMA nodes, with a core and a device for each slice."""
    each = slices // 2 + Plan.reserved_cores
    cpus = {cpu: cpu // each for cpu in range(2 * each)}
    return Machine(
        cpus=cpus,
        memory={Pool(node, 2048): slices << 11 for node in (0, 1)},
        cores=tuple((cpu,) for cpu in cpus),
        pci={
            key: Device(key, n * 2 // slices, MODEL)
            for n in range(slices)
            for key in [f"0000:{n // 256:02x}:{n // 8 % 32:02x}.{n % 8}"]
        },
        mdevs={},
    )


if __name__ == "__main__":
    main()
