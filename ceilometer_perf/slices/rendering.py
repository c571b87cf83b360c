# SPDX-License-Identifier: Apache-2.0
"""The process that renders templates: it holds nothing worth attacking.

It reads jobs from standard input, each a JSON object on a line with the
``source`` and the ``context`` of a template, how many characters it may make
at ``most``, and in how many ``seconds`` of processor time. It answers each
with another: ``{"text": ...}``, or ``{"error": ..., "line": ...}``. What takes
too long or too much memory ends the process, and with it nothing else.
"""

import json
import resource
import signal
import sys
import traceback
from typing import Any

from jinja2 import StrictUndefined, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ceilometer_perf.slices.marks import LINE_BEGIN, LINE_END

MEMORY_BYTES = 512 << 20  # of the process

#: What escapes values twice, never, or not for XML is not among them.
FILTERS = (
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e",
    "escape", "first", "float", "groupby", "indent", "int", "items", "join",
    "last", "length", "list", "lower", "map", "max", "min", "reject",
    "rejectattr", "replace", "reverse", "round", "select", "selectattr",
    "slice", "sort", "string", "sum", "title", "trim", "truncate", "unique",
    "upper", "wordcount",
)  # fmt: skip
GLOBALS = ("dict", "namespace", "range")
#: A template stands alone, and can't turn the escaping of values off.
REFUSED: dict[type[nodes.Node], str] = {
    nodes.Extends: "extends",
    nodes.FromImport: "from",
    nodes.Import: "import",
    nodes.Include: "include",
    nodes.EvalContextModifier: "autoescape",
    nodes.ScopedEvalContextModifier: "autoescape",
}
#: Their text isn't printed where it stands.
_ELSEWHERE = (
    nodes.AssignBlock, nodes.CallBlock, nodes.FilterBlock, nodes.Macro,
)  # fmt: skip
_NAME = "<template>"  # jinja2's own, for a template from a string


class _RefusalError(Exception):
    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def environment() -> ImmutableSandboxedEnvironment:
    """A jinja2 without files, without internals, without ways around."""
    made = ImmutableSandboxedEnvironment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters = {name: made.filters[name] for name in FILTERS}
    made.globals = {name: made.globals[name] for name in GLOBALS}
    return made


def _checked(tree: nodes.Template) -> nodes.Template:
    for kind, name in REFUSED.items():
        for node in tree.find_all(kind):
            raise _RefusalError(
                f"{name} is not available in slice templates", node.lineno
            )
    return tree


def _mark(node: nodes.Node) -> None:
    """Have each line of text that is printed say which line it is."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.TemplateData):
            lines = child.data.split("\n")
            child.data = "\n".join(
                f"{LINE_BEGIN}{number}{LINE_END}{line}"
                for number, line in enumerate(lines, start=child.lineno)
            )
        elif not isinstance(child, _ELSEWHERE):
            _mark(child)


def render(source: str, context: dict[str, Any], most: int) -> str:
    """The text, with marks at its lines; at most so many characters.

    :raises Exception: of whatever kind: the template did it.
    """
    jinja = environment()
    tree = _checked(jinja.parse(source))
    _mark(tree)
    code = jinja.compile(tree, filename=_NAME)
    template = jinja.template_class.from_code(jinja, code, dict(jinja.globals))
    parts, size = [], 0
    for part in template.generate(context):
        parts.append(part)
        size += len(part)
        if size > most:
            raise _RefusalError(
                f"it renders to more than {most} characters", None
            )
    return "".join(parts)


def _line(error: BaseException) -> int | None:
    """The line of the template that an error came from."""
    found = getattr(error, "lineno", None) or getattr(error, "line", None)
    if found is not None:
        return int(found)
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == _NAME]
    return lines[-1] if lines else None


def answer(job: dict[str, Any]) -> dict[str, Any]:
    """The outcome for one template."""
    try:
        return {"text": render(**job)}
    except MemoryError:
        return {"error": "it takes too much memory", "line": None}
    except RecursionError:
        return {"error": "it is nested too deeply", "line": None}
    except (TemplateError, _RefusalError) as error:
        return {"error": str(error)[:300], "line": _line(error)}
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        return {"error": words[:300], "line": _line(error)}


def main() -> None:
    """Answer until all jobs are done."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        job = json.loads(line)
        # By default its signal ends the process, whatever it is doing.
        signal.setitimer(signal.ITIMER_PROF, job.pop("seconds"))
        sys.stdout.write(json.dumps(answer(job)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
