/* scaidrive sync: keeps a share and a folder in step; once, or until it is stopped. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "bin/client.h"
#include "client/daemon.h"
#include "client/journal.h"
#include "client/trash.h"

enum { TRANSFERS = 4, PROBLEMS_SHOWN = 10 };

struct sync {
	struct client *c;
	struct arena arena; /* of the daemon's loop */
	struct ctx ctx;
	struct str share, share_name, path;
	struct replica replica;
	struct root *root;
	struct agent agent;
	struct lane *lane;
	struct journal journal;
	const char *file;            /* of the replica */
	struct map may_delete;       /* what a person agreed to (guard_each), until a sync ends without asking */
	int lock;                    /* on the replica, from before it is read; -1: none */
	int64_t purged_us;           /* when the trash was gone through last, monotonic; 0: never */
	bool terminal, line_is_open; /* a progress line is being rewritten */
	bool told_fault, told_held;
	uint64_t told_problems;      /* hash of those printed last; 0: none */
	int64_t told_at_us; /* when progress was shown last, monotonic */
};

static void end_line(struct sync *s)
{
	if (s->line_is_open)
		terminal_clear_line();
	s->line_is_open = false;
}

static void put_pair(struct buf *b, const char *key, struct str value)
{
	bool first = b->n > 0 && b->p[b->n - 1] == '{';
	json_put_key(b, &first, str_c(key));
	json_put_str(b, value);
}

static void emit_later(struct buf *b)
{
	if (b->n)
		fwrite(b->p, 1, b->n, stdout);
	buf_fini(b);
}

static void emit(struct buf *b)
{
	emit_later(b);
	fflush(stdout);
}

static const char *in_words(const char *verb)
{
	static const char *const words[][2] = {
	    {"make_local", "made here"},      {"fetch", "received"},           {"move_local", "moved here"},
	    {"trash_local", "trashed here"},  {"detach", "kept as a copy"},    {"make_remote", "made on the server"},
	    {"send", "sent"},                 {"send_version", "sent"},        {"move_remote", "moved on the server"},
	    {"trash_remote", "trashed on the server"}, {"set_mode_local", "mode changed here"},
	    {"set_mode_remote", "mode changed there"},
	};
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (strcmp(words[i][0], verb) == 0)
			return words[i][1];
	return verb;
}

static void on_event(void *arg, const struct agent_event *e)
{
	struct sync *s = arg;
	struct buf b = {0};
	journal_add(&s->journal, e, clock_now(s->ctx.clock));
	if (strcmp(e->verb, "record") == 0 || strcmp(e->verb, "forget") == 0)
		return; /* only a memory changed */
	end_line(s);
	if (s->c->json) {
		buf_char(&b, '{');
		put_pair(&b, "event", str_c(e->verb));
		put_pair(&b, "path", e->path);
		put_pair(&b, "reason", str_c(e->reason));
		buf_fmt(&b, ",\"case\":%d,\"ok\":%s", e->case_no, e->err ? "false" : "true");
		if (e->err) {
			put_pair(&b, "code", str_c(err_info(e->err)->code));
			put_pair(&b, "detail", e->detail);
		}
		buf_lit(&b, "}\n");
	} else if (!e->err) {
		buf_fmt(&b, "%-22s %.*s  (%s)\n", in_words(e->verb), STR_ARG(e->path), e->reason);
	}
	emit_later(&b); /* of many files at once: on_progress or the summary comes behind */
}

static void on_progress(void *arg, size_t done, size_t total, int64_t bytes)
{
	struct sync *s = arg;
	int64_t now = clock_mono(s->ctx.clock);
	fflush(stdout);
	if (!s->terminal || s->c->json || now - s->told_at_us < MILLIS_US(150))
		return;
	if (!s->told_at_us) {
		s->told_at_us = now; /* what is done at once needs no line */
		return;
	}
	s->told_at_us = now;
	terminal_clear_line();
	fprintf(stderr, "%zu of %zu, %.1f MB", done, total, (double)bytes / 1e6);
	s->line_is_open = true;
}

/* The server's rate limit is reached; from any thread. */
static void on_waiting(void *arg, struct ctx *ctx, int seconds)
{
	struct sync *s = arg;
	struct buf b = {0};
	if (s->c->json) {
		buf_fmt(&b, "{\"event\":\"waiting\",\"seconds\":%d}\n", seconds);
		emit(&b);
	} else {
		if (s->terminal) /* whether a progress line is open there the other threads know */
			terminal_clear_line();
		fprintf(stderr, "scaidrive: The server's rate limit is reached; going on in %d s.\n", seconds);
	}
	if (s->file)
		client_note_waiting(ctx, s->file, clock_now(ctx->clock) + SECONDS_US(seconds));
}

/* For people: the first few, and only when they are not the ones told last. --json carries them all, every time. */
static void print_problems(struct sync *s)
{
	struct agent *a = &s->agent;
	uint64_t told = 0;
	for (size_t i = 0; i < a->n_problems; i++)
		told = told * 31 + xxh3_64(a->problems[i].path, strlen(a->problems[i].path)) +
		       xxh3_64(a->problems[i].what, strlen(a->problems[i].what));
	if (s->c->json || told == s->told_problems)
		return;
	s->told_problems = told;
	for (size_t i = 0; i < a->n_problems && i < PROBLEMS_SHOWN; i++)
		fprintf(stderr, "  %s: %s\n", *a->problems[i].path ? a->problems[i].path : "/", a->problems[i].what);
	if (a->n_problems > PROBLEMS_SHOWN)
		fprintf(stderr, "  ... and %zu more (--json lists them all)\n", a->n_problems - PROBLEMS_SHOWN);
}

static void print_summary(struct sync *s, const struct agent_round *round)
{
	const struct agent_stats *t = &s->agent.stats;
	struct buf b = {0};
	size_t items = s->replica.trees[REPLICA_SYNCED].count;
	end_line(s);
	if (!s->c->json) {
		buf_fmt(&b, "%s: %zu items; sent %lld files (%lld bytes), received %lld files (%lld bytes).\n",
		        round->in_step ? "In step" : "Not all could be synced", items, (long long)t->sent_files,
		        (long long)t->sent_bytes, (long long)t->fetched_files, (long long)t->fetched_bytes);
		emit(&b);
		print_problems(s);
		return;
	}
	buf_fmt(&b,
	        "{\"event\":\"settled\",\"in_step\":%s,\"items\":%zu,\"sent_files\":%lld,\"sent_bytes\":%lld,"
	        "\"received_files\":%lld,\"received_bytes\":%lld,\"moved\":%lld,\"trashed\":%lld,\"copies\":%lld,\"cursor\":%lld,"
	        "\"problems\":[",
	        round->in_step ? "true" : "false", items, (long long)t->sent_files, (long long)t->sent_bytes,
	        (long long)t->fetched_files, (long long)t->fetched_bytes, (long long)t->moved, (long long)t->trashed,
	        (long long)t->copies, (long long)s->replica.cursor);
	for (size_t i = 0; i < s->agent.n_problems; i++) {
		buf_str(&b, i ? STR(",{") : STR("{"));
		put_pair(&b, "path", str_c(s->agent.problems[i].path));
		put_pair(&b, "detail", str_c(s->agent.problems[i].what));
		buf_char(&b, '}');
	}
	buf_lit(&b, "]}\n");
	emit(&b);
}

/* Said once; then again after it has worked. */
static void tell_away(struct sync *s, int err, struct str why)
{
	struct buf b = {0};
	end_line(s);
	if (!s->c->json && !s->told_fault)
		fprintf(stderr, "scaidrive: %.*s Trying again until it works.\n", STR_ARG(why));
	if (s->c->json) {
		buf_char(&b, '{');
		put_pair(&b, "event", STR("fault"));
		put_pair(&b, "code", str_c(err_info(err)->code));
		put_pair(&b, "detail", why);
		buf_lit(&b, "}\n");
		emit(&b);
	}
	s->told_fault = true;
}

/* A plan waits for a person's word. */
static void tell_held(struct sync *s, struct str why, const struct agent_round *round)
{
	struct buf b = {0};
	if (s->told_held)
		return;
	s->told_held = true;
	if (!s->c->json) {
		fprintf(stderr, "scaidrive: %.*s\n", STR_ARG(why));
		return;
	}
	buf_fmt(&b, "{\"event\":\"held\",\"deletes_on_server\":%zu,\"deletes_here\":%zu", round->guard.remote, round->guard.local);
	put_pair(&b, "detail", why);
	buf_lit(&b, "}\n");
	emit(&b);
}

/* ---- starting ---- */

/* The server does not answer as it should now, and may later. E_IO, E_CORRUPT and E_NO_SPACE are more likely this machine's, whose
 * state is read and written on the way. */
static bool is_away(int err)
{
	switch (err) {
	case E_NETWORK:
	case E_RATE_LIMITED:
	case E_UPSTREAM:
	case E_BUSY:
	case E_TIMEOUT:
	case E_SHUTDOWN:
	case E_READ_ONLY:
	case E_INTERNAL:
	case E_DB:
		return true;
	default:
		return false;
	}
}

struct knowing {
	struct sync *s;
	struct str word;
	bool found;
};

static bool know(void *arg, struct replica *r, const char *file)
{
	struct knowing *k = arg;
	(void)file;
	if (!r->marked || !str_eq(r->path, k->s->path) || (!str_eq(r->share, k->word) && !str_eq(r->share_name, k->word)))
		return true;
	k->s->share = arena_str(&k->s->c->arena, r->share);
	k->s->share_name = arena_str(&k->s->c->arena, r->share_name);
	k->found = true;
	return false;
}

/* A share that this folder was synced with before, by its id or name. */
static bool find_known(struct sync *s, struct str word)
{
	struct knowing k = {.s = s, .word = word};
	if (client_each_folder(s->c, know, &k))
		ctx_clear(&s->c->ctx);
	return k.found;
}

static int wait_a_while(struct sync *s, int64_t *pause_us)
{
	int64_t end = clock_mono(s->ctx.clock) + daemon_pause_us(s->ctx.rng, pause_us);
	while (clock_mono(s->ctx.clock) < end && !client_stopping(NULL))
		client_pause_ms(s, 200);
	return client_stopping(NULL) ? E_CANCELLED : 0;
}

/* Its share, and the server knows this device. With a folder that was synced before nobody waits for the server here. */
static int meet_server(struct sync *s, const char *share)
{
	struct client *c = s->c;
	int64_t pause_us = 0;
	for (;;) {
		int err = client_find_share(c, share, &s->share, &s->share_name);
		if (!err)
			err = remote_register(&c->ctx, &c->remote, c->state.device_name);
		if (!is_away(err) || c->once)
			return err;
		tell_away(s, err, ctx_detail(&c->ctx, err));
		ctx_clear(&c->ctx);
		if (find_known(s, str_c(share)))
			return 0;
		err = wait_a_while(s, &pause_us);
		if (err)
			return err;
	}
}

/* Nobody else writes to what this device knows about the folder: the folder's own lock comes later, and may be on another disk. */
static int lock_replica(struct sync *s)
{
	struct ctx *ctx = &s->c->ctx;
	char *path = arena_cstr(ctx->arena, arena_fmt(ctx->arena, "%.*s.lock", (int)strlen(s->file) - 3, s->file));
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return ctx_fail(ctx, err_from_errno(errno), "cannot open %s: %s", path, strerror(errno));
	if (flock(s->lock, LOCK_EX | LOCK_NB))
		return ctx_fail(ctx, E_LEASE, "Another process is syncing %.*s. Stop it first (see `scaidrive status`).", STR_ARG(s->path));
	return 0;
}

static int open_all(struct sync *s, const char *share, const char *dir)
{
	struct client *c = s->c;
	int err = client_connect(c, true);
	c->patience.tell = on_waiting;
	c->patience.arg = s;
	if (!err)
		err = client_real_path(c, dir, 1, &s->path);
	if (!err)
		err = meet_server(s, share);
	if (!err)
		s->file = state_root_file(&c->arena, &c->state, s->share, s->path).p;
	if (!err)
		err = lock_replica(s);
	if (!err)
		err = replica_open(&c->ctx, s->file, &s->replica);
	if (err)
		return err;
	journal_open(&s->journal, client_journal_file(c, s->file));
	bool fresh = !s->replica.marked;
	replica_set_str(&s->replica, &s->replica.share, s->share);
	replica_set_str(&s->replica, &s->replica.share_name, s->share_name);
	replica_set_str(&s->replica, &s->replica.path, s->path);
	err = replica_flush(&c->ctx, &s->replica);
	if (!err)
		err = root_open(&c->ctx, s->path.p, fresh, &(struct root_mark){s->replica.marker, s->share, client_server_url(c)}, &s->root);
	if (!err && fresh) {
		s->replica.marked = s->replica.meta_dirty = true;
		err = replica_flush(&c->ctx, &s->replica);
	}
	return err;
}

static void close_all(struct sync *s)
{
	agent_fini(&s->agent);
	journal_close(&s->journal);
	if (s->lane)
		lane_free(s->lane);
	root_free(s->root);
	if (s->replica.db)
		replica_close(&s->replica);
	if (s->lock >= 0)
		close(s->lock);
	map_fini(&s->may_delete);
	arena_fini(&s->arena);
}

/* ---- running ---- */

static void agree(void *arg, uint64_t item)
{
	static char yes;
	map_put(arg, item, &yes);
}

struct asking {
	const struct map *may;
	bool all;
};

static void ask(void *arg, uint64_t item)
{
	struct asking *a = arg;
	a->all &= map_get(a->may, item) != NULL;
}

/* The word is for what it was asked about; a sync that carries it out in several rounds asks about ever less of that. */
static bool confirmed(void *arg, const struct plan *p, const struct guard_verdict *v)
{
	struct sync *s = arg;
	const struct tree *remote = &s->replica.trees[REPLICA_REMOTE];
	struct asking asking = {&s->may_delete, true};
	int64_t which;
	if (client_take_word(s->c, s->file, &which) && which == (int64_t)v->which)
		guard_each(p, remote, agree, &s->may_delete);
	guard_each(p, remote, ask, &asking);
	return asking.all;
}

/* A word that was not needed, or was used, is no word for what comes later. */
static void forget_word(struct sync *s)
{
	int64_t which;
	client_take_word(s->c, s->file, &which);
	map_fini(&s->may_delete);
	s->may_delete = (struct map){0};
}

static void keep_house(struct sync *s)
{
	struct trash_purged gone;
	int64_t now = clock_mono(s->ctx.clock);
	if (s->purged_us && now - s->purged_us < SECONDS_US(3600))
		return;
	s->purged_us = now;
	int keep_days = trash_age_doubtful(&s->replica.aged_us, clock_now(s->ctx.clock)) ? 0 : s->c->settings.keep_days;
	s->replica.meta_dirty = true;
	trash_purge(&s->ctx, s->root, keep_days, s->c->settings.keep_bytes, &gone);
	ctx_clear(&s->ctx); /* what cannot be deleted now is met again in an hour */
}

/* What `scaidrive status` shows. */
static void keep_problem(struct sync *s, struct ctx *ctx, int err, const struct agent_round *round)
{
	s->replica.held_remote = err == E_PRECONDITION ? (int64_t)round->guard.remote : 0;
	s->replica.held_local = err == E_PRECONDITION ? (int64_t)round->guard.local : 0;
	s->replica.held_which = err == E_PRECONDITION ? (int64_t)round->guard.which : 0;
	s->replica.meta_dirty = true;

	struct str text = err ? arena_str(ctx->arena, ctx_detail(ctx, err)) : STR_NULL;
	struct ctx own;
	const struct agent *a = &s->agent;
	ctx_init(&own, ctx->arena, ctx->clock, ctx->rng);
	if (!err && a->n_problems) {
		text = arena_fmt(ctx->arena, "%s: %s", *a->problems[0].path ? a->problems[0].path : "/", a->problems[0].what);
		if (a->n_problems > 1)
			text = arena_fmt(ctx->arena, "%.*s (and %zu more)", STR_ARG(text), a->n_problems - 1);
	}
	replica_set_problem(&s->replica, text, clock_now(ctx->clock));
	replica_flush(&own, &s->replica); /* a courtesy: what stops it stops the next round too, and is told then */
}

static void on_settled(void *arg, struct ctx *ctx, int err, const struct agent_round *round)
{
	struct sync *s = arg;
	static const struct agent_stats none;
	end_line(s);
	journal_flush(&s->journal);
	fflush(stdout);
	if (err == E_CANCELLED)
		return;
	keep_problem(s, ctx, err, round);
	if (err == E_PRECONDITION) {
		tell_held(s, ctx_detail(ctx, err), round);
		return;
	}
	s->told_held = false;
	if (err) {
		tell_away(s, err, ctx_detail(ctx, err));
		return;
	}
	if (s->told_fault && !s->c->json)
		fputs("scaidrive: It works again.\n", stderr);
	s->told_fault = false;
	forget_word(s);
	keep_house(s);
	struct agent_stats *t = &s->agent.stats;
	t->rounds = 0;
	if (memcmp(t, &none, sizeof none) != 0 || s->agent.n_problems)
		print_summary(s, round);
	*t = none;
}

static void on_notice(void *arg, struct str sentence)
{
	end_line(arg);
	fprintf(stderr, "scaidrive: %.*s\n", STR_ARG(sentence));
}

static int run_daemon(struct sync *s)
{
	struct daemon d = {.agent = &s->agent, .root_path = s->path.p, .stopping = client_stopping, .on_settled = on_settled,
	                   .on_notice = on_notice, .arg = s};
	if (!s->c->json)
		printf("Syncing %.*s with %.*s. Stop with Ctrl-C.\n", STR_ARG(s->path), STR_ARG(s->share_name));
	fflush(stdout);
	int err = daemon_run(&s->ctx, &d);
	end_line(s);
	if (err) {
		struct str detail = ctx_detail(&s->ctx, err);
		ctx_fail(&s->c->ctx, err, "%.*s", STR_ARG(detail));
	}
	return err;
}

static int sync_run(struct client *c)
{
	if (c->dry_run)
		return client_look(c);
	struct sync s = {.c = c, .lock = -1, .terminal = isatty(STDERR_FILENO)};
	struct agent_round round = {0};
	arena_init(&s.arena);
	ctx_init(&s.ctx, &s.arena, c->ctx.clock, c->ctx.rng);
	int err = open_all(&s, c->words[1], c->words[2]);
	if (!err) {
		agent_init(&s.agent, s.root, &s.replica, &c->remote);
		s.lane = s.agent.lane = lane_new("transfer", TRANSFERS, 1024);
		s.agent.device_name = c->state.device_name;
		s.agent.allow_mass_delete = c->allow_mass_delete;
		s.agent.confirmed = confirmed;
		s.agent.on_event = on_event;
		s.agent.on_progress = on_progress;
		s.agent.pause = client_pause_ms;
		s.agent.arg = &s;
		err = c->once ? agent_settle(&c->ctx, &s.agent, &round) : run_daemon(&s);
		if (c->once && err != E_CANCELLED)
			keep_problem(&s, &c->ctx, err, &round);
		if (c->once && !err) {
			forget_word(&s);
			keep_house(&s);
		}
	}
	if (err == E_CANCELLED && !c->once)
		err = 0; /* told to stop while it was still starting: no fault */
	if (!err && c->once)
		print_summary(&s, &round);
	end_line(&s);
	close_all(&s);
	if (err) {
		int code = client_fault(c, err);
		return err == E_PRECONDITION ? EXIT_GUARD : code;
	}
	return c->once && !round.in_step ? EXIT_PROBLEMS : EXIT_OK;
}

const struct client_command client_sync = {"sync", "SHARE LOCALDIR", "Keep a share and a folder in step", 2, 2, sync_run};
