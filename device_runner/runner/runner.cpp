// Runs one method of an ExecuTorch program on raw input files and times every iteration.
//
// One JSON object per line on stdout, in this order (times in nanoseconds):
//   {"event":"load",...}                          program and method loaded, threads set
//   {"event":"warmup","index":0,"ns":..,"cpu_ns":..}      once per warm-up, in the same process
//   {"event":"iteration","index":0,"ns":..,"cpu_ns":..}   once per timed run
//   {"event":"output","index":0,"file":..,"dtype":..,"shape":[..],"bytes":..}
//   {"event":"done",...}                          always last; without it nothing of the run counts
// or, at any point, {"event":"error","stage":..,"message":..} and exit code 1. ExecuTorch's own log goes to stderr.
//
// An iteration is what an application pays per call: the inputs are set anew and the method runs. They must be set
// anew, because memory planning may reuse the memory of an input once the program has read it.

#include <sys/resource.h>
#include <time.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>

#if __has_include(<executorch/extension/threadpool/threadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else
// The wheel carries the library without this header. These two members are not virtual and the object is only ever
// used through the pointer that the library hands out, so declaring them is enough to call them.
namespace executorch::extension::threadpool {
class ThreadPool final {
 public:
  size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(uint32_t num_threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool
#endif

namespace {

using executorch::aten::ScalarType;
using executorch::aten::Tensor;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::MethodMeta;

// What stops the run; becomes the "error" event.
struct Failure {
  std::string stage;
  std::string message;
};

struct Arguments {
  std::string model;
  std::vector<std::string> inputs;
  std::string output_dir;
  std::string method = "forward";
  std::string load_mode = "mmap";
  uint32_t warmup = 3;
  uint32_t iterations = 20;
  uint32_t threads = 0;  // 0: not given, which is refused, since the automatic count is wrong on some machines
};

std::string json_text(const std::string& text) {
  std::string json = "\"";
  for (const char character : text) {
    const auto byte = static_cast<unsigned char>(character);
    if (character == '"' || character == '\\') {
      json += '\\';
      json += character;
    } else if (byte < 0x20) {
      char escape[8];
      std::snprintf(escape, sizeof(escape), "\\u%04x", byte);
      json += escape;
    } else {
      json += character;
    }
  }
  return json + "\"";
}

template <typename Sizes>
std::string json_list(const Sizes& sizes) {
  std::string json = "[";
  for (size_t i = 0; i < sizes.size(); ++i) {
    json += (i == 0 ? "" : ",") + std::to_string(sizes[i]);
  }
  return json + "]";
}

// One line of the protocol.
class Event {
 public:
  explicit Event(const std::string& name) : json_("{\"event\":" + json_text(name)) {}

  Event& raw(const char* key, const std::string& json) {
    json_ += ",\"" + std::string(key) + "\":" + json;
    return *this;
  }
  Event& number(const char* key, int64_t value) { return raw(key, std::to_string(value)); }
  Event& text(const char* key, const std::string& value) { return raw(key, json_text(value)); }

  // Pushed out at once: what was measured before a crash is then not lost.
  void emit() const {
    std::printf("%s}\n", json_.c_str());
    if (std::fflush(stdout) != 0) {
      std::exit(1);  // nobody can read the results any more
    }
  }

 private:
  std::string json_;
};

std::string error_text(Error error) {
  char code[16];
  std::snprintf(code, sizeof(code), "0x%x", static_cast<unsigned>(error));
  return std::string(executorch::runtime::to_string(error)) + " (" + code + ")";
}

void check(Error error, const char* stage, const std::string& what) {
  if (error != Error::Ok) {
    throw Failure{stage, what + ": " + error_text(error)};
  }
}

int64_t now_ns(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return static_cast<int64_t>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

// Names as in the bundle's manifest.
std::string dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    case ScalarType::Half: return "float16";
    case ScalarType::Char: return "int8";
    case ScalarType::Byte: return "uint8";
    case ScalarType::Short: return "int16";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Bool: return "bool";
    default: return "scalar_type_" + std::to_string(static_cast<int>(type));
  }
}

// Raw files are in C order, so a tensor must be stored in the order of its dimensions.
template <typename DimOrder>
void require_c_order(const DimOrder& order, const char* stage, const std::string& what) {
  for (size_t i = 0; i < order.size(); ++i) {
    if (order[i] != i) {
      throw Failure{stage, what + " is stored in dimension order " + json_list(order) + "; raw files need C order"};
    }
  }
}

uint32_t parse_count(const std::string& name, const char* text, uint32_t minimum) {
  char* end = nullptr;
  const long long value = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || value < minimum || value > 100000000) {
    throw Failure{"arguments", name + " takes a whole number from " + std::to_string(minimum) + ", not '" + text + "'"};
  }
  return static_cast<uint32_t>(value);
}

Arguments parse_arguments(int argc, char** argv) {
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
    else if (name == "--warmup") arguments.warmup = parse_count(name, value, 0);
    else if (name == "--iterations") arguments.iterations = parse_count(name, value, 1);
    else if (name == "--threads") arguments.threads = parse_count(name, value, 1);
    else {
      throw Failure{"arguments", "unknown argument '" + name + "'; known: --model --input --output-dir --method " +
                    "--load-mode --warmup --iterations --threads"};
    }
  }
  if (arguments.model.empty()) throw Failure{"arguments", "--model FILE is missing"};
  if (arguments.output_dir.empty()) throw Failure{"arguments", "--output-dir FOLDER is missing"};
  if (arguments.threads == 0) throw Failure{"arguments", "--threads N is missing"};
  if (arguments.load_mode != "mmap" && arguments.load_mode != "file") {
    throw Failure{"arguments", "--load-mode takes mmap or file, not '" + arguments.load_mode + "'"};
  }
  return arguments;
}

size_t file_size(const std::string& path, const char* stage) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) {
    throw Failure{stage, path + ": " + error.message()};
  }
  return static_cast<size_t>(size);
}

std::vector<uint8_t> read_input(const std::string& path, size_t index, const std::string& what, size_t expected) {
  const size_t size = file_size(path, "inputs");
  if (size != expected) {
    throw Failure{"inputs", "input " + std::to_string(index) + ", " + path + ", has " + std::to_string(size) +
                  " bytes; the program takes " + what + ", " + std::to_string(expected) + " bytes"};
  }
  std::vector<uint8_t> data(size);
  std::FILE* file = std::fopen(path.c_str(), "rb");
  const size_t count = file == nullptr ? 0 : std::fread(data.data(), 1, size, file);
  if (file != nullptr) std::fclose(file);
  if (file == nullptr || count != size) {
    throw Failure{"inputs", path + ": could not be read: " + std::strerror(errno)};
  }
  return data;
}

// Before anything is loaded: XNNPACK takes the pool it finds when it prepares a delegate.
uint32_t set_threads(uint32_t threads) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  if (pool == nullptr) {
    throw Failure{"threads", "this ExecuTorch build has no thread pool"};
  }
  if (!pool->_unsafe_reset_threadpool(threads) || pool->get_thread_count() != threads) {
    throw Failure{"threads", "asked for " + std::to_string(threads) + " threads, the pool has " +
                  std::to_string(pool->get_thread_count())};
  }
  return threads;
}

void load(Module& module, const Arguments& arguments, uint32_t threads) {
  const size_t program_bytes = file_size(arguments.model, "load");
  const int64_t start = now_ns(CLOCK_MONOTONIC);
  check(module.load(), "load", arguments.model + " could not be loaded as a program");
  const int64_t loaded = now_ns(CLOCK_MONOTONIC);
  const auto names = module.method_names();
  check(names.error(), "load", arguments.model + " names no methods");
  if (names->count(arguments.method) == 0) {
    std::string known;
    for (const auto& name : *names) known += (known.empty() ? "" : ", ") + name;
    throw Failure{"load", "the program has no method '" + arguments.method + "'; it has: " + known};
  }
  const int64_t before_method = now_ns(CLOCK_MONOTONIC);
  check(module.load_method(arguments.method), "load", "method '" + arguments.method + "' could not be loaded");
  const int64_t program_ns = loaded - start;
  const int64_t method_ns = now_ns(CLOCK_MONOTONIC) - before_method;
  Event("load").number("ns", program_ns + method_ns).number("program_ns", program_ns).number("method_ns", method_ns)
      .number("threads", threads).number("program_bytes", program_bytes).text("method", arguments.method)
      .text("load_mode", arguments.load_mode).emit();
}

// Owns the memory that the tensors point to.
struct Inputs {
  std::vector<std::vector<uint8_t>> data;
  std::vector<TensorPtr> tensors;
  std::vector<EValue> values;
};

Inputs read_inputs(const MethodMeta& meta, const std::vector<std::string>& paths) {
  if (paths.size() != meta.num_inputs()) {
    throw Failure{"inputs", "the method takes " + std::to_string(meta.num_inputs()) + " inputs, " +
                  std::to_string(paths.size()) + " were given"};
  }
  Inputs inputs;
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto info = meta.input_tensor_meta(i);
    check(info.error(), "inputs", "input " + std::to_string(i) + " is not a tensor");
    require_c_order(info->dim_order(), "inputs", "input " + std::to_string(i));
    const std::string what = dtype_name(info->scalar_type()) + " " + json_list(info->sizes());
    inputs.data.push_back(read_input(paths[i], i, what, info->nbytes()));
    inputs.tensors.push_back(executorch::extension::from_blob(
        inputs.data.back().data(), {info->sizes().begin(), info->sizes().end()}, info->scalar_type()));
    inputs.values.emplace_back(inputs.tensors.back());
  }
  return inputs;
}

std::vector<EValue> run_timed(Module& module, const Arguments& arguments, const Inputs& inputs, const char* stage,
                              uint32_t count) {
  std::vector<EValue> outputs;
  for (uint32_t i = 0; i < count; ++i) {
    const int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    const int64_t wall = now_ns(CLOCK_MONOTONIC);
    auto result = module.execute(arguments.method, inputs.values);
    const int64_t wall_ns = now_ns(CLOCK_MONOTONIC) - wall;
    const int64_t cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    check(result.error(), stage, "run " + std::to_string(i) + " failed");
    Event(stage).number("index", i).number("ns", wall_ns).number("cpu_ns", cpu_ns).emit();
    outputs = std::move(*result);
  }
  return outputs;
}

void write_outputs(const std::vector<EValue>& outputs, const std::string& folder) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].isTensor()) {
      throw Failure{"output", "output " + std::to_string(i) + " is not a tensor"};
    }
    const Tensor tensor = outputs[i].toTensor();
    require_c_order(tensor.dim_order(), "output", "output " + std::to_string(i));
    const std::string name = "output_" + std::to_string(i) + ".bin";
    const std::string path = folder + "/" + name;
    std::FILE* file = std::fopen(path.c_str(), "wb");
    bool written = file != nullptr &&
        std::fwrite(tensor.const_data_ptr(), 1, tensor.nbytes(), file) == tensor.nbytes();
    written = (file == nullptr || std::fclose(file) == 0) && written;
    if (!written) {
      throw Failure{"output", path + ": could not be written: " + std::strerror(errno)};
    }
    Event("output").number("index", i).text("file", name).text("dtype", dtype_name(tensor.scalar_type()))
        .raw("shape", json_list(tensor.sizes())).number("bytes", tensor.nbytes()).emit();
  }
}

void emit_done(uint32_t iterations) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
#ifdef __APPLE__
  const long peak_rss_kb = usage.ru_maxrss / 1024;  // bytes there, kilobytes elsewhere
#else
  const long peak_rss_kb = usage.ru_maxrss;
#endif
  Event("done").number("iterations", iterations).number("peak_rss_kb", peak_rss_kb)
      .number("minor_faults", usage.ru_minflt).number("major_faults", usage.ru_majflt).emit();
}

void run(const Arguments& arguments) {
  const uint32_t threads = set_threads(arguments.threads);
  Module module(arguments.model,
                arguments.load_mode == "mmap" ? Module::LoadMode::Mmap : Module::LoadMode::File);
  load(module, arguments, threads);
  const auto meta = module.method_meta(arguments.method);
  check(meta.error(), "inputs", "method '" + arguments.method + "' cannot be described");
  const Inputs inputs = read_inputs(*meta, arguments.inputs);
  run_timed(module, arguments, inputs, "warmup", arguments.warmup);
  const auto outputs = run_timed(module, arguments, inputs, "iteration", arguments.iterations);
  write_outputs(outputs, arguments.output_dir);
  emit_done(arguments.iterations);
}

}  // namespace

int main(int argc, char** argv) {
  Failure failure;
  try {
    run(parse_arguments(argc, argv));
    return 0;
  } catch (const Failure& caught) {
    failure = caught;
  } catch (const std::exception& caught) {
    failure = {"runner", caught.what()};
  }
  Event("error").text("stage", failure.stage).text("message", failure.message).emit();
  return 1;
}
