/* Where log lines go: standard error or a file that can be moved away and opened anew (SIGHUP). */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/log.h"
#include "bin/server.h"
#include "io/logsink.h"

static int log_fd = STDERR_FILENO;
static const char *log_path = "";

static int open_file(void)
{
	return open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
}

void server_log_reopen(void)
{
	if (!*log_path)
		return;
	int fd = open_file();
	if (fd < 0) {
		log_error("the log file cannot be opened", LOG_C("path", log_path), LOG_C("reason", strerror(errno)));
		return;
	}
	/* The number stays, so that a line which is being written goes to the one file or the other. */
	logsink_flush();
	dup3(fd, log_fd, O_CLOEXEC);
	close(fd);
}

int server_log_start(const struct config *config)
{
	enum log_level level = LOG_INFO;
	log_level_parse(str_c(config_text(config, CFG_LOG_LEVEL)), &level);
	log_path = config_text(config, CFG_LOG_FILE);
	if (*log_path && (log_fd = open_file()) < 0)
		return usage_fault("%s: the log file cannot be opened: %s", log_path, strerror(errno)), 1;
	logsink_open(log_fd, level);
	return 0;
}

void server_log_stop(void)
{
	logsink_close();
}
