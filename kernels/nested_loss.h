// What both sides of an encoder that searches count: kernels on a GPU, and the encoder on the cores.
#pragma once

namespace q4 {

// What a group of 256 blocks loses with nested scales, as sums of squared errors (docs/numerics.md Q9.8, Q9.9).
struct NestedLoss {
  double error = 0;
  // What absmax loses at least, whatever its scales decode to.
  double absmax_floor = 0;
};

}  // namespace q4
