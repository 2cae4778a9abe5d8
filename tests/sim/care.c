/* The server's jobs between requests: what they delete must be nobody's any more. The collector does a few of its steps at a time, so
 * that requests, crashes and days come between them. */
#include "base/must.h"
#include "drive/collect.h"
#include "sim.h"

static bool go_on(void *arg, int64_t bytes)
{
	struct server *v = arg;
	(void)bytes;
	return --v->collect_steps > 0;
}

/* Nothing may keep a job from its work but the disk. */
static void judge(struct sim *s, const char *name, int err)
{
	if (err && !s->faulty)
		sim_violation(s, "the job %s fails: %s", name, err_info(err)->symbol);
}

static int collect(struct server *v, int steps, bool alone)
{
	struct collect_totals t;
	bool done = false;
	if (!v->collection)
		v->collection = collection_new(&(struct collection_config){.drive = &v->drive, .alone = alone, .go_on = go_on, .arg = v});
	v->collect_steps = steps;
	int err = collection_go_on(v->collection, &done);
	collection_totals(v->collection, &t);
	sim_note(v->sim, "collector: %s, %lld condemned, %lld removed, %lld packs deleted%s", err ? err_info(err)->symbol : "ok",
	         (long long)t.sweep.condemned, (long long)t.sweep.removed, (long long)t.packs.deleted, done ? ", done" : "");
	if (done || err)
		care_end(v);
	return err;
}

void care_end(struct server *v)
{
	collection_free(v->collection);
	v->collection = NULL;
}

static void work(struct server *v, const struct job *job)
{
	struct job_result r;
	int err = job_run(&v->drive, job, &(struct job_run){.by_hand = true}, &r);
	sim_note(v->sim, "job %s: %s, %lld items", job->name, err ? err_info(err)->symbol : "ok", (long long)r.items);
	judge(v->sim, job->name, err);
}

void care_act(struct server *v, struct rng *rng)
{
	static const struct job *const jobs[] = {&job_housekeeping, &job_versions, &job_trash, &job_scrub};
	static const int64_t pass_s[] = {0, 0, 1200, 4200, 4200, 4 * 3600, 31 * 86400, 100 * 86400};
	v->sim->now_us += SECONDS_US(pass_s[rng_below(rng, sizeof(pass_s) / sizeof(*pass_s))]);
	if (!v->open)
		return;
	if (rng_below(rng, 3))
		judge(v->sim, "collect", collect(v, rng_below(rng, 3) ? 1 + (int)rng_below(rng, 4) : 1000, false));
	else
		work(v, jobs[rng_below(rng, sizeof(jobs) / sizeof(*jobs))]);
	if (server_is_dead(v))
		server_stop(v);
}

void care_clean(struct server *v)
{
	server_stop(v);
	server_start(v);
	if (v->open && collect(v, 1000000, true))
		sim_violation(v->sim, "the collector fails");
}
