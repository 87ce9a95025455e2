"""Somebody who has the van's box, or its card, for a minute, and puts it back."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import BadInput
from edge.trust.keys import SigningKey
from edge.vanroot import answer as form
from edge.vanroot import enrol as van_side
from provisioning import site as sites
from provisioning.image import enrol as bench_side
from provisioning.image import flash, ledger

SETTINGS = form.Settings("van-7", "broker.example", 8883, fixed=(51.5, -0.1))
KEPT = (*form.FILES, form.ANSWER)


@dataclass
class Bench:
    """A van and its engineer: the encrypted volume, the open partition, the ledger, the site."""

    place: Path

    def __post_init__(self) -> None:
        self.mine, self.open = self.place / "data", self.place / "cfg" / "enrol"
        self.site, self.thief = self.place / "site", self.place / "thief"
        self.ledger = self.place / "flash-ledger.jsonl"
        self.mine.mkdir(parents=True)
        self.open.mkdir(parents=True)
        for name in (self.site, self.thief):
            sites.init_site(name)
        (self.place / "root.json").write_text('{"signed": "the force\'s"}')
        (self.place / "revokers.jwks").write_text('{"keys": []}')
        self.flash()

    def flash(self) -> None:
        """What flashing leaves behind."""
        secret = "5e" * 32
        (self.open / "secret").write_text(secret)
        ledger.append(self.ledger, {"van": "van-7", "secret": secret})

    def start(self) -> str | None:
        """What a van does at its start with keys, request and answer."""
        secret = van_side.take_secret(self.mine, self.open)
        name = van_side.take_answer(self.mine, self.open, secret)
        if name is None and not (self.mine / "van.crt").exists() and secret:
            van_side.make_keys(self.mine, self.open, "van", secret)
        return name

    def answer(self, site: Path | None = None, secret: bytes | None = None, settings: form.Settings = SETTINGS) -> Path:
        """An answer to the van's request, made with some site's authority and some secret."""
        secret = secret or bench_side.secret_of("van-7", self.ledger)
        request = self.place / "request"
        if not request.exists():
            shutil.copytree(self.open, request)
        if secret != bench_side.secret_of("van-7", self.ledger):  # a thief makes his own request code
            request = Path(shutil.copytree(request, self.place / "forged", dirs_exist_ok=True))
            files = {name: (request / name).read_bytes() for name in form.REQUEST}
            (request / form.REQUEST_CODE).write_text(form.request_code(secret, files))
        out = self.place / f"answer-{len(list(self.place.glob('answer-*')))}"
        bench_side.answer(
            settings, request, site or self.site, out,
            root=self.place / "root.json", revokers=self.place / "revokers.jwks", secret=secret,
        )  # fmt: skip
        return out

    def insert(self, answer: Path) -> None:
        """Copy an answer onto the open partition."""
        self.open.mkdir(parents=True, exist_ok=True)
        for path in answer.iterdir():
            (self.open / path.name).unlink(missing_ok=True)
            (self.open / path.name).write_bytes(path.read_bytes())

    def kept(self) -> dict[str, bytes]:
        return {name: (self.mine / name).read_bytes() for name in KEPT if (self.mine / name).exists()}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.start()
    return made


@pytest.fixture
def enrolled(bench: Bench) -> Bench:
    bench.insert(bench.answer())
    assert bench.start() == "van-7"
    return bench


def test_an_honest_engineer_enrols_a_van_and_renews_it(enrolled: Bench) -> None:
    assert set(enrolled.kept()) == set(KEPT)
    assert not (enrolled.mine / van_side.SECRET).exists(), "the secret is used up"
    assert not enrolled.open.exists()
    before = enrolled.kept()["van.crt"]
    enrolled.insert(enrolled.answer(settings=replace(SETTINGS, host="new.example")))
    assert enrolled.start() == "van-7"
    assert enrolled.kept()["van.crt"] != before
    assert json.loads(enrolled.kept()[form.ANSWER])["broker"]["host"] == "new.example"


def test_the_secret_does_not_stay_on_the_open_partition(bench: Bench) -> None:
    assert not (bench.open / "secret").exists()
    assert (bench.mine / van_side.SECRET).stat().st_mode & 0o777 == 0o600
    content = b"".join(path.read_bytes() for path in bench.open.iterdir())
    assert b"5e" * 32 not in content


def changed(bench: Bench, name: str, content: bytes) -> None:
    """An answer of the true site in which one file was replaced on the medium."""
    answer = bench.answer()
    (answer / name).write_bytes(content)
    bench.insert(answer)


def resigned_by(authority: sites.Pair, bench: Bench, files: dict[str, bytes]) -> None:
    """An answer that is whole in itself, signed by somebody's authority, without the secret."""
    content = form.describe(SETTINGS, datetime.now(UTC) + timedelta(hours=1), files)
    made = {**files, form.ANSWER: content, form.SIGNATURE: form.sign(content, authority[1]), form.CODE: b"0" * 64}
    bench.open.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (bench.open / name).write_bytes(text)


def own_authority(bench: Bench) -> None:
    """His own authority certifies the van's own public key, as the card's request offers it."""
    bench.insert(bench.answer(site=bench.thief, secret=b"ab" * 32))


def own_root_under_the_pinned_ca(bench: Bench) -> None:
    """The force's files as they are, but his root of trust, signed by his authority."""
    files = {name: (bench.mine / name).read_bytes() for name in form.FILES} if bench.kept() else {}
    files = files or {p.name: p.read_bytes() for p in bench.answer().iterdir() if p.name in form.FILES}
    resigned_by(sites.load_authority(bench.thief), bench, {**files, "root.json": b'{"signed": "the thief\'s"}'})


def second_secret(bench: Bench) -> None:
    """He puts a secret of his own beside an answer made with it."""
    own_authority(bench)
    (bench.open / "secret").write_text("ab" * 32)


def no_code(bench: Bench) -> None:
    own_authority(bench)
    (bench.open / form.CODE).unlink()


def other_key(bench: Bench) -> None:
    """A whole answer of the true site, for another van's key."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = sites.certify(sites.load_authority(bench.site), "van-7", key.public_key(), sites.VAN_LIFE)
    files = {p.name: p.read_bytes() for p in bench.answer().iterdir() if p.name in form.FILES}
    files["van.crt"] = sites.pem(certificate)
    content = form.describe(SETTINGS, datetime.now(UTC) + timedelta(hours=1), files)
    made = {
        **files,
        form.ANSWER: content,
        form.SIGNATURE: form.sign(content, sites.load_authority(bench.site)[1]),
        form.CODE: form.code_of(bench_side.secret_of("van-7", bench.ledger), content).encode(),
    }
    bench.open.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (bench.open / name).write_bytes(text)


def old_answer(bench: Bench) -> None:
    """An answer from before the last one, which named a control room that was revoked since."""
    old = bench.answer()
    bench.insert(bench.answer())
    assert bench.start() == "van-7"
    bench.insert(old)


def other_van(bench: Bench) -> None:
    """The true site's own answer for the same key under another name."""
    bench.insert(bench.answer(settings=replace(SETTINGS, van="van-8")))


def huge(bench: Bench) -> None:
    changed(bench, "revokers.jwks", b" " * (2 << 20))


def link(bench: Bench) -> None:
    """A link in the exchange, should its file system ever have them."""
    bench.insert(bench.answer())
    (bench.open / "revokers.jwks").unlink()
    (bench.open / "revokers.jwks").symlink_to(bench.place / "revokers.jwks")


def deep(bench: Bench) -> None:
    own = sites.load_authority(bench.site)
    answer = bench.answer()
    content = b'{"van":' + b"[" * 50_000
    (answer / form.ANSWER).write_bytes(content)
    (answer / form.SIGNATURE).write_bytes(form.sign(content, own[1]))
    (answer / form.CODE).write_bytes(form.code_of(bench_side.secret_of("van-7", bench.ledger), content).encode())
    bench.insert(answer)


@dataclass(frozen=True)
class Attack:
    """What is done to the open partition, and how the van words its refusal."""

    do: Callable[[Bench], None]
    refusal: str


FIRST = [
    Attack(own_authority, "one-time secret"),
    Attack(own_root_under_the_pinned_ca, "one-time secret"),
    Attack(second_secret, "one-time secret"),
    Attack(no_code, "one-time secret"),
    Attack(other_key, "another van's key"),
    Attack(lambda b: changed(b, "root.json", b"{}"), "root.json is not the file"),
    Attack(lambda b: changed(b, "revokers.jwks", b"{}"), "revokers.jwks is not the file"),
    Attack(lambda b: changed(b, form.ANSWER, b"{}"), "one-time secret"),
    Attack(huge, "lacks revokers.jwks"),
    Attack(link, "lacks revokers.jwks"),
    Attack(deep, "answer.json is damaged"),
]
LATER = [
    Attack(own_authority, "would change ca.crt"),
    Attack(own_root_under_the_pinned_ca, "would change root.json"),
    Attack(second_secret, "would change ca.crt"),
    Attack(other_key, "another van's key"),
    Attack(lambda b: changed(b, "root.json", b"{}"), "would change root.json"),
    Attack(lambda b: changed(b, "control-room.jwks", b"{}"), "control-room.jwks is not the file"),
    Attack(old_answer, "not newer"),
    Attack(other_van, "this van is van-7"),
    Attack(deep, "answer.json is damaged"),
]


def name_of(attack: Attack) -> str:
    return getattr(attack.do, "__name__", "") + ": " + attack.refusal


@pytest.mark.parametrize("attack", FIRST, ids=name_of)
def test_a_van_that_waits_for_its_answer_takes_no_strangers(attack: Attack, bench: Bench) -> None:
    attack.do(bench)
    with pytest.raises(ValueError, match=attack.refusal):
        bench.start()
    assert bench.kept() == {}
    bench.insert(bench.answer())
    assert bench.start() == "van-7", "and the engineer's answer is still taken"


@pytest.mark.parametrize("attack", LATER, ids=name_of)
def test_an_enrolled_van_takes_no_new_root_of_trust_from_its_open_partition(attack: Attack, enrolled: Bench) -> None:
    before = enrolled.kept()
    attack.do(enrolled)
    with pytest.raises(ValueError, match=attack.refusal):
        enrolled.start()
    after = enrolled.kept()
    assert (after["ca.crt"], after["root.json"]) == (before["ca.crt"], before["root.json"])
    if attack.do is not old_answer:
        assert after == before


def test_a_request_that_a_thief_put_in_place_of_the_vans_is_not_signed(bench: Bench) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "van-7")])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (bench.open / "van.csr").write_bytes(request.public_bytes(serialization.Encoding.PEM))
    (bench.open / "van-signing.jwk").write_text(json.dumps(SigningKey.generate().public_jwk(owner="van-7")))
    with pytest.raises(BadInput, match="was not made by the van"):
        bench.answer()
    assert sites.van_keys(bench.site) == []


def test_a_medium_that_the_ledger_does_not_know_is_not_enrolled(bench: Bench) -> None:
    with pytest.raises(BadInput, match="names no medium"):
        bench_side.secret_of("van-8", bench.ledger)


def test_an_answer_that_a_power_cut_interrupted_is_taken_at_the_next_start(bench: Bench) -> None:
    answer, keys = bench.answer(), shutil.copytree(bench.mine, bench.place / "keys")
    for cut in range(len(form.FILES) + 2):
        shutil.rmtree(bench.mine)
        shutil.copytree(keys, bench.mine)
        bench.insert(answer)
        for name in [*reversed(form.FILES), form.ANSWER][:cut]:
            (bench.mine / name).write_bytes((answer / name).read_bytes())
        assert bench.start() == "van-7"
        assert not bench.open.exists()
        assert not (bench.mine / van_side.SECRET).exists()


def test_the_secret_is_left_on_the_first_partition_of_a_medium(tmp_path: Path) -> None:
    if not all(shutil.which(tool, path="/usr/bin:/usr/sbin") for tool in ("mcopy", "mkfs.vfat", "sfdisk")):
        pytest.skip("mtools, dosfstools or fdisk are not installed: scripts/setup-image")
    image = tmp_path / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(16 << 20)
    table = "label: gpt\nstart=2048, size=20480, name=cfg\n"
    subprocess.run(["sfdisk", "--quiet", str(image)], input=table.encode(), check=True, capture_output=True)
    subprocess.run(["mkfs.vfat", "--offset=2048", str(image), "10240"], check=True, capture_output=True)
    secret = flash.leave_secret(image, image)
    assert len(bytes.fromhex(secret)) == 32
    said = subprocess.run(["mtype", "-i", f"{image}@@1M", "::enrol/secret"], check=True, capture_output=True)
    assert said.stdout.decode().strip() == secret


def test_the_ledger_with_the_secrets_is_its_owners_alone(bench: Bench) -> None:
    assert bench.ledger.stat().st_mode & 0o777 == 0o600


SCRIPT = Path(__file__).parents[2] / "provisioning/image/rootfs/usr/lib/lfr/boot-disk"


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    """A van whose root was opened from vda4, with a stick sdb of one partition in it."""
    sys = tmp_path / "sys"
    disk, stick = sys / "devices/pci0/block/vda", sys / "devices/pci0/usb1/block/sdb"
    for partition in (disk / "vda4", disk / "vda6", stick / "sdb1", sys / "devices/virtual/block/dm-0/slaves"):
        partition.mkdir(parents=True)
    (sys / "dev/block").mkdir(parents=True)
    (sys / "dev/block/254:0").symlink_to("../../devices/virtual/block/dm-0")
    (sys / "devices/virtual/block/dm-0/slaves/vda4").symlink_to("../../../../pci0/block/vda/vda4")
    (tmp_path / "mountinfo").write_text(
        "21 1 0:5 / /dev rw - devtmpfs dev rw\n22 1 254:0 / / ro - squashfs /dev/mapper/root ro\n"
        "23 22 0:9 / /run rw - tmpfs x rw\n"
    )
    return sys


@pytest.mark.parametrize(
    ("partition", "ours"),
    [
        ("/devices/pci0/block/vda/vda6", True),
        ("/devices/pci0/block/vda/vda4", True),
        ("/devices/pci0/usb1/block/sdb/sdb1", False),
        ("/devices/pci0/block/vda", False),
        ("/devices/pci0/nothing/like/it", False),
    ],
)
def test_a_stick_whose_partition_is_called_cfg_is_not_the_vans(partition: str, ours: bool, sysfs: Path) -> None:
    done = subprocess.run(["sh", str(SCRIPT), partition, str(sysfs), str(sysfs.parent / "mountinfo")], check=False)
    assert (done.returncode == 0) is ours


def test_nothing_on_the_image_finds_a_partition_by_its_label_alone() -> None:
    root = SCRIPT.parents[3]
    for path in (*root.rglob("*"), Path(van_side.__file__).with_name("volumes.py")):
        if path.is_file():
            assert "by-partlabel" not in (text := path.read_text()), path
            assert "PARTLABEL=" not in text, path
