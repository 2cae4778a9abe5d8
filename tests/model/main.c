/* model: the reference model of a share (reconcile/model.h) on standard input and output, for tests in other languages.
 * A line of JSON in, a line out:
 *
 *   {"op": "make" | "put" | "mode" | "move" | "trash" | "restore", ...fields of struct model_op}
 *       -> {"err": null | wire code, "id", "version_id", "changed", "conflict", "copy_id"}
 *   {"op": "tree"}
 *       -> {"nodes": [{"id", "parent", "name", "kind", "version_id", "versions", "executable", "checksum"}]}: what is live
 *   {"op": "reset"} -> {}: an empty share
 *
 * Numbers that the caller leaves out are 0 (`seen`: -1); `content` is any text, told apart by its SHA-256. */
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/json.h"
#include "reconcile/model.h"

static const struct {
	const char *name;
	enum model_verb verb;
} verbs[] = {{"make", MODEL_MAKE}, {"put", MODEL_PUT},     {"mode", MODEL_SET_MODE},
	     {"move", MODEL_MOVE}, {"trash", MODEL_TRASH}, {"restore", MODEL_RESTORE}};

static void put_i64(struct buf *b, bool *first, struct str key, int64_t v)
{
	json_put_key(b, first, key);
	buf_fmt(b, "%lld", (long long)v);
}

static bool apply(struct model *m, struct json_object *in, struct buf *out)
{
	struct str content = json_str(in, "content"), verb = json_str(in, "op");
	struct model_op op = {.id = json_i64(in, "id", 0),
			      .parent = json_i64(in, "parent", 0),
			      .name = json_str(in, "name"),
			      .kind = str_eq(json_str(in, "kind"), STR("file")) ? NODE_FILE : NODE_FOLDER,
			      .checksum = sha256_of(content.p, content.n),
			      .size_bytes = (int64_t)content.n,
			      .executable = json_flag(in, "executable", false),
			      .version_id = json_i64(in, "version_id", 0),
			      .base_version_id = json_i64(in, "base", 0),
			      .seen_seq = json_i64(in, "seen", -1),
			      .by = json_i64(in, "by", 0),
			      .copy_name = json_str(in, "copy_name"),
			      .copy_id = json_i64(in, "copy_id", 0),
			      .copy_version_id = json_i64(in, "copy_version_id", 0)};
	size_t i = 0;
	while (i < sizeof(verbs) / sizeof(verbs[0]) && !str_eq(verb, str_c(verbs[i].name)))
		i++;
	if (i == sizeof(verbs) / sizeof(verbs[0]) ||
	    (json_get(in, "strategy") && !resolve_strategy_parse(json_str(in, "strategy"), &op.strategy)))
		return false;
	op.verb = verbs[i].verb;
	struct model_result r = model_apply(m, &op);
	bool first = true;
	buf_lit(out, "{");
	json_put_key(out, &first, STR("err"));
	json_put_str(out, r.err ? str_c(err_info(r.err)->code) : STR_NULL);
	put_i64(out, &first, STR("id"), r.id);
	put_i64(out, &first, STR("version_id"), r.version_id);
	put_i64(out, &first, STR("copy_id"), r.copy_id);
	put_i64(out, &first, STR("seq"), m->seq);
	json_put_key(out, &first, STR("changed"));
	json_put_bool(out, r.changed);
	json_put_key(out, &first, STR("conflict"));
	json_put_bool(out, r.conflict);
	buf_lit(out, "}");
	return true;
}

static void put_node(struct buf *out, const struct model *m, const struct model_node *n)
{
	const struct model_version *v = n->head ? model_version(m, n->head) : NULL;
	bool first = true;
	char hex[64];
	buf_lit(out, "{");
	put_i64(out, &first, STR("id"), n->id);
	put_i64(out, &first, STR("parent"), n->parent);
	json_put_key(out, &first, STR("name"));
	json_put_str(out, n->name);
	json_put_key(out, &first, STR("kind"));
	json_put_str(out, n->kind == NODE_FILE ? STR("file") : STR("folder"));
	put_i64(out, &first, STR("version_id"), n->head);
	put_i64(out, &first, STR("versions"), n->numbers);
	json_put_key(out, &first, STR("executable"));
	json_put_bool(out, n->executable);
	json_put_key(out, &first, STR("checksum"));
	if (v)
		hex_encode(v->checksum.b, sizeof(v->checksum.b), hex);
	json_put_str(out, v ? str_n(hex, sizeof(hex)) : STR_NULL);
	buf_lit(out, "}");
}

static void tree(const struct model *m, struct buf *out)
{
	const char *sep = "";
	buf_lit(out, "{\"nodes\":[");
	for (size_t i = 1; i < m->n; i++) {
		if (!model_is_live(m, m->nodes[i].id))
			continue;
		buf_fmt(out, "%s", sep);
		put_node(out, m, &m->nodes[i]);
		sep = ",";
	}
	buf_lit(out, "]}");
}

int main(void)
{
	struct model m;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	model_init(&m);
	while ((n = getline(&line, &cap, stdin)) > 0) {
		AUTO_JSON *in = NULL;
		struct buf out = {0};
		const char *why = json_parse(str_n(line, (size_t)n), &in);
		struct str op = json_str(in, "op");
		if (str_eq(op, STR("tree"))) {
			tree(&m, &out);
		} else if (str_eq(op, STR("reset"))) {
			model_fini(&m);
			model_init(&m);
			buf_lit(&out, "{}");
		} else if (why || !apply(&m, in, &out)) {
			fprintf(stderr, "model: not understood: %s\n", line);
			return 2;
		}
		buf_lit(&out, "\n");
		fwrite(out.p, 1, out.n, stdout);
		fflush(stdout);
		buf_fini(&out);
	}
	free(line);
	model_fini(&m);
	return 0;
}
