#include "libconvert/inspect/inspect.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "formats/base/json_value.h"
#include "formats/q4/layout.h"
#include "formats/q4/reader.h"
#include "libconvert/base/text_table.h"
#include "libconvert/base/version.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect_issues.h"
#include "libconvert/inspect/json.h"
#include "libconvert/inspect/text.h"
#include "libconvert/inspect/tree.h"
#include "libconvert/judge/verify_issues.h"
#include "tests/support/bytes.h"
#include "tests/support/catch.h"
#include "tests/support/forwarding_file_system.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/must.h"
#include "tests/support/provenance.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::Bytes;
using test::NormalBytes;
using test::Q4Builder;

constexpr const char* kConfig = R"({"architectures":["TestForCausalLM"],"model_type":"test"})";

Q4Builder SmallModel() {
  Q4Builder builder;
  builder.AddQuantized("a.weight", DType::kBF16, {100, 333}, NormalBytes(DType::kBF16, 33300, 1), Q4Scheme::kNf4, 64,
                       true);
  builder.AddQuantized("b.weight", DType::kF32, {64, 65}, NormalBytes(DType::kF32, 64 * 65, 2), Q4Scheme::kFp4, 128,
                       false);
  builder.AddRaw("norm.weight", DType::kBF16, {64}, NormalBytes(DType::kBF16, 64, 3));
  builder.AddRaw("steps", DType::kI64, {2}, Bytes{1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255});
  builder.AddFile("config.json", kConfig);
  builder.AddFile("tokenizer.json", std::string(5000, 'x'));
  Json file;
  file["name"] = "m.safetensors";
  file["sha256"] = std::string(64, '0');
  file["size"] = 70000;
  builder.provenance = test::ProvenanceOf(test::RecordedOptionsFor({}), Json::array({file}));
  return builder;
}

class InspectedModel {
 public:
  InspectedModel() { SmallModel().Write(PosixFileSystem(), path()); }
  std::string path() const { return dir_.File("model.q4"); }
  const test::TempDir& dir() const { return dir_; }
  OpenedModel Open() const { return test::Must(OpenModel(PosixFileSystem(), path())); }
  InspectReport Inspect() const { return test::Must(InspectModel(PosixFileSystem(), path())); }

 private:
  test::TempDir dir_;
};

// Counts the bytes read.
class CountingFileSystem final : public test::ForwardingFileSystem {
 public:
  using FileSystem::OpenForRead;
  absl::StatusOr<std::unique_ptr<RandomAccessFile>> OpenForRead(const std::string& path, SymbolicLinks links) override {
    Q4_ASSIGN_OR_RETURN(auto file, ForwardingFileSystem::OpenForRead(path, links));
    return std::make_unique<CountingFile>(std::move(file), &bytes_read_);
  }
  std::uint64_t bytes_read() const { return bytes_read_; }

 private:
  class CountingFile final : public test::ForwardingFile {
   public:
    CountingFile(std::unique_ptr<RandomAccessFile> file, std::atomic<std::uint64_t>* count)
        : ForwardingFile(std::move(file)), count_(count) {}
    absl::Status ReadAt(std::uint64_t offset, std::span<std::uint8_t> out) const override {
      *count_ += out.size();
      return ForwardingFile::ReadAt(offset, out);
    }

   private:
    std::atomic<std::uint64_t>* count_;
  };

  std::atomic<std::uint64_t> bytes_read_{0};
};

TEST_CASE("the summary says what is in a container") {
  const InspectedModel fixture;
  const InspectReport report = fixture.Inspect();
  CHECK(report.format == "q4");
  CHECK(report.architecture == "TestForCausalLM");
  CHECK(report.model_type == "test");
  CHECK(report.elems == 33300 + 64 * 65 + 64 + 2);
  CHECK(report.quantized_elems == 33300 + 64 * 65);
  // Nested NF4: codes, 8-bit scales of 521 blocks, 3 group scales. FP4: codes and 33 scales.
  CHECK(report.quantized_bytes == 16650 + 521 + 3 * 4 + 2080 + 33 * 4);
  CHECK(report.files.size() == 2);
  REQUIRE(report.treatments.size() == 4);
  CHECK(report.treatments[0].quantized);
  CHECK(report.treatments[1].quantized);
  CHECK(report.model.tensors == 2);

  const std::string text = InspectReportText(report, {});
  for (const char* expected : {"TestForCausalLM (test)", "nf4 b64 dq", "fp4 b128", "I64", "q4n-1", "m.safetensors",
                               "block_size 64", "37,526", "sha256:", "SQNR"}) {
    INFO(text);
    CHECK(text.find(expected) != std::string::npos);
  }
  CHECK(text.find("q4convert " + std::string(kQ4Version)) != std::string::npos);
  CHECK(text.find('\x1b') == std::string::npos);
}

TEST_CASE("a summary reads header, index, footer and config.json, and no payload") {
  const test::TempDir dir;
  Q4Builder builder = SmallModel();
  builder.AddRaw("big", DType::kU8, {3 << 20}, Bytes(3 << 20));
  const Q4Seal seal = builder.Write(PosixFileSystem(), dir.File("big.q4"));
  CountingFileSystem fs;
  REQUIRE(InspectModel(fs, dir.File("big.q4")).ok());
  // The summary alone says the same, without a description of each tensor.
  const auto whole = InspectModel(PosixFileSystem(), dir.File("big.q4"));
  const auto summary = InspectModel(PosixFileSystem(), dir.File("big.q4"), {}, InspectScope::kSummary);
  REQUIRE(summary.ok());
  CHECK(summary->tensors.empty());
  CHECK(summary->tensor_count == whole->tensors.size());
  CHECK(InspectReportText(*summary, {}) == InspectReportText(*whole, {}));
  CHECK(InspectReportJson(*summary, {}) == InspectReportJson(*whole, {}));
  const std::uint64_t overhead = kQ4HeaderBytes + kQ4FooterBytes + seal.index_bytes;
  INFO(fs.bytes_read() << " of " << seal.file_bytes << " bytes read");
  CHECK(fs.bytes_read() < overhead + std::strlen(kConfig) + 100);
}

TEST_CASE("tensors are selected by pattern and sorted by what is asked for") {
  const InspectedModel fixture;
  const InspectReport report = fixture.Inspect();
  const auto names = [&](const TensorSelection& selection) {
    const auto selected = SelectTensors(report, selection);
    REQUIRE(selected.ok());
    std::string joined;
    for (const InspectTensor* tensor : *selected) joined += tensor->name + " ";
    return joined;
  };
  CHECK(names({}) == "a.weight b.weight norm.weight steps ");
  CHECK(names({"weight$", ""}) == "a.weight b.weight norm.weight ");
  CHECK(names({"", "size"}) == "a.weight b.weight norm.weight steps ");
  CHECK(names({"", "elems"}) == "a.weight b.weight norm.weight steps ");
  // FP4 with block 128 errs more than NF4 with block 64; tensors without statistics come last.
  CHECK(names({"", "nmse"}) == "b.weight a.weight norm.weight steps ");
  CHECK(names({"", "sqnr"}) == "b.weight a.weight norm.weight steps ");
  CHECK(ExitCodeOf(SelectTensors(report, {"(", ""}).status()) == ExitCode::kUsage);
}

TEST_CASE("dumped values are those that dequantizing gives") {
  const InspectedModel fixture;
  const Bytes source = NormalBytes(DType::kBF16, 33300, 1);
  const auto words = test::ValuesOf<std::uint16_t>(source);
  // Across block and group borders (256 blocks of 64), and to the very end.
  for (const auto& [start, count] :
       {std::pair<std::uint64_t, std::uint64_t>{0, 3}, {16381, 9}, {33299, 1}, {0, 33300}}) {
    const auto dump = DumpTensor(fixture.Open(), "a.weight", start, count);
    REQUIRE(dump.ok());
    REQUIRE(dump->size() == count);
    std::uint64_t far = 0;
    for (std::uint64_t i = 0; i < count; ++i) {
      const DumpValue& value = (*dump)[i];
      CHECK(value.index == start + i);
      const float x = std::bit_cast<float>(static_cast<std::uint32_t>(words[start + i]) << 16);
      far += std::fabs(std::stof(value.value) - x) > 0.2f * value.scale;
    }
    CHECK(far == 0);
  }
  const auto steps = DumpTensor(fixture.Open(), "steps", 0, 2);
  REQUIRE(steps.ok());
  CHECK((*steps)[0].value == "1");
  CHECK((*steps)[1].value == "-1");
  CHECK((*steps)[1].code == -1);
}

TEST_CASE("a dump outside the tensor is refused") {
  const InspectedModel fixture;
  for (const auto& [start, count] : {std::pair<std::uint64_t, std::uint64_t>{0, 0},
                                     {33300, 1},
                                     {33299, 2},
                                     {~std::uint64_t{0}, 2},
                                     {1, ~std::uint64_t{0}}}) {
    CHECK(IssueNumberOf(DumpTensor(fixture.Open(), "a.weight", start, count).status()) == kBadDumpRange.number);
  }
  CHECK(IssueNumberOf(DumpTensor(fixture.Open(), "c", 0, 1).status()) == kNoSuchTensor.number);
  for (const char* text : {"", "1", "1:", ":1", "-1:2", "1:2x", "a:b", "99999999999999999999:1"}) {
    CHECK_FALSE(ParseDumpRange(text).ok());
  }
  REQUIRE(ParseDumpRange("12:34").ok());
  CHECK(ParseDumpRange("12:34")->count == 34);
}

TEST_CASE("a GGUF file and a container of one tell their names") {
  const test::TempDir dir;
  // 66 bytes: the reader keeps 64, of which the last is half of a character.
  const std::string long_name = std::string(63, 'n') + "\u00e9x";
  for (const auto& [name, shown] :
       {std::pair<std::string, std::string>("Tiny", "Tiny"), {long_name, std::string(63, 'n')}}) {
    test::GgufBuilder gguf;
    gguf.Text("general.architecture", "llama").Text("general.name", name);
    const std::string metadata = gguf.Build();
    const std::string file = dir.Write("m.gguf", gguf.Tensor("a", {4}, test::kGgufF32, std::string(16, 0)).Build());
    Q4Builder builder;
    builder.AddRaw("a", DType::kF32, {4}, Bytes(16));
    builder.AddFile("gguf_metadata.vocab", metadata);
    builder.Write(PosixFileSystem(), dir.File("m.q4"));
    for (const std::string& path : {file, dir.File("m.q4")}) {
      const InspectReport report = test::Must(InspectModel(PosixFileSystem(), path));
      CHECK(report.architecture == "llama");
      CHECK(report.model_name == shown);
      CHECK(InspectReportText(report, {}, {}).find("llama, '" + shown + "'") != std::string::npos);
      CHECK(InspectReportJson(report, {}).find("\"model_name\": \"" + shown + "\"") != std::string::npos);
    }
  }
}

TEST_CASE("two containers are compared by content") {
  const InspectedModel fixture;
  const std::string other = fixture.dir().File("other.q4");
  const auto diff = [&](Q4Builder builder) {
    builder.Write(PosixFileSystem(), other);
    const auto report = DiffModels(PosixFileSystem(), fixture.path(), other);
    REQUIRE(report.ok());
    return *report;
  };
  SECTION("the same") {
    const DiffReport report = diff(SmallModel());
    CHECK(report.same_root);
    CHECK(report.SameContent());
    CHECK(report.equal_tensors == 4);
  }
  SECTION("compressed: other bytes, the same content") {
    Q4Builder builder = SmallModel();
    builder.compression.zstd = true;
    const DiffReport report = diff(std::move(builder));
    CHECK_FALSE(report.same_root);
    CHECK(report.SameContent());
  }
  SECTION("content, settings, tensors, files, provenance") {
    Q4Builder builder = SmallModel();
    builder.Find("norm.weight").parts[Q4Part::kData][0] ^= 1;
    builder.Remove("b.weight");
    builder.AddQuantized("b.weight", DType::kF32, {64, 65}, NormalBytes(DType::kF32, 64 * 65, 2), Q4Scheme::kNf4, 64,
                         false);
    builder.Remove("steps");
    builder.AddRaw("new", DType::kU8, {1}, Bytes(1));
    builder.AddFile("tokenizer.json", "y");
    builder.AddFile("extra.json", "{}");
    builder.provenance = "{}";
    const DiffReport report = diff(std::move(builder));
    CHECK_FALSE(report.SameContent());
    CHECK(report.removed == std::vector<std::string>{"steps"});
    CHECK(report.added == std::vector<std::string>{"new"});
    REQUIRE(report.changed.size() == 2);
    CHECK(report.changed[0].name == "b.weight");
    CHECK(report.changed[0].before == "[64, 65] fp4 b128 of F32");
    CHECK(report.changed[0].after == "[64, 65] nf4 b64 of F32");
    CHECK(report.changed[0].nmse_before.value() > report.changed[0].nmse_after.value());
    CHECK(report.changed[1].content_differs);
    CHECK(report.files_changed == std::vector<std::string>{"tokenizer.json"});
    CHECK(report.files_added == std::vector<std::string>{"extra.json"});
    CHECK(report.provenance_differs);
    CHECK(DiffReportText(report).find("~ tensor norm.weight: content differs") != std::string::npos);
    CHECK(ParseJson(DiffReportJson(report), "diff", 8).ok());
  }
  SECTION("one code") {
    Q4Builder builder = SmallModel();
    builder.Find("a.weight").parts[Q4Part::kCodes][3] ^= 1;
    const DiffReport report = diff(std::move(builder));
    REQUIRE(report.changed.size() == 1);
    REQUIRE(report.changed[0].delta.has_value());
    const TensorDelta& delta = *report.changed[0].delta;
    CHECK(delta.differing_elems == 1);
    CHECK(delta.differing_codes == 1u);
    CHECK(delta.differing_scales == 0u);
    CHECK(delta.max_abs_index == 7);
    CHECK(delta.max_abs > 0);
    CHECK(delta.nmse > 0);
    CHECK(delta.nmse < 1e-3);
    CHECK(DiffReportText(report).find("1 element differs") != std::string::npos);
  }
  SECTION("one scale: the elements of its block that are not zero") {
    Q4Builder builder = SmallModel();
    builder.Find("b.weight").Floats(Q4Part::kScales)[1] *= 2;
    const DiffReport report = diff(std::move(builder));
    REQUIRE(report.changed.size() == 1);
    const TensorDelta& delta = *report.changed[0].delta;
    CHECK(delta.differing_scales == 1u);
    CHECK(delta.differing_codes == 0u);
    CHECK(delta.differing_elems <= 128);
    CHECK(delta.differing_elems > 100);
    CHECK(delta.max_abs_index >= 128);
    CHECK(delta.max_abs_index < 256);
  }
  SECTION("a tensor renamed") {
    Q4Builder builder = SmallModel();
    builder.Find("a.weight").entry.name = "z.weight";
    const DiffReport report = diff(std::move(builder));
    REQUIRE(report.renamed.size() == 1);
    CHECK(report.renamed[0].before == "a.weight");
    CHECK(report.renamed[0].after == "z.weight");
    CHECK(report.removed.empty());
    CHECK(report.added.empty());
    CHECK_FALSE(report.SameContent());
  }
}

TEST_CASE("safetensors checkpoints are inspected too") {
  const test::TempDir dir;
  test::SafetensorsBuilder file;
  file.Add("w", "BF16", {2, 3}, std::string(12, 'a')).Add("ids", "I64", {1}, std::string(8, 'b'));
  dir.Write("m/model.safetensors", file.Build());
  dir.Write("m/config.json", kConfig);
  const auto report = InspectModel(PosixFileSystem(), dir.File("m"));
  REQUIRE(report.ok());
  CHECK(report->format == "safetensors");
  CHECK(report->architecture == "TestForCausalLM");
  CHECK(report->elems == 7);
  CHECK(report->quantized_elems == 0);
  CHECK_FALSE(report->root.has_value());
  REQUIRE(report->tensors.size() == 2);
  CHECK(report->tensors[0].name == "ids");
  CHECK(InspectReportText(*report, {}).find("seal") == std::string::npos);
}

TEST_CASE("the parts of a bitsandbytes weight are shown as one weight") {
  const test::TempDir dir;
  const std::string state = R"({"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [4, 32], )"
                            R"("nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.05})";
  test::SafetensorsBuilder file;
  file.Add("w", "U8", {64, 1}, std::string(64, 'a'))
      .Add("w.absmax", "U8", {2}, "ab")
      .Add("w.quant_map", "F32", {16}, std::string(64, 'a'))
      .Add("w.nested_absmax", "F32", {1}, "abcd")
      .Add("w.nested_quant_map", "F32", {256}, std::string(1024, 'a'))
      .Add("w.quant_state.bitsandbytes__nf4", "U8", {state.size()}, state)
      .Add("v", "U8", {1, 1}, "a")
      .Add("v.quant_state.bitsandbytes__nf4", "U8", {2}, "{}");
  dir.Write("m/model.safetensors", file.Build());
  const auto report = InspectModel(PosixFileSystem(), dir.File("m"));
  REQUIRE(report.ok());
  REQUIRE(report->tensors.size() == 3);  // what v has is no description, so both are tensors
  const InspectTensor* weight = FindTensor(*report, "w");
  REQUIRE(weight != nullptr);
  CHECK(weight->treatment == "bnb nf4 b64 dq");
  CHECK(weight->shape == Shape{4, 32});
  CHECK(weight->dtype == DType::kBF16);
  CHECK(weight->stored_bytes == 64 + 2 + 64 + 4 + 1024 + state.size());
  CHECK(report->quantized_elems == 128);
}

TEST_CASE("names are shown without control characters, in text and in JSON") {
  const test::TempDir dir;
  const std::string evil = "evil\x1b[31m\nname\xc2\x9b";
  Q4Builder builder;
  builder.AddRaw(evil, DType::kU8, {1}, Bytes(1));
  builder.Write(PosixFileSystem(), dir.File("evil.q4"));
  const auto report = InspectModel(PosixFileSystem(), dir.File("evil.q4"));
  REQUIRE(report.ok());
  InspectDetail detail;
  detail.tensors = {&report->tensors[0]};
  detail.list_tensors = true;
  for (const std::string& text : {InspectReportText(*report, detail), InspectReportJson(*report, detail),
                                  InspectTensorText(report->tensors[0])}) {
    CHECK(text.find('\x1b') == std::string::npos);
    CHECK(text.find("\xc2\x9b") == std::string::npos);
    CHECK(text.find("evil") != std::string::npos);
  }
  const auto json = ParseJson(InspectReportJson(*report, detail), "json", 8);
  REQUIRE(json.ok());
  CHECK((*json)["tensors"][0]["name"] == evil);
}

TEST_CASE("statistics, histogram and one tensor in depth are shown") {
  const InspectedModel fixture;
  const InspectReport report = fixture.Inspect();
  InspectDetail detail;
  detail.tensors = *SelectTensors(report, {});
  detail.stats = detail.hist = detail.files = true;
  const std::string text = InspectReportText(report, detail);
  for (const char* expected :
       {"(model: 2 tensors)", "codes of 1 nf4 tensor,", "codes of 1 fp4 tensor,", "#####", "tokenizer.json"}) {
    INFO(text);
    CHECK(text.find(expected) != std::string::npos);
  }
  const std::string depth = InspectTensorText(*FindTensor(report, "a.weight"));
  for (const char* expected : {"[100, 333] BF16, 33,300 elements", "scale codes", "SQNR", "worst block"}) {
    INFO(depth);
    CHECK(depth.find(expected) != std::string::npos);
  }
  CHECK(FindTensor(report, "nothing") == nullptr);
}

InspectReport ReportOf(const std::vector<std::pair<std::string, std::string>>& names_and_treatments) {
  InspectReport report;
  for (const auto& [name, treatment] : names_and_treatments) {
    InspectTensor& tensor = report.tensors.emplace_back();
    tensor.name = name;
    tensor.treatment = treatment;
    tensor.shape = {4, 5};
    tensor.elems = 20;
    tensor.stored_bytes = 10;
  }
  return report;
}

TEST_CASE("the module tree folds layers that are alike") {
  std::vector<std::pair<std::string, std::string>> names = {{"embed.weight", "BF16"}, {"lm_head.weight", "BF16"}};
  for (int layer = 0; layer < 12; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    names.emplace_back(prefix + ".mlp.up.weight", layer == 9 ? "BF16" : "nf4 b64");
    names.emplace_back(prefix + ".norm.weight", "BF16");
  }
  const InspectReport report = ReportOf(names);
  InspectDetail detail;
  detail.tensors = *SelectTensors(report, {});
  detail.tree = true;
  const std::string ascii = InspectReportText(report, detail);
  CHECK(ascii ==
        "  module               tensors  elements  stored  bits/element  stored as\n"
        "  embed.weight               1        20    10 B         4.000  BF16 [4, 5]\n"
        "  lm_head.weight             1        20    10 B         4.000  BF16 [4, 5]\n"
        "  model.layers              24       480   240 B         4.000\n"
        "  |- 0..8 x9                18       360   180 B         4.000\n"
        "  |  |- mlp.up.weight        1        20    10 B         4.000  nf4 b64 [4, 5]\n"
        "  |  `- norm.weight          1        20    10 B         4.000  BF16 [4, 5]\n"
        "  |- 9                       2        40    20 B         4.000\n"
        "  |  |- mlp.up.weight        1        20    10 B         4.000  BF16 [4, 5]\n"
        "  |  `- norm.weight          1        20    10 B         4.000  BF16 [4, 5]\n"
        "  `- 10..11 x2               4        80    40 B         4.000\n"
        "     |- mlp.up.weight        1        20    10 B         4.000  nf4 b64 [4, 5]\n"
        "     `- norm.weight          1        20    10 B         4.000  BF16 [4, 5]\n");
  TextStyle terminal;
  terminal.unicode = terminal.color = true;
  const std::string drawn = InspectReportText(report, detail, terminal);
  CHECK(drawn.find("│  └─ norm.weight") != std::string::npos);
  CHECK(drawn.starts_with("\x1b[1m  module"));
}

TEST_CASE("hostile names make no deep tree") {
  std::string dots;
  for (int i = 0; i < 2000; ++i) dots += "a.";
  const InspectReport report = ReportOf({{".", "U8"}, {"..", "U8"}, {"a", "U8"}, {dots, "U8"}, {dots + "b", "U8"}});
  const std::vector<TreeLine> lines = ModuleTree(*SelectTensors(report, {}));
  std::size_t deepest = 0;
  for (const TreeLine& line : lines) deepest = std::max(deepest, line.depth);
  CHECK(deepest <= 32);
}

TEST_CASE("on a terminal columns are left out, and names and numbers are whole") {
  const std::string name = "model.layers.10.self_attn." + std::string(20, 'x') + ".weight",
                    longer = std::string(150, 'y');
  const InspectReport report = ReportOf({{name, "nf4 b64"}, {"short", "nf4 b64"}});
  InspectDetail detail;
  detail.tensors = *SelectTensors(report, {});
  detail.list_tensors = detail.errors = true;
  CHECK(InspectReportText(report, detail).find("bits/element") != std::string::npos);
  TextStyle terminal;
  terminal.shorten = true;
  for (const std::size_t width : {80u, 90u, 100u, 300u}) {
    INFO(width);
    terminal.width = width;
    const std::string text = InspectReportText(report, detail, terminal);
    std::size_t line_start = 0;
    for (std::size_t end = text.find('\n'); end != std::string::npos; end = text.find('\n', line_start)) {
      INFO(text.substr(line_start, end - line_start));
      CHECK(DisplayWidth(text.substr(line_start, end - line_start)) <= width);
      line_start = end + 1;
    }
    CHECK(text.find(name) != std::string::npos);
    CHECK(text.find("...") == std::string::npos);
    CHECK((text.find("(a wider terminal shows") != std::string::npos) == (width < 300));
  }
  // One that is longer than the terminal is whole nevertheless.
  const InspectReport wide = ReportOf({{longer, "nf4 b64"}});
  detail.tensors = *SelectTensors(wide, {});
  terminal.width = 80;
  CHECK(InspectReportText(wide, detail, terminal).find(longer) != std::string::npos);
}

TEST_CASE("a field goes on below itself on a terminal, and breaks at blanks") {
  TextStyle terminal;
  terminal.shorten = true;
  terminal.width = 40;
  CHECK(Field("a", "b", terminal) == Field("a", "b"));
  CHECK(Field("options", "block_size 64, compress none, type nf4", terminal) ==
        "  options      block_size 64, compress\n               none, type nf4\n");
  // What is longer than its column begins further left.
  CHECK(Field("seal", "of sha256:0123456789012345678901234567", terminal) ==
        "  seal         of\n     sha256:0123456789012345678901234567\n");
  CHECK(Field("seal", std::string(34, 'x'), terminal) == "  seal\n      " + std::string(34, 'x') + "\n");
  CHECK(Field("seal", std::string(60, 'x'), terminal) == "  seal         " + std::string(60, 'x') + "\n");
  CHECK(Field("options", "block_size 64, compress none, type nf4") ==
        "  options      block_size 64, compress none, type nf4\n");
}

TEST_CASE("strings and bars are cut to a width") {
  CHECK(ShortenMiddle("abcdefghijkl", 12) == "abcdefghijkl");
  CHECK(ShortenMiddle("abcdefghijklm", 12) == "abcde...jklm");
  CHECK(ShortenMiddle("ääääääääääääää", 9) == "äää...äää");
  CHECK(BarText({}, 0.5, 10) == "#####");
  CHECK(BarText({false, true, false, 100}, 0.55, 10) == "█████▌");
}

TEST_CASE("the summary fits one screen, whatever the model") {
  std::vector<std::pair<std::string, std::string>> names;
  for (int i = 0; i < 1000; ++i) names.emplace_back("t" + std::to_string(i), "treatment " + std::to_string(i % 50));
  InspectReport report = ReportOf(names);
  for (int i = 0; i < 50; ++i) report.treatments.push_back({"treatment " + std::to_string(i), true, 20, 400, 200});
  const std::string text = InspectReportText(report, {});
  CHECK(std::count(text.begin(), text.end(), '\n') <= 24);
  CHECK(text.find("38 more") != std::string::npos);
}

}  // namespace
}  // namespace q4
