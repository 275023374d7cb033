// What the runner is asked to do.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "event.h"

struct Arguments {
  std::string model;
  std::vector<std::string> inputs;
  std::string output_dir;
  std::string method = "forward";
  std::string load_mode = "mmap";
  std::string weight_cache = "off";  // XNNPACK's, of packed weights
  std::string etdump;  // empty: no trace
  uint32_t warmup = 3;
  uint32_t iterations = 20;  // 0: load only
  uint32_t threads = 0;  // 0: not given, which is refused, since the automatic count is wrong on some machines
  double min_seconds = 0;
  double confidence = 0;  // 0: not asked for, as in the two limits below
  uint32_t max_iterations = 0;
  double max_seconds = 0;
};

inline uint32_t parse_count(const std::string& name, const char* text, uint32_t minimum) {
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || value < minimum || value > 100000000) {
    throw Failure{"arguments", name + " takes a whole number from " + std::to_string(minimum) + ", not '" + text + "'"};
  }
  return static_cast<uint32_t>(value);
}

inline double parse_positive(const std::string& name, const char* text, bool or_zero) {
  char* end = nullptr;
  const double value = std::strtod(text, &end);
  if (end == text || *end != '\0' || !std::isfinite(value) || value < 0 || (value == 0 && !or_zero)) {
    throw Failure{"arguments", name + " takes a positive number" + (or_zero ? " or 0" : "") + ", not '" + text + "'"};
  }
  return value;
}

inline void check_arguments(const Arguments& arguments) {
  if (arguments.model.empty()) throw Failure{"arguments", "--model FILE is missing"};
  if (arguments.threads == 0) throw Failure{"arguments", "--threads N is missing"};
  if (arguments.load_mode != "mmap" && arguments.load_mode != "file") {
    throw Failure{"arguments", "--load-mode takes mmap or file, not '" + arguments.load_mode + "'"};
  }
  if (arguments.weight_cache != "on" && arguments.weight_cache != "off") {
    throw Failure{"arguments", "--weight-cache takes on or off, not '" + arguments.weight_cache + "'"};
  }
  if (arguments.iterations > 0 && arguments.output_dir.empty()) {
    throw Failure{"arguments", "--output-dir FOLDER is missing"};
  }
  if (arguments.iterations == 0 && !arguments.etdump.empty()) {
    throw Failure{"arguments", "--etdump traces timed runs, and --iterations 0 asks for none"};
  }
  if (arguments.confidence > 0 && arguments.max_iterations == 0 && arguments.max_seconds == 0) {
    throw Failure{"arguments", "--confidence needs --max-iterations or --max-seconds"};
  }
}

inline Arguments parse_arguments(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) {
      throw Failure{"arguments", name + " needs a value"};
    }
    const char* value = argv[i + 1];
    if (name == "--model") arguments.model = value;
    else if (name == "--input") arguments.inputs.emplace_back(value);
    else if (name == "--output-dir") arguments.output_dir = value;
    else if (name == "--method") arguments.method = value;
    else if (name == "--load-mode") arguments.load_mode = value;
    else if (name == "--weight-cache") arguments.weight_cache = value;
    else if (name == "--etdump") arguments.etdump = value;
    else if (name == "--warmup") arguments.warmup = parse_count(name, value, 0);
    else if (name == "--iterations") arguments.iterations = parse_count(name, value, 0);
    else if (name == "--threads") arguments.threads = parse_count(name, value, 1);
    else if (name == "--min-seconds") arguments.min_seconds = parse_positive(name, value, true);
    else if (name == "--confidence") arguments.confidence = parse_positive(name, value, false);
    else if (name == "--max-iterations") arguments.max_iterations = parse_count(name, value, 1);
    else if (name == "--max-seconds") arguments.max_seconds = parse_positive(name, value, false);
    else {
      throw Failure{"arguments", "unknown argument '" + name + "'; known: --model --input --output-dir --method " +
                    "--load-mode --weight-cache --warmup --iterations --threads --min-seconds --confidence " +
                    "--max-iterations --max-seconds --etdump"};
    }
  }
  check_arguments(arguments);
  return arguments;
}
