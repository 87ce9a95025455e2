"""Which slot runs, and what firmware is told to start next time."""

from __future__ import annotations

from pathlib import Path

from edge.vanroot import slots

FRESH = "BootCurrent: 0001\nTimeout: 5 seconds\nBootOrder: 0000,0001\nBoot0000* UiApp\nBoot0001* UEFI Misc Device\n"
BOTH = f"{FRESH.replace('0000,0001', '0002,0000,0001,0003')}Boot0002* A\nBoot0003* B\n"


def test_a_fresh_machine_has_no_entries_of_ours() -> None:
    assert slots.entries(FRESH) == {}


def test_an_entry_of_somebody_elses_is_not_taken_for_a_slot() -> None:
    assert slots.entries("Boot0004* A debugger\nBoot0005* Arch\nBoot000A  B\n") == {"B": "000A"}


def test_firmware_starts_the_slot_that_runs_then_what_it_knew_and_never_the_other_slot_by_itself() -> None:
    assert slots.order(BOTH, "A") == ["0002", "0000", "0001"]
    assert slots.order(BOTH, "B") == ["0003", "0000", "0001"]


def test_the_slot_that_runs_is_the_first_roots_word_and_else_the_boot_loaders(tmp_path: Path) -> None:
    said, command_line = tmp_path / "slot", tmp_path / "cmdline"
    command_line.write_text("console=ttyAMA0 quiet rauc.slot=B")
    assert slots.booted(said, command_line) == "B"
    said.write_text("SLOT=A\n")
    assert slots.booted(said, command_line) == "A"


def test_a_slot_that_nobody_names_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "cmdline").write_text("quiet xrauc.slot=A")
    assert slots.booted(tmp_path / "slot", tmp_path / "cmdline") == "?"
