# SPDX-License-Identifier: Apache-2.0
"""A Placement that answers 401, 409, 500, nonsense, nothing: one line each."""

import json
import socket
from pathlib import Path

import pytest

from ceilometer_perf import openstack
from ceilometer_perf.guest.nova_files import NovaFiles
from ceilometer_perf.slices.placement import client, sync
from ceilometer_perf.slices.placement.errors import PlacementError
from tests.unit.placement_server import Answer, answering
from tests.unit.shell import Ran, run
from tests.unit.slice_trees import EIGHT, write_nova_conf

ADMIN = "auth_type = admin_token\ntoken = t\nendpoint = {url}\n"


def detail(text: str) -> bytes:
    return json.dumps({"errors": [{"detail": text}]}).encode()


def asked(
    tmp_path: Path,
    placement: str,
    *words: str,
    verb: str = "sync",
) -> Ran:
    conf = tmp_path / "nova.conf"
    write_nova_conf(
        conf,
        EIGHT,
        f"host = h\nstate_path = {tmp_path}",
        f"[placement]\n{placement}",
    )
    return run("slice", verb, "--nova-conf", str(conf), *words)


ANSWERS = {
    "401": (Answer(401, detail("who?")), "credentials"),
    "401 from a proxy": (Answer(401, b"<html>no</html>"), "credentials"),
    "403": (Answer(403, detail("not you")), "role"),
    "404": (Answer(404, b""), "does the endpoint lead to Placement?"),
    "406": (Answer(406, detail("max 1.10")), "1.39"),
    "409": (Answer(409, detail("conflict")), "409"),
    "500": (Answer(500, detail("oh dear")), "oh dear"),
    "500 with a page": (Answer(500, b"<p>" + b"x" * 10**5), "500"),
    "503": (Answer(503, b""), "503"),
    "not JSON": (Answer(200, b"<html>hello</html>"), "not a JSON object"),
    "bytes": (Answer(200, b"\xff\xfe\x00"), "not a JSON object"),
    "a list": (Answer(200, b"[]"), "not a JSON object"),
    "nothing in it": (Answer(200, b""), "no 'resource_providers'"),
    "another service": (Answer(200, b'{"a": 1}'), "no 'resource_providers'"),
    "other JSON": (
        Answer(200, b'{"resource_providers": 7}'),
        "are not Placement's",
    ),
    "other entries": (
        Answer(200, b'{"resource_providers": [1]}'),
        "are not Placement's",
    ),
    "null": (
        Answer(200, b'{"resource_providers": null}'),
        "are not Placement's",
    ),
    "empty": (Answer(200, b'{"resource_providers": []}'), "no compute node"),
}


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("sync", ()),
        ("choose", ("--consumer", "9a1e5c4e-7a8d-4a51-8f8b-2f6f5d1f6a10")),
    ],
)
def test_a_bad_answer_is_one_line(
    tmp_path: Path,
    name: str,
    verb: str,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sync, "ATTEMPTS", 2)
    answer, said = ANSWERS[name]
    with answering(answer) as url:
        ran = asked(tmp_path, ADMIN.format(url=url), *words, verb=verb)
    assert ran.code == 2
    assert ran.out == ""
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert len(ran.err) < 500


def test_no_answer_ends(tmp_path: Path) -> None:
    with answering(Answer(None)) as url:
        conf = ADMIN.format(url=url) + "timeout = 1\n"
        ran = asked(tmp_path, conf)
    assert ran.code == 2
    assert "no answer" in ran.err
    assert ran.err.count("\n") == 1


def test_half_an_answer_is_one_line(tmp_path: Path) -> None:
    with answering(Answer(200, b'{"resource', late=2)) as url:
        ran = asked(tmp_path, ADMIN.format(url=url) + "timeout = 1\n")
    assert ran.code == 2
    assert ran.err.count("\n") == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as door:
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
    ran = asked(tmp_path, ADMIN.format(url=url))
    assert ran.code == 2
    assert "no answer" in ran.err
    assert ran.err.count("\n") == 1


@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ("", "auth_type is not set"),
        ("auth_type = bogus", "bogus"),
        ("auth_type = admin_token", "authentication"),
        ("auth_type = password", "auth_url"),
        ("auth_type = none\nendpoint = not a url", "not a url"),
        ("auth_type = none\ntimeout = soon", "timeout"),
    ],
)
def test_settings_that_lead_nowhere_are_named(
    tmp_path: Path, placement: str, said: str
) -> None:
    ran = asked(tmp_path, placement)
    assert ran.code == 2
    assert said in ran.err
    assert ran.err.count("\n") == 1


def test_errors_are_json_too(tmp_path: Path) -> None:
    with answering(Answer(401, detail("who?"))) as url:
        ran = asked(tmp_path, ADMIN.format(url=url), "-f", "json")
    error = json.loads(ran.err)
    assert error["error"] == "PlacementError"
    assert "who?" in error["message"]


def test_settings_are_read_as_nova_reads_them(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text(
        "[placement]\nauth_type = none\n"
        "endpoint_override = http://127.0.0.1:1/placement\n"
        "region_name = r\nvalid_interfaces = admin\nconnect_retries = 3\n"
    )
    ksa = client.connect(NovaFiles((conf,)))._api.ksa
    assert ksa.endpoint_override == "http://127.0.0.1:1/placement"
    assert ksa.region_name == "r"
    assert ksa.interface == ["admin"]
    assert ksa.service_type == "placement"
    assert ksa.default_microversion == "1.39"
    assert ksa.connect_retries == 3
    assert ksa.session.timeout == openstack.TIMEOUT


def test_the_host_has_a_name_of_its_own(tmp_path: Path) -> None:
    conf = tmp_path / "nova.conf"
    conf.write_text("")
    assert client.host(NovaFiles((conf,))) == socket.gethostname()
    conf.write_text("[DEFAULT]\nhost = compute-1\n")
    assert client.host(NovaFiles((conf,))) == "compute-1"


def test_no_conf_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="nope") as caught:
        client.connect(NovaFiles((tmp_path / "nope",)))
    assert not isinstance(caught.value, PlacementError)
