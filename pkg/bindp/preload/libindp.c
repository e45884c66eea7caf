/* SPDX-License-Identifier: GPL-3.0-or-later */

/*
 * libindp.so, to be preloaded into dynamically linked programs where
 * bindp-launcher(1) can do nothing better: bind(2) and connect(2) with the
 * addresses of BIND_ADDR, BIND_ADDR6 and BIND_PORT. It decides as pkg/bindp
 * does, rewrite.go and settings.go there.
 *
 * Settings are read once, before the program runs, and not changed after; so
 * any number of threads may read them. The program's addresses are copied,
 * never written. Nothing but bind and connect is exported.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default")))

enum { REFUSED = 125 }; /* exit code, as of the launcher */

typedef int (*call)(int, const struct sockaddr *, socklen_t);

union address {
	struct sockaddr any;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_storage storage;
};

static struct {
	bool has4, has6;
	struct in_addr addr4;
	struct in6_addr addr6;
	uint32_t scope;
	in_port_t port; /* in network byte order; 0: as the program asks */
	bool reuse_addr, reuse_port, transparent;
} settings;

static void complain(const char *variable, const char *value)
{
	const char *const parts[] = { "invalid value '", value, "' for variable '", variable, "'\n" };
	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
		if (write(STDERR_FILENO, parts[i], strlen(parts[i])) < 0)
			return;
}

/* A program that would not be bound where it should is not to run. */
static _Noreturn void refuse(const char *variable, const char *value)
{
	complain(variable, value);
	_exit(REFUSED);
}

/* The value of a variable; NULL when it is not set or empty. */
static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value != NULL && *value != '\0' ? value : NULL;
}

static bool enabled(const char *name)
{
	const char *value = variable(name);
	if (value == NULL || strcmp(value, "0") == 0)
		return false;
	if (strcmp(value, "1") == 0)
		return true;
	complain(name, value);
	return false;
}

static void read_addr6(const char *value)
{
	char text[INET6_ADDRSTRLEN];
	const char *zone = strchr(value, '%');
	size_t length = zone != NULL ? (size_t)(zone - value) : strlen(value);

	if (length >= sizeof text)
		refuse("BIND_ADDR6", value);
	memcpy(text, value, length);
	text[length] = '\0';
	if (inet_pton(AF_INET6, text, &settings.addr6) != 1 || IN6_IS_ADDR_V4MAPPED(&settings.addr6))
		refuse("BIND_ADDR6", value);
	if (zone != NULL) {
		char *end;
		unsigned long number = strtoul(zone + 1, &end, 10);

		settings.scope = *end == '\0' && end > zone + 1 ? (uint32_t)number : if_nametoindex(zone + 1);
		if (settings.scope == 0)
			refuse("BIND_ADDR6", value);
	}
	settings.has6 = true;
}

static void read_port(const char *value)
{
	unsigned long number = 0;

	for (const char *c = value; *c != '\0'; c++) {
		if (*c < '0' || *c > '9')
			refuse("BIND_PORT", value);
		number = number * 10 + (unsigned long)(*c - '0');
		if (number > UINT16_MAX)
			refuse("BIND_PORT", value);
	}
	settings.port = htons((uint16_t)number);
}

__attribute__((constructor)) static void read_settings(void)
{
	const char *value;

	settings.reuse_addr = enabled("REUSE_ADDR");
	settings.reuse_port = enabled("REUSE_PORT");
	settings.transparent = enabled("IP_TRANSPARENT");
	if ((value = variable("BIND_ADDR")) != NULL) {
		if (inet_aton(value, &settings.addr4) == 0)
			refuse("BIND_ADDR", value);
		settings.has4 = true;
	}
	if ((value = variable("BIND_ADDR6")) != NULL)
		read_addr6(value);
	if ((value = variable("BIND_PORT")) != NULL)
		read_port(value);
}

/* The next bind or connect: the C library's, unless something else is
 * preloaded too. Without any, the system call itself. */
static int next(const char *name, long number, int fd, const struct sockaddr *address, socklen_t length)
{
	call function;
	void *symbol = dlsym(RTLD_NEXT, name);

	if (symbol == NULL)
		return (int)syscall(number, fd, address, length);
	memcpy(&function, &symbol, sizeof function);
	return function(fd, address, length);
}

static int next_bind(int fd, const struct sockaddr *address, socklen_t length)
{
	return next("bind", SYS_bind, fd, address, length);
}

/* An option that cannot be set is not set. */
static void set(bool on, int fd, int level, int option)
{
	const int one = 1;

	if (on)
		(void)setsockopt(fd, level, option, &one, sizeof one);
}

static void set_options(int fd, int domain)
{
	set(settings.reuse_addr, fd, SOL_SOCKET, SO_REUSEADDR);
	set(settings.reuse_port, fd, SOL_SOCKET, SO_REUSEPORT);
	set(settings.transparent, fd, SOL_IP, IP_TRANSPARENT);
	set(settings.transparent && domain == AF_INET6, fd, SOL_IPV6, IPV6_TRANSPARENT);
}

/* The socket's family, if it is one of ours; else AF_UNSPEC. */
static int domain_of(int fd)
{
	int domain = AF_UNSPEC, saved = errno;
	socklen_t size = sizeof domain;

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) != 0 || (domain != AF_INET && domain != AF_INET6))
		domain = AF_UNSPEC;
	errno = saved;
	return domain;
}

static bool is4(const union address *a, socklen_t length, bool loose)
{
	return length >= sizeof a->in4 &&
	       (a->any.sa_family == AF_INET ||
		(loose && a->any.sa_family == AF_UNSPEC && a->in4.sin_addr.s_addr == INADDR_ANY));
}

static bool is6(const union address *a, socklen_t length)
{
	const socklen_t without_scope = 24; /* RFC 2133, which the kernel takes */

	return length >= without_scope && a->any.sa_family == AF_INET6;
}

static void rewrite4(union address *a)
{
	if (settings.has4)
		a->in4.sin_addr = settings.addr4;
	if (settings.port != 0)
		a->in4.sin_port = settings.port;
}

static void rewrite6(union address *a, socklen_t *length)
{
	if (settings.port != 0)
		a->in6.sin6_port = settings.port;
	if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr)) {
		if (settings.has4)
			memcpy(&a->in6.sin6_addr.s6_addr[12], &settings.addr4, sizeof settings.addr4);
		return;
	}
	a->in6.sin6_addr = settings.addr6;
	a->in6.sin6_scope_id = settings.scope;
	if (*length < sizeof a->in6)
		*length = sizeof a->in6;
}

EXPORTED int bind(int fd, const struct sockaddr *address, socklen_t length)
{
	union address copy = { 0 };
	int domain = domain_of(fd), saved = errno;

	if (domain == AF_UNSPEC)
		return next_bind(fd, address, length);
	set_options(fd, domain);
	errno = saved;
	if (address == NULL || length > sizeof copy)
		return next_bind(fd, address, length); /* EFAULT, EINVAL */
	memcpy(&copy, address, length);
	if (domain == AF_INET && is4(&copy, length, true))
		rewrite4(&copy);
	else if (domain == AF_INET6 && settings.has6 && is6(&copy, length))
		rewrite6(&copy, &length);
	return next_bind(fd, &copy.any, length);
}

/* The address to bind to before connecting to the one asked for; its length is
 * 0 when there is none. */
static socklen_t source_for(int domain, const union address *asked, socklen_t length, union address *source)
{
	socklen_t size = sizeof source->in6;
	bool mapped = is4(asked, length, false);

	memset(source, 0, sizeof *source);
	if (domain == AF_INET) {
		if (!mapped || (!settings.has4 && settings.port == 0))
			return 0;
		source->in4.sin_family = AF_INET;
		rewrite4(source);
		return sizeof source->in4;
	}
	if (!settings.has6 || (!mapped && !is6(asked, length)))
		return 0;
	mapped = mapped || IN6_IS_ADDR_V4MAPPED(&asked->in6.sin6_addr);
	source->in6.sin6_family = AF_INET6;
	if (!mapped) {
		rewrite6(source, &size);
		return size;
	}
	if (settings.has4) {
		source->in6.sin6_addr.s6_addr[10] = source->in6.sin6_addr.s6_addr[11] = 0xff;
		memcpy(&source->in6.sin6_addr.s6_addr[12], &settings.addr4, sizeof settings.addr4);
	} else if (settings.port == 0) {
		return 0;
	}
	source->in6.sin6_port = settings.port;
	return size;
}

/* A socket with a local port or address is bound. Both families have the port
 * in the same place. */
static bool is_bound(int fd)
{
	union address local = { 0 };
	socklen_t length = sizeof local;

	if (getsockname(fd, &local.any, &length) != 0)
		return true; /* the kernel is to say what is wrong */
	if (local.in4.sin_port != 0)
		return true;
	if (local.any.sa_family == AF_INET)
		return local.in4.sin_addr.s_addr != INADDR_ANY;
	return !IN6_IS_ADDR_UNSPECIFIED(&local.in6.sin6_addr);
}

/* Binds, and leaves the choice of a free port to connect, which knows for which
 * destination it has to be free. */
static int bind_source(int fd, const union address *source, socklen_t length)
{
	int before = 0, result, saved;
	const int one = 1;
	socklen_t size = sizeof before;

	if (source->in4.sin_port != 0 ||
	    getsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &before, &size) != 0 || before != 0)
		return next_bind(fd, &source->any, length);
	(void)setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
	result = next_bind(fd, &source->any, length);
	saved = errno;
	(void)setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &before, sizeof before);
	errno = saved;
	return result;
}

EXPORTED int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	union address asked = { 0 }, source;
	int domain = domain_of(fd), saved = errno;
	socklen_t size;

	if (domain != AF_UNSPEC && address != NULL && length <= sizeof asked) {
		memcpy(&asked, address, length);
		size = source_for(domain, &asked, length, &source);
		if (size != 0 && !is_bound(fd)) {
			set_options(fd, domain);
			if (bind_source(fd, &source, size) != 0) {
				if (errno != EADDRINUSE || settings.port == 0)
					return -1;
				source.in4.sin_port = 0;
				if (bind_source(fd, &source, size) != 0)
					return -1;
			}
			errno = saved;
		}
	}
	return next("connect", SYS_connect, fd, address, length);
}
