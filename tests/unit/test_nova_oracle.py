# SPDX-License-Identifier: Apache-2.0
"""Nova and the companion must agree, in value or in class of error.

Nova is imported without a guard: if it is missing, these tests fail.
"""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Any, get_args

import nova.conf.compute
import nova.conf.libvirt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree
from nova import exception
from nova.virt import hardware
from oslo_utils import strutils

from ceilometer_perf import cpus, guest
from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import (
    errors,
    nova_conf,
    nova_metadata,
)
from tests.examples import times
from tests.unit import guest_rules
from tests.unit.guest_rules import Case, Extras, Verdict
from tests.unit.nova_oracle import Nova

BOOLEANS = st.sampled_from(
    [*strutils.TRUE_STRINGS, *strutils.FALSE_STRINGS, "True", "FALSE", " on ",
     "maybe", "", "2", "None"]
)  # fmt: skip
YES = st.sampled_from(["yes", "True", "1", " ON"])
POLICIES = st.sampled_from(
    ["dedicated", "dedicated", "mixed", "mixed", "shared", "", "Dedicated"]
)
SIZES = st.sampled_from(
    ["small", "large", "any", "2048", "2MB", "1.5GB", "huge", "", "2 MB"]
)


@functools.cache
def masks(vcpus: int) -> st.SearchStrategy[str]:
    """Mostly masks that name vCPUs, some that don't, some that are none."""
    number = st.integers(0, vcpus + 1).map(str)
    span = st.builds("{}-{}".format, number, number)
    rule = st.builds(
        "{}{}{}".format,
        st.sampled_from(["", "", "", "^", " ", " ^", "^ ", "^^", "-"]),
        number | span,
        st.sampled_from(["", "", "", " ", "-"]),
    )
    rules = st.lists(rule, max_size=4).map(",".join)
    good = st.sets(st.integers(0, vcpus - 1), min_size=1).map(cpus.text)
    but = good.map(lambda mask: ",".join(f"^{m}" for m in mask.split(",")))
    return st.one_of(
        good, good, but, but, rules, st.text("0123,-^ ", max_size=8)
    )


def extras(
    sometimes: Mapping[str, st.SearchStrategy[str]],
    always: Mapping[str, st.SearchStrategy[str]] | None = None,
) -> st.SearchStrategy[Extras]:
    return st.fixed_dictionaries(
        dict(always or {}), optional=dict(sometimes)
    ).map(dict)


@functools.cache
def flavors(vcpus: int, realtime: bool) -> st.SearchStrategy[Extras]:
    sometimes = {
        "hw:pmu": BOOLEANS,
        "hw:cpu_realtime_mask": masks(vcpus),
        "hw:emulator_threads_policy": st.sampled_from(
            ["share", "isolate", "share", "isolate", "", "Share"]
        ),
    }
    if realtime:
        return extras(
            sometimes, {"hw:cpu_realtime": YES, "hw:cpu_policy": POLICIES}
        )
    return extras(
        {
            **sometimes,
            "hw:cpu_realtime": BOOLEANS,
            "hw:cpu_policy": POLICIES,
            "hw:cpu_dedicated_mask": masks(vcpus),
            "hw:locked_memory": BOOLEANS,
            "hw:mem_page_size": SIZES,
            "resources:PCPU": st.sampled_from(
                [str(vcpus), str(vcpus + 1), "0", "x"]
            ),
            "resources1:VCPU": st.sampled_from([str(vcpus), "0"]),
        }
    )


@functools.cache
def images(vcpus: int, realtime: bool) -> st.SearchStrategy[Extras]:
    sometimes = {
        "hw_pmu": BOOLEANS,
        "hw_cpu_realtime_mask": masks(vcpus) | st.just(""),
        "hw_emulator_threads_policy": st.sampled_from(["share", "x"]),
    }
    if realtime:
        return extras(sometimes)
    return extras(
        {
            **sometimes,
            "hw_cpu_policy": POLICIES,
            "hw_locked_memory": BOOLEANS,
            "hw_mem_page_size": SIZES,
        }
    )


@st.composite
def guests(draw: st.DrawFn, *, realtime: bool) -> Case:
    vcpus = draw(st.integers(1, 8))
    shared = draw(st.sampled_from([None, "", "0-1", "0-7,^3"]))
    return (
        vcpus,
        draw(flavors(vcpus, realtime)),
        draw(images(vcpus, realtime)),
        shared,
    )


def agree(case: Case) -> Verdict:
    theirs = Nova(*case).verdict()
    assert guest_rules.ours(case) == theirs
    return theirs


@pytest.mark.parametrize("text", guest_rules.RULES)
def test_the_table_is_novas(text: str) -> None:
    found = Nova(*guest_rules.case(text)).verdict()
    assert found == guest_rules.expected(text)


def kind(verdict: Verdict) -> str:
    if verdict.error:
        return verdict.error
    return "realtime" if verdict.realtime else "accepted"


@st.composite
def locked_guests(draw: st.DrawFn) -> Case:
    """Nothing but memory, so that nothing else is refused first."""
    memory = {"locked_memory": BOOLEANS, "mem_page_size": SIZES}
    flavor = extras({f"hw:{key}": how for key, how in memory.items()})
    image = extras({f"hw_{key}": how for key, how in memory.items()})
    return draw(st.integers(1, 4)), draw(flavor), draw(image), None


MEMORY = {
    "FlavorImageLockedMemoryConflict",
    "LockMemoryForbidden",
    "MemoryPageSizeForbidden",
    "MemoryPageSizeInvalid",
}
REALTIME = {
    "FlavorImageConflict",
    "Invalid",
    "InvalidEmulatorThreadsPolicy",
    "RealtimeConfigurationInvalid",
    "RealtimeMaskNotFoundOrInvalid",
}
POLICY = {
    "BadRequirementEmulatorThreadsPolicy",
    "ImageCPUPinningForbidden",
    "InvalidCPUAllocationPolicy",
    "InvalidMixedInstanceDedicatedMask",
    "InvalidRequest",
    "RequiredMixedInstancePolicy",
    "RequiredMixedOrRealtimeCPUMask",
}


@pytest.mark.hypothesis
@pytest.mark.parametrize(
    ("cases", "factor", "expected"),
    [
        pytest.param(
            guests(realtime=False), 8, {"accepted", *POLICY}, id="any"
        ),
        pytest.param(
            guests(realtime=True), 6, {"realtime", *REALTIME}, id="realtime"
        ),
        pytest.param(locked_guests(), 5, {"accepted", *MEMORY}, id="memory"),
    ],
)
def test_requirements(
    cases: st.SearchStrategy[Case], factor: int, expected: set[str]
) -> None:
    seen: Counter[str] = Counter()

    @given(cases)
    @times(factor)
    def run(case: Case) -> None:
        seen[kind(agree(case))] += 1

    run()
    # A generator that never gets anywhere would prove nothing.
    assert expected <= set(seen)


def test_every_refusal_is_compared() -> None:
    """But for nova.conf's own, which the unit tests are about."""
    compared = MEMORY | REALTIME | POLICY
    named = set(get_args(errors.NovaClass))
    assert named == compared | {"InvalidConfiguration"}


@given(
    st.lists(
        st.text("0123456789,-^ _+", max_size=6) | masks(40), max_size=6
    ).map(",".join)
)
@example("8200,^10000")
@example("8200,^8200")
@example("8191-8193,^8192")
@example("0-20000,^5,^3-4")
@example("5-5,^5,5")
@times(5)
def test_cpu_sets(spec: str) -> None:
    try:
        theirs = hardware.parse_cpu_spec(spec)
    except exception.Invalid:
        theirs = None
    try:
        found = cpus.parse(spec)
    except ValueError:
        assert theirs is None
        return
    assert theirs is not None
    assert found == set(sorted(theirs)[: cpus.LIMIT + 1])


@given(st.sets(st.integers(0, 300)))
def test_cpu_sets_as_text(chosen: set[int]) -> None:
    assert cpus.text(chosen) == hardware.format_cpu_spec(chosen)


@given(
    st.lists(
        st.sampled_from([*EVENTS, "nope", "cpu_cycle", "emulation"]),
        unique=True,
    )
)
@times(2)
def test_perf_events(names: list[str]) -> None:
    """For names that Nova passes on: it minds neither case nor doubles."""
    found = guest.resolve(
        guest.Asked(1), guest.NovaConf(perf_events=tuple(names))
    )
    assert list(found.perf_events) == Nova(1, {}, {}).perf_events(names)


def test_options_are_novas() -> None:
    theirs = {
        option.name: option
        for module in (nova.conf.libvirt, nova.conf.compute)
        for options in vars(module).values()
        if isinstance(options, list)
        for option in options
        if hasattr(option, "dest")
    }
    for option in nova_conf.LIBVIRT_OPTS + nova_conf.COMPUTE_OPTS:
        same = theirs[option.name]
        assert type(option) is type(same)
        assert option.default == same.default
    assert nova.conf.compute.compute_group_opts
    compute = {o.name for o in nova.conf.compute.compute_group_opts}
    assert {o.name for o in nova_conf.COMPUTE_OPTS} <= compute


# The XML that Nova generates


@st.composite
def fitting(draw: st.DrawFn) -> Case:
    """Realtime guests that Nova accepts and that fit its host."""
    nodes = draw(st.sampled_from([1, 1, 2]))
    vcpus = nodes * draw(st.integers(1, 4))
    policy = draw(st.sampled_from(["dedicated", "mixed"]))
    threads = draw(st.sampled_from([None, "share", "isolate"]))
    flavor = {
        "hw:cpu_realtime": "yes",
        "hw:cpu_policy": policy,
        "hw:numa_nodes": str(nodes),
    }
    if threads:
        flavor["hw:emulator_threads_policy"] = threads
    mask = draw(st.none() | masks(vcpus))
    if mask:
        flavor["hw:cpu_realtime_mask"] = mask
    image = draw(
        extras({"hw_pmu": BOOLEANS, "hw_cpu_realtime_mask": masks(vcpus)})
    )
    shared = (
        "0-1,4" if threads == "share" else draw(st.sampled_from([None, "0-1"]))
    )
    return vcpus, flavor, image, shared


Meaning = dict[str, Any]


def meaning(text: str) -> Meaning:
    """What a realtime guest's XML says, however it is spelled."""
    root = etree.fromstring(text)
    return {
        "sched": {
            vcpu: (sched.get("scheduler"), sched.get("priority"))
            for sched in root.iterfind("cputune/vcpusched")
            for vcpu in cpus.parse(str(sched.get("vcpus")))
        },
        "emulator": [
            cpus.parse(str(pin.get("cpuset")))
            for pin in root.iterfind("cputune/emulatorpin")
        ],
        "iothreads": {
            pin.get("iothread"): cpus.parse(str(pin.get("cpuset")))
            for pin in root.iterfind("cputune/iothreadpin")
        },
        "pins": {
            pin.get("vcpu"): pin.get("cpuset")
            for pin in root.iterfind("cputune/vcpupin")
        },
        "memory": {str(e.tag) for e in root.iterfind("memoryBacking/*")},
        "pmu": [pmu.get("state") for pmu in root.iterfind("features/pmu")],
        "events": [dict(e.attrib) for e in root.iterfind("perf/event")],
    }


def stripped(text: str, *, keep_emulator: bool) -> str:
    """Nova's XML without what the companion would add."""
    root = etree.fromstring(text)
    gone = ["perf", "memoryBacking", "features/pmu", "cputune/vcpusched",
            "cputune/iothreadpin"]  # fmt: skip
    for path in gone + ([] if keep_emulator else ["cputune/emulatorpin"]):
        for element in root.findall(path):
            parent = element.getparent()
            assert parent is not None
            parent.remove(element)
    return etree.tostring(root, encoding="unicode")


@pytest.mark.hypothesis
def test_xml_of_a_realtime_guest() -> None:
    seen: Counter[str] = Counter()

    @given(fitting(), st.sampled_from([[], ["cpu_clock", "page_faults"]]))
    @times(2.5)
    def run(case: Case, names: list[str]) -> None:
        vcpus, flavor, image, shared = case
        nova_guest = Nova(*case)
        if nova_guest.verdict().error:
            return
        theirs = nova_guest.xml(names)
        if theirs is None:
            return
        threads = flavor.get("hw:emulator_threads_policy")
        seen[f"{flavor['hw:cpu_policy']} {threads}"] += 1
        conf = guest.NovaConf(
            perf_events=tuple(names),
            shared_cpus=cpus.parse(shared) if shared else None,
        )
        asked = guest.resolve(guest.Asked(vcpus, flavor, image), conf)
        # What Nova generates is clean, and stays as it is.
        assert guest.check(theirs, asked) == []
        assert guest.apply(theirs, asked) == theirs
        # What Nova would have generated is generated. The CPU of isolated
        # threads is Nova's choice, as the pins are.
        bare = stripped(theirs, keep_emulator=threads == "isolate")
        assert guest.check(bare, asked)
        assert meaning(guest.apply(bare, asked)) == meaning(theirs)

    run()
    assert set(seen) == {
        f"{policy} {threads}"
        for policy in ("dedicated", "mixed")
        for threads in (None, "share", "isolate")
    }


@given(guests(realtime=False))
def test_metadata_give_the_same_requirements(
    case: Case,
) -> None:
    vcpus, flavor, image, shared = case
    nova_guest = Nova(*case)
    if nova_guest.verdict().error:
        return
    theirs = nova_guest.xml([])
    if theirs is None:
        return
    noted = nova_metadata.read(theirs)
    assert noted.flavor is not None
    assert noted.image is not None
    conf = guest.NovaConf(shared_cpus=cpus.parse(shared) if shared else None)
    assert guest.resolve(
        guest.Asked(vcpus, noted.flavor, noted.image), conf
    ) == guest.resolve(guest.Asked(vcpus, flavor, image), conf)
    assert guest.check(theirs, guest.resolve(
        guest.Asked(vcpus, noted.flavor, noted.image), conf
    )) == []  # fmt: skip
