/* What the client sees on a disk. A fake root in memory; what cannot be looked at is never deleted (I11). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/scan.h"

static struct thing {
	const char *path;
	enum entry_kind kind;
	int ino;
	const char *text;
	int list_err, open_err; /* of this folder, of this file */
	bool changes;           /* while it is read */
	int64_t ctime;
	bool written;           /* a program has it open for writing */
} *disk;

struct root_file {
	const struct thing *t;
	size_t at;
};

static struct arena arena;
static struct ctx ctx;
static struct tree old;
static struct scan_result found;
static int64_t next_id;
static int check_err, opened;
static bool patient = true;

static struct root_entry entry_of(const struct thing *t)
{
	const char *slash = strrchr(t->path, '/');
	int64_t ctime = t->ctime ? t->ctime : 1000;
	return (struct root_entry){.name = str_c(slash ? slash + 1 : t->path), .kind = t->kind,
	                           .stamp = {.dev = 1, .ino = (uint64_t)t->ino, .birth_ns = t->ino * 10, .mtime_ns = ctime,
	                                     .ctime_ns = ctime, .size_bytes = t->text ? (int64_t)strlen(t->text) : 0}};
}

static const struct thing *thing_at(struct str path)
{
	for (struct thing *t = disk; t->path; t++)
		if (str_eq(str_c(t->path), path))
			return t;
	return NULL;
}

static int fake_list(struct root *r, struct ctx *c, struct str path, struct root_entry **out, size_t *n)
{
	const struct thing *self = thing_at(path);
	(void)r;
	*out = arena_many(c->arena, 32, struct root_entry);
	*n = 0;
	if (self && self->list_err)
		return ctx_fail(c, self->list_err, "no");
	for (struct thing *t = disk; t->path; t++) {
		struct str p = str_c(t->path);
		ptrdiff_t slash = str_rchr(p, '/');
		if (str_eq(slash < 0 ? STR("") : str_head(p, (size_t)slash), path))
			(*out)[(*n)++] = entry_of(t);
	}
	return 0;
}

static int fake_open(struct root *r, struct ctx *c, struct str path, struct root_file **out, struct root_entry *e)
{
	const struct thing *t = thing_at(path);
	(void)r;
	opened++;
	if (!t || t->open_err)
		return ctx_fail(c, t ? t->open_err : E_NOT_FOUND, "no");
	*e = entry_of(t);
	*out = calloc(1, sizeof **out);
	(*out)->t = t;
	return 0;
}

static int fake_read(struct root_file *f, void *out, size_t cap, size_t *got)
{
	size_t left = strlen(f->t->text) - f->at;
	*got = left < cap ? left : cap;
	memcpy(out, f->t->text + f->at, *got);
	f->at += *got;
	return 0;
}

static int fake_file_stat(struct root_file *f, struct root_entry *e)
{
	*e = entry_of(f->t);
	e->stamp.ctime_ns += f->t->changes;
	return 0;
}

static bool fake_is_written(struct root_file *f)
{
	return f->t->written;
}

static void fake_close(struct root_file *f)
{
	free(f);
}

static int fake_check(struct root *r, struct ctx *c)
{
	(void)r;
	return check_err ? ctx_fail(c, check_err, "another disk") : 0;
}

static const struct root_ops ops = {.list = fake_list, .open = fake_open, .read = fake_read, .file_stat = fake_file_stat,
                                    .is_written = fake_is_written, .close = fake_close, .check = fake_check};
static struct root root = {.ops = &ops};

static int setup(void **s)
{
	(void)s;
	arena_init(&arena);
	ctx_init(&ctx, &arena, &clock_system, &rng_system);
	tree_init(&old);
	next_id = -1;
	check_err = 0;
	return 0;
}

static int teardown(void **s)
{
	(void)s;
	tree_fini(&old);
	arena_fini(&arena);
	return 0;
}

/* Scans; the result becomes the old tree of the next scan. */
static void scan(struct thing *things)
{
	disk = things;
	opened = 0;
	ctx_clear(&ctx);
	assert_int_equal(scan_run(&ctx, &root, NULL, &old, &next_id, patient, &found), 0);
	tree_fini(&old);
	old = found.tree;
}

#define DISK(...) ((struct thing[]){__VA_ARGS__, {0}})

static int64_t id_of(const char *path)
{
	const struct node *n = old.root;
	for (struct str rest = str_c(path); n && rest.p && rest.n;)
		n = tree_child_exact(&old, n->f.id, str_cut(&rest, '/'));
	return n && n != old.root ? n->f.id : 0;
}

static void renames_keep_their_ids(void **s)
{
	(void)s;
	scan(DISK({"d", ENTRY_FOLDER, 1}, {"d/a", ENTRY_FILE, 2, "a"}, {"b", ENTRY_FILE, 3, "b"}));
	int64_t d = id_of("d"), a = id_of("d/a"), b = id_of("b");
	assert_true(d < 0 && a < 0 && b < 0 && old.count == 3 && opened == 2);
	scan(DISK({"e", ENTRY_FOLDER, 1}, {"e/b", ENTRY_FILE, 3, "b"}, {"a2", ENTRY_FILE, 2, "a"}));
	assert_true(id_of("e") == d && id_of("a2") == a && id_of("e/b") == b && old.count == 3);
	assert_int_equal(opened, 0); /* nothing was read again */
	/* two files change names with each other */
	scan(DISK({"e", ENTRY_FOLDER, 1}, {"e/b", ENTRY_FILE, 2, "a"}, {"a2", ENTRY_FILE, 3, "b"}));
	assert_true(id_of("e/b") == a && id_of("a2") == b);
	/* saved by an editor: another inode under the same name is the same file, edited */
	scan(DISK({"e", ENTRY_FOLDER, 1}, {"e/b", ENTRY_FILE, 9, "new"}, {"a2", ENTRY_FILE, 3, "b"}));
	assert_true(id_of("e/b") == a && opened == 1);
}

static void what_cannot_be_read_stays(void **s)
{
	(void)s;
	scan(DISK({"d", ENTRY_FOLDER, 1}, {"d/a", ENTRY_FILE, 2, "a"}, {"d/f", ENTRY_FOLDER, 4}, {"d/f/x", ENTRY_FILE, 5, "x"},
	          {"b", ENTRY_FILE, 3, "b"}));
	int64_t a = id_of("d/a"), x = id_of("d/f/x"), b = id_of("b");
	struct sha256 before = tree_get(&old, b)->f.checksum;
	scan(DISK({"d", ENTRY_FOLDER, 1, NULL, E_IO}, {"b", ENTRY_FILE, 3, "other", 0, E_IO}));
	assert_true(id_of("d/a") == a && id_of("d/f/x") == x && id_of("b") == b && found.n_problems == 2);
	assert_true(sha256_eq(&tree_get(&old, b)->f.checksum, &before));
	/* a link in the place of the folder: not synced, not deleted */
	scan(DISK({"d", ENTRY_OTHER, 8}, {"b", ENTRY_FILE, 3, "b"}));
	assert_true(id_of("d/a") == a && id_of("d/f/x") == x);
	/* but what went out of it in the meantime is found elsewhere, once */
	scan(DISK({"d", ENTRY_FOLDER, 1, NULL, E_IO}, {"b", ENTRY_FILE, 3, "b"}, {"a", ENTRY_FILE, 2, "a"}));
	assert_true(id_of("a") == a && id_of("d/a") == 0 && id_of("d/f/x") == x);
	scan(DISK({"b", ENTRY_FILE, 3, "b"}));
	assert_true(old.count == 1 && id_of("b") == b); /* really gone */
}

static void changing_while_it_is_read(void **s)
{
	(void)s;
	scan(DISK({"a", ENTRY_FILE, 2, "one"}));
	int64_t a = id_of("a");
	struct sha256 before = tree_get(&old, a)->f.checksum;
	scan(DISK({"a", ENTRY_FILE, 2, "more", 0, 0, true, 2000}, {"new", ENTRY_FILE, 3, "x", 0, 0, true}));
	assert_true(found.unsettled && sha256_eq(&tree_get(&old, a)->f.checksum, &before) && id_of("new") == 0);
	scan(DISK({"a", ENTRY_FILE, 2, "more", 0, 0, false, 2000}, {"new", ENTRY_FILE, 3, "x"}));
	assert_true(!found.unsettled && !sha256_eq(&tree_get(&old, a)->f.checksum, &before) && id_of("new") < 0);
	/* half of it is there: so it waits, but not for ever, and not when its program wrote nothing for long */
	int64_t lately = clock_now(ctx.clock) * 1000 - SCAN_WRITING_MS / 2 * INT64_C(1000000);
	before = tree_get(&old, a)->f.checksum;
	scan(DISK({"a", ENTRY_FILE, 2, "hal", 0, 0, false, lately, true}, {"log", ENTRY_FILE, 4, "x", 0, 0, false, lately, true}));
	assert_true(found.unsettled && sha256_eq(&tree_get(&old, a)->f.checksum, &before) && id_of("log") == 0);
	patient = false;
	scan(DISK({"a", ENTRY_FILE, 2, "hal", 0, 0, false, lately, true}, {"log", ENTRY_FILE, 4, "x", 0, 0, false, lately, true}));
	patient = true;
	assert_true(!found.unsettled && !sha256_eq(&tree_get(&old, a)->f.checksum, &before) && id_of("log") < 0);
	lately -= SCAN_WRITING_MS * INT64_C(1000000);
	scan(DISK({"a", ENTRY_FILE, 2, "half", 0, 0, false, lately, true}));
	assert_true(!found.unsettled && tree_get(&old, a)->f.size_bytes == 4);
	/* a stamp of this very moment is not to be trusted */
	scan(DISK({"a", ENTRY_FILE, 2, "now!", 0, 0, false, clock_now(ctx.clock) * 1000}));
	assert_true(found.unsettled && tree_get(&old, a)->f.stamp.ctime_ns == 0);
}

static void names(void **s)
{
	(void)s;
	scan(DISK({"File", ENTRY_FILE, 2, "a"}, {"file", ENTRY_FILE, 3, "b"}, {"\xff", ENTRY_FILE, 4, "c"}, {"a\nb", ENTRY_FILE, 5, "d"}));
	assert_true(old.count == 2 && id_of("File") != id_of("file") && id_of("File") < 0 && id_of("file") < 0);
	assert_int_equal(found.n_problems, 2);
	int64_t upper = id_of("File");
	scan(DISK({"~$doc", ENTRY_FILE, 6, "l"}, {"~$File", ENTRY_FILE, 2, "a"}, {"file", ENTRY_FILE, 3, "b"}));
	assert_true(id_of("~$doc") == 0 && id_of("~$File") == upper && old.count == 2);
}

static void another_disk(void **s)
{
	(void)s;
	scan(DISK({"a", ENTRY_FILE, 2, "a"}));
	check_err = E_NOT_FOUND;
	assert_int_equal(scan_run(&ctx, &root, NULL, &old, &next_id, patient, &found), E_NOT_FOUND);
	check_err = 0;
	ctx_clear(&ctx);
	disk = DISK({"", ENTRY_FOLDER, 1, NULL, E_IO});
	assert_int_equal(scan_run(&ctx, &root, NULL, &old, &next_id, patient, &found), E_IO);
	assert_int_equal(old.count, 1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(renames_keep_their_ids), T(what_cannot_be_read_stays), T(changing_while_it_is_read),
	                                   T(names), T(another_disk)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
