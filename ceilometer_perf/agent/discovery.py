# SPDX-License-Identifier: Apache-2.0
"""Ceilometer's discovery plugin: the instances on this host.

Ceilometer's own code turns domains into instances, so that they look the same
as in its other pollsters. It gets what the inventory has already read instead
of a libvirt connection, which saves several calls per instance.
"""

import copy
import itertools
import threading
import time
from typing import Any

from ceilometer.compute import discovery
from ceilometer.compute.virt.libvirt import utils as core_libvirt
from lxml import etree
from oslo_config import cfg
from oslo_log import log

from ceilometer_perf import wiring
from ceilometer_perf.agent import startup
from ceilometer_perf.changes import Changes
from ceilometer_perf.guest import xml
from ceilometer_perf.host.inventory import Domain, Domains
from ceilometer_perf.reading import SourceUnavailableError

LOG = log.getLogger(__name__)

_changes = Changes(LOG)

# For some instances core asks Nova's API: for each of them if
# [compute] fetch_extra_metadata is set, the default before Ceilometer 27.
_PATIENCE = 10.0  # seconds per cycle for all failing requests


class PerfInstances(discovery.InstanceDiscovery):  # type: ignore[misc]
    """Core's ``local_instances``, without its libvirt calls.

    Only for ``[compute] instance_discovery_method = libvirt_metadata``, the
    default; with others it is core's own discovery.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf)
        startup.advise(conf)  # here, because discovery is made once
        self._lock = threading.Lock()
        self._left_out = Changes(LOG)
        self._wasted = 0.0  # seconds of this cycle spent on failures
        self._asked: _OneDomain | None = None
        #: What core made of each domain: one instance, or none.
        self._made: dict[str, tuple[Domain, list[Any]]] = {}

    @property
    def connection(self) -> Any:
        """What core's code uses as libvirt's connection."""
        return self._asked

    def discover(self, manager: Any, param: str | None = None) -> list[Any]:
        """The instances on this host; none while libvirt doesn't answer.

        Never raises: the agent would discover again for each meter.
        """
        if self.method != "libvirt_metadata":
            return list(super().discover(manager, param))
        try:
            return self._instances(self._domains())
        except SourceUnavailableError as exc:
            why = str(exc)
        except Exception:
            # A bug of ours.
            LOG.exception("Discovering the instances failed")
            return []
        # Not above: within `except`, oslo.log appends the exception.
        _changes.trouble("libvirt", why)
        return []

    def _domains(self) -> Domains:
        uris = core_libvirt.LIBVIRT_PER_TYPE_URIS
        domains = wiring.inventory(self.conf, uris).refresh()
        _changes.fine("libvirt", "instances are discovered again")
        return domains

    def _instances(self, domains: Domains) -> list[Any]:
        with self._lock:
            self._wasted = 0.0
            self._made = {
                uuid: (domain, made)
                for uuid, domain in domains.items()
                if (made := self._instance(domain)) is not None
            }
            self._left_out.forget_all_but(domains)
            return list(
                itertools.chain.from_iterable(
                    made for _, made in self._made.values()
                )
            )

    def _instance(self, domain: Domain) -> list[Any] | None:
        """One instance, or none if it isn't Nova's; None if core fails.

        What failed is tried again in the next cycle.
        """
        known = self._made.get(domain.uuid)
        if known is not None and known[0] is domain:
            return known[1]
        what = "not tried in this cycle: others failed, and took too long"
        if self._wasted < _PATIENCE:
            began = time.monotonic()
            try:
                return self._make(domain)
            except Exception as exc:  # whatever core makes of broken metadata
                what = " ".join(f"{type(exc).__name__}: {exc}".split())
            self._wasted += time.monotonic() - began
        self._left_out.trouble(
            domain.uuid,
            f"domain {domain.uuid} ({domain.name}) is left out: Ceilometer "
            f"cannot build an instance from its Nova metadata ({what}); "
            "check its <metadata> (a hard reboot through Nova rewrites it) "
            "and, if that is incomplete, Nova's API",
        )
        return None

    def _make(self, domain: Domain) -> list[Any]:
        self._asked = _OneDomain(domain)
        if self._asked.metadata() is None:
            LOG.debug("Domain %s was not created by Nova", domain.uuid)
            return []
        made: list[Any] = self.discover_libvirt_polling(None)
        self._left_out.fine(
            domain.uuid, f"domain {domain.uuid} is polled again"
        )
        return made


class _OneDomain:
    """Stands in for ``virConnect`` and ``virDomain`` in core's discovery.

    A connection to a host with one domain, and that domain too; answers from
    the inventory, without asking libvirt.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def listAllDomains(self) -> list["_OneDomain"]:  # noqa: N802
        return [self]

    def UUIDString(self) -> str:  # noqa: N802
        return self._domain.uuid

    def name(self) -> str:
        return self._domain.name

    def state(self) -> tuple[int, int]:
        return self._domain.state, 0

    def XMLDesc(self) -> str:  # noqa: N802
        return self._domain.xml

    def metadata(self, *_asked: object) -> str | None:
        """The newest that Nova wrote, whatever version is requested.

        Core asks for the newest first. Like libvirt, omits the namespace.
        """
        root = xml.parse(self._domain.xml).getroot()
        for namespace in core_libvirt.NOVA_METADATA_VERSIONS:
            found = root.find(f"metadata/{{{namespace}}}*")
            if found is not None:
                return _without_namespace(found, namespace)
        return None


def _without_namespace(root: etree._Element, namespace: str) -> str:
    """An element on its own, as ``virDomainGetMetadata`` returns it."""
    root = copy.deepcopy(root)
    for element in list(root.iter(f"{{{namespace}}}*")):
        element.tag = etree.QName(element).localname
    etree.cleanup_namespaces(root)
    return etree.tostring(root, encoding="unicode", with_tail=False)
