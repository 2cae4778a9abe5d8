/* scaidrive status: who this device is and how its folders stand, from its own memory; the server is not asked. */
#include "base/json.h"
#include "bin/client.h"

static void put_field(struct buf *b, const char *key, struct str value)
{
	buf_fmt(b, "\"%s\":", key);
	json_put_str(b, value);
}

static void put_root(struct client *c, struct buf *b, bool first, const struct replica *r)
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
	if (r->last_sync_us) {
		buf_char(b, '"');
		buf_time(b, r->last_sync_us);
		buf_char(b, '"');
	} else {
		buf_lit(b, "null");
	}
	buf_fmt(b, ",\"held\":{\"deletes_on_server\":%lld,\"deletes_here\":%lld}", (long long)r->held_remote, (long long)r->held_local);
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
	(void)file;
	put_root(l->c, l->b, !l->begun, r);
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
