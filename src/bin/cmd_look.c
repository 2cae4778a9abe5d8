/* scaidrive sync --dry-run: what a sync would do, and why. Nothing is changed, here or on the server. */
#include <unistd.h>

#include "base/json.h"
#include "bin/client.h"
#include "client/agent.h"

enum { LOOKS_MAX = 20, LOOK_AGAIN_MS = 50 };

struct looking {
	struct client *c;
	struct str share, share_name, path;
};

static void on_item(void *arg, const struct plan_op *op, struct str path, struct str why)
{
	struct looking *l = arg;
	struct buf b = {0};
	if (op->verb == PLAN_RECORD || op->verb == PLAN_FORGET)
		return; /* only a memory would change */
	if (l->c->json) {
		buf_fmt(&b, "{\"event\":\"would\",\"operation\":\"%s\",\"case\":%d,", plan_verb_name(op->verb), op->case_no);
		buf_lit(&b, "\"path\":");
		json_put_str(&b, path);
		buf_lit(&b, ",\"why\":");
		json_put_str(&b, why);
		buf_lit(&b, "}\n");
	} else {
		buf_fmt(&b, "%.*s\n    %.*s\n", STR_ARG(path), STR_ARG(why));
	}
	fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
}

static void print_end(struct looking *l, const struct agent *a, const struct agent_round *r)
{
	if (l->c->json) {
		struct buf b = {0};
		buf_fmt(&b, "{\"event\":\"dry_run\",\"in_step\":%s,\"operations\":%zu,\"waiting\":%zu,\"needs_confirmation\":%s,\"deletes_here\":%zu,"
		            "\"deletes_on_server\":%zu,\"problems\":[",
		        r->in_step ? "true" : "false", r->planned, r->waiting, r->guard.stop ? "true" : "false", r->guard.local,
		        r->guard.remote);
		for (size_t i = 0; i < a->n_problems; i++) {
			buf_str(&b, i ? STR(",{\"path\":") : STR("{\"path\":"));
			json_put_str(&b, str_c(a->problems[i].path));
			buf_lit(&b, ",\"detail\":");
			json_put_str(&b, str_c(a->problems[i].what));
			buf_char(&b, '}');
		}
		buf_lit(&b, "]}\n");
		fwrite(b.p, 1, b.n, stdout);
		buf_fini(&b);
		return;
	}
	for (size_t i = 0; i < a->n_problems; i++)
		fprintf(stderr, "  %s: %s\n", *a->problems[i].path ? a->problems[i].path : "/", a->problems[i].what);
	if (r->waiting)
		printf("%zu more would follow when these are done.\n", r->waiting);
	if (r->guard.stop)
		printf("This would delete %zu items on the server and %zu here, so it would stop and ask first (see scaidrive confirm).\n",
		       r->guard.remote, r->guard.local);
	puts(r->in_step ? "In step: nothing would be done." : "Nothing was done.");
}

/* A folder that was never synced has no memory yet, and gets none: its trees live in memory alone. */
static int open_replica(struct looking *l, struct replica *out)
{
	struct client *c = l->c;
	struct str file = state_root_file(&c->arena, &c->state, l->share, l->path);
	if (access(file.p, F_OK) == 0)
		return replica_open(&c->ctx, file.p, out);
	replica_open_blank(out);
	return 0;
}

static int open_root(struct looking *l, const struct replica *replica, struct root **out)
{
	struct client *c = l->c;
	struct root_mark mark = {replica->marked ? replica->marker : STR_NULL, l->share, client_server_url(c)};
	int err = root_open_to_look(&c->ctx, l->path.p, &mark, out);
	if (err != E_NOT_FOUND || replica->marked)
		return err;
	ctx_clear(&c->ctx); /* it would be made */
	return 0;
}

/* A process that syncs the folder may write the state and the marker between our looks at them. */
static int open_both(struct looking *l, struct replica *replica, struct root **root)
{
	for (int attempt = 1;; attempt++) {
		int err = open_replica(l, replica);
		if (err)
			return err;
		*root = NULL;
		err = open_root(l, replica, root);
		if (!err && (!*root || attempt == LOOKS_MAX || agent_state_fits(replica, *root)))
			return 0;
		root_free(*root);
		replica_close(replica);
		if (err)
			return err;
		client_pause_ms(NULL, LOOK_AGAIN_MS);
	}
}

static int look(struct looking *l, struct replica *replica, struct root *root)
{
	struct client *c = l->c;
	struct agent a;
	struct agent_round round;
	replica_set_str(replica, &replica->share, l->share);
	agent_init(&a, root, replica, &c->remote);
	a.device_name = c->state.device_name;
	int err = agent_look(&c->ctx, &a, on_item, l, &round);
	if (!err)
		print_end(l, &a, &round);
	agent_fini(&a);
	return err;
}

int client_look(struct client *c)
{
	struct looking l = {.c = c};
	struct replica replica;
	struct root *root;
	int err = client_connect(c, true);
	if (!err)
		err = client_real_path(c, c->words[2], 1, &l.path);
	if (!err)
		err = client_find_share(c, c->words[1], &l.share, &l.share_name);
	if (!err)
		err = open_both(&l, &replica, &root);
	if (!err) {
		err = look(&l, &replica, root);
		root_free(root);
		replica_close(&replica);
	}
	return err ? client_fault(c, err) : EXIT_OK;
}
