# SPDX-License-Identifier: Apache-2.0
"""What needs root: creating resctrl groups and putting threads into them.

The agent has no privilege. It has oslo.privsep start a helper, by the
command in ``[perf] privsep_helper``, which does only what is below. Where
resctrl and libvirt's files are, the helper reads from its own configuration
files, so that its caller can't point it elsewhere.
"""

import contextlib
import functools
import socket
import time
from collections.abc import Callable
from pathlib import Path

import tenacity
from oslo_config import cfg
from oslo_privsep import comm, daemon, priv_context

from ceilometer_perf import options
from ceilometer_perf.host.watching import Watching

SECTION = "ceilometer_perf_privsep"

context = priv_context.PrivContext(
    "ceilometer_perf",
    cfg_section=SECTION,
    pypath=f"{__name__}.context",
    # No capability is needed: the helper's user is root, who owns resctrl's
    # files and may read libvirt's PID files.
    capabilities=[],
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


#: Where the helper can't be started, sudo and oslo.privsep complain to logs
#: that others read: don't do that in each cycle.
PAUSE = 600.0  # seconds


class Helper:
    """The helper, started when it is needed and again when it is gone.

    If it can't be started, it is retried only after a pause.
    """

    def __init__(self, command: str) -> None:
        """``command``: what starts it; privsep adds its own arguments."""
        cfg.CONF.set_override("helper_command", command, group=SECTION)
        self._refused: daemon.FailedToDropPrivileges | None = None
        self._pause_until = 0.0

    def watch(self, name: str, instance: str) -> None:
        """See :meth:`ceilometer_perf.host.watching.Watching.watch`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        self._ask(watch_instance, name, instance)

    def release(self, instance: str) -> None:
        """See :meth:`ceilometer_perf.host.watching.Watching.release`.

        :raises FailedToDropPrivileges: the helper can't be started.
        """
        self._ask(release_instance, instance)

    def _ask(self, call: Callable[..., None], *arguments: str) -> None:
        if self._refused is not None and time.monotonic() < self._pause_until:
            raise self._refused
        try:
            _ask(call, *arguments)
        except daemon.FailedToDropPrivileges as exc:
            self._refused = exc
            self._pause_until = time.monotonic() + PAUSE
            raise
        self._refused = None


def _ask(call: Callable[..., None], *arguments: str) -> None:
    # privsep does not always notice that its helper was killed: its reader
    # thread may end silently, and every later call then fails or times out.
    # Both calls are idempotent, so they may be repeated.
    channel = context.channel
    if channel is not None and not channel.reader_thread.is_alive():
        _start_over()
    for attempt in tenacity.Retrying(
        retry=tenacity.retry_if_exception(_is_gone),
        stop=tenacity.stop_after_attempt(2),
        before_sleep=lambda _: _start_over(),
        reraise=True,
    ):
        with attempt:
            call(*arguments)


def _is_gone(exc: BaseException) -> bool:
    """The helper itself fails with other errors, or with a number."""
    return isinstance(exc, ConnectionError | comm.PrivsepTimeout) or (
        type(exc) is OSError and exc.errno is None
    )


def _start_over() -> None:
    channel, context.channel = context.channel, None
    # context.stop() waits for the helper to exit: one that hangs never
    # does.
    if channel is not None:
        with contextlib.suppress(OSError):
            channel.writer.writesock.shutdown(socket.SHUT_RDWR)


@functools.cache
def _watching() -> Watching:
    options.register(cfg.CONF)
    settings = options.settings(cfg.CONF)
    return Watching(Path(settings.resctrl_path), Path(settings.qemu_run_dir))
