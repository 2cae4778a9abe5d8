/* metrics: counters, gauges and histograms, and their Prometheus text (exposition format 0.0.4).
 *
 * Adding to a counter is one relaxed atomic addition. Families are registered at start, by one thread, and live as long
 * as the registry; names and help are literals; labels is the text between the braces ("queue=\"meta\"") or NULL.
 */
#ifndef SD_HTTP_METRICS_H
#define SD_HTTP_METRICS_H

#include <stdatomic.h>

#include "base/buf.h"

struct metrics;

struct counter {
	_Atomic uint64_t n;
};

enum { HISTOGRAM_BUCKETS = 14 };
extern const int64_t histogram_bounds_us[HISTOGRAM_BUCKETS];

/* Durations; bounds from 0.5 ms to 30 s. */
struct histogram {
	_Atomic uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* the last one: above all bounds */
	_Atomic uint64_t sum_us;
};

static inline void counter_add(struct counter *c, uint64_t n)
{
	atomic_fetch_add_explicit(&c->n, n, memory_order_relaxed);
}

void histogram_add(struct histogram *h, int64_t duration_us);

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m);
/* Registering the same name again adds a series with other labels. labels is copied. */
struct counter *metrics_counter(struct metrics *m, const char *name, const char *help, const char *labels);
struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help, const char *labels);
/* Read when the text is written, from any thread. */
void metrics_gauge(struct metrics *m, const char *name, const char *help, const char *labels,
                   int64_t (*read)(void *arg), void *arg);
/* A family whose series are known only when the text is written: write() calls metrics_sample for each. */
enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };
typedef void metrics_write_fn(struct buf *out, const char *name, void *arg);
void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help,
                    metrics_write_fn *write, void *arg);

/* name{labels} value */
void metrics_sample(struct buf *out, const char *name, struct str labels, int64_t value);
void metrics_sample_histogram(struct buf *out, const char *name, struct str labels, const struct histogram *h);
/* key="value" with escapes, behind a comma unless labels is empty. */
void metrics_label(struct buf *labels, const char *key, struct str value);

/* The whole text; the type is "text/plain; version=0.0.4". */
void metrics_text(struct metrics *m, struct buf *out);

#endif
