/* What happens: drawn from the seed, run, and left out piece by piece by those who look for what a failure needs. */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "sim.h"

/* ---- notes ---- */

static void note_line(struct sim *s, const char *text)
{
	s->trace = s->trace * UINT64_C(0x100000001b3) ^ xxh3_64(text, strlen(text));
	if (s->verbose)
		printf("%8.3f %*s%s\n", (double)(s->now_us - INT64_C(1800000000000000)) / 1e6, s->depth * 4, "", text);
}

void sim_note(struct sim *s, const char *fmt, ...)
{
	char text[400];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	note_line(s, text);
}

void sim_violation(struct sim *s, const char *fmt, ...)
{
	va_list ap;
	if (s->why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	note_line(s, s->why);
}

/* ---- contents ---- */

static uint64_t hash_key(const struct sha256 *h)
{
	uint64_t k;
	memcpy(&k, h->b, sizeof(k));
	return k;
}

int content_find(const struct sim *s, const struct sha256 *hash)
{
	uintptr_t at = (uintptr_t)map_get(&s->by_hash, hash_key(hash));
	return (int)at - 1;
}

int content_add(struct sim *s, const void *p, size_t n)
{
	struct sha256 hash = sha256_of(p, n);
	int there = content_find(s, &hash);
	if (there >= 0)
		return there;
	if (s->n_contents == s->cap_contents) {
		s->cap_contents = s->cap_contents ? s->cap_contents * 2 : 64;
		s->contents = realloc(s->contents, s->cap_contents * sizeof(*s->contents));
		must(s->contents != NULL);
	}
	struct str copy = arena_str(&s->arena, str_n(n ? p : "", n));
	s->contents[s->n_contents++] = (struct content_row){.hash = hash, .p = copy.p, .n = copy.n, .device = -1};
	map_put(&s->by_hash, hash_key(&hash), (void *)(uintptr_t)s->n_contents);
	return (int)s->n_contents - 1;
}

int content_make(struct sim *s, struct rng *rng, size_t size, int device)
{
	size_t n = size > 8 ? size : rng_below(rng, 20) ? 8 + rng_below(rng, 200) : 20000 + rng_below(rng, 60000);
	char *p = malloc(n);
	must(p != NULL);
	struct rng_seeded noise;
	rng_seeded_init(&noise, rng_u64(rng) ^ s->n_contents);
	noise.base.fill(&noise.base, p, n);
	int at = content_add(s, p, n);
	free(p);
	s->contents[at].device = device;
	return at;
}

void content_release(struct sim *s, int number, const char *why)
{
	struct content_row *c = &s->contents[number];
	if (c->tracked && !c->released)
		sim_note(s, "content %d is given up: %s", number, why);
	c->released = true;
}

/* ---- drawing ---- */

static const struct {
	int weight;
	const char *name;
	bool always;
} kinds[A_KINDS] = {
    [A_ROUND] = {40, "round", true},       [A_USER] = {45, "edit", true},          [A_API] = {10, "api", false},
    [A_NET] = {15, "net", false},          [A_GHOST] = {5, "ghost", false},        [A_DEVICE_DIES] = {5, "device dies", false},
    [A_SERVER_DIES] = {5, "server dies", false}, [A_SERVER_DISK] = {3, "server disk", false},
    [A_DEVICE_DISK] = {4, "device disk", false}, [A_CLOCK] = {3, "clock", false},   [A_SLEEP] = {4, "sleep", true},
    [A_BACKUP] = {2, "backup", false},     [A_RESTORE] = {2, "restore", false},    [A_STATE_LOST] = {1, "state lost", false},
    [A_STATE_COPY] = {2, "state copied", false}, [A_STATE_OLD] = {2, "state old", false}, [A_RIGHTS] = {2, "rights", false},
    [A_QUOTA] = {2, "quota", false},       [A_CARE] = {12, "care", false},
    [A_RESTORE_BACK] = {4, "restore, clock back", true},
};

size_t schedule_draw(uint64_t seed, struct action **out)
{
	struct rng_seeded r;
	int weights[A_KINDS] = {0}, sum = 0, n_kinds = seed < SECOND_DRAW ? A_CARE : seed < THIRD_DRAW ? A_RESTORE_BACK : A_KINDS;
	rng_seeded_init(&r, seed ^ UINT64_C(0x5eed));
	/* Of the unusual things each schedule has some (swarm testing, Groce et al. 2012). */
	for (int k = 0; k < n_kinds; k++) {
		weights[k] = kinds[k].always || rng_below(&r.base, 3) == 0 ? kinds[k].weight : 0;
		sum += weights[k];
	}
	if (seed >= SECOND_DRAW && (weights[A_RESTORE] || weights[A_RESTORE_BACK])) { /* one is nothing without the other */
		sum += kinds[A_BACKUP].weight - weights[A_BACKUP];
		weights[A_BACKUP] = kinds[A_BACKUP].weight;
	}
	size_t n = 15 + rng_below(&r.base, 50);
	struct action *v = calloc(n, sizeof(*v));
	must(v != NULL);
	for (size_t i = 0; i < n; i++) {
		int at = (int)rng_below(&r.base, (uint64_t)sum), k = 0;
		while (at >= weights[k])
			at -= weights[k++];
		v[i] = (struct action){.kind = (enum action_kind)k, .device = (int)rng_below(&r.base, DEVICES_MAX), .kept = true};
		v[i].wait = rng_below(&r.base, 2) ? 1 + (int)rng_below(&r.base, 30) : 0;
		v[i].seed = rng_u64(&r.base);
	}
	*out = v;
	return n;
}

/* ---- running ---- */

static void clock_jumps(struct sim *s, struct rng *rng)
{
	static const int64_t steps[] = {SECONDS_US(1), SECONDS_US(90), SECONDS_US(7200), SECONDS_US(86400 * 2), SECONDS_US(86400 * 400)};
	int64_t by = steps[rng_below(rng, 5)] * (rng_below(rng, 2) ? 1 : -1);
	uint64_t who = rng_below(rng, (uint64_t)s->n_devices + 1);
	struct sim_clock *c = who ? &s->devices[who - 1].clock : &s->server.clock;
	if (!who && s->restored && by < 0 && s->seed < THIRD_DRAW)
		by = -by; /* ids of the lost time are behind it, as change numbers are */
	c->offset_us += by;
	c->greatest_us = c->offset_us > c->greatest_us ? c->offset_us : c->greatest_us;
	sim_note(s, "a clock jumps");
	/* A machine that starts may have a wrong clock: ids begin with it. */
	if (!who && s->seed >= SECOND_DRAW && s->server.open && rng_below(rng, 2))
		server_stop(&s->server);
}

static void server_disk(struct sim *s, struct rng *rng)
{
	struct disk *d = rng_below(rng, 2) ? s->server.db_disk : s->server.pack_disk;
	uint64_t what = rng_below(rng, 4);
	if (what == 0)
		disk_fault_capacity(d, (int64_t)rng_below(rng, 1 << 20));
	else if (what == 1)
		disk_fault_sync(d, 1 + (int64_t)rng_below(rng, 8));
	else
		disk_fault_at(d, 1 + (int64_t)rng_below(rng, 60), 1 + (int64_t)rng_below(rng, 3), rng_below(rng, 2) ? E_IO : E_NO_SPACE);
	s->faulty = true;
	sim_note(s, "the server's disk will fail");
}

static void device_disk(struct device *d, struct rng *rng)
{
	uint64_t what = rng_below(rng, 5);
	if (what == 4)
		d->list_fault = true;
	else if (what == 0)
		disk_fault_at(d->disk, 1 + (int64_t)rng_below(rng, 30), 1 + (int64_t)rng_below(rng, 3), rng_below(rng, 2) ? E_IO : E_NO_SPACE);
	else if (what == 1)
		d->fs.space = (int64_t)rng_below(rng, 3);
	else {
		d->root_fault_in = 1 + (int)rng_below(rng, 30);
		d->root_fault = rng_below(rng, 2) ? E_IO : E_NO_SPACE;
	}
	sim_note(d->sim, "d%d: its disk will fail", d->number);
}

static struct str copy_state(struct sim *s, struct device *d)
{
	return arena_str(&s->arena, disk_read_all(&s->arena, d->disk, STATE_NAME));
}

static void state(struct sim *s, struct device *d, enum action_kind kind)
{
	if (d->busy)
		return;
	if (d->open)
		device_stop(d, false);
	if (kind == A_STATE_LOST) {
		d->lost_state = true;
		sim_note(s, "d%d: its state is lost", d->number);
	} else if (kind == A_STATE_COPY) {
		/* A start and an end fold the log into the file. */
		if (device_start(d) == 0) {
			agent_fini(&d->agent);
			root_free(d->root);
			replica_close(&d->replica);
			d->open = false;
			d->old_state = copy_state(s, d);
		}
		sim_note(s, "d%d: its state is copied", d->number);
	} else if (d->old_state.p) {
		disk_fault_restart(d->disk); /* it fails no more: somebody saw to it */
		d->disk->ops->unlink(d->disk, STATE_NAME "-wal");
		disk_write_all(d->disk, STATE_NAME, d->old_state);
		sim_note(s, "d%d: an old state comes back", d->number);
	}
}

static void act(struct sim *s, const struct action *a)
{
	struct rng_seeded r;
	struct device *d = &s->devices[a->device % s->n_devices];
	struct server *v = &s->server;
	rng_seeded_init(&r, a->seed);
	sim_note(s, "#%zu %s d%d", (size_t)(a - s->actions), kinds[a->kind].name, d->number);
	switch (a->kind) {
	case A_ROUND:
		device_round(d, rng_below(&r.base, 2));
		break;
	case A_USER:
		user_edit(s, d, a->seed);
		break;
	case A_API:
		api_edit(s, a->seed);
		break;
	case A_NET:
		d->net = (enum net_fault)(1 + rng_below(&r.base, NET_FAULTS - 1));
		break;
	case A_GHOST:
		net_deliver_ghost(s, rng_below(&r.base, GHOSTS_MAX));
		break;
	case A_DEVICE_DIES:
		if (rng_below(&r.base, 3) || d->busy)
			device_die_soon(d, &r.base);
		else
			device_stop(d, rng_below(&r.base, 2));
		break;
	case A_SERVER_DIES:
		s->faulty = true;
		v->power = rng_below(&r.base, 2);
		disk_fault_die(rng_below(&r.base, 2) ? v->db_disk : v->pack_disk, 1 + (int64_t)rng_below(&r.base, 80));
		if (!v->power && rng_below(&r.base, 3) == 0)
			v->power_in = 1 + (int)rng_below(&r.base, 60);
		break;
	case A_SERVER_DISK:
		server_disk(s, &r.base);
		break;
	case A_DEVICE_DISK:
		device_disk(d, &r.base);
		break;
	case A_CLOCK:
		clock_jumps(s, &r.base);
		break;
	case A_SLEEP:
		s->now_us += SECONDS_US((int64_t)1 << rng_below(&r.base, 16));
		break;
	case A_BACKUP:
		if (v->open)
			server_backup(v);
		break;
	case A_RESTORE:
		server_restore(v, 0);
		break;
	case A_STATE_LOST:
	case A_STATE_COPY:
	case A_STATE_OLD:
		state(s, d, a->kind);
		break;
	case A_RIGHTS:
		if (v->open)
			api_member(s, 0, 1, (const char *[]){"reader", "contributor", "admin", NULL}[rng_below(&r.base, 4)]);
		break;
	case A_QUOTA:
		if (v->open)
			api_quota(s, (int64_t)rng_below(&r.base, 3) * 700 - 1);
		break;
	case A_CARE:
		care_act(v, &r.base);
		break;
	case A_RESTORE_BACK:
		server_restore(v, SECONDS_US(60) << rng_below(&r.base, 14)); /* a minute to five days */
		break;
	case A_KINDS:
		break;
	}
}

static struct action *next_action(struct sim *s)
{
	while (s->next < s->n_actions && !s->actions[s->next].kept)
		s->next++;
	return s->next < s->n_actions ? &s->actions[s->next] : NULL;
}

void sim_hook(struct sim *s, struct device *d)
{
	s->hooks++;
	s->now_us += (int64_t)rng_below(&s->rng.base, 2500);
	if (d && d->die_in > 0 && --d->die_in == 0)
		d->dead = true;
	if (d && disk_fault_is_dead(d->disk))
		d->dead = true;
	if (d && d->writer_left > 0 && !s->calm && !d->dead)
		user_writes_on(s, d);
	struct action *a = next_action(s);
	if (s->calm || !a || !a->wait || s->depth >= DEPTH_MAX || ++s->waited < a->wait || sim_failed(s))
		return;
	s->waited = 0;
	s->next++;
	s->depth++;
	act(s, a);
	s->depth--;
}

static void start(struct sim *s, uint64_t seed)
{
	s->seed = seed;
	s->n_shares = 1;
	s->now_us = INT64_C(1800000000000000);
	rng_seeded_init(&s->rng, seed);
	arena_init(&s->arena);
	sim_vfs_register(s);
	content_add(s, "", 0);
	server_init(&s->server, s);
	server_start(&s->server);
	for (size_t i = 0; i < s->n_actions; i++)
		if (s->actions[i].kind == A_API && seed % 2)
			s->n_shares = SHARES;
	for (int i = 0; i < s->n_shares; i++)
		api_member(s, i, 1, "contributor");
	s->n_devices = 2 + (int)rng_below(&s->rng.base, DEVICES_MAX - 1);
	for (int i = 0; i < s->n_devices; i++) {
		struct device *d = &s->devices[i];
		*d = (struct device){.sim = s, .number = i, .token = i % USERS ? STR("u1") : STR("u0")};
		d->share = s->n_shares > 1 && i == s->n_devices - 1;
		sim_clock_init(&d->clock, s);
		rng_seeded_init(&d->rng, seed * 7 + (uint64_t)i);
		d->disk = sim_vfs(i + 1, disk_fault_new(seed * 11 + (uint64_t)i));
		if ((seed + (uint64_t)i) % 4) /* the others start for the first time */
			disk_write_all(d->disk, STATE_NAME, server_template_state());
		fs_init(&d->fs, s, &d->clock);
		d->fs.fold = rng_below(&s->rng.base, 6) == 0;
		d->fs.birthless = rng_below(&s->rng.base, 4) == 0;
	}
}

static void end(struct sim *s)
{
	for (int i = 0; i < s->n_devices; i++) {
		if (s->devices[i].open)
			device_stop(&s->devices[i], false);
		disk_free(s->devices[i].disk);
	}
	server_fini(&s->server);
	free(s->contents);
	map_fini(&s->by_hash);
	arena_fini(&s->arena);
}

void sim_run(uint64_t seed, struct action *actions, size_t n, bool verbose, struct sim_result *out)
{
	struct sim *s = calloc(1, sizeof(*s));
	must(s != NULL);
	s->actions = actions;
	s->n_actions = n;
	s->verbose = verbose;
	start(s, seed);
	for (struct action *a; !sim_failed(s) && (a = next_action(s));) {
		s->next++;
		s->waited = 0;
		act(s, a);
		if (!s->server.open && ++s->server.unreachable > 6 && !sim_failed(s))
			server_start(&s->server);
	}
	if (!sim_failed(s))
		oracle_quiet(s);
	*out = (struct sim_result){.trace = s->trace, .hooks = s->hooks};
	memcpy(out->why, s->why, sizeof(out->why));
	end(s);
	free(s);
}
