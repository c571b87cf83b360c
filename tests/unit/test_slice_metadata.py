# SPDX-License-Identifier: Apache-2.0
"""The slice's name in a domain's metadata."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.guest import slice_metadata
from ceilometer_perf.guest.errors import DomainXMLError
from tests.unit.guest_cases import GOLDEN

DOMAIN = """\
<domain type='kvm'>
  <name>a</name>
  <memory>1</memory>
</domain>
"""


def test_none() -> None:
    assert slice_metadata.read(DOMAIN) is None
    empty = slice_metadata.write(DOMAIN, "")
    assert slice_metadata.read(empty) is None


def test_written_and_read() -> None:
    noted = slice_metadata.write(DOMAIN, "half_1")
    namespace = slice_metadata.NAMESPACE
    assert (
        noted
        == f"""\
<domain type='kvm'>
  <name>a</name>
  <metadata>
    <slice:slice xmlns:slice='{namespace}' name='half_1'/>
  </metadata>
  <memory>1</memory>
</domain>
"""
    )
    assert slice_metadata.read(noted) == "half_1"


def test_another_slice_takes_the_place_of_the_first() -> None:
    noted = slice_metadata.write(DOMAIN, "half_1")
    again = slice_metadata.write(noted, "half_2")
    assert again == noted.replace("half_1", "half_2")


def test_what_others_noted_stays() -> None:
    before = (GOLDEN / "emulatorpin-whole" / "before.xml").read_text()
    noted = DOMAIN.replace(
        "  <memory>",
        "  <metadata>\n    <x:y xmlns:x='urn:x'/>\n  </metadata>\n  <memory>",
    )
    assert "<x:y xmlns:x='urn:x'/>" in slice_metadata.write(noted, "b")
    assert slice_metadata.read(slice_metadata.write(before, "b")) == "b"


@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1))
def test_any_name(name: str) -> None:
    assert slice_metadata.read(slice_metadata.write(DOMAIN, name)) == name


def test_bad_xml() -> None:
    with pytest.raises(DomainXMLError):
        slice_metadata.read("<!DOCTYPE a><domain/>")
