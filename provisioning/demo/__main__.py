"""The whole main job on one machine, with every part real: see ``scripts/demo --help``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from rich.console import Console

from edge.errors import BadInput, EdgeError, VideoUnreadable
from provisioning.demo.deployment import Deployment
from provisioning.demo.footage import Footage, own_video, rendered_scene
from provisioning.demo.show import Pages
from provisioning.demo.summary import summarise

DESCRIPTION = """\
Do the whole main job on this machine: build an encrypted list from photographs, watch a street scene, send alerts
over MQTT with mutual TLS to a control room that verifies and decrypts them, forget everybody else, and destroy the
list. Without options the scene is rendered from public-domain portraits; with --video and --watchlist it is yours.
The last line on standard output is a JSON summary."""


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=DESCRIPTION)
    parser.add_argument("--video", type=Path, metavar="FILE", help="watch this video instead of the rendered scene")
    parser.add_argument("--watchlist", type=Path, metavar="DIR", help="enrol from here; a folder per reference")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", default=Path(".demo"), help="for everything it makes (.demo)"
    )
    parser.add_argument("--threshold", type=float, default=None, help="score that raises an alert")
    parser.add_argument("--every-frame", action="store_true", help="drop no frame, however slow this machine is")
    parser.add_argument("--show", action="store_true", help="open the pages in a browser; Enter ends the demo")
    options = parser.parse_args(given)
    if (options.video is None) != (options.watchlist is None):
        parser.error("--video and --watchlist go together")
    return options


def _fresh(folder: Path) -> Path:
    """An empty folder for this run; the one of the run before goes, but nothing that is not ours."""
    marker = folder / ".lfr-demo"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise BadInput(str(folder), "is not empty and was not made by the demo", "Give another folder with --out")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    marker.touch()
    return folder


def _footage(options: argparse.Namespace, console: Console) -> Footage:
    if options.video is not None:
        return own_video(options.video, options.watchlist)
    return rendered_scene(Path(".cache").resolve() / "demo", console)


def main(given: list[str] | None = None) -> int:
    """Run the demo; returns its exit code."""
    options = _arguments(sys.argv[1:] if given is None else given)
    console = Console(stderr=False, highlight=False, soft_wrap=True)
    try:
        footage = _footage(options, console)
        folder = _fresh(options.out).resolve()
        pages = Pages(console, opened=options.show)
        with Deployment(
            folder, footage, console, threshold=options.threshold, live=not options.every_frame, pages=pages
        ) as deployment:
            result = deployment.run()
            summary = summarise(result, footage, deployment.incidents)
            for line in summary.lines:
                console.print(line)
            pages.wait()
    except EdgeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("demo: stopped by hand; every process it started has ended", file=sys.stderr)
        return 130
    print(json.dumps(summary.figures), flush=True)
    if result.incomplete:
        return VideoUnreadable.exit_code
    return 0 if summary.good else 1


if __name__ == "__main__":
    sys.exit(main())
