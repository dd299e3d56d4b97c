// q4inspect on checkpoints in the bitsandbytes layout: compared with containers and with each other, and dumped.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "libconvert/export/export.h"
#include "libconvert/inspect/diff.h"
#include "libconvert/inspect/inspect.h"
#include "libconvert/inspect/inspect_issues.h"
#include "libconvert/inspect/text.h"
#include "libconvert/judge/verify_issues.h"
#include "libconvert/model/bnb_weights.h"
#include "libconvert/model/model_issues.h"
#include "tests/support/catch.h"
#include "tests/support/cpu_kernels.h"
#include "tests/support/q4_builder.h"
#include "tests/support/safetensors_builder.h"
#include "tests/support/temp_dir.h"
#include "tests/support/weights.h"

namespace q4 {
namespace {

using test::Bytes;
using test::Q4Builder;

constexpr const char* kWeight = "model.layers.0.mlp.up_proj.weight";
constexpr std::uint64_t kWeightElems = 101 * 333;  // odd, with a tail block

// A container, and what q4export makes of it for bitsandbytes.
class ExportedModel {
 public:
  explicit ExportedModel(bool nested) {
    const Bytes bytes = test::NormalBytes(DType::kBF16, kWeightElems, 1);
    Q4Builder builder;
    builder.AddQuantized(kWeight, DType::kBF16, {101, 333}, bytes, Q4Scheme::kNf4, 64, nested);
    builder.AddRaw("model.norm.weight", DType::kBF16, {64}, Bytes(bytes.begin(), bytes.begin() + 128));
    builder.AddFile("config.json", R"({"architectures":["LlamaForCausalLM"],"model_type":"llama"})");
    builder.Write(PosixFileSystem(), container());
    const auto report = ExportModel(PosixFileSystem(), container(), exported(), {});
    INFO(MessageOf(report.status()));
    REQUIRE(report.ok());
  }

  std::string container() const { return dir_.File("model.q4"); }
  std::string exported() const { return dir_.File("bnb"); }

  // A copy of the exported directory. `change` gets each tensor's name, to change, and its content; false: it goes.
  std::string Copy(const std::function<bool(std::string* name, std::string* bytes)>& change) const {
    const auto checkpoint = OpenCheckpoint(PosixFileSystem(), exported());
    REQUIRE(checkpoint.ok());
    test::SafetensorsBuilder builder;
    for (const SourceTensor& tensor : (*checkpoint)->tensors()) {
      std::string name = tensor.name, bytes(tensor.bytes, '\0');
      REQUIRE((*checkpoint)->Read(tensor, 0, {reinterpret_cast<std::uint8_t*>(bytes.data()), bytes.size()}).ok());
      if (!change(&name, &bytes)) continue;
      const bool resized = bytes.size() != tensor.bytes;
      builder.Add(name, DTypeName(tensor.dtype), resized ? Shape{bytes.size() / ItemSize(tensor.dtype)} : tensor.shape,
                  bytes);
    }
    dir_.Write("copy/model.safetensors", builder.Build());
    return dir_.File("copy");
  }

  DiffReport Diff(const std::string& left, const std::string& right) const {
    const auto report = DiffModels(PosixFileSystem(), left, right);
    INFO(MessageOf(report.status()));
    REQUIRE(report.ok());
    return *report;
  }

 private:
  test::TempDir dir_;
};

bool KeepAll(std::string*, std::string*) { return true; }

}  // namespace

TEST_CASE("an exported model holds what its container holds, whichever stands first") {
  const ExportedModel model(GENERATE(false, true));
  for (const bool container_first : {true, false}) {
    const DiffReport report = container_first ? model.Diff(model.container(), model.exported())
                                              : model.Diff(model.exported(), model.container());
    CHECK(report.SameContent());
    CHECK(report.equal_tensors == 2);
    CHECK_FALSE(report.files_compared);
  }
  const auto checkpoint = OpenModel(PosixFileSystem(), model.exported());
  REQUIRE(checkpoint.ok());
  CHECK(checkpoint->container == nullptr);
  CHECK(*HoldsBnbWeights(*checkpoint->checkpoint));
}

TEST_CASE("what was changed in an exported model is found, and by how much") {
  const ExportedModel model(true);
  SECTION("one code") {
    const std::string copy = model.Copy([](std::string* name, std::string* bytes) {
      if (*name == kWeight) (*bytes)[3] ^= 1;
      return true;
    });
    const DiffReport report = model.Diff(model.container(), copy);
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].name == kWeight);
    CHECK(report.changed[0].content_differs);
    REQUIRE(report.changed[0].delta);
    CHECK(report.changed[0].delta->differing_codes == 1u);
    CHECK(report.changed[0].delta->differing_scales == 0u);
    CHECK(report.changed[0].delta->max_abs_index == 7);
  }
  SECTION("the code of the last scale") {
    const std::string copy = model.Copy([](std::string* name, std::string* bytes) {
      if (*name == std::string(kWeight) + ".absmax") bytes->back() ^= 4;
      return true;
    });
    const DiffReport report = model.Diff(copy, model.container());
    REQUIRE(report.changed.size() == 1);
    CHECK(report.changed[0].delta->differing_scales == 1u);
    CHECK(report.changed[0].delta->differing_codes == 0u);
    CHECK(report.changed[0].delta->max_abs_index >= kWeightElems / 64 * 64);
  }
  SECTION("the padding nibble is no element") {
    const std::string copy = model.Copy([](std::string* name, std::string* bytes) {
      if (*name == kWeight) bytes->back() ^= 1;
      return true;
    });
    CHECK(model.Diff(model.container(), copy).SameContent());
  }
  SECTION("a tensor gone, another there, files") {
    const std::string copy = model.Copy([](std::string* name, std::string*) {
      if (*name == "model.norm.weight") *name = "other";
      return true;
    });
    const DiffReport report = model.Diff(model.exported(), copy);
    CHECK(report.removed == std::vector<std::string>{"model.norm.weight"});
    CHECK(report.added == std::vector<std::string>{"other"});
    CHECK(report.equal_tensors == 1);
    CHECK(report.files_compared);
    CHECK(report.files_removed == std::vector<std::string>{"config.json"});
    CHECK_FALSE(report.SameContent());
  }
}

TEST_CASE("a bitsandbytes weight that cannot be decoded is refused by name") {
  const ExportedModel model(true);
  const std::string weight = kWeight;
  const auto refused = [&](const std::function<bool(std::string*, std::string*)>& change) {
    const auto report = DiffModels(PosixFileSystem(), model.container(), model.Copy(change));
    CHECK(IssueNumberOf(report.status()) == kBnbWeight.number);
    CHECK(MessageOf(report.status()).find(weight) != std::string::npos);
    return MessageOf(report.status());
  };
  for (const char* part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map"}) {
    const std::string missing = refused([&](std::string* name, std::string*) { return *name != weight + part; });
    CHECK(missing.find(std::string("no ") + (part + 1)) != std::string::npos);
    const std::string short_part = refused([&](std::string* name, std::string* bytes) {
      if (*name == weight + part) bytes->resize(bytes->size() - 4);
      return true;
    });
    CHECK(short_part.find("bytes, expected") != std::string::npos);
  }
  for (const char* map : {".quant_map", ".nested_quant_map"}) {
    const std::string other = refused([&](std::string* name, std::string* bytes) {
      if (*name == weight + map) (*bytes)[6] ^= 0x40;
      return true;
    });
    CHECK(other.find("other values") != std::string::npos);
  }
}

TEST_CASE("decoded values of a checkpoint are those of the container it came from, with every kernel") {
  const ExportedModel model(GENERATE(false, true));
  const auto container = OpenModel(PosixFileSystem(), model.container());
  const auto copy = OpenModel(PosixFileSystem(), model.Copy(KeepAll));
  REQUIRE((container.ok() && copy.ok()));
  for (const auto& [tensor, start, count] : std::vector<std::tuple<std::string, std::uint64_t, std::uint64_t>>{
           {kWeight, 0, 70}, {kWeight, 333, 1000}, {kWeight, kWeightElems - 5, 5}, {"model.norm.weight", 3, 7}}) {
    const auto expected = DumpTensor(*container, tensor, start, count, ScalarKernels());
    REQUIRE(expected.ok());
    for (const KernelTable* kernels : test::AllCpuKernels()) {
      INFO(kernels->name);
      for (const OpenedModel* of : {&*container, &*copy}) {
        const auto got = DumpTensor(*of, tensor, start, count, *kernels);
        REQUIRE(got.ok());
        CHECK(DumpText(*got) == DumpText(*expected));
      }
    }
  }
  CHECK(IssueNumberOf(DumpTensor(*copy, "absent", 0, 1).status()) == kNoSuchTensor.number);
  CHECK(IssueNumberOf(DumpTensor(*copy, kWeight, kWeightElems, 1).status()) == kBadDumpRange.number);
}

}  // namespace q4
