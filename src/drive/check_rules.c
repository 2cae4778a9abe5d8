/* What one query can tell: each finds the rows that break a rule. */
#include <stdlib.h>

#include "base/limits.h"
#include "base/must.h"
#include "base/name.h"
#include "drive/check_priv.h"
#include "drive/node.h"

enum { TOLD_MAX = 1000 };

/* The query's columns: id, node id (0: none), share id (0: none), version's number (0: none), what is there, what should
 * be; the last two are for sentences with two numbers. */
struct rule {
	const char *code, *sentence;
	bool numbers;
	enum id_kind kind; /* of the id; ID_FOLDER: then "what is there" is the node's kind, and may say that it is a file */
	const char *sql;
};

static const struct rule rules[] = {
    {"SHARE_TENANT", "the share's tenant does not exist", false, ID_SHARE,
     "select s.id, 0, s.id, 0, 0, 0 from shares s left join tenants t on t.id = s.tenant_id where t.id is null"},
    {"SHARE_ROOT", "the share has no root folder of its own", false, ID_SHARE,
     "select s.id, 0, s.id, 0, 0, 0 from shares s left join nodes n on n.id = s.root_id where n.id is null"
     " or n.parent_id <> 0 or n.kind <> 1 or n.share_id <> s.id or n.tenant_id <> s.tenant_id"},
    {"SHARE_USED_BYTES", "used_bytes is %lld, but the versions have %lld bytes", true, ID_SHARE,
     "select s.id, 0, s.id, 0, s.used_bytes, coalesce(u.n, 0) from shares s left join (select n.share_id as share_id,"
     " sum(v.size_bytes) as n from versions v join nodes n on n.id = v.node_id group by n.share_id) u"
     " on u.share_id = s.id where s.used_bytes <> coalesce(u.n, 0)"},
    {"MEMBER_SHARE", "a membership is of a share that does not exist", false, ID_SHARE,
     "select distinct m.share_id, 0, 0, 0, 0, 0 from share_members m left join shares s on s.id = m.share_id"
     " where s.id is null"},
    {"NODE_SHARE", "its share does not exist", false, ID_FOLDER,
     "select n.id, n.id, 0, 0, n.kind, 0 from nodes n left join shares s on s.id = n.share_id where s.id is null"},
    {"NODE_ROOT", "it lies at the top, but is not the share's root", false, ID_FOLDER,
     "select n.id, n.id, n.share_id, 0, n.kind, 0 from nodes n join shares s on s.id = n.share_id"
     " where n.parent_id = 0 and s.root_id <> n.id and (n.name_key <> '' or n.deleted_at = 0)"}, /* purge.h */
    {"NODE_PARENT_MISSING", "the folder that it lies in does not exist", false, ID_FOLDER,
     "select n.id, n.id, n.share_id, 0, n.kind, 0 from nodes n left join nodes p on p.id = n.parent_id"
     " where n.parent_id <> 0 and p.id is null"},
    {"NODE_PARENT_WRONG", "what it lies in is not a folder, or belongs to another share", false, ID_FOLDER,
     "select n.id, n.id, n.share_id, 0, n.kind, 0 from nodes n join nodes p on p.id = n.parent_id"
     " where p.kind <> 1 or p.share_id <> n.share_id or p.tenant_id <> n.tenant_id"},
    {"NODE_CYCLE", "no way leads from a share's root to it: the folders above it form a circle, or one of them has no parent",
     false, ID_FOLDER,
     "with recursive reach(id) as (select id from nodes where parent_id = 0 union all"
     " select n.id from reach r join nodes n on n.parent_id = r.id where n.kind = 1)"
     " select f.id, f.id, f.share_id, 0, f.kind, 0 from nodes f where f.kind = 1 and f.id not in (select id from reach)"
     " and exists (select 1 from nodes p where p.id = f.parent_id)"},
    {"NODE_NAME_TWICE", "another one beside it has the same name", false, ID_FOLDER,
     "select min(id), min(id), min(share_id), 0, min(kind), 0 from nodes where trash_key = 0"
     " group by parent_id, name_key having count(*) > 1"},
    {"NODE_TRASH", "its marks of being in the trash contradict each other", false, ID_FOLDER,
     "select id, id, share_id, 0, kind, 0 from nodes where (deleted_at = 0 and trash_key <> 0)"
     " or (deleted_at > 0 and trash_key <> id)"},
    {"NODE_HEAD_MISSING", "its present version does not exist", false, ID_FILE,
     "select n.id, n.id, n.share_id, n.version, 0, 0 from nodes n left join versions v on v.id = n.version_id"
     " and v.node_id = n.id where n.kind = 2 and v.id is null"},
    {"NODE_HEAD_FACTS", "size, checksum or number of its present version are told otherwise by the version itself", false,
     ID_FILE,
     "select n.id, n.id, n.share_id, n.version, 0, 0 from nodes n join versions v on v.id = n.version_id"
     " and v.node_id = n.id where n.kind = 2 and (n.size_bytes <> v.size_bytes or n.version <> v.number"
     " or n.sha256 is null or n.sha256 <> v.sha256)"},
    {"NODE_FOLDER_CONTENT", "it is a folder, but has a version", false, ID_FOLDER,
     "select id, id, share_id, 0, kind, 0 from nodes where kind = 1 and version_id <> 0"},
    {"NODE_CHANGE", "its last change has number %lld, but the log ends at %lld", true, ID_NONE,
     "select n.id, n.id, n.share_id, 0, n.change_seq, t.seq from nodes n join tenants t on t.id = n.tenant_id"
     " where n.change_seq > t.seq"},
    {"VERSION_NUMBER", "it has number %lld, but the file gave numbers up to %lld", true, ID_VERSION,
     "select v.id, n.id, n.share_id, v.number, v.number, n.last_version from versions v join nodes n on n.id = v.node_id"
     " where v.number > n.last_version"},
    {"VERSION_FILE", "its file does not exist", false, ID_VERSION,
     "select v.id, 0, 0, v.number, 0, 0 from versions v left join nodes n on n.id = v.node_id and n.kind = 2"
     " where n.id is null"},
    {"VERSION_STAGE", "it is staged and numbered at once, or neither", false, ID_VERSION,
     "select v.id, v.node_id, 0, v.number, 0, 0 from versions v where (v.number > 0 and v.staged_until > 0)"
     " or (v.number <= 0 and v.staged_until <= 0)"},
    {"CHANGE_SHARE", "changes in the log are of a share that does not exist", false, ID_SHARE,
     "select distinct c.share_id, 0, 0, 0, 0, 0 from changes c left join shares s on s.id = c.share_id where s.id is null"},
    {"CURSOR_AHEAD", "a device stands at change %lld, but the log ends at %lld", true, ID_DEVICE,
     "select d.id, 0, c.share_id, 0, c.position, t.seq from device_cursors c join devices d on d.id = c.device"
     " join tenants t on t.id = d.tenant_id where c.position > t.seq"},
    {"UPLOAD_PARTS", "parts of an upload that does not exist", false, ID_UPLOAD,
     "select distinct p.upload_id, 0, 0, 0, 0, 0 from upload_parts p left join uploads u on u.id = p.upload_id"
     " where u.id is null"},
    {"UPLOAD_PIECES", "pieces of an upload that does not exist", false, ID_UPLOAD,
     "select distinct p.upload_id, 0, 0, 0, 0, 0 from upload_pieces p left join uploads u on u.id = p.upload_id"
     " where u.id is null"},
};

struct rule_job {
	const struct rule *rule;
	struct broken found[TOLD_MAX];
	size_t n;
	bool more;
};

static int find_broken(struct tx *tx, const struct rule *rule, struct broken *found, size_t max, size_t *n, bool *more)
{
	AUTO_ROWS *r = NULL;
	*n = 0;
	*more = false;
	int err = tx_query(tx, rule->sql, DB_NO_ARGS, &r);
	while (!err && rows_next(r)) {
		if (*n == max) {
			*more = true;
			break;
		}
		struct broken *b = &found[(*n)++];
		*b = (struct broken){
		    .at = {{rule->kind, rows_i64(r, 0)}, rows_i64(r, 1), rows_i64(r, 2), rows_i64(r, 3)},
		    .is = rows_i64(r, 4),
		    .should = rows_i64(r, 5),
		};
		if (rule->kind == ID_FOLDER && b->is == NODE_FILE)
			b->at.subject.kind = ID_FILE;
	}
	return err ? err : rows_close(&r);
}

static int rule_op(struct tx *tx, void *arg)
{
	struct rule_job *j = arg;
	return find_broken(tx, j->rule, j->found, TOLD_MAX, &j->n, &j->more);
}

int check_rule_find(struct tx *tx, const char *code, struct broken *found, size_t max, size_t *n)
{
	bool more;
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (strcmp(rules[i].code, code) == 0)
			return find_broken(tx, &rules[i], found, max, n, &more);
	must(!"a rule of that code");
	return E_INTERNAL;
}

/* The sentence of a rule with two numbers, filled. */
static struct str sentence_of(struct arena *a, const struct rule *rule, const struct broken *b)
{
	struct buf out = {0};
	int64_t numbers[] = {b->is, b->should};
	size_t n = 0;
	for (struct str rest = str_c(rule->sentence); rest.n;) {
		if (rule->numbers && str_starts(rest, STR("%lld")) && n < 2) {
			buf_i64(&out, numbers[n++]);
			rest = str_skip(rest, 4);
		} else {
			buf_char(&out, rest.p[0]);
			rest = str_skip(rest, 1);
		}
	}
	struct str s = arena_str(a, buf_as_str(&out));
	buf_fini(&out);
	return s;
}

static int count_op(struct tx *tx, void *arg)
{
	struct check_totals *t = arg;
	int err = tx_i64(tx, "select count(*) from shares", DB_NO_ARGS, 0, &t->shares);
	if (!err)
		err = tx_i64(tx, "select count(*) from chunk_marks where (reason & 2) <> 0", DB_NO_ARGS, 0, &t->marked);
	return err ? err : tx_i64(tx, "select count(*) from nodes", DB_NO_ARGS, 0, &t->nodes);
}

int check_rules(struct check *c)
{
	struct rule_job *j = calloc(1, sizeof *j);
	must(j != NULL);
	int err = db_read(c->config->db, count_op, c->totals);
	for (size_t i = 0; !err && i < sizeof rules / sizeof *rules; i++) {
		check_progress(c, "rules of shares and nodes", (int64_t)i);
		j->rule = &rules[i];
		err = db_read(c->config->db, rule_op, j);
		for (size_t k = 0; !err && k < j->n; k++) {
			struct str sentence = sentence_of(&c->arena, j->rule, &j->found[k]);
			check_tell(c, j->rule->code, &j->found[k].at, "%.*s", STR_ARG(sentence));
			arena_reset(&c->arena);
		}
		if (!err && j->more)
			check_tell(c, j->rule->code, &(struct check_place){0}, "and more than %d others", TOLD_MAX);
	}
	free(j);
	return err;
}

/* ---- names: the key by which they are compared ---- */

enum { PAGE = 1000 };

struct names {
	struct check *c;
	int64_t after;
	struct {
		int64_t id;
		bool is_file;
		const char *wrong;
	} found[PAGE];
	size_t n, read;
};

const char *check_name(struct arena *a, struct str name, struct str key, bool is_root)
{
	if (is_root)
		return name.n ? "the root of a share has a name" : NULL;
	if (name_problem(name))
		return "its name is not allowed";
	return str_eq(name_key(a, name), key) ? NULL : "the key by which its name is compared is not that of its name";
}

static int names_op(struct tx *tx, void *arg)
{
	struct names *s = arg;
	AUTO_ROWS *r = NULL;
	s->n = s->read = 0;
	int err = tx_query(tx, "select id, kind, name, name_key, parent_id from nodes where id > $1 order by id limit $2",
	                   DB_ARGS(V_I(s->after), V_I(PAGE)), &r);
	for (; !err && s->read < PAGE && rows_next(r); s->read++) {
		s->after = rows_i64(r, 0);
		const char *wrong = check_name(&s->c->arena, rows_text(r, 2), rows_text(r, 3), rows_i64(r, 4) == 0);
		if (!wrong)
			continue;
		s->found[s->n].id = s->after;
		s->found[s->n].is_file = rows_i64(r, 1) == 2;
		s->found[s->n++].wrong = wrong;
	}
	return err ? err : rows_close(&r);
}

int check_names(struct check *c)
{
	struct names *s = calloc(1, sizeof *s);
	must(s != NULL);
	s->c = c;
	int64_t done = 0;
	int err;
	do {
		err = db_read(c->config->db, names_op, s);
		for (size_t i = 0; !err && i < s->n; i++) {
			struct check_place at = {{s->found[i].is_file ? ID_FILE : ID_FOLDER, s->found[i].id}, s->found[i].id, 0, 0};
			check_tell(c, "NODE_NAME", &at, "%s", s->found[i].wrong);
		}
		check_progress(c, "names", done += (int64_t)s->read);
		arena_reset(&c->arena);
	} while (!err && s->read == PAGE);
	free(s);
	return err;
}
