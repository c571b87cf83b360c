# SPDX-License-Identifier: Apache-2.0
import contextlib

from hypothesis import assume, example, given
from hypothesis import strategies as st
from lxml import etree

from ceilometer_perf import guest
from ceilometer_perf.guest import errors
from ceilometer_perf.guest.elements import ELEMENTS
from tests.examples import times
from tests.unit.guest_strategies import Given, domains

SPELLED_OUT = [element.where for element in ELEMENTS]
#: What may be left of their parents when they are taken out.
EMPTIED = (
    "perf", "features", "memoryBacking", "cputune/cachetune",
    "cputune/memorytune", "cputune",
)  # fmt: skip


def corrected(given: Given) -> str:
    try:
        return guest.apply(given.xml, given.requirements)
    except errors.NotInXMLError:
        assume(False)
        raise


def rest(text: str) -> list[tuple[object, ...]]:
    """All of a domain but what the companion may change, in its order."""
    root = etree.fromstring(text)
    for where in SPELLED_OUT:
        for element in root.findall(where.removeprefix("/domain/")):
            parent = element.getparent()
            assert parent is not None
            assert not (element.tail or "").strip()
            parent.remove(element)
    for tag in EMPTIED:
        for element in root.findall(tag):
            parent = element.getparent()
            if parent is not None and not len(element):
                parent.remove(element)
    return [
        (
            node.tag,
            sorted(node.attrib.items()),
            (node.text or "").strip(),
            (node.tail or "").strip(),
        )
        for node in root.iter()
    ]


@given(domains())
def test_apply_makes_it_clean(given: Given) -> None:
    assert guest.check(corrected(given), given.requirements) == []


@given(domains())
def test_apply_is_idempotent(given: Given) -> None:
    once = corrected(given)
    assert guest.apply(once, given.requirements) == once


@given(domains())
def test_apply_leaves_the_rest(given: Given) -> None:
    assert rest(corrected(given)) == rest(given.xml)


@given(domains())
def test_events_and_schedulers_of_others_stay(given: Given) -> None:
    before = etree.fromstring(given.xml)
    after = etree.fromstring(corrected(given))
    asked = given.requirements.perf_events
    for event in before.iterfind("perf/event"):
        if event.get("name") not in asked:
            same = [
                found
                for found in after.iterfind("perf/event")
                if found.attrib == event.attrib
            ]
            assert len(same) == 1
    if given.requirements.realtime is None:
        for tag in "vcpusched", "emulatorpin", "iothreadpin":
            path = f"cputune/{tag}"
            assert [dict(e.attrib) for e in after.iterfind(path)] == [
                dict(e.attrib) for e in before.iterfind(path)
            ]
    assert tunes(before) <= tunes(after)


def tunes(domain: etree._Element) -> set[tuple[object, ...]]:
    """Every allocation and monitor, with what it is in."""
    return {
        (tune.tag, tune.get("vcpus"), inside.tag, *sorted(inside.items()))
        for tag in ("cachetune", "memorytune")
        for tune in domain.iterfind(f"cputune/{tag}")
        for inside in tune.iterfind("*")
    }


@given(domains())
def test_what_is_clean_is_not_touched(given: Given) -> None:
    if guest.check(given.xml, given.requirements) == []:
        assert guest.apply(given.xml, given.requirements) == given.xml
    nothing = guest.Requirements()
    assert guest.apply(given.xml, nothing) == given.xml


@given(domains())
def test_what_only_nova_can_choose_is_found_and_refused_alike(
    given: Given,
) -> None:
    found = {f.what for f in guest.check(given.xml, given.requirements)}
    refused = None
    try:
        guest.apply(given.xml, given.requirements)
    except errors.NotInXMLError as error:
        refused = error.what
    assert refused is None or refused in found


ASKED = guest.Requirements(
    perf_events=("cpu_clock",),
    pmu=False,
    locked=True,
    realtime=guest.Realtime(frozenset({1}), frozenset({0})),
    monitors=True,
)
FRAGMENTS = st.sampled_from(
    """
<domain>|</domain>|<domain/>|<domain type='kvm'>|<cachetune vcpus='0'/>
<memorytune vcpus='1'>|</memorytune>|<monitor/>|<monitor vcpus='0-3'/>|<cache/>
<vcpu>2</vcpu>|<vcpu>x</vcpu>|<cputune>|</cputune>
<vcpupin vcpu='0' cpuset='0-9999999999'/>|<vcpupin vcpu='1' cpuset='^'/>
<vcpupin vcpu='²' cpuset=''/>|<vcpupin vcpu='1' cpuset='3'/>|<vcpusched/>
<vcpusched vcpus='0-' scheduler='fifo'/>|<iothreads>-1</iothreads>
<iothreads>99999</iothreads>|<emulatorpin/>|<perf>|</perf>|<event/>
<event name='cpu_clock'/>|<features/>|<memoryBacking/>|<!-- -->|<![CDATA[x]]>
&amp;|&x;|<?xml version='1.0'?>|<!DOCTYPE domain [<!ENTITY x 'y'>]>|<?pi?>|text
<a xmlns='u'>|\0|\ud800|é""".replace("\n", "|").split("|")
)


@given(
    st.binary(max_size=300)
    | st.lists(FRAGMENTS, max_size=25).map("".join)
    | st.lists(FRAGMENTS, max_size=25).map(
        lambda parts: "<domain>" + "".join(parts) + "</domain>"
    )
)
@example(b"\xff\xfe<\x00d\x00o\x00m\x00a\x00i\x00n\x00/\x00>\x00")
@example("<domain><vcpu>2</vcpu><cputune/>t</domain>")
@times(5)
def test_any_input_gives_a_result_or_a_clear_error(
    document: str | bytes,
) -> None:
    with contextlib.suppress(guest.GuestError):
        once = guest.apply(document, ASKED)
        assert guest.apply(once, ASKED) == once
    with contextlib.suppress(guest.GuestError):
        guest.check(document, ASKED)
