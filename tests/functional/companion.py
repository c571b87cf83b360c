# SPDX-License-Identifier: Apache-2.0
"""The installed command, and what it prints defined in a lab."""

import sys
from pathlib import Path

import libvirt

from tests import warm
from tests.lab import Guest, Lab
from tests.unit.shell import Ran

COMMAND = Path(sys.executable).with_name("ceilometer-perf")


def run(*argv: str | Path) -> Ran:
    done = warm.run([COMMAND, *argv])
    assert "Traceback" not in done.stderr
    return Ran(done.returncode, done.stdout, done.stderr)


def on(lab: Lab, guest: Guest) -> tuple[str, ...]:
    return "--instance", guest.uuid, "--connect", lab.uri


def define(lab: Lab, text: str) -> libvirt.virDomain:
    return lab.connection.defineXMLFlags(
        text, libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )


def apply(lab: Lab, guest: Guest, *words: str | Path) -> str:
    """Define what apply prints, after check asked for it."""
    before = run("guest", "check", *on(lab, guest), *words)
    assert before.code == 1
    corrected = run("guest", "apply", *on(lab, guest), *words)
    assert corrected.code == 0
    define(lab, corrected.out)
    after = run("guest", "check", *on(lab, guest), *words)
    assert (after.code, after.out) == (0, "no findings\n")
    return corrected.out
