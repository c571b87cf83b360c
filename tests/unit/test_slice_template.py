# SPDX-License-Identifier: Apache-2.0
"""Templates: what they may do, and what stops those that do more."""

import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from ceilometer_perf.slices import rendering, template
from ceilometer_perf.slices.context import SAMPLE
from ceilometer_perf.slices.errors import TemplateError
from ceilometer_perf.slices.template import Rendered, Template
from tests.examples import times
from tests.unit.slice_cases import instance


def rendered(source: str, context: Any = SAMPLE) -> Rendered:
    return template.render(Template("a.xml", source), context)


def refusal(source: str, context: Any = SAMPLE) -> str:
    with pytest.raises(TemplateError) as caught:
        rendered(source, context)
    message = str(caught.value)
    assert message.startswith("a.xml")
    assert "\n" not in message
    assert len(message) < 500
    return message


def test_lines() -> None:
    source = """\
<domain>
  {% for disk in disks + disks %}
  <disk>
    {{ disk.target }}
  </disk>
  {% endfor %}
  {% set x %}
  two {{ "lines" }}
  {% endset %}
  <x>{{ x|length }}</x>
  <y>
  </y>{# a comment
  of two #}
  <z/>
</domain>
"""
    done = rendered(source)
    shown = list(zip(done.text.split("\n"), done.lines, strict=True))
    assert [(text.strip(), line) for text, line in shown] == [
        ("<domain>", 1),
        ("<disk>", 3), ("vda", 4), ("</disk>", 5),
        ("<disk>", 3), ("vda", 4), ("</disk>", 5),
        ("<x>12</x>", 10), ("<y>", 11), ("</y>  <z/>", 14),
        ("</domain>", 15), ("", 16),
    ]  # fmt: skip


def test_places() -> None:
    done = rendered(
        "<domain xmlns:a='urn:a'>\n{% if 1 %}\n\n<b\n c='1'>\n"
        "{% endif %}<d/></b></domain>"
    )
    root = done.root()
    assert str(done.place(root)) == "a.xml:1 <domain>"
    assert done.place(root[0]).text == '<b c="1">'
    assert done.place(root[0][0]).line == 6


NASTY = """a<b>&"'--]]>{{ 1 }}\n\t<!-- ä"""


def test_values_are_escaped() -> None:
    done = rendered(
        "<domain a='{{ instance.name }}' b=\"{{ instance.name }}\">"
        "{{ instance.name }}</domain>",
        instance(name=NASTY),
    )
    root = done.root()
    assert root.text == NASTY
    flat = NASTY.replace("\n", " ").replace("\t", " ")
    assert [root.get("a"), root.get("b")] == [flat, flat]


WORDS = st.text(
    st.characters(
        exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"
    ),
    max_size=40,
)


FILTERS = (
    "",
    "|upper|lower",
    "|replace('a', '<')",
    "|default('<')",
    "|trim",
    "|e",
    "|string|e",
    "|list|join('<')",
    "|truncate(3, end='<')",
    "|batch(2)|map('join', '\"')|join(\"'\")",
)


@given(st.lists(WORDS, min_size=1, max_size=20))
@times(0.1)  # each starts a process
def test_no_value_is_markup(values: list[str]) -> None:
    jobs = [
        (
            Template(
                "a.xml",
                "<domain a='{{ v%s }}' b=\"{{ v%s }}\">{{ v%s }}</domain>"
                % ((filters,) * 3),
            ),
            {"v": value},
        )
        for value in values
        for filters in FILTERS
    ]
    for done in template.render_all(jobs):
        root = etree.fromstring(done.text.encode())
        assert len(root) == 0
        assert set(root.attrib) == {"a", "b"}


LOOPS = (
    "{%% for a in range(99999) %%}{%% for b in range(99999) %%}%s"
    "{%% endfor %%}{%% endfor %%}"
)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ nothing }}", "line 2: 'nothing' is undefined"),
        ("{{ instance.nme }}", "line 2: 'dict object' has no attribute 'nme'"),
        ("{% if nothing %}{% endif %}", "line 2: 'nothing' is undefined"),
        ("{{ instance.name }", "line 2: unexpected '}'"),
        ("{% for %}", "line 2:"),
        ("{{ 1 / 0 }}", "line 2: ZeroDivisionError"),
        ("{{ instance + 1 }}", "line 2: TypeError"),
        ("{% macro a() %}\n{{ b }}{% endmacro %}\n{{ a() }}", "3: 'b' is"),
        # Files.
        ("{% include '/etc/passwd' %}", "line 2: include is not avail"),
        ("{% include ['a'] ignore missing %}", "line 2: include is not avail"),
        ("{% import 'a' as a %}", "line 2: import is not avail"),
        ("{% from 'a' import b %}", "line 2: from is not avail"),
        ("{% extends '/etc/passwd' %}", "line 2: extends is not avail"),
        ("{% if 1 %}{% include 'a' %}{% endif %}", "include is not avail"),
        # Internals.
        ("{{ instance.__class__ }}", "'__class__' of 'dict' object is unsafe"),
        ("{{ ''['__class__'] }}", "unsafe"),
        ("{{ ''|attr('__class__') }}", "No filter named 'attr'"),
        ("{{ '{0.__class__}'.format(1) }}", "unsafe"),
        ("{{ ''.format.__self__ }}", "no attribute '__self__'"),
        ("{{ range.__init__ }}", "unsafe"),
        ("{{ self.__init__ }}", "unsafe"),
        ("{{ disks|map(attribute='__class__')|first }}", "unsafe"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),
        ("{{ cycler }}", "'cycler' is undefined"),
        ("{{ instance.update({'a': 1}) }}", "is unsafe"),
        ("{{ disks.append(1) }}", "is unsafe"),
        # Ways around the escaping of values.
        ("{{ instance.name|safe }}", "No filter named 'safe'"),
        ("{{ [1]|map('safe')|list }}", "No filter named 'safe'"),
        ("{{ instance|xmlattr }}", "No filter named 'xmlattr'"),
        ("{{ instance|tojson }}", "No filter named 'tojson'"),
        (
            "{% autoescape false %}{{ 1 }}{% endautoescape %}",
            "line 2: autoescape is not avail",
        ),
        # Time and space.
        ("{{ range(999999999)|list }}", "Range too big"),
        ("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "too deeply"),
        ("{{ 'a' * 10 ** 7 }}", "more than 4194304 characters"),
        ("{{ 'a' * 10 ** 9 }}", "too much memory"),
        ("{{ 'a' * 10 ** 12 }}", "too much memory"),
        ("{{ '%999999999999d' % 1 }}", ""),
        ("{{ 'a'.ljust(10 ** 11) }}", "too much memory"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", ""),
        ("{{ " + "-" * 100000 + "1 }}", ""),
        (
            LOOPS % "x",
            "more than 4194304 characters",
        ),
    ],
)  # fmt: skip
def test_refusals(source: str, said: str) -> None:
    assert said in refusal("\n" + source)


@pytest.mark.parametrize(
    "source",
    [
        LOOPS % "",
        "{{ 9 ** (9 ** 9) }}",
        LOOPS % "{{ '' if range(99999)|sum }}",
    ],
)
def test_loops_end(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "CPU_SECONDS", 0.5)
    assert "takes more than 0.5 s" in refusal(source)


def test_the_culprit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "CPU_SECONDS", 0.5)
    good = Template("good.xml", "{{ instance.name }}")
    bad = Template("a.xml", "{{ 9 ** (9 ** 9) }}")
    with pytest.raises(TemplateError, match=r"^a\.xml: rendering takes"):
        template.render_all([(good, SAMPLE), (bad, SAMPLE), (good, SAMPLE)])


def test_many() -> None:
    many = range(template.BATCH + 2)
    jobs = [(Template("a", "{{ n }}"), {"n": n}) for n in many]
    done = [each.text for each in template.render_all(jobs)]
    assert done == [str(n) for n in many]
    assert template.render_all([]) == []


def test_the_working_folder_is_not_imported(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jinja2.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    assert rendered("a").text == "a"


def test_every_filter_is_there() -> None:
    jinja = rendering.environment()
    assert set(jinja.filters) == set(rendering.FILTERS)
    assert set(jinja.globals) == set(rendering.GLOBALS)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("<domain>\n<a>\n</domain>", r"^a\.xml, line 3: Not well-formed"),
        ("{% if 1 %}\n<domain>\n<b a=1/></domain>", r"^a\.xml, line 3: Not"),
        ("", "Not well-formed"),
        ("<b/>", "root element is <b>"),
        ("<!DOCTYPE a [<!ENTITY b SYSTEM '/etc/passwd'>]><domain>&b;</domain>",
         "document type declaration"),
        ("<domain>" + "<a>" * 300 + "</a>" * 300 + "</domain>", "depth"),
    ],
)  # fmt: skip
def test_no_domain(source: str, said: str) -> None:
    done = rendered(source + ("{% endif %}" if "if" in source else ""))
    with pytest.raises(TemplateError, match=said) as caught:
        done.root()
    assert "\n" not in str(caught.value)


def test_files(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text("<domain/>\n")
    assert Template.read(str(path)) == Template(str(path), "<domain/>\n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"x" * (10 << 20), "more than 1048576 bytes"),
        (b"\xff", "can't be read"),
        (b"a\x01b", "control character"),
        (None, "No such file"),
    ],
)
def test_bad_files(
    tmp_path: pathlib.Path, data: bytes | None, said: str
) -> None:
    path = tmp_path / "a.xml"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(TemplateError, match=said) as caught:
        Template.read(str(path))
    assert str(path) in str(caught.value)
