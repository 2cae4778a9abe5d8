/* exchange_priv: what dispatch.c and finish.c share. */
#ifndef SD_HTTP_EXCHANGE_PRIV_H
#define SD_HTTP_EXCHANGE_PRIV_H

#include <pthread.h>

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
	_Atomic size_t inflight;
	pthread_mutex_t lock;
	struct exchange *pool;
	size_t pooled;
};

/* Turns the handler's result into the final reply: status, error body, standard headers, coding. */
void exchange_finish(struct exchange *x, int err);
void http_count_init(struct http *h);

#endif
