# SPDX-License-Identifier: Apache-2.0
"""The driver that ``compute_driver`` names.

Without ``[libvirt] slice_spec`` it is Nova's, with perf events that stop no
guest. With it, instances whose flavors ask for a slice boot its template; all
others are Nova's as before.
"""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import nova.conf
from nova import context as nova_context
from nova import exception
from nova.virt.libvirt import driver
from oslo_log import log
from oslo_utils import excutils

from ceilometer_perf import guest
from ceilometer_perf.guest import nova_conf, slice_metadata
from ceilometer_perf.host import slices as host
from ceilometer_perf.host import virtual_pmu
from ceilometer_perf.nova import companion, options, perf_events
from ceilometer_perf.nova.host_slices import HostSlices
from ceilometer_perf.nova.provider_tree import Report
from ceilometer_perf.openstack import ClientException
from ceilometer_perf.slices import build
from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.placement.encoding import Resources
from ceilometer_perf.slices.placement.errors import PlacementError
from ceilometer_perf.slices.placement.flavors import asks_for_slice
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.spec import SliceSpec

LOG = log.getLogger(__name__)
CONF = nova.conf.CONF
CONF.register_opts(options.OPTS, group=options.GROUP)

VIRTUAL_PMU = "CUSTOM_COMPUTE_VPMU"  # a trait; os-traits has none for it


@contextlib.contextmanager
def _refusals(
    kind: type[Exception] = exception.InternalError,
) -> Iterator[None]:
    """As an exception of Nova's."""
    try:
        yield
    except (SliceError, guest.GuestError) as error:
        raise kind(str(error)) from error


@contextlib.contextmanager
def _warnings(instance: Any) -> Iterator[None]:
    """Of what can't be recorded, and need not be: slices are counted."""
    try:
        yield
    except (SliceError, guest.GuestError) as error:
        LOG.warning("%s", error, instance=instance)


def _in_slice(instance: Any) -> bool:
    return asks_for_slice(instance.flavor.extra_specs or {})


class SlicesDriver(driver.LibvirtDriver):  # type: ignore[misc]
    """LibvirtDriver, whose host may be divided into slices."""

    def init_host(self, host: str) -> None:
        """Refuse to start with slices that can't be used."""
        with _refusals(exception.InvalidConfiguration):
            self._slices = HostSlices.configured(CONF)
        self._report = Report(self._slices.encoded, self._consumers)
        super().init_host(host)

    # What it reports

    def update_provider_tree(
        self, provider_tree: Any, nodename: str, allocations: Any = None
    ) -> None:
        """What Nova reports, or the slices instead.

        In any case whether guests can have a virtual PMU: a flavor with
        ``hw:pmu`` may require it.
        """
        before = provider_tree.data(nodename).inventory
        super().update_provider_tree(provider_tree, nodename, allocations)
        with _refusals():
            self._report.write(provider_tree, nodename, before)
        if CONF.libvirt.virt_type == "kvm" and virtual_pmu.is_possible():
            provider_tree.add_traits(nodename, VIRTUAL_PMU)
        else:
            provider_tree.remove_traits(nodename, VIRTUAL_PMU)
        self.provider_tree = copy.deepcopy(provider_tree)

    def _consumers(self, provider: str) -> Mapping[str, Resources]:
        """What each consumer has of a provider."""
        ask = self.virtapi.reportclient.get_allocations_for_resource_provider
        found = ask(nova_context.get_admin_context(), provider).allocations
        return {uuid: each["resources"] for uuid, each in found.items()}

    # What it boots

    def _get_guest_xml(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> str:
        """Nova's XML, or that of the instance's slice."""
        novas = super()._get_guest_xml(context, instance, *args, **kwargs)
        if not _in_slice(instance):
            return companion.fix(novas, self._requirements)
        with _refusals():
            chosen = self._choose(instance)
            text = build.boot(chosen, novas, self._requirements)
        LOG.info("Slice %s", chosen.name, instance=instance)
        LOG.debug("Its XML: %s", text, instance=instance)
        return text

    def _choose(self, instance: Any) -> SliceSpec:
        try:
            return self._slices.choose(
                self._node, instance.uuid, self._allocated, self._held
            )
        except PlacementError as error:
            kept = self._slices.kept(
                self._node, instance.uuid, instance.flavor.extra_specs,
                self._held,
            )  # fmt: skip
            if kept is None:
                raise
            LOG.warning(
                "%s: it keeps the slice %s", error, kept.name,
                instance=instance,
            )  # fmt: skip
            return kept

    @property
    def _node(self) -> Node:
        ((uuid, name),) = self.get_nodenames_by_uuid().items()
        return Node(uuid, name)

    def _allocated(self, consumer: str) -> Mapping[str, Resources]:
        """What an instance has of each provider.

        :raises PlacementError: Placement doesn't say.
        """
        try:
            found = self.virtapi.reportclient.get_allocs_for_consumer(
                nova_context.get_admin_context(), consumer
            )["allocations"]
        except (
            ClientException, exception.ConsumerAllocationRetrievalFailed,
        ) as error:  # fmt: skip
            raise PlacementError(f"Placement: {error}") from error
        return {uuid: each["resources"] for uuid, each in found.items()}

    def _held(self) -> Mapping[str, tuple[str, ...]]:
        """The slices of all domains, running or not."""
        return host.held(self._host.list_instance_domains(only_running=False))

    def _requirements(self, asked: guest.Asked) -> guest.Requirements:
        conf = dataclasses.replace(
            nova_conf.of(CONF), perf_events=tuple(self._supported_perf_events)
        )
        return guest.resolve(
            asked,
            conf,
            # The events have been looked at.
            guest.HostFacts(intel_cqm=True),
            monitors=CONF.libvirt.guest_monitors,
        )

    def _get_supported_perf_events(self) -> list[str]:
        """Those that stop no guest."""
        number = self._host.get_connection().getLibVersion()
        version = number // 1_000_000, number // 1000 % 1000, number % 1000
        return perf_events.safe(CONF.libvirt.enabled_perf_events, version)

    # What an instance keeps

    def spawn(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Leave no record of an instance that does not start."""
        try:
            super().spawn(context, instance, *args, **kwargs)
        except Exception:
            with excutils.save_and_reraise_exception():
                if _in_slice(instance):
                    with _warnings(instance):
                        self._slices.forget(self._node, instance.uuid)

    def _hard_reboot(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Refuse while the domain is still there."""
        if _in_slice(instance):
            with _refusals():
                self._choose(instance)
        super()._hard_reboot(context, instance, *args, **kwargs)

    def destroy(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Remember the slice for a reboot or a rebuild, which begin here."""
        if _in_slice(instance):
            with (
                contextlib.suppress(exception.InstanceNotFound),
                _warnings(instance),
            ):
                document = self._host.get_guest(instance).get_xml_desc()
                name = slice_metadata.read(document)
                if name is not None:
                    self._slices.keep(self._node, instance.uuid, name)
        super().destroy(context, instance, *args, **kwargs)

    # What it can't do

    def check_can_live_migrate_destination(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Refuse before anything is done."""
        _refuse_live_migration(instance)
        return super().check_can_live_migrate_destination(
            context, instance, *args, **kwargs
        )

    def check_can_live_migrate_source(
        self, context: Any, instance: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """The same, where the destination has another driver."""
        _refuse_live_migration(instance)
        return super().check_can_live_migrate_source(
            context, instance, *args, **kwargs
        )


def _refuse_live_migration(instance: Any) -> None:
    if _in_slice(instance):
        raise exception.MigrationPreCheckError(
            reason="its slice is hardware of its host: migrate it cold, to a "
            "slice of another host"
        )
