# SPDX-License-Identifier: Apache-2.0
"""``host probe --realtime`` as a shell sees it."""

import json
from pathlib import Path

import pytest

from ceilometer_perf.host.realtime import CONDITIONS
from tests.unit.realtime_hosts import HALF_TUNED, TUNED, UNTUNED, Files, write
from tests.unit.shell import Ran, run

NOVA = """\
[compute]
cpu_dedicated_set = 2-3,6-7
cpu_shared_set = 1,5
"""


def probe(tmp_path: Path, files: Files, *words: str) -> Ran:
    conf = tmp_path / "nova.conf"
    conf.write_text(NOVA)
    root = write(tmp_path / "root", files)
    return run(
        "host", "probe", "--realtime", "--nova-conf", str(conf),
        "--root", str(root), *words,
    )  # fmt: skip


def test_for_people(tmp_path: Path) -> None:
    ran = probe(tmp_path, HALF_TUNED)
    assert (ran.code, ran.err) == (1, "")
    lines = ran.out.splitlines()
    at = lines.index(
        "wrong    isolcpus               isolated: 2-3, without 6-7"
    )
    assert lines[at + 1] == "         right                  2-3,6-7"
    assert lines[at + 2].startswith(
        "         why                    the sched"
    )
    assert lines[at + 3].startswith(
        "         to fix it              boot with"
    )
    assert "ok       cpu_dedicated_set      2-3,6-7" in lines
    assert lines[-1] == (
        f"{len(CONDITIONS)} conditions: {len(CONDITIONS) - 17} ok, 9 wrong, "
        "5 warnings, 3 unknown"
    )


def test_for_programs(tmp_path: Path) -> None:
    ran = probe(tmp_path, TUNED, "-f", "json")
    assert (ran.code, ran.err) == (0, "")
    shown = json.loads(ran.out)
    assert list(shown) == [condition.name for condition in CONDITIONS]
    assert shown["nohz_full"] == {
        "state": "ok",
        "found": "nohz_full: 2-3,6-7",
        "right": "2-3,6-7",
        "why": "the tick interrupts a vCPU 100 to 1000 times a second; CPU 0 "
        "always keeps it",
        "remedy": "boot with nohz=on nohz_full=2-3,6-7, with a kernel that "
        "has CONFIG_NO_HZ_FULL",
    }


def test_some_of_it(tmp_path: Path) -> None:
    ran = probe(tmp_path, UNTUNED, "-c", "smt", "-c", "kvm")
    assert ran.code == 1  # of all conditions
    assert [line.split()[1] for line in ran.out.splitlines()] == [
        "smt", "off", "two", "fix", "kvm", "conditions:",
    ]  # fmt: skip


def test_warnings_alone_are_no_failure(tmp_path: Path) -> None:
    ran = probe(tmp_path, {**TUNED, "proc/sys/vm/stat_interval": "1"})
    assert "warning  stat_interval          1\n" in ran.out
    assert ran.code == 0


def test_what_a_host_says_is_safe_to_print(tmp_path: Path) -> None:
    name = {"etc/tuned/active_profile": "evil\x1b[2J"}
    assert "evil?[2J" in probe(tmp_path, {**TUNED, **name}).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--realtime", "--root", "/no/such"), "--root /no/such: has no"),
        (("--realtime", "--nova-conf"), "--nova-conf must name a file"),
        (("--realtime", "--nova-conf", "/no/such"), "--nova-conf /no/such: "),
        (
            ("--realtime", "--connect", "qemu+ssh://other/system"),
            "--connect qemu+ssh://other/system: --realtime examines this",
        ),
        (("--root", "/"), "--root / needs --realtime"),
        (
            ("--nova-conf", "/etc/nova/nova.conf"),
            "--nova-conf /etc/nova/nova.conf: without --realtime the option",
        ),
        (("--realtime", "-c", "nope"), "No recognized column names"),
    ],
)
def test_bad_input_is_one_line(words: tuple[str, ...], message: str) -> None:
    ran = run("host", "probe", *words)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"ceilometer-perf: error: {message}")
    assert len(ran.err.splitlines()) == 1


def test_a_bad_nova_conf_is_one_line(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text("[compute]\ncpu_dedicated_set = 3-1\n")
    ran = run("host", "probe", "--realtime", "--nova-conf", str(conf))
    assert (ran.code, ran.out) == (2, "")
    assert "'3-1' is not a CPU number or range" in ran.err


def test_this_host() -> None:
    """Whatever it is, every condition gets an answer."""
    nowhere = "qemu+unix:///system?socket=/no/such/socket"
    ran = run(
        "host", "probe", "--realtime", "--connect", nowhere, "-f", "json"
    )
    assert ran.code in {0, 1}
    assert set(json.loads(ran.out)) == {c.name for c in CONDITIONS}
