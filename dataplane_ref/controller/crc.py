# SPDX-License-Identifier: Apache-2.0
"""Tables by which the datapath corrects an SCTP checksum when ports change, without reading the packet.

The checksum is CRC32c (RFC 9260, appendix A; polynomial 0x82f63b78, reflected). Its register is linear: what a
changed byte does to it depends only on the difference and on how many bytes follow. Entry [k][j][b] is the register
that holds byte `b` at place `j` (0 the lowest) and nothing else, moved on by 2^k zero bytes; nothing is inverted.
"""

from array import array

POLYNOMIAL = 0x82F63B78
STEPS, PLACES = 16, 4


def byte_table() -> list[int]:
    """What one zero byte makes of a register that holds only a lowest byte."""
    table = []
    for byte in range(256):
        register = byte
        for _ in range(8):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table


def crc_tables() -> bytes:
    """The value of the map `crc_tables`: a register's byte `b` at place `j` after 2^k zero bytes, for k below 16."""
    single = byte_table()
    # The operator as what it makes of each single bit; doubling it is applying it to its own results.
    operator = [(1 << bit) >> 8 ^ single[1 << bit & 0xFF] for bit in range(32)]
    entries = array("I")
    for _ in range(STEPS):
        for place in range(PLACES):
            bits = operator[8 * place : 8 * place + 8]
            column = [0]
            for bit in bits:
                column += [value ^ bit for value in column]
            entries.extend(column)
        operator = [_applied(operator, value) for value in operator]
    return entries.tobytes()


def _applied(operator: list[int], register: int) -> int:
    result = 0
    while register:
        lowest = register & -register
        result ^= operator[lowest.bit_length() - 1]
        register ^= lowest
    return result
