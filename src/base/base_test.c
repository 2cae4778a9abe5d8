/* The language of the house: strings, numbers, ids, times, JSON, tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/ctx.h"
#include "base/hash.h"
#include "base/id.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/map.h"
#include "base/name.h"
#include "base/rng.h"

static void assert_str(struct str got, const char *want)
{
	assert_int_equal(got.n, strlen(want));
	if (got.n)
		assert_memory_equal(got.p, want, got.n);
}

static void str_numbers(void **state)
{
	(void)state;
	int64_t i;
	uint64_t u;
	assert_true(str_to_i64(STR("-9223372036854775808"), &i) && i == INT64_MIN);
	assert_true(str_to_i64(STR("9223372036854775807"), &i) && i == INT64_MAX);
	assert_false(str_to_i64(STR("9223372036854775808"), &i));
	assert_true(str_to_u64(STR("18446744073709551615"), &u) && u == UINT64_MAX);
	assert_false(str_to_u64(STR("18446744073709551616"), &u));
	const char *bad[] = {"", "-", "+1", " 1", "1 ", "0x1", "1e3", "--1"};
	for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
		assert_false(str_to_i64(str_c(bad[k]), &i));
}

static void str_cutting(void **state)
{
	(void)state;
	struct str rest = STR("a//b");
	assert_str(str_cut(&rest, '/'), "a");
	assert_str(str_cut(&rest, '/'), "");
	assert_str(str_cut(&rest, '/'), "b");
	assert_null(rest.p);
	assert_str(str_trim(STR(" \t x y\r\n")), "x y");
	assert_true(str_ieq(STR("Content-Type"), STR("content-tYPE")));
	assert_false(str_is_utf8(STR("\xc0\xaf"))); /* overlong */
	assert_false(str_is_utf8(STR("\xed\xa0\x80"))); /* surrogate */
	assert_true(str_is_utf8(STR("gr\xc3\xbc\xc3\x9f")));
	uint8_t raw[2];
	assert_true(str_unhex(STR("0aFF"), raw, 2) && raw[0] == 10 && raw[1] == 255);
	assert_false(str_unhex(STR("0aF"), raw, 2));
	assert_false(str_unhex(STR("0aFg"), raw, 2));
}

static void varints(void **state)
{
	(void)state;
	const uint64_t values[] = {0, 1, 127, 128, 300, UINT32_MAX, UINT64_MAX};
	struct buf b = {0};
	for (size_t i = 0; i < sizeof values / sizeof *values; i++)
		buf_varint(&b, values[i]);
	struct str in = buf_as_str(&b);
	for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
		uint64_t v;
		assert_true(varint_read(&in, &v));
		assert_int_equal(v, values[i]);
	}
	uint64_t v;
	assert_false(varint_read(&in, &v));
	in = STR("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"); /* 65 bits */
	assert_false(varint_read(&in, &v));
	in = STR("\x80");
	assert_false(varint_read(&in, &v));
	const int64_t signs[] = {0, -1, 1, INT64_MIN, INT64_MAX};
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(unzigzag(zigzag(signs[i])), signs[i]);
	buf_fini(&b);
}

static void arenas(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
	for (size_t n = 0; n < 3000; n += 7) {
		char *p = arena_alloc(&a, n);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < n; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xee, n);
	}
	assert_str(arena_fmt(&a, "%d-%s", 7, "x"), "7-x");
	assert_null(arena_str(&a, STR_NULL).p);
	arena_reset(&a);
	char *again = arena_alloc(&a, 64);
	for (int i = 0; i < 64; i++)
		assert_int_equal(again[i], 0);
	arena_fini(&a);
}

/* Of this process's address space. */
static int64_t mapped_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	long long pages = 0;
	assert_true(f && fscanf(f, "%lld", &pages) == 1);
	fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

/* Whether it lies first in a huge page, behind a block's head. */
static bool begins_huge_page(const void *p)
{
	return (uintptr_t)p % (2 << 20) <= 64;
}

/* Beyond some megabytes it takes huge pages: room is as zeroed and as separate there, and all of it goes back. */
static void large_arenas(void **state)
{
	enum { N = 3000, SIZE = 4000, LARGE = 5 << 20 };
	static unsigned char *parts[N];
	struct arena a;
	int64_t mapped = 0;
	(void)state;
	arena_init(&a);
	for (int round = 0; round < 4; round++) {
		unsigned char *one = arena_alloc(&a, LARGE);
		int begun = 0;
		assert_true(begins_huge_page(one));
		memset(one, 0xaa, LARGE);
		for (int i = 0; i < N; i++) {
			parts[i] = arena_alloc(&a, SIZE);
			begun += begins_huge_page(parts[i]);
			assert_int_equal((uintptr_t)parts[i] % 16, 0);
			assert_int_equal(parts[i][0] | parts[i][SIZE / 2] | parts[i][SIZE - 1], 0);
			memset(parts[i], i % 251, SIZE);
		}
		for (int i = 0; i < N; i++)
			assert_true(parts[i][0] == i % 251 && parts[i][SIZE - 1] == i % 251);
		assert_true(one[0] == 0xaa && one[LARGE - 1] == 0xaa);
		assert_true(begun >= (N * SIZE - (1 << 20)) / (2 << 20)); /* the 5 MiB left some room */
		arena_reset(&a);
		assert_true(a.total < 1 << 20);
		if (round > 0)
			assert_int_equal(mapped_bytes(), mapped);
		mapped = mapped_bytes();
	}
	arena_fini(&a);
}

static int64_t fake_now = 0;
static int64_t fake_clock(const struct clock *c)
{
	(void)c;
	return fake_now;
}

static void ids(void **state)
{
	(void)state;
	struct clock clock = {fake_clock, fake_clock};
	struct idgen g;
	idgen_init(&g, &clock, 5);
	fake_now = INT64_C(1766000000000000);
	int64_t last = 0;
	for (int i = 0; i < 10000; i++) { /* more than fit in one millisecond, and a clock that steps back */
		if (i == 5000)
			fake_now -= SECONDS_US(3600);
		int64_t id = idgen_next(&g);
		assert_true(id > last);
		last = id;
	}
	assert_true(llabs(id_time_us(last) - INT64_C(1766000000000000)) < SECONDS_US(1));
	struct idgen after; /* a restart with the clock still back */
	idgen_init(&after, &clock, 2);
	idgen_follow(&after, last);
	idgen_follow(&after, 1);
	assert_true(idgen_next(&after) > last);
	char wire[ID_WIRE_MAX + 1];
	assert_int_equal(id_format(wire, ID_FILE, last), ID_WIRE_MAX);
	struct rid back;
	assert_true(id_parse(str_c(wire), &back));
	assert_int_equal(back.kind, ID_FILE);
	assert_int_equal(back.n, last);
	assert_true(id_parse(STR("fil_01j3k"), &back)); /* short and lower case, as in hand-written examples */
	int64_t n;
	assert_false(id_parse_kind(str_c(wire), ID_FOLDER, &n));
	const char *bad[] = {"", "fil", "fil_", "fil_0", "xxx_1", "fil_!", "fil_U", "fil_ZZZZZZZZZZZZZ", "fil_00000000000000", "fil-01"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(id_parse(str_c(bad[i]), &back));
	id_format(wire, ID_SHARE, INT64_MAX);
	assert_true(id_parse(str_c(wire), &back) && back.n == INT64_MAX);
}

static void times(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_time(&b, INT64_C(1776939300000000));
	assert_str(buf_as_str(&b), "2026-04-23T10:15:00Z");
	int64_t us;
	assert_true(time_parse(buf_as_str(&b), &us) && us == INT64_C(1776939300000000));
	buf_clear(&b);
	buf_time_us(&b, -1);
	assert_str(buf_as_str(&b), "1969-12-31T23:59:59.999999Z");
	assert_true(time_parse(buf_as_str(&b), &us) && us == -1);
	assert_true(time_parse(STR("2000-02-29t23:59:60.123456789+02:30"), &us));
	assert_int_equal(us % 1000000, 123456);
	const char *bad[] = {"2001-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-04-23", "2026-04-23T10:15:00", "2026-04-23T24:00:00Z",
	                     "2026-04-23T10:15:00.Z", "2026-04-23T10:15:00Zx", "0000-01-01T00:00:00Z", "2026-04-23T10:15:00+24:00"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(time_parse(str_c(bad[i]), &us));
	char http[32];
	time_http(INT64_C(784111777000000), http);
	assert_string_equal(http, "Sun, 06 Nov 1994 08:49:37 GMT");
	assert_true(time_http_parse(str_c(http), &us) && us == INT64_C(784111777000000));
	struct rng_seeded r;
	rng_seeded_init(&r, 1);
	for (int i = 0; i < 20000; i++) { /* every day of the calendar comes back */
		int64_t t = (int64_t)rng_below(&r.base, UINT64_C(200000000000000000)) - INT64_C(60000000000000000);
		buf_clear(&b);
		buf_time_us(&b, t);
		assert_true(time_parse(buf_as_str(&b), &us));
		assert_int_equal(us, t);
	}
	buf_fini(&b);
}

/* [unit,unit,...unit] */
static const char *parse_many(const char *unit, size_t n, size_t *len)
{
	struct buf b = {0};
	struct json_object *doc;
	buf_char(&b, '[');
	for (size_t i = 0; i < n; i++)
		buf_fmt(&b, "%s%s", i ? "," : "", unit);
	buf_char(&b, ']');
	const char *why = json_parse(buf_as_str(&b), &doc);
	*len = json_len(doc);
	json_free(&doc);
	buf_fini(&b);
	return why;
}

/* What a parsed document takes is bounded, not only its bytes. */
static void json_bombs(void **state)
{
	(void)state;
	size_t n;
	assert_non_null(parse_many("{}", LIMIT_JSON_VALUES, &n));
	assert_int_equal(n, 0);
	assert_non_null(parse_many("[]", LIMIT_JSON_VALUES, &n));
	assert_non_null(parse_many("1", LIMIT_JSON_VALUES, &n));
	assert_null(parse_many("{}", LIMIT_JSON_VALUES - 1, &n));
	assert_int_equal(n, LIMIT_JSON_VALUES - 1);
	/* what stands in a string is no value */
	assert_null(parse_many("\"{[,{[,\\\\\\\"{,,,,,,,,,,,,,,\"", 100000, &n));
	assert_int_equal(n, 100000);
}

/* What a document reads as, written again; or why it does not. */
static void json_reads(const char *text, const char *want)
{
	struct json_object *doc;
	struct buf b = {0};
	const char *why = json_parse(str_c(text), &doc);
	json_put_value(&b, doc);
	assert_str(why ? str_c(why) : buf_as_str(&b), want);
	json_free(&doc);
	buf_fini(&b);
}

static void json_values(void **state)
{
	(void)state;
	json_reads(" null ", "null");
	json_reads("[ true , false,null , [ ] , { } ,\"\"]\n", "[true,false,null,[],{},\"\"]");
	json_reads("{\"a\" : 1,\t\"b\":[{\"c\":\"d\"}]}", "{\"a\":1,\"b\":[{\"c\":\"d\"}]}");
	json_reads("[0,-0,-9223372036854775808,9223372036854775807]", "[0,0,-9223372036854775808,9223372036854775807]");
	json_reads("[9223372036854775808,1.50,-1e-3,1E+2]", "[9223372036854775808,1.50,-1e-3,1E+2]");
	json_reads("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e4\\u20AC\"", "\"\\\"\\\\/\\u0008\\u000c\\n\\r\\tA\xc3\xa4\xe2\x82\xac\"");
	/* a pair; halves are refused below */
	json_reads("\"\\ud83d\\ude00\"", "\"\xf0\x9f\x98\x80\"");
	json_reads("\"\\\\ud83d\"", "\"\\\\ud83d\""); /* an escaped backslash, then letters */
	static const char *const malformed[] = {"01", "-", "1.", ".5", "1e", "+1", "1 2", "[1 2]", "[,1]", "{\"a\" 1}", "{a:1}", "{\"a\":1,}",
	                                        "tru", "True", "NaN", "\"", "\"\\\"", "\"\\x\"", "\"\\u12g4\"", "\"\\u12", "\"\n\"",
	                                        "\"\\ud83dx\\ude00\"", "\"\\ud83d\\u0041\"", "\"\\ud83d\"", "\"\\ude00\"", "[1,2", "{\"a\"", "{\"a\":", "]", "'a'", "\"\xc3\"", "\"\xed\xa0\x80\"", "/**/1"};
	struct json_object *doc;
	for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
		assert_non_null(json_parse(str_c(malformed[i]), &doc));
		assert_null(doc);
	}
	assert_non_null(json_parse(str_n("\"\\\0\"", 4), &doc));
	assert_non_null(json_parse(str_n("1\0", 2), &doc));
	/* the last of a name counts; a NUL in a name is part of it */
	assert_null(json_parse(STR("{\"a\":1,\"a\":2,\"a\\u0000\":3}"), &doc));
	assert_int_equal(json_i64(doc, "a", 0), 2);
	assert_int_equal(doc->members[2].key.n, 2);
	json_free(&doc);
	assert_null(json_parse(STR("[null,1.5,[7]]"), &doc));
	assert_int_equal(json_len(doc), 3);
	assert_null(json_at(doc, 0));
	assert_int_equal(json_value_i64(json_at(doc, 1), -1), -1);
	assert_int_equal(json_value_i64(json_at(json_at(doc, 2), 0), -1), 7);
	assert_null(json_at(doc, 3));
	json_free(&doc);
}

static void json(void **state)
{
	(void)state;
	struct json_object *doc;
	assert_null(json_parse(STR(" {\"a\":[1,9223372036854775807],\"s\":\"\\u00e4\",\"t\":true} "), &doc));
	assert_int_equal(json_len(json_get(doc, "a")), 2);
	assert_str(json_str(doc, "s"), "\xc3\xa4");
	assert_true(json_flag(doc, "t", false));
	assert_int_equal(json_i64(doc, "missing", -7), -7);
	json_free(&doc);
	assert_null(json_parse(STR("12"), &doc));
	json_free(&doc);
	const char *bad[] = {"", "{", "{\"a\":}", "[1,]", "{\"a\":1} x", "\"\xff\"", "nul", "{\"a\":1}}"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_non_null(json_parse(str_c(bad[i]), &doc));
	char deep[2 * LIMIT_JSON_DEPTH + 8];
	memset(deep, '[', sizeof deep);
	assert_non_null(json_parse(str_n(deep, sizeof deep), &doc));
	struct buf b = {0};
	json_put_str(&b, STR("a\"\\\n\x01\x7f\xc3\xa4"));
	assert_str(buf_as_str(&b), "\"a\\\"\\\\\\n\\u0001\\u007f\xc3\xa4\"");
	buf_clear(&b);
	json_put_str(&b, STR("x\xff\xfey"));
	assert_str(buf_as_str(&b), "\"x\xef\xbf\xbd\xef\xbf\xbdy\"");
	buf_clear(&b);
	/* every byte in every place: of a long text, and alone */
	for (int i = 0; i < 128 * 19; i++) {
		char text[20] = "nineteen characters", one = (char)(i % 128);
		struct buf alone = {0}, want = {0};
		text[i / 128] = one;
		json_put_str(&alone, str_n(&one, 1));
		buf_fmt(&want, "\"%.*s%.*s%s\"", i / 128, text, (int)alone.n - 2, alone.p + 1, text + i / 128 + 1);
		buf_clear(&b);
		json_put_str(&b, str_n(text, 19));
		assert_int_equal(str_cmp(buf_as_str(&b), buf_as_str(&want)), 0);
		buf_fini(&alone);
		buf_fini(&want);
	}
	buf_clear(&b);
	json_put_str(&b, STR_NULL);
	assert_str(buf_as_str(&b), "null");
	buf_fini(&b);
}

static void maps(void **state)
{
	(void)state;
	struct map m = {0};
	struct rng_seeded r;
	rng_seeded_init(&r, 42);
	enum { KEYS = 512 };
	uintptr_t model[KEYS] = {0};
	size_t live = 0;
	for (int step = 0; step < 50000; step++) {
		uint64_t k = rng_below(&r.base, KEYS);
		uint64_t key = k * UINT64_C(0x100000001); /* close to each other in the low bits */
		if (rng_below(&r.base, 2)) {
			uintptr_t v = rng_u64(&r.base) | 1;
			assert_ptr_equal(map_put(&m, key, (void *)v), (void *)model[k]);
			live += model[k] == 0;
			model[k] = v;
		} else {
			assert_ptr_equal(map_del(&m, key), (void *)model[k]);
			live -= model[k] != 0;
			model[k] = 0;
		}
		assert_int_equal(m.count, live);
	}
	for (uint64_t k = 0; k < KEYS; k++)
		assert_ptr_equal(map_get(&m, k * UINT64_C(0x100000001)), (void *)model[k]);
	map_fini(&m);
	struct smap s = {0};
	assert_null(smap_get(&s, STR("a")));
	smap_put(&s, STR("a"), (void *)1);
	smap_put(&s, STR("b"), (void *)2);
	assert_ptr_equal(smap_del(&s, STR("a")), (void *)1);
	assert_ptr_equal(smap_get(&s, STR("b")), (void *)2);
	smap_fini(&s);
}

/* The keys of a map of n, as it goes through them. */
static void map_order(uint64_t *keys, size_t n)
{
	struct map m = {0};
	void *value;
	for (uint64_t k = 0; k < n; k++)
		map_put(&m, k << 20, (void *)1);
	for (size_t i = 0, at = 0; map_next(&m, &i, &keys[at], &value);)
		at++;
	map_fini(&m);
}

/* The same each time until a secret is drawn, and another one with each. */
static void maps_keep_a_secret(void **state)
{
	enum { KEYS = 100 };
	uint64_t first[KEYS], again[KEYS], drawn[KEYS], text = map_key("key", 3);
	struct rng_seeded r;
	(void)state;
	map_order(first, KEYS);
	map_order(again, KEYS);
	assert_memory_equal(first, again, sizeof first);
	rng_seeded_init(&r, 7);
	map_draw_secret(&r.base);
	assert_true(map_key("key", 3) != text);
	map_order(drawn, KEYS);
	assert_memory_not_equal(first, drawn, sizeof first);
	map_draw_secret(&r.base);
	map_order(again, KEYS);
	assert_memory_not_equal(again, drawn, sizeof first);
	maps(state);
}

static void names(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
	assert_null(name_problem(STR("report (1).pdf")));
	const char *bad[] = {"", ".", "..", "a/b", "a\nb", "\x7f", "\xff", "\xc2\x85"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_non_null(name_problem(str_c(bad[i])));
	assert_non_null(name_problem(STR("a\0b")));
	char longest[256];
	memset(longest, 'x', sizeof longest);
	assert_null(name_problem(str_n(longest, 255)));
	assert_non_null(name_problem(str_n(longest, 256)));
	/* Case, composition and full folding make one name. */
	assert_true(str_eq(name_key(&a, STR("README")), name_key(&a, STR("readme"))));
	assert_true(str_eq(name_key(&a, STR("\xc3\x84")), name_key(&a, STR("a\xcc\x88"))));
	assert_true(str_eq(name_key(&a, STR("STRASSE")), name_key(&a, STR("stra\xc3\x9f""e"))));
	assert_false(str_eq(name_key(&a, STR("a")), name_key(&a, STR("b"))));
	struct str stem, ext;
	name_split(STR("report.tar.gz"), &stem, &ext);
	assert_str(stem, "report.tar");
	assert_str(ext, ".gz");
	name_split(STR(".profile"), &stem, &ext);
	assert_str(ext, "");
	assert_str(name_with_label(&a, STR("a.txt"), STR("copy"), 1), "a (copy).txt");
	assert_str(name_with_label(&a, STR("a.txt"), STR("copy"), 3), "a (copy 3).txt");
	for (size_t n = 200; n <= 255; n++) { /* always valid, whatever is cut */
		char many[256];
		for (size_t i = 0; i < n; i++)
			many[i] = i % 2 ? '\xa4' : '\xc3';
		struct str name = str_n(many, n & ~(size_t)1);
		assert_null(name_problem(name_with_label(&a, name, STR("conflicted copy \xc3\xa4 2026-04-23"), 12)));
	}
	assert_str(name_cut(STR("a\xc3\xa4"), 2), "a");
	arena_fini(&a);
}

static void errors(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
	struct ctx ctx;
	ctx_init(&ctx, &a, &clock_system, &rng_system);
	assert_int_equal(err_info(E_CURSOR_INVALID)->status, 400);
	assert_int_equal(err_from_code("SYNC_VERSION_STALE"), E_VERSION_STALE);
	assert_int_equal(err_info(-5)->status, 500);
	assert_int_equal(err_from_errno(ENOSPC), E_NO_SPACE);
	assert_int_equal(ctx_fail(&ctx, E_QUOTA, "share %s", "x"), E_QUOTA);
	ctx_fail(&ctx, E_IO, "later"); /* the first fault is the one to show */
	assert_str(ctx_detail(&ctx, E_QUOTA), "share x");
	assert_str(ctx_detail(&ctx, E_NOT_FOUND), "Not found.");
	ctx_clear(&ctx);
	ctx_invalid(&ctx, "body", STR("na\"me"), "string_too_long", "at most %d", 5);
	struct json_object *doc;
	assert_null(json_parse(ctx.invalid, &doc));
	assert_str(json_str(json_at(doc, 0), "msg"), "at most 5");
	json_free(&doc);
	arena_fini(&a);
}

static void hashes(void **state)
{
	(void)state;
	char hex[65] = {0};
	struct sha256 h = sha256_of("abc", 3);
	hex_encode(h.b, 32, hex);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	struct sha256_state *s = sha256_new();
	sha256_update(s, "a", 1);
	sha256_update(s, "bc", 2);
	struct sha256 again = sha256_final(s);
	assert_true(sha256_eq(&h, &again));
	sha256_free(s);
	/* RFC 4231, case 2 */
	h = hmac_sha256(STR("Jefe"), STR("what do ya want for nothing?"));
	hex_encode(h.b, 32, hex);
	assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	assert_true(hash_equal_ct("ab", "ab", 2));
	assert_false(hash_equal_ct("ab", "ac", 2));
}

/* Streams cut at random: both ways against the digest of the whole, and each piece against its own. */
static void running_hashes(void **state)
{
	enum { N = 1 << 16, TURNS = 400 };
	(void)state;
	struct rng_seeded seeded;
	struct rng *rng = &seeded.base;
	rng_seeded_init(&seeded, 7);
	uint8_t *p = malloc(N);
	assert_non_null(p);
	rng->fill(rng, p, N);
	struct sha256_state *plain = sha256_new(), *both = sha256_new();
	for (int turn = 0; turn < TURNS; turn++) {
		size_t n = rng_below(rng, turn % 2 ? N : 600), at = 0;
		sha256_reset(plain);
		sha256_reset(both);
		while (at < n) {
			size_t k = 1 + rng_below(rng, turn % 3 ? 200 : n - at);
			k = k < n - at ? k : n - at;
			sha256_update(plain, p + at, k);
			struct sha256 piece = sha256_update_of(both, p + at, k), want = sha256_of(p + at, k);
			assert_true(sha256_eq(&piece, &want));
			at += k;
		}
		struct sha256 want = sha256_of(p, n), a = sha256_final(plain), b = sha256_final(both);
		assert_true(sha256_eq(&a, &want));
		assert_true(sha256_eq(&b, &want));
	}
	sha256_free(plain);
	sha256_free(both);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(str_numbers), cmocka_unit_test(str_cutting), cmocka_unit_test(varints), cmocka_unit_test(arenas), cmocka_unit_test(large_arenas),
	    cmocka_unit_test(ids),         cmocka_unit_test(times),       cmocka_unit_test(json),
	    cmocka_unit_test(json_bombs), cmocka_unit_test(json_values), cmocka_unit_test(maps),
	    cmocka_unit_test(maps_keep_a_secret),
	    cmocka_unit_test(names),       cmocka_unit_test(errors),      cmocka_unit_test(hashes),
	    cmocka_unit_test(running_hashes),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
