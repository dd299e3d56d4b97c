// Order of checks for a tensor: what kind it is, its storage against the record that holds it, then shape and strides
// against the storage. Numbers of the file are added and multiplied only once they are known to be small enough.
#include "formats/torch/torch_views.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "formats/base/checked_math.h"
#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/torch/torch_issues.h"

namespace q4 {
namespace {

constexpr std::string_view kStorageFolder = "data/";
// Positions of the arguments of _rebuild_tensor_v2 and _v3.
enum TensorArgument : std::size_t { kItsStorage, kItsOffset, kItsSize, kItsStride, kItsGradient, kItsHooks, kItsLast };

constexpr std::string_view kKindWayOut = "; load the checkpoint with PyTorch and save plain tensors";

// The numbers of a tuple, or of torch.Size, which is applied to one. False for anything else, and for one below 0.
bool NumbersOf(const PickleProgram& program, PickleId id, Shape* out) {
  if (program.value(id).kind == PickleKind::kApplied && program.name(id).name == "Size" &&
      program.items(id).size() == 1) {
    id = program.items(id).front();
  }
  if (program.value(id).kind != PickleKind::kTuple) return false;
  for (const PickleId item : program.items(id)) {
    const PickleValue& value = program.value(item);
    if (value.kind != PickleKind::kInteger || value.number < 0) return false;
    out->push_back(static_cast<std::uint64_t>(value.number));
  }
  return true;
}

std::string StridesString(const Shape& strides) { return "strides " + ShapeString(strides); }

}  // namespace

bool IsPickledTensor(const PickleProgram& program, PickleId id) {
  if (program.value(id).kind != PickleKind::kApplied) return false;
  switch (program.name(id).role) {
    case PickleRole::kTensor:
    case PickleRole::kTypedTensor:
    case PickleRole::kParameter:
    case PickleRole::kParameterState:
    case PickleRole::kFromType:
    case PickleRole::kUnreadTensor:
      return true;
    default:
      return false;
  }
}

TorchViews::TorchViews(const PickleProgram& program, const std::vector<ZipEntry>& entries, std::string_view root,
                       std::string_view file)
    : program_(program), file_(file) {
  for (const ZipEntry& entry : entries) {
    std::string_view key = entry.name;
    key.remove_prefix(root.size());
    if (key.starts_with(kStorageFolder)) storages_.emplace(key.substr(kStorageFolder.size()), &entry);
  }
}

absl::Status TorchViews::CheckHooks(PickleId id, std::string_view name) const {
  const PickleKind kind = program_.value(id).kind;
  if (kind == PickleKind::kNone) return absl::OkStatus();
  if (kind == PickleKind::kDictionary && program_.items(id).empty()) return absl::OkStatus();
  return Fail(kTorchHooks, file_, name);
}

absl::StatusOr<TorchViews::Arguments> TorchViews::Unwrap(PickleId id, std::string_view name) const {
  // Each step goes to a value that was there before, but a dictionary in between may refer to a later one: so the steps
  // are counted.
  constexpr int kMostWraps = 8;
  for (int i = 0; i < kMostWraps; ++i) {
    if (!IsPickledTensor(program_, id)) break;
    const PickleName& function = program_.name(id);
    const auto items = program_.items(id);
    switch (function.role) {
      case PickleRole::kTensor:
      case PickleRole::kTypedTensor:
        return Arguments{items, function.role == PickleRole::kTypedTensor};
      case PickleRole::kParameter:
      case PickleRole::kParameterState:
        Q4_RETURN_IF_ERROR(CheckHooks(items[2], name));
        id = items[0];
        break;
      case PickleRole::kFromType: {
        // function(*arguments), then made a `type`, then given attributes: of a tensor or parameter the elements stay.
        const PickleValue& inner = program_.value(items[0]);
        const PickleValue& type = program_.value(items[1]);
        bool known = inner.kind == PickleKind::kName && type.kind == PickleKind::kName &&
                     program_.name(items[1]).role == PickleRole::kTensorType &&
                     program_.value(items[2]).kind == PickleKind::kTuple;
        const bool typed = known && program_.name(items[0]).role == PickleRole::kTypedTensor;
        known = known && (typed || program_.name(items[0]).role == PickleRole::kTensor) &&
                program_.items(items[2]).size() >= (typed ? kItsLast + std::size_t{1} : kItsLast);
        if (!known) return Fail(kTorchTensorKind, file_, name, "a tensor of a subclass" + std::string(kKindWayOut));
        return Arguments{program_.items(items[2]), typed};
      }
      case PickleRole::kUnreadTensor:
        return Fail(kTorchTensorKind, file_, name,
                    fmt::format("a tensor that is {} ({}){}", function.words, function.name, kKindWayOut));
      default:
        break;
    }
  }
  return Fail(kPickleOperand, file_, name, "a parameter that holds no tensor");
}

absl::StatusOr<TorchViews::Storage> TorchViews::StorageOf(PickleId id, PickleId dtype, std::string_view name) const {
  if (program_.value(id).kind != PickleKind::kStorage) return Fail(kPickleOperand, file_, name, "it has no storage");
  const auto items = program_.items(id);
  const PickleName& type = program_.name(items[1]);
  const auto unread = [&](std::string_view words) {
    return Fail(kTorchTensorKind, file_, name, fmt::format("a tensor of {} elements{}", words, kKindWayOut));
  };
  if (type.role == PickleRole::kUnread) return unread(type.words);
  Storage storage;
  storage.dtype = type.dtype;
  std::uint64_t item = 1;
  if (type.role == PickleRole::kStorage) {
    item = ItemSize(type.dtype);
  } else if (type.role != PickleRole::kUntypedStorage) {
    return Fail(kPickleOperand, file_, name, fmt::format("{} is no storage", type.name));
  }
  if (dtype != id) {  // of _rebuild_tensor_v3, whose storage is one of bytes
    if (program_.value(dtype).kind != PickleKind::kName) return Fail(kPickleOperand, file_, name, "it has no dtype");
    const PickleName& elements = program_.name(dtype);
    if (elements.role == PickleRole::kUnread) return unread(elements.words);
    if (elements.role != PickleRole::kDType) {
      return Fail(kPickleOperand, file_, name, fmt::format("{} is no dtype", elements.name));
    }
    storage.dtype = elements.dtype;
  } else if (type.role == PickleRole::kUntypedStorage) {
    return Fail(kPickleOperand, file_, name, "bytes without a dtype");
  }
  const std::string_view key = program_.text(items[2]);
  const auto found = storages_.find(key);
  if (found == storages_.end() || key.find('/') != std::string_view::npos) {
    return Fail(kTorchStorage, file_, name, "key '" + std::string(key) + "'");
  }
  storage.record = found->second;
  const std::int64_t elements = program_.value(items[4]).number;
  std::uint64_t bytes = 0;
  if (elements < 0 || !CheckedMul(static_cast<std::uint64_t>(elements), item, &bytes) ||
      bytes != storage.record->bytes) {
    return Fail(kTorchStorageSize, file_, name,
                GotExpected(fmt::format("{} elements of {} bytes", elements, item),
                            fmt::format("{} bytes", storage.record->bytes)));
  }
  return storage;
}

absl::StatusOr<SourceTensor> TorchViews::Tensor(PickleId id, std::string name) const {
  Q4_ASSIGN_OR_RETURN(const Arguments arguments, Unwrap(id, name));
  const auto [items, typed] = arguments;
  Q4_ASSIGN_OR_RETURN(const Storage storage,
                      StorageOf(items[kItsStorage], items[typed ? kItsLast : kItsStorage], name));
  Q4_RETURN_IF_ERROR(CheckHooks(items[kItsHooks], name));
  const std::size_t metadata = typed ? kItsLast + 1 : kItsLast;
  if (items.size() > metadata) {
    // What it may say: the elements are the conjugates or negatives of those that are stored.
    const PickleValue& value = program_.value(items[metadata]);
    const bool empty = value.kind == PickleKind::kNone ||
                       (value.kind == PickleKind::kDictionary && program_.items(items[metadata]).empty());
    if (!empty) {
      return Fail(kTorchTensorKind, file_, name,
                  "a tensor that is conjugated or negated when it is read" + std::string(kKindWayOut));
    }
  }
  SourceTensor tensor;
  tensor.dtype = storage.dtype;
  const std::uint64_t item = ItemSize(storage.dtype);
  const std::uint64_t stored = storage.record->bytes / item;  // elements
  Shape strides;
  const PickleValue& first = program_.value(items[kItsOffset]);
  if (first.kind != PickleKind::kInteger || first.number < 0 || !NumbersOf(program_, items[kItsSize], &tensor.shape) ||
      !NumbersOf(program_, items[kItsStride], &strides) || strides.size() != tensor.shape.size()) {
    return Fail(kTorchShape, file_, name, "expected whole numbers, and a stride for each size");
  }
  const Shape& shape = tensor.shape;
  if (shape.size() > static_cast<std::size_t>(limits::kTensorDimensions)) {
    return Fail(kTorchShape, file_, name, fmt::format("at most {} dimensions", limits::kTensorDimensions));
  }
  if (!CountElements(shape, &tensor.elems)) {
    return Fail(kTorchShape, file_, name, "size " + ShapeString(shape) + " has more elements than the limit");
  }
  const auto offset = static_cast<std::uint64_t>(first.number);
  bool expanded = tensor.elems > stored;
  for (std::size_t i = 0; i < shape.size(); ++i) expanded |= tensor.elems != 0 && shape[i] > 1 && strides[i] == 0;
  if (expanded) {
    return Fail(kTorchExpanded, file_, name,
                fmt::format("{} with {}, of {} elements; it was saved expanded: save its .contiguous()",
                            ShapeString(shape), StridesString(strides), stored));
  }
  tensor.bytes = tensor.elems * item;
  tensor.name = std::move(name);
  if (tensor.elems == 0) {
    // Its place must be one in the file, wherever the view would begin.
    tensor.extents.assign(1, {0, storage.record->offset, 0});
    return tensor;
  }
  // From the first element to the last one, which is the farthest as no stride is negative; and whether each element
  // follows the one before it. A dimension of one element has no steps, so that its stride says nothing.
  std::uint64_t span = 1, next = 1;
  bool contiguous = true;
  for (std::size_t i = shape.size(); i-- > 0;) {
    std::uint64_t reach = 0;
    if (!CheckedMul(shape[i] - 1, strides[i], &reach) || !CheckedAdd(span, reach, &span)) span = UINT64_MAX;
    if (span == UINT64_MAX) break;
    if (shape[i] == 1) continue;
    contiguous &= strides[i] == next;
    next *= shape[i];
  }
  if (!RangeFits(offset, span, stored)) {
    return Fail(kTorchView, file_, tensor.name,
                fmt::format("offset {}, size {}, {} of {} elements", offset, ShapeString(shape), StridesString(strides),
                            stored));
  }
  tensor.extents.assign(1, {0, storage.record->offset + offset * item, span * item});
  if (!contiguous) {
    tensor.recipe = SourceRecipe::kStrided;
    tensor.strides = std::make_shared<const Shape>(std::move(strides));
  }
  return tensor;
}

std::uint64_t TorchViews::BytesOf(PickleId id) const {
  const absl::StatusOr<SourceTensor> tensor = Tensor(id, "");
  return tensor.ok() ? tensor->bytes : 0;
}

}  // namespace q4
