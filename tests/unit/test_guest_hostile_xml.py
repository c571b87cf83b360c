# SPDX-License-Identifier: Apache-2.0
"""XML from people who mean harm: a clear error, soon, and nothing read."""

import pathlib
import time
from collections.abc import Iterator

import pytest

from ceilometer_perf import guest
from ceilometer_perf.guest import errors, xml

SECONDS = 60.0  # what hangs takes for ever, and machines may be busy

REALTIME = guest.Requirements(
    perf_events=("cpu_clock",),
    locked=True,
    realtime=guest.Realtime(frozenset({1}), frozenset({0})),
)


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


def refused(document: str | bytes) -> str:
    with pytest.raises(errors.DomainXMLError) as caught:
        guest.apply(document, REALTIME)
    return str(caught.value)


def test_billion_laughs() -> None:
    lols = "".join(
        f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 10)
    )
    dtd = f"<!DOCTYPE domain [<!ENTITY l0 'lol'>{lols}]>"
    for body in "<domain>&l9;</domain>", "<domain a='&l9;'/>":
        assert "document type" in refused(dtd + body)


def test_quadratic_blowup() -> None:
    dtd = f"<!DOCTYPE domain [<!ENTITY a '{'a' * 100_000}'>]>"
    assert "document type" in refused(f"{dtd}<domain>{'&a;' * 1000}</domain>")


def test_no_file_is_read(tmp_path: pathlib.Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    dtd = f"<!DOCTYPE domain [<!ENTITY x SYSTEM '{secret.as_uri()}'>]>"
    message = refused(f"{dtd}<domain>&x;</domain>")
    assert "document type" in message
    assert "the secret" not in message


def test_no_dtd_is_loaded(tmp_path: pathlib.Path) -> None:
    dtd = tmp_path / "domain.dtd"
    dtd.write_text("<!ATTLIST domain type CDATA 'lxc'>")
    for where in dtd.as_uri(), "http://192.0.2.1/domain.dtd":
        assert "document type" in refused(
            f'<!DOCTYPE domain SYSTEM "{where}"><domain/>'
        )


@pytest.mark.parametrize("encoding", ["utf-7", "utf-16", "cp037"])
def test_no_encoding_hides_a_dtd(encoding: str) -> None:
    text = (
        f"<?xml version='1.0' encoding='{encoding}'?>"
        "<!DOCTYPE domain [<!ENTITY x 'y'>]><domain>&x;</domain>"
    )
    refused(text.encode(encoding))


def test_a_dtd_in_a_comment_is_a_comment() -> None:
    text = "<!-- <!DOCTYPE x> --><domain><!-- <!DOCTYPE x> --></domain>"
    assert guest.apply(text, guest.Requirements()) == text


def test_deep_nesting() -> None:
    depth = 200_000
    refused("<domain>" + "<a>" * depth + "</a>" * depth + "</domain>")


def test_too_long() -> None:
    spaces = " " * xml.MAX_BYTES
    assert str(xml.MAX_BYTES) in refused(f"<domain>{spaces}</domain>")


@pytest.mark.parametrize(
    "line",
    [
        "<vcpupin vcpu='{n}' cpuset='0-99999999999'/>",
        "<vcpusched vcpus='0-8191,^{n}' scheduler='rr' priority='1'/>",
        "<iothreadpin iothread='{n}' cpuset='0-8191,^{n}'/>",
        "<emulatorpin cpuset='0-8191,^{n}'/>",
        "<!-- --><a b='c'/>",
    ],
)
def test_many_elements(line: str) -> None:
    lines = "".join(line.format(n=n) for n in range(30_000))
    document = (
        f"<domain><vcpu>2</vcpu><iothreads>1024</iothreads>"
        f"<cputune>{lines}</cputune></domain>"
    )
    # That is no domain, but it must not take for ever to find out.
    try:
        guest.apply(document, REALTIME)
    except guest.GuestError:
        return


def test_many_comments_before_the_root() -> None:
    text = "<!---->" * 100_000 + "<domain/>"
    asked = guest.Requirements(perf_events=("cpu_clock",))
    assert guest.apply(text, asked).startswith("<!---->" * 100_000)


@pytest.mark.parametrize(
    "text",
    ["", "no XML", "<domain>", "<network/>", "<d:domain xmlns:d='u'/>",
     "<domain><vcpu>many</vcpu></domain>",
     "<domain><vcpu>3</vcpu></domain>"],
)  # fmt: skip
def test_what_is_no_domain(text: str) -> None:
    assert refused(text)
