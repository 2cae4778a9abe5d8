/* What the client makes of answers: a bad one is an error, never an empty list or a deletion. A fake http_client answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/patience.h"
#include "client/remote_priv.h"

static struct arena arena;
static struct ctx ctx;

static struct fake {
	struct http_client face;
	struct {
		int status;
		const char *text;
		bool html;
	} answers[4];
	int n, calls;
	size_t reply_max; /* of the last call */
	int retry_after_s;
	struct buf sent;  /* of its source */
	struct str tokens[4];
} fake;

static int fake_call(struct http_client *self, struct ctx *c, struct http_call *call)
{
	struct fake *f = (struct fake *)self;
	int i = f->calls < f->n ? f->calls : f->n - 1;
	f->tokens[f->calls++ % 4] = arena_str(c->arena, call->token);
	call->status = f->answers[i].status;
	f->reply_max = call->reply_max;
	call->retry_after_s = call->status == 429 ? f->retry_after_s : 0;
	buf_clear(&f->sent);
	for (size_t got = 1; call->source && got;) {
		char piece[7];
		assert_int_equal(call->source->read(call->source, piece, sizeof piece, &got), 0);
		buf_put(&f->sent, piece, got);
	}
	call->is_json = !f->answers[i].html;
	if (call->sink && call->status == 200)
		return call->sink->write(call->sink, f->answers[i].text, strlen(f->answers[i].text));
	buf_str(&call->reply, str_c(f->answers[i].text));
	return 0;
}

static struct remote remote = {.http = &fake.face, .token = {"tok", 3}, .device_id = {"dev", 3}};

static int setup(void **s)
{
	(void)s;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	fake = (struct fake){.face = {.call = fake_call}};
	remote.session = NULL;
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	buf_fini(&fake.sent);
	remote.patience = NULL;
	arena_fini(&arena);
	return 0;
}

static void answer(int status, const char *text)
{
	fake.n = 1;
	fake.calls = 0;
	fake.answers[0].status = status;
	fake.answers[0].text = text;
	fake.answers[0].html = *text == '<';
	ctx_clear(&ctx);
}

static int snapshot(int status, const char *text)
{
	struct remote_snapshot s;
	answer(status, text);
	return remote_snapshot(&ctx, &remote, STR("shr_1"), TREE_ROOT, &s);
}

static int changes(int status, const char *text)
{
	struct remote_page page;
	answer(status, text);
	return remote_changes(&ctx, &remote, STR("shr_1"), 5, &page);
}

#define SHA "00000000000000000000000000000000000000000000000000000000000000aa"
#define NODE(name, parent, size) \
	"{\"id\":\"fil_0000000000001\",\"type\":\"file\",\"parent_id\":" parent ",\"name\":" name ",\"size\":" size \
	",\"checksum_sha256\":\"" SHA "\",\"version_id\":\"ver_0000000000001\",\"version\":1,\"mtime\":null,\"executable\":false}"
#define SNAP(nodes) "{\"nodes\":[" nodes "],\"cursor\":7,\"has_more\":false,\"page_token\":null}"
#define RESTORES(list) "{\"nodes\":[],\"cursor\":7,\"has_more\":false,\"restores\":[" list "]}"
#define CHANGE(type, id, meta) \
	"{\"resource_type\":\"file\",\"resource_id\":\"" id "\",\"change_type\":\"" type "\",\"version_id\":\"ver_0000000000001\"," \
	"\"metadata\":" meta "}"
#define PAGE(list) "{\"changes\":[" list "],\"cursor\":7,\"has_more\":false}"

static void good_answers(void **s)
{
	(void)s;
	assert_int_equal(snapshot(200, SNAP("")), 0);
	assert_int_equal(snapshot(200, SNAP(NODE("\"a\"", "null", "1"))), 0);
	assert_int_equal(snapshot(200, RESTORES("{\"cursor\":7,\"version_id\":\"ver_0000000000001\"}")), 0);
	assert_int_equal(changes(200, PAGE("")), 0);
	assert_int_equal(changes(200, PAGE(CHANGE("created", "fil_0000000000001", NODE("\"a\"", "null", "1")))), 0);
	assert_int_equal(changes(200, PAGE(CHANGE("deleted", "fil_0000000000001", "{}"))), 0);
}

static void truncated(void **s)
{
	(void)s;
	static const char whole[] = SNAP(NODE("\"a\"", "null", "1"));
	static const char page[] = PAGE(CHANGE("deleted", "fil_0000000000001", "{}"));
	for (size_t n = 0; n + 1 < sizeof whole; n++)
		assert_int_equal(snapshot(200, arena_cstr(&arena, str_n(whole, n))), E_UPSTREAM);
	for (size_t n = 0; n + 1 < sizeof page; n++)
		assert_int_equal(changes(200, arena_cstr(&arena, str_n(page, n))), E_UPSTREAM);
}

static void wrong_types(void **s)
{
	(void)s;
	static const char *const snapshots[] = {
	    "null", "[]", "{}", "7", "{\"nodes\":{},\"cursor\":7,\"has_more\":false}", "{\"nodes\":null,\"cursor\":7,\"has_more\":false}",
	    "{\"nodes\":\"\",\"cursor\":7,\"has_more\":false}", "{\"nodes\":[],\"has_more\":false}", "{\"nodes\":[],\"cursor\":7}",
	    "{\"nodes\":[],\"cursor\":\"7\",\"has_more\":false}", "{\"nodes\":[],\"cursor\":-1,\"has_more\":false}",
	    "{\"nodes\":[],\"cursor\":7,\"has_more\":\"no\"}", "{\"nodes\":[],\"cursor\":7,\"has_more\":true}",
	    "{\"nodes\":[],\"cursor\":7,\"has_more\":true,\"page_token\":\"\"}", SNAP("null"), SNAP("[]"), SNAP("{}"),
	    SNAP(NODE("null", "null", "1")), SNAP(NODE("7", "null", "1")), SNAP(NODE("\"a\"", "\"fil_0000000000001\"", "1")),
	    SNAP(NODE("\"a\"", "\"nonsense\"", "1")), SNAP(NODE("\"a\"", "null", "\"1\"")), SNAP(NODE("\"a\"", "null", "-1")),
	    RESTORES("7"), RESTORES("{}"), RESTORES("{\"cursor\":-1,\"version_id\":\"ver_0000000000001\"}"),
	    RESTORES("{\"cursor\":7,\"version_id\":\"fil_0000000000001\"}"), "{\"ok\":true}",
	};
	for (size_t i = 0; i < sizeof snapshots / sizeof *snapshots; i++)
		if (snapshot(200, snapshots[i]) != E_UPSTREAM)
			fail_msg("accepted: %s", snapshots[i]);
	static const char *const pages[] = {
	    "{}", "[]", "{\"changes\":{},\"cursor\":7,\"has_more\":false}", "{\"changes\":[],\"cursor\":4,\"has_more\":false}",
	    "{\"changes\":[],\"cursor\":5,\"has_more\":true}", "{\"changes\":[],\"cursor\":7}", PAGE("null"), PAGE("{}"),
	    PAGE(CHANGE("deleted", "nonsense", "{}")), PAGE(CHANGE("deleted", "usr_0000000000001", "{}")),
	    PAGE(CHANGE("deleted", "fil_0000000000000", "{}")), PAGE(CHANGE("created", "fil_0000000000001", "null")),
	    PAGE(CHANGE("created", "fil_0000000000001", "{}")),
	};
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
		if (changes(200, pages[i]) != E_UPSTREAM)
			fail_msg("accepted: %s", pages[i]);
}

static void hostile_names(void **s)
{
	(void)s;
	static const char *const names[] = {"\"..\"", "\".\"", "\"\"", "\"a/b\"", "\"/etc/passwd\"", "\"a\\u0000b\"", "\"a\\nb\"",
	                                    "\"\\u007f\""};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct buf b = {0};
		buf_fmt(&b, "{\"nodes\":[{\"id\":\"fld_0000000000001\",\"type\":\"folder\",\"parent_id\":null,\"name\":%s}],\"cursor\":7,"
		            "\"has_more\":false}", names[i]);
		assert_int_equal(snapshot(200, arena_cstr(&arena, buf_as_str(&b))), E_UPSTREAM);
		buf_fini(&b);
	}
}

static void numbers_without_bounds(void **s)
{
	(void)s;
	int err = snapshot(200, SNAP(NODE("\"a\"", "null", "9223372036854775808")));
	assert_true(err == 0 || err == E_UPSTREAM);
	assert_int_equal(snapshot(200, SNAP(NODE("\"a\"", "null", "1e300"))), E_UPSTREAM);
}

static void proxies(void **s)
{
	(void)s;
	static const int statuses[] = {301, 404, 407, 410, 500, 502, 503, 504};
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
		assert_int_equal(snapshot(statuses[i], "<html>not here</html>"), E_UPSTREAM);
		assert_int_equal(changes(statuses[i], "{\"message\":\"no route\"}"), E_UPSTREAM);
	}
	assert_int_equal(snapshot(200, "<html>Sign in to the hotel</html>"), E_UPSTREAM);
	assert_int_equal(snapshot(204, ""), E_UPSTREAM);
	assert_int_equal(snapshot(401, "<html></html>"), E_UNAUTHENTICATED);
	/* ours mean what they say */
	assert_int_equal(snapshot(404, "{\"detail\":\"Not found\",\"error\":{\"code\":\"NOT_FOUND\"}}"), E_NOT_FOUND);
	assert_int_equal(changes(400, "{\"detail\":\"x\",\"error\":{\"code\":\"SYNC_CURSOR_INVALID\"}}"), E_CURSOR_INVALID);
	assert_int_equal(changes(503, "{\"detail\":\"x\",\"error\":{\"code\":\"OVERLOADED\"}}"), E_BUSY);
}

static int sink_write(struct http_sink *self, const void *p, size_t n)
{
	(void)self, (void)p, (void)n;
	return 0;
}

static void content_of_another_length(void **s)
{
	(void)s;
	struct http_sink sink = {.write = sink_write};
	answer(200, "12345");
	assert_int_equal(remote_download(&ctx, &remote, 1, 1, 5, &sink), 0);
	answer(200, "12345");
	assert_int_equal(remote_download(&ctx, &remote, 1, 1, 6, &sink), E_UPSTREAM);
	answer(200, "12345");
	assert_int_equal(remote_download(&ctx, &remote, 1, 1, 4, &sink), E_UPSTREAM);
	answer(200, "12345");
	assert_int_equal(remote_download(&ctx, &remote, 1, 1, INT64_MAX, &sink), E_UPSTREAM);
}

struct twice {
	struct remote_session face;
	int asked;
	bool ended;
};

static int twice_token(struct remote_session *self, struct ctx *c, struct str refused, struct str *out)
{
	struct twice *t = (struct twice *)self;
	*out = refused.p ? STR("new") : STR("old");
	t->asked += refused.p != NULL;
	return refused.p && t->ended ? ctx_fail(c, E_UNAUTHENTICATED, "ended") : 0;
}

static void a_refused_token_is_renewed_once(void **s)
{
	(void)s;
	struct twice t = {.face = {.token = twice_token}};
	struct remote_page page;
	remote.session = &t.face;
	answer(401, "{\"detail\":\"x\",\"error\":{\"code\":\"AUTH_TOKEN_INVALID\"}}");
	fake.answers[1].status = 200;
	fake.answers[1].text = PAGE("");
	fake.n = 2;
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), 0);
	assert_true(fake.calls == 2 && str_eq(fake.tokens[0], STR("old")) && str_eq(fake.tokens[1], STR("new")));
	answer(401, "{\"detail\":\"x\",\"error\":{\"code\":\"AUTH_TOKEN_INVALID\"}}");
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_UNAUTHENTICATED);
	assert_int_equal(fake.calls, 2);
	t.ended = true;
	answer(401, "{\"detail\":\"x\",\"error\":{\"code\":\"AUTH_TOKEN_INVALID\"}}");
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_UNAUTHENTICATED);
	assert_int_equal(fake.calls, 1);
}

/* ---- 429 ---- */

#define LIMITED "{\"detail\":\"x\",\"error\":{\"code\":\"RATE_LIMITED\"}}"

static int64_t mono_us, slept_ms, stop_at_ms;
static int told;

static int64_t fake_mono(const struct clock *c)
{
	(void)c;
	return mono_us;
}

static const struct clock fake_clock = {.now_us = fake_mono, .monotonic_us = fake_mono};

static void sleep_ms(void *arg, int ms)
{
	(void)arg;
	slept_ms += ms;
	mono_us += MILLIS_US(ms);
}

static bool stopping(void *arg)
{
	(void)arg;
	return stop_at_ms && slept_ms >= stop_at_ms;
}

static void count(void *arg, struct ctx *c, int seconds)
{
	(void)arg, (void)c, (void)seconds;
	told++;
}

static struct patience patient(void)
{
	struct patience p;
	patience_init(&p);
	p.pause = sleep_ms;
	p.stopping = stopping;
	p.tell = count;
	ctx.clock = &fake_clock;
	slept_ms = stop_at_ms = told = 0;
	return p;
}

/* 429 so many times, then this. */
static void limited(int times, int retry_after_s, const char *then)
{
	answer(429, LIMITED);
	fake.retry_after_s = retry_after_s;
	for (int i = 0; i < times; i++)
		fake.answers[i] = fake.answers[0];
	fake.answers[times].status = 200;
	fake.answers[times].text = then;
	fake.n = times + 1;
}

static void a_limit_is_waited_for(void **s)
{
	(void)s;
	struct patience p = patient();
	struct remote_page page;
	limited(1, 22, PAGE(""));
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_RATE_LIMITED);
	remote.patience = &p.face;
	limited(3, 22, PAGE(""));
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), 0);
	assert_true(fake.calls == 4 && told == 3);
	assert_true(slept_ms >= 66000 && slept_ms <= 70000);
	/* it was not said for how long */
	slept_ms = 0;
	limited(3, 0, PAGE(""));
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), 0);
	assert_true(slept_ms >= 7000 && slept_ms <= 11000);
	patience_fini(&p);
}

static void others_wait_too(void **s)
{
	(void)s;
	struct patience p = patient();
	struct remote_page page;
	remote.patience = &p.face;
	assert_int_equal(p.face.wait(&p.face, &ctx, 0), 0);
	assert_int_equal(slept_ms, 0);
	p.until_us = mono_us + SECONDS_US(9); /* as another thread was told */
	limited(0, 0, PAGE(""));
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), 0);
	assert_true(slept_ms >= 9000 && slept_ms < 9200 && told == 0 && fake.calls == 1);
	patience_fini(&p);
}

static void waiting_ends(void **s)
{
	(void)s;
	struct patience p = patient();
	struct remote_page page;
	remote.patience = &p.face;
	stop_at_ms = 3000;
	limited(1, 3600, PAGE(""));
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_CANCELLED);
	assert_true(slept_ms >= 3000 && slept_ms < 3300);
	stop_at_ms = 0;
	p.until_us = 0;
	answer(429, LIMITED); /* for ever */
	fake.retry_after_s = 1;
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_RATE_LIMITED);
	assert_int_equal(fake.calls, 61);
	answer(429, LIMITED); /* and each time for long */
	fake.retry_after_s = 1000;
	slept_ms = 0;
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), E_RATE_LIMITED);
	assert_true(fake.calls == 8 && slept_ms >= 7000000 && slept_ms <= 7260000);
	p.until_us = 0;
	limited(1, 7200, PAGE("")); /* but two windows of an hour are waited for */
	assert_int_equal(remote_changes(&ctx, &remote, STR("shr_1"), 5, &page), 0);
	/* a person who typed a wrong password too often is told */
	struct remote_grant grant;
	answer(429, LIMITED);
	assert_int_equal(remote_login(&ctx, &remote, STR("a@b.c"), STR("x"), &grant), E_RATE_LIMITED);
	assert_int_equal(fake.calls, 1);
	patience_fini(&p);
}

/* A body that is read as it is sent is sent again whole. */
static void bodies_begin_again(void **s)
{
	(void)s;
	struct patience p = patient();
	struct twice t = {.face = {.token = twice_token}};
	struct remote_chunk chunks[2] = {{.bytes = "abc", .length = 3}, {.bytes = "defgh", .length = 5}};
	bool wanted[2] = {true, true};
	remote.patience = &p.face;
	limited(2, 1, "{\"chunks\":2}");
	assert_int_equal(remote_send_chunks(&ctx, &remote, STR("shr_1"), 0, chunks, 2, wanted), 0);
	assert_int_equal(fake.sent.n, 2 * FRAME_HEAD_BYTES + 8);
	assert_memory_equal(fake.sent.p + fake.sent.n - 5, "defgh", 5);
	remote.session = &t.face;
	limited(1, 1, "{\"chunks\":2}");
	fake.answers[0].status = 401;
	assert_int_equal(remote_send_chunks(&ctx, &remote, STR("shr_1"), 0, chunks, 2, wanted), 0);
	assert_int_equal(fake.sent.n, 2 * FRAME_HEAD_BYTES + 8);
	limited(3, 1, "{\"chunks\":2}");
	fake.answers[0].status = 401; /* and its user, with the new token, is limited */
	assert_int_equal(remote_send_chunks(&ctx, &remote, STR("shr_1"), 0, chunks, 2, wanted), 0);
	assert_int_equal(fake.calls, 4);
	patience_fini(&p);
}

static void what_is_told_of_chunks_is_bounded(void **s)
{
	(void)s;
	struct buf out = {0};
	answer(200, "");
	assert_int_equal(remote_steps(&ctx, &remote, 1, 2, &out), 0);
	assert_true(fake.reply_max <= 8 << 20);
	buf_fini(&out);
	assert_int_equal(remote_layout(&ctx, &remote, 1, &out), 0);
	assert_true(fake.reply_max <= 12 << 20);
	buf_fini(&out);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(good_answers), T(truncated), T(wrong_types), T(hostile_names), T(numbers_without_bounds),
	                                   T(proxies), T(what_is_told_of_chunks_is_bounded), T(content_of_another_length),
	                                   T(a_refused_token_is_renewed_once), T(a_limit_is_waited_for), T(others_wait_too), T(waiting_ends),
	                                   T(bodies_begin_again)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
