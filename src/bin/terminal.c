/* Names of files, shares and people come from elsewhere and may hold control characters, which a terminal would obey. */
#include <stdio.h>
#include <unistd.h>

#include "bin/client.h"

/* C0 and DEL, and C1 as UTF-8 (0xc2 0x80..0x9f); line ends and tabs stay. */
static ssize_t write_plain(void *cookie, const char *text, size_t n)
{
	int fd = cookie == &stdout ? STDOUT_FILENO : STDERR_FILENO;
	char plain[4096];
	size_t from = 0;
	while (from < n) {
		size_t m = 0;
		for (; from < n && m < sizeof plain; from++, m++) {
			unsigned char c = (unsigned char)text[from], before = m ? (unsigned char)plain[m - 1] : 0;
			bool control = (c < 32 && c != '\n' && c != '\t') || c == 127 || (before == 0xc2 && c >= 0x80 && c < 0xa0);
			plain[m] = control ? '?' : text[from];
		}
		for (size_t done = 0; done < m;) {
			ssize_t w = write(fd, plain + done, m - done);
			if (w <= 0)
				return 0;
			done += (size_t)w;
		}
	}
	return (ssize_t)n;
}

static void guard(FILE **stream, int fd, int mode)
{
	if (!isatty(fd))
		return; /* what a program reads stays as it is */
	fflush(*stream);
	FILE *plain = fopencookie(stream, "w", (cookie_io_functions_t){.write = write_plain});
	if (!plain)
		return;
	setvbuf(plain, NULL, mode, mode == _IONBF ? 0 : BUFSIZ);
	*stream = plain;
}

void terminal_guard(void)
{
	guard(&stdout, STDOUT_FILENO, _IOLBF);
	guard(&stderr, STDERR_FILENO, _IONBF);
}

void terminal_clear_line(void)
{
	static const char clear[] = "\r\033[K";
	if (write(STDERR_FILENO, clear, sizeof clear - 1) < 0)
		return; /* a line too many on a terminal that is gone */
}
