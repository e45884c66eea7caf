// SPDX-License-Identifier: GPL-3.0-or-later

// The program behind wrappers in tests: tells what it was given, on descriptor
// 1, each item NUL-terminated, and exits with the status in PROBE_EXIT.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void item(const char *kind, const char *text)
{
	printf("%s=%s%c", kind, text, 0);
}

static void number(const char *kind, long value)
{
	printf("%s=%ld%c", kind, value, 0);
}

// lines tells the lines of a file of /proc that begin with a word.
static void lines(const char *kind, const char *path, const char *word)
{
	char line[4096];
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, word, strlen(word)))
			item(kind, line + strlen(word));
	}
	if (f)
		fclose(f);
}

int main(int argc, char **argv)
{
	char text[4096];
	struct rlimit files;
	mode_t mask = umask(0);

	number("pid", getpid());
	number("ppid", getppid());
	number("umask", mask);
	number("time", time(NULL));
	if (getcwd(text, sizeof text))
		item("cwd", text);
	ssize_t n = readlink("/proc/self/exe", text, sizeof text - 1);
	if (n >= 0) {
		text[n] = 0;
		item("exe", text);
	}
	if (!getrlimit(RLIMIT_NOFILE, &files))
		number("files", (long)files.rlim_cur);
	lines("ignored", "/proc/self/status", "SigIgn:\t");
	for (int i = 0; i < argc; i++)
		item("arg", argv[i]);
	for (char **e = environ; *e; e++)
		item("env", *e);
	if (getenv("PROBE_READ")) {
		char *line = fgets(text, sizeof text, stdin);
		item("read", line ? line : "");
	}
	return getenv("PROBE_EXIT") ? atoi(getenv("PROBE_EXIT")) : 0;
}
