/* The floor under a container runtime: the same namespaces, mounts, devices, limits and cgroups as the benchmark's
 * bundle, made with nothing read, checked, recorded or reported. What a runtime costs above it is its own.
 *
 *   floor nothing                         starts and ends: what any program costs
 *   floor run ROOTFS CGROUP ARGV...       a container of ROOTFS, from nothing to nothing
 *   floor exec PID CGROUP ARGV...         one more process in the container of PID
 *   floor create ROOTFS CGROUP FIFO ARGV...   a container of ROOTFS that waits at FIFO
 *   floor start FIFO                      lets it go on
 *   floor delete CGROUP                   kills it, waits until it has ended, removes its cgroups
 *   floor peak FILE ARGV...               runs ARGV; the largest resident set of it and its children, in KiB, into FILE
 *   floor reap ARGV...                    runs ARGV as init would: whoever loses its parent is reaped at once
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOP "/sys/fs/cgroup"

static void need(int ok, const char *what) {
    if (!ok) {
        perror(what);
        _exit(99);
    }
}

static void put(const char *dir, const char *file, const char *text) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd >= 0, path);
    need(write(fd, text, strlen(text)) >= 0, path);
    close(fd);
}

/* cgroups: every hierarchy of v1, or the one of v2 */
static char dirs[32][4096];
static int tasks[32];
static int count, v2;

static int mounted_by_itself(const char *path) {
    struct stat s;
    return lstat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static void find_cgroups(const char *name) {
    v2 = access(TOP "/cgroup.procs", F_OK) == 0;
    if (v2) {
        snprintf(dirs[count++], sizeof dirs[0], "%s%s", TOP, name);
        return;
    }
    DIR *top = opendir(TOP);
    need(top != NULL, TOP);
    for (struct dirent *e; (e = readdir(top)) && count < 32;) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", TOP, e->d_name);
        if (e->d_name[0] == '.' || !mounted_by_itself(path)) continue;
        snprintf(path, sizeof path, "%s/%s/tasks", TOP, e->d_name);
        if (access(path, F_OK) == 0) snprintf(dirs[count++], sizeof dirs[0], "%s/%s%s", TOP, e->d_name, name);
    }
    closedir(top);
}

static int has(const char *dir, const char *controller) {
    return strncmp(dir + sizeof TOP, controller, strlen(controller)) == 0;
}

static void limit(const char *dir) {
    static const char *allow[] = {"c *:* m",   "b *:* m",   "c 1:3 rwm", "c 1:5 rwm",   "c 1:7 rwm", "c 1:8 rwm",
                                  "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm", NULL};
    if (v2) {
        put(dir, "memory.max", "268435456");
        put(dir, "cpu.weight", "39");
        put(dir, "pids.max", "100");
        return;
    }
    if (has(dir, "memory")) put(dir, "memory.limit_in_bytes", "268435456");
    if (has(dir, "cpu/") || has(dir, "cpu,")) put(dir, "cpu.shares", "512");
    if (has(dir, "pids")) put(dir, "pids.max", "100");
    if (has(dir, "devices")) {
        put(dir, "devices.deny", "a");
        for (const char **a = allow; *a; a++) put(dir, "devices.allow", *a);
    }
    if (has(dir, "cpuset")) {
        char above[4096], text[256];
        static const char *files[] = {"cpuset.cpus", "cpuset.mems"};
        for (int i = 0; i < 2; i++) {
            snprintf(above, sizeof above, "%s/../%s", dir, files[i]);
            int fd = open(above, O_RDONLY);
            ssize_t n = read(fd, text, sizeof text - 1);
            close(fd);
            text[n > 0 ? n : 0] = 0;
            put(dir, files[i], text);
        }
    }
}

static void make_cgroups(void) {
    for (int i = 0; i < count; i++) {
        need(mkdir(dirs[i], 0755) == 0 || errno == EEXIST, dirs[i]);
        limit(dirs[i]);
    }
}

static void open_cgroups(void) {
    for (int i = 0; i < count; i++) {
        char path[4112];
        snprintf(path, sizeof path, "%s/tasks", dirs[i]);
        tasks[i] = open(v2 ? dirs[i] : path, (v2 ? O_PATH | O_DIRECTORY : O_WRONLY) | O_CLOEXEC);
        need(tasks[i] >= 0, dirs[i]);
    }
}

/* A single thread that writes 0 to tasks takes no lock that must wait for RCU. */
static void join_cgroups(void) {
    for (int i = 0; i < count && !v2; i++) need(write(tasks[i], "0", 1) == 1, "join cgroup");
}

struct args3 {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

static pid_t clone_into(uint64_t flags) {
    struct args3 args = {.flags = flags, .exit_signal = SIGCHLD};
    if (v2) {
        args.flags |= 0x200000000ULL; /* CLONE_INTO_CGROUP */
        args.cgroup = (uint64_t)tasks[0];
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void loopback_up(void) {
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq r = {.ifr_name = "lo"};
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    need(ioctl(s, SIOCSIFFLAGS, &r) == 0, "loopback");
    close(s);
}

static void on(const char *type, const char *path, unsigned long flags, const char *data) {
    need(mount(type, path, type, flags, data) == 0, path);
}

static void readonly(const char *path) {
    if (mount(path, path, NULL, MS_BIND | MS_REC, NULL) == 0)
        need(mount(NULL, path, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL) == 0, path);
}

static void mask(const char *path) {
    if (mount("/dev/null", path, NULL, MS_BIND, NULL) != 0 && errno == ENOTDIR)
        on("tmpfs", path, MS_RDONLY, "nr_blocks=1,nr_inodes=1");
}

static void mounts(void) {
    const unsigned long strict = MS_NOSUID | MS_NOEXEC | MS_NODEV;
    on("proc", "proc", 0, NULL);
    on("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    need(mkdir("dev/pts", 0755) == 0 && mkdir("dev/shm", 0755) == 0 && mkdir("dev/mqueue", 0755) == 0, "dev");
    on("devpts", "dev/pts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    on("tmpfs", "dev/shm", strict, "mode=1777,size=65536k");
    on("mqueue", "dev/mqueue", strict, NULL);
    on("sysfs", "sys", strict | MS_RDONLY, NULL);
    static const struct { const char *path; int major, minor; } nodes[] = {
        {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7},
        {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0}};
    for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
        need(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) == 0 &&
             chmod(nodes[i].path, 0666) == 0, nodes[i].path);
    need(symlink("pts/ptmx", "dev/ptmx") == 0 && symlink("/proc/self/fd", "dev/fd") == 0 &&
         symlink("/proc/self/fd/0", "dev/stdin") == 0 && symlink("/proc/self/fd/1", "dev/stdout") == 0 &&
         symlink("/proc/self/fd/2", "dev/stderr") == 0 && symlink("/proc/kcore", "dev/core") == 0, "links");
}

static void lower(void) {
    for (int cap = 0; cap < 64; cap++) {
        if (0xa80425fbULL >> cap & 1) continue;
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0) break;
    }
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{0xa80425fb, 0xa80425fb, 0}, {0, 0, 0}};
    need(syscall(SYS_capset, &header, data) == 0, "capset");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Where a first process waits: at the fifo, after it has told that everything is made. */
struct gate {
    int fifo, ready;
};

static void wait_at(struct gate gate) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", gate.fifo);
    need(write(gate.ready, "", 1) == 1, "ready");
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    need(fd >= 0 && write(fd, "", 1) == 1, "fifo");
}

static void inside(const char *rootfs, char **argv, const struct gate *gate) {
    join_cgroups();
    setsid();
    loopback_up();
    need(mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0, "/");
    need(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL) == 0, rootfs);
    need(chdir(rootfs) == 0, rootfs);
    mounts();
    need(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    need(umount2(".", MNT_DETACH) == 0, "umount");
    need(chdir("/") == 0, "/");
    need(sethostname("bench", 5) == 0, "hostname");
    static const char *ro[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
    for (unsigned i = 0; i < sizeof ro / sizeof *ro; i++) readonly(ro[i]);
    static const char *masked[] = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                                   "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"};
    for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) mask(masked[i]);
    lower();
    if (gate) wait_at(*gate);
    execv(argv[0], argv);
    need(0, argv[0]);
}

static int ended(pid_t child) {
    int status;
    need(child > 0 && waitpid(child, &status, 0) == child, "wait");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static pid_t make(const char *rootfs, char **argv, const struct gate *gate) {
    make_cgroups();
    open_cgroups();
    pid_t child = clone_into(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (child == 0) inside(rootfs, argv, gate);
    need(child > 0, "clone");
    return child;
}

static int run(const char *rootfs, char **argv) {
    int code = ended(make(rootfs, argv, NULL));
    for (int i = 0; i < count; i++) need(rmdir(dirs[i]) == 0, dirs[i]);
    return code;
}

static int create(const char *rootfs, const char *fifo, char **argv) {
    int ready[2];
    char told;
    need(mkfifo(fifo, 0600) == 0 && pipe2(ready, O_CLOEXEC) == 0, fifo);
    struct gate gate = {open(fifo, O_PATH | O_CLOEXEC), ready[1]};
    need(gate.fifo >= 0, fifo);
    make(rootfs, argv, &gate);
    close(ready[1]);
    return read(ready[0], &told, 1) == 1 ? 0 : 1;
}

static int go_on(const char *fifo) {
    char told;
    int fd = open(fifo, O_RDONLY | O_CLOEXEC);
    need(fd >= 0 && read(fd, &told, 1) == 1 && unlink(fifo) == 0, fifo);
    return 0;
}

static int delete(void) {
    char path[4112], text[32] = "";
    snprintf(path, sizeof path, "%s/cgroup.procs", dirs[0]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    need(fd >= 0 && read(fd, text, sizeof text - 1) > 0, path);
    struct pollfd init = {(int)syscall(SYS_pidfd_open, atoi(text), 0), POLLIN, 0};
    need(init.fd >= 0 && kill(atoi(text), SIGKILL) == 0 && poll(&init, 1, -1) == 1, "kill");
    for (int i = 0; i < count; i++) need(rmdir(dirs[i]) == 0, dirs[i]);
    return 0;
}

static int exec_in(const char *pid, char **argv) {
    open_cgroups();
    int init = (int)syscall(SYS_pidfd_open, atoi(pid), 0);
    need(init >= 0, "pidfd");
    /* The pid namespace counts from the next child on, so it is entered before the fork. */
    need(setns(init, CLONE_NEWPID) == 0, "pid namespace");
    pid_t child = clone_into(0);
    if (child == 0) {
        join_cgroups();
        need(setns(init, CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) == 0, "namespaces");
        lower();
        execv(argv[0], argv);
        need(0, argv[0]);
    }
    return ended(child);
}

static pid_t start(char **argv) {
    pid_t child = fork();
    if (child == 0) {
        execv(argv[0], argv);
        need(0, argv[0]);
    }
    return child;
}

static int peak(const char *file, char **argv) {
    pid_t child = start(argv);
    int status;
    struct rusage usage;
    need(wait4(child, &status, 0, &usage) == child, "wait");
    FILE *out = fopen(file, "w");
    need(out != NULL, file);
    fprintf(out, "%ld", usage.ru_maxrss);
    fclose(out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int reap(char **argv) {
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t child = start(argv);
    for (int status;;) {
        pid_t one = wait(&status);
        if (one == child) return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        need(one > 0 || errno == EINTR, "wait");
    }
}

int main(int argc, char **argv) {
    if (argc >= 2 && strcmp(argv[1], "nothing") == 0) return 0;
    if (argc >= 3 && strcmp(argv[1], "reap") == 0) return reap(argv + 2);
    if (argc >= 4 && strcmp(argv[1], "peak") == 0) return peak(argv[2], argv + 3);
    if (argc >= 3 && strcmp(argv[1], "start") == 0) return go_on(argv[2]);
    if (argc >= 3 && strcmp(argv[1], "delete") == 0) {
        find_cgroups(argv[2]);
        return delete();
    }
    if (argc < 5) return 98;
    find_cgroups(argv[3]);
    if (strcmp(argv[1], "run") == 0) return run(argv[2], argv + 4);
    if (argc >= 6 && strcmp(argv[1], "create") == 0) return create(argv[2], argv[4], argv + 5);
    if (strcmp(argv[1], "exec") == 0) return exec_in(argv[2], argv + 4);
    return 98;
}
