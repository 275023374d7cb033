// Runs one method of an ExecuTorch program on raw input files and times every iteration.
//
// One JSON object per line on stdout, in this order (times in nanoseconds):
//   {"event":"load",...}                          program and method loaded, threads set
//   {"event":"warmup","index":0,"ns":..,"cpu_ns":..}                   once per warm-up, in the same process
//   {"event":"iteration","index":0,"start_ns":..,"ns":..,"cpu_ns":..}  once per timed run
//   {"event":"output","index":0,"file":..,"dtype":..,"shape":[..],"bytes":..}
//   {"event":"etdump","file":..,"bytes":..}       with --etdump
//   {"event":"done",...}                          always last; without it nothing of the run counts
// or, at any point, {"event":"error","stage":..,"message":..} and exit code 1. ExecuTorch's own log goes to stderr.
// With --iterations 0 the program is loaded and nothing is run: load and done alone.
//
// An iteration is what an application pays per call: the inputs are set anew and the method runs. They must be set
// anew, because memory planning may reuse the memory of an input once the program has read it.

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include <executorch/devtools/etdump/etdump_flatcc.h>
#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr_maker.h>
#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/backend/options.h>

#include "arguments.h"
#include "event.h"
#include "machine.h"
#include "timed_runs.h"

#if __has_include(<executorch/extension/threadpool/threadpool.h>) && __has_include(<pthreadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else
// Installed packages carry the library without this header, or without those that it needs. These two members are not
// virtual and the object is only ever used through the pointer that the library hands out, so declaring them is enough.
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
using executorch::etdump::ETDumpGen;
using executorch::extension::Module;
using executorch::extension::TensorPtr;
using executorch::runtime::Error;
using executorch::runtime::EValue;
using executorch::runtime::MethodMeta;

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

// Before anything is loaded: a program keeps to what was set when it was. Builds differ in the default (ExecuTorch's
// presets for Android and Apple switch the cache on), so the choice is always made, and the backend asked what holds.
// Returns "on", "off", or "none" in a build without the backend.
std::string set_weight_cache(const std::string& asked) {
  const char* const backend = "XnnpackBackend";
  executorch::runtime::BackendOptions<1> options;
  check(options.set_option("weight_cache_enabled", asked == "on"), "load", "no option weight_cache_enabled");
  const Error set = executorch::runtime::set_option(backend, options.view());
  if (set == Error::NotFound && asked == "off") return "none";
  check(set, "load", "XNNPACK's weight cache could not be switched " + asked);
  check(executorch::runtime::get_option(backend, options.view()), "load", "XNNPACK does not tell its weight cache");
  bool enabled = false;
  check(options.get_option("weight_cache_enabled", enabled), "load", "XNNPACK does not tell its weight cache");
  return enabled ? "on" : "off";
}

void load(Module& module, const Arguments& arguments, uint32_t threads, const std::string& weight_cache) {
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
      .text("load_mode", arguments.load_mode).text("weight_cache", weight_cache).text("affinity", affinity()).emit();
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

std::vector<EValue> run_once(Module& module, const Arguments& arguments, const Inputs& inputs, const char* stage,
                             size_t index, Sample& sample) {
  sample.start_ns = uptime_ns();
  const int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t wall = now_ns(CLOCK_MONOTONIC);
  auto result = module.execute(arguments.method, inputs.values);
  sample.ns = now_ns(CLOCK_MONOTONIC) - wall;
  sample.cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  check(result.error(), stage, "run " + std::to_string(index) + " failed");
  return std::move(*result);
}

void warm_up(Module& module, const Arguments& arguments, const Inputs& inputs) {
  for (uint32_t i = 0; i < arguments.warmup; ++i) {
    Sample sample;
    run_once(module, arguments, inputs, "warmup", i, sample);
    Event("warmup").number("index", i).number("ns", sample.ns).number("cpu_ns", sample.cpu_ns).emit();
  }
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
    if (!write_file(path, tensor.const_data_ptr(), tensor.nbytes())) {
      throw Failure{"output", path + ": could not be written: " + std::strerror(errno)};
    }
    Event("output").number("index", i).text("file", name).text("dtype", dtype_name(tensor.scalar_type()))
        .raw("shape", json_list(tensor.sizes())).number("bytes", tensor.nbytes()).emit();
  }
}

// Whole or not at all: the trace is written under another name first.
void write_etdump(ETDumpGen& tracer, const std::string& path) {
  const auto trace = tracer.get_etdump_data();
  if (trace.buf == nullptr || trace.size == 0) {
    throw Failure{"etdump", "this ExecuTorch build traced nothing; it needs EXECUTORCH_ENABLE_EVENT_TRACER"};
  }
  const std::string partial = path + ".part";
  if (!write_file(partial, trace.buf, trace.size) || std::rename(partial.c_str(), path.c_str()) != 0) {
    throw Failure{"etdump", path + ": could not be written: " + std::strerror(errno)};
  }
  std::free(trace.buf);
  Event("etdump").text("file", std::filesystem::path(path).filename().string()).number("bytes", trace.size).emit();
}

void run(const Arguments& arguments) {
  const uint32_t threads = set_threads(arguments.threads);
  const std::string weight_cache = set_weight_cache(arguments.weight_cache);
  auto owned_tracer = arguments.etdump.empty() ? nullptr : std::make_unique<ETDumpGen>();
  ETDumpGen* const tracer = owned_tracer.get();
  Module module(arguments.model,
                arguments.load_mode == "mmap" ? Module::LoadMode::Mmap : Module::LoadMode::File,
                std::move(owned_tracer));
  load(module, arguments, threads, weight_cache);
  if (arguments.iterations == 0) {
    TimedRuns none;
    none.stop = "count";
    emit_done(none);
    return;
  }
  const auto meta = module.method_meta(arguments.method);
  check(meta.error(), "inputs", "method '" + arguments.method + "' cannot be described");
  const Inputs inputs = read_inputs(*meta, arguments.inputs);
  warm_up(module, arguments, inputs);
  if (tracer != nullptr) tracer->reset();  // neither loading nor warm-up may be taken for timed runs
  std::vector<EValue> outputs;  // of the last run
  const TimedRuns runs = time_runs(arguments, [&](size_t index) {
    Sample sample;
    outputs = run_once(module, arguments, inputs, "iteration", index, sample);
    return sample;
  });
  write_outputs(outputs, arguments.output_dir);
  if (tracer != nullptr) write_etdump(*tracer, arguments.etdump);
  emit_done(runs);
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
