// Choose the tensors; see what is loaded of each; give every part its place. Places are given in file order, so that
// one read can bring many parts.
#include "libconvert/load/plan.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "fmt/format.h"
#include "formats/base/checked_math.h"
#include "formats/base/status.h"
#include "formats/q4/parts.h"
#include "libconvert/load/load_issues.h"

namespace q4 {
namespace {

// The distances of F3.3: with them, what is stored uncompressed lies in memory as in the file. Parts behind the first
// have 64 in the file and mostly a multiple of 256 all the same, as sizes of weights are round numbers.
constexpr std::uint64_t kSegmentAlignment = 4096;
constexpr std::uint64_t kPartAlignment = 256;

// Gives out places in blocks, one after the other. No sum can overflow: an index lists less than 2^22 chunks of at most
// 8 MiB, and a model has at most 10,000 files.
class BlockLayout {
 public:
  explicit BlockLayout(std::uint64_t limit) : limit_(limit) {}

  void Place(LoadPart* part, std::uint64_t alignment) {
    if (part->bytes == 0) return;
    std::uint64_t begin = blocks_.empty() ? 0 : AlignUp(blocks_.back(), alignment);
    // A block that has nothing yet takes a part of any size.
    if (blocks_.empty() || begin + part->bytes > limit_) {
      blocks_.push_back(0);
      begin = 0;
    }
    blocks_.back() = begin + part->bytes;
    part->block = blocks_.size() - 1;
    part->offset = begin;
  }
  std::vector<std::uint64_t> Take() { return std::move(blocks_); }

 private:
  static std::uint64_t AlignUp(std::uint64_t bytes, std::uint64_t alignment) {
    return CeilDiv(bytes, alignment) * alignment;
  }

  std::uint64_t limit_;
  std::vector<std::uint64_t> blocks_;  // what was given out of each; the last one is open
};

// The dtype of the values that a quantized tensor is dequantized to.
DType ValuesType(const Q4Tensor& tensor, LoadForm form) {
  switch (form) {
    case LoadForm::kF32:
      return DType::kF32;
    case LoadForm::kF16:
      return DType::kF16;
    case LoadForm::kBF16:
      return DType::kBF16;
    case LoadForm::kQuantized:
    case LoadForm::kFlatScales:
    case LoadForm::kSource:
      break;
  }
  return tensor.dtype;
}

bool IsDequantized(LoadForm form) { return form != LoadForm::kQuantized && form != LoadForm::kFlatScales; }

// Makes plan->tensors of those that the options name, by name.
absl::Status ChooseTensors(const Q4Model& model, const LoadPlanOptions& options, LoadPlan* plan) {
  std::vector<Q4Model::Location> wanted;
  for (const std::string& name : options.tensors) {
    const Q4Model::Location* at = model.Find(name);
    if (at == nullptr) return Fail(kLoadNoSuchTensor, model.path(), "tensor '" + name + "'");
    wanted.push_back(*at);
  }
  if (options.tensors.empty()) wanted = model.tensors();
  const auto name = [&](const Q4Model::Location& at) -> const std::string& { return model.tensor(at).name; };
  std::sort(wanted.begin(), wanted.end(), [&](const auto& a, const auto& b) { return name(a) < name(b); });
  for (const Q4Model::Location& at : wanted) {
    const Q4Tensor& entry = model.tensor(at);
    // The caller may name a tensor twice. Names are unique over the shards.
    if (!plan->tensors.empty() && plan->tensors.back().entry == &entry) continue;
    LoadPlanTensor& tensor = plan->tensors.emplace_back();
    tensor.at = at;
    tensor.entry = &entry;
    tensor.runs = AllOf(entry.elems);
    tensor.shape = entry.shape;
    tensor.dequantized = entry.quantized() && IsDequantized(options.form);
    tensor.dtype = tensor.dequantized ? ValuesType(entry, options.form) : entry.dtype;
  }
  return absl::OkStatus();
}

absl::Status CutSlices(const LoadPlanOptions& options, LoadPlan* plan) {
  std::map<std::string_view, const LoadSlice*> known;
  for (const LoadSlice& slice : options.slices) {
    const std::string where = "tensor '" + slice.tensor + "'";
    const LoadPlanTensor* found = plan->Find(slice.tensor);
    if (found == nullptr) {
      const bool exists = plan->model->Find(slice.tensor) != nullptr;
      return exists ? Fail(kLoadSlice, plan->model->path(), where, "a slice of it is wanted, but not the tensor itself")
                    : Fail(kLoadNoSuchTensor, plan->model->path(), where);
    }
    const auto [twin, is_new] = known.emplace(slice.tensor, &slice);
    if (!is_new && !(*twin->second == slice)) {
      return Fail(kLoadSlice, plan->model->path(), where,
                  "two slices of it are wanted; load each by a plan of its own");
    }
    LoadPlanTensor& tensor = plan->tensors[static_cast<std::size_t>(found - plan->tensors.data())];
    Q4_ASSIGN_OR_RETURN(tensor.runs, RunsOfSlice(*tensor.entry, slice, plan->model->path(), &tensor.shape));
  }
  return absl::OkStatus();
}

// The parts of a tensor as they will lie in memory, without their places.
void AddParts(LoadPlanTensor* tensor, std::size_t number, std::vector<LoadPart>* parts) {
  const Q4Tensor& entry = *tensor->entry;
  const std::uint64_t elems = tensor->elems;
  tensor->first_part = parts->size();
  const auto add = [&](LoadPartKind kind, DType dtype, Shape shape, std::uint64_t items) {
    parts->push_back({number, kind, dtype, std::move(shape), items * ItemSize(dtype), 0, 0});
  };
  const auto add_row = [&](LoadPartKind kind, DType dtype, std::uint64_t items) { add(kind, dtype, {items}, items); };
  const std::uint64_t blocks = entry.BlocksOf(elems);
  if (!entry.quantized() || tensor->dequantized) {
    add(LoadPartKind::kValues, tensor->dtype, tensor->shape, elems);
  } else {
    add_row(LoadPartKind::kCodes, DType::kU8, CeilDiv(elems, 2));
    if (!tensor->nested) {
      add_row(LoadPartKind::kScales, DType::kF32, blocks);
    } else {
      add_row(LoadPartKind::kScaleCodes, DType::kU8, blocks);
      add_row(LoadPartKind::kScales2, DType::kF32, CeilDiv(blocks, kQ4BlocksPerGroup));
      add(LoadPartKind::kOffset, DType::kF32, {}, 1);
    }
  }
  tensor->part_count = parts->size() - tensor->first_part;
}

void OrderByFile(LoadPlan* plan) {
  plan->file_order.resize(plan->tensors.size());
  std::iota(plan->file_order.begin(), plan->file_order.end(), std::size_t{0});
  // A tensor without elements has no chunks and the first_chunk of the next one; the last member keeps the order
  // strict.
  const auto key = [&](std::size_t i) {
    const LoadPlanTensor& tensor = plan->tensors[i];
    return std::tuple(tensor.at.shard, tensor.entry->first_chunk, tensor.at.tensor);
  };
  std::sort(plan->file_order.begin(), plan->file_order.end(),
            [&](std::size_t a, std::size_t b) { return key(a) < key(b); });
}

void PlaceInBlocks(std::uint64_t block_bytes, LoadPlan* plan) {
  BlockLayout layout(block_bytes);
  for (const std::size_t number : plan->file_order) {
    const LoadPlanTensor& tensor = plan->tensors[number];
    std::uint64_t alignment = kSegmentAlignment;
    for (std::size_t p = 0; p < tensor.part_count; ++p) {
      LoadPart& part = plan->parts[tensor.first_part + p];
      if (part.kind == LoadPartKind::kOffset) continue;
      layout.Place(&part, alignment);
      alignment = kPartAlignment;
    }
  }
  // Offsets are not read from the payload, so they must not lie between parts that one read brings: what lies between
  // them in the file comes along. Behind all others one copy brings them.
  for (const std::size_t number : plan->file_order) {
    const LoadPlanTensor& tensor = plan->tensors[number];
    LoadPart& last = plan->parts[tensor.first_part + tensor.part_count - 1];
    if (last.kind == LoadPartKind::kOffset) layout.Place(&last, kPartAlignment);
  }
  plan->blocks = layout.Take();
}

}  // namespace

std::string_view LoadPartName(LoadPartKind kind) {
  static constexpr std::string_view kNames[] = {"values", "codes", "scales", "scale codes", "scales2", "offset"};
  return kNames[static_cast<std::size_t>(kind)];
}

const LoadPlanTensor* LoadPlan::Find(std::string_view name) const {
  const auto at =
      std::lower_bound(tensors.begin(), tensors.end(), name,
                       [](const LoadPlanTensor& tensor, std::string_view n) { return tensor.entry->name < n; });
  return at != tensors.end() && at->entry->name == name ? &*at : nullptr;
}

std::optional<StoredPlace> StoredPlaceOf(const LoadPlan& plan, std::size_t part) {
  const LoadPart& wanted = plan.parts[part];
  const LoadPlanTensor& tensor = plan.tensors[wanted.tensor];
  const Q4Tensor& entry = *tensor.entry;
  const bool decoded = tensor.dequantized || entry.nested != tensor.nested;
  if (wanted.bytes == 0 || decoded || tensor.elems != entry.elems) return std::nullopt;
  // Parts of the plan are those of the index, in its order, and then the nested offset, which is a field of the index.
  const Q4PartList parts = entry.parts();
  const std::size_t number = part - tensor.first_part;
  if (number >= parts.size()) return std::nullopt;
  const Q4Index& index = plan.model->reader(tensor.at).index();
  const Q4PartEntry& stored = parts[number];
  for (std::uint64_t i = 0; i < stored.chunk_count; ++i) {
    if (index.chunks[stored.first_chunk + i].codec != Q4Codec::kStored) return std::nullopt;
  }
  return StoredPlace{tensor.at.shard, index.chunks[stored.first_chunk].offset};
}

absl::StatusOr<LoadPlan> PlanLoad(const Q4Model& model, const LoadPlanOptions& options) {
  if (options.block_bytes == 0 || options.block_bytes % kSegmentAlignment != 0) {
    return Fail(kLoadOption, {}, "block_bytes",
                GotExpected(fmt::to_string(options.block_bytes), fmt::format("a multiple of {}", kSegmentAlignment)));
  }
  LoadPlan plan;
  plan.model = &model;
  plan.form = options.form;
  Q4_RETURN_IF_ERROR(ChooseTensors(model, options, &plan));
  Q4_RETURN_IF_ERROR(CutSlices(options, &plan));
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    LoadPlanTensor& tensor = plan.tensors[i];
    tensor.elems = tensor.runs.total();
    tensor.nested = tensor.entry->nested && !tensor.dequantized && options.form == LoadForm::kQuantized &&
                    KeepsGroups(*tensor.entry, tensor.runs);
    AddParts(&tensor, i, &plan.parts);
  }
  OrderByFile(&plan);
  PlaceInBlocks(options.block_bytes, &plan);
  return plan;
}

}  // namespace q4
