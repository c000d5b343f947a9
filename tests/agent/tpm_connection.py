"""One connection to a TPM as the kernel's resource manager gives it: closing it unloads all.

usage: tpm_connection.py SOCKET, as `cmd:` TCTI of the TSS: commands come on stdin, answers go to
stdout. Whoever had the connection before may have died in it, so it unloads at the start too.
"""

import socket
import struct
import sys
from collections.abc import Callable


def message(read: Callable[[int], bytes]) -> bytes:
    """One command or response: its header has its length."""
    head = read(10)
    if len(head) < 10:
        return b""
    (size,) = struct.unpack_from(">2xI", head)
    return head + (read(size - 10) if size > 10 else b"")


def main() -> None:
    with socket.socket(socket.AF_UNIX) as tpm:
        tpm.connect(sys.argv[1])
        answers = tpm.makefile("rb")

        def ask(command: bytes) -> bytes:
            tpm.sendall(command)
            return message(answers.read)

        def unload() -> None:
            for first in (0x80000000, 0x02000000, 0x03000000):
                # TPM2_GetCapability(TPM_CAP_HANDLES), then TPM2_FlushContext of each
                said = ask(struct.pack(">HIIIII", 0x8001, 22, 0x17A, 1, first, 64))
                (count,) = struct.unpack_from(">I", said, 15)
                for handle in struct.unpack_from(f">{count}I", said, 19):
                    ask(struct.pack(">HIII", 0x8001, 14, 0x165, handle))

        unload()
        while command := message(sys.stdin.buffer.read):
            sys.stdout.buffer.write(ask(command))
            sys.stdout.buffer.flush()
        unload()


main()
