/* SPDX-License-Identifier: Apache-2.0 */
/* The servers: each listens on IPv4 and IPv6, says "ready", and serves until it is ended. */
#ifndef PLUMBLINE_SERVERS_H
#define PLUMBLINE_SERVERS_H

#include <poll.h>
#include <sys/epoll.h>

#include "net.h"

static inline int listen_on(int port)
{
	const int yes = 1;
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
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

/* One letter; without one, the address at which the connection has come in, and a newline. */
static inline int answered(int fd, char letter)
{
	struct sockaddr_in6 here;
	socklen_t length = sizeof(here);
	char text[INET6_ADDRSTRLEN + 1];
	const char *from = text;

	if (letter)
		return send(fd, &letter, 1, MSG_NOSIGNAL) == 1;
	if (getsockname(fd, (struct sockaddr *)&here, &length))
		return 0;
	if (IN6_IS_ADDR_V4MAPPED(&here.sin6_addr))
		from = inet_ntop(AF_INET, &here.sin6_addr.s6_addr[12], text, sizeof(text));
	else
		from = inet_ntop(AF_INET6, &here.sin6_addr, text, sizeof(text));
	length = (socklen_t)strlen(from);
	text[length++] = '\n';
	return send(fd, text, length, MSG_NOSIGNAL) == (ssize_t)length;
}

/* Answers whatever comes in one piece, with a letter or with where it came in. */
static inline void serve(int port, char letter)
{
	const int listener = listen_on(port), all = epoll_create1(0), yes = 1;
	struct epoll_event event = { .events = EPOLLIN, .data.fd = listener }, seen[64];
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
			} else if (recv(fd, buffer, sizeof(buffer), 0) <= 0 || !answered(fd, letter)) {
				close(fd);
			}
		}
	}
}

/* Takes connections and nothing else, without ever being woken by one. */
static inline void absorb(int port)
{
	const int listener = listen_on(port);
	int fd;

	for (;;) {
		while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
			close(fd);
		usleep(1000);
	}
}

/* Reads and forgets, one connection after the other; says so after each FLOW bytes where somebody waits for it. */
static inline void sink(int port, int is_told)
{
	static char buffer[PIECE];
	const int listener = listen_on(port);
	struct pollfd waiting = { .fd = listener, .events = POLLIN };
	ssize_t got;
	size_t seen;
	int fd;

	while (poll(&waiting, 1, -1) == 1) {
		if ((fd = accept4(listener, NULL, NULL, 0)) < 0)
			continue;
		for (seen = 0; (got = recv(fd, buffer, sizeof(buffer), 0)) > 0;) {
			seen += (size_t)got;
			if (is_told && seen >= FLOW) {
				send(fd, buffer, 1, MSG_NOSIGNAL);
				seen -= FLOW;
			}
		}
		close(fd);
	}
}

#endif
