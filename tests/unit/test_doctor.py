# SPDX-License-Identifier: Apache-2.0
"""doctor: each link broken in turn is the one that is named."""

import errno
import importlib.metadata
import json
import os
import re
import resource
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import libvirt
import pytest
from oslo_config import cfg
from oslo_log import log

from ceilometer_perf import doctor, files, privsep, wiring
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.doctor import agent, agent_conf, definitions, patient
from ceilometer_perf.doctor.finding import BrokenError
from ceilometer_perf.guest import compute_driver
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import (
    descriptors,
    nova_compute,
    processes,
    resctrl,
)
from ceilometer_perf.host.processes import Process
from tests.unit.compute_host import (
    GNOCCHI,
    PIPELINE,
    POLLING,
    REALTIME,
    ComputeHost,
    domain,
    host,
)
from tests.unit.fakes import libvirt_error
from tests.unit.shell import Ran, run

__all__ = ["host"]

LINKS = [link.name for link in doctor.LINKS]
SOFTWARE = ("task_clock", "page_faults")

Rows = dict[str, dict[str, str]]


def ask(host: ComputeHost, *argv: str) -> Ran:
    nova = ("--nova-conf", f"{host.folder}/nova.conf")
    return run("doctor", *host.options, *nova, *argv)


def walk(host: ComputeHost) -> Rows:
    ran = ask(host, "-f", "json")
    rows = {row["link"]: row for row in json.loads(ran.out)}
    assert list(rows) == LINKS
    broken = [x for x, row in rows.items() if row["state"] == "broken"]
    assert ran.code == bool(broken)
    assert len(broken) <= 1
    for row in rows.values():
        assert set(row) == {"link", "state", "reason", "remedy"}
        assert "\n" not in row["reason"] + row["remedy"]
        assert bool(row["remedy"]) == (row["state"] in ("warning", "broken"))
    return rows


def broken(host: ComputeHost, link: str) -> str:
    """The reason; all before that link is fine, nothing after is looked at."""
    rows = walk(host)
    at = LINKS.index(link)
    states = [row["state"] for row in rows.values()]
    assert states[at] == "broken", rows
    assert "broken" not in states[:at]
    assert set(states[at + 1 :]) <= {"skipped"}
    return rows[link]["reason"]


@pytest.fixture
def healthy(host: ComputeHost) -> ComputeHost:
    host.has(domain("web", SOFTWARE))
    return host


def test_all_is_well(healthy: ComputeHost) -> None:
    assert {row["state"] for row in walk(healthy).values()} == {"ok"}


def test_for_people(healthy: ComputeHost) -> None:
    healthy.write("polling.yaml", "sources: []\n")
    ran = ask(healthy)
    assert (ran.code, ran.err) == (1, "")
    assert re.search(r"^broken +polling.yaml +.*\n +to fix it", ran.out, re.M)
    assert re.search(r"^skipped +Gnocchi", ran.out, re.M)


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("", "empty"),
        ("task_clock, task_clock", "task_clock is listed twice"),
        ("TASK_CLOCK", "capitals"),
        ("task_clock, task_clok", "no event task_clok"),
        ("task_clock, cpu_cycles", "cpu_cycles can't be counted here"),
        ("cmt", "cmt is ignored"),
    ],
)
def test_nova_conf(healthy: ComputeHost, events: str, says: str) -> None:
    healthy.nova_conf(events)
    assert says in broken(healthy, "nova.conf")


def test_a_qemu_that_can_not_be_seen(host: ComputeHost) -> None:
    host.has(domain("web", SOFTWARE), domain("db", SOFTWARE))
    host.unseen.add("instance-web")
    row = walk(host)["instances"]
    assert row["state"] == "warning"
    assert row["reason"].endswith(" (web)")
    assert "can't be seen" in row["reason"]
    assert "--pid=host" in row["remedy"]


def test_what_libvirt_counts_is_possible(host: ComputeHost) -> None:
    host.has(domain("web", [*SOFTWARE, "cpu_cycles"]))
    host.nova_conf("task_clock, cpu_cycles")
    rows = walk(host)
    assert rows["nova.conf"]["state"] == "ok"
    assert "hardware_counters" in rows["PMU"]["reason"]


def test_nova_conf_that_is_none(healthy: ComputeHost) -> None:
    healthy.write("nova.conf", "[libvirt\n")
    assert "nova.conf" in broken(healthy, "nova.conf")


OURS = "[DEFAULT]\ncompute_driver = ceilometer_perf.SlicesDriver\n"


def test_our_driver_does_not_mind(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_driver, "is_missing", lambda: False)
    names = "TASK_CLOCK, task_clock, page_faults"
    text = f"[libvirt]\nenabled_perf_events = {names}\n"
    healthy.write("nova.conf", OURS + text)
    row = walk(healthy)["nova.conf"]
    assert (row["state"], row["reason"][-16:]) == ("ok", "2 events enabled")
    healthy.write("nova.conf", text)
    assert "twice or in capitals" in broken(healthy, "nova.conf")


def test_nova_does_not_find_our_driver(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute_driver, "is_missing", lambda: True)
    healthy.write("nova.conf", OURS)
    row = walk(healthy)["nova.conf"]
    assert row["state"] == "warning"
    assert "has no nova.virt.ceilometer_perf" in row["reason"]


def test_ignored_by_nova(healthy: ComputeHost) -> None:
    healthy.nova_conf("task_clock, cmt")
    assert walk(healthy)["nova.conf"]["state"] == "warning"


def test_no_nova_conf_here(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nova_compute, "configuration", lambda: None)
    ran = run("doctor", *healthy.options)
    assert ran.code == 0
    assert ran.out.startswith("warning  nova.conf")


@pytest.mark.parametrize("name", ["none", "."])
def test_a_nova_conf_that_only_nova_compute_can_read(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = NovaFiles((healthy.folder / name / "nova.conf",), "nova-compute's")
    monkeypatch.setattr(nova_compute, "configuration", lambda: found)
    if name == ".":
        monkeypatch.setattr(files, "read", denied(files.read))
    ran = run("doctor", *healthy.options)
    assert ran.code == 0
    assert f"warning  nova.conf       {found}: " in ran.out


def denied(
    read: Callable[[Path], bytes], name: str = "nova.conf"
) -> Callable[[Path], bytes]:
    """Another user's file is that with this name."""

    def reads(path: Path) -> bytes:
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    return reads


def test_what_nova_compute_was_started_with(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = [
        healthy.write("nova.conf", "[DEFAULT]\n"),
        healthy.write(
            "nova-compute.conf",
            "[libvirt]\nenabled_perf_events = task_clock\n",
        ),
    ]
    found = NovaFiles(tuple(pair), "nova-compute's")
    monkeypatch.setattr(nova_compute, "configuration", lambda: found)
    ran = run("doctor", *healthy.options)
    assert ran.out.startswith(
        f"ok       nova.conf       nova-compute's {pair[0]}, {pair[1]}: "
        "1 event enabled\n"
    )


def no_libvirt(host: ComputeHost) -> None:
    host.stop_libvirt()


def no_instance(host: ComputeHost) -> None:
    host.has()


def foreign(host: ComputeHost) -> None:
    host.has(domain("web", SOFTWARE, nova=None))


def stopped(host: ComputeHost) -> None:
    host.has(domain("web", SOFTWARE, id=-1))


def no_events(host: ComputeHost) -> None:
    host.has(domain("web", ()))


def not_counted(host: ComputeHost) -> None:
    web = domain("web", SOFTWARE)
    web.perf = {}
    host.has(web)


def realtime(host: ComputeHost) -> None:
    host.has(domain("web", SOFTWARE, extra=REALTIME))


def in_doubt(host: ComputeHost) -> None:
    host.conf("withhold_in_doubt = true")


def bad_option(host: ComputeHost) -> None:
    host.conf("min_coverage = 7")


def bad_type(host: ComputeHost) -> None:
    host.conf(default="libvirt_uri =\nlibvirt_type = vmware")


def not_asked_for(host: ComputeHost) -> None:
    host.write("polling.yaml", POLLING.replace(
        '[perf.hw.*, perf.sw.*, perf.coverage, "perf.derived.*"]',
        "[perf.hw.*]",
    ))  # fmt: skip


def no_pipeline(host: ComputeHost) -> None:
    host.write("pipeline.yaml", PIPELINE.replace('"*"', "cpu"))


def dangling(host: ComputeHost) -> None:
    host.write("pipeline.yaml", PIPELINE.replace("[gnocchi]", "[nowhere]"))


def no_publisher(host: ComputeHost) -> None:
    host.write("pipeline.yaml", PIPELINE.replace('"gnocchi://"', ""))


def publishers_without_a_list(host: ComputeHost) -> None:
    host.write(
        "pipeline.yaml", PIPELINE.replace('["gnocchi://"]', "gnocchi://")
    )


def metrics_without_a_list(host: ComputeHost) -> None:
    host.write("gnocchi_resources.yaml", "resources: [{metrics: cpu}]\n")


def no_mapping(host: ComputeHost) -> None:
    host.write("gnocchi_resources.yaml", "resources: [\n")


@pytest.mark.parametrize(
    ("breaks", "link", "says"),
    [
        (bad_option, "ceilometer.conf", "[perf] min_coverage"),
        (bad_type, "ceilometer.conf", "libvirt_type"),
        (no_libvirt, "libvirt", "libvirt at test://"),
        (no_instance, "instances", "no instance of Nova's on this host"),
        (foreign, "instances", "1 other domain"),
        (stopped, "instances", "no instance is running"),
        (no_events, "XML", "no running instance has events"),
        (not_counted, "PMU", "counts no event of web"),
        (in_doubt, "gate", "in_doubt"),
        (not_asked_for, "gate", "not those that polling.yaml asks"),
        (no_pipeline, "pipeline.yaml", "none of our meters"),
        (dangling, "pipeline.yaml", "nowhere"),
        (no_publisher, "pipeline.yaml", "no publishers in sink gnocchi"),
        (
            publishers_without_a_list,
            "pipeline.yaml",
            "pipeline.yaml:6: publishers must be a list of names",
        ),
        (
            metrics_without_a_list,
            "Gnocchi",
            "gnocchi_resources.yaml:1: metrics must be a list or a mapping",
        ),
        (no_mapping, "Gnocchi", "gnocchi_resources.yaml:2: "),
    ],
)
def test_each_link(
    healthy: ComputeHost,
    breaks: Callable[[ComputeHost], None],
    link: str,
    says: str,
) -> None:
    breaks(healthy)
    assert says in broken(healthy, link)


@pytest.mark.parametrize(
    "polling", [POLLING.replace("perf.", "image."), "sources: []", None]
)
def test_a_controller_has_the_links_of_the_notification_agent(
    host: ComputeHost, polling: str | None
) -> None:
    host.stop_libvirt()
    path = host.folder / "polling.yaml"
    path.unlink() if polling is None else path.write_text(polling)
    rows = walk(host)
    states = [row["state"] for row in rows.values()]
    assert states == ["skipped"] * (len(LINKS) - 2) + ["ok", "ok"]
    assert "libvirt at test://" in rows["nova.conf"]["reason"]
    assert rows["gate"]["reason"] == "not a compute host"
    host.write("gnocchi_resources.yaml", GNOCCHI.replace("perf.hw", "x"))
    row = walk(host)["Gnocchi"]
    assert row["state"] == "warning"
    assert "perf.hw.cpu_cycles" in row["reason"]
    no_pipeline(host)
    assert walk(host)["pipeline.yaml"]["state"] == "broken"


@pytest.mark.parametrize(
    ("polling", "link"),
    [
        ("sources: [", "polling.yaml"),
        (POLLING.replace("interval: 60", ""), "polling.yaml"),
        ("sources: [{name: p, interval: 60, meters: [perf.nope]}]", "libvirt"),
        (POLLING, "libvirt"),
    ],
)
def test_a_compute_host_without_libvirt_is_one_all_the_same(
    host: ComputeHost, polling: str, link: str
) -> None:
    host.stop_libvirt()
    host.write("polling.yaml", polling)
    row = walk(host)[link]
    assert row["state"] == "broken"
    assert row["reason"]


@pytest.mark.parametrize("beside", ["", ", cpu_l3_cache"])
def test_waiting_alone_needs_no_perf_events(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch, beside: str
) -> None:
    healthy.write("polling.yaml", WAITING.replace("]}", f"{beside}]}}"))
    healthy.nova_conf("")
    healthy.has(domain("web", ()))
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: True)
    rows = walk(healthy)
    assert rows["nova.conf"]["reason"] == "no perf counter is polled"
    assert rows["cache"]["state"] == ("warning" if beside else "ok")
    assert rows["Gnocchi"]["state"] == "ok"


def test_only_realtime_instances_are_no_broken_link(
    host: ComputeHost,
) -> None:
    realtime(host)
    rows = walk(host)
    assert rows["gate"]["state"] == "warning"
    assert "realtime" in rows["gate"]["reason"]
    assert "skipped" not in {row["state"] for row in rows.values()}
    host.write("polling.yaml", CACHE)
    assert walk(host)["cache"]["state"] == "warning"


def test_an_instance_without_events_beside_one_that_is_not_read(
    host: ComputeHost,
) -> None:
    host.has(domain("rt", SOFTWARE, extra=REALTIME), domain("web", ()))
    rows = walk(host)
    assert rows["XML"]["state"] == "warning"
    assert rows["PMU"]["state"] == "ok"
    assert rows["gate"]["state"] == "broken"
    assert "not_enabled" in rows["gate"]["reason"]


def test_names_forge_no_row(host: ComputeHost) -> None:
    bad = domain("web", SOFTWARE, nova=None)
    bad.domain_name = "web\nok       gate            \x1b[32mfine"
    host.has(domain("good", SOFTWARE), bad)
    lines = ask(host).out.splitlines()
    assert (
        len([line for line in lines if line.startswith("ok       gate")]) == 1
    )
    assert "\x1b" not in "".join(lines)


def test_a_comment_is_no_event(healthy: ComputeHost) -> None:
    healthy.nova_conf("task_clock, page_faults   # a comment")
    row = walk(healthy)["nova.conf"]
    assert row["state"] == "broken"
    assert "page_faults # a comment has a comment" in row["reason"]
    assert row["remedy"] == "put the comment on a line of its own"


@pytest.mark.usefixtures("notifies")
def test_no_file_of_the_package_is_to_be_written(
    healthy: ComputeHost,
) -> None:
    (healthy.folder / "polling.yaml").unlink()
    row = walk(healthy)["polling.yaml"]
    assert row["state"] == "broken"
    assert row["remedy"].startswith("create /etc/ceilometer/polling.yaml")
    assert "site-packages" not in row["reason"]


def test_some_of_them(host: ComputeHost) -> None:
    """What only some instances lack is a warning."""
    host.has(
        domain("web", SOFTWARE),
        domain("plain", ()),
        domain("other", SOFTWARE, nova=None),
        domain("stuck", ["cpu_cycles"], id=-1),
        domain("rt", SOFTWARE, extra=REALTIME),
    )
    host.write("pipeline.yaml", PIPELINE.replace('"*"', "perf.sw.*"))
    host.write("gnocchi_resources.yaml", GNOCCHI.replace("page_faults:", "x:"))
    rows = walk(host)
    warned = {x for x, row in rows.items() if row["state"] == "warning"}
    assert warned == {
        "instances", "XML", "PMU", "gate", "pipeline.yaml", "Gnocchi",
    }  # fmt: skip
    assert "instance-other" in rows["instances"]["reason"]
    assert "plain" in rows["XML"]["reason"]
    assert "stuck" in rows["PMU"]["reason"]
    assert "(rt)" in rows["gate"]["reason"]
    assert "perf.hw.cpu_cycles" in rows["pipeline.yaml"]["reason"]
    assert "map perf.sw.page_faults," in rows["Gnocchi"]["reason"]
    assert rows["Gnocchi"]["remedy"].startswith(
        "ceilometer-perf gnocchi-resources --in-place "
        f"{host.folder}/gnocchi_resources.yaml, and restart "
    )


# Counters of our own


def own(
    host: ComputeHost,
    monkeypatch: pytest.MonkeyPatch,
    numbers: list[int] | Exception,
) -> None:
    """The agent counts itself; what its helper says of two events."""

    def trial(_: object) -> list[int]:
        if isinstance(numbers, Exception):
            raise numbers
        return numbers

    monkeypatch.setattr(patient, "trial", trial)
    host.conf("counters = auto\nown_events = task_clock, cpu_cycles")


def test_the_helper_counts(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(healthy, monkeypatch, [0, 2])
    healthy.nova_conf("")
    rows = walk(healthy)
    assert rows["helper"]["state"] == "ok"
    assert "1 event; not here: cpu_cycles" in rows["helper"]["reason"]
    assert rows["nova.conf"]["state"] == "ok"


@pytest.mark.parametrize("is_root", [True, False])
def test_an_instance_that_the_agent_counts(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch, is_root: bool
) -> None:
    """By root it is counted here, too; another user can't."""
    own(host, monkeypatch, [0, 0])
    monkeypatch.setattr("os.geteuid", lambda: 0 if is_root else 1000)
    monkeypatch.setattr(wiring, "Counting", FakeCounting)
    host.runs("web")
    host.has(domain("web", ()))
    rows = walk(host)
    assert "itself counts 1 instance" in rows["XML"]["reason"]
    assert rows["gate"]["state"] == "ok"


@pytest.mark.parametrize(
    ("counters", "events", "link", "says"),
    [
        ("auto", (), "XML", "let the agent count them"),
        ("own", SOFTWARE, "gate", "see the link helper"),
    ],
)
@pytest.mark.parametrize("numbers", [RuntimeError("sudo"), [2, 2]])
def test_an_instance_that_the_agent_can_not_count(
    host: ComputeHost,
    monkeypatch: pytest.MonkeyPatch,
    numbers: list[int] | Exception,
    counters: str,
    events: Sequence[str],
    link: str,
    says: str,
) -> None:
    """This user may not, and nor may its helper."""
    own(host, monkeypatch, numbers)
    host.conf(f"counters = {counters}\nown_events = task_clock, cpu_cycles")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    host.runs("web")
    host.has(domain("web", events))
    broken(host, link)
    assert says in walk(host)[link]["remedy"]


def test_own_counters_need_no_number_of_the_cpus(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(host, monkeypatch, [0, 0])
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(wiring, "Counting", FakeCounting)
    host.runs("web")
    host.has(domain("web", ()))
    assert walk(host)["PMU"]["state"] == "ok"


class FakeCounting:
    """Has just begun."""

    def __init__(self, _run: Path) -> None:
        pass

    def read(self, wanted: Sequence[object], events: Sequence[str]) -> bytes:
        row = [0, 1, 1 + len(events), 0, *[0] * len(events)]
        return array("q", row * len(wanted)).tobytes()


@pytest.mark.parametrize(
    ("error", "reason", "remedy"),
    [
        (PermissionError(13, "no"), "does not let", "perf_event_paranoid=2"),
        (OSError(38, "none"), "no perf_event_open", "counters = libvirt"),
        (RuntimeError("exited non-zero (1)"), "exited non-zero", "sudoers"),
    ],
)
def test_a_helper_that_can_not_count(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch,
    error: Exception, reason: str, remedy: str,
) -> None:  # fmt: skip
    """libvirt's counters are published nonetheless."""
    own(healthy, monkeypatch, error)
    row = walk(healthy)["helper"]
    assert row["state"] == "warning"
    assert reason in row["reason"]
    assert remedy in row["remedy"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo first >&2; echo sudo: no tty >&2; exit 1", "(sudo: no tty)"),
        ("exit 3", "exited non-zero (3)"),
    ],
)
def test_why_a_helper_does_not_start(
    healthy: ComputeHost, script: str, reason: str
) -> None:
    healthy.conf(f"counters = auto\nprivsep_helper = sh -c '{script}'")
    ran = ask(healthy, "-f", "json")
    assert ran.err == ""
    rows = {row["link"]: row for row in json.loads(ran.out)}
    assert reason in rows["helper"]["reason"]


def test_what_a_helper_that_runs_says_is_no_reason(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> list[int]:
        log.getLogger("oslo_privsep.daemon").warning(
            "privsep log: %s", "privsep daemon running as pid 7"
        )
        raise RuntimeError("no such function")

    monkeypatch.setattr(privsep.Helper, "try_events", fails)
    healthy.conf("counters = auto")
    row = walk(healthy)["helper"]
    assert "(RuntimeError: no such function)" in row["reason"]


@pytest.mark.parametrize(
    ("events", "counters", "says", "says_not"),
    [
        ("", "auto", "let the agent count them", "Nova writes the events"),
        ("task_clock", "auto", "Nova writes the events", "host probe"),
        ("task_clock", "libvirt", "Nova writes the events", "let the agent"),
    ],
)
def test_a_reboot_helps_only_where_nova_has_events(
    host: ComputeHost,
    monkeypatch: pytest.MonkeyPatch,
    events: str,
    counters: str,
    says: str,
    says_not: str,
) -> None:
    host.has(domain("web", ()))
    own(host, monkeypatch, RuntimeError("no"))
    host.conf(f"counters = {counters}")
    host.nova_conf(events)
    row = walk(host)["XML"]
    assert row["state"] == "broken"
    assert says in row["remedy"]
    assert says_not not in row["remedy"]


def test_a_helper_that_counts_nothing(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(healthy, monkeypatch, [errno.EINVAL] * 2)
    row = walk(healthy)["helper"]
    assert row["state"] == "warning"
    assert "no event of [perf] own_events" in row["reason"]
    assert "Linux is older than 5.13" in row["reason"]
    assert "counters = libvirt" in row["remedy"]


# Caches and memory

CACHE = "sources: [{name: c, interval: 60, meters: [cpu_l3_cache*]}]\n"
WAITING = "sources: [{name: w, interval: 60, meters: [perf.sched.*]}]\n"


def test_caches_that_nobody_polls(healthy: ComputeHost) -> None:
    assert "not polled" in walk(healthy)["cache"]["reason"]


def test_caches_beside_counters(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    meters = POLLING.replace('"perf.derived.*"', "cpu_l3_cache")
    healthy.write("polling.yaml", meters)
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: True)
    row = walk(healthy)["cache"]
    assert row["state"] == "warning"
    assert "resctrl is not mounted" in row["reason"]
    assert "mount -t resctrl" in row["remedy"]
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: False)
    row = walk(healthy)["cache"]
    assert (row["state"], row["remedy"]) == ("ok", "")
    assert "no cqm" in row["reason"]


def test_caches_alone_need_no_perf_events(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy.write("polling.yaml", CACHE)
    healthy.nova_conf("")
    healthy.has(domain("web", ()))
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: True)
    assert "resctrl is not mounted" in broken(healthy, "cache")
    assert walk(healthy)["nova.conf"]["reason"] == "no perf counter is polled"
    monkeypatch.setattr(resctrl, "cpus_can_monitor", lambda *_: False)
    assert "no cqm" in broken(healthy, "cache")
    remedy = walk(healthy)["cache"]["remedy"]
    assert "take these meters out of its polling.yaml" in remedy


def test_caches_that_can_be_read(healthy: ComputeHost) -> None:
    monitors = (
        "<cputune><memorytune vcpus='0'><monitor vcpus='0'/></memorytune>"
        "<cachetune vcpus='0'><monitor level='3' vcpus='0'/></cachetune>"
        "</cputune>"
    )
    web = domain("web", (), extra=monitors)
    bank, node = "cpu.cache.monitor.0.bank", "memory.bandwidth.monitor.0.node"
    web.perf = {
        "cpu.cache.monitor.count": 1, "cpu.cache.monitor.0.vcpus": "0",
        f"{bank}.count": 1, f"{bank}.0.id": 0, f"{bank}.0.bytes": 5,
        "memory.bandwidth.monitor.count": 1,
        "memory.bandwidth.monitor.0.vcpus": "0",
        f"{node}.count": 1, f"{node}.0.id": 0,
        f"{node}.0.bytes.total": 5, f"{node}.0.bytes.local": 5,
    }  # fmt: skip
    healthy.has(web)
    healthy.write("polling.yaml", CACHE)
    row = walk(healthy)["cache"]
    assert (row["state"], row["reason"]) == (
        "ok", "2 meters of each running instance",
    )  # fmt: skip


@pytest.mark.parametrize(
    "meters",
    [
        "[cpu, cpu_l3_cache, memory.usage]",
        "[memory.bandwidth.total, memory.bandwidth.local]",
    ],
)
def test_what_ceilometer_s_own_file_asked_for(
    healthy: ComputeHost, meters: str
) -> None:
    healthy.write(
        "polling.yaml",
        f"sources: [{{name: a, interval: 9, meters: {meters}}}]",
    )
    row = walk(healthy)["polling.yaml"]
    assert row["state"] == "warning"
    assert "nothing of perf.*" in row["reason"]
    assert "perf.hw.*" in row["remedy"]


CORE = '\n - {{name: core, interval: {}, meters: ["cpu", "memory.usage"]}}'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (POLLING.rstrip() + CORE.format(60).replace(" - ", "    - "), 5),
        (POLLING.replace("60", "'60'").rstrip()
         + CORE.format(60).replace(" - ", "    - "), 5),
        (POLLING.replace("perf.sw.*", "cpu, perf.sw.*"), 2),
        ('sources: [{name: a, interval: 60, meters: ["*"]}]', 1),
    ],
)  # fmt: skip
def test_meters_of_others_at_our_interval(
    healthy: ComputeHost, text: str, line: int
) -> None:
    """They hold ours up while they wait for libvirt."""
    healthy.write("polling.yaml", text)
    row = walk(healthy)["polling.yaml"]
    assert row["state"] == "warning"
    assert f"polling.yaml:{line}: source " in row["reason"]
    assert "every 60 s" in row["reason"]
    assert "interval that no other source has" in row["remedy"]


def test_meters_of_others_at_another_interval(healthy: ComputeHost) -> None:
    """And of theirs at one of their own."""
    others = CORE.format(300) + CORE.format(300)
    text = POLLING.rstrip() + others.replace(" - ", "    - ")
    healthy.write("polling.yaml", text)
    assert walk(healthy)["polling.yaml"]["state"] == "ok"


@pytest.mark.parametrize("file", ["ceilometer", "kolla/config/ceilometer"])
def test_the_files_that_are_delivered(healthy: ComputeHost, file: str) -> None:
    etc = Path(__file__).parents[2] / "etc"
    text = (etc / file / "polling.yaml").read_text()
    healthy.write("polling.yaml", text)
    assert walk(healthy)["polling.yaml"]["state"] == "ok"


# Who libvirt doesn't know


def test_a_user_whom_the_host_does_not_know(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an agent's in a container."""
    why = "Failed to find user record for uid '42405'"

    def refuse(_uri: str) -> None:
        raise libvirt_error(text=why)

    monkeypatch.setattr(libvirt, "openReadOnly", refuse)
    assert why in broken(healthy, "libvirt")
    assert "useradd --system --uid" in walk(healthy)["libvirt"]["remedy"]


# Files that libvirt's daemon has open


@pytest.mark.parametrize(
    ("limit", "used", "warns"),
    [(1000, 800, True), (1000, 799, False), (2, None, True),
     (3, None, False), (None, 9999, False)],
)  # fmt: skip
def test_descriptors(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch,
    limit: int | None, used: int | None, warns: bool,
) -> None:  # fmt: skip
    """Of which each event of each guest takes one: two here."""
    driver = Process(7, 100, 1, 0)
    monkeypatch.setattr(processes.Processes, "driver", lambda _: driver)
    monkeypatch.setattr(descriptors, "limit", lambda _pid: limit)
    monkeypatch.setattr(descriptors, "in_use", lambda _pid: used)
    row = walk(healthy)["PMU"]
    assert (row["state"] == "warning") is warns
    if warns:
        assert f"of at most {limit} files open, 2 of them" in row["reason"]
        assert "LimitNOFILE" in row["remedy"]


def test_descriptors_of_a_real_process(tmp_path: Path) -> None:
    assert (
        descriptors.limit(os.getpid())
        == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    )
    before = descriptors.in_use(os.getpid())
    with (tmp_path / "file").open("w"):
        assert descriptors.in_use(os.getpid()) == (before or 0) + 1
    assert descriptors.limit(7, tmp_path) is None
    assert descriptors.in_use(7, tmp_path) is None


# Entry points


def test_not_installed(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "installed", lambda _group: iter(()))
    assert "not installed: perf.hw.instructions" in broken(
        healthy, "entry points"
    )


def test_not_loadable(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.metadata.EntryPoint.load

    def load(self: importlib.metadata.EntryPoint) -> object:
        if "pollsters:" in self.value:
            raise ImportError("no ceilometer here")
        return real(self)

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load)
    assert "no ceilometer here" in broken(healthy, "entry points")


def test_installed_twice(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = list(agent.installed(agent.POLLSTERS))

    def installed(group: str) -> list[str]:
        if group == agent.POLLSTERS:
            return [*real, "perf.coverage"]
        return ["perf_instances"]

    monkeypatch.setattr(agent, "installed", installed)
    row = walk(healthy)["entry points"]
    assert row["state"] == "warning"
    assert "perf.coverage" in row["reason"]


# polling.yaml


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sources: [\n", "polling.yaml:2: "),
        ("a: b: c\n", "polling.yaml:1: mapping values"),
        ("\x00", "polling.yaml:1: "),
        ("- a\n", "must be a mapping"),
        ("", "must be a mapping"),
        ("x: 1\n", "polling.yaml:1: sources must be a list"),
        ("sources: [7]\n", "7 in sources must be a mapping"),
        ("sources:\n  - name: a\n", "polling.yaml:2: a source without meters"),
        (POLLING.replace("interval", "often"), "2: a source without interval"),
        (POLLING.replace("60", "often"), "2: interval must be a number"),
        (POLLING.replace("60", "-1"), "2: interval must be a number"),
        (POLLING.replace("60", "[60]"), "2: interval must be a number"),
        (POLLING.replace("60", ".inf"), "2: interval must be a number"),
        (POLLING.replace("perf.hw.*", "7"), "meters must be a list of names"),
        (POLLING.replace("perf.hw.*", '"!a"'), "mixes names with exclusions"),
        (POLLING.replace("perf.hw.*", '"*"'), "mixes names with exclusions"),
        (POLLING.replace("perf.hw.*", "perf.hw.cycles"), "perf.hw.cycles"),
        ("sources: []\n", "none of ceilometer-perf's meters"),
        (
            "sources:\n - {name: a, interval: 1, meters: [perf.cpu.cycles]}",
            "none of ceilometer-perf's meters",
        ),
    ],
)
def test_polling(healthy: ComputeHost, text: str, says: str) -> None:
    healthy.write("polling.yaml", text)
    assert says in broken(healthy, "polling.yaml")


def test_the_right_name_is_told(healthy: ComputeHost) -> None:
    healthy.write(
        "polling.yaml", POLLING.replace("perf.hw.*", "perf.hw.cpu_cycle")
    )
    assert "perf.hw.cpu_cycles" in walk(healthy)["polling.yaml"]["remedy"]


def test_asked_for_twice(healthy: ComputeHost) -> None:
    healthy.write("polling.yaml", POLLING + POLLING.partition("\n")[2])
    row = walk(healthy)["polling.yaml"]
    assert row["state"] == "warning"
    assert "perf.hw.cpu_cycles" in row["reason"]


def test_no_polling_at_all(healthy: ComputeHost) -> None:
    (healthy.folder / "polling.yaml").unlink()
    assert "No such file" in broken(healthy, "polling.yaml")


def test_named_elsewhere(healthy: ComputeHost) -> None:
    path = healthy.write("mine.yaml", "sources: []\n")
    healthy.conf(default=f"[polling]\ncfg_file = {path}")
    assert f"{path}" in broken(healthy, "polling.yaml")


# pipeline.yaml and Gnocchi


def test_what_is_elsewhere_is_no_fault(healthy: ComputeHost) -> None:
    """A compute host whose samples are published from another one."""
    (healthy.folder / "pipeline.yaml").unlink()
    (healthy.folder / "gnocchi_resources.yaml").unlink()
    row = walk(healthy)["Gnocchi"]
    assert (row["state"], row["remedy"]) == ("ok", "")
    assert "on another host" in row["reason"]


@pytest.fixture
def notifies(healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "any_runs", lambda _name: True)


@pytest.mark.usefixtures("notifies")
def test_cores_own_files(healthy: ComputeHost) -> None:
    (healthy.folder / "pipeline.yaml").unlink()
    (healthy.folder / "gnocchi_resources.yaml").unlink()
    rows = walk(healthy)
    assert rows["pipeline.yaml"]["state"] == "ok"
    assert "pipeline/data/pipeline.yaml" in rows["pipeline.yaml"]["reason"]
    assert rows["Gnocchi"]["state"] == "warning"
    assert "publisher/data/gnocchi" in rows["Gnocchi"]["reason"]
    assert rows["Gnocchi"]["remedy"].startswith(
        "ceilometer-perf gnocchi-resources > "
        "/etc/ceilometer/gnocchi_resources.yaml, and restart "
    )


def test_another_publisher(healthy: ComputeHost) -> None:
    healthy.write(
        "pipeline.yaml", PIPELINE.replace("gnocchi://", "udp://host:4952")
    )
    row = walk(healthy)["Gnocchi"]
    assert (row["state"], row["reason"]) == (
        "ok", "nothing is published to Gnocchi",
    )  # fmt: skip


def test_a_mapping_that_the_publisher_names(healthy: ComputeHost) -> None:
    path = healthy.write("mine.yaml", GNOCCHI)
    (healthy.folder / "gnocchi_resources.yaml").unlink()
    healthy.write(
        "pipeline.yaml",
        PIPELINE.replace(
            "gnocchi://", f"gnocchi://?resources_definition_file={path}"
        ),
    )
    assert walk(healthy)["Gnocchi"]["state"] == "ok"


def test_gnocchi_resources_mends_the_mapping(healthy: ComputeHost) -> None:
    path = healthy.write(
        "gnocchi_resources.yaml", GNOCCHI.replace("page_faults:", "x:")
    )
    remedy = walk(healthy)["Gnocchi"]["remedy"]
    words = remedy.partition(",")[0].split()[1:]
    assert words[-1] == str(path)
    assert run(*words).code == 0
    assert walk(healthy)["Gnocchi"]["state"] == "ok"


def test_core_agrees_on_what_a_source_chooses() -> None:
    from ceilometer.agent import Source

    for meters in (
        ["*"], ["perf.*"], ["!perf.hw.*"], ["*", "!perf.sw.*"], ["cpu"],
        ["!cpu"], ["perf.hw.cpu_cycles", "perf.sw.*"],
    ):  # fmt: skip
        ours = definitions.Source("a", tuple(meters), (), "")
        for name in ("cpu", "perf.hw.cpu_cycles", "perf.sw.task_clock"):
            assert ours.chooses(name) == Source.is_supported(meters, name)


# What is around it


def test_core_agrees_on_where_libvirt_is() -> None:
    from ceilometer.compute.virt.libvirt import utils

    assert agent_conf.URIS == utils.LIBVIRT_PER_TYPE_URIS
    for ours, theirs in zip(agent_conf.LIBVIRT_OPTS, utils.OPTS, strict=True):
        assert (ours.name, ours.default) == (theirs.name, theirs.default)


def test_a_polling_yaml_that_this_user_may_not_read(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = denied(files.read, "polling.yaml")
    monkeypatch.setattr(files, "read", read)
    row = walk(healthy)["polling.yaml"]
    assert row["state"] == "broken"
    assert row["reason"].endswith("polling.yaml: Permission denied")
    assert "create" not in row["remedy"]
    assert "run this as the agent's user" in row["remedy"]


def test_a_polling_yaml_in_a_closed_folder(
    healthy: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = healthy.folder / "closed/polling.yaml"
    exists = Path.exists

    def may_not(path: Path) -> bool:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    monkeypatch.setattr(Path, "exists", may_not)
    healthy.conf(default=f"[polling]\ncfg_file = {closed}")
    assert str(closed) in broken(healthy, "polling.yaml")


@pytest.mark.parametrize("command", ["doctor", "status", "top", "neighbours"])
def test_configuration_that_this_user_may_not_see_is_no_default(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(agent_conf, "ETC", host.folder)
    monkeypatch.setattr(os, "access", lambda *_: False)
    ran = run(command)
    assert (ran.code, ran.out) == (2, "")
    assert f"{host.folder}: Permission denied; run this as the" in ran.err


def test_a_users_own_configuration_is_read_where_that_is_closed(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = host.folder / "own.conf"
    own.touch()
    monkeypatch.setattr(agent_conf, "ETC", host.folder)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(cfg, "find_config_files", lambda *_: [str(own)])
    assert list(agent_conf._defaults()) == [str(own)]


def test_bad_input(host: ComputeHost) -> None:
    for argv in (
        ("--config-file", "/no/such/file"),
        (*host.options, "--nova-conf", "/no/such/file"),
    ):
        ran = run("doctor", "-f", "json", *argv)
        assert (ran.code, ran.out) == (2, "")
        assert set(json.loads(ran.err)) == {"error", "message"}


def test_a_remedy_is_a_line() -> None:
    error = BrokenError("two\nlines", "fix it")
    assert (str(error), error.remedy) == ("two lines", "fix it")


def test_what_withholds() -> None:
    assert {v.value for v in Verdict if v.withholds} == {
        "detached", "multiplexed", "realtime", "in_doubt", "stale",
        "implausible", "miscounted", "pmu_taken", "refused",
    }  # fmt: skip
