// What the runner says: one JSON object per line on stdout.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

// What stops the run; becomes the "error" event.
struct Failure {
  std::string stage;
  std::string message;
};

inline std::string json_text(const std::string& text) {
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
