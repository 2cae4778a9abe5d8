/* Background work (drive/job.h): the server's thread, and the commands that look at it and do it by hand. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/must.h"
#include "bin/server.h"
#include "drive/housekeeping.h"
#include "drive/scrub_job.h"
#include "http/metrics.h"

enum { JOBS_MAX = 16, TOLD_MAX = 20, BUSY_MAX = 600 };

/* ---- the thread ---- */

struct worker_job {
	struct counter *ok, *failed, *items, *bytes;
	_Atomic int64_t took_us;      /* the last round here */
	_Atomic int64_t succeeded_at; /* the last good round of any node, as of the last look */
};

/* What the scrub has seen of all that is stored, on any node, as of the last look. */
struct worker_scrub {
	_Atomic int64_t done_bytes, all_bytes, passed_at, marked;
};

struct worker {
	struct drive *drive;
	struct worker_scrub scrub;
	int look_s;
	struct worker_job jobs[JOBS_MAX];
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	_Atomic bool stopping;
};

static void look(struct worker *w, size_t i)
{
	const struct job *job = job_list[i];
	struct worker_job *j = &w->jobs[i];
	struct job_result r;
	int err = job_run(w->drive, job, &(struct job_run){.stop = &w->stopping}, &r);
	if (err)
		log_warn("a job failed; it is tried again", LOG_C("job", job->name), LOG_C("why", err_info(err)->sentence));
	else if (r.doubtful)
		log_warn("a job waits: the clock is far ahead of its last round", LOG_C("job", job->name));
	else if (r.items)
		log_info("job", LOG_C("job", job->name), LOG_I("items", r.items), LOG_I("bytes", r.bytes),
		         LOG_I("took_ms", r.took_us / 1000));
	if (!err && !r.ran)
		return;
	counter_add(err ? j->failed : j->ok, 1);
	counter_add(j->items, (uint64_t)r.items);
	counter_add(j->bytes, (uint64_t)r.bytes);
	atomic_store(&j->took_us, r.took_us);
}

static void look_all(struct worker *w)
{
	struct job_status all[JOBS_MAX];
	struct arena arena;
	for (size_t i = 0; i < job_count && !atomic_load(&w->stopping); i++)
		look(w, i);
	arena_init(&arena);
	if (!job_status(w->drive, &arena, all))
		for (size_t i = 0; i < job_count; i++)
			atomic_store(&w->jobs[i].succeeded_at, all[i].succeeded_at);
	arena_fini(&arena);
	struct scrub_coverage c;
	if (scrub_coverage(w->drive, &c))
		return;
	atomic_store(&w->scrub.done_bytes, c.done_bytes);
	atomic_store(&w->scrub.all_bytes, c.all_bytes);
	atomic_store(&w->scrub.passed_at, c.passed_at / 1000000);
	atomic_store(&w->scrub.marked, c.marked);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	pthread_mutex_lock(&w->lock);
	while (!w->stopping && w->look_s) {
		pthread_mutex_unlock(&w->lock);
		look_all(w);
		pthread_mutex_lock(&w->lock);
		struct timespec until;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += w->look_s;
		while (!w->stopping && pthread_cond_timedwait(&w->wake, &w->lock, &until) != ETIMEDOUT)
			;
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* ---- metrics ---- */

static int64_t read_took_ms(void *arg)
{
	return atomic_load(&((struct worker_job *)arg)->took_us) / 1000;
}
static int64_t read_succeeded(void *arg)
{
	return atomic_load(&((struct worker_job *)arg)->succeeded_at) / 1000000;
}

static int64_t read_as_is(void *arg)
{
	return atomic_load((_Atomic int64_t *)arg);
}

static void write_scrubbed(struct buf *out, const char *name, void *arg)
{
	static const char *const kinds[SCRUB_TOTALS] = {
	    [SCRUB_CHUNKS] = "kind=\"chunks\"", [SCRUB_BYTES] = "kind=\"bytes\"",     [SCRUB_DAMAGED] = "kind=\"damaged\"",
	    [SCRUB_HEALED] = "kind=\"healed\"", [SCRUB_CLEARED] = "kind=\"cleared\"",
	};
	(void)arg;
	for (int i = 0; i < SCRUB_TOTALS; i++)
		metrics_sample(out, name, str_c(kinds[i]), scrub_total((enum scrub_total)i));
}

static void register_scrub(struct worker *w, struct metrics *m)
{
	metrics_family(m, "scaidrive_scrub_total", METRIC_COUNTER,
	               "What the scrub read, found damaged, healed, and found to be good again.", write_scrubbed, NULL);
	metrics_gauge(m, "scaidrive_scrub_pass_bytes", "The scrub's pass under way.", "of=\"done\"", read_as_is,
	              &w->scrub.done_bytes);
	metrics_gauge(m, "scaidrive_scrub_pass_bytes", "The scrub's pass under way.", "of=\"all\"", read_as_is, &w->scrub.all_bytes);
	metrics_gauge(m, "scaidrive_scrub_last_pass_timestamp_seconds", "When everything stored had been read again; 0: never yet.",
	              NULL, read_as_is, &w->scrub.passed_at);
	metrics_gauge(m, "scaidrive_chunks_damaged", "Chunks that are known to be damaged.", NULL, read_as_is, &w->scrub.marked);
}

static void write_removed(struct buf *out, const char *name, void *arg)
{
	(void)arg;
	for (int kind = 0; kind < HOUSEKEEPING_KINDS; kind++) {
		struct buf label = {0};
		metrics_label(&label, "kind", str_c(housekeeping_names[kind]));
		metrics_sample(out, name, buf_as_str(&label), housekeeping_removed((enum housekeeping_kind)kind));
		buf_fini(&label);
	}
}

static void register_metrics(struct worker *w, struct metrics *m)
{
	static const char rounds[] = "scaidrive_queue_jobs_processed_total", help[] = "Rounds of background work, by result.";
	for (size_t i = 0; i < job_count; i++) {
		struct worker_job *j = &w->jobs[i];
		char ok[96], failed[96], job[64];
		snprintf(ok, sizeof ok, "queue=\"%s\",result=\"ok\"", job_list[i]->name);
		snprintf(failed, sizeof failed, "queue=\"%s\",result=\"error\"", job_list[i]->name);
		snprintf(job, sizeof job, "job=\"%s\"", job_list[i]->name);
		j->ok = metrics_counter(m, rounds, help, ok);
		j->failed = metrics_counter(m, rounds, help, failed);
		j->items = metrics_counter(m, "scaidrive_job_items_total", "Things that background work dealt with.", job);
		j->bytes = metrics_counter(m, "scaidrive_job_bytes_total", "Bytes that background work dealt with.", job);
		metrics_gauge(m, "scaidrive_job_last_duration_milliseconds", "How long the last round of this node took.", job,
		              read_took_ms, j);
		metrics_gauge(m, "scaidrive_job_last_success_timestamp_seconds",
		              "When the last round without a fault ended, on any node; 0: never.", job, read_succeeded, j);
	}
	collect_metrics(m, w->drive);
	register_scrub(w, m);
	metrics_family(m, "scaidrive_housekeeping_removed_total", METRIC_COUNTER, "Rows whose time was over.", write_removed,
	               NULL);
}

struct worker *worker_start(struct drive *drive, struct metrics *metrics, int look_s)
{
	struct worker *w = calloc(1, sizeof *w);
	must(w && job_count <= JOBS_MAX);
	w->drive = drive;
	w->look_s = look_s;
	register_metrics(w, metrics);
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, &attr);
	pthread_condattr_destroy(&attr);
	must(pthread_create(&w->thread, NULL, work, w) == 0);
	return w;
}

void worker_stop(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

/* ---- scaidrived jobs ---- */

static const struct option_spec jobs_options[] = {
    {"json", NULL, "As JSON", NULL},
    {0},
};

static void put_moment(struct buf *b, int64_t us)
{
	if (us)
		buf_time(b, us);
	else
		buf_char(b, '-');
}

static void print_status(struct buf *b, const struct job_status *s)
{
	buf_fmt(b, "%-13s %6ds  ", s->job->name, s->job->period_s);
	put_moment(b, s->began_at);
	buf_fmt(b, "%*s", s->began_at ? 2 : 21, "");
	put_moment(b, s->due_at);
	buf_fmt(b, "%*s%-18.*s %9lld %14lld\n", s->due_at ? 2 : 21, "", STR_ARG(s->result), (long long)s->items,
	        (long long)s->bytes);
}

static void put_time(struct buf *b, struct str key, int64_t us)
{
	bool first = false;
	json_put_key(b, &first, key);
	if (!us) {
		buf_lit(b, "null");
		return;
	}
	buf_char(b, '"');
	buf_time(b, us);
	buf_char(b, '"');
}

static void print_status_json(struct buf *b, const struct job_status *s)
{
	buf_fmt(b, "{\"name\":\"%s\",\"period_s\":%d,\"rounds\":%lld,\"items\":%lld,\"bytes\":%lld,\"result\":", s->job->name,
	        s->job->period_s, (long long)s->rounds, (long long)s->items, (long long)s->bytes);
	json_put_str(b, s->result);
	put_time(b, STR("last_run"), s->began_at);
	put_time(b, STR("last_success"), s->succeeded_at);
	put_time(b, STR("next_due"), s->due_at);
	buf_lit(b, ",\"what\":");
	json_put_str(b, str_c(s->job->what));
	buf_lit(b, "}\n");
}

static int run_jobs(struct args *args)
{
	struct runtime rt;
	struct job_status all[JOBS_MAX];
	int code = runtime_open(&args->config, 0, &rt);
	if (code)
		return code;
	int err = job_status(&rt.drive, &rt.arena, all);
	bool json = arg(args, "json");
	struct buf b = {0};
	if (!err && !json)
		buf_fmt(&b, "%-13s %7s  %-20s  %-20s  %-18s %9s %14s\n", "job", "every", "last run", "next due", "result", "items",
		        "bytes");
	for (size_t i = 0; !err && i < job_count; i++)
		(json ? print_status_json : print_status)(&b, &all[i]);
	fwrite(b.p ? b.p : "", 1, b.n, stdout);
	buf_fini(&b);
	code = err ? runtime_fault(&rt, err) : 0;
	runtime_close(&rt);
	return code;
}

const struct command cmd_jobs = {"jobs", "List the background jobs: when they ran, and when they are due", jobs_options,
                                 run_jobs};

/* ---- scaidrived jobs run ---- */

static const struct option_spec jobs_run_options[] = {
    {"dry-run", NULL, "Change nothing; tell what a round would do", NULL},
    {"full", NULL, "From the beginning, round after round, until nothing is left", NULL},
    {0},
};

struct telling {
	int64_t n;
};

static void tell(void *arg, struct str what, int64_t bytes)
{
	struct telling *t = arg;
	if (t->n++ < TOLD_MAX)
		printf("  %.*s%s%.0lld%s\n", STR_ARG(what), bytes ? "  (" : "", (long long)bytes, bytes ? " bytes)" : "");
}

/* One round or, when all is wanted, as many as it takes. */
static int rounds(struct runtime *rt, const struct job *job, bool dry, bool full)
{
	struct telling telling = {0};
	struct job_result r;
	int64_t items = 0, bytes = 0;
	int busy = 0;
	bool begun = false;
	do {
		const struct job_run how = {.by_hand = true, .dry = dry, .state = full && !begun ? "" : NULL, .tell = tell,
		                            .tell_arg = &telling};
		int err = job_run(&rt->drive, job, &how, &r);
		if (err)
			return runtime_fault(rt, err);
		if (!r.ran && (!begun || ++busy > BUSY_MAX))
			return usage_fault("%s: a round of it is under way", job->name), 1;
		if (!r.ran) { /* the server was faster with the next round */
			r.more = true;
			sleep(1);
			continue;
		}
		begun = true;
		busy = 0;
		items += r.items;
		bytes += r.bytes;
	} while (full && r.more && !dry);
	if (telling.n > TOLD_MAX)
		printf("  and %lld more\n", (long long)(telling.n - TOLD_MAX));
	printf("%s: %lld items, %lld bytes%s%s\n", job->name, (long long)items, (long long)bytes, dry ? " to be dealt with" : "",
	       r.more && !dry ? "; there is more to do (--full)" : "");
	return 0;
}

static int run_jobs_run(struct args *args)
{
	struct runtime rt;
	const char *name = args->operands[0];
	const struct job *job = job_find(str_c(name));
	if (!job)
		return usage_fault("there is no job \"%s\" (see: scaidrived jobs)", name);
	int code = runtime_open(&args->config, job->packs ? RUNTIME_READ : 0, &rt);
	if (code)
		return code;
	code = rounds(&rt, job, arg(args, "dry-run"), arg(args, "full"));
	runtime_close(&rt);
	return code;
}

const struct command cmd_jobs_run = {"jobs run", "Do a round of a job now, beside a running server or without one",
                                     jobs_run_options, run_jobs_run, "NAME"};
