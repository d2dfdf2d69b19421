"""Speak to a running engine over its control socket.

A request is one line of words; in a word every byte that is not printable ASCII
(and ``%``) is ``%XX``.  The answer is lines of JSON: any number of progress, then
one with ``ok``.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from collections.abc import Callable
from typing import Any

from vswap.errors import VswapError
from vswap.monitor.sockets import Endpoint

PROTOCOL = 1
"""What this client speaks."""

_ANSWER_MOST = 1 << 20
_GREETING_SECONDS = 10.0
_CREDENTIALS = struct.Struct("3i")
_TIMEVAL = struct.Struct("2l")

Progress = Callable[[int, int], None]


class RefusedError(VswapError):
    """The engine said no; the sentence is its own."""


class CancelledError(RefusedError):
    """The engine ended what was under way because it was asked to."""


class Control:
    """A conversation with one engine; ends with the ``with`` block."""

    def __init__(self, endpoint: Endpoint, *, patience: float = _GREETING_SECONDS) -> None:
        """Connect, and make sure that it is the engine that is meant."""
        self.endpoint = endpoint
        self._patience = patience
        self._held = b""
        self._cancelled = False
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._connect()
            self.about = self.ask("hello", patience=patience)
            if self.about.get("protocol") != PROTOCOL:
                raise VswapError(
                    f"process {endpoint.pid} speaks protocol {self.about.get('protocol')}, "
                    f"this vswap {PROTOCOL}: use the vswap it was started with"
                )
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Control:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def ask(
        self, *words: str, on_progress: Progress | None = None, patience: float | None = None
    ) -> dict[str, Any]:
        """Return the engine's answer, or raise RefusedError with its sentence.

        ``patience`` is how many seconds it may say nothing; without one it may
        take as long as it takes.
        """
        self._socket.settimeout(patience)
        # Who refuses a client says why, and may have hung up before it has asked.
        with contextlib.suppress(OSError):
            self._socket.sendall(encode(words))
        return self._answer(on_progress)

    def cancel(self) -> None:
        """Ask the engine to end what ``ask`` waits for; ``ask`` then says how it ended.

        Only sends, so a signal's handler may call it.
        """
        self._cancelled = True
        with contextlib.suppress(OSError):
            self._socket.sendall(encode(("cancel",)))

    def _connect(self) -> None:
        """Connect and look who listens: a name may be taken by anybody."""
        pid = self.endpoint.pid
        # With a timeout of Python's a full backlog would be an error at once; like this it is waited for.
        patience = _TIMEVAL.pack(int(self._patience), int(self._patience % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, patience)
        try:
            self._socket.connect("\0" + self.endpoint.name)
            found = self._socket.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
            )
        except BlockingIOError as error:
            raise VswapError(f"process {pid} does not answer (is it stopped?)") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise VswapError(f"process {pid} cannot be asked: {reason}") from error
        if _CREDENTIALS.unpack(found)[0] != pid:
            raise VswapError(f"process {pid} cannot be asked: another process has its name")

    def _answer(self, on_progress: Progress | None) -> dict[str, Any]:
        """Read up to the last line of an answer."""
        while True:
            answer = self._read()
            progress = answer.get("progress")
            if progress is not None:
                if on_progress is not None:
                    on_progress(int(progress["done_bytes"]), int(progress["total_bytes"]))
            elif answer.get("ok") is True:
                result: dict[str, Any] = answer.get("result", {})
                return result
            else:
                kind = CancelledError if self._cancelled else RefusedError
                raise kind(str(answer.get("error", "the engine refused")))

    def _read(self) -> dict[str, Any]:
        """Return the next line of JSON."""
        pid = self.endpoint.pid
        while b"\n" not in self._held:
            try:
                got = self._socket.recv(65536)
            except TimeoutError as error:
                raise VswapError(f"process {pid} does not answer (is it stopped?)") from error
            except OSError as error:
                raise VswapError(f"process {pid} hung up: {error.strerror}") from error
            if not got:
                raise VswapError(f"process {pid} hung up (has it ended?)")
            self._held += got
            if len(self._held) > _ANSWER_MOST:
                raise VswapError(f"process {pid} answers with something that is no answer")
        line, _, self._held = self._held.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise VswapError(f"process {pid} answers with something that is no answer")
        return answer


def encode(words: tuple[str, ...]) -> bytes:
    """Return a request's line."""
    return b" ".join(_escaped(word) for word in words) + b"\n"


def _escaped(word: str) -> bytes:
    """Return a word with everything but printable ASCII as %XX."""
    return b"".join(
        bytes((byte,)) if 0x20 < byte < 0x7F and byte != 0x25 else b"%%%02X" % byte
        for byte in word.encode("utf-8", "surrogateescape")
    )
