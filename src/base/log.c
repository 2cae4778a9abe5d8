#include "base/log.h"

#include <stdatomic.h>

#include "base/json.h"
#include "base/time.h"

static _Atomic(log_sink_fn *) log_sink;
static _Atomic int log_least = LOG_INFO;
static const char *const names[] = {"debug", "info", "warn", "error"};

void log_set(log_sink_fn *sink, enum log_level least)
{
	atomic_store(&log_sink, sink);
	atomic_store(&log_least, (int)least);
}

enum log_level log_level(void)
{
	return (enum log_level)atomic_load_explicit(&log_least, memory_order_relaxed);
}

bool log_level_parse(struct str s, enum log_level *out)
{
	for (int i = 0; i < 4; i++)
		if (str_eq(s, str_c(names[i]))) {
			*out = (enum log_level)i;
			return true;
		}
	return false;
}

void log_write(enum log_level level, const char *msg, const struct log_field *fields)
{
	struct buf line = {0};
	log_sink_fn *sink = atomic_load(&log_sink);
	if (!sink)
		return;
	buf_reserve(&line, 512);
	buf_lit(&line, "{\"ts\":\"");
	buf_time_us(&line, clock_now(&clock_system));
	buf_lit(&line, "\",\"level\":\"");
	buf_str(&line, str_c(names[level]));
	buf_lit(&line, "\",\"msg\":");
	json_put_str(&line, str_c(msg));
	for (; fields->key; fields++) {
		buf_lit(&line, ",\""); /* keys are ours and plain */
		buf_str(&line, str_c(fields->key));
		buf_lit(&line, "\":");
		if (fields->is_int)
			buf_i64(&line, fields->i);
		else
			json_put_str(&line, fields->s);
	}
	buf_lit(&line, "}\n");
	sink(line.p, line.n);
	buf_fini(&line);
}
