"""A network camera on loopback: an RTSP server (RFC 2326) that sends MPEG-4 video as RTP over its own TCP connection.

It can fall silent as real ones do: ``mute`` keeps the connection and sends nothing, ``deaf`` accepts and never answers,
``gone`` refuses every connection. Video travels as RFC 6416 has it: a frame's bytes in packets, the last one marked.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

SIZE = (320, 240)
FPS = 20
PACKET = 1200


def street(number: int = 0, size: tuple[int, int] = SIZE) -> NDArray[np.uint8]:
    """A picture with edges, bright and dark places and a sensor's noise: what a camera shows that has nothing wrong."""
    places = np.random.default_rng(7).integers(20, 230, (size[1] // 16, size[0] // 16, 3), np.uint8)
    picture = np.asarray(cv2.resize(places, size, interpolation=cv2.INTER_NEAREST)).astype(np.int16)
    noise = np.random.default_rng(number).normal(0, 3, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


def film(pictures: Sequence[NDArray[np.uint8]] | None = None) -> list[bytes]:
    """Encoded frames of a small video, each one on its own: every frame is a key frame."""
    encoded = []
    for picture in [street(number) for number in range(10)] if pictures is None else pictures:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "one.avi"
            size = (picture.shape[1], picture.shape[0])
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"XVID"), FPS, size)
            writer.write(picture)
            writer.release()
            content = path.read_bytes()
        at = content.index(b"00dc", content.index(b"movi"))
        length = struct.unpack("<I", content[at + 4 : at + 8])[0]
        encoded.append(content[at + 8 : at + 8 + length])
    return encoded


class RtspCamera:
    """See the module. Use it as a context manager.

    Args:
        password: ``user:password`` that it asks for (Basic), or nothing.
    """

    def __init__(self, password: str = "") -> None:
        self._film = film()
        self._password = password
        self._talk = threading.Event()
        self._talk.set()
        self.deaf = False
        self.sent = 0
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.gone()
        self._ended.set()
        self._talk.set()
        for thread in self._threads:
            thread.join(5)

    @property
    def address(self) -> str:
        return f"rtsp://{self._password + '@' if self._password else ''}127.0.0.1:{self.port}/street"

    def shows(self, pictures: Sequence[NDArray[np.uint8]] | None = None) -> None:
        """From the next picture on, show these again and again; the street when none are given."""
        self._film = film(pictures)

    def mute(self) -> None:
        self._talk.clear()

    def speak(self) -> None:
        self._talk.set()

    def hang_up(self) -> None:
        """Cut every connection; new ones are taken."""
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()
        self._open.clear()

    def gone(self) -> None:
        """Cut every connection and take none any more."""
        with contextlib.suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.hang_up()

    def _run(self, work, *arguments) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                self._open.append(connection)
                self._run(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as both:
            while not self._ended.is_set():
                request = self._request(both)
                if not request:
                    return
                if self.deaf:
                    self._ended.wait(30)
                    return
                if self._answer(both, request) == "PLAY":
                    self._play(connection)
                    return

    @staticmethod
    def _request(both) -> list[str]:
        lines = []
        while (line := both.readline().decode().strip()) or not lines:
            if not line:
                return []
            lines.append(line)
        return lines

    def _answer(self, both, request: list[str]) -> str:
        method = request[0].split()[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in request[1:])}
        status, extra, body = "200 OK", "", ""
        wanted = f"Basic {base64.b64encode(self._password.encode()).decode()}"
        if self._password and method != "OPTIONS" and headers.get("authorization") != wanted:
            status, extra = "401 Unauthorized", 'WWW-Authenticate: Basic realm="street"\r\n'
        elif method == "OPTIONS":
            extra = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=street\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                "c=IN IP4 127.0.0.1\r\na=rtpmap:96 MP4V-ES/90000\r\na=fmtp:96 profile-level-id=1\r\na=control:video\r\n"
            )
            extra = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n"
        elif method == "SETUP":
            extra = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 7\r\n"
        both.write(f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq', '0')}\r\n{extra}\r\n{body}".encode())
        both.flush()
        return method if status.startswith("200") else ""

    def _play(self, connection: socket.socket) -> None:
        sequence, stamp = 0, 0
        turn = 0
        while not self._ended.is_set():
            self._talk.wait()
            frame = self._film[turn % len(self._film)]
            parts = [frame[at : at + PACKET] for at in range(0, len(frame), PACKET)]
            for number, part in enumerate(parts, start=1):
                marked = 0x80 if number == len(parts) else 0
                head = struct.pack(">BBHII", 0x80, 96 | marked, sequence & 0xFFFF, stamp & 0xFFFFFFFF, 7)
                connection.sendall(b"$\x00" + struct.pack(">H", len(head) + len(part)) + head + part)
                sequence += 1
            stamp += 90_000 // FPS
            self.sent += 1
            turn += 1
            time.sleep(1 / FPS)
