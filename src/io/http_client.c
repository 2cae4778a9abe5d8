#include "io/http_client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <zstd.h>

#include "base/must.h"

enum { POOL_MAX = 16, DEFAULT_IDLE_MS = 60000, DEFAULT_CONNECT_MS = 10000, PACK_LEAST_BYTES = 1024, PACK_LEVEL = 3,
       ASK_LEAST_BYTES = 1 << 20 };

struct curl_client {
	struct http_client face;
	char *base, *ca_file, *proxy, *agent;
	struct str host, prefix; /* within base */
	int connect_timeout_ms;
	bool (*cancelled)(void *);
	void *cancelled_arg;
	CURLSH *share; /* DNS and TLS sessions */
	pthread_mutex_t lock, share_locks[CURL_LOCK_DATA_LAST];
	CURL *idle[POOL_MAX];
	int n_idle;
};

struct transfer {
	struct curl_client *client;
	struct http_call *call;
	CURL *easy;
	int err; /* what source or sink said */
	struct str body; /* the call's, or packed */
	size_t body_at;
	char *packed;
	char message[CURL_ERROR_SIZE];
};

static void share_lock(CURL *easy, curl_lock_data data, curl_lock_access access, void *arg)
{
	(void)easy;
	(void)access;
	pthread_mutex_lock(&((struct curl_client *)arg)->share_locks[data]);
}

static void share_unlock(CURL *easy, curl_lock_data data, void *arg)
{
	(void)easy;
	pthread_mutex_unlock(&((struct curl_client *)arg)->share_locks[data]);
}

static CURL *take_easy(struct curl_client *c)
{
	CURL *easy = NULL;
	pthread_mutex_lock(&c->lock);
	if (c->n_idle)
		easy = c->idle[--c->n_idle];
	pthread_mutex_unlock(&c->lock);
	if (easy)
		curl_easy_reset(easy); /* keeps its connections */
	else
		easy = curl_easy_init();
	must(easy != NULL);
	return easy;
}

static void give_easy(struct curl_client *c, CURL *easy)
{
	pthread_mutex_lock(&c->lock);
	if (c->n_idle < POOL_MAX) {
		c->idle[c->n_idle++] = easy;
		easy = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	if (easy)
		curl_easy_cleanup(easy);
}

static size_t on_read(char *out, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	size_t got = 0, cap = size * n;
	if (t->call->source) {
		t->err = t->call->source->read(t->call->source, out, cap, &got);
		return t->err ? CURL_READFUNC_ABORT : got;
	}
	got = t->body.n - t->body_at;
	if (got > cap)
		got = cap;
	memcpy(out, t->body.p + t->body_at, got);
	t->body_at += got;
	return got;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct http_call *call = t->call;
	long status = 0;
	n *= size;
	curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
	if (call->sink && status >= 200 && status < 300) {
		t->err = call->sink->write(call->sink, p, n);
	} else if (call->reply_max - call->reply.n < n) {
		t->err = E_TOO_LARGE;
	} else {
		buf_put(&call->reply, p, n);
	}
	return t->err ? 0 : n;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct transfer *t = arg;
	struct str line = str_n(p, size * n), name = str_cut(&line, ':');
	int64_t seconds;
	if (str_ieq(name, STR("Retry-After")) && str_to_i64(str_trim(line), &seconds) && seconds > 0)
		t->call->retry_after_s = seconds > 3600 ? 3600 : (int)seconds;
	return size * n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct transfer *t = arg;
	(void)a;
	(void)b;
	(void)c;
	(void)d;
	return t->client->cancelled && t->client->cancelled(t->client->cancelled_arg);
}

static void set_connection(struct curl_client *c, CURL *easy)
{
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)c->connect_timeout_ms);
	curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
	curl_easy_setopt(easy, CURLOPT_SHARE, c->share);
	if (c->ca_file)
		curl_easy_setopt(easy, CURLOPT_CAINFO, c->ca_file);
	if (c->proxy)
		curl_easy_setopt(easy, CURLOPT_PROXY, c->proxy);
}

static struct curl_slist *add_header(struct curl_slist *list, const char *text)
{
	struct curl_slist *more = curl_slist_append(list, text);
	must(more != NULL);
	return more;
}

static bool is_json(struct str type)
{
	return str_ieq(str_head(type, 16), STR("application/json"));
}

/* JSON that is worth it travels as one zstd frame (RFC 8878). */
static void pack_body(struct transfer *t)
{
	t->body = t->call->body;
	if (t->call->source || t->body.n < PACK_LEAST_BYTES || !is_json(t->call->content_type))
		return;
	size_t cap = ZSTD_compressBound(t->body.n);
	t->packed = malloc(cap);
	must(t->packed != NULL);
	size_t n = ZSTD_compress(t->packed, cap, t->body.p, t->body.n, PACK_LEVEL);
	if (ZSTD_isError(n) || n >= t->body.n) {
		free(t->packed);
		t->packed = NULL;
	} else {
		t->body = str_n(t->packed, n);
	}
}

static struct curl_slist *set_headers(struct ctx *ctx, const struct http_call *call, bool packed)
{
	/* a server that refuses a large body says so before it comes, and does not cut us off in the midst of it */
	bool ask = call->source && call->source->length > ASK_LEAST_BYTES;
	struct curl_slist *list = add_header(NULL, ask ? "Expect: 100-continue" : "Expect:");
	list = add_header(list, "Accept: application/json, */*;q=0.5");
	if (call->token.p)
		list = add_header(list, arena_fmt(ctx->arena, "Authorization: Bearer %.*s", STR_ARG(call->token)).p);
	if (call->content_type.p)
		list = add_header(list, arena_fmt(ctx->arena, "Content-Type: %.*s", STR_ARG(call->content_type)).p);
	if (packed)
		list = add_header(list, "Content-Encoding: zstd");
	for (size_t i = 0; i < call->n_headers; i++)
		list = add_header(list, arena_cstr(ctx->arena, call->headers[i]));
	return list;
}

static void set_request(struct transfer *t, struct ctx *ctx)
{
	struct http_call *call = t->call;
	CURL *easy = t->easy;
	struct str url = arena_fmt(ctx->arena, "%s%.*s", t->client->base, STR_ARG(call->path));
	long idle_s = ((call->timeout_ms ? call->timeout_ms : DEFAULT_IDLE_MS) + 999) / 1000;
	set_connection(t->client, easy);
	curl_easy_setopt(easy, CURLOPT_URL, url.p);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, t->client->agent);
	curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, call->method);
	if (call->source || call->body.n || strcmp(call->method, "POST") == 0) {
		int64_t length = call->source ? call->source->length : (int64_t)t->body.n;
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)length);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
		curl_easy_setopt(easy, CURLOPT_READDATA, t);
		curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
	}
	if (!call->sink) /* contents travel as they are */
		curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "zstd, gzip");
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L * 1024);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
	curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, idle_s);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, t);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, t->message);
}

static int outcome(struct transfer *t, struct ctx *ctx, CURLcode code)
{
	if (t->err)
		return t->err;
	if (code == CURLE_OK)
		return 0;
	if (code == CURLE_ABORTED_BY_CALLBACK)
		return ctx_fail(ctx, E_CANCELLED, "The transfer was cancelled.");
	int err = code == CURLE_OPERATION_TIMEDOUT ? E_TIMEOUT : E_NETWORK;
	return ctx_fail(ctx, err, "%s: %s", t->client->base, t->message[0] ? t->message : curl_easy_strerror(code));
}

static int curl_call(struct http_client *face, struct ctx *ctx, struct http_call *call)
{
	struct curl_client *c = (struct curl_client *)face;
	struct transfer t = {.client = c, .call = call, .easy = take_easy(c)};
	pack_body(&t);
	struct curl_slist *headers = set_headers(ctx, call, t.packed != NULL);
	set_request(&t, ctx);
	curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, headers);
	CURLcode code = curl_easy_perform(t.easy);
	int err = outcome(&t, ctx, code);
	if (!err) {
		long status = 0;
		char *type = NULL;
		curl_off_t length = -1;
		curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
		curl_easy_getinfo(t.easy, CURLINFO_CONTENT_TYPE, &type);
		curl_easy_getinfo(t.easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
		call->status = (int)status;
		call->length = length;
		call->is_json = type && is_json(str_c(type));
	}
	curl_easy_setopt(t.easy, CURLOPT_HTTPHEADER, NULL);
	curl_easy_setopt(t.easy, CURLOPT_ERRORBUFFER, NULL);
	curl_slist_free_all(headers);
	free(t.packed);
	give_easy(c, t.easy);
	return err;
}

static void curl_free_client(struct http_client *face)
{
	struct curl_client *c = (struct curl_client *)face;
	while (c->n_idle)
		curl_easy_cleanup(c->idle[--c->n_idle]);
	curl_share_cleanup(c->share);
	pthread_mutex_destroy(&c->lock);
	for (int i = 0; i < CURL_LOCK_DATA_LAST; i++)
		pthread_mutex_destroy(&c->share_locks[i]);
	free(c->base);
	free(c->ca_file);
	free(c->proxy);
	free(c->agent);
	free(c);
}

static pthread_once_t global_once = PTHREAD_ONCE_INIT;

static void global_init(void)
{
	must(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static char *copy(const char *s)
{
	char *p = s && *s ? strdup(s) : NULL;
	must(p || !s || !*s);
	return p;
}

int http_client_new(struct ctx *ctx, const struct http_client_config *config, struct http_client **out)
{
	struct str url = str_c(config->base_url ? config->base_url : "");
	bool tls = str_starts(url, STR("https://"));
	if (!tls && !str_starts(url, STR("http://")))
		return ctx_fail(ctx, E_USAGE, "\"%.*s\" is not an http:// or https:// URL.", STR_ARG(url));
	while (url.n && url.p[url.n - 1] == '/')
		url.n--;
	pthread_once(&global_once, global_init);
	struct curl_client *c = calloc(1, sizeof(*c));
	must(c != NULL);
	c->face = (struct http_client){.call = curl_call, .free = curl_free_client};
	c->base = strndup(url.p, url.n);
	must(c->base != NULL);
	c->prefix = str_skip(str_c(c->base), tls ? 8 : 7);
	ptrdiff_t slash = str_chr(c->prefix, '/');
	c->host = slash < 0 ? c->prefix : str_head(c->prefix, (size_t)slash);
	c->prefix = str_skip(c->prefix, c->host.n);
	c->ca_file = copy(config->ca_file);
	c->proxy = copy(config->proxy);
	c->agent = copy(config->user_agent ? config->user_agent : "scaidrive/" SD_VERSION);
	c->connect_timeout_ms = config->connect_timeout_ms ? config->connect_timeout_ms : DEFAULT_CONNECT_MS;
	c->cancelled = config->cancelled;
	c->cancelled_arg = config->cancelled_arg;
	pthread_mutex_init(&c->lock, NULL);
	for (int i = 0; i < CURL_LOCK_DATA_LAST; i++)
		pthread_mutex_init(&c->share_locks[i], NULL);
	c->share = curl_share_init();
	must(c->share != NULL);
	curl_share_setopt(c->share, CURLSHOPT_USERDATA, c);
	curl_share_setopt(c->share, CURLSHOPT_LOCKFUNC, share_lock);
	curl_share_setopt(c->share, CURLSHOPT_UNLOCKFUNC, share_unlock);
	curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
	curl_share_setopt(c->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
	*out = &c->face;
	return 0;
}

void http_client_free(struct http_client *c)
{
	if (c)
		c->free(c);
}

void http_call_fini(struct http_call *call)
{
	buf_fini(&call->reply);
}

void http_escape(struct buf *b, struct str s)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
		             c == '.' || c == '_' || c == '~';
		if (plain) {
			buf_char(b, (char)c);
		} else {
			buf_char(b, '%');
			buf_char(b, hex[c >> 4]);
			buf_char(b, hex[c & 15]);
		}
	}
}

/* ---- tunnels ---- */

struct http_tunnel {
	CURL *easy;
};

int http_tunnel_open(struct http_client *face, struct ctx *ctx, struct http_tunnel **out)
{
	if (face->call != curl_call)
		return ctx_fail(ctx, E_NETWORK, "This transport has no sockets.");
	struct curl_client *c = (struct curl_client *)face;
	CURL *easy = curl_easy_init();
	must(easy != NULL);
	char message[CURL_ERROR_SIZE] = "";
	set_connection(c, easy);
	curl_easy_setopt(easy, CURLOPT_URL, c->base);
	curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(easy, CURLOPT_HTTPPROXYTUNNEL, c->proxy ? 1L : 0L);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, message);
	CURLcode code = curl_easy_perform(easy);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	if (code != CURLE_OK) {
		int err = ctx_fail(ctx, E_NETWORK, "%s: %s", c->base, message[0] ? message : curl_easy_strerror(code));
		curl_easy_cleanup(easy);
		return err;
	}
	struct http_tunnel *t = calloc(1, sizeof(*t));
	must(t != NULL);
	t->easy = easy;
	*out = t;
	return 0;
}

static int tunnel_err(CURLcode code)
{
	return code == CURLE_OK ? 0 : code == CURLE_AGAIN ? E_BUSY : E_NETWORK;
}

int http_tunnel_send(struct http_tunnel *t, const void *p, size_t n, size_t *sent)
{
	*sent = 0;
	return tunnel_err(curl_easy_send(t->easy, p, n, sent));
}

int http_tunnel_recv(struct http_tunnel *t, void *p, size_t cap, size_t *got)
{
	*got = 0;
	int err = tunnel_err(curl_easy_recv(t->easy, p, cap, got));
	return !err && *got == 0 ? E_NETWORK : err;
}

int http_tunnel_fd(struct http_tunnel *t)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	curl_easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &fd);
	return fd == CURL_SOCKET_BAD ? -1 : (int)fd;
}

void http_tunnel_close(struct http_tunnel *t)
{
	if (!t)
		return;
	curl_easy_cleanup(t->easy);
	free(t);
}

struct str http_client_host(struct http_client *c)
{
	return c->call == curl_call ? ((struct curl_client *)c)->host : STR("");
}

struct str http_client_prefix(struct http_client *c)
{
	return c->call == curl_call ? ((struct curl_client *)c)->prefix : STR("");
}
