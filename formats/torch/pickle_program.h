// A pickle as torch.save writes it (protocol 2), read as what it is: a program for a machine with a stack. Here the
// machine only puts values together. A name stays a name, applying one to arguments gives a value that says so, and
// nothing is imported, called or unpacked: a value that is used twice is one value with two places that refer to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/torch/pickle_names.h"

namespace q4 {

enum class PickleKind : std::uint8_t {
  kNone,
  kBool,
  kInteger,
  kOtherNumber,  // a float, or an integer of more than 64 bits: none that says anything of a tensor
  kText,         // UTF-8
  kTuple,
  kList,
  kDictionary,
  kName,     // of PickleNames()
  kStorage,  // the persistent id of one, a tuple
  kApplied,  // a name with its arguments, a tuple
};

// A value of a program, by its number there.
using PickleId = std::uint32_t;

struct PickleValue {
  PickleKind kind = PickleKind::kNone;
  std::uint8_t name = 0;     // kName, kApplied: an index of PickleNames()
  std::uint32_t offset = 0;  // of the opcode that made it, in bytes of the pickle
  // kBool and kInteger: the value. kText: where its bytes begin. Else an index of the program's own.
  std::int64_t number = 0;
  // kText: bytes. kTuple, kStorage, kApplied: how many values.
  std::uint32_t count = 0;
};

// What a pickle gives. Refers to the bytes that it was read from, which must outlive it. Values refer to others in any
// way, circles included: whoever walks them keeps a list of where he has been.
class PickleProgram {
 public:
  PickleId root() const { return root_; }
  const PickleValue& value(PickleId id) const { return values_[id]; }
  std::size_t size() const { return values_.size(); }

  // REQUIRES for all: `id` is of that kind.
  std::string_view text(PickleId id) const;
  const PickleName& name(PickleId id) const { return PickleNames()[values_[id].name]; }
  // kTuple, kList, kStorage and kApplied: values. kDictionary: keys and values in turn, in the order of the program; a
  // key may come more than once.
  std::span<const PickleId> items(PickleId id) const;

 private:
  friend class PickleMachine;

  std::span<const std::uint8_t> bytes_;
  std::vector<PickleValue> values_;
  std::vector<PickleId> fixed_;               // the items of all values that cannot grow
  std::vector<std::vector<PickleId>> grown_;  // those of lists and dictionaries
  PickleId root_ = 0;
};

// Reads the whole of a pickle. Messages name `file` and the offset in the pickle. Memory: some 40 bytes for each value,
// at most limits::kPickleValues. Errors: kPickleProtocol, kPickleProgram, kPickleName, kPickleOperand, kPickleTooLarge.
absl::StatusOr<PickleProgram> ReadPickle(std::span<const std::uint8_t> bytes, std::string_view file);

}  // namespace q4
