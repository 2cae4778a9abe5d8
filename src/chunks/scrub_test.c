/* Scrub: what is damaged is marked, what is marked is not found, and what comes again heals it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/rng.h"
#include "chunks/chunks_testing.h"
#include "chunks/marks.h"
#include "chunks/scrub.h"
#include "io/disk_fault.h"

enum { TENANT = 7, FILE_BYTES = 300000 };

static char folder[] = "/tmp/scrub-test-XXXXXX";
static struct db *db;
static struct idgen ids;
static struct disk *disk;
static struct store *store;
static const uint8_t key[32] = "some key";

static struct store *open_store(struct disk *d)
{
	struct store *s;
	assert_int_equal(store_open(&(struct store_config){.disk = d, .db = db, .ids = &ids, .clock = &clock_system}, &s), E_OK);
	return s;
}

static int setup(void **state)
{
	(void)state;
	idgen_init(&ids, &clock_system, 1);
	db = testing_store_db(folder);
	disk = disk_fault_new(3);
	store = open_store(disk);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	store_close(store);
	db_close(db);
	disk_free(disk);
	return 0;
}

/* ---- contents ---- */

struct made {
	struct content *content;
	struct buf recipe;
};

static int commit_op(struct tx *tx, void *arg)
{
	struct made *m = arg;
	buf_clear(&m->recipe);
	return content_commit(tx, m->content->store, TENANT, m->content, NULL, &m->recipe);
}

static struct made put(struct store *s, const uint8_t *p, size_t n)
{
	struct made m = {0};
	struct ingest *in;
	assert_int_equal(ingest_begin(s, TENANT, key, (int64_t)n, &in), E_OK);
	assert_int_equal(ingest_feed(in, p, n), E_OK);
	assert_int_equal(ingest_finish(in, &m.content), E_OK);
	assert_int_equal(db_write(db, TENANT, commit_op, &m), E_OK);
	content_free(m.content);
	return m;
}

struct opening {
	struct str recipe;
	size_t n;
	struct content_reader *reader;
};

static int open_op(struct tx *tx, void *arg)
{
	struct opening *o = arg;
	return content_open(tx, store, TENANT, o->recipe, (int64_t)o->n, &o->reader);
}

/* Reads it all: E_OK only when every byte is right; what was not right was not given. */
static int check(const struct made *m, const uint8_t *p, size_t n)
{
	struct opening o = {buf_as_str(&m->recipe), n, NULL};
	uint8_t *out = malloc(n);
	size_t got = 0;
	assert_int_equal(db_read(db, open_op, &o), E_OK);
	int err = content_read(o.reader, 0, out, n, &got);
	assert_true(err == E_OK || got == 0);
	if (err == E_OK)
		assert_memory_equal(out, p, n);
	content_close(o.reader);
	free(out);
	return err;
}

static int number_op(struct tx *tx, void *arg)
{
	struct {
		const char *sql;
		int64_t n;
	} *q = arg;
	return tx_i64(tx, q->sql, DB_NO_ARGS, 0, &q->n);
}
static int64_t number(const char *sql)
{
	struct {
		const char *sql;
		int64_t n;
	} q = {sql, 0};
	assert_int_equal(db_read(db, number_op, &q), E_OK);
	return q.n;
}
static int64_t marked(void)
{
	return number("select count(*) from chunk_marks where (reason & 2) <> 0");
}

/* Turns a bit over in the stored bytes of the oldest chunk. */
static void flip_first(void)
{
	char name[PACK_NAME_MAX];
	struct disk_file *f;
	uint8_t byte;
	size_t got;
	int64_t at = number("select offset_bytes + 3 from chunks order by id limit 1");
	pack_name(name, number("select pack_id from chunks order by id limit 1"));
	assert_int_equal(disk_open(disk, name, DISK_WRITE, &f), E_OK);
	assert_int_equal(disk_pread(f, &byte, 1, at, &got), E_OK);
	byte ^= 16;
	assert_int_equal(disk_pwrite(f, &byte, 1, at), E_OK);
	disk_close(f);
}

static struct scrub_counts round_of(struct store *healer)
{
	struct scrub_counts c = {0};
	struct scrub *s = scrub_new(&(struct scrub_config){db, disk, healer, &clock_system});
	int64_t after = 0;
	for (bool end = false; !end;)
		assert_int_equal(scrub_step(s, &after, &c, &end), E_OK);
	after = 0;
	for (bool end = false; !end;)
		assert_int_equal(scrub_heal(s, &after, &c, &end), E_OK);
	scrub_free(s);
	return c;
}

static uint8_t *random_bytes(uint64_t seed, size_t n)
{
	struct rng_seeded r;
	rng_seeded_init(&r, seed);
	uint8_t *p = malloc(n);
	r.base.fill(&r.base, p, n);
	return p;
}

static void test_found_and_healed(void **state)
{
	(void)state;
	uint8_t *p = random_bytes(1, FILE_BYTES);
	struct made first = put(store, p, FILE_BYTES);
	struct scrub_counts c = round_of(store);
	assert_true(c.chunks == number("select count(*) from chunks") && c.bytes >= FILE_BYTES && c.damaged == 0);
	flip_first();
	c = round_of(store);
	assert_true(c.damaged == 1 && c.healed == 0);
	assert_int_equal(marked(), 1);
	assert_int_equal(check(&first, p, FILE_BYTES), E_CORRUPT);
	int64_t chunks = number("select count(*) from chunks");
	struct made again = put(store, p, FILE_BYTES);
	assert_int_equal(number("select count(*) from chunks"), chunks + 1); /* the damaged one alone was stored again */
	assert_int_equal(check(&again, p, FILE_BYTES), E_OK);
	assert_int_equal(check(&first, p, FILE_BYTES), E_CORRUPT);
	c = round_of(store);
	assert_true(c.healed == 1 && c.damaged == 0);
	assert_int_equal(check(&first, p, FILE_BYTES), E_OK);
	assert_int_equal(marked(), 0);
	assert_int_equal(number("select sum(size_bytes) from packs") - number("select sum(stored_len) from chunks"), 0);
	flip_first(); /* the new bytes, too: healed from the twin */
	c = round_of(store);
	assert_true(c.damaged == 1 && c.healed == 1);
	assert_int_equal(check(&first, p, FILE_BYTES), E_OK);
	buf_fini(&first.recipe);
	buf_fini(&again.recipe);
	free(p);
}

/* Two daemons stored the same chunks; the finder leads to the damaged one. */
static void test_twin(void **state)
{
	(void)state;
	uint8_t *p = random_bytes(2, FILE_BYTES);
	struct disk *elsewhere = disk_fault_new(4);
	struct store *other = open_store(elsewhere);
	struct made first = put(store, p, FILE_BYTES), second = put(other, p, FILE_BYTES);
	int64_t chunks = number("select count(*) from chunks");
	assert_int_equal(chunks % 2, 0);
	store_close(other);
	disk_free(elsewhere); /* with its packs: those chunks are damaged, the others are their twins */
	struct scrub_counts c = round_of(store);
	assert_true(c.damaged == chunks / 2 && c.healed == chunks / 2);
	assert_int_equal(check(&second, p, FILE_BYTES), E_OK);
	flip_first();
	c = round_of(NULL); /* a tool heals nothing */
	assert_true(c.damaged == 1 && c.healed == 0);
	c = round_of(store); /* the finder led to the damaged one; on the way it learns of the twin */
	assert_true(c.healed == 1 && marked() == 0);
	assert_int_equal(check(&first, p, FILE_BYTES), E_OK);
	buf_fini(&first.recipe);
	buf_fini(&second.recipe);
	free(p);
}

/* Who reads damage marks it, so that the very next upload stores the bytes again; and what is good again is let alone. */
static void test_read_marks(void **state)
{
	(void)state;
	uint8_t *p = random_bytes(3, FILE_BYTES);
	struct made first = put(store, p, FILE_BYTES);
	flip_first();
	assert_int_equal(check(&first, p, FILE_BYTES), E_CORRUPT);
	assert_int_equal(marked(), 1);
	struct made again = put(store, p, FILE_BYTES);
	assert_int_equal(check(&again, p, FILE_BYTES), E_OK);
	flip_first();
	struct scrub_counts c = round_of(store);
	assert_true(c.cleared == 1 && c.healed == 0 && marked() == 0);
	buf_fini(&first.recipe);
	buf_fini(&again.recipe);
	free(p);
}

/* A pack that cannot be opened just now says nothing of its chunks. */
static void test_not_to_be_opened(void **state)
{
	(void)state;
	uint8_t *p = random_bytes(4, FILE_BYTES);
	struct made first = put(store, p, FILE_BYTES);
	flip_first();
	struct scrub_counts c = {0};
	struct scrub *s = scrub_new(&(struct scrub_config){db, disk, store, &clock_system});
	int64_t after = 0;
	bool end = false;
	disk_fault_at(disk, 1, 1, E_IO);
	assert_int_equal(scrub_step(s, &after, &c, &end), E_OK);
	disk_fault_at(disk, 1, 0, 0);
	scrub_free(s);
	assert_true(c.left_out == c.chunks && c.chunks > 0 && c.damaged == 0 && marked() == 0);
	assert_true(round_of(store).damaged == 1);
	disk_fault_at(disk, 1, 1, E_IO);
	s = scrub_new(&(struct scrub_config){db, disk, store, &clock_system});
	after = 0;
	assert_int_equal(scrub_heal(s, &after, &c, &end), E_OK);
	disk_fault_at(disk, 1, 0, 0);
	scrub_free(s);
	assert_true(marked() == 1 && c.cleared == 0 && c.healed == 0);
	buf_fini(&first.recipe);
	free(p);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {CASE(test_found_and_healed), CASE(test_twin), CASE(test_read_marks), CASE(test_not_to_be_opened)};
	if (!mkdtemp(folder))
		return 1;
	int failed = cmocka_run_group_tests_name("scrub", tests, NULL, NULL);
	char path[64];
	snprintf(path, sizeof path, "rm -rf %s", folder);
	return system(path) ? 1 : failed;
}
