# SPDX-License-Identifier: Apache-2.0
"""A compute host with slices, Placement, and clients that claim as Nova does.

Flavors are what ``slice flavors`` prints; Nova's own code makes the request
of them; what is allocated is one of the candidates that Placement offers.
"""

import json
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nova.conf
import requests
from nova import objects
from nova.scheduler import utils

from ceilometer_perf.guest.compute_driver import NAME
from ceilometer_perf.slices.placement.encoding import PLACE
from ceilometer_perf.slices.tree import Tree
from tests.lab.placement import LOCKED, TOKEN, Placement
from tests.unit.shell import Ran, run
from tests.unit.slice_trees import Row, specs, write_nova_conf

nova.conf.CONF([], project="nova", default_config_files=[])
objects.register_all()

NODE = "node"
#: Of a consumer that has nothing.
PROJECT = {"project_id": "p", "user_id": "u", "consumer_type": "INSTANCE"}

Candidate = Mapping[str, Any]


class Cloud:
    """One compute node of one Placement; several threads may claim."""

    def __init__(
        self, placement: Placement, folder: Path, node: str = NODE
    ) -> None:
        self.node = node
        self.url = placement.url
        self.conf = folder / "nova.conf"
        self.placement_conf = placement.nova_conf()
        self._flavors: Mapping[str, Mapping[str, str]] = {}
        self._queries: dict[tuple[str, ...], str] = {}
        self._slices: Mapping[str, str] = {}
        self._sessions = threading.local()
        self.tree = Tree(())
        self.node_uuid = str(uuid.uuid4())
        body = {"name": node, "uuid": self.node_uuid}
        self.send("POST", "/resource_providers", body).raise_for_status()

    def send(
        self, method: str, path: str, body: Any = None
    ) -> requests.Response:
        """Placement's answer, whatever it is."""
        session: requests.Session = self._sessions.__dict__.setdefault(
            "s", requests.Session()
        )
        while True:
            answer: requests.Response = session.request(
                method,
                self.url + path,
                json=body,
                timeout=60,
                headers={
                    "X-Auth-Token": TOKEN,
                    "OpenStack-API-Version": "placement 1.39",
                },
            )
            if answer.status_code != 500 or LOCKED not in answer.text:
                return answer
            time.sleep(0.01)

    def configure(self, rows: Iterable[Row]) -> None:
        """Other slices in nova.conf."""
        self.tree = Tree(specs(rows))
        default = (
            f"host = {self.node}\nstate_path = {self.conf.parent}\n"
            f"compute_driver = {NAME}"
        )
        write_nova_conf(self.conf, rows, default, self.placement_conf)
        flavors = json.loads(self.run("flavors", "-f", "json").out)
        classes = {each["name"]: each["properties"] for each in flavors}
        self._flavors = {
            spec.resource_class: classes[
                spec.resource_class.removeprefix("CUSTOM_")
                .lower()
                .replace("_", "-")
            ]
            for spec in self.tree.specs.values()
        }
        self._queries = {}

    def run(self, verb: str, *words: str) -> Ran:
        """A command of ours."""
        return run("slice", verb, "--nova-conf", str(self.conf), *words)

    def sync(self, *words: str) -> Mapping[str, Any]:
        """What ``slice sync`` says."""
        ran = self.run("sync", "-f", "json", *words)
        assert ran.code == 0, ran.err
        found: Mapping[str, Any] = json.loads(ran.out)
        self._slices = {
            each["uuid"]: name for name, each in self.providers().items()
        }
        return found

    def query(self, resource_class: str, *traits: str) -> str:
        """What Nova's scheduler asks Placement for a flavor of ours.

        ``traits``: that the image requires.
        """
        key = (resource_class, *traits)
        if key not in self._queries:
            self._queries[key] = self._query(resource_class, traits)
        return self._queries[key]

    def _query(self, resource_class: str, traits: Sequence[str]) -> str:
        flavor = objects.Flavor(
            id=1,
            flavorid="1",
            name="f",
            vcpus=2,
            memory_mb=1024,
            root_gb=0,
            ephemeral_gb=0,
            swap=0,
            extra_specs=dict(self._flavors[resource_class]),
        )
        spec = objects.RequestSpec(
            flavor=flavor,
            image=objects.ImageMeta(
                properties=objects.ImageMetaProps(traits_required=list(traits))
            ),
            requested_resources=[],
            request_level_params=objects.RequestLevelParams(),
            is_bfv=False,
        )
        request = utils.ResourceRequest.from_request_spec(spec)
        return str(request.to_querystring())

    def candidates(self, resource_class: str, *traits: str) -> list[Candidate]:
        """What Placement offers for a flavor, and an image with traits."""
        query = self.query(resource_class, *traits)
        answer = self.send("GET", f"/allocation_candidates?{query}")
        answer.raise_for_status()
        found: list[Candidate] = answer.json()["allocation_requests"]
        return found

    def claim(
        self, candidate: Candidate, consumer: str | None = None
    ) -> str | None:
        """Allocate; the consumer, or None if another one was faster."""
        consumer = consumer or str(uuid.uuid4())
        body = {**candidate, **PROJECT, "consumer_generation": None}
        answer = self.send("PUT", f"/allocations/{consumer}", body)
        if answer.status_code == 409:
            # Perhaps its own, from before SQLite failed.
            return consumer if self.allocated(consumer) else None
        answer.raise_for_status()
        return consumer

    def release(self, consumer: str) -> None:
        """What Nova does when an instance goes."""
        answer = self.send("DELETE", f"/allocations/{consumer}")
        # 404 likewise: it went before SQLite failed.
        assert answer.status_code in {204, 404}, answer.text

    def allocated(self, consumer: str) -> Mapping[str, Any]:
        """What a consumer has, by provider."""
        answer = self.send("GET", f"/allocations/{consumer}")
        found: Mapping[str, Any] = answer.json()["allocations"]
        return found

    def take(self, resource_class: str, consumer: str | None = None) -> str:
        """Claim what has to be there."""
        candidate = self.candidates(resource_class)[0]
        claimed = self.claim(candidate, consumer)
        assert claimed
        return claimed

    def providers(self) -> dict[str, dict[str, Any]]:
        """All providers of the node but its own, by slice."""
        answer = self.send(
            "GET", f"/resource_providers?in_tree={self.node_uuid}"
        ).json()
        return {
            each["name"].removeprefix(f"{self.node}_"): each
            for each in answer["resource_providers"]
            if each["uuid"] != self.node_uuid
        }

    def wipe(self) -> None:
        """Leave nothing for the next test but classes and traits."""
        for each in self.providers().values():
            self._empty(each["uuid"])
        self._empty(self.node_uuid)

    def _empty(self, provider: str) -> None:
        path = f"/resource_providers/{provider}"
        held = self.send("GET", f"{path}/allocations").json()["allocations"]
        for consumer in held:
            self.release(consumer)
        answer = self.send("DELETE", path)
        assert answer.status_code == 204, answer.text

    def where(self, candidate: Candidate) -> dict[str, dict[str, int]]:
        """Allocations by the slice of their provider.

        Nova takes none that has nothing of the compute node's own.
        """
        allocations = dict(candidate["allocations"])
        own = allocations.pop(self.node_uuid)
        assert own == {"resources": {PLACE: 1}}
        return {
            self._slices[provider]: each["resources"]
            for provider, each in allocations.items()
        }
