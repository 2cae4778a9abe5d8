/* The mark: a random name that stands in the database and beside the packs, so that a daemon never serves a database whose
 * contents lie in another folder. Several daemons on one database need packs that they share. */
#include "bin/server.h"
#include "chunks/pack.h"

enum { MARK_BYTES = 32 };

static const char file_name[] = "mark";

/* Not marked: there is no file, or one that a crash cut short. */
static int mark_read(struct disk *d, char mark[MARK_BYTES], bool *marked)
{
	struct disk_file *f;
	size_t got = 0;
	*marked = false;
	int err = disk_open(d, file_name, DISK_READ, &f);
	if (err)
		return err == E_NOT_FOUND ? 0 : err;
	err = disk_pread(f, mark, MARK_BYTES, 0, &got);
	disk_close(f);
	*marked = !err && got == MARK_BYTES;
	return err;
}

static int mark_write(struct disk *d, const char mark[MARK_BYTES])
{
	struct disk_file *f;
	int err = disk_open(d, file_name, DISK_WRITE | DISK_CREATE, &f);
	if (err)
		return err;
	err = disk_pwrite(f, mark, MARK_BYTES, 0);
	if (!err)
		err = disk_sync(f);
	disk_close(f);
	return err ? err : disk_sync_dir(d, "");
}

struct mark {
	char mine[MARK_BYTES];
	bool named, same; /* the database names a mark; it is mine */
	bool knows_packs; /* it has rows of packs */
};

static int look_op(struct tx *tx, void *arg)
{
	struct mark *m = arg;
	AUTO_ROWS *r = NULL;
	int err = tx_query_row(tx, "select value from facts where key = 'packs'", DB_NO_ARGS, &r, &m->named);
	if (err)
		return err;
	m->same = m->named && str_eq(rows_text(r, 0), str_n(m->mine, MARK_BYTES));
	err = rows_close(&r);
	int64_t any = 0;
	if (!err)
		err = tx_i64(tx, "select id from packs limit 1", DB_NO_ARGS, 0, &any);
	m->knows_packs = any != 0;
	return err;
}

static int name_op(struct tx *tx, void *arg)
{
	struct mark *m = arg;
	int err = tx_exec(tx, "insert into facts (key, value) values ('packs', $1) on conflict (key) do nothing",
	                  DB_ARGS(V_T(str_n(m->mine, MARK_BYTES))), NULL);
	return err ? err : look_op(tx, m);
}

static int any_packs(struct disk *packs, bool *any)
{
	struct buf ids = {0};
	int err = pack_list(packs, &ids);
	*any = ids.n > 0;
	buf_fini(&ids);
	return err;
}

int mark_check(struct db *db, struct disk *packs, enum whose_packs *whose)
{
	struct mark m = {0};
	uint8_t random[MARK_BYTES / 2];
	bool marked, orphaned = false;
	int err = mark_read(packs, m.mine, &marked);
	if (!err)
		err = db_read(db, look_op, &m);
	/* A new database that took them for its own would have them collected: nothing in it refers to them. */
	if (!err && !m.named && !m.knows_packs)
		err = any_packs(packs, &orphaned);
	if (!err && !orphaned && !m.named && !marked) {
		rng_system.fill(&rng_system, random, sizeof random);
		hex_encode(random, sizeof random, m.mine);
		err = mark_write(packs, m.mine);
	}
	if (!err && !orphaned && !m.named)
		err = db_write(db, 0, name_op, &m);
	*whose = orphaned ? PACKS_ORPHANED : m.named && !m.same ? PACKS_FOREIGN : PACKS_OWN;
	return err == E_NO_SPACE ? 0 : err; /* the next start will find room */
}
