#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/must.h"
#include "db/db_priv.h"

/* Each step is one write of "tenant 0", which all nodes and processes serialize: it looks at what is there and applies
 * the next migration. So two programs starting at once share the work, and a kill leaves whole migrations only. */

struct step {
	const struct migration *list;
	size_t n;
	int64_t now_us;
	int at;         /* the migration being applied */
	bool done;      /* nothing was missing */
	int64_t newest; /* number found in the database */
	char why[400];
};

char *db_dialect(struct str sql, bool sqlite)
{
	static const struct {
		struct str from, to;
	} words[] = {
	    {STR("bigint primary key"), STR("integer primary key")},
	    {STR("/*clustered*/"), STR(" without rowid")},
	    /* Of no affinity there, where "bytea" would read as NUMERIC. */
	    {STR(" bytea"), STR(" blob")},
	};
	struct buf b = {0};
	for (size_t i = 0; i < sql.n;) {
		struct str here = str_skip(sql, i);
		size_t w = 0;
		while (w < 3 && !(sqlite && str_starts(here, words[w].from)))
			w++;
		if (w < 3) {
			buf_str(&b, words[w].to);
			i += words[w].from.n;
		} else {
			buf_char(&b, sql.p[i++]);
		}
	}
	buf_char(&b, 0);
	return b.p;
}

static int run_script(struct tx *tx, struct str sql)
{
	bool sqlite = strcmp(tx->db->driver->name, "sqlite") == 0;
	while (sql.n) {
		size_t end = 0;
		while (end < sql.n && !(sql.p[end] == ';' && (end + 1 == sql.n || sql.p[end + 1] == '\n')))
			end++;
		struct str one = str_trim(str_head(sql, end));
		sql = str_skip(sql, end + 1);
		if (!one.n)
			continue;
		AUTO_FREE char *text = db_dialect(one, sqlite);
		int err = tx->db->driver->script(tx, text);
		if (err)
			return tx->err = err;
	}
	return 0;
}

static int step_op(struct tx *tx, void *arg)
{
	struct step *s = arg;
	s->at = 0;
	s->done = false;
	s->why[0] = 0;
	tx->conn->why[0] = 0;
	int err = run_script(tx, STR("create table if not exists schema_migrations (number bigint primary key,"
				     " name text not null, applied_at bigint not null);"));
	if (!err)
		err = tx_i64(tx, "select max(number) from schema_migrations", DB_NO_ARGS, 0, &s->newest);
	s->done = !err && s->newest >= (int64_t)s->n;
	if (!err && !s->done) {
		const struct migration *m = &s->list[s->newest];
		s->at = m->number;
		err = run_script(tx, str_c(m->sql));
		if (!err)
			err = tx_exec(tx, "insert into schema_migrations (number, name, applied_at) values ($1, $2, $3)",
				      DB_ARGS(V_I(m->number), V_T(str_c(m->name)), V_I(s->now_us)), NULL);
	}
	if (err)
		snprintf(s->why, sizeof s->why, "%s", tx->conn->why);
	return err;
}

static int number_op(struct tx *tx, void *number)
{
	return tx_i64(tx, "select max(number) from schema_migrations", DB_NO_ARGS, 0, number);
}

int db_schema_number(struct db *db, int64_t *number)
{
	return db_read(db, number_op, number);
}

int db_migrate(struct db *db, const struct migration *list, size_t n, char **why)
{
	if (why)
		*why = NULL;
	for (size_t i = 0; i < n; i++)
		must(list[i].number == (int)i + 1);
	struct step s = {.list = list, .n = n};
	do {
		s.now_us = clock_now(db->clock);
		int err = db_write(db, 0, step_op, &s);
		if (err) {
			const char *name = s.at > 0 ? list[s.at - 1].name : "schema_migrations";
			db_why(why, "Migration %d (%s) failed: %s", s.at, name, s.why[0] ? s.why : err_info(err)->sentence);
			return err;
		}
		if (!s.done)
			log_info("migration applied", LOG_I("number", s.at), LOG_C("name", list[s.at - 1].name));
	} while (!s.done);
	if (s.newest > (int64_t)n) {
		db_why(why, "The database has schema %lld, but this program knows only up to %zu: it was last used by a newer"
			    " version. Start that version or a later one.", (long long)s.newest, n);
		return E_DB;
	}
	return 0;
}
