# SPDX-License-Identifier: Apache-2.0
"""Domain XML in and out, from untrusted sources.

There is no DTD, no entity and no network in what libvirt writes, so a
document with a DTD is refused before any of it is parsed.
"""

import re
from collections.abc import Mapping
from xml.parsers import expat

from lxml import etree

from ceilometer_perf.guest import errors

#: libvirt's limit for one string, REMOTE_STRING_MAX.
MAX_BYTES = 4 * 1024 * 1024

_Tree = etree._ElementTree
Element = etree._Element


def parse(document: str | bytes) -> _Tree:
    """The tree of a ``<domain>``, comments and white space included."""
    tree = parse_any(document)
    tag = tree.getroot().tag
    if tag != "domain":
        raise errors.DomainXMLError(
            f"The root element is <{tag}>, not <domain>: use the output of "
            "virsh dumpxml --inactive"
        )
    return tree


def parse_any(document: str | bytes) -> _Tree:
    """The tree of whatever libvirt may write, by the same rules."""
    data = document if isinstance(document, bytes) else _encoded(document)
    if len(data) > MAX_BYTES:
        raise errors.DomainXMLError(
            f"The XML has more than {MAX_BYTES} bytes, libvirt's own limit"
        )
    try:
        _refuse_dtd(data)
        # Comments, CDATA and blanks are the author's: keep them all.
        root = etree.fromstring(data, _parser())
    except (expat.ExpatError, etree.XMLSyntaxError) as error:
        raise errors.DomainXMLError(f"Not well-formed XML: {error}") from error
    return root.getroottree()


def _encoded(document: str) -> bytes:
    try:
        return document.encode()
    except UnicodeEncodeError as error:
        raise errors.DomainXMLError(f"Not text: {error}") from error


def _parser() -> etree.XMLParser:
    """Always UTF-8, as libvirt writes: no other encoding hides anything."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        huge_tree=False,
        strip_cdata=False,
    )


def _refuse_dtd(data: bytes) -> None:
    """Stop at the first character of a DTD: nothing in it is expanded."""

    def refuse(*_: object) -> None:
        raise errors.DomainXMLError(
            "The XML has a document type declaration, which libvirt never "
            "writes: remove it"
        )

    parser = expat.ParserCreate("utf-8")
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(data, True)


def write(tree: _Tree, document: str | bytes) -> str:
    """The tree as text, in the frame and the quotes of ``document``."""
    text = document if isinstance(document, str) else document.decode()
    root = tree.getroot()
    prolog = _PROLOG.match(text)
    parts = [prolog[0] if prolog else "", _quoted(_text(root), text)]
    parts += (f"\n{_text(comment)}" for comment in root.itersiblings())
    return "".join(parts) + ("\n" if text.endswith("\n") else "")


def _text(element: Element) -> str:
    return str(etree.tostring(element, encoding="unicode", with_tail=False))


_MARKUP = re.compile(
    r"""<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?.*?\?>"""
    r"""|(<[^>"']*(?:(?:"[^"]*"|'[^']*')[^>"']*)*>)""",
    re.DOTALL,
)
#: A value in double or in single quotes, which may have the others in it.
_VALUE = re.compile("""="([^"]*)"|='([^']*)'""")
#: What may stand before the root, a DTD apart; possessive, so that no
#: input makes it try twice.
_PROLOG = re.compile(
    r"\ufeff?(?:\s++|(?><\?.*?\?>)|(?><!--.*?-->))*+", re.DOTALL
)


def _quoted(body: str, original: str) -> str:
    """Each tag as it was quoted, new ones as most are.

    lxml writes double quotes, libvirt single ones except in metadata: a
    change of one line would show as a change of all of either.
    """
    tags: list[str] = [m[1] for m in _MARKUP.finditer(original) if m[1]]
    quoted = {_VALUE.sub(_in_double, tag): tag for tag in tags}
    single = original.count("='") > original.count('="')

    def requoted(markup: re.Match[str]) -> str:
        tag: str | None = markup[1]
        if tag is None:
            return markup[0]  # a comment and the like
        new = _VALUE.sub(_in_single, tag) if single else tag
        return quoted.get(tag, new)

    return _MARKUP.sub(requoted, body)


def _in_double(value: re.Match[str]) -> str:
    text: str | None = value[2]
    return value[0] if text is None or '"' in text else f'="{text}"'


def _in_single(value: re.Match[str]) -> str:
    text: str | None = value[1]
    return value[0] if text is None or "'" in text else f"='{text}'"


def insert(
    parent: Element,
    tag: str,
    order: tuple[str, ...],
    prefixes: Mapping[str, str] | None = None,
) -> Element:
    """A new child where libvirt would write it, indented like the rest.

    ``prefixes``: those of its namespaces.
    """
    before = order[: order.index(tag) + 1]
    backwards = parent.iterchildren(reversed=True)
    previous = next((c for c in backwards if c.tag in before), None)
    index = 0 if previous is None else parent.index(previous) + 1
    child = etree.Element(tag, nsmap=prefixes)
    outer = _indent(parent)
    if len(parent) or outer is None or not _blank(parent.text):
        _join(parent, child, index)
    else:
        step = "\t" if outer.endswith("\t") else "  "
        parent.text, child.tail = outer + step, outer
        parent.append(child)
    return child


def _join(parent: Element, child: Element, index: int) -> None:
    """Insert among siblings, with the white space that they have."""
    inner = parent.text if _blank(parent.text) else None
    if index and _blank(parent[index - 1].tail):
        previous = parent[index - 1]
        child.tail, previous.tail = previous.tail, inner
    elif not index:
        child.tail = inner
    parent.insert(index, child)


def remove(child: Element) -> None:
    """Take a child out and close the gap; text around it stays."""
    parent, previous = child.getparent(), child.getprevious()
    assert parent is not None  # noqa: S101 - the root is never removed
    before = parent.text if previous is None else previous.tail
    if not (_blank(before) and _blank(child.tail)):
        gap: str | None = (before or "") + (child.tail or "")
    elif previous is None and child.getnext() is not None:
        gap = before
    else:
        gap = child.tail
    parent.remove(child)
    if previous is None:
        parent.text = gap
    else:
        previous.tail = gap


def _blank(text: str | None) -> bool:
    return text is None or not text.strip()


def _indent(element: Element) -> str | None:
    """The line break and spaces that stand before an element."""
    parent, previous = element.getparent(), element.getprevious()
    if parent is None:
        return "\n"
    before = parent.text if previous is None else previous.tail
    if before is None or "\n" not in before or not _blank(before):
        return None
    return before[before.rindex("\n") :]
