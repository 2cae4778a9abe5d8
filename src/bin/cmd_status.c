/* scaidrive status: who this device is and how its folders stand, from its own memory; the server is not asked. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "bin/client.h"

static char *waiting_file(struct arena *a, const char *replica_file)
{
	return arena_cstr(a, arena_fmt(a, "%.*s.waiting", (int)(strlen(replica_file) - 3), replica_file));
}

void client_note_waiting(struct ctx *ctx, const char *replica_file, int64_t until_us)
{
	struct str text = arena_fmt(ctx->arena, "%lld\n", (long long)until_us);
	AUTO_FD int fd = open(waiting_file(ctx->arena, replica_file), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text.p, text.n) != (ssize_t)text.n)
		log_warn("the wait cannot be noted for status");
}

/* Wall clock; 0: its sync does not wait. */
static int64_t waits_until(struct client *c, const char *replica_file)
{
	char text[64];
	int64_t until = 0;
	AUTO_FD int fd = open(waiting_file(&c->arena, replica_file), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text);
	if (n <= 0 || !str_to_i64(str_trim(str_n(text, (size_t)n)), &until))
		return 0;
	return until > clock_now(c->ctx.clock) ? until : 0;
}

static void put_field(struct buf *b, const char *key, struct str value)
{
	buf_fmt(b, "\"%s\":", key);
	json_put_str(b, value);
}

/* 0: null */
static void put_time(struct buf *b, int64_t us)
{
	if (!us) {
		buf_lit(b, "null");
		return;
	}
	buf_char(b, '"');
	buf_time(b, us);
	buf_char(b, '"');
}

static void put_root(struct client *c, struct buf *b, bool first, const struct replica *r, int64_t waiting_us)
{
	size_t items = r->trees[REPLICA_SYNCED].count;
	if (!c->json) {
		buf_fmt(b, "%.*s\n  share      %.*s (%.*s)\n  in step    %zu items, ", STR_ARG(r->path), STR_ARG(r->share_name),
		        STR_ARG(r->share), items);
		if (r->last_sync_us)
			buf_time(b, r->last_sync_us);
		else
			buf_lit(b, "never");
		buf_fmt(b, "\n  position   %lld\n", (long long)r->cursor);
		if (waiting_us) {
			buf_lit(b, "  waiting    for the server's rate limit until ");
			buf_time(b, waiting_us);
			buf_char(b, '\n');
		}
		if (r->problem.p) {
			buf_lit(b, "  problem    since ");
			buf_time(b, r->problem_us);
			buf_fmt(b, ": %.*s\n", STR_ARG(r->problem));
		}
		return;
	}
	if (!first)
		buf_char(b, ',');
	buf_char(b, '{');
	put_field(b, "path", r->path);
	buf_char(b, ',');
	put_field(b, "share_id", r->share);
	buf_char(b, ',');
	put_field(b, "share", r->share_name);
	buf_fmt(b, ",\"items\":%zu,\"cursor\":%lld,\"last_sync_at\":", items, (long long)r->cursor);
	put_time(b, r->last_sync_us);
	buf_fmt(b, ",\"held\":{\"deletes_on_server\":%lld,\"deletes_here\":%lld}", (long long)r->held_remote, (long long)r->held_local);
	buf_lit(b, ",\"waiting_until\":");
	put_time(b, waiting_us);
	if (r->problem.p) {
		buf_char(b, ',');
		put_field(b, "problem", r->problem);
		buf_lit(b, ",\"problem_since\":\"");
		buf_time(b, r->problem_us);
		buf_lit(b, "\"}");
	} else {
		buf_lit(b, ",\"problem\":null,\"problem_since\":null}");
	}
}

struct listing {
	struct client *c;
	struct buf *b;
	bool begun;
};

static bool list_root(void *arg, struct replica *r, const char *file)
{
	struct listing *l = arg;
	put_root(l->c, l->b, !l->begun, r, waits_until(l->c, file));
	l->begun = true;
	return true;
}

static int status(struct client *c)
{
	struct buf b = {0};
	if (c->json) {
		buf_char(&b, '{');
		put_field(&b, "device_id", c->state.device_id);
		buf_char(&b, ',');
		put_field(&b, "device_name", c->state.device_name);
		buf_char(&b, ',');
		put_field(&b, "server", c->state.server);
		buf_char(&b, ',');
		put_field(&b, "email", c->state.email);
		buf_lit(&b, ",\"logged_in\":");
		json_put_bool(&b, c->state.token.p != NULL);
		buf_lit(&b, ",\"folders\":[");
	} else {
		buf_fmt(&b, "device     %.*s (%.*s)\nserver     %.*s\n", STR_ARG(c->state.device_name), STR_ARG(c->state.device_id),
		        STR_ARG(c->state.server.p ? c->state.server : STR("not logged in")));
	}
	int err = client_each_folder(c, list_root, &(struct listing){c, &b, false});
	if (c->json)
		buf_lit(&b, "]}\n");
	if (!err)
		fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
	return err ? client_fault(c, err) : EXIT_OK;
}

const struct client_command client_status = {"status", "", "Show this device and how its folders stand", 0, 0, status};
