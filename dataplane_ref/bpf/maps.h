/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The maps. Sizes here are small defaults: the loader is told the real ones. Hash tables are not preallocated, so that
 * memory follows use; those of flows and affinity are plain, not LRU: a full table drops what is new and counts it,
 * rather than forgetting what is alive.
 */
#ifndef PLUMBLINE_MAPS_H
#define PLUMBLINE_MAPS_H

#include "kernel.h"
#include "types.h"

#define MAP(name, map_type, key_type, value_type, entries, flags) \
	struct {                                                  \
		__uint(type, map_type);                           \
		__type(key, key_type);                            \
		__type(value, value_type);                        \
		__uint(max_entries, entries);                     \
		__uint(map_flags, flags);                         \
	} name SEC(".maps")

/* Configuration. */
MAP(config, BPF_MAP_TYPE_ARRAY, __u32, struct config, 1, 0);
MAP(frontends, BPF_MAP_TYPE_HASH, struct frontend_key, struct frontend, 16384, BPF_F_NO_PREALLOC);
MAP(members, BPF_MAP_TYPE_ARRAY, __u32, __u32, 65536, 0);
MAP(endpoints, BPF_MAP_TYPE_ARRAY, __u32, struct endpoint, 65536, 0);
MAP(source_ranges, BPF_MAP_TYPE_LPM_TRIE, struct range_key, __u8, 16384, BPF_F_NO_PREALLOC);
MAP(pod_ranges, BPF_MAP_TYPE_LPM_TRIE, struct pod_range_key, __u8, 1024, BPF_F_NO_PREALLOC);
MAP(addresses, BPF_MAP_TYPE_HASH, struct address, __u32, 16384, BPF_F_NO_PREALLOC);
MAP(devices, BPF_MAP_TYPE_HASH, __u32, __u32, 4096, BPF_F_NO_PREALLOC);
/* CRC32c, a byte followed by 2^k zero bytes: [k][place of the byte in its word][byte]; see sctp.h. */
struct crc_tables {
	__u32 after[16][4][256];
};
MAP(crc_tables, BPF_MAP_TYPE_ARRAY, __u32, struct crc_tables, 1, 0);

/* State. */
MAP(flows, BPF_MAP_TYPE_HASH, struct tuple, struct flow, 524288, BPF_F_NO_PREALLOC);
MAP(affinities, BPF_MAP_TYPE_HASH, struct affinity_key, struct affinity, 262144, BPF_F_NO_PREALLOC);
MAP(fragments, BPF_MAP_TYPE_LRU_HASH, struct fragment_key, struct fragment, 16384, 0);
MAP(endpoint_states, BPF_MAP_TYPE_ARRAY, __u32, struct endpoint_state, 65536, 0);
MAP(cursors, BPF_MAP_TYPE_ARRAY, __u32, __u32, 65536, 0);
MAP(counters, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, __u64, COUNTERS, 0);
/* Verdict `sequence` is at index sequence modulo the map's size; `decisions` counts them. */
MAP(verdicts, BPF_MAP_TYPE_ARRAY, __u32, struct verdict, 1, BPF_F_MMAPABLE);
MAP(decisions, BPF_MAP_TYPE_ARRAY, __u32, __u64, 1, BPF_F_MMAPABLE);

#endif
