/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Client and server for the benchmarks, as tight as TCP allows. Each runs in the namespace it is started in and on the
 * one CPU it is told; it ends with the thread that started it.
 *
 *   traffic spin CPU              use up what nobody else wants of a CPU (SCHED_IDLE), so that it never sleeps
 *   traffic serve CPU PORT LETTER answer every byte with LETTER, over IPv4 and IPv6
 *   traffic absorb CPU PORT       take connections, and nothing else, without ever being woken by one
 *   traffic sink CPU PORT         read and forget whatever one connection after the other sends
 *   traffic KIND CPU SECONDS      measure; targets come on stdin, a line "ADDRESS PORT" each, and are dialled at random
 *     connect                     connect(2) alone, then RST
 *     rate                        connect, a byte there, a byte back, RST
 *     request                     a byte there and back on one connection to the first target
 *     bulk                        send as much as goes on one connection to the first target
 *                                 prints: count (of bytes, where it is bulk), failures, seconds, then p01, p50, p90, p99 in nanoseconds
 *   traffic poll CPU ADDRESS PORT now and then a connection with a byte there and back, until stdin ends; prints
 *                                 CLOCK_MONOTONIC in nanoseconds and the answer whenever it is another one ("-": none)
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/sockios.h>

enum { PIECE = 1 << 17 };
enum { MOST_TARGETS = 1 << 17, MOST_SAMPLES = 1 << 21, WARM_UP = 200, MOST_FAILURES = 100, PATIENCE_MS = 50, BREATH_US = 300 };

struct target {
	struct sockaddr_storage address;
	socklen_t length;
};

static void fail(const char *what)
{
	fprintf(stderr, "traffic: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return (uint64_t)at.tv_sec * 1000000000 + (uint64_t)at.tv_nsec;
}

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("the CPU cannot be had");
}

static struct target target_of(const char *address, const char *port)
{
	struct target found = {0};
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

static int socket_for(const struct target *to, int flags)
{
	const struct linger none = {1, 0};
	const int yes = 1;
	const int fd = socket(to->address.ss_family, SOCK_STREAM | flags, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

static int listen_on(int port)
{
	const int yes = 1;
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	const int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0);

	if (fd < 0)
		fail("socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) || listen(fd, 4096))
		fail("listen");
	puts("ready");
	fflush(stdout);
	return fd;
}

static void serve(int port, char letter)
{
	const int listener = listen_on(port), all = epoll_create1(0), yes = 1;
	struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, seen[64];
	char buffer[64];

	epoll_ctl(all, EPOLL_CTL_ADD, listener, &event);
	for (;;) {
		const int count = epoll_wait(all, seen, 64, -1);

		for (int i = 0; i < count; i++) {
			int fd = seen[i].data.fd;

			if (fd == listener) {
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
					setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
					event.data.fd = fd;
					epoll_ctl(all, EPOLL_CTL_ADD, fd, &event);
				}
			} else if (recv(fd, buffer, sizeof(buffer), 0) <= 0 ||
				   send(fd, &letter, 1, MSG_NOSIGNAL) != 1) {
				close(fd);
			}
		}
	}
}

static void absorb(int port)
{
	const int listener = listen_on(port);
	int fd;

	for (;;) {
		while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
			close(fd);
		usleep(1000);
	}
}

static void sink(int port)
{
	static char buffer[PIECE];
	const int listener = listen_on(port);
	struct pollfd waiting = {.fd = listener, .events = POLLIN};
	int fd;

	while (poll(&waiting, 1, -1) == 1) {
		if ((fd = accept4(listener, NULL, NULL, 0)) < 0)
			continue;
		while (recv(fd, buffer, sizeof(buffer), 0) > 0)
			;
		close(fd);
	}
}

static int by_value(const void *one, const void *other)
{
	const uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

static int there_and_back(int fd)
{
	char byte = '?';

	return send(fd, &byte, 1, MSG_NOSIGNAL) == 1 && recv(fd, &byte, 1, 0) == 1;
}

/* What was sent and acknowledged: what still waits has not arrived. */
static void bulk(double seconds)
{
	static char buffer[PIECE];
	char address[64], port[16];
	struct target target;
	unsigned long long bytes = 0;
	uint64_t began, end;
	int fd, waiting = 0;
	ssize_t sent;

	if (scanf("%63s %15s", address, port) != 2) {
		errno = EDESTADDRREQ;
		fail("stdin");
	}
	target = target_of(address, port);
	fd = socket_for(&target, 0);
	if (connect(fd, (struct sockaddr *)&target.address, target.length))
		fail("connect");
	began = now();
	do {
		sent = send(fd, buffer, sizeof(buffer), MSG_NOSIGNAL);
		if (sent < 0)
			fail("send");
		bytes += (unsigned long long)sent;
		end = now();
	} while ((double)(end - began) < seconds * 1e9);
	if (ioctl(fd, SIOCOUTQ, &waiting))
		fail("SIOCOUTQ");
	printf("%llu 0 %.6f 0 0 0 0\n", bytes - (unsigned long long)waiting, (double)(end - began) / 1e9);
}

static void measure(const char *kind, double seconds)
{
	static struct target targets[MOST_TARGETS];
	static uint32_t samples[MOST_SAMPLES];
	char address[64], port[16];
	size_t known = 0, count = 0;
	uint64_t random = 88172645463325252ULL, began, end, from, to;
	const int is_request = !strcmp(kind, "request"), is_rate = !strcmp(kind, "rate");
	int fd = -1, failed = 0, failures = 0;

	while (known < MOST_TARGETS && scanf("%63s %15s", address, port) == 2)
		targets[known++] = target_of(address, port);
	if (!known) {
		errno = EDESTADDRREQ;
		fail("stdin");
	}
	if (is_request) {
		while (fd = socket_for(&targets[0], 0),
		       connect(fd, (struct sockaddr *)&targets[0].address, targets[0].length)) {
			if (++failures > MOST_FAILURES)
				fail("connect");
			close(fd);
			usleep(1000);
		}
	}
	began = now();
	for (long round = -WARM_UP;; round++) {
		const struct target *target;

		if (round == 0)
			began = now();
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		target = &targets[random % known];
		if (is_request) {
			from = now();
			if (!there_and_back(fd))
				fail("no answer");
			to = now();
		} else {
			if (is_rate)
				from = now();
			fd = socket_for(target, 0);
			if (!is_rate)
				from = now();
			failed = connect(fd, (struct sockaddr *)&target->address, target->length) ||
				 (is_rate && !there_and_back(fd));
			to = now();
			if (failed && ++failures > MOST_FAILURES)
				fail("too many connections failed, the last one");
			close(fd);
		}
		if (round >= 0 && count < MOST_SAMPLES && !failed)
			samples[count++] = (uint32_t)(to - from);
		end = to;
		if (round >= 0 && (double)(end - began) >= seconds * 1e9)
			break;
	}
	qsort(samples, count, sizeof(*samples), by_value);
	printf("%zu %d %.6f %u %u %u %u\n", count, failures, (double)(end - began) / 1e9, samples[count / 100], samples[count / 2],
	       samples[count * 9 / 10], samples[count * 99 / 100]);
}

/* What one connection is answered; '-' where there is none. */
static char ask(const struct target *target)
{
	const int fd = socket_for(target, SOCK_NONBLOCK);
	struct pollfd ready = {.fd = fd, .events = POLLOUT};
	char answer = '-';

	if (!connect(fd, (struct sockaddr *)&target->address, target->length) ||
	    (errno == EINPROGRESS && poll(&ready, 1, PATIENCE_MS) == 1 && !(ready.revents & (POLLERR | POLLHUP)))) {
		ready.events = POLLIN;
		if (send(fd, &answer, 1, MSG_NOSIGNAL) != 1 || poll(&ready, 1, PATIENCE_MS) != 1 ||
		    recv(fd, &answer, 1, 0) != 1)
			answer = '-';
	}
	close(fd);
	return answer;
}

static void poll_for_changes(const char *address, const char *port)
{
	const struct target target = target_of(address, port);
	struct pollfd input = {.fd = 0, .events = POLLIN};
	char before = '\0';

	while (poll(&input, 1, 0) == 0) {
		const char answer = ask(&target);

		if (answer != before) {
			printf("%llu %c\n", (unsigned long long)now(), answer);
			fflush(stdout);
			before = answer;
		}
		usleep(BREATH_US);
	}
}

int main(int argc, char **argv)
{
	const struct sched_param lowest = {0};
	const char *kind = argc > 2 ? argv[1] : "";

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc > 2)
		stay_on(atoi(argv[2]));
	if (argc == 3 && !strcmp(kind, "spin")) {
		if (sched_setscheduler(0, SCHED_IDLE, &lowest))
			fail("SCHED_IDLE");
		for (;;)
			__asm__ volatile("" ::: "memory");
	}
	if (argc == 5 && !strcmp(kind, "serve"))
		serve(atoi(argv[3]), argv[4][0]);
	else if (argc == 4 && !strcmp(kind, "absorb"))
		absorb(atoi(argv[3]));
	else if (argc == 4 && !strcmp(kind, "sink"))
		sink(atoi(argv[3]));
	else if (argc == 4 && !strcmp(kind, "bulk"))
		bulk(atof(argv[3]));
	else if (argc == 5 && !strcmp(kind, "poll"))
		poll_for_changes(argv[3], argv[4]);
	else if (argc == 4 && (!strcmp(kind, "connect") || !strcmp(kind, "rate") || !strcmp(kind, "request")))
		measure(kind, atof(argv[3]));
	else {
		fputs("traffic: spin, serve, absorb, sink, connect, rate, request, bulk or poll, then the CPU\n", stderr);
		return 2;
	}
	return 0;
}
