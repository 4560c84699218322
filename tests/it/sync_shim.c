/* Stands before libc (LD_PRELOAD): makes one flush fail, and writes down flushes, requests and replies with their times.
 *
 * SHIM_LOG      file to append one line an event to
 * SHIM_HOLD     while this file is there, flushes wait
 * SHIM_TRIGGER  once this file is there, the flush after as many more as it says (a decimal number) fails with EIO, once
 *
 * Lines: <kind> <begin ns> <end ns> <result> <detail>
 *   sync: detail = path of the file; recv, send: detail = port of the peer
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int log_fd = -1;
static const char *trigger;
static const char *hold;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long left = -1; /* flushes until the one that fails; -1 = not armed, -2 = done */

__attribute__((constructor)) static void start(void) {
  const char *log = getenv("SHIM_LOG");
  trigger = getenv("SHIM_TRIGGER");
  hold = getenv("SHIM_HOLD");
  if (log) log_fd = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
}

static long long now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(const char *kind, long long begin, long result, const char *detail) {
  char line[4600];
  int saved = errno;
  int n = snprintf(line, sizeof line, "%s %lld %lld %ld %s\n", kind, begin, now(), result, detail);
  if (log_fd >= 0) syscall(SYS_write, log_fd, line, n);
  errno = saved;
}

static int fails(void) {
  int yes = 0;
  if (!trigger) return 0;
  pthread_mutex_lock(&lock);
  if (left == -1) {
    int fd = open(trigger, O_RDONLY | O_CLOEXEC);
    char text[32] = {0};
    if (fd >= 0 && syscall(SYS_read, fd, text, sizeof text - 1) > 0) left = atol(text);
    if (fd >= 0) close(fd);
  }
  if (left == 0) {
    yes = 1;
    left = -2;
  } else if (left > 0) {
    left--;
  }
  pthread_mutex_unlock(&lock);
  return yes;
}

static void wait_while_held(void) {
  struct timespec ms = {0, 1000000};
  while (hold && access(hold, F_OK) == 0) nanosleep(&ms, NULL);
}

static void path_of(int fd, char *out, size_t size) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, out, size - 1);
  out[n > 0 ? n : 0] = 0;
}

static int sync_by(long number, int fd) {
  char path[4096];
  long long begin = now();
  long result;
  path_of(fd, path, sizeof path);
  wait_while_held();
  if (fails()) {
    errno = EIO;
    result = -1;
  } else {
    result = syscall(number, fd);
  }
  note("sync", begin, result, path);
  return (int)result;
}

int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }
int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int syncfs(int fd) { return sync_by(SYS_syncfs, fd); }

int msync(void *at, size_t len, int flags) {
  long long begin = now();
  long result;
  wait_while_held();
  if (fails()) {
    errno = EIO;
    result = -1;
  } else {
    result = syscall(SYS_msync, at, len, flags);
  }
  note("sync", begin, result, "msync");
  return (int)result;
}

/* The peer's port, 0 when this is no TCP socket. */
static int port_of(int fd) {
  struct sockaddr_storage a;
  socklen_t n = sizeof a;
  int saved = errno, port = 0;
  if (log_fd >= 0 && getpeername(fd, (struct sockaddr *)&a, &n) == 0) {
    if (a.ss_family == AF_INET) port = ntohs(((struct sockaddr_in *)&a)->sin_port);
    if (a.ss_family == AF_INET6) port = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
  }
  errno = saved;
  return port;
}

static ssize_t passed(const char *kind, int fd, long long begin, ssize_t result) {
  int port = result > 0 ? port_of(fd) : 0;
  char detail[16];
  snprintf(detail, sizeof detail, "%d", port);
  if (port) note(kind, begin, result, detail);
  return result;
}

ssize_t send(int fd, const void *b, size_t n, int flags) {
  long long t = now();
  return passed("send", fd, t, syscall(SYS_sendto, fd, b, n, flags, NULL, 0));
}
ssize_t sendto(int fd, const void *b, size_t n, int flags, const struct sockaddr *a, socklen_t l) {
  long long t = now();
  return passed("send", fd, t, syscall(SYS_sendto, fd, b, n, flags, a, l));
}
ssize_t sendmsg(int fd, const struct msghdr *m, int flags) {
  long long t = now();
  return passed("send", fd, t, syscall(SYS_sendmsg, fd, m, flags));
}
ssize_t write(int fd, const void *b, size_t n) {
  long long t = now();
  return passed("send", fd, t, syscall(SYS_write, fd, b, n));
}
ssize_t writev(int fd, const struct iovec *v, int n) {
  long long t = now();
  return passed("send", fd, t, syscall(SYS_writev, fd, v, n));
}
ssize_t recv(int fd, void *b, size_t n, int flags) {
  long long t = now();
  return passed("recv", fd, t, syscall(SYS_recvfrom, fd, b, n, flags, NULL, NULL));
}
ssize_t recvfrom(int fd, void *b, size_t n, int flags, struct sockaddr *a, socklen_t *l) {
  long long t = now();
  return passed("recv", fd, t, syscall(SYS_recvfrom, fd, b, n, flags, a, l));
}
ssize_t recvmsg(int fd, struct msghdr *m, int flags) {
  long long t = now();
  return passed("recv", fd, t, syscall(SYS_recvmsg, fd, m, flags));
}
ssize_t read(int fd, void *b, size_t n) {
  long long t = now();
  return passed("recv", fd, t, syscall(SYS_read, fd, b, n));
}
ssize_t readv(int fd, const struct iovec *v, int n) {
  long long t = now();
  return passed("recv", fd, t, syscall(SYS_readv, fd, v, n));
}
