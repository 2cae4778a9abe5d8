/* log: one JSON object a line: {"ts","level","msg", fields...}. The sink is set by bin/; base does no I/O of its own.
 *
 *   log_info("share created", LOG_S("name", name), LOG_I("bytes", n));
 *
 * Never log tokens, passwords, file content or query strings.
 */
#ifndef SD_BASE_LOG_H
#define SD_BASE_LOG_H

#include "base/str.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log_field {
	const char *key;
	bool is_int;
	int64_t i;
	struct str s;
};

#define LOG_S(k, v) ((struct log_field){.key = (k), .s = (v)})
#define LOG_C(k, v) ((struct log_field){.key = (k), .s = str_c(v)})
#define LOG_I(k, v) ((struct log_field){.key = (k), .is_int = true, .i = (v)})

#define log_at(level, msg, ...) \
	do { \
		if ((level) >= log_level()) { \
			const struct log_field log_fields_[] = {__VA_ARGS__ __VA_OPT__(, ) LOG_S(NULL, STR_NULL)}; \
			log_write((level), (msg), log_fields_); \
		} \
	} while (0)
#define log_debug(msg, ...) log_at(LOG_DEBUG, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_info(msg, ...) log_at(LOG_INFO, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_warn(msg, ...) log_at(LOG_WARN, msg __VA_OPT__(, ) __VA_ARGS__)
#define log_error(msg, ...) log_at(LOG_ERROR, msg __VA_OPT__(, ) __VA_ARGS__)

/* Receives one finished line, newline included; called from any thread. */
typedef void log_sink_fn(const char *line, size_t n);

/* The default sink drops everything. */
void log_set(log_sink_fn *sink, enum log_level least);
enum log_level log_level(void);
bool log_level_parse(struct str s, enum log_level *out);
/* fields ends with a NULL key. */
void log_write(enum log_level level, const char *msg, const struct log_field *fields);

#endif
