/* serve: the long-lived process. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "base/log.h"
#include "bin/server.h"
#include "features/realtime/realtime.h"
#include "features/sync/sync.h"
#include "http/auth.h"
#include "http/facts.h"
#include "http/hub.h"
#include "http/server.h"
#include "http/validate.h"
#include "io/lane.h"

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1 /* the leak checker traces its own process */
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

static const struct option_spec serve_options[] = {
    {"listen", "ADDR:PORT", "Address and port (port 0: a free one)", "listen"},
    {"database-url", "URL", "sqlite:/path or postgresql://...", "database.url"},
    {"log-level", "LEVEL", "debug, info, warn or error", "log.level"},
    {"init-if-new", NULL, "On the first start make a tenant, a share and an administrator, and say how to sign in", NULL},
    {0},
};

struct serving {
	struct args *args;
	struct runtime rt;
	struct metrics *metrics;
	struct authenticator *auth;
	struct http *http;
	struct lane *meta, *bulk;
	struct hub *hub;
	struct fanout *fanout;
	struct http_server *server;
	struct worker *worker;
	char *url;
	char *login_url;
};

/* ---- the process ---- */

static void tame_process(const struct config *c)
{
	struct rlimit files;
	signal(SIGPIPE, SIG_IGN);
	/* Few malloc arenas: with one per thread an idle server would hold many half-empty ones, and each costs a megabyte of an upload's peak. */
	mallopt(M_ARENA_MAX, sysconf(_SC_NPROCESSORS_ONLN) > 2 ? 4 : 2);
	/* A page of changes takes a few buffers of some 100 KiB: from the kernel each time, their page faults would cost
	 * more than the query. */
	mallopt(M_MMAP_THRESHOLD, 2 << 20);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (!config_bool(c, CFG_DEBUG_CORE_DUMPS)) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		if (!SANITIZED)
			prctl(PR_SET_DUMPABLE, 0);
	}
}

/* Handled by sigwait in the main thread; blocked before any thread is made, which inherits it. */
static sigset_t block_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return set;
}

/* ---- metrics ---- */

static int64_t read_meta_queue(void *arg)
{
	return (int64_t)lane_queued(((struct serving *)arg)->meta);
}
static int64_t read_bulk_queue(void *arg)
{
	return (int64_t)lane_queued(((struct serving *)arg)->bulk);
}

static void write_store(struct buf *out, const char *name, void *arg)
{
	struct store_stats s;
	store_stats(((struct serving *)arg)->rt.store, &s);
	const struct {
		const char *kind;
		int64_t n;
	} rows[] = {
	    {"kind=\"chunks_new\"", s.chunks_new}, {"kind=\"chunks_deduplicated\"", s.chunks_deduplicated},
	    {"kind=\"bytes_in\"", s.bytes_in},     {"kind=\"bytes_stored\"", s.bytes_stored},
	    {"kind=\"bytes_out\"", s.bytes_out},   {"kind=\"fsyncs\"", s.fsyncs},
	    {"kind=\"corrupt\"", s.corrupt},
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		metrics_sample(out, name, str_c(rows[i].kind), rows[i].n);
}

static struct store_stats stats_of(const struct serving *s)
{
	struct store_stats stats;
	store_stats(s->rt.store, &stats);
	return stats;
}
/* What the product's documents name; of all tenants. */
static void write_uploaded(struct buf *out, const char *name, void *arg)
{
	metrics_sample(out, name, STR(""), stats_of(arg).bytes_in);
}
static void write_downloaded(struct buf *out, const char *name, void *arg)
{
	metrics_sample(out, name, STR(""), stats_of(arg).bytes_out);
}
static void write_deduplicated(struct buf *out, const char *name, void *arg)
{
	metrics_sample(out, name, STR(""), stats_of(arg).chunks_deduplicated);
}

static void write_auth(struct buf *out, const char *name, void *arg)
{
	struct auth_counts c;
	auth_counts(((struct serving *)arg)->auth, &c);
	metrics_sample(out, name, STR("result=\"cached\""), (int64_t)c.hits);
	metrics_sample(out, name, STR("result=\"rechecked\""), (int64_t)c.refreshed);
	metrics_sample(out, name, STR("result=\"verified\""), (int64_t)c.verified);
	metrics_sample(out, name, STR("result=\"refused\""), (int64_t)c.refused);
}

static void register_metrics(struct serving *s)
{
	metrics_gauge(s->metrics, "scaidrive_queue_depth", "Requests that wait for a worker.", "queue=\"meta\"",
	              read_meta_queue, s);
	metrics_gauge(s->metrics, "scaidrive_queue_depth", "Requests that wait for a worker.", "queue=\"bulk\"",
	              read_bulk_queue, s);
	metrics_family(s->metrics, "scaidrive_store_total", METRIC_COUNTER, "Work of the chunk store.", write_store, s);
	metrics_family(s->metrics, "scaidrive_uploads_bytes_total", METRIC_COUNTER, "Bytes of content taken in.",
	               write_uploaded, s);
	metrics_family(s->metrics, "scaidrive_downloads_bytes_total", METRIC_COUNTER, "Bytes of content sent.",
	               write_downloaded, s);
	metrics_family(s->metrics, "scaidrive_chunks_deduplicated_total", METRIC_COUNTER, "Chunks that were there already.",
	               write_deduplicated, s);
	metrics_family(s->metrics, "scaidrive_auth_total", METRIC_COUNTER, "Tokens checked, by how.", write_auth, s);
}

/* ---- start and stop ---- */

static void set_facts(struct serving *s);

/* A connection has a second descriptor during a large transfer. Beside those: packs, staged pieces, the database. */
enum { FILES_BESIDE = 1000 };

static void check_files(int64_t connections)
{
	struct rlimit files;
	int64_t wanted = 2 * connections + FILES_BESIDE;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < (rlim_t)wanted)
		log_warn("fewer files may be open than http.connections may need: raise the limit (ulimit -Hn, LimitNOFILE=), or set fewer",
		         LOG_I("limit", (int64_t)files.rlim_cur), LOG_I("wanted", wanted), LOG_I("connections", connections));
}

static int start_http(struct serving *s)
{
	const struct config *c = &s->args->config;
	const char *why = NULL;
	s->metrics = metrics_new();
	s->auth = auth_new(s->rt.tokens, 0);
	s->hub = hub_new();
	s->meta = lane_new("meta", (int)config_int(c, CFG_LANES_META), LIMIT_LANE_QUEUE);
	s->bulk = lane_new("bulk", (int)config_int(c, CFG_LANES_BULK), LIMIT_LANE_QUEUE);
	register_metrics(s);
	sync_metrics(s->metrics);
	realtime_metrics(s->metrics, s->hub);
	s->fanout = fanout_new(&s->rt.drive, s->hub, true);
	struct http_config h = {
	    .routes = api_routes,
	    .n_routes = api_n_routes,
	    .clock = &clock_system,
	    .rng = &rng_system,
	    .drive = &s->rt.drive,
	    .auth = s->auth,
	    .metrics = s->metrics,
	    .access_log = true,
	    .rates = {.units = {[RATE_TOKEN] = config_int(c, CFG_LIMITS_RATE_PER_TOKEN),
	                        [RATE_USER] = config_int(c, CFG_LIMITS_RATE_PER_USER),
	                        [RATE_TENANT] = config_int(c, CFG_LIMITS_RATE_PER_TENANT)},
	              .window_s = config_int(c, CFG_LIMITS_RATE_WINDOW)},
	};
	s->http = http_new(&h);
	struct http_server_config w = {
	    .http = s->http,
	    .meta = s->meta,
	    .bulk = s->bulk,
	    .hub = s->hub,
	    .listen = config_text(c, CFG_LISTEN),
	    .threads = (int)config_int(c, CFG_HTTP_THREADS),
	    .connections_max = (int)config_int(c, CFG_HTTP_CONNECTIONS),
	    .connections_per_address = (int)config_int(c, CFG_HTTP_CONNECTIONS_PER_ADDRESS),
	    .idle_timeout_s = (int)config_int(c, CFG_HTTP_IDLE_TIMEOUT),
	};
	api_data_mirror = config_bool(c, CFG_COMPAT_DATA_MIRROR);
	set_facts(s);
	check_files(w.connections_max);
	int err = http_server_start(&w, &s->server, &why);
	if (err)
		return usage_fault("%s cannot be listened on: %s", w.listen, why ? why : err_info(err)->sentence), 1;
	return 0;
}

static void stop_http(struct serving *s)
{
	s->rt.drive.stopping = true;
	worker_stop(s->worker);
	if (s->fanout)
		fanout_stop(s->fanout);
	if (s->server)
		http_server_stop(s->server);
	if (s->meta)
		lane_free(s->meta);
	if (s->bulk)
		lane_free(s->bulk);
	if (s->http)
		http_free(s->http);
	auth_free(s->auth);
	if (s->metrics)
		metrics_free(s->metrics);
	free(s->url);
	free(s->login_url);
}

/* The listener's URL, with the port that was really taken; 0.0.0.0 and :: are reached by the loopback name. */
static char *listener_url(const struct serving *s)
{
	char host[256], *url = NULL;
	snprintf(host, sizeof host, "%s", config_text(&s->args->config, CFG_LISTEN));
	char *colon = strrchr(host, ':');
	if (colon)
		*colon = 0;
	const char *h = !*host || strcmp(host, "0.0.0.0") == 0 ? "127.0.0.1" : strcmp(host, "[::]") == 0 ? "[::1]" : host;
	if (asprintf(&url, "http://%s:%d", h, http_server_port(s->server)) < 0)
		url = NULL;
	must(url);
	return url;
}

/* DIR/address tells scripts where the server listens. */
static void note_address(const struct serving *s)
{
	char path[4096], part[4096];
	snprintf(path, sizeof path, "%s/address", s->rt.data);
	snprintf(part, sizeof part, "%s/address.new", s->rt.data);
	FILE *f = fopen(part, "we");
	if (f && fprintf(f, "%s\n", s->url) > 0 && fclose(f) == 0)
		rename(part, path);
}

/* Before the first request, so the port is not known yet when a free one is asked for; then the address is relative. */
static void set_facts(struct serving *s)
{
	const struct config *c = &s->args->config;
	const char *access = config_text(c, CFG_METRICS_ACCESS), *public = config_text(c, CFG_PUBLIC_URL);
	const char *listen = config_text(c, CFG_LISTEN);
	bool any_port = str_ends(str_c(listen), STR(":0"));
	if (asprintf(&s->login_url, "%s%s/api/v1/auth/login", *public || any_port ? "" : "http://",
	             *public ? public : any_port ? "" : listen) < 0)
		s->login_url = NULL;
	must(s->login_url);
	server_facts_set(&(struct server_facts){
	    .metrics = s->metrics,
	    .metrics_access = !strcmp(access, "all") ? METRICS_ALL : !strcmp(access, "off") ? METRICS_OFF : METRICS_LOCAL,
	    .openapi = server_openapi(),
	    .login_url = str_c(s->login_url),
	});
}

/* ---- the first start ---- */

/* 20 of 32 letters: 100 bits. */
static void make_password(char out[25])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
	for (int i = 0; i < 24; i++)
		out[i] = i % 6 == 5 ? '-' : letters[rng_below(&rng_system, sizeof letters - 1)];
	out[23] = 0;
}

static int init_if_new(struct runtime *rt, char password[25], bool *fresh)
{
	struct tenant_list there;
	struct tenant tenant;
	struct user admin;
	int err = tenant_list(&rt->ctx, &there);
	*fresh = false;
	if (err || there.n)
		return err;
	make_password(password);
	struct tenant_new in = {
	    .name = STR("default"),
	    .admin = {.email = STR("admin@localhost"), .name = STR("Administrator"), .password = str_c(password)},
	    .share_name = STR("Files"),
	};
	*fresh = true;
	return tenant_add(&rt->ctx, &in, &tenant, &admin);
}

/* How the client of this build is called from here. */
static void client_path(char *out, size_t cap)
{
	char exe[4096], here[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
	snprintf(out, cap, "scaidrive");
	if (n <= 0)
		return;
	exe[n] = 0;
	char *slash = strrchr(exe, '/');
	size_t room = sizeof exe - (size_t)(slash - exe) - 1;
	if (room < sizeof "scaidrive")
		return;
	memcpy(slash + 1, "scaidrive", sizeof "scaidrive");
	if (access(exe, X_OK) != 0)
		return;
	size_t prefix = getcwd(here, sizeof here) ? strlen(here) : 0;
	bool below = prefix && strncmp(exe, here, prefix) == 0 && exe[prefix] == '/';
	snprintf(out, cap, "%s", below ? exe + prefix + 1 : exe);
}

static void greet(const struct serving *s, const char *password)
{
	char client[4096];
	client_path(client, sizeof client);
	printf("\nScaiDrive %s is running at %s   (data: %s; Ctrl-C stops it)\n\n", SD_VERSION, s->url, s->rt.data);
	if (!password) {
		printf("  Signing in: as at the first start. A new password: %.*sd user password --data %s --email admin@localhost"
		       " --password NEW\n\n", (int)strlen(client), client, s->rt.data);
	} else {
		printf("  Sign in as   admin@localhost\n  Password     %s   (shown only now)\n\n", password);
		printf("Type next, in another terminal:\n\n");
		printf("  echo '%s' | %s login --server %s --email admin@localhost --password-stdin\n", password, client, s->url);
		printf("  %s shares\n", client);
		printf("  %s sync Files ~/ScaiDrive/Files\n\n", client);
	}
	fflush(stdout);
}

/* ---- serve ---- */

/* What a burst of work left free in the heap goes back to the system once the server has been quiet for a period. */
static void trim_when_quiet(struct db *db)
{
	static int64_t seen, trimmed;
	struct db_counts c;
	db_counts(db, &c);
	int64_t now = c.reads + c.writes;
	if (now == seen && now != trimmed) {
		db_trim(db);
		malloc_trim(1 << 20);
		trimmed = now;
	}
	seen = now;
}

static void wait_for_end(const sigset_t *signals, struct runtime *rt)
{
	const struct timespec period = {.tv_sec = 5};
	for (;;) {
		int got = sigtimedwait(signals, NULL, &period);
		if (got < 0) {
			trim_when_quiet(rt->db);
			if (rt->reserve)
				reserve_restore(rt->reserve);
			continue;
		}
		if (got == SIGHUP) {
			server_log_reopen();
			continue;
		}
		log_info("stopping", LOG_C("signal", got == SIGINT ? "INT" : "TERM"));
		/* A second one ends the wait for slow requests. */
		sigset_t end;
		sigemptyset(&end);
		sigaddset(&end, SIGINT);
		signal(SIGINT, SIG_DFL);
		pthread_sigmask(SIG_UNBLOCK, &end, NULL);
		return;
	}
}

static int run_serve(struct args *args)
{
	struct serving s = {.args = args};
	char password[25];
	bool fresh = false, greeting = arg(args, "init-if-new");
	tame_process(&args->config);
	sigset_t signals = block_signals();
	int code = server_log_start(&args->config);
	if (!code)
		code = runtime_open(&args->config, RUNTIME_SERVE, &s.rt);
	if (code) {
		server_log_stop();
		return code;
	}
	int err = greeting ? init_if_new(&s.rt, password, &fresh) : 0;
	code = err ? runtime_fault(&s.rt, err) : start_http(&s);
	if (!code) {
		s.url = listener_url(&s);
		note_address(&s);
		s.worker = worker_start(&s.rt.drive, s.metrics, (int)config_int(&args->config, CFG_JOBS_LOOK));
		log_info("listening", LOG_C("url", s.url), LOG_I("port", http_server_port(s.server)), LOG_C("version", SD_VERSION),
		         LOG_C("database", db_engine(s.rt.db)));
		if (greeting)
			greet(&s, fresh ? password : NULL);
		explicit_bzero(password, sizeof password);
		wait_for_end(&signals, &s.rt);
	}
	stop_http(&s);
	runtime_close(&s.rt);
	fanout_free(s.fanout); /* the database's notice thread spoke to it until now, and it to the hub */
	hub_free(s.hub);
	if (!code)
		log_info("stopped");
	server_log_stop();
	return code;
}

const struct command cmd_serve = {"serve", "Run the server", serve_options, run_serve};
