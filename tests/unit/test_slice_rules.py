# SPDX-License-Identifier: Apache-2.0
"""The rules between slices, against the plainest way to apply them."""

import dataclasses
import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.slices import lacks, overlap
from ceilometer_perf.slices.breach import Breach
from ceilometer_perf.slices.footprint import Amount, Footprint, Pool
from ceilometer_perf.slices.machine import Device, Machine, whole_devices
from ceilometer_perf.slices.spec import SliceSpec
from ceilometer_perf.slices.template import Place
from ceilometer_perf.slices.tree import Tree

GPU, NIC = "0000:3b:00.0", "0000:af:00.0"
MDEV = "4b20d080-1b54-4048-85b3-a6a62d165c01"
SMALL0, SMALL1, ANY = Pool(0, 4), Pool(1, 4), Pool(None, 4)

MACHINE = Machine(
    cpus={0: 0, 1: 0, 2: 1, 3: 1},
    memory={SMALL0: 100, SMALL1: 100, Pool(0, 2048): 0},
    pci={GPU: Device(GPU, 0, "10de:2330"), NIC: Device(NIC, None)},
    mdevs={MDEV: Device(MDEV, 1)},
)


def taking(
    name: str,
    *cpus: int,
    pci: tuple[str, ...] = (),
    mdevs: tuple[str, ...] = (),
    memory: Mapping[Pool, int] = {},
) -> Footprint:
    def place(line: int) -> Place:
        return Place(f"{name}.xml", line, "<x/>")

    return Footprint(
        cpus={cpu: place(10 + cpu) for cpu in cpus},
        pci={key: place(30) for key in pci},
        mdevs={key: place(40) for key in mdevs},
        memory={p: Amount(kib, place(50)) for p, kib in memory.items()},
        floating={},
        place=place(1),
    )


def tree(**parents: str | None) -> Tree:
    return Tree(SliceSpec(n, "CUSTOM_A", "", p) for n, p in parents.items())


HALVES = tree(whole=None, a="whole", b="whole", a1="a", other=None)


def among(links: Tree, **footprints: Footprint) -> list[Breach]:
    everyone = {name: taking(name) for name in links} | footprints
    return list(overlap.breaches(links, everyone))


def told(found: list[Breach]) -> list[str]:
    return [f"{b.rule}: {b.what}" for b in found]


def lines(breach: Breach) -> list[str]:
    return [f"{place.file}:{place.line}" for place in breach.places]


def test_as_it_should_be() -> None:
    assert not among(
        HALVES,
        whole=taking("whole", 0, 1, 2, 3, pci=(GPU,), memory={SMALL0: 9}),
        a=taking("a", 0, 1, pci=(GPU,), memory={SMALL0: 5}),
        a1=taking("a1", 1, pci=(GPU,), memory={SMALL0: 5}),
        b=taking("b", 2, 3, memory={SMALL0: 4}),
        other=taking("other", 4, pci=(NIC,), memory={SMALL0: 99}),
    )


def test_outside_of_the_parent() -> None:
    found = among(
        HALVES,
        whole=taking("whole", 0, 1),
        b=taking("b", 1, 2, 3, pci=(GPU,)),
    )
    assert told(found) == [
        "outside: b takes CPU 2, which whole does not have",
        "outside: b takes CPU 3, which whole does not have",
        f"outside: b takes PCI device {GPU}, which whole does not have",
    ]
    assert [lines(breach) for breach in found] == [
        ["b.xml:12", "whole.xml:10"],
        ["b.xml:13", "whole.xml:10"],
        ["b.xml:30", "whole.xml:1"],
    ]


def test_overlaps() -> None:
    found = among(
        HALVES,
        whole=taking("whole", 0, 1, mdevs=(MDEV,)),
        a=taking("a", 0, 1, mdevs=(MDEV,)),
        a1=taking("a1", 1),
        b=taking("b", 0, 1, mdevs=(MDEV,)),
    )
    assert told(found) == [
        "overlap: a and b both take CPU 0-1, and neither is part of the other",
        (
            f"overlap: a and b both take mediated device {MDEV}, and "
            "neither is part of the other"
        ),
    ]
    assert lines(found[0]) == ["a.xml:10", "b.xml:10"]


def test_parts_of_what_clashes_are_not_told_again() -> None:
    found = among(
        tree(whole=None, a="whole", b="whole", b1="b", b2="b1"),
        whole=taking("whole", 0),
        a=taking("a", 0),
        b=taking("b", 0),
        b1=taking("b1", 0),
        b2=taking("b2", 0),
    )
    assert [b.slices for b in found] == [("a", "b")]


def test_memory_that_is_gone_is_told_of_once() -> None:
    links = tree(whole=None, a="whole", b="whole", c="whole", d="whole")
    found = among(
        links,
        whole=taking("whole", memory={SMALL0: 8}),
        **{n: taking(n, memory={SMALL0: 4}) for n in ("a", "b", "c", "d")},
    )
    assert [b.slices for b in found] == [("c", "whole")]


def test_a_cousin() -> None:
    found = among(
        HALVES,
        whole=taking("whole", 0),
        a1=taking("a1", 0),
        b=taking("b", 0),
    )
    assert [(b.rule, b.slices) for b in found] == [
        ("outside", ("a1", "a")), ("overlap", ("a1", "b")),
    ]  # fmt: skip


def test_roots_share_nothing() -> None:
    found = among(HALVES, whole=taking("whole", 0), other=taking("other", 0))
    assert [b.slices for b in found] == [("whole", "other")]


@pytest.mark.parametrize(
    ("whole", "a", "b", "said"),
    [
        ({SMALL0: 8}, {SMALL0: 9}, {}, "outside: a takes 9 KiB of node 0 in"),
        ({SMALL0: 8}, {SMALL1: 8}, {}, "outside: a takes 8 KiB of node 1 in"),
        ({SMALL0: 8}, {SMALL0: 4}, {SMALL0: 5}, "overlap: b and its siblings"),
        ({SMALL0: 8}, {ANY: 9}, {}, "outside: a takes 9 KiB of any node"),
        ({SMALL0: 8}, {ANY: 4}, {SMALL0: 5}, "overlap: b and its siblings"),
        ({ANY: 8}, {SMALL0: 4}, {SMALL1: 5}, "overlap: b and its siblings"),
        ({SMALL0: 8}, {Pool(0, 2048): 8}, {}, "in pages of 2 MiB, whole has"),
        ({SMALL0: 8}, {SMALL0: 8}, {}, None),
        ({SMALL0: 8, SMALL1: 8}, {SMALL0: 8}, {SMALL1: 8}, None),
        ({ANY: 8}, {SMALL0: 4}, {SMALL1: 4}, None),
    ],
)
def test_memory(
    whole: Mapping[Pool, int],
    a: Mapping[Pool, int],
    b: Mapping[Pool, int],
    said: str | None,
) -> None:
    found = among(
        tree(whole=None, a="whole", b="whole"),
        whole=taking("whole", memory=whole),
        a=taking("a", memory=a),
        b=taking("b", memory=b),
    )
    assert len(found) == (said is not None)
    for breach in found:
        assert (said or "") in told([breach])[0]
        assert next(place.line for place in breach.places) == 50


@st.composite
def forests(draw: st.DrawFn) -> tuple[Tree, dict[str, Footprint]]:
    parents = draw(st.lists(st.integers(-1, 11), min_size=1, max_size=12))
    links = {
        f"s{n}": f"s{above}" if 0 <= above < n else None
        for n, above in enumerate(parents)
    }
    taken = {
        name: taking(name, *draw(st.sets(st.integers(0, 5), max_size=3)))
        for name in links
    }
    return tree(**links), taken


@given(forests())
def test_the_truth(forest: tuple[Tree, dict[str, Footprint]]) -> None:
    links, taken = forest
    found = list(overlap.breaches(links, taken))
    cpus = {name: set(footprint.cpus) for name, footprint in taken.items()}

    outside = {
        name: cpus[name] - cpus[str(above)]
        for name in links
        if (above := links.parent(name)) is not None
    }
    clashing = {
        frozenset(pair): cpus[pair[0]] & cpus[pair[1]]
        for pair in itertools.combinations(links, 2)
        if pair[0] not in links.conflicts(pair[1])
    }
    # What is told is true.
    shown = {frozenset(b.slices) for b in found if b.rule == "overlap"}
    assert all(clashing[pair] for pair in shown)
    # What is true is told: of a slice, or of one that it is a part of.
    for pair, units in clashing.items():
        one, other = pair
        for unit in units:
            assert any(
                frozenset((mine, theirs)) in shown
                for mine in (one, *links.ancestors(one))
                for theirs in (other, *links.ancestors(other))
                if unit in cpus[mine] and unit in cpus[theirs]
            )
    lost = {b.slices[0] for b in found if b.rule == "outside"}
    assert lost == {name for name, units in outside.items() if units}


def test_hundreds_that_take_the_same() -> None:
    names = {f"s{n}": None for n in range(300)}
    same = {name: taking(name, *range(64)) for name in names}
    found = among(tree(**names), **same)
    assert {name for b in found for name in b.slices} == set(names)
    assert len(found) < 300 * overlap.MOST_SHOWN


VF = "0000:af:02.0"
SRIOV = dataclasses.replace(
    MACHINE,
    pci={NIC: Device(NIC, 1, functions=(VF,)), VF: Device(VF, 1)},
)


@pytest.mark.parametrize(
    ("links", "said"),
    [
        (tree(a=None, b=None), [
            (f"overlap: a and b both take PCI device {VF}, and neither is "
            "part of the other")
        ]),
        (tree(a=None, b="a"), []),
    ],
)  # fmt: skip
def test_a_physical_function_has_its_virtual_ones(
    links: Tree, said: list[str]
) -> None:
    taken = {
        name: whole_devices(taking(name, pci=(key,)), SRIOV)
        for name, key in (("a", NIC), ("b", VF))
    }
    assert told(list(overlap.breaches(links, taken))) == said
    # Where it is not known, or has none, it is what it says.
    for host in MACHINE, Machine({}, {}):
        alone = taking("a", pci=(NIC,))
        assert whole_devices(alone, host) == alone


def on_machine(links: Tree, **footprints: Footprint) -> list[Breach]:
    everyone = {name: taking(name) for name in links} | footprints
    return list(lacks.breaches(links, everyone, MACHINE))


ONE = tree(a=None)


@pytest.mark.parametrize(
    ("footprint", "said", "lines"),
    [
        (taking("a", 0, 1, 2, 3, pci=(GPU, NIC), mdevs=(MDEV,),
                memory={SMALL0: 100, SMALL1: 100}), None, ()),
        (taking("a", 3, 4), "missing: the host has no CPU 4", (14,)),
        (taking("a", memory={Pool(2, 4): 1}),
         "missing: the host has no NUMA node 2", (50,)),
        (taking("a", memory={SMALL0: 101}),
         ("missing: a takes 101 KiB of node 0 in pages of 4 KiB, the host "
          "has 100 KiB"), (50,)),
        (taking("a", memory={Pool(1, 2048): 2048}),
         ("missing: a takes 2 MiB of node 1 in pages of 2 MiB, the host has "
          "0 KiB"), (50,)),
        (taking("a", memory={ANY: 200}),
         "floating: the memory is not bound to a NUMA node: add <numatune>",
         (50,)),
        (taking("a", pci=("0000:00:00.0",)),
         "missing: the host has no PCI device 0000:00:00.0", (30,)),
        (taking("a", mdevs=("x",)),
         "missing: the host has no mediated device x", (40,)),
        (taking("a", 2, 3, pci=(GPU,)),
         (f"far: PCI device {GPU} is behind NUMA node 0, the CPUs of a are "
          "in 1"), (30, 12)),
        (taking("a", 0, mdevs=(MDEV,)),
         (f"far: mediated device {MDEV} is behind NUMA node 1, the CPUs of a "
          "are in 0"), (40, 10)),
        (taking("a", pci=(GPU,)), None, ()),
        (taking("a", 0, 1, memory={SMALL0: 60, SMALL1: 40}),
         ("far: memory of 40 KiB is behind NUMA node 1, the CPUs of a are in "
          "0"), (50, 10)),
    ],
)  # fmt: skip
def test_what_a_host_lacks(
    footprint: Footprint, said: str | None, lines: tuple[int, ...]
) -> None:
    found = on_machine(ONE, a=footprint)
    assert told(found) == ([] if said is None else [said])
    for breach in found:
        assert breach.slices == ("a",)
        assert tuple(place.line for place in breach.places) == lines


def test_memory_of_the_one_node_needs_no_binding() -> None:
    one = Machine(cpus={0: 0}, memory={SMALL0: 100})
    taken = {"a": taking("a", 0, memory={ANY: 100})}
    assert [*lacks.breaches(ONE, taken, one)] == []


# Of two nodes with CPUs; 2 and 3 are HBM, each near one of them, 4 is CXL that
# is as far from both.
HBM = Machine(
    cpus=MACHINE.cpus,
    memory={Pool(node, 4): 100 for node in range(5)},
    near={
        0: frozenset({0}), 1: frozenset({1}),
        2: frozenset({0}), 3: frozenset({1}), 4: frozenset({0, 1}),
    },
    pci={GPU: Device(GPU, 2)},
)  # fmt: skip


@pytest.mark.parametrize(
    ("taken", "far"),
    [
        ((0, 1), {1, 3}),
        ((2, 3), {0, 2}),
        ((1, 2), set()),
        ((), set()),
    ],
)
def test_what_is_near_cpus(taken: tuple[int, ...], far: set[int]) -> None:
    for node in range(5):
        one = taking("a", *taken, memory={Pool(node, 4): 1})
        found = [b.rule for b in lacks.breaches(ONE, {"a": one}, HBM)]
        assert found == ["far"] * (node in far)
    device = lacks.breaches(ONE, {"a": taking("a", *taken, pci=(GPU,))}, HBM)
    assert [b.rule for b in device] == ["far"] * (2 in far)


def test_what_slices_take_together() -> None:
    found = on_machine(
        tree(a=None, b=None, b1="b"),
        a=taking("a", memory={SMALL0: 60}),
        b=taking("b", memory={SMALL0: 60}),
        b1=taking("b1", memory={SMALL0: 60}),
    )
    assert told(found) == [
        (
            "missing: b and the top-level slices before it take 120 KiB of "
            "node 0 in pages of 4 KiB, the host has 100 KiB"
        )
    ]
    assert [breach.slices for breach in found] == [("b",)]
    assert [place.line for place in found[0].places] == [50]


def test_devices_that_nobody_told_of() -> None:
    footprints = {"a": taking("a", pci=(GPU,))}
    bare = Machine(MACHINE.cpus, MACHINE.memory)
    (found,) = lacks.breaches(ONE, footprints, bare)
    assert (found.rule, found.level) == ("unchecked", "warning")
    assert found.what == (
        f"PCI device {GPU} is not checked: the host's devices are unknown"
    )
    assert (found.slices, found.places[0].line) == (("a",), 30)
