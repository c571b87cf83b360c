# SPDX-License-Identifier: Apache-2.0
"""Domains and requirements for property tests.

The domains hold to libvirt's schema, with whatever may stand in them before
the companion sees them: its own elements, half right or wrong, others that
it must not touch, comments, and white space of any kind.

Strategies are cached: hypothesis validates each new one, at every draw.
"""

import dataclasses
import functools
import random

from hypothesis import strategies as st
from lxml import etree

from ceilometer_perf import cpus, guest
from ceilometer_perf.events import EVENTS

#: Top-level elements that nobody here knows, in no order.
FOREIGN = (
    '<title>it\'s &lt;kept&gt; &amp; "quoted"</title>',
    "<description>a='b' c=\"d\"</description>",
    (
        "<metadata><x:a xmlns:x='urn:kept' b='1'>t<x:c/>u<![CDATA[<perf/>]]>"
        "</x:a></metadata>"
    ),
    "<currentMemory unit='KiB'>16384</currentMemory>",
    "<numatune><memory mode='strict' nodeset='0'/></numatune>",
    "<cpu mode='host-model' check='partial'/>",
    "<clock offset='utc'><timer name='pit' tickpolicy='delay'/></clock>",
    "<on_poweroff>destroy</on_poweroff>",
    "<pm><suspend-to-mem enabled='no'/></pm>",
    "<devices><emulator>/usr/bin/qemu</emulator></devices>",
    "<seclabel type='none'/>",
)
FEATURES = ("<acpi/>", "<apic/>", "<vmcoreinfo state='on'/>")
MEMORY = ("<access mode='shared'/>", "<discard/>")
HUGEPAGES = "<hugepages><page size='2048' unit='KiB'/></hugepages>"
TUNING = ("<shares>2048</shares>", "<period>100000</period>")


@dataclasses.dataclass(frozen=True)
class Given:
    """A domain, and what may be asked of it."""

    xml: str
    vcpus: int
    requirements: guest.Requirements


@functools.cache
def some(choices: tuple[str, ...]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(choices), unique=True)


@functools.cache
def cpu_sets(highest: int) -> st.SearchStrategy[frozenset[int]]:
    return st.frozensets(st.integers(0, highest), min_size=1)


@functools.cache
@st.composite
def perf(draw: st.DrawFn) -> list[str]:
    names = draw(some(tuple(EVENTS)))
    if not names:
        return []
    states = (
        f"enabled='{draw(st.sampled_from(['yes', 'no']))}'" for _ in names
    )
    body = "".join(
        f"<event name='{name}' {state}/>"
        for name, state in zip(names, states, strict=True)
    )
    return [f"<perf>{body}</perf>"]


@functools.cache
@st.composite
def features(draw: st.DrawFn) -> list[str]:
    pmu = ("<pmu/>", "<pmu state='on'/>", "<pmu state='off'/>")
    inside = draw(some(FEATURES)) + draw(
        st.lists(st.sampled_from(pmu), max_size=1)
    )
    wanted = draw(st.booleans())
    return [f"<features>{''.join(inside)}</features>"] if wanted else []


@functools.cache
@st.composite
def memory_backing(draw: st.DrawFn) -> list[str]:
    flags = ("<nosharepages/>", "<locked/>", HUGEPAGES)
    inside = draw(some(flags)) + draw(some(MEMORY))
    if not draw(st.booleans()):
        return []
    return [f"<memoryBacking>{''.join(inside)}</memoryBacking>"]


@functools.cache
@st.composite
def scheds(draw: st.DrawFn, vcpus: int) -> list[str]:
    """Disjoint, as libvirt wants them, and as odd as it lets them be."""
    left = list(draw(st.permutations(range(vcpus))))
    found = []
    while draw(st.booleans()) and left:
        size = draw(st.integers(1, len(left)))
        named, left = left[:size], left[size:]
        how = draw(
            st.sampled_from(
                ["'fifo' priority='1'", "'fifo' priority='7'",
                 "'rr' priority='1'", "'batch'", "'idle'"]
            )
        )  # fmt: skip
        found.append(
            f"<vcpusched vcpus='{cpus.text(named)}' scheduler={how}/>"
        )
    return found


ALLOCATIONS = {
    "cachetune": "<cache id='0' level='3' type='both' size='24' unit='MiB'/>",
    "memorytune": "<node id='0' bandwidth='50'/>",
}
LEVELS = {"cachetune": "level='3' ", "memorytune": ""}


@st.composite
def split(draw: st.DrawFn, vcpus: list[int]) -> list[list[int]]:
    """Disjoint parts of some vCPUs."""
    left, parts = list(draw(st.permutations(vcpus))), []
    while draw(st.booleans()) and left:
        size = draw(st.integers(1, len(left)))
        parts.append(left[:size])
        left = left[size:]
    return parts


@functools.cache
@st.composite
def tunes(draw: st.DrawFn, vcpus: int) -> list[str]:
    """Allocations and monitors, as far as libvirt takes them."""
    found = []
    for group in draw(split(list(range(vcpus)))):
        names = draw(
            st.lists(st.sampled_from([*LEVELS]), min_size=1, unique=True)
        )
        inside = {name: [""] * 0 for name in names}
        allocated = draw(some(tuple(names)))
        for name in allocated:
            inside[name].append(ALLOCATIONS[name])
        parts = draw(split(group))
        if draw(st.booleans()) and allocated and group not in parts:
            parts.append(group)
        for name in names:
            # With nothing in it libvirt takes it for nothing.
            least = 0 if inside[name] else 1
            own = draw(
                st.lists(
                    st.sampled_from(parts or [group]),
                    min_size=least,
                    unique_by=frozenset,
                )
            )
            inside[name] += [
                f"<monitor {LEVELS[name]}vcpus='{cpus.text(part)}'/>"
                for part in own
            ]
        found += [
            f"<{name} vcpus='{cpus.text(group)}'>{''.join(inside[name])}"
            f"</{name}>"
            for name in names
        ]
    return found


@functools.cache
@st.composite
def cputune(draw: st.DrawFn, vcpus: int, iothreads: int) -> list[str]:
    inside = draw(some(TUNING))
    inside += [
        f"<vcpupin vcpu='{v}' cpuset='{cpus.text(draw(cpu_sets(31)))}'/>"
        for v in range(vcpus)
    ]
    inside += [
        f"<iothreadpin iothread='{t}' "
        f"cpuset='{cpus.text(draw(cpu_sets(31)))}'/>"
        for t in draw(
            st.sets(st.integers(1, iothreads)) if iothreads else st.just(set())
        )
    ]
    if draw(st.booleans()):
        # Beyond the vCPUs' own, as Nova chooses it for isolated threads.
        found = draw(cpu_sets(31)) if draw(st.booleans()) else {40}
        inside.append(f"<emulatorpin cpuset='{cpus.text(found)}'/>")
    inside += draw(scheds(vcpus))
    inside += draw(tunes(vcpus))
    inside = draw(st.permutations(inside))
    return [f"<cputune>{''.join(inside)}</cputune>"]


@functools.cache
def realtimes(vcpus: int) -> st.SearchStrategy[guest.Realtime]:
    everyone = frozenset(range(vcpus))

    def build(
        chosen: frozenset[int],
        priority: int,
        policy: str | None,
        pool: frozenset[int] | None,
    ) -> guest.Realtime:
        if chosen == everyone and policy is None:
            policy = "isolate"
        return guest.Realtime(
            chosen,
            everyone - chosen,
            priority,
            policy,
            pool if policy == "share" else None,
        )

    return st.builds(
        build,
        cpu_sets(vcpus - 1),
        st.integers(1, 99),
        st.sampled_from([None, "isolate", "share"]),
        st.none() | cpu_sets(31),
    )


@functools.cache
def requirements(vcpus: int) -> st.SearchStrategy[guest.Requirements]:
    return st.builds(
        guest.Requirements,
        perf_events=some(tuple(EVENTS)).map(tuple),
        pmu=st.sampled_from([None, False, True]),
        locked=st.booleans(),
        realtime=st.none() | realtimes(vcpus),
        monitors=st.booleans(),
    ).map(
        lambda r: dataclasses.replace(r, locked=r.locked or bool(r.realtime))
    )


def spaced(element: etree._Element, seed: int) -> None:
    """Comments and white space of all kinds between elements."""
    dice = random.Random(seed)
    style = dice.choice([None, " ", "\n", "pretty", "pretty", "mixed"])
    if style == "pretty":
        etree.indent(element, dice.choice(["  ", "\t", ""]))
    for parent in list(element.iter(*{e.tag for e in element.iter()})):
        if not len(parent) or parent.prefix or parent.tag == "os":
            continue
        if style == "mixed":
            parent.text = dice.choice([None, "\n   ", " "])
        if dice.random() < 0.2:
            note = etree.Comment(" <locked/> a='b' ")
            note.tail = parent.text
            parent.insert(dice.randrange(len(parent) + 1), note)


@functools.cache
@st.composite
def domains(draw: st.DrawFn) -> Given:
    vcpus = draw(st.integers(1, 6))
    iothreads = draw(st.integers(0, 3))
    parts = [
        "<name>guest</name>",
        "<memory unit='KiB'>16384</memory>",
        f"<vcpu placement='static'>{vcpus}</vcpu>",
        "<os><type arch='x86_64'>hvm</type></os>",
        *draw(some(FOREIGN)),
        *draw(perf()),
        *draw(features()),
        *draw(memory_backing()),
        *draw(cputune(vcpus, iothreads)),
    ]
    if iothreads or draw(st.booleans()):
        parts.append(f"<iothreads>{iothreads}</iothreads>")
    body = "".join(draw(st.permutations(parts)))
    root = etree.fromstring(
        f"<domain type='kvm'>{body}</domain>",
        etree.XMLParser(strip_cdata=False),
    )
    spaced(root, draw(st.integers(0, 2**16)))
    text = etree.tostring(root, encoding="unicode")
    return Given(text, vcpus, draw(requirements(vcpus)))
