// The command lines of the four tools: one struct each, filled by ParseFlags(). options.cc is the only includer of
// CLI11.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/base/status.h"
#include "libconvert/policy/policy.h"

namespace q4 {

struct ConvertFlags {
  std::string input, output;
  std::string type = "nf4";
  std::uint32_t block_size = 64;
  bool double_quant = true;
  std::string encoder = "absmax";
  std::vector<PatternRule> patterns;  // --include and --exclude in command-line order
  std::string recipe;
  std::string keep_dtype = "same";
  std::string device = "auto";
  unsigned threads = 0;  // 0: all cores
  std::uint64_t max_memory = std::uint64_t{2} << 30;
  std::string compress = "none";
  std::uint64_t shard_size = 0;  // 0: one file
  bool force = false, no_resume = false, dry_run = false;
  std::uint64_t sync_every = std::uint64_t{256} << 20;
  std::string source_digest = "sha256";
  std::string report;
  std::optional<double> max_nmse;
  std::string gate;
  std::string on_nonfinite = "error";
  std::string progress = "auto";
  bool follow_symlinks = false, allow_empty = false;
  bool quiet = false, json = false;
  int verbose = 0;
};

struct InspectFlags {
  std::string file;
  bool tensors = false, stats = false, hist = false, files = false, lint = false, tree = false;
  std::string tensor;  // --tensor NAME
  std::string dump;    // --dump START:COUNT, with --tensor
  std::string sort, filter, diff;
  std::string color = "auto";
  bool follow_symlinks = false;
  bool quiet = false, json = false;
  int verbose = 0;
};

struct VerifyFlags {
  std::string file;
  std::string against;
  unsigned threads = 0;
  std::uint64_t max_memory = std::uint64_t{2} << 30;
  std::optional<double> max_nmse, min_sqnr, max_abs_error;
  std::string tensor;   // --tensor RE
  double sample = 100;  // percent
  std::string gate;
  std::string baseline, baseline_slack = "0.5%";
  std::string junit, markdown, html;
  std::string progress = "auto";
  bool follow_symlinks = false;
  bool quiet = false, json = false;
  int verbose = 0;
};

struct ExportFlags {
  std::string file, output;
  std::string to;                         // the name of one of Exporters()
  std::string dtype = "same";             // of --to safetensors
  std::string tensor;                     // --tensor RE
  std::string quant_storage = "uint8";    // of --to bnb
  std::string compute_dtype = "float32";  // of --to bnb
  std::uint64_t shard_size = 0;
  unsigned threads = 0;
  std::uint64_t max_memory = std::uint64_t{2} << 30;
  bool force = false;
  std::string progress = "auto";
  bool quiet = false, json = false;
  int verbose = 0;
};

// Fills `flags`. Returns text to print instead of running (--help, --version), or nothing; a bad command line is a
// usage error (exit code 1).
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ConvertFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, InspectFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, VerifyFlags* flags);
absl::StatusOr<std::optional<std::string>> ParseFlags(int argc, char** argv, ExportFlags* flags);

// "256MiB", "2G", "1.5GB", "4096": KiB/MiB/GiB/TiB are powers of 1024, KB/MB/GB/TB and K/M/G/T powers of 1000.
absl::StatusOr<std::uint64_t> ParseSize(const std::string& text);

}  // namespace q4
