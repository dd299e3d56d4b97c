// Marks that stand at the very beginning come first, then those of text, which white space may precede. The order among
// the marks does not matter, as no two can hold at once; JSON comes last, since its "{" is the weakest.
//
// The result is a guess: the low bytes of a safetensors length can look like the mark of gzip or zip, which is why what
// looks like one is told first. Its reader also checks the header itself before it asks RefuseKind().
#include "formats/safetensors/sniff.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "formats/base/limits.h"
#include "formats/base/status.h"
#include "formats/base/text.h"
#include "formats/q4/layout.h"
#include "formats/safetensors/safetensors_issues.h"

namespace q4 {
namespace {

using namespace std::string_view_literals;

// The zip local file header: 26 bytes, the lengths of name and extra field, the name.
constexpr std::size_t kZipNameLengthOffset = 26;
constexpr std::size_t kZipNameOffset = 30;
constexpr std::size_t kTarMarkOffset = 257;

// torch.save puts "<archive>/data.pkl" first.
bool IsPyTorchZip(std::string_view head) {
  if (head.size() < kZipNameOffset) return false;
  // Through uint8_t: char may be signed. The length is little-endian, 16 bits.
  const auto byte = [head](std::size_t i) { return static_cast<std::size_t>(static_cast<std::uint8_t>(head[i])); };
  const std::size_t length = byte(kZipNameLengthOffset) | byte(kZipNameLengthOffset + 1) << 8;
  return head.substr(kZipNameOffset, length).ends_with("/data.pkl");
}

// A plausible length before what may be JSON, whose low bytes may happen to be the mark of another kind.
bool IsSafetensors(std::string_view head) {
  if (head.size() <= 8 || head[8] != '{') return false;
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<std::uint8_t>(head[i]);
  return length != 0 && length <= limits::kSafetensorsHeaderBytes;
}

bool IsHtml(std::string_view text) {
  // As long as the longest of the two. HTML does not distinguish upper and lower case.
  std::string start(text.substr(0, 14));
  std::transform(start.begin(), start.end(), start.begin(),
                 [](char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); });
  return start.starts_with("<!doctype html") || start.starts_with("<html");
}

// UTF-8, but for a character that the end of the head cuts, with no control characters but white space.
bool IsText(std::string_view text) {
  constexpr std::size_t kMostCut = 3;
  std::size_t cut = 0;
  while (cut < kMostCut && cut < text.size() && !IsUtf8(text.substr(0, text.size() - cut))) ++cut;
  if (!IsUtf8(text.substr(0, text.size() - cut))) return false;
  return std::all_of(text.begin(), text.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 ? c != 0x7F : " \t\r\n\f"sv.find(c) != std::string_view::npos;
  });
}

}  // namespace

FileKind SniffKind(std::span<const std::uint8_t> head) {
  const std::string_view text(reinterpret_cast<const char*>(head.data()), head.size());
  if (IsSafetensors(text)) return FileKind::kUnknown;
  if (text.starts_with("version https://git-lfs.github.com/spec/")) return FileKind::kGitLfsPointer;
  if (text.starts_with("\x1f\x8b"sv)) return FileKind::kGzip;
  if (text.starts_with("PK\x03\x04"sv)) return IsPyTorchZip(text) ? FileKind::kPyTorchZip : FileKind::kZip;
  if (text.starts_with("7z\xBC\xAF\x27\x1C"sv)) return FileKind::k7z;
  if (text.size() > kTarMarkOffset && text.substr(kTarMarkOffset).starts_with("ustar"sv)) return FileKind::kTar;
  if (text.starts_with("GGUF"sv)) return FileKind::kGguf;
  // Numbers in a file, and so "ggjt" backwards.
  for (const std::string_view magic : {"lmgg"sv, "fmgg"sv, "tjgg"sv, "algg"sv, "GGML"sv, "GGJT"sv, "FUGG"sv}) {
    if (text.starts_with(magic)) return FileKind::kGgml;
  }
  // PROTO 2 to 5, then what legacy torch.save begins with (LONG1, its magic number) or a pickle's usual first opcodes.
  const bool protocol = text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5;
  if (protocol && "\x8a}]c\x95("sv.find(text[2]) != std::string_view::npos) return FileKind::kPickle;
  if (head.size() >= kQ4Magic.size() && std::equal(kQ4Magic.begin(), kQ4Magic.end(), head.begin()))
    return FileKind::kQ4;
  // A byte order mark is no JSON either, but the parser should say so.
  const std::size_t first = text.find_first_not_of(" \t\r\n", text.starts_with("\xEF\xBB\xBF"sv) ? 3 : 0);
  if (first == std::string_view::npos) return FileKind::kUnknown;
  if (IsHtml(text.substr(first))) return FileKind::kHtml;
  // JSON text has no NUL; the eight bytes that begin a safetensors file have, as its header length is far below 2^56.
  const bool may_be_text = text.substr(0, 8).find('\0') == std::string_view::npos;
  // A file of this reader whose length happens to begin with "{" would be taken for an index without this.
  if (text[first] == '{' && may_be_text) return FileKind::kJson;
  return IsText(text) ? FileKind::kText : FileKind::kUnknown;
}

std::string_view DescribeKind(FileKind kind) {
  switch (kind) {
    case FileKind::kUnknown:
      return "an unknown format";
    case FileKind::kGitLfsPointer:
      return "a Git LFS pointer, not weights; fetch the file with git lfs pull";
    case FileKind::kGzip:
      return "a gzip file; decompress it first";
    case FileKind::kZip:
      return "a zip archive";
    case FileKind::kPyTorchZip:
      return "a PyTorch checkpoint; q4inspect reads it, q4convert converts it";
    case FileKind::kPickle:
      return "a Python pickle or legacy PyTorch checkpoint; load it and save it as safetensors (save_pretrained, "
             "safetensors.torch.save_file)";
    case FileKind::kHtml:
      return "an HTML page, perhaps an error page saved by a download";
    case FileKind::kGguf:
      return "a GGUF file; q4inspect reads it, q4convert converts it";
    case FileKind::kGgml:
      return "a GGML file from before GGUF; write it again as GGUF with a llama.cpp of its time";
    case FileKind::kTar:
      return "a tar archive; unpack it first, or if a PyTorch before 1.0 saved it, load it and save it again";
    case FileKind::k7z:
      return "a 7z archive; unpack it first";
    case FileKind::kQ4:
      return "a .q4 container; q4inspect, q4verify and q4export read it";
    case FileKind::kJson:
      return "a JSON document";
    case FileKind::kText:
      return "a text file, perhaps an error message saved by a download";
  }
  return "an unknown format";
}

std::string DescribeInsteadOfContainer(std::span<const std::uint8_t> head) {
  const FileKind kind = SniffKind(head);
  if (kind == FileKind::kJson) return "a JSON document, but not the list of a sharded container (NAME.q4.index.json)";
  if (kind != FileKind::kUnknown) return "looks like " + std::string(DescribeKind(kind));
  // A safetensors file has no mark; its header is JSON behind eight bytes of length.
  constexpr std::size_t kLengthBytes = 8;
  const bool safetensors = head.size() > kLengthBytes && head[kLengthBytes] == '{';
  return safetensors ? "looks like a safetensors file; q4inspect reads it, q4convert converts it"
                     : "it does not begin with the magic of .q4";
}

absl::Status RefuseKind(FileKind kind, std::string_view file) {
  const std::string detail = "looks like " + std::string(DescribeKind(kind));
  switch (kind) {
    case FileKind::kUnknown:
    case FileKind::kJson:
      return absl::OkStatus();
    case FileKind::kGitLfsPointer:
    case FileKind::kGzip:
    case FileKind::kZip:
    case FileKind::kHtml:
    case FileKind::kText:
    case FileKind::kGgml:
      return Fail(kNotACheckpoint, file, {}, detail);
    case FileKind::kPyTorchZip:
    case FileKind::kPickle:
    case FileKind::kGguf:
    case FileKind::kTar:
    case FileKind::k7z:
    case FileKind::kQ4:
      return Fail(kUnsupportedFormat, file, {}, detail);
  }
  return absl::OkStatus();
}

}  // namespace q4
