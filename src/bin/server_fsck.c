/* scaidrived fsck: the check of drive/check.h, told line by line; and with --repair what drive/repair.h mends of what it found. */
#include <stdlib.h>

#include "base/json.h"
#include "bin/server.h"
#include "drive/check.h"
#include "drive/repair.h"

enum { CLEAN = 0, FOUND = 1, NOT_CHECKED = 2 };

struct fsck {
	struct progress progress; /* first: of the callbacks */
	bool json;
	int64_t repaired;
	struct repair_list *list; /* not NULL: what is found is noted for a repair */
};

static void put_line(struct fsck *f, struct buf *b)
{
	progress_wipe(&f->progress);
	buf_char(b, '\n');
	fwrite(b->p, 1, b->n, stdout);
	fflush(stdout);
	buf_fini(b);
}

static void put_field(struct buf *b, bool *first, struct str key, struct str value)
{
	if (!value.p)
		return;
	json_put_key(b, first, key);
	json_put_str(b, value);
}

static void finding_json(struct buf *b, const struct check_finding *f)
{
	bool first = true;
	buf_char(b, '{');
	put_field(b, &first, STR("finding"), str_c(f->code));
	put_field(b, &first, STR("subject"), f->subject);
	put_field(b, &first, STR("share"), f->share);
	put_field(b, &first, STR("path"), f->path);
	if (f->version) {
		json_put_key(b, &first, STR("version"));
		buf_i64(b, f->version);
	}
	if (f->in_trash) {
		json_put_key(b, &first, STR("in_trash"));
		json_put_bool(b, true);
	}
	put_field(b, &first, STR("sentence"), f->sentence);
	buf_char(b, '}');
}

static void finding_text(struct buf *b, const struct check_finding *f)
{
	if (f->share.p) {
		put_plain(b, f->share);
		buf_char(b, ':');
		put_plain(b, f->path);
		if (f->version)
			buf_fmt(b, ", version %lld", (long long)f->version);
		if (f->in_trash)
			buf_lit(b, " (in the trash)");
		buf_lit(b, ": ");
	} else if (f->subject.p) {
		put_plain(b, f->subject);
		buf_lit(b, ": ");
	}
	put_plain(b, f->sentence);
	buf_fmt(b, " [%s", f->code);
	if (f->share.p && f->subject.p)
		buf_fmt(b, " %.*s", STR_ARG(f->subject));
	buf_char(b, ']');
}

static void on_finding(void *arg, const struct check_finding *finding)
{
	struct fsck *f = arg;
	struct buf b = {0};
	if (f->list)
		repair_note(f->list, finding);
	if (f->json)
		finding_json(&b, finding);
	else
		finding_text(&b, finding);
	put_line(f, &b);
}

static void on_garbage(void *arg, struct str file, int64_t bytes)
{
	struct fsck *f = arg;
	struct buf b = {0};
	bool first = true;
	if (!f->json) {
		buf_fmt(&b, "%.*s: garbage, %lld bytes: nothing refers to it", STR_ARG(file), (long long)bytes);
	} else {
		buf_char(&b, '{');
		put_field(&b, &first, STR("garbage"), file);
		json_put_key(&b, &first, STR("bytes"));
		buf_i64(&b, bytes);
		buf_char(&b, '}');
	}
	put_line(f, &b);
}

static void put_totals(struct fsck *f, const struct check_totals *t)
{
	const struct {
		const char *key;
		int64_t n;
	} totals[] = {
	    {"findings", t->findings},
	    {"shares", t->shares},
	    {"nodes", t->nodes},
	    {"versions", t->versions},
	    {"changes", t->changes},
	    {"uploads", t->uploads},
	    {"chunks", t->store.chunks},
	    {"packs", t->store.packs},
	    {"pack_bytes", t->store.bytes},
	    {"garbage_packs", t->store.garbage_packs},
	    {"marked_damaged", t->marked},
	    {"garbage_chunks", t->store.garbage_chunks},
	    {"garbage_files", t->garbage_files},
	    {"garbage_bytes", t->store.garbage_bytes + t->store.garbage_pack_bytes + t->garbage_file_bytes},
	};
	struct buf b = {0};
	buf_lit(&b, "{\"summary\":{");
	for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
		buf_fmt(&b, "%s\"%s\":%lld", i ? "," : "", totals[i].key, (long long)totals[i].n);
	buf_lit(&b, "}}");
	put_line(f, &b);
}

static void put_summary(struct fsck *f, const struct check_totals *t)
{
	struct buf b = {0};
	int64_t garbage = t->store.garbage_packs + t->store.garbage_chunks + t->garbage_files;
	buf_fmt(&b,
	        "Checked %lld shares, %lld files and folders, %lld versions, %lld changes, %lld open uploads;"
	        " %lld chunks and %lld bytes in %lld packs.\n",
	        (long long)t->shares, (long long)t->nodes, (long long)t->versions, (long long)t->changes, (long long)t->uploads,
	        (long long)t->store.chunks, (long long)t->store.bytes, (long long)t->store.packs);
	if (garbage)
		buf_fmt(&b, "Garbage, which is harmless: %lld packs, %lld chunks in others, %lld staging files; %lld bytes.\n",
		        (long long)t->store.garbage_packs, (long long)t->store.garbage_chunks, (long long)t->garbage_files,
		        (long long)(t->store.garbage_bytes + t->store.garbage_pack_bytes + t->garbage_file_bytes));
	if (t->marked)
		buf_fmt(&b, "Marked as damaged by the scrub, until their bytes come again: %lld chunks.\n", (long long)t->marked);
	if (t->findings)
		buf_fmt(&b, "%lld findings.", (long long)t->findings);
	else
		buf_lit(&b, "No findings.");
	put_line(f, &b);
}

static void on_repaired(void *arg, const char *code, int64_t n, const char *sentence)
{
	struct fsck *f = arg;
	struct buf b = {0};
	bool first = true;
	f->repaired += n;
	if (!f->json) {
		buf_fmt(&b, "repaired: %s: %lld [%s]", sentence, (long long)n, code);
	} else {
		buf_char(&b, '{');
		put_field(&b, &first, STR("repaired"), str_c(code));
		json_put_key(&b, &first, STR("rows"));
		buf_i64(&b, n);
		put_field(&b, &first, STR("sentence"), str_c(sentence));
		buf_char(&b, '}');
	}
	put_line(f, &b);
}

static const struct option_spec fsck_options[] = {
    {"quick", NULL, "The database and the heads of packs; no content", NULL},
    {"deep", NULL, "Also reads every version as a download would, and computes its SHA-256", NULL},
    {"repair", NULL, "Mends what can be mended, then checks again", NULL},
    {"rebuild", NULL, "The database is lost: makes it anew from the packs and the catalog beside them, then checks", NULL},
    {"json", NULL, "One JSON object a line", NULL},
    {0},
};

/* CLEAN, FOUND or NOT_CHECKED. */
static int check(struct args *args, struct fsck *f, struct check_totals *totals)
{
	struct runtime rt;
	if (runtime_open(&args->config, RUNTIME_CHECK, &rt))
		return NOT_CHECKED;
	struct check_config config = {
	    .db = rt.db,
	    .store = rt.store,
	    .packs = rt.disk,
	    .staging = rt.staging,
	    .clock = &clock_system,
	    .depth = arg(args, "quick") ? CHECK_QUICK : arg(args, "deep") ? CHECK_DEEP : CHECK_FULL,
	    .finding = on_finding,
	    .garbage = on_garbage,
	    .progress = progress_on_step,
	    .arg = f,
	};
	int err = drive_check(&config, totals);
	progress_wipe(&f->progress);
	runtime_close(&rt);
	if (err)
		usage_fault("the check could not be brought to its end: %s", err_info(err)->sentence);
	return err ? NOT_CHECKED : totals->findings ? FOUND : CLEAN;
}

static int repair(struct args *args, struct fsck *f, const struct repair_list *list)
{
	struct runtime rt;
	if (runtime_open(&args->config, RUNTIME_CHECK | RUNTIME_REPAIR, &rt))
		return NOT_CHECKED;
	int err = drive_repair(&(struct repair_config){&rt.drive, on_repaired, progress_on_step, f}, list);
	progress_wipe(&f->progress);
	runtime_close(&rt);
	if (err)
		usage_fault("the repair could not be brought to its end: %s", err_info(err)->sentence);
	return err ? NOT_CHECKED : CLEAN;
}

static int run_fsck(struct args *args)
{
	struct repair_list list = {0};
	struct check_totals totals;
	struct fsck f = {.json = arg(args, "json") != NULL, .list = arg(args, "repair") ? &list : NULL};
	progress_init(&f.progress, f.json);
	int code = arg(args, "rebuild") ? server_rebuild(&args->config, f.json) : CLEAN;
	if (code != CLEAN)
		return code;
	code = check(args, &f, &totals);
	if (code == FOUND && f.list) {
		code = repair(args, &f, &list);
		f.list = NULL;
		if (code == CLEAN)
			code = check(args, &f, &totals);
	}
	repair_list_fini(&list);
	if (code == NOT_CHECKED)
		return code;
	if (f.json)
		put_totals(&f, &totals);
	else
		put_summary(&f, &totals);
	return code;
}

const struct command cmd_fsck = {"fsck", "Check that everything stored is whole, while the server is stopped", fsck_options,
                                 run_fsck};
