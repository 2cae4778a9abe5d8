#include "drive/hold.h"

struct hold {
	struct str name;
	int64_t until_us;
};

static struct str row_name(struct tx *tx, struct str name)
{
	return arena_fmt(tx_arena(tx), "hold:%.*s", STR_ARG(name));
}

static int take_op(struct tx *tx, void *arg)
{
	const struct hold *h = arg;
	return tx_exec(tx,
	               "insert into leases (name, holder, expires_at) values ($1, '', $2) on conflict (name) do update"
	               " set expires_at = excluded.expires_at",
	               DB_ARGS(V_T(row_name(tx, h->name)), V_I(h->until_us)), NULL);
}

static int drop_op(struct tx *tx, void *arg)
{
	const struct hold *h = arg;
	return tx_exec(tx, "delete from leases where name = $1", DB_ARGS(V_T(row_name(tx, h->name))), NULL);
}

int hold_take(struct db *db, const struct clock *clock, struct str name, int64_t for_ms)
{
	struct hold h = {name, clock_now(clock) + MILLIS_US(for_ms)};
	return db_write(db, 0, take_op, &h);
}

int hold_drop(struct db *db, struct str name)
{
	struct hold h = {.name = name};
	return db_write(db, 0, drop_op, &h);
}

int hold_until(struct tx *tx, int64_t now_us, int64_t *until_us)
{
	/* Not a range of names: which of ':' and ';' comes first depends on the collation of a PostgreSQL database. */
	return tx_i64(tx, "select max(expires_at) from leases where substr(name, 1, 5) = 'hold:' and expires_at > $1",
	              DB_ARGS(V_I(now_us)), 0, until_us);
}
