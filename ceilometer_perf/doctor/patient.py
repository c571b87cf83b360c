# SPDX-License-Identifier: Apache-2.0
"""What doctor examines; each part is read once for all links."""

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator
from functools import cached_property

from oslo_config import cfg

from ceilometer_perf import wiring
from ceilometer_perf.counters.verdicts import Verdict
from ceilometer_perf.doctor import agent_conf
from ceilometer_perf.doctor.status import (
    COUNTERS,
    Instance,
    Lacks,
    Status,
    Watch,
    host_lacks,
)
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.host import processes
from ceilometer_perf.options import Settings
from ceilometer_perf.reading import SourceUnavailableError
from ceilometer_perf.wiring import Parts

_NOT_COUNTED = (Verdict.NOT_ENABLED, Verdict.HOST_LACKS)


class Patient:
    """A host, its agent's options and the files that these name."""

    def __init__(
        self, conf: cfg.ConfigOpts, nova_conf: NovaFiles | None
    ) -> None:
        """``nova_conf``: None if there is none."""
        self.conf = conf
        self.nova_conf = nova_conf

    @cached_property
    def parts(self) -> Parts:
        """The parts built from the agent's options.

        :raises SourceUnavailableError: nothing; an option is wrong.
        """
        try:
            return wiring.parts(self.conf, agent_conf.URIS)
        except ValueError as error:  # of an option that is core's
            raise SourceUnavailableError(str(error)) from error

    @property
    def counts_itself(self) -> bool:
        """Whether the agent does not depend on libvirt's counters."""
        try:
            return self.parts.settings.counters != "libvirt"
        except SourceUnavailableError:  # the next link reports it
            return False

    @cached_property
    def helper(self) -> list[int] | Exception:
        """What it says of each of own_events, or why it says nothing.

        See :meth:`ceilometer_perf.host.counting.Counting.try_events`.
        """
        try:
            return trial(self.parts.settings)
        except Exception as exc:  # whatever privsep makes of a failure
            return exc

    @property
    def helper_counts(self) -> bool:
        """Whether the agent can count anything itself."""
        return (
            self.counts_itself
            and not isinstance(self.helper, Exception)
            and not all(self.helper)
        )

    @cached_property
    def notifies(self) -> bool:
        """Whether samples are published from this host."""
        return processes.any_runs("ceilometer-agent-notification")

    @cached_property
    def lacks(self) -> Lacks:
        """The events that this host can't count, and why."""
        return host_lacks(self.parts.connection.uri)

    @property
    def status(self) -> Status:
        """What is published of the instances.

        :raises SourceUnavailableError: libvirt doesn't answer.
        """
        if isinstance(self._looked, SourceUnavailableError):
            raise self._looked
        return self._looked

    @cached_property
    def _looked(self) -> Status | SourceUnavailableError:
        # A failure is remembered too, to wait for a hung libvirtd only
        # once.
        try:
            parts = self.parts
            return Watch(parts, self.lacks).look()
        except SourceUnavailableError as error:
            return error

    @property
    def running(self) -> list[Instance]:
        """Nova's instances that run."""
        return [
            instance
            for instance in self.status.instances
            if instance.is_nova and instance.is_running
        ]

    @property
    def left_alone(self) -> list[Instance]:
        """Those that run and are not read because they are realtime."""
        return [
            instance
            for instance in self.running
            if Verdict.REALTIME
            in {each.verdict for each in instance.verdicts.values()}
        ]

    @property
    def counted(self) -> set[str]:
        """The events that libvirt does count here, whatever the probe says.

        None while libvirt doesn't answer.
        """
        try:
            instances = self.status.instances
        except SourceUnavailableError:
            return set()
        return {e for instance in instances for e in counted(instance)}


def counted(instance: Instance) -> set[str]:
    """The events that libvirt counts for an instance."""
    if instance.since is None:  # it was not read
        return set()
    return {
        meter.key.removeprefix("perf.")
        for meter in COUNTERS
        if instance.verdicts[meter.name].verdict not in _NOT_COUNTED
    }


def trial(settings: Settings) -> list[int]:
    """Have the helper try the events, started as the agent would start it.

    What its command says of a failure is a note of the exception.
    """
    with warnings.catch_warnings():
        # oslo.privsep imports eventlet, which warns of itself.
        warnings.simplefilter("ignore")
        from oslo_privsep.daemon import FailedToDropPrivileges

        from ceilometer_perf.privsep import Helper
    # In a session without a terminal, where sudo asks for no password.
    command = f"setsid --wait {settings.privsep_helper}"
    with _told() as told:
        try:
            return Helper(command).try_events(settings.own_events)
        except FailedToDropPrivileges as exc:
            for thread in threading.enumerate():
                if thread.name == "fd_logger":  # oslo.privsep's
                    thread.join(_END)
            if told:
                exc.add_note(told[-1])
            raise


_END = 0.5  # seconds, until a command that failed has said why


class _Told(logging.Handler):
    """The lines that a helper's command has written to stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it, if it is one."""
        origin, _, line = record.getMessage().partition(": ")
        if origin == "privsep log" and line.strip():
            self.lines.append(line.strip())


@contextlib.contextmanager
def _told() -> Iterator[list[str]]:
    """What oslo.privsep logs of commands, and keeps off the screen."""
    told = _Told()
    log = logging.getLogger("oslo.privsep")  # as oslo.log names it
    log.addHandler(told)
    log.propagate = False
    try:
        yield told.lines
    finally:
        log.removeHandler(told)
