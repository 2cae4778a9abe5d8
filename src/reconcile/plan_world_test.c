/* All small worlds: four nodes in step, and every pair and triple of things that users can do at the same time on the two
 * sides. Each must end, be equal on both sides and lose nothing (world_testing.h), and the outcome must not depend on the
 * order in which a plan is carried out. SD_WORLD_TRIPLES=1 takes all triples, otherwise one in SD_WORLD_STEP (97). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/must.h"
#include "reconcile/world_testing.h"

enum { DEEDS_MAX = 128, NODES = 4, FIRST_CONTENT = 10 };

struct base {
	const char *title;
	struct deed made[NODES]; /* they get the ids 1 to 4 (folders take one number, files two) */
};

static const struct base bases[] = {
    {"two folders, a file in one and one beside",
     {{.verb = DEED_FOLDER, .parent = 0, .name = "f"},
      {.verb = DEED_FOLDER, .parent = 0, .name = "g"},
      {.verb = DEED_FILE, .parent = 1, .name = "x", .content = 1},
      {.verb = DEED_FILE, .parent = 0, .name = "y", .content = 2}}},
    {"a folder in a folder, a file in each",
     {{.verb = DEED_FOLDER, .parent = 0, .name = "f"},
      {.verb = DEED_FOLDER, .parent = 1, .name = "g"},
      {.verb = DEED_FILE, .parent = 2, .name = "x", .content = 1},
      {.verb = DEED_FILE, .parent = 1, .name = "y", .content = 2}}},
    {"folders three deep, a file at the top",
     {{.verb = DEED_FOLDER, .parent = 0, .name = "f"},
      {.verb = DEED_FOLDER, .parent = 1, .name = "g"},
      {.verb = DEED_FOLDER, .parent = 2, .name = "h"},
      {.verb = DEED_FILE, .parent = 0, .name = "y", .content = 2}}},
};

struct menu {
	struct deed deeds[DEEDS_MAX];
	size_t n;
};

static void add(struct menu *m, struct deed d)
{
	must(m->n < DEEDS_MAX);
	m->deeds[m->n++] = d;
}

/* Everything a user can do with these nodes, but for names and contents beyond the few that matter. */
static void fill_menu(const struct base *b, const int64_t *ids, int64_t own_content, struct menu *m)
{
	static const char *const names[] = {"x", "X", "g"};
	int64_t folders[NODES + 1] = {TREE_ROOT};
	size_t n_folders = 1;
	*m = (struct menu){0};
	for (int i = 0; i < NODES; i++)
		if (b->made[i].verb == DEED_FOLDER)
			folders[n_folders++] = ids[i];
	for (int i = 0; i < NODES; i++) {
		add(m, (struct deed){.verb = DEED_DELETE, .id = ids[i]});
		for (size_t k = 0; k < n_folders; k++)
			add(m, (struct deed){.verb = DEED_MOVE, .id = ids[i], .parent = folders[k], .name = b->made[i].name});
		for (size_t k = 0; k < 3; k++)
			add(m, (struct deed){.verb = DEED_MOVE, .id = ids[i], .parent = k % 2 ? folders[1] : TREE_ROOT, .name = names[k]});
		for (int k = i + 1; k < NODES; k++)
			add(m, (struct deed){.verb = DEED_SWAP, .id = ids[i], .other = ids[k]});
		if (b->made[i].verb != DEED_FILE)
			continue;
		add(m, (struct deed){.verb = DEED_EDIT, .id = ids[i], .content = own_content});
		add(m, (struct deed){.verb = DEED_EDIT, .id = ids[i], .content = 5}); /* the same on both sides */
		add(m, (struct deed){.verb = DEED_MODE, .id = ids[i]});
	}
	for (size_t k = 0; k < n_folders; k++) {
		for (size_t i = 0; i < 3; i++)
			add(m, (struct deed){.verb = DEED_FILE, .parent = folders[k], .name = names[i], .content = own_content + 1});
		add(m, (struct deed){.verb = DEED_FILE, .parent = folders[k], .name = "y", .content = 5});
		add(m, (struct deed){.verb = DEED_FOLDER, .parent = folders[k], .name = "g"});
		add(m, (struct deed){.verb = DEED_FOLDER, .parent = folders[k], .name = "y"});
	}
}

struct act {
	enum world_side side;
	const struct deed *deed;
};

static uint64_t worlds;

static void begin(struct world *w, const struct base *b, bool fold, int64_t *ids)
{
	world_init(w, 1);
	w->options.fold = fold;
	int64_t made[NODES + 1] = {TREE_ROOT};
	for (int i = 0; i < NODES; i++) {
		struct deed d = b->made[i];
		d.parent = made[d.parent];
		int64_t before = w->model.n_log ? w->model.log[w->model.n_log - 1].seq : 0;
		must(world_do(w, WORLD_SERVER, &d));
		must(w->model.log[w->model.n_log - 1].seq > before);
		made[i + 1] = w->model.log[w->model.n_log - 1].id;
		ids[i] = made[i + 1];
	}
	world_in_step(w);
}

/* False: one of the deeds was not possible, so this is another, smaller world. */
static bool play(struct world *w, const struct base *b, bool fold, const struct act *acts, size_t n, bool shuffled, bool verbose)
{
	int64_t ids[NODES];
	begin(w, b, fold, ids);
	rng_seeded_init(&w->rng, worlds);
	w->shuffled = shuffled;
	w->verbose = verbose;
	for (size_t i = 0; i < n; i++)
		if (!world_do(w, acts[i].side, acts[i].deed))
			return false;
	world_expect(w);
	worlds++;
	world_settle(w);
	return true;
}

static void tell(const struct base *b, bool fold, const struct act *acts, size_t n, const char *what)
{
	fprintf(stderr, "%s%s: %s\n", b->title, fold ? ", names fold" : "", what);
	for (size_t i = 0; i < n; i++) {
		const struct deed *d = acts[i].deed;
		fprintf(stderr, "  %s: verb %d id %lld other %lld parent %lld name %s content %lld\n",
		        acts[i].side == WORLD_SERVER ? "server" : "disk", d->verb, (long long)d->id, (long long)d->other,
		        (long long)d->parent, d->name ? d->name : "", (long long)d->content);
	}
}

static void one(struct world *w, const struct base *b, bool fold, const struct act *acts, size_t n)
{
	struct arena a;
	arena_init(&a);
	bool possible = play(w, b, fold, acts, n, false, false);
	const char *fault = w->fault;
	struct str in_order = world_shape(w, &a);
	world_fini(w);
	if (possible && !fault) {
		play(w, b, fold, acts, n, true, false);
		fault = w->fault;
		if (!fault && !str_eq(in_order, world_shape(w, &a)))
			fault = "another order of execution gives another tree";
		world_fini(w);
	}
	if (fault) {
		tell(b, fold, acts, n, fault);
		play(w, b, fold, acts, n, false, true);
		world_fini(w);
		worlds -= 2; /* the same order again */
		play(w, b, fold, acts, n, true, true);
		world_fini(w);
		fail();
	}
	arena_fini(&a);
}

struct stage {
	struct world *w;
	const struct base *base;
	bool fold;
	struct menu server, disk;
};

static void for_each_stage(void (*run)(struct stage *))
{
	struct stage *s = malloc(sizeof(*s));
	struct world *w = malloc(sizeof(*w));
	must(s && w);
	for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]) * 2; i++) {
		int64_t ids[NODES];
		*s = (struct stage){.w = w, .base = &bases[i / 2], .fold = i % 2};
		begin(w, s->base, s->fold, ids);
		world_fini(w);
		fill_menu(s->base, ids, FIRST_CONTENT, &s->server);
		fill_menu(s->base, ids, FIRST_CONTENT + 10, &s->disk);
		run(s);
	}
	free(w);
	free(s);
}

static void pairs_of(struct stage *s)
{
	for (size_t i = 0; i < s->server.n; i++)
		for (size_t k = 0; k < s->disk.n; k++)
			one(s->w, s->base, s->fold, (struct act[]){{WORLD_SERVER, &s->server.deeds[i]}, {WORLD_DISK, &s->disk.deeds[k]}}, 2);
}

static uint64_t step = 97, turn;

static void triples_of(struct stage *s)
{
	for (size_t i = 0; i < s->server.n; i++) {
		for (size_t j = 0; j < s->server.n; j++) {
			for (size_t k = 0; k < s->disk.n; k++) {
				if (turn++ % step)
					continue;
				one(s->w, s->base, s->fold, (struct act[]){{WORLD_SERVER, &s->server.deeds[i]}, {WORLD_SERVER, &s->server.deeds[j]},
				                                           {WORLD_DISK, &s->disk.deeds[k]}}, 3);
				one(s->w, s->base, s->fold, (struct act[]){{WORLD_SERVER, &s->server.deeds[k]}, {WORLD_DISK, &s->disk.deeds[i]},
				                                           {WORLD_DISK, &s->disk.deeds[j]}}, 3);
			}
		}
	}
}

static void all_pairs(void **state)
{
	(void)state;
	worlds = 0;
	for_each_stage(pairs_of);
	print_message("%llu worlds\n", (unsigned long long)worlds);
}

static void triples(void **state)
{
	(void)state;
	if (getenv("SD_WORLD_TRIPLES"))
		step = 1;
	else if (getenv("SD_WORLD_STEP"))
		step = strtoull(getenv("SD_WORLD_STEP"), NULL, 10);
	must(step > 0);
	worlds = 0;
	for_each_stage(triples_of);
	print_message("%llu worlds, of the triples one in %llu\n", (unsigned long long)worlds, (unsigned long long)step);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_pairs), cmocka_unit_test(triples)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
