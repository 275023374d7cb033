// What the system says of this process: clocks, cores, memory.
#pragma once

#include <sched.h>
#include <sys/resource.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

inline int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

// Since the device started, where the system can say so: ties runs to what else is noted of the device meanwhile.
inline int64_t uptime_ns() {
#ifdef CLOCK_BOOTTIME
  return now_ns(CLOCK_BOOTTIME);
#else
  return now_ns(CLOCK_MONOTONIC);
#endif
}

// The cores that this process may run on, as a hexadecimal mask without leading zeros; empty where unknown.
inline std::string affinity() {
  std::string mask;
#ifdef __linux__
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof(cores), &cores) != 0) {
    return "";
  }
  for (int digit = CPU_SETSIZE / 4 - 1; digit >= 0; --digit) {
    int value = 0;
    for (int bit = 0; bit < 4; ++bit) value |= (CPU_ISSET(4 * digit + bit, &cores) ? 1 : 0) << bit;
    if (value != 0 || !mask.empty()) mask += "0123456789abcdef"[value];
  }
#endif
  return mask;
}

// A figure in kilobytes from a file of "Name:  123 kB" lines; -1 where it cannot be read.
inline long kilobytes(const char* path, const std::string& name) {
  long found = -1;
  if (std::FILE* file = std::fopen(path, "r")) {
    char line[256];
    while (found < 0 && std::fgets(line, sizeof(line), file) != nullptr) {
      if (std::strncmp(line, name.c_str(), name.size()) == 0) found = std::atol(line + name.size());
    }
    std::fclose(file);
  }
  return found;
}

// How often the system has taken a core from this process although it wanted to go on.
inline long involuntary_switches() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

struct Memory {
  long peak_rss_kb = 0;
  long pss_kb = -1;  // now, shared pages divided among the processes that hold them; -1 where unknown
  long minor_faults = 0;
  long major_faults = 0;
};

inline Memory memory() {
  Memory memory;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  memory.minor_faults = usage.ru_minflt;
  memory.major_faults = usage.ru_majflt;
  memory.pss_kb = kilobytes("/proc/self/smaps_rollup", "Pss:");
  // Linux counts into ru_maxrss what the starting process held before it became this one; VmHWM starts anew.
  memory.peak_rss_kb = kilobytes("/proc/self/status", "VmHWM:");
#ifdef __APPLE__
  if (memory.peak_rss_kb < 0) memory.peak_rss_kb = usage.ru_maxrss / 1024;  // bytes there, kilobytes elsewhere
#else
  if (memory.peak_rss_kb < 0) memory.peak_rss_kb = usage.ru_maxrss;
#endif
  return memory;
}
