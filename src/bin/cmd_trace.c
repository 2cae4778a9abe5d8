/* scaidrive export-trace: the three trees and the journal of a folder, without content, to replay a problem elsewhere
 * (docs/integrate/trace.md). Names are replaced by keyed hashes, unless --names. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/name.h"
#include "bin/client.h"
#include "client/journal.h"

struct tracing {
	struct client *c;
	uint8_t salt[16]; /* of this export alone: names cannot be guessed from their hashes */
	struct buf out;
};

static void put_hash(struct tracing *t, struct str s)
{
	struct sha256_state *sha = sha256_new();
	char hex[64];
	sha256_update(sha, t->salt, sizeof t->salt);
	sha256_update(sha, s.p, s.n);
	struct sha256 sum = sha256_final(sha);
	sha256_free(sha);
	hex_encode(sum.b, 32, hex);
	buf_fmt(&t->out, "\"%.12s\"", hex);
}

/* name: equal names are equal; key: so are names that one folder cannot hold twice (D19). */
static void put_name(struct tracing *t, struct str name)
{
	struct arena a;
	buf_lit(&t->out, ",\"name\":");
	if (t->c->names) {
		json_put_str(&t->out, name);
		return;
	}
	arena_init(&a);
	put_hash(t, name);
	buf_lit(&t->out, ",\"key\":");
	put_hash(t, name_key(&a, name));
	arena_fini(&a);
}

static void put_path(struct tracing *t, struct str path)
{
	buf_lit(&t->out, ",\"path\":[");
	for (bool first = true; path.n; first = false) {
		struct str name = str_cut(&path, '/');
		if (!first)
			buf_char(&t->out, ',');
		if (t->c->names)
			json_put_str(&t->out, name);
		else
			put_hash(t, name);
	}
	buf_char(&t->out, ']');
}

static void end_line(struct tracing *t)
{
	buf_lit(&t->out, "}\n");
	if (t->out.n < (64 << 10))
		return;
	fwrite(t->out.p, 1, t->out.n, stdout);
	buf_clear(&t->out);
}

static void put_node(void *arg, const char *tree, const struct node_facts *f)
{
	struct tracing *t = arg;
	buf_fmt(&t->out, "{\"tree\":\"%s\",\"id\":%lld,\"parent\":%lld,\"kind\":\"%s\"", tree, (long long)f->id, (long long)f->parent,
	        f->kind == NODE_FILE ? "file" : "folder");
	put_name(t, f->name);
	if (f->local_name.p) {
		buf_lit(&t->out, ",\"local_name\":");
		if (t->c->names)
			json_put_str(&t->out, f->local_name);
		else
			put_hash(t, f->local_name);
	}
	if (f->kind == NODE_FILE) {
		buf_fmt(&t->out, ",\"size\":%lld,\"version_id\":%lld,\"version\":%lld,\"executable\":%s,\"content\":", (long long)f->size_bytes,
		        (long long)f->version_id, (long long)f->version, f->executable ? "true" : "false");
		put_hash(t, str_n((const char *)f->checksum.b, sizeof f->checksum.b));
	}
	end_line(t);
}

static void put_tree(struct tracing *t, const char *name, const struct tree *tree)
{
	uint64_t id;
	void *value;
	if (!tree->flat) {
		for (struct node *n = tree->root; n; n = tree_walk(tree->root, n))
			if (n->up)
				put_node(t, name, &n->f);
		return;
	}
	for (size_t at = 0; map_next(&tree->by_id, &at, &id, &value);)
		if (((struct node *)value)->f.id != TREE_ROOT)
			put_node(t, name, &((struct node *)value)->f);
}

static int put_event(void *arg, struct json_object *e)
{
	struct tracing *t = arg;
	struct str code = json_str(e, "code");
	buf_fmt(&t->out, "{\"event\":\"%.*s\",\"at_us\":%lld,\"case\":%lld,\"id\":%lld,\"kind\":\"%.*s\",\"size\":%lld,\"ok\":%s",
	        STR_ARG(json_str(e, "op")), (long long)json_i64(e, "at_us", 0), (long long)json_i64(e, "case", 0),
	        (long long)json_i64(e, "id", 0), STR_ARG(json_str(e, "kind")), (long long)json_i64(e, "size", 0),
	        json_flag(e, "ok", false) ? "true" : "false");
	if (code.p) {
		buf_lit(&t->out, ",\"code\":");
		json_put_str(&t->out, code);
	}
	put_path(t, json_str(e, "path"));
	end_line(t);
	return 0;
}

static int export(struct client *c)
{
	struct tracing t = {.c = c};
	struct client_folder folder;
	struct replica r;
	int err = client_folder_of(c, c->words[1], &folder);
	if (!err)
		err = replica_open(&c->ctx, folder.file, &r);
	if (err)
		return client_fault(c, err);
	c->ctx.rng->fill(c->ctx.rng, t.salt, sizeof t.salt);
	buf_fmt(&t.out, "{\"trace\":1,\"program\":\"scaidrive " SD_VERSION "\",\"names\":\"%s\",\"cursor\":%lld,\"next_local_id\":%lld",
	        c->names ? "plain" : "hashed", (long long)r.cursor, (long long)r.next_local_id);
	end_line(&t);
	put_tree(&t, "remote", &r.trees[REPLICA_REMOTE]);
	put_tree(&t, "local", &r.trees[REPLICA_LOCAL]);
	put_tree(&t, "synced", &r.trees[REPLICA_SYNCED]);
	size_t cut;
	err = journal_read(client_journal_file(c, folder.file), put_event, &t, &cut);
	if (!err)
		fwrite(t.out.p, 1, t.out.n, stdout);
	buf_fini(&t.out);
	replica_close(&r);
	return err ? client_fault(c, ctx_fail(&c->ctx, err, "the journal cannot be read")) : EXIT_OK;
}

const struct client_command client_trace = {"export-trace", "DIR", "Write what a developer needs to replay a problem", 1, 1, export};
