# SPDX-License-Identifier: Apache-2.0
import pytest

from ceilometer_perf import guest
from ceilometer_perf.guest import xml
from ceilometer_perf.guest.elements import ELEMENTS
from tests.unit.guest_cases import CASES, Case


def by_name(case: Case) -> str:
    return case.path.name


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_mended(case: Case) -> None:
    assert guest.apply(case.before, case.requirements()) == case.after


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_mended_is_clean_and_stays(case: Case) -> None:
    requirements = case.requirements()
    assert guest.check(case.after, requirements) == []
    assert guest.apply(case.after, requirements) == case.after


@pytest.mark.parametrize("case", CASES, ids=by_name)
def test_findings_name_what_is_mended(case: Case) -> None:
    found = guest.check(case.before, case.requirements())
    assert bool(found) == (case.before != case.after)
    for finding in found:
        assert finding.what
        assert finding.why
        assert finding.remedy


@pytest.mark.parametrize("element", ELEMENTS, ids=lambda e: str(e.name))
def test_each_element_has_a_pair_that_changes_it(
    element: object,
) -> None:
    """Who declares an element shows what it does to a domain."""
    name = getattr(element, "name", "")
    where = getattr(element, "where", "")
    pairs = [case for case in CASES if case.element == name]
    assert any(
        where in {f.where for f in guest.check(c.before, c.requirements())}
        and xml.parse(c.after).find(where.removeprefix("/domain/")) is not None
        for c in pairs
    ), f"no golden pair shows {name}: add tests/unit/golden/{name}-..."


def test_each_pair_is_about_an_element() -> None:
    assert {c.element for c in CASES} == {e.name for e in ELEMENTS}
