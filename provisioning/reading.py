"""Pictures from outside are decoded by a child process that may use so much memory and time, and write nothing.

A picture's header is checked first (:mod:`edge.sight.header`); what a decoder does with the rest is a decoder's secret.
One child reads picture after picture; one that is stopped or dies takes its picture with it and no other.
"""

from __future__ import annotations

import json
import os
import resource
import select
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edge.errors import ImageUnreadable
from edge.sight.picture import AGAIN, MAX_PIXELS
from provisioning.photograph import decode_photograph

__all__ = ["PictureReader"]

MEMORY = 4 << 30
"""Bytes of address space: a picture of 80 million pixels with transparency takes two thirds of it."""
SECONDS = 30.0
"""A picture of 80 million pixels takes three on a slow machine."""
LARGEST = 400_000_000
"""Bytes of a file at most: 80 million pixels with 16 bits each, not compressed."""
_HEAD = struct.Struct("<cQII")
"""Whether it was read, length of what follows, width, height."""
_LENGTH = struct.Struct("<Q")


class PictureReader:
    """Reads pictures in a child process. A context manager; the child is made with the first picture.

    Args:
        seconds: for one picture.
        memory: bytes of the child's address space.
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY) -> None:
        self._seconds = seconds
        self._memory = memory
        self._child: subprocess.Popen[bytes] | None = None

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Read a picture as :func:`provisioning.photograph.decode_photograph` does.

        Raises:
            ImageUnreadable: see there; also when it takes too long or too much memory.
        """
        name = str(path)
        try:
            with path.open("rb") as stream:
                data = stream.read(LARGEST + 1)
        except OSError as error:
            raise ImageUnreadable(name, f"cannot be read ({error.strerror})", "Check the path") from None
        if not data:
            raise ImageUnreadable(name, "is empty", AGAIN)
        if len(data) > LARGEST:
            raise ImageUnreadable(name, f"is larger than {LARGEST // 1_000_000} MB", "Scale it down")
        deadline = time.monotonic() + self._seconds
        try:
            child = self._running()
            self._send(child, json.dumps(name).encode(), data, deadline)
            head = self._receive(child, _HEAD.size, deadline)
            good, length, width, height = _HEAD.unpack(head)
            if length > 3 * MAX_PIXELS or (good == b"+" and length != 3 * width * height):
                raise EOFError
            body = self._receive(child, length, deadline)
        except TimeoutError:
            self.close()
            raise ImageUnreadable(
                name, f"takes longer than {self._seconds:.0f} s to read", "Do not use it; find out where it is from"
            ) from None
        except (OSError, EOFError):
            self.close()
            raise ImageUnreadable(
                name, "broke the reader of pictures", "Do not use it; find out where it is from"
            ) from None
        if good != b"+":
            raise ImageUnreadable(name, *json.loads(bytes(body)))
        return np.frombuffer(body, np.uint8).reshape(height, width, 3)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            command = [sys.executable, "-P", "-m", "provisioning.reading", str(self._memory)]
            self._child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
            )
            assert self._child.stdin is not None
            os.set_blocking(self._child.stdin.fileno(), False)
        return self._child

    def _send(self, child: subprocess.Popen[bytes], name: bytes, data: bytes, deadline: float) -> None:
        assert child.stdin is not None
        left = memoryview(_LENGTH.pack(len(name)) + name + _LENGTH.pack(len(data)) + data)
        while left:
            _, ready, _ = select.select([], [child.stdin], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            left = left[os.write(child.stdin.fileno(), left) :]

    def _receive(self, child: subprocess.Popen[bytes], length: int, deadline: float) -> bytearray:
        assert child.stdout is not None
        found = bytearray(length)
        view = memoryview(found)
        while view:
            ready, _, _ = select.select([child.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
            count = os.readv(child.stdout.fileno(), [view])
            if not count:
                raise EOFError
            view = view[count:]
        return found

    def close(self) -> None:
        """Stop the child; safe to call twice."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for pipe in (self._child.stdin, self._child.stdout):
                if pipe is not None:
                    pipe.close()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# -- the child -----------------------------------------------------------------------------------


def _limit(memory: int) -> None:
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        resource.setrlimit(kind, (most, most))


def _take(stream: Any) -> bytes | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return bytes(stream.read(_LENGTH.unpack(head)[0]))


def _answer(name: str, data: bytes) -> tuple[bytes, int, int, Any]:
    try:
        image = decode_photograph(data, name)
    except ImageUnreadable as error:
        return b"-", 0, 0, json.dumps([error.cause, error.next_step]).encode()
    except MemoryError:
        words = ["takes more memory to read than is allowed", "Scale it down"]
        return b"-", 0, 0, json.dumps(words).encode()
    return b"+", image.shape[1], image.shape[0], image


def main() -> int:
    """Decode what comes in until it ends."""
    _limit(int(sys.argv[1]))
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while (name := _take(source)) is not None and (data := _take(source)) is not None:
        good, width, height, body = _answer(json.loads(name), data)
        view = memoryview(body).cast("B")
        sink.write(_HEAD.pack(good, len(view), width, height))
        sink.write(view)
        sink.flush()
        if good == b"+":
            body.fill(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
