/* Writes that share a commit come to the same, in the same order, as one after the other: uploads that go on where the one before
 * left off, beside writes of every other kind. */
#include <semaphore.h>
#include <unistd.h>

#include "base/must.h"
#include "drive/drive_testing.h"
#include "drive/engines_testing.h"
#include "drive/node_priv.h"

enum { ROUNDS = 10, MEMBERS_MAX = 80, CONTENTS = 5, FOLDERS = 3, SHARES = 2 };

enum kind { PUT, PUT_AGAIN, RENAME, TRASH, MAKE_FOLDER, LEAVE, JOIN, QUOTA, NO_QUOTA, DELETE_SHARE, RESTORE_SHARE, TALLY, TALLY_OUTSIDE, KINDS };

struct stage {
	struct testing t;
	struct arena arena;
	int64_t shares[SHARES], folders[SHARES][FOLDERS], others_share; /* folders[i][0] is 0, for the root */
	struct content *contents[CONTENTS], *others_content;
	sem_t done;
};

struct one_write {
	enum kind kind;
	int who;           /* TESTING_USERS: the stranger, of another tenant */
	int share, folder, content;
	struct str name, new_name, key;
	int64_t bytes;
	/* ---- */
	struct stage *stage;
	struct arena arena;
	struct ctx ctx;
	struct version_put in;
	struct version_result result;
	struct file_put put;
	struct drive_write write;
	struct db_write outside;
	struct buf said;
};

/* ---- what members do ---- */

/* What the tables say, and whether they agree: behind the counts none may be but 0. */
static int tally(struct tx *tx, struct buf *out)
{
	enum { COUNTS = 2 };
	static const char *const numbers[] = {
	    "select count(*) from nodes where kind = 2 and tenant_id = (select id from tenants where name = 'main')",
	    "select count(*) from versions where tenant_id = (select id from tenants where name = 'main')",
	    "select count(*) from changes c where resource_id <> share_id and not exists (select 1 from nodes n"
	    " left join versions v on v.id = n.version_id where n.id = c.resource_id and (n.kind = 1 or v.id is not null))",
	    "select count(*) from tenants t where seq <> (select coalesce(max(seq), 0) from changes c where c.tenant_id = t.id)",
	    "select count(*) from tenants t where seq <> (select count(*) from changes c where c.tenant_id = t.id)",
	    "select count(*) from shares s where used_bytes <> (select coalesce(sum(v.size_bytes), 0) from versions v"
	    " join nodes n on n.id = v.node_id where n.share_id = s.id)",
	    "select count(*) from chunks c where not exists (select 1 from packs p where p.id = c.pack_id)",
	};
	int err = 0;
	for (size_t i = 0; !err && i < sizeof numbers / sizeof *numbers; i++) {
		int64_t n;
		err = tx_i64(tx, numbers[i], DB_NO_ARGS, 0, &n);
		buf_fmt(out, "%lld ", (long long)n);
		if (!err && i >= COUNTS && n)
			err = E_CORRUPT;
	}
	return err;
}

static int say_tally(struct tx *tx, void *arg)
{
	struct one_write *m = arg;
	buf_clear(&m->said);
	return tally(tx, &m->said);
}

static int rename_or_trash(struct dtx *t, const struct one_write *m)
{
	struct node n, folder;
	int err = node_load_folder(t, m->stage->shares[m->share], m->stage->folders[m->share][m->folder], RIGHT_WRITE, &folder);
	if (!err)
		err = node_child(t, &folder, m->name, &n);
	if (err || !n.id)
		return err ? err : ctx_fail(t->ctx, E_NOT_FOUND, "no such name");
	return m->kind == TRASH ? node_trash(t, &n, STR_NULL) : node_rename(t, &n, m->new_name, STR_NULL);
}

static int make_folder(struct dtx *t, const struct one_write *m)
{
	struct node parent, n = {.kind = NODE_FOLDER, .name = m->name};
	int err = node_load_folder(t, m->stage->shares[m->share], m->stage->folders[m->share][m->folder], RIGHT_CREATE, &parent);
	return err ? err : node_insert(t, &parent, &n, STR_NULL);
}

static int exec(struct dtx *t, const char *sql, int64_t a, int64_t b)
{
	return tx_exec(t->tx, sql, DB_ARGS(V_I(a), V_I(b)), NULL);
}

static int other_op(struct dtx *t, void *arg)
{
	struct one_write *m = arg;
	int64_t share = m->stage->shares[m->share], user = m->stage->t.users[m->who].user_id;
	switch (m->kind) {
	case RENAME:
	case TRASH:
		return rename_or_trash(t, m);
	case MAKE_FOLDER:
		return make_folder(t, m);
	case LEAVE:
		drive_access_changed(t, share, (struct rid){ID_USER, user});
		return exec(t, "delete from share_members where share_id = $1 and principal_id = $2 and role < 4", share, user);
	case JOIN:
		drive_access_changed(t, share, (struct rid){ID_USER, user});
		return exec(t,
		            "insert into share_members (share_id, principal_kind, principal_id, role, created_by, created_at)"
		            " values ($1, 1, $2, 2, 1, 1) on conflict (share_id, principal_kind, principal_id) do nothing",
		            share, user);
	case QUOTA:
		return exec(t, "update shares set quota_bytes = used_bytes + $2 where id = $1", share, m->bytes);
	case NO_QUOTA:
		return exec(t, "update shares set quota_bytes = $2 where id = $1", share, INT64_MAX);
	case DELETE_SHARE:
		return exec(t, "update shares set deleted_at = $2 where id = $1", share, 1);
	case RESTORE_SHARE:
		return exec(t, "update shares set deleted_at = $2 where id = $1", share, 0);
	default:
		return say_tally(t->tx, m);
	}
}

static void answered(void *arg)
{
	struct one_write *m = arg;
	sem_post(&m->stage->done);
}

static void begin(struct stage *s, struct one_write *m)
{
	m->stage = s;
	arena_init(&m->arena);
	bool stranger = m->who == TESTING_USERS;
	m->ctx = testing_ctx(&s->t, &m->arena, stranger ? &s->t.stranger : &s->t.users[m->who]);
	m->ctx.idempotency_key = m->key;
	if (m->kind == PUT || m->kind == PUT_AGAIN) {
		m->in = (struct version_put){
		    .share_id = stranger ? s->others_share : s->shares[m->share],
		    .folder_id = stranger ? 0 : s->folders[m->share][m->folder],
		    .name = m->name,
		    .content = stranger ? s->others_content : s->contents[m->content],
		};
		drive_file_put_begin(&m->put, &m->ctx, &m->in, &m->result, answered, m);
	} else if (m->kind == TALLY_OUTSIDE) {
		m->outside = (struct db_write){
		    .tenant_id = m->ctx.tenant_id, .op = say_tally, .arg = m, .done = answered, .done_arg = m};
		db_write_begin(s->t.db, &m->outside);
	} else {
		m->write = (struct drive_write){
		    .ctx = &m->ctx, .op = other_op, .arg = m, .w = {.done = answered, .done_arg = m}};
		drive_write_begin(&m->write);
	}
}

/* What the member was answered. */
static void end(struct one_write *m, struct buf *out)
{
	bool put = m->kind == PUT || m->kind == PUT_AGAIN;
	int err = put ? drive_file_put_end(&m->put) : m->kind == TALLY_OUTSIDE ? m->outside.err : drive_write_end(&m->write);
	struct str detail = ctx_detail(&m->ctx, err);
	buf_fmt(out, "%d %d %.*s %.*s", m->kind, err, STR_ARG(str_cut(&detail, '_')), STR_ARG(buf_as_str(&m->said))); /* no ids */
	if (put && !err)
		buf_fmt(out, "%d %.*s %.*s %lld %lld", m->result.fate, STR_ARG(m->result.node.path), STR_ARG(m->result.node.mime_type),
		        (long long)m->result.version.number, (long long)m->result.seq);
	buf_char(out, '\n');
	buf_fini(&m->said);
	arena_fini(&m->arena);
}

/* ---- alone and together ---- */

static int stand_still(void *arg)
{
	while (sem_wait(arg) != 0)
		;
	return 0;
}

static int nothing(struct tx *tx, void *arg)
{
	(void)tx, (void)arg;
	return 0;
}

struct hold {
	sem_t go, done;
	struct db_write w;
};

static void held(void *arg)
{
	sem_post(arg);
}

/* Keeps the tenant's writer until hold_end, so that what is begun meanwhile becomes one group. */
static void hold_begin(struct hold *h, struct stage *s)
{
	sem_init(&h->go, 0, 0);
	sem_init(&h->done, 0, 0);
	h->w = (struct db_write){.tenant_id = s->t.tenant_id, .before = stand_still, .before_arg = &h->go, .op = nothing,
	                         .done = held, .done_arg = &h->done};
	db_write_begin(s->t.db, &h->w);
	usleep(2000);
}

static void hold_end(struct hold *h)
{
	sem_post(&h->go);
	must(stand_still(&h->done) == 0);
}

static void run(struct stage *s, struct one_write *m, size_t n, bool together, struct buf *out)
{
	struct hold hold;
	if (together)
		hold_begin(&hold, s);
	for (size_t i = 0; i < n; i++) {
		begin(s, &m[i]);
		if (!together)
			stand_still(&s->done);
	}
	if (together)
		hold_end(&hold);
	for (size_t i = 0; together && i < n; i++)
		stand_still(&s->done);
	for (size_t i = 0; i < n; i++)
		end(&m[i], out);
}

static int tell_op(struct tx *tx, void *arg)
{
	static const char *const queries[] = {
	    "select c.seq, c.change_type, coalesce(old_path, '-'), coalesce(new_path, '-') from changes c join tenants t"
	    " on t.id = c.tenant_id order by t.name, c.seq",
	    "select n.change_seq, n.version, n.name, p.name from nodes n left join nodes p on p.id = n.parent_id join tenants t"
	    " on t.id = n.tenant_id order by t.name, n.name_key, n.change_seq",
	    "select used_bytes, 0, name, '' from shares order by name",
	    "select number, size_bytes, mime_type, n.name from versions v join (select id as node, name, change_seq from nodes) n"
	    " on n.node = v.node_id order by n.name, change_seq, size_bytes",
	    "select count(distinct hash), 0, '', '' from chunks",
	};
	int err = tally(tx, arg);
	for (size_t i = 0; !err && i < sizeof queries / sizeof *queries; i++) {
		AUTO_ROWS *r = NULL;
		err = tx_query(tx, queries[i], DB_NO_ARGS, &r);
		while (!err && rows_next(r))
			buf_fmt(arg, "%lld %lld %.*s %.*s\n", (long long)rows_i64(r, 0), (long long)rows_i64(r, 1),
			        STR_ARG(rows_text(r, 2)), STR_ARG(rows_text(r, 3)));
		err = err ? err : rows_close(&r);
	}
	return err;
}

static struct content *content_of(struct stage *s, int64_t tenant_id, int i)
{
	char bytes[3000];
	memset(bytes, 'a' + i, sizeof bytes);
	return testing_content(&s->t, tenant_id, str_n(bytes, (size_t)(i * 700)));
}

static struct stage *stage_new(void)
{
	struct stage *s = calloc(1, sizeof *s);
	must(s != NULL);
	testing_open(&s->t, pg);
	arena_init(&s->arena);
	sem_init(&s->done, 0, 0);
	struct ctx bob = testing_ctx(&s->t, &s->arena, &s->t.users[1]), stranger = testing_ctx(&s->t, &s->arena, &s->t.stranger);
	for (int i = 0; i < SHARES; i++) {
		struct node n;
		s->shares[i] = testing_share(&bob, i ? "two" : "one");
		for (int k = 1; k < FOLDERS; k++) {
			must(testing_folder(&bob, s->shares[i], 0, k == 1 ? "A" : "B", &n) == 0);
			s->folders[i][k] = n.id;
		}
		struct member_add add = {s->shares[i], {ID_GROUP, s->t.group_id}, ROLE_READER, 0};
		struct member added;
		must(drive_member_add(&bob, &add, &added) == 0);
	}
	s->others_share = testing_share(&stranger, "other");
	for (int i = 0; i < CONTENTS; i++)
		s->contents[i] = content_of(s, s->t.tenant_id, i);
	s->others_content = content_of(s, s->t.other_tenant_id, 1);
	return s;
}

static void stage_free(struct stage *s)
{
	for (int i = 0; i < CONTENTS; i++)
		content_free(s->contents[i]);
	content_free(s->others_content);
	arena_fini(&s->arena);
	testing_close(&s->t);
	free(s);
}

/* Members, drawn anew from the seed so that either way begins with fresh ones. Mostly uploads, few of which meet a failure: then all
 * would be done with care. */
static size_t draw(struct arena *a, uint64_t seed, struct one_write *m)
{
	struct rng_seeded seeded;
	struct rng *rng = &seeded.base;
	rng_seeded_init(&seeded, seed);
	size_t n = 2 + rng_below(rng, MEMBERS_MAX - 2);
	unsigned trouble = seed % 3 == 0 ? 0 : seed % 3 == 1 ? 4 : 30; /* percent of members that may meet a failure, or make one */
	for (size_t i = 0; i < n; i++) {
		bool troubled = rng_below(rng, 100) < trouble, put = rng_below(rng, 100) < 80;
		static const enum kind harmless[] = {RENAME, TRASH, MAKE_FOLDER, NO_QUOTA, RESTORE_SHARE, TALLY, TALLY_OUTSIDE};
		m[i] = (struct one_write){
		    .kind = put ? PUT : troubled ? (enum kind)rng_below(rng, KINDS) : harmless[rng_below(rng, 7)],
		    .who = troubled && rng_below(rng, 3) == 0 ? 2 + (int)rng_below(rng, 2) : rng_below(rng, 9) == 0 ? TESTING_USERS : (int)rng_below(rng, 2),
		    .share = (int)rng_below(rng, SHARES),
		    .folder = (int)rng_below(rng, FOLDERS),
		    .content = (int)rng_below(rng, CONTENTS),
		    .name = arena_fmt(a, "%zu.txt", i),
		    .new_name = arena_fmt(a, "%zu.new", i),
		    .bytes = (int64_t)rng_below(rng, 5000),
		};
		struct one_write *p = i ? &m[rng_below(rng, i)] : &m[i];
		if (m[i].kind == RENAME || m[i].kind == TRASH) {
			m[i].who = 1;
			m[i].share = p->share;
			m[i].folder = p->folder;
			m[i].name = p->name;
			if (p->kind != PUT || p->who >= TESTING_USERS)
				m[i].kind = TALLY;
		}
		if (put && troubled && rng_below(rng, 2))
			m[i].name = p->name;
		if (put && rng_below(rng, 10) == 0)
			m[i].key = arena_fmt(a, "key %zu", i);
		if (put && p->key.n && rng_below(rng, 2)) {
			m[i] = *p;
			m[i].kind = PUT_AGAIN;
		}
		if (m[i].who >= TESTING_USERS && m[i].kind != PUT && m[i].kind != PUT_AGAIN)
			m[i].who = 1;
	}
	return n;
}

static struct buf play(uint64_t seed, bool together)
{
	struct one_write *m = calloc(MEMBERS_MAX, sizeof *m);
	struct stage *s = stage_new();
	struct buf told = {0};
	must(m != NULL);
	size_t n = draw(&s->arena, seed, m);
	run(s, m, n, together, &told);
	assert_int_equal(db_read(s->t.db, tell_op, &told), 0);
	buf_char(&told, 0);
	stage_free(s);
	free(m);
	return told;
}

static void together_as_alone(void **state)
{
	(void)state;
	const char *given = getenv("SCAIDRIVE_TEST_SEED"), *count = getenv("SCAIDRIVE_TEST_STEPS");
	uint64_t from = given ? strtoull(given, NULL, 10) : 1, rounds = count ? strtoull(count, NULL, 10) : ROUNDS;
	for (uint64_t seed = from; seed < from + rounds; seed++) {
		struct buf alone = play(seed, false), together = play(seed, true);
		if (strcmp(alone.p, together.p) != 0)
			print_error("seed %llu\n", (unsigned long long)seed);
		assert_string_equal(alone.p, together.p);
		buf_fini(&alone);
		buf_fini(&together);
	}
}

static int heard; /* nudges; all on this thread */

static void listener(void *arg, int64_t tenant_id)
{
	(void)arg, (void)tenant_id;
	heard++;
}

/* Uploads of several people are one transaction, which is not done twice. */
static void uploads_share_a_commit(void **state)
{
	(void)state;
	enum { N = 70 };
	struct stage *s = stage_new();
	struct one_write m[N];
	struct buf told = {0};
	struct db_counts before, after;
	drive_listen(&s->t.drive, listener, NULL);
	heard = 0;
	for (int i = 0; i < N; i++)
		m[i] = (struct one_write){.kind = PUT, .who = i % 2, .share = i % 3 == 0, .folder = i / 9 % 2, .content = i % CONTENTS,
		                       .name = arena_fmt(&s->arena, "%d", i)};
	m[5].key = STR("key");
	m[60] = m[5]; /* sent twice: the second finds what the first made, and makes nothing */
	db_counts(s->t.db, &before);
	run(s, m, N, true, &told);
	db_counts(s->t.db, &after);
	assert_int_equal(after.reruns, before.reruns);
	assert_true(after.groups - before.groups < N); /* as many as 20 ms hold */
	assert_int_equal(heard, N - 1);
	assert_int_equal(testing_i64(&s->t, "select count(*) from nodes where kind = 2"), N - 1);
	assert_int_equal(m[60].result.node.id, m[5].result.node.id);
	assert_int_equal(testing_i64(&s->t, "select count(*) from chunks"), CONTENTS - 1);
	buf_fini(&told);
	stage_free(s);
}

/* The last byte of a quota goes to who comes first, and who comes too late takes nothing from the others. */
static void a_quota_is_reached_exactly(void **state)
{
	(void)state;
	struct stage *s = stage_new();
	struct one_write m[] = {
	    {.kind = QUOTA, .who = 1, .bytes = 4200},
	    {.kind = PUT, .who = 1, .content = 2, .name = STR("1")}, /* 1,400 */
	    {.kind = PUT, .who = 1, .content = 4, .name = STR("2")}, /* 2,800: full */
	    {.kind = PUT, .who = 1, .content = 0, .name = STR("3")},
	    {.kind = PUT, .who = 1, .content = 1, .name = STR("4")}, /* too much */
	    {.kind = PUT, .who = 1, .content = 0, .name = STR("5")},
	};
	struct buf told = {0};
	run(s, m, sizeof m / sizeof *m, true, &told);
	assert_int_equal(testing_i64(&s->t, "select used_bytes from shares where name = 'one'"), 4200);
	assert_int_equal(testing_i64(&s->t, "select count(*) from nodes where kind = 2"), 4);
	assert_int_equal(m[4].put.write.w.err, E_QUOTA);
	assert_int_equal(m[5].put.write.w.err, 0);
	buf_fini(&told);
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(uploads_share_a_commit),
	    cmocka_unit_test(a_quota_is_reached_exactly),
	    cmocka_unit_test(together_as_alone),
	};
	return RUN_ON_BOTH("group", tests);
}
