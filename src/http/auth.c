#include "http/auth.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/limits.h"

enum { WAYS = 4, SHARDS = 16, DEFAULT_SLOTS = 8192 };
#define FRESH_US SECONDS_US(1)

struct slot {
	uint64_t hash;
	char *token; /* heap, token_n bytes; NULL: empty */
	size_t token_n;
	struct principal who; /* one heap block behind `memory` */
	void *memory;
	int64_t checked_us; /* monotonic */
	uint64_t user_epoch, keys_epoch;
};

struct shard {
	_Alignas(64) pthread_mutex_t lock;
	struct slot *slots; /* sets of WAYS */
};

struct auth {
	struct authenticator base;
	struct tokens *tokens;
	size_t sets; /* a shard */
	struct shard shards[SHARDS];
	_Atomic uint64_t hits, refreshed, verified, refused;
};

static void slot_clear(struct slot *s)
{
	if (s->token)
		explicit_bzero(s->token, s->token_n);
	free(s->token);
	free(s->memory);
	*s = (struct slot){0};
}

static struct str keep(char **at, struct str s)
{
	if (!s.p)
		return STR_NULL;
	struct str copy = {*at, s.n};
	memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

/* The principal in one block of its own. */
static void slot_fill(struct slot *s, uint64_t hash, struct str token, const struct principal *p)
{
	slot_clear(s);
	size_t groups = p->n_groups * sizeof *p->groups;
	char *at = malloc(groups + p->email.n + p->name.n + p->device_id.n + 1);
	s->token = malloc(token.n);
	must(at && s->token);
	memcpy(s->token, token.p, token.n);
	s->token_n = token.n;
	s->hash = hash;
	s->memory = at;
	s->who = *p;
	s->who.groups = (int64_t *)(void *)at;
	if (groups)
		memcpy(at, p->groups, groups);
	at += groups;
	s->who.email = keep(&at, p->email);
	s->who.name = keep(&at, p->name);
	s->who.device_id = keep(&at, p->device_id);
}

static struct principal *copy_principal(struct ctx *ctx, const struct principal *p)
{
	struct principal *copy = arena_new(ctx->arena, struct principal);
	*copy = *p;
	copy->groups = arena_many(ctx->arena, p->n_groups, int64_t);
	if (p->n_groups)
		memcpy(copy->groups, p->groups, p->n_groups * sizeof *p->groups);
	copy->email = arena_str(ctx->arena, p->email);
	copy->name = arena_str(ctx->arena, p->name);
	copy->device_id = arena_str(ctx->arena, p->device_id);
	return copy;
}

static struct slot *slot_find(struct slot *set, uint64_t hash, struct str token)
{
	for (int i = 0; i < WAYS; i++)
		if (set[i].token && set[i].hash == hash && set[i].token_n == token.n && memcmp(set[i].token, token.p, token.n) == 0)
			return &set[i];
	return NULL;
}

static void store(struct shard *shard, struct slot *set, uint64_t hash, struct str token, const struct principal *who,
                  int64_t now, uint64_t user_ep, uint64_t keys_ep)
{
	pthread_mutex_lock(&shard->lock);
	struct slot *s = slot_find(set, hash, token);
	for (int i = 0; i < WAYS && !s; i++)
		if (!set[i].token)
			s = &set[i];
	if (!s) {
		s = set;
		for (int i = 1; i < WAYS; i++)
			if (set[i].checked_us < s->checked_us)
				s = &set[i];
	}
	slot_fill(s, hash, token, who);
	s->checked_us = now;
	s->user_epoch = user_ep;
	s->keys_epoch = keys_ep;
	pthread_mutex_unlock(&shard->lock);
}

static void forget(struct shard *shard, struct slot *set, uint64_t hash, struct str token)
{
	pthread_mutex_lock(&shard->lock);
	struct slot *s = slot_find(set, hash, token);
	if (s)
		slot_clear(s);
	pthread_mutex_unlock(&shard->lock);
}

static void accept(struct ctx *ctx, const struct principal *who)
{
	ctx->who = who;
	ctx->tenant_id = who->tenant_id;
}

static int verify(struct authenticator *self, struct ctx *ctx, struct str token)
{
	struct auth *a = (struct auth *)self;
	if (token.n == 0 || token.n > LIMIT_TOKEN_BYTES)
		return ctx_fail(ctx, E_UNAUTHENTICATED, "The token is not valid.");
	uint64_t hash = xxh3_64(token.p, token.n);
	struct shard *shard = &a->shards[hash % SHARDS];
	struct slot *set = shard->slots + (hash / SHARDS) % a->sets * WAYS;
	/* Taken before the row is read: a change during the read makes the entry stale, never fresh. */
	uint64_t user_ep = user_epoch(), keys_ep = tokens_epoch(ctx, a->tokens);
	int64_t now = clock_mono(ctx->clock);
	struct principal *who = NULL;
	bool fresh = false;

	pthread_mutex_lock(&shard->lock);
	struct slot *s = slot_find(set, hash, token);
	if (s && s->keys_epoch == keys_ep) {
		who = copy_principal(ctx, &s->who);
		fresh = s->user_epoch == user_ep && now - s->checked_us < FRESH_US;
	}
	pthread_mutex_unlock(&shard->lock);

	int err = 0;
	if (who && token_expired(clock_now(ctx->clock), who->expires_at_us))
		err = ctx_fail(ctx, E_UNAUTHENTICATED, "The token is not valid.");
	else if (who && fresh)
		atomic_fetch_add_explicit(&a->hits, 1, memory_order_relaxed);
	else if (who)
		err = principal_load(ctx, who->tenant_id, who->user_id, who);
	else
		err = token_verify(ctx, a->tokens, token, who = arena_new(ctx->arena, struct principal));
	if (err == E_UNAUTHENTICATED || err == E_SUSPENDED) {
		atomic_fetch_add_explicit(&a->refused, 1, memory_order_relaxed);
		forget(shard, set, hash, token);
	} else if (!err && !fresh) {
		atomic_fetch_add_explicit(s ? &a->refreshed : &a->verified, 1, memory_order_relaxed);
		store(shard, set, hash, token, who, now, user_ep, keys_ep);
	}
	if (!err)
		accept(ctx, who);
	return err;
}

static int64_t user_id(struct authenticator *self, const struct principal *who)
{
	(void)self;
	return who ? who->user_id : 0;
}

struct authenticator *auth_new(struct tokens *tokens, size_t slots)
{
	struct auth *a = aligned_alloc(64, (sizeof *a + 63) / 64 * 64);
	must(a);
	memset(a, 0, sizeof *a);
	a->base.verify = verify;
	a->base.user_id = user_id;
	a->tokens = tokens;
	if (slots == 0)
		slots = DEFAULT_SLOTS;
	a->sets = (slots + SHARDS * WAYS - 1) / (SHARDS * WAYS);
	for (int i = 0; i < SHARDS; i++) {
		pthread_mutex_init(&a->shards[i].lock, NULL);
		a->shards[i].slots = calloc(a->sets * WAYS, sizeof(struct slot));
		must(a->shards[i].slots);
	}
	return &a->base;
}

void auth_free(struct authenticator *base)
{
	struct auth *a = (struct auth *)base;
	if (!a)
		return;
	for (int i = 0; i < SHARDS; i++) {
		for (size_t k = 0; k < a->sets * WAYS; k++)
			slot_clear(&a->shards[i].slots[k]);
		free(a->shards[i].slots);
		pthread_mutex_destroy(&a->shards[i].lock);
	}
	free(a);
}

void auth_counts(struct authenticator *base, struct auth_counts *out)
{
	struct auth *a = (struct auth *)base;
	*out = (struct auth_counts){atomic_load(&a->hits), atomic_load(&a->refreshed), atomic_load(&a->verified),
	                            atomic_load(&a->refused)};
}
