#include "drive/check_priv.h"

#include <stdio.h>

#include "chunks/pack.h"
#include "drive/where.h"

struct place_job {
	struct check *c;
	int64_t node_id;
	struct where where;
};

static int place_op(struct tx *tx, void *arg)
{
	struct place_job *j = arg;
	return where_is(tx, &j->c->arena, j->node_id, &j->where);
}

static void report(struct check *c, struct check_finding *f)
{
	c->totals->findings++;
	c->config->finding(c->config->arg, f);
}

void check_tell(struct check *c, const char *code, const struct check_place *at, const char *fmt, ...)
{
	struct arena *a = &c->arena;
	char id[ID_WIRE_MAX + 1];
	va_list ap;
	va_start(ap, fmt);
	struct check_finding f = {.code = code, .version = at->version, .sentence = arena_vfmt(a, fmt, ap)};
	va_end(ap);
	struct place_job j = {.c = c, .node_id = at->node_id, .where.share_id = at->share_id};
	(void)db_read(c->config->db, place_op, &j); /* a name that cannot be read must not hide the finding */
	f.share = j.where.share;
	f.path = j.where.path;
	f.in_trash = j.where.in_trash;
	if (at->subject.kind != ID_NONE && at->subject.n > 0) {
		size_t n = id_format(id, at->subject.kind, at->subject.n);
		f.subject = arena_str(a, str_n(id, n));
	}
	report(c, &f);
}

void check_progress(struct check *c, const char *what, int64_t done)
{
	c->config->progress(c->config->arg, what, done, -1);
}

/* ---- the store ---- */

static struct str pack_path(char out[64], int64_t pack_id)
{
	char name[PACK_NAME_MAX];
	pack_name(name, pack_id);
	return str_n(out, (size_t)snprintf(out, 64, "packs/%s", name));
}

static void on_store_fault(void *arg, const struct store_fault *fault)
{
	struct check *c = arg;
	char path[64];
	struct check_finding f = {.code = fault->code};
	if (fault->pack_id > 0)
		f.subject = pack_path(path, fault->pack_id);
	if (fault->chunk_id)
		f.sentence = arena_fmt(&c->arena, "a chunk at byte %lld %s", (long long)fault->offset, fault->sentence);
	else
		f.sentence = str_c(fault->sentence);
	report(c, &f);
	arena_reset(&c->arena);
}

static void on_store_garbage(void *arg, int64_t pack_id, int64_t bytes)
{
	struct check *c = arg;
	char path[64];
	c->config->garbage(c->config->arg, pack_path(path, pack_id), bytes);
}

static void on_store_progress(void *arg, const char *what, int64_t done, int64_t all)
{
	struct check *c = arg;
	c->config->progress(c->config->arg, what, done, all);
}

static int check_store(struct check *c)
{
	const struct store_check_config config = {
	    .disk = c->config->packs,
	    .db = c->config->db,
	    .depth = c->config->depth,
	    .fault = on_store_fault,
	    .garbage = on_store_garbage,
	    .progress = on_store_progress,
	    .arg = c,
	};
	int err = store_check_run(&config, &c->store);
	store_check_totals(c->store, &c->totals->store);
	return err;
}

/* ---- the whole ---- */

static void on_complaint(void *arg, struct str sentence)
{
	report(arg, &(struct check_finding){.code = "DATABASE_DAMAGED", .sentence = sentence});
}

static int check_engine(struct check *c)
{
	check_progress(c, "the database's own check", 0);
	return db_verify(c->config->db, c->config->depth == CHECK_QUICK, on_complaint, c);
}

int drive_check(const struct check_config *config, struct check_totals *out)
{
	static const struct {
		const char *what;
		int (*part)(struct check *c);
	} parts[] = {
	    {"the database's own check", check_engine}, {"chunks and packs", check_store}, {"shares and nodes", check_rules},
	    {"names", check_names},                     {"versions", check_versions},      {"the change log", check_log},
	    {"uploads", check_uploads},                 {"staged pieces", check_staging},  {"leases of chunks", check_leases},
	};
	struct check c = {.config = config, .totals = out};
	int err = 0;
	*out = (struct check_totals){0};
	arena_init(&c.arena);
	for (size_t i = 0; !err && i < sizeof parts / sizeof *parts; i++) {
		err = parts[i].part(&c);
		arena_reset(&c.arena);
		if (err != E_DB && err != E_CORRUPT)
			continue;
		check_tell(&c, "DATABASE_UNREADABLE", &(struct check_place){0}, "%s: the database cannot tell: %s", parts[i].what,
		           err_info(err)->sentence);
		err = 0;
	}
	store_check_free(c.store);
	arena_fini(&c.arena);
	return err;
}
