# SPDX-License-Identifier: Apache-2.0
"""Templates and a nova.conf for a host that is divided into equal slices."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ceilometer_perf import cpus
from ceilometer_perf.slices import split
from ceilometer_perf.slices.breach import ERROR
from ceilometer_perf.slices.build import Builder
from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.machine import Machine
from ceilometer_perf.slices.spec import OPTION, SliceSpec
from ceilometer_perf.slices.split import Part, Plan
from ceilometer_perf.slices.validate import validate

SNIPPET = "nova.conf"
#: Of several machine types, templates name one; others have what libvirt, or
#: Nova, takes.
X86 = "x86_64"

if TYPE_CHECKING:
    from jinja2 import Template


class OutputError(SliceError):
    """The templates can't be written, or must not be."""


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A slice, its part of the host, and the text of its template."""

    spec: SliceSpec
    part: Part
    text: str


@dataclasses.dataclass(frozen=True)
class _Cell:
    """A NUMA node of the guest."""

    node: int
    vcpus: str
    kib: int


def propose(
    machine: Machine, plan: Plan, folder: pathlib.Path
) -> list[Proposal]:
    """The slices of a host, whose templates are to be in a folder.

    :raises SplitError: the host can't be divided like that.
    """
    page = split.page_size(machine, plan)
    return [
        Proposal(
            SliceSpec(
                _name(part.of, part.number),
                f"CUSTOM_SLICE_1OF{part.of}",
                str(folder / f"{_name(part.of, part.number)}.xml"),
                _parent(plan.parts, part),
            ),
            part,
            _text(part, page, machine.arch),
        )
        for part in split.divide(machine, plan)
    ]


def _name(of: int, number: int) -> str:
    return f"1of{of}_{number}"


def _parent(parts: Sequence[int], part: Part) -> str | None:
    """The next larger slice that this one is a part of."""
    index = parts.index(part.of)
    if index == 0:
        return None
    above = parts[index - 1]
    return _name(above, (part.number - 1) * above // part.of + 1)


def _text(part: Part, page: int, arch: str) -> str:
    # QEMU's own threads get the first core, where its node has another: each
    # of the guest's nodes needs a vCPU.
    cores = [core for share in part.shares for core in share.cores]
    emulator, spare = cores[0], len(part.shares[0].cores) > 1
    pins: list[int] = []
    cells = []
    for share in part.shares:
        first = len(pins)
        own = [c for c in share.cores if not (spare and c is emulator)]
        pins += [cpu for core in own for cpu in core]
        numbers = cpus.text(range(first, len(pins)))
        cells.append(_Cell(share.node, numbers, share.pages * page))
    widths = {len(core) for core in cores}
    return _template().render(
        name=_name(part.of, part.number),
        part=part,
        page=page,
        arch=arch,
        x86=arch == X86,
        pins=pins,
        emulator=cpus.text(emulator),
        cells=cells,
        nodes=cpus.text(cell.node for cell in cells),
        threads=widths.pop() if len(widths) == 1 else None,
        devices=[d for share in part.shares for d in share.devices],
    )


@functools.cache
def _template() -> "Template":
    """Ours, whose brackets leave the braces to the operator's."""
    import jinja2  # of an extra

    # All of its values are numbers and addresses that were read as such.
    made = jinja2.Environment(  # noqa: S701
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )
    path = pathlib.Path(__file__).with_name("generated.xml.j2")
    return made.from_string(path.read_text())


def write(
    proposals: Sequence[Proposal],
    folder: pathlib.Path,
    builder: Builder,
    machine: Machine,
) -> None:
    """Write templates and a nova.conf into a new folder: all or nothing.

    :raises OutputError: there is something already, or it can't be written.
    :raises SliceError: what would be written breaks a rule.
    """
    if os.path.lexists(folder):
        raise OutputError(
            f"--output {folder}: it already exists; name a new folder in "
            "one that exists"
        )
    try:
        made = tempfile.mkdtemp(prefix=".slices-", dir=folder.parent)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        _fill(pathlib.Path(made), proposals, builder, machine)
        pathlib.Path(made).rename(folder)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _unwritable(folder: pathlib.Path, error: OSError) -> OutputError:
    return OutputError(
        f"--output {folder}: {error.strerror}; name a folder in a writable one"
    )


def _fill(
    folder: pathlib.Path,
    proposals: Sequence[Proposal],
    builder: Builder,
    machine: Machine,
) -> None:
    written = []
    for proposal in proposals:
        path = folder / pathlib.Path(proposal.spec.template_file).name
        path.write_text(proposal.text)
        written.append(
            dataclasses.replace(proposal.spec, template_file=str(path))
        )
    for breach in validate(written, builder, machine):
        if breach.level == ERROR:
            raise SliceError(f"--split breaks a rule: {breach.what}")
    lines = "".join(snippet(proposals, machine.arch))
    (folder / SNIPPET).write_text(lines)
    folder.chmod(0o755)


def snippet(proposals: Sequence[Proposal], arch: str = X86) -> Iterator[str]:
    """The lines of nova.conf."""
    yield "[libvirt]\n"
    for proposal in proposals:
        fields = dataclasses.asdict(proposal.spec)
        entry = {key: value for key, value in fields.items() if value}
        # A dollar sign is oslo.config's way to name another option.
        text = json.dumps(entry).replace("$", "$$")
        yield f"{OPTION} = {text}\n"
    if arch == X86:
        # What the templates have, so that Nova's devices fit.
        yield f"hw_machine_type = {X86}=q35\n"
