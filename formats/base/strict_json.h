// JSON text as a stream of events, for input that is not trusted. nlohmann/json does the lexing; this adds what it lets
// pass. Refused everywhere: duplicate keys (also when spelled with \u escapes), a byte order mark, NUL bytes, anything
// after the document, ill-formed UTF-8, lone surrogates, comments, NaN, nesting and tokens beyond a limit. Reason: what
// two parsers read differently, a checker and a loader read differently too.
//
// Memory is bounded by the longest token and the keys of the objects that are open, not by the text. json_value.h makes
// a value of a small document. strict_json and json_value are the only files that reach nlohmann/json. What others than
// q4 wrote is read by json_parser.h, as their own programs read it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "formats/base/file.h"

namespace q4 {

// Text that comes in pieces. Used by one parse, on one thread.
class JsonSource {
 public:
  virtual ~JsonSource() = default;
  // The next piece, valid until the next call; empty at the end. A piece may end anywhere, within a character too. An
  // error ends the parse and is returned by it.
  virtual absl::StatusOr<std::string_view> Next() = 0;
};

// Text that lies in memory, which must outlive this: one piece.
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

// Text that is the range [begin, end) of an open file, in bytes. The file must hold that range and outlive this. Read
// in pieces of 1 MiB.
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

// A value that is neither object nor array. Only the member that `kind` names is set. Integers keep all 64 bits and are
// told apart from floating-point numbers as they are written, so that a size is never rounded.
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
  bool boolean = false;              // of kBool
  std::uint64_t unsigned_value = 0;  // of kUnsigned
  std::int64_t negative_value = 0;   // of kNegative; 0 stands for -0
  double float_value = 0;            // of kFloat, the nearest double
  std::string text = {};             // kString: the content; kFloat: the number as written
  std::uint64_t text_bytes = 0;      // kString from json_parser.h: of the content, which `text` may be the beginning of
};

// "an unsigned integer", "a string", ...: for messages.
std::string_view JsonKindName(JsonScalar::Kind kind);

enum class JsonContainer { kObject, kArray };

// Receives the events in document order. An error ends the parse and is returned as it is. Containers are well nested:
// each OnStart() has its OnEnd(), unless an error comes between. What a handler does not expect it must refuse;
// ignoring it would leave a part of the file without meaning.
class JsonHandler {
 public:
  virtual ~JsonHandler() = default;
  // The value of the last key in an object, or the next element of an array.
  virtual absl::Status OnScalar(JsonScalar scalar) = 0;
  virtual absl::Status OnStart(JsonContainer container) = 0;
  // Unescaped UTF-8, unique in its object. Its value follows.
  virtual absl::Status OnKey(std::string key) = 0;
  virtual absl::Status OnEnd(JsonContainer container) = 0;
};

// What a caller allows. A document as deep as `max_depth` is accepted.
struct StrictJsonOptions {
  // Objects and arrays that may be open at once; 0 allows a scalar only.
  int max_depth = 0;
  // Of a string (without its quotes) or number as written in the file, escapes counted as they stand there.
  std::uint64_t max_token_bytes = 1 << 20;
  // Of a string as it is handed on; what is longer is shortened. For the parsers of json_parser.h.
  std::uint64_t keep_string_bytes = ~std::uint64_t{0};
  // The handler keeps all keys of the outermost object and finds duplicates itself; a second copy of a million tensor
  // names would double the memory.
  // If true, OnKey() may be given a duplicate in the outermost object.
  bool handler_checks_outer_keys = false;
  // Of the text in its file, in bytes, for messages.
  std::uint64_t base_offset = 0;
};

// Parses exactly one document, white space around it allowed. `file` is only for messages. Errors name it and the byte
// offset; exit code 3: kJsonSyntax, kJsonDuplicateKey, kJsonTooDeep, kJsonTooLarge for a token, and whatever the source
// or the handler returned. The handler has seen the events before an error; nothing they built may be used then.
absl::Status ParseStrictJson(JsonSource& source, std::string_view file, const StrictJsonOptions& options,
                             JsonHandler& handler);

}  // namespace q4
