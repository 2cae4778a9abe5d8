/* Where log lines go: one write(2) a line, so that lines of many threads do not mix. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/log.h"
#include "bin/server.h"

static _Atomic int log_fd = STDERR_FILENO;
static const char *log_path;

static void sink(const char *line, size_t n)
{
	/* Nothing sensible can be done when this fails, and the server must not stop for its log. */
	ssize_t ignored = write(atomic_load(&log_fd), line, n);
	(void)ignored;
}

void server_log_reopen(void)
{
	if (!log_path || !*log_path)
		return;
	int fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		log_error("the log file cannot be opened", LOG_C("path", log_path), LOG_C("reason", strerror(errno)));
		return;
	}
	/* The old descriptor's number keeps its meaning for a line that is being written: dup3 swaps behind it. */
	int old = atomic_load(&log_fd);
	if (old == STDERR_FILENO) {
		atomic_store(&log_fd, fd);
	} else {
		dup3(fd, old, O_CLOEXEC);
		close(fd);
	}
}

int server_log_start(const struct config *config)
{
	enum log_level level = LOG_INFO;
	log_level_parse(str_c(config_text(config, CFG_LOG_LEVEL)), &level);
	log_path = config_text(config, CFG_LOG_FILE);
	log_set(sink, level);
	server_log_reopen();
	if (*log_path && atomic_load(&log_fd) == STDERR_FILENO)
		return usage_fault("%s: the log file cannot be opened", log_path), 1;
	return 0;
}
