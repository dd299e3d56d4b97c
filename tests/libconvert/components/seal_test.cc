#include "libconvert/components/seal.h"

#include <string>

#include "formats/base/status.h"
#include "libconvert/components/components_issues.h"
#include "tests/support/catch.h"
#include "tests/support/must.h"
#include "tests/support/temp_dir.h"

namespace q4 {
namespace {

PipelineSeal Sample() {
  PipelineSeal seal;
  seal.tool_version = "0.1.0";
  seal.class_name = "FluxPipeline";
  seal.components = {{"transformer", "diffusers", "F", "transformer/model.q4", std::string(64, 'a')},
                     {"vae", "diffusers", "A", "", ""}};
  seal.files = {{"model_index.json", 2, std::string(64, '0')}, {"transformer/model.q4", 9, std::string(64, '1')}};
  seal.left_out = {{"onnx/", "a folder that model_index.json does not name"}};
  return seal;
}

int IssueOf(const PipelineSeal& seal) {
  return IssueNumberOf(ParsePipelineSeal(EncodePipelineSeal(seal), "p").status());
}

TEST_CASE("a seal reads back as it was written") {
  const std::string text = EncodePipelineSeal(Sample());
  const PipelineSeal read = test::Must(ParsePipelineSeal(text, "p"));
  CHECK(EncodePipelineSeal(read) == text);
  CHECK(read.files == Sample().files);
  CHECK(read.components[0].container == "transformer/model.q4");
  CHECK(read.components[1].container.empty());
  // Other bytes of the same meaning are no seal: the root is a digest of the bytes.
  CHECK(IssueNumberOf(ParsePipelineSeal(text + " ", "p").status()) == kPipelineSealForm.number);
  const test::TempDir dir;
  dir.Write("q4-pipeline.json", text);
  CHECK(test::Must(ReadPipelineSeal(PosixFileSystem(), dir.path())).root ==
        Sha256Of({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}));
  CHECK(test::Must(SealedPipelineFolder(PosixFileSystem(), dir.path())) == dir.path());
  CHECK(test::Must(SealedPipelineFolder(PosixFileSystem(), dir.File("q4-pipeline.json"))) == dir.path());
  CHECK(test::Must(SealedPipelineFolder(PosixFileSystem(), dir.File("other"))).empty());
}

TEST_CASE("a seal that q4convert does not write is refused") {
  CHECK(IssueOf(Sample()) == 0);
  const auto broken = [](auto change) {
    PipelineSeal seal = Sample();
    change(seal);
    return IssueOf(seal) == kPipelineSealForm.number;
  };
  CHECK(broken([](PipelineSeal& seal) { seal.files[0].path = "../x"; }));
  CHECK(broken([](PipelineSeal& seal) { seal.files[0].path = "/x"; }));
  CHECK(broken([](PipelineSeal& seal) { seal.files[0].sha256 = "0"; }));
  CHECK(broken([](PipelineSeal& seal) { std::swap(seal.files[0], seal.files[1]); }));
  CHECK(broken([](PipelineSeal& seal) { seal.files[1] = seal.files[0]; }));
  CHECK(broken([](PipelineSeal& seal) { std::swap(seal.components[0], seal.components[1]); }));
  CHECK(broken([](PipelineSeal& seal) { seal.components[0].container = "vae/model.q4"; }));
  CHECK(broken([](PipelineSeal& seal) { seal.components[0].root.clear(); }));
  CHECK(broken([](PipelineSeal& seal) { seal.components[1].root = std::string(64, 'a'); }));
  CHECK(broken([](PipelineSeal& seal) { seal.components[1].name = ".."; }));
  CHECK(broken([](PipelineSeal& seal) { seal.files.pop_back(); }));
}

}  // namespace
}  // namespace q4
