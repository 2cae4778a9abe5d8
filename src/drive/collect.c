#include "drive/collect.h"

#include <stdlib.h>

#include "base/must.h"
#include "base/mutant.h"
#include "drive/collect_priv.h"
#include "drive/hold.h"

enum { COUNT_ROWS = 50000, TIDY_ROWS = 500 };

const char *const collect_phases[COLLECT_PHASES] = {"idle", "count", "mark", "sweep", "packs"};

struct collection {
	struct collection_config config;
	enum collect_phase phase;
	struct collect_totals totals;
	int64_t counted_to;
	struct roots_place at;
	struct idset *seen;
	struct sweep sweep;
};

/* Ids below it were made before the moment. */
static int64_t ids_before(int64_t us)
{
	int64_t now_ms = (us - id_time_us(0)) / 1000;
	return now_ms > 0 ? now_ms << 22 : 0;
}

struct collection *collection_new(const struct collection_config *config)
{
	struct drive *d = config->drive;
	struct collection *c = calloc(1, sizeof *c);
	must(c != NULL);
	c->config = *config;
	c->phase = COLLECT_COUNT;
	int64_t now = c->totals.began_us = clock_now(d->clock);
	int64_t spared = config->alone ? 0 : MILLIS_US(LIMIT_CONDEMNED_MS);
	c->sweep = (struct sweep){
	    .db = d->db,
	    .store = d->store,
	    .clock = d->clock,
	    .ids_below = config->alone ? INT64_MAX : ids_before(now - spared),
	    .condemned_before_us = mutant(M_SWEEP_ONE_LOOK) ? INT64_MAX : now - spared,
	    .dry = config->dry,
	};
	return c;
}

void collection_free(struct collection *c)
{
	if (!c)
		return;
	idset_free(c->seen);
	sweep_fini(&c->sweep);
	free(c);
}

void collection_totals(const struct collection *c, struct collect_totals *out)
{
	*out = c->totals;
	out->sweep = c->sweep.totals;
}

static bool go_on(struct collection *c, int64_t bytes)
{
	return !c->config.go_on || c->config.go_on(c->config.arg, bytes);
}

/* ---- removed versions ---- */

struct tidy {
	int64_t before_us, removed;
};

static int tidy_op(struct tx *tx, void *arg)
{
	struct tidy *t = arg;
	return tx_exec(tx,
	               "delete from removed_versions where id in"
	               " (select id from removed_versions where removed_at < $1 order by id limit $2)",
	               DB_ARGS(V_I(t->before_us), V_I(TIDY_ROWS)), &t->removed);
}

/* Whoever may use what was removed an hour ago has ended by now. */
static int tidy_removed(struct collection *c)
{
	struct tidy t = {.before_us = c->config.alone ? INT64_MAX : c->totals.began_us - MILLIS_US(LIMIT_CONDEMNED_MS)};
	int err = 0;
	do {
		err = c->config.dry ? 0 : db_write(c->config.drive->db, 0, tidy_op, &t);
	} while (!err && t.removed == TIDY_ROWS && go_on(c, 0));
	return err;
}

/* ---- count ---- */

static int count_op(struct tx *tx, void *arg)
{
	struct collection *c = arg;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx,
	                       "select count(*), max(id) from (select id from chunks where id > $1 order by id limit $2) page",
	                       DB_ARGS(V_I(c->counted_to), V_I(COUNT_ROWS)), &r, &found);
	int64_t n = !err && found ? rows_i64(r, 0) : 0;
	c->totals.chunks += n;
	if (n)
		c->counted_to = rows_i64(r, 1);
	if (n == COUNT_ROWS || err)
		return err;
	uint64_t seed;
	struct rng *rng = c->config.drive->rng;
	rng->fill(rng, &seed, sizeof seed);
	c->sweep.seen = c->seen = idset_new(c->totals.chunks, seed);
	c->phase = COLLECT_MARK;
	return rows_close(&r);
}

/* ---- packs ---- */

static int held_op(struct tx *tx, void *arg)
{
	struct repack *r = arg;
	int64_t until = 0;
	int err = hold_until(tx, clock_now(r->clock), &until);
	r->held = until > 0;
	return err;
}

static bool packs_go_on(void *arg, int64_t bytes)
{
	return go_on(arg, bytes);
}

static int packs(struct collection *c, bool *done)
{
	struct drive *d = c->config.drive;
	int64_t now = clock_now(d->clock);
	int64_t young_us = MILLIS_US(LIMIT_PACK_OPEN_MS + LIMIT_INGEST_MS) + SECONDS_US(COLLECT_PACK_SPARE_S);
	bool alone = c->config.alone;
	struct repack r = {
	    .db = d->db,
	    .disk = d->packs,
	    .store = d->store,
	    .ids = d->ids,
	    .clock = d->clock,
	    .ids_below = alone ? INT64_MAX : ids_before(now - young_us),
	    .retired_before_us = alone ? INT64_MAX : now - MILLIS_US(LIMIT_CONDEMNED_MS),
	    .forgotten_before_us = now - SECONDS_US(COLLECT_FORGET_S),
	    .dry = c->config.dry,
	    .rows = &c->sweep.rows,
	    .in_use = roots_tail_in,
	    .go_on = packs_go_on,
	    .arg = c,
	};
	int err = db_read(d->db, held_op, &r);
	if (!err)
		err = repack_run(&r);
	struct repack_totals before = c->totals.packs;
	c->totals.packs = r.totals;
	repack_count(&c->totals.packs, &before);
	*done = r.ended;
	return err;
}

/* ---- all of it ---- */

static int step(struct collection *c, bool *done)
{
	struct db *db = c->config.drive->db;
	int err = 0;
	switch (c->phase) {
	case COLLECT_COUNT:
		err = db_read(db, count_op, c);
		return err || c->phase == COLLECT_COUNT ? err : tidy_removed(c);
	case COLLECT_MARK:
		err = roots_page(db, c->config.alone, &c->at, c->seen, &c->totals.roots, &c->totals.references);
		if (!err && c->at.done)
			c->phase = COLLECT_SWEEP;
		return err;
	case COLLECT_SWEEP:
		err = sweep_page(&c->sweep);
		if (!err && c->sweep.done)
			c->phase = COLLECT_PACKS;
		return err;
	default:
		if (c->config.drive->packs)
			err = packs(c, done);
		else
			*done = true;
		if (*done)
			c->totals.ended_us = clock_now(c->config.drive->clock);
		return err;
	}
}

int collection_go_on(struct collection *c, bool *done)
{
	int err = 0;
	*done = false;
	while (!err && !*done) {
		err = step(c, done);
		if (!err && !*done && !go_on(c, 0))
			break;
	}
	return err;
}

enum collect_phase collection_progress(const struct collection *c, int64_t *n, int64_t *all)
{
	*all = c->totals.chunks;
	*n = c->phase == COLLECT_MARK ? c->totals.references : c->sweep.totals.chunks;
	return c->phase;
}
