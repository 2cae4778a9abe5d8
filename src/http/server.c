#include "http/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/must.h"
#include "http/server_priv.h"
#include "http/socket.h"

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* "127.0.0.1:8000", "[::1]:0" */
static bool parse_listen(const char *text, union address *out, socklen_t *size)
{
	struct str s = str_c(text);
	ptrdiff_t colon = str_rchr(s, ':');
	uint64_t port;
	char host[64];
	*out = (union address){0};
	if (colon <= 0 || !str_to_u64(str_skip(s, (size_t)colon + 1), &port) || port > 65535)
		return false;
	struct str h = str_head(s, (size_t)colon);
	bool v6 = h.n > 2 && h.p[0] == '[' && h.p[h.n - 1] == ']';
	if (v6)
		h = str_n(h.p + 1, h.n - 2);
	if (h.n >= sizeof host)
		return false;
	memcpy(host, h.p, h.n);
	host[h.n] = 0;
	if (v6) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons((uint16_t)port);
		*size = sizeof out->v6;
		return inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1;
	}
	out->v4.sin_family = AF_INET;
	out->v4.sin_port = htons((uint16_t)port);
	*size = sizeof out->v4;
	return inet_pton(AF_INET, host, &out->v4.sin_addr) == 1;
}

static int listen_on(struct http_server *s, const char **why)
{
	union address address;
	socklen_t size;
	int on = 1;
	if (!parse_listen(s->config.listen, &address, &size)) {
		*why = "not an address; write 127.0.0.1:8000 or [::1]:8000";
		return E_USAGE;
	}
	s->listen_fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->listen_fd < 0 || setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(s->listen_fd, &address.any, size) < 0 || listen(s->listen_fd, 4096) < 0 ||
	    getsockname(s->listen_fd, &address.any, &size) < 0) {
		*why = strerror(errno);
		return E_IO;
	}
	s->port = ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
	return E_OK;
}

static void __attribute__((format(printf, 2, 0))) on_log(void *cls, const char *fmt, va_list ap)
{
	char line[256];
	(void)cls;
	vsnprintf(line, sizeof line, fmt, ap);
	log_debug("libmicrohttpd", LOG_S("text", str_trim(str_c(line))));
}

/* Paths and queries reach us as they were sent; we decode them ourselves. */
static size_t on_unescape(void *cls, struct MHD_Connection *con, char *s)
{
	(void)cls;
	(void)con;
	return strlen(s);
}

/* Those this process may run on, which in a container is less than the machine has. */
static int core_count(void)
{
	cpu_set_t mine;
	int n = sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : (int)sysconf(_SC_NPROCESSORS_ONLN);
	return n < 1 ? 1 : n > 8 ? 8 : n;
}

/* MHD_quiesce_daemon would close the door for good, but it and a busy worker both take the listener out of the worker's
 * epoll set, and MHD aborts the process when the second finds it gone. Refusing at the door has no such race. */
static enum MHD_Result on_accept(void *cls, const struct sockaddr *address, socklen_t n)
{
	struct http_server *s = cls;
	(void)address;
	(void)n;
	return atomic_load(&s->stopping) ? MHD_NO : MHD_YES;
}

static struct MHD_Daemon *start_daemon(struct http_server *s)
{
	const struct http_server_config *c = &s->config;
	unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_TURBO |
	                 MHD_USE_ERROR_LOG | MHD_USE_ITC;
	unsigned threads = (unsigned)(c->threads ? c->threads : core_count());
	unsigned connections = (unsigned)(c->connections_max ? c->connections_max : 10000);
	int timeout_ms = c->idle_timeout_s ? c->idle_timeout_s * 1000 : LIMIT_SLOW_BODY_MS;
	if (connections < threads)
		connections = threads;
	struct MHD_OptionItem pool[] = {
	    {threads > 1 ? MHD_OPTION_THREAD_POOL_SIZE : MHD_OPTION_END, (intptr_t)threads, NULL},
	    {MHD_OPTION_END, 0, NULL},
	};
	return MHD_start_daemon(flags, 0, on_accept, s, on_request, s, MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL,
	                        MHD_OPTION_LISTEN_SOCKET, s->listen_fd, MHD_OPTION_URI_LOG_CALLBACK, on_target, s,
	                        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
	                        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)LIMIT_HEADER_MEMORY,
	                        MHD_OPTION_CONNECTION_LIMIT, connections, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
	                        (unsigned)c->connections_per_address, MHD_OPTION_CONNECTION_TIMEOUT,
	                        (unsigned)(timeout_ms + 999) / 1000, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_ARRAY,
	                        pool, MHD_OPTION_END);
}

static void destroy(struct http_server *s)
{
	if (s->listen_fd >= 0)
		close(s->listen_fd);
	while (s->n_slabs)
		free(s->slabs[--s->n_slabs]);
	pthread_mutex_destroy(&s->slab_lock);
	pthread_mutex_destroy(&s->reactor_lock);
	free(s);
}

int http_server_start(const struct http_server_config *config, struct http_server **out, const char **why)
{
	struct http_server *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->config = *config;
	s->listen_fd = -1;
	pthread_mutex_init(&s->slab_lock, NULL);
	pthread_mutex_init(&s->reactor_lock, NULL);
	int err = listen_on(s, why);
	if (err) {
		destroy(s);
		return err;
	}
	if (config->hub)
		s->reactor = reactor_new(&(struct reactor_config){
		    .hub = config->hub,
		    .http = config->http,
		    .lane = config->meta,
		    .ping_ms = config->ws_ping_ms,
		    .silence_ms = config->ws_silence_ms,
		});
	s->transfers = transfers_new(s);
	s->daemon = start_daemon(s);
	if (!s->daemon) {
		*why = "the server could not be started";
		transfers_free(s->transfers);
		if (s->reactor)
			reactor_free(s->reactor, 0);
		destroy(s);
		return E_IO;
	}
	s->listen_fd = -1; /* MHD's now */
	*out = s;
	return E_OK;
}

int http_server_port(const struct http_server *s)
{
	return s->port;
}

/* Polling: this happens once in the life of a process. */
static bool wait_zero(_Atomic int *n, int ms)
{
	while (atomic_load(n) > 0) {
		if (ms-- <= 0)
			return false;
		usleep(1000);
	}
	return true;
}

/* Lane jobs never wait for a socket, so whatever still runs comes to its end and these waits are finite. */
static void wait_zero_forever(_Atomic int *n)
{
	while (!wait_zero(n, 10000))
		log_warn("waiting for running work to stop");
}

void http_server_stop(struct http_server *s)
{
	int grace_ms = s->config.grace_ms ? s->config.grace_ms : 5000;
	atomic_store(&s->stopping, true); /* also refuses new connections */
	wait_zero(&s->active, grace_ms);
	pthread_mutex_lock(&s->reactor_lock);
	struct reactor *reactor = s->reactor;
	s->reactor = NULL;
	pthread_mutex_unlock(&s->reactor_lock);
	if (reactor)
		reactor_free(reactor, grace_ms < 1000 ? grace_ms : 1000);
	/* MHD aborts when it is stopped with a suspended connection */
	atomic_store(&s->cutting, true);
	transfers_cut(s->transfers);
	wait_zero_forever(&s->suspended);
	MHD_stop_daemon(s->daemon);
	wait_zero_forever(&s->flights);
	transfers_free(s->transfers);
	destroy(s);
}
