/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the datapath and its controller say to each other: keys and values of all maps. There is no second copy of
 * these layouts: Python reads them from the object's BTF.
 *
 * Addresses, ports and anything else that a packet carries are in network byte order; all other numbers are the
 * machine's. Configuration maps are written by the controller and only read here; state maps are the other way round.
 */
#ifndef PLUMBLINE_TYPES_H
#define PLUMBLINE_TYPES_H

#include <linux/types.h>

#define EXPECT_SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has changed its size")

/* An IPv4 address a.b.c.d is ::ffff:a.b.c.d (RFC 4291, 2.5.5.2): one layout, one lookup, no second copy of the code. */
struct address {
	__be32 words[4];
};
EXPECT_SIZE(struct address, 16);

/* One direction of a flow, as its packets look when they reach the node. The key of `flows`. */
struct tuple {
	struct address source;
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP */
	__u8 reserved[3];
};
EXPECT_SIZE(struct tuple, 40);

/* ---- Configuration: written by the controller ---------------------------------------------------------------- */

/* What is dialled. The key of `frontends`. A node port has no address of its own: its address is all zeros. */
struct frontend_key {
	struct address address;
	__be16 port;
	__u8 protocol;
	__u8 family; /* 4 or 6 */
};
EXPECT_SIZE(struct frontend_key, 20);

enum frontend_kind {
	CLUSTER_IP = 1,
	NODE_PORT = 2,
	EXTERNAL_IP = 3,
	LOAD_BALANCER = 4,
};

enum frontend_flag {
	INTERNAL_LOCAL = 1 << 0, /* internalTrafficPolicy: Local */
	EXTERNAL_LOCAL = 1 << 1, /* externalTrafficPolicy: Local */
	CLIENT_AFFINITY = 1 << 2, /* sessionAffinity: ClientIP, for affinity_seconds */
	RESTRICTED = 1 << 3, /* only the source ranges of set source_ranges may use it */
};

/*
 * How one endpoint of a set is chosen; `members` below says what the controller lays out for each.
 * Memory per Service port, beside its frontends and endpoints, with n endpoints in a set:
 */
enum scheduler {
	RANDOM = 0, /* 4n bytes */
	ROUND_ROBIN = 1, /* 4n bytes + 4 (cursors) */
	WEIGHTED_ROUND_ROBIN = 2, /* 4 bytes per unit of weight, at most 1,024 units + 4 (cursors) */
	LEAST_CONNECTIONS = 3, /* 4n bytes + 4n (endpoint_states) */
	SOURCE_HASH = 4, /* 4n bytes */
	DESTINATION_HASH = 5, /* 4n bytes */
	SHORTEST_EXPECTED_DELAY = 6, /* as LEAST_CONNECTIONS */
	NEVER_QUEUE = 7, /* as LEAST_CONNECTIONS */
	MAGLEV = 8, /* 4 bytes per slot of the lookup table: a prime of 251 to 65,537, within a budget for the node */
};

/* An extent of `members`: where a set of endpoints starts there, and how many entries it has. */
struct set {
	__u32 first;
	__u32 count;
};

/*
 * A frontend: the Service port behind it as this node sees it. `cluster` holds the endpoints under Cluster policy (what
 * readiness, the terminating fallback and topology hints leave); it is empty exactly when nothing anywhere is usable,
 * and then the flow is refused. `local` holds those on this node, and is empty where there are none.
 */
struct frontend {
	__u32 service_port; /* the same at every frontend of a Service port: affinity and cursors meet there */
	__u8 kind; /* enum frontend_kind */
	__u8 scheduler; /* enum scheduler */
	__u16 flags; /* enum frontend_flag */
	__u32 affinity_seconds;
	__u32 source_ranges; /* the set of ranges in `source_ranges`, where RESTRICTED */
	struct set cluster;
	struct set local;
};
EXPECT_SIZE(struct frontend, 32);

enum endpoint_flag {
	SERVING = 1 << 0, /* ready, or serving while it terminates: its UDP and SCTP flows may go on */
	IN_CLUSTER = 1 << 1, /* a member of the `cluster` set now */
	IN_LOCAL = 1 << 2, /* a member of the `local` set now */
	ON_HOST = 1 << 3, /* its address is this node's own: a hostNetwork pod here */
};

/*
 * One endpoint of one Service port, at its number in the array `endpoints`. A number that is used anew has another
 * generation, so that flows and affinity of the one that had it before are told apart from those of the new one.
 */
struct endpoint {
	struct address address;
	__be16 port;
	__u16 flags; /* enum endpoint_flag */
	__u32 service_port;
	__u32 generation;
	__u32 weight; /* at least 1 */
};
EXPECT_SIZE(struct endpoint, 32);

/* A range of addresses allowed to a set of source ranges. The key of `source_ranges`, a longest-prefix trie. */
struct range_key {
	__u32 prefix_length; /* in bits, over what follows: 32 + 96 for IPv4 + the range's own */
	__u32 set;
	struct address address;
};
EXPECT_SIZE(struct range_key, 24);

/* A range of pods' addresses, by which the local detector knows pods. The key of `pod_ranges`, a trie. */
struct pod_range_key {
	__u32 prefix_length; /* 96 for IPv4 + the range's own */
	struct address address;
};
EXPECT_SIZE(struct pod_range_key, 20);

/* What is known of an address: the value of `addresses`. */
enum address_flag {
	ON_NODE = 1 << 0, /* this node's own */
	SERVES_NODE_PORTS = 1 << 1, /* node ports answer there */
	IS_CLUSTER_IP = 1 << 2, /* a ClusterIP: ports of it that no Service has are refused */
	IS_VIRTUAL = 1 << 3, /* a ClusterIP, externalIP or load balancer's IP that is not this node's own */
};

/* What is known of an interface: the value of `devices`, whose key is its ifindex. */
enum device_flag {
	TOWARDS_PODS = 1 << 0, /* the local detector takes what comes in here for pods' traffic */
	UPLINK = 1 << 1, /* the way to other nodes and outside: what comes in here is no pod of this node */
	PEER_IS_POD = 1 << 2, /* a veth whose other end is in another namespace: packets may be put straight there */
};

enum config_flag {
	MASQUERADE_ALL = 1 << 0,
	DETECT_BY_INTERFACE = 1 << 1, /* pods are known by `devices`, not by `pod_ranges` */
	DETECTS_IPV4 = 1 << 2, /* there is a local detector for IPv4 */
	DETECTS_IPV6 = 1 << 3,
	LOCALHOST_NODE_PORTS = 1 << 4, /* node ports answer on 127.0.0.0/8 too, to the node's own processes */
	RECORD_VERDICTS = 1 << 5, /* write each decision to `verdicts` (the oracle; tests) */
	ONLY_DECIDE = 1 << 6, /* decide and record, change no packet */
	STATELESS = 1 << 7, /* neither use nor make flows, affinity, fragments (flow_state = off) */
	STRAIGHT = 1 << 8, /* redirect to the next interface where the way is known, past the stack */
};

/* The one value of the array `config`. */
struct config {
	struct address node_ipv4; /* what masqueraded packets show, and where refusals come from */
	struct address node_ipv6; /* all zeros where the node has none */
	__u32 flags; /* enum config_flag */
	__u32 mark; /* the bit of a packet's mark that says: this node has seen it */
	__u32 loopback; /* the ifindex of lo */
	__u32 epoch; /* changes with routes, neighbours and interfaces: what flows remember of the way is void */
	__u16 masquerade_first; /* source ports for masqueraded flows, set aside on the node; host byte order */
	__u16 masquerade_last;
	__u32 verdicts; /* how many the array `verdicts` holds */
	__u32 tick_ns; /* how long the kernel's tick is */
	__u32 reserved;
	__u64 tcp_established_ns; /* how long flows live without a packet */
	__u64 tcp_opening_ns; /* before an answer was seen */
	__u64 tcp_closing_ns; /* after one FIN */
	__u64 tcp_closed_ns; /* after both, or RST */
	__u64 udp_ns; /* a question and its answer; SCTP too */
	__u64 udp_stream_ns; /* more than that */
};
EXPECT_SIZE(struct config, 112);

/* ---- State: written by the datapath -------------------------------------------------------------------------- */

/*
 * Times are nanoseconds of a clock of the datapath's own: the kernel's ticks since it began to count them, times
 * tick_ns. What it shows now, `plumbline_collect` tells.
 */

enum flow_flag {
	REPLY = 1 << 0, /* packets of the endpoint; without it: of the client */
	ANSWERED = 1 << 1, /* a packet of the endpoint was seen */
	FINISHED = 1 << 2, /* TCP: this direction has sent FIN */
	PEER_FINISHED = 1 << 3, /* TCP: the other one has */
	CLOSED = 1 << 4, /* TCP: RST, or FIN from both: its ports may be used anew */
	TO_HOST = 1 << 5, /* the rewritten destination is this node's own */
	FROM_HOST = 1 << 6, /* the rewritten source is this node's own, or loopback */
	COUNTED = 1 << 7, /* in its endpoint's number of active flows */
	INTO_POD = 1 << 8, /* the way is a veth whose other end is the pod's: straight there */
	BY_UPLINK = 1 << 9, /* the way is an uplink */
	STREAM = 1 << 10, /* UDP, SCTP: there was more than a question and its answer */
};

/* How one direction of a flow is rewritten: the value of `flows`. Each flow has two entries, one per direction. */
struct flow {
	struct address source; /* what the packets' source becomes */
	struct address destination;
	__be16 source_port;
	__be16 destination_port;
	__u32 flags; /* enum flow_flag */
	__u32 endpoint; /* its number in `endpoints` */
	__u32 generation; /* of that endpoint when the flow began */
	__u64 expires; /* by the datapath's clock */
	__u64 refreshed; /* when `expires` was last set */
	__u32 addresses_change; /* by what the new addresses change a checksum (RFC 1624), folded to 16 bits */
	__u32 ports_change; /* … and the new ports; 0 where they are the old ones */
	__u32 ifindex; /* the way its packets take, while epoch is config's */
	__u32 epoch;
	__u8 destination_mac[6];
	__u8 source_mac[6];
	__u32 mtu;
};
EXPECT_SIZE(struct flow, 96);

/* Which endpoint a client stays with. */
struct affinity_key {
	struct address client;
	__u32 service_port;
};
EXPECT_SIZE(struct affinity_key, 20);

struct affinity {
	__u64 expires; /* by the datapath's clock */
	__u32 endpoint;
	__u32 generation;
};
EXPECT_SIZE(struct affinity, 16);

/* The ports of a fragmented packet, which only its first fragment carries. */
struct fragment_key {
	struct address source;
	struct address destination;
	__u32 identification;
	__u32 protocol;
};
EXPECT_SIZE(struct fragment_key, 40);

struct fragment {
	__be16 source_port;
	__be16 destination_port;
	__u32 reserved;
	__u64 expires;
};
EXPECT_SIZE(struct fragment, 16);

/* Active flows of an endpoint, at its number in `endpoint_states`. */
struct endpoint_state {
	__u32 active;
	__u32 generation; /* of the endpoint they belong to */
};
EXPECT_SIZE(struct endpoint_state, 8);

/* ---- What was decided ---------------------------------------------------------------------------------------- */

enum outcome {
	PASSED = 0, /* not for a Service: left as it is */
	ANSWERED_BY = 1, /* a new flow, to `endpoint` */
	REFUSED = 2, /* ICMP port unreachable */
	DROPPED = 3, /* in silence, for `reason` */
	FOLLOWED = 4, /* a packet of a flow that there was */
	TRANSLATED_ERROR = 5, /* an ICMP error about a packet of such a flow */
};

enum source_rule {
	KEEPS_SOURCE = 0,
	MASQUERADED = 1, /* to the node's address */
};

enum egress {
	NOWHERE = 0,
	TO_THE_NODE = 1, /* to a process of this node */
	ONWARDS = 2, /* to a pod here, or another node, or outside */
	BACK = 3, /* a refusal, to where the packet came from */
};

#define NO_ENDPOINT 0xffffffffU

/* A decision, recorded before anything is done about it: the value of the array `verdicts`. */
struct verdict {
	__u8 outcome; /* enum outcome */
	__u8 source; /* enum source_rule */
	__u8 egress; /* enum egress */
	__u8 kind; /* enum frontend_kind; 0 without a frontend */
	__u8 reason; /* enum counter, where dropped */
	__u8 by_affinity; /* the endpoint is the one the client was with before */
	__u16 flags; /* of the frontend */
	__u32 service_port;
	__u32 endpoint; /* its number, or NO_ENDPOINT */
	struct set allowed; /* from which it was chosen */
	struct address client; /* the source that the endpoint sees */
	__be16 client_port;
	__u16 reserved;
	__u32 sequence; /* counts decisions, from 1 */
};
EXPECT_SIZE(struct verdict, 48);

/* What happened, and how often: the indices of the per-CPU array `counters` (__u64 each). The names are the report's. */
enum counter {
	FLOWS_OPENED = 0,
	REFUSALS_SENT = 1,
	DROPPED_SOURCE_RANGES = 2, /* source not in loadBalancerSourceRanges */
	DROPPED_INTERNAL_LOCAL = 3, /* internalTrafficPolicy Local, no endpoint here */
	DROPPED_EXTERNAL_LOCAL = 4, /* externalTrafficPolicy Local, no endpoint here */
	DROPPED_FLOWS_FULL = 5, /* the table of flows is full */
	DROPPED_NO_PORT = 6, /* no free source port for masquerading */
	DROPPED_FRAGMENT = 7, /* a fragment that came before the first of its packet, or whose ports are forgotten */
	DROPPED_NO_ROUTE = 8, /* nowhere to send it */
	DROPPED_REWRITE = 9, /* the packet could not be changed */
	DROPPED_SCTP_FRAGMENT = 10, /* its checksum cannot be known from a part */
	AFFINITY_FULL = 11, /* a client could not be remembered */
	STALE_FLOWS = 12, /* UDP and SCTP flows, and attempts at TCP ones, whose endpoint is gone */
	ERRORS_TRANSLATED = 13,
	XDP_FORWARDED = 14,
	DROPPED_INCONSISTENT = 15, /* a set names no endpoint: the controller's fault */
	COUNTERS = 16,
};

#endif
