# SPDX-License-Identifier: Apache-2.0
"""What slices ask of a host, with libvirt's answers made up."""

from typing import Any

import libvirt
import pytest

from ceilometer_perf.guest import slice_metadata
from ceilometer_perf.host import slices
from ceilometer_perf.reading import SourceUnavailableError
from tests.unit.fakes import FakeVirConnect

DOMAIN = "<domain><name>a</name></domain>"


class Fake:
    def __init__(self, uuid: str, xml: Any) -> None:
        self.uuid, self.xml = uuid, xml

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return self.uuid

    def XMLDesc(self, flags: int) -> str:  # noqa: N802 - libvirt's name
        assert flags == 0
        if isinstance(self.xml, Exception):
            raise self.xml
        return str(self.xml)


class Host(FakeVirConnect):
    def __init__(self, *found: Fake) -> None:
        super().__init__()
        self.found = found

    def listAllDomains(self) -> list[Fake]:  # noqa: N802 - libvirt's name
        return list(self.found)

    def listAllDevices(self, _flags: int) -> list[Fake]:  # noqa: N802
        return [Fake("", "<device/>")]

    def getCapabilities(self) -> str:  # noqa: N802 - libvirt's name
        return "<capabilities/>"


def error(code: int) -> libvirt.libvirtError:
    made = libvirt.libvirtError("no")
    made.err = (code, 0, "no", 0, None, None, None, 0, 0)
    return made


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Any:
    def to(host: Host) -> None:
        monkeypatch.setattr(libvirt, "openReadOnly", lambda _uri: host)

    return to


def test_taken(connect: Any) -> None:
    connect(
        Host(
            Fake("3", slice_metadata.write(DOMAIN, "half_1")),
            Fake("1", slice_metadata.write(DOMAIN, "half_1")),
            Fake("2", slice_metadata.write(DOMAIN, "half_2")),
            Fake("4", DOMAIN),
            Fake("5", error(libvirt.VIR_ERR_NO_DOMAIN)),
        )
    )
    assert slices.taken("a") == {"half_1": ("1", "3"), "half_2": ("2",)}


@pytest.mark.parametrize(
    "answer", [error(libvirt.VIR_ERR_INTERNAL_ERROR), "<!DOCTYPE a><domain/>"]
)
def test_nothing_is_overlooked(connect: Any, answer: Any) -> None:
    connect(Host(Fake("1", DOMAIN), Fake("2", answer)))
    with pytest.raises(SourceUnavailableError):
        slices.taken("a")


def test_hardware(connect: Any) -> None:
    connect(Host())
    assert slices.hardware("a") == slices.Hardware(
        "<capabilities/>", ("<device/>",)
    )


def test_a_real_driver() -> None:
    assert slices.taken("test:///default") == {}
