# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's pollster plugins: a class for each row of the meter table.

The classes are made from the table and named after its rows
(``perf.hw.cpu_cycles`` is ``HwCpuCycles``); ``setup.cfg`` lists them as
entry points.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from ceilometer import sample
from ceilometer.compute.pollsters import util
from ceilometer.compute.virt.libvirt import utils as core_libvirt
from ceilometer.polling import plugin_base
from oslo_config import cfg
from oslo_log import log

from ceilometer_perf import wiring
from ceilometer_perf.agent import cycle
from ceilometer_perf.changes import Changes
from ceilometer_perf.meters import METERS, Meter

_changes = Changes(log.getLogger(__name__))


class ReadSample(sample.Sample):  # type: ignore[misc]
    """A sample whose timestamp is when its counter was read."""

    def set_timestamp(self, timestamp: str) -> None:
        """Ignore the agent's timestamp.

        It is when the agent called this pollster, possibly seconds after the
        cycle's first pollster read all counters; rates computed with it
        would be wrong.
        """


class PerfPollster(plugin_base.PollsterBase):  # type: ignore[misc]
    """Publishes one meter of every instance that has its counter."""

    meter: ClassVar[Meter]

    def setup_environment(self) -> None:
        """Learn where to read.

        Never raises: the agent would drop the meter for the rest of its
        life, with one line at debug level.
        """
        self._parts = wiring.agent(
            self.conf, core_libvirt.LIBVIRT_PER_TYPE_URIS
        )

    @property
    def default_discovery(self) -> str:
        """The instances on this host, without a libvirt call for each."""
        return "perf_instances"

    def get_samples(
        self, manager: Any, cache: dict[str, Any], resources: Iterable[Any]
    ) -> Iterator[sample.Sample]:
        """Yield one sample for each instance that has a right value."""
        meter = self.meter
        now = cycle.current(cache, self._parts)
        report = now.report()
        if report.guests:
            _changes.forget_all_but(report.guests)
        found = now.published(meter.key)
        for instance in resources:
            published = found.get(instance.id)
            if published is None or meter.key not in published.values:
                continue
            moment = published.moment
            template = _template(self.conf, cache, instance)
            if template is None:
                continue
            yield ReadSample(
                name=meter.name,
                type=meter.type,
                unit=meter.unit,
                volume=published.values[meter.key],
                user_id=template.user_id,
                project_id=template.project_id,
                resource_id=template.resource_id,
                timestamp=moment.timestamp,
                resource_metadata={
                    **template.resource_metadata,
                    "perf": published.about(meter.key),
                },
                monotonic_time=moment.taken_at,
                # Core's default, uuid1, costs more than everything else.
                id=str(uuid.uuid4()),
            )


def _template(
    conf: cfg.ConfigOpts, cache: dict[str, Any], instance: Any
) -> sample.Sample | None:
    """The instance as core's own samples describe it, made once per cycle.

    Building the metadata is the most expensive part of a sample, and it is
    the same for each meter. None for an instance that core can't describe.
    """
    key = f"ceilometer_perf.template.{instance.id}"
    if key not in cache:
        cache[key] = _make_template(conf, instance)
    template: sample.Sample | None = cache[key]
    return template


def _make_template(
    conf: cfg.ConfigOpts, instance: Any
) -> sample.Sample | None:
    try:
        template = util.make_sample_from_instance(
            conf, instance, name="", type=sample.TYPE_GAUGE, unit="", volume=0
        )
    except Exception as exc:  # whatever discovery made of a broken domain
        what = f"{type(exc).__name__}: {exc}"
    else:
        _changes.fine(instance.id, f"instance {instance.id} is polled again")
        return template
    # Not above: within `except`, oslo.log appends the exception.
    _changes.trouble(
        instance.id,
        f"instance {instance.id}: no perf samples, its metadata is "
        f"incomplete ({what}); a hard reboot through Nova rewrites it",
    )
    return None


_CLASSES = {
    meter.pollster: type(
        meter.pollster,
        (PerfPollster,),
        {
            "meter": meter,
            "__doc__": f"Publishes {meter.name}.",
            "__module__": __name__,
        },
    )
    for meter in METERS
}
globals().update(_CLASSES)
