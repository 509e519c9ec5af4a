# SPDX-License-Identifier: Apache-2.0
"""CRC32c (Castagnoli), which SCTP has for a checksum (RFC 9260, Appendix A), byte by byte: its packets are small.

>>> hex(crc32c(b"123456789"))
'0xe3069283'
"""

_POLYNOMIAL = 0x82F63B78  # reflected


def _entry(number: int) -> int:
    for _ in range(8):
        number = number >> 1 ^ (_POLYNOMIAL if number & 1 else 0)
    return number


_TABLE = tuple(map(_entry, range(256)))


def crc32c(data: bytes) -> int:
    """The CRC of `data`, as a number; SCTP sends it with the lowest byte first."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
