# SPDX-License-Identifier: Apache-2.0
"""Who may do what in a cloud, and what it offers: its catalog and images."""

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import openstack

from tests.chain.errors import ChainError
from tests.cloud.site import ADMIN, CATALOG, DEMO, REGION, Site

PATIENCE = 120.0  # seconds


class Identity:
    """The administrator's view, and the ordinary user's."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def _connect(self, user: str) -> Any:
        options = self._site.auth(user)
        auth_type = options.pop("auth_type")
        region = options.pop("region_name")
        return openstack.connection.Connection(
            auth=options,
            auth_type=auth_type,
            region_name=region,
            compute_api_version="2.95",
        )

    @cached_property
    def admin(self) -> Any:
        """A connection of openstacksdk's."""
        return self._connect(ADMIN)

    @cached_property
    def demo(self) -> Any:
        """The same of an ordinary user."""
        return self._connect(DEMO)

    def register(self) -> None:
        """Services in the catalog, and the ordinary user."""
        # Not the one that stays: what it knows of the catalog, it keeps.
        identity = self._connect(ADMIN).identity
        for name in self._site.ports:
            if name != "keystone":
                kind, _ = CATALOG[name]
                service = identity.create_service(name=name, type=kind)
                identity.create_endpoint(
                    service_id=service.id, interface="public",
                    url=self._site.url(name), region_id=REGION,
                )  # fmt: skip
        project = identity.create_project(name=DEMO, domain_id="default")
        user = identity.create_user(
            name=DEMO, password=DEMO, default_project_id=project.id,
            domain_id="default",
        )  # fmt: skip
        role = identity.find_role("member")
        identity.assign_project_role_to_user(project, user, role)

    def wait_for_hosts(self, names: Sequence[str]) -> None:
        """Return when the scheduler knows all of these hosts."""
        deadline = time.monotonic() + PATIENCE
        while missing := set(names) - self._hypervisors():
            if time.monotonic() > deadline:
                raise ChainError(
                    f"not within {PATIENCE:.0f} s: {', '.join(missing)} in "
                    "`openstack hypervisor list`"
                )
            time.sleep(0.5)

    def _hypervisors(self) -> set[str]:
        found = self.admin.compute.hypervisors()
        return {each.name for each in found}
