/* One table per case of plan.h, from tiny named trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/time.h"
#include "reconcile/guard.h"
#include "reconcile/plan.h"

/* A node in one line: id, parent, 'd' or the content of a file, name. The list ends with id 0. */
struct n {
	int64_t id, parent;
	char content;
	const char *name, *local_name;
	int64_t version; /* 0: as many as the content says */
	bool executable;
};

struct world {
	struct tree remote, local, synced;
	struct plan plan;
};

static void fill(struct tree *t, const struct n *list)
{
	for (; list->id; list++) {
		struct node_facts f = {.id = list->id, .parent = list->parent, .name = str_c(list->name),
		                       .kind = list->content == 'd' ? NODE_FOLDER : NODE_FILE,
		                       .local_name = str_c(list->local_name), .executable = list->executable};
		if (f.kind == NODE_FILE) {
			f.checksum.b[0] = (uint8_t)list->content;
			f.size_bytes = 1;
			f.version_id = list->version ? list->version : 100 + list->content;
		}
		assert_non_null(tree_put(t, &f));
	}
}

static void plan_by(struct world *w, const struct n *remote, const struct n *local, const struct n *synced,
                    struct plan_options o)
{
	tree_init(&w->remote);
	tree_init(&w->local);
	tree_init_flat(&w->synced);
	fill(&w->remote, remote);
	fill(&w->local, local);
	fill(&w->synced, synced);
	o.device = STR("dev");
	o.date = STR("2026-11-21");
	o.reserved = STR(".scaidrive");
	plan_make(&w->remote, &w->local, &w->synced, &o, &w->plan);
}

static void plan_of(struct world *w, const struct n *remote, const struct n *local, const struct n *synced)
{
	plan_by(w, remote, local, synced, (struct plan_options){0});
}

static void done(struct world *w)
{
	plan_fini(&w->plan);
	tree_fini(&w->remote);
	tree_fini(&w->local);
	tree_fini(&w->synced);
}

/* The plan has this operation; name NULL: any. */
static const struct plan_op *has(struct world *w, enum plan_verb verb, int case_no, int64_t id, const char *name)
{
	for (size_t i = 0; i < w->plan.n; i++) {
		const struct plan_op *op = &w->plan.ops[i];
		if (op->verb == verb && op->id == id && op->case_no == case_no && (!name || str_eq(op->name, str_c(name))))
			return op;
	}
	for (size_t i = 0; i < w->plan.n; i++) {
		const struct plan_op *op = &w->plan.ops[i];
		fprintf(stderr, "planned: %02d %s %lld \"%.*s\"\n", op->case_no, plan_verb_name(op->verb), (long long)op->id,
		        STR_ARG(op->name));
	}
	fail_msg("no %s of %lld by case %d", plan_verb_name(verb), (long long)id, case_no);
	return NULL;
}

#define L(...) ((const struct n[]){__VA_ARGS__ __VA_OPT__(, ) {0}})
#define EXPECT(count) assert_int_equal(w.plan.n, (count))

static void case_01_nothing(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}),
	        L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}));
	EXPECT(0);
	assert_int_equal(w.plan.waiting, 0);
	done(&w);
}

static void case_02_remote_new_or_edited(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}, {3, 0, 'b', "y"}), L({3, 0, 'a', "y"}), L({3, 0, 'a', "y"}));
	EXPECT(2);
	has(&w, PLAN_MAKE_LOCAL, 2, 1, "f");
	const struct plan_op *op = has(&w, PLAN_FETCH, 2, 3, "y");
	assert_true(op->has_local && op->local.checksum.b[0] == 'a' && op->remote.checksum.b[0] == 'b');
	assert_int_equal(w.plan.waiting, 1); /* x waits for its folder */
	done(&w);
}

static void case_03_local_new_or_edited(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({3, 0, 'a', "y"}), L({-1, 0, 'd', "f"}, {-2, -1, 'a', "x"}, {3, 0, 'b', "y"}), L({3, 0, 'a', "y"}));
	EXPECT(2);
	has(&w, PLAN_MAKE_REMOTE, 3, -1, "f");
	const struct plan_op *op = has(&w, PLAN_SEND_VERSION, 3, 3, NULL);
	assert_int_equal(op->base_version_id, 100 + 'a');
	assert_int_equal(op->strategy, RESOLVE_NONE);
	done(&w);
}

static void case_04_adopt(void **state)
{
	(void)state;
	struct world w;
	/* both edited alike; and a tree that both sides made alike, as after the loss of a client's state */
	plan_of(&w, L({3, 0, 'b', "y"}, {1, 0, 'd', "F"}, {2, 1, 'a', "x"}),
	        L({3, 0, 'b', "y"}, {-1, 0, 'd', "F"}, {-2, -1, 'a', "x"}), L({3, 0, 'a', "y"}));
	EXPECT(3);
	assert_true(has(&w, PLAN_RECORD, 4, 3, NULL)->record_content);
	assert_int_equal(has(&w, PLAN_RECORD, 4, 1, NULL)->local.id, -1);
	assert_int_equal(has(&w, PLAN_RECORD, 4, 2, NULL)->local.id, -2);
	done(&w);

	/* other capitals here: as the server has them, or two devices would show two names for good; unless they are another's */
	plan_of(&w, L({1, 0, 'a', "x.txt"}), L({-1, 0, 'a', "X.TXT"}), L());
	EXPECT(1);
	assert_int_equal(has(&w, PLAN_MOVE_LOCAL, 10, 1, "x.txt")->local.id, -1);
	done(&w);
	plan_of(&w, L({1, 0, 'a', "x.txt"}), L({-1, 0, 'a', "X.TXT"}, {-2, 0, 'b', "x.txt"}), L());
	has(&w, PLAN_MOVE_LOCAL, 12, -2, "x (conflicted copy dev 2026-11-21).txt");
	done(&w);
	plan_of(&w, L({1, 0, 'a', "x.txt"}, {2, 0, 'b', "y"}), L({-1, 0, 'a', "X.TXT"}, {2, 0, 'b', "x.txt"}), L({2, 0, 'b', "y"}));
	assert_int_equal(has(&w, PLAN_RECORD, 4, 1, NULL)->local.id, -1);
	done(&w);
}

static void case_05_both_edited(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({3, 0, 'b', "y.txt"}), L({3, 0, 'c', "y.txt"}), L({3, 0, 'a', "y.txt"}));
	EXPECT(1);
	has(&w, PLAN_DETACH, 5, 3, "y (conflicted copy dev 2026-11-21).txt");
	done(&w);
	plan_by(&w, L({3, 0, 'b', "y"}), L({3, 0, 'c', "y"}), L({3, 0, 'a', "y"}),
	        (struct plan_options){.strategy = RESOLVE_LAST_WRITER_WINS});
	EXPECT(1);
	const struct plan_op *op = has(&w, PLAN_SEND_VERSION, 5, 3, NULL);
	assert_int_equal(op->strategy, RESOLVE_LAST_WRITER_WINS);
	assert_int_equal(op->base_version_id, 100 + 'a');
	done(&w);
}

static void case_06_remote_deleted(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L(), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}));
	EXPECT(2);
	has(&w, PLAN_TRASH_LOCAL, 6, 2, NULL);
	has(&w, PLAN_TRASH_LOCAL, 6, 1, NULL);
	assert_int_equal(w.plan.ops[0].id, 2); /* children first */
	done(&w);
}

static void case_07_remote_deleted_local_edited(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L(), L({2, 0, 'b', "x"}), L({2, 0, 'a', "x"}));
	EXPECT(1);
	const struct plan_op *op = has(&w, PLAN_SEND_VERSION, 7, 2, NULL);
	assert_true(op->restore && op->base_version_id == 100 + 'a');
	done(&w);
	/* it may go back into a folder that was deleted here: that waits until one knows */
	plan_of(&w, L({1, 0, 'd', "f"}), L({2, 0, 'b', "x"}), L({1, 0, 'd', "f"}, {2, 0, 'a', "x"}));
	EXPECT(1);
	has(&w, PLAN_SEND_VERSION, 7, 2, NULL);
	assert_int_equal(w.plan.waiting, 1);
	done(&w);
	/* its name was taken meanwhile: it cannot come back as itself */
	plan_of(&w, L({9, 0, 'z', "X"}), L({2, 0, 'b', "x"}), L({2, 0, 'a', "x"}));
	has(&w, PLAN_DETACH, 7, 2, NULL);
	done(&w);
}

static void case_08_remote_edited_local_deleted(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({2, 0, 'b', "x"}), L(), L({2, 0, 'a', "x"}));
	EXPECT(1);
	has(&w, PLAN_FETCH, 8, 2, "x");
	done(&w);
}

static void case_09_local_deleted(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}), L(), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}));
	EXPECT(1); /* one operation for the folder with its content */
	has(&w, PLAN_TRASH_REMOTE, 9, 1, NULL);
	done(&w);
}

static void case_10_moved_on_one_side(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 0, 'd', "g"}, {3, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 1, 'd', "g"}, {3, 0, 'a', "z"}),
	        L({1, 0, 'd', "f"}, {2, 1, 'd', "g"}, {3, 1, 'a', "x"}));
	EXPECT(2);
	assert_true(has(&w, PLAN_MOVE_LOCAL, 10, 2, "g")->final);
	const struct plan_op *op = has(&w, PLAN_MOVE_REMOTE, 10, 3, "z");
	assert_int_equal(op->parent, 0);
	done(&w);
	plan_of(&w, L({1, 0, 'd', "A"}, {2, 1, 'a', "x"}), L({1, 0, 'd', "a"}, {2, 1, 'a', "x"}),
	        L({1, 0, 'd', "a"}, {2, 1, 'a', "x"}));
	EXPECT(1); /* by case alone, and a folder is one operation */
	has(&w, PLAN_MOVE_LOCAL, 10, 1, "A");
	done(&w);
}

/* A file system that gives names another Unicode form did not rename anything; a person who changes the case did. */
static void unicode_forms(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'a', "\xc3\xa9"}), L({1, 0, 'a', "e\xcc\x81"}), L({1, 0, 'a', "\xc3\xa9"}));
	EXPECT(1);
	const struct plan_op *op = has(&w, PLAN_RECORD, 4, 1, "\xc3\xa9");
	assert_true(op->record_place && str_eq(op->other_name, STR("e\xcc\x81")));
	done(&w);
	plan_of(&w, L({1, 0, 'a', "\xc3\xa9"}), L({1, 0, 'a', "e\xcc\x81"}), L({1, 0, 'a', "\xc3\xa9", "e\xcc\x81"}));
	EXPECT(0);
	done(&w);
	plan_of(&w, L({1, 0, 'a', "\xc3\xa9"}), L({-1, 0, 'a', "e\xcc\x81"}), L());
	EXPECT(1); /* nor is it a new file */
	has(&w, PLAN_RECORD, 4, 1, "\xc3\xa9");
	done(&w);
	plan_of(&w, L({1, 0, 'a', "\xc3\xa9"}), L({1, 0, 'a', "\xc3\x89"}), L({1, 0, 'a', "\xc3\xa9"}));
	EXPECT(1);
	has(&w, PLAN_MOVE_REMOTE, 10, 1, "\xc3\x89");
	done(&w);
}

/* A folder that arrives with everything in it (from the trash, from another share) is made from the top, round by round; what
 * is here already is not fetched again. */
static void subtree_arrives(void **state)
{
	(void)state;
	struct world w;
	const struct n *there = L({1, 0, 'd', "f"}, {2, 1, 'd', "g"}, {3, 2, 'a', "x"}, {4, 1, 'b', "y"});
	plan_of(&w, there, L(), L());
	EXPECT(1);
	has(&w, PLAN_MAKE_LOCAL, 2, 1, "f");
	assert_int_equal(w.plan.waiting, 3);
	done(&w);
	plan_of(&w, there, L({1, 0, 'd', "f"}), L({1, 0, 'd', "f"}));
	EXPECT(2);
	has(&w, PLAN_MAKE_LOCAL, 2, 2, "g");
	has(&w, PLAN_FETCH, 2, 4, "y");
	done(&w);
	/* deleted here when it came back: synced is gone, so it is new; and it was left here by a share that moved */
	plan_of(&w, there, L({-1, 0, 'd', "f"}, {-2, -1, 'd', "g"}, {-3, -2, 'a', "x"}, {-4, -1, 'c', "y"}), L());
	EXPECT(4);
	has(&w, PLAN_RECORD, 4, 3, NULL);
	has(&w, PLAN_MOVE_LOCAL, 12, -4, NULL); /* other bytes: kept beside */
	done(&w);
}

static void case_11_moved_on_both(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 0, 'd', "g"}, {3, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 0, 'd', "g"}, {3, 2, 'a', "x"}),
	        L({1, 0, 'd', "f"}, {2, 0, 'd', "g"}, {3, 0, 'a', "x"}));
	EXPECT(1);
	assert_int_equal(has(&w, PLAN_MOVE_LOCAL, 11, 3, "x")->parent, 1);
	done(&w);
	/* an edit and a move of one file on two sides are both kept */
	plan_of(&w, L({1, 0, 'd', "f"}, {3, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {3, 0, 'b', "x"}),
	        L({1, 0, 'd', "f"}, {3, 0, 'a', "x"}));
	EXPECT(2);
	has(&w, PLAN_MOVE_LOCAL, 10, 3, "x");
	has(&w, PLAN_SEND_VERSION, 3, 3, NULL);
	done(&w);
}

static void case_12_one_name(void **state)
{
	(void)state;
	struct world w;
	/* created on both sides, other bytes: remote keeps the name */
	plan_of(&w, L({1, 0, 'a', "x.txt"}), L({-1, 0, 'b', "x.txt"}), L());
	EXPECT(1);
	assert_false(has(&w, PLAN_MOVE_LOCAL, 12, -1, "x (conflicted copy dev 2026-11-21).txt")->final);
	done(&w);
	/* case twins keep their local names; the server holds one under a suffix */
	plan_of(&w, L({1, 0, 'a', "x.txt"}), L({1, 0, 'a', "x.txt"}, {-1, 0, 'b', "X.txt"}), L({1, 0, 'a', "x.txt"}));
	EXPECT(1);
	assert_true(str_eq(has(&w, PLAN_SEND, 3, -1, "X (name twin).txt")->other_name, STR("X.txt")));
	done(&w);
	plan_of(&w, L({1, 0, 'a', "x"}, {2, 0, 'b', "X (name twin)"}), L({1, 0, 'a', "x"}, {2, 0, 'b', "X"}),
	        L({1, 0, 'a', "x"}, {2, 0, 'b', "X (name twin)", "X"}));
	EXPECT(0);
	done(&w);
	/* two that swapped names remotely: one goes by way of a temporary name */
	plan_of(&w, L({1, 0, 'a', "y"}, {2, 0, 'b', "x"}), L({1, 0, 'a', "x"}, {2, 0, 'b', "y"}),
	        L({1, 0, 'a', "x"}, {2, 0, 'b', "y"}));
	EXPECT(1);
	assert_false(has(&w, PLAN_MOVE_LOCAL, 12, 1, ".scaidrive-moving-1")->final);
	done(&w);
	/* that name was taken by somebody else's file */
	plan_of(&w, L({1, 0, 'a', "y"}, {2, 0, 'b', "x"}, {3, 0, 'c', ".scaidrive-moving-1"}),
	        L({1, 0, 'a', "x"}, {2, 0, 'b', "y"}, {3, 0, 'c', ".scaidrive-moving-1"}),
	        L({1, 0, 'a', "x"}, {2, 0, 'b', "y"}, {3, 0, 'c', ".scaidrive-moving-1"}));
	has(&w, PLAN_MOVE_LOCAL, 12, 1, ".scaidrive-moving-1-2");
	done(&w);
	plan_of(&w, L({1, 0, 'a', "x"}), L({1, 0, 'a', ".scaidrive-moving-1-2"}), L({1, 0, 'a', "x"}));
	has(&w, PLAN_MOVE_LOCAL, 12, 1, "x"); /* found after a crash */
	done(&w);
	/* ... or it is wanted from the very node that bears it: the ring is cut at the other one */
	plan_of(&w, L({1, 0, 'a', ".scaidrive-moving-1"}, {2, 0, 'b', "x"}), L({1, 0, 'a', "x"}, {2, 0, 'b', ".scaidrive-moving-1"}),
	        L({1, 0, 'a', ".scaidrive-moving-1"}, {2, 0, 'b', "x"}));
	has(&w, PLAN_MOVE_REMOTE, 12, 2, ".scaidrive-moving-2");
	done(&w);
	/* the client's own folder is not overwritten by a remote one of that name */
	plan_of(&w, L({1, 0, 'd', ".ScaiDrive"}), L(), L());
	EXPECT(1);
	assert_true(has(&w, PLAN_MAKE_LOCAL, 2, 1, NULL)->other_name.p != NULL);
	done(&w);
}

/* A file was on its way to another name, and its user put something else in its place: the temporary name is nobody's. */
static void temporary_names_stay_here(void **state)
{
	(void)state;
	struct world w;
	const char *temp = ".scaidrive-moving-1";
	/* deleted, and a folder made there: the name is known from the server, or from what was agreed, and will be free */
	plan_of(&w, L({1, 0, 'a', "x"}), L({-1, 0, 'd', temp}, {-2, -1, 'b', "inside"}), L({1, 0, 'a', temp}));
	EXPECT(2);
	has(&w, PLAN_TRASH_REMOTE, 9, 1, NULL);
	assert_false(has(&w, PLAN_MOVE_LOCAL, 12, -1, "x")->final);
	done(&w);
	plan_of(&w, L({1, 0, 'a', temp}), L({-1, 0, 'd', temp}), L({1, 0, 'a', "x"}));
	has(&w, PLAN_MOVE_LOCAL, 12, -1, "x");
	done(&w);
	/* nobody knows it any more */
	plan_of(&w, L(), L({-1, 0, 'd', ".scaidrive-moving-1-2"}), L());
	EXPECT(1);
	has(&w, PLAN_MOVE_LOCAL, 12, -1, "moving-1");
	done(&w);
	/* somebody has it */
	plan_of(&w, L({1, 0, 'a', "x.txt"}), L({1, 0, 'a', "x.txt"}, {-1, 0, 'b', temp}), L({1, 0, 'a', "x.txt"}));
	EXPECT(1);
	has(&w, PLAN_MOVE_LOCAL, 12, -1, "x (conflicted copy dev 2026-11-21).txt");
	done(&w);
	/* another file was renamed to it */
	plan_of(&w, L({1, 0, 'a', "x"}, {2, 0, 'b', ".scaidrive-moving-2"}), L({1, 0, 'a', "x"}, {2, 0, 'b', temp}),
	        L({1, 0, 'a', "x"}, {2, 0, 'b', ".scaidrive-moving-2"}));
	EXPECT(1);
	has(&w, PLAN_MOVE_LOCAL, 12, 2, "x (conflicted copy dev 2026-11-21)");
	done(&w);
	plan_of(&w, L({2, 0, 'b', "x"}), L({2, 0, 'b', temp}), L({2, 0, 'b', "x"}));
	EXPECT(1);
	has(&w, PLAN_MOVE_LOCAL, 12, 2, "moving-1");
	done(&w);
	/* both edited the file while it bears the name */
	plan_of(&w, L({1, 0, 'b', temp}), L({1, 0, 'c', temp}), L({1, 0, 'a', temp}));
	has(&w, PLAN_DETACH, 5, 1, "moving-1 (conflicted copy dev 2026-11-21)");
	done(&w);
}

/* Its device lost its state before it gave the final name: any other one gives it a name, once that is certain. */
static void temporary_names_end(void **state)
{
	(void)state;
	const int64_t given = SECONDS_US(1000);
	const struct {
		int64_t now_us;
		size_t ops;
	} at[] = {{0, 0}, {given + PLAN_TEMP_STANDS_US - 1, 0}, {given + PLAN_TEMP_STANDS_US, 1}, {given - PLAN_TEMP_STANDS_US, 1}, {given, 0}};
	struct node_facts temp = {.id = 7, .kind = NODE_FILE, .name = STR(".scaidrive-moving-7"), .stamp.ctime_ns = given * 1000};
	struct node_facts taken = {.id = 8, .kind = NODE_FOLDER, .name = STR("moving-7")};
	for (size_t i = 0; i < 2 * sizeof(at) / sizeof(at[0]); i++) {
		struct tree trees[3];
		struct plan p;
		for (int t = 0; t < 3; t++) {
			if (t == 2)
				tree_init_flat(&trees[t]);
			else
				tree_init(&trees[t]);
			tree_put(&trees[t], &temp);
			if (i % 2)
				tree_put(&trees[t], &taken);
		}
		const struct plan_options o = {.now_us = at[i / 2].now_us, .device = STR("dev"), .date = STR("2026-11-21")};
		for (int again = 0; again < 2; again++) { /* it is looked at in each plan, though nobody touches it */
			plan_make(&trees[0], &trees[1], &trees[2], &o, &p);
			assert_int_equal(p.n, at[i / 2].ops);
			assert_int_equal(p.waiting, 0);
			if (p.n) {
				assert_int_equal(p.ops[0].verb, PLAN_MOVE_LOCAL);
				assert_true(str_eq(p.ops[0].name, i % 2 ? STR("moving-7 (conflicted copy dev 2026-11-21)") : STR("moving-7")));
			}
			plan_fini(&p);
		}
		for (int t = 0; t < 3; t++)
			tree_fini(&trees[t]);
	}
}

static void case_13_moves_form_a_cycle(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({2, 0, 'd', "b"}, {1, 2, 'd', "a"}), L({1, 0, 'd', "a"}, {2, 1, 'd', "b"}),
	        L({1, 0, 'd', "a"}, {2, 0, 'd', "b"}));
	EXPECT(1); /* b goes back first, then a can follow the remote move */
	assert_int_equal(has(&w, PLAN_MOVE_LOCAL, 13, 2, "b")->parent, 0);
	assert_int_equal(w.plan.waiting, 1);
	done(&w);
}

static void case_14_deleted_on_both(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L(), L(), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}));
	EXPECT(2);
	has(&w, PLAN_FORGET, 14, 1, NULL);
	has(&w, PLAN_FORGET, 14, 2, NULL);
	done(&w);
}

static void case_15_folder_deleted_child_edited(void **state)
{
	(void)state;
	struct world w;
	const struct n *before = L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}, {3, 1, 'a', "y"});
	plan_of(&w, L(), L({1, 0, 'd', "f"}, {2, 1, 'b', "x"}, {3, 1, 'a', "y"}), before);
	EXPECT(3);
	has(&w, PLAN_DETACH, 15, 1, NULL);
	has(&w, PLAN_DETACH, 15, 2, NULL);
	has(&w, PLAN_TRASH_LOCAL, 6, 3, NULL);
	done(&w);
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 1, 'b', "x"}, {3, 1, 'a', "y"}), L(), before);
	EXPECT(2);
	has(&w, PLAN_MAKE_LOCAL, 15, 1, "f");
	has(&w, PLAN_TRASH_REMOTE, 9, 3, NULL);
	done(&w);
	/* moved out of a folder that was then deleted: the folder waits for it */
	plan_of(&w, L({2, 0, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}), L({1, 0, 'd', "f"}, {2, 1, 'a', "x"}));
	EXPECT(1);
	has(&w, PLAN_MOVE_LOCAL, 10, 2, "x");
	assert_int_equal(w.plan.waiting, 1);
	done(&w);
}

static void guard_stops(void **state)
{
	(void)state;
	struct world w;
	struct n all[21] = {{0}}, none[1] = {{0}};
	char names[20][4];
	for (int i = 0; i < 20; i++) {
		snprintf(names[i], sizeof(names[i]), "%d", i);
		all[i] = (struct n){i + 1, i ? 1 : 0, i ? 'a' : 'd', names[i]};
	}
	plan_of(&w, none, all, all);
	struct guard_verdict v = guard_check(&w.plan, &w.remote, &w.synced);
	assert_true(v.stop && v.local == 20 && v.remote == 0);
	done(&w);
	plan_of(&w, all, none, all); /* one operation, but twenty nodes */
	v = guard_check(&w.plan, &w.remote, &w.synced);
	assert_true(v.stop && v.remote == 20 && v.local == 0);
	done(&w);
	all[9] = (struct n){0};
	plan_of(&w, all, none, all); /* nine are few, though all */
	assert_false(guard_check(&w.plan, &w.remote, &w.synced).stop);
	done(&w);
}

/* The most worrying reason is the one that is told. */
static void guard_knows_the_folder(void **state)
{
	(void)state;
	struct guard_root_facts all = {true, true, true, true, true}, f = all;
	assert_int_equal(guard_root(&f), GUARD_ROOT_OK);
	f.marker_is_ours = false;
	assert_int_equal(guard_root(&f), GUARD_MARKER_FOREIGN);
	f.has_marker = false;
	assert_int_equal(guard_root(&f), GUARD_MARKER_MISSING);
	f.same_folder = false;
	assert_int_equal(guard_root(&f), GUARD_ROOT_MISSING);
	f.same_disk = false;
	assert_int_equal(guard_root(&f), GUARD_OTHER_DISK);
	f.is_there = false;
	assert_int_equal(guard_root(&f), GUARD_ROOT_MISSING);
}

static void trees_stay_well_formed(void **state)
{
	(void)state;
	struct tree t;
	tree_init(&t);
	fill(&t, L({1, 0, 'd', "a"}, {2, 1, 'd', "b"}, {3, 2, 'x', "c"}));
	struct node_facts f = {.id = 1, .parent = 2, .name = STR("a")};
	assert_null(tree_put(&t, &f)); /* below itself */
	f = (struct node_facts){.id = 9, .parent = 3, .name = STR("q")};
	assert_null(tree_put(&t, &f)); /* in a file */
	f = (struct node_facts){.id = 3, .parent = 2, .name = STR("c")};
	assert_null(tree_put(&t, &f)); /* a file that becomes a folder */
	assert_true(tree_rename_id(&t, 2, 20));
	assert_int_equal(tree_get(&t, 3)->f.parent, 20);
	assert_ptr_equal(tree_child_exact(&t, 20, STR("c")), tree_get(&t, 3));
	struct node_facts late[] = {{.id = 6, .parent = 5, .name = STR("late")}, {.id = 5, .parent = 1, .name = STR("later")},
	                            {.id = 7, .parent = 8, .name = STR("p")},    {.id = 8, .parent = 7, .name = STR("q")}};
	assert_int_equal(tree_put_all(&t, late, 4), 2); /* the ring has no place */
	assert_non_null(tree_get(&t, 6));
	assert_int_equal(t.count, 5);
	assert_true(tree_remove(&t, 1));
	assert_int_equal(t.count, 0);
	tree_fini(&t);
}

#define X(id, name) {id, 0, 'a', name, NULL, 0, true}
#define O(id, name) {id, 0, 'a', name}

static void executable_bit(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L(X(1, "there"), O(2, "here"), X(3, "both"), O(4, "off there"), X(5, "off here"), X(6, "same")),
	        L(O(1, "there"), X(2, "here"), X(3, "both"), X(4, "off there"), O(5, "off here"), X(6, "same")),
	        L(O(1, "there"), O(2, "here"), O(3, "both"), X(4, "off there"), X(5, "off here"), X(6, "same")));
	EXPECT(5);
	assert_true(has(&w, PLAN_SET_MODE_LOCAL, 2, 1, NULL)->executable);
	assert_true(has(&w, PLAN_SET_MODE_REMOTE, 3, 2, NULL)->executable);
	assert_true(has(&w, PLAN_RECORD, 4, 3, NULL)->executable);
	assert_false(has(&w, PLAN_SET_MODE_LOCAL, 2, 4, NULL)->executable);
	assert_false(has(&w, PLAN_SET_MODE_REMOTE, 3, 5, NULL)->executable);
	done(&w);
}

/* With content the bit that changed goes along; one that was never agreed is the server's. */
static void executable_bit_beside_content(void **state)
{
	(void)state;
	struct world w;
	plan_of(&w, L({1, 0, 'b', "x"}, X(2, "y"), X(3, "z")), L(X(1, "x"), {2, 0, 'b', "y"}, O(-3, "z")), L(O(1, "x"), O(2, "y")));
	EXPECT(3);
	assert_true(has(&w, PLAN_FETCH, 2, 1, NULL)->executable);
	assert_true(has(&w, PLAN_SEND_VERSION, 3, 2, NULL)->executable);
	assert_false(has(&w, PLAN_RECORD, 4, 3, NULL)->executable); /* what this disk has: then the server's bit is the newer */
	done(&w);
}

static void a_disk_without_modes(void **state)
{
	(void)state;
	struct world w;
	plan_by(&w, L(O(1, "x"), X(2, "y")), L(X(1, "x"), {2, 0, 'b', "y", NULL, 0, false}, {-3, 0, 'c', "new", NULL, 0, true}),
	        L(O(1, "x"), X(2, "y")), (struct plan_options){.modeless = true});
	EXPECT(2);
	assert_true(has(&w, PLAN_SEND_VERSION, 3, 2, NULL)->executable);
	assert_false(has(&w, PLAN_SEND, 3, -3, NULL)->executable);
	done(&w);
}

static void passing_files(void **state)
{
	(void)state;
	struct world w;
	assert_true(plan_is_passing(STR("~$a.docx")) && plan_is_passing(STR(".~lock.a.odt#")) && plan_is_passing(STR(".a.swp")) &&
	            plan_is_passing(STR("a.crdownload")));
	assert_false(plan_is_passing(STR("a~$")) || plan_is_passing(STR("a.part")) || plan_is_passing(STR(".~lock")) ||
	             plan_is_passing(STR("a.swp")) || plan_is_passing(STR(".env")) || plan_is_passing(STR("a.tmp")));
	/* the folder was deleted here: what passes by there does not keep it */
	plan_of(&w, L({1, 0, 'd', "f"}, {2, 1, 'a', "~$x"}, {3, 0, 'a', "~$y"}), L({-4, 0, 'b', "~$y"}), L({1, 0, 'd', "f"}));
	EXPECT(1);
	has(&w, PLAN_TRASH_REMOTE, 9, 1, NULL);
	done(&w);
	plan_of(&w, L({1, 0, 'a', "~$x"}), L({1, 0, 'b', "~$x"}), L({1, 0, 'a', "~$x"}));
	has(&w, PLAN_SEND_VERSION, 3, 1, NULL);
	done(&w);
}

/* Every operation says which side differed and how; who and since when, if the trees were told. */
static void reasons(void **state)
{
	(void)state;
	struct world w;
	struct arena a;
	arena_init(&a);
	plan_of(&w, L({3, 0, 'b', "y"}), L({3, 0, 'a', "z"}), L({3, 0, 'a', "y"}, {4, 0, 'a', "gone"}));
	const struct plan_op *op = has(&w, PLAN_FETCH, 2, 3, NULL);
	assert_int_equal(op->why.remote, DIFF_EDITED);
	assert_int_equal(op->why.local, DIFF_RENAMED);
	assert_string_equal(plan_explain(&a, op).p,
	                    "download it: edited remotely; on the server edited, here renamed; case 02");
	op = has(&w, PLAN_FORGET, 14, 4, NULL);
	assert_true(op->why.remote == DIFF_DELETED && op->why.local == DIFF_DELETED);
	plan_fini(&w.plan);
	struct node_cause ann = {.seq = 812, .at_us = 0, .by = STR("Ann")}, here = {.at_us = SECONDS_US(1764028800)};
	tree_set_cause(&w.remote, 3, &(struct node_cause){.seq = 1, .by = STR("nobody")});
	tree_set_cause(&w.remote, 3, &ann);
	tree_set_cause(&w.local, 3, &here);
	tree_set_cause(&w.remote, 4, &ann); /* why it is gone */
	plan_make(&w.remote, &w.local, &w.synced, &(struct plan_options){0}, &w.plan);
	assert_string_equal(plan_explain(&a, has(&w, PLAN_FETCH, 2, 3, NULL)).p,
	                    "download it: edited remotely; on the server edited (change 812, by Ann), here renamed "
	                    "(2025-11-25T00:00:00Z); case 02");
	assert_string_equal(plan_explain(&a, has(&w, PLAN_FORGET, 14, 4, NULL)).p,
	                    "forget it: deleted on both sides; on the server deleted (change 812, by Ann), here deleted; case 14");
	assert_true(tree_rename_id(&w.local, 3, 30) && tree_cause(&w.local, 30) && !tree_cause(&w.local, 3));
	done(&w);
	arena_fini(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(case_01_nothing),
	    cmocka_unit_test(case_02_remote_new_or_edited),
	    cmocka_unit_test(case_03_local_new_or_edited),
	    cmocka_unit_test(case_04_adopt),
	    cmocka_unit_test(case_05_both_edited),
	    cmocka_unit_test(case_06_remote_deleted),
	    cmocka_unit_test(case_07_remote_deleted_local_edited),
	    cmocka_unit_test(case_08_remote_edited_local_deleted),
	    cmocka_unit_test(case_09_local_deleted),
	    cmocka_unit_test(case_10_moved_on_one_side),
	    cmocka_unit_test(unicode_forms),
	    cmocka_unit_test(subtree_arrives),
	    cmocka_unit_test(case_11_moved_on_both),
	    cmocka_unit_test(case_12_one_name), cmocka_unit_test(temporary_names_stay_here), cmocka_unit_test(temporary_names_end),
	    cmocka_unit_test(case_13_moves_form_a_cycle),
	    cmocka_unit_test(case_14_deleted_on_both),
	    cmocka_unit_test(case_15_folder_deleted_child_edited),
	    cmocka_unit_test(reasons),
	    cmocka_unit_test(guard_stops),
	    cmocka_unit_test(guard_knows_the_folder),
	    cmocka_unit_test(executable_bit),
	    cmocka_unit_test(executable_bit_beside_content),
	    cmocka_unit_test(a_disk_without_modes),
	    cmocka_unit_test(passing_files),
	    cmocka_unit_test(trees_stay_well_formed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
