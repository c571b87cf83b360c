# SPDX-License-Identifier: Apache-2.0
"""The driver, beside what Nova's own does."""

import inspect
import logging
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import nova.conf
import nova.virt
import pytest
from keystoneauth1 import exceptions
from nova import exception
from nova.compute.provider_tree import ProviderTree
from nova.virt import driver as virt_driver
from nova.virt.libvirt.driver import LibvirtDriver

from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import compute_driver, slice_metadata, xml
from ceilometer_perf.host import probe, virtual_pmu
from ceilometer_perf.nova import driver
from ceilometer_perf.nova.driver import SlicesDriver
from ceilometer_perf.nova.host_slices import HostSlices
from ceilometer_perf.slices.placement import flavors, providers, records
from ceilometer_perf.slices.placement.encoding import PLACE
from ceilometer_perf.slices.placement.providers import Node
from tests.unit.slice_trees import Row, parts, write_nova_conf

NODE = Node(str(uuid.UUID(int=1)), "node")
UUID = "3e2d5c1a-7f64-4b0d-9a53-5d2a4c6b8e01"
NOVAS = Path(__file__).with_name("nova-instance.xml").read_text()
TEMPLATE = "<domain><memory>7</memory><vcpu>2</vcpu></domain>"
ROWS: list[Row] = [("a", "A", None), *parts(2, "B", "a")]
CONF = nova.conf.CONF
PACKAGE = Path(driver.__file__).parent


class Host:
    """Nova's Host, as far as it is asked."""

    def __init__(self) -> None:
        self.domains: dict[str, str] = {}

    def get_connection(self) -> Any:
        return SimpleNamespace(getLibVersion=lambda: 9_000_000)

    def list_instance_domains(self, only_running: bool) -> list[Any]:
        assert not only_running
        return [
            SimpleNamespace(
                XMLDesc=lambda flags, text=text: text,
                UUIDString=lambda key=key: key,
            )
            for key, text in self.domains.items()
        ]

    def get_guest(self, instance: Any) -> Any:
        if instance.uuid not in self.domains:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        text = self.domains[instance.uuid]
        return SimpleNamespace(get_xml_desc=lambda: text)


class Compute:
    """A driver with slices, and what Placement allocated."""

    def __init__(self, folder: Path, rows: list[Row]) -> None:
        self.conf = folder / "nova.conf"
        write_nova_conf(self.conf, rows, f"state_path = {folder}")
        for path in folder.glob("*.xml"):
            path.write_text(TEMPLATE)
        CONF([], project="nova", default_config_files=[str(self.conf)])
        self.driver: Any = object.__new__(SlicesDriver)
        self.driver._slices = HostSlices.configured(CONF)
        self.driver._host = self.host = Host()
        self.driver._supported_perf_events = ["cpu_clock"]
        self.driver.get_nodenames_by_uuid = lambda: {NODE.uuid: NODE.name}
        self.driver.virtapi = SimpleNamespace(reportclient=self)
        self.allocations: dict[str, dict[str, dict[str, int]]] = {}
        self.failure: Exception | None = None

    def get_allocs_for_consumer(self, context: Any, consumer: str) -> Any:
        if self.failure:
            raise self.failure
        held = self.allocations.get(consumer, {})
        return {
            "allocations": {
                providers.provider_uuid(NODE, name): {"resources": units}
                for name, units in held.items()
            }
        }

    @property
    def noted(self) -> dict[str, str]:
        with records.locked(self.driver._slices.folder, NODE.uuid) as noted:
            return dict(noted.read())


@pytest.fixture(autouse=True)
def novas(monkeypatch: pytest.MonkeyPatch) -> dict[str, mock.Mock]:
    """What Nova's own methods would do."""
    made = {
        name: mock.Mock(return_value=f"Nova's {name}")
        for name in (
            "spawn", "destroy", "check_can_live_migrate_destination",
            "check_can_live_migrate_source", "_hard_reboot",
        )
    }  # fmt: skip
    made["_get_guest_xml"] = mock.Mock(return_value=NOVAS)
    for name, double in made.items():
        monkeypatch.setattr(LibvirtDriver, name, double)
    return made


@pytest.fixture
def compute(tmp_path: Path) -> Iterator[Compute]:
    yield Compute(tmp_path, ROWS)
    CONF.reset()


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Compute]:
    yield Compute(tmp_path, [])
    CONF.reset()


def instance(**extra_specs: str) -> Any:
    return SimpleNamespace(
        uuid=UUID,
        flavor=SimpleNamespace(
            extra_specs={
                k.replace("__", ":"): v for k, v in extra_specs.items()
            }
        ),
    )


SLICED = instance(**{f"resources:{PLACE}": "1"})
ORDINARY = instance()


def built(compute: Compute, what: Any) -> xml.Element:
    text = compute.driver._get_guest_xml("context", what, "network")
    return xml.parse(text).getroot()


def test_nova_loads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    where = [*nova.virt.__path__, str(PACKAGE / "virt")]
    monkeypatch.setattr(nova.virt, "__path__", where)
    monkeypatch.setattr(LibvirtDriver, "__init__", lambda self, virtapi: None)
    loaded = virt_driver.load_compute_driver(None, compute_driver.NAME)
    assert type(loaded) is SlicesDriver


@pytest.mark.parametrize(
    "name", [n for n in vars(SlicesDriver) if hasattr(LibvirtDriver, n)]
)
def test_it_takes_what_novas_does(name: str) -> None:
    if not callable(getattr(SlicesDriver, name)) or name.startswith("__"):
        return
    ours, theirs = (
        inspect.signature(vars(kind)[name])
        for kind in (SlicesDriver, _ORIGINAL)
    )
    names = list(theirs.parameters)
    bound = ours.bind(*names)
    assert [*bound.args] == names
    # Nova names some of them when it calls.
    ours_named = [
        each.name
        for each in ours.parameters.values()
        if each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    assert ours_named == names[: len(ours_named)]


_ORIGINAL = type(
    "Original",
    (),
    {n: v for n, v in vars(LibvirtDriver).items() if not n.startswith("__")},
)


def test_an_ordinary_instance_is_novas_with_the_companion(
    bare: Compute,
) -> None:
    root = built(bare, ORDINARY)
    assert root.findtext("memory") == "65536"
    assert [e.get("name") for e in root.iterfind("perf/event")] == [
        "cpu_clock"
    ]
    assert root.find("cputune/cachetune") is None


def test_monitors_on_request(bare: Compute) -> None:
    CONF.set_override("guest_monitors", True, "libvirt")
    root = built(bare, ORDINARY)
    assert root.find("cputune/cachetune/monitor") is not None
    assert root.find("cputune/memorytune/monitor") is not None


def test_what_can_not_be_fixed_boots_as_nova_made_it(
    bare: Compute, novas: dict[str, mock.Mock],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    CONF.set_override("guest_monitors", True, "libvirt")
    # There are no monitors without KVM.
    text = NOVAS.replace("type='kvm'", "type='qemu'", 1)
    novas["_get_guest_xml"].return_value = text
    with caplog.at_level(logging.WARNING):
        assert bare.driver._get_guest_xml("context", ORDINARY) == text
    assert "kvm" in caplog.text


def test_an_instance_boots_its_slice(compute: Compute) -> None:
    compute.allocations[UUID] = {"a": {"CUSTOM_B": 1}}
    root = built(compute, SLICED)
    assert slice_metadata.name_in(root) == "a-1"
    assert root.findtext("memory") == "7"
    assert root.find("devices/disk") is not None
    assert compute.noted == {UUID: "a-1"}


def test_one_that_is_off_keeps_its_slice(compute: Compute) -> None:
    other = str(uuid.UUID(int=7))
    compute.host.domains[other] = slice_metadata.write(NOVAS, "a-1")
    for consumer in UUID, other:
        compute.allocations[consumer] = {"a": {"CUSTOM_B": 1}}
    assert slice_metadata.name_in(built(compute, SLICED)) == "a-2"


def test_a_reboot_keeps_the_slice(
    compute: Compute, novas: dict[str, mock.Mock]
) -> None:
    compute.allocations[UUID] = {"a": {"CUSTOM_B": 1}}
    compute.host.domains[UUID] = slice_metadata.write(NOVAS, "a-2")
    compute.driver.destroy("context", SLICED, "network", destroy_disks=False)
    novas["destroy"].assert_called_with(
        "context", SLICED, "network", destroy_disks=False
    )
    compute.host.domains.clear()
    assert slice_metadata.name_in(built(compute, SLICED)) == "a-2"


def flavored(compute: Compute, resource_class: str) -> Any:
    """An instance with the flavor of a class, as `slice flavors` has it."""
    (flavor,) = (
        each
        for each in flavors.flavors(compute.driver._slices.encoded, {})
        if each.resource_class == resource_class
    )
    return instance(**flavor.properties)


NO_PLACEMENT = [
    exceptions.ConnectFailure("refused"),
    exceptions.EndpointNotFound,
    exception.ConsumerAllocationRetrievalFailed(consumer_uuid=1, error="503"),
]


@pytest.mark.parametrize("failure", NO_PLACEMENT)
def test_a_reboot_needs_no_placement(
    compute: Compute, novas: dict[str, mock.Mock], failure: Exception,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The whole site boots, this host before its controllers."""
    compute.failure = failure
    sliced = flavored(compute, "CUSTOM_B")
    compute.host.domains[UUID] = slice_metadata.write(NOVAS, "a-2")
    compute.driver._hard_reboot("context", sliced, "network")
    novas["_hard_reboot"].assert_called_once()
    compute.driver.destroy("context", sliced, "network", destroy_disks=False)
    compute.host.domains.clear()
    with caplog.at_level(logging.WARNING):
        assert slice_metadata.name_in(built(compute, sliced)) == "a-2"
    assert "it keeps the slice a-2" in caplog.text


@pytest.mark.parametrize(
    ("name", "resource_class"),
    [(None, "CUSTOM_B"), ("a", "CUSTOM_B"), ("gone", "CUSTOM_A")],
)
def test_what_has_no_such_slice_needs_placement(
    compute: Compute, name: str | None, resource_class: str
) -> None:
    """It is new, resized, or its slice is not in nova.conf any more."""
    (compute.failure, *_) = NO_PLACEMENT
    if name is not None:
        compute.host.domains[UUID] = slice_metadata.write(NOVAS, name)
    with pytest.raises(exception.InternalError, match="Placement: refused"):
        built(compute, flavored(compute, resource_class))
    assert compute.noted == {}


def test_a_reboot_is_refused_before_the_domain_goes(
    bare: Compute, novas: dict[str, mock.Mock]
) -> None:
    with pytest.raises(exception.InternalError, match="slice_spec"):
        bare.driver._hard_reboot("context", SLICED, "network")
    novas["_hard_reboot"].assert_not_called()
    bare.driver._hard_reboot("context", ORDINARY, "network", a="b")
    novas["_hard_reboot"].assert_called_with(
        "context", ORDINARY, "network", a="b"
    )


@pytest.mark.parametrize("what", [SLICED, ORDINARY])
def test_to_destroy_what_has_no_domain(compute: Compute, what: Any) -> None:
    compute.driver.destroy("context", what, "network")
    assert compute.noted == {}


def test_to_destroy_where_nothing_can_be_noted(
    compute: Compute, novas: dict[str, mock.Mock],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A full disk is one that deleted instances make room on."""
    folder = compute.driver._slices.folder
    folder.mkdir()
    (folder / f"{NODE.uuid}.json").write_text("nonsense")
    compute.host.domains[UUID] = slice_metadata.write(NOVAS, "a-2")
    compute.driver.destroy("context", SLICED, "network")
    novas["destroy"].assert_called_with("context", SLICED, "network")
    assert "is corrupt" in caplog.text


def test_why_it_does_not_start_where_nothing_can_be_noted(
    compute: Compute, novas: dict[str, mock.Mock]
) -> None:
    folder = compute.driver._slices.folder
    folder.mkdir()
    (folder / f"{NODE.uuid}.json").write_text("nonsense")
    novas["spawn"].side_effect = exception.VirtualInterfaceCreateException
    with pytest.raises(exception.VirtualInterfaceCreateException):
        compute.driver.spawn("context", SLICED, "image")


def test_no_record_of_what_does_not_start(
    compute: Compute, novas: dict[str, mock.Mock]
) -> None:
    compute.allocations[UUID] = {"a": {"CUSTOM_A": 1, "CUSTOM_B": 2}}

    def fail(*args: Any) -> None:
        built(compute, SLICED)
        assert compute.noted == {UUID: "a"}
        raise exception.VirtualInterfaceCreateException

    novas["spawn"].side_effect = fail
    with pytest.raises(exception.VirtualInterfaceCreateException):
        compute.driver.spawn("context", SLICED, "image")
    assert compute.noted == {}


@pytest.mark.parametrize(
    ("rows", "said"),
    [([], "has no [libvirt] slice_spec"), (ROWS, "has no allocation of a")],
)
def test_an_instance_without_a_slice_is_refused(
    tmp_path: Path, rows: list[Row], said: str
) -> None:
    with pytest.raises(exception.InternalError) as refused:
        built(Compute(tmp_path, rows), SLICED)
    assert said in str(refused.value)
    CONF.reset()


@pytest.mark.parametrize("where", ["destination", "source"])
def test_live_migration(compute: Compute, where: str) -> None:
    check = getattr(compute.driver, f"check_can_live_migrate_{where}")
    with pytest.raises(exception.MigrationPreCheckError, match="its slice"):
        check("context", SLICED, "a", b="c")
    found = check("context", ORDINARY, "a", b="c")
    assert found == f"Nova's check_can_live_migrate_{where}"


def test_slices_that_can_not_be_used_stop_it(compute: Compute) -> None:
    compute.conf.write_text("[libvirt]\nslice_spec = {\n")
    CONF.reload_config_files()
    with pytest.raises(exception.InvalidConfiguration, match="not JSON"):
        compute.driver.init_host("node")


def test_perf_events_that_stop_no_guest(
    bare: Compute, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    names = ["CPU_CLOCK", "cpu_clock", "nonsense", "cpu_cycles"]
    CONF.set_override("enabled_perf_events", names, "libvirt")
    tried = []

    def cannot_work(events: Any) -> list[probe.Trial]:
        tried.extend(events)
        event = EVENTS["cpu_cycles"]
        return [probe.Trial(event, False, "there is no PMU")]

    monkeypatch.setattr(probe, "cannot_work", cannot_work)
    with caplog.at_level(logging.WARNING):
        assert bare.driver._get_supported_perf_events() == ["cpu_clock"]
    assert tried == ["cpu_clock", "cpu_cycles"]
    assert "nonsense" in caplog.text
    assert "cpu_cycles is left out" in caplog.text
    assert "there is no PMU" in caplog.text


@pytest.mark.parametrize(
    ("virt_type", "possible", "there"),
    [("kvm", True, True), ("kvm", False, False), ("qemu", True, False)],
)
def test_a_flavor_may_require_a_virtual_pmu(
    monkeypatch: pytest.MonkeyPatch, *, virt_type: str, possible: bool,
    there: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(LibvirtDriver, "update_provider_tree", mock.Mock())
    monkeypatch.setattr(virtual_pmu, "is_possible", lambda: possible)
    CONF.set_override("virt_type", virt_type, "libvirt")
    tree = ProviderTree()
    tree.new_root(NODE.name, NODE.uuid, generation=0)
    if not there:
        tree.add_traits(NODE.name, driver.VIRTUAL_PMU)
    made: Any = object.__new__(SlicesDriver)
    made._report = mock.Mock()
    made.update_provider_tree(tree, NODE.name)
    traits = made.provider_tree.data(NODE.name).traits
    assert traits == ({driver.VIRTUAL_PMU} if there else set())
