# SPDX-License-Identifier: Apache-2.0
"""What Nova does with instances in slices, step by step and at once.

Placement counts; the choice and the domains must agree with it at each step.
"""

import random
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ceilometer_perf.slices.placement import providers
from ceilometer_perf.slices.placement.choice import Chooser
from ceilometer_perf.slices.placement.encoding import encode
from ceilometer_perf.slices.placement.providers import Node
from ceilometer_perf.slices.placement.records import Records
from tests.unit.slice_trees import ALL, tree

NODE = Node(str(uuid.UUID(int=1)), "node")
STEPS = 150
AT_ONCE = 5

Claim = Mapping[str, Mapping[str, int]]
Steps = Iterator[None]


class Host:
    """Its Placement and its domains, which are there also if they are off."""

    def __init__(self, name: str, path: Path, chance: random.Random) -> None:
        self.tree = tree(ALL[name])
        self.encoded = encode(self.tree)
        self.records = Records(path / "records.json")
        self.chance = chance
        self.claims: dict[str, Claim] = {}
        self.domains: dict[str, str] = {}
        self.free: list[str] = []
        self.count = 0

    def allocations(self, consumer: str) -> Claim:
        return {
            providers.provider_uuid(NODE, name): units
            for name, units in self.claims.get(consumer, {}).items()
        }

    def held(self) -> Mapping[str, tuple[str, ...]]:
        return {name: (who,) for who, name in self.domains.items()}

    def choose(self, consumer: str) -> str:
        chooser = Chooser(self.allocations, NODE, self.tree, self.encoded)
        return chooser.choose(consumer, self.held, self.records)

    def define(self, consumer: str, name: str) -> None:
        others = {n for who, n in self.domains.items() if who != consumer}
        assert others.isdisjoint((name, *self.tree.conflicts(name)))
        self.domains[consumer] = name

    def destroy(self, consumer: str) -> None:
        name = self.domains.pop(consumer)
        self.records.write({**self.records.read(), consumer: name})

    def allocate(self, consumer: str) -> bool:
        """Of any class, if there is room."""
        asked = self.chance.choice([*self.encoded.requests])
        for name in self.tree:
            claim = self.encoded.claim(self.tree, name)
            if self.tree.specs[name].resource_class == asked and all(
                self._left(provider, units)
                for provider, units in claim.items()
            ):
                self.claims[consumer] = claim
                return True
        return False

    def _left(self, provider: str, units: Mapping[str, int]) -> bool:
        used = Counter(units)
        for claim in self.claims.values():
            used.update(claim.get(provider, {}))
        return used <= Counter(self.encoded.providers[provider].resources)

    def new(self) -> str:
        self.count += 1
        return f"{self.count}"

    # What Nova does; others get their turn at each yield.

    def create(self) -> Steps:
        one = self.new()
        if self.allocate(one):
            yield
            yield from self._boot(one)
            self.free.append(one)

    def _boot(self, one: str) -> Steps:
        name = self.choose(one)
        yield
        self.define(one, name)

    def _revert(self, one: str, migration: str) -> Steps:
        self.claims[one] = self.claims.pop(migration)
        yield
        yield from self._boot(one)
        self.free.append(one)

    def delete(self, one: str) -> Steps:
        self.destroy(one)
        yield
        del self.claims[one]

    def reboot(self, one: str) -> Steps:
        had = self.choose(one)
        assert had == self.domains[one]
        yield
        self.destroy(one)
        yield
        assert self.choose(one) == had
        yield
        self.define(one, had)
        self.free.append(one)

    def resize(self, one: str) -> Steps:
        """On its host; its migration has what it had."""
        migration = self.new()
        self.claims[migration] = self.claims.pop(one)
        if self.allocate(one):
            yield
            yield from self._boot(one)
            yield
            if self.chance.random() < 0.5:  # confirmed
                del self.claims[migration]
                self.free.append(one)
                return
            self.destroy(one)
            yield
        yield from self._revert(one, migration)

    def migrate(self, one: str) -> Steps:
        """To another host."""
        migration = self.new()
        self.claims[migration] = self.claims.pop(one)
        yield
        if self.chance.random() < 0.5:  # confirmed
            del self.domains[one]
            yield
            del self.claims[migration]
            return
        yield from self._revert(one, migration)

    def any_of_these(self) -> Steps:
        ways = self.delete, self.reboot, self.resize, self.resize, self.migrate
        if not self.free or self.chance.random() < 0.4:
            return self.create()
        one = self.free.pop(self.chance.randrange(len(self.free)))
        return self.chance.choice(ways)(one)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", range(10))
def test_none_is_given_twice(name: str, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    host = Host(name, tmp_path, chance)
    going: list[Steps] = []
    for _ in range(STEPS):
        if len(going) < AT_ONCE:
            going.append(host.any_of_these())
        one = chance.choice(going)
        if next(one, "ended") == "ended":
            going.remove(one)
