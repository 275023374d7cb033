// When the timed runs end. device_runner/protocol/stop_rule.py holds the same rule and checks this one by it: every quantity here
// is a whole number of nanoseconds or one rounding away from it, so both come to the same answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "arguments.h"

// As in device_runner/protocol/correlation.py, which explains them.
constexpr double kLeastEffective = 6;
constexpr double kDoubt = 0.5;
constexpr size_t kMaxLag = 200;
constexpr double kHighest = 0.999;

// Number of lesser samples minus number of greater ones, for each.
inline std::vector<int64_t> centred_ranks(const std::vector<int64_t>& samples) {
  const size_t n = samples.size();
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return samples[a] < samples[b]; });
  std::vector<int64_t> ranks(n);
  for (size_t begin = 0; begin < n;) {
    size_t end = begin;
    while (end < n && samples[order[end]] == samples[order[begin]]) ++end;
    for (size_t i = begin; i < end; ++i) {
      ranks[order[i]] = static_cast<int64_t>(begin) - static_cast<int64_t>(n - end);
    }
    begin = end;
  }
  return ranks;
}

inline double lagged(const std::vector<int64_t>& ranks, size_t lag) {
  return static_cast<double>(
      std::inner_product(ranks.begin(), ranks.end() - static_cast<std::ptrdiff_t>(lag),
                         ranks.begin() + static_cast<std::ptrdiff_t>(lag), int64_t{0}));
}

// The number of independent samples that would tell as much about the median.
inline double effective_samples(const std::vector<int64_t>& samples) {
  const size_t count = samples.size();
  const double n = static_cast<double>(count);
  const std::vector<int64_t> ranks = centred_ranks(samples);
  const double total = lagged(ranks, 0);
  if (n < kLeastEffective || total == 0) return n;
  const double next_alike = lagged(ranks, 1) / total;
  double coefficient = std::min(std::max((n * next_alike + 1) / (n - 3), 0.0), kHighest);
  coefficient = std::min(coefficient + kDoubt * std::sqrt((1 - coefficient * coefficient) / n), kHighest);
  const double fitted = (1 + coefficient) / (1 - coefficient);
  double summed = 1 + 2 * (next_alike + 1 / n);
  for (size_t lag = 2; lag + 1 < std::min(count / 2, kMaxLag); lag += 2) {
    const double pair = (lagged(ranks, lag) + lagged(ranks, lag + 1)) / total + 2 / n;
    if (pair <= 0) break;
    summed += 2 * pair;
  }
  return n / std::max({1.0, fitted, summed});
}

// Half of the 95 % confidence interval of the median is at most `share` of the median. By order statistics, with the
// normal approximation of the binomial distribution for the ranks, as in device_runner/protocol/statistics.py.
inline bool median_is_known(std::vector<int64_t> samples, double share) {
  const size_t count = samples.size();
  const double effective = effective_samples(samples);
  if (effective < kLeastEffective) {
    return false;
  }
  const auto at_rank = [&](size_t rank) {
    std::nth_element(samples.begin(), samples.begin() + (rank - 1), samples.end());
    return static_cast<double>(samples[rank - 1]);
  };
  const double n = static_cast<double>(count);
  const double spread = 1.96 * n / std::sqrt(effective);
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
