# SPDX-License-Identifier: Apache-2.0
"""status: a verdict on each counter of each instance, and what to do."""

import csv
import io
import json
import time
from typing import Any

import libvirt
import pytest

from tests.unit.compute_host import (
    NAMES,
    RDT_NAMES,
    REALTIME,
    ComputeHost,
    domain,
    host,
)
from tests.unit.shell import run

__all__ = ["host"]

KEYS = {
    "id", "name", "state", "realtime", "source", "coverage", "qemu_seen",
    "verdicts",
}  # fmt: skip


def shown(
    host: ComputeHost, *argv: str, code: int = 0
) -> dict[str, dict[str, Any]]:
    """The instances by name."""
    ran = run("status", "-f", "json", "--seconds", "0", *host.options, *argv)
    assert (ran.code, ran.err) == (code, "")
    found = json.loads(ran.out)
    assert set(found) == {"host", "instances"}
    return {each["name"]: each for each in found["instances"]}


def verdicts(instance: dict[str, Any]) -> set[str]:
    assert set(instance) == KEYS
    assert list(instance["verdicts"]) == NAMES + RDT_NAMES
    return {instance["verdicts"][name]["verdict"] for name in NAMES}


def test_all_is_right(host: ComputeHost) -> None:
    host.has(domain("web"), domain("db"))
    found = shown(host)
    assert list(found) == ["db", "web"]
    assert found["web"]["id"] == "uuid-web"
    assert found["web"]["state"] == "running"
    assert found["web"]["verdicts"]["perf.sw.task_clock"] == {
        "verdict": "ok", "reason": "", "remedy": "",
    }  # fmt: skip
    assert verdicts(found["web"]) == {"ok"}


def test_the_host_and_its_policy(host: ComputeHost) -> None:
    host.conf("hardware_counters = 4")
    out = run("status", "-f", "json", "--seconds", "0", *host.options).out
    found = json.loads(out)["host"]
    assert found["hostname"] == "compute-1"
    assert found["libvirt"] == "9.0.0"
    assert found["uri"] == f"test://{host.folder}"
    assert found["hardware_counters"] == 4
    assert found["min_coverage"] == 0.9
    assert "cpu_cycles" in found["lacks"]


def test_what_the_xml_and_the_host_lack(host: ComputeHost) -> None:
    host.has(domain("web", ["task_clock"]))
    found = shown(host)["web"]["verdicts"]
    assert found["perf.sw.task_clock"]["verdict"] == "ok"
    assert found["perf.sw.page_faults"]["verdict"] == "not_enabled"
    assert "nova.conf" in found["perf.sw.page_faults"]["remedy"]
    assert found["perf.hw.cpu_cycles"]["verdict"] == "host_lacks"
    assert found["perf.hw.cpu_cycles"]["reason"]


def test_an_event_enabled_live_before_it_looked(host: ComputeHost) -> None:
    web = domain("web", ["task_clock", "page_faults", "cpu_cycles"])
    web.definition = domain("web", ["task_clock"]).XMLDesc(0)
    host.has(web)
    found = shown(host, code=1)["web"]["verdicts"]
    late = {n for n, v in found.items() if v["verdict"] == "detached"}
    assert late == {"perf.sw.page_faults", "perf.hw.cpu_cycles"}
    assert "its definition does not" in found["perf.hw.cpu_cycles"]["reason"]
    assert "live migrate" in found["perf.hw.cpu_cycles"]["remedy"]
    assert found["perf.sw.task_clock"]["verdict"] == "ok"


def test_unread_instances(host: ComputeHost) -> None:
    off = libvirt.VIR_DOMAIN_SHUTOFF
    host.has(
        domain("rt", extra=REALTIME),
        domain("off", id=-1, state=off),
        domain("odd", state=99),
    )
    found = shown(host, code=0)
    assert verdicts(found["rt"]) == {"realtime"}
    assert found["rt"]["realtime"] is True
    assert verdicts(found["off"]) == {"not_running"}
    assert found["off"]["state"] == "shutoff"
    assert found["odd"]["state"] == "state 99"


def test_a_stopped_instance_is_no_fault(host: ComputeHost) -> None:
    host.has(domain("off", id=-1))
    shown(host, code=0)


def test_multiplexed(host: ComputeHost) -> None:
    host.conf("hardware_counters = 4")
    host.has(domain("web"))
    found = shown(host, code=1)["web"]
    assert verdicts(found) == {"ok", "multiplexed"}
    assert found["verdicts"]["perf.hw.bus_cycles"]["verdict"] == "multiplexed"


def test_a_qemu_that_can_not_be_seen(host: ComputeHost) -> None:
    """As in a container with process ids of its own."""
    host.has(domain("web"), domain("db"), domain("off", id=-1))
    host.unseen.add("instance-web")
    found = shown(host)
    seen = {name: each["qemu_seen"] for name, each in found.items()}
    assert seen == {"web": False, "db": True, "off": None}
    out = run("status", "--seconds", "0", *host.options).out
    (line,) = (x for x in out.splitlines() if "QEMU can't be seen" in x)
    assert line.startswith("  unseen: ")
    assert line.endswith(" (web)")
    assert "--pid=host" in out


@pytest.mark.parametrize(
    ("nova", "name"), [("1", "web"), ("0", "web"), (None, "instance-web")]
)
def test_names(host: ComputeHost, nova: str | None, name: str) -> None:
    host.has(domain("web", nova=nova))
    assert list(shown(host)) == [name]


def test_stale_after_libvirt_went_away(
    host: ComputeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has(domain("web"), domain("off", id=-1))
    monkeypatch.setattr(time, "sleep", host.stop_libvirt)
    found = shown(host, "--seconds", "1", code=1)
    assert verdicts(found["web"]) == {"stale"}
    assert "libvirt at" in next(iter(found["web"]["verdicts"].values()))[
        "reason"
    ]  # fmt: skip


def test_for_people_each_remedy_is_there_once(host: ComputeHost) -> None:
    names = [f"web-{n}" for n in range(8)]
    host.has(
        *(domain(name, ["task_clock"]) for name in names),
        domain("rt", extra=REALTIME),
        domain("bad", nova=None),
    )
    host.conn.domains[-1].domain_name = "bad\x1bname"
    ran = run("status", "--seconds", "0", *host.options)
    assert ran.code == 0  # realtime instances are left alone on purpose
    assert ran.out.startswith("compute-1: libvirt 9.0.0 at test://")
    assert ran.out.count("To do: set [perf] poll_realtime_guests") == 1
    assert ran.out.count("To do: add it to [libvirt]") == 1
    assert "(web-0, web-1, web-2, web-3, web-4 and 3 others)" in ran.out
    assert "Not created by Nova, so not published: bad?name" in ran.out
    assert "\x1b" not in ran.out


def test_no_rmid_is_left(host: ComputeHost) -> None:
    host.has(domain("web", ()))
    info = host.folder / "resctrl" / "info" / "L3_MON"
    info.mkdir(parents=True)
    (host.folder / "resctrl" / "mon_groups").mkdir()
    host.runs("web")
    (info / "num_rmids").write_text("8\n")
    shown(host, code=0)
    (info / "num_rmids").write_text("1\n")
    found = shown(host, code=1)["web"]["verdicts"]["cpu_l3_cache"]
    assert "1 of 1 RMIDs" in found["reason"]


def test_csv_has_a_row_for_each_instance(host: ComputeHost) -> None:
    host.has(domain("web"), domain("rt", extra=REALTIME))
    ran = run("status", "--seconds", "0", "-f", "csv", *host.options)
    rows = list(csv.DictReader(io.StringIO(ran.out)))
    assert [(r["id"], r["name"], r["state"]) for r in rows] == [
        ("uuid-rt", "rt", "running, realtime"),
        ("uuid-web", "web", "running"),
    ]


def test_a_table_fits_a_pipe(host: ComputeHost) -> None:
    uuid = "7d4ab4bd-f572-5a34-a3b9-2ad4ddea3499"
    host.has(
        domain(uuid, ["task_clock"]), domain("an-instance-with-a-long-name")
    )
    out = run("status", "--seconds", "0", *host.options).out
    table = [line for line in out.splitlines() if line[:1] in "+|"]
    assert max(map(len, table)) <= 100
    assert f"uuid-{uuid}" in out
    assert "an-instance-with-a-long-name" in out


def test_nothing_is_told_in_words(host: ComputeHost) -> None:
    out = run("status", "--seconds", "0", *host.options).out
    assert "\nno instances\n" in out


def test_other_formats_are_cliffs(host: ComputeHost) -> None:
    ran = run("status", "--seconds", "0", "-f", "yaml", *host.options)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.parametrize(
    ("perf", "default", "says"),
    [
        ("min_coverage = much", "", "[perf] min_coverage"),
        ("", "libvirt_type = vmware", "libvirt_type"),
        ("what", "", "ceilometer.conf"),
    ],
)
def test_bad_options(
    host: ComputeHost, perf: str, default: str, says: str
) -> None:
    uri = "libvirt_uri =" if default else ""
    host.conf(perf, f"{uri}\n{default}")
    ran = run("status", "-f", "json", *host.options)
    assert (ran.code, ran.out) == (2, "")
    error = json.loads(ran.err)
    assert set(error) == {"error", "message"}
    assert says in error["message"]


def test_libvirt_out_of_reach(host: ComputeHost) -> None:
    host.stop_libvirt()
    ran = run("status", "-f", "json", *host.options)
    assert (ran.code, ran.out) == (2, "")
    assert json.loads(ran.err)["error"] == "SourceUnavailableError"
    assert len(run("status", *host.options).err.splitlines()) == 1


def test_no_such_file() -> None:
    ran = run("status", "--config-file", "/no/such/file")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("word", ["x", "-1", "nan", "inf", "1e9"])
def test_seconds_that_are_none(host: ComputeHost, word: str) -> None:
    assert run("status", *host.options, f"--seconds={word}").code == 2


def test_the_command_line_goes_before_the_file(host: ComputeHost) -> None:
    ran = run(
        "status", "-f", "json", "--seconds", "0",
        *host.options, "--connect", f"test://{host.folder}/other",
    )  # fmt: skip
    assert json.loads(ran.out)["host"]["uri"].endswith("/other")
