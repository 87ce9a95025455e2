"""What the running service tells the crew's page, and does for it: the other side of :mod:`edge.console.hatch`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edge.assembly.van import Van
from edge.clock import Clock
from edge.config import Config
from edge.console import wire
from edge.console.hatch import Hatch
from edge.console.wire import Answer, Camera, Checks, Done, Fact, Line, Picture, Question, Report, socket_file
from edge.errors import BadInput, EdgeError, for_crew
from edge.state import Condition, Part, VanState
from edge.system import machine
from edge.system.board import StatusBoard
from edge.worker import Supervisor

__all__ = ["CrewDesk", "cameras", "crew_hatch"]

CAMERA = "1"
HOT_C = 80.0
"""From here on the boards that we name slow themselves down."""
LITTLE = 0.1
"""Of a disk that has less left than this share, the crew is told."""


@contextmanager
def crew_hatch(config: Config, van: Van, board: StatusBoard, clock: Clock, workers: Supervisor) -> Iterator[None]:
    """Answer the crew's page while this is entered.

    Raises:
        ConfigInvalid, StoreUnavailable: see :class:`edge.console.hatch.Hatch`.
    """
    hatch = Hatch(socket_file(config), CrewDesk(config, van, board, clock).answer, config.page.account)
    hatch.start(workers)
    try:
        yield
    finally:
        hatch.stop()


def cameras(state: VanState, names: dict[str, str]) -> tuple[Camera, ...]:
    """Each camera as the state has it.

    Args:
        state: the van's.
        names: of each camera, by identifier.
    """
    found = []
    for key, name in names.items():
        mine = [each for each in state.troubles if each.part is Part.CAMERA and each.key.partition("/")[0] == key]
        blocked = any(each.blocks for each in mine)
        found.append(Camera(key, name, not blocked and key in state.cameras, tuple(each.why for each in mine)))
    return tuple(found)


class CrewDesk:
    """Answers the page's questions. For the hatch's worker.

    Args:
        config: the van's.
        van: its parts.
        board: its state.
        clock: for what is left of the authority.
    """

    def __init__(self, config: Config, van: Van, board: StatusBoard, clock: Clock) -> None:
        self._config = config
        self._van = van
        self._board = board
        self._clock = clock

    def answer(self, question: Question) -> tuple[Answer, bytes]:
        """The answer, and the picture that goes with it.

        Raises:
            EdgeError: it cannot be done; says why.
        """
        trail = self._van.trail
        match question:
            case wire.AskReport():
                return self._report(), b""
            case wire.AskPicture(camera=camera, after=after):
                if camera != CAMERA:
                    raise BadInput(f"camera {camera}", "is not on this van", "Choose a camera that the page shows")
                number, picture = self._van.live.latest(after)
                return Picture(number), picture
            case wire.AskSelfTest():
                return Checks(tuple(self._checks())), b""
            case wire.AskEnd(by=by, reason=reason):
                self._van.mandate.end(f"ended by the crew, officer {by}: {reason}")
                return Done(), b""
            case wire.NoteSignIn(by=by, role=role, place=place):
                trail.signed_in(by, role, place)
            case wire.NoteSignInRefused(by=by, error=error, place=place, unlogged=unlogged):
                trail.sign_in_refused(by, error, place, unlogged)
            case wire.NoteSignOut(by=by, cause=cause):
                trail.signed_out(by, cause)
        return Done(), b""

    def _report(self) -> Report:
        state, authority, now = self._board.state, self._van.mandate.authority, self._clock.now()
        waits = authority is not None and now < authority.starts
        ready = waits and {trouble.part for trouble in state.blocking} == {Part.PERMISSION}
        return Report(
            self._board.health,
            cameras(state, {CAMERA: self._van.capture.name}),
            tuple(self._facts(state)),
            None if authority is None else authority.ends,
            ready=ready and state.condition is Condition.NOT_MATCHING,
        )

    def _facts(self, state: VanState) -> Iterator[Fact]:
        authority, position = self._van.mandate.authority, self._van.here.positions.position()
        yield Fact("Place", authority.place.name if authority is not None else "")
        inside = None
        if authority is not None and position is not None:
            inside = authority.place.contains(position.latitude, position.longitude)
        yield Fact("In the place", "" if inside is None else "yes" if inside else "no", inside)
        yield Fact("List approved", f"{authority.authorised_at.astimezone():%d.%m. %H:%M}" if authority else "")
        away = any(each.part is Part.LINK for each in state.troubles)
        yield Fact("Control room", "cannot be reached" if away else "reachable", not away)
        disk = machine.free_share(self._config.path(self._config.store.directory))
        yield Fact("Disk", f"{disk[0]:.1f} GB" if disk else "", disk[1] >= LITTLE if disk else None)
        warm, slow = machine.temperature_c(), machine.throttled()
        yield Fact(
            "Temperature", f"{warm:.0f} °C" if warm is not None else "", warm < HOT_C if warm is not None else None
        )
        yield Fact("Slowed down", "" if slow is None else "yes" if slow else "no", None if slow is None else not slow)
        fed = machine.powered()
        yield Fact("Power", "" if fed is None else "connected" if fed else "not connected", fed)
        faces = self._van.live.words()
        yield Fact("Size of faces", faces, not faces.endswith("closer") if faces else None)
        sure = self._van.here.clock_trust.confirmed()
        yield Fact("Clock", "confirmed" if sure else "not confirmed", sure)

    def _checks(self) -> Iterator[Line]:
        """Every part as the running service finds it now; the disk is written to."""
        state = self._board.state
        try:
            self._van.outbox.prove()
            yield Line("disk", good=True, detail="takes what is written to it")
        except EdgeError as error:
            yield Line("disk", good=False, detail=for_crew(error))
        for part in Part:
            if part is Part.DISK:
                continue
            wrong = [each.why for each in state.troubles if each.part is part]
            yield Line(str(part), good=not wrong, detail=" ".join(wrong))
