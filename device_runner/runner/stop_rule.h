// When the timed runs end. device_runner/protocol/stop_rule.py holds the same rule and checks this one by it: every quantity here
// is a whole number of nanoseconds or one rounding away from it, so both come to the same answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "arguments.h"

// Below six samples no interval between two of them holds the median with 95 %.
constexpr size_t kLeastForInterval = 6;

// Half of the 95 % confidence interval of the median is at most `share` of the median. By order statistics, with the
// normal approximation of the binomial distribution for the ranks, as in device_runner/protocol/statistics.py.
inline bool median_is_known(std::vector<int64_t> samples, double share) {
  const size_t count = samples.size();
  if (count < kLeastForInterval) {
    return false;
  }
  const auto at_rank = [&](size_t rank) {
    std::nth_element(samples.begin(), samples.begin() + (rank - 1), samples.end());
    return static_cast<double>(samples[rank - 1]);
  };
  const double n = static_cast<double>(count);
  const double spread = 1.96 * std::sqrt(n);
  const auto clip = [&](double rank) { return static_cast<size_t>(std::min(std::max(rank, 1.0), n)); };
  const double low = at_rank(clip(std::floor((n - spread) / 2)));
  const double high = at_rank(clip(std::ceil(1 + (n + spread) / 2)));
  const double median = (at_rank((count + 1) / 2) + at_rank(count / 2 + 1)) / 2;
  return (high - low) / 2 / median <= share;
}

class StopRule {
 public:
  explicit StopRule(const Arguments& arguments) : arguments_(arguments), next_check_(arguments.iterations) {}

  // Why to stop after these runs; empty: go on.
  std::string reason(const std::vector<int64_t>& samples, int64_t elapsed_ns) {
    const double elapsed = static_cast<double>(elapsed_ns);
    const size_t count = samples.size();
    if (count < arguments_.iterations || elapsed < arguments_.min_seconds * 1e9) return "";
    if (arguments_.confidence == 0) return "count";
    std::string limit;
    if (arguments_.max_seconds > 0 && elapsed >= arguments_.max_seconds * 1e9) limit = "max_seconds";
    if (arguments_.max_iterations > 0 && count >= arguments_.max_iterations) limit = "max_iterations";
    if (limit.empty() && count < next_check_) return "";
    // 2 % more samples before the next look: the looks together then cost less than 50 passes over all samples.
    next_check_ = count + std::max<size_t>(1, count / 50);
    return median_is_known(samples, arguments_.confidence) ? "confidence" : limit;
  }

 private:
  const Arguments& arguments_;
  size_t next_check_;
};
