# SPDX-License-Identifier: Apache-2.0
"""Tell on stderr what is going on, in a terminal and in a log."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console

stderr = Console(stderr=True, highlight=False, soft_wrap=True)

Step = Callable[[str], None]


@contextlib.contextmanager
def steps() -> Iterator[Step]:
    """Yields what says the next step: a spinner, or a line where none spins.

    A step that only counts on, as in "7 of 9", is not a line again.
    """
    said = ""
    with stderr.status("") as status:

        def step(text: str) -> None:
            nonlocal said
            status.update(text)
            head = text.partition(":")[0]
            if not stderr.is_terminal and head != said:
                stderr.print(text, markup=False)
            said = head

        yield step
