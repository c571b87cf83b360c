# SPDX-License-Identifier: Apache-2.0
"""What needs privilege: resctrl groups, and counting others' perf events.

The agent has no privilege. It has oslo.privsep start helpers, by the
command in ``[perf] privsep_helper``: one process for each kind of act, with
the capabilities of its context, which does only what is below. Where
resctrl and libvirt's files are, they read from their own configuration
files, so that their caller can't point them elsewhere.
"""

import contextlib
import functools
import socket
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from pathlib import Path
from typing import ParamSpec, TypeVar

import tenacity
from oslo_config import cfg
from oslo_privsep import capabilities, comm, daemon, priv_context

from ceilometer_perf import options
from ceilometer_perf.host.calls import in_thread
from ceilometer_perf.host.counting import Counting, Wanted
from ceilometer_perf.host.watching import Watching

P = ParamSpec("P")
T = TypeVar("T")

#: As the sudoers file allows it.
context = priv_context.PrivContext(
    "ceilometer_perf",
    cfg_section="ceilometer_perf_privsep",
    pypath=f"{__name__}.context",
    # No capability is needed: the helper's user is root, who owns resctrl's
    # files and may read libvirt's PID files.
    capabilities=[],
    timeout=10,
)

counting = priv_context.PrivContext(
    "ceilometer_perf",
    cfg_section="ceilometer_perf_counting",
    pypath=f"{__name__}.counting",
    capabilities=[capabilities.CAP_PERFMON],
    timeout=10,
)


@context.entrypoint
def watch_instance(name: str, instance: str) -> None:
    """See :meth:`ceilometer_perf.host.watching.Watching.watch`."""
    _watching().watch(name, instance)


@context.entrypoint
def release_instance(instance: str) -> None:
    """See :meth:`ceilometer_perf.host.watching.Watching.release`."""
    _watching().release(instance)


@counting.entrypoint
def count_instances(wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
    """See :meth:`ceilometer_perf.host.counting.Counting.read`."""
    return _counting().read([Wanted(*each) for each in wanted], events)


@counting.entrypoint
def try_events(events: Sequence[str]) -> list[int]:
    """See :meth:`ceilometer_perf.host.counting.Counting.try_events`."""
    return _counting().try_events(events)


#: Where the helper can't be started, sudo and oslo.privsep complain to logs
#: that others read: don't do that in each cycle.
PAUSE = 600.0  # seconds


class Helper:
    """The helpers' callers; ``command`` is what starts them.

    privsep adds its own arguments.
    """

    def __init__(self, command: str) -> None:
        self._groups = _Caller(context, command)
        self._counting = _Caller(counting, command)

    def watch(self, name: str, instance: str) -> None:
        """See :meth:`ceilometer_perf.host.watching.Watching.watch`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        self._groups.ask(watch_instance, name, instance)

    def release(self, instance: str) -> None:
        """See :meth:`ceilometer_perf.host.watching.Watching.release`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        self._groups.ask(release_instance, instance)

    def count(self, wanted: Sequence[Wanted], events: Sequence[str]) -> bytes:
        """See :meth:`ceilometer_perf.host.counting.Counting.read`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        answer: bytes = self._counting.ask(count_instances, wanted, events)
        return answer

    def try_events(self, events: Sequence[str]) -> list[int]:
        """See :meth:`ceilometer_perf.host.counting.Counting.try_events`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        numbers: list[int] = self._counting.ask(try_events, events)
        return numbers


class _Caller:
    """Of one helper, started when it is needed and again when it is gone.

    If it can't be started, it is retried only after a pause.
    """

    def __init__(
        self, privileges: priv_context.PrivContext, command: str
    ) -> None:
        section = privileges.cfg_section
        cfg.CONF.set_override("helper_command", command, group=section)
        self._process = _Process(privileges)
        self._refused: daemon.FailedToDropPrivileges | None = None
        self._pause_until = 0.0

    def ask(self, call: Callable[P, T], *args: P.args, **kw: P.kwargs) -> T:
        if self._refused is not None and time.monotonic() < self._pause_until:
            raise self._refused
        try:
            answer = self._process.ask(lambda: call(*args, **kw))
        except daemon.FailedToDropPrivileges as exc:
            self._refused = exc
            self._pause_until = time.monotonic() + PAUSE
            raise
        self._refused = None
        return answer


#: Until a helper has started. sudo may wait for a directory of users.
START = 60.0  # seconds
#: Helpers of one kind that hang: what each of them waits for, the next one
#: would wait for, too.
MOST_HUNG = 3


class _Process:
    """The helper of one context, and those that it has had and that hang."""

    def __init__(self, privileges: priv_context.PrivContext) -> None:
        self._context = privileges
        self._starting: futures.Future[None] | None = None
        self._hung: list[comm.ClientChannel] = []

    def ask(self, call: Callable[[], T]) -> T:
        # privsep does not always notice that its helper was killed: its
        # reader thread may end silently, and every later call then fails or
        # times out. All calls are idempotent, so they may be repeated.
        channel = self._context.channel
        if channel is not None and not channel.reader_thread.is_alive():
            self._give_up()
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_gone),
            stop=tenacity.stop_after_attempt(2),
            before_sleep=lambda _: self._give_up(),
            reraise=True,
        ):
            with attempt:
                if self._context.channel is None:
                    self._start()
                answer = call()
        return answer

    def _start(self) -> None:
        """privsep itself would wait for its command for ever.

        It is not started twice: what takes longer may be there the next time.
        """
        self._see_that_others_ended()
        if self._starting is None or self._starting.done():
            self._starting = in_thread(self._context.start, "privsep")
        try:
            self._starting.result(START)
        except TimeoutError:
            raise daemon.FailedToDropPrivileges(
                f"no helper within {START:g} s: its command waits for "
                "something"
            ) from None

    def _see_that_others_ended(self) -> None:
        self._hung = [c for c in self._hung if c.reader_thread.is_alive()]
        if len(self._hung) >= MOST_HUNG:
            raise daemon.FailedToDropPrivileges(
                f"{len(self._hung)} helpers with --privsep_context "
                f"{self._context.pypath} hang, and no other is started until "
                "one of them ends: /proc/PID/stack shows what it waits for"
            )

    def _give_up(self) -> None:
        # context.stop() waits for the helper to exit: one that hangs never
        # does. What is still read from it ends when it exits.
        channel, self._context.channel = self._context.channel, None
        if channel is not None:
            with contextlib.suppress(OSError):
                channel.writer.writesock.shutdown(socket.SHUT_WR)
            self._hung.append(channel)


def _is_gone(exc: BaseException) -> bool:
    """The helper itself fails with other errors, or with a number."""
    return isinstance(exc, ConnectionError | comm.PrivsepTimeout) or (
        type(exc) is OSError and exc.errno is None
    )


@functools.cache
def _watching() -> Watching:
    settings = _settings()
    return Watching(Path(settings.resctrl_path), Path(settings.qemu_run_dir))


@functools.cache
def _counting() -> Counting:
    return Counting(Path(_settings().qemu_run_dir))


def _settings() -> options.Settings:
    options.register(cfg.CONF)
    return options.settings(cfg.CONF)
