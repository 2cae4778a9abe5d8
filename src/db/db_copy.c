#include "db/db_copy.h"

#include "base/buf.h"
#include "base/must.h"
#include "db/db_priv.h"

enum { COLUMNS_MAX = 64, PAGE_ROWS = 500, PAGE_BYTES = 8 << 20 };

struct column {
	struct str name;
	enum dbv_type type;
};

struct table {
	struct str name;
	struct column columns[COLUMNS_MAX];
	size_t n_columns;
	size_t keys[COLUMNS_MAX]; /* columns of the primary key, in its order */
	size_t n_keys;
	char *first, *next, *insert; /* the statements: first page, a later one */
};

struct copy {
	struct tx *from, *to;
	const struct db_copy *how;
	struct arena tables; /* of the whole call */
	struct arena pages[2]; /* of this page, and of the one before, whose last row is where this one begins */
};

static bool is_sqlite(const struct tx *tx)
{
	return tx->db->driver == &db_driver_sqlite;
}

static enum dbv_type type_of(struct str declared)
{
	return str_ieq(declared, STR("text")) ? DBV_TEXT : str_ieq(declared, STR("blob")) ? DBV_BLOB : DBV_I64;
}

static struct dbv value_of(struct arena *a, struct rows *r, int col, enum dbv_type type)
{
	if (rows_is_null(r, col))
		return V_NULL;
	if (type == DBV_I64)
		return V_I(rows_i64(r, col));
	return type == DBV_TEXT ? V_T(arena_str(a, rows_text(r, col))) : V_B(arena_str(a, rows_blob(r, col)));
}

/* ---- statements ---- */

static void put_keys(struct buf *b, const struct table *t)
{
	for (size_t i = 0; i < t->n_keys; i++)
		buf_fmt(b, "%s%.*s", i ? ", " : "", STR_ARG(t->columns[t->keys[i]].name));
}

static void put_parameters(struct buf *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf_fmt(b, "%s$%zu", i ? ", " : "", i + 1);
}

static char *take(struct arena *a, struct buf *b)
{
	char *text = arena_cstr(a, buf_as_str(b));
	buf_fini(b);
	return text;
}

static char *page_sql(struct arena *a, const struct table *t, struct str columns, bool later)
{
	struct buf b = {0};
	buf_fmt(&b, "select %.*s from %.*s", STR_ARG(columns), STR_ARG(t->name));
	if (later) {
		buf_lit(&b, " where (");
		put_keys(&b, t);
		buf_lit(&b, ") > (");
		put_parameters(&b, t->n_keys);
		buf_char(&b, ')');
	}
	buf_lit(&b, " order by ");
	put_keys(&b, t);
	buf_fmt(&b, " limit %d", PAGE_ROWS);
	return take(a, &b);
}

static void make_statements(struct arena *a, struct table *t)
{
	struct buf b = {0};
	for (size_t i = 0; i < t->n_columns; i++)
		buf_fmt(&b, "%s%.*s", i ? ", " : "", STR_ARG(t->columns[i].name));
	struct str columns = str_c(take(a, &b));
	t->first = page_sql(a, t, columns, false);
	t->next = page_sql(a, t, columns, true);
	buf_fmt(&b, "insert into %.*s (%.*s) values (", STR_ARG(t->name), STR_ARG(columns));
	put_parameters(&b, t->n_columns);
	buf_char(&b, ')');
	t->insert = take(a, &b);
}

/* ---- the catalog ---- */

static int read_columns(struct copy *c, struct tx *catalog, struct table *t)
{
	AUTO_ROWS *r = NULL;
	int err = tx_query(catalog, "select name, type, pk from pragma_table_info($1) order by cid", DB_ARGS(V_T(t->name)), &r);
	while (!err && rows_next(r)) {
		must(t->n_columns < COLUMNS_MAX);
		int64_t key = rows_i64(r, 2);
		must(key >= 0 && key <= COLUMNS_MAX);
		if (key) {
			t->keys[key - 1] = t->n_columns;
			t->n_keys++;
		}
		t->columns[t->n_columns++] = (struct column){arena_str(&c->tables, rows_text(r, 0)), type_of(rows_text(r, 1))};
	}
	if (!err)
		err = rows_close(&r);
	must(err || t->n_keys); /* every table of ours has a primary key */
	return err;
}

static bool wanted(const struct copy *c, struct str name)
{
	bool out = str_eq(name, STR("schema_migrations"));
	for (const char *const *p = c->how->leave_out; !out && *p; p++)
		out = str_eq(name, str_c(*p));
	return !out;
}

static int read_tables(struct copy *c, struct table **out, size_t *n)
{
	enum { TABLES_MAX = 200 };
	struct tx *catalog = is_sqlite(c->from) ? c->from : c->to;
	must(is_sqlite(catalog));
	struct table *list = arena_many(&c->tables, TABLES_MAX, struct table);
	AUTO_ROWS *r = NULL;
	int err = tx_query(catalog, "select name from sqlite_master where type = 'table' and name not like 'sqlite\\_%' escape '\\'"
	                   " order by name", DB_NO_ARGS, &r);
	*out = list;
	*n = 0;
	while (!err && rows_next(r)) {
		struct str name = rows_text(r, 0);
		if (!wanted(c, name))
			continue;
		must(*n < TABLES_MAX);
		list[(*n)++].name = arena_str(&c->tables, name);
	}
	if (!err)
		err = rows_close(&r);
	for (size_t i = 0; !err && i < *n; i++) {
		err = read_columns(c, catalog, &list[i]);
		make_statements(&c->tables, &list[i]);
	}
	return err;
}

/* ---- rows ---- */

/* Up to PAGE_ROWS rows behind the row *last (NULL: from the first), fewer when they are long. */
static int read_page(struct copy *c, const struct table *t, struct arena *a, const struct dbv *last, struct dbv **rows,
                     size_t *n, bool *end)
{
	struct dbv after[COLUMNS_MAX];
	AUTO_ROWS *r = NULL;
	for (size_t i = 0; last && i < t->n_keys; i++)
		after[i] = last[t->keys[i]];
	int err = tx_query(c->from, last ? t->next : t->first, after, last ? t->n_keys : 0, &r);
	*rows = arena_many(a, PAGE_ROWS * t->n_columns, struct dbv);
	*n = 0;
	*end = true;
	while (!err && rows_next(r)) {
		for (size_t i = 0; i < t->n_columns; i++)
			(*rows)[*n * t->n_columns + i] = value_of(a, r, (int)i, t->columns[i].type);
		++*n;
		if (*n == PAGE_ROWS || a->total > PAGE_BYTES) {
			*end = false;
			break;
		}
	}
	return err ? err : rows_close(&r);
}

static int copy_table(struct copy *c, const struct table *t)
{
	const struct dbv *last = NULL;
	int64_t copied = 0;
	bool end = false;
	int err = 0;
	for (size_t turn = 0; !err && !end; turn ^= 1) {
		struct arena *a = &c->pages[turn];
		struct dbv *rows;
		size_t n;
		arena_fini(a); /* a page of long rows must not leave the next ones small */
		arena_init(a);
		err = read_page(c, t, a, last, &rows, &n, &end);
		if (!err)
			err = tx_many(c->to, t->insert, rows, t->n_columns, n, NULL, NULL);
		last = n ? rows + (n - 1) * t->n_columns : last;
		copied += (int64_t)n;
		/* What the engines took for these statements, which would add up over millions of rows. */
		arena_reset(tx_arena(c->from));
		arena_reset(tx_arena(c->to));
		if (!err && c->how->go_on && !c->how->go_on(c->how->arg, t->name.p, copied))
			err = E_CANCELLED;
	}
	return err;
}

int db_copy(struct tx *from, struct tx *to, const struct db_copy *how)
{
	struct copy c = {.from = from, .to = to, .how = how};
	struct table *tables = NULL;
	size_t n = 0;
	arena_init(&c.tables);
	arena_init(&c.pages[0]);
	arena_init(&c.pages[1]);
	int err = read_tables(&c, &tables, &n);
	for (size_t i = 0; !err && i < n; i++)
		err = copy_table(&c, &tables[i]);
	arena_fini(&c.pages[1]);
	arena_fini(&c.pages[0]);
	arena_fini(&c.tables);
	return err;
}
