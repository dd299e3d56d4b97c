// One function for each group of opcodes; Step() is the list of all that have a meaning, 31 of the 68 that pickle
// knows. The others are those of other protocols, and those that look up or call what a file names.
//
// Memory is bounded by what the program can make: values, what the memo holds, and the stack each have a limit, and a
// value has no more items than were on the stack or were appended one by one.
#include "formats/torch/pickle_program.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "formats/base/byte_reader.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/torch/torch_issues.h"

namespace q4 {
namespace {

// What Python calls them, for messages.
std::string_view PickleKindName(PickleKind kind) {
  switch (kind) {
    case PickleKind::kNone:
      return "None";
    case PickleKind::kBool:
      return "a bool";
    case PickleKind::kInteger:
      return "an int";
    case PickleKind::kOtherNumber:
      return "a float or a large int";
    case PickleKind::kText:
      return "a str";
    case PickleKind::kTuple:
      return "a tuple";
    case PickleKind::kList:
      return "a list";
    case PickleKind::kDictionary:
      return "a dict";
    case PickleKind::kName:
      return "a global";
    case PickleKind::kStorage:
      return "a storage";
    case PickleKind::kApplied:
      return "an object";
  }
  return "";
}

}  // namespace

std::string_view PickleProgram::text(PickleId id) const {
  const PickleValue& value = values_[id];
  return {reinterpret_cast<const char*>(bytes_.data()) + value.number, value.count};
}

std::span<const PickleId> PickleProgram::items(PickleId id) const {
  const PickleValue& value = values_[id];
  const auto index = static_cast<std::size_t>(value.number);
  if (value.kind == PickleKind::kList || value.kind == PickleKind::kDictionary) return grown_[index];
  return std::span<const PickleId>(fixed_).subspan(index, value.count);
}

class PickleMachine {
 public:
  PickleMachine(std::span<const std::uint8_t> bytes, std::string_view file) : file_(file), in_(bytes) {
    program_.bytes_ = bytes;
  }

  absl::StatusOr<PickleProgram> Run() {
    const std::uint8_t first = in_.U8(), protocol = in_.U8();
    if (!in_.ok() || first != 0x80 || protocol != 2) {
      return Fail(kPickleProtocol, file_, "data.pkl",
                  (first == 0x80 && in_.ok() ? GotExpected(std::to_string(protocol), "2, as torch.save writes")
                                             : "got one without a version, expected 2, as torch.save writes") +
                      "; load the checkpoint with PyTorch and save it again");
    }
    while (!stopped_) Q4_RETURN_IF_ERROR(Step());
    if (in_.remaining() != 0) return Bad(std::to_string(in_.remaining()) + " bytes follow the end");
    if (stack_.size() != 1 || !marks_.empty())
      return Bad("the end leaves " + std::to_string(stack_.size()) + " values");
    program_.root_ = stack_.back();
    return std::move(program_);
  }

 private:
  absl::Status Bad(std::string_view detail) const {
    return Fail(kPickleProgram, file_, "data.pkl, " + AtOffset(at_), detail);
  }
  absl::Status BadOperand(std::string_view what, PickleId got) const {
    return Fail(kPickleOperand, file_, "data.pkl, " + AtOffset(at_),
                fmt::format("{}: got {}", what, PickleKindName(program_.values_[got].kind)));
  }

  absl::Status Step() {
    at_ = in_.offset();
    const std::uint8_t opcode = in_.U8();
    if (!in_.ok()) return Bad("it ends without STOP");
    switch (opcode) {
      case '.':  // STOP
        stopped_ = true;
        return absl::OkStatus();
      case '(':  // MARK
        if (marks_.size() == limits::kPickleStack) return TooLarge("marks", limits::kPickleStack);
        marks_.push_back(stack_.size());
        return absl::OkStatus();
      case 'N':  // NONE
        return Push(PickleKind::kNone);
      case 0x88:  // NEWTRUE
      case 0x89:  // NEWFALSE
        return Push(PickleKind::kBool, opcode == 0x88 ? 1 : 0);
      case 'K':  // BININT1
        return PushRead(PickleKind::kInteger, in_.U8());
      case 'M':  // BININT2
        return PushRead(PickleKind::kInteger, in_.U16());
      case 'J':  // BININT
        return PushRead(PickleKind::kInteger, static_cast<std::int32_t>(in_.U32()));
      case 0x8a:  // LONG1
        return Long();
      case 'G':  // BINFLOAT
        in_.U64();
        return PushRead(PickleKind::kOtherNumber, 0);
      case 'X':  // BINUNICODE
        return Text(in_.U32());
      case ')':  // EMPTY_TUPLE
        return Tuple(0);
      case 0x85:  // TUPLE1
      case 0x86:  // TUPLE2
      case 0x87:  // TUPLE3
        return Tuple(static_cast<std::size_t>(opcode - 0x84));
      case 't': {  // TUPLE
        Q4_ASSIGN_OR_RETURN(const std::size_t count, PopMark());
        return Tuple(count);
      }
      case ']':  // EMPTY_LIST
        return PushGrowing(PickleKind::kList);
      case '}':  // EMPTY_DICT
        return PushGrowing(PickleKind::kDictionary);
      case 'a':  // APPEND
        return Append(1);
      case 'e': {  // APPENDS
        Q4_ASSIGN_OR_RETURN(const std::size_t count, PopMark());
        return Append(count);
      }
      case 's':  // SETITEM
        return SetItems(2);
      case 'u': {  // SETITEMS
        Q4_ASSIGN_OR_RETURN(const std::size_t count, PopMark());
        return SetItems(count);
      }
      case 'q':  // BINPUT
        return Put(in_.U8());
      case 'r':  // LONG_BINPUT
        return Put(in_.U32());
      case 'h':  // BINGET
        return Get(in_.U8());
      case 'j':  // LONG_BINGET
        return Get(in_.U32());
      case 'c':  // GLOBAL
        return Global();
      case 'Q':  // BINPERSID
        return Storage();
      case 'R':   // REDUCE
      case 0x81:  // NEWOBJ
        return Apply(opcode == 'R');
      case 'b':  // BUILD
        return Build();
      default:
        return Bad(fmt::format("opcode 0x{:02x} is not one of torch.save", opcode));
    }
  }

  absl::Status TooLarge(std::string_view what, std::uint64_t limit) const {
    return Fail(kPickleTooLarge, file_, "data.pkl, " + AtOffset(at_), fmt::format("at most {} {}", limit, what));
  }

  absl::Status Push(PickleKind kind, std::int64_t number = 0, std::uint32_t count = 0, std::uint8_t name = 0) {
    if (program_.values_.size() == limits::kPickleValues) return TooLarge("values", limits::kPickleValues);
    program_.values_.push_back({kind, name, static_cast<std::uint32_t>(at_), number, count});
    return PushId(static_cast<PickleId>(program_.values_.size() - 1));
  }
  absl::Status PushId(PickleId id) {
    if (stack_.size() == limits::kPickleStack) return TooLarge("values on the stack", limits::kPickleStack);
    stack_.push_back(id);
    return absl::OkStatus();
  }
  // A value whose operand was just read.
  absl::Status PushRead(PickleKind kind, std::int64_t number) {
    return in_.ok() ? Push(kind, number) : Bad("it ends in an opcode");
  }
  absl::Status PushGrowing(PickleKind kind) {
    program_.grown_.emplace_back();
    return Push(kind, static_cast<std::int64_t>(program_.grown_.size() - 1));
  }

  // How many values lie above the last mark, which is taken away.
  absl::StatusOr<std::size_t> PopMark() {
    if (marks_.empty() || marks_.back() > stack_.size()) return Bad("no mark on the stack");
    const std::size_t count = stack_.size() - marks_.back();
    marks_.pop_back();
    return count;
  }
  // Whether `count` values may be taken: not those below a mark, which belong to what is being built there.
  absl::Status Need(std::size_t count) const {
    const std::size_t floor = marks_.empty() ? 0 : marks_.back();
    return floor + count <= stack_.size() ? absl::OkStatus() : Bad("too few values on the stack");
  }
  // REQUIRES: Need(1).
  PickleId Pop() {
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }
  const PickleValue& Value(PickleId id) const { return program_.values_[id]; }

  absl::Status Long() {
    const std::uint8_t length = in_.U8();
    const auto bytes = in_.Bytes(length);
    if (!in_.ok()) return Bad("it ends in an opcode");
    if (length > 8) return Push(PickleKind::kOtherNumber);
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) value |= std::uint64_t{bytes[i]} << (8 * i);
    // Two's complement, as short as it can be: the sign goes on.
    if (length > 0 && length < 8 && (bytes.back() & 0x80) != 0) value |= ~std::uint64_t{0} << (8 * length);
    return Push(PickleKind::kInteger, static_cast<std::int64_t>(value));
  }

  absl::Status Text(std::uint32_t length) {
    const auto begin = static_cast<std::int64_t>(in_.offset());
    const auto bytes = in_.Bytes(length);
    if (!in_.ok()) return Bad("it ends in a text");
    if (!IsUtf8({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) return Bad("a text is not UTF-8");
    return Push(PickleKind::kText, begin, length);
  }

  // Makes a value of the `count` topmost ones, in their order.
  absl::Status PushFixed(PickleKind kind, std::size_t count, std::uint8_t name = 0) {
    const auto begin = static_cast<std::int64_t>(program_.fixed_.size());
    program_.fixed_.insert(program_.fixed_.end(), stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return Push(kind, begin, static_cast<std::uint32_t>(count), name);
  }
  absl::Status Tuple(std::size_t count) {
    Q4_RETURN_IF_ERROR(Need(count));
    return PushFixed(PickleKind::kTuple, count);
  }

  absl::Status Append(std::size_t count) {
    Q4_RETURN_IF_ERROR(Need(count + 1));
    const PickleId target = stack_[stack_.size() - count - 1];
    if (Value(target).kind != PickleKind::kList) return BadOperand("APPEND", target);
    Grow(target, count);
    return absl::OkStatus();
  }
  absl::Status SetItems(std::size_t count) {
    Q4_RETURN_IF_ERROR(Need(count + 1));
    if (count % 2 != 0) return Bad("SETITEMS of a key without a value");
    const PickleId target = stack_[stack_.size() - count - 1];
    if (Value(target).kind != PickleKind::kDictionary) return BadOperand("SETITEM", target);
    for (std::size_t i = stack_.size() - count; i < stack_.size(); i += 2) {
      const PickleKind kind = Value(stack_[i]).kind;
      if (kind == PickleKind::kList || kind == PickleKind::kDictionary) return BadOperand("SETITEM, key", stack_[i]);
    }
    Grow(target, count);
    return absl::OkStatus();
  }
  void Grow(PickleId target, std::size_t count) {
    std::vector<PickleId>& items = program_.grown_[static_cast<std::size_t>(Value(target).number)];
    items.insert(items.end(), stack_.end() - static_cast<std::ptrdiff_t>(count), stack_.end());
    stack_.resize(stack_.size() - count);
  }

  // Python numbers what it remembers in order, so that no number can ask for memory.
  absl::Status Put(std::uint32_t number) {
    if (!in_.ok()) return Bad("it ends in an opcode");
    Q4_RETURN_IF_ERROR(Need(1));
    if (number > memo_.size()) return Bad(fmt::format("memo {} after {}", number, memo_.size()));
    if (number < memo_.size()) {
      memo_[number] = stack_.back();
      return absl::OkStatus();
    }
    if (memo_.size() == limits::kPickleValues) return TooLarge("remembered values", limits::kPickleValues);
    memo_.push_back(stack_.back());
    return absl::OkStatus();
  }
  absl::Status Get(std::uint32_t number) {
    if (!in_.ok() || number >= memo_.size()) return Bad("nothing is remembered by that number");
    return PushId(memo_[number]);
  }

  // A line that ends in '\n', without it.
  absl::StatusOr<std::string_view> Line() {
    std::size_t length = 0;
    const auto begin = static_cast<std::size_t>(in_.offset());
    while (in_.U8() != '\n' && in_.ok()) ++length;
    if (!in_.ok()) return Bad("it ends in the name of a global");
    return std::string_view(reinterpret_cast<const char*>(program_.bytes_.data()) + begin, length);
  }
  absl::Status Global() {
    Q4_ASSIGN_OR_RETURN(const std::string_view module, Line());
    Q4_ASSIGN_OR_RETURN(const std::string_view name, Line());
    const int found = FindPickleName(module, name);
    if (found < 0) {
      return Fail(kPickleName, file_, "data.pkl, " + AtOffset(at_),
                  fmt::format("{}.{}; if you trust the file, load it with PyTorch and save its state_dict() alone",
                              Printable(module), Printable(name)));
    }
    return Push(PickleKind::kName, 0, 0, static_cast<std::uint8_t>(found));
  }

  // ("storage", type, key, location, elements). The location is where the tensors were: the reader's are elsewhere.
  absl::Status Storage() {
    Q4_RETURN_IF_ERROR(Need(1));
    const PickleId id = Pop();
    if (Value(id).kind != PickleKind::kTuple) return BadOperand("persistent id", id);
    const auto items = program_.items(id);
    const auto is = [&](std::size_t i, PickleKind kind) { return Value(items[i]).kind == kind; };
    const bool form = items.size() == 5 && is(0, PickleKind::kText) && program_.text(items[0]) == "storage" &&
                      is(1, PickleKind::kName) && is(2, PickleKind::kText) && is(3, PickleKind::kText) &&
                      is(4, PickleKind::kInteger);
    if (!form) {
      return Fail(kPickleOperand, file_, "data.pkl, " + AtOffset(at_),
                  "persistent id: expected ('storage', type, key, location, elements)");
    }
    return Push(PickleKind::kStorage, Value(id).number, 5);
  }

  // REDUCE and NEWOBJ: a name and its arguments become a value, and that is all.
  absl::Status Apply(bool reduce) {
    Q4_RETURN_IF_ERROR(Need(2));
    const PickleId arguments = Pop(), function = Pop();
    if (Value(function).kind != PickleKind::kName) return BadOperand("REDUCE, function", function);
    if (Value(arguments).kind != PickleKind::kTuple) return BadOperand("REDUCE, arguments", arguments);
    const PickleName& name = program_.name(function);
    const std::size_t count = Value(arguments).count;
    const auto arity = [&](std::size_t least, std::size_t most) {
      return count >= least && count <= most
                 ? absl::OkStatus()
                 : Fail(kPickleOperand, file_, "data.pkl, " + AtOffset(at_),
                        fmt::format("{}: {} arguments, expected {}", name.name, count, least));
    };
    switch (name.role) {
      case PickleRole::kOrderedDict:
        Q4_RETURN_IF_ERROR(arity(0, 0));
        return PushGrowing(PickleKind::kDictionary);
      case PickleRole::kTensor:
        Q4_RETURN_IF_ERROR(arity(6, 7));
        break;
      case PickleRole::kTypedTensor:
        Q4_RETURN_IF_ERROR(arity(7, 8));
        break;
      case PickleRole::kParameter:
        Q4_RETURN_IF_ERROR(arity(3, 3));
        break;
      case PickleRole::kParameterState:
      case PickleRole::kFromType:
        Q4_RETURN_IF_ERROR(arity(4, 4));
        break;
      case PickleRole::kUnreadTensor:
      case PickleRole::kInert:
        break;
      case PickleRole::kTensorType:
      case PickleRole::kStorage:
      case PickleRole::kUntypedStorage:
      case PickleRole::kDType:
      case PickleRole::kUnread:
        return BadOperand(reduce ? "REDUCE, function" : "NEWOBJ, class", function);
    }
    return Push(PickleKind::kApplied, Value(arguments).number, static_cast<std::uint32_t>(count), Value(function).name);
  }

  // Attributes. Those of an OrderedDict are versions of modules, which nobody needs for the tensors; inert values and
  // those that tell nothing of elements keep what they are.
  absl::Status Build() {
    Q4_RETURN_IF_ERROR(Need(2));
    const PickleId state = Pop(), target = stack_.back();
    if (Value(target).kind == PickleKind::kApplied && program_.name(target).role == PickleRole::kInert) {
      return absl::OkStatus();
    }
    if (Value(target).kind != PickleKind::kDictionary) return BadOperand("BUILD", target);
    if (Value(state).kind != PickleKind::kDictionary) return BadOperand("BUILD, state", state);
    const auto items = program_.items(state);
    for (std::size_t i = 0; i < items.size(); i += 2) {
      if (Value(items[i]).kind == PickleKind::kText && program_.text(items[i]) == "_metadata") continue;
      return Fail(kPickleOperand, file_, "data.pkl, " + AtOffset(at_),
                  "BUILD: expected no attribute of a dict but _metadata");
    }
    return absl::OkStatus();
  }

  std::string_view file_;
  ByteReader in_;
  PickleProgram program_;
  std::uint64_t at_ = 0;  // of the opcode
  bool stopped_ = false;
  std::vector<PickleId> stack_;
  std::vector<std::size_t> marks_;  // sizes of the stack
  std::vector<PickleId> memo_;
};

absl::StatusOr<PickleProgram> ReadPickle(std::span<const std::uint8_t> bytes, std::string_view file) {
  if (bytes.size() > limits::kPickleBytes) {
    return Fail(kPickleTooLarge, file, "data.pkl",
                GotExpected(std::to_string(bytes.size()), "at most " + std::to_string(limits::kPickleBytes)));
  }
  return PickleMachine(bytes, file).Run();
}

}  // namespace q4
