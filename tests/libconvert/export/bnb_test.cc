// What a bnb export refuses of tensors that no container of today can hold; export_test.cc has the rest.
#include "libconvert/export/bnb.h"

#include "formats/base/status.h"
#include "libconvert/export/export_issues.h"
#include "tests/support/catch.h"

namespace q4 {
namespace {

Q4Tensor Weight(Q4Scheme scheme) {
  Q4Tensor tensor;
  tensor.name = "model.layers.0.mlp.up_proj.weight";
  tensor.dtype = DType::kBF16;
  tensor.shape = {64, 64};
  tensor.elems = 64 * 64;
  tensor.scheme = scheme;
  tensor.block_size = 64;
  return tensor;
}

absl::Status PlanOf(const Q4Tensor& tensor, ExportPlan* plan) {
  plan->sources.push_back({nullptr, &tensor});
  return BnbExporter().Plan(ExportOptions(), plan);
}

TEST_CASE("a scheme that bitsandbytes does not read is refused, not written without a name") {
  const Q4Tensor unknown = Weight(static_cast<Q4Scheme>(255));
  ExportPlan plan;
  const absl::Status status = PlanOf(unknown, &plan);
  CHECK(IssueNumberOf(status) == kExportScheme.number);
  CHECK(ExitCodeOf(status) == ExitCode::kUnsupported);
  CHECK(MessageOf(status).starts_with(unknown.name + ": "));
  CHECK(plan.targets.empty());
}

TEST_CASE("both schemes that bitsandbytes reads become codes, absmax, quant_map and quant_state") {
  for (const Q4Scheme scheme : {Q4Scheme::kNf4, Q4Scheme::kFp4}) {
    const Q4Tensor weight = Weight(scheme);
    ExportPlan plan;
    REQUIRE(PlanOf(weight, &plan).ok());
    CHECK(plan.targets.size() == 4);
  }
}

}  // namespace
}  // namespace q4
