// Plans, and loads into memory of the caller's own. Everything but the translation is that of plan.h and fill.h.
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "formats/base/status.h"
#include "libconvert/load/c_interface.h"
#include "libconvert/load/fill.h"
#include "libconvert/load/load_issues.h"
#include "libconvert/load/plan.h"
#include "libconvert/load/q4_loader_c.h"

struct q4_plan {
  q4::c::OpenedModel opened;
  q4::LoadPlan plan;  // of opened.files
  std::optional<q4::Sha256> root;
};

namespace {

using q4::c::BadArgument;
using q4::c::Guarded;

absl::Status MakePlan(const char* path, const std::optional<q4::Sha256>& root, const q4_plan_options& in,
                      q4_plan* plan) {
  q4::LoadPlanOptions options;
  Q4_ASSIGN_OR_RETURN(options.tensors, q4::c::TensorsOf(in.tensors, in.tensor_count));
  Q4_ASSIGN_OR_RETURN(options.form, q4::c::FormOf(in.form));
  if (in.block_bytes != 0) options.block_bytes = in.block_bytes;
  if (in.slices == nullptr && in.slice_count != 0) return BadArgument("slices");
  for (const q4_slice& slice : std::span(in.slices, in.slice_count)) {
    if (slice.tensor == nullptr) return BadArgument("slices");
    options.slices.push_back({slice.tensor, slice.dim, slice.begin, slice.end});
  }
  Q4_ASSIGN_OR_RETURN(plan->opened.files, q4::Q4Model::Open(q4::PosixFileSystem(), path));
  plan->root = root;
  // Before anybody allocates for it.
  Q4_RETURN_IF_ERROR(plan->opened.files->RequireRoot(root));
  Q4_ASSIGN_OR_RETURN(plan->plan, q4::PlanLoad(*plan->opened.files, options));
  return absl::OkStatus();
}

// Both ways to plan; *plan is NULL already.
absl::Status Plan(const char* path, const std::optional<q4::Sha256>& root, const q4_plan_options* options,
                  q4_plan** plan) {
  if (path == nullptr) return BadArgument("path");
  const q4_plan_options defaults = Q4_PLAN_OPTIONS_INIT;
  auto result = std::make_unique<q4_plan>();
  Q4_RETURN_IF_ERROR(MakePlan(path, root, options != nullptr ? *options : defaults, result.get()));
  *plan = result.release();
  return absl::OkStatus();
}

absl::Status NoSuch(const q4_plan& plan, const char* what, uint64_t number) {
  return q4::Fail(q4::kLoadNoSuchTensor, plan.opened.files->path(), what + (" " + std::to_string(number)));
}

absl::Status Fill(const q4_plan& plan, const q4_fill_options& in, const q4::LoadPlaces& places) {
  q4::LoadFillOptions options;
  Q4_ASSIGN_OR_RETURN(options.check, q4::c::CheckOf(in.check));
  options.root = plan.root;
  options.threads = in.threads;
  if (in.await_stream != 0) options.after_stream = in.stream;
  Q4_ASSIGN_OR_RETURN(const auto memory, q4::c::MemoryOf(in.device));
  return q4::FillLoad(plan.plan, *memory, places, options).status();
}

// How many places, and how large each is, is what the plan says; C has the addresses only.
template <typename BytesOf>
int FillPlaces(const q4_plan* plan, const q4_fill_options* options, void* const* places, std::size_t count,
               const BytesOf& bytes_of, std::vector<std::span<std::uint8_t>> q4::LoadPlaces::*member) {
  return Guarded([&]() -> absl::Status {
    if (places == nullptr && count != 0) return BadArgument("places");
    const q4_fill_options defaults = Q4_FILL_OPTIONS_INIT;
    q4::LoadPlaces given;
    for (std::size_t i = 0; i < count; ++i) {
      (given.*member).emplace_back(static_cast<std::uint8_t*>(places[i]), bytes_of(i));
    }
    return q4::c::OnOwnThread([&] { return Fill(*plan, options != nullptr ? *options : defaults, given); });
  });
}

}  // namespace

int q4_plan_load(const char* path, const q4_plan_options* options, q4_plan** plan) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr) return BadArgument("plan");
    *plan = nullptr;
    return Plan(path, std::nullopt, options, plan);
  });
}

int q4_plan_load_pinned(const char* path, const char* root, const q4_plan_options* options, q4_plan** plan) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr) return BadArgument("plan");
    *plan = nullptr;
    Q4_ASSIGN_OR_RETURN(const q4::Sha256 pinned, q4::c::RootOf(root));
    return Plan(path, pinned, options, plan);
  });
}

void q4_plan_free(q4_plan* plan) { delete plan; }

uint64_t q4_plan_tensor_count(const q4_plan* plan) { return plan == nullptr ? 0 : plan->plan.tensors.size(); }
uint64_t q4_plan_part_count(const q4_plan* plan) { return plan == nullptr ? 0 : plan->plan.parts.size(); }
uint64_t q4_plan_block_count(const q4_plan* plan) { return plan == nullptr ? 0 : plan->plan.blocks.size(); }

int q4_plan_get_tensor(const q4_plan* plan, uint64_t number, q4_tensor* tensor) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr || tensor == nullptr) return BadArgument("plan or tensor");
    if (number >= plan->plan.tensors.size()) return NoSuch(*plan, "tensor", number);
    const q4::LoadPlanTensor& planned = plan->plan.tensors[number];
    q4::c::Describe(*planned.entry, planned.shape, planned.elems, planned.dtype, planned.nested, tensor);
    const q4::LoadPart& first = plan->plan.parts[planned.first_part];
    if (first.kind == q4::LoadPartKind::kValues) tensor->value_bytes = first.bytes;
    return absl::OkStatus();
  });
}

int q4_plan_get_part(const q4_plan* plan, uint64_t number, q4_part* part) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr || part == nullptr) return BadArgument("plan or part");
    if (number >= plan->plan.parts.size()) return NoSuch(*plan, "part", number);
    const q4::LoadPart& from = plan->plan.parts[number];
    *part = {};
    part->tensor = from.tensor;
    part->kind = static_cast<int32_t>(from.kind);  // C has them in the same order
    part->dtype = q4::DTypeName(from.dtype).data();
    q4::c::CopyShape(from.shape, &part->rank, &part->shape);
    part->bytes = from.bytes;
    part->block = from.block;
    part->offset = from.offset;
    return absl::OkStatus();
  });
}

int q4_plan_get_block(const q4_plan* plan, uint64_t number, uint64_t* bytes) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr || bytes == nullptr) return BadArgument("plan or bytes");
    if (number >= plan->plan.blocks.size()) return NoSuch(*plan, "block", number);
    *bytes = plan->plan.blocks[number];
    return absl::OkStatus();
  });
}

int q4_plan_get_file(const q4_plan* plan, const char* name, const char** content, uint64_t* bytes) {
  return Guarded([&]() -> absl::Status {
    if (plan == nullptr || name == nullptr || content == nullptr || bytes == nullptr) {
      return BadArgument("plan, name, content or bytes");
    }
    return plan->opened.GetFile(name, content, bytes);
  });
}

int q4_fill_blocks(const q4_plan* plan, const q4_fill_options* options, void* const* blocks) {
  if (plan == nullptr) return Guarded([] { return BadArgument("plan"); });
  return FillPlaces(
      plan, options, blocks, plan->plan.blocks.size(), [&](std::size_t i) { return plan->plan.blocks[i]; },
      &q4::LoadPlaces::blocks);
}

int q4_fill_parts(const q4_plan* plan, const q4_fill_options* options, void* const* parts) {
  if (plan == nullptr) return Guarded([] { return BadArgument("plan"); });
  return FillPlaces(
      plan, options, parts, plan->plan.parts.size(), [&](std::size_t i) { return plan->plan.parts[i].bytes; },
      &q4::LoadPlaces::parts);
}
