/* What must hold. */
#include <stdio.h>
#include <stdlib.h>

#include "base/must.h"
#include "drive/check.h"
#include "sim.h"

enum { PASSES_MAX = 60 };

/* ---- at restarts ---- */

void oracle_acked(struct sim *s)
{
	int64_t head = server_i64(&s->server, "select seq from tenants where id = $1", s->server.tenant_id);
	if (head < 0 && !s->calm)
		return; /* its disk fails just now; there will be another start */
	if (head < s->server.acked_seq)
		sim_violation(s, "the log ends at %lld, but %lld was acknowledged", (long long)head, (long long)s->server.acked_seq);
}

enum { ANY_SHARE = -1 };

/* In the folder of a device that syncs this share. */
static bool on_a_disk_of(const struct sim *s, int content, int share)
{
	for (int i = 0; i < s->n_devices; i++) {
		const struct fs *f = &s->devices[i].fs;
		if (share != ANY_SHARE && s->devices[i].share != share)
			continue;
		for (size_t k = 0; k < f->live.n; k++)
			if (f->live.v[k].node->content == content && !fs_is_below(f, f->live.v[k].node, f->own))
				return true;
	}
	return false;
}

static bool on_a_disk(const struct sim *s, int content)
{
	return on_a_disk_of(s, content, ANY_SHARE);
}

void oracle_at_risk(struct sim *s)
{
	for (size_t i = 0; i < s->n_contents; i++) {
		struct content_row *c = &s->contents[i];
		bool there = c->tracked && !c->released && on_a_disk(s, (int)i);
		if (c->tracked && !c->released && !there && (!s->server.open || server_has(&s->server, &c->hash, &there)))
			there = true; /* it cannot be told now */
		c->at_risk = there || (s->look_for_lost && c->at_risk);
	}
}

void oracle_lost(struct sim *s)
{
	s->look_for_lost = !s->server.open;
	if (s->look_for_lost)
		return;
	for (size_t i = 0; i < s->n_contents; i++) {
		struct content_row *c = &s->contents[i];
		bool there = !c->tracked || c->released || !c->at_risk || on_a_disk(s, (int)i);
		if (!there && server_has(&s->server, &c->hash, &there))
			s->look_for_lost = true; /* it cannot be told now */
		else if (!there)
			content_release(s, (int)i, "it is nowhere any more");
	}
}

void oracle_before_restore(struct sim *s, struct living *out)
{
	*out = (struct living){0};
	server_nodes(&s->server, &out->v, &out->n);
}

static bool lives_in(const struct server_node *v, size_t n, const struct server_node *x)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].live && v[i].id == x->id && sha256_eq(&v[i].hash, &x->hash))
			return true;
	return false;
}

/* All files with these bytes are in shares that no holder of them syncs: the holders are told to trash theirs, or were, and a device that
 * is in the midst of a round when the server is restored does as it was told. The trash of the device keeps it. */
static bool moved_off(const struct sim *s, const struct living *before, int content)
{
	bool off = false;
	for (size_t k = 0; k < before->n; k++) {
		if (!before->v[k].live || !sha256_eq(&before->v[k].hash, &s->contents[content].hash))
			continue;
		if (on_a_disk_of(s, content, before->v[k].share))
			return false;
		off = true;
	}
	return off;
}

void oracle_after_restore(struct sim *s, const struct living *before)
{
	struct living now;
	oracle_before_restore(s, &now);
	for (size_t i = 0; i < s->n_contents; i++) {
		struct content_row *c = &s->contents[i];
		bool there = !c->tracked || c->released || (on_a_disk(s, (int)i) && !moved_off(s, before, (int)i));
		for (size_t k = 0; k < before->n && !there; k++)
			there = before->v[k].live && sha256_eq(&before->v[k].hash, &c->hash) && lives_in(now.v, now.n, &before->v[k]);
		if (!there)
			content_release(s, (int)i, "the file that held it is of the lost time");
	}
}

/* ---- becoming quiet ---- */

static void heal(struct sim *s)
{
	struct server *v = &s->server;
	s->calm = true;
	s->n_ghosts = 0;
	sim_note(s, "---- the faults are over");
	if (v->open)
		server_stop(v);
	struct disk *disks[] = {v->db_disk, v->pack_disk};
	for (int i = 0; i < 2; i++) {
		disk_fault_at(disks[i], 1, 0, 0);
		disk_fault_die(disks[i], -1);
		disk_fault_capacity(disks[i], -1);
		disk_fault_sync(disks[i], 0);
	}
	server_start(v);
	if (sim_failed(s))
		return;
	api_quota(s, -1);
	for (int i = 0; i < s->n_shares; i++)
		api_member(s, i, 1, "contributor");
	for (int i = 0; i < s->n_devices; i++) {
		struct device *d = &s->devices[i];
		d->net = NET_OK;
		d->die_in = d->root_fault_in = 0;
		d->fs.space = -1;
		d->list_fault = false;
		disk_fault_at(d->disk, 1, 0, 0);
		disk_fault_capacity(d->disk, -1);
		disk_fault_die(d->disk, -1);
	}
}

static bool pass_is_quiet(struct sim *s)
{
	bool quiet = true;
	int64_t head = server_i64(&s->server, "select seq from tenants where id = $1", s->server.tenant_id);
	s->now_us += SECONDS_US(61);
	for (int i = 0; i < s->n_devices && !sim_failed(s); i++) {
		struct device *d = &s->devices[i];
		device_round(d, true);
		quiet = quiet && d->open && d->in_step && d->done == 0;
	}
	return quiet && head == server_i64(&s->server, "select seq from tenants where id = $1", s->server.tenant_id);
}

static void settle(struct sim *s)
{
	for (int i = 0; i < PASSES_MAX && !sim_failed(s); i++)
		if (pass_is_quiet(s))
			return;
	for (int i = 0; i < s->n_devices; i++) {
		struct device *d = &s->devices[i];
		if (!d->open || !d->in_step || d->done)
			sim_violation(s, "d%d does not come to rest: %s, %s", d->number, d->open ? "runs" : "does not start",
			              d->open && d->agent.n_problems ? d->agent.problems[0].what : "no problem told");
	}
	sim_violation(s, "the devices do not come to rest");
}

/* ---- temporary names ---- */

static bool is_temporary(const struct sim *s, const struct server_node *n)
{
	char text[48];
	bool synced = false;
	for (int i = 0; i < s->n_devices; i++)
		synced |= s->devices[i].share == n->share;
	snprintf(text, sizeof(text), ".scaidrive-moving-%lld", (long long)n->id);
	struct str rest = str_starts(n->name, str_c(text)) ? str_skip(n->name, strlen(text)) : STR("x");
	return synced && n->live && (!rest.n || rest.p[0] == '-');
}

static const struct server_node *any_temporary(struct sim *s)
{
	struct server_node *v;
	size_t n;
	must(server_nodes(&s->server, &v, &n));
	for (size_t i = 0; i < n; i++)
		if (is_temporary(s, &v[i]))
			return &v[i];
	return NULL;
}

/* In the end no node bears a name that a device gave it on the way to another. */
static void leave_temporary(struct sim *s)
{
	if (!any_temporary(s))
		return;
	s->now_us += 2 * PLAN_TEMP_STANDS_US;
	settle(s);
	const struct server_node *left = sim_failed(s) ? NULL : any_temporary(s);
	if (left)
		sim_violation(s, "\"%.*s\" keeps its temporary name", STR_ARG(left->name));
}

/* ---- comparing ---- */

static const struct server_node *node_by_id(const struct server_node *v, size_t n, int64_t id)
{
	for (size_t i = 0; i < n; i++)
		if (v[i].id == id && v[i].live)
			return &v[i];
	return NULL;
}

static int64_t parent_of(const struct sim *s, const struct server_node *n)
{
	return n->parent_id == s->server.root_ids[n->share] ? TREE_ROOT : n->parent_id;
}

static const struct node *local_node(const struct device *d, struct str path)
{
	const struct tree *t = &d->replica.trees[REPLICA_LOCAL];
	const struct node *n = t->root;
	while (n && path.n)
		n = tree_child_exact(t, n->f.id, str_cut(&path, '/'));
	return n;
}

static void compare_entry(struct sim *s, struct device *d, const struct seen *e, const struct server_node *v, size_t n)
{
	const struct node *local = local_node(d, e->path);
	const struct server_node *r = local ? node_by_id(v, n, local->f.id) : NULL;
	if (!r || r->share != d->share || r->is_folder != e->node->is_folder || parent_of(s, r) != local->f.parent) {
		sim_violation(s, "d%d: \"%.*s\" is not on the server", d->number, STR_ARG(e->path));
		return;
	}
	const struct node *agreed = tree_get(&d->replica.trees[REPLICA_SYNCED], r->id);
	bool named = str_eq(r->name, e->dent->name) || (agreed && agreed->f.local_name.p && str_eq(agreed->f.local_name, e->dent->name));
	if (!named)
		sim_violation(s, "d%d: \"%.*s\" is called \"%.*s\" on the server", d->number, STR_ARG(e->path), STR_ARG(r->name));
	if (!r->is_folder && !sha256_eq(&s->contents[e->node->content].hash, &r->hash))
		sim_violation(s, "d%d: \"%.*s\" holds content %d, on the server %d", d->number, STR_ARG(e->path), e->node->content,
		              content_find(s, &r->hash));
	if (!r->is_folder && r->executable != e->node->executable)
		sim_violation(s, "d%d: \"%.*s\" differs in its executable bit", d->number, STR_ARG(e->path));
}

static void compare_device(struct sim *s, struct device *d, const struct server_node *v, size_t n)
{
	struct seen *seen;
	size_t n_seen = fs_list(&d->fs, &seen), n_live = 0;
	for (size_t i = 0; i < n; i++)
		n_live += v[i].live && v[i].share == d->share;
	for (size_t i = 0; i < n_seen; i++)
		compare_entry(s, d, &seen[i], v, n);
	for (size_t i = 0; n_seen != n_live && i < n; i++) {
		bool here = !v[i].live || v[i].share != d->share;
		for (size_t k = 0; k < n_seen && !here; k++) {
			const struct node *local = local_node(d, seen[k].path);
			here = local && local->f.id == v[i].id;
		}
		if (!here)
			sim_violation(s, "d%d: \"%.*s\" of the server is not here", d->number, STR_ARG(v[i].name));
	}
}

static void check_contents(struct sim *s, const struct server_node *v, size_t n)
{
	for (size_t i = 0; i < s->n_contents; i++) {
		struct content_row *c = &s->contents[i];
		bool live = !c->tracked || c->released, kept = false;
		for (size_t k = 0; k < n && !live; k++)
			live = v[k].live && !v[k].is_folder && sha256_eq(&v[k].hash, &c->hash);
		if (!live && server_has(&s->server, &c->hash, &kept))
			sim_violation(s, "the versions cannot be read");
		if (!live)
			sim_violation(s, "content %zu of %s%d is lost: nobody gave it up, and %s", i, c->device < 0 ? "api" : "d", c->device,
			              kept ? "it is only in a history or in the trash" : "the server never had it");
	}
}

/* ---- the server's own books ---- */

static void on_finding(void *arg, const struct check_finding *f)
{
	sim_violation(arg, "fsck: %s: %.*s", f->code, STR_ARG(f->sentence));
}

static void on_garbage(void *arg, struct str file, int64_t bytes)
{
	(void)arg, (void)file, (void)bytes;
}

static void on_check(void *arg, const char *what, int64_t done, int64_t all)
{
	(void)arg, (void)what, (void)done, (void)all;
}

static int hashes_op(struct tx *tx, void *arg)
{
	struct sim *s = arg;
	AUTO_ROWS *r = NULL;
	int err = tx_query(tx, "select id, sha256 from versions where tenant_id = $1", DB_ARGS(V_I(s->server.tenant_id)), &r);
	while (!err && rows_next(r)) {
		struct sha256 hash;
		memcpy(hash.b, rows_blob(r, 1).p, sizeof(hash.b));
		if (content_find(s, &hash) < 0)
			sim_violation(s, "the server holds a content that nobody wrote (version %lld)", (long long)rows_i64(r, 0));
	}
	return err ? err : rows_close(&r);
}

/* What `scaidrived fsck --deep` checks, and that no torn file came in. */
static void check_books(struct sim *s)
{
	struct server *v = &s->server;
	struct check_totals totals;
	struct check_config config = {.db = v->db, .store = v->store, .packs = v->pack_disk, .clock = &v->clock.clock,
	                              .depth = CHECK_DEEP, .finding = on_finding, .garbage = on_garbage, .progress = on_check,
	                              .arg = s};
	if (drive_check(&config, &totals) || db_read(v->db, hashes_op, s))
		sim_violation(s, "the server's books cannot be read");
}

void oracle_quiet(struct sim *s)
{
	struct server_node *v;
	size_t n;
	heal(s);
	if (!sim_failed(s))
		settle(s);
	if (!sim_failed(s))
		leave_temporary(s);
	if (sim_failed(s))
		return;
	must(server_nodes(&s->server, &v, &n));
	for (int i = 0; i < s->n_devices; i++)
		compare_device(s, &s->devices[i], v, n);
	check_contents(s, v, n);
	if (s->seed >= SECOND_DRAW)
		care_clean(&s->server);
	check_books(s);
}
