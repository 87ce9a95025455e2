"""Pictures → templates on all cores, for evaluation.

The van never does this: here every picture is one of a data set that its owner chose to measure with. Templates stay in
memory unless a cache is asked for; a cache holds templates in the clear and must be treated like the faces themselves.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edge.config import ModelsSection
from edge.errors import BadInput, ImageUnreadable, StoreUnavailable
from edge.records import Detections
from edge.sight import runtime
from edge.sight.align import align
from edge.sight.closer import cuts
from edge.sight.detect import Detector
from edge.sight.embed import Embedder
from edge.sight.picture import read_image

__all__ = ["Acquired", "Acquisition", "Recipe", "extract", "main_face"]

FORMAT = b"LFR-TEMPLATES-4\n"


class Acquired(StrEnum):
    """What became of one picture."""

    TEMPLATE = "template"
    UNREADABLE = "unreadable"
    NO_FACE = "no face"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which models make the templates.

    Attributes:
        detector: ``pack:variant``.
        embedders: ``pack:variant`` of each embedder; each is given chips in its own alignment.
        directory: folder of packs, or None for those that ship.
        runtime: ``litert`` or ``tflite-runtime``.
        score: lowest detector score that counts as a face.
        close_up: ``pack:variant`` of the detector of close-ups.
    """

    detector: str
    embedders: tuple[str, ...]
    directory: Path | None = None
    runtime: runtime.RuntimeName = "litert"
    score: float = 0.3
    close_up: str = ModelsSection().close_up


@dataclass(frozen=True, slots=True)
class Acquisition:
    """What one picture gave.

    Attributes:
        status: whether there is a template.
        templates: per embedder ``(2, d)`` float32: the template of one look, and of a closer look
            (:mod:`edge.sight.closer`), each of length 1; empty without a face.
        seconds: from opening the file to the templates, on this machine in this run; None where it came from the cache.
    """

    status: Acquired
    templates: tuple[NDArray[np.float32], ...] = ()
    seconds: float | None = None


def main_face(found: Detections, width: int, height: int) -> int | None:
    """Index of the face that a portrait is of: large and near the middle; None when there is no face.

    The rule is that of InsightFace's examples: area minus twice the squared distance from the middle.
    """
    if not len(found):
        return None
    size = found.boxes[:, 2:] - found.boxes[:, :2]
    away = (found.boxes[:, 2:] + found.boxes[:, :2]) / 2 - np.array([width, height], np.float32) / 2
    return int(np.argmax(size.prod(1) - 2 * (away**2).sum(1)))


def extract(
    paths: Sequence[Path],
    recipe: Recipe,
    *,
    workers: int | None = None,
    cache: Path | None = None,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Acquisition]:
    """Templates of each picture, in the order of the paths.

    Args:
        paths: the pictures.
        recipe: the models.
        workers: processes; None for one per core.
        cache: folder that keeps templates so that a run can be resumed; None keeps nothing on disk.
        progress: called with 1 for each picture that is done.

    Raises:
        ModelRejected: a model is not what its card says.
        StoreUnavailable: the cache cannot be written.
    """
    digests = _digests(recipe)  # loads the models here first, so that a wrong one is refused before any work
    done: dict[str, Acquisition] = {}
    log = _open_cache(cache, digests, done) if cache else None
    keys = [str(path) for path in paths]
    missing = []
    for key in dict.fromkeys(keys):
        if key in done:
            progress(1)
        else:
            missing.append(key)
    try:
        for key, acquisition in _work(missing, recipe, workers or os.cpu_count() or 1):
            done[key] = acquisition
            if log is not None:
                _append(log, key, acquisition)
            progress(1)
    finally:
        if log is not None:
            log.close()
    return [done[key] for key in keys]


def _work(missing: list[str], recipe: Recipe, workers: int) -> Iterator[tuple[str, Acquisition]]:
    if len(missing) < 8 or workers == 1:
        _prepare(recipe)
        yield from map(_acquire, missing)
        return
    # Fresh processes: a forked copy of a multi-threaded runtime can hang.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(missing)), _prepare, (recipe,)) as pool:
        yield from pool.imap_unordered(_acquire, missing, chunksize=4)


_tools: list[Any] = []  # of a worker process: detector, then embedders


def _prepare(recipe: Recipe) -> None:
    import cv2  # noqa: PLC0415 - only in a worker, whose threads it limits

    cv2.setNumThreads(1)
    wide, close = (
        runtime.load(name, directory=recipe.directory, kind="detector", runtime=recipe.runtime)
        for name in (recipe.detector, recipe.close_up)
    )
    _tools[:] = [Detector(wide, score=recipe.score, close=close, sure=recipe.score)]
    for reference in recipe.embedders:
        model = runtime.load(reference, directory=recipe.directory, kind="embedder", runtime=recipe.runtime)
        _tools.append(Embedder(model))


def _acquire(key: str) -> tuple[str, Acquisition]:
    began = time.perf_counter()
    found = _look(key)
    return key, replace(found, seconds=time.perf_counter() - began)


def _look(key: str) -> Acquisition:
    detector, *embedders = _tools
    try:
        image = read_image(Path(key))
    except ImageUnreadable:
        return Acquisition(Acquired.UNREADABLE)
    height, width = image.shape[:2]
    found = detector.detect(image)
    face = main_face(found, width, height)
    if face is None:
        # A face that fills the picture is larger than the detector was trained for: step back once.
        room = np.zeros((2 * height, 2 * width, 3), np.uint8)
        top, left = height // 2, width // 2
        room[top : top + height, left : left + width] = image
        image, found = room, detector.detect(room)
        face = main_face(found, 2 * width, 2 * height)
    if face is None:
        return Acquisition(Acquired.NO_FACE)
    templates, again = [], detector.look_again(image, found.boxes[face])
    for embedder in embedders:
        one = embedder.embed(align(image, found.landmarks[face], embedder.template))
        closer = embedder.embed_mean(cuts(image, found.landmarks[face], again, embedder.template))
        templates.append(np.stack([one, closer]))
    return Acquisition(Acquired.TEMPLATE, tuple(templates))


def _digests(recipe: Recipe) -> bytes:
    """What the templates depend on: every model's digest, the runtime and the score."""
    parts = [recipe.runtime, f"{recipe.score:.6f}"]
    for kind, references in (("detector", (recipe.detector,)), ("embedder", recipe.embedders)):
        for reference in references:
            model = runtime.load(reference, directory=recipe.directory, kind=kind, runtime=recipe.runtime)  # type: ignore[arg-type]
            parts.append(f"{model.digest} {model.card.input.template}")
    return hashlib.sha256("\n".join(parts).encode()).digest()


def _open_cache(folder: Path, digests: bytes, done: dict[str, Acquisition]) -> IO[bytes]:
    """Reads what an earlier run left, drops a record that was cut off, and opens the file for more."""
    path = folder / f"templates-{digests.hex()[:16]}.bin"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)
            path.write_bytes(FORMAT)
        log = path.open("r+b")
    except OSError as error:
        raise StoreUnavailable(
            str(path), f"the cache cannot be written ({error.strerror})", "Check the folder and who owns it"
        ) from error
    if log.read(len(FORMAT)) != FORMAT:
        log.close()
        raise BadInput(str(path), "it is not a cache of templates", "Delete it, or name another folder")
    while True:
        good = log.tell()
        record = _read_record(log)
        if record is None:
            log.seek(good)
            log.truncate()
            return log
        key, stamp, acquisition = record
        if stamp == _stamp(key):  # a picture that has changed since is done again
            done[key] = acquisition


def _stamp(key: str) -> int:
    try:
        status = Path(key).stat()
    except OSError:
        return 0
    return status.st_mtime_ns ^ status.st_size


def _append(log: IO[bytes], key: str, acquisition: Acquisition) -> None:
    """One record: length and checksum of what follows; then the header, the path and the templates."""
    name = key.encode()
    status = list(Acquired).index(acquisition.status)
    body = struct.pack("<HqBB", len(name), _stamp(key), status, len(acquisition.templates)) + name
    for template in acquisition.templates:
        body += struct.pack("<I", template.shape[1]) + template.tobytes()
    log.write(struct.pack("<II", len(body), zlib.crc32(body)) + body)
    log.flush()


def _read_record(log: IO[bytes]) -> tuple[str, int, Acquisition] | None:
    """The next record, or None at the end or where the file is damaged."""
    head = log.read(8)
    if len(head) < 8:
        return None
    size, checksum = struct.unpack("<II", head)
    body = log.read(size)
    if len(body) < size or zlib.crc32(body) != checksum or size < 12:
        return None
    length, stamp, status, count = struct.unpack_from("<HqBB", body)
    at = 12 + length
    templates = []
    for _ in range(count):
        (dimension,) = struct.unpack_from("<I", body, at)
        values = np.frombuffer(body, np.float32, 2 * dimension, at + 4)
        templates.append(values.reshape(2, dimension))
        at += 4 + 8 * dimension
    return body[12 : 12 + length].decode(), stamp, Acquisition(list(Acquired)[status], tuple(templates))
