#include "http/hub.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/map.h"
#include "base/must.h"
#include "http/socket_priv.h"

struct tenant {
	struct socket_session *first;
	size_t count;
};

struct hub {
	pthread_mutex_t lock;
	struct map tenants;    /* tenant_id -> struct tenant */
	struct map principals; /* principal_id -> count, as a pointer-sized number */
	_Atomic size_t count;
};

struct hub *hub_new(void)
{
	struct hub *h = calloc(1, sizeof *h);
	must(h != NULL);
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

void hub_free(struct hub *h)
{
	if (!h)
		return;
	must(hub_count(h) == 0);
	map_fini(&h->tenants);
	map_fini(&h->principals);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

int hub_join(struct hub *h, struct socket_session *s, int64_t tenant_id, int64_t principal_id)
{
	pthread_mutex_lock(&h->lock);
	uintptr_t n = principal_id ? (uintptr_t)map_get(&h->principals, (uint64_t)principal_id) : 0;
	if (n >= LIMIT_WS_PER_PRINCIPAL) {
		pthread_mutex_unlock(&h->lock);
		return E_BUSY;
	}
	if (principal_id)
		map_put(&h->principals, (uint64_t)principal_id, (void *)(n + 1));
	struct tenant *t = map_get(&h->tenants, (uint64_t)tenant_id);
	if (!t) {
		t = calloc(1, sizeof *t);
		must(t != NULL);
		map_put(&h->tenants, (uint64_t)tenant_id, t);
	}
	s->hub_prev = NULL;
	s->hub_next = t->first;
	if (t->first)
		t->first->hub_prev = s;
	t->first = s;
	t->count++;
	atomic_fetch_add(&h->count, 1);
	pthread_mutex_unlock(&h->lock);
	return E_OK;
}

void hub_leave(struct hub *h, struct socket_session *s, int64_t tenant_id, int64_t principal_id)
{
	pthread_mutex_lock(&h->lock);
	struct tenant *t = map_get(&h->tenants, (uint64_t)tenant_id);
	must(t != NULL && t->count > 0);
	if (s->hub_prev)
		s->hub_prev->hub_next = s->hub_next;
	else
		t->first = s->hub_next;
	if (s->hub_next)
		s->hub_next->hub_prev = s->hub_prev;
	if (--t->count == 0)
		free(map_del(&h->tenants, (uint64_t)tenant_id));
	if (principal_id) {
		uintptr_t n = (uintptr_t)map_del(&h->principals, (uint64_t)principal_id);
		must(n > 0);
		if (n > 1)
			map_put(&h->principals, (uint64_t)principal_id, (void *)(n - 1));
	}
	atomic_fetch_sub(&h->count, 1);
	pthread_mutex_unlock(&h->lock);
}

void hub_each(struct hub *h, int64_t tenant_id, void (*fn)(struct socket_session *s, void *arg), void *arg)
{
	pthread_mutex_lock(&h->lock);
	if (tenant_id) {
		struct tenant *t = map_get(&h->tenants, (uint64_t)tenant_id);
		for (struct socket_session *s = t ? t->first : NULL; s; s = s->hub_next)
			fn(s, arg);
	} else {
		uint64_t key;
		void *t;
		for (size_t i = 0; map_next(&h->tenants, &i, &key, &t);)
			for (struct socket_session *s = ((struct tenant *)t)->first; s; s = s->hub_next)
				fn(s, arg);
	}
	pthread_mutex_unlock(&h->lock);
}

size_t hub_count(struct hub *h)
{
	return atomic_load(&h->count);
}
