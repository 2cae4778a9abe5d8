#include "chunks/scrub.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"
#include "chunks/marks.h"
#include "chunks/store_priv.h"

struct scrub {
	struct scrub_config config;
	struct codec_work *work;
	struct disk_file *file; /* of pack_id; NULL: it was not opened */
	int open_err;
	int64_t pack_id;
	struct map wanted;      /* first bytes of the hashes of damaged chunks */
	char stored[CHUNK_MAX_BYTES];
	uint8_t raw[CHUNK_MAX_BYTES];
};

struct scrub *scrub_new(const struct scrub_config *config)
{
	struct scrub *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->config = *config;
	s->work = codec_work_new();
	return s;
}

static void close_pack(struct scrub *s)
{
	if (s->file)
		disk_close(s->file);
	s->file = NULL;
	s->pack_id = 0;
}

void scrub_free(struct scrub *s)
{
	if (!s)
		return;
	close_pack(s);
	map_fini(&s->wanted);
	codec_work_free(s->work);
	free(s);
}

static uint64_t key_of(const struct sha256 *hash)
{
	uint64_t key;
	memcpy(&key, hash->b, sizeof key);
	return key;
}

/* ---- one chunk ---- */

static int open_pack(struct scrub *s, int64_t pack_id)
{
	char name[PACK_NAME_MAX];
	if (s->pack_id == pack_id)
		return s->open_err;
	close_pack(s);
	pack_name(name, pack_id);
	s->pack_id = pack_id;
	s->open_err = disk_open(s->config.packs, name, DISK_READ, &s->file);
	if (s->open_err != E_OK)
		s->file = NULL;
	if (s->open_err != E_OK && s->open_err != E_NOT_FOUND)
		log_warn("the scrub cannot open a pack, and leaves its chunks out", LOG_I("pack_id", pack_id),
		         LOG_C("error", err_info(s->open_err)->code));
	return s->open_err;
}

/* What is said of a chunk of which nothing could be found out: too many files are open, say. It is neither marked nor cleared. */
static const char not_known[] = "its pack cannot be opened";

/* NULL: its bytes, which are in s->stored now, are those that its hash names. */
static const char *wrong_with(struct scrub *s, const struct chunk_row *row)
{
	const struct chunk_place *p = &row->place;
	size_t got;
	int err;
	if (p->pack_id <= 0 || p->offset < 2 * PACK_HEADER_BYTES || p->raw_len > CHUNK_MAX_BYTES ||
	    p->stored_len > CHUNK_MAX_BYTES || p->codec >= CODEC_COUNT || (p->codec == CODEC_RAW && p->stored_len != p->raw_len))
		return "it has no possible place in the index";
	err = open_pack(s, p->pack_id);
	if (err != E_OK)
		return err == E_NOT_FOUND ? "its pack is missing" : not_known;
	if (disk_pread(s->file, s->stored, p->stored_len, p->offset, &got) != E_OK)
		return "it cannot be read from the disk";
	if (got < p->stored_len)
		return "its pack is cut off";
	if (xxh3_64(s->stored, p->stored_len) != p->xxh)
		return "its bytes are not those that were written";
	const void *raw = s->stored;
	if (p->codec != CODEC_RAW) {
		if (codec_decode(s->work, p->codec, str_n(s->stored, p->stored_len), s->raw, p->raw_len) != E_OK)
			return "it cannot be decoded";
		raw = s->raw;
	}
	struct sha256 is = sha256_of(raw, p->raw_len);
	return sha256_eq(&is, &row->hash) ? NULL : "it does not have the SHA-256 that it is named by";
}

static bool same_place(const struct chunk_place *a, const struct chunk_place *b)
{
	return a->pack_id == b->pack_id && a->offset == b->offset && a->stored_len == b->stored_len && a->xxh == b->xxh;
}

/* ---- marks ---- */

/* What was found out of some chunks of a tenant. */
struct verdicts {
	int64_t tenant_id, now_us;
	struct {
		int64_t id;
		struct chunk_place place; /* where that was found */
		bool damaged;
	} of[INDEX_BATCH];
	size_t n;
	size_t marked, cleared;
};

static int verdicts_op(struct tx *tx, void *arg)
{
	struct verdicts *v = arg;
	struct chunk_place places[INDEX_BATCH];
	int64_t ids[INDEX_BATCH], bad[INDEX_BATCH], good[INDEX_BATCH];
	v->marked = v->cleared = 0;
	for (size_t i = 0; i < v->n; i++)
		ids[i] = v->of[i].id;
	int err = index_place(tx, v->tenant_id, ids, v->n, places);
	for (size_t i = 0; err == E_OK && i < v->n; i++) {
		if (!same_place(&places[i], &v->of[i].place))
			continue;
		if (v->of[i].damaged)
			bad[v->marked++] = ids[i];
		else
			good[v->cleared++] = ids[i];
	}
	if (err == E_OK && v->marked)
		err = marks_set(tx, v->tenant_id, bad, v->marked, MARK_DAMAGED, v->now_us);
	if (err == E_OK && v->cleared)
		err = marks_clear(tx, v->tenant_id, good, v->cleared, MARK_DAMAGED);
	return err;
}

static int pass_verdicts(struct scrub *s, struct verdicts *v, struct scrub_counts *counts)
{
	v->now_us = clock_now(s->config.clock);
	int err = v->n ? db_write(s->config.db, v->tenant_id, verdicts_op, v) : E_OK;
	if (err == E_OK && v->n) {
		counts->damaged += (int64_t)v->marked;
		counts->cleared += (int64_t)v->cleared;
	}
	v->n = 0;
	return err;
}

static int add_verdict(struct scrub *s, struct verdicts *v, const struct index_row *row, bool damaged,
                       struct scrub_counts *counts)
{
	int err = v->n && v->tenant_id != row->tenant_id ? pass_verdicts(s, v, counts) : E_OK;
	v->tenant_id = row->tenant_id;
	v->of[v->n].id = row->chunk.id;
	v->of[v->n].place = row->chunk.place;
	v->of[v->n++].damaged = damaged;
	return err;
}

static _Atomic int64_t *noted_slot(struct store *s, int64_t chunk_id)
{
	return &s->noted[((uint64_t)chunk_id ^ (uint64_t)chunk_id >> 22) % NOTED];
}

struct note {
	int64_t tenant_id, chunk_id, now_us;
};

static int note_op(struct tx *tx, void *arg)
{
	struct note *n = arg;
	struct chunk_place place;
	int err = index_place(tx, n->tenant_id, &n->chunk_id, 1, &place);
	return err != E_OK || !place.pack_id ? err : marks_set(tx, n->tenant_id, &n->chunk_id, 1, MARK_DAMAGED, n->now_us);
}

void damage_note(struct store *s, int64_t tenant_id, int64_t chunk_id)
{
	if (atomic_exchange(noted_slot(s, chunk_id), chunk_id) != chunk_id) /* else it is known: a file is read again and again */
		(void)db_write(s->config.db, tenant_id, note_op, &(struct note){tenant_id, chunk_id, clock_now(s->config.clock)});
}

/* ---- the pass ---- */

struct look {
	int64_t after;
	struct index_row rows[INDEX_BATCH];
	bool marked[INDEX_BATCH];
	size_t n;
};

static int marked_row(void *arg, size_t call, struct rows *r)
{
	(void)r;
	((struct look *)arg)->marked[call] = true;
	return E_OK;
}

static int look_op(struct tx *tx, void *arg)
{
	struct look *l = arg;
	struct dbv args[INDEX_BATCH];
	int err = index_walk(tx, l->after, l->rows, INDEX_BATCH, &l->n);
	memset(l->marked, 0, sizeof l->marked);
	for (size_t i = 0; i < l->n; i++)
		args[i] = V_I(l->rows[i].chunk.id);
	return err != E_OK || l->n == 0
	           ? err
	           : tx_many(tx, "select 1 from chunk_marks where chunk_id = $1 and (reason & 2) <> 0", args, 1, l->n, marked_row, l);
}

int scrub_step(struct scrub *s, int64_t *after_id, struct scrub_counts *counts, bool *end)
{
	struct look l = {.after = *after_id};
	struct verdicts v = {.n = 0};
	int err = db_read(s->config.db, look_op, &l);
	for (size_t i = 0; err == E_OK && i < l.n; i++) {
		const struct index_row *row = &l.rows[i];
		const char *wrong = wrong_with(s, &row->chunk);
		counts->chunks++;
		counts->bytes += row->chunk.place.stored_len;
		if (wrong == not_known) {
			counts->left_out++;
			continue;
		}
		if (wrong)
			map_put(&s->wanted, key_of(&row->chunk.hash), s);
		else if (s->config.store && !l.marked[i] && map_get(&s->wanted, key_of(&row->chunk.hash)))
			finder_add(s->config.store->finder, row->tenant_id, &row->chunk.hash, &row->chunk.id, 1);
		if ((wrong != NULL) == l.marked[i])
			continue;
		if (wrong)
			log_error("the scrub found a damaged chunk", LOG_C("what", wrong), LOG_I("pack_id", row->chunk.place.pack_id),
			          LOG_I("offset", row->chunk.place.offset), LOG_I("chunk_id", row->chunk.id));
		err = add_verdict(s, &v, row, wrong, counts);
	}
	if (err == E_OK)
		err = pass_verdicts(s, &v, counts);
	if (err == E_OK && l.n)
		*after_id = l.rows[l.n - 1].chunk.id;
	*end = err == E_OK && l.n < INDEX_BATCH;
	if (*end)
		close_pack(s);
	return err;
}

/* ---- healing ---- */

struct patient {
	int64_t after;
	struct mark mark;
	size_t found;
	int64_t id; /* to be looked up */
	struct index_row row;
};

static int next_mark_op(struct tx *tx, void *arg)
{
	struct patient *p = arg;
	int err = marks_walk(tx, MARK_DAMAGED, p->after, &p->mark, 1, &p->found);
	p->id = p->mark.chunk_id;
	return err;
}

/* The row is led to other bytes, if it is where it was. */
struct transplant {
	int64_t tenant_id, now_us, id;
	struct chunk_place from, to;
	bool done;
};

static int transplant_op(struct tx *tx, void *arg)
{
	struct transplant *x = arg;
	struct chunk_place now;
	int err = index_place(tx, x->tenant_id, &x->id, 1, &now);
	x->done = err == E_OK && same_place(&now, &x->from);
	if (!x->done)
		return err;
	err = index_replace(tx, x->tenant_id, x->now_us, x->id, &x->from, &x->to);
	return err != E_OK ? err : marks_clear(tx, x->tenant_id, &x->id, 1, MARK_DAMAGED);
}

/* s->stored holds the bytes, as donor describes them. */
static int store_again(struct scrub *s, const struct index_row *row, const struct chunk_row *donor, bool *done)
{
	struct store *store = s->config.store;
	struct shared_pack *held = NULL;
	struct pack_entry e = {.hash = row->chunk.hash, .chunk_id = row->chunk.id, .xxh = donor->place.xxh,
	                       .raw_len = donor->place.raw_len, .stored_len = donor->place.stored_len, .codec = donor->place.codec};
	struct transplant x = {.tenant_id = row->tenant_id, .now_us = clock_now(s->config.clock), .id = row->chunk.id,
	                       .from = row->chunk.place, .to = donor->place};
	uint64_t ticket = 0;
	int err = store_room(store, e.stored_len);
	if (err == E_OK)
		err = shared_append(store, row->tenant_id, &held, &e, s->stored, &x.to.pack_id, &ticket);
	x.to.offset = e.offset;
	if (err == E_OK)
		err = shared_flush(store, held, ticket);
	if (err == E_OK)
		err = db_write(s->config.db, row->tenant_id, transplant_op, &x);
	shared_release(store, held);
	*done = err == E_OK && x.done;
	return err == E_BUSY ? E_OK : err; /* the pack was retired meanwhile: at another time */
}

static int heal(struct scrub *s, const struct index_row *row, struct scrub_counts *counts)
{
	struct patient donor = {0};
	bool done = false;
	int err = index_find(s->config.db, s->config.store->finder, row->tenant_id, &row->chunk.hash, 1, &donor.id);
	if (err == E_OK && donor.id)
		err = index_rows(s->config.db, &donor.id, 1, &donor.row);
	if (err == E_OK && donor.row.chunk.id && !wrong_with(s, &donor.row.chunk))
		err = store_again(s, row, &donor.row.chunk, &done);
	counts->healed += done;
	if (done) {
		atomic_store(noted_slot(s->config.store, row->chunk.id), 0);
		log_info("a damaged chunk was healed", LOG_I("chunk_id", row->chunk.id));
	} else {
		map_put(&s->wanted, key_of(&row->chunk.hash), s);
	}
	return err;
}

int scrub_heal(struct scrub *s, int64_t *after_id, struct scrub_counts *counts, bool *end)
{
	struct patient p = {.after = *after_id};
	struct verdicts v = {.n = 0};
	int err = db_read(s->config.db, next_mark_op, &p);
	*end = err == E_OK && !p.found;
	if (err == E_OK && p.found)
		err = index_rows(s->config.db, &p.id, 1, &p.row);
	if (err != E_OK || *end)
		return err;
	*after_id = p.mark.chunk_id;
	if (!p.row.chunk.id) /* the collector was here */
		return E_OK;
	close_pack(s); /* its file may have been put back from a backup */
	const char *wrong = wrong_with(s, &p.row.chunk);
	if (wrong)
		return s->config.store && wrong != not_known ? heal(s, &p.row, counts) : E_OK;
	err = add_verdict(s, &v, &p.row, false, counts);
	return err != E_OK ? err : pass_verdicts(s, &v, counts);
}
