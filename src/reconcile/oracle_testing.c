#include "reconcile/oracle_testing.h"

#include <stdio.h>

#include "base/must.h"
#include "base/rng.h"
#include "reconcile/guard.h"
#include "reconcile/model.h"

static struct sha256 bytes(uint64_t content)
{
	struct sha256 h = {{0}};
	memcpy(h.b, &content, sizeof(content));
	return h;
}

static bool same_outcome(const struct model *m, const struct resolve_outcome *o, const struct model_result *r,
			 bool delete, int64_t head_before, bool live_before)
{
	if (o->refused || r->err)
		return o->refused && r->err;
	const struct model_node *n = model_get(m, r->id);
	bool live = model_is_live(m, r->id), moved = n->head != head_before;
	enum resolve_head head = delete &&live_before && !live ? RESOLVE_HEAD_DELETED
				 : moved                       ? RESOLVE_HEAD_INCOMING
							       : RESOLVE_HEAD_STAYS;
	bool kept = !delete &&r->version_id && r->version_id != n->head;
	return o->head == head && o->restore == (live && !live_before) && o->keep_incoming == kept &&
	       o->copy == (r->copy_id != 0) && o->conflict == r->conflict;
}

bool oracle_resolve(uint64_t seed)
{
	struct rng_seeded rng;
	struct model m;
	rng_seeded_init(&rng, seed);
	model_init(&m);
	uint64_t contents = 1 + rng_below(&rng.base, 4);
	struct model_op op = {
	    .verb = MODEL_MAKE, .kind = NODE_FILE, .name = STR("x"), .checksum = bytes(1), .seen_seq = -1};
	int64_t id = model_apply(&m, &op).id;
	op.id = id;
	op.verb = MODEL_PUT;
	for (uint64_t c = 2; c <= contents; c++) {
		op.checksum = bytes(c);
		must(!model_apply(&m, &op).err);
	}
	bool live = rng_below(&rng.base, 4) > 0, delete = live && rng_below(&rng.base, 4) == 0;
	if (!live) {
		op.verb = MODEL_TRASH;
		must(!model_apply(&m, &op).err);
	}
	const struct model_version *head = model_version(&m, model_get(&m, id)->head);
	struct resolve_side there = {
	    .deleted = !live, .version_id = head->id, .has_checksum = true, .checksum = head->checksum};
	op.verb = delete ? MODEL_TRASH : MODEL_PUT;
	op.strategy = (enum resolve_strategy)rng_below(&rng.base, RESOLVE_MANUAL + 1);
	op.base_version_id = m.versions[rng_below(&rng.base, m.n_versions)].id;
	op.checksum = bytes(1 + rng_below(&rng.base, contents + 2));
	struct resolve_side in = {.deleted = delete, .has_checksum = true, .checksum = op.checksum};
	struct resolve_outcome o = resolve(op.strategy, op.base_version_id, &there, &in);
	int64_t head_before = head->id;
	struct model_result r = model_apply(&m, &op);
	bool same = same_outcome(&m, &o, &r, delete, head_before, live);
	model_fini(&m);
	return same;
}

bool oracle_guard(uint64_t seed)
{
	struct rng_seeded rng;
	rng_seeded_init(&rng, seed);
	size_t all = 1 + rng_below(&rng.base, rng_below(&rng.base, 8) ? 60 : 3000);
	size_t deleted = rng_below(&rng.base, all + 1), folders = 1 + rng_below(&rng.base, 4);
	bool remotely = rng_below(&rng.base, 2);
	struct tree trees[3];
	tree_init(&trees[0]);
	tree_init(&trees[1]);
	tree_init_flat(&trees[2]);
	struct arena a;
	arena_init(&a);
	for (size_t i = 1; i <= all; i++) {
		struct node_facts f = {.id = (int64_t)i, .kind = i <= folders ? NODE_FOLDER : NODE_FILE};
		f.parent = i <= folders
			       ? TREE_ROOT
			       : 1 + (int64_t)(i % folders); /* the last ones go, so no folder loses its files first */
		f.name = arena_fmt(&a, "%zu", i);
		for (int t = 0; t < 3; t++)
			if (t == 2 || t == (int)remotely || i <= all - deleted)
				tree_put(&trees[t], &f);
	}
	struct plan p;
	plan_make(&trees[0], &trees[1], &trees[2],
		  &(struct plan_options){.device = STR("d"), .date = STR("2026-01-01")}, &p);
	struct guard_verdict v = guard_check(&p, &trees[0], &trees[2]);
	bool stop = deleted > 1000 || (deleted >= 10 && deleted > all / 2);
	bool right = v.stop == stop && v.synced == all && v.local == (remotely ? deleted : 0) &&
		     v.remote == (remotely ? 0 : deleted);
	plan_fini(&p);
	for (int t = 0; t < 3; t++)
		tree_fini(&trees[t]);
	arena_fini(&a);
	return right;
}
