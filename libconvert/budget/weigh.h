// What an error counts for: the one function to exchange for another sensitivity of layers. That an error within a
// layer counts as its input does, where a calibration file says so, is in the sums already (measure.h).
#pragma once

#include <cstdint>

namespace q4 {

// A tensor's part of the error that is minimised and that --target-nmse bounds: its squared error relative to its own
// squares (NMSE), times its share of all weights that count. Layers are scaled as they are for reasons of training;
// relative to its own size an error disturbs a layer's output alike, whatever that size is.
// `squared_error` and `squares` are sums over the tensor; `elems` of the tensor, `all_elems` of all that count.
inline double WeighedError(double squared_error, double squares, std::uint64_t elems, std::uint64_t all_elems) {
  // A tensor of zeros is stored without error in every way.
  if (squared_error == 0) return 0;
  return squared_error / squares * (static_cast<double>(elems) / static_cast<double>(all_elems));
}

}  // namespace q4
