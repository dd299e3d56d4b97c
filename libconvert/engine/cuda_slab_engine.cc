// The engine over CUDA devices, from the memory it is made of up to the whole.
//
//   memory and stations   cuda_station.h: a budget of each device, and what a step needs while it runs
//   slabs                 CudaSlabWork: a slab's elements and codes on a device, and the steps on them
//   engine                several devices, and the choice between them; whole tensors: cuda_feedback.h
//
// A step takes a station, copies in, runs kernels and copies out, all on the station's stream, then waits for the
// stream. Several worker threads do so at once, each on a station of its own, and that alone makes copies and kernels
// overlap. What outlives a step (elements and codes between two passes) is held by the slab, never by the station.
#include "libconvert/engine/cuda_slab_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>
#include <string>
#include <utility>

#include "kernels/cuda_kernels.h"
#include "kernels/cuda_runtime.h"
#include "libconvert/encode/encoder.h"
#include "libconvert/engine/cuda_feedback.h"
#include "libconvert/engine/cuda_station.h"
#include "libconvert/engine/device_issues.h"

namespace q4 {
namespace {

// ---- slabs

// Has kernels of absmax and of the encoders that search. Another one needs its own here.
class CudaSlabWork : public SlabWork {
 public:
  // Waits for the device's memory; throws std::bad_alloc when the device has less than it promised.
  CudaSlabWork(Device& device, SpareVectors* spare_codes, const Encoder& encoder, const SlabShape& shape,
               const SlabPlace& place)
      : device_(device),
        spare_codes_(*spare_codes),
        weights_(place.weights),
        shape_(shape),
        first_(place.first),
        searches_(encoder.searching() != nullptr),
        x_(device.pool.Get(shape.elems * FloatSize(shape.type))),
        codes_(device.pool.Get(PackedBytes(shape.elems))) {
    if (weights_ != nullptr) {
      features_ = device.pool.Get(weights_->PartOf(first_, shape.elems).features.size() * sizeof(float));
    }
  }

  FirstBad ChooseScales(std::shared_ptr<Buffer> x, float* scales) override { return MakeScales(*x, nullptr, scales); }

  FirstBad QuantizeAndKeep(std::shared_ptr<Buffer> x, float* scales) override {
    return MakeScales(*x, codes_->data(), scales);
  }

  // The elements stay in x_ as long as this object is kept.
  FirstBad ChooseNested(std::shared_ptr<Buffer> x, bool /*keep*/, const NestedSlab& out) override {
    Q4_ASSIGN_OR_RETURN(HeldStation station, HeldStation::Take(device_));
    DeviceStation& there = station->device();
    HostStation& here = station->host();
    station.ToDevice(x_->data(), x->data(), x->size());
    cuda::SearchScalesArgs search = SearchArgsFor(station);
    search.floors = there.floors;
    station.Do(cuda::SearchScales(search, station.stream()));
    station.Do(cuda::NestSearchedScales(
        {search, there.nested.scale_codes, there.nested.group_scales, there.nested.losses, &there.zero},
        station.stream()));
    const std::uint64_t groups = GroupCount(blocks());
    station.ToHost(&here.first_bad, &there.first_bad, sizeof(there.first_bad));
    station.ToHost(here.scales, there.scales, blocks() * sizeof(float));
    station.ToHost(here.nested.scale_codes, there.nested.scale_codes, blocks());
    station.ToHost(here.nested.group_scales, there.nested.group_scales, groups * sizeof(float));
    station.ToHost(here.nested.losses, there.nested.losses, groups * sizeof(NestedLoss));
    Q4_RETURN_IF_ERROR(station.Finish());
    features_.reset();
    if (here.first_bad != kAllFinite) return here.first_bad;
    std::copy_n(here.scales, blocks(), out.scales);
    std::copy_n(here.nested.scale_codes, blocks(), out.scale_codes);
    std::copy_n(here.nested.group_scales, groups, out.group_scales);
    std::copy_n(here.nested.losses, groups, out.losses);
    return kAllFinite;
  }

  void GiveWayTo(const Encoder& encoder) override {
    searches_ = encoder.searching() != nullptr;
    gave_way_ = true;
  }

  FirstBad Quantize(std::shared_ptr<Buffer> x, const float* decoded, std::vector<std::uint8_t>* codes, float* scales,
                    TiledStats* statistics) override {
    Q4_ASSIGN_OR_RETURN(HeldStation station, HeldStation::Take(device_));
    DeviceStation& there = station->device();
    station.ToDevice(x_->data(), x->data(), x->size());
    if (searches_) return QuantizeSearched(station, decoded, codes, scales, statistics);
    cuda::QuantizeArgs quantize = QuantizeArgsFor(there, codes_->data());
    if (decoded == nullptr) {
      // The scales of this step are those that a reader gets: codes and statistics come of one pass over the elements.
      station.Do(
          cuda::QuantizeWithStats({quantize, there.groups, &there.stats, station->workspace.data()}, station.stream()));
    } else {
      station.Do(cuda::Quantize(quantize, station.stream()));
      TakeStatistics(station, decoded);
    }
    station.ToHost(&station->host().first_bad, &there.first_bad, sizeof(there.first_bad));
    CopyResults(station);
    // Last: `decoded` has left the station's scales by now.
    station.ToHost(station->host().scales, there.scales, blocks() * sizeof(float));
    Q4_RETURN_IF_ERROR(station.Finish());
    if (station->host().first_bad != kAllFinite) return station->host().first_bad;
    std::memcpy(scales, station->host().scales, blocks() * sizeof(float));
    HandOver(station->host(), codes, statistics);
    return kAllFinite;
  }

  absl::Status Finish(const float* decoded, std::vector<std::uint8_t>* codes, TiledStats* statistics) override {
    Q4_ASSIGN_OR_RETURN(HeldStation station, HeldStation::Take(device_));
    if (gave_way_) {
      station.Do(cuda::Quantize(QuantizeArgsFor(station->device(), codes_->data()), station.stream()));
    }
    TakeStatistics(station, decoded);
    CopyResults(station);
    Q4_RETURN_IF_ERROR(station.Finish());
    HandOver(station->host(), codes, statistics);
    return absl::OkStatus();
  }

 private:
  std::uint64_t blocks() const { return BlockCount(shape_.elems, shape_.block_size); }

  cuda::QuantizeArgs QuantizeArgsFor(DeviceStation& there, std::uint8_t* codes) const {
    return {shape_.type,       shape_.book(), x_->data(),   shape_.elems,
            shape_.block_size, codes,         there.scales, &there.first_bad};
  }

  // Has the weights copied to the device, if there are any: for one search, the only one of a slab.
  cuda::SearchScalesArgs SearchArgsFor(HeldStation& station) const {
    DeviceStation& there = station->device();
    return {shape_.type,  shape_.book(), x_->data(), shape_.elems,     shape_.block_size,  shape_.effort,
            there.scales, there.absmax,  nullptr,    &there.first_bad, WeightsFor(station)};
  }
  ElementWeights WeightsFor(HeldStation& station) const {
    if (weights_ == nullptr) return {};
    const ColumnWeights::Part part = weights_->PartOf(first_, shape_.elems);
    station.ToDevice(features_->data(), part.features.data(), part.features.size_bytes());
    return {reinterpret_cast<const float*>(features_->data()), part.rows, static_cast<std::uint32_t>(part.columns),
            static_cast<std::uint32_t>(part.column),           part.row,  weights_->transposed()};
  }

  // Quantize() of an encoder that searches: what is given was found by an earlier search and is not looked for again.
  FirstBad QuantizeSearched(HeldStation& station, const float* decoded, std::vector<std::uint8_t>* codes, float* scales,
                            TiledStats* statistics) {
    DeviceStation& there = station->device();
    HostStation& here = station->host();
    here.first_bad = kAllFinite;
    if (decoded == nullptr) {
      station.Do(cuda::SearchScales(SearchArgsFor(station), station.stream()));
      TakeStatisticsUnder(station, there.scales);
      station.ToHost(&here.first_bad, &there.first_bad, sizeof(there.first_bad));
      station.ToHost(here.scales, there.scales, blocks() * sizeof(float));
    } else {
      TakeStatistics(station, decoded);
    }
    CopyResults(station);
    Q4_RETURN_IF_ERROR(station.Finish());
    if (here.first_bad != kAllFinite) return here.first_bad;
    if (decoded == nullptr) std::memcpy(scales, here.scales, blocks() * sizeof(float));
    HandOver(here, codes, statistics);
    return kAllFinite;
  }

  // With `codes` nullptr the kernel makes the scales alone, as a search always does: Finish() makes its codes. The
  // elements stay in x_ in either case, and Finish() finds them there.
  FirstBad MakeScales(const Buffer& x, std::uint8_t* codes, float* scales) {
    Q4_ASSIGN_OR_RETURN(HeldStation station, HeldStation::Take(device_));
    DeviceStation& there = station->device();
    HostStation& here = station->host();
    station.ToDevice(x_->data(), x.data(), x.size());
    station.Do(searches_ ? cuda::SearchScales(SearchArgsFor(station), station.stream())
                         : cuda::Quantize(QuantizeArgsFor(there, codes), station.stream()));
    station.ToHost(&here.first_bad, &there.first_bad, sizeof(there.first_bad));
    station.ToHost(here.scales, there.scales, blocks() * sizeof(float));
    Q4_RETURN_IF_ERROR(station.Finish());
    features_.reset();
    std::memcpy(scales, here.scales, blocks() * sizeof(float));
    return here.first_bad;
  }

  // Of codes and elements on the device, with scales from the host: nested scales are decoded on the cores, which see
  // all scales of the tensor.
  void TakeStatistics(HeldStation& station, const float* decoded) {
    DeviceStation& there = station->device();
    std::memcpy(station->host().scales, decoded, blocks() * sizeof(float));
    station.ToDevice(there.decoded, station->host().scales, blocks() * sizeof(float));
    TakeStatisticsUnder(station, there.decoded);
  }

  // With scales on the device. An encoder that searches makes its codes under them first.
  void TakeStatisticsUnder(HeldStation& station, const float* scales) {
    DeviceStation& there = station->device();
    if (searches_) {
      station.Do(cuda::CodesUnder(
          {shape_.type, shape_.book(), x_->data(), shape_.elems, shape_.block_size, scales, codes_->data()},
          station.stream()));
    }
    station.Do(cuda::ErrorStats({shape_.type, shape_.book(), x_->data(), codes_->data(), scales, shape_.elems,
                                 shape_.block_size, there.groups, &there.stats, station->workspace.data()},
                                station.stream()));
  }

  // What every last pass yields. Asks for the copies only: they are done once HeldStation::Finish() has returned.
  void CopyResults(HeldStation& station) {
    const DeviceStation& there = station->device();
    HostStation& here = station->host();
    station.ToHost(here.codes, codes_->data(), PackedBytes(shape_.elems));
    station.ToHost(here.groups, there.groups, GroupCount(blocks()) * sizeof(GroupSums));
    station.ToHost(&here.stats, &there.stats, sizeof(here.stats));
  }

  // From the station to the caller. The device's memory is given back: nothing needs it any more.
  void HandOver(const HostStation& here, std::vector<std::uint8_t>* codes, TiledStats* statistics) {
    *codes = spare_codes_.Take();
    codes->assign(here.codes, here.codes + PackedBytes(shape_.elems));
    // The whole slab is one tile here. Its groups are the same as on the cores, so that the sums are the same (Q7.5).
    statistics->tiles.assign(1, here.stats);
    statistics->groups.assign(here.groups, here.groups + GroupCount(blocks()));
    x_.reset();
    codes_.reset();
    features_.reset();
  }

  Device& device_;
  SpareVectors& spare_codes_;
  const std::shared_ptr<const ColumnWeights> weights_;  // of the whole tensor; nullptr where errors count alike
  const SlabShape shape_;
  const std::uint64_t first_;  // the slab's first element in the tensor
  bool searches_;              // whether the encoder does
  bool gave_way_ = false;
  std::shared_ptr<Buffer> x_, codes_, features_;  // on the device
};

class CudaSlabEngine : public SlabEngine {
 public:
  CudaSlabEngine(std::vector<std::unique_ptr<Device>> devices, int effort)
      : devices_(std::move(devices)), effort_(effort) {}

  // Only the admitting thread calls this. So memory that is free here can only grow until CudaSlabWork takes it.
  absl::StatusOr<std::unique_ptr<SlabWork>> Begin(const Q4Tensor& tensor, const SlabPlace& slab) override {
    // Before anything else: CudaSlabWork would run kernels of its own whatever the tensor names.
    const Encoder* encoder = FindEncoder(tensor.encoder);
    if (encoder == nullptr || !encoder->has_cuda_kernels()) {
      return Fail(kDeviceEncoder, {}, "tensor '" + tensor.name + "'", Q4EncoderName(tensor.encoder));
    }
    if (slab.weights != nullptr && tensor.shape.back() > kMostWeightedColumns) {
      return Fail(kDeviceEncoder, {}, "tensor '" + tensor.name + "'",
                  fmt::format("{} for rows of more than {} elements", encoder->name(), kMostWeightedColumns));
    }
    const auto free_bytes = [](const std::unique_ptr<Device>& device) {
      return device->budget.limit() - device->budget.held();
    };
    Device& device = **std::max_element(devices_.begin(), devices_.end(),
                                        [&](const auto& a, const auto& b) { return free_bytes(a) < free_bytes(b); });
    try {
      return std::make_unique<CudaSlabWork>(device, &spare_codes_, *encoder, SlabShapeOf(tensor, slab.elems, effort_),
                                            slab);
    } catch (const std::bad_alloc&) {
      return TakenMemory(device);
    }
  }

  // On one device, the one that has most to give: the rows of a matrix share a factor.
  absl::StatusOr<FeedbackResult> ChooseWhole(const FeedbackRun& run, const Q4Tensor& tensor,
                                             const WeightInput& calibrated, const std::uint8_t* x, const float* decoded,
                                             std::uint8_t* codes) override {
    Device& device = **std::max_element(devices_.begin(), devices_.end(), [](const auto& a, const auto& b) {
      return a->budget.limit() < b->budget.limit();
    });
    return ChooseFeedbackCodesOn(device, run, tensor, calibrated, x, decoded, codes);
  }
  std::uint64_t WholeMemory(const WeightInput& calibrated, unsigned /*threads*/) const override {
    return FeedbackMemoryBeside(calibrated);
  }

  void Recycle(std::vector<std::uint8_t> codes) override { spare_codes_.Give(std::move(codes)); }

  bool keeps_on_host() const override { return false; }
  std::uint64_t device_keep_bytes() const override {
    std::uint64_t least = devices_.front()->budget.limit();
    for (const auto& device : devices_) least = std::min(least, device->budget.limit());
    // A tensor between its passes takes up to 5/4 of its source bytes, because its codes lie there too. With a quarter
    // as the limit, more than half of the memory stays for the next tensor. The least device counts: all slabs may go
    // to the same one.
    return least / 4;
  }
  BufferMemory& buffer_memory() override { return pinned_; }
  // Page-locking is slow, about 0.3 s for 1 GiB: a ring that keeps copies going, and no larger.
  std::uint64_t RingBytes(std::uint64_t max_memory) const override {
    return std::clamp(max_memory / 4, std::uint64_t{32} << 20, std::uint64_t{256} << 20);
  }
  // A thread holds one station at a time, but may have left one on each device.
  std::uint64_t scratch_bytes_per_thread() const override { return sizeof(HostStation) * devices_.size(); }

 private:
  std::vector<std::unique_ptr<Device>> devices_;
  const int effort_;
  PinnedMemory pinned_;
  SpareVectors spare_codes_{kSpareCodes};
};

// Enough for some slabs of any dtype at once.
constexpr std::uint64_t kLeastDeviceBytes = std::uint64_t{256} << 20;

// Four fifths of what is free now: the rest is for stations, CUDA's own needs and other processes, whose use changes.
absl::StatusOr<std::unique_ptr<Device>> StartDevice(int ordinal) {
  Q4_RETURN_IF_ERROR(Checked(cuda::StartDevice(ordinal), ordinal));
  cuda::DeviceInfo info;
  Q4_RETURN_IF_ERROR(Checked(cuda::GetDeviceInfo(ordinal, &info), ordinal));
  const std::uint64_t usable = info.free_bytes / 5 * 4;
  if (usable < kLeastDeviceBytes) {
    return Fail(
        kDeviceMemory, {}, fmt::format("cuda:{}", ordinal),
        GotExpected(fmt::format("{} bytes free", info.free_bytes), fmt::format("{}", kLeastDeviceBytes / 4 * 5)));
  }
  return std::make_unique<Device>(ordinal, usable);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SlabEngine>> MakeCudaSlabEngine(const std::vector<int>& devices, int effort) {
  int count = 0;
  const cuda::KernelError counted = cuda::DeviceCount(&count);
  if (!counted.ok() || count == 0) {
    return Fail(kNoDevice, {}, {}, counted.ok() ? "there is none" : cuda::ErrorText(counted));
  }
  std::vector<std::unique_ptr<Device>> started;
  absl::Status failure;
  // All devices are asked for: one that does not start is left out. The first failure is told if none starts.
  for (int i = 0; devices.empty() && i < count; ++i) {
    absl::StatusOr<std::unique_ptr<Device>> device = StartDevice(i);
    if (device.ok()) started.push_back(*std::move(device));
    if (!device.ok() && failure.ok()) failure = device.status();
  }
  // Devices that are named: the first failure is an error, so that a conversion never runs on fewer than were asked
  // for.
  for (const int ordinal : devices) {
    if (ordinal >= count) {
      return Fail(kNoDevice, {}, fmt::format("cuda:{}", ordinal), fmt::format("there are {}, counted from 0", count));
    }
    Q4_ASSIGN_OR_RETURN(auto device, StartDevice(ordinal));
    started.push_back(std::move(device));
  }
  if (started.empty()) return failure;
  return std::make_unique<CudaSlabEngine>(std::move(started), effort);
}

}  // namespace q4
