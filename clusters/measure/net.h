/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets, the clock, and the way out: what client and server have in common. */
#ifndef PLUMBLINE_NET_H
#define PLUMBLINE_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FLOW = 1 << 16, PIECE = 1 << 17 };

struct target {
	struct sockaddr_storage address;
	socklen_t length;
};

static inline void fail(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static inline uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

/* CPU time that this process has had: the kernel's work for it is in it, sending and receiving over a veth too. */
static inline uint64_t cpu_time(void)
{
	struct timespec at;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static inline void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("the CPU cannot be had");
}

static inline struct target target_of(const char *address, const char *port)
{
	struct target found = { 0 };
	struct sockaddr_in *v4 = (struct sockaddr_in *)&found.address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&found.address;

	if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)atoi(port));
		found.length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)atoi(port));
		found.length = sizeof(*v6);
	} else {
		errno = EINVAL;
		fail(address);
	}
	return found;
}

/* Closed by RST: no port is kept for a minute afterwards. */
static inline int socket_for(const struct target *to, int flags)
{
	const struct linger none = { 1, 0 };
	const int yes = 1;
	const int fd = socket(to->address.ss_family, SOCK_STREAM | flags, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static inline int dial(int fd, const struct target *to)
{
	return connect(fd, (const struct sockaddr *)&to->address, to->length);
}

static inline int there_and_back(int fd)
{
	char byte = '?';

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
}

#endif
