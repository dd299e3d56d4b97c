// A file for each rule that the reader of PyTorch checkpoints checks, which breaks that one alone. Here, in process, so
// that scripts/guard_mutations.py sees each rule fail when it is taken away; tests/hostile/rows_torch.py gives the same
// kinds of files to the tools.
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/torch/pickle_program.h"
#include "formats/torch/torch_checkpoint.h"
#include "formats/torch/torch_issues.h"
#include "formats/torch/zip_archive.h"
#include "tests/support/bytes_file.h"
#include "tests/support/catch.h"
#include "tests/support/steady_file.h"
#include "tests/support/torch_builder.h"

namespace q4 {
namespace {

using namespace std::string_literals;
using test::LittleEndian;
using test::PickledDict;
using test::PickledNumber;
using test::PickledNumbers;
using test::PickledTensor;
using test::PickledText;
using test::PickleOf;

const std::string kOrdered = "ccollections\nOrderedDict\n)R";
const std::string kStorage = std::string(16, 's');

std::string Global(const std::string& module, const std::string& name) { return "c" + module + "\n" + name + "\n"; }

std::string StorageOf(const std::string& type = Global("torch", "FloatStorage"), const std::string& key = "0",
                      std::int64_t elements = 4) {
  return "(" + PickledText("storage") + type + PickledText(key) + PickledText("cpu") + PickledNumber(elements) + "tQ";
}

// A call of _rebuild_tensor_v2, or of _v3 where `dtype` is given, with whatever in place of its arguments.
struct Call {
  std::string storage = StorageOf();
  std::string offset = PickledNumber(0), shape = PickledNumbers({4}), strides = PickledNumbers({1});
  std::string hooks = kOrdered, dtype = {}, metadata = {};

  std::string Pickled() const {
    return Global("torch._utils", dtype.empty() ? "_rebuild_tensor_v2" : "_rebuild_tensor_v3") + "(" + storage +
           offset + shape + strides + "\x89" + hooks + dtype + metadata + "tR";
  }
};

const std::string kTensor = Call().Pickled();

absl::Status ReadArchive(const std::string& bytes) {
  return ReadTorchCheckpoint(test::BytesFile(test::AsBytes(bytes))).status();
}
absl::Status ReadValue(const std::string& value) { return ReadArchive(test::TorchBytes(value, kStorage)); }

// The issue and what the message says besides.
void CheckRefused(const absl::Status& status, const Issue& issue, std::string_view says) {
  INFO(says << ": " << MessageOf(status));
  CHECK(IssueNumberOf(status) == issue.number);
  CHECK(MessageOf(status).find(says) != std::string::npos);
}

// An entry of an archive, with lies.
struct Entry {
  std::string name, content = "x";
  std::uint16_t flags = 0, method = 0;
  std::string directory_extra = {}, local_extra = {}, behind = {};
  std::int64_t more_stored = 0, more_unpacked = 0;  // than there are, in both headers
};

// `out`: what stands before the first of them.
std::string Archive(const std::vector<Entry>& entries, std::string out = {}) {
  std::string directory;
  for (const Entry& entry : entries) {
    const std::uint64_t size = entry.content.size();
    const bool described = (entry.flags & 8) != 0;
    const auto sum = Crc32(0, test::AsBytes(entry.content));
    const std::string form = LittleEndian(entry.flags, 2) + LittleEndian(entry.method, 2) + std::string(4, '\0');
    const std::string numbers = LittleEndian(sum, 4) +
                                LittleEndian(size + static_cast<std::uint64_t>(entry.more_stored), 4) +
                                LittleEndian(size + static_cast<std::uint64_t>(entry.more_unpacked), 4);
    const std::string name_bytes = LittleEndian(entry.name.size(), 2), offset = LittleEndian(out.size(), 4);
    out += "PK\3\4"s + std::string(2, '\0') + form + (described ? std::string(12, '\0') : numbers) + name_bytes +
           LittleEndian(entry.local_extra.size(), 2) + entry.name + entry.local_extra + entry.content + entry.behind;
    directory += "PK\1\2"s + std::string(4, '\0') + form + numbers + name_bytes +
                 LittleEndian(entry.directory_extra.size(), 2) + std::string(10, '\0') + offset + entry.name +
                 entry.directory_extra;
  }
  const std::string count = LittleEndian(entries.size(), 2);
  return out + directory + "PK\5\6"s + std::string(4, '\0') + count + count + LittleEndian(directory.size(), 4) +
         LittleEndian(out.size(), 4) + std::string(2, '\0');
}

// A whole checkpoint, and one entry more or in place of the last.
std::string With(const Entry& more) {
  return Archive(
      {{"m/data.pkl", PickleOf(PickledDict({{"a", kTensor}}))}, {"m/data/0", kStorage}, {"m/version", "3\n"}, more});
}

std::string Patched(std::string bytes, std::string_view mark, std::size_t offset, const std::string& value) {
  return bytes.replace(bytes.rfind(mark) + offset, value.size(), value);
}

}  // namespace

TEST_CASE("the checkpoint that these tests change is read", "[torch]") {
  CHECK(ReadValue(PickledDict({{"a", kTensor}})).ok());
  CHECK(ReadArchive(With({"m/x"})).ok());
  const std::string tail =
      "PK\7\x08"s + LittleEndian(Crc32(0, test::AsBytes("x"s)), 4) + LittleEndian(1, 4) + LittleEndian(1, 4);
  CHECK(ReadArchive(With({"m/x", "x", 8, 0, "", "FB\2\0ZZ"s, tail})).ok());
}

TEST_CASE("a broken program is refused", "[torch]") {
  struct Broken {
    std::string pickle;
    const Issue& issue;
    std::string says;
  };
  const std::string begin = "\x80\2";
  const std::vector<Broken> programs = {
      {"\x80\4N.", kPickleProtocol, "got 4"},
      {"N.", kPickleProtocol, "without a version"},
      {PickleOf("N") + "N.", kPickleProgram, "2 bytes follow the end"},
      {PickleOf("NN"), kPickleProgram, "the end leaves 2 values"},
      {PickleOf("N("), kPickleProgram, "the end leaves 1 values"},
      {begin + "N", kPickleProgram, "without STOP"},
      {begin + "\x8a\4\1", kPickleProgram, "ends in an opcode"},
      {begin + "X\4\0\0\0ab"s, kPickleProgram, "ends in a text"},
      {PickleOf("X\2\0\0\0\xff\xfe"s), kPickleProgram, "not UTF-8"},
      {PickleOf("}(K\1u"), kPickleProgram, "a key without a value"},
      {begin + "Nq", kPickleProgram, "ends in an opcode"},
      {PickleOf("q\0N"s), kPickleProgram, "too few values"},
      {PickleOf("Nq\5"), kPickleProgram, "memo 5 after 0"},
      {begin + "cabc", kPickleProgram, "name of a global"},
      {PickleOf(Global("os", "system")), kPickleName, "os.system"},
      {PickleOf("(" + PickledText("storage") + "tQ"), kPickleOperand, "persistent id: expected"},
      {PickleOf("ccollections\nOrderedDict\nN\x85R"), kPickleOperand, "OrderedDict: 1 arguments"},
      {PickleOf(Global("torch._utils", "_rebuild_tensor_v2") + "N\x85R"), kPickleOperand, "1 arguments, expected 6"},
      {PickleOf(Global("torch._utils", "_rebuild_tensor_v3") + "N\x85R"), kPickleOperand, "1 arguments, expected 7"},
      {PickleOf(Global("torch._utils", "_rebuild_parameter") + "N\x85R"), kPickleOperand, "1 arguments, expected 3"},
      {PickleOf(Global("torch._tensor", "_rebuild_from_type_v2") + "N\x85R"), kPickleOperand,
       "1 arguments, expected 4"},
      {PickleOf(kOrdered + "}(" + PickledText("other") + "Nub"), kPickleOperand, "but _metadata"},
  };
  for (const Broken& broken : programs) {
    CheckRefused(ReadPickle(test::AsBytes(broken.pickle), "m.bin").status(), broken.issue, broken.says);
  }
  CHECK(ReadPickle(test::AsBytes(PickleOf(kOrdered + "}(" + PickledText("_metadata") + "Nub")), "m.bin").ok());
}

TEST_CASE("a value that is no state dict is refused", "[torch]") {
  const std::string quantized = Global("torch._utils", "_rebuild_qtensor") + ")R";
  CheckRefused(ReadValue("]"), kTorchNoStateDict, "no dictionary");
  CheckRefused(ReadValue(kTensor), kTorchNoStateDict, "one tensor without a name");
  CheckRefused(ReadValue(quantized), kTorchTensorKind, "quantized");
  CheckRefused(ReadValue(PickledDict({{"state", "}"}, {"param_groups", "]"}})), kTorchNoStateDict, "optimizer");
  CheckRefused(ReadValue("}(" + PickledText("a") + kTensor + "K\1" + kTensor + "u"), kTorchKey, "got 1");
  CheckRefused(ReadValue(PickledDict({{"a", kTensor}, {"a", kTensor}})), kTorchKey, "twice");
  CheckRefused(ReadValue(PickledDict({{"", kTensor}})), kTorchKey, "got 0 bytes");
  // An optimizer is no second model.
  const std::string optimizer = PickledDict({{"state", PickledDict({{"a", kTensor}})}, {"param_groups", "]"}});
  CHECK(ReadValue(PickledDict({{"mine", PickledDict({{"w", kTensor}})}, {"other", optimizer}})).ok());
}

TEST_CASE("a tensor that is no plain view of a storage is refused", "[torch]") {
  const auto one = [](const Call& call) { return ReadValue(PickledDict({{"a", call.Pickled()}})); };
  const std::string hooks = PickledDict({{"hook", "N"}});
  const std::string bytes = Global("torch.storage", "UntypedStorage");
  CheckRefused(one({.storage = "N"}), kPickleOperand, "no storage");
  CheckRefused(one({.storage = StorageOf(Global("torch", "float32"))}), kPickleOperand, "is no storage");
  CheckRefused(one({.storage = StorageOf(bytes, "0", 16)}), kPickleOperand, "bytes without a dtype");
  CheckRefused(one({.storage = StorageOf(bytes, "0", 16), .dtype = "N"}), kPickleOperand, "no dtype");
  CheckRefused(one({.storage = StorageOf(bytes, "0", 16), .dtype = Global("torch", "FloatStorage")}), kPickleOperand,
               "FloatStorage is no dtype");
  CheckRefused(one({.storage = StorageOf(Global("torch", "FloatStorage"), "7")}), kTorchStorage, "key '7'");
  CheckRefused(one({.storage = StorageOf(Global("torch", "FloatStorage"), "0", 5)}), kTorchStorageSize, "5 elements");
  CheckRefused(one({.storage = StorageOf(Global("torch", "FloatStorage"), "0", -4)}), kTorchStorageSize, "-4 elements");
  CheckRefused(one({.hooks = hooks}), kTorchHooks, "");
  CheckRefused(one({.metadata = hooks}), kTorchTensorKind, "conjugated");
  CheckRefused(one({.offset = PickledNumber(-1)}), kTorchShape, "whole numbers");
  CheckRefused(one({.shape = "N"}), kTorchShape, "whole numbers");
  CheckRefused(one({.shape = PickledNumbers({-4})}), kTorchShape, "whole numbers");
  CheckRefused(one({.strides = PickledNumbers({-1})}), kTorchShape, "whole numbers");
  CheckRefused(one({.strides = PickledNumbers({1, 1})}), kTorchShape, "a stride for each");
  const std::vector<std::int64_t> nine(9, 1);
  CheckRefused(one({.shape = PickledNumbers(nine), .strides = PickledNumbers(nine)}), kTorchShape, "at most 8");
  const std::vector<std::int64_t> large(2, std::int64_t{1} << 40);
  CheckRefused(one({.shape = PickledNumbers(large), .strides = PickledNumbers({1, 1})}), kTorchShape, "the limit");
  CheckRefused(one({.offset = PickledNumber(1)}), kTorchView, "offset 1");
  CheckRefused(one({.strides = PickledNumbers({2})}), kTorchView, "offset 0");
  const std::string parameter = Global("torch._utils", "_rebuild_parameter") + "(" + kTensor + "\x88";
  CHECK(ReadValue(PickledDict({{"a", parameter + kOrdered + "tR"}})).ok());
  CheckRefused(ReadValue(PickledDict({{"a", parameter + hooks + "tR"}})), kTorchHooks, "");
}

TEST_CASE("an archive that torch.save does not write is refused", "[torch]") {
  CheckRefused(ReadArchive(std::string(40, 'x')), kZipDirectory, "end record is missing");
  CheckRefused(ReadArchive(PickleOf(std::string(40, 'N'))), kTorchLegacy, "");
  CheckRefused(ReadArchive(Archive({{"m/a"}})), kTorchNoPickle, "got none");
  CheckRefused(ReadArchive(Archive({{"m/data.pkl"}, {"m/x/data.pkl"}})), kTorchNoPickle, "as well");
  CheckRefused(ReadArchive(Archive({{"m/x/data.pkl"}})), kTorchNoPickle, "too deep");
  CheckRefused(ReadArchive(With({"m/constants.pkl"})), kTorchScript, "");
  const std::string pickle = PickleOf(PickledDict({{"a", kTensor}}));
  for (const std::string& version : {"0"s, "11"s, "3x"s, "three"s, ""s}) {
    CheckRefused(ReadArchive(test::ZipBytes({{"m/data.pkl", pickle}, {"m/data/0", kStorage}, {"m/version", version}})),
                 kTorchVersion, "got '" + version + "'");
  }
  CheckRefused(ReadArchive(Archive({{"m/data.pkl", pickle}, {"m/version", std::string(65, '1')}})), kTorchVersion,
               "65 bytes");
  CheckRefused(ReadArchive(With({"m/byteorder", "big"})), kTorchVersion, "got 'big'");
  std::string damaged = With({"m/x"});
  damaged[damaged.find("cpu")] = 'g';
  CheckRefused(ReadArchive(damaged), kZipCrc, "data.pkl");
}

TEST_CASE("an archive with room for two readings is refused", "[torch]") {
  for (const std::string& name :
       {"m\\x"s, "m/x:y"s, "m/\xff"s, "m/x\0y"s, "plain"s, "m//x"s, "m/./x"s, "m/../x"s, "n/x"s}) {
    CheckRefused(ReadArchive(With({name})), kZipName, "");
  }
  CheckRefused(ReadArchive(With({"m/Version"})), kZipName, "twice");
  CheckRefused(ReadArchive(With({.name = "m/x", .method = 8})), kZipCompressed, "");
  CheckRefused(ReadArchive(With({.name = "m/x", .flags = 1})), kZipEntry, "flag bits 1");
  CheckRefused(ReadArchive(With({.name = "m/x", .more_unpacked = 1})), kZipEntry, "sizes differ");
  CheckRefused(ReadArchive(With({.name = "m/x", .more_stored = 9, .more_unpacked = 9})), kZipRanges, "reaches into");
  CheckRefused(ReadArchive(With({.name = "m/x", .behind = "gap"})), kZipRanges, "3 bytes follow");
  CheckRefused(ReadArchive(With({.name = "m/x", .flags = 8, .behind = "gap"})), kZipRanges, "must be");
  // Fields that are cut off, unknown, or there twice.
  for (const std::string& extra : {"F"s, "FB\1\0"s, "\7\7\0\0"s, "FB\0\0FB\0\0"s}) {
    CheckRefused(ReadArchive(With({.name = "m/x", .directory_extra = extra})), kZipEntry, "of the directory");
    CheckRefused(ReadArchive(With({.name = "m/x", .local_extra = extra})), kZipEntry, "of the local header");
  }
  const std::string whole = With({"m/x"});
  CheckRefused(ReadArchive(Patched(whole, "PK\1\2", 0, "XX")), kZipDirectory, "fewer entries");
  CheckRefused(ReadArchive(Patched(whole, "PK\5\6", 8, "\3\0\3\0"s)), kZipDirectory, "holds more");
  CheckRefused(ReadArchive(Patched(whole, "PK\5\6", 12, "\1\0\0\0"s)), kZipDirectory, "directory's end");
  // The last entry claims to begin a byte later.
  const std::size_t record = whole.rfind("PK\1\2");
  const char begin = whole[record + 42];
  CheckRefused(ReadArchive(Patched(whole, "PK\1\2", 42, std::string(1, static_cast<char>(begin + 1)))), kZipRanges,
               "1 bytes follow it");
  CheckRefused(ReadArchive("x" + whole), kZipDirectory, "directory's end");
  // Bytes before the first entry, and before a directory of none.
  CheckRefused(ReadArchive(Archive({{"m/data.pkl"}}, "x")), kZipRanges, "its header");
  const std::string none = "x" + "PK\5\6"s + std::string(12, '\0') + LittleEndian(1, 4) + std::string(2, '\0');
  const test::BytesFile file(test::AsBytes(none));
  auto directory = ReadZipDirectory(file);
  REQUIRE(directory.ok());
  CheckRefused(CheckZipEntries(file, &*directory), kZipRanges, "nothing but a directory");
}

// A file with zeros between what it begins and ends with.
class HollowFile final : public test::SteadyFile {
 public:
  HollowFile(std::string head, std::uint64_t zeros, std::string tail)
      : SteadyFile("m.bin"), head_(std::move(head)), tail_(std::move(tail)), tail_begin_(head_.size() + zeros) {}
  absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const std::uint64_t at = offset + i;
      const char c = at < head_.size() ? head_[at] : at >= tail_begin_ ? tail_.at(at - tail_begin_) : '\0';
      out[i] = static_cast<std::uint8_t>(c);
    }
    return absl::OkStatus();
  }
  std::uint64_t size() const override { return tail_begin_ + tail_.size(); }

 private:
  std::string head_, tail_;
  std::uint64_t tail_begin_;
};

TEST_CASE("archives and pickles beyond the limits are refused before they are read", "[torch]") {
  const std::vector<std::uint8_t> pickle(limits::kPickleBytes + 1);
  CheckRefused(ReadPickle(pickle, "m.bin").status(), kPickleTooLarge, "got 67108865");
  // An archive of one record, whose content of as many bytes is put in between.
  const std::string small = Archive({{"m/data.pkl", ""}, {"m/version", "3\n"}});
  const std::uint64_t zeros = limits::kPickleBytes + 1, begin = 30 + 10;  // behind the local header of the first
  const std::string sizes = LittleEndian(0, 4) + LittleEndian(zeros, 4) + LittleEndian(zeros, 4);
  std::string head = small.substr(0, begin), tail = small.substr(begin);
  head.replace(14, 12, sizes);
  const std::size_t first = tail.find("PK\1\2"), second = tail.rfind("PK\1\2"), end = tail.rfind("PK\5\6");
  tail.replace(first + 16, 12, sizes);
  tail.replace(second + 42, 4, LittleEndian(begin + zeros, 4));
  tail.replace(end + 16, 4, LittleEndian(begin + zeros + first, 4));
  CheckRefused(ReadTorchCheckpoint(HollowFile(head, zeros, tail)).status(), kPickleTooLarge, "data.pkl");
  // Of zip64, whose records give more entries than the usual ones can.
  const std::string count = LittleEndian(limits::kZipEntries + 1, 8);
  const std::string record =
      "PK\6\6"s + LittleEndian(44, 8) + std::string(12, '\0') + count + count + std::string(16, '\0');
  const std::string locator = "PK\6\7"s + std::string(12, '\0') + LittleEndian(1, 4);
  const std::string usual = "PK\5\6"s + std::string(4, '\0') + "\xff\xff\xff\xff" + std::string(10, '\0');
  CheckRefused(ReadArchive(record + locator + usual), kZipTooMany, "got 1000001");
  CheckRefused(ReadArchive("PK\5\6"), kZipDirectory, "too short");
}

}  // namespace q4
