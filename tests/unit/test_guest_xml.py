# SPDX-License-Identifier: Apache-2.0
"""Elements put in and taken out, and what stands around them."""

from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ceilometer_perf import guest
from ceilometer_perf.guest import xml
from ceilometer_perf.guest.elements import vcpusched

ORDER = ("a", "b", "c")

SCHED = "<vcpusched vcpus='0' scheduler='{}'/>"
FIFO = SCHED.format("fifo")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<domain/>", "<domain>\n  <b/>\n</domain>"),
        ("<domain>text</domain>", "<domain>text<b/></domain>"),
        ("<domain><c/></domain>", "<domain><b/><c/></domain>"),
        ("<domain><a/>t<c/></domain>", "<domain><a/>t<b/><c/></domain>"),
        ("<domain>\n<a/>\n</domain>", "<domain>\n<a/>\n<b/>\n</domain>"),
        (
            "<domain>\n\t<b/>\n\t<!-- c -->\n\t<c/>\n</domain>",
            "<domain>\n\t<b/>\n\t<b/>\n\t<!-- c -->\n\t<c/>\n</domain>",
        ),
        (
            "<domain>\n <!-- x -->\n <x/>\n</domain>",
            "<domain>\n <b/>\n <!-- x -->\n <x/>\n</domain>",
        ),
    ],
)
def test_insert(before: str, after: str) -> None:
    tree = xml.parse(before)
    xml.insert(tree.getroot(), "b", ORDER)
    assert xml.write(tree, before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<domain><b/></domain>", "<domain/>"),
        ("<domain>\n <b/>\n</domain>", "<domain>\n</domain>"),
        ("<domain>s<b/>t</domain>", "<domain>st</domain>"),
        ("<domain>\n <a/>\n <b/>\n</domain>", "<domain>\n <a/>\n</domain>"),
        ("<domain>\n <b/>\n <c/>\n</domain>", "<domain>\n <c/>\n</domain>"),
        (
            "<domain>\n <a/>\n <b/>t\n <c/>\n</domain>",
            "<domain>\n <a/>\n t\n <c/>\n</domain>",
        ),
    ],
)
def test_remove(before: str, after: str) -> None:
    tree = xml.parse(before)
    child = tree.getroot().find("b")
    assert child is not None
    xml.remove(child)
    assert xml.write(tree, before) == after


@pytest.mark.parametrize(
    "text",
    [
        "<domain type='kvm' id=\"it's\"/>",
        '<domain type="kvm"/>\n',
        "<?xml version='1.0'?>\n\n<!-- a='b' c=\"d\" -->\n<domain/>\n",
        "\ufeff<domain a='&lt;&amp;&#10;'>]]&gt; \"</domain>",
        '<?p?><domain><![CDATA[<a b="c">]]><?p q="r"?></domain>\n<!--e-->',
    ],
)
def test_what_is_written_unchanged(text: str) -> None:
    written = xml.write(xml.parse(text), text)
    assert written.replace('"', "'") == text.replace('"', "'")


@pytest.mark.parametrize(
    ("inside", "realtime"),
    [
        ("", False),
        ("<cputune/>", False),
        (f"<cputune>{SCHED.format('batch')}</cputune>", False),
        ("<cputune><iothreadsched scheduler='fifo'/></cputune>", False),
        (f"<metadata>{SCHED.format('fifo')}</metadata>", False),
        (f"<cputune>{SCHED.format('rr')}</cputune>", True),
        (f"<cputune>{SCHED.format('idle')}</cputune>", False),
        (f"<cputune>{SCHED.format('idle')}{FIFO}</cputune>", True),
    ],
)
def test_who_is_realtime(inside: str, realtime: bool) -> None:
    root = xml.parse(f"<domain>{inside}</domain>").getroot()
    assert vcpusched.is_realtime(root) is realtime


@pytest.mark.parametrize("quote", ["'", '"'])
@given(st.lists(st.text("a '\"=<>&"), min_size=1, max_size=3))
def test_values_are_what_they_were(quote: str, values: list[str]) -> None:
    """Whatever is in them, in a document with either quotes."""
    rest = "".join(f"<c d={quote}e{quote}/>" for _ in range(9))
    tag = " ".join(f"v{n}={quoteattr(v)}" for n, v in enumerate(values))
    document = f"<domain><b {tag}/>{rest}</domain>"
    tree = xml.parse(document)
    added = xml.insert(tree.getroot(), "b", ("b",))
    added.attrib.update({f"v{n}": v for n, v in enumerate(values)})
    written = xml.parse(xml.write(tree, document)).getroot().findall("b")
    assert [[*b.attrib.values()] for b in written] == [values, values]


def test_tags_keep_their_quotes() -> None:
    """libvirt writes single quotes, but double ones in metadata."""
    before = (
        "<domain type='kvm'>\n  <metadata>\n"
        '    <n:a xmlns:n="urn:n" b="it\'s"/>\n'
        "    <!-- as it was = \"a\" --><?and it='is'?>\n"
        "  </metadata>\n  <vcpu placement='static'>1</vcpu>\n</domain>\n"
    )
    after = guest.apply(before, guest.Requirements(pmu=True))
    lines = after.splitlines()
    assert "    <pmu state='on'/>" in lines
    assert [line for line in before.splitlines() if line not in lines] == []
