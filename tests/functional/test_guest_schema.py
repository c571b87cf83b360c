# SPDX-License-Identifier: Apache-2.0
"""What the companion writes, judged by libvirt's schema and its parser.

Both come with libvirt; where they are missing these tests fail.
"""

import re

import libvirt
import pytest
from hypothesis import assume, given
from lxml import etree

from ceilometer_perf import guest
from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import errors
from ceilometer_perf.host.domains import library_version
from tests.examples import times
from tests.unit.guest_cases import CASES, Case
from tests.unit.guest_strategies import Given, domains

SCHEMAS = "/usr/share/libvirt/schemas"


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(f"{SCHEMAS}/domain.rng"))


@pytest.fixture(scope="module")
def connection() -> libvirt.virConnect:
    """Libvirt's test driver: its real parser, with nothing behind it."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    return libvirt.open("test:///default")


def corrected(given: Given) -> str:
    try:
        return guest.apply(given.xml, given.requirements)
    except errors.NotInXMLError:
        assume(False)
        raise


#: Those that the libvirt of this host can know.
KNOWN = [case for case in CASES if case.since <= library_version()]


@pytest.mark.parametrize("case", KNOWN, ids=lambda case: str(case.path.name))
def test_golden_pairs_hold_to_the_schema(
    case: Case, schema: etree.RelaxNG
) -> None:
    for text in case.before, case.after:
        schema.assertValid(etree.fromstring(text.encode()))


@given(given=domains())
@times(5)
def test_results_hold_to_the_schema(
    given: Given, schema: etree.RelaxNG
) -> None:
    schema.assertValid(etree.fromstring(given.xml))
    schema.assertValid(etree.fromstring(corrected(given)))


@given(given=domains())
@times(5)
def test_libvirt_takes_results_and_means_the_same(
    given: Given, connection: libvirt.virConnect
) -> None:
    """Libvirt rewrites XML: sets split up, defaults spelled out."""
    text = re.sub(
        r"type=(['\"])kvm\1", "type='test'", corrected(given), count=1
    )
    domain = connection.defineXMLFlags(
        text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )
    try:
        rewritten = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)
    finally:
        domain.undefine()
    rewritten = rewritten.replace("type='test'", "type='kvm'", 1)
    assert guest.check(rewritten, given.requirements) == []
    assert guest.apply(rewritten, given.requirements) == rewritten


def test_events_are_those_of_the_schema() -> None:
    common = etree.parse(f"{SCHEMAS}/domaincommon.rng")
    rng = {"r": "http://relaxng.org/ns/structure/1.0"}
    names = common.xpath(
        "//r:define[@name='perf']//r:attribute[@name='name']//r:value/text()",
        namespaces=rng,
    )
    assert isinstance(names, list)
    assert set(map(str, names)) == set(EVENTS)
