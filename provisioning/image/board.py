"""What differs from board to board: how it boots, how its disk is cut, which kernel and modules it takes.

``qemu-arm64`` and ``arm64-uefi`` are built and booted in the tests. ``raspberrypi5`` and ``jetson-orin`` share
everything above the boot loader; what of a board cannot be shown without it is listed in its profile's ``untested``
and in docs/bench-checklist.md, and ``image build`` says so again.
"""

from __future__ import annotations

from dataclasses import dataclass

from provisioning.image.tools import ImageUnusable

__all__ = ["BOARDS", "MIB", "UEFI_SIDE", "Board", "Partition", "board"]

MIB = 1 << 20
UEFI_SIDE = ("systemd-boot-efi", "efibootmgr", "libefiboot1", "libefivar1")
"""What boards with UEFI need beside the common root: their kernel image's stub, and what sets the firmware's order."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of the disk, in the order in which it lies there.

    Attributes:
        name: GPT label; everything on the van finds its partitions by it.
        mib: size in MiB.
        source: file of the build that it starts with; empty for one that starts as zeros.
        number: place in the table, from 1.
    """

    name: str
    mib: int
    source: str
    number: int

    @property
    def uuid(self) -> str:
        """Fixed, so that two builds have the same table."""
        return f"5a3c0d1e-1f2e-4ed6-8a11-{self.number:012d}"


@dataclass(frozen=True, slots=True)
class Board:
    """One kind of machine.

    Attributes:
        name: as given to ``image build --board``.
        compatible: what a bundle must name to be installed here.
        bootloader: what reads the slot order: RAUC's name of the back end.
        kernel: Debian package with the kernel; empty where the board's maker supplies it.
        console: kernel console argument.
        first_modules: modules needed before the root is there.
        modules: modules in the root.
        disk: device that holds the partitions, as the boot script and the first root see it.
        boot_files: further files on the ``cfg`` partition, by name.
        untested: what could not be shown without the board.
        side: Debian packages that are unpacked into this board's root, or used to build its kernel image.
    """

    name: str
    compatible: str
    bootloader: str
    kernel: str
    console: str
    disk: str
    first_modules: tuple[str, ...]
    modules: tuple[str, ...]
    boot_files: dict[str, str]
    untested: tuple[str, ...]
    root_mib: int = 320
    data_mib: int = 64
    side: tuple[str, ...] = ()

    @property
    def uefi(self) -> bool:
        """Whether firmware starts a signed kernel image itself (UEFI), with no boot loader in between."""
        return self.bootloader == "efi"

    @property
    def started_by_firmware(self) -> tuple[str, ...]:
        """Partitions that are marked as the EFI system's, where firmware looks for something to start."""
        return ("bootA", "bootB") if self.uefi else ("cfg",)

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """The A/B table. ``state`` is small and clear: sealed keys, floors and update state, nothing biometric."""
        cut = (
            ("cfg", 20, "cfg.vfat"),
            ("bootA", 80, "boot.img"),
            ("bootB", 80, ""),
            ("rootA", self.root_mib, "rootfs.img"),
            ("rootB", self.root_mib, ""),
            ("state", 16, "state.ext4"),
            ("data", self.data_mib, ""),
            ("ops", self.data_mib, ""),
        )
        return tuple(Partition(name, mib, source, i) for i, (name, mib, source) in enumerate(cut, start=1))

    @property
    def size(self) -> int:
        """Bytes a medium must hold: the partitions, and 1 MiB at each end for the two tables."""
        return (sum(p.mib for p in self.partitions) + 2) * MIB


_VERITY = ("dm_mod", "dm_bufio", "dm_verity", "reed_solomon", "sha256_arm64", "sha2_ce", "squashfs")
_COMMON = (
    *("loop", "squashfs", "dm_mod", "dm_verity", "dm_crypt", "ext4", "crc32c_generic", "vfat", "exfat", "nls_ascii"),
    *("nls_cp437", "nls_iso8859_1", "nls_utf8", "xts", "ecb", "aes_ce_blk", "aes_neon_blk", "sha256_arm64", "sha2_ce"),
    *("algif_skcipher", "af_alg", "cryptd", "essiv", "authenc", "overlay", "efivarfs", "tpm_tis", "usb_storage", "uas"),
    *("uvcvideo", "videodev", "ipv6", "nf_tables", "dm_integrity"),
)
_VIRTIO = ("virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "i6300esb")

BOARDS: dict[str, Board] = {
    b.name: b
    for b in (
        Board(
            name="qemu-arm64",
            compatible="lfr-edge-qemu-arm64",
            bootloader="uboot",
            kernel="linux-image-arm64",
            console="ttyAMA0",
            disk="virtio 0",
            first_modules=(*_VIRTIO[:3], *_VERITY),
            modules=(*_VIRTIO, *_COMMON),
            boot_files={},
            untested=(),
        ),
        Board(
            name="arm64-uefi",
            compatible="lfr-edge-arm64-uefi",
            bootloader="efi",
            kernel="linux-image-arm64",
            console="ttyAMA0",
            disk="",
            first_modules=("nvme", "efivarfs", *_VIRTIO[:3], *_VERITY),
            modules=("nvme", "r8169", "igb", "ixgbe", *_VIRTIO, *_COMMON),
            boot_files={},
            untested=(
                "keys are enrolled in a machine's own firmware on the bench",
                "a TPM: Debian's arm64 kernels have no driver for the one that QEMU's machine offers",
                "a console that is not the first PL011 serial port",
            ),
            side=UEFI_SIDE,
        ),
        Board(
            name="raspberrypi5",
            compatible="lfr-edge-raspberrypi5",
            bootloader="uboot",
            kernel="linux-image-arm64",
            console="ttyAMA10,115200",
            disk="mmc 0",
            first_modules=("nvme", "sdhci_brcmstb", "mmc_block", *_VERITY),
            modules=("nvme", "macb", "brcmfmac", *_COMMON),
            boot_files={
                "config.txt": "[pi5]\narm_64bit=1\nkernel=u-boot.bin\nenable_uart=1\ndtparam=watchdog=on\n"
                "boot_load_flags=0x1\n# A TPM on the SPI header (SLB 9670): dtoverlay=tpm-slb9670\n",
            },
            untested=(
                "U-Boot on the Pi 5 and its device tree come from the maker and are copied to cfg/ on the bench",
                "Debian 6.1 has no Pi 5 support: give the maker's kernel with --kernel-deb",
                "signed boot (boot.img and the EEPROM's key) is fused on the bench, once, and cannot be undone",
            ),
            root_mib=512,
            data_mib=1024,
        ),
        Board(
            name="jetson-orin",
            compatible="lfr-edge-jetson-orin",
            bootloader="custom",
            kernel="linux-image-arm64",
            console="ttyTCU0,115200",
            disk="nvme 0",
            first_modules=("nvme", "tegra_bpmp_thermal", *_VERITY),
            modules=("nvme", "r8169", *_COMMON),
            boot_files={
                "extlinux.conf": "DEFAULT lfr\nLABEL lfr\n  LINUX /vmlinuz\n  INITRD /initrd.gz\n"
                "  APPEND console=ttyTCU0,115200 quiet panic=5 rauc.slot=A\n",
            },
            untested=(
                "slots are chosen by the maker's UEFI (nvbootctrl); RAUC's custom back end calls lfr-nvbootctrl",
                "the kernel is the maker's (L4T): give it with --kernel-deb",
                "secure boot keys are fused with the maker's tools on the bench, once, and cannot be undone",
            ),
            root_mib=512,
            data_mib=1024,
        ),
    )
}


def board(name: str) -> Board:
    """The profile called ``name``.

    Raises:
        ImageUnusable: there is none; names those there are.
    """
    try:
        return BOARDS[name]
    except KeyError:
        raise ImageUnusable(f"board {name}", "has no profile", f"Give one of {', '.join(BOARDS)}") from None
