#include "chunks/repack_priv.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/store_priv.h"

enum { WALK_PACKS = 1024, WORTH_ONE_IN = 32 };

/* All packs, by id. */
struct packs {
	struct repack *r;
	struct pack_fact *of;
	size_t n, cap;
	int64_t after;
	struct index_pack page[WALK_PACKS];
	size_t n_page;
};

static struct pack_fact *add_fact(struct packs *p)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 256;
		p->of = realloc(p->of, p->cap * sizeof *p->of);
		must(p->of != NULL);
	}
	p->of[p->n] = (struct pack_fact){.file_bytes = -1};
	return &p->of[p->n++];
}

/* ---- what there is ---- */

/* No row tells whose it is. Without a head its chunks may be wanted still, since the database may have lost its row; without any
 * whole segment either it is what a crash left. */
static void look_whose(struct disk_file *file, struct pack_fact *f)
{
	struct pack_info info = {0};
	int err = pack_scan(file, false, NULL, NULL, &info);
	if (err == E_OK) {
		f->tenant_id = info.tenant_id;
		return;
	}
	if (err == E_CORRUPT)
		err = pack_scan_headless(file, f->id, 0, false, NULL, NULL, &info);
	f->kept = err != E_OK || info.n_segments > 0;
	if (f->kept)
		log_warn("a pack that no row names has a head that cannot be read; it is kept (scaidrived fsck --repair takes what it holds)",
		         LOG_I("pack_id", f->id));
}

static int measure_file(struct repack *r, struct pack_fact *f)
{
	char name[PACK_NAME_MAX];
	struct disk_file *file;
	pack_name(name, f->id);
	int err = disk_open(r->disk, name, DISK_READ, &file);
	if (err != E_OK)
		return err == E_NOT_FOUND ? E_OK : err;
	err = disk_size(file, &f->file_bytes);
	if (err == E_OK && !f->tenant_id)
		look_whose(file, f);
	disk_close(file);
	return err;
}

static int page_op(struct tx *tx, void *arg)
{
	struct packs *p = arg;
	return index_walk_packs(tx, p->after, p->page, WALK_PACKS, &p->n_page);
}

static void fact_of_row(struct packs *p, const struct index_pack *row)
{
	struct pack_fact *f = add_fact(p);
	f->id = row->id;
	f->tenant_id = row->tenant_id;
	f->live_bytes = row->stored_bytes;
	f->state = row->state;
	f->retired_us = row->retired_us;
	f->rows = p->r->rows ? (int64_t)(uintptr_t)map_get(p->r->rows, (uint64_t)row->id) : 0;
}

static int all_rows(struct packs *p)
{
	int err;
	do {
		err = db_read(p->r->db, page_op, p);
		for (size_t i = 0; err == E_OK && i < p->n_page; i++)
			fact_of_row(p, &p->page[i]);
		if (err == E_OK && p->n_page)
			p->after = p->page[p->n_page - 1].id;
	} while (err == E_OK && p->n_page == WALK_PACKS);
	return err;
}

static int by_id(const void *a, const void *b)
{
	const struct pack_fact *x = a, *y = b;
	return (x->id > y->id) - (x->id < y->id);
}

/* Files that no row names; one that got its row since we asked counts as young. */
static void add_files(struct packs *p, const struct buf *files)
{
	size_t rows = p->n;
	for (size_t i = 0; i < files->n; i += sizeof(int64_t)) {
		struct pack_fact key;
		memcpy(&key.id, files->p + i, sizeof key.id);
		if (!rows || !bsearch(&key, p->of, rows, sizeof *p->of, by_id))
			add_fact(p)->id = key.id;
	}
	if (p->n)
		qsort(p->of, p->n, sizeof *p->of, by_id);
}

static int find_out(struct packs *p)
{
	struct buf files = {0};
	int err = pack_list(p->r->disk, &files); /* before the rows: what has one by then is no leftover */
	if (err == E_OK)
		err = all_rows(p);
	if (err == E_OK)
		add_files(p, &files);
	buf_fini(&files);
	for (size_t i = 0; err == E_OK && i < p->n; i++)
		err = measure_file(p->r, &p->of[i]);
	return err;
}

/* ---- retiring and deleting ---- */

struct retirement {
	struct repack *r;
	const struct pack_fact *pack;
	bool retired;
};

static int retire_op(struct tx *tx, void *arg)
{
	struct retirement *x = arg;
	bool used = false;
	int err = x->r->in_use ? x->r->in_use(tx, x->r->arg, x->pack->tenant_id, x->pack->id, &used) : E_OK;
	x->retired = false;
	return err != E_OK || used ? err
	                           : index_pack_retire(tx, x->pack->id, x->pack->tenant_id, clock_now(x->r->clock), &x->retired);
}

static int retire(struct repack *r, struct pack_fact *f)
{
	struct retirement x = {r, f, false};
	if (f->rows && !f->live_bytes && f->state) {
		log_warn("a pack had chunks when they were counted and should be empty now; it is kept", LOG_I("pack_id", f->id));
		return E_OK;
	}
	int err = r->dry ? E_OK : db_write(r->db, f->tenant_id, retire_op, &x);
	if (err != E_OK || !(x.retired || r->dry))
		return err;
	r->totals.retired++;
	f->state = PACK_RETIRED;
	f->retired_us = clock_now(r->clock);
	return E_OK;
}

static int gone_op(struct tx *tx, void *arg)
{
	return index_pack_gone(tx, ((const struct pack_fact *)arg)->id);
}

static int forget_op(struct tx *tx, void *arg)
{
	return index_pack_forget(tx, ((const struct pack_fact *)arg)->id);
}

static int delete_file(struct repack *r, struct pack_fact *f)
{
	char name[PACK_NAME_MAX];
	pack_name(name, f->id);
	int err = r->dry || f->file_bytes < 0 ? E_OK : disk_unlink(r->disk, name);
	if (err != E_OK && err != E_NOT_FOUND)
		return err;
	if (f->file_bytes >= 0) {
		r->totals.deleted++;
		r->totals.deleted_bytes += f->file_bytes;
		f->file_bytes = -1;
	}
	if (r->store && !r->dry)
		handle_forget(r->store, f->id);
	err = r->dry || f->state == PACK_GONE ? E_OK : db_write(r->db, f->tenant_id, gone_op, f);
	if (err == E_OK)
		f->state = PACK_GONE;
	return err;
}

static int forget(struct repack *r, const struct pack_fact *f)
{
	r->totals.forgotten++;
	return r->dry ? E_OK : db_write(r->db, f->tenant_id, forget_op, (void *)(uintptr_t)f);
}

/* What has to be done to a pack besides rewriting it. */
static int tidy(struct repack *r, struct pack_fact *f)
{
	int err = E_OK;
	if (f->kept)
		return E_OK;
	if ((f->state == 0 || (f->state == PACK_LIVE && f->live_bytes == 0)) && f->id < r->ids_below)
		err = retire(r, f);
	if (f->state != PACK_LIVE && f->live_bytes)
		return err; /* a repair brought its chunks back */
	bool late = f->state == PACK_RETIRED && f->retired_us < r->retired_before_us;
	bool back = f->state == PACK_GONE && f->file_bytes >= 0; /* the name was not on the disk's list for good */
	if (err == E_OK && !r->held && (late || back))
		err = delete_file(r, f);
	else if (err == E_OK && f->state == PACK_GONE && f->retired_us < r->forgotten_before_us)
		err = forget(r, f);
	return err;
}

static int tidy_all(struct packs *p, bool *on)
{
	int err = E_OK;
	for (size_t i = 0; err == E_OK && *on && i < p->n; i++) {
		err = tidy(p->r, &p->of[i]);
		*on = p->r->go_on(p->r->arg, 0);
	}
	return err;
}

/* ---- which are rewritten ---- */

/* What a pack of just the live chunks would not take. */
static int64_t dead_bytes(const struct pack_fact *f)
{
	int64_t segments = f->live_bytes / PACK_SEGMENT_BYTES + 1;
	int64_t dead = f->file_bytes - f->live_bytes - PACK_ENTRY_BYTES * f->rows - PACK_HEADER_BYTES * (1 + segments);
	return f->state == PACK_LIVE && f->live_bytes > 0 && dead > 0 ? dead : 0;
}

static double dead_share(const struct pack_fact *f)
{
	return (double)dead_bytes(f) / (double)(f->file_bytes > 0 ? f->file_bytes : 1);
}

static int deadest_first(const void *a, const void *b)
{
	double x = dead_share(*(struct pack_fact *const *)a), y = dead_share(*(struct pack_fact *const *)b);
	return (x < y) - (x > y);
}

static void sum_up(struct packs *p)
{
	struct repack_totals *t = &p->r->totals;
	for (size_t i = 0; i < p->n; i++) {
		const struct pack_fact *f = &p->of[i];
		bool idle = f->state != PACK_LIVE || f->live_bytes == 0;
		t->packs += f->file_bytes >= 0;
		t->file_bytes += f->file_bytes >= 0 ? f->file_bytes : 0;
		t->live_bytes += f->live_bytes;
		t->idle_bytes += idle && f->file_bytes >= 0 ? f->file_bytes : 0;
		t->dead_bytes += p->r->rows ? dead_bytes(f) : 0;
	}
}

static void choose(struct packs *p)
{
	struct pack_fact **all = malloc((p->n + 1) * sizeof(struct pack_fact *));
	size_t n = 0;
	must(all != NULL);
	int64_t dead = p->r->totals.dead_bytes, enough = p->r->totals.live_bytes / 100 * REPACK_DEAD_PERCENT;
	for (size_t i = 0; i < p->n; i++)
		if (p->of[i].id < p->r->ids_below && p->of[i].rows && dead_bytes(&p->of[i]) > p->of[i].file_bytes / WORTH_ONE_IN)
			all[n++] = &p->of[i];
	qsort(all, n, sizeof(struct pack_fact *), deadest_first);
	for (size_t i = 0; i < n && dead > enough; i++) {
		all[i]->chosen = true;
		dead -= dead_bytes(all[i]);
	}
	free(all);
}

static int rewrite(struct packs *p)
{
	struct copying *c = copying_begin(p->r);
	int err = E_OK;
	for (size_t i = 0; err == E_OK && i < p->n; i++)
		if (p->of[i].chosen) {
			err = copying_pack(c, &p->of[i]);
			if (err == E_OK)
				map_del(p->r->rows, (uint64_t)p->of[i].id);
		}
	return copying_end(c, err);
}

/* Those that are empty now. */
static int retire_rewritten(struct packs *p, bool *on)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->of[i].chosen)
			p->of[i].rows = p->of[i].live_bytes = 0; /* the write looks whether it is so */
	return tidy_all(p, on);
}

int repack_run(struct repack *r)
{
	struct packs *p = calloc(1, sizeof *p);
	bool on = true;
	must(p != NULL);
	p->r = r;
	int err = find_out(p);
	if (err == E_OK)
		sum_up(p);
	if (err == E_OK) /* first, since it makes room for copies */
		err = tidy_all(p, &on);
	if (err == E_OK && on && r->rows && !r->dry) {
		choose(p);
		err = rewrite(p);
		on = err == E_OK;
		if (err == E_OK)
			err = retire_rewritten(p, &on);
	}
	free(p->of);
	free(p);
	r->ended = err == E_OK && on;
	return err == E_CANCELLED ? E_OK : err;
}

void repack_count(struct repack_totals *sum, const struct repack_totals *other)
{
	sum->retired += other->retired;
	sum->deleted += other->deleted;
	sum->deleted_bytes += other->deleted_bytes;
	sum->forgotten += other->forgotten;
	sum->rewritten += other->rewritten;
	sum->moved += other->moved;
	sum->moved_bytes += other->moved_bytes;
	sum->damaged += other->damaged;
}
