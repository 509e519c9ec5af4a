/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known of the packet in hand. It lives in a per-CPU map, because a program's stack has 512 bytes; no program
 * here is interrupted by another on the same CPU, since all of them run with soft interrupts off.
 */
#ifndef PLUMBLINE_WORK_H
#define PLUMBLINE_WORK_H

#include "maps.h"
#include "packet.h"

/* Where a packet was met. */
enum place {
	COMES_IN, /* from another machine or a pod */
	GOES_OUT, /* from a process of this node */
};

struct work {
	struct packet packet;
	struct verdict verdict;
	struct flow flow; /* a new flow: the client's entry */
	struct flow reply; /* … and the endpoint's */
	struct tuple reply_key;
	__u64 now; /* by the datapath's clock */
	__u32 place; /* enum place */
	__u32 device; /* enum device_flag of where it came in */
	__u32 destination_flags; /* enum address_flag */
	__u32 affinity_seconds; /* 0: none */
};

MAP(work, BPF_MAP_TYPE_PERCPU_ARRAY, __u32, struct work, 1, 0);

#endif
