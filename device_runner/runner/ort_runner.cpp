// Runs an ONNX graph with ONNX Runtime's C API on raw input files and times every iteration: for phones, where there is
// no Python. Arguments and events are those of runner.cpp (--etdump apart).
//
// The library is opened at run time, from the file that the environment variable MOBILEVD_ONNXRUNTIME names (without it,
// where the system looks), so compiling needs nothing but the header onnxruntime_c_api.h.

#include <dlfcn.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

#include "arguments.h"
#include "event.h"
#include "machine.h"
#include "timed_runs.h"

namespace {

const OrtApi* api = nullptr;

void check(OrtStatus* status, const char* stage, const std::string& what) {
  if (status == nullptr) return;
  std::string message = what + ": " + api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  throw Failure{stage, message};
}

void open_library() {
  const char* path = std::getenv("MOBILEVD_ONNXRUNTIME");
  if (path == nullptr || *path == '\0') path = "libonnxruntime.so";
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    throw Failure{"load", std::string(path) + ": ONNX Runtime could not be opened: " + dlerror()};
  }
  const auto base_of = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (base_of == nullptr) {
    throw Failure{"load", std::string(path) + " is not ONNX Runtime: it has no OrtGetApiBase"};
  }
  api = base_of()->GetApi(ORT_API_VERSION);
  if (api == nullptr) {
    throw Failure{"load", std::string(path) + " is ONNX Runtime " + base_of()->GetVersionString() +
                  ", older than the header that this runner was compiled with (API " +
                  std::to_string(ORT_API_VERSION) + ")"};
  }
}

// Names as in the bundle's manifest, and bytes per element; null and 0 for what raw files cannot hold.
struct Type {
  const char* name = nullptr;
  size_t bytes = 0;
};

Type type_of(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return {"float32", 4};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE: return {"float64", 8};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return {"float16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8: return {"int8", 1};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8: return {"uint8", 1};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16: return {"int16", 2};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32: return {"int32", 4};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return {"int64", 8};
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL: return {"bool", 1};
    default: return {};
  }
}

std::vector<uint8_t> read_file(const std::string& path, const char* stage) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  std::vector<uint8_t> data;
  bool whole = file != nullptr && std::fseek(file, 0, SEEK_END) == 0;
  const long size = whole ? std::ftell(file) : -1;
  whole = whole && size >= 0 && std::fseek(file, 0, SEEK_SET) == 0;
  if (whole) {
    data.resize(static_cast<size_t>(size));
    whole = std::fread(data.data(), 1, data.size(), file) == data.size();
  }
  const int error = errno;
  if (file != nullptr) std::fclose(file);
  if (!whole) throw Failure{stage, path + ": could not be read: " + std::strerror(error)};
  return data;
}

size_t file_size(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  const bool found = file != nullptr && std::fseek(file, 0, SEEK_END) == 0;
  const long size = found ? std::ftell(file) : -1;
  const int error = errno;
  if (file != nullptr) std::fclose(file);
  if (size < 0) throw Failure{"load", path + ": could not be read: " + std::strerror(error)};
  return static_cast<size_t>(size);
}

// Everything that lives as long as the process.
struct Graph {
  OrtEnv* env = nullptr;
  OrtSessionOptions* options = nullptr;
  OrtSession* session = nullptr;
  OrtAllocator* allocator = nullptr;
  std::vector<uint8_t> file;  // of a graph that was not mapped
  std::vector<std::string> input_names;
  std::vector<std::string> output_names;
};

std::string taken(Graph& graph, char* text) {
  std::string copy = text;
  check(api->AllocatorFree(graph.allocator, text), "load", "a name could not be freed");
  return copy;
}

Graph load(const Arguments& arguments) {
  Graph graph;
  const size_t program_bytes = file_size(arguments.model);
  check(api->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "mobilevd", &graph.env), "load", "no environment");
  check(api->CreateSessionOptions(&graph.options), "load", "no session options");
  const int threads = static_cast<int>(arguments.threads);
  check(api->SetIntraOpNumThreads(graph.options, threads), "threads", std::to_string(threads) + " threads");
  check(api->SetInterOpNumThreads(graph.options, 1), "threads", "one operator at a time");
  check(api->SetSessionExecutionMode(graph.options, ORT_SEQUENTIAL), "threads", "one operator at a time");

  const std::string failed = arguments.model + " could not be loaded";
  const int64_t start = now_ns(CLOCK_MONOTONIC);
  int64_t read = start;
  if (arguments.load_mode == "mmap") {
    // From its file the runtime maps what it can.
    check(api->CreateSession(graph.env, arguments.model.c_str(), graph.options, &graph.session), "load", failed);
  } else {
    graph.file = read_file(arguments.model, "load");
    read = now_ns(CLOCK_MONOTONIC);
    check(api->CreateSessionFromArray(graph.env, graph.file.data(), graph.file.size(), graph.options, &graph.session),
          "load", failed);
  }
  const int64_t end = now_ns(CLOCK_MONOTONIC);
  Event("load").number("ns", end - start).number("program_ns", read - start).number("method_ns", end - read)
      .number("threads", arguments.threads).number("program_bytes", program_bytes).text("method", arguments.method)
      .text("load_mode", arguments.load_mode).text("affinity", affinity()).emit();

  check(api->GetAllocatorWithDefaultOptions(&graph.allocator), "load", "no allocator");
  size_t inputs = 0, outputs = 0;
  check(api->SessionGetInputCount(graph.session, &inputs), "load", "the graph's inputs");
  check(api->SessionGetOutputCount(graph.session, &outputs), "load", "the graph's outputs");
  char* name = nullptr;
  for (size_t i = 0; i < inputs; ++i) {
    check(api->SessionGetInputName(graph.session, i, graph.allocator, &name), "load", "an input's name");
    graph.input_names.push_back(taken(graph, name));
  }
  for (size_t i = 0; i < outputs; ++i) {
    check(api->SessionGetOutputName(graph.session, i, graph.allocator, &name), "load", "an output's name");
    graph.output_names.push_back(taken(graph, name));
  }
  return graph;
}

struct Shape {
  ONNXTensorElementDataType element = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
  std::vector<int64_t> sizes;
};

Shape shape_of(const OrtTensorTypeAndShapeInfo* info, const char* stage, const std::string& what) {
  Shape shape;
  size_t rank = 0;
  check(api->GetTensorElementType(info, &shape.element), stage, what);
  check(api->GetDimensionsCount(info, &rank), stage, what);
  shape.sizes.resize(rank);
  check(api->GetDimensions(info, shape.sizes.data(), rank), stage, what);
  return shape;
}

Shape input_shape(const Graph& graph, size_t index, const std::string& what) {
  OrtTypeInfo* type = nullptr;
  const OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api->SessionGetInputTypeInfo(graph.session, index, &type), "inputs", what);
  check(api->CastTypeInfoToTensorInfo(type, &info), "inputs", what);
  if (info == nullptr) throw Failure{"inputs", what + " is not a tensor"};
  const Shape shape = shape_of(info, "inputs", what);
  api->ReleaseTypeInfo(type);
  return shape;
}

// Owns the memory that the tensors point to.
struct Inputs {
  std::vector<std::vector<uint8_t>> data;
  std::vector<OrtValue*> values;
};

Inputs read_inputs(const Graph& graph, const std::vector<std::string>& paths) {
  if (paths.size() != graph.input_names.size()) {
    throw Failure{"inputs", "the graph takes " + std::to_string(graph.input_names.size()) + " inputs, " +
                  std::to_string(paths.size()) + " were given"};
  }
  OrtMemoryInfo* memory = nullptr;
  check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "inputs", "no memory");
  Inputs inputs;
  for (size_t i = 0; i < paths.size(); ++i) {
    const std::string what = "input " + std::to_string(i);
    const Shape shape = input_shape(graph, i, what);
    const Type type = type_of(shape.element);
    size_t expected = type.bytes;
    bool fixed = type.name != nullptr;
    for (const int64_t size : shape.sizes) {
      fixed = fixed && size > 0;
      expected *= fixed ? static_cast<size_t>(size) : 0;
    }
    if (!fixed) throw Failure{"inputs", what + " has no fixed shape and type that a raw file can have"};
    inputs.data.push_back(read_file(paths[i], "inputs"));
    if (inputs.data.back().size() != expected) {
      throw Failure{"inputs", what + ", " + paths[i] + ", has " + std::to_string(inputs.data.back().size()) +
                    " bytes; the graph takes " + type.name + " " + json_list(shape.sizes) + ", " +
                    std::to_string(expected) + " bytes"};
    }
    OrtValue* value = nullptr;
    check(api->CreateTensorWithDataAsOrtValue(memory, inputs.data.back().data(), expected, shape.sizes.data(),
                                              shape.sizes.size(), shape.element, &value), "inputs", what);
    inputs.values.push_back(value);
  }
  api->ReleaseMemoryInfo(memory);
  return inputs;
}

std::vector<OrtValue*> run_once(const Graph& graph, const Inputs& inputs, const char* stage, size_t index,
                                Sample& sample) {
  std::vector<const char*> input_names, output_names;
  for (const auto& name : graph.input_names) input_names.push_back(name.c_str());
  for (const auto& name : graph.output_names) output_names.push_back(name.c_str());
  std::vector<OrtValue*> outputs(output_names.size(), nullptr);
  sample.start_ns = uptime_ns();
  const int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
  const int64_t wall = now_ns(CLOCK_MONOTONIC);
  OrtStatus* status = api->Run(graph.session, nullptr, input_names.data(), inputs.values.data(), input_names.size(),
                               output_names.data(), output_names.size(), outputs.data());
  sample.ns = now_ns(CLOCK_MONOTONIC) - wall;
  sample.cpu_ns = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  check(status, stage, "run " + std::to_string(index) + " failed");
  return outputs;
}

void release(std::vector<OrtValue*>& values) {
  for (OrtValue* value : values) api->ReleaseValue(value);
  values.clear();
}

void warm_up(const Graph& graph, const Arguments& arguments, const Inputs& inputs) {
  for (uint32_t i = 0; i < arguments.warmup; ++i) {
    Sample sample;
    auto outputs = run_once(graph, inputs, "warmup", i, sample);
    release(outputs);
    Event("warmup").number("index", i).number("ns", sample.ns).number("cpu_ns", sample.cpu_ns).emit();
  }
}

void write_outputs(const std::vector<OrtValue*>& outputs, const std::string& folder) {
  for (size_t i = 0; i < outputs.size(); ++i) {
    const std::string what = "output " + std::to_string(i);
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api->GetTensorTypeAndShape(outputs[i], &info), "output", what);
    const Shape shape = shape_of(info, "output", what);
    api->ReleaseTensorTypeAndShapeInfo(info);
    const Type type = type_of(shape.element);
    if (type.name == nullptr) throw Failure{"output", what + " has a type that a raw file cannot have"};
    size_t bytes = type.bytes;
    for (const int64_t size : shape.sizes) bytes *= static_cast<size_t>(size);
    void* data = nullptr;
    check(api->GetTensorMutableData(outputs[i], &data), "output", what);
    const std::string name = "output_" + std::to_string(i) + ".bin";
    const std::string path = folder + "/" + name;
    if (!write_file(path, data, bytes)) throw Failure{"output", path + ": could not be written: " + std::strerror(errno)};
    Event("output").number("index", i).text("file", name).text("dtype", type.name)
        .raw("shape", json_list(shape.sizes)).number("bytes", bytes).emit();
  }
}

void run(const Arguments& arguments) {
  if (!arguments.etdump.empty()) throw Failure{"arguments", "ONNX Runtime makes no ETDump"};
  if (arguments.weight_cache == "on") throw Failure{"arguments", "ONNX Runtime has no weight cache of XNNPACK"};
  if (arguments.method != "forward") {
    throw Failure{"arguments", "an ONNX file has one graph, called 'forward', not '" + arguments.method + "'"};
  }
  open_library();
  const Graph graph = load(arguments);
  if (arguments.iterations == 0) {
    TimedRuns none;
    none.stop = "count";
    emit_done(none);
    return;
  }
  const Inputs inputs = read_inputs(graph, arguments.inputs);
  warm_up(graph, arguments, inputs);
  std::vector<OrtValue*> outputs;  // of the last run
  const TimedRuns runs = time_runs(arguments, [&](size_t index) {
    Sample sample;
    release(outputs);
    outputs = run_once(graph, inputs, "iteration", index, sample);
    return sample;
  });
  write_outputs(outputs, arguments.output_dir);
  emit_done(runs);
}

}  // namespace

int main(int argc, char** argv) {
  Failure failure;
  try {
    run(parse_arguments(argc, argv));
    // Everything is said and written: the library's threads and memory need not be taken down one by one.
    std::fflush(nullptr);
    std::_Exit(0);
  } catch (const Failure& caught) {
    failure = caught;
  } catch (const std::exception& caught) {
    failure = {"runner", caught.what()};
  }
  Event("error").text("stage", failure.stage).text("message", failure.message).emit();
  std::_Exit(1);
}
