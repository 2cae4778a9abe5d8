#include "http/metrics.h"

#include <pthread.h>
#include <stdlib.h>

const int64_t histogram_bounds_us[HISTOGRAM_BUCKETS] = {500,    1000,   2500,    5000,    10000,   25000,    50000,
                                                        100000, 250000, 500000, 1000000, 2500000, 10000000, 30000000};
static const char *const bound_names[HISTOGRAM_BUCKETS] = {"0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05",
                                                           "0.1",    "0.25",  "0.5",    "1",     "2.5",  "10",    "30"};

struct series {
	struct series *next;
	char *labels;
	struct counter counter;
	struct histogram *histogram;
	int64_t (*read)(void *);
	metrics_write_fn *write;
	void *arg;
};

struct family {
	struct family *next;
	const char *name, *help;
	enum metric_type type;
	struct series *series, **last;
};

struct metrics {
	pthread_mutex_t lock;
	struct family *families, **last;
};

void histogram_add(struct histogram *h, int64_t duration_us)
{
	if (duration_us < 0)
		duration_us = 0;
	int i = 0;
	while (i < HISTOGRAM_BUCKETS && duration_us > histogram_bounds_us[i])
		i++;
	atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&h->sum_us, (uint64_t)duration_us, memory_order_relaxed);
}

struct metrics *metrics_new(void)
{
	struct metrics *m = calloc(1, sizeof *m);
	must(m != NULL);
	pthread_mutex_init(&m->lock, NULL);
	m->last = &m->families;
	return m;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (struct family *f = m->families, *next; f; f = next) {
		next = f->next;
		for (struct series *s = f->series, *after; s; s = after) {
			after = s->next;
			free(s->labels);
			free(s->histogram);
			free(s);
		}
		free(f);
	}
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static struct series *add(struct metrics *m, const char *name, enum metric_type type, const char *help,
                          const char *labels)
{
	pthread_mutex_lock(&m->lock);
	struct family *f = m->families;
	while (f && strcmp(f->name, name) != 0)
		f = f->next;
	if (!f) {
		f = calloc(1, sizeof *f);
		must(f != NULL);
		f->name = name;
		f->help = help;
		f->type = type;
		f->last = &f->series;
		*m->last = f;
		m->last = &f->next;
	}
	must(f->type == type);
	struct series *s = calloc(1, sizeof *s);
	must(s != NULL);
	if (labels) {
		s->labels = strdup(labels);
		must(s->labels != NULL);
	}
	*f->last = s;
	f->last = &s->next;
	pthread_mutex_unlock(&m->lock);
	return s;
}

struct counter *metrics_counter(struct metrics *m, const char *name, const char *help, const char *labels)
{
	return &add(m, name, METRIC_COUNTER, help, labels)->counter;
}

struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help, const char *labels)
{
	struct histogram *h = calloc(1, sizeof *h);
	must(h != NULL);
	add(m, name, METRIC_HISTOGRAM, help, labels)->histogram = h;
	return h;
}

void metrics_gauge(struct metrics *m, const char *name, const char *help, const char *labels,
                   int64_t (*read)(void *arg), void *arg)
{
	struct series *s = add(m, name, METRIC_GAUGE, help, labels);
	pthread_mutex_lock(&m->lock);
	s->read = read;
	s->arg = arg;
	pthread_mutex_unlock(&m->lock);
}

void metrics_family(struct metrics *m, const char *name, enum metric_type type, const char *help,
                    metrics_write_fn *write, void *arg)
{
	struct series *s = add(m, name, type, help, NULL);
	pthread_mutex_lock(&m->lock);
	s->write = write;
	s->arg = arg;
	pthread_mutex_unlock(&m->lock);
}

static void sample_head(struct buf *out, const char *name, const char *suffix, struct str labels, const char *le)
{
	buf_str(out, str_c(name));
	buf_str(out, str_c(suffix));
	if (labels.n || le) {
		buf_char(out, '{');
		buf_str(out, labels);
		if (le)
			buf_fmt(out, "%sle=\"%s\"", labels.n ? "," : "", le);
		buf_char(out, '}');
	}
	buf_char(out, ' ');
}

void metrics_sample(struct buf *out, const char *name, struct str labels, int64_t value)
{
	sample_head(out, name, "", labels, NULL);
	buf_i64(out, value);
	buf_char(out, '\n');
}

void metrics_sample_histogram(struct buf *out, const char *name, struct str labels, const struct histogram *h)
{
	uint64_t total = 0;
	for (int i = 0; i <= HISTOGRAM_BUCKETS; i++) {
		total += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
		sample_head(out, name, "_bucket", labels, i < HISTOGRAM_BUCKETS ? bound_names[i] : "+Inf");
		buf_u64(out, total);
		buf_char(out, '\n');
	}
	uint64_t sum_us = atomic_load_explicit(&h->sum_us, memory_order_relaxed);
	sample_head(out, name, "_sum", labels, NULL);
	buf_fmt(out, "%llu.%06llu\n", (unsigned long long)(sum_us / 1000000), (unsigned long long)(sum_us % 1000000));
	sample_head(out, name, "_count", labels, NULL);
	buf_u64(out, total);
	buf_char(out, '\n');
}

void metrics_label(struct buf *labels, const char *key, struct str value)
{
	if (labels->n)
		buf_char(labels, ',');
	buf_str(labels, str_c(key));
	buf_lit(labels, "=\"");
	for (size_t i = 0; i < value.n; i++) {
		char c = value.p[i];
		if (c == '\n')
			buf_lit(labels, "\\n");
		else if (c == '"' || c == '\\') {
			buf_char(labels, '\\');
			buf_char(labels, c);
		} else
			buf_char(labels, c);
	}
	buf_char(labels, '"');
}

void metrics_text(struct metrics *m, struct buf *out)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	pthread_mutex_lock(&m->lock);
	for (struct family *f = m->families; f; f = f->next) {
		buf_fmt(out, "# HELP %s %s\n# TYPE %s %s\n", f->name, f->help, f->name, types[f->type]);
		for (struct series *s = f->series; s; s = s->next) {
			struct str labels = s->labels ? str_c(s->labels) : STR("");
			if (s->write)
				s->write(out, f->name, s->arg);
			else if (s->read)
				metrics_sample(out, f->name, labels, s->read(s->arg));
			else if (s->histogram)
				metrics_sample_histogram(out, f->name, labels, s->histogram);
			else if (f->type == METRIC_COUNTER)
				metrics_sample(out, f->name, labels, (int64_t)atomic_load(&s->counter.n));
		}
	}
	pthread_mutex_unlock(&m->lock);
}
