# SPDX-License-Identifier: Apache-2.0
"""Values that JSON shows as they are, and a table in words."""

from collections.abc import Mapping
from typing import Any

from cliff.columns import FormattableColumn

from ceilometer_perf import cpus


class Value(FormattableColumn[Any]):
    """A value of JSON: mappings, lists, texts, numbers, nothing."""

    def human_readable(self) -> str:
        """As text: sets as ranges, nothing as a dash."""
        value = self._value
        if isinstance(value, Mapping):
            return "\n".join(
                f"{key}: {Value(item).human_readable()}"
                for key, item in value.items()
            )
        if isinstance(value, list):
            return _list(value)
        if isinstance(value, bool):
            return str(value).lower()
        if value is None:
            return "-"
        return "\n".join(map(printable, str(value).split("\n")))


def printable(text: str) -> str:
    """A name that a user chose, safe for a terminal."""
    if text.isprintable():  # much faster, and nearly always so
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def _list(value: list[Any]) -> str:
    if not value:
        return "-"
    if all(isinstance(item, int) for item in value):
        return cpus.text(value)
    return ", ".join(Value(item).human_readable() for item in value)
