# SPDX-License-Identifier: Apache-2.0
"""The connection against a real libvirtd that is stopped, hung, killed."""

import contextlib
import functools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import libvirt
import pytest

from ceilometer_perf.counters.libvirt import PerfSource
from ceilometer_perf.host.connection import Connection, Session
from ceilometer_perf.host.inventory import Inventory
from ceilometer_perf.reading import SourceUnavailableError
from tests.functional.agent import wait_for
from tests.lab import Guest, Lab
from tests.lab.rpc import ModularProxy


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(fake_pmu=True) as lab:
        lab.start(Guest("paused-1", "paused"))
        yield lab


#: Even on a machine that others load, libvirtd answers within these seconds.
PROMPT = 4


def source_of(uri: str, timeout: float) -> PerfSource:
    connection = Connection(uri, timeout)
    return PerfSource(connection, Inventory(connection, 600))


def descriptors() -> list[str]:
    """What they are of."""
    return told("fd", lambda entry: str(entry.readlink()))


def threads() -> list[str]:
    """Their names; as the kernel has them, for libvirt has some of its own."""
    return told("task", lambda entry: (entry / "comm").read_text().strip())


def told(folder: str, what: Callable[[Path], str]) -> list[str]:
    """Of each entry that is still there."""
    found = []
    for entry in Path("/proc/self", folder).iterdir():
        with contextlib.suppress(OSError):
            found.append(what(entry))
    return sorted(found)


def test_reads_at_once_from_the_libvirtd_after_the_killed_one(
    lab: Lab,
) -> None:
    source = source_of(lab.uri_ro, timeout=10)
    source.read()
    open_before = len(descriptors())
    for _ in range(5):
        lab.libvirtd.kill(signal.SIGKILL)
        lab.libvirtd.start()
        assert source.read().instances
    assert len(descriptors()) <= open_before


def test_a_killed_libvirtd_is_said_and_never_an_empty_reading(
    lab: Lab,
) -> None:
    source = source_of(lab.uri_ro, timeout=10)
    source.read()
    lab.libvirtd.kill(signal.SIGKILL)
    for _ in range(3):
        with pytest.raises(SourceUnavailableError, match="libvirt at"):
            source.read()
    lab.libvirtd.start()
    assert source.read().instances


def test_a_proxy_whose_daemon_was_restarted(lab: Lab) -> None:
    """As virtproxyd before virtqemud: the connection lives, calls fail."""
    with ModularProxy(lab.run_dir / "libvirt-sock-ro") as proxy:
        connection = Connection(proxy.uri, timeout=10)
        source = PerfSource(connection, Inventory(connection, 600))
        assert source.read().instances
        before = connection.call(lambda session: session.conn)
        lab.libvirtd.kill(signal.SIGKILL)
        with pytest.raises(libvirt.libvirtError, match="socket is closed"):
            before.getAllDomainStats(0, 0)
        assert before.isAlive()  # or it would be no stand-in
        with pytest.raises(SourceUnavailableError, match="libvirt at"):
            source.read()
        lab.libvirtd.start()
        assert source.read().instances
        connection.close()


def test_a_hung_libvirtd_costs_the_timeout(lab: Lab) -> None:
    source = source_of(lab.uri_ro, timeout=PROMPT)
    source.read()
    threads = threading.active_count()
    lab.libvirtd.kill(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=f"within {PROMPT} s"):
            source.read()
        for _ in range(5):
            with pytest.raises(SourceUnavailableError, match="earlier"):
                source.read()
        assert time.monotonic() - started < 2 * PROMPT
    finally:
        lab.libvirtd.kill(signal.SIGCONT)

    def answers() -> bool:
        try:
            return bool(source.read().instances)
        except SourceUnavailableError:
            return False

    wait_for(answers, 10, "an answer after SIGCONT")
    wait_for(
        lambda: threading.active_count() <= threads, 5, "no thread left over"
    )


def known(inventory: Inventory) -> int:
    """How many domains; none when libvirt doesn't say."""
    try:
        return len(inventory.refresh())
    except SourceUnavailableError:
        return 0


@pytest.fixture
def inventory(lab: Lab) -> Iterator[Inventory]:
    connection = Connection(lab.uri_ro, timeout=PROMPT)
    inventory = Inventory(connection, 600)
    assert known(inventory)
    yield inventory
    connection.close()


@contextlib.contextmanager
def nothing_leaks() -> Iterator[None]:
    """Afterwards there are as many threads and descriptors as before."""
    before = threads(), descriptors()

    def flat() -> bool:
        now = threads(), descriptors()
        return all(len(n) <= len(b) for n, b in zip(now, before, strict=True))

    yield
    with contextlib.suppress(AssertionError):
        wait_for(flat, 60, "as before")
    assert flat(), (before, threads(), descriptors())


def test_twenty_crashes_while_it_is_asked(
    lab: Lab, inventory: Inventory
) -> None:
    with nothing_leaks():
        for crash in range(20):
            # Each time somewhere else in what it is asked.
            stop = threading.Timer(
                0.0007 * crash, lab.libvirtd.kill, [signal.SIGKILL]
            )
            stop.start()
            while stop.is_alive():
                known(inventory)
            lab.libvirtd.start()
            assert wait_for(lambda: known(inventory), 20, "an answer") == 1


def has_ended(session: Session) -> bool:
    return session.conn._o is None or not session.conn.isAlive()


def test_keepalive_ends_what_hangs_and_all_recovers(
    lab: Lab, inventory: Inventory
) -> None:
    with nothing_leaks():
        for asked in (True, False, True):
            session = inventory._session
            assert session is not None
            ended = functools.partial(has_ended, session)
            lab.libvirtd.kill(signal.SIGSTOP)
            try:
                if asked:
                    assert known(inventory) == 0
                wait_for(ended, 20, "the end of the connection")
                for _ in range(3):
                    known(inventory)
            finally:
                lab.libvirtd.kill(signal.SIGCONT)
            wait_for(lambda: known(inventory), 20, "an answer")
            assert inventory._session is not session


def test_hung_and_then_killed(lab: Lab, inventory: Inventory) -> None:
    with nothing_leaks():
        for _ in range(3):
            lab.libvirtd.kill(signal.SIGSTOP)
            assert known(inventory) == 0
            lab.libvirtd.kill(signal.SIGKILL)
            lab.libvirtd.start()
            wait_for(lambda: known(inventory), 20, "an answer")


def test_no_socket(lab: Lab, inventory: Inventory) -> None:
    socket = lab.run_dir / "libvirt-sock-ro"
    hidden = socket.with_name("hidden")
    with nothing_leaks():
        socket.rename(hidden)
        assert known(inventory), "an open connection needs no socket file"
        lab.libvirtd.kill(signal.SIGKILL)
        assert known(inventory) == 0
        lab.libvirtd.start()
        wait_for(lambda: known(inventory), 20, "an answer")


def test_libvirtd_comes_after_the_connection(lab: Lab) -> None:
    lab.libvirtd.kill(signal.SIGKILL)
    connection = Connection(lab.uri_ro, timeout=PROMPT)
    inventory = Inventory(connection, 600)
    assert known(inventory) == 0
    lab.libvirtd.start()
    assert known(inventory)
    connection.close()


def test_a_closed_connection_holds_nothing(lab: Lab) -> None:
    connection = Connection(lab.uri_ro, timeout=5)
    inventory = Inventory(connection, 600)
    assert known(inventory)
    connection.close()
    with nothing_leaks():
        for _ in range(5):
            assert known(inventory)
            connection.close()


# Asks, says so, and ends when it is told to.
PROCESS = """
import os, sys, threading, time
from ceilometer_perf.host.connection import Connection
from ceilometer_perf.host.inventory import Inventory
inventory = Inventory(Connection(sys.argv[1], 30), 600)
print(len(inventory.refresh()), flush=True)
"""
ENDS = """
sys.stdin.readline()
"""
ENDS_ASKING = """
sys.stdin.readline()
threading.Thread(target=inventory.refresh, daemon=True).start()
sys.stdin.readline()
"""
FORKS = """
def state(thread):
    try:
        return open(f"/proc/self/task/{thread}/stat").read().split(")")[1][1]
    except OSError:
        return "ended"
quiet = False
while not quiet:  # nobody holds a lock of GLib's or libvirt's
    time.sleep(0.1)
    states = [state(thread) for thread in os.listdir("/proc/self/task")]
    quiet = sorted(states) == ["R", "S"]
child = os.fork()
print(len(inventory.refresh()), flush=True)
if child == 0:
    sys.exit()
os.waitpid(child, 0)
for _ in range(3):
    before = inventory.refresh()
    print(len(before), flush=True)
sys.exit(any(before[u] is not d for u, d in inventory.refresh().items()))
"""


@contextlib.contextmanager
def process(lab: Lab, code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROCESS + code, lab.uri_ro],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "1\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("code", [ENDS, ENDS_ASKING])
def test_a_process_ends_whatever_libvirtd_does(lab: Lab, code: str) -> None:
    with process(lab, code) as ending:
        lab.libvirtd.kill(signal.SIGSTOP)
        try:
            _, errors = ending.communicate("\n\n", timeout=20)
        finally:
            lab.libvirtd.kill(signal.SIGCONT)
        assert (ending.returncode, errors) == (0, "")


def test_a_fork_asks_for_itself_and_disturbs_nobody(lab: Lab) -> None:
    with process(lab, FORKS) as forking:
        output, errors = forking.communicate(timeout=60)
        assert output.split() == ["1"] * 5
        assert (forking.returncode, errors) == (0, "")


@pytest.mark.parametrize(
    "uri", ["qemuu:///system", "qemu+unix:///system?socket=/no/such/socket"]
)
def test_a_wrong_uri_is_one_line_that_names_it(uri: str) -> None:
    with pytest.raises(SourceUnavailableError) as caught:
        source_of(uri, timeout=5).read()
    assert uri in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_driver_without_perf_statistics_has_no_counters() -> None:
    reading = source_of("test:///default", timeout=5).read()
    assert not any(reading.instances.values())
