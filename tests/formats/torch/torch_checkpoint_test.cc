#include "formats/torch/torch_checkpoint.h"

#include <algorithm>
#include <string>
#include <vector>

#include "formats/torch/pickle_program.h"
#include "formats/torch/torch_issues.h"
#include "formats/torch/zip_archive.h"
#include "tests/support/catch.h"
#include "tests/support/memory_file_system.h"
#include "tests/support/torch_builder.h"

namespace q4 {
namespace {

using test::PickledDict;
using test::PickledNumber;
using test::PickledTensor;
using test::PickledText;
using test::PickledView;
using test::PickleOf;

// A file system with one file in it, for as long as it is read.
struct OneFile {
  explicit OneFile(const std::string& bytes) {
    fs["m.bin"].assign(bytes.begin(), bytes.end());
    file = *fs.OpenForRead("m.bin");
  }
  MemoryFileSystem fs;
  std::unique_ptr<RandomAccessFile> file;
};

absl::StatusOr<TorchCheckpoint> ReadBytes(const std::string& bytes) {
  return ReadTorchCheckpoint(*OneFile(bytes).file);
}

absl::StatusOr<PickleProgram> ReadText(std::string_view pickle) { return ReadPickle(test::AsBytes(pickle), "m.bin"); }

TEST_CASE("entries of an archive are ranges of the file") {
  const OneFile one(test::ZipBytes({{"m/b", "12345"}, {"m/a", ""}, {"m/c/d", "67"}}));
  auto directory = ReadZipDirectory(*one.file);
  REQUIRE(directory.ok());
  REQUIRE(CheckZipEntries(*one.file, &*directory).ok());
  REQUIRE(directory->entries.size() == 3);
  CHECK(directory->entries[0].offset == 33);
  CHECK(directory->entries[0].bytes == 5);
  CHECK(directory->entries[1].offset == 38 + 33);
  CHECK(directory->entries[1].bytes == 0);
  CHECK(directory->entries[2].name == "m/c/d");
  CHECK(directory->entries[2].offset + 2 == directory->offset);
}

TEST_CASE("every shortened archive is an error") {
  const std::string whole =
      test::TorchBytes(PickledDict({{"a", PickledTensor({{4}, {1}, 0, "0", 4})}}), std::string(16, 'x'));
  REQUIRE(ReadBytes(whole).ok());
  for (std::size_t size = 0; size < whole.size(); ++size) CHECK_FALSE(ReadBytes(whole.substr(0, size)).ok());
}

TEST_CASE("a program makes values and calls nothing") {
  const std::string pickle = PickleOf(PickledDict(
      {{"x", PickledNumber(-3)}, {"y", "N"}, {"z", "ctorch\nSize\n(K\1K\2t\x85R"}, {"l", "](\x88\x89G12345678e"}}));
  const auto program = ReadText(pickle);
  REQUIRE(program.ok());
  const auto items = program->items(program->root());
  REQUIRE(items.size() == 8);
  CHECK(program->text(items[0]) == "x");
  CHECK(program->value(items[1]).number == -3);
  CHECK(program->value(items[3]).kind == PickleKind::kNone);
  CHECK(program->value(items[5]).kind == PickleKind::kApplied);
  CHECK(program->name(items[5]).name == "Size");
  const auto list = program->items(items[7]);
  REQUIRE(list.size() == 3);
  CHECK(program->value(list[0]).number == 1);
  CHECK(program->value(list[2]).kind == PickleKind::kOtherNumber);
}

TEST_CASE("opcodes that torch.save does not use are refused, each by its number") {
  const std::string_view known =
      ".(N\x88\x89KMJ\x8aGX)\x85\x86\x87t]}aesuqrhjcQR\x81"
      "b";
  int refused = 0;
  for (int opcode = 0; opcode < 256; ++opcode) {
    const char c = static_cast<char>(opcode);
    const auto program = ReadText(PickleOf(std::string(1, c) + "os\nsystem\n" + std::string(20, '\0')));
    CHECK_FALSE(program.ok());
    if (known.find(c) != std::string_view::npos) continue;
    CHECK(IssueNumberOf(program.status()) == kPickleProgram.number);
    CHECK(MessageOf(program.status()).find("is not one of torch.save") != std::string::npos);
    ++refused;
  }
  CHECK(refused == 256 - static_cast<int>(known.size()));
  CHECK(known.size() == 31);
}

TEST_CASE("integers of every length") {
  const auto number = [](std::string_view opcodes) {
    const auto program = ReadText(PickleOf(std::string(opcodes)));
    REQUIRE(program.ok());
    return program->value(program->root());
  };
  using namespace std::string_view_literals;
  CHECK(number("K\xff"sv).number == 255);
  CHECK(number("M\xff\xff"sv).number == 65535);
  CHECK(number("J\xff\xff\xff\xff"sv).number == -1);
  CHECK(number("\x8a\0"sv).number == 0);
  CHECK(number("\x8a\1\xff"sv).number == -1);
  CHECK(number("\x8a\2\xff\0"sv).number == 255);
  CHECK(number("\x8a\x08\0\0\0\0\0\0\0\x80"sv).number == INT64_MIN);
  CHECK(number("\x8a\x09\0\0\0\0\0\0\0\x80\0"sv).kind == PickleKind::kOtherNumber);
}

TEST_CASE("a value that is used twice is one value") {
  // 2^40 paths through 40 lists.
  std::string opcodes = "Nq" + std::string(1, '\0');
  for (int i = 0; i < 40; ++i) {
    const char at = static_cast<char>(i), next = static_cast<char>(i + 1);
    opcodes += std::string("](h") + at + "h" + at + "eq" + next;
  }
  // What is left on the stack below the last list: appended to it, to leave one value.
  std::string pickle = PickleOf("(" + opcodes + "t");
  const auto program = ReadText(pickle);
  REQUIRE(program.ok());
  CHECK(program->size() == 42);
}

TEST_CASE("tensors are ranges of the file, or elements that lie apart in one") {
  const std::string storage(48, 's');
  const auto checkpoint =
      ReadBytes(test::TorchBytes(PickledDict({{"whole", PickledTensor({{3, 4}, {4, 1}, 0, "0", 12})},
                                              {"tied", PickledTensor({{3, 4}, {4, 1}, 0, "0", 12})},
                                              {"row", PickledTensor({{4}, {1}, 8, "0", 12})},
                                              {"transposed", PickledTensor({{4, 3}, {1, 4}, 0, "0", 12})},
                                              {"column", PickledTensor({{3, 1}, {4, 99}, 1, "0", 12})},
                                              {"one", PickledTensor({{1, 1}, {7, 9}, 11, "0", 12})},
                                              {"scalar", PickledTensor({{}, {}, 5, "0", 12})},
                                              {"empty", PickledTensor({{0, 3}, {3, 1}, 0, "0", 12})}}),
                                 storage));
  REQUIRE(checkpoint.ok());
  REQUIRE(checkpoint->tensors.size() == 8);
  const auto find = [&](std::string_view name) -> const SourceTensor& {
    return *std::find_if(checkpoint->tensors.begin(), checkpoint->tensors.end(),
                         [name](const SourceTensor& tensor) { return tensor.name == name; });
  };
  const std::uint64_t begin = find("whole").place().offset;
  CHECK(find("whole").is_stored());
  CHECK(find("whole").place().bytes == 48);
  CHECK(find("tied").place().offset == begin);
  CHECK(find("row").place().offset == begin + 32);
  CHECK(find("row").is_stored());
  const SourceTensor& transposed = find("transposed");
  CHECK(transposed.recipe == SourceRecipe::kStrided);
  CHECK(*transposed.strides == Shape{1, 4});
  CHECK(transposed.bytes == 48);
  CHECK(transposed.stored_bytes() == 48);
  const SourceTensor& column = find("column");
  CHECK(column.recipe == SourceRecipe::kStrided);
  CHECK(column.place().offset == begin + 4);
  CHECK(column.stored_bytes() == 9 * 4);
  CHECK(find("one").is_stored());
  CHECK(find("one").place().offset == begin + 44);
  CHECK(find("scalar").place().bytes == 4);
  CHECK(find("empty").bytes == 0);
  CHECK(
      std::is_sorted(checkpoint->tensors.begin(), checkpoint->tensors.end(),
                     [](const SourceTensor& a, const SourceTensor& b) { return a.place().offset < b.place().offset; }));
  // The pickle's own entry is compared again with the whole file; the version's too.
  CHECK(checkpoint->checksums.size() == 3);
}

TEST_CASE("the model is found where the field puts it, and the rest is told") {
  const std::string storage(16, 's');
  const std::string tensor = PickledTensor({{4}, {1}, 0, "0", 4});
  const std::string model = PickledDict({{"w", tensor}, {"_extra_state", "N"}});
  const std::string optimizer = PickledDict({{"state", PickledDict({{"x", tensor}})}, {"param_groups", "]"}});
  const auto names = [](const TorchCheckpoint& checkpoint) {
    std::string out;
    for (const TorchLeftOut& entry : checkpoint.left_out) {
      out += entry.name + ":" + std::to_string(entry.tensors) + ":" + std::to_string(entry.bytes) + " ";
    }
    return out;
  };
  for (const std::string key : {"state_dict", "model", "net_of_mine"}) {
    const auto checkpoint = ReadBytes(test::TorchBytes(
        PickledDict({{key, model}, {"optimizer", optimizer}, {"epoch", PickledNumber(3)}, {"loss", tensor}}), storage));
    if (key == "net_of_mine") {
      // It could as well be the tensor beside.
      CHECK(IssueNumberOf(checkpoint.status()) == kTorchNoStateDict.number);
      continue;
    }
    REQUIRE(checkpoint.ok());
    REQUIRE(checkpoint->tensors.size() == 1);
    CHECK(checkpoint->tensors[0].name == "w");
    CHECK(names(*checkpoint) == "optimizer:1:16 epoch:0:0 loss:1:16 " + key + "/_extra_state:0:0 ");
  }
  const auto nested = ReadBytes(test::TorchBytes(
      PickledDict({{"mine", PickledDict({{"module", model}, {"ema", model}})}, {"best", "N"}}), storage));
  REQUIRE(nested.ok());
  CHECK(names(*nested) == "best:0:0 mine/ema:1:16 mine/module/_extra_state:0:0 ");
}

TEST_CASE("types of elements, and what surrounds a tensor") {
  const std::string storage(16, 's');
  const auto tensor_of = [&](const std::string& value) -> absl::StatusOr<SourceTensor> {
    const auto checkpoint = ReadBytes(test::TorchBytes(PickledDict({{"a", value}}), storage));
    if (!checkpoint.ok()) return checkpoint.status();
    return checkpoint->tensors.at(0);
  };
  const std::pair<const char*, DType> types[] = {
      {"HalfStorage", DType::kF16}, {"BFloat16Storage", DType::kBF16}, {"ShortStorage", DType::kI16}};
  for (const auto& [type, dtype] : types) {
    const auto tensor = tensor_of(PickledTensor({{8}, {1}, 0, "0", 8, type}));
    REQUIRE(tensor.ok());
    CHECK(tensor->dtype == dtype);
  }
  const std::string hooks = "ccollections\nOrderedDict\n)R", plain = PickledTensor({{4}, {1}, 0, "0", 4});
  CHECK(tensor_of("ctorch._utils\n_rebuild_parameter\n" + plain + "\x88" + hooks + "\x87R").ok());
  CHECK(tensor_of("ctorch._utils\n_rebuild_parameter_with_state\n(" + plain + "\x88" + hooks + "}tR").ok());
  // A tensor with attributes: the function, the type and the arguments.
  const std::string function = "ctorch._utils\n_rebuild_tensor_v2\n";
  const std::string arguments = plain.substr(function.size(), plain.size() - function.size() - 1);
  CHECK(tensor_of("ctorch._tensor\n_rebuild_from_type_v2\n(" + function + "ctorch\nTensor\n" + arguments + "}tR").ok());
  CHECK(IssueNumberOf(
            tensor_of("ctorch._tensor\n_rebuild_from_type_v2\n(" + function + "ctorch\nSize\n" + arguments + "}tR")
                .status()) == kTorchTensorKind.number);
  // Bytes with a type of their own.
  const std::string untyped = "ctorch._utils\n_rebuild_tensor_v3\n((" + PickledText("storage") +
                              "ctorch.storage\nUntypedStorage\n" + PickledText("0") + PickledText("cpu") +
                              PickledNumber(16) + "tQ" + PickledNumber(1) + "(K\x07tK\1\x85\x89" + hooks;
  const auto e4m3 = tensor_of(untyped + "ctorch\nfloat8_e4m3fn\ntR");
  REQUIRE(e4m3.ok());
  CHECK(e4m3->dtype == DType::kF8E4M3);
  CHECK(e4m3->bytes == 7);
  const auto u16 = tensor_of(untyped + "ctorch\nuint16\ntR");
  REQUIRE(u16.ok());
  CHECK(u16->bytes == 14);
  CHECK(IssueNumberOf(tensor_of(untyped + "ctorch\nuint32\ntR").status()) == kTorchExpanded.number);
}

}  // namespace
}  // namespace q4
