// Which Highway targets are built: include first in every *_simd.cc and in dispatch.cc.
// SSE4, AVX2 and AVX3 (AVX-512) on x86-64, NEON on AArch64. SSSE3 is left to the scalar code, and SVE runs as NEON.
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)

// Highway also compiles each file for the baseline CPU, which on x86-64 has no byte shuffle. That pass is empty.
#define Q4_IS_SIMD_TARGET (HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128)
