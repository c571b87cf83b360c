# SPDX-License-Identifier: Apache-2.0
"""The guest commands as a shell sees them."""

import io
import json
import pathlib
import sys
import threading
import time
from typing import Any

import libvirt
import pytest

from ceilometer_perf.events import EVENTS
from ceilometer_perf.guest import nova_metadata
from ceilometer_perf.host import domains, probe
from ceilometer_perf.host.connection import Connection
from tests.unit import shell
from tests.unit.fakes import FakeVirConnect
from tests.unit.guest_cases import GOLDEN
from tests.unit.shell import Ran

UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"  # of the test driver's domain
TEST_URI = ("--uri", "test:///default")
REALTIME = (
    "--flavor", "hw:cpu_realtime=yes", "hw:cpu_policy=dedicated",
    "--flavor", "hw:cpu_realtime_mask=^0",
)  # fmt: skip
WHOLE = str(GOLDEN / "emulatorpin-whole" / "before.xml")


def run(*argv: str) -> Ran:
    return shell.run("guest", *argv)


def test_resolve_in_json(tmp_path: pathlib.Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text(
        "[libvirt]\nenabled_perf_events = cpu_clock, CMT, nope\n"
        "realtime_scheduler_priority = 2\n"
    )
    ran = run(
        "resolve", "--vcpus", "3", "--nova-conf", str(conf), *REALTIME,
        "--image", "hw_pmu=off", "--sys", str(tmp_path), "-f", "json",
    )  # fmt: skip
    assert ran.code == 0
    assert json.loads(ran.out) == {
        "perf_events": ["cpu_clock"],
        "pmu": False,
        "locked": True,
        "realtime": {
            "vcpus": [1, 2],
            "housekeeping": [0],
            "priority": 2,
            "emulator_threads": None,
        },
        "monitors": False,
    }
    assert [line.split()[2] for line in ran.err.splitlines()] == [
        "cmt",
        "nope",
    ]


def test_resolve_nothing() -> None:
    ran = run("resolve", "--vcpus", "1", "-f", "json")
    assert json.loads(ran.out) == {
        "perf_events": [],
        "pmu": None,
        "locked": False,
        "realtime": None,
        "monitors": False,
    }


def test_resolve_for_people() -> None:
    ran = run("resolve", "--vcpus", "4", *REALTIME)
    assert "vcpus: 1-3" in ran.out
    assert "emulator_threads: -" in ran.out


def test_an_old_kernel_is_seen_in_sysfs(tmp_path: pathlib.Path) -> None:
    (tmp_path / "devices/intel_cqm").mkdir(parents=True)
    (tmp_path / "devices/intel_cqm/type").write_text("8\n")
    conf = tmp_path / "nova.conf"
    conf.write_text("[libvirt]\nenabled_perf_events = cmt\n")
    ran = run(
        "resolve", "--vcpus", "1", "--nova-conf", str(conf),
        "--sys", str(tmp_path), "-f", "json",
    )  # fmt: skip
    assert json.loads(ran.out)["perf_events"] == ["cmt"]
    assert ran.err == ""


@pytest.mark.parametrize("switch", ["Y", "N"])
def test_what_hardware_events_do_where_guests_take_the_pmu(
    tmp_path: pathlib.Path, switch: str
) -> None:
    path = tmp_path / "module/kvm_intel/parameters/enable_mediated_pmu"
    path.parent.mkdir(parents=True)
    path.write_text(f"{switch}\n")
    document = tmp_path / "domain.xml"
    document.write_text(
        "<domain><perf><event name='cpu_cycles' enabled='yes'/>"
        "<event name='task_clock' enabled='yes'/></perf></domain>"
    )
    ran = run(
        "check", "--xml", str(document), "--vcpus", "1", "--flavor",
        "hw:pmu=true", "--sys", str(tmp_path),
    )  # fmt: skip
    assert ("cpu_cycles: KVM gives the PMU" in ran.err) is (switch == "Y")
    assert "task_clock" not in ran.err


SHARED = (
    "--flavor", "hw:cpu_policy=dedicated", "hw:cpu_realtime=1",
    "hw:emulator_threads_policy=share",
)  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "knows"),
    [
        ("qemu:///system", True),
        ("qemu+ssh://compute-1/system", False),
    ],
)
def test_the_cpus_of_this_host_are_not_those_of_another(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, uri: str,
    knows: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(domains, "domain_xml", lambda *_, **__: NOTED)
    monkeypatch.setattr(domains, "version", lambda _uri: (9, 0, 0))
    (tmp_path / "nova.conf").write_text("[compute]\ncpu_shared_set = 8000\n")
    ran = run(
        "apply", "--instance", UUID, "--uri", uri, *SHARED,
        "--nova-conf", str(tmp_path / "nova.conf"),
    )  # fmt: skip
    assert ("contains no online CPU" in ran.err) is knows


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("--flavor", "hw:cpu_realtime=1"), "RealtimeMaskNotFoundOrInvalid"),
        (
            ("--flavor", "hw:pmu=1", "--image", "hw_pmu=0"),
            "FlavorImageConflict",
        ),
        (("--flavor", "hw:pmu"), "InputError"),
        (("--image", "=1"), "InputError"),
        (("--sys", "/no/such/directory"), "InputError"),
        (("--nova-conf", "/no/such/file"), "InvalidConfiguration"),
    ],
)
def test_refusals(words: tuple[str, ...], name: str) -> None:
    ran = run("resolve", "--vcpus", "4", *words, "-f", "json")
    assert (ran.code, ran.out) == (2, "")
    error = json.loads(ran.err)
    assert error["error"] == name
    assert error["message"]
    plain = run("resolve", "--vcpus", "4", *words)
    assert plain.code == 2
    assert plain.err == f"ceilometer-perf: error: {error['message']}\n"


@pytest.mark.parametrize("vcpus", ["0", "-1", "x", "99999999"])
def test_no_number_of_vcpus(vcpus: str) -> None:
    assert run("resolve", f"--vcpus={vcpus}").code == 2


def test_check_apply_check(tmp_path: pathlib.Path) -> None:
    found = run("check", "--xml", WHOLE, *REALTIME, "-f", "json")
    assert found.code == 1
    assert {"what", "where", "why", "remedy"} == set(json.loads(found.out)[0])
    corrected = run("apply", "--xml", WHOLE, *REALTIME)
    assert corrected.code == 0
    after = tmp_path / "after.xml"
    after.write_text(corrected.out)
    assert (
        after.read_text()
        == (GOLDEN / "emulatorpin-whole" / "after.xml").read_text()
    )
    clean = run("check", "--xml", str(after), *REALTIME, "-f", "json")
    assert (clean.code, json.loads(clean.out)) == (0, [])


def test_check_for_people() -> None:
    ran = run("check", "--xml", WHOLE, *REALTIME)
    assert ran.code == 1
    assert "/domain/cputune/emulatorpin" in ran.out


def test_diff() -> None:
    ran = run("diff", "--xml", WHOLE, "--flavor", "hw:pmu=on")
    added = [ln for ln in ran.out.splitlines() if ln[0] in "+-"]
    assert ran.code == 0
    assert added[2:] == [
        "+  <features>",
        "+    <pmu state='on'/>",
        "+  </features>",
    ]


@pytest.mark.parametrize(
    ("command", "key"), [("apply", "xml"), ("diff", "diff")]
)
def test_text_in_json(command: str, key: str) -> None:
    words = ("--xml", WHOLE, "--flavor", "hw:pmu=on")
    assert json.loads(run(command, *words, "-f", "json").out) == {
        key: run(command, *words).out
    }


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    data = io.BytesIO(b"<domain><name>a</name></domain>\n")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(data))
    ran = run("apply", "--xml", "-", "--flavor", "hw:pmu=on")
    assert '<features><pmu state="on"/></features>' in ran.out


@pytest.mark.parametrize("command", ["check", "apply", "diff"])
def test_bad_xml(command: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_bytes(b"<!DOCTYPE a><domain/>")
    for name in str(path), str(tmp_path / "none"), str(tmp_path):
        ran = run(command, "--xml", name, "--flavor", "hw:pmu=1", "-f", "json")
        assert (ran.code, ran.out) == (2, "")
        assert json.loads(ran.err)["message"]


@pytest.mark.parametrize(
    ("version", "monitor"),
    [((12, 5, 9), " vcpus='0-1'"), ((12, 6, 0), "")],
)
def test_monitors_as_the_libvirt_of_this_host_takes_them(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int], monitor: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(domains, "library_version", lambda: version)
    path = tmp_path / "domain.xml"
    path.write_text("<domain type='kvm'><vcpu>2</vcpu></domain>\n")
    corrected = run("apply", "--xml", str(path), "--monitors")
    assert f"<cachetune{monitor}>" in corrected.out
    assert f"<monitor level='3'{monitor}/>" in corrected.out


def test_monitors(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(domains, "library_version", lambda: (9, 0, 0))
    path = tmp_path / "domain.xml"
    path.write_text("<domain type='kvm'><vcpu>2</vcpu></domain>\n")
    corrected = run("apply", "--xml", str(path), "--monitors")
    assert (corrected.code, corrected.err) == (0, "")
    assert "<monitor level='3' vcpus='0-1'/>" in corrected.out
    found = run("check", "--xml", str(path), "--monitors", "-f", "json")
    assert [row["what"] for row in json.loads(found.out)] == [
        "the L3 occupancy of vCPU 0-1 is not monitored",
        "the memory bandwidth of vCPU 0-1 is not monitored",
    ]
    clean = run("check", "--xml", str(path))
    assert (clean.code, clean.out) == (0, "no findings\n")


KVM = "<domain type='kvm'><vcpu>4</vcpu><cputune>{}</cputune></domain>"


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("<domain type='qemu'/>", "type is 'qemu'"),
        ("<domain/>", "type is None"),
        (
            KVM.format("<cachetune vcpus='0-1'/><memorytune vcpus='1-3'/>"),
            "vCPU 1 is in two <cachetune>",
        ),
        (KVM.format("<cachetune vcpus='x'/>"), "<cachetune vcpus=...>"),
    ],
)
def test_no_monitors(domain: str, reason: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "domain.xml"
    path.write_text(domain)
    for command in ("check", "apply", "diff"):
        ran = run(command, "--xml", str(path), "--monitors")
        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("ceilometer-perf: error: ")
        assert reason in ran.err
        assert len(ran.err.splitlines()) == 1


def test_vcpus_that_are_not_the_domains() -> None:
    ran = run("check", "--xml", WHOLE, "--vcpus", "8", *REALTIME)
    assert ran.code == 2
    assert "vCPU count is 3" in ran.err


def test_no_pins() -> None:
    path = str(GOLDEN / "pmu-on" / "before.xml")
    assert "no <vcpupin>" in run("check", "--xml", path, *REALTIME).out
    ran = run("apply", "--xml", path, *REALTIME, "-f", "json")
    assert ran.code == 2
    assert json.loads(ran.err)["error"] == "NotInXMLError"


@pytest.mark.parametrize("uuid", ["", "x", "0"])
def test_no_uuid(uuid: str) -> None:
    for command in ("check",), ("apply",), ("diff",), ("enable", "cpu_clock"):
        ran = run(*command, "--instance", uuid, *TEST_URI)
        assert ran.code == 2
        assert f"--instance {uuid!r} is not a UUID: " in ran.err
        assert len(ran.err.splitlines()) == 1


def test_a_libvirt_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(libvirt, "openReadOnly", lambda _uri: time.sleep(9))
    monkeypatch.setattr(Connection.__init__, "__defaults__", (0.1,))
    ran = run("check", "--instance", UUID)
    assert ran.code == 2
    assert "no answer within 0.1 s" in ran.err


def test_one_domain_is_needed() -> None:
    assert run("check").code == 2
    assert run("check", "--xml", WHOLE, "--instance", UUID).code == 2


NOTED = f"""<domain>
  <name>a</name>
  <metadata>
    <nova:instance xmlns:nova="{nova_metadata.NAMESPACE}">
      <nova:flavor name="f" id="1">
        <nova:vcpus>1</nova:vcpus>
        <nova:extraSpecs>
          <nova:extraSpec name="hw:pmu">True</nova:extraSpec>
        </nova:extraSpecs>
      </nova:flavor>
      <nova:image uuid="2">
        <nova:properties>
          <nova:property name="hw_locked_memory">False</nova:property>
        </nova:properties>
      </nova:image>
    </nova:instance>
  </metadata>
</domain>"""


def test_metadata_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    def noted(_uri: str, _uuid: str) -> str:
        return NOTED

    monkeypatch.setattr(domains, "domain_xml", noted)
    ran = run("check", "--instance", UUID, "-f", "json")
    assert [row["where"] for row in json.loads(ran.out)] == [
        "/domain/features/pmu"
    ]
    given = run("apply", "--instance", UUID, "--flavor", "hw:pmu=no")
    assert '<pmu state="off"/>' in given.out


def test_metadata_of_an_image() -> None:
    found = nova_metadata.read(NOTED)
    assert found.flavor == {"hw:pmu": "True"}
    assert found.image == {"hw_locked_memory": "False"}


def test_a_domain_of_libvirts() -> None:
    ran = run("check", "--instance", UUID, *TEST_URI, "--image", "hw_pmu=1")
    assert ran.code == 1
    assert "no extra specs" in ran.err


def test_a_domain_that_libvirt_lacks() -> None:
    uuid = UUID.replace("6", "7")
    for command in ("check",), ("enable", "cpu_clock"):
        ran = run(*command, "--instance", uuid, *TEST_URI, "-f", "json")
        assert ran.code == 2
        assert json.loads(ran.err)["error"] == "SourceUnavailableError"


class FakeDomain:
    """Remembers what is set, and refuses what it is told to."""

    def __init__(self, *, active: bool, persistent: bool = True) -> None:
        self.active = active
        self.persistent = persistent
        self.calls: list[tuple[dict[str, bool], int]] = []

    def name(self) -> str:
        return "guest"

    def UUIDString(self) -> str:  # noqa: N802 - libvirt's name
        return UUID

    def isPersistent(self) -> bool:  # noqa: N802 - libvirt's name
        return self.persistent

    def isActive(self) -> bool:  # noqa: N802 - libvirt's name
        return self.active

    def setPerfEvents(  # noqa: N802 - libvirt's name
        self, wanted: dict[str, bool], flags: int
    ) -> None:
        if "cpu_cycles" in wanted:
            raise libvirt.libvirtError("no such PMU")
        if "nope" in wanted:
            raise LookupError("nope")
        self.calls.append((wanted, flags))


class FakeConnection(FakeVirConnect):
    def __init__(self, *found: FakeDomain) -> None:
        super().__init__()
        self.found = found

    def listAllDomains(self) -> list[FakeDomain]:  # noqa: N802
        return list(self.found)

    def lookupByUUIDString(  # type: ignore[override]  # noqa: N802
        self, _uuid: str
    ) -> FakeDomain:
        return self.found[0]


@pytest.fixture
def guests(monkeypatch: pytest.MonkeyPatch) -> list[FakeDomain]:
    found = [FakeDomain(active=True), FakeDomain(active=False)]

    def connect(_uri: str) -> Any:
        return FakeConnection(*found)

    monkeypatch.setattr(libvirt, "open", connect)
    monkeypatch.setattr(libvirt, "openReadOnly", connect)
    return found


def test_enable_sets_events_one_at_a_time(guests: list[FakeDomain]) -> None:
    words = ("CPU_Clock", "cpu_cycles", "nope", "task_clock")
    ran = run("enable", *words, "--instance", UUID, "-f", "json")
    assert ran.code == 1
    assert [row["outcome"] for row in json.loads(ran.out)] == [
        "enabled",
        "refused: no such PMU",
        "refused: libvirt knows no event of that name",
        "enabled",
    ]
    flags = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    assert guests[0].calls == [
        ({"cpu_clock": True}, flags),
        ({"task_clock": True}, flags),
    ]
    assert guests[1].calls == []


def test_enable_everywhere_and_live(guests: list[FakeDomain]) -> None:
    ran = run("enable", "cpu_clock", "--all", "--live")
    assert ran.code == 0
    assert "not the running vCPUs" in ran.err
    config = libvirt.VIR_DOMAIN_AFFECT_CONFIG
    live = libvirt.VIR_DOMAIN_AFFECT_LIVE
    assert guests[0].calls == [
        ({"cpu_clock": True}, live),
        ({"cpu_clock": True}, config),
    ]
    assert guests[1].calls == [({"cpu_clock": True}, config)]


def test_enable_dry(guests: list[FakeDomain]) -> None:
    ran = run("enable", "cpu_clock", "--all", "--dry-run", "-f", "json")
    assert ran.code == 0
    assert {row["outcome"] for row in json.loads(ran.out)} == {
        "would be enabled"
    }
    assert guests[0].calls == guests[1].calls == []


def test_enable_tells_of_domains_without_a_definition(
    guests: list[FakeDomain],
) -> None:
    guests[0].persistent = False
    for more in (), ("--dry-run",), ("--live",):
        ran = run("enable", "cpu_clock", "--all", *more, "-f", "json")
        assert ran.code == 1
        outcomes = [row["outcome"] for row in json.loads(ran.out)]
        assert outcomes[0].startswith("refused: a transient domain")
        assert "enabled" in outcomes[1]
        assert guests[0].calls == []


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_enable_goes_on_after_a_domain_that_is_gone(
    guests: list[FakeDomain],
    monkeypatch: pytest.MonkeyPatch,
    dry: tuple[str, ...],
) -> None:
    def gone() -> bool:
        raise libvirt.libvirtError("Domain not found")

    monkeypatch.setattr(guests[0], "isPersistent", gone)
    ran = run("enable", "cpu_clock", "--all", *dry, "-f", "json")
    assert ran.code == 1
    outcomes = [row["outcome"] for row in json.loads(ran.out)]
    assert outcomes[0] == "refused: Domain not found"
    assert "enabled" in outcomes[1]


def test_enable_tells_what_it_did_until_libvirt_hung(
    guests: list[FakeDomain], monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs = threading.Event()
    monkeypatch.setattr(guests[1], "isPersistent", hangs.wait)
    monkeypatch.setattr(Connection.__init__, "__defaults__", (0.3,))
    words = ("enable", "cpu_clock", "task_clock", "--all", "-f", "json")
    ran = run(*words)
    hangs.set()
    assert ran.code == 1
    outcomes = [row["outcome"] for row in json.loads(ran.out)]
    assert outcomes[:2] == ["enabled", "enabled"]
    assert "no answer within 0.3 s" in outcomes[2]
    assert "still no answer to an earlier call" in outcomes[3]


def test_enable_through_the_read_only_socket(
    guests: list[FakeDomain], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        error = libvirt.libvirtError("operation forbidden: read only access")
        error.err = (libvirt.VIR_ERR_OPERATION_DENIED,)
        raise error

    monkeypatch.setattr(guests[0], "setPerfEvents", refuse)
    ran = run("enable", "cpu_clock", "--instance", UUID)
    assert (ran.code, ran.out) == (2, "")
    assert "read-only socket: run this as root" in ran.err


def test_enable_dry_knows_names(guests: list[FakeDomain]) -> None:
    words = ("enable", "nope", "--instance", UUID, "--dry-run")
    ran = run(*words, "-f", "value")
    assert ran.code == 1
    assert "knows no event of that name" in ran.out


def test_enable_warns_of_what_keeps_a_guest_from_booting(
    guests: list[FakeDomain], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_works(names: list[str]) -> list[probe.Trial]:
        return [probe.Trial(EVENTS[name], False, "no PMU") for name in names]

    monkeypatch.setattr(probe, "cannot_work", none_works)
    words = ("enable", "cpu_clock", "--instance", UUID)
    ran = run(*words)
    assert ran.code == 0
    assert "cpu_clock does not work on this host (no PMU)" in ran.err
    assert "will not start" in ran.err
    elsewhere = run(*words, "--connect", "qemu+ssh://other/system")
    assert elsewhere.err == ""


@pytest.mark.parametrize("event", ["", " "])
def test_enable_needs_an_event(event: str) -> None:
    ran = run("enable", event, "--all", *TEST_URI)
    assert (ran.code, ran.err) == (
        2,
        "ceilometer-perf: error: name an event\n",
    )


def test_enable_needs_a_domain() -> None:
    assert run("enable", "cpu_clock").code == 2
