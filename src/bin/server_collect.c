/* The garbage collector (drive/collect.h): its metrics, and scaidrived collect. */
#include "bin/server.h"
#include "drive/collect.h"
#include "http/metrics.h"

/* ---- metrics ---- */

static struct collect_stats stats_of(void *drive)
{
	struct collect_stats s;
	collect_stats(drive, &s);
	return s;
}

static void put_samples(struct buf *out, const char *name, const char *const *what, const int64_t *n, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct buf label = {0};
		metrics_label(&label, "what", str_c(what[i]));
		metrics_sample(out, name, buf_as_str(&label), n[i]);
		buf_fini(&label);
	}
}

static void write_chunks(struct buf *out, const char *name, void *drive)
{
	struct collect_stats s = stats_of(drive);
	put_samples(out, name, (const char *const[]){"condemned", "spared", "removed", "moved", "damaged"},
	            (int64_t[]){s.swept.condemned, s.swept.spared, s.swept.removed, s.packed.moved, s.packed.damaged}, 5);
}

static void write_bytes(struct buf *out, const char *name, void *drive)
{
	struct collect_stats s = stats_of(drive);
	put_samples(out, name, (const char *const[]){"removed", "moved", "deleted"},
	            (int64_t[]){s.swept.removed_bytes, s.packed.moved_bytes, s.packed.deleted_bytes}, 3);
}

static void write_packs(struct buf *out, const char *name, void *drive)
{
	struct collect_stats s = stats_of(drive);
	put_samples(out, name, (const char *const[]){"retired", "deleted", "rewritten"},
	            (int64_t[]){s.packed.retired, s.packed.deleted, s.packed.rewritten}, 3);
}

static void write_found(struct buf *out, const char *name, void *drive)
{
	struct collect_totals t = stats_of(drive).last;
	put_samples(out, name, (const char *const[]){"files", "live", "unused", "dead", "idle"},
	            (int64_t[]){t.packs.file_bytes, t.packs.live_bytes, t.sweep.garbage_bytes, t.packs.dead_bytes,
	                        t.packs.idle_bytes}, 5);
}

static void write_progress(struct buf *out, const char *name, void *drive)
{
	struct collect_stats s = stats_of(drive);
	for (int i = 0; i < COLLECT_PHASES; i++) {
		struct buf label = {0};
		metrics_label(&label, "phase", str_c(collect_phases[i]));
		metrics_sample(out, name, buf_as_str(&label), (enum collect_phase)i == s.phase ? s.done : 0);
		buf_fini(&label);
	}
}

static int64_t read_ended(void *drive)
{
	return stats_of(drive).last.ended_us / 1000000;
}
static int64_t read_took(void *drive)
{
	struct collect_totals t = stats_of(drive).last;
	return (t.ended_us - t.began_us) / 1000000;
}
static int64_t read_all(void *drive)
{
	return stats_of(drive).all;
}

void collect_metrics(struct metrics *m, struct drive *d)
{
	metrics_family(m, "scaidrive_collect_chunks_total", METRIC_COUNTER,
	               "Chunks that ended collections of this node dealt with.", write_chunks, d);
	metrics_family(m, "scaidrive_collect_bytes_total", METRIC_COUNTER, "Bytes of them; deleted: of files of packs.",
	               write_bytes, d);
	metrics_family(m, "scaidrive_collect_packs_total", METRIC_COUNTER, "Packs that they dealt with.", write_packs, d);
	metrics_family(m, "scaidrive_collect_found_bytes", METRIC_GAUGE,
	               "What the last collection found: bytes of files of packs; of chunks in use and not; dead in packs; in packs "
	               "without chunks.", write_found, d);
	metrics_family(m, "scaidrive_collect_progress", METRIC_GAUGE,
	               "Chunks that the present phase has dealt with; those of other phases are 0.", write_progress, d);
	metrics_gauge(m, "scaidrive_collect_chunks", "Chunks in the index when the collection began.", NULL, read_all, d);
	metrics_gauge(m, "scaidrive_collect_last_end_timestamp_seconds", "When a collection ended last, on whichever node; 0: never.",
	              NULL, read_ended, d);
	metrics_gauge(m, "scaidrive_collect_last_duration_seconds", "From its beginning to its end.", NULL, read_took, d);
}

/* ---- scaidrived collect ---- */

static const struct option_spec collect_options[] = {
    {"dry-run", NULL, "Change nothing; tell what is unused", NULL},
    {0},
};

static void put_line(const char *what, int64_t n, int64_t bytes)
{
	printf("%-34s %12lld  %15lld bytes\n", what, (long long)n, (long long)bytes);
}

static void put_totals(const struct collect_totals *t, bool dry)
{
	put_line("chunks in the index", t->sweep.chunks, t->sweep.stored_bytes);
	put_line("files of packs", t->packs.packs, t->packs.file_bytes);
	put_line("unused chunks", t->sweep.garbage, t->sweep.garbage_bytes);
	put_line(dry ? "chunks to remove" : "chunks removed", t->sweep.removed, t->sweep.removed_bytes);
	put_line("chunks moved to other packs", t->packs.moved, t->packs.moved_bytes);
	put_line("damaged chunks met", t->packs.damaged, 0);
	put_line(dry ? "packs to delete" : "packs deleted", t->packs.deleted, t->packs.deleted_bytes);
	put_line("dead in packs that are kept", 0, t->packs.dead_bytes);
}

static int collect_once(struct runtime *rt, bool alone, bool dry, struct collect_totals *totals)
{
	struct collection_config config = {.drive = &rt->drive, .alone = alone, .dry = dry};
	struct collection *c = collection_new(&config);
	bool done;
	int err = collection_go_on(c, &done);
	collection_totals(c, totals);
	collection_free(c);
	return err;
}

static int run_collect(struct args *args)
{
	struct runtime rt;
	struct collect_totals totals;
	bool dry = arg(args, "dry-run");
	int code = runtime_open(&args->config, RUNTIME_SERVE, &rt);
	if (code)
		return code;
	/* With the lock of an embedded database nobody is at work: what is unused now is so for good. */
	bool alone = strcmp(db_engine(rt.db), "sqlite") == 0;
	int err = collect_once(&rt, alone, dry, &totals);
	if (!err && alone && !dry) /* condemned; the second look removes */
		err = collect_once(&rt, alone, dry, &totals);
	if (err)
		code = runtime_fault(&rt, err);
	else
		put_totals(&totals, dry);
	if (!err && !alone && !dry && totals.sweep.garbage)
		puts("Others may be using the database: what is unused now goes with the next collection, in an hour at the earliest.");
	runtime_close(&rt);
	return code;
}

const struct command cmd_collect = {"collect", "Remove what nothing refers to, at once, while the server is stopped",
                                    collect_options, run_collect};
