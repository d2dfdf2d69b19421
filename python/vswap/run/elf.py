"""Read the few fields of an ELF file that decide whether it can be preloaded."""

from __future__ import annotations

import struct

MAGIC = b"\x7fELF"
_PT_DYNAMIC, _PT_INTERP = 2, 3
_MAX_HEADERS = 256

_MACHINES = {
    3: "32-bit x86",
    8: "MIPS",
    20: "32-bit PowerPC",
    21: "PowerPC",
    22: "s390x",
    40: "32-bit ARM",
    62: "x86_64",
    183: "aarch64",
    243: "RISC-V",
    258: "LoongArch",
}


class Elf:
    """One ELF file: its target and how it is loaded."""

    __slots__ = ("bits", "dynamic", "interpreter", "machine")

    def __init__(self, bits: int, machine: int, interpreter: str | None, dynamic: bool) -> None:
        """Keep what the headers say."""
        self.bits = bits
        self.machine = machine
        self.interpreter = interpreter
        self.dynamic = dynamic

    @property
    def target(self) -> str:
        """Name the machine this file is for."""
        return _MACHINES.get(self.machine, f"machine number {self.machine}")


def parse_elf(data: bytes) -> Elf | None:
    """Return what ``data``, the beginning of a file, says; None if it is not ELF.

    ``data`` has to reach over the program headers and the interpreter's name;
    both stand in the first page of every file a linker writes.
    """
    if len(data) < 52 or data[:4] != MAGIC or data[4] not in (1, 2) or data[5] not in (1, 2):
        return None
    bits = 64 if data[4] == 2 else 32
    order = "<" if data[5] == 1 else ">"
    try:
        return _with_headers(data, bits, order)
    except struct.error:
        return None


def _with_headers(data: bytes, bits: int, order: str) -> Elf:
    """Walk the program headers."""
    (machine,) = struct.unpack_from(order + "H", data, 18)
    table_at, sizes_at = (32, 54) if bits == 64 else (28, 42)
    (table,) = struct.unpack_from(order + ("Q" if bits == 64 else "I"), data, table_at)
    entry_size, count = struct.unpack_from(order + "HH", data, sizes_at)
    interpreter, dynamic = None, False
    for index in range(min(count, _MAX_HEADERS)):
        at = table + index * entry_size
        (kind,) = struct.unpack_from(order + "I", data, at)
        if kind == _PT_DYNAMIC:
            dynamic = True
        elif kind == _PT_INTERP:
            offset, size = _place(data, at, bits, order)
            interpreter = data[offset : offset + size].split(b"\0")[0].decode(errors="replace")
    return Elf(bits, machine, interpreter, dynamic)


def _place(data: bytes, at: int, bits: int, order: str) -> tuple[int, int]:
    """Return file offset and size of one program header's segment."""
    if bits == 64:
        (offset,) = struct.unpack_from(order + "Q", data, at + 8)
        (size,) = struct.unpack_from(order + "Q", data, at + 32)
    else:
        (offset,) = struct.unpack_from(order + "I", data, at + 4)
        (size,) = struct.unpack_from(order + "I", data, at + 16)
    return offset, size
