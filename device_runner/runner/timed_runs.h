// What every runner does around the runs of its own runtime: the timed loop, the last event, and whole files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "arguments.h"
#include "event.h"
#include "machine.h"
#include "stop_rule.h"

struct Sample {
  int64_t start_ns = 0;
  int64_t ns = 0;
  int64_t cpu_ns = 0;
};

struct TimedRuns {
  size_t count = 0;
  long involuntary_switches = 0;
  std::string stop;
};

// Runs until the stop rule says so. `run_once` takes the run's index and returns its sample.
template <typename RunOnce>
TimedRuns time_runs(const Arguments& arguments, RunOnce run_once) {
  TimedRuns runs;
  StopRule rule(arguments);
  std::vector<int64_t> samples;
  int64_t first_start_ns = 0;
  const long switches = involuntary_switches();
  while (runs.stop.empty()) {
    const Sample sample = run_once(samples.size());
    Event("iteration").number("index", samples.size()).number("start_ns", sample.start_ns).number("ns", sample.ns)
        .number("cpu_ns", sample.cpu_ns).emit();
    if (samples.empty()) first_start_ns = sample.start_ns;
    samples.push_back(sample.ns);
    runs.stop = rule.reason(samples, sample.start_ns + sample.ns - first_start_ns);
  }
  runs.involuntary_switches = involuntary_switches() - switches;
  runs.count = samples.size();
  return runs;
}

inline bool write_file(const std::string& path, const void* data, size_t size) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  const bool written = file != nullptr && std::fwrite(data, 1, size, file) == size;
  return (file == nullptr || std::fclose(file) == 0) && written;
}

inline void emit_done(const TimedRuns& runs) {
  const Memory used = memory();
  Event("done").number("iterations", runs.count).text("stop", runs.stop).number("peak_rss_kb", used.peak_rss_kb)
      .number("pss_kb", used.pss_kb).number("minor_faults", used.minor_faults)
      .number("major_faults", used.major_faults).number("involuntary_switches", runs.involuntary_switches).emit();
}
