#include "base/time.h"

#include <stdio.h>
#include <time.h>

static int64_t gettime(clockid_t id)
{
	struct timespec ts;
	must(clock_gettime(id, &ts) == 0);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t system_now(const struct clock *c)
{
	(void)c;
	return gettime(CLOCK_REALTIME);
}

static int64_t system_mono(const struct clock *c)
{
	(void)c;
	return gettime(CLOCK_MONOTONIC);
}

const struct clock clock_system = {system_now, system_mono};

/* Days since 1970-01-01 and back: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms". */
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
	y -= m <= 2;
	int64_t era = (y >= 0 ? y : y - 399) / 400;
	unsigned yoe = (unsigned)(y - era * 400);
	unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return era * 146097 + (int64_t)doe - 719468;
}

static void civil_from_days(int64_t z, int64_t *y, unsigned *m, unsigned *d)
{
	z += 719468;
	int64_t era = (z >= 0 ? z : z - 146096) / 146097;
	unsigned doe = (unsigned)(z - era * 146097);
	unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	unsigned mp = (5 * doy + 2) / 153;
	*d = doy - (153 * mp + 2) / 5 + 1;
	*m = mp < 10 ? mp + 3 : mp - 9;
	*y = (int64_t)yoe + era * 400 + (*m <= 2);
}

struct civil {
	int64_t days, year;
	unsigned month, day, hour, minute, second, micros;
};

static struct civil split(int64_t us)
{
	struct civil c;
	int64_t day_us = INT64_C(86400000000);
	c.days = us / day_us;
	int64_t rest = us % day_us;
	if (rest < 0)
		rest += day_us, c.days--;
	civil_from_days(c.days, &c.year, &c.month, &c.day);
	c.micros = (unsigned)(rest % 1000000);
	unsigned secs = (unsigned)(rest / 1000000);
	c.hour = secs / 3600;
	c.minute = secs / 60 % 60;
	c.second = secs % 60;
	return c;
}

static void digits(char *p, unsigned v, int n)
{
	for (int i = n - 1; i >= 0; i--, v /= 10)
		p[i] = (char)('0' + v % 10);
}

static void iso_second(int64_t us, char t[20])
{
	struct civil c = split(us);
	memcpy(t, "0000-00-00T00:00:00", 20);
	digits(t, (unsigned)c.year, 4);
	digits(t + 5, c.month, 2);
	digits(t + 8, c.day, 2);
	digits(t + 11, c.hour, 2);
	digits(t + 14, c.minute, 2);
	digits(t + 17, c.second, 2);
}

/* Times written one after the other often lie in one second (log lines, changes made together): it is kept. */
static void iso_put(struct buf *b, int64_t us, bool fraction)
{
	static _Thread_local char last[20];
	static _Thread_local int64_t last_us; /* where the second begins */
	int64_t micros = us - last_us;
	if (!last[0] || micros < 0 || micros >= 1000000) {
		iso_second(us, last);
		micros = ((us % 1000000) + 1000000) % 1000000;
		last_us = us - micros;
	}
	buf_put(b, last, 19);
	if (fraction && micros) {
		char t[7] = ".";
		digits(t + 1, (unsigned)micros, 6);
		buf_put(b, t, 7);
	}
	buf_char(b, 'Z');
}

void buf_time(struct buf *b, int64_t us)
{
	iso_put(b, us, false);
}

void buf_time_us(struct buf *b, int64_t us)
{
	iso_put(b, us, true);
}

static bool number(struct str *s, size_t n, int64_t *out)
{
	if (s->n < n)
		return false;
	int64_t v = 0;
	for (size_t i = 0; i < n; i++) {
		if (s->p[i] < '0' || s->p[i] > '9')
			return false;
		v = v * 10 + (s->p[i] - '0');
	}
	*s = str_skip(*s, n);
	*out = v;
	return true;
}

static bool expect(struct str *s, char c)
{
	if (s->n == 0 || (s->p[0] != c && !(c == 'T' && (s->p[0] == 't' || s->p[0] == ' '))))
		return false;
	*s = str_skip(*s, 1);
	return true;
}

static bool civil_ok(int64_t y, int64_t mo, int64_t d, int64_t h, int64_t mi, int64_t sec)
{
	static const int length[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	return y >= 1 && mo >= 1 && mo <= 12 && d >= 1 && d <= length[mo - 1] - (mo == 2 && !leap) && h <= 23 && mi <= 59 &&
	       sec <= 60;
}

static int64_t civil_us(int64_t y, int64_t mo, int64_t d, int64_t h, int64_t mi, int64_t sec, int64_t micros)
{
	return (days_from_civil(y, (unsigned)mo, (unsigned)d) * 86400 + h * 3600 + mi * 60 + sec) * 1000000 + micros;
}

bool time_parse(struct str s, int64_t *us)
{
	int64_t y, mo, d, h, mi, sec, micros = 0, offset = 0;
	if (!(number(&s, 4, &y) && expect(&s, '-') && number(&s, 2, &mo) && expect(&s, '-') && number(&s, 2, &d) &&
	      expect(&s, 'T') && number(&s, 2, &h) && expect(&s, ':') && number(&s, 2, &mi) && expect(&s, ':') &&
	      number(&s, 2, &sec)))
		return false;
	if (s.n && s.p[0] == '.') {
		int count = 0;
		for (s = str_skip(s, 1); s.n && s.p[0] >= '0' && s.p[0] <= '9'; s = str_skip(s, 1), count++)
			if (count < 6)
				micros = micros * 10 + (s.p[0] - '0');
		if (count == 0 || count > 9)
			return false;
		for (; count < 6; count++)
			micros *= 10;
	}
	if (s.n == 1 && (s.p[0] == 'Z' || s.p[0] == 'z')) {
		s.n = 0;
	} else if (s.n == 6 && (s.p[0] == '+' || s.p[0] == '-')) {
		int64_t oh, om, sign = s.p[0] == '-' ? -1 : 1;
		s = str_skip(s, 1);
		if (!(number(&s, 2, &oh) && expect(&s, ':') && number(&s, 2, &om)) || oh > 23 || om > 59)
			return false;
		offset = sign * (oh * 3600 + om * 60);
	} else {
		return false;
	}
	if (!civil_ok(y, mo, d, h, mi, sec))
		return false;
	*us = civil_us(y, mo, d, h, mi, sec, micros) - offset * 1000000;
	return true;
}

static const char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
static const char day_names[] = "ThuFriSatSunMonTueWed"; /* 1970-01-01 was a Thursday */

void time_http(int64_t us, char out[32])
{
	struct civil c = split(us);
	int64_t wd = ((c.days % 7) + 7) % 7;
	snprintf(out, 32, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT", day_names + 3 * wd, c.day % 100u,
	         month_names + 3 * (c.month - 1), (unsigned)c.year % 10000u, c.hour, c.minute, c.second);
}

bool time_http_parse(struct str s, int64_t *us)
{
	int64_t y, d, h, mi, sec;
	if (s.n != 29 || s.p[3] != ',')
		return false;
	s = str_skip(s, 5);
	if (!number(&s, 2, &d) || !expect(&s, ' ') || s.n < 4)
		return false;
	int64_t mo = 0;
	for (int64_t i = 0; i < 12; i++)
		if (memcmp(s.p, month_names + 3 * i, 3) == 0)
			mo = i + 1;
	s = str_skip(s, 3);
	if (!mo || !expect(&s, ' ') || !number(&s, 4, &y) || !expect(&s, ' ') || !number(&s, 2, &h) || !expect(&s, ':') ||
	    !number(&s, 2, &mi) || !expect(&s, ':') || !number(&s, 2, &sec) || !str_eq(s, STR(" GMT")))
		return false;
	if (!civil_ok(y, mo, d, h, mi, sec))
		return false;
	*us = civil_us(y, mo, d, h, mi, sec, 0);
	return true;
}

void time_date(int64_t us, char out[11])
{
	struct civil c = split(us);
	snprintf(out, 11, "%04u-%02u-%02u", (unsigned)c.year % 10000u, c.month % 100u, c.day % 100u);
}
