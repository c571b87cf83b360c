# SPDX-License-Identifier: Apache-2.0
"""libvirt's own schema of domain XML, as it is installed on the host."""

import copy
import pathlib
import re
from typing import Any

from lxml import etree

from ceilometer_perf.guest import xml
from ceilometer_perf.slices.errors import SliceError
from ceilometer_perf.slices.template import Place

#: Where libvirt's packages put it.
FOLDER = "/usr/share/libvirt/schemas"

FILE = "domain.rng"


class SchemaError(SliceError):
    """Libvirt's schema refuses a domain, or isn't there."""

    def __init__(self, message: str, place: Place | None = None) -> None:
        """``place``: the line of the template that it refuses."""
        super().__init__(message)
        self.place = place


class Schema:
    """What libvirt takes for a domain."""

    def __init__(self, folder: str = FOLDER) -> None:
        """Load it, once for many domains.

        :raises SchemaError: it isn't in that folder.
        """
        path = pathlib.Path(folder, FILE)
        try:
            self._schema = etree.RelaxNG(etree.parse(str(path)))
        except (OSError, etree.LxmlError) as error:
            raise SchemaError(
                f"{path}: can't load libvirt's schema ({error}); install "
                "libvirt, or name the folder of its schemas with --schemas"
            ) from error

    def fault(self, root: xml.Element) -> xml.Element | None:
        """The element that it refuses, as far as is known."""
        if self._schema.validate(root):
            return None
        # libxml2 often names no more than a part of the domain: what makes
        # that right by going away is what was wrong.
        mirror = copy.deepcopy(root)
        path = self._blamed(root)
        suspect, twin = _at(root, path), _at(mirror, path)
        while (index := self._culprit(mirror, twin)) is not None:
            suspect, twin = suspect[index], twin[index]
        return suspect

    def _blamed(self, root: xml.Element) -> str:
        """The deepest path that libxml2 complains of."""
        log = list(self._schema.error_log)
        paths = [str(entry.path) for entry in log if entry.path]
        named = (_NAMED.search(entry.message) for entry in log)
        paths += [f"/{root.tag}/{match[1]}" for match in named if match]
        there = (path for path in paths if _all_at(root, path))
        return max(there, key=lambda path: path.count("/"), default="/*")

    def _culprit(self, root: xml.Element, parent: xml.Element) -> int | None:
        """The one child without which the domain is right."""
        if len(parent) > MOST_CHILDREN:
            return None
        for index, child in enumerate(parent):
            parent.remove(child)
            right = self._schema.validate(root)
            parent.insert(index, child)
            if right:
                return index
        return None


def _at(root: xml.Element, path: str) -> xml.Element:
    return _all_at(root, path)[-1]


def _all_at(root: xml.Element, path: str) -> list[xml.Element]:
    """The elements at a path of libxml2's; none if it can't be followed."""
    prefixes = {
        prefix: uri
        for element in root.iter(etree.Element)
        for prefix, uri in element.nsmap.items()
        if prefix is not None
    }
    try:
        found: Any = root.xpath(path, namespaces=prefixes)
    except etree.XPathError:
        return []
    return [each for each in found if isinstance(each, etree._Element)]


_NAMED = re.compile(r"Extra element ([a-zA-Z]+) in interleave")
MOST_CHILDREN = 200  # each is tried
