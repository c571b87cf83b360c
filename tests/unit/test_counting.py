# SPDX-License-Identifier: Apache-2.0
"""The helper's counting, with a kernel that is made up."""

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf.events import EVENTS
from ceilometer_perf.host import counted, perf_groups
from ceilometer_perf.host.counted import NOT_WANTED, Counted
from ceilometer_perf.host.counting import Count, Counting, Wanted, decoded
from ceilometer_perf.host.perf_event import (
    GROUP_TIMES,
    INHERIT,
    INHERIT_THREAD,
)
from ceilometer_perf.host.perf_groups import layouts
from tests.unit.test_processes import Host

UUID = "11111111-2222-3333-4444-555555555555"
CYCLES = EVENTS["cpu_cycles"]
CLOCK = EVENTS["task_clock"]
NAMES = ("cpu_cycles", "instructions", "task_clock")
DEFAULT = [
    EVENTS[name]
    for name in (
        "cpu_cycles", "instructions", "cache_references", "cache_misses",
        "branch_instructions", "branch_misses", "task_clock", "page_faults",
    )
]  # fmt: skip


class FakeKernel:
    """Events by their handle; a leader's reading is set by the test."""

    def __init__(self) -> None:
        self.handles: dict[int, tuple[int, int, int]] = {}
        #: Error numbers, by thread (0: the helper's), and by event.
        self.refused: dict[int, int] = {}
        self.lacks: dict[int, int] = {}
        self.most = 99  # events in a group
        self.is_old = False  # Linux before 5.13
        #: (enabled, running, each count) by thread, or an error number.
        self.readings: dict[int, tuple[int, ...] | int] = {}
        self.short: set[int] = set()  # threads whose row is not whole
        self.opened = 1_000_000

    def open_event(
        self, event: tuple[int, int], flags: int = 0, *, thread: int = 0,
        leader: int = -1, read_format: int = 0,
    ) -> int:  # fmt: skip
        if thread:
            # perf_event_open(2): with threads that start later, in one row.
            assert flags == INHERIT | INHERIT_THREAD
            assert read_format == GROUP_TIMES
        if self.is_old and flags & INHERIT_THREAD:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        number = self.refused.get(thread) or self.lacks.get(event[1])
        if number:
            raise OSError(number, os.strerror(number))
        group = [h for h in self.handles.values() if h[2] == leader]
        if leader >= 0 and len(group) + 2 > self.most:
            raise OSError(errno.EINVAL, "too many")
        self.opened += 1
        self.handles[self.opened] = (thread, event[1], leader)
        return self.opened

    def read(self, handle: int, size: int) -> bytes:
        thread = self.handles[handle][0]
        width = size // 8
        reading = self.readings.get(thread, (0,) * (width - 1))
        if isinstance(reading, int):
            raise OSError(reading, os.strerror(reading))
        row = (width - 3, *reading)[:width]
        packed = struct.pack(f"={width}Q", *row)
        return packed[:-8] if thread in self.short else packed

    def close(self, handle: int) -> None:
        del self.handles[handle]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    kernel = FakeKernel()
    for module in (counted, perf_groups):
        monkeypatch.setattr(module, "open_event", kernel.open_event)
    for name, call in _calls(kernel).items():
        monkeypatch.setattr(f"os.{name}", call)
    return kernel


def _calls(kernel: FakeKernel) -> dict[str, Any]:
    """Of files, some of which are the kernel's events."""

    def calls(made_up: Any, real: Any) -> Any:
        return lambda handle, *rest: (
            made_up if handle in kernel.handles else real
        )(handle, *rest)

    return {
        "close": calls(kernel.close, os.close),
        "read": calls(kernel.read, os.read),
    }


class Web:
    """An instance of three threads, the first two of them vCPUs."""

    def __init__(self, host: Host, kernel: FakeKernel) -> None:
        self.host, self.kernel = host, kernel
        self.folder = host.proc / "7"
        self.boots()
        self.counting = Counting(host.run, host.proc)
        self.wanted = Wanted("web", UUID, 7, 500, hardware=True)

    def boots(self, uuid: str = UUID, started: int = 500) -> None:
        self.host.start("web", 7, started=started)
        (self.folder / "cmdline").write_bytes(f"qemu\0-uuid\0{uuid}".encode())
        for thread in (7, 8, 9):
            (self.folder / "task" / str(thread)).mkdir(
                parents=True, exist_ok=True
            )

    def read(self, *others: Wanted) -> Count:
        found, *_ = self.all(self.wanted, *others)
        return found

    def all(self, *wanted: Wanted) -> list[Count]:
        answer = self.counting.read(wanted, NAMES)
        return list(decoded(answer, len(NAMES)))


@pytest.fixture
def web(tmp_path: Path, kernel: FakeKernel) -> Iterator[Web]:
    web = Web(Host(tmp_path), kernel)
    yield web
    web.counting.read([], NAMES)
    assert kernel.handles == {}


def test_one_group_on_every_thread(web: Web, kernel: FakeKernel) -> None:
    web.read()
    threads = [thread for thread, _, _ in kernel.handles.values()]
    assert sorted(threads) == [7] * 3 + [8] * 3 + [9] * 3
    leaders = [h for h, (_, _, leader) in kernel.handles.items() if leader < 0]
    assert len(leaders) == 3


def test_sums_of_all_threads(web: Web, kernel: FakeKernel) -> None:
    kernel.readings = {
        7: (10, 10, 1, 2, 3), 8: (20, 20, 4, 5, 6), 9: (30, 30, 7, 8, 9),
    }  # fmt: skip
    found = web.read()
    assert (found.error, found.counts) == (0, [12, 15, 18])
    assert (found.enabled, found.missed) == (60, [])
    opened = kernel.opened
    assert web.read().opened == found.opened
    assert kernel.opened == opened


def test_who_is_not_wanted_is_released(web: Web, kernel: FakeKernel) -> None:
    web.read()
    assert web.counting.read([], NAMES) == b""
    assert kernel.handles == {}


def test_another_attempt_opens_again(web: Web, kernel: FakeKernel) -> None:
    first = web.read()
    web.wanted = web.wanted._replace(attempt=1)
    assert web.read().opened > first.opened
    assert len(kernel.handles) == 9


def test_what_is_lacking(web: Web, kernel: FakeKernel) -> None:
    kernel.lacks = {CYCLES.config: errno.ENOENT}
    kernel.readings = dict.fromkeys((7, 8, 9), (10, 10, 1, 2))
    found = web.read()
    assert found.counts == [-errno.ENOENT, 3, 6]
    assert (found.enabled, found.missed) == (30, [])
    kernel.readings = dict.fromkeys((7, 8, 9), (20, 10, 1, 2))
    web.read()
    kernel.readings = {7: (20, 10, 2, 4)}
    assert web.read().missed == [0, 10, 10]


def test_nothing_can_be_counted(web: Web, kernel: FakeKernel) -> None:
    kernel.lacks = {EVENTS[n].config: errno.ENOENT for n in NAMES}
    found = web.read()
    assert (found.error, found.enabled, found.missed) == (0, 0, [])
    assert found.counts == [-errno.ENOENT] * 3


def test_a_kernel_that_lacks_what_it_takes(
    web: Web, kernel: FakeKernel
) -> None:
    """The doctor, who tries events, is told so too."""
    kernel.is_old = True
    assert web.read().counts == [-errno.EINVAL] * 3
    assert web.counting.try_events(NAMES) == [errno.EINVAL] * 3


def test_software_events_alone(web: Web) -> None:
    web.wanted = web.wanted._replace(hardware=False)
    found = web.read()
    assert found.counts == [-NOT_WANTED, -NOT_WANTED, 0]


@pytest.mark.parametrize(
    "number", [errno.EACCES, errno.EMFILE, errno.EOPNOTSUPP, errno.ENOSYS]
)
def test_a_refusal_is_the_instance_s(
    web: Web, kernel: FakeKernel, number: int
) -> None:
    kernel.refused = {9: number}
    found = web.read()
    assert found == (number, 0, 0, [], [])
    assert kernel.handles == {}


def test_what_not_even_the_helper_s_own_thread_may_be_asked(
    web: Web, kernel: FakeKernel
) -> None:
    kernel.refused = {0: errno.EACCES}
    assert web.read().error == errno.EACCES


def test_a_thread_that_has_ended_is_left_out(
    web: Web, kernel: FakeKernel
) -> None:
    kernel.refused = {9: errno.ESRCH}
    assert web.read().error == 0
    assert {thread for thread, _, _ in kernel.handles.values()} == {7, 8}


@pytest.mark.parametrize(
    ("change", "number"),
    [
        ({"name": "db"}, errno.ESRCH),
        ({"name": "../web"}, errno.EINVAL),
        ({"uuid": UUID.replace("1", "9")}, errno.ESRCH),
        ({"uuid": "/etc"}, errno.EINVAL),
        ({"pid": 8}, errno.ESRCH),
        ({"started": 501}, errno.ESRCH),
    ],
)
def test_only_an_instance_s_own_process(
    web: Web, kernel: FakeKernel, change: dict[str, Any], number: int
) -> None:
    """And nobody else has to do without."""
    wrong = web.wanted._replace(**change)
    found = web.all(wrong, web.wanted)
    assert [each.error for each in found] == [number, 0]


def test_no_such_event(web: Web) -> None:
    for name in ("cmt", "shoes"):
        with pytest.raises(ValueError, match=name):
            web.counting.read([web.wanted], [name])


def test_a_thread_that_starts_in_the_meantime(
    web: Web, kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have inherited, or not: all begin again."""
    real, late = kernel.open_event, web.folder / "task" / "10"

    def open_event(*args: Any, **options: Any) -> int:
        if options.get("thread") == 9 and not late.exists():
            late.mkdir()
        return real(*args, **options)

    monkeypatch.setattr(perf_groups, "open_event", open_event)
    web.read()
    threads = [thread for thread, _, _ in kernel.handles.values()]
    assert sorted(threads) == sorted([7, 8, 9, 10] * 3)


def test_threads_that_start_all_the_time(
    kernel: FakeKernel,
) -> None:
    numbers = iter(range(1, 10_000))
    with pytest.raises(
        BlockingIOError, match=r"\] threads start all the time$"
    ) as caught:
        Counted(lambda: {next(numbers)}, [CLOCK])
    assert caught.value.errno == errno.EAGAIN
    assert kernel.handles == {}


def test_a_group_that_can_not_be_added_up(
    web: Web, kernel: FakeKernel
) -> None:
    first = web.read()
    kernel.readings = {8: errno.ECHILD}
    assert web.read().error == errno.EAGAIN
    kernel.readings = {}
    assert web.read().opened > first.opened


def test_a_row_that_is_not_whole(web: Web, kernel: FakeKernel) -> None:
    """Nothing of it is added to the others."""
    for thread in (7, 9):
        kernel.short = {thread}
        assert web.read().error == errno.EAGAIN
        assert kernel.handles == {}
    kernel.short = set()
    assert web.read().error == 0


def test_large_counts_keep_to_their_columns(
    web: Web, kernel: FakeKernel
) -> None:
    most = (1 << 62) - 1
    kernel.readings = {7: (most,) * 5, 8: (1,) * 5}
    found = web.read()
    assert found.counts == [found.enabled] * 3 == [1 << 62] * 3
    assert found.missed == []


def test_a_count_that_is_too_large_costs_the_others_nothing(
    web: Web, kernel: FakeKernel
) -> None:
    """As of a virtual PMU that leapt, scaled."""
    kernel.readings = {7: (10, 10, (1 << 64) - 5, 7, 10)}
    assert web.read().counts == [(1 << 63) - 1, 7, 10]


def test_what_takes_turns_gets_smaller_groups(
    web: Web, kernel: FakeKernel
) -> None:
    whole = web.read()
    kernel.readings = {7: (10, 5, 1, 1, 1)}
    split = web.read()
    assert split.opened > whole.opened
    leaders = [
        (thread, event)
        for thread, event, leader in kernel.handles.values()
        if leader < 0
    ]
    assert sorted(leaders) == sorted(
        (t, e.config) for t in (7, 8, 9) for e in (CYCLES, CLOCK)
    )
    # They are not opened again and again, and others begin like that.
    assert web.read().opened == split.opened


def test_as_few_groups_as_the_kernel_takes(
    web: Web, kernel: FakeKernel
) -> None:
    kernel.most = 2
    web.read()
    groups = [h for h, (_, _, leader) in kernel.handles.items() if leader < 0]
    assert len(groups) == 6
    kernel.most = 1
    web.wanted = web.wanted._replace(attempt=1)
    kernel.readings = {7: (10, 10, 1, 2, 3)}
    found = web.read()
    assert [leader for _, _, leader in kernel.handles.values()] == [-1] * 9
    assert (found.counts, found.enabled) == ([1, 1, 1], 10)


@pytest.mark.parametrize(("times", "layout"), [(2, 0), (3, 1)])
def test_too_many_events_is_believed_the_third_time(
    kernel: FakeKernel, monkeypatch: pytest.MonkeyPatch, times: int,
    layout: int,
) -> None:  # fmt: skip
    """A thread that starts meanwhile has the kernel say the same."""
    refusals = [errno.EINVAL] * times

    def open_event(*args: Any, **options: Any) -> int:
        if options.get("thread") and refusals:
            raise OSError(refusals.pop(), "too many")
        return kernel.open_event(*args, **options)

    monkeypatch.setattr(perf_groups, "open_event", open_event)
    assert Counted(lambda: {7}, [CYCLES, CLOCK]).layout == layout
    assert sorted(event for _, event, _ in kernel.handles.values()) == sorted(
        [CYCLES.config, CLOCK.config]
    )


def test_each_count_comes_from_its_group(web: Web, kernel: FakeKernel) -> None:
    kernel.most = 2
    kernel.readings = {7: (10, 10, 1, 2), 8: (20, 15, 4, 5)}
    found = web.read()
    # Those of thread 8 are scaled: it counted in three quarters of its time.
    assert found.counts == [6, 9, 6]
    assert (found.enabled, found.missed) == (30, [5] * 3)


def test_what_fits_into_no_group(web: Web, kernel: FakeKernel) -> None:
    kernel.refused = {8: errno.EINVAL}
    assert web.read().error == errno.EINVAL
    assert kernel.handles == {}


def test_events_are_tried_without_an_instance(
    web: Web, kernel: FakeKernel
) -> None:
    kernel.lacks = {CYCLES.config: errno.ENOENT}
    assert web.counting.try_events(NAMES) == [errno.ENOENT, 0, 0]
    kernel.refused = {0: errno.EACCES}
    with pytest.raises(PermissionError):
        web.counting.try_events(NAMES)
    with pytest.raises(ValueError, match="cmt"):
        web.counting.try_events(["cmt"])


def test_pairs_stay_together() -> None:
    whole, pairs, single = layouts(DEFAULT)
    assert [{*group} for group in whole] == [{*DEFAULT}]
    assert [[e.name for e in group] for group in pairs] == [
        ["task_clock", "page_faults"],
        ["cpu_cycles", "instructions"],
        ["cache_references", "cache_misses"],
        ["branch_instructions", "branch_misses"],
    ]
    assert [len(group) for group in single] == [2, 1, 1, 1, 1, 1, 1]
    assert whole[0][0].kind == "hardware"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**6), st.floats(0, 1), st.integers(0, 10**4)
        ),
        max_size=50,
    )
)
def test_scaled_counts_never_fall(steps: list[tuple[int, float, int]]) -> None:
    """And stay between what was seen, and all of it at the same rate."""
    kernel = FakeKernel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perf_groups, "open_event", kernel.open_event)
        for name, call in _calls(kernel).items():
            patch.setattr(f"os.{name}", call)
        with contextlib.ExitStack() as stack:
            group = perf_groups.Group([CYCLES], [7], stack)
            enabled = running = count = last = 0
            for time, share, rate in steps:
                on = int(time * share)
                enabled, running = enabled + time, running + on
                count += on * rate
                kernel.readings = {7: (enabled, running, count)}
                was_enabled, missed, scaled = group.read()
                assert (was_enabled, missed) == (enabled, enabled - running)
                assert scaled >= max(last, count)
                last = scaled


def test_each_thread_is_scaled_by_itself(kernel: FakeKernel) -> None:
    with contextlib.ExitStack() as stack:
        group = perf_groups.Group([CYCLES, CLOCK], [7, 8], stack)
        kernel.readings = {7: (10, 5, 1, 2), 8: (20, 5, 4, 6)}
        assert group.read() == [30, 20, 2 + 16, 4 + 24]
        kernel.readings = {7: (20, 15, 3, 5), 8: (40, 15, 8, 12)}
        assert group.read() == [60, 30, 4 + 24, 7 + 36]


def test_a_thread_that_was_on_no_counter_is_as_the_others(
    kernel: FakeKernel,
) -> None:
    """Not little for as long as it is off, and all of it at once then."""
    with contextlib.ExitStack() as stack:
        group = perf_groups.Group([CYCLES], [7, 8], stack)
        for at in range(60, 600, 60):
            kernel.readings = {7: (at, 0, 0), 8: (at, at, 3 * at)}
            assert group.read() == [2 * at, at, 6 * at]
        kernel.readings = {7: (600, 60, 180), 8: (600, 600, 1800)}
        assert group.read() == [1200, 540, 3600]


def test_a_thread_that_others_say_too_little_of_waits(
    kernel: FakeKernel,
) -> None:
    """Later it stands for all of its time."""
    with contextlib.ExitStack() as stack:
        group = perf_groups.Group([CYCLES], [7, 8], stack)
        kernel.readings = {7: (90, 0, 0), 8: (10, 5, 1)}
        assert group.read() == [100, 95, 2]
        kernel.readings = {7: (180, 90, 270), 8: (20, 15, 3)}
        assert group.read() == [200, 95, 540 + 4]


def test_what_was_exact_says_nothing_of_what_is_missed(
    kernel: FakeKernel,
) -> None:
    """That is taken from the growth since the last reading alone."""
    with contextlib.ExitStack() as stack:
        group = perf_groups.Group([CYCLES], [7], stack)
        for enabled, running, count, scaled in (
            (1000, 1000, 1000, 1000),
            (1100, 1050, 1500, 2000),
            (1200, 1150, 1600, 2100),
        ):
            kernel.readings = {7: (enabled, running, count)}
            assert group.read() == [enabled, enabled - running, scaled]


def test_a_steady_count_is_scaled_to_the_truth(kernel: FakeKernel) -> None:
    with contextlib.ExitStack() as stack:
        group = perf_groups.Group([CYCLES], [7], stack)
        enabled = running = 0
        for share in (1.0, 0.5, 0.25, 0.0, 0.75, 1.0):
            enabled, running = enabled + 1000, running + int(1000 * share)
            kernel.readings = {7: (enabled, running, running * 3)}
            *_, scaled = group.read()
            if share:
                assert scaled == pytest.approx(enabled * 3, rel=0.001)
