// JSON text as a stream of events, for input that is not trusted. nlohmann/json does the lexing; this adds what it lets
// pass. Refused everywhere: duplicate keys (also when spelled with \u escapes), a byte order mark, NUL bytes, anything
// after the document, ill-formed UTF-8, lone surrogates, comments, NaN, nesting and tokens beyond a limit.
//
// Memory is bounded by the longest token and the keys of the objects that are open, not by the text. strict_json and
// json_value are the only files that reach nlohmann/json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// Text that comes in pieces.
class JsonSource {
 public:
  virtual ~JsonSource() = default;
  // The next piece, valid until the next call; empty at the end.
  virtual absl::StatusOr<std::string_view> Next() = 0;
};

// Text that lies in memory.
class JsonText final : public JsonSource {
 public:
  explicit JsonText(std::string_view text) : text_(text) {}
  absl::StatusOr<std::string_view> Next() override {
    const std::string_view text = text_;
    text_ = {};
    return text;
  }

 private:
  std::string_view text_;
};

// Text that is the range [begin, end) of an open file, which must hold it and outlive this. Read in pieces of 1 MiB.
class JsonFile final : public JsonSource {
 public:
  JsonFile(const RandomAccessFile& file, std::uint64_t begin, std::uint64_t end)
      : file_(file), position_(begin), end_(end) {}
  absl::StatusOr<std::string_view> Next() override;

 private:
  const RandomAccessFile& file_;
  std::uint64_t position_, end_;
  std::string piece_;
};

// A value that is neither object nor array.
struct JsonScalar {
  enum class Kind {
    kNull,
    kBool,
    kUnsigned,  // an integer in 0 ... 2^64-1
    kNegative,  // an integer in -2^63 ... -1, or -0
    kFloat,     // written with point or exponent, or an integer that does not fit: 2.0, 1e3 and 2^64 are no integers
    kString,
  };
  Kind kind = Kind::kNull;
  bool boolean = false;
  std::uint64_t unsigned_value = 0;
  std::int64_t negative_value = 0;
  double float_value = 0;
  std::string text = {};  // kString: the content; kFloat: the number as written
};

// "an unsigned integer", "a string", ...: for messages.
std::string_view JsonKindName(JsonScalar::Kind kind);

enum class JsonContainer { kObject, kArray };

// Receives the events in document order. An error ends the parse and is returned as it is.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  virtual absl::Status OnScalar(JsonScalar scalar) = 0;
  virtual absl::Status OnStart(JsonContainer container) = 0;
  virtual absl::Status OnKey(std::string key) = 0;  // its value follows
  virtual absl::Status OnEnd(JsonContainer container) = 0;
};

struct StrictJsonOptions {
  int max_depth = 0;                        // objects and arrays that may be open at once
  std::uint64_t max_token_bytes = 1 << 20;  // a string or number as written
  // The handler keeps all keys of the outermost object and finds duplicates itself; a second copy of a million tensor
  // names would double the memory.
  bool handler_checks_outer_keys = false;
  std::uint64_t base_offset = 0;  // of the text in its file, for messages
};

// Parses exactly one document. Errors name `file` and the byte offset.
absl::Status ParseStrictJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                             JsonHandler& handler);

}  // namespace q4
