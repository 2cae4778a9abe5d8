/* The packs that small writes share, one per tenant, and their common flush (group commit: whoever comes first while no
 * flush runs seals the segment and syncs for all who appended before; those who come meanwhile fill the next segment
 * and are served by the next flush. Nobody waits for company). */
#include <stdlib.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/must.h"
#include "base/mutant.h"
#include "chunks/store_priv.h"

static void pack_gone(struct shared_pack *p)
{
	pack_close(&p->w);
	pthread_cond_destroy(&p->flushed);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

void shared_release(struct store *s, struct shared_pack *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&s->mu);
	bool last = --p->refs == 0;
	pthread_mutex_unlock(&s->mu);
	if (last)
		pack_gone(p);
}

/* Takes the pack off the table, so that the next append begins another. */
static void retire(struct store *s, struct shared_pack *p)
{
	pthread_mutex_lock(&s->mu);
	bool listed = map_get(&s->shared, (uint64_t)p->tenant_id) == p;
	if (listed)
		map_del(&s->shared, (uint64_t)p->tenant_id);
	pthread_mutex_unlock(&s->mu);
	if (listed)
		shared_release(s, p);
}

/* With p->mu held: what is not durable yet is lost. */
static void give_up(struct shared_pack *p, int err)
{
	if (p->err == E_OK)
		p->err = err;
	pthread_cond_broadcast(&p->flushed);
}

static struct shared_pack *lookup(struct store *s, int64_t tenant_id)
{
	pthread_mutex_lock(&s->mu);
	struct shared_pack *p = map_get(&s->shared, (uint64_t)tenant_id);
	if (p)
		p->refs++;
	pthread_mutex_unlock(&s->mu);
	return p;
}

/* Some pack that no ingest holds, when there are too many. */
static struct shared_pack *idle_pack(struct store *s)
{
	struct shared_pack *idle = NULL;
	uint64_t key;
	void *value;
	pthread_mutex_lock(&s->mu);
	if (s->shared.count >= SHARED_OPEN) {
		for (size_t i = 0; !idle && map_next(&s->shared, &i, &key, &value);)
			if (((struct shared_pack *)value)->refs == 1)
				idle = value;
		if (idle)
			idle->refs++;
	}
	pthread_mutex_unlock(&s->mu);
	return idle;
}

/* The tenant's open pack, referenced. */
static int open_pack(struct store *s, int64_t tenant_id, struct shared_pack **out)
{
	*out = lookup(s, tenant_id);
	if (*out)
		return E_OK;
	struct shared_pack *idle = idle_pack(s);
	if (idle) {
		retire(s, idle);
		shared_release(s, idle);
	}
	struct shared_pack *p = calloc(1, sizeof *p);
	must(p != NULL);
	int err = store_pack_create(s, tenant_id, &p->w);
	if (err != E_OK) {
		free(p);
		return err;
	}
	p->tenant_id = tenant_id;
	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->flushed, NULL);
	p->refs = 2; /* the table's and the caller's */
	pthread_mutex_lock(&s->mu);
	struct shared_pack *other = map_get(&s->shared, (uint64_t)tenant_id);
	if (other)
		other->refs++;
	else
		map_put(&s->shared, (uint64_t)tenant_id, p);
	pthread_mutex_unlock(&s->mu);
	if (other) { /* another thread was faster */
		store_pack_drop(s, &p->w);
		pack_gone(p);
		p = other;
	}
	*out = p;
	return E_OK;
}

/* The collector lets packs alone that somebody may have open, by their age. */
static bool is_old(const struct store *s, const struct shared_pack *p)
{
	return clock_now(s->config.clock) - id_time_us(p->w.id) > MILLIS_US(LIMIT_PACK_OPEN_MS);
}

/* One append with p->mu held. *again: the pack takes no more, try the next one. */
static int append_locked(struct shared_pack *p, struct pack_entry *e, const void *stored, uint64_t *ticket, bool *again)
{
	*again = p->err != E_OK || p->full;
	if (*again)
		return E_OK;
	bool broken;
	int err = pack_append(&p->w, e, stored, &broken);
	if (broken)
		give_up(p, err);
	if (err != E_OK)
		return err;
	*ticket = ++p->appended;
	p->full = p->w.tail >= SHARED_PACK_BYTES;
	return E_OK;
}

int shared_append(struct store *s, int64_t tenant_id, struct shared_pack **held, struct pack_entry *e,
                  const void *stored, int64_t *pack_id, uint64_t *ticket)
{
	for (;;) {
		struct shared_pack *p;
		int err = open_pack(s, tenant_id, &p);
		if (err != E_OK)
			return err;
		if (*held && *held != p) {
			err = shared_flush(s, *held, *ticket);
			if (err != E_OK) {
				shared_release(s, p);
				return err;
			}
			shared_release(s, *held);
			*held = NULL;
		}
		bool again;
		pthread_mutex_lock(&p->mu);
		p->full |= is_old(s, p);
		err = append_locked(p, e, stored, ticket, &again);
		bool done_with = p->full || p->err != E_OK;
		pthread_mutex_unlock(&p->mu);
		if (done_with)
			retire(s, p);
		if (again || err != E_OK || *held == p) {
			*pack_id = p->w.id;
			shared_release(s, p);
		} else {
			*pack_id = p->w.id;
			*held = p;
		}
		if (!again)
			return err;
	}
}

/* With p->mu held and no flush running: seals, then syncs with the lock released. */
static void flush_locked(struct shared_pack *p)
{
	uint64_t target = p->appended;
	p->flushing = true;
	int err = pack_seal(&p->w);
	int64_t end = p->w.segment;
	pthread_mutex_unlock(&p->mu);
	if (err == E_OK)
		err = mutant(M_PACK_NO_SYNC) ? 0 : pack_sync(p->w.file, end);
	pthread_mutex_lock(&p->mu);
	p->flushing = false;
	if (err != E_OK)
		give_up(p, err);
	else if (p->durable < target)
		p->durable = target;
	pthread_cond_broadcast(&p->flushed);
}

int shared_flush(struct store *s, struct shared_pack *p, uint64_t ticket)
{
	pthread_mutex_lock(&p->mu);
	while (p->durable < ticket && p->err == E_OK) {
		if (p->flushing)
			pthread_cond_wait(&p->flushed, &p->mu);
		else
			flush_locked(p);
	}
	int err = p->durable >= ticket ? E_OK : p->err;
	bool dead = p->err != E_OK;
	pthread_mutex_unlock(&p->mu);
	if (dead)
		retire(s, p);
	return err;
}

void shared_close_all(struct store *s)
{
	uint64_t key;
	void *value;
	while (s->shared.count > 0) {
		size_t i = 0;
		must(map_next(&s->shared, &i, &key, &value));
		struct shared_pack *p = value;
		must(p->refs == 1);
		p->refs++;
		(void)shared_flush(s, p, p->appended); /* nobody waits for it: those ingests were aborted */
		retire(s, p);
		shared_release(s, p);
	}
	map_fini(&s->shared);
}
