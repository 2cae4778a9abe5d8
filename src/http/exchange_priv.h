/* exchange_priv: what dispatch.c and finish.c share. */
#ifndef SD_HTTP_EXCHANGE_PRIV_H
#define SD_HTTP_EXCHANGE_PRIV_H

#include <pthread.h>

#include "base/id.h"
#include "http/dispatch.h"

struct http_count {
	_Atomic uint64_t status[500]; /* from 100 on */
	struct histogram duration;
};

struct http {
	struct http_config config;
	struct router *router;
	struct encoders *encoders;
	struct http_count *counts; /* one a route, and one for what matches none */
	struct rates *rates;       /* NULL: nothing is limited */
	struct counter *rejections[RATE_DIMENSIONS]; /* NULL: nothing is counted */
	_Atomic size_t inflight;
	pthread_mutex_t lock;
	struct exchange *pool;
	size_t pooled;
};

/* Turns the handler's result into the final reply: status, error body, standard headers, coding. */
void exchange_finish(struct exchange *x, int err);
void http_count_init(struct http *h);
/* 0: nobody. */
int64_t exchange_user_id(const struct exchange *x);
/* Its wire form, in the room; "" for nobody. */
struct str exchange_user(const struct exchange *x, char room[ID_WIRE_MAX + 1]);
/* ---- rate limits (limit.c) ---- */
/* Takes the route's units from whom the token belongs to. 0, or E_RATE_LIMITED. */
int exchange_charge(struct exchange *x, struct str token);
/* X-RateLimit-*, three of them, into out. */
void rate_headers(struct exchange *x, struct http_header out[3]);
/* The members of `error` that say why: ,"details":{...} */
void rate_details(const struct exchange *x, struct buf *out);
void http_rates_init(struct http *h);

#endif
