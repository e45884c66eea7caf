/* SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Passes bytes between one client at a time and Tor's control port, and looks at
 * none: what any program costs that stands between them. Its arguments are those
 * that the benchmark gives to every program.
 */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

static int on = 1;

static struct sockaddr_in at(const char *address, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	inet_pton(AF_INET, address, &a.sin_addr);
	return a;
}

static void watch(int epoll, int from, int to)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = (unsigned long long)to << 32 | from };

	setsockopt(from, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	epoll_ctl(epoll, EPOLL_CTL_ADD, from, &event);
}

static void pass(int client, int tor)
{
	char bytes[16384];
	int epoll = epoll_create1(0);
	struct epoll_event event;

	watch(epoll, client, tor);
	watch(epoll, tor, client);
	for (;;) {
		if (epoll_wait(epoll, &event, 1, -1) != 1)
			continue;
		ssize_t n = recv((int)event.data.u64, bytes, sizeof bytes, 0);
		if (n <= 0 || send((int)(event.data.u64 >> 32), bytes, n, MSG_NOSIGNAL) != n)
			break;
	}
	close(epoll);
}

/* relay CONTROL-PORT --listen-address ADDRESS --listen-port PORT ... */
int main(int argc, char **argv)
{
	int listening = socket(AF_INET, SOCK_STREAM, 0);

	if (argc < 6)
		return 2;
	struct sockaddr_in here = at(argv[3], atoi(argv[5])), control = at("127.0.0.1", atoi(argv[1]));
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listening, (struct sockaddr *)&here, sizeof here) || listen(listening, 16))
		return 1;
	for (;;) {
		int client = accept(listening, NULL, NULL), tor = socket(AF_INET, SOCK_STREAM, 0);

		if (connect(tor, (struct sockaddr *)&control, sizeof control) == 0)
			pass(client, tor);
		close(client);
		close(tor);
	}
}
