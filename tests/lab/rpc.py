# SPDX-License-Identifier: Apache-2.0
"""See libvirt's remote procedure calls where they pass: on the wire.

A proxy before a libvirtd's socket. Calls are counted whatever the client is
made of, and none can be forgotten; answers can be looked at before the client
has them. The framing is libvirt's own (``struct virNetMessageHeader``): six
32-bit words, big-endian, after the length.
"""

import contextlib
import socket
import struct
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

import libvirt

_LENGTH = struct.Struct(">I")
# Program, version, procedure, type, serial, status.
_HEADER = struct.Struct(">IIIIII")
_REMOTE_PROGRAM = 0x20008086  # keepalive, for one, is another program
_CALL = 0
_REPLY = 1
_OK = 0
_ERROR = 1
_MESSAGE = 2
_KEEPALIVE_PROGRAM = 0x6B656570
_PONG = 2

GET_ALL_DOMAIN_STATS = 344


class CountingProxy:
    """Stands before ``target``, a libvirtd's socket; ``uri`` leads here.

    ``calls`` counts by procedure number (``enum remote_procedure``).
    """

    def __init__(self, target: Path) -> None:
        self.calls: Counter[int] = Counter()
        #: Runs before a call is passed on, with its procedure number.
        self.on_call: Callable[[int], None] = lambda procedure: None
        #: Runs before an answer that is no error is passed on, with the
        #: procedure number and the answer in XDR.
        self.on_answer: Callable[[int, bytes], None] = lambda *_: None
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="libvirt-proxy-")
        self._path = Path(self._folder.name) / "socket"
        self._server = socket.socket(socket.AF_UNIX)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []

    @property
    def uri(self) -> str:
        """For libvirt's clients."""
        return f"qemu+unix:///system?socket={self._path}"

    def __enter__(self) -> "CountingProxy":
        self._server.bind(str(self._path))
        self._server.listen()
        self._run(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Clients must see that this is the end, or they wait for answers.
        for end in [self._server, *self._ends]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._folder.cleanup()

    @staticmethod
    def _run(target: Callable[..., None], *args: object) -> None:
        threading.Thread(target=target, args=args, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return  # closed
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(str(self._target))
            except OSError:  # nobody is there: say so, as without a proxy
                _end(server)
                _end(client)
                continue
            self._ends += [client, server]
            self._run(self._forward, client, server, self._see_call)
            self._run(self._forward, server, client, self._see_answer)

    def _see_call(self, procedure: int, kind: int, _: int, __: bytes) -> None:
        if kind == _CALL:
            with self._lock:
                self.calls[procedure] += 1
            self.on_call(procedure)

    def _see_answer(
        self, procedure: int, kind: int, status: int, payload: bytes
    ) -> None:
        if kind == _REPLY and status == _OK:
            self.on_answer(procedure, payload)

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        see: Callable[[int, int, int, bytes], None],
    ) -> None:
        """One way, message by message."""
        with contextlib.suppress(OSError):  # a side closed
            for prefix, body in _messages(source):
                program, _, procedure, kind, _, status = _HEADER.unpack_from(
                    body
                )
                if program == _REMOTE_PROGRAM:
                    see(procedure, kind, status, body[_HEADER.size :])
                sink.sendall(prefix + body)
        _end(sink)


class ModularProxy(CountingProxy):
    """Behaves as virtproxyd is seen to, in front of any libvirt daemon.

    A stand-in: Debian has no modular daemons. When the daemon has gone, the
    client's connection stays; each call is answered with an error.
    """

    def __init__(self, target: Path) -> None:
        super().__init__(target)
        #: Calls without an answer, by client and serial number.
        self._open: dict[tuple[socket.socket, int], bytes] = {}

    def _forward(
        self,
        source: socket.socket,
        sink: socket.socket,
        see: Callable[[int, int, int, bytes], None],
    ) -> None:
        if see == self._see_call:
            with contextlib.suppress(OSError):
                self._pass_calls(source, sink)
            _end(sink)
            return
        with contextlib.suppress(OSError):  # a daemon that is killed resets
            for prefix, body in _messages(source):
                self._open.pop((sink, _serial(body)), None)
                sink.sendall(prefix + body)
        with contextlib.suppress(OSError):
            for client, serial in list(self._open):
                if client is sink:
                    self._refuse(sink, serial)

    def _pass_calls(
        self, client: socket.socket, server: socket.socket
    ) -> None:
        for prefix, body in _messages(client):
            self._open[client, _serial(body)] = body
            try:
                server.sendall(prefix + body)
            except OSError:  # it has gone
                self._refuse(client, _serial(body))

    def _refuse(self, client: socket.socket, serial: int) -> None:
        call = self._open.pop((client, serial), None)
        if call is not None:
            client.sendall(_refusal(call))


def _serial(message: bytes) -> int:
    serial: int = _HEADER.unpack_from(message)[4]
    return serial


def _refusal(call: bytes) -> bytes:
    """The answer to a call that can't be passed on."""
    program, version, procedure, _, serial, _ = _HEADER.unpack_from(call)
    if program == _KEEPALIVE_PROGRAM:
        head = _HEADER.pack(program, version, _PONG, _MESSAGE, serial, _OK)
        return _LENGTH.pack(_LENGTH.size + len(head)) + head
    text = b"internal error: client socket is closed"
    # struct virNetMessageError: code and domain, a text, the level, and what
    # is not there.
    error = struct.pack(
        f">iiII{len(text)}s{-len(text) % 4}xi4IiiI",
        libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC,
        1, len(text), text, libvirt.VIR_ERR_ERROR,
        0, 0, 0, 0, -1, -1, 0,
    )  # fmt: skip
    head = _HEADER.pack(program, version, procedure, _REPLY, serial, _ERROR)
    return _LENGTH.pack(_LENGTH.size + len(head) + len(error)) + head + error


def _messages(source: socket.socket) -> Iterator[tuple[bytes, bytes]]:
    """Length and rest of each that comes whole."""
    with source.makefile("rb") as stream:
        while len(prefix := stream.read(_LENGTH.size)) == _LENGTH.size:
            (length,) = _LENGTH.unpack(prefix)
            body = stream.read(length - _LENGTH.size)
            if len(body) < length - _LENGTH.size:
                return
            yield prefix, body


def _end(connection: socket.socket) -> None:
    """Close it for who reads from it in another thread, too."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
