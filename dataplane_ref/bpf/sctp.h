/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SCTP's checksum is a CRC32c over the whole packet (RFC 9260, 6.8), and there is no helper for it. But CRCs are
 * linear: when four bytes at the start change by D, the CRC changes by the CRC (without its usual inversions) of D
 * followed by as many zero bytes as the packet goes on for. The register after D is moved on over 2^k zero bytes by
 * a table for each k, which the controller fills: at most fifteen steps of four look-ups, whatever the length.
 */
#ifndef PLUMBLINE_SCTP_H
#define PLUMBLINE_SCTP_H

#include "maps.h"

#define SCTP_CHECKSUM 8 /* where in the SCTP header; little-endian there */

/* The change of the checksum of `length` bytes whose first four changed by `difference` (as they lie in memory). */
GLOBAL __u32 sctp_checksum_change(__u32 difference, __u32 length)
{
	const __u32 zero = 0;
	struct crc_tables *tables = map_lookup(&crc_tables, &zero);
	__u32 crc = difference;

	if (!tables)
		return 0;
	/*
	 * Reflected CRCs take the next byte into the register's lowest byte: four bytes in, and nothing moved yet, the
	 * register is D itself, still to be moved on by all `length` bytes (D's own four, and what follows).
	 */
	for (__u32 k = 0; k < 16; k++) {
		if (!(length >> k & 1))
			continue;
		crc = tables->after[k][0][crc & 255] ^ tables->after[k][1][crc >> 8 & 255] ^
		      tables->after[k][2][crc >> 16 & 255] ^ tables->after[k][3][crc >> 24];
	}
	return crc;
}

#endif
