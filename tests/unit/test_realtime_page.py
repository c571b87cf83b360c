# SPDX-License-Identifier: Apache-2.0
"""The page of realtime hosts, followed step by step on an untuned host.

The host is written down in files. Its files are changed as the page says; of
what the page runs, programs that a test must not run are stood in for by what
they do to these files, and so is the kernel that boots with its parameters.
"""

import re
import shlex
import shutil
import subprocess
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ceilometer_perf.cli import realtime_host
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import nova_compute
from ceilometer_perf.host.cpu_sets import parse_list
from ceilometer_perf.host.probe import virt
from ceilometer_perf.host.realtime import CONDITIONS
from tests.unit.realtime_hosts import (
    CPU,
    KVM,
    SYS,
    TUNED,
    UNTUNED,
    VIRT,
    Files,
    every,
    thread,
    write,
)
from tests.unit.shell import run

PAGE = Path(__file__).parents[2] / "doc" / "source" / "realtime-hosts.rst"
BLOCK = re.compile(
    r"^\.\. code-block:: (\w+)\n(?:   :caption: (\S+)\n)?\n"
    r"((?:(?:   .*)?\n)+)",
    re.MULTILINE,
)
#: As delivered, with SMT turned off in the firmware.
DELIVERED: Files = {
    **UNTUNED,
    f"{CPU}/smt/active": "0",
    f"{SYS}/clocksource/clocksource0/current_clocksource": "tsc",
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": str(n)
       for n in range(8)},
    "proc/950/status": TUNED["proc/950/status"],
}  # fmt: skip


def blocks() -> Iterator[tuple[str, str, str]]:
    """Kind, file name and text of each, in the order of the page."""
    for kind, name, text in BLOCK.findall(PAGE.read_text()):
        yield kind, name, textwrap.dedent(text).strip("\n")


class Operator:
    """Does to a host what the page says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.installed: set[str] = set()
        self.parameters: dict[str, str] = {}
        self.programs: dict[str, Callable[[list[str]], None]] = {
            "dnf": lambda words: self.installed.update(words[1:]),
            "grubby": self.grubby,
            "reboot": lambda _words: self.reboot(),
            "tuned-adm": self.tuned,
            "sysctl": lambda _words: self.sysctl(),
            "swapoff": lambda _words: self.write({"proc/swaps": "Filename\n"}),
            "systemctl": lambda _words: None,
        }

    def write(self, files: Files) -> None:
        write(self.root, files)

    def shell(self, text: str) -> None:
        for line in text.splitlines():
            words = shlex.split(line)
            if words[0] in self.programs:
                self.programs[words[0]](words[1:])
            else:
                here = re.sub(r" /(?=sys|proc)", f" {self.root}/", line)
                subprocess.run(["bash", "-ec", here], check=True)

    def grubby(self, words: list[str]) -> None:
        for word in shlex.split(words[1].removeprefix("--args=")):
            name, _, value = word.partition("=")
            self.parameters[name] = value

    def tuned(self, words: list[str]) -> None:
        assert "tuned-profiles-nfv-host" in self.installed
        profile = words[1]
        variables = self.root / f"etc/tuned/{profile}-variables.conf"
        assert "isolated_cores=2-3,6-7" in variables.read_text()
        self.write({
            "etc/tuned/active_profile": profile,
            **thread(900, "tuned", 1, "0-1,4-5"),
            **every(range(8), {
                f"{CPU}/cpu{{}}/cpufreq/scaling_governor": "performance",
            }),
        })  # fmt: skip

    def sysctl(self) -> None:
        text = (self.root / "etc/sysctl.d/realtime.conf").read_text()
        for line in text.splitlines():
            name, _, value = line.partition(" = ")
            path = f"proc/sys/{name.replace('.', '/')}"
            assert (self.root / path).exists(), name
            self.write({path: value})

    def reboot(self) -> None:
        """What a kernel makes of its parameters, as documented."""
        given = self.parameters
        flags, isolated = given["isolcpus"].split("domain,")
        rest = "0-1,4-5"
        assert parse_list(isolated) == parse_list("2-3,6-7")
        assert given["irqaffinity"] == rest
        words = (f"{k}={v}" if v else k for k, v in given.items())
        pages = str(int(given["hugepages"]) // 2)
        pool = f"{SYS}/node/node{{}}/hugepages/hugepages-1048576kB"
        self.write({
            "proc/cmdline": "ro " + " ".join(words),
            f"{CPU}/isolated": isolated,
            f"{CPU}/nohz_full": given["nohz_full"],
            "proc/irq/default_smp_affinity": "33",
            "proc/irq/24/effective_affinity_list":
                "0" if "managed_irq" in flags else "3",
            "sys/devices/virtual/workqueue/cpumask": "33",
            "sys/kernel/mm/transparent_hugepage/enabled":
                f"always madvise [{given['transparent_hugepage']}]",
            "proc/sys/kernel/watchdog": str(int("nosoftlockup" not in given)),
            **thread(1, "systemd", 0, rest),
            **every(range(2), {
                f"{pool}/nr_hugepages": pages, f"{pool}/free_hugepages": pages,
            }),
            **every(range(8), {
                f"{SYS}/machinecheck/machinecheck{{}}/ignore_ce":
                    str(int(given["mce"] == "ignore_ce")),
            }),
        })  # fmt: skip
        if given["intel_idle.max_cstate"] == "1":
            for path in self.root.glob(f"{CPU}/cpu*/cpuidle/state1"):
                shutil.rmtree(path)
        if "kernel-rt" in self.installed:
            version = "Linux version 6.12.0-rt #1 SMP PREEMPT_RT"
            config = "# CONFIG_RT_GROUP_SCHED is not set\n"
            self.write({
                "proc/version": version,
                "boot/config-6.12.0-rt": config,
                "sys/kernel/realtime": "1",
            })  # fmt: skip
        self.load_kvm()

    def load_kvm(self) -> None:
        path = self.root / "etc/modprobe.d/kvm.conf"
        for line in path.read_text().splitlines() if path.exists() else ():
            assert line.startswith("options kvm ")
            for option in line.split()[2:]:
                name, _, value = option.partition("=")
                assert (self.root / KVM / name).exists(), name
                self.write({f"{KVM}/{name}": value})


def test_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path, DELIVERED)
    conf = root / "etc/nova/nova.conf"
    write(root, {"etc/nova/nova.conf": "[compute]\ncpu_dedicated_set=2-3,6-7"})
    monkeypatch.setattr(realtime_host, "ROOT", root)
    monkeypatch.setattr(virt, "ask", lambda _uri: VIRT)
    monkeypatch.setattr(
        nova_compute, "configuration", lambda: NovaFiles((conf,))
    )
    operator = Operator(root)
    for kind, name, text in blocks():
        if kind == "ini":
            write(root, {name.lstrip("/"): text + "\n"})
        elif kind == "shell":
            operator.shell(text)
        elif kind == "console":
            command, _, output = text.partition("\n")
            _, *words = shlex.split(command.removeprefix("$ "))
            assert run(*words).out.strip() == output, command
    ran = run("host", "probe", "--realtime")
    assert ran.code == 0
    assert f"   {ran.out.splitlines()[-1]}\n" in PAGE.read_text()


@pytest.mark.parametrize("name", [condition.name for condition in CONDITIONS])
def test_every_condition_is_met_on_the_page(name: str) -> None:
    met = re.search(rf"^   ok +{name} ", PAGE.read_text(), re.MULTILINE)
    assert met or name == "smi"
