/* scaidrive trash: what deletions on other devices removed from a folder here. */
#include "base/json.h"
#include "bin/client.h"
#include "client/trash.h"

static int list(struct client *c, struct root *root)
{
	struct trash_entry *v;
	struct buf b = {0};
	int64_t total = 0;
	size_t n;
	int err = trash_list(&c->ctx, root, &v, &n);
	if (c->json)
		buf_char(&b, '[');
	for (size_t i = 0; !err && i < n; i++) {
		total += v[i].size_bytes;
		if (!c->json) {
			buf_fmt(&b, "%12lld  %.*s\n", (long long)v[i].size_bytes, STR_ARG(v[i].name));
			continue;
		}
		buf_str(&b, i ? STR(",{\"entry\":") : STR("{\"entry\":"));
		json_put_str(&b, v[i].name);
		buf_fmt(&b, ",\"size\":%lld}", (long long)v[i].size_bytes);
	}
	if (c->json)
		buf_lit(&b, "]\n");
	else
		buf_fmt(&b, "%zu files, %lld bytes.\n", n, (long long)total);
	if (!err)
		fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
	return err;
}

static int restore(struct client *c, struct root *root, const char *entry)
{
	struct str where;
	int err = trash_restore(&c->ctx, root, str_c(entry), &where);
	if (err || !c->json) {
		if (!err)
			printf("Restored as %.*s; the next sync takes it to the server.\n", STR_ARG(where));
		return err;
	}
	struct buf b = {0};
	buf_lit(&b, "{\"restored\":");
	json_put_str(&b, where);
	buf_lit(&b, "}\n");
	fwrite(b.p, 1, b.n, stdout);
	buf_fini(&b);
	return 0;
}

static int empty(struct client *c, struct root *root)
{
	struct trash_purged gone;
	int err = trash_purge(&c->ctx, root, 0, 0, &gone);
	if (!err)
		printf(c->json ? "{\"files\":%zu,\"bytes\":%lld}\n" : "%zu files deleted for good, %lld bytes.\n", gone.files,
		       (long long)gone.bytes);
	return err;
}

static int trash(struct client *c)
{
	struct str verb = str_c(c->words[1]);
	bool restoring = str_eq(verb, STR("restore"));
	struct client_folder folder;
	struct replica r;
	struct root *root = NULL;
	if ((!restoring && !str_eq(verb, STR("list")) && !str_eq(verb, STR("empty"))) || c->n_words != (restoring ? 4 : 3))
		return ctx_fail(&c->ctx, E_USAGE, "usage: scaidrive trash list|empty DIR, or trash restore DIR ENTRY"), client_fault(c, E_USAGE);
	int err = client_folder_of(c, c->words[2], &folder);
	if (!err)
		err = replica_open(&c->ctx, folder.file, &r);
	if (err)
		return client_fault(c, err);
	err = root_open_to_look(&c->ctx, folder.path.p, &(struct root_mark){.id = r.marker}, &root);
	if (!err)
		err = root->ops->check(root, &c->ctx);
	if (!err)
		err = restoring ? restore(c, root, c->words[3]) : str_eq(verb, STR("list")) ? list(c, root) : empty(c, root);
	root_free(root);
	replica_close(&r);
	return err ? client_fault(c, err) : EXIT_OK;
}

const struct client_command client_trash = {"trash", "list|empty|restore DIR [ENTRY]", "What deletions elsewhere removed here", 2, 3, trash};
