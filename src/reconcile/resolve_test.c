#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "reconcile/resolve.h"

#define EDIT(id, byte) ((struct resolve_side){.version_id = (id), .has_checksum = true, .checksum.b = {byte}})
#define GONE ((struct resolve_side){.deleted = true})

static const enum resolve_strategy all[] = {RESOLVE_NONE,        RESOLVE_LAST_WRITER_WINS, RESOLVE_KEEP_BOTH,
                                            RESOLVE_SERVER_WINS, RESOLVE_CLIENT_WINS,      RESOLVE_MANUAL};

static struct resolve_outcome go(enum resolve_strategy s, int64_t base, struct resolve_side head, struct resolve_side in)
{
	return resolve(s, base, &head, &in);
}

static void same(struct resolve_outcome got, struct resolve_outcome want)
{
	assert_int_equal(got.refused, want.refused);
	assert_int_equal(got.head, want.head);
	assert_int_equal(got.restore, want.restore);
	assert_int_equal(got.keep_incoming, want.keep_incoming);
	assert_int_equal(got.copy, want.copy);
	assert_int_equal(got.conflict, want.conflict);
	assert_int_equal(got.open, want.open);
}

static void no_conflict(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		same(go(all[i], 1, EDIT(1, 'a'), EDIT(2, 'b')), (struct resolve_outcome){.head = RESOLVE_HEAD_INCOMING});
		same(go(all[i], 1, EDIT(1, 'a'), GONE), (struct resolve_outcome){.head = RESOLVE_HEAD_DELETED});
		same(go(all[i], 1, EDIT(3, 'b'), EDIT(2, 'b')), (struct resolve_outcome){.head = RESOLVE_HEAD_STAYS});
		same(go(all[i], 1, EDIT(2, 'a'), (struct resolve_side){.version_id = 2}), (struct resolve_outcome){0});
		same(go(all[i], 1, GONE, GONE), (struct resolve_outcome){0});
	}
}

static void stale_edit(void **state)
{
	(void)state;
	for (int64_t base = 0; base <= 1; base++) {
		struct resolve_side h = EDIT(3, 'h'), in = EDIT(2, 'i');
		same(go(RESOLVE_NONE, base, h, in), (struct resolve_outcome){.refused = true});
		same(go(RESOLVE_LAST_WRITER_WINS, base, h, in),
		     (struct resolve_outcome){.head = RESOLVE_HEAD_INCOMING, .conflict = true});
		same(go(RESOLVE_CLIENT_WINS, base, h, in),
		     (struct resolve_outcome){.head = RESOLVE_HEAD_INCOMING, .conflict = true});
		same(go(RESOLVE_SERVER_WINS, base, h, in), (struct resolve_outcome){.keep_incoming = true, .conflict = true});
		same(go(RESOLVE_MANUAL, base, h, in),
		     (struct resolve_outcome){.keep_incoming = true, .conflict = true, .open = true});
		same(go(RESOLVE_KEEP_BOTH, base, h, in),
		     (struct resolve_outcome){.keep_incoming = true, .copy = true, .conflict = true});
	}
}

static void edit_against_delete(void **state)
{
	(void)state;
	struct resolve_side in = EDIT(2, 'i'), h = EDIT(3, 'h');
	struct resolve_outcome back = {.head = RESOLVE_HEAD_INCOMING, .restore = true, .conflict = true};
	same(go(RESOLVE_NONE, 1, GONE, in), (struct resolve_outcome){.refused = true});
	same(go(RESOLVE_LAST_WRITER_WINS, 1, GONE, in), back);
	same(go(RESOLVE_CLIENT_WINS, 1, GONE, in), back);
	same(go(RESOLVE_KEEP_BOTH, 1, GONE, in), back);
	same(go(RESOLVE_SERVER_WINS, 1, GONE, in), (struct resolve_outcome){.keep_incoming = true, .conflict = true});
	same(go(RESOLVE_MANUAL, 1, GONE, in),
	     (struct resolve_outcome){.keep_incoming = true, .conflict = true, .open = true});

	same(go(RESOLVE_NONE, 1, h, GONE), (struct resolve_outcome){.refused = true});
	same(go(RESOLVE_LAST_WRITER_WINS, 1, h, GONE), (struct resolve_outcome){.conflict = true});
	same(go(RESOLVE_KEEP_BOTH, 1, h, GONE), (struct resolve_outcome){.conflict = true});
	same(go(RESOLVE_SERVER_WINS, 1, h, GONE), (struct resolve_outcome){.conflict = true});
	same(go(RESOLVE_MANUAL, 1, h, GONE), (struct resolve_outcome){.conflict = true, .open = true});
	same(go(RESOLVE_CLIENT_WINS, 1, h, GONE),
	     (struct resolve_outcome){.head = RESOLVE_HEAD_DELETED, .conflict = true});
}

/* Invariant 5: for every strategy and situation each side that has content is the head, the old head or kept. */
static void nothing_is_dropped(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		for (int h = 0; h < 2; h++) {
			for (int64_t base = 0; base <= 3; base++) {
				struct resolve_outcome o = go(all[i], base, h ? EDIT(3, 'h') : GONE, EDIT(2, 'i'));
				if (!o.refused)
					assert_true((o.head == RESOLVE_HEAD_INCOMING) != o.keep_incoming);
				assert_true(!o.open || all[i] == RESOLVE_MANUAL);
			}
		}
	}
}

static void copy_names(void **state)
{
	(void)state;
	struct arena a;
	arena_init(&a);
	struct str d = STR("2026-11-21");
	struct str n = resolve_copy_name(&a, STR("report.tar.gz"), STR("Anna's laptop"), d, 1);
	assert_true(str_eq(n, STR("report.tar (conflicted copy Anna's laptop 2026-11-21).gz")));
	n = resolve_copy_name(&a, STR("report"), STR("a/b\n"), d, 3);
	assert_true(str_eq(n, STR("report (conflicted copy a-b 2026-11-21 3)")));
	n = resolve_copy_name(&a, STR("x.txt"), STR(""), d, 1);
	assert_true(str_eq(n, STR("x (conflicted copy 2026-11-21).txt")));
	n = resolve_copy_name(&a, STR("x.txt"), str_n("\xff\xfe", 2), d, 1);
	assert_true(str_eq(n, STR("x (conflicted copy another device 2026-11-21).txt")));
	char longname[251], longdevice[301];
	memset(longname, 'n', sizeof(longname));
	memcpy(longname + 247, ".txt", 4);
	memset(longdevice, 'd', sizeof(longdevice));
	n = resolve_copy_name(&a, str_n(longname, 251), str_n(longdevice, 301), d, 12);
	assert_int_equal(n.n, 255);
	assert_true(str_ends(n, STR("d 2026-11-21 12).txt")));
	arena_fini(&a);
}

static void strategy_names(void **state)
{
	(void)state;
	enum resolve_strategy s;
	for (int i = RESOLVE_LAST_WRITER_WINS; i <= RESOLVE_MANUAL; i++) {
		assert_true(resolve_strategy_parse(str_c(resolve_strategy_name((enum resolve_strategy)i)), &s));
		assert_int_equal(s, i);
	}
	assert_false(resolve_strategy_parse(STR(""), &s));
	assert_false(resolve_strategy_parse(STR("keep_both"), &s));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(no_conflict),  cmocka_unit_test(stale_edit),
	    cmocka_unit_test(edit_against_delete), cmocka_unit_test(nothing_is_dropped),
	    cmocka_unit_test(copy_names),   cmocka_unit_test(strategy_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
