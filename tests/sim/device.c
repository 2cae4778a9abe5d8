/* One client on one machine. */
#include <stdio.h>

#include "base/must.h"
#include "reconcile/guard.h"
#include "sim.h"

enum { SETTLE_ROUNDS = 6 };

static void on_pause(void *arg, int ms)
{
	struct device *d = arg;
	d->sim->now_us += MILLIS_US(ms);
	sim_hook(d->sim, d);
}

static void on_event(void *arg, const struct agent_event *e)
{
	struct device *d = arg;
	sim_note(d->sim, "d%d: %s \"%.*s\" (%d, %s)%s%s %.*s", d->number, e->verb, STR_ARG(e->path), e->case_no, e->reason,
	         e->err ? " fails: " : "", e->err ? err_info(e->err)->symbol : "", STR_ARG(e->err ? e->detail : STR("")));
	d->trashed += !e->err && strcmp(e->verb, "trash_local") == 0;
}

/* What the guard is for, counted by ourselves (reconcile/guard.h has the bounds). */
static void check_deletions(struct device *d, size_t agreed)
{
	if (!d->allow_mass_delete && d->trashed >= GUARD_LEAST && d->trashed > agreed / 2)
		sim_violation(d->sim, "d%d: %zu of %zu nodes were deleted here, and nobody was asked", d->number, d->trashed, agreed);
}

static struct ctx device_ctx(struct device *d, struct arena *a)
{
	struct ctx ctx;
	arena_init(a);
	ctx_init(&ctx, a, &d->clock.clock, &d->rng.base);
	return ctx;
}

static int open_state(struct device *d, struct ctx *ctx)
{
	char file[32];
	snprintf(file, sizeof(file), STATE_NAME "?vfs=sim%d", d->number + 1);
	int err = replica_open(ctx, file, &d->replica);
	if (err)
		return err;
	struct str share = arena_fmt(&d->sim->arena, "%s", "");
	struct buf wire = {0};
	buf_id(&wire, ID_SHARE, d->sim->server.share_ids[d->share]);
	share = arena_str(&d->sim->arena, buf_as_str(&wire));
	buf_fini(&wire);
	replica_set_str(&d->replica, &d->replica.share, share);
	err = replica_flush(ctx, &d->replica);
	if (err)
		replica_close(&d->replica);
	return err;
}

void device_make_state(struct sim *s, struct disk *disk)
{
	struct device d = {.sim = s, .disk = disk};
	struct arena arena;
	sim_clock_init(&d.clock, s);
	rng_seeded_init(&d.rng, 1);
	struct ctx ctx = device_ctx(&d, &arena);
	must(replica_open(&ctx, STATE_NAME "?vfs=sim1", &d.replica) == 0);
	replica_close(&d.replica);
	arena_fini(&arena);
}

int device_start(struct device *d)
{
	struct arena arena;
	must(!d->open);
	d->dead = false;
	if (d->lost_state) {
		d->disk->ops->unlink(d->disk, STATE_NAME);
		d->disk->ops->unlink(d->disk, STATE_NAME "-wal");
		d->disk->ops->sync_dir(d->disk, "");
		d->lost_state = false;
	}
	struct ctx ctx = device_ctx(d, &arena);
	int err = open_state(d, &ctx);
	sim_note(d->sim, "d%d starts%s%s", d->number, err ? ": " : "", err ? err_info(err)->symbol : "");
	/* A state that cannot be read is a violation unless its disk failed. */
	if (err && !disk_fault_is_dead(d->disk) && err != E_NO_SPACE && d->sim->calm)
		sim_violation(d->sim, "d%d: its state cannot be opened: %.*s", d->number, STR_ARG(ctx_detail(&ctx, err)));
	arena_fini(&arena);
	if (err)
		return err;
	d->root = root_sim_new(d);
	d->http = net_client(d);
	d->remote = (struct remote){.http = &d->http, .token = d->token, .device_id = arena_fmt(&d->sim->arena, "device-%d", d->number)};
	agent_init(&d->agent, d->root, &d->replica, &d->remote);
	d->agent.device_name = arena_fmt(&d->sim->arena, "machine %d", d->number);
	d->agent.on_event = on_event;
	d->agent.pause = on_pause;
	d->agent.arg = d;
	d->open = true;
	d->registered = false;
	return 0;
}

/* As `scaidrive sync` does when it starts: a device that was never known needs its server first. */
static int meet_server(struct device *d, struct ctx *ctx)
{
	int err = d->registered ? 0 : remote_register(ctx, &d->remote, d->agent.device_name);
	d->registered = !err;
	return err;
}

void device_stop(struct device *d, bool power)
{
	if (d->open) {
		disk_fault_die(d->disk, 0);
		agent_fini(&d->agent);
		root_free(d->root);
		replica_close(&d->replica);
	}
	d->open = false;
	d->dead = false;
	d->die_in = d->root_fault_in = 0;
	d->writer_left = power ? 0 : d->writer_left;
	sim_note(d->sim, "d%d ends%s", d->number, power ? ", and the power fails" : "");
	if (power) {
		oracle_at_risk(d->sim);
		disk_fault_crash(d->disk);
		fs_power_fails(&d->fs, &d->rng.base);
	} else {
		disk_fault_restart(d->disk);
	}
	disk_fault_capacity(d->disk, -1);
	d->fs.space = -1;
	if (power)
		oracle_lost(d->sim);
}

void device_die_soon(struct device *d, struct rng *rng)
{
	d->power = rng_below(rng, 2);
	if (rng_below(rng, 3) == 0)
		disk_fault_die(d->disk, 1 + (int64_t)rng_below(rng, 40));
	else
		d->die_in = 1 + (int)rng_below(rng, 60);
}

static void tell(struct device *d, int err, const struct agent_round *r)
{
	sim_note(d->sim, "d%d round: %s, %zu planned, %zu done, %zu failed, %zu waiting%s", d->number,
	         err ? err_info(err)->symbol : "ok", r->planned, r->done, r->failed, r->waiting, r->in_step ? ", in step" : "");
}

void device_round(struct device *d, bool settle)
{
	struct arena arena;
	struct agent_round r = {0};
	if (d->busy || (!d->open && device_start(d)))
		goto bury;
	d->busy = true;
	struct ctx ctx = device_ctx(d, &arena);
	d->done = 0;
	int err = meet_server(d, &ctx);
	for (int i = 0; i < (settle ? SETTLE_ROUNDS : 1) && !err && !r.in_step; i++) {
		d->agent.scan_wanted |= i == 0;
		d->agent.allow_mass_delete = d->allow_mass_delete;
		d->trashed = 0;
		size_t agreed = d->replica.trees[REPLICA_SYNCED].count;
		err = agent_round(&ctx, &d->agent, &r);
		check_deletions(d, agreed);
		tell(d, err, &r);
		d->done += r.done;
		for (size_t k = 0; d->sim->verbose && k < d->agent.n_problems; k++)
			sim_note(d->sim, "    %s: %s", d->agent.problems[k].path, d->agent.problems[k].what);
		if (d->agent.unsettled && !err)
			on_pause(d, 40);
	}
	if (err == E_PRECONDITION)
		d->allow_mass_delete = true; /* whoever deleted all that says so */
	d->in_step = !err && r.in_step;
	arena_fini(&arena);
	d->busy = false;
	/* After a failed sync its database takes no more writes until it is started again. */
	if (err == E_READ_ONLY || err == E_DB)
		device_stop(d, false);
bury:
	if (!d->busy && (d->dead || disk_fault_is_dead(d->disk)))
		device_stop(d, d->power);
}
