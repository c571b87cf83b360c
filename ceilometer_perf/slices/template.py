# SPDX-License-Identifier: Apache-2.0
"""Templates of slices: read, rendered elsewhere, parsed.

The author of a template is trusted with the host's hardware, not with
the files and the time of the process that renders it.
"""

import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lxml import etree

from ceilometer_perf import files
from ceilometer_perf.guest import xml
from ceilometer_perf.guest.errors import DomainXMLError
from ceilometer_perf.slices.context import Context
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.marks import LINE_BEGIN, LINE_END

MAX_BYTES = 1 << 20  # of a template
MAX_CHARACTERS = xml.MAX_BYTES  # of what it renders to
BATCH = 250  # templates for one process
CPU_SECONDS = 5.0  # for each of them


#: Positions in a text that the operator never sees.
_POSITION = re.compile(r"(, | ?: )?line \d+, column \d+.*")


@dataclasses.dataclass(frozen=True)
class Place:
    """A line of a template, and the element that it makes there."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.text}"


@dataclasses.dataclass(frozen=True)
class Rendered:
    """What a template became, and which of its lines made which."""

    file: str
    text: str
    #: For each line of the text, the template's.
    lines: tuple[int, ...]

    def root(self) -> xml.Element:
        """The domain.

        :raises TemplateError: it is not one; names the template's line.
        """
        try:
            root: xml.Element = xml.parse(self.text).getroot()
        except DomainXMLError as error:
            number: Any = getattr(error.__cause__, "lineno", None)
            line = f", line {self.line(number)}" if number else ""
            words = _POSITION.sub("", str(error))
            raise TemplateError(f"{self.file}{line}: {words}") from error
        return root

    def line(self, rendered: int) -> int:
        """The line of the template that made a line of the text."""
        return self.lines[min(max(rendered, 1), len(self.lines)) - 1]

    def place(self, element: xml.Element) -> Place:
        """Where an element of the root comes from."""
        opened = etree.tostring(element, encoding="unicode", with_tail=False)
        text = " ".join(str(opened).partition(">")[0].split()) + ">"
        text = re.sub(r' xmlns:\w+="[^"]*"', "", text)
        line: Any = element.sourceline
        return Place(self.file, self.line(line or 1), text)


@dataclasses.dataclass(frozen=True)
class Template:
    """A file, read."""

    file: str
    source: str

    @classmethod
    def read(cls, path: str) -> "Template":
        """The template in a file.

        :raises TemplateError: it can't be one.
        """
        try:
            source = files.read(path, MAX_BYTES).decode()
        except (OSError, ValueError) as error:
            raise TemplateError(
                f"{path}: can't be read: {files.why(error)}"
            ) from error
        if LINE_BEGIN in source or LINE_END in source:
            raise TemplateError(
                f"{path}: it has a control character, which XML does not allow"
            )
        return cls(path, source)


def render(template: Template, context: Context) -> Rendered:
    """One template.

    :raises TemplateError: it can't be rendered.
    """
    return render_all([(template, context)])[0]


def render_all(
    jobs: Sequence[tuple[Template, Context]],
) -> list[Rendered]:
    """Each template with its context, in order.

    :raises TemplateError: one of them can't be rendered.
    """
    batches = [jobs[i : i + BATCH] for i in range(0, len(jobs), BATCH)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda batch: [*_rendered(batch)], batches)
        return [rendered for batch in done for rendered in batch]


def _rendered(
    jobs: Sequence[tuple[Template, Context]],
) -> Iterator[Rendered]:
    from ceilometer_perf.slices import rendering  # jinja2 is of an extra

    asked = (
        {
            "seconds": CPU_SECONDS,
            "most": MAX_CHARACTERS,
            "context": context,
            "source": template.source,
        }
        for template, context in jobs
    )
    ran = subprocess.run(
        # -P: nothing is imported from the current folder.
        [sys.executable, "-P", rendering.__file__],
        input="".join(json.dumps(job) + "\n" for job in asked).encode(),
        capture_output=True,
        check=False,
    )
    answers = map(json.loads, ran.stdout.split(b"\n")[:-1])
    for (template, _), answer in itertools.zip_longest(jobs, answers):
        yield _result(template, answer or _death(ran))


def _result(template: Template, answer: dict[str, Any]) -> Rendered:
    if "error" in answer:
        line = answer["line"]
        where = template.file + (f", line {line}" if line else "")
        raise TemplateError(f"{where}: {answer['error']}")
    return _unmarked(template.file, answer["text"])


def _death(ran: "subprocess.CompletedProcess[bytes]") -> dict[str, Any]:
    """Why the process ended early."""
    if ran.returncode == -signal.SIGPROF:
        why = f"rendering takes more than {CPU_SECONDS:g} s: does it loop?"
    else:
        last = ran.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = f"the process that renders it died ({ran.returncode}) "
        why += " ".join(last)[:200]
    return {"error": why.strip(), "line": None}


_MARK = re.compile(f"{LINE_BEGIN}(\\d+){LINE_END}")


def _unmarked(file: str, text: str) -> Rendered:
    """Remove the marks, and keep the line numbers in them."""
    lines, last = [], 1
    for line in text.split("\n"):
        marks = _MARK.findall(line)
        last = int(marks[-1]) if marks else last
        lines.append(last)
    return Rendered(file, _MARK.sub("", text), tuple(lines))
