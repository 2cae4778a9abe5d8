#include "reconcile/small_testing.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"

enum { FIRST_CONTENT = 10, NODES = SMALL_NODES };

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

static void add(struct small_menu *m, struct deed d)
{
	must(m->n < SMALL_DEEDS);
	m->deeds[m->n++] = d;
}

/* Everything a user can do with these nodes, but for names and contents beyond the few that matter. */
static void fill_menu(const struct base *b, const int64_t *ids, int64_t own_content, struct small_menu *m)
{
	static const char *const names[] = {"x", "X", "g"};
	int64_t folders[NODES + 1] = {TREE_ROOT};
	size_t n_folders = 1;
	*m = (struct small_menu){0};
	for (int i = 0; i < NODES; i++)
		if (b->made[i].verb == DEED_FOLDER)
			folders[n_folders++] = ids[i];
	for (int i = 0; i < NODES; i++) {
		add(m, (struct deed){.verb = DEED_DELETE, .id = ids[i]});
		for (size_t k = 0; k < n_folders; k++)
			add(m, (struct deed){
				   .verb = DEED_MOVE, .id = ids[i], .parent = folders[k], .name = b->made[i].name});
		for (size_t k = 0; k < 3; k++)
			add(m, (struct deed){.verb = DEED_MOVE,
					     .id = ids[i],
					     .parent = k % 2 ? folders[1] : TREE_ROOT,
					     .name = names[k]});
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
			add(m,
			    (struct deed){
				.verb = DEED_FILE, .parent = folders[k], .name = names[i], .content = own_content + 1});
		add(m, (struct deed){.verb = DEED_FILE, .parent = folders[k], .name = "y", .content = 5});
		add(m, (struct deed){.verb = DEED_FOLDER, .parent = folders[k], .name = "g"});
		add(m, (struct deed){.verb = DEED_FOLDER, .parent = folders[k], .name = "y"});
	}
}

struct act {
	enum world_side side;
	const struct deed *deed;
};

static const struct base *base_of(int stage)
{
	return &bases[stage / 2];
}

static void begin(struct world *w, int stage, int64_t *ids)
{
	const struct base *b = base_of(stage);
	int64_t made[NODES + 1] = {TREE_ROOT};
	world_init(w, 1);
	w->options.fold = stage % 2;
	for (int i = 0; i < NODES; i++) {
		struct deed d = b->made[i];
		d.parent = made[d.parent];
		must(world_do(w, WORLD_SERVER, &d));
		ids[i] = made[i + 1] = w->model.log[w->model.n_log - 1].id;
	}
	world_in_step(w);
}

struct small *small_new(void)
{
	struct small *s = calloc(1, sizeof(*s));
	must(s != NULL);
	_Static_assert(sizeof(bases) / sizeof(bases[0]) * 2 == SMALL_STAGES, "every base on both kinds of disk");
	for (int i = 0; i < SMALL_STAGES; i++) {
		int64_t ids[NODES];
		begin(&s->world, i, ids);
		world_fini(&s->world);
		fill_menu(base_of(i), ids, FIRST_CONTENT, &s->server[i]);
		fill_menu(base_of(i), ids, FIRST_CONTENT + 10, &s->disk[i]);
	}
	return s;
}

void small_free(struct small *s)
{
	free(s);
}

static uint64_t stage_count(const struct small *s, int stage, int deeds)
{
	uint64_t n = s->server[stage].n;
	return deeds == 2 ? n * n : 2 * n * n * n;
}

uint64_t small_count(const struct small *s, int deeds)
{
	uint64_t n = 0;
	for (int i = 0; i < SMALL_STAGES; i++)
		n += stage_count(s, i, deeds);
	return n;
}

/* False: one of the deeds is not possible, so this is another, smaller world. */
static bool play(struct small *s, int stage, const struct act *acts, int n, uint64_t shuffled, bool verbose)
{
	struct world *w = &s->world;
	int64_t ids[NODES];
	begin(w, stage, ids);
	w->shuffled = shuffled;
	rng_seeded_init(&w->rng, shuffled);
	w->verbose = verbose;
	for (int i = 0; i < n; i++)
		if (!world_do(w, acts[i].side, acts[i].deed))
			return false;
	world_expect(w);
	world_settle(w);
	s->played++;
	return true;
}

static void tell(int stage, const struct act *acts, int n)
{
	fprintf(stderr, "%s%s\n", base_of(stage)->title, stage % 2 ? ", names fold" : "");
	for (int i = 0; i < n; i++) {
		const struct deed *d = acts[i].deed;
		fprintf(stderr, "  %s: verb %d id %lld other %lld parent %lld name %s content %lld\n",
			acts[i].side == WORLD_SERVER ? "server" : "disk", d->verb, (long long)d->id,
			(long long)d->other, (long long)d->parent, d->name ? d->name : "", (long long)d->content);
	}
}

bool small_play(struct small *s, int deeds, uint64_t no, bool verbose)
{
	int stage = 0;
	uint64_t at = no;
	while (at >= stage_count(s, stage, deeds))
		at -= stage_count(s, stage++, deeds);
	const struct small_menu *here = &s->disk[stage], *there = &s->server[stage];
	uint64_t n = there->n, i = at % n, j = at / n % n, k = at / n / n % n;
	bool two_here = at / n / n / n;
	struct act acts[3] = {{WORLD_SERVER, &there->deeds[i]}, {WORLD_DISK, &here->deeds[j]}};
	if (deeds == 3 && two_here)
		acts[2] = (struct act){WORLD_DISK, &here->deeds[k]};
	else if (deeds == 3)
		acts[2] = (struct act){WORLD_SERVER, &there->deeds[k]};
	struct arena a;
	arena_init(&a);
	if (verbose)
		tell(stage, acts, deeds);
	bool possible = play(s, stage, acts, deeds, 0, verbose);
	struct str in_order = world_shape(&s->world, &a);
	s->fault = s->world.fault;
	world_fini(&s->world);
	if (possible && !s->fault) {
		play(s, stage, acts, deeds, no + 1, verbose);
		s->fault = s->world.fault;
		if (!s->fault && !str_eq(in_order, world_shape(&s->world, &a)))
			s->fault = "another order of execution gives another tree";
		world_fini(&s->world);
	}
	arena_fini(&a);
	return !s->fault;
}
