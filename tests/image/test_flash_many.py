"""Several media at once, with the real tools on files: each gets its own line, and a faulty one is never used again."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge.errors import BadInput
from provisioning.image import build, cli_flash, flash, keys, ledger, many, release, sign
from provisioning.image.board import board
from provisioning.image.cli import app
from provisioning.image.many import Wanted
from provisioning.image.tools import ImageRefused, sha256_file

TOOLS = ("rauc", "mksquashfs", "openssl", "bmaptool", "sfdisk", "mformat", "mcopy")
MIB = 1 << 20


@pytest.fixture(scope="module")
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    keys.make_authority(folder / "release", "release")
    keys.issue_signer(folder / "release", "release signer", folder / "signer")
    keys.keyring([folder / "release"], folder / "keyring.pem")
    return folder / "keyring.pem"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, keyring: Path) -> Path:
    """A signed image with two small partitions."""
    if not all(shutil.which(tool, path="/usr/bin:/usr/sbin") for tool in TOOLS):
        pytest.skip("the tools that build and flash images are not installed: scripts/setup-image")
    folder = tmp_path_factory.mktemp("image")
    (folder / "bundle").mkdir()
    for name in ("sbom.cdx.json", "bundle/rootfs.img", "bundle/boot.img"):
        (folder / name).write_bytes(random.Random(name).randbytes(40_000))
    disk = folder / "disk.img"
    with disk.open("wb") as stream:
        stream.truncate(16 * MIB)
    table = f"label: gpt\nstart=2048, size={4 * 2048}, name=boot\nstart={5 * 2048}, size={2 * 2048}, name=root\n"
    subprocess.run(["sfdisk", "--quiet", disk], input=table.encode(), check=True, capture_output=True)
    subprocess.run(["mformat", "-i", f"{disk}@@1M", "-T", str(4 * 2048), "::"], check=True, capture_output=True)
    with disk.open("r+b") as stream:
        stream.seek(5 * MIB)
        stream.write(random.Random("root").randbytes(2 * MIB))
    subprocess.run(["bmaptool", "create", disk, "-o", folder / "disk.bmap"], check=True, capture_output=True)
    bare = release.Release("1.2.3", 1, "qemu-arm64", "lfr-edge-qemu-arm64", "c")
    build._bundle_content_text(folder / "bundle", bare, board("qemu-arm64"))
    digests = {str(p.relative_to(folder)): sha256_file(p) for p in folder.rglob("*") if p.is_file()}
    content = disk.read_bytes()
    for name, start, end in (("boot", 1, 5), ("root", 5, 7)):
        part = folder / "part"
        part.write_bytes(content[start * MIB : end * MIB])
        digests[f"partition/{name}"] = sha256_file(part)
        part.unlink()
    record = release.Release("1.2.3", 1, "qemu-arm64", "lfr-edge-qemu-arm64", "c", digests=digests)
    release.write(record, folder / "release.json")
    signer = keyring.parent / "signer"
    sign.sign(folder, sign.Signer(signer / "signer.crt", str(signer / "signer.key")))
    return folder


def plan(folder: Path, *numbers: int) -> list[Wanted]:
    return [Wanted(folder / f"card-{n}.img", f"card-{n}.img", f"van-{n}") for n in numbers]


def test_every_medium_gets_the_image_its_own_secret_and_its_own_line(
    image: Path, keyring: Path, tmp_path: Path
) -> None:
    told: dict[str, list[int]] = {}
    done = many.flash_many(
        image,
        keyring,
        plan(tmp_path, 1, 2, 3),
        ledger=tmp_path / "ledger",
        progress=lambda wanted, percent: told.setdefault(wanted.van, []).append(percent),
    )
    assert [d.wanted.van for d in done if d.flashed] == ["van-1", "van-2", "van-3"]
    assert {percents[-1] for percents in told.values()} == {100}
    assert set(told) == {"van-1", "van-2", "van-3"}
    lines = ledger.read(tmp_path / "ledger")
    assert sorted(line["van"] for line in lines) == ["van-1", "van-2", "van-3"]
    assert len({line["secret"] for line in lines}) == 3
    written = (tmp_path / "card-2.img").read_bytes()
    assert written[5 * MIB : 7 * MIB] == (image / "disk.img").read_bytes()[5 * MIB : 7 * MIB]


def spoil(which: str):  # type: ignore[no-untyped-def]
    def after_write(target: Path) -> None:
        if target.name == which:
            with target.open("r+b") as stream:
                stream.seek(6 * MIB)
                stream.write(b"spoiled")

    return after_write


def test_a_faulty_medium_does_not_stop_the_others_and_is_never_written_again(
    image: Path, keyring: Path, tmp_path: Path
) -> None:
    book = tmp_path / "ledger"
    good, bad = many.flash_many(image, keyring, plan(tmp_path, 1, 2), ledger=book, after_write=spoil("card-2.img"))
    assert good.flashed is not None
    assert isinstance(bad.error, flash.MediumFaulty)
    assert [line.get("van") for line in ledger.read(book) if "secret" in line] == ["van-1"]
    before = (tmp_path / "card-2.img").read_bytes()
    for again in (
        lambda: many.flash_many(image, keyring, plan(tmp_path, 3, 2), ledger=book),
        lambda: flash.flash(image, keyring, tmp_path / "card-2.img", serial="card-2.img", ledger=book),
    ):
        with pytest.raises(ImageRefused, match=r"card-2\.img was found faulty|found faulty on"):
            again()
    assert (tmp_path / "card-2.img").read_bytes() == before
    assert not (tmp_path / "card-3.img").exists(), "nothing is written when one line of the plan is refused"


def test_an_unforeseen_fault_at_one_medium_is_told_and_hides_no_other(
    image: Path, keyring: Path, tmp_path: Path
) -> None:
    def break_one(target: Path) -> None:
        if target.name == "card-1.img":
            raise RuntimeError("the hub lost its power")

    lost, good = many.flash_many(
        image, keyring, plan(tmp_path, 1, 2), ledger=tmp_path / "ledger", after_write=break_one
    )
    assert "the hub lost its power" in str(lost.error)
    assert good.flashed is not None


def test_a_wrong_serial_number_in_the_plan_stops_it_before_the_first_byte(
    image: Path, keyring: Path, tmp_path: Path
) -> None:
    wrong = [*plan(tmp_path, 1), Wanted(tmp_path / "card-2.img", "another", "van-2")]
    with pytest.raises(ImageRefused, match="another"):
        many.flash_many(image, keyring, wanted := wrong, ledger=tmp_path / "ledger")
    assert not any(line.to.exists() for line in wanted)


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "names no medium"),
        ("to,serial,van\n", "names no medium"),
        ("to,serial\n/dev/sda,S1\n", "line 2: gives no van"),
        ("to,serial,van\n/dev/sda,S1,van-1\n/dev/sdb,,van-2\n", "line 3: gives no serial"),
        ("to,serial,van\n/dev/sda,S1,van-1\n/dev/sda,S2,van-2\n", "names the medium /dev/sda 2 times"),
        ("to,serial,van\n/dev/sda,S1,van-1\n/dev/sdb,S1,van-2\n", "names the serial number S1 2 times"),
        ("to,serial,van\n/dev/sda,S1,van-1\n/dev/sdb,S2,van-1\n", "names the van van-1 2 times"),
        ("\x00", "names no medium|cannot be read"),
    ],
)
def test_a_plan_that_could_mean_two_things_is_refused(tmp_path: Path, text: str, because: str) -> None:
    (tmp_path / "plan.csv").write_text(text)
    with pytest.raises(BadInput, match=because):
        many.read_plan(tmp_path / "plan.csv")


def test_a_plan_from_a_spreadsheet_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "plan.csv").write_text("\ufeffvan,to,serial,note\r\nvan-1,/dev/sda, S1 ,first\r\n", encoding="utf-8")
    assert many.read_plan(tmp_path / "plan.csv") == [Wanted(Path("/dev/sda"), "S1", "van-1")]


def test_the_command_prints_labels_and_a_ledger_without_secrets(image: Path, keyring: Path, tmp_path: Path) -> None:
    rows = "".join(f"{w.to},{w.serial},{w.van}\n" for w in plan(tmp_path, 1, 2))
    (tmp_path / "plan.csv").write_text(f"to,serial,van\n{rows}")
    book, labels, sheet = tmp_path / "ledger", tmp_path / "labels.html", tmp_path / "ledger.csv"
    run = CliRunner().invoke(
        app,
        ["flash", str(image), "--keyring", str(keyring), "--many", str(tmp_path / "plan.csv"),
         "--ledger", str(book), "--labels", str(labels)],
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert "2 of 2 media were written, read back, and are right." in run.output
    ledger.quarantine(book, serial="=1+1", model="M", target="/dev/sdz", van="van-9", cause="reads back differently")
    assert CliRunner().invoke(app, ["ledger", str(book), "--csv", str(sheet)]).exit_code == 0
    shown = CliRunner().invoke(app, ["ledger", str(book), "--json"])
    found = list(csv.DictReader(io.StringIO(sheet.read_text())))
    assert [row["what"] for row in found] == ["flashed", "flashed", "faulty"]
    assert found[2]["serial"] == "'=1+1", "no spreadsheet takes it for a formula"
    assert [row["van"] for row in json.loads(shown.stdout)] == [row["van"] for row in found]
    page = labels.read_text()
    for line in ledger.read(book)[:2]:
        assert page.count(ledger.code_of(line["secret"])) == 1
        for text in (page, sheet.read_text(), shown.stdout, run.output):
            assert line["secret"] not in text


def test_one_faulty_medium_among_many_ends_the_command_with_its_code(
    image: Path, keyring: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = flash._copy

    def copy_to_a_bad_card(source: Path, block_map: Path, target: Path, progress):  # type: ignore[no-untyped-def]
        whole(source, block_map, target, progress)
        spoil("card-2.img")(target)

    monkeypatch.setattr(flash, "_copy", copy_to_a_bad_card)
    rows = "".join(f"{w.to},{w.serial},{w.van}\n" for w in plan(tmp_path, 1, 2))
    (tmp_path / "plan.csv").write_text(f"to,serial,van\n{rows}")
    run = CliRunner().invoke(
        app,
        ["flash", str(image), "--keyring", str(keyring), "--many", str(tmp_path / "plan.csv"),
         "--ledger", str(tmp_path / "ledger"), "--json"],
    )  # fmt: skip
    assert run.exit_code == flash.MediumFaulty.exit_code
    good, bad = json.loads(run.stdout)
    assert good["flashed"]["version"] == "1.2.3"
    assert "Throw the medium away" in bad["error"]


def test_a_target_and_a_plan_at_once_are_refused_with_the_usage(image: Path, keyring: Path, tmp_path: Path) -> None:
    both = ["--to", str(tmp_path / "a"), "--many", str(tmp_path / "plan.csv")]
    run = CliRunner().invoke(app, ["flash", str(image), "--keyring", str(keyring), *both])
    assert run.exit_code == 2
    assert cli_flash.LEDGER.name == "flash-ledger.jsonl"
