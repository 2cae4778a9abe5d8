#include "drive/scrub_job.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "chunks/marks.h"
#include "chunks/scrub.h"

static _Atomic int64_t totals[SCRUB_TOTALS];

int64_t scrub_total(enum scrub_total what)
{
	return atomic_load(&totals[what]);
}

/* ---- where the pass is ---- */

struct place {
	int64_t after_id;
	struct scrub_coverage pass;
};

static bool place_read(const char *state, struct place *p)
{
	long long v[5];
	*p = (struct place){0};
	if (sscanf(state, "%lld %lld %lld %lld %lld", &v[0], &v[1], &v[2], &v[3], &v[4]) != 5)
		return false;
	*p = (struct place){v[0], {.begun_at = v[1], .done_bytes = v[2], .all_bytes = v[3], .passed_at = v[4]}};
	return true;
}

static void place_keep(struct job_round *r, const struct place *p)
{
	snprintf(r->state, sizeof r->state, "%lld %lld %lld %lld %lld", (long long)p->after_id, (long long)p->pass.begun_at,
	         (long long)p->pass.done_bytes, (long long)p->pass.all_bytes, (long long)p->pass.passed_at);
}

static int stored_op(struct tx *tx, void *arg)
{
	return tx_i64(tx, "select cast(coalesce(sum(size_bytes), 0) as bigint) from packs", DB_NO_ARGS, 0, arg);
}

struct coverage_job {
	struct scrub_coverage *out;
	char state[JOB_STATE_BYTES];
};

static int coverage_op(struct tx *tx, void *arg)
{
	struct coverage_job *c = arg;
	struct place p;
	AUTO_ROWS *r = NULL;
	bool found;
	int err = tx_query_row(tx, "select state from jobs where name = 'scrub'", DB_NO_ARGS, &r, &found);
	if (!err && found)
		snprintf(c->state, sizeof c->state, "%.*s", STR_ARG(rows_text(r, 0)));
	place_read(c->state, &p);
	*c->out = p.pass;
	return err ? err
	           : tx_i64(tx, "select count(*) from chunk_marks where (reason & 2) <> 0", DB_NO_ARGS, 0, &c->out->marked);
}

int scrub_coverage(struct drive *drive, struct scrub_coverage *out)
{
	struct coverage_job c = {.out = out};
	return db_read(drive->db, coverage_op, &c);
}

/* ---- rounds ---- */

/* No more bytes a second than is allowed. */
static void keep_pace(struct job_round *r, int64_t began_us, int64_t bytes)
{
	int64_t most = r->drive->scrub_bytes_per_s;
	if (most <= 0)
		return;
	int64_t due_us = bytes / most * 1000000 + bytes % most * 1000000 / most;
	for (;;) {
		int64_t rest = due_us - (clock_mono(r->drive->clock) - began_us), nap = rest < 200000 ? rest : 200000;
		struct timespec t = {0, nap * 1000};
		if (rest <= 0 || !job_go_on(r))
			return;
		while (nanosleep(&t, &t) != 0 && errno == EINTR)
			;
	}
}

static void count(const struct scrub_counts *c)
{
	const int64_t of[SCRUB_TOTALS] = {c->chunks, c->bytes, c->damaged, c->healed, c->cleared};
	for (int i = 0; i < SCRUB_TOTALS; i++)
		atomic_fetch_add(&totals[i], of[i]);
}

static int heal_all(struct job_round *r, struct scrub *s, struct scrub_counts *c)
{
	int64_t after = 0;
	int err = 0;
	for (bool end = false; !err && !end && job_go_on(r);)
		err = scrub_heal(s, &after, c, &end);
	return err;
}

/* What has to be read in a round so that a pass takes SCRUB_PASS_S. */
static int64_t share_of(const struct job_round *r, int64_t all_bytes)
{
	int64_t share = all_bytes / SCRUB_PASS_S * SCRUB_PERIOD_S;
	return r->by_hand ? INT64_MAX : share > SCRUB_ROUND_MIN_BYTES ? share : SCRUB_ROUND_MIN_BYTES;
}

static int read_on(struct job_round *r, struct scrub *s, struct scrub_counts *c, struct place *p)
{
	int64_t all = 0, began = clock_mono(r->drive->clock);
	bool end = false;
	int err = db_read(r->drive->db, stored_op, &all);
	if (!err && !p->after_id) {
		p->pass.begun_at = r->begin;
		p->pass.all_bytes = all;
		p->pass.done_bytes = 0;
	}
	for (int64_t most = share_of(r, all); !err && !end && c->bytes < most && job_go_on(r);) {
		int64_t before = c->bytes;
		err = scrub_step(s, &p->after_id, c, &end);
		p->pass.done_bytes += c->bytes - before;
		keep_pace(r, began, c->bytes);
	}
	if (end) {
		p->after_id = 0;
		p->pass.passed_at = clock_now(r->drive->clock);
	}
	r->more = !end;
	return err;
}

/* ---- a dry round: what is known to be damaged, and how much there is to read ---- */

struct known {
	struct job_round *round;
	struct mark marks[INDEX_BATCH];
	struct index_row rows[INDEX_BATCH];
	int64_t after;
	size_t n;
};

static int known_op(struct tx *tx, void *arg)
{
	struct known *k = arg;
	return marks_walk(tx, MARK_DAMAGED, k->after, k->marks, INDEX_BATCH, &k->n);
}

static int dry_run(struct job_round *r)
{
	struct known k = {.round = r, .n = INDEX_BATCH};
	int err = db_read(r->drive->db, stored_op, &r->bytes);
	while (!err && k.n == INDEX_BATCH) {
		int64_t ids[INDEX_BATCH];
		err = db_read(r->drive->db, known_op, &k);
		for (size_t i = 0; i < k.n; i++)
			ids[i] = k.marks[i].chunk_id;
		if (!err && k.n)
			err = index_rows(r->drive->db, ids, k.n, k.rows);
		for (size_t i = 0; !err && i < k.n; i++) {
			char line[96], name[PACK_NAME_MAX];
			const struct chunk_place *p = &k.rows[i].chunk.place;
			pack_name(name, p->pack_id);
			k.after = k.marks[i].chunk_id;
			int n = snprintf(line, sizeof line, "damaged: a chunk in packs/%s at byte %lld", name, (long long)p->offset);
			r->tell(r->tell_arg, str_n(line, (size_t)n), p->stored_len);
			r->items++;
		}
	}
	return err;
}

static int run(struct job_round *r)
{
	struct drive *d = r->drive;
	struct scrub_counts counts = {0};
	struct place p;
	if (r->dry)
		return dry_run(r);
	if (!d->packs)
		return 0;
	place_read(r->state, &p);
	/* a round by hand may run beside the server, whose finder and packs are its own: it marks, and the server heals */
	struct scrub *s = scrub_new(&(struct scrub_config){d->db, d->packs, r->by_hand ? NULL : d->store, d->clock});
	int err = heal_all(r, s, &counts);
	if (!err)
		err = read_on(r, s, &counts, &p);
	if (!err && counts.damaged)
		err = heal_all(r, s, &counts);
	scrub_free(s);
	place_keep(r, &p);
	count(&counts);
	r->items = counts.chunks;
	r->bytes = counts.bytes;
	return !err && counts.left_out ? E_IO : err; /* told with the round; the pass went on */
}

const struct job job_scrub = {
    .name = "scrub",
    .what = "Reads what is stored again, all of it in about a month, marks what is damaged and heals it where it can",
    .period_s = SCRUB_PERIOD_S,
    .round_s = SCRUB_ROUND_S,
    .packs = true,
    .run = run,
};
