# SPDX-License-Identifier: Apache-2.0
"""The installed command, and what it prints defined in a lab."""

import json
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
    """Define what apply prints, after check asked for it.

    What a realtime guest runs as changes at its next boot.
    """
    before = run("guest", "check", *on(lab, guest), *words)
    assert before.code == 1
    corrected = run("guest", "apply", *on(lab, guest), *words)
    assert corrected.code == 0
    define(lab, corrected.out)
    assert [w for w in wheres(lab, guest, *words) if is_of_xml(w)] == []
    return corrected.out


def wheres(lab: Lab, guest: Guest, *words: str | Path) -> list[str]:
    """Where check finds something."""
    ran = run("guest", "check", *on(lab, guest), *words, "-f", "json")
    rows = json.loads(ran.out)
    assert ran.code == bool(rows)
    return [row["where"] for row in rows]


def is_of_xml(where: str) -> bool:
    """Not of what runs."""
    return where.startswith("/domain/")
