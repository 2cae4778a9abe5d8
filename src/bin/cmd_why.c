/* scaidrive why: what happened to a path in a synced folder, from this device's journal; the server is not asked. */
#include <stdlib.h>

#include "base/id.h"
#include "base/json.h"
#include "base/map.h"
#include "bin/client.h"
#include "client/journal.h"

struct asking {
	struct client *c;
	struct client_folder folder;
	struct map ids; /* of the nodes that ever bore the path */
	struct buf out;
	size_t told;
};

static bool is_asked(const struct asking *a, struct str path)
{
	struct str p = a->folder.below;
	return str_eq(path, p) || !p.n;
}

static int find_ids(void *arg, struct json_object *e)
{
	struct asking *a = arg;
	int64_t id = json_i64(e, "id", 0);
	if (id && a->folder.below.n && is_asked(a, json_str(e, "path")))
		map_put(&a->ids, (uint64_t)id, a);
	return 0;
}

static void tell(struct asking *a, struct json_object *e)
{
	struct buf *b = &a->out;
	bool ok = json_flag(e, "ok", false), is_file = str_eq(json_str(e, "kind"), STR("file"));
	int64_t id = json_i64(e, "id", 0);
	struct str path = json_str(e, "path"), why = json_str(e, "why"), detail = json_str(e, "detail");
	if (!a->c->json) {
		buf_time(b, json_i64(e, "at_us", 0));
		buf_fmt(b, "  %s%.*s\n    %.*s\n", ok ? "" : "FAILED  ", STR_ARG(path), STR_ARG(why));
		if (!ok)
			buf_fmt(b, "    %.*s\n", STR_ARG(detail));
		return;
	}
	buf_str(b, a->told ? STR(",{\"at\":\"") : STR("{\"at\":\""));
	buf_time(b, json_i64(e, "at_us", 0));
	buf_lit(b, "\",\"operation\":");
	json_put_str(b, json_str(e, "op"));
	buf_fmt(b, ",\"case\":%lld,\"id\":", (long long)json_i64(e, "case", 0));
	if (id > 0) {
		buf_char(b, '"');
		buf_id(b, is_file ? ID_FILE : ID_FOLDER, id);
		buf_char(b, '"');
	} else {
		buf_lit(b, "null");
	}
	buf_lit(b, ",\"path\":");
	json_put_str(b, path);
	buf_lit(b, ",\"why\":");
	json_put_str(b, why);
	buf_fmt(b, ",\"ok\":%s,\"detail\":", ok ? "true" : "false");
	json_put_str(b, detail);
	buf_char(b, '}');
}

static int tell_if(void *arg, struct json_object *e)
{
	struct asking *a = arg;
	if (!is_asked(a, json_str(e, "path")) && !map_get(&a->ids, (uint64_t)json_i64(e, "id", 0)))
		return 0;
	tell(a, e);
	a->told++;
	return 0;
}

static int why(struct client *c)
{
	struct asking a = {.c = c};
	int err = client_folder_of(c, c->words[1], &a.folder);
	if (err)
		return client_fault(c, err);
	const char *file = client_journal_file(c, a.folder.file);
	size_t cut;
	err = journal_read(file, find_ids, &a, &cut);
	if (c->json)
		buf_char(&a.out, '[');
	if (!err)
		err = journal_read(file, tell_if, &a, &cut);
	if (!err && cut)
		fprintf(stderr, "scaidrive: %zu lines of the journal were cut by a crash and are left out.\n", cut);
	if (err)
		err = ctx_fail(&c->ctx, err, "the journal %s cannot be read", file);
	if (c->json)
		buf_lit(&a.out, "]\n");
	else if (!a.told)
		buf_lit(&a.out, "Nothing is recorded about it: since the journal begins, this device did nothing to it.\n");
	if (!err)
		fwrite(a.out.p, 1, a.out.n, stdout);
	buf_fini(&a.out);
	map_fini(&a.ids);
	return err ? client_fault(c, err) : EXIT_OK;
}

const struct client_command client_why = {"why", "PATH", "What happened to a file or folder, and why", 1, 1, why};
